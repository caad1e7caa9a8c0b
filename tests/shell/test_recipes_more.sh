#!/bin/bash
# The recipes beside the method's road, at sizes that take seconds: classes in pixel space, fine-tuning, variations, the GAN.
. tests/shell/lib.sh

tmp=$TEST_TMP
recipe() { # name options...
    local name=$1
    shift
    "$LDLUA" "recipes/$name.lua" "$@"
}

for name in cifar finetune remix wgan; do
    check "$name --help" recipe $name --help
    says "$(sed -n '1s/^-- //p' recipes/$name.lua)"
    refuse "$name refuses an unknown option" recipe $name --epohcs 3
    says "unknown option '--epohcs'; known:"
done

cat >"$tmp/make.lua" <<'END'
local ld = require 'ld'
local tmp = arg[1]
ld.seed(7)
ld.checkpoint.write(tmp .. '/tiny.h5', {model = ld.models.small_autoencoder{width = 8, blocks = 1},
                                        record = {name = 'tiny'}})
local faces = ld.faces(24, {size = 32, seed = 2})
for i = 1, 24 do
  local folder = ('%s/faces/class-%d'):format(tmp, i % 3)
  ld.make_dirs(folder)
  ld.save_image(faces[i], ('%s/%02d.png'):format(folder, i))
end
END
check 'makes pictures and an autoencoder' "$LDLUA" "$tmp/make.lua" "$tmp"

# ---- classes in pixel space ----

cifar="--data $tmp/faces --out $tmp/cifar --size 16 --channels 8,16 --layers 1 --attention-width 8 --batch 8 --steps 3
    --columns 2 --every 1"
refuse 'cifar without data' recipe cifar --data "$tmp/absent"
says "there is no $tmp/absent: name CIFAR-10, or a folder with a sub-folder for each class"
refuse 'cifar without classes' recipe cifar --data "$tmp/faces/class-1"
says 'has no classes; recipes/celeba.lua trains without'
check 'cifar' recipe cifar $cifar --epochs 1
says '24 pictures'
says '3 classes'
check 'a row for each class' test -s "$tmp/cifar/samples/samples-00000024.png"
check 'cifar goes on' recipe cifar $cifar --epochs 2
says "resumed $tmp/cifar/last.h5 at 24 images"
same 'the picture is 3 rows of 2' "$("$LDLUA" -e "
    local x = ld.load_image('$tmp/cifar/samples/samples-00000048.png') print(x.shape[2] > 1.3 * x.shape[3])")" true

# ---- from a trained run ----

check 'a run to start from' recipe celeba --data "$tmp/faces" --vae "$tmp/tiny.h5" --size 32 --channels 8,16 --layers 1 \
    --attention-width 8 --batch 8 --samples 4 --steps 3 --least-psnr 0 --epochs 1 --perceptual 0 --out "$tmp/run"
tune="--run $tmp/run --out $tmp/tuned --batch 4 --samples 4 --steps 3 --least-psnr 0 --every 1"
refuse 'finetune without pictures' recipe finetune --run "$tmp/run" --data "$tmp/absent"
says "there is no '$tmp/absent': name your folder of pictures"
refuse 'finetune without a run' recipe finetune --run "$tmp/absent" --data "$tmp/faces"
says "there is no $tmp/absent/last.h5: train first"
refuse 'finetune of a run in pixel space' recipe finetune --run "$tmp/cifar" --data "$tmp/faces"
says 'was not trained on latents'
check 'finetune' recipe finetune $tune --data "$tmp/faces/class-1" --epochs 1
says '8 latents of your pictures'
check 'what it was before' test -s "$tmp/tuned/samples/samples-00000000.png"
check 'what it is now' test -s "$tmp/tuned/samples/samples-00000008.png"
check 'finetune goes on' recipe finetune $tune --data "$tmp/faces/class-1" --epochs 2
says "resumed $tmp/tuned/last.h5 at 8 images"
check 'a tuned run draws' recipe sample --run "$tmp/tuned" --n 2 --steps 3

# Recipes say how they draw, so that whoever attaches has samples.
attached() { # folder: asks the recipe that trains in it until it answers
    local i
    for i in $(seq 200); do
        "$LDLUA" attach "$1" loss >/dev/null 2>&1 && break
        sleep 0.1
    done
    check 'samples of a run that trains' "$LDLUA" attach "$1" sample 3
    check 'a picture of three' "$LDLUA" -e "
        local x = ld.load_image('$(tail -n 1 <<<"$output")')
        assert(x.shape[1] == 3 and x.shape[2] == x.shape[3], x:describe())"
    check 'and by the weights of now' "$LDLUA" attach "$1" sample 2 live
    check 'stops' "$LDLUA" attach "$1" stop
    wait $!
    same 'ends well' $? 0
}
recipe finetune $tune --data "$tmp/faces/class-1" --epochs 100000 --every 100000 >"$tmp/tuned.txt" 2>&1 &
attached "$tmp/tuned"
recipe cifar $cifar --every 100000 --epochs 100000 >"$tmp/cifar.txt" 2>&1 &
attached "$tmp/cifar"

refuse 'remix with neither' recipe remix --run "$tmp/run"
says 'give either --image, for variations of a picture, or --to'
refuse 'remix of no picture' recipe remix --run "$tmp/run" --image "$tmp/absent.png"
says "images: there is no file $tmp/absent.png"
check 'variations' recipe remix --run "$tmp/run" --image "$tmp/faces/class-1/01.png" --n 3 --steps 4
says "$tmp/run/samples/remix-01-0.5.png"
check 'from seed to seed' recipe remix --run "$tmp/run" --seed 2 --to 3 --n 3 --steps 4
says "$tmp/run/samples/between-2-3.png"
check 'three in a row' "$LDLUA" -e "
    local x = ld.load_image('$tmp/run/samples/between-2-3.png')
    assert(x.shape[3] > 2.5 * x.shape[2], 'three in a row')"

# ---- the GAN ----

wgan="--data $tmp/faces --out $tmp/wgan --size 16 --width 4 --latent 8 --batch 4 --samples 4"
check 'wgan' recipe wgan $wgan --epochs 2
says 'finished: 48 images'
check 'wgan goes on' recipe wgan $wgan --epochs 3
says "resumed $tmp/wgan/last.h5 at 48 images"
recipe wgan $wgan --every 100000 --epochs 100000 >"$tmp/wgan.txt" 2>&1 &
attached "$tmp/wgan"
check 'weights of the critic are clipped, and both networks have learnt' "$LDLUA" -e "
    local gan = ld.models.dcgan.load('$tmp/wgan/last.h5')
    for _, w in ipairs(gan.critic:parameters()) do assert(w:abs():max():item() <= 0.01 + 1e-6) end
    ld.seed(1)
    local fresh = ld.models.dcgan{size = 16, width = 4, latent = 8}
    local a, b = gan.generator:parameters()[1], fresh.generator:parameters()[1]
    assert((a - b):abs():max():item() > 0, 'the generator is as it began')"
check 'wgan without data' recipe wgan --data "$tmp/absent" --faces 16 --out "$tmp/wgan-2" --size 16 --width 4 --epochs 1 \
    --batch 8 --samples 4
says 'synthetic faces; name your own pictures with --data'
finish
