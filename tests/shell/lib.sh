# Helpers of the shell tests. A test starts with `. tests/shell/lib.sh` and ends with `finish`.
#
#   check 'prints its version' "$LDLUA" -v            the command must succeed
#   refuse 'no such script' "$LDLUA" absent.lua       the command must fail, but not by a signal
#   says 'cannot open'                                output of the last check or refuse contains the text
#   same 'sum' "$a" "$b"                              two strings must be equal
#   skip 'reads with h5py' 'no python3 here'
#
# Started by tests/run: the working folder is the repository's root, $LDLUA the program under test, $TEST_TMP an empty
# folder that is removed afterwards.
: "${LDLUA:=$PWD/ldlua}"
if [ -z "${TEST_TMP:-}" ]; then
    TEST_TMP=$(mktemp -d)
    trap 'rm -rf "$TEST_TMP"' EXIT
fi
ld_passed=0 ld_failed=0 ld_skipped=0 ld_name=start output=''

pass() {
    ld_passed=$((ld_passed + 1))
}

fail() { # name message
    ld_failed=$((ld_failed + 1))
    printf 'FAIL %s: %s\n' "$1" "$2"
}

skip() { # name why
    ld_skipped=$((ld_skipped + 1))
    printf 'SKIP %s: %s\n' "$1" "$2"
}

# Both streams of the last command, also kept in $output.
show_output() {
    printf '%s\n' "$output" | tail -n 15 | sed 's/^/     /'
}

check() { # name command...
    ld_name=$1
    shift
    if output=$("$@" 2>&1); then
        pass
    else
        fail "$ld_name" "exit status $? of: $*"
        show_output
    fi
}

refuse() { # name command...
    ld_name=$1
    shift
    output=$("$@" 2>&1)
    ld_status=$?
    if [ $ld_status -gt 0 ] && [ $ld_status -lt 124 ]; then
        pass
    else
        fail "$ld_name" "expected a refusal, got exit status $ld_status of: $*"
        show_output
    fi
}

says() { # text
    case $output in
    *"$1"*) pass ;;
    *)
        fail "$ld_name" "the output lacks '$1':"
        show_output
        ;;
    esac
}

same() { # name got expected
    if [ "$2" = "$3" ]; then
        pass
    else
        fail "$1" "expected '$3', got '$2'"
    fi
}

finish() {
    printf '%d passed, %d failed, %d skipped\n' $ld_passed $ld_failed $ld_skipped
    [ $ld_failed -eq 0 ]
    exit $?
}
