# Runs that are killed (signal 9) at random moments and started again end in the same bytes as one that was not.
# KILLS=50 for fifty of them (make test-kills).
. tests/shell/lib.sh

tmp=$TEST_TMP
kills=${KILLS:-3}
train="$LDLUA --threads 1 tests/tools/kill_training.lua"
RANDOM=${SEED:-$(date +%s)}
echo "seed $RANDOM"

start=${EPOCHREALTIME/[.,]/}
check 'the run that is left alone' $train "$tmp/whole"
says 'of 502 tensors, 130 images'
want=$(printf '%s\n' "$output" | grep '^sum ')
took=$((${EPOCHREALTIME/[.,]/} - start)) # microseconds

# A file in the making, or one that has its name while last.h5 is still the one before.
in_a_write() { # folder
    [ -n "$(ls -A "$1/checkpoints" 2>/dev/null | grep 'tmp$')" ] && return 0
    local newest
    newest=$(ls "$1/checkpoints" 2>/dev/null | grep '^[0-9]*\.h5$' | tail -n 1)
    [ -n "$newest" ] && ! [ "$1/checkpoints/$newest" -ef "$1/last.h5" ]
}

killed=0 in_writes=0 equal=0 early=0 tries=0
while [ $killed -lt "$kills" ] && [ $tries -lt $((4 * kills)) ]; do
    tries=$((tries + 1))
    run=$tmp/killed-$tries
    at=$((took * (RANDOM * 32768 + RANDOM) / 1073741824))
    { $train "$run" >"$tmp/out" 2>&1 & } 2>/dev/null
    pid=$!
    sleep "$(printf '%d.%06d' $((at / 1000000)) $((at % 1000000)))"
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    if [ $? -ne 137 ]; then # it had ended: runs take less time than the first one did
        rm -rf "$run"
        took=$at
        continue
    fi
    killed=$((killed + 1))
    [ -e "$run/last.h5" ] || early=$((early + 1))
    if in_a_write "$run"; then in_writes=$((in_writes + 1)); fi
    check "killed after $at microseconds, and again" $train "$run"
    got=$(printf '%s\n' "$output" | grep '^sum ')
    same "killed after $at microseconds" "$got" "$want"
    [ "$got" = "$want" ] && equal=$((equal + 1))
    same "killed after $at microseconds: no file in the making" "$(ls -A "$run/checkpoints" | grep -c 'tmp$')" 0
    rm -rf "$run"
done
echo "$killed kills, $in_writes of them while a checkpoint was written, $early before the first; $equal byte-equal endings"
same 'all were killed in time' "$killed" "$kills"
if [ "$kills" -ge 20 ]; then check 'kills came while checkpoints were written' test "$in_writes" -gt 0; fi
finish
