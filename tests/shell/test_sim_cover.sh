#!/bin/bash
# The simulator's tests reach everything: each kernel of kernels/ is launched by one of them, and each barrier in a kernel
# is needed: without it some test fails. So a kernel that is added without a test, or whose test is too small for a race to
# show, is found here.
. tests/shell/lib.sh

if [ -z "${LD_TEST_FAKE:-}" ]; then
    skip 'kernels and barriers' 'LD_TEST_FAKE does not say where the test programs are'
    finish
fi
programs=$(dirname "$LD_TEST_FAKE")
# What tests/run had the programs write down; those that did not run with it run now.
seen=$TEST_TMP/seen
: >"$seen"
for source in tests/sim/test_sim_*.c; do
    program=$(basename "$source" .c)
    if ! grep "^$program " "${LD_SIM_LOG:-/dev/null}" >>"$seen" 2>/dev/null; then
        LD_SIM_LOG=$seen check "$program" "$programs/$program"
    fi
done

# ---- kernels ----

kernels=$(cat kernels/*.cu kernels/*.h | tr '\n' ' ' | grep -oE '__global__ +void[^{;]*\{' | grep -oE '\bk_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u)
same 'kernels are found in their files' "$([ "$(wc -w <<<"$kernels")" -gt 40 ] && echo yes)" yes
for kernel in $kernels; do
    same "a test launches $kernel" "$(grep -c -m1 " kernel $kernel\$" "$seen")" 1
done
same 'one that there is not is not launched' "$(grep -c ' kernel k_none$' "$seen")" 0
for slot in $(sed -n 's/^    X(\([a-z0-9_]*\),.*/\1/p' csrc/backend/backend.h); do
    same "a test names ld_cuda_$slot" \
        "$(cat tests/sim/test_sim_*.c tests/cuda/test_*.c | grep -cE -m1 "(ld_cuda_|[(, ])$slot[(,)]")" 1
done

# ---- barriers ----

# Does a program fail without the barrier? It ends at its first failure.
notices() { # program site
    local said=$TEST_TMP/said pid found=1
    : >"$said" # else what the program before said is read until this one begins
    LD_SIM_LOG='' LD_SIM_WITHOUT=$2 "$programs/$1" >/dev/null 2>"$said" &
    pid=$!
    while kill -0 $pid 2>/dev/null; do
        grep -q FAILED "$said" && break
        sleep 0.05
    done
    kill $pid 2>/dev/null
    wait $pid 2>/dev/null
    grep -q FAILED "$said" && found=0
    return $found
}

count=0
for site in $(grep -n '__syncthreads()' kernels/*.cu kernels/*.h | cut -d: -f1,2); do
    met=$(sed -n "s,^\([a-z_0-9]*\) barrier $site\$,\1,p" "$seen" | sort -u)
    if [ -z "$met" ]; then
        fail "$site" 'no test meets this barrier'
        continue
    fi
    found=
    for program in $met; do
        notices "$program" "$site" && found=$program && break
    done
    same "without the barrier of $site a test fails" "${found:+yes}" yes
    count=$((count + 1))
done
same 'barriers are found in their files' "$([ $count -gt 20 ] && echo yes)" yes
same 'a line without a barrier changes nothing' "$(notices test_sim_rows kernels/rows.cu:1 && echo found)" ''
finish
