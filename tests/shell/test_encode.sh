#!/bin/bash
# Encoding that is killed at random moments and goes on: the store must come out byte for byte as an uninterrupted one,
# with the ways of convolution timed, shards, mirrored latents and bad pictures. And stopping in order.
. tests/shell/lib.sh

tmp=$TEST_TMP
export LD_TUNE=1 XDG_CACHE_HOME=$tmp/cache # the choices are made by whichever run comes first, killed or not

cat >"$tmp/make.lua" <<'LUA'
local ld = require 'ld'
local folder = os.getenv 'TEST_TMP' .. '/faces/'
for k = 0, 1 do ld.core.make_dirs(folder .. k) end
for i = 1, 12 do
  ld.save_image(ld.faces(1, {size = 64, first = i})[1], folder .. i % 2 .. '/' .. i .. '.png')
end
LUA
check 'pictures' "$LDLUA" "$tmp/make.lua"
for k in 0 1; do
    for f in "$tmp/faces/$k"/*.png; do
        for copy in a b c d e; do cp "$f" "${f%.png}$copy.png"; done
    done
done
head -c 500 "$tmp/faces/0/2.png" >"$tmp/faces/0/cut.png"
echo none >"$tmp/faces/1/none.png"

encode=("$LDLUA" recipes/imagenet_latents.lua --data "$tmp/faces" --size 64 --batch 8 --shards 2 --mirrored
    --save-seconds 0)

same_files() { # name
    local f
    for f in store.h5 store-000.h5 store-001.h5 store.h5.bad.txt; do
        if cmp -s "$tmp/killed/$f" "$tmp/whole/$f"; then
            pass
        else
            fail "$1" "killed/$f and whole/$f differ"
        fi
    done
}

milliseconds() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# Runs the encoding for at most $1 milliseconds, then kills it. The shell keeps quiet about that.
killed_after() {
    exec 2>/dev/null
    timeout -s KILL "$(($1 / 1000)).$(printf '%03d' $(($1 % 1000)))" \
        "${encode[@]}" --out "$tmp/killed/store.h5" >"$tmp/log" 2>&1
    echo $?
}

# At random moments of the time that a whole run took last; until that is known, of a time that grows. The first run that
# comes so far makes the choices, and is likely to be killed.
kills=0 resumed=0 span=1000 rounds=0
while [ $rounds -lt 60 ] && { [ $kills -lt 10 ] || [ $resumed -lt 3 ]; }; do
    rounds=$((rounds + 1)) begun=$(milliseconds)
    status=$(killed_after $((50 + RANDOM % span)))
    if grep -q 'going on: ' "$tmp/log"; then resumed=$((resumed + 1)); else span=$((span * 5 / 4)); fi
    if [ "$status" -eq 137 ]; then
        kills=$((kills + 1))
    elif [ "$status" -eq 0 ]; then # it ended before
        span=$(($(milliseconds) - begun))
        [ -d "$tmp/whole" ] || "${encode[@]}" --out "$tmp/whole/store.h5" >"$tmp/log" 2>&1
        same_files "after $kills kills"
        rm -r "$tmp/killed"
    else
        fail 'killed runs go on' "exit status $status:"
        tail -n 5 "$tmp/log"
        break
    fi
done
if [ $kills -ge 10 ]; then pass; else fail 'ten runs are killed' "$kills of $rounds were"; fi
if [ $resumed -ge 3 ]; then pass; else fail 'runs go on' "$resumed of $rounds found rows of an earlier one"; fi
[ -d "$tmp/whole" ] || check 'uninterrupted' "${encode[@]}" --out "$tmp/whole/store.h5"
check 'the last one ends' "${encode[@]}" --out "$tmp/killed/store.h5"
same_files 'after ten kills'
same 'two bad pictures are listed' "$(cut -f 1 "$tmp/whole/store.h5.bad.txt" | tr '\n' ' ')" '0/cut.png 1/none.png '
same 'nothing is left over' "$(ls -A "$tmp/killed")" "$(ls -A "$tmp/whole")"
check 'verified' "${encode[@]}" --out "$tmp/killed/store.h5" --verify 20
says 'verified 20 rows'

# ---- stopped in order ----

"${encode[@]}" --out "$tmp/stopped/store.h5" >"$tmp/log" 2>&1 &
pid=$!
for _ in $(seq 200); do # until the loop runs
    grep -q 'readers, ' "$tmp/log" && break
    sleep 0.05
done
kill -TERM $pid
wait $pid
same 'a run that is asked to stop ends well' $? 0
output=$(cat "$tmp/log")
ld_name='SIGTERM'
says 'SIGTERM: stopped with '
says 'of 74 pictures encoded. Run the same command again to go on.'
check 'and goes on' "${encode[@]}" --out "$tmp/stopped/store.h5"
if cmp -s "$tmp/stopped/store-001.h5" "$tmp/whole/store-001.h5"; then pass; else fail 'stopped' 'another store'; fi

finish
