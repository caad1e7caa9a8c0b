#!/bin/bash
# What only a large set shows: an archive of a million tiny pictures is listed, encoded, killed ten times at random moments
# on the way, resumed, and compared with a store that was made in one go.
#
#   LDLUA=./ldlua tests/bench/million.sh [COUNT] [KILLS] [SECONDS BETWEEN KILLS AT MOST]
#
# Prints the time to list the archive, the memory of the list, pictures a second, the largest resident set, and whether the
# two stores are equal to the byte. Needs about 2 GB in build/.
cd "$(dirname "$0")/../.." || exit 1
ldlua=${LDLUA:-./ldlua} count=${1:-1000000} kills=${2:-10} most=${3:-20}
mkdir -p build && scratch=$(mktemp -d build/million-XXXXXX) || exit 1
trap 'kill -KILL "$child" 2>/dev/null; rm -rf "$scratch"' EXIT
child=
export XDG_CACHE_HOME=$PWD/$scratch/cache # no list and no timed choice from before

"$ldlua" tests/tools/make_tiny_archive.lua "$count" "$scratch/tiny.tar" || exit 1
printf '%d pictures in an archive of %d MB\n' "$count" $(($(stat -c %s "$scratch/tiny.tar") / 1000000))
cat "$scratch/tiny.tar" >/dev/null # read once

cat >"$scratch/list.lua" <<'LUA'
local ld = require 'ld'
local from = ld.clock()
local set = ld.images.open(arg[1], {size = 8})
io.write(('%s %d pictures in %.2f s, %.1f bytes a picture\n'):format(arg[2], set.count, ld.clock() - from,
  set.source:memory() / set.count))
LUA
"$ldlua" "$scratch/list.lua" "$scratch/tiny.tar" 'listed:      ' || exit 1
"$ldlua" "$scratch/list.lua" "$scratch/tiny.tar" 'from the list kept:' || exit 1

encode() { # store
    exec "$ldlua" recipes/imagenet_latents.lua --data "$scratch/tiny.tar" --out "$1" --size 16 --transform stretch \
        --batch 256 --least_psnr 0
}
peak() { # of a process, in MB, while it lasts
    local kb=0 now
    while now=$(awk '/^VmHWM/ { print $2 }' "/proc/$1/status" 2>/dev/null) && [ -n "$now" ]; do
        kb=$now
        sleep 1
    done
    echo $((kb / 1000))
}

# One go; its timed choices are those of all that follow.
start=$EPOCHREALTIME
(encode "$scratch/whole.h5") >"$scratch/whole.log" 2>&1 &
child=$!
largest=$(peak $child)
wait $child || { tail -n 5 "$scratch/whole.log"; exit 1; }
awk -v n="$count" -v a="$start" -v b="$EPOCHREALTIME" -v m="$largest" 'BEGIN {
    printf "in one go: %.0f s, %.0f pictures a second, largest resident set %d MB\n", b - a, n / (b - a), m }'

killed=0
while :; do
    (encode "$scratch/killed.h5") >"$scratch/killed.log" 2>&1 &
    child=$!
    if [ $killed -lt "$kills" ]; then
        sleep $((RANDOM % most + 1)).$((RANDOM % 1000))
        kill -KILL $child 2>/dev/null && killed=$((killed + 1))
        wait $child 2>/dev/null
        grep -h 'going on' "$scratch/killed.log"
        [ -f "$scratch/killed.h5" ] && break
    else
        wait $child || { tail -n 5 "$scratch/killed.log"; exit 1; }
        break
    fi
done
printf 'killed %d times; ' $killed
if cmp "$scratch/whole.h5" "$scratch/killed.h5"; then
    printf 'the stores are equal to the byte, %d MB\n' $(($(stat -c %s "$scratch/whole.h5") / 1000000))
else
    echo 'the stores DIFFER'
    exit 1
fi
