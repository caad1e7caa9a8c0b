/* The binding's entry: opens the core as the Lua module `ld.core`, which lua/ld/init.lua builds `ld` upon. */
#ifndef LUA_LD_H
#define LUA_LD_H

#include <lua.h>

int luaopen_ld_core(lua_State *L);

#endif
