#!/bin/sh
# What a build needs, checked; what is missing, installed from Debian's or Ubuntu's packages.
#
#   tests/tools/deps.sh [--config FILE] GROUP...      GROUP: build, test, check, fuzz
#
# Nothing is installed, and no right is asked for, when all of it is here already. Packages come through apt-get, with
# sudo when this is not root. --config writes compiler and linker flags of the libraries as make variables to FILE.
# Exit status: 0 when everything named is here, 1 otherwise, after one message.
set -u
export LC_ALL=C

config=
groups=
while [ $# -gt 0 ]; do
    case $1 in
    --config)
        config=${2:?--config takes a file}
        shift
        ;;
    build | test | check | fuzz) groups="$groups $1" ;;
    *)
        echo "deps.sh: unknown argument '$1'; known: --config FILE, build, test, check, fuzz" >&2
        exit 1
        ;;
    esac
    shift
done

# One line a need: group, how it is looked for, what is looked for, the package that brings it.
# pc: any of these pkg-config names; header: the compiler finds it; command: it is on the path; fuzzer: it links
# libFuzzer, which is a package of its own where the compiler does not draw it in
needs() {
    cat <<'EOF'
build command make                make
build command gcc                 gcc
build command pkg-config          pkg-config
build header  stdio.h             libc6-dev
build pc      luajit              libluajit-5.1-dev
build header  dnnl.h              libdnnl-dev
build pc      hdf5-serial|hdf5    libhdf5-dev
build pc      libpng              libpng-dev
build pc      libjpeg             libjpeg-dev
build pc      libwebp             libwebp-dev
build pc      libedit             libedit-dev
build pc      libcjson            libcjson-dev
build pc      libarchive          libarchive-dev
build pc      lmdb                liblmdb-dev
build pc      zlib                zlib1g-dev
build pc      glib-2.0            libglib2.0-dev
build pc      chafa               libchafa-dev
test  header  setjmp.h            libc6-dev
test  cmocka  cmocka.h            libcmocka-dev
test  command g++                 g++
test  command mpicc               libopenmpi-dev
test  command mpirun              openmpi-bin
test  command xz                  xz-utils
check command luajit              luajit
check command luacheck            lua-check
check command cppcheck            cppcheck
check command clang-format|clang-format-14  clang-format
fuzz  command clang               clang
fuzz  fuzzer  clang               libclang-rt-dev
EOF
}

compiler() {
    if [ -n "${CC:-}" ]; then
        echo "$CC"
    elif command -v gcc >/dev/null; then
        echo gcc
    else
        echo cc
    fi
}

header_is_here() { # header line before it
    printf '%s#include <%s>\n' "${2:-}" "$1" | $(compiler) -E -x c - >/dev/null 2>&1
}

# Without the compiler nothing is known of its parts: they are looked for once it is here.
links_fuzzer() { # compiler
    command -v "$1" >/dev/null || return 0
    probe=$(mktemp)
    echo 'int LLVMFuzzerTestOneInput(const char *p, unsigned long n) { return p && n ? 0 : 0; }' |
        "$1" -x c - -o "$probe" -fsanitize=fuzzer,address >/dev/null 2>&1
    status=$?
    rm -f "$probe"
    return $status
}

is_here() { # kind names
    case $1 in
    header) header_is_here "$2" && return 0 ;;
    cmocka) header_is_here "$2" '#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
' && return 0 ;;
    fuzzer) links_fuzzer "$2" && return 0 ;;
    esac
    for name in $(echo "$2" | tr '|' ' '); do
        case $1 in
        command) command -v "$name" >/dev/null && return 0 ;;
        pc) pkg-config --exists "$name" 2>/dev/null && return 0 ;;
        esac
    done
    return 1
}

missing() { # the packages, one line, each once
    needs | while read -r group kind names package; do
        case " $groups " in
        *" $group "*) is_here "$kind" "$names" || echo "$package" ;;
        esac
    done | sort -u | tr '\n' ' ' | sed 's/ $//'
}

ask() { # commands to tell the user
    {
        echo "ldlua: packages are missing on this machine: $1"
        echo "       $2 Please have this run, then start again:"
        echo
        echo "    apt-get update && apt-get install -y --no-install-recommends $1"
        echo
    } >&2
    exit 1
}

install() { # packages
    sudo=
    command -v apt-get >/dev/null || ask "$1" "There is no apt-get here; these are the names on Debian and Ubuntu."
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            ask "$1" "Installing them takes root, and there is no sudo."
        elif ! sudo -n true 2>/dev/null && ! { true </dev/tty && sudo -v; } 2>/dev/null; then
            ask "$1" "Installing them takes root, and sudo does not allow it without a password."
        fi
        sudo=sudo
    fi
    echo "ldlua: installing $1" >&2
    # An unreachable third-party source makes the update fail although Debian's own lists are there: install decides.
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 update >&2 ||
        echo "ldlua: apt-get update failed; going on with the package lists at hand" >&2
    # shellcheck disable=SC2086 # a list of packages
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 install -y \
        --no-install-recommends $1 >&2 || ask "$1" "apt-get could not install them (its message is above)."
}

# The name under which programs load the library that these linker flags draw in: libhdf5_serial.so.103
loaded_name() { # how it begins, flags...
    begin=$1
    shift
    probe=$(mktemp)
    echo 'int main(void) { return 0; }' | "${CC:-cc}" -x c - -o "$probe" -Wl,--no-as-needed "$@" >&2 &&
        LC_ALL=C readelf -d "$probe" | sed -n "s/.*(NEEDED).*\[\($begin[^]]*\)\].*/\1/p" | head -n 1
    rm -f "$probe"
}

write_config() { # file
    hdf5='hdf5-serial'
    pkg-config --exists $hdf5 2>/dev/null || hdf5=hdf5
    core="libpng libjpeg libwebp libcjson lmdb zlib"
    # shellcheck disable=SC2046 # a list of flags
    hdf5_name=$(loaded_name libhdf5 $(pkg-config --libs $hdf5))
    [ -n "$hdf5_name" ] || ask libhdf5-dev "The compiler does not link $hdf5."
    # shellcheck disable=SC2046
    archive_name=$(loaded_name libarchive $(pkg-config --libs libarchive))
    [ -n "$archive_name" ] || ask libarchive-dev "The compiler does not link libarchive."
    # shellcheck disable=SC2046
    chafa_name=$(loaded_name libchafa $(pkg-config --libs chafa))
    [ -n "$chafa_name" ] || ask libchafa-dev "The compiler does not link libchafa."
    mkdir -p "$(dirname "$1")"
    # shellcheck disable=SC2086 # a list of names
    cat >"$1.new" <<EOF
# Written by tests/tools/deps.sh
CORE_CFLAGS := $(pkg-config --cflags $hdf5 libarchive chafa $core)
CORE_LIBS := $(pkg-config --libs $core) -ldnnl
HDF5 := $hdf5_name
LIBARCHIVE := $archive_name
LIBCHAFA := $chafa_name
HOST_CFLAGS := $(pkg-config --cflags luajit libedit)
HOST_LIBS := $(pkg-config --libs luajit libedit)
EOF
    mv "$1.new" "$1"
}

lacking=$(missing)
if [ -n "$lacking" ]; then
    install "$lacking"
    more=$(missing) # a part of a compiler that has just come
    [ -z "$more" ] || [ "$more" = "$lacking" ] || install "$more"
    lacking=$(missing)
    [ -z "$lacking" ] || ask "$lacking" "They were installed, yet what they bring is not found."
fi
[ -z "$config" ] || write_config "$config"
