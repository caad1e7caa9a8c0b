#!/bin/bash
# tests/tools/on_card.sh without a card: on the fake device, with stages that fail, and from a kit.
. tests/shell/lib.sh

if [ -z "${LD_TEST_FAKE:-}" ]; then
    skip 'on_card.sh' 'LD_TEST_FAKE does not name the fake device'
    finish
fi
export LD_CUDA_PLUGIN=$LD_TEST_FAKE OUT=$TEST_TMP/out TMPDIR=$TEST_TMP LD_FAKE_MEMORY=4000000000
kit=$TEST_TMP/kit
mkdir -p "$kit/tests" "$kit/lib"
printf '#!/bin/sh\nexec "%s" "$@"\n' "$LDLUA" >"$kit/ldlua"
printf '#!/bin/sh\necho fine\n' >"$kit/tests/device_good"
printf '#!/bin/sh\necho a fault in a kernel\nexit 3\n' >"$kit/tests/device_bad"
printf '#!/bin/sh\nsleep 1000\n' >"$kit/tests/device_slow"
printf '#!/bin/sh\necho "[  SKIPPED ] 1 test(s)."\n' >"$kit/tests/device_none"
chmod +x "$kit"/ldlua "$kit"/tests/*
line() { grep "^$1 " "$OUT/summary.txt"; }
verdict() { line "$1" | grep -qE " $2 " && echo yes; }

# The kernel test that hangs takes the whole minute and a half; what comes after it is left out, and said.
refuse 'a stage that hangs' tests/tools/on_card.sh --minutes 0.2 --device fake:0 --quick "$kit"
same 'a failure is noted' "$(verdict 'kernels: device_bad' FAILED)" yes
same 'with its last word' "$(line 'kernels: device_bad' | grep -c 'status 3: a fault in a kernel')" 1
same 'a test that sees no card is not good' "$(verdict 'kernels: device_none' SKIPPED)" yes
same 'the next one ran' "$(verdict 'kernels: device_good' ok)" yes
same 'and the hanging one ended' "$(verdict 'kernels: device_slow' LATE)" yes
same 'the rest is left out' "$(verdict 'training: f32' left-out)" yes

rm "$kit/tests/device_bad" "$kit/tests/device_slow"
FAKE_FAULT_AT=3000 check 'everything' tests/tools/on_card.sh --minutes 5 --device fake:0 --quick \
    --bench '--only tinycuda_ddim --rounds 1 --windows 2 --window 2 --seconds 1 --threads 2' "$kit"
for stage in doctor 'first tensor' 'operations: test_tensor' 'reference numbers' 'training: as the CPU' 'training: bf16 as f32' \
    'training: killed' 'training: resumed as if not killed' 'slots: test_slots' 'memory: nb-30, batch 128, bf16' \
    'faults: out of memory' 'faults: memory in a training' 'faults: checkpoint after memory' 'faults: goes on after memory' \
    'faults: fault in a training' 'faults: checkpoint after fault' 'faults: goes on after fault' bench-cuda; do
    same "$stage" "$(verdict "$stage" ok)" yes
done
same 'the bench left its files' "$([ -s "$OUT/bench-cuda.jsonl" ] && [ -s "$OUT/bench-cuda.md" ] && echo yes)" yes
same 'what was printed is kept' "$(grep -c '^==== ' "$OUT/on-card.log")" "$(grep -cE ' (ok|SKIPPED) ' "$OUT/summary.txt")"
check 'some of it' tests/tools/on_card.sh --only doctor,slots --device fake:0 "$kit"
same 'is all that ran' "$(grep -cE ' (ok|FAILED|LATE) ' "$OUT/summary.txt")" 3
refuse 'a part that there is not' tests/tools/on_card.sh --only slots,speed --device fake:0 "$kit"
says "no part 'speed'; known: doctor kernels slots training memory faults operations sanitizer bench"
refuse 'nothing that starts' tests/tools/on_card.sh --device fake:0 "$TEST_TMP"
says 'no ldlua that starts'
finish
