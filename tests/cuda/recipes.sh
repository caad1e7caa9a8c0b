#!/bin/bash
# The recipes on the fake device at the sizes of their own, a few steps each, and nothing is computed: so every convolution
# that they make is written down in the file LD_FAKE_LOG (tests/cuda/test_plans.c asks cuDNN for plans of them).
#
#   LDLUA=./ldlua LD_CUDA_PLUGIN=build/tests/ld_fake.so LD_FAKE_LOG=FILE tests/cuda/recipes.sh FOLDER
#
# (cifar draws before it fails to save.) Only what decides nothing about shapes is made small: pictures, epochs, steps of samplers. Files may not grow, so that
# checkpoints of gigabytes are not written; a recipe whose last words are about that has done its work. What opens a run
# (finetune, sample, ...) opens one of a smaller network. Ends with status 1 where a recipe ends otherwise.
set -u
folder=${1:?a folder}
export LD_FAKE_IDLE=1 LD_TUNE=0
LDLUA=${LDLUA:-./ldlua}
status=0
run() { # recipe, what its output has to have, options...
    local recipe=$1 wanted=$2 said
    shift 2
    said=$( (
        ulimit -f "${limit:-60000}" # kilobytes
        "$LDLUA" --device fake:0 "recipes/$recipe.lua" "$@" 2>&1
    )) || grep -q 'File too large' <<<"$said" || { echo "$recipe: $said" | tail -n 12 && status=1; }
    find "$folder" -name '[0-9]*.h5' -delete # room for the next
    grep -q "$wanted" <<<"$said" || { echo "$recipe does not say '$wanted': $said" | tail -n 12 && status=1; }
}

"$LDLUA" -e "
  local faces = ld.faces(256, {size = 64, seed = 2})
  for i = 1, 256 do
    local class = '$folder/pictures/class-' .. i % 2
    ld.make_dirs(class)
    ld.save_image(faces[i], ('%s/%03d.png'):format(class, i))
  end" || exit 1
pictures=$folder/pictures
quick='--epochs 1 --quiet'
run vae 'epoch 1:' --out "$folder/vae" --photos "$pictures" --faces 160 --epochs 1
run imagenet_latents '256 latents' --data "$pictures" --out "$folder/store.h5" --least_psnr=-1000
run imagenet_classifier 'epoch 1:' --train "$folder/store.h5" --out "$folder/classifier" --epochs 1
judge=$folder/judge.h5 # of the same network, without an optimiser's state
"$LDLUA" -e "
  local s = ld.latents.open('$folder/store.h5')
  ld.checkpoint.write('$judge', {model = ld.models.classifier{classes = 2},
    record = {extra = {mean = {0, 0, 0, 0}, std = {1, 1, 1, 1}, classes = s.classes, vae = s.vae, vae_hash = s.vae_hash,
                       pixel_range = s.pixel_range}}})" || exit 1
latents="--vae data/vae-small.h5 --scale 0.2 --least_psnr=-1000"
run celeba samples --data "$pictures" --judge "$judge" --out "$folder/celeba" $latents --every 1 --steps 2 $quick
run lsun samples --data "$pictures" --judge "$judge" --out "$folder/lsun" --vae data/vae-small.h5 --steps 2 $quick
limit=400000 run compare compare.png --store "$folder/store.h5" --judge "$judge" --out "$folder/compare" --steps 2 $quick
run cifar 'File too large' --data "$pictures" --out "$folder/cifar" --steps 2 --epochs 1 --every 1
run wgan samples --data "$pictures" --out "$folder/wgan" --epochs 1
run celeba samples --data "$pictures" --judge "$judge" --out "$folder/small" $latents --every 1 --steps 2 $quick \
    --channels 64,128 --layers 1
run finetune samples --run "$folder/small" --data "$pictures" --judge "$judge" --out "$folder/finetune" --epochs 1 \
    --steps 2 --least_psnr=-1000
run sample png --run "$folder/small" --steps 2
run remix png --run "$folder/small" --image "$pictures/class-1/001.png" --steps 4
for recipe in $(grep -l 'ld\.run(' recipes/*.lua); do # a recipe that trains, and is not here
    name=$(basename "$recipe" .lua)
    grep -qE "^(limit=[0-9]+ )?run $name " "$0" || { echo "$recipe is not among those that are run" && status=1; }
done
exit $status
