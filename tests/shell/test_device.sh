#!/bin/bash
# Devices with memory of their own: what is missing is said; and the Lua tests and recipes on a device whose memory the
# host cannot read (tests/fake), so that code above the backend that follows an address into a tensor crashes.
. tests/shell/lib.sh

tmp=$TEST_TMP
unset LD_CUDA_PLUGIN
mkdir -p "$tmp/bin"
cp "$LDLUA" "$tmp/bin/ldlua"
export LDLUA_ROOT=${LDLUA_ROOT:-$PWD}

# ---- what is missing ----

refuse 'no plug-in' "$tmp/bin/ldlua" --device cuda:0 -e 'print(1)'
says 'ldlua: device: no plug-in for cuda: there is no '
says '/bin/build/ld_cuda.so or '
says 'lib/ldlua/ld_cuda.so; ldlua was built without CUDA'
LD_CUDA_PLUGIN=$tmp/absent.so refuse 'a plug-in that is not there' "$LDLUA" --device cuda -e 'print(1)'
says "LD_CUDA_PLUGIN names $tmp/absent.so, which cannot be read"
echo 'no library' >"$tmp/text.so"
LD_CUDA_PLUGIN=$tmp/text.so refuse 'a plug-in that is no library' "$LDLUA" --device cuda -e 'print(1)'
says 'the plug-in for cuda does not load: '
check 'goes on after the error' "$tmp/bin/ldlua" -e 'print(pcall(ld.zeros, 3, {device = "cuda:1"})) print(ld.ones(3):sum())'
says 'no plug-in for cuda'
says '3'
check 'doctor' "$LDLUA" doctor
for what in processor 'instruction set' threads memory oneDNN HDF5 plug-in; do says "  $what "; done
check '--doctor without a plug-in' "$tmp/bin/ldlua" --doctor
says 'no plug-in for cuda'
echo 'print "a script"' >"$tmp/doctor"
check 'a script called doctor is run' sh -c "cd '$tmp' && '$LDLUA' doctor"
says 'a script'

# ---- the plug-in of this build, on a machine without a card ----

if [ -z "${LD_TEST_PLUGIN:-}" ]; then
    skip 'the CUDA plug-in' 'not built: no nvcc or no cudnn.h'
    skip "cuDNN's plans, and the plug-in's host side" 'not built either'
elif ldconfig -p | grep -q 'libcuda\.so\.1'; then
    skip 'no driver' 'there is one here'
else
    LD_CUDA_PLUGIN=$LD_TEST_PLUGIN refuse 'no driver' "$LDLUA" --device cuda:0 -e 'print(1)'
    says 'ldlua: device: there is no NVIDIA driver here: libcuda.so.1'
    LD_CUDA_PLUGIN=$LD_TEST_PLUGIN check 'the prompt survives' "$LDLUA" -e \
        'local x = ld.ones(2) print(pcall(x.cuda, x)) print(x:sum():item())'
    says 'there is no NVIDIA driver here'
    says 2
    LD_CUDA_PLUGIN=$LD_TEST_PLUGIN check 'doctor says so' "$LDLUA" doctor
    says '  driver                     there is no NVIDIA driver here'
    says '  cuDNN '
    same 'it exports one symbol' "$(nm -D --defined-only "$LD_TEST_PLUGIN" | sed 's/.* //')" ld_plugin_entry
    same 'it links nothing of CUDA' "$(ldd "$LD_TEST_PLUGIN" | grep -cE 'cuda|cudnn|cublas')" 0
fi

# ---- a device that the host cannot read ----

if [ -z "${LD_TEST_FAKE:-}" ]; then
    skip 'the fake device' 'LD_TEST_FAKE does not name it'
    finish
fi
export LD_CUDA_PLUGIN=$LD_TEST_FAKE
on_fake() { # options of ldlua...
    "$LDLUA" --device fake:0 "$@"
}

refuse 'another family' "$LDLUA" --device cuda:0 -e 'print(1)'
says 'device: there is no '
refuse 'a device too many' "$LDLUA" --device fake:2 -e 'print(1)'
says 'there is no fake:2; fake has 2 devices'
refuse 'a device that does not open' "$LDLUA" --device fake:1 -e 'print(1)'
says 'fake:1 does not open'
refuse 'a second device' on_fake -e 'ld.zeros(1, {device = "fake:1"})'
says 'this process computes on fake:0 already'
LD_FAKE_NONE=1 refuse 'no driver, says the plug-in' on_fake -e 'print(1)'
says 'ldlua: fake: there is no driver'

for file in tests/lua/test_*.lua; do
    mkdir -p "$tmp/scratch"
    name=$(basename "$file" .lua)
    TEST_TMP=$tmp/scratch check "$name on the device" on_fake "$file"
    says ' 0 failed'
    rm -rf "$tmp/scratch"
done

# Precision: refused before any work where it is not computed in, and an option of recipes where it is.
refuse 'bf16 on the CPU' "$LDLUA" recipes/celeba.lua --precision bf16 --out "$tmp/none"
says 'precision bf16 needs a CUDA device; cpu computes in f32'
refuse 'a precision that there is not' "$LDLUA" recipes/celeba.lua --precision half --out "$tmp/none"
says "unknown precision 'half'; known: f32 bf16 f16"
same 'nothing was made' "$(ls "$tmp/none" 2>&1 | grep -c 'No such file')" 1
tiny="--photos $tmp/absent --out $tmp/bf16 --size 32 --crop 32 --faces 40 --width 8 --blocks 1 --batch 8"
check 'a recipe in bf16' on_fake recipes/vae.lua $tiny --epochs 1 --precision bf16
says 'epoch 1: '
check 'it goes on in f32' on_fake recipes/vae.lua $tiny --epochs 2
says 'precision "bf16" -> "f32"'
says 'epoch 2: '
refuse 'training in f16' on_fake recipes/vae.lua $tiny --epochs 3 --precision f16
says 'precision f16 is for networks in use'

# What a step copies: from a set in the device's memory a list of rows, from the host's the pixels. Twenty more steps tell.
cat >"$tmp/copies.lua" <<'LUA'
local ld = require 'ld'
local opt = ld.options{out = 'x', epochs = 1, resident = true}
local data = ld.pixels(ld.images.synthetic_faces{n = 32, size = 16}, {flip = true, resident = opt.resident})
local net = ld.nn.conv2d{in_channels = 3, out_channels = 3, kernel = 1}
local run = ld.run(opt.out, {model = net, optim = ld.optim.adam(net:parameters(), {lr = 1e-3}), quiet = true})
for batch in run:batches(data, 16, opt.epochs) do
  run:step(function() return ld.mse(net(batch.x), batch.x) end)
end
LUA
copied() { # resident: bytes to the device in 20 steps
    for epochs in 2 12; do
        rm -f "$tmp/copies"
        LD_FAKE_COPIES=$tmp/copies "$LDLUA" --device fake:0 "$tmp/copies.lua" --out "$tmp/copies-$1-$epochs" \
            --epochs $epochs --resident "$1" >"$tmp/copies.out" 2>&1 || cat "$tmp/copies.out"
        awk '/^to/ {n += $2} END {print n + 0}' "$tmp/copies"
    done | paste -sd' ' | awk '{print $2 - $1}'
}
pixels=$((20 * 16 * 3 * 16 * 16 * 4))
here=$(copied true) there=$(copied false)
same "a step copies no pixels from a set on the device ($here bytes in 20)" $((here < pixels / 50)) 1
same "and all of them from the host's ($there bytes)" $((there >= pixels)) 1

# The device is lost in the middle of a run: the error says so, and the checkpoint of before is whole.
cat >"$tmp/lost.lua" <<'LUA'
local ld = require 'ld'
local opt = ld.options{out = 'x', epochs = 1000}
local net = ld.models.small_autoencoder{width = 4, blocks = 1}
local run = ld.run(opt.out, {model = net, optim = ld.optim.adamw(net:parameters(), {lr = 1e-3}), save_minutes = 0})
local function get() return {x = ld.faces(4, {size = 16})} end
local data = {count = 4, name = 'faces', get = get}
for batch in run:batches(data, 4, opt.epochs) do
  run:step(function() local x = batch.x:f32() * (1 / 255) return ld.mse(net(x), x) end)
end
LUA
LD_FAKE_FAULT=20000 refuse 'the device is lost in a run' on_fake "$tmp/lost.lua" --out "$tmp/lost"
says 'fake:0 is lost since an earlier operation; end the program'
check 'the checkpoint is whole' "$LDLUA" -e "
  local c = ld.checkpoint.open('$tmp/lost/last.h5') print('images', c.record.images > 0)
  for name, x in pairs(ld.checkpoint.read_group(c, 'model')) do assert(x:f64():sum():item() == x:f64():sum():item(), name) end"
says 'true'
LD_FAKE_FAULT=100 check 'what is on the host can be saved' on_fake -e "
  local host, x = ld.ones({3}, {device = 'cpu'}), ld.ones(3)
  local ok, why
  for i = 1, 200 do ok, why = pcall(function() x = x + 1 end) end
  print(ok, why)
  local f = ld.h5_create('$tmp/host.h5') f:write('x', host) f:commit()
  print(pcall(function() local g = ld.h5_create('$tmp/no.h5') g:write('x', ld.ones(3)) end))
  print(ld.h5_open('$tmp/host.h5'):read('x'):sum():item())"
says 'is lost'
says 3
LD_FAKE_MEMORY=8000000 refuse 'out of memory' on_fake -e 'local x = ld.zeros(1000000) print(ld.zeros(2000000), x)'
says 'zeros: out of memory on fake:0: 7.6 MiB needed; live '
says '; most by zeros 3.8 MiB'
mkdir -p "$tmp/scratch"
LD_FAKE_NO_GRAPHS=1 TEST_TMP=$tmp/scratch check 'a device that cannot record' on_fake tests/lua/test_graph.lua
says ' 0 failed'

# ---- recipes: their own test, with every command on the device ----

cat >"$tmp/ldlua" <<END
#!/bin/sh
exec '$LDLUA' --device fake:0 "\$@"
END
chmod +x "$tmp/ldlua"
mkdir "$tmp/recipes"
LDLUA=$tmp/ldlua TEST_TMP=$tmp/recipes check 'the recipes on the device' bash tests/shell/test_recipes.sh
says ' 0 failed'
finish
