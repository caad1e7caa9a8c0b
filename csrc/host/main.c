/* ldlua: command line, Lua state, scripts, exit status. */
#include "host/host.h"

#include "base/version.h"
#include "comm/comm.h"
#include "lua/lua_ld.h"

#include <dlfcn.h>
#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct job {
    host_options o;
    int argc;
    char **argv;
    char root[PATH_MAX];
    bool prompt; /* the prompt will be entered */
    bool failed;
} job;

/* OpenMP has read its environment before main began, so it is told as well. The variable is for libraries that are loaded
 * later and for child processes. */
static void set_threads(int n) {
    char text[16];
    void (*set)(int);
    void *symbol = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    snprintf(text, sizeof text, "%d", n);
    setenv("OMP_NUM_THREADS", text, 1);
    memcpy(&set, &symbol, sizeof set);
    if (set)
        set(n);
}

/* OpenMP's threads wait for work by spinning, which slows everything several times as soon as another program wants the
 * same cores; sleeping at once costs an idle machine a sixth of the time where regions are short. So they spin for some tens
 * of microseconds (docs/internals.md, section 11, has the figures). The runtime reads its policy when it is loaded, before main: so the program starts itself once more, which
 * takes a few milliseconds: only for scripts, whose runs are long. The user's own choice in the environment is left
 * alone. */
static void wait_without_spinning(char **argv, const host_options *o) {
    if (!o->script || getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT"))
        return;
    char path[PATH_MAX]; /* its own, for the name that ps shows */
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0)
        return;
    path[n] = 0;
    setenv("OMP_WAIT_POLICY", "passive", 1);
    setenv("GOMP_SPINCOUNT", "1000", 1);
    execv(path, argv); /* where that fails, the program goes on as it is */
}

/* package.loaded['ld.host'], which the Lua side reads. device, comm and threads are nil when not given. */
static void open_host(lua_State *L, const job *j) {
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_newtable(L);
    if (j->o.device) {
        lua_pushstring(L, j->o.device);
        lua_setfield(L, -2, "device");
    }
    if (j->o.comm) {
        lua_pushstring(L, j->o.comm);
        lua_setfield(L, -2, "comm");
    }
    if (j->o.threads) {
        lua_pushinteger(L, j->o.threads);
        lua_setfield(L, -2, "threads");
    }
    lua_pushliteral(L, LD_VERSION);
    lua_setfield(L, -2, "version");
    lua_pushstring(L, j->root);
    lua_setfield(L, -2, "root");
    lua_pushboolean(L, j->prompt);
    lua_setfield(L, -2, "interactive");
    host_signals_open(L);
    host_tuning_open(L);
    complete_open(L);
    host_attach_open(L);
    lua_setfield(L, -2, "ld.host");
    lua_pop(L, 1);
}

/* arg[0] is the script, arg[1] ... its arguments, arg[-1] ... what stands before it. */
static void open_arg(lua_State *L, const job *j) {
    lua_newtable(L);
    for (int i = 0; i < j->argc; i++) {
        lua_pushstring(L, j->argv[i]);
        lua_rawseti(L, -2, i - j->o.script);
    }
    lua_setglobal(L, "arg");
}

static int l_open(lua_State *L) {
    const job *j = lua_touserdata(L, 1);
    luaL_openlibs(L);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, luaopen_ld_core);
    lua_setfield(L, -2, "ld.core");
    lua_pop(L, 2);
    host_root_use(L, j->root);
    open_host(L, j);
    open_arg(L, j);
    host_strict(L);
    return 0;
}

/* Prints the error on top of the stack, after all output before it. */
static void report(lua_State *L, job *j) {
    const char *text = lua_tostring(L, -1);
    fflush(stdout);
    fprintf(stderr, "%s\n", text ? text : "(an error without a message)");
    lua_pop(L, 1);
    j->failed = true;
}

static bool run_code(lua_State *L, job *j, const char *code) {
    if (!luaL_loadbuffer(L, code, strlen(code), "=(command line)") && !host_call(L, 0, 0))
        return true;
    report(L, j);
    return false;
}

/* One rank speaks for all: what the others print is nowhere, their errors are told. */
static void start_rank(void) {
    if (ld_comm_rank() > 0 && !freopen("/dev/null", "w", stdout))
        fprintf(stderr, "ldlua: rank %d cannot be quiet: %s\n", ld_comm_rank(), strerror(errno));
}

/* Ranks end together, in good order or, where one has failed, at once. */
static void end_rank(bool failed) {
    if (failed && ld_comm_started()) {
        fflush(NULL);
        ld_comm_abort(1);
    }
    ld_comm_end();
}

/* The script in file `name`, NULL for standard input, with its arguments as `...`. */
static bool run_script(lua_State *L, job *j, const char *name) {
    int n = 0;
    if (name && access(name, R_OK)) {
        lua_pushfstring(L, "ldlua: cannot open %s: %s", name, strerror(errno));
        report(L, j);
        return false;
    }
    if (luaL_loadfile(L, name)) {
        report(L, j);
        return false;
    }
    if (j->o.script) {
        n = j->argc - j->o.script - 1;
        luaL_checkstack(L, n, "too many arguments");
        for (int i = 1; i <= n; i++)
            lua_pushstring(L, j->argv[j->o.script + i]);
    }
    if (!host_call(L, n, 0))
        return true;
    report(L, j);
    return false;
}

/* require 'ld.attach'.client(folder, {words}) */
static int l_attach(lua_State *L) {
    const job *j = lua_touserdata(L, 1);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "ld.attach");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "client");
    lua_pushstring(L, j->argv[j->o.attach]);
    lua_newtable(L);
    for (int i = j->o.attach + 1; i < j->argc; i++) {
        lua_pushstring(L, j->argv[i]);
        lua_rawseti(L, -2, i - j->o.attach);
    }
    lua_call(L, 2, 1);
    return 1;
}

static void run_attach(lua_State *L, job *j) {
    lua_pushcfunction(L, l_attach);
    lua_pushlightuserdata(L, j);
    if (host_call(L, 1, 1))
        report(L, j);
    else
        j->failed = !lua_toboolean(L, -1);
}

static void run_all(lua_State *L, job *j) {
    const char *script = j->o.script ? j->argv[j->o.script] : NULL;
    bool good = true;
    if ((j->o.code_count || j->o.attach) && host_preload(L)) {
        report(L, j);
        return;
    }
    if (j->o.attach) {
        run_attach(L, j);
        return;
    }
    for (int i = 0; good && i < j->o.code_count; i++)
        good = run_code(L, j, j->o.code[i]);
    if (good && script)
        run_script(L, j, strcmp(script, "-") ? script : NULL);
    else if (!script && !j->o.code_count && !j->prompt)
        run_script(L, j, NULL);
}

static int l_main(lua_State *L) {
    job *j = lua_touserdata(L, 1);
    run_all(L, j);
    return 0;
}

/* What was printed must have arrived: a full disk is a failure. */
static void flush_output(job *j) {
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "ldlua: cannot write standard output: %s\n", strerror(errno));
        j->failed = true;
    }
}

static int run_job(job *j) {
    int signal_end;
    const char *trace = getenv("LDLUA_TRACE");
    lua_State *L;
    if (!host_root_find(j->root, sizeof j->root))
        return 1;
    if (j->o.threads)
        set_threads(j->o.threads);
    host_tuning_start(j->o.no_tune);
    start_rank();
    L = luaL_newstate();
    if (!L || lua_cpcall(L, l_open, j)) {
        fprintf(stderr, "ldlua: cannot make a Lua state: out of memory\n");
        return 1;
    }
    host_trace_setup(j->root, j->o.verbose || (trace && *trace && strcmp(trace, "0") != 0));
    host_signals_start(L);
    if (lua_cpcall(L, l_main, j))
        report(L, j);
    signal_end = j->failed ? host_signal_requested() : 0;
    if (j->prompt)
        host_prompt(L);
    end_rank(j->failed);
    lua_close(L);
    host_tuning_save();
    flush_output(j);
    if (signal_end && !j->prompt)
        host_die(signal_end);
    return j->failed;
}

/* False when the version or the help was all that was asked for. */
static bool wants_job(job *j) {
    const host_options *o = &j->o;
    bool work = o->script || o->code_count || o->attach;
    j->prompt = o->prompt || (!work && !o->verbose && isatty(STDIN_FILENO));
    return !o->help && !o->version && (work || j->prompt || !o->verbose);
}

int main(int argc, char **argv) {
    static job j;
    int status = host_options_read(&j.o, argc, argv);
    j.argc = argc;
    j.argv = argv;
    if (status) {
        free(j.o.code);
        return status;
    }
    wait_without_spinning(argv, &j.o);
    if (j.o.doctor && !j.o.help) {
        status = host_doctor();
        flush_output(&j);
        free(j.o.code);
        return status || j.failed;
    }
    if (j.o.help)
        host_print_help();
    else if (j.o.version || j.o.verbose)
        puts("ldlua " LD_VERSION " (" LUAJIT_VERSION ")");
    if (wants_job(&j)) {
        status = run_job(&j);
    } else {
        flush_output(&j);
        status = j.failed;
    }
    free(j.o.code);
    return status;
}
