#!/bin/bash
# Synchronised batch norm: ranks that share a batch give what one rank gives for the whole of it, on the CPU and on a device;
# resumed exactly; a rank that dies between two norms. The trainings: tests/tools/sync_training.lua.
. tests/shell/lib.sh

tmp=$TEST_TMP
training=tests/tools/sync_training.lua
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 LDLUA_ROOT=${LDLUA_ROOT:-$PWD}
if [ -z "${LD_TEST_MPI:-}" ] || ! command -v mpirun >/dev/null; then
    skip 'synchronised batch norm' 'ld_mpi.so was not built, or there is no mpirun'
    finish
fi

device=cpu
ranks() { # how many, then arguments of the training
    local n=$1
    shift
    timeout 300 mpirun --oversubscribe -np "$n" "$LDLUA" --device $device --threads 1 $training "$@"
}

# f32 rounds by 6e-8; sums of some thousand terms in another order, and gradients that are sums of others that cancel, make
# up to 4e-5 of it (measured). Statistics of a rank's own pictures are 5e-2 off and gradients 1 (below).
near() { # name, folders
    check "$1" "$LDLUA" tests/tools/compare_runs.lua "$2" "$3" 2e-4
}

equal() { # name, folders: every tensor of the checkpoints, to the byte
    local one
    check "$1: one" "$LDLUA" tests/tools/sum_checkpoint.lua "$2"
    one=$output
    check "$1: other" "$LDLUA" tests/tools/sum_checkpoint.lua "$3"
    case $one in
    'sum '*) same "$1" "$one" "$output" ;;
    *) fail "$1" "no sum: $one" ;;
    esac
}

# ---- one step: loss, gradients, running statistics ----

for net in unet classifier; do
    check "$net, one rank" ranks 1 "$tmp/$net-1" $net 16 16 1 yes
    check "$net, one rank, not synchronised" ranks 1 "$tmp/$net-0" $net 16 16 1 no
    equal "$net: nothing to synchronise" "$tmp/$net-1" "$tmp/$net-0"
    for n in 2 4; do
        check "$net, $n ranks" ranks $n "$tmp/$net-$n" $net 16 16 1 yes
        near "$net, a step of $n ranks" "$tmp/$net-1" "$tmp/$net-$n"
    done
    check "$net, not synchronised" ranks 2 "$tmp/$net-n" $net 16 16 1 no
    "$LDLUA" tests/tools/sum_checkpoint.lua "$tmp/$net-n" >"$tmp/sum-n"
    "$LDLUA" tests/tools/sum_checkpoint.lua "$tmp/$net-0" >"$tmp/sum-0"
    refuse "$net: sums can tell" cmp "$tmp/sum-n" "$tmp/sum-0"
    refuse "$net: the comparison can tell" "$LDLUA" tests/tools/compare_runs.lua "$tmp/$net-1" "$tmp/$net-n" 1e-2
    says 'beyond 0.01'
done

# ---- some steps, with shares of unequal size, and a last batch too small for all ranks ----

for count in 29 19; do
    check "one rank, $count" ranks 1 "$tmp/few-$count" classifier $count 16 3 yes
    for n in 3 4; do
        check "$n ranks, $count" ranks $n "$tmp/few-$count-$n" classifier $count 16 3 yes
        near "$count pictures on $n ranks" "$tmp/few-$count" "$tmp/few-$count-$n"
    done
done

# ---- resumed, killed ----

check 'stopped' ranks 3 "$tmp/half" classifier 29 16 3 yes 29
says 'stopped at '
check 'goes on' ranks 3 "$tmp/half" classifier 29 16 3 yes
equal 'resumed exactly' "$tmp/half" "$tmp/few-29-3"
dies() {
    LD_TEST_DIE=29 ranks 3 "$tmp/dead" classifier 29 16 3 yes
    [ $? -eq 137 ] # mpirun tells the signal
}
check 'a rank dies between two norms' dies
says "the others do not answer, and the end was asked for; the checkpoint $tmp/dead/last.h5 has 29 images"
check 'goes on after the death' ranks 3 "$tmp/dead" classifier 29 16 3 yes
equal 'exactly' "$tmp/dead" "$tmp/few-29-3"

# ---- what cannot be ----

cat >"$tmp/wrong.lua" <<'EOS'
local ld = require 'ld'
local net = ld.nn.sequential{ld.nn.batch_norm{channels = ld.ranks.rank() == 1 and 3 or 2}}
ld.ranks.start()
ld.core.ranks.sync_norms(true)
net(ld.randn(4, ld.ranks.rank() == 1 and 3 or 2))
EOS
refuse 'micro-batches and synchronised norms' "$LDLUA" -e 'local net = ld.nn.batch_norm{channels = 2}
    ld.run(os.getenv "TEST_TMP" .. "/no", {model = net, optim = ld.optim.adamw(net:parameters()), micro = 2, sync_bn = true})'
says 'run: sync_bn = true and micro = 2: statistics over the whole batch need all of it at once'
refuse 'other layers on a rank' timeout 60 mpirun --oversubscribe -np 2 "$LDLUA" "$tmp/wrong.lua"
says 'with statistics over ranks all must compute the same layers'

# ---- on a device ----

if [ -z "${LD_TEST_FAKE:-}" ] || [ ! -e "$LD_TEST_FAKE" ]; then
    skip 'synchronised norms on the fake device' 'LD_TEST_FAKE does not name it'
    finish
fi
export LD_CUDA_PLUGIN=$LD_TEST_FAKE
device=fake:0
check 'unet on the device, 2 ranks' ranks 2 "$tmp/fake" unet 16 16 1 yes
near 'a step on the device' "$tmp/unet-1" "$tmp/fake"
finish
