/* Errors and positions: what the user sees when something goes wrong. */
#include "lua/ldl.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char library[512] = "@lua/ld/";

void ldl_set_library(const char *prefix) {
    snprintf(library, sizeof library, "%s", prefix);
}

/* The first Lua frame outside the library, else the first Lua frame at all. */
static bool user_frame(lua_State *L, lua_Debug *ar) {
    lua_Debug a;
    bool any = false;
    for (int level = 0; lua_getstack(L, level, &a); level++) {
        lua_getinfo(L, "Sl", &a);
        if (a.currentline < 0)
            continue;
        if (strncmp(a.source, library, strlen(library))) {
            *ar = a;
            return true;
        }
        if (!any)
            *ar = a;
        any = true;
    }
    return any;
}

ld_where ldl_where(lua_State *L) {
    lua_Debug ar;
    if (!user_frame(L, &ar))
        return (ld_where){NULL, 0};
    return (ld_where){ld_intern(ar.short_src), ar.currentline};
}

static ld_where where_hook(void *L) {
    return ldl_where(L);
}

void ldl_install_where(lua_State *L) {
    ld_where_hook(where_hook, L);
}

static int raise_text(lua_State *L, const char *text) {
    lua_Debug ar;
    if (user_frame(L, &ar))
        lua_pushfstring(L, "%s:%d: %s", ar.short_src, ar.currentline, text);
    else
        lua_pushfstring(L, "%s", text);
    return lua_error(L);
}

int ldl_raise(lua_State *L) {
    char text[1024];
    snprintf(text, sizeof text, "%s", ld_error());
    return raise_text(L, text);
}

int ldl_error(lua_State *L, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return raise_text(L, text);
}

void ldl_ok(lua_State *L, int code) {
    if (code)
        ldl_raise(L);
}
