#!/bin/bash
# The prompt with the real library: help, Tab, commands, printing, Ctrl-C. Terminal tests need pseudo-terminals.
. tests/shell/lib.sh
. tests/shell/terminal.sh
export XDG_STATE_HOME=$TEST_TMP/state
unset LDLUA_TRACE

# What a prompt without a terminal prints for these lines.
typed() {
    printf '%s\n' "$@" >"$TEST_TMP/lines"
    "$LDLUA" -i <"$TEST_TMP/lines" 2>&1
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

check 'shows an entry' typed '? conv2d' 'net = nn.relu()' '? net:parameters' '? ld.group_norm'
says '(N,C,H,W) f32 or f64'
says 'The parameters as a list, for optimisers.'
says 'Wu & He 2018'
check 'searches' typed '??transposed'
says 'nn.conv_transpose2d'
check 'suggests names' typed '? con2vd' 'ld.zeroes(3)'
says 'did you mean ld.conv2d'
says "prompt:1: ld has no 'zeroes'; did you mean ld.zeros"
check 'refuses a command it does not know' typed '.tme' 'print(40 + 2)'
says "there is no command '.tme'; known: ? ?? who"
says 42
check 'times' typed '.time 20 + 1'
says $'21\n'
says ' us'
check 'profiles forward and backward' typed 'w = ld.ones({32, 32}, {requires_grad = true})' \
    '.profile w:matmul(w):sum():backward()'
says 'matmul                   forward          1'
says 'matmul                   backward         2'
says 'besides operations'
check 'goes on after an error in a profile' typed '.profile ld.ones(2) + ld.ones(3)' '.profile ld.ones(2) + 1'
says 'shapes do not broadcast'
says 'unary                    forward          1'
check 'lists tensors' typed 'x = ld.zeros(2, 3)' 'local kept = ld.ones(7) f = function() return kept end' \
    't = {a = ld.ones(5, {dtype = "f64"})}' 'net = nn.linear{in_features = 3, out_features = 2}' 'who'
says "x                    (2,3)                f32   cpu            24 B  x = ld.zeros(2, 3)"
says "(7)                  f32   cpu            28 B  local kept"
says "t.a                  (5)                  f64"
says "net                  layer, 8 parameters in 2 tensors on cpu"
check 'a released tensor is in no list' typed 'x = ld.zeros(2, 3)' 'x:release()' 'who'
says 'no tensors'
check 'a variable who is the variable' typed 'who = 5' 'who + 0' 'who'
says 5
lacks 'no tensors'
check 'saves the session' typed 'a = 5' 'nonsense)' 'a + 1' '? conv2d' ".save $TEST_TMP/saved.lua"
says "near ')'"
check 'loads it' typed ".load $TEST_TMP/saved.lua" 'a * 100'
says 6
says 500
check 'prints lists on a line' typed 'ld.zeros(2, 3).shape' '{1, "a", {}}'
says '{2, 3}'
check 'prints networks as trees' typed 'nn.sequential{nn.linear{in_features = 3, out_features = 2}, nn.relu()}'
says '0: linear'

prompt_tests() {
    open_prompt 'Tab on a part that is not loaded yet'
    type_in 'print(ld.mod\t ~= nil and "lo" .. "aded")\n'
    wait_for loaded
    ld_name='Tab on an option'
    type_in 'nn.linear{in_f\t = 3, out\t = 2}:count()\n'
    wait_for $'8\t2\t0'
    ld_name='Tab lists options'
    type_in 'nn.activation{\tkind = "silu"}\n'
    wait_for 'kind   slope  sub'
    ld_name='Tab on a file'
    type_in '#io.open("Makef\t"):read "*l" + 800000\n'
    wait_for '8000'
    ld_name='Tab on a method of a variable'
    type_in 'net = nn.relu()\nnet:requires_g\t(false) print(70 + 7)\n'
    wait_for 77
    ld_name='tells the time of what takes long'
    type_in 'local t = os.clock() while os.clock() < t + 0.2 do end\n'
    wait_for ' s)'
    ld_name='prints to the width of the terminal'
    type_in '_G.stty = os.execute "stty cols 40 </dev/tty"\nld.arange(200)\n'
    wait_for ' ...  19'
    ld_name='Ctrl-C stops an operation and leaves what there is'
    type_in 'x = ld.ones(3) y = ld.ones(600, 600) io.write("run", "ning\\n") while true do y = y:matmul(y) * 1e-9 end\n'
    wait_for running
    type_in '\003'
    wait_for 'prompt:1: interrupted'
    type_in 'print(x:sum():item() + 500, ld.grad_enabled())\n'
    wait_for $'503\ttrue'
    ld_name='Ctrl-C stops a training step'
    type_in 'w = ld.ones({300, 300}, {requires_grad = true}) io.write("train", "ing\\n") while true do w:matmul(w):sum():backward() end\n'
    wait_for training
    type_in '\003'
    wait_for 'interrupted'
    type_in 'w:zero_grad() w:sum():backward() print(w.grad:sum():item() + 7, ld.grad_enabled())\n'
    wait_for $'90007\ttrue'
    type_in '\004'
    close_prompt 0
}
if why=$(no_terminal); then
    skip 'the prompt on a terminal' "$why"
else
    prompt_tests
fi

check 'exit ends the prompt' sh -c 'printf "exit\nprint(40 + 2)\n" | "$1" -i' - "$LDLUA"
same 'and what follows is not run' "$(grep -c 42 <<<"$output")" 0
check 'as quit() does' sh -c 'printf "quit()\nprint(40 + 2)\n" | "$1" -i' - "$LDLUA"
same 'and what follows is not run' "$(grep -c 42 <<<"$output")" 0
check 'a variable of that name is one' sh -c 'printf "exit = 41\nexit\nprint(exit + 1)\n" | "$1" -i' - "$LDLUA"
says 42
check 'help is a word too' sh -c 'echo help | "$1" -i' - "$LDLUA"
says '.profile statement'
finish
