#!/bin/bash
# Start-up and sizes of ldlua, as lines for the driver: seconds from before the program is started until its first
# statement runs, ld loaded, twenty times; bytes of the program and of the core archive without symbols.
ldlua=${1:-./ldlua} archive=${2:-build/libld.a}
for _ in $(seq 20); do
    start=$EPOCHREALTIME
    "$ldlua" -e "io.write('start\t$start\t', ('%.6f\n'):format(ld.clock()))" || exit 1
done
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
strip -o "$scratch/program" "$ldlua" && printf 'bytes\tprogram\t%d\n' "$(stat -c %s "$scratch/program")"
[ -f "$archive" ] && strip -g -o "$scratch/archive" "$archive" &&
    printf 'bytes\tarchive\t%d\n' "$(stat -c %s "$scratch/archive")"
exit 0
