/* Timed choices in Lua: tune(). */
#include "lua/ldl.h"

#include "backend/tune.h"

#include <stdlib.h>
#include <string.h>

/* The lines of everything known, without the first, as {key, way, times}. */
static void push_choices(lua_State *L, char *text) {
    lua_newtable(L);
    char *line = strchr(text, '\n'), *rest;
    int n = 0;
    for (line = line ? line + 1 : NULL; line && *line; line = rest) {
        char *end = strchr(line, '\n');
        rest = end ? end + 1 : NULL;
        if (end)
            *end = 0;
        char *way = strchr(line, ' '), *times = way ? strchr(way + 1, ' ') : NULL;
        if (!times)
            continue;
        *way = *times = 0;
        lua_createtable(L, 0, 3);
        lua_pushstring(L, line);
        lua_setfield(L, -2, "key");
        lua_pushstring(L, way + 1);
        lua_setfield(L, -2, "way");
        lua_pushstring(L, times + 1);
        lua_setfield(L, -2, "milliseconds");
        lua_rawseti(L, -2, ++n);
    }
}

/* tune(): {on, choices = {{key, way, milliseconds}, ...}}: how convolutions are computed, of each shape and direction met so
 * far, and the times of the ways that were tried. tune(true) and tune(false) switch the timing of new shapes on and off: off,
 * a fixed rule chooses, the same way on every run. tune('forget') drops all choices, so that they are made again. */
static int l_tune(lua_State *L) {
    if (lua_isboolean(L, 1)) {
        ld_tune_set(lua_toboolean(L, 1));
    } else if (!lua_isnoneornil(L, 1)) {
        const char *what = ldl_string(L, 1, "tune", "what to do");
        if (strcmp(what, "forget"))
            ldl_error(L, "tune: unknown word '%s'; known: forget, true, false", what);
        ld_tune_clear();
    }
    char *text = ld_tune_text();
    if (!text)
        ldl_raise(L);
    lua_createtable(L, 0, 2);
    lua_pushboolean(L, ld_tune_is_on());
    lua_setfield(L, -2, "on");
    push_choices(L, text);
    free(text);
    lua_setfield(L, -2, "choices");
    return 1;
}

void ldl_open_tune(lua_State *L) {
    lua_pushcfunction(L, l_tune);
    lua_setfield(L, -2, "tune");
}
