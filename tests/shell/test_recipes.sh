#!/bin/bash
# The recipes, at sizes that take seconds: options, what they say without data, the whole road, full and unwritable disks.
. tests/shell/lib.sh

recipes='vae imagenet_latents imagenet_classifier celeba lsun compare sample'
tmp=$TEST_TMP
mounted=
cleanup() {
    [ -n "$mounted" ] && umount "$mounted" 2>/dev/null
    return 0
}
trap cleanup EXIT

recipe() { # name options...
    local name=$1
    shift
    "$LDLUA" "recipes/$name.lua" "$@"
}

lacks() { # text
    case $output in
    *"$1"*)
        fail "$ld_name" "the output should not have '$1':"
        show_output
        ;;
    *) pass ;;
    esac
}

matches() { # extended regular expression
    if grep -qE "$1" <<<"$output"; then
        pass
    else
        fail "$ld_name" "no line matches '$1':"
        show_output
    fi
}

# ---- options ----

for name in $recipes; do
    check "$name --dry-run" recipe "$name" --dry-run
    matches '^out +.* \(recipe\)$'
    refuse "$name refuses an unknown option" recipe "$name" --epohcs 3
    matches "recipes/$name\.lua:[0-9]+: unknown option '--epohcs'; known: .*dry-run"
    check "$name --help" recipe "$name" --help
    says "$(sed -n '1s/^-- //p' "recipes/$name.lua")"
    matches '^  --out +'
    refuse "$name refuses a word" recipe "$name" fast
    matches "recipes/$name\.lua:[0-9]+: 'fast' is no option"
done
check 'the command line overrides' recipe celeba --epochs 7 --channels=8,16 --lr=1e-4 --dry-run
matches '^epochs +7 +\(command line\)$'
matches '^channels +\{8,16\} +\(command line\)$'
matches '^lr +0\.0001 +\(command line\)$'
matches '^batch +128 +\(recipe\)$'
check 'the demo has settings of its own, which options override' recipe celeba --demo --epochs 3 --dry-run
matches '^epochs +3 '
matches '^size +64 '
refuse 'a number must be one' recipe celeba --epochs many
matches "celeba\.lua:[0-9]+: option --epochs must be a number, not 'many'"
refuse 'a list must be one' recipe celeba --channels 8,x
matches "option --channels must be numbers such as 64,128, not '8,x'"
refuse 'a list must not be empty' recipe celeba --channels=
matches "option --channels must be numbers such as 64,128, not ''"
refuse 'a number must not be nan' recipe celeba --scale nan
matches "option --scale must be a number, not 'nan'"
for option in epochs=0 batch=2.5 samples=-1 steps=1 layers=0 size=64.5 every=0 seed=-1; do
    refuse "a count must be one: $option" recipe celeba "--$option"
    matches "celeba\.lua:[0-9]+: option --${option%=*} must be a whole number, at least [012], not '${option#*=}'"
done
refuse 'a sampler that cannot be is told before anything else' recipe celeba --eta 3 --vae "$tmp/absent"
matches 'celeba\.lua:[0-9]+: sampler\.ddim: eta 3'
check 'a demo that is none' recipe celeba --demo false --dry-run
matches '^size +256 '
refuse 'yes or no' recipe imagenet_latents --moments maybe
matches "option --moments must be true or false, not 'maybe'|'maybe' is no option"
refuse 'a missing value' recipe celeba --out --demo
matches 'option --out needs a value'
refuse 'a missing last value' recipe celeba --out
matches 'option --out needs a value'

check 'options of imagenet_latents' recipe imagenet_latents --dry-run
for name in $(awk 'NF { print $1 }' <<<"$output"); do
    if grep -qE -- "^\| .*--$name[ \`].*\|" docs/data.md; then pass; else fail 'docs/data.md lists them' "not --$name"; fi
done

# ---- without data ----

refuse 'imagenet_latents without data' recipe imagenet_latents --data "$tmp/absent"
matches "recipes/imagenet_latents\.lua:[0-9]+: there is no $tmp/absent"
says ILSVRC2012_img_train.tar
says sd-vae-ft-ema
refuse 'imagenet_classifier without a store' recipe imagenet_classifier --train "$tmp/absent.h5"
matches "recipes/imagenet_classifier\.lua:[0-9]+: there is no store $tmp/absent.h5: make it with"
says recipes/imagenet_latents.lua
refuse 'lsun without data' recipe lsun --data "$tmp/absent"
matches "recipes/lsun\.lua:[0-9]+: there is no $tmp/absent"
says bedroom.tgz
refuse 'compare without a store' recipe compare --store "$tmp/absent.h5"
matches "recipes/compare\.lua:[0-9]+: there is no $tmp/absent.h5: recipes/celeba.lua makes the store"
refuse 'sample without a run' recipe sample --run "$tmp/absent"
matches "recipes/sample\.lua:[0-9]+: there is no $tmp/absent/last.h5: train first"
refuse 'celeba without an autoencoder' recipe celeba --vae "$tmp/absent"
matches "recipes/celeba\.lua:[0-9]+: vae: there is no $tmp/absent"

# ---- the road, small ----

cat >"$tmp/make.lua" <<'END'
local ld = require 'ld'
local tmp = arg[1]
ld.seed(7)
for _, name in ipairs{'tiny', 'other'} do
  ld.checkpoint.write(tmp .. '/' .. name .. '.h5', {model = ld.models.small_autoencoder{width = 8, blocks = 1},
                                                    record = {name = name}})
end
local faces = ld.faces(24, {size = 32, seed = 2})
for i = 1, 24 do
  local folder = ('%s/faces/class-%d'):format(tmp, i % 3)
  ld.make_dirs(folder)
  ld.save_image(faces[i], ('%s/%02d.png'):format(folder, i))
end
END
check 'makes pictures and an autoencoder' "$LDLUA" "$tmp/make.lua" "$tmp"
head -c 200 "$tmp/faces/class-1/01.png" >"$tmp/faces/class-1/cut.png"

refuse 'celeba without pictures says what to get and takes synthetic faces' \
    recipe celeba --vae "$tmp/tiny.h5" --data "$tmp/absent" --out "$tmp/none" --size 16 --least-psnr 1000
says "there is no $tmp/absent; for real faces get CelebA-HQ"
says 'training on 30000 synthetic faces'
matches 'recipes/celeba\.lua:[0-9]+: latents: the round trip of the first pictures is'

latents="--data $tmp/faces --vae $tmp/tiny.h5 --size 32 --batch 8"
refuse 'imagenet_latents stops at an untrained autoencoder' recipe imagenet_latents $latents --out "$tmp/in/train.h5"
says 'wrong VAE or pixel range'
refuse 'imagenet_latents stops at a bad picture when asked to' \
    recipe imagenet_latents $latents --out "$tmp/in/stop.h5" --on-bad stop --least-psnr 0
matches 'recipes/imagenet_latents\.lua:[0-9]+: latents: .*cut\.png'
check 'imagenet_latents' recipe imagenet_latents $latents --out "$tmp/in/train.h5" --least-psnr 0
says '25 pictures of'
says 'in 3 classes'
says '1 pictures could not be read and are left out'
says '24 latents (4,4,4)'
matches '^channel 4: mean'
check 'the report names it' grep -q 'class-1/cut.png' "$tmp/in/train.h5.bad.txt"
check 'imagenet_latents again' recipe imagenet_latents $latents --out "$tmp/in/train.h5" --least-psnr 0
lacks encoded
refuse 'imagenet_latents with another autoencoder' \
    recipe imagenet_latents $latents --vae "$tmp/other.h5" --out "$tmp/in/train.h5" --least-psnr 0
matches 'recipes/imagenet_latents\.lua:[0-9]+: latents: .*was made otherwise: vae_hash'

check 'the autoencoder that ships is found from another folder' env LDLUA_ROOT="$PWD" sh -c \
    "cd '$tmp' && exec '$LDLUA' -e \"print(ld.vae.load('data/vae-small.h5').name)\""
says vae-small
check 'a store of another autoencoder' recipe imagenet_latents $latents --vae "$tmp/other.h5" --out "$tmp/in/other.h5" \
    --least-psnr 0
refuse 'imagenet_classifier refuses a held-out store of another autoencoder' recipe imagenet_classifier \
    --train "$tmp/in/train.h5" --valid "$tmp/in/other.h5" --out "$tmp/judge-2" --channels 4,6 --blocks 1
matches 'recipes/imagenet_classifier\.lua:[0-9]+: latents: .*other\.h5 was made by other'

classifier="--train $tmp/in/train.h5 --out $tmp/judge --channels 4,6 --blocks 1 --batch 8 --pad 1"
check 'imagenet_classifier' recipe imagenet_classifier $classifier --epochs 2
says '21 latents to train on, 3 held out, 3 classes'
matches 'epoch 2: train accuracy [0-9.]+, held out: loss [0-9.]+, accuracy [0-9.]+'
check 'it leaves a best checkpoint' test -s "$tmp/judge/best.h5"
check 'imagenet_classifier goes on' recipe imagenet_classifier $classifier --epochs 3
says "resumed $tmp/judge/last.h5 at 42 images; options changed: epochs 2 -> 3"
check 'its log is JSON' "$LDLUA" -e "for line in io.lines('$tmp/judge/log.jsonl') do assert(ld.json_decode(line)) end"

unet='--channels 8,16 --layers 1 --attention-width 8 --batch 8 --samples 4 --steps 3'
celeba="--data $tmp/faces --vae $tmp/tiny.h5 --size 32 $unet --judge $tmp/judge/best.h5 --least-psnr 0 --every 1"
check 'celeba with the perceptual loss' recipe celeba $celeba --out "$tmp/celeba" --epochs 2
says 'perceptual latent loss weight 0.1'
says "sample grid: $tmp/celeba/samples/samples-00000048.png"
check 'a grid of samples' test -s "$tmp/celeba/samples/samples-00000048.png"
check 'its share of the loss is logged' grep -q '"share":0\.' "$tmp/celeba/log.jsonl"
check 'celeba goes on' recipe celeba $celeba --out "$tmp/celeba" --epochs 3
says "resumed $tmp/celeba/last.h5 at 48 images"
says 'finished: 72 images'
check 'celeba, finished, draws' recipe celeba $celeba --out "$tmp/celeba" --epochs 3
says "sample grid: $tmp/celeba/samples/samples-00000072.png"
refuse 'a judge of another autoencoder' recipe celeba $celeba --out "$tmp/celeba-2" --vae "$tmp/other.h5"
says 'was trained on latents of another autoencoder'
check 'which is told before a picture is encoded' test ! -e "$tmp/celeba-2/latents.h5"
check 'celeba without averages' recipe celeba $celeba --out "$tmp/celeba-3" --epochs 1 --ema 0
says "sample grid: $tmp/celeba-3/samples/samples-00000024.png"
refuse 'another network in the same folder' recipe celeba $celeba --out "$tmp/celeba" --channels 8,24
matches 'recipes/celeba\.lua:[0-9]+: load_state: .*last\.h5 does not fit the network'
same 'last.h5 holds the same network as before' "$("$LDLUA" -e "
    local c = ld.checkpoint.open('$tmp/celeba/last.h5') print(c.record.images, #c.model.channels)")" $'72\t2'

check 'compare' recipe compare --store "$tmp/celeba/latents.h5" --vae "$tmp/tiny.h5" --judge "$tmp/judge/best.h5" \
    --out "$tmp/compare" $unet --epochs 1
matches 'MSE only: +eps-MSE [0-9.]+, feature distance [0-9.]+'
matches 'with perceptual: eps-MSE [0-9.]+, feature distance [0-9.]+'
check 'compare leaves a picture' test -s "$tmp/compare/compare.png"
check 'and a page of both runs' grep -q '>perceptual</span>' "$tmp/compare/report.html"

# ---- telling ----

check 'celeba leaves a report' grep -q 'data:image/png;base64,' "$tmp/celeba/report.html"
check 'report of a run' recipe report "$tmp/celeba" --out "$tmp/one.html"
matches '^images seen +72$'
check 'it is the page' grep -q '72 images seen' "$tmp/one.html"
check 'report of two' recipe report "$tmp/celeba" "$tmp/judge" --out "$tmp/two.html"
matches '^images seen +72 +63$'
matches '^valid_accuracy, last \(lowest, highest\) +- +[0-9.]+ '
refuse 'report of nothing' recipe report
says 'name the folders'
refuse 'report of no run' recipe report "$tmp/in"
matches "there is no run in $tmp/in"
check 'report --help' recipe report --help
says 'Look at runs'
sum=$(sha256sum <"$tmp/celeba/last.h5")
check 'celeba searches a learning rate' recipe celeba $celeba --out "$tmp/celeba" --find-lr
matches '^learning rate: .* the curve is in .*find_lr\.svg'
same 'and leaves the run alone' "$(sha256sum <"$tmp/celeba/last.h5")" "$sum"
check 'imagenet_classifier searches one' recipe imagenet_classifier $classifier --find-lr
matches '^learning rate: '
check 'celeba overfits a batch, quietly, with event files' \
    recipe celeba $celeba --out "$tmp/celeba" --overfit 1 --epochs 2 --quiet --tensorboard --every 2
lacks 'images/s'
lacks finished
check 'in a folder of its own' test -s "$tmp/celeba/overfit/last.h5"
check 'with its events' sh -c "test -s '$tmp'/celeba/overfit/tb/events.out.tfevents.*"
refuse 'overfit is a count' recipe celeba --overfit 0.5 --dry-run
says 'option --overfit must be a whole number'

check 'a second classifier' recipe imagenet_classifier --train "$tmp/in/train.h5" --out "$tmp/judge-2" --channels 4,6 \
    --blocks 1 --batch 8 --pad 1 --epochs 1 --seed 2
check 'compare with numbers' recipe compare --store "$tmp/celeba/latents.h5" --vae "$tmp/tiny.h5" \
    --judge "$tmp/judge/best.h5" --out "$tmp/compare" $unet --epochs 1 --evaluator "$tmp/judge-2/best.h5" --n 12
matches "^$tmp/compare/mse ema +24 +[0-9.e-]+ +[0-9.e-]+ \+- "
lacks 'warning: the loss was computed'
check 'celeba with averages of widths' recipe celeba $celeba --out "$tmp/widths" --epochs 3 --sigma-rel 0.05,0.10
says 'averages of widths 0.05 0.1; a snapshot of '
check 'its drift is logged' grep -q '"ema_drift_0.05":' "$tmp/widths/log.jsonl"
evaluate="--judge $tmp/judge-2/best.h5 --n 12 --steps 3"
check 'evaluate' recipe evaluate "$tmp/widths" "$tmp/celeba" $evaluate
says "$tmp/widths/evaluation/ema-0.05-00000072.json"
says 'N = 12 generated against 12 real latents; 6 features pooled by the latent classifier'
matches '^real against other real +[0-9.-]+'
matches "^$tmp/widths ema 0.05 +72 +[0-9.]+"
matches "^$tmp/celeba ema +72 +[0-9.]+"
lacks 'warning'
check 'evaluate a width that was not kept, beside a record' recipe evaluate "$tmp/celeba/evaluation/ema-00000072.json" \
    "$tmp/widths" $evaluate --sigma-rel 0.15
says "$tmp/widths: ema 0.15 rebuilt from "
matches "^$tmp/widths ema 0.15 rebuilt +72 "
check 'evaluate by the classifier of the loss' recipe evaluate "$tmp/celeba" $evaluate --judge "$tmp/judge/best.h5" --n 500
says 'has 24 latents: N is 12'
says 'warning: the loss was computed by the very classifier that judges here'
refuse 'evaluate compares like with like' recipe evaluate "$tmp/widths/evaluation/ema-0.05-00000072.json" "$tmp/celeba" \
    $evaluate --steps 4
says 'cannot be compared, they differ in sampler (eta 1, name ddim, steps 3; eta 1, name ddim, steps 4)'
refuse 'evaluate without a run' recipe evaluate $evaluate
matches 'recipes/evaluate\.lua:[0-9]+: name one or more runs'
refuse 'evaluate without a classifier' recipe evaluate "$tmp/celeba" --judge "$tmp/absent.h5"
matches 'recipes/evaluate\.lua:[0-9]+: there is no classifier'
refuse 'evaluate a folder that is no run' recipe evaluate "$tmp/absent"
matches 'recipes/evaluate\.lua:[0-9]+: there is no .*/absent/last.h5'
check 'sample with a width that was not kept' recipe sample --run "$tmp/widths" --n 2 --steps 3 --sigma-rel 0.2
check 'evaluate --help' recipe evaluate --help
says "$(sed -n '1s/^-- //p' recipes/evaluate.lua)"

check 'sample from one of the runs of compare' recipe sample --run "$tmp/compare/mse" --n 2 --steps 3
says "$tmp/compare/mse/samples/seed-0.png"
check 'sample' recipe sample --run "$tmp/celeba" --n 3 --steps 3 --seed 5
says "$tmp/celeba/samples/seed-5.png"
check 'sample, live weights and the other sampler' recipe sample --run "$tmp/celeba" --n 2 --steps 3 --sampler ancestral \
    --weights live --out "$tmp/elsewhere/x.png"
check 'where it was told to' test -s "$tmp/elsewhere/x.png"
refuse 'sample refuses an unknown sampler' recipe sample --run "$tmp/celeba" --sampler euler
matches "recipes/sample\.lua:[0-9]+: unknown sampler 'euler'; known: ddim ancestral"
refuse 'sample refuses unknown weights' recipe sample --run "$tmp/celeba" --weights best
says "unknown weights 'best'; known: ema live"
refuse 'sample refuses another autoencoder' recipe sample --run "$tmp/celeba" --vae "$tmp/other.h5"
says 'not by other'
refuse 'sample refuses a run of something else' recipe sample --run "$tmp/judge"
says "holds a 'classifier', a 'unet' was needed"

check 'lsun' recipe lsun --data "$tmp/faces" --vae "$tmp/tiny.h5" --judge "$tmp/judge/best.h5" --size 32 --transform center \
    $unet --epochs 1 --out "$tmp/lsun"
matches 'epoch 1: held-out eps-MSE [0-9.]+; samples in '
check 'vae' recipe vae --photos "$tmp/faces" --faces 8 --size 32 --crop 16 --width 4 --blocks 1 --epochs 1 --batch 32 \
    --out "$tmp/vae"
says 'photographs to train on'
matches 'epoch 1: -?[0-9.]+ dB on [0-9]+ pictures it never saw'
refuse 'vae with crops larger than the pictures' recipe vae --photos "$tmp/faces" --size 32 --crop 64 --out "$tmp/vae-2"
says 'crops of 64 are larger than the pictures, 32'
refuse 'a judge that is none is told before a picture is encoded' \
    recipe celeba $celeba --out "$tmp/celeba-4" --judge "$tmp/celeba/last.h5"
says "holds a 'unet'; the judge is a classifier"
check 'its weights can be used' "$LDLUA" -e "print(ld.vae.load('$tmp/vae/vae.h5').name)"
says vae-small

# ---- disks ----

disk=$tmp/disk
mkdir "$disk"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=4m none "$disk" 2>/dev/null; then
    mounted=$disk
    small="--train $tmp/in/train.h5 --out $disk/run --channels 4,6 --blocks 1 --batch 8 --pad 1"
    check 'a run on a small disk' recipe imagenet_classifier $small --epochs 1
    sum=$(sha256sum <"$disk/run/last.h5")
    kept=$(ls -A "$disk/run/checkpoints")
    dd if=/dev/zero of="$disk/gap" bs=1k count=12 2>/dev/null
    dd if=/dev/zero of="$disk/fill" bs=1k 2>/dev/null
    rm "$disk/gap" # room for lines of the log, not for a checkpoint
    refuse 'a full disk ends the run' recipe imagenet_classifier $small --epochs 2
    matches "recipes/imagenet_classifier\.lua:[0-9]+: run: a checkpoint takes about .*, and the disk of $disk/run has .* left; the last good checkpoint is $disk/run/last.h5$"
    same 'a full disk leaves the old checkpoint' "$(sha256sum <"$disk/run/last.h5")" "$sum"
    same 'and nothing else' "$(ls -A "$disk/run" | tr '\n' ' ')" 'best.h5 checkpoints last.h5 log.jsonl report.html '
    same 'nor among the generations' "$(ls -A "$disk/run/checkpoints")" "$kept"
    dd if=/dev/zero of="$disk/fill-2" bs=1k 2>/dev/null
    refuse 'a disk without a byte' recipe imagenet_classifier $small --epochs 2
    matches 'recipes/imagenet_classifier\.lua:[0-9]+: '
    same 'leaves the old checkpoint too' "$(sha256sum <"$disk/run/last.h5")" "$sum"
    refuse 'latents on a full disk' recipe imagenet_latents $latents --out "$disk/store.h5" --least-psnr 0
    matches "recipes/imagenet_latents\.lua:[0-9]+: .*$disk/"
    refuse 'a picture on a full disk' recipe sample --run "$tmp/celeba" --n 2 --steps 2 --out "$disk/x.png"
    matches 'recipes/sample\.lua:[0-9]+: .*x\.png'
    rm "$disk/fill" "$disk/fill-2"
    check 'with room again the run goes on' recipe imagenet_classifier $small --epochs 2
    says "resumed $disk/run/last.h5 at 21 images"
    mount -o remount,ro "$disk"
    refuse 'a read-only disk is told before training' recipe imagenet_classifier $small --epochs 3
    matches 'recipes/imagenet_classifier\.lua:[0-9]+: .*[Rr]ead-only'
    lacks 'epoch 3'
    umount "$disk" && mounted=
else
    skip 'a full disk' 'mounting a small disk takes root'
fi
touch "$tmp/a-file"
refuse 'an impossible folder' recipe imagenet_classifier --train "$tmp/in/train.h5" --out "$tmp/a-file/run"
matches "recipes/imagenet_classifier\.lua:[0-9]+: make folder '$tmp/a-file'"
if [ "$(id -u)" != 0 ]; then
    mkdir -m 555 "$tmp/closed"
    refuse 'an unwritable folder' recipe imagenet_classifier --train "$tmp/in/train.h5" --out "$tmp/closed"
    matches "recipes/imagenet_classifier\.lua:[0-9]+: .*$tmp/closed.*Permission denied"
fi

finish
