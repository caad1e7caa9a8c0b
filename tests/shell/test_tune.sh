#!/bin/bash
# Timed choices of convolution: the file, what runs compute with it, the switches. The cache folder is the test's own.
. tests/shell/lib.sh

unset LD_TUNE LD_CONV
export XDG_CACHE_HOME=$TEST_TMP/cache
file=$XDG_CACHE_HOME/ldlua/tune.txt

lacks() { # text
    case $output in
    *"$1"*)
        fail "$ld_name" "the output should not have '$1':"
        show_output
        ;;
    *) pass ;;
    esac
}

differs() { # name one other
    if [ "$2" != "$3" ]; then pass; else fail "$1" "both are '$2'"; fi
}

exists() { # name path
    if [ -e "$2" ]; then pass; else fail "$1" "there is no $2"; fi
}

absent() { # name path
    if [ -e "$2" ]; then fail "$1" "there is a $2"; else pass; fi
}

# train.lua folder epochs [save|kept] [deterministic] [plan]: 4 steps an epoch; `save` ends two steps behind a checkpoint
# in the middle, `kept` is killed right after it. The last line is a hash of weights, optimiser and averages, the one
# before says what was chosen.
train=$TEST_TMP/train.lua
cat >"$train" <<'EOF'
local ffi = require 'ffi'
local ld = require 'ld'
local nn = ld.nn
ffi.cdef 'int kill(int pid, int sig); int getpid(void);'
local has = {}
for i = 3, #arg do has[arg[i]] = true end
ld.seed(1)
local function conv(from, to, up)
  return nn.conv2d{in_channels = from, out_channels = to, kernel = 3, padding = 1, upsample = up}
end
local Net = nn.class('tuned', function(self)
  self.body = nn.sequential{conv(3, 32), nn.silu(), conv(32, 32), nn.silu(), conv(32, 32, true), nn.silu(), conv(32, 3)}
end)
function Net:forward(x) return self.body(x) end
local net = Net{}
local data = {count = 32, name = 'noise', get = function(_, indices, first)
  return {x = ld.noise({#indices, 3, 8, 8}, {seed = 3, first = first})}
end}
local run = ld.run(arg[1], {model = net, optim = ld.optim.adamw(net:parameters(), {lr = 1e-3}), ema = 0.9, quiet = true,
                            plan = has.plan or false, deterministic = has.deterministic or nil})
local steps = 0
for batch in run:batches(data, 8, tonumber(arg[2])) do
  run:step(function() return ld.mse(net(batch.x), ld.upsample_nearest(batch.x)) end)
  steps = steps + 1
  if has.save and steps == 6 then run:save() end
  if has.kept and steps == 6 then run:save() ffi.C.kill(ffi.C.getpid(), 9) end
  if has.save and steps == 8 then os.exit(0, true) end
end
run:finish()
local tune = ld.tune()
print('on', tune.on, 'choices', #tune.choices)
local c, text = ld.checkpoint.open(arg[1] .. '/last.h5'), {}
for _, name in ipairs(c.file:list()) do
  for _, value in ipairs(c.file:read(name):reshape(-1):tolist()) do text[#text + 1] = ('%s %.17g'):format(name, value) end
end
print(ld.sha256(table.concat(text, '\n')))
EOF

runs=0
training() { # name epochs words... : sets output, folder, hash
    folder=$TEST_TMP/run-$((runs += 1))
    check "$1" "$LDLUA" ${options:-} "$train" "$folder" "${@:2}"
    hash=${output##*$'\n'}
}

# ---- the file, and exact results with it ----

training 'a run makes choices' 4
says $'on\ttrue\tchoices\t'
lacks $'choices\t0'
first=$hash chosen=$(head -n -1 <<<"$output")
exists 'and writes them' "$file"
says "$(($(wc -l <"$file") - 1))"
same 'the first line names program and libraries' "$(head -n 1 "$file" | grep -cE '^ldlua [0-9.]+ tune 1; .*; oneDNN')" 1
for kind in conv conv_dx conv_dw up_conv up_conv_dx up_conv_dw; do
    same "has choices of $kind" "$(grep -cE "^$kind,8x[0-9,x]*,stride1x1,pad1\.1\.1\.1,threads[0-9]+ [a-z]+ [a-z]+ [0-9.]+ " \
        "$file" | sed 's/[1-9][0-9]*/some/')" some
done
before=$(cat "$file")
training 'a second run from the start' 4
same "$ld_name: the same to the bit" "$hash" "$first"
same "$ld_name: the same choices" "$(head -n -1 <<<"$output")" "$chosen"
same "$ld_name: nothing is timed again" "$(cat "$file")" "$before"

rm "$file"
training 'a run that is cut short, with choices of its own' 4 save
exists 'writes its choices' "$file"
check 'and is resumed by another process' "$LDLUA" "$train" "$folder" 4
resumed=${output##*$'\n'}
training 'as one that was not' 4
same "$ld_name" "$resumed" "$hash"

rm "$file"
training_killed=$TEST_TMP/run-killed
output=$("$LDLUA" "$train" "$training_killed" 4 kept 2>&1)
same 'a run that is killed after its checkpoint' $? 137
exists 'has written its choices before' "$file"
check 'and is resumed' "$LDLUA" "$train" "$training_killed" 4
resumed=${output##*$'\n'}
training 'as one that was not killed' 4
same "$ld_name" "$resumed" "$hash"

# What the file says is what is done: all blocked, which always fits.
head -n 1 "$file" >"$TEST_TMP/first_line"
LD_CONV=blocked training 'all blocked by the environment' 2
blocked=$hash
LD_CONV=winograd training 'Winograd by the environment' 2
differs "$ld_name computes other numbers" "$hash" "$blocked"
sed -E -i '2,$s/^([^ ]+) [a-z]+/\1 blocked/' "$file"
training 'all blocked by the file' 2
same "$ld_name" "$hash" "$blocked"

# ---- switched off ----

rm -r "$XDG_CACHE_HOME"
LD_TUNE=0 training 'LD_TUNE=0' 2
says $'on\tfalse\tchoices\t0'
rule=$hash
absent "$ld_name writes nothing" "$XDG_CACHE_HOME"
options=--no-tune training '--no-tune' 2
says $'on\tfalse\tchoices\t0'
same "$ld_name: the rule" "$hash" "$rule"
absent "$ld_name writes nothing" "$XDG_CACHE_HOME"
training 'a deterministic run' 2 deterministic plan
says $'on\tfalse\tchoices\t0'
same "$ld_name: the rule" "$hash" "$rule"
absent "$ld_name writes nothing" "$XDG_CACHE_HOME"
LD_CONV=rule training 'LD_CONV=rule' 2
same "$ld_name: the rule" "$hash" "$rule"

# ---- a file that is no good ----

training 'choices for the next tests' 1
good=$(cat "$file")
damage() { # name, text for the file
    printf '%s' "$2" >"$file"
    training "$1" 1
    lacks $'choices\t0'
    same "$ld_name: the file is good again" "$(head -n 1 "$file")" "$(cat "$TEST_TMP/first_line")"
    same "$ld_name: as many choices" "$(grep -cE '^(up_)?conv' "$file")" "$(grep -cE '^(up_)?conv' <<<"$good")"
}
damage 'an empty file is no error' ''
damage 'another machine'"'"'s file is no error' "ldlua 0.0.9 tune 1; another machine; oneDNN 1.0"$'\n'"${good#*$'\n'}"
damage 'half a file is no error' "${good:0:$((${#good} / 2))}"
damage 'a file with unknown ways is no error' "$(sed -E '2,$s/^([^ ]+) [a-z]+/\1 teleport/' <<<"$good")"
same "$ld_name: they are gone" "$(grep -c teleport "$file")" 0
damage 'a file of noise is no error' "$(head -c 3000 "$LDLUA" | tr -d '\0')"
rm "$file"
mkdir "$file"
training 'a folder in its place is no error' 1
lacks $'choices\t0'
rm -r "$XDG_CACHE_HOME"
: >"$XDG_CACHE_HOME"
training 'a cache folder that cannot be made is no error' 1
lacks $'choices\t0'
rm "$XDG_CACHE_HOME"
XDG_CACHE_HOME=/proc/nowhere training 'nor one that cannot be written' 1
lacks $'choices\t0'
XDG_CACHE_HOME='' HOME=$TEST_TMP/home training 'without XDG_CACHE_HOME it is under HOME' 1
exists "$ld_name" "$TEST_TMP/home/.cache/ldlua/tune.txt"

# ---- ld.tune ----

conv='local x, w = ld.randn(2, 32, 8, 8), ld.randn(32, 32, 3, 3) ld.conv2d(x, w, nil, {padding = 1})'
check 'ld.tune tells the choices' "$LDLUA" -e "$conv local k = ld.tune().choices[1] print(#ld.tune().choices, k.key, k.way,
    k.milliseconds)"
says $'1\tconv,2x32x8x8,32x3x3,stride1x1,pad1.1.1.1,threads'
says ',kept' # no gradient is asked for
says 'direct '
check 'ld.tune of the file of another process' "$LDLUA" -e "$conv print(#ld.tune().choices)"
same "$ld_name" "$output" 1
check 'ld.tune(false) and ld.tune(true)' "$LDLUA" -e "print(ld.tune(false).on) $conv print(#ld.tune().choices)
    print(ld.tune(true).on) $conv print(#ld.tune().choices)"
same "$ld_name" "$output" $'false\n0\ntrue\n1'
check "ld.tune 'forget'" "$LDLUA" -e "$conv print(#ld.tune().choices, #ld.tune('forget').choices)"
same "$ld_name" "$output" $'1\t0'
same "$ld_name: the file forgets too" "$(cat "$file")" "$(cat "$TEST_TMP/first_line")"
other='ld.conv2d(ld.randn(1, 3, 4, 4), ld.randn(5, 3, 1, 1))'
check 'two processes at once' "$LDLUA" -e "$conv assert(os.execute([['$LDLUA' -e '$other']]) == 0)"
same "$ld_name: both choices are kept" "$(cut -d, -f 2-3 "$file" | tail -n 2 | sort)" $'1x3x4x4,5x1x1\n2x32x8x8,32x3x3'
refuse 'a word that is none' "$LDLUA" -e "ld.tune('x')"
says "tune: unknown word 'x'; known: forget, true, false"
refuse 'a number' "$LDLUA" -e 'ld.tune(3)'
says 'tune: what to do must be a string'
check 'ld.memory tells what is kept packed' env LD_CONV=winograd "$LDLUA" -e "$conv
    print(ld.memory().packed) for _ = 1, 2 do ld.conv2d(x, w, nil, {padding = 1}) end print(ld.memory().packed > 0)
    w:release() print(ld.memory().packed)"
same "$ld_name" "$output" $'0\ntrue\n0'

finish
