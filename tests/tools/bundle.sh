#!/bin/bash
# The folder that `make bundle` packs: ldlua with all it needs beside the C library, to be unpacked anywhere.
#
#   tests/tools/bundle.sh FOLDER PROGRAM PLUGIN      PLUGIN: the CUDA backend, or '' without it
#
# PROGRAM has been linked to look for libraries in lib/ beside it, before everywhere else (DT_RPATH, which holds for what
# the libraries draw in as well): so there is no launcher, and the program is started like any other, by srun and mpirun too.
# Libraries are those that the program has in memory after it has opened an HDF5 file and an archive, and what ldd adds; not
# the C library's own parts, which belong to the machine's kernel and loader, and nothing of CUDA, which the plug-in finds.
set -eu -o pipefail
export LC_ALL=C
folder=$1 program=$2 plugin=$3
root=$(cd "$(dirname "$0")/../.." && pwd)

complain() {
    echo "bundle: $*" >&2
    exit 1
}

# What a process of the program has mapped, and ldd's answer.
libraries() {
    LDLUA_ROOT=$root LD_CUDA_PLUGIN=/absent "$program" -e '
        pcall(ld.h5_open, "/absent")
        pcall(ld.images, "tests/fixtures/archives/gnu.tar")
        ld.terminal_mode()
        for line in io.lines "/proc/self/maps" do
          local file = line:match "(/%S+%.so[%.%d]*)$"
          if file then print(file) end
        end'
    ldd "$program" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }'
    if [ -n "$plugin" ]; then ldd "$plugin" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }'; fi
}

# Parts of the C library: they fit its loader alone.
of_libc='^(ld-linux.*|lib(c|m|mvec|dl|rt|pthread|resolv|util|anl|nsl|BrokenLocale|thread_db|nss_[a-z]*))\.so'

# The package a file comes from, where packages tell.
package_of() { # real path
    if command -v dpkg >/dev/null; then
        { dpkg -S "$1" || dpkg -S "${1#/usr}"; } 2>/dev/null | head -n 1 | sed 's/:.*//'
    elif command -v rpm >/dev/null; then
        rpm -qf --qf '%{NAME}\n' "$1" 2>/dev/null | head -n 1
    fi
}

copy_library() { # path; it is asked for by the name that it has in itself
    local real name package text
    real=$(readlink -f "$1")
    name=$(objdump -p "$real" | awk '$1 == "SONAME" { print $2 }')
    cp "$real" "$folder/lib/$(basename "$real")"
    chmod 644 "$folder/lib/$(basename "$real")"
    [ "${name:-$(basename "$real")}" = "$(basename "$real")" ] || ln -sf "$(basename "$real")" "$folder/lib/$name"
    package=$(package_of "$real")
    [ -n "$package" ] || complain "no package has $real, so its licence is not known"
    for text in "/usr/share/doc/$package/copyright" "/usr/share/licenses/$package"; do
        [ -e "$text" ] && break
    done
    [ -e "$text" ] || complain "the licence of $package is not in /usr/share/doc or /usr/share/licenses"
    if [ -d "$text" ]; then
        cat "$text"/* >"$folder/licenses/$package.txt"
    else
        cat "$text" >"$folder/licenses/$package.txt"
    fi
}

rm -rf "$folder"
mkdir -p "$folder/lib" "$folder/licenses"
cp "$program" "$folder/ldlua"
strip --strip-unneeded "$folder/ldlua"
cd "$root"
{ find lua recipes -type f -name '*.lua'; echo data/README.md data/vae-small.h5 data/ilsvrc2012_synsets.txt README.md; find docs -name '*.md'; } |
    tr ' ' '\n' | while read -r file; do
        mkdir -p "$folder/$(dirname "$file")"
        cp "$file" "$folder/$file"
    done
if [ -n "$plugin" ]; then
    cp "$plugin" "$folder/lib/ld_cuda.so"
    strip --strip-unneeded "$folder/lib/ld_cuda.so"
    # NVIDIA's terms for its runtime, which the plug-in contains
    for text in "${CUDA:-/usr/local/cuda}/EULA.txt" "${CUDA:-/usr/local/cuda}/LICENSE"; do
        [ -e "$text" ] && cp "$text" "$folder/licenses/cuda-runtime.txt" && break
    done
fi
list=$(libraries | sort -u)
for file in $list; do
    [[ $(basename "$file") =~ $of_libc ]] || copy_library "$file"
done
# Texts that the licences refer to.
if [ -d /usr/share/common-licenses ]; then
    mkdir -p "$folder/licenses/common"
    find /usr/share/common-licenses -maxdepth 1 -type f -exec cp {} "$folder/licenses/common/" \;
fi
# The newest version of the C library that any file asks for.
glibc=$(find "$folder/ldlua" "$folder/lib" -type f -exec objdump -T {} + 2>/dev/null | grep -o 'GLIBC_2\.[0-9.]*' | sort -V |
    tail -n 1 | sed 's/GLIBC_//')
cat >"$folder/BUNDLE.txt" <<END
ldlua, with the libraries it needs. Unpack it anywhere and start ./ldlua from wherever you are:

    /where/it/is/ldlua doctor                                  what this machine has
    /where/it/is/ldlua /where/it/is/recipes/celeba.lua --demo

It takes Linux on x86-64 with a C library (glibc) of version $glibc or newer: \`ldd --version\` tells. Nothing is installed and no
environment is needed. CUDA, for --device cuda:0, is the machine's: NVIDIA's driver, and cuDNN and cuBLASLt as a toolkit,
conda or Python's wheels bring them (pip install nvidia-cudnn-cu13 nvidia-cublas); LD_CUDA_PATH names folders to look in
first. The licences of the libraries in lib/ are in licenses/.
END
echo "bundle: $(find "$folder/lib" -type f | wc -l) libraries$([ -n "$plugin" ] || echo ', without CUDA'), glibc $glibc or newer"
