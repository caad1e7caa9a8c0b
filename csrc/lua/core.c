/* The module ld.core: everything the C core offers to Lua. */
#include "lua/lua_ld.h"

#include "lua/ldl.h"

/* fail(message): an error at the user's line. */
static int l_fail(lua_State *L) {
    return ldl_error(L, "%s", luaL_checkstring(L, 1));
}

/* set_library(prefix): frames whose source begins so belong to the library. */
static int l_set_library(lua_State *L) {
    ldl_set_library(luaL_checkstring(L, 1));
    return 0;
}

/* where(): the user's position, as "file:line". */
static int l_where(lua_State *L) {
    ld_where w = ldl_where(L);
    lua_pushfstring(L, "%s:%d", w.file ? w.file : "?", w.line);
    return 1;
}

int luaopen_ld_core(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"fail", l_fail}, {"set_library", l_set_library}, {"position", l_where}, {NULL, NULL}};
    ldl_install_where(L);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    ldl_open_scope(L);
    ldl_open_memory(L);
    ldl_open_tune(L);
    ldl_open_profile(L);
    ldl_open_tensor(L);
    ldl_open_index(L);
    ldl_open_print(L);
    ldl_open_op(L);
    ldl_open_shape(L);
    ldl_open_layer(L);
    ldl_open_optim(L);
    ldl_open_graph(L);
    ldl_open_diffusion(L);
    ldl_open_io(L);
    ldl_open_data(L);
    ldl_open_source(L);
    ldl_open_pipeline(L);
    ldl_open_store(L);
    ldl_open_latents(L);
    ldl_open_npy(L);
    ldl_open_json(L);
    ldl_open_ranks(L);
    ldl_open_event(L);
    return 1;
}
