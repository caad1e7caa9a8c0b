#!/bin/bash
# `make bench-cuda` without a card: on the CPU and on the fake device (tests/fake), small networks. What it measures there
# means nothing; that every step of it works does.
. tests/shell/lib.sh

out=$TEST_TMP/out
mkdir -p "$out"
unset OUT LD_CUDA_PLUGIN
bench() { # python options...
    local python=$1
    shift
    LDLUA=$LDLUA PYTHON=$python DRIVER=cuda OMP_WAIT_POLICY=passive tests/bench/run --rounds 1 --windows 2 --window 3 \
        --seconds 1 --threads 2 --minutes 5 --out "$out" "$@"
}
all=tinycuda,tinycuda_conv,tinycuda_classifier,tinycuda_ddim,tinycuda_curve

# ---- ldlua alone ----

check 'on the CPU' bench /absent --device cpu --dtype f32 --only $all
says 'PyTorch is not here (there is no /absent)'
for case in 'small U-Net, training step' 'small classifier, training step' 'DDIM, 4 steps' '32-16x4x4'; do says "$case"; done
says 'share of the floor'
same 'a line for each process at once' "$(wc -l <"$out/bench-cuda.jsonl")" 11
same 'lines are JSON' "$("$LDLUA" -e "for line in io.lines '$out/bench-cuda.jsonl' do io.write(ld.core.json_decode(line).what, ' ') end")" \
    'bench-cuda seed time cold seed time seed time seed time seed '
same 'the report is a file' "$(grep -c '^| small U-Net, training step  *| ldlua' "$out/bench-cuda.md")" 1
refuse 'bf16 where it is not' bench /absent --device cpu --only tinycuda_ddim
says 'ldlua failed: refused: precision bf16 is not available: '
refuse 'an unknown case' bench /absent --device cpu --only cuda_none
says "no case 'cuda_none'"
check 'no time for anything' bench /absent --device cpu --dtype f32 --only tinycuda,tinycuda_ddim --minutes 0.01
says 'small U-Net, training step: the minutes are used up'

if [ -n "${LD_TEST_FAKE:-}" ]; then
    export LD_CUDA_PLUGIN=$LD_TEST_FAKE
    check 'on a device, in bf16' bench /absent --device fake:0 --only $all
    says 'ldlua bf16'
fi

# ---- beside PyTorch ----

python=${PYTHON:-python3}
[ -x .venv/bin/python ] && python=${PYTHON:-.venv/bin/python}
if [ -z "${LD_TEST_FAKE:-}" ] || ! "$python" -c 'import torch, safetensors, numpy' 2>/dev/null; then
    skip 'beside PyTorch' "$python has no torch, safetensors and numpy, or there is no fake device"
    finish
fi
check 'agrees with PyTorch' bench "$python" --device fake:0 --only tinycuda
says 'half gradient '
says 'P1 eager bf16'
says 'P4 CUDA graph                refused: a CUDA graph needs a CUDA device'
says 'over P1'
check 'curves that overlap' bench "$python" --device fake:0 --only tinycuda_curve
says 'half curve '
says 'PyTorch in bf16: curve '
same 'are goals that are met' "$(grep -c '^| small U-Net, loss over 40 steps, .*| met' "$out/bench-cuda.md")" 2
refuse 'curves from other weights' bench "$python" --device fake:0 --only tinycuda_curve --spoil
says 'NOT TIMED: refused: relative L2 above 0.001'
refuse 'refuses other weights' bench "$python" --device fake:0 --only tinycuda --spoil
says 'NOT TIMED: refused: relative L2 above 0.001'
same 'nothing was timed' "$(grep -c '"side":"ldlua"' "$out/bench-cuda.jsonl")" 0
refuse 'times them when told to, marked' bench "$python" --device fake:0 --only tinycuda_ddim --spoil --anyway
says 'TIMED ANYWAY: refused'
says '(refused: relative L2 above 0.001)'
same 'and no goal is met by them' "$(grep -c '| met' "$out/bench-cuda.md")" 0
LD_FAKE_NONE=1 refuse 'PyTorch alone where ldlua fails' bench "$python" --device fake:0 --only tinycuda_ddim
says 'ldlua failed: '
says 'P1 eager bf16 '
same 'PyTorch was timed' "$(grep -c '"side":"bf16"' "$out/bench-cuda.jsonl")" 1
finish
