#!/bin/bash
# The bench itself, on small networks: it times ldlua without PyTorch, compares before it times with it, and refuses a
# network whose weights are not those of the other side.
. tests/shell/lib.sh
bench() { # python arguments...
    local python=$1
    shift
    LDLUA=$LDLUA PYTHON=$python OMP_WAIT_POLICY=passive tests/bench/run --rounds 1 --steps 2 --modes eager "$@"
}

check 'times ldlua without PyTorch' bench /absent --only tiny,tiny_perceptual,tiny_conv
says 'PyTorch is not here (there is no /absent)'
says 'pip install torch safetensors numpy'
says 'small U-Net, training step, batch 2'
says 'small U-Net, perceptual loss, perceptual step'
says '16x8x8'
says 'step with the perceptual loss over the plain step, ldlua'
refuse 'an unknown case' bench /absent --only unett
says "no case 'unett'"

python=${PYTHON:-python3}
[ -x .venv/bin/python ] && python=${PYTHON:-.venv/bin/python}
if "$python" -c 'import torch, safetensors, numpy' 2>/dev/null; then
    for case in tiny tiny_perceptual tiny_conv; do
        check "agrees with PyTorch: $case" bench "$python" --only $case
        says 'PyTorch f32'
        refuse "refuses other weights: $case" bench "$python" --only $case --spoil
        says 'NOT TIMED: refused: relative L2 above 0.001'
    done
else
    skip 'compares with PyTorch' "$python has no torch, safetensors and numpy"
fi
finish
