#!/bin/bash
# Runs of several ranks as users start them: how a launcher is recognised, averages and snapshots through kills, pictures that
# the ranks share, what the log has.
. tests/shell/lib.sh

tmp=$TEST_TMP
training=tests/tools/ranks_training.lua
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 LDLUA_ROOT=${LDLUA_ROOT:-$PWD}

# ---- who is there, by the environment alone ----

launched() { # name expected VARIABLE=value...
    local name=$1 want=$2
    shift 2
    check "$name" env -u OMPI_COMM_WORLD_RANK -u OMPI_COMM_WORLD_SIZE "$@" "$LDLUA" -e \
        'io.stderr:write(ld.ranks.rank(), " of ", ld.ranks.count())' # standard output is rank 0's alone
    same "$name" "$output" "$want"
}
launched 'no launcher' '0 of 1' A=b
launched 'mpirun' '1 of 3' OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=3
launched 'srun with PMI' '2 of 4' PMI_RANK=2 PMI_SIZE=4
launched 'srun' '3 of 4' SLURM_PROCID=3 SLURM_STEP_NUM_TASKS=4 SLURM_NTASKS=4
launched 'srun of one task' '0 of 1' SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1 SLURM_NTASKS=1
launched 'an allocation of 4 tasks, without srun' '0 of 1' SLURM_PROCID=0 SLURM_NTASKS=4
launched 'one task in an allocation of 4' '0 of 1' SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1 SLURM_NTASKS=4
launched 'mpirun in an allocation' '1 of 2' OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 SLURM_PROCID=0 \
    SLURM_STEP_NUM_TASKS=1 SLURM_NTASKS=4
launched 'numbers that cannot be' '0 of 1' PMI_RANK=4 PMI_SIZE=4
# one task needs no plug-in; four do
cp "$LDLUA" "$tmp/ldlua"
check 'one task trains without MPI' env SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1 "$tmp/ldlua" --threads 1 $training "$tmp/task" 1 2
refuse 'four tasks want it' env SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=4 "$tmp/ldlua" $training "$tmp/tasks" 1 2
says 'ranks: 4 were started, but there is no '

if [ -z "${LD_TEST_MPI:-}" ] || ! command -v mpirun >/dev/null; then
    skip 'runs of several ranks' 'ld_mpi.so was not built, or there is no mpirun'
    finish
fi
ranks() { # how many, then the script and its arguments
    local n=$1
    shift
    timeout 300 mpirun --oversubscribe -np "$n" "$LDLUA" --threads 1 "$@"
}

# ---- averages and their snapshots through kills ----

export LD_TEST_WIDTHS=1
total() {
    printf '%s\n' "$output" | grep '^sum '
}
snapshots_like() { # name folder
    same "$1: which" "$(cd "$2/ema" && ls)" "$(cd "$tmp/whole/ema" && ls)"
    for file in "$tmp/whole/ema"/*; do
        check "$1: ${file##*/}" cmp "$file" "$2/ema/${file##*/}"
    done
}
check 'two ranks, averages of two widths' ranks 2 $training "$tmp/whole" 12 2
whole=$(total)
check 'there are snapshots' test "$(ls "$tmp/whole/ema" | wc -l)" -ge 5

# One rank, chosen at random, is killed at a random moment; at last nobody is.
kills=0 tries=0 RANDOM=${SEED:-7}
while [ $kills -lt 6 ] && [ $((tries++)) -lt 40 ]; do
    mpirun --oversubscribe -np 2 "$LDLUA" --threads 1 $training "$tmp/killed" 12 2 >"$tmp/out" 2>&1 &
    started=$!
    sleep "0.$((RANDOM % 55 + 15))"
    victims=($(pgrep -P $started))
    [ ${#victims[@]} -gt 0 ] && kill -9 "${victims[RANDOM % ${#victims[@]}]}" 2>/dev/null
    # Was it too late, and the run is through? Then from the beginning.
    if wait $started; then rm -rf "$tmp/killed" && kills=0; else kills=$((kills + 1)); fi
    [ $kills -ge 2 ] && [ $tries -ge 20 ] && break
done
check 'some were killed' test $kills -ge 2
check 'the rest' ranks 2 $training "$tmp/killed" 12 2
same "after $kills kills" "$(total)" "$whole"
snapshots_like 'snapshots after kills' "$tmp/killed"

check '2 ranks stop' ranks 2 $training "$tmp/moved" 12 2 40
check '1 goes on' ranks 1 $training "$tmp/moved" 12 2 190
check '3 end it' ranks 3 $training "$tmp/moved" 12 2
same 'averages after 2, 1 and 3 ranks' "$(total)" "$whole"
snapshots_like 'snapshots of 2, 1 and 3 ranks' "$tmp/moved"
unset LD_TEST_WIDTHS

# ---- pictures that are shared by seed, and the log ----

cat >"$tmp/make.lua" <<'EOS'
local ld = require 'ld'
ld.make_dirs(arg[1] .. '/faces')
local faces = ld.faces(40, {size = 64, seed = 2})
for i = 1, 40 do ld.save_image(faces[i], ('%s/faces/%02d.png'):format(arg[1], i)) end
EOS
cat >"$tmp/same.lua" <<'EOS'
local ld = require 'ld'
local a, b = ld.load_image(arg[1]):f32(), ld.load_image(arg[2]):f32()
local apart = (a - b):abs():max():item()
if apart > 0 then ld.fail('pixels are up to %d apart', apart) end
EOS
check 'pictures' "$LDLUA" "$tmp/make.lua" "$tmp"
celeba="recipes/celeba.lua --data $tmp/faces --vae data/vae-small.h5 --size 64 --batch 8 --channels 8,16 --layers 1
    --attention-width 8 --perceptual 0 --samples 5 --steps 6 --every 4 --epochs 4 --ema 0.5 --least-psnr 0"
check 'celeba' ranks 1 $celeba --out "$tmp/celeba"
cp "$tmp/celeba/samples/samples-00000160.png" "$tmp/grid.png"
rm "$tmp/celeba/samples/samples-00000160.png"
check 'two ranks draw the grid of a finished run' ranks 2 $celeba --out "$tmp/celeba"
check 'the same grid' "$LDLUA" "$tmp/same.lua" "$tmp/grid.png" "$tmp/celeba/samples/samples-00000160.png"
for n in 1 2 3; do
    check "sample on $n ranks" ranks $n recipes/sample.lua --run "$tmp/celeba" --n 5 --steps 6 --out "$tmp/drawn-$n.png"
    same "one voice of $n" "$output" "$tmp/drawn-$n.png"
done
check 'the same pictures from two' "$LDLUA" "$tmp/same.lua" "$tmp/drawn-1.png" "$tmp/drawn-2.png"
check 'the same pictures from three' "$LDLUA" "$tmp/same.lua" "$tmp/drawn-1.png" "$tmp/drawn-3.png"
check 'another seed' ranks 2 recipes/sample.lua --run "$tmp/celeba" --n 5 --steps 6 --seed 1 --out "$tmp/drawn-4.png"
refuse 'the comparison can tell' "$LDLUA" "$tmp/same.lua" "$tmp/drawn-1.png" "$tmp/drawn-4.png"
says 'pixels are up to '

cat >"$tmp/judge.lua" <<'EOS'
local ld = require 'ld'
ld.seed(7)
local net = ld.models.classifier{in_channels = 4, channels = {4, 6}, blocks = {1}, classes = 3, dropout = 0}
local s = ld.latents.open(arg[1] .. '/celeba/latents.h5')
ld.checkpoint.write(arg[1] .. '/judge.h5', {model = net, record = {extra = {mean = s.mean, std = s.std,
  classes = {'a', 'b', 'c'}, vae = s.vae, vae_hash = s.vae_hash, pixel_range = s.pixel_range}}})
EOS
check 'a judge' "$LDLUA" "$tmp/judge.lua" "$tmp"
for n in 1 2; do
    check "evaluate on $n ranks" ranks $n recipes/evaluate.lua "$tmp/celeba" --judge "$tmp/judge.h5" --n 16 --steps 4
    same "one table of $n" "$(printf '%s\n' "$output" | grep -c '^real against')" 1
    cp "$tmp/celeba/evaluation/"*.json "$tmp/evaluation-$n.json"
done
check 'the same evaluation' cmp "$tmp/evaluation-1.json" "$tmp/evaluation-2.json"

check 'celeba with a judge, two ranks, synchronised' ranks 2 $celeba --out "$tmp/judged" --perceptual 0.1 \
    --judge "$tmp/judge.h5" --sync-bn
for field in share gradient_cosine gradient_ratio ema_drift images_per_second data_wait memory_live memory_peak \
    memory_resident loss_q1; do
    check "the log has $field" grep -q "\"$field\":" "$tmp/judged/log.jsonl"
done
finish
