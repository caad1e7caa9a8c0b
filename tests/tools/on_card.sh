#!/bin/bash
# Everything that is to be run on a machine with a card, in one go of some minutes, what matters most first.
#
#   tests/tools/on_card.sh [--minutes 9] [--device cuda:0] [--only PARTS] [--quick] [--bench 'ARGS'] [KIT]
#
# PARTS: some of doctor, kernels, slots, training, memory, faults, operations, sanitizer, bench, with commas, in that order; all of
# them where it is left out. docs/cuda.md says which to take where a card is lent for short calls.
#
# KIT is build/card-kit.tar.xz (make card-kit), or the folder that is in it: ldlua with its libraries and the kernels' tests,
# for machines without the packages, or without a compiler. Without KIT: what `make card` has built in the tree; where
# nothing has been, the kit if it is in build/. Beside it the tree of the sources is needed, tests/ and lua/ of the same commit.
#
# Each stage has its own time and never more than is left; one that fails is noted, and the next one begins. In the folder
# $OUT (build/on-card): summary.txt, a line a stage; on-card.log, everything that was printed; bench-cuda.jsonl and .md. The
# exit status is 1 when a stage failed.
set -u
cd "$(dirname "$0")/../.." || exit 1
minutes=9 device=cuda:0 quick='' bench='' kit='' only=''
parts='doctor kernels slots training memory faults operations sanitizer bench'
while [ $# -gt 0 ]; do
    case $1 in
    --minutes) minutes=$2 && shift ;;
    --device) device=$2 && shift ;;
    --bench) bench=$2 && shift ;;
    --only) only=${2//,/ } && shift ;;
    --quick) quick=1 ;; # a few of the Lua tests, for a test of this script
    -*) echo "on_card.sh: unknown option $1; known: --minutes --device --only --bench --quick" >&2 && exit 2 ;;
    *) kit=$1 ;;
    esac
    shift
done
for part in $only; do
    case " $parts " in
    *" $part "*) ;;
    *) echo "on_card.sh: no part '$part'; known: $parts" >&2 && exit 2 ;;
    esac
done
wants() { # part
    case " ${only:-$parts} " in *" $1 "*) return 0 ;; esac
    return 1
}
export OUT=${OUT:-$PWD/build/on-card}
mkdir -p "$OUT" build || exit 1
OUT=$(cd "$OUT" && pwd)
log=$OUT/on-card.log summary=$OUT/summary.txt work=$(mktemp -d "${TMPDIR:-/tmp}/on-card-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
: >"$log" && : >"$summary"
began=$SECONDS total=$(awk "BEGIN { print int($minutes * 60) }") failed=0
export LD_TUNE=0 LDLUA_ROOT=$PWD XDG_CACHE_HOME=$work/cache

left() { echo $((total - (SECONDS - began))); }

note() { # stage verdict detail
    printf '%-34s %-8s %4d s   %s\n' "$1" "$2" "$((SECONDS - stage_began))" "${3:-}" | tee -a "$summary" >>"$log"
    tail -n 1 "$summary"
}

# The last line that says something, for the summary.
last_line() { grep -v '^ *$' "$1" | tail -n 1 | cut -c1-160; }

stage() { # name, seconds, command...
    local name=$1 most=$2 rc
    stage_began=$SECONDS
    shift 2
    [ "$most" -gt "$(left)" ] && most=$(left)
    if [ "$most" -lt 5 ]; then
        note "$name" left-out 'the minutes were used up'
        return
    fi
    printf '\n==== %s: %s\n' "$name" "$*" >>"$log"
    timeout -k 5 "$most" "$@" >"$work/said" 2>&1 </dev/null
    rc=$?
    cat "$work/said" >>"$log"
    case $rc in
    0)
        if grep -q '^\[  SKIPPED \]' "$work/said"; then
            note "$name" SKIPPED "$(last_line "$work/said")" # the kernels' tests see no card
        else
            note "$name" ok "$(last_line "$work/said")"
        fi
        ;;
    124 | 137) note "$name" LATE "not done within $most s: $(last_line "$work/said")" && failed=1 ;;
    *) note "$name" FAILED "status $rc: $(last_line "$work/said")" && failed=1 ;;
    esac
}

missing() { # name why
    stage_began=$SECONDS
    note "$1" missing "$2"
}

# ---- what there is ----

if [ -z "$kit" ] && [ ! -x ./ldlua ]; then
    for kit in build/card-kit.tar.xz build/card-kit ''; do [ -e "${kit:-/}" ] && break; done
fi
case $kit in
*.tar.xz)
    mkdir -p "$work/kit"
    tar -C "$work/kit" -xJf "$kit" || { echo "on_card.sh: $kit does not unpack (is there an xz?)" >&2 && exit 1; }
    kit=$work/kit/card-kit
    ;;
esac
if [ -n "$kit" ]; then
    ldlua=$(cd "$kit" && pwd)/ldlua tests=$(cd "$kit" && pwd)/tests
    libraries=$(cd "$kit" && pwd)/lib
else
    ldlua=$PWD/ldlua tests=$PWD/build/tests libraries=
fi
if ! "$ldlua" --version >>"$log" 2>&1; then
    echo "on_card.sh: no ldlua that starts: neither in the tree (make card) nor in a kit (make card-kit where the packages are;" >&2
    echo "            then carry build/card-kit.tar.xz along and name it); $(tail -n 1 "$log")" >&2
    exit 1
fi
echo "ldlua: $ldlua, device $device, $minutes minutes" | tee -a "$summary"
for tool in nvidia-smi nvcc compute-sanitizer python3; do
    stage_began=$SECONDS
    where=$(command -v $tool || ls /usr/local/cuda/bin/$tool 2>/dev/null) || missing "tool $tool" 'not on the path or in /usr/local/cuda/bin'
    [ -z "$where" ] || echo "tool $tool: $where" >>"$log"
done
on() { # arguments of ldlua on the device
    "$ldlua" --device "$device" "$@"
}
export -f on
export ldlua device

# ---- the program ----

if wants doctor; then
    stage 'doctor' 60 "$ldlua" doctor
    stage 'first tensor' 60 bash -c 'on -e "local x = ld.randn(64, 64) print(x:sum():item(), (x:matmul(x)):sum():item(), x.device)"'
fi

# ---- kernels, by their own tests ----

if wants kernels; then
    some=
    for program in "$tests"/device_*; do
        case $program in *.o | *.d | *'*') continue ;; esac
        some=1
        stage "kernels: $(basename "$program")" 60 env TEST_TMP="$work" LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$program"
    done
    [ -n "$some" ] || missing 'kernels' "no tests of them in $tests: they take nvcc (make card-kit)"
fi

# ---- operations, gradients, layers, networks: the Lua tests on the device ----

suites() { # kind, names
    local kind=$1 name
    shift
    for name in "$@"; do
        mkdir -p "$work/tmp"
        stage "$kind: test_$name" 60 env LDLUA="$ldlua" TEST_TMP="$work/tmp" "$ldlua" --device "$device" "tests/lua/test_$name.lua"
        rm -rf "$work/tmp"
    done
}

# Every slot in each of its dtypes against the CPU.
wants slots && suites slots slots

# ---- training ----

run="$ldlua --device $device tests/cuda/training.lua train"
# shellcheck disable=SC2086 # words
if wants training; then
    stage 'training: on the CPU' 90 "$ldlua" tests/cuda/training.lua train "$work/cpu" 40 f32
    stage 'training: f32' 60 $run "$work/f32" 40 f32
    stage 'training: as the CPU' 20 "$ldlua" tests/cuda/training.lua compare "$work/cpu" "$work/f32" 1e-2
    stage 'training: bf16' 60 $run "$work/bf16" 40 bf16
    stage 'training: bf16 as f32' 20 "$ldlua" tests/cuda/training.lua compare "$work/f32" "$work/bf16" 5e-2
    stage 'training: killed' 60 bash -c "$run '$work/kill' 40 f32 16; [ \$? = 9 ]"
    stage 'training: resumed' 60 $run "$work/kill" 40 f32
    stage 'training: resumed as if not killed' 20 "$ldlua" tests/cuda/training.lua compare "$work/f32" "$work/kill" 0
fi

# ---- memory, and what happens when it ends or the device fails ----

# shellcheck disable=SC2086
if wants memory; then
    size='8'
    [ -z "$quick" ] || size='1 4 16,32'
    stage 'memory: nb-30, batch 128, bf16' 90 "$ldlua" --device "$device" tests/cuda/memory.lua "$work/memory" $size
fi
# Each in a training of its own: the error, the checkpoint as the CPU reads it, and a new process that goes on from it.
if wants faults; then
    stage 'faults: out of memory' 60 bash -c 'on -e "
      local ok, why = pcall(function() local t = {} for i = 1, 100000 do t[i] = ld.ones(1024, 1024, 256) end end)
      print(why) assert(not ok and why:find(\"out of memory on\", 1, true)) collectgarbage() collectgarbage()
      assert(ld.ones(1000):sum():item() == 1000) print(\"goes on\")"'
    for what in memory fault; do
        lost_at=0 # a call of the fake device; a card is made to fail by a kernel
        [ $what = memory ] || lost_at=${FAKE_FAULT_AT:-0}
        stage "faults: $what in a training" 90 env LD_FAKE_FAULT=$lost_at "$ldlua" --device "$device" tests/cuda/faults.lua $what "$work/$what"
        stage "faults: checkpoint after $what" 20 "$ldlua" tests/cuda/faults.lua whole "$work/$what"
        stage "faults: goes on after $what" 60 "$ldlua" --device "$device" tests/cuda/faults.lua on "$work/$what"
    done
fi

# ---- the rest of the tests ----

if wants operations; then
    names='graph resident tensor grad conv nn precision reference memory plan diffusion_lua ema run metrics vae files'
    [ -n "$quick" ] && names='tensor'
    # shellcheck disable=SC2086
    suites operations $names
    stage 'reference numbers' 60 "$ldlua" --device "$device" tests/reference.lua "${REFERENCE:-tests/fixtures/reference}"
fi

# ---- faults that only the hardware's tool sees ----

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
if [ -n "$sanitizer" ] && wants sanitizer; then
    for tool in memcheck racecheck; do
        # shellcheck disable=SC2086
        stage "compute-sanitizer: $tool" 60 "$sanitizer" --tool $tool --error-exitcode 86 $run "$work/$tool" 2 f32
        rm -rf "${work:?}/$tool"
    done
fi

# ---- beside PyTorch ----

seconds=$(($(left) - 10))
if ! wants bench; then
    :
elif [ $seconds -gt 30 ]; then
    # shellcheck disable=SC2086
    stage 'bench-cuda' $((seconds + 8)) env -u LD_TUNE LDLUA="$ldlua" PYTHON="${PYTHON:-python3}" DRIVER=cuda tests/bench/run --device "$device" \
        --minutes "$(awk "BEGIN { print $seconds / 60 }")" --anyway --out "$OUT" $bench
else
    missing 'bench-cuda' 'no minutes are left for it'
fi
echo
cat "$summary"
exit $failed
