#!/bin/bash
# A run that is asked while it trains: nothing it is asked changes it, what it is told to change comes again in a resume,
# and nobody but its owner is heard.
. tests/shell/lib.sh

# train.lua FOLDER EPOCHS PACE: a small training with all that a run has; every step takes PACE milliseconds.
cat >"$TEST_TMP/train.lua" <<'LUA'
local ld = require 'ld'
local folder, epochs, pace, attach = ...
local data = dofile('tests/tools/run_training.lua').data
ld.seed(4)
local net = ld.models.classifier{in_channels = 2, channels = {4, 6}, blocks = {1}, classes = 3, dropout = 0.3}
local optim = ld.optim.adamw(net:parameters(), {lr = 1e-2})
local run = ld.run(folder, {model = net, optim = optim, schedule = ld.schedule.one_cycle{max = 1e-2}, ema = 0.9,
                            clip = 1, seed = 6, log_every = 3, save_minutes = 600, report_minutes = 0,
                            attach = attach ~= 'no'})
run:draws(function(n)
  local y = ld.softmax(net(ld.noise({n, 2, 8, 8}, {seed = 1}) + ld.randn(n, 2, 8, 8)), 2)
  return y:reshape(n, 3, 1, 1):expand(n, 3, 8, 8)
end, function(i) net(ld.noise({8, 2, 8, 8}, {seed = 5, first = 8 * i})) end)
for _ in run:batches(data, 8, tonumber(epochs)) do
  local due = ld.clock() + tonumber(pace) / 1000
  run:step(function(b) return ld.cross_entropy(run.model(b.x + ld.randn(b.x.shape) * 0.1), b.label) end)
  if due > ld.clock() then os.execute(('sleep %.3f'):format(due - ld.clock())) end
end
run:finish()
LUA

# A hash of all tensors of a checkpoint, clock and generator.
cat >"$TEST_TMP/sum.lua" <<'LUA'
local ld = require 'ld'
local c = ld.checkpoint.open(...)
local parts = {c.record.images, c.record.generator_draws}
local names = c.file:list()
table.sort(names)
for _, name in ipairs(names) do parts[#parts + 1] = name .. c.file:read(name):bytes() end
print(ld.sha256(table.concat(parts, '\n')))
LUA

train() { "$LDLUA" "$TEST_TMP/train.lua" "$TEST_TMP/$@"; } # folder, epochs, pace
start() { # what it prints goes into this file, then as train; its process is $pid
    "$LDLUA" "$TEST_TMP/train.lua" "$TEST_TMP/$2" "${@:3}" >"$TEST_TMP/$1" 2>&1 &
    pid=$!
}
sum() { "$LDLUA" "$TEST_TMP/sum.lua" "$TEST_TMP/$1/last.h5"; }
ask() { "$LDLUA" attach "$TEST_TMP/$1" "${@:2}"; }

wait_for() { # folder: until it answers
    local i
    for i in $(seq 200); do
        ask "$1" loss >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    fail "$1" 'no answer in 20 s'
    return 1
}

check 'trains unattended' train plain 80 0
unattended=$(sum plain)

# ---- 200 requests ----

start asked.txt asked 80 15
wait_for asked
for i in $(seq 20); do
    printf '%s\n' loss 'log 3' lr 'eval net:count()' 'sample 2' checkpoint 'sample 2 live' 'eval run.images' \
        'eval net:parameters()[1]:zero_()' 'eval ld.randn(3), net:train(false)'
done >"$TEST_TMP/requests"
check '200 requests are answered' sh -c '"$1" attach "$2" <"$3"' - "$LDLUA" "$TEST_TMP/asked" "$TEST_TMP/requests"
same 'counts parameters' "$(printf '%s\n' "$output" | grep -c '^850$')" 20
same 'draws' "$(printf '%s\n' "$output" | grep -c '/samples/attach-')" 40
same 'puts weights back' "$(printf '%s\n' "$output" | grep -c 'they are put back')" 20
same 'writes checkpoints' "$(printf '%s\n' "$output" | grep -c 'last.h5 at')" 20
check 'pauses' ask asked pause
first=$(ask asked eval run.images)
sleep 0.3
same 'stands still' "$(ask asked eval run.images)" "$first"
check 'goes on' ask asked go
wait $pid
same 'ends well' $? 0
same 'a run that was asked is the one that was not' "$(sum asked)" "$unattended"
check 'its pictures are there' test -s "$(ls "$TEST_TMP"/asked/samples/attach-ema-*.png | head -n 1)"
check 'no socket stays' test ! -e "$TEST_TMP/asked/attach.sock"
refuse 'nobody trains there now' ask asked loss
says 'nobody is training in'

# ---- a learning rate, and a run that is killed ----

start other.txt told 80 15
wait_for told
same 'only the owner may' "$(stat -c %a "$TEST_TMP/told/attach.sock")" 600
check 'checkpoint' ask told checkpoint
check 'learning rate' ask told lr 2e-3
says 'learning rate 0.002 from'
sleep 0.3
check 'and what it is' ask told lr
same 'the new one' "$output" 'learning rate 0.002'
check 'half the schedule' ask told lr '*0.5'
refuse 'not a number' ask told lr fast
says "lr: 'fast'"
refuse 'unknown' ask told faster
says "unknown request 'faster'; help lists them"
refuse 'assigns nothing' ask told eval 'run.images = 3'
refuse 'sets no globals' ask told eval '(function() y = 1 end)()'
says 'cannot be set'
kill -9 $pid
wait $pid 2>/dev/null
check 'a killed run leaves its socket' test -S "$TEST_TMP/told/attach.sock"
refuse 'which nobody serves' ask told loss
mkdir "$TEST_TMP/again"
grep '"learning_rate"' "$TEST_TMP/told/log.jsonl" >"$TEST_TMP/again/log.jsonl"
same 'both changes are in the log' "$(wc -l <"$TEST_TMP/again/log.jsonl")" 2
start told.txt told 80 15
wait_for told
check 'a recipe of one more' ask told lr recipe
grep '"serial":3' "$TEST_TMP/told/log.jsonl" >>"$TEST_TMP/again/log.jsonl"
wait $pid
same 'resumes' $? 0
check 'and says what it makes again' grep -q 'learning rate 0.002 from .* as it was asked for' "$TEST_TMP/told.txt"
check 'the same changes from the beginning' train again 80 0
same 'the same weights' "$(sum told)" "$(sum again)"
if [ "$(sum told)" != "$unattended" ]; then pass; else fail 'other weights' 'the learning rate changed nothing'; fi

# ---- stop, and who is heard ----

start stopped.txt stopped 4000 15
wait_for stopped
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null &&
    setpriv --reuid=65534 --clear-groups test -x "$LDLUA" -a -x "$TEST_TMP/stopped"; then
    other="setpriv --reuid=65534 --clear-groups env HOME=/nonexistent"
    refuse 'another user' $other "$LDLUA" attach "$TEST_TMP/stopped" stop
    says 'Permission denied'
    chmod 666 "$TEST_TMP/stopped/attach.sock"
    refuse 'another user, though the mode lets him' $other "$LDLUA" attach "$TEST_TMP/stopped" stop
    says 'does not answer this user'
else
    skip 'another user is refused' 'needs root, setpriv, and a folder that others can enter'
fi
check 'pauses' ask stopped pause
check 'stops in a pause' ask stopped stop
wait $pid
same 'ends well' $? 0
check 'says why' grep -q 'asked through attach: stopped at' "$TEST_TMP/stopped.txt"
start stopped.txt stopped 4000 15
wait_for stopped
ask stopped pause >/dev/null
kill -TERM $pid
wait $pid
same 'a signal ends a pause' $? 0

# ---- what is in the way ----

mkdir -p "$TEST_TMP/file"
echo precious >"$TEST_TMP/file/attach.sock"
check 'a file of that name is left alone' train file 1 0
says 'nobody can attach to this run'
same 'it is' "$(cat "$TEST_TMP/file/attach.sock")" precious
deep=$(printf 'deep/%.0s' $(seq 40))
start other.txt "$deep" 4000 15
wait_for "$deep" # a longer path than a socket's name can be
check 'stops' ask "$deep" stop
wait $pid
start other.txt silent 4000 15 no
sleep 1
check 'attach = false makes no socket' test ! -e "$TEST_TMP/silent/attach.sock"
kill -TERM $pid
wait $pid
refuse 'no folder' ask absent loss
says 'cannot open'

finish
