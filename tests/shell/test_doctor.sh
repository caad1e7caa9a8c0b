#!/bin/bash
# `ldlua doctor` on machines that lack something, and what the program says then: a driver of other versions that stands in
# (tests/cuda/stub.c). The prompt survives each.
. tests/shell/lib.sh

tmp=$TEST_TMP
stubs=$PWD/build/tests/stub
export LDLUA_ROOT=${LDLUA_ROOT:-$PWD}
unset LD_CUDA_PLUGIN CUDA_VISIBLE_DEVICES

line() { # what the doctor says of a word
    sed -n "s/^  $1  *//p" <<<"$output"
}

# ---- without CUDA ----

mkdir -p "$tmp/bin"
cp "$LDLUA" "$tmp/bin/ldlua"
check 'doctor' env OMP_NUM_THREADS=3 XDG_CACHE_HOME="$tmp" "$tmp/bin/ldlua" doctor
for what in processor 'instruction set' memory 'Lua files' 'disk, this folder' terminal oneDNN HDF5 archives plug-in; do
    says "  $what "
done
same 'threads' "$(line threads)" "3 on $(getconf _NPROCESSORS_ONLN) processors; OMP_NUM_THREADS=3"
same 'the folder of Lua files' "$(line 'Lua files')" "$(cd "$LDLUA_ROOT" && pwd -P)"
same 'libraries are files' "$([ -f "$(line libdnnl)" ] && [ -f "$(line libhdf5)" ] && echo yes)" yes
says ' free in '"$tmp"
XDG_CACHE_HOME=/proc check 'a cache that cannot be written' "$tmp/bin/ldlua" doctor
[ "$(id -u)" = 0 ] || says 'cannot be written to'
XDG_CACHE_HOME=$tmp/none check 'a cache that is not there' "$tmp/bin/ldlua" doctor
says "$tmp/none is not there yet"

# ---- drivers that do not do ----

if [ -z "${LD_TEST_PLUGIN:-}" ] || [ ! -e "$stubs/cuda.so" ]; then
    skip 'what is said of a driver' 'the CUDA plug-in is not built'
    finish
fi
export LD_CUDA_PLUGIN=$LD_TEST_PLUGIN LD_CUDA_PATH=$tmp/driver
mkdir -p "$tmp/driver"

# The driver of the environment is refused with the text on the command line, at the prompt, and by the doctor.
refused() { # name text
    refuse "$1" "$LDLUA" --device cuda:0 -e 'print(1)'
    says "ldlua: device: $2"
    same "$1: one line" "$(wc -l <<<"$output")" 1
    check "$1: the prompt survives" sh -c "printf '%s\n' 'x = ld.ones(2)' 'x:cuda()' 'x:cuda()' 'x:sum():item()' 'os.exit(0, true)' |
        \"\$LDLUA\" -i -e ''"
    same "$1: twice" "$(grep -cF "device: $2" <<<"$output")" 2
    same "$1: and computes" "$(grep -cx '> *2' <<<"$output")$(grep -cx 2 <<<"$output")" 01
    check "$1: the doctor" "$LDLUA" doctor
    says "$2"
}

cp "$stubs/old_cuda.so" "$tmp/driver/libcuda.so.1"
refused 'a driver without the functions' "the NVIDIA driver will not do: $tmp/driver/libcuda.so.1 is too old: it lacks cu"
cp "$stubs/cuda.so" "$tmp/driver/libcuda.so.1"
export STUB_DRIVER=11080
refused 'an old driver' 'the NVIDIA driver is too old: it knows CUDA 11.8, this ldlua was built with '
export STUB_DRIVER=99000
refused 'no card' 'the NVIDIA driver finds no card'
export CUDA_VISIBLE_DEVICES=
refused 'no card that is visible' "the NVIDIA driver shows no card; CUDA_VISIBLE_DEVICES is ''"
unset CUDA_VISIBLE_DEVICES
export STUB_INIT=803
refused 'a driver of two versions' 'the NVIDIA driver does not start: system has unsupported'
says "  driver                     CUDA 99.0 ($tmp/driver/libcuda.so.1)"
says '(error 803); the kernel'"'"'s part and libcuda.so.1 are of different versions'
unset STUB_INIT
refuse 'no such device' "$LDLUA" --device cuda:x -e 'print(1)'
says "device: there is no 'cuda:x'; known: cpu, cuda, cuda:0, ..."

# ---- cuDNN and cuBLASLt ----

cp "$stubs/cudnn.so" "$tmp/driver/libcudnn.so.9"
STUB_CUDNN=91200 check 'a cuDNN where LD_CUDA_PATH says' "$LDLUA" doctor
says "  cuDNN                      9.12.0 ($tmp/driver/libcudnn.so.9)"
STUB_CUDNN=8907 check 'one that is too old' "$LDLUA" doctor
found=$(line cuDNN)
case $found in
*"$tmp/driver/libcudnn.so.9 is too old: it is 8.9.7, and 9.0.0 or newer is needed"*) pass ;;
9.*"($tmp"*) fail 'one that is too old' "was taken: $found" ;;
9.*) pass ;; # the machine has another
*) fail 'one that is too old' "the doctor says: $found" ;;
esac
finish
