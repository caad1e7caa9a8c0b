#!/bin/bash
# The bundle (tests/tools/bundle.sh): packed, unpacked into an empty folder, and started with an almost empty environment.
# Every library in memory must be its own or the C library's.
. tests/shell/lib.sh

if [ -z "${LD_TEST_BUNDLE:-}" ] || [ ! -e "$LD_TEST_BUNDLE/BUNDLE.txt" ]; then
    skip 'the bundle' 'it was not made (make bundle)'
    finish
fi
unset LDLUA_ROOT LD_CUDA_PLUGIN LD_LIBRARY_PATH
name=$(basename "$LD_TEST_BUNDLE") most=40000000
archive=$TEST_TMP/$name.tar.xz

pack() { # level
    tar -C "$(dirname "$LD_TEST_BUNDLE")" -cf - "$name" | xz -T0 "-$1" -c >"$archive"
}
pack 1
[ "$(stat -c %s "$archive")" -lt $most ] || pack 6 # as make bundle does
same 'below 40 MB' "$([ "$(stat -c %s "$archive")" -lt $most ] && echo yes || stat -c %s "$archive")" yes
mkdir "$TEST_TMP/else where" "$TEST_TMP/out"
check 'unpacks' tar -C "$TEST_TMP/else where" -xf "$archive"
here="$TEST_TMP/else where/$name"
cd "$TEST_TMP/out" || exit 1

alone() { # arguments of ldlua...
    env -i "$here/ldlua" "$@"
}

# ---- what is in it ----

for file in ldlua BUNDLE.txt README.md lua/ld/init.lua recipes/celeba.lua data/vae-small.h5 docs/recipes.md; do
    same "has $file" "$([ -f "$here/$file" ] && echo yes)" yes
done
same 'no link leads out of it' "$(find "$here" -type l | while read -r l; do
    case $(readlink -f "$l") in "$here"/*) [ -e "$l" ] || echo "$l" ;; *) echo "$l" ;; esac
done)" ''
same 'nothing of the C library' "$(find "$here/lib" -name 'libc.so*' -o -name 'libm.so*' -o -name 'ld-linux*' -o -name 'libpthread.so*')" ''
same 'no library of CUDA' "$(find "$here/lib" -name 'libcu*' -not -name 'libcurl*' -o -name 'libnv*')" ''
same 'has the plug-in where it was built' "$([ -e "$here/lib/ld_cuda.so" ] && echo yes)" "$([ -n "${LD_TEST_PLUGIN:-}" ] && echo yes)"
same 'licences' "$(find "$here/licenses" -maxdepth 1 -name '*.txt' -size +100c | grep -cE 'libhdf5|hdf5|libdnnl|onednn|luajit|libgomp|gcc')" \
    "$(find "$here/licenses" -maxdepth 1 -name '*.txt' | grep -cE 'libhdf5|hdf5|libdnnl|onednn|luajit|libgomp|gcc')"
same 'more than ten licences' "$([ "$(find "$here/licenses" -maxdepth 1 -name '*.txt' | wc -l)" -gt 10 ] && echo yes)" yes

# ---- it runs ----

check 'runs code' alone -e 'print(ld.ones(3):sum():item(), ld.root)'
says "3"
says "$here"
mkdir "$TEST_TMP/bin"
ln -s "$here/ldlua" "$TEST_TMP/bin/ldlua"
check 'runs through a link' env -i "$TEST_TMP/bin/ldlua" -e 'print(ld.root)'
says "$here"
check 'the doctor' alone doctor
says "$here/lib/libdnnl"
says "$here/lib/libhdf5"
if [ -n "${LD_TEST_PLUGIN:-}" ]; then
    says "  plug-in                    $here/lib/ld_cuda.so"
    says '  toolkit it was built with  CUDA '
fi

# Libraries of the same names elsewhere do not get in.
mkdir "$TEST_TMP/wrong"
for file in "$here"/lib/*.so.*; do echo 'no library' >"$TEST_TMP/wrong/$(basename "$file")"; done
check 'LD_LIBRARY_PATH does no harm' env -i LD_LIBRARY_PATH="$TEST_TMP/wrong" "$here/ldlua" -e 'print(pcall(ld.h5_open, "/absent"))'
says 'No such file'

cat >train.lua <<'LUA'
local ld = require 'ld'
local opt = ld.options{out = 'run', epochs = 2}
local vae = ld.vae.load('data/vae-small.h5')
local faces = ld.images.synthetic_faces{n = 8, size = 32}
local store = ld.latents.encode(vae, faces, opt.out .. '/latents.h5')
local unet = ld.models.unet{channels = {16, 32}, layers = 1, norm = 'group'}
local model = ld.diffusion.cosine(unet, store:scaling(0))
local run = ld.run(opt.out, {opt = opt, model = unet, optim = ld.optim.adamw(unet:parameters(), {lr = 1e-3}), ema = 0.9})
for batch in run:batches(store, 4, opt.epochs) do
  run:step(function() return model:loss(batch.x, {first = batch.first}) end)
end
run:finish()
local z = model:sample{n = 2, size = store.shape[2], sampler = ld.sampler.ddim{steps = 3, eta = 0}}
print(run:image('samples', vae:decode_images(z)), run.images)
pcall(ld.images, '/absent.tar')
for line in io.lines '/proc/self/maps' do
  local file = line:match '(/.*%.so[%.%d]*)$'
  if file then print('maps ' .. file) end
end
LUA
check 'trains, writes and draws' alone train.lua
says 'samples'
same 'the checkpoint is there' "$([ -s run/last.h5 ] && echo yes)" yes
of_libc='^(ld-linux[^/]*|lib(c|m|mvec|dl|rt|pthread|resolv|util|anl|nss_[a-z]*))\.so'
strangers=$(sed -n 's/^maps //p' <<<"$output" | sort -u | while read -r file; do
    case $file in "$here"/lib/*) ;; *) [[ $(basename "$file") =~ $of_libc ]] || echo "$file" ;; esac
done)
same 'every library is its own or the C library'"'"'s' "$strangers" ''
same 'and there are some' "$([ "$(grep -c "^maps $here/lib/" <<<"$output")" -gt 20 ] && echo yes)" yes
check 'resumes' alone train.lua --epochs 3
says '24'
finish
