/* Strict globals: a misspelt name is an error where it is used.
 *
 * A global is declared by assigning to it at the top level of a file, of -e code or of the prompt, or from C. Reading any
 * other, or assigning to it inside a function, is an error. rawget(_G, name) and rawset(_G, name, value) pass by all this.
 * Declared globals that hold a value never come here, so that they cost nothing. */
#include "host/host.h"

#include <lauxlib.h>
#include <string.h>

/* 'm' when a main chunk, 'C' when C code made the access that called this metamethod, 'L' for a Lua function. */
static char accessor(lua_State *L) {
    lua_Debug ar;
    if (!lua_getstack(L, 1, &ar) || !lua_getinfo(L, "S", &ar))
        return 'C';
    return strcmp(ar.what, "main") ? ar.what[0] : 'm';
}

static bool declared(lua_State *L, int name) {
    bool yes;
    lua_pushvalue(L, name);
    lua_rawget(L, lua_upvalueindex(1));
    yes = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return yes;
}

/* The key for a message; other keys than names are rare enough to be shown by their type. */
static const char *shown(lua_State *L, int name) {
    return lua_type(L, name) == LUA_TSTRING ? lua_tostring(L, name) : luaL_typename(L, name);
}

/* " (did you mean ld.name?)" where the library, once loaded, has such a name; else what is usually the matter. */
static const char *hint(lua_State *L) {
    static const char *const usual = " (a misspelt name, or `local` or `require` is missing)";
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_pushliteral(L, "ld");
    lua_rawget(L, -2);
    if (lua_type(L, 2) != LUA_TSTRING || !lua_istable(L, -1))
        return usual;
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    return lua_isnil(L, -1) ? usual : lua_pushfstring(L, " (did you mean ld.%s?)", lua_tostring(L, 2));
}

static int l_read(lua_State *L) { /* _G, name */
    if (accessor(L) != 'C' && !declared(L, 2))
        return luaL_error(L, "global '%s' is not declared%s", shown(L, 2), hint(L));
    lua_pushnil(L);
    return 1;
}

static int l_assign(lua_State *L) { /* _G, name, value */
    if (!declared(L, 2)) {
        if (accessor(L) == 'L')
            return luaL_error(L,
                              "assignment to undeclared global '%s' in a function (write `local %s`, or declare it at "
                              "the top level of the file)",
                              shown(L, 2), shown(L, 2));
        lua_pushvalue(L, 2);
        lua_pushboolean(L, 1);
        lua_rawset(L, lua_upvalueindex(1));
    }
    lua_rawset(L, 1);
    return 0;
}

void host_strict(lua_State *L) {
    lua_newtable(L); /* the metatable */
    lua_newtable(L); /* the declared names */
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, l_read, 1);
    lua_setfield(L, -3, "__index");
    lua_pushcclosure(L, l_assign, 1);
    lua_setfield(L, -2, "__newindex");
    lua_setmetatable(L, LUA_GLOBALSINDEX);
}
