/* Ctrl-C and SIGTERM.
 *
 * Running code is stopped on three roads, of which the first that is reached raises "interrupted":
 *   an operation of the core       ld_interrupt, read on entry of every operation
 *   interpreted Lua                a hook on the next instruction, as in LuaJIT's own program
 *   Lua compiled to machine code   does not look at hooks. It does look at the profiler's flag, once a line, when the
 *                                  profiler runs; so it runs, with its clock stopped, and the handler raises the signal
 *                                  of its clock (SIGPROF). Compiled code then leaves to the interpreter, where the hook waits.
 * A library's profiler (require 'jit.p') may take its place; compiled loops that call no operation then go on until they
 * end. Code that runs long inside one C call stops when that call returns. */
#include "host/host.h"

#include "base/error.h"

#include <errno.h>
#include <lauxlib.h>
#include <luajit.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

static lua_State *state;
static pthread_t main_thread;
static volatile sig_atomic_t phase_now;
static volatile sig_atomic_t handled;     /* a training run looks at stop_requested itself */
static volatile sig_atomic_t requested;   /* the signal that asked to stop */
static volatile sig_atomic_t edit_signal; /* the signal that came while a line was typed */
static volatile sig_atomic_t int_count, term_count;

/* The first frame that is neither C nor out of sight gives the position, as luaL_error would. */
static void stop_hook(lua_State *L, lua_Debug *ar) {
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    if (!ld_interrupted()) /* an operation has raised it already */
        return;
    luaL_where(L, 0);
    lua_pushliteral(L, "interrupted");
    lua_concat(L, 2);
    lua_error(L);
}

static void interrupt(void) {
    ld_interrupt();
    lua_sethook(state, stop_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
    raise(SIGPROF);
}

void host_die(int sig) {
    sigset_t one;
    signal(sig, SIG_DFL);
    sigemptyset(&one);
    sigaddset(&one, sig);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    raise(sig);
    _exit(128 + sig);
}

static void say(const char *text, size_t n) {
    ssize_t ignored = write(STDERR_FILENO, text, n);
    (void)ignored;
}

static void on_int(void) {
    static const char hint[] = "\n(still running; Ctrl-C once more ends ldlua)\n";
    int_count++;
    if (handled) {
        if (int_count > 1)
            host_die(SIGINT);
        requested = SIGINT;
    } else if (phase_now == HOST_SCRIPT) {
        if (int_count > 1)
            host_die(SIGINT);
        requested = SIGINT;
        interrupt();
    } else {
        if (int_count > 2)
            host_die(SIGINT);
        if (int_count == 2)
            say(hint, sizeof hint - 1);
        interrupt();
    }
}

/* `timeout` and service managers may send SIGTERM twice in a moment: while a run handles it, one is as good as two. */
static void on_term(void) {
    term_count++;
    requested = SIGTERM;
    if (handled)
        return;
    if (phase_now != HOST_SCRIPT || term_count > 1)
        host_die(SIGTERM);
    interrupt();
}

static void on_signal(int sig) {
    int saved = errno;
    if (!pthread_equal(pthread_self(), main_thread))
        pthread_kill(main_thread, sig);
    else if (phase_now == HOST_EDIT)
        edit_signal = sig;
    else if (sig == SIGINT)
        on_int();
    else
        on_term();
    errno = saved;
}

/* A blocking read ends at a signal, so that Ctrl-C gets through; while a run handles signals itself nothing is disturbed.
 * A signal that the parent ignores (a background job of a script) stays ignored. */
static void catch_signals(void) {
    const int signals[] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        struct sigaction now, next = {.sa_handler = on_signal, .sa_flags = handled ? SA_RESTART : 0};
        sigemptyset(&next.sa_mask);
        sigaddset(&next.sa_mask, SIGINT);
        sigaddset(&next.sa_mask, SIGTERM);
        if (!sigaction(signals[i], NULL, &now) && now.sa_handler != SIG_IGN)
            sigaction(signals[i], &next, NULL);
    }
}

static void no_sample(void *data, lua_State *L, int samples, int vm_state) {
    (void)data, (void)L, (void)samples, (void)vm_state;
}

void host_signals_start(lua_State *L) {
    const struct itimerval never = {0};
    state = L;
    main_thread = pthread_self();
    signal(SIGPROF, SIG_IGN); /* what stays when the profiler has ended */
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of the write */
    luaJIT_profile_start(L, "li1000000000", no_sample, NULL);
    setitimer(ITIMER_PROF, &never, NULL);
    catch_signals();
}

void host_signals_phase(host_phase phase) {
    edit_signal = 0;
    phase_now = phase;
    handled = 0;
    requested = 0;
    int_count = 0;
    term_count = 0;
    lua_sethook(state, NULL, 0, 0);
    if (ld_interrupted())
        ld_error_clear();
    catch_signals();
}

int host_edit_signal(void) {
    return edit_signal;
}

int host_signal_requested(void) {
    return requested;
}

/* ld.host.stop_requested(): 'SIGINT' or 'SIGTERM' once the user or the system has asked to stop, else nil. */
static int l_stop_requested(lua_State *L) {
    if (requested)
        lua_pushstring(L, requested == SIGINT ? "SIGINT" : "SIGTERM");
    else
        lua_pushnil(L);
    return 1;
}

/* ld.host.on_stop(yes): from now on the caller looks at stop_requested itself: the first Ctrl-C or SIGTERM only sets it, a
 * second Ctrl-C ends the process. on_stop(false) gives signals back their usual effect and keeps what was requested.
 * Returns what held before. */
static int l_on_stop(lua_State *L) {
    bool before = handled, yes;
    luaL_checktype(L, 1, LUA_TBOOLEAN);
    yes = lua_toboolean(L, 1);
    if (yes && !before) {
        requested = 0;
        int_count = 0;
        term_count = 0;
    }
    handled = yes;
    catch_signals();
    lua_pushboolean(L, before);
    return 1;
}

void host_signals_open(lua_State *L) {
    lua_pushcfunction(L, l_stop_requested);
    lua_setfield(L, -2, "stop_requested");
    lua_pushcfunction(L, l_on_stop);
    lua_setfield(L, -2, "on_stop");
}
