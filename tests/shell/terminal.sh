# A prompt on a terminal, for shell tests; read after lib.sh. The program `script` (bsdutils) gives the terminal.

# Prints why there can be no terminal here, and fails where there can be one.
no_terminal() {
    if ! type -P script >/dev/null; then
        echo 'the program script (bsdutils) is not here'
    elif [ "$(SHELL=/bin/sh command script -qec 'tty >/dev/null && echo yes' /dev/null </dev/null 2>/dev/null | tr -d '\r')" != yes ]; then
        echo 'this machine gives no pseudo-terminals (is /dev/pts mounted?)'
    else
        return 1
    fi
}

# Waits up to 10 s for the end of a child, then ends it by the signal. Returns its exit status.
await_end() { # process signal
    for _ in $(seq 200); do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.05
    done
    kill -"$2" "$1" 2>/dev/null
    wait "$1" 2>/dev/null
}

type_in() { # printf format
    # shellcheck disable=SC2059
    printf "$1" >&9
}

# Waits until the terminal has shown the text; fails after 10 s. Typed text is echoed, so that the text awaited is
# another than what was typed.
wait_for() { # text
    for _ in $(seq 200); do
        if grep -aqF -- "$1" "$TEST_TMP/screen"; then
            pass
            return
        fi
        sleep 0.05
    done
    fail "$ld_name" "'$1' did not come; the screen:"
    output=$(cat -v "$TEST_TMP/screen")
    show_output
}

# A prompt on a terminal: fd 9 is its keyboard, the file `screen` its screen. `script` has a shell run the command; with
# `exec` the shell is gone before a Ctrl-C comes, which would otherwise stop it too and make its status 130.
open_prompt() { # name
    ld_name=$1
    rm -f "$TEST_TMP/keys"
    mkfifo "$TEST_TMP/keys"
    exec 9<>"$TEST_TMP/keys"
    : >"$TEST_TMP/screen"
    SHELL=/bin/sh TERM=xterm env --default-signal=INT script -qfec "exec '$LDLUA'" /dev/null <"$TEST_TMP/keys" >>"$TEST_TMP/screen" 2>&1 &
    terminal=$!
    wait_for 'ldlua 0.1.0'
    wait_for '> '
}

close_prompt() { # expected status
    await_end $terminal TERM
    same "$ld_name: exit status" $? "$1"
    exec 9>&-
}
