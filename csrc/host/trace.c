/* What an uncaught error prints: the message with the user's own line first, then where it came from. */
#include "host/host.h"

#include <ctype.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Of a deep stack the innermost and the outermost levels are shown. */
#define SHOWN_LEVELS 12

static char library[PATH_MAX + 16]; /* "@<root>/lua/ld/" */
static bool show_all;

void host_trace_setup(const char *root, bool verbose) {
    snprintf(library, sizeof library, "@%s/lua/ld/", root);
    show_all = verbose;
}

static bool is_library(const lua_Debug *ar) {
    return !strncmp(ar->source, library, strlen(library));
}

static bool is_user(const lua_Debug *ar) {
    return ar->currentline >= 0 && !is_library(ar);
}

static bool user_frame(lua_State *L, lua_Debug *ar) {
    for (int level = 1; lua_getstack(L, level, ar); level++) {
        lua_getinfo(L, "Sl", ar);
        if (is_user(ar))
            return true;
    }
    return false;
}

/* The length of a leading "file:line: ", 0 when there is none. */
static size_t position_length(const char *text) {
    const char *end = strstr(text, ": "), *p = end;
    if (!end)
        return 0;
    while (p > text && isdigit((unsigned char)p[-1]))
        p--;
    return p < end && p - 1 > text && p[-1] == ':' ? (size_t)(end - text) + 2 : 0;
}

/* The frame of the library at which the message's position points, if there is one. */
static bool library_position(lua_State *L, const char *text, lua_Debug *ar) {
    for (int level = 1; lua_getstack(L, level, ar); level++) {
        size_t n;
        lua_getinfo(L, "Sl", ar);
        n = strlen(ar->short_src);
        if (ar->currentline >= 0 && is_library(ar) && !strncmp(text, ar->short_src, n) && text[n] == ':')
            return true;
    }
    return false;
}

/* Pushes the message; a position inside the library moves to its end, behind the line that called the library. */
static void push_placed(lua_State *L, const char *text) {
    lua_Debug user, inner;
    size_t n = position_length(text);
    bool found = user_frame(L, &user);
    if (!found || show_all)
        lua_pushstring(L, text);
    else if (!n)
        lua_pushfstring(L, "%s:%d: %s", user.short_src, user.currentline, text);
    else if (library_position(L, text, &inner))
        lua_pushfstring(L, "%s:%d: %s (at ld/%s:%d)", user.short_src, user.currentline, text + n,
                        inner.source + strlen(library), inner.currentline);
    else
        lua_pushstring(L, text);
}

static void add_frame(lua_State *L, luaL_Buffer *b, const lua_Debug *ar) {
    const char *file = ar->source[0] == '@' ? ar->source + 1 : ar->short_src;
    if (ar->currentline >= 0)
        lua_pushfstring(L, "\n    %s:%d: in ", file, ar->currentline);
    else
        lua_pushfstring(L, "\n    %s: in ", ar->short_src);
    luaL_addvalue(b);
    if (ar->what[0] == 'm')
        lua_pushliteral(L, "the main chunk");
    else if (*ar->namewhat)
        lua_pushfstring(L, "'%s'", ar->name);
    else if (ar->what[0] == 'C')
        lua_pushliteral(L, "a C function");
    else
        lua_pushfstring(L, "the function at line %d", ar->linedefined);
    luaL_addvalue(b);
}

static void add_folded(lua_State *L, luaL_Buffer *b, int count) {
    if (!count)
        return;
    lua_pushfstring(L, "\n    ... %d frame%s of ldlua", count, count > 1 ? "s" : "");
    luaL_addvalue(b);
}

/* Frames of the library and C functions within are folded; C functions elsewhere (pcall, error) are left out. */
static void add_frames(lua_State *L, luaL_Buffer *b, int levels) {
    int folded = 0, hidden = 0;
    lua_Debug ar;
    for (int level = 1; level < levels && lua_getstack(L, level, &ar); level++) {
        if (level == SHOWN_LEVELS && levels > 2 * SHOWN_LEVELS) {
            add_folded(L, b, folded);
            folded = 0;
            lua_pushfstring(L, "\n    ... %d levels more", levels - 2 * SHOWN_LEVELS);
            luaL_addvalue(b);
            level = levels - SHOWN_LEVELS - 1;
            continue;
        }
        lua_getinfo(L, "Sln", &ar);
        if (show_all || is_user(&ar)) {
            add_folded(L, b, folded);
            hidden += folded;
            folded = 0;
            add_frame(L, b, &ar);
        } else if (is_library(&ar)) {
            folded++;
        }
    }
    add_folded(L, b, folded);
    if (hidden + folded)
        luaL_addstring(b, "\n    (-v or LDLUA_TRACE=1 shows every frame)");
}

/* A lone frame says nothing that the message does not. */
static bool worth_showing(lua_State *L, int *levels) {
    int lua_frames = 0, n = 1;
    lua_Debug ar;
    for (; lua_getstack(L, n, &ar); n++) {
        lua_getinfo(L, "Sl", &ar);
        lua_frames += ar.currentline >= 0;
    }
    *levels = n;
    return show_all || lua_frames > 1;
}

/* The error handler. An error object that is no string but has __tostring is shown as that, with nothing added: for
 * messages to which a position would add nothing. */
static int explain(lua_State *L) {
    luaL_Buffer b;
    int levels;
    if (!lua_isstring(L, 1)) {
        if (!luaL_callmeta(L, 1, "__tostring") || !lua_isstring(L, -1))
            lua_pushfstring(L, "(the error is a %s value)", luaL_typename(L, 1));
        return 1;
    }
    push_placed(L, lua_tostring(L, 1));
    if (!worth_showing(L, &levels))
        return 1;
    lua_replace(L, 1);
    luaL_buffinit(L, &b);
    lua_pushvalue(L, 1);
    luaL_addvalue(&b);
    add_frames(L, &b, levels);
    luaL_pushresult(&b);
    return 1;
}

int host_call(lua_State *L, int n, int results) {
    int base = lua_gettop(L) - n, status;
    lua_pushcfunction(L, explain);
    lua_insert(L, base);
    status = lua_pcall(L, n, results, base);
    lua_remove(L, base);
    return status;
}
