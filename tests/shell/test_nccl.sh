#!/bin/bash
# Ranks whose gradients go from device to device: the plug-in's use of NCCL (csrc/backend/cuda/nccl.c) on the fake device,
# over a stand-in for the library (tests/fake/nccl.c). The same bytes from 1, 2, 3 and 4 ranks; messages while backward runs;
# and what is said when the library, the cards or a rank are not as they should be.
. tests/shell/lib.sh

tmp=$TEST_TMP
training=tests/tools/ranks_training.lua
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 LDLUA_ROOT=${LDLUA_ROOT:-$PWD}

refuse 'a way that there is not' "$LDLUA" --comm pigeon -e 'print(1)'
says "ldlua: --comm takes auto, nccl or host, not 'pigeon'"
if [ -z "${LD_TEST_MPI:-}" ] || [ -z "${LD_TEST_FAKE:-}" ] || [ -z "${LD_TEST_NCCL:-}" ] || ! command -v mpirun >/dev/null; then
    skip 'NCCL' 'ld_mpi.so or the stand-ins were not built, or there is no mpirun'
    finish
fi
export LD_CUDA_PLUGIN=$LD_TEST_FAKE LD_FAKE_CARDS=4
LD_CUDA_PATH=$(dirname "$LD_TEST_NCCL")
export LD_CUDA_PATH

ranks() { # how many, folder, options of ldlua...
    local n=$1 folder=$2
    shift 2
    timeout 120 mpirun --oversubscribe -np "$n" "$LDLUA" --threads 1 --device fake "$@" $training "$folder" 2 2
}

total() { # the line that tells what was trained
    printf '%s\n' "$output" | grep '^sum '
}

# ---- the same weights, in messages that come late ----

export LD_RANKS_BUCKET=200
check 'one rank' ranks 1 "$tmp/one"
alone=$(total)
for n in 2 3 4; do
    LD_FAKE_LAG=2 LD_FAKE_TALK=$tmp/talk-$n check "$n ranks" ranks $n "$tmp/equal-$n" --comm nccl
    says 'gradients go between ranks by NCCL 2.28.9, in a fixed order'
    same "weights of $n ranks" "$(total)" "$alone"
done
# The first bucket is marked before backward's last slots have run, in every step of a rank; the wait comes behind all.
same 'messages during backward' "$(awk '$1 == 0 && $2 == "mark" { if (!n++) first = $3; last = $3 }
    $1 == 0 && $2 == "wait" { print (first < last && $3 >= last ? "yes" : "no"); n = 0 }' "$tmp/talk-2" | sort -u)" yes
check 'through the host' ranks 2 "$tmp/host" --comm host
says 'gradients go between ranks through the host, as asked for'
same 'weights through the host' "$(total)" "$alone"
LD_TEST_PRECISION=bf16 check 'one rank in bf16' ranks 1 "$tmp/half-1"
half=$(total)
LD_TEST_PRECISION=bf16 check 'two ranks in bf16' ranks 2 "$tmp/half-2"
same 'weights in bf16' "$(total)" "$half"
[ "$half" != "$alone" ] && pass || fail 'bf16' 'the test cannot tell it from f32'

# ---- NCCL's own sums: close, and four ranks give other bytes ----

losses() { grep -o '"loss":[0-9.]*' "$1/log.jsonl"; }
LD_FAKE_LAG=2 LD_TEST_FAST=1 check 'any order' ranks 4 "$tmp/fast"
says 'gradients go between ranks by NCCL 2.28.9'
case $output in *'in a fixed order'*) fail 'any order' 'it was fixed' ;; *) pass ;; esac
[ "$(total)" != "$alone" ] && pass || fail 'any order' 'the stand-in adds as the tree does'
same 'losses in any order' "$(paste <(losses "$tmp/fast") <(losses "$tmp/one") | tr '\t' ':' |
    awk -F: '{ d = $2 - $4; if (d > 1e-3 || d < -1e-3) bad++ } END { print NR + 0, bad + 0 }')" '10 0'

# ---- what is missing, too old, shared ----

# A machine may have a NCCL of its own, which the search goes on to and the fake device does not take.
LD_CUDA_PATH=$tmp/none check 'no NCCL' ranks 2 "$tmp/missing"
says 'gradients go between ranks through the host (rank 0: '
same 'said once' "$(grep -c 'gradients go' <<<"$output")" 1
same 'weights without NCCL' "$(total)" "$alone"
LD_CUDA_PATH=$tmp/none refuse 'no NCCL, asked for' ranks 2 "$tmp/asked" --comm nccl
says 'ranks: --comm nccl, but rank 0 cannot: '
STUB_NCCL=20400 refuse 'too old' ranks 2 "$tmp/old" --comm nccl
case $output in
*"rank 0 cannot: ranks: no NCCL 2 that will do: $LD_CUDA_PATH/libnccl.so.2 is too old: it is 2.4.0, and 2.14.0 or newer"*) pass ;;
*'rank 0 cannot: fake: there is no stand-in for NCCL in LD_CUDA_PATH that will do'*) pass ;;
*) fail 'too old' "it says: $output" ;;
esac
LD_FAKE_CARD=one refuse 'ranks that share a card' ranks 2 "$tmp/shared"
says 'ranks: ranks 0 and 1 share one card (one); start as many ranks on a machine as it has cards'
STUB_NCCL_ID=2 refuse 'no beginning' ranks 2 "$tmp/id"
says 'ranks: NCCL: no beginning (ncclGetUniqueId): unhandled system error (run with NCCL_DEBUG=INFO for details): the stand-in'
STUB_NCCL_JOIN=5 refuse 'ranks that do not come together' ranks 2 "$tmp/join"
says 'ranks: NCCL: the ranks do not come together (ncclCommInitRank): invalid argument'
refuse 'NCCL without a device' timeout 60 mpirun --oversubscribe -np 2 "$LDLUA" --threads 1 --comm nccl $training "$tmp/cpu" 2 2
says 'ranks: --comm nccl, but rank 0 cannot: the network is on cpu'

# ---- a rank that is gone ----

STUB_NCCL_ASYNC=30 refuse 'an error while numbers are on their way' ranks 2 "$tmp/async"
says 'ranks: NCCL: while numbers were on their way: remote process exited or there was a network error'
dies() {
    LD_TEST_DIE=24 ranks 3 "$tmp/dead"
    [ $? -eq 137 ] # mpirun tells the signal
}
check 'a rank that dies' dies
says "the others do not answer, and the end was asked for; the checkpoint $tmp/dead/last.h5 has 24 images"
check 'goes on after a death' ranks 2 "$tmp/dead"
same 'weights after a death' "$(total)" "$alone"
finish
