/* Time per operation in Lua: profile(f). */
#include "lua/ldl.h"

#include "backend/profile.h"

#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void push_entries(lua_State *L) {
    ld_profile_entry e;
    lua_newtable(L);
    for (int i = 0; ld_profile_at(i, &e); i++) {
        lua_createtable(L, 0, 4);
        lua_pushstring(L, e.slot);
        lua_setfield(L, -2, "op");
        lua_pushstring(L, e.backward ? "backward" : "forward");
        lua_setfield(L, -2, "pass");
        lua_pushnumber(L, (lua_Number)e.calls);
        lua_setfield(L, -2, "calls");
        lua_pushnumber(L, e.seconds);
        lua_setfield(L, -2, "seconds");
        lua_rawseti(L, -2, i + 1);
    }
}

/* profile(f): {seconds, ops = {{op, pass = 'forward' or 'backward', calls, seconds}, ...}}, then f's results. */
static int l_profile(lua_State *L) {
    ldl_callable(L, 1, "profile");
    lua_settop(L, 1);
    ldl_ok(L, ld_profile_begin(ldl_default_device()));
    double start = now();
    int bad = lua_pcall(L, 0, LUA_MULTRET, 0);
    double seconds = now() - start;
    ld_profile_end();
    if (bad)
        return lua_error(L);
    lua_createtable(L, 0, 2);
    lua_pushnumber(L, seconds);
    lua_setfield(L, -2, "seconds");
    push_entries(L);
    lua_setfield(L, -2, "ops");
    lua_insert(L, 1);
    return lua_gettop(L);
}

void ldl_open_profile(lua_State *L) {
    lua_pushcfunction(L, l_profile);
    lua_setfield(L, -2, "profile");
}
