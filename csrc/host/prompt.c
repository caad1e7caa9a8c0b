/* The prompt: read a statement, run it, print what it gave. Lines that are no Lua (? name, ??word, .time ..., who) are
 * commands of lua/ld/prompt.lua. The registry's table ld.statements has the statements of the session, as typed. */
#include "host/host.h"

#include "base/version.h"

#include <lauxlib.h>
#include <luajit.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_NAME "=prompt"

static int l_preload(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "ld");
    lua_call(L, 1, 1);
    lua_pushvalue(L, -1);
    lua_setglobal(L, "ld");
    lua_getfield(L, -1, "nn");
    lua_setglobal(L, "nn");
    return 0;
}

int host_preload(lua_State *L) {
    lua_pushcfunction(L, l_preload);
    return host_call(L, 0, 0);
}

static void report(lua_State *L) {
    const char *text = lua_tostring(L, -1);
    fflush(stdout);
    fprintf(stderr, "%s\n", text ? text : "(an error without a message)");
    lua_pop(L, 1);
}

/* ---- compiling -------------------------------------------------------------------------------------------------------- */

/* True when the syntax error on top of the stack came from reaching the end: more lines may mend it. */
static bool unfinished(lua_State *L) {
    static const char mark[] = "near '<eof>'";
    size_t n, m = sizeof mark - 1;
    const char *text = lua_tolstring(L, -1, &n);
    return text && n >= m && !strcmp(text + n - m, mark);
}

static int compile(lua_State *L, const char *before, const char *text) {
    int status;
    lua_pushfstring(L, "%s%s", before, text);
    status = luaL_loadbuffer(L, lua_tostring(L, -1), lua_objlen(L, -1), CHUNK_NAME);
    lua_remove(L, -2);
    return status;
}

typedef enum outcome { OUTCOME_READY, OUTCOME_MORE, OUTCOME_ERROR } outcome;

/* What a statement gives besides values. */
typedef struct statement {
    bool expression; /* it returns a nil before its values: see EXPRESSION */
    bool call;       /* an expression that is a statement as well, that is, a call */
} statement;

/* With the nil, a call is no tail call, and the line that called stays on the stack for error messages. */
#define EXPRESSION "return nil, "

/* Text as an expression, else as a statement: leaves the function, or the error. */
static outcome compile_statement(lua_State *L, const char *text, statement *s) {
    bool more;
    const char *start = text + strspn(text, " \t\n");
    s->expression = !compile(L, EXPRESSION, *start == '=' ? start + 1 : text);
    s->call = false;
    if (s->expression) {
        s->call = !compile(L, "", text);
        lua_pop(L, 1);
        return OUTCOME_READY;
    }
    more = unfinished(L);
    lua_pop(L, 1);
    if (!compile(L, "", text))
        return OUTCOME_READY;
    return more || unfinished(L) ? OUTCOME_MORE : OUTCOME_ERROR;
}

/* ---- commands ------------------------------------------------------------------------------------------------------- */

/* Whether a line is that word alone, also called without arguments, and no global has its name. */
static bool is_word(lua_State *L, const char *line, const char *word) {
    bool variable;
    size_t n = strlen(word);
    line += strspn(line, " \t");
    if (strncmp(line, word, n))
        return false;
    line += n;
    if (!strncmp(line, "()", 2))
        line += 2;
    if (line[strspn(line, " \t")])
        return false;
    lua_pushstring(L, word);
    lua_rawget(L, LUA_GLOBALSINDEX);
    variable = !lua_isnil(L, -1);
    lua_pop(L, 1);
    return !variable;
}

/* A Lua statement begins with neither ? nor a point. */
static bool is_command(lua_State *L, const char *line) {
    const char *text = line + strspn(line, " \t");
    return *text == '?' || (*text == '.' && text[1] >= 'a' && text[1] <= 'z') || is_word(L, line, "who") ||
           is_word(L, line, "help");
}

static bool is_end(lua_State *L, const char *line) {
    return is_word(L, line, "exit") || is_word(L, line, "quit");
}

static int l_command(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "ld.prompt");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "command");
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_call(L, 1, 0);
    return 0;
}

/* ---- reading ---------------------------------------------------------------------------------------------------------- */

/* Adds the text at index i to the session's statements. */
static void remember_statement(lua_State *L, int i) {
    lua_pushvalue(L, i);
    lua_getfield(L, LUA_REGISTRYINDEX, "ld.statements");
    if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setfield(L, LUA_REGISTRYINDEX, "ld.statements");
    }
    lua_insert(L, -2);
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    lua_pop(L, 1);
}

/* Reads lines until they make a statement; leaves its function, or the error when `outcome` says so. */
static edit_result read_statement(lua_State *L, outcome *o, statement *s) {
    const char *line;
    edit_result r = edit_read("> ", &line);
    if (r != EDIT_LINE)
        return r;
    if (is_end(L, line))
        return EDIT_END;
    lua_pushstring(L, line);
    if (is_command(L, line)) {
        edit_remember(line);
        remember_statement(L, -1);
        lua_pushcclosure(L, l_command, 1);
        *o = OUTCOME_READY;
        *s = (statement){.expression = false};
        return EDIT_LINE;
    }
    while ((*o = compile_statement(L, lua_tostring(L, -1), s)) == OUTCOME_MORE) {
        r = edit_read(">> ", &line);
        if (r == EDIT_END) { /* the error tells what was missing */
            *o = OUTCOME_ERROR;
            break;
        }
        lua_pop(L, 1);
        if (r != EDIT_LINE) {
            lua_pop(L, 1);
            return r;
        }
        lua_pushfstring(L, "%s\n%s", lua_tostring(L, -1), line);
        lua_remove(L, -2);
    }
    edit_remember(lua_tostring(L, -2));
    if (*o == OUTCOME_READY)
        remember_statement(L, -2);
    lua_remove(L, -2);
    return EDIT_LINE;
}

/* ---- printing --------------------------------------------------------------------------------------------------------- */

/* Pushes ld.repr, or tostring when ld is not loaded or has none. */
static void push_printer(lua_State *L) {
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_pushliteral(L, "ld");
    lua_rawget(L, -2);
    if (lua_istable(L, -1)) {
        lua_pushliteral(L, "repr");
        lua_rawget(L, -2);
        if (lua_isfunction(L, -1))
            return;
    }
    lua_getglobal(L, "tostring");
}

/* Prints its arguments, on one line unless one of them takes several. */
static int l_print(lua_State *L) {
    int n = lua_gettop(L);
    const char *between = "\t";
    luaL_checkstack(L, n + 8, "too many values to print");
    push_printer(L);
    for (int i = 1; i <= n; i++) {
        lua_pushvalue(L, -1);
        lua_pushvalue(L, i);
        lua_call(L, 1, 1);
        if (!lua_isstring(L, -1))
            return luaL_error(L, "a value's text is a %s, not a string", luaL_typename(L, -1));
        if (strchr(lua_tostring(L, -1), '\n'))
            between = "\n";
        lua_replace(L, i);
    }
    for (int i = 1; i <= n; i++) {
        size_t length;
        const char *text = lua_tolstring(L, i, &length);
        fwrite(text, 1, length, stdout);
        fputs(i < n ? between : "\n", stdout);
    }
    return 0;
}

/* The n values on top of the stack: the first into _, all of them printed. A call that gives nil prints nothing. */
static void print_values(lua_State *L, int n, bool call) {
    if (n == 0 || (n == 1 && call && lua_isnil(L, -1))) {
        lua_pop(L, n);
        return;
    }
    lua_pushvalue(L, -n);
    lua_setglobal(L, "_");
    lua_pushcfunction(L, l_print);
    lua_insert(L, -n - 1);
    if (host_call(L, n, 0))
        report(L);
}

/* ---- the loop --------------------------------------------------------------------------------------------------------- */

/* At a terminal, what took longer than this is told its time. */
#define LONG_SECONDS 0.1

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void tell_time(double seconds) {
    if (seconds > LONG_SECONDS && isatty(STDIN_FILENO))
        printf("(%.*f s)\n", seconds < 10 ? 2 : 1, seconds);
}

/* Runs and prints the function on top of the stack. */
static void run_statement(lua_State *L, const statement *s) {
    int below = lua_gettop(L) - 1;
    double start = now();
    host_signals_phase(HOST_PROMPT);
    if (host_call(L, 0, LUA_MULTRET))
        report(L);
    else
        print_values(L, lua_gettop(L) - below - s->expression, s->call);
    lua_settop(L, below);
    tell_time(now() - start);
    fflush(stdout);
}

/* Tensors remember the lines that make them, for `who`. */
static int l_note_makers(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "ld.core");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "note_makers");
    lua_pushboolean(L, true);
    lua_call(L, 1, 0);
    return 0;
}

/* Leaves the signal that ended the prompt in the int at the light userdata it is given. */
static int l_prompt(lua_State *L) {
    int *signal_end = lua_touserdata(L, 1);
    lua_settop(L, 0);
    host_signals_phase(HOST_PROMPT);
    if (host_preload(L))
        report(L);
    lua_pushcfunction(L, l_note_makers);
    if (lua_pcall(L, 0, 0, 0))
        lua_pop(L, 1);
    for (;;) {
        outcome o = OUTCOME_ERROR;
        statement s = {0};
        edit_result r;
        host_signals_phase(HOST_EDIT);
        r = read_statement(L, &o, &s);
        if (r == EDIT_TERMINATE)
            *signal_end = host_edit_signal();
        if (r == EDIT_END || r == EDIT_TERMINATE)
            return 0;
        if (r == EDIT_CANCEL)
            continue;
        if (o == OUTCOME_READY)
            run_statement(L, &s);
        else
            report(L);
    }
}

void host_prompt(lua_State *L) {
    int signal_end = 0;
    if (isatty(STDIN_FILENO))
        puts("ldlua " LD_VERSION ". ? helps, Tab completes, Ctrl-C stops, Ctrl-D ends.");
    edit_open(L);
    if (lua_cpcall(L, l_prompt, &signal_end))
        report(L);
    host_signals_phase(HOST_SCRIPT);
    if (signal_end)
        host_die(signal_end);
}
