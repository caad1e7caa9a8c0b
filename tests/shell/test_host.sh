#!/bin/bash
# The host: command line, errors, strict globals, signals, the prompt. Most tests use a small library of their own in
# place of lua/ld, so that they judge the host alone.
. tests/shell/lib.sh
. tests/shell/terminal.sh

root=$TEST_TMP/root
mkdir -p "$root/lua/ld"
cat >"$root/lua/ld/init.lua" <<'EOF'
local ld = {nn = {conv2d = 1, conv_transpose2d = 2}}
local function inner(x) return x.y.z end
function ld.fails(x) local r = inner(x) return r end
function ld.calls(f) local r = f() return r end
function ld.repr(x) return '<' .. tostring(x) .. '>' end
return ld
EOF
real_root=${LDLUA_ROOT:-$PWD}
export LDLUA_ROOT=$root XDG_STATE_HOME=$TEST_TMP/state
unset LDLUA_TRACE LUA_PATH LUA_CPATH

script() { # name, text on stdin
    cat >"$TEST_TMP/$1"
}

status() { # name expected command...
    local expected=$2
    ld_name=$1
    shift 2
    output=$("$@" 2>&1 </dev/null)
    same "$ld_name: exit status" $? "$expected"
}

lacks() { # text
    case $output in
    *"$1"*)
        fail "$ld_name" "the output should not have '$1':"
        show_output
        ;;
    *) pass ;;
    esac
}

# ---- the command line ----

check 'prints its version' "$LDLUA" -v
says 'ldlua 0.1.0 (LuaJIT'
check 'prints help' "$LDLUA" --help
says 'usage: ldlua'
status 'refuses an unknown option' 2 "$LDLUA" --colour
says 'unknown option --colour'
status 'refuses bad threads' 2 "$LDLUA" --threads none
says "--threads takes a number from 1 to 4096, not 'none'"
status 'refuses -e without code' 2 "$LDLUA" -e
check 'runs -e twice, in order, with ld and nn' "$LDLUA" -e 'a = ld.nn.conv2d' -e 'print(a + nn.conv_transpose2d)'
says 3

script arguments.lua <<'EOF'
print(#arg, arg[0]:match('[^/]*$'), arg[1], arg[2], arg[-1] ~= nil, ...)
print(rawget(_G, 'ld'))
EOF
check 'gives a script its arguments' "$LDLUA" "$TEST_TMP/arguments.lua" --epochs 3
says $'2\targuments.lua\t--epochs\t3\ttrue\t--epochs\t3'
says nil
check 'runs standard input' sh -c "echo 'print(6 * 7)' | \"\$LDLUA\""
says 42
check 'runs - with arguments' sh -c "echo 'print(arg[0], ...)' | \"\$LDLUA\" - a b"
says $'-\ta\tb'
check 'tells Lua its options' "$LDLUA" --device cuda:1 --threads=3 -e \
    'local h = require "ld.host" print(h.device, h.threads, h.version, h.interactive, os.getenv "OMP_NUM_THREADS")'
says $'cuda:1\t3\t0.1.0\tfalse\t3'
check 'leaves options nil' "$LDLUA" -e 'local h = require "ld.host" print(h.device, h.threads, h.root)'
says $'nil\tnil\t'"$(cd "$root" && pwd -P)"
status 'names a missing script' 1 "$LDLUA" "$TEST_TMP/absent.lua"
says "cannot open $TEST_TMP/absent.lua: No such file"
LDLUA_ROOT=/absent status 'names a wrong LDLUA_ROOT' 1 "$LDLUA" -e ''
says 'no lua/ld/init.lua in LDLUA_ROOT, which is /absent'
mkdir -p "$TEST_TMP/prefix/bin" "$TEST_TMP/prefix/share"
cp "$LDLUA" "$TEST_TMP/prefix/bin/ldlua"
status 'says where it looked for lua/' 1 env -u LDLUA_ROOT "$TEST_TMP/prefix/bin/ldlua" -e ''
says 'prefix/bin or '
cp -r "$root" "$TEST_TMP/prefix/share/ldlua"
ln -s "$TEST_TMP/prefix/bin/ldlua" "$TEST_TMP/linked"
check 'finds lua/ when installed, through a link' env -u LDLUA_ROOT "$TEST_TMP/linked" -e 'print(require("ld.host").root)'
says 'prefix/share/ldlua'
if [ -e /dev/full ]; then
    status 'a full disk under standard output is a failure' 1 sh -c "\"\$LDLUA\" -e 'print(1)' >/dev/full"
    says 'cannot write standard output'
fi

# ---- errors ----

script fails.lua <<'EOF'
local ld = require 'ld'
local function train(x)
  return (ld.calls(function() ld.fails(x) end))
end
local how = {
  library = function() train({}) end,
  own = function() error('boom') end,
  bare = function() error('no data', 0) end,
  object = function() error(setmetatable({}, {__tostring = function() return 'just this' end})) end,
}
how[arg[1]]()
EOF
fails=$TEST_TMP/fails.lua
position() { # what the error's first line begins with, without the folder
    sed -n '1s/^.*\(fails\.lua:[0-9]*:\).*/\1/p' <<<"$output"
}
status 'an error in the library' 1 "$LDLUA" "$fails" library
same "$ld_name: the user's line first" "$(position)" fails.lua:3:
says '(at ld/init.lua:2)'
says '... 2 frames of ldlua'
says "fails.lua:3: in 'train'"
lacks "$root/lua/ld/init.lua:3"
lacks '[C]'
LDLUA_TRACE=1 status 'a full traceback' 1 "$LDLUA" "$fails" library
says "lua/ld/init.lua:3: in 'fails'"
status 'a full traceback by -v' 1 "$LDLUA" -v "$fails" library
says "lua/ld/init.lua:3: in 'fails'"
status 'an error in the script' 1 "$LDLUA" "$fails" own
same "$ld_name: position" "$(position)" fails.lua:7:
status 'an error without a position gets one' 1 "$LDLUA" "$fails" bare
same "$ld_name: position" "$(position)" fails.lua:8:
status 'an error object is printed as it is' 1 "$LDLUA" "$fails" object
same "$ld_name: text" "$output" 'just this'
status 'a syntax error' 1 "$LDLUA" -e 'for'
says '(command line):1:'
same 'errors go to stderr' "$("$LDLUA" -e 'error "boom"' 2>/dev/null)" ''

# ---- strict globals ----

status 'reading an undeclared global' 1 "$LDLUA" -e 'print(widht)'
says "global 'widht' is not declared"
status 'assigning one in a function' 1 "$LDLUA" -e 'local function f() widht = 3 end f()'
says "undeclared global 'widht'"
check 'top-level assignment declares' "$LDLUA" -e 'a = 1 b = nil local function f() a = 2 b = 40 end f() print(a + b)'
says 42
check 'rawget passes by' "$LDLUA" -e 'print(rawget(_G, "widht"))'
says nil

# ---- signals ----

# Starts the command, waits until it prints "ready", sends the signals, waits for its end. Sets output and ended.
signalled() { # "SIGNAL..." command...
    local signals=$1 child
    shift
    : >"$TEST_TMP/out" # or the last command's "ready" is taken for this one's
    env --default-signal=INT "$@" >"$TEST_TMP/out" 2>&1 </dev/null &
    child=$!
    for _ in $(seq 200); do
        grep -q ready "$TEST_TMP/out" && break
        sleep 0.05
    done
    for s in $signals; do
        kill -"$s" $child 2>/dev/null
        [ "$signals" = "$s" ] || sleep 1 # two that come before the program gets the processor count as one
    done
    await_end $child KILL
    ended=$?
    output=$(cat "$TEST_TMP/out")
}

stopped() { # name "SIGNAL..." status code
    ld_name=$1
    signalled "$2" "$LDLUA" -e "io.stdout:setvbuf 'no' print 'ready' $4"
    same "$1: exit status" $ended "$3"
}

stopped 'Ctrl-C stops a compiled loop' INT 130 'local i = 0 while true do i = i + 1 end'
says '(command line):1: interrupted'
stopped 'SIGTERM stops a loop' TERM 143 'while true do end'
says 'interrupted'
stopped 'a second Ctrl-C ends the process' 'INT INT' 130 \
    'while true do local ok, e = pcall(function() while true do end end) print(e) end'
stopped 'an error after pcall took the first' INT 0 'print(pcall(function() while true do end end))'
says $'false\t(command line):1: interrupted'

handled='local h = require "ld.host" h.on_stop(true) io.stdout:setvbuf "no" print "ready"'
for s in INT TERM; do
    ld_name="a run handles SIG$s"
    signalled $s "$LDLUA" -e "$handled while not h.stop_requested() do end print('saved', h.stop_requested())"
    same "$ld_name: exit status" $ended 0
    says $'saved\tSIG'$s
done
ld_name='a second Ctrl-C ends a run that does not stop'
signalled 'INT INT' "$LDLUA" -e "$handled while true do end"
same "$ld_name: exit status" $ended 130
ld_name='a second SIGTERM does not'
signalled 'TERM TERM' "$LDLUA" -e "$handled while not h.stop_requested() do end
    local t = os.clock() while os.clock() < t + 2 do end print 'saved'"
same "$ld_name: exit status" $ended 0
says saved

# ---- the prompt ----

printf '%s\n' 'x = 20' 'x + 1, "a"' 'for i = 1, 2 do' 'print(i + 70)' 'end' 'nope' '= 2 * 4' 'print()' '_' 'local q = 1' 'q' \
    >"$TEST_TMP/lines"
check 'a prompt without a terminal' sh -c "\"\$LDLUA\" -i <\"$TEST_TMP/lines\""
says $'<21>\t<a>\n71\n72\n'
says "prompt:1: global 'nope' is not declared"
says $'<8>\n\n<8>'
says "global 'q' is not declared"
lacks 'ldlua 0'

prompt_tests() {
    unset -f script # the program now
    open_prompt 'prints expressions'
    type_in '6 * 7, nil\n'
    wait_for $'<42>\t<nil>'
    ld_name='goes on after an unfinished line'
    type_in 'for i = 1, 2 do\nprint(i + 50)\nend\n'
    wait_for 52
    ld_name='goes on after an error'
    type_in 'ld.fails{}\n'
    wait_for 'prompt:1: attempt to index'
    ld_name='Tab completes'
    type_in 'ld.nn.c\t\t_\t + 900\n'
    wait_for conv_transpose2d
    wait_for '<902>'
    ld_name='Ctrl-C stops a compiled loop'
    type_in 'io.write("run", "ning\\n") while true do end\n'
    wait_for running
    type_in '\003'
    wait_for 'prompt:1: interrupted'
    ld_name='Ctrl-C clears the line'
    type_in 'error("not cleared" .. 1)'
    sleep 0.3
    type_in '\003'
    sleep 0.3
    type_in 'print(60 + 1)\n'
    wait_for 61
    output=$(cat "$TEST_TMP/screen")
    lacks 'not cleared1'
    ld_name='recalls a statement of several lines'
    type_in 'print(50 + 3,\n20 + 4)\n'
    wait_for $'53\t24'
    : >"$TEST_TMP/screen"
    type_in '\033[A\n'
    wait_for $'53\t24'
    ld_name='Ctrl-D ends'
    type_in '\004'
    close_prompt 0
    check 'keeps its history' grep -qF 'print(50 + 3,\n20 + 4)' "$TEST_TMP/state/ldlua/history"
    same 'the history is private' "$(stat -c %a "$TEST_TMP/state/ldlua/history")" 600

    seq -f 'x = %g' 1500 >"$TEST_TMP/state/ldlua/history"
    open_prompt 'reads its history'
    type_in '\033[A * 1000\nx\n'
    wait_for '<1500000>'
    ld_name='SIGTERM ends an idle prompt'
    type_in 'io.write("pid=", io.open("/proc/self/stat"):read("*n"), ".\\n")\n'
    sleep 0.3
    kill -TERM "$(sed -n 's/^pid=\([0-9]*\)\..*/\1/p' "$TEST_TMP/screen")"
    close_prompt 143
    same 'the history is cut to 1000 lines' "$(grep -c '^x = [0-9]*$' "$TEST_TMP/state/ldlua/history")" 1000

    rm -r "$TEST_TMP/state" && : >"$TEST_TMP/state"
    open_prompt 'does without a history'
    type_in '1 + 76\n'
    wait_for '<77>'
    ld_name='a third Ctrl-C ends what cannot be stopped'
    type_in 'io.write("run", "ning\\n") while true do print(pcall(function() while true do end end)) end\n'
    wait_for running
    type_in '\003'
    wait_for 'prompt:1: interrupted'
    type_in '\003'
    wait_for 'Ctrl-C once more'
    type_in '\003'
    close_prompt 130

    LDLUA_ROOT=$real_root open_prompt 'Ctrl-C stops a loop of operations'
    type_in 'x = ld.zeros(2) io.write("run", "ning\\n") while true do x = x + 0 end\n'
    wait_for running
    type_in '\003'
    wait_for 'prompt:1: interrupted'
    type_in '\004'
    close_prompt 0
}
if why=$(no_terminal); then
    skip 'the prompt on a terminal' "$why"
else
    prompt_tests
fi

# ---- start-up ----

# Microseconds from before the start until the first statement runs, ld loaded: the best of twenty.
best_start() {
    local best=1000000 start now
    for _ in $(seq 20); do
        start=${EPOCHREALTIME/[.,]/}
        now=$("$LDLUA" -e 'local ffi = require "ffi"
            ffi.cdef "typedef struct { long s, us; } moment; int gettimeofday(moment *, void *);"
            local t = ffi.new "moment" ffi.C.gettimeofday(t, nil) print(("%d%06d"):format(tonumber(t.s), tonumber(t.us)))') ||
            return 1
        [ $((now - start)) -lt $best ] && best=$((now - start))
    done
    echo $best
}
export LDLUA_ROOT=$real_root
read -r load _ </proc/loadavg
if nm -D "$LDLUA" 2>/dev/null | grep -q asan_init; then
    skip 'starts within 10 ms' 'this is an instrumented program'
elif ! best=$(best_start); then
    fail 'starts within 10 ms' 'it does not start'
elif [ "$best" -lt 10000 ]; then
    pass
elif [ "${load%.*}" -ge "$(nproc)" ]; then
    skip 'starts within 10 ms' "the machine is busy (load $load); it took $best microseconds"
else
    fail 'starts within 10 ms' "the best of twenty was $best microseconds"
fi

finish
