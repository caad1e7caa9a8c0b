#!/bin/bash
# Ranks: the same weights from 1, 2, 3, 4 and 7 of them, resumed on another number, with unequal beginnings refused, and a
# rank that dies. The program that is trained: tests/tools/ranks_training.lua.
. tests/shell/lib.sh

tmp=$TEST_TMP
training=tests/tools/ranks_training.lua
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 LDLUA_ROOT=${LDLUA_ROOT:-$PWD}

ranks() { # how many, then arguments of the training; sums of convolutions' gradients are cut by threads, so: one
    local n=$1
    shift
    timeout 300 mpirun --oversubscribe -np "$n" "$LDLUA" --threads 1 $training "$@"
}

total() { # the line that tells what was trained
    printf '%s\n' "$output" | grep '^sum '
}

# ---- one process needs no MPI ----

mkdir -p "$tmp/bin"
cp "$LDLUA" "$tmp/bin/ldlua"
check 'one process, micro-batches' "$LDLUA" --threads 1 $training "$tmp/one" 2 2
alone=$(total)
OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2 refuse 'ranks without the plug-in' "$tmp/bin/ldlua" $training "$tmp/none" 1
says 'ranks: 2 were started, but there is no '
says 'ldlua was built without MPI'
echo 'no library' >"$tmp/text.so"
LD_MPI_PLUGIN=$tmp/text.so OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 refuse 'a plug-in that is no library' \
    "$LDLUA" $training "$tmp/none" 1
says 'ranks: the plug-in for MPI does not load: '

if [ -z "${LD_TEST_MPI:-}" ] || ! command -v mpirun >/dev/null; then
    skip 'ranks' 'ld_mpi.so was not built, or there is no mpirun'
    finish
fi

# ---- the same weights ----

for n in 1 2 3 4 7; do
    check "$n ranks" ranks $n "$tmp/equal-$n" 2 2
    same "weights of $n ranks" "$(total)" "$alone"
    same "one voice of $n ranks" "$(printf '%s\n' "$output" | grep -c 'finished: 74 images')" 1
    same "one log of $n ranks" "$(grep -c '"loss"' "$tmp/equal-$n/log.jsonl")" 10
done
check 'another cut gives other weights' ranks 2 "$tmp/cut" 2 4
[ "$(total)" != "$alone" ] && pass || fail 'another cut' 'the test cannot tell weights apart'

check 'two ranks stop' ranks 2 "$tmp/moved" 2 2 24
says 'stopped at '
check 'one goes on' "$LDLUA" --threads 1 $training "$tmp/moved" 2 2 48
says 'stopped at '
check 'three end it' ranks 3 "$tmp/moved" 2 2
same 'weights after 2, 1 and 3 ranks' "$(total)" "$alone"

# ---- what goes wrong ----

refuse 'unequal weights' ranks 3 "$tmp/unequal" 1 2 999 7
says 'ranks: the network of rank 2 is not that of rank 0'
dies() {
    LD_TEST_DIE=24 ranks 3 "$tmp/dead" 2 2
    [ $? -eq 137 ] # mpirun tells the signal
}
check 'a rank that dies' dies
says "the others do not answer, and the end was asked for; the checkpoint $tmp/dead/last.h5 has 24 images"
check 'goes on after a death' ranks 2 "$tmp/dead" 2 2
same 'weights after a death' "$(total)" "$alone"
cat >"$tmp/wrong.lua" <<'EOF'
local ld = require 'ld'
local net = ld.nn.linear{in_features = 2, out_features = 2}
local run = ld.run(arg[1], {model = net, optim = ld.optim.adamw(net:parameters())})
for batch in run:batches({count = 8}, 4, 1) do run:step(function() return net(ld.randn(4, 2)):sum() end) end
EOF
refuse 'a step that does not take its part' timeout 60 mpirun --oversubscribe -np 2 "$LDLUA" "$tmp/wrong.lua" "$tmp/wrong"
says 'run:step(function(batch) ... end)'

# ---- samples, and work for one ----

cat >"$tmp/split.lua" <<'EOF'
local ld = require 'ld'
local where = ld.ranks.first(function()
  if ld.ranks.rank() == 0 then ld.core.write_file(arg[1], 'once') end
  return io.open(arg[1]):read('*a')
end)
local all = ld.ranks.split(5, function(first, count)
  local rows = {}
  for i = 1, count do rows[i] = ld.full({1, 2, 3, 3}, first + i) end
  return ld.concat(rows, 1)
end)
local sums = {}
for i = 1, 5 do sums[i] = all:select(1, i):sum():item() end
if ld.ranks.rank() == ld.ranks.count() - 1 then
  io.stderr:write(where, ' ', table.concat(all.shape, 'x'), ': ', table.concat(sums, ' '), '\n')
end
EOF
check 'work for one, and shared work' timeout 60 mpirun --oversubscribe -np 3 "$LDLUA" "$tmp/split.lua" "$tmp/once"
says 'once 5x2x3x3: 18 36 54 72 90'
finish
