#!/bin/bash
# Trains for real on a card for as long as it is there; run again, it goes on where it was.
#
#   tests/tools/card_train.sh [--minutes 9] [--device cuda:0] [--cifar PATH] [--photos FOLDER] [--out runs/card] [--only STAGES]
#
#   store        latents of CIFAR-10 (--cifar: the folder of its binary files, or cifar-10-binary.tar.gz, which is unpacked in
#                OUT), those of its test set beside, or of synthetic faces without
#   judge        a classifier of them, for the perceptual loss: held-out accuracy. Without CIFAR-10, of sixteen kinds of faces
#   evaluator    another one, which no loss sees
#   compare      recipes/compare.lua: the perceptual loss against MSE alone, with the latent Frechet distance by the evaluator
#   autoencoder  recipes/vae.lua: the small autoencoder again, on faces and --photos: OUT/vae/vae.h5, PSNR on pictures held out
#
# STAGES: some of them, with commas. Each stage takes what is left of the minutes; then it is asked to end (the recipes write
# a checkpoint) and the rest waits for the next call. The exit status is 0 when all is done, 75 when a call more is needed, and 1
# when a stage failed. --tiny: seconds of everything, for a test. LDLUA names the program.
set -u
cd "$(dirname "$0")/../.." || exit 1
minutes=9 device=cuda:0 cifar='' photos='' out=runs/card only=store,judge,evaluator,compare,autoencoder tiny=''
while [ $# -gt 0 ]; do
    case $1 in
    --minutes) minutes=$2 && shift ;;
    --device) device=$2 && shift ;;
    --cifar) cifar=$2 && shift ;;
    --photos) photos=$2 && shift ;;
    --out) out=$2 && shift ;;
    --only) only=$2 && shift ;;
    --tiny) tiny=1 ;;
    *) echo "card_train.sh: unknown option $1; known: --minutes --device --cifar --photos --out --only --tiny" >&2 && exit 2 ;;
    esac
    shift
done
: "${LDLUA:=./ldlua}"
for path in $cifar $photos; do
    [ -e "$path" ] || { echo "card_train.sh: there is no $path" >&2 && exit 2; }
done
began=$SECONDS total=$(awk "BEGIN { print int($minutes * 60) }") waits=
mkdir -p "$out" || exit 1
left() { echo $((total - (SECONDS - began))); }

stage() { # name command...
    local name=$1 seconds rc
    shift
    case ,$only, in *",$name,"*) ;; *) return ;; esac
    if [ -e "$out/$name.done" ]; then
        echo "== $name: done before" && return
    fi
    seconds=$(left)
    if [ -n "$waits" ] || [ "$seconds" -lt 3 ]; then
        echo "== $name: waits for the next call" && waits=1 && return
    fi
    echo "== $name, at most $seconds s"
    began_stage=$SECONDS
    timeout -s TERM -k 60 "$seconds" "$@" 2>&1 </dev/null | tee -a "$out/$name.log" | grep -E --line-buffered "${show:-.}"
    rc=${PIPESTATUS[0]}
    case $rc in
    0) touch "$out/$name.done" && echo "== $name: done after $((SECONDS - began_stage)) s" ;;
    124 | 137) echo "== $name: stopped, goes on in the next call" && waits=1 ;;
    *) echo "== $name: FAILED with status $rc: $(tail -n 3 "$out/$name.log")" && exit 1 ;;
    esac
}

run() { "$LDLUA" --device "$device" "$@"; }
export -f run
export LDLUA device
precision=bf16
half="--precision $precision"
faces=20000 size=64 many='--epochs 12 --batch 512' compared='--epochs 40 --batch 256 --n 5000 --steps 50'
vae='--epochs 40 --batch 64 --faces 8000'
if [ -n "$tiny" ]; then
    faces=64 size=32 many='--epochs 1 --batch 16 --channels 4,8,16 --blocks 1,1'
    vae='--epochs 1 --batch 8 --faces 24 --size 32 --crop 32 --width 8 --blocks 1'
    compared='--epochs 1 --batch 16 --n 16 --steps 3 --samples 4 --channels 8,16'
fi
case $cifar in
*.tar.gz | *.tgz)
    tar -C "$out" -xzf "$cifar" || exit 1
    cifar=$out/cifar-10-batches-bin
    ;;
esac
store=$out/latents.h5 judge=$out/judge/best.h5 evaluator=$out/evaluator/best.h5
# shellcheck disable=SC2086 # words
if [ -n "$cifar" ]; then
    encode() { # data, store
        echo "run recipes/imagenet_latents.lua --data '$1' --out '$2' --size $size --least-psnr 0 --batch 64"
    }
    classifier="--train '$store' --valid '$out/test.h5' $many $half"
    other='--seed 2 --channels 48,96,192,384 --blocks 2,2,2'
    [ -z "$tiny" ] || other='--seed 2 --channels 4,6,12'
    stage store bash -c "$(encode "$cifar" "$store") && $(encode "$cifar/test_batch.bin" "$out/test.h5")"
    show='accuracy|parameters' stage judge bash -c "run recipes/imagenet_classifier.lua --out '$out/judge' $classifier"
    show='accuracy|parameters' stage evaluator bash -c "run recipes/imagenet_classifier.lua --out '$out/evaluator' $classifier $other"
else
    stage store bash -c "run -e \"
        ld.latents.encode(ld.vae.load 'data/vae-small.h5', ld.images.synthetic_faces{n = $faces, size = $size, seed = 1}, '$store',
                          {least_psnr = 0})\""
    for what in judge evaluator; do
        stage $what bash -c "mkdir -p '$out/$what' && run -e \"
            ld.demo.train_judge('$out/$what/best.h5', ld.latents.open '$store', #'$what', #'$what')\""
    done
fi
# shellcheck disable=SC2086
show='last steps|Frechet|frechet|FD|KID|---|^\||compare|left' stage compare bash -c "run recipes/compare.lua --store '$store' --judge '$judge' \
    --evaluator '$evaluator' --out '$out/compare' $compared $half"
# shellcheck disable=SC2086
show='dB|train on' stage autoencoder bash -c "run recipes/vae.lua --out '$out/vae' --photos '${photos:-$out/none}' $vae $half"
if [ -n "$waits" ]; then
    echo "not done: call it again with the same --out"
    exit 75
fi
echo "done; to be looked at: $out/compare/compare.png, $out/vae/samples, $out/compare/report.html, and the logs in $out"
