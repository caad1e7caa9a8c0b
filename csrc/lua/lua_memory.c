/* Memory in Lua: the pool's figures, its limit, planning. */
#include "lua/ldl.h"

#include "backend/plan.h"

#include <string.h>

static void set_number(lua_State *L, const char *key, double v) {
    lua_pushnumber(L, v);
    lua_setfield(L, -2, key);
}

/* The device named by argument i, or the default one. */
static ld_device *device_at(lua_State *L, int i, const char *who) {
    if (lua_isnoneornil(L, i))
        return ldl_default_device();
    ld_device *d = ld_device_find(ldl_string(L, i, who, "the device"));
    if (!d)
        ldl_raise(L);
    return d;
}

/* The operations whose blocks take most: {op, bytes, blocks} each. */
static void push_users(lua_State *L, const ld_pool *pool) {
    enum { USERS = 12 };
    ld_pool_user u[USERS];
    int n = ld_pool_users(pool, u, USERS);
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        lua_createtable(L, 0, 3);
        lua_pushstring(L, u[i].who);
        lua_setfield(L, -2, "op");
        set_number(L, "bytes", (double)u[i].bytes);
        set_number(L, "blocks", (double)u[i].blocks);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "largest");
}

/* memory(): {live, cached, packed (weights in a kernel's form, kept while a network stays the same, given back when memory
 * runs short), peak of live, graphs (of live, held by recorded steps; bytes), blocks, tensors}; memory('reset') also sets peak to live; 'trim' frees the cache; 'largest'
 * adds `largest`, the operations that hold most, {op, bytes, blocks} each. Of the default device, or of the one named: memory('', 'cpu'). */
static int l_memory(lua_State *L) {
    lua_remove(L, 1); /* the table that is called */
    ld_pool *pool = device_at(L, 2, "memory")->pool;
    const char *what = lua_isnoneornil(L, 1) ? "" : ldl_string(L, 1, "memory", "what to do");
    if (*what && strcmp(what, "trim") && strcmp(what, "reset") && strcmp(what, "largest"))
        ldl_error(L, "memory: unknown word '%s'; known: reset trim largest", what);
    if (!strcmp(what, "trim"))
        ld_pool_trim(pool);
    ld_pool_stats s = ld_pool_figures(pool);
    lua_createtable(L, 0, 9);
    set_number(L, "live", (double)s.live);
    set_number(L, "cached", (double)s.cached);
    set_number(L, "packed", (double)s.spare);
    set_number(L, "peak", (double)s.peak);
    set_number(L, "graphs", (double)s.graphs);
    if (!strcmp(what, "largest"))
        push_users(L, pool);
    set_number(L, "blocks", (double)s.blocks);
    set_number(L, "allocations", (double)s.allocations);
    set_number(L, "tensors", (double)ld_tensor_count());
    if (!strcmp(what, "reset"))
        ld_pool_reset_peak(pool);
    return 1;
}

/* memory_limit(bytes, device): live + cached stay below it; 0 lifts the limit. */
static int l_memory_limit(lua_State *L) {
    int64_t bytes = ldl_int(L, 1, "memory_limit", "the number of bytes");
    if (bytes < 0)
        ldl_error(L, "memory_limit: %lld bytes; 0 stands for no limit", (long long)bytes);
    ld_pool_set_limit(device_at(L, 2, "memory_limit")->pool, (size_t)bytes);
    return 0;
}

/* synchronize(device): returns when the device has done all work it was given; errors of that work come out here. */
static int l_synchronize(lua_State *L) {
    if (ld_device_wait(device_at(L, 1, "synchronize")))
        ldl_raise(L);
    return 0;
}

/* memory_fail_at(k, device): for tests, the k-th request for memory from now on fails; 0 switches off. */
static int l_memory_fail_at(lua_State *L) {
    int64_t k = ldl_int(L, 1, "memory_fail_at", "the number of the request");
    ld_pool_fail_at(device_at(L, 2, "memory_fail_at")->pool, k);
    return 0;
}

/* ---- planning ------------------------------------------------------------------------------------------------------- */

static void push_figures(lua_State *L, const ld_plan_figures *f) {
    lua_createtable(L, 0, 4);
    set_number(L, "peak", (double)f->peak);
    set_number(L, "before", (double)f->before);
    set_number(L, "workspace", (double)f->workspace);
    set_number(L, "held", (double)f->held);
}

static int push_report(lua_State *L, const ld_plan_report *r) {
    push_figures(L, &r->again);
    push_figures(L, &r->first);
    lua_setfield(L, -2, "first");
    set_number(L, "largest_workspace", (double)r->workspace);
    set_number(L, "outlived", (double)r->outlived);
    if (r->outlived) {
        lua_pushstring(L, r->outlived_who);
        lua_setfield(L, -2, "outlived_op");
    }
    lua_createtable(L, r->uses, 0);
    for (int i = 0; i < r->uses; i++) {
        lua_createtable(L, 0, 3);
        lua_pushstring(L, r->use[i].who);
        lua_setfield(L, -2, "op");
        set_number(L, "bytes", (double)r->use[i].bytes);
        set_number(L, "blocks", (double)r->use[i].blocks);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "largest");
    return 1;
}

/* memory.plan(f): how much memory calls of f need, in bytes, without computing: {peak, before (of it, there before the
 * call), workspace (of it), held (the most that is given out or kept for reuse), largest = {{op, bytes, blocks}, ...} at the
 * peak, largest_workspace, room (what the process may have in all), outlived (what f made and
 * kept; it holds zeros) and outlived_op (that made the first of it), first = {the same figures of the first call}}. The
 * figures of the table itself are those of a call that finds what an earlier one left, such as an optimiser's state. f is
 * run once: its operations take memory but compute nothing, new tensors read as zeros, and weights, gradients, optimisers,
 * averages and the generator are afterwards as they were. Other things f does, such as printing, it does. */
static int l_plan(lua_State *L) {
    ldl_callable(L, 1, "memory.plan");
    lua_settop(L, 1);
    ld_device *d = ldl_default_device();
    ld_generator generator = ld_random;
    bool recording = ld_recording();
    ld_plan_report report;
    lua_gc(L, LUA_GCCOLLECT, 0);
    ld_pool_clear_debt(d->pool);
    ldl_ok(L, ld_plan_begin(d));
    lua_getfield(L, LUA_REGISTRYINDEX, "ld.scope");
    lua_insert(L, 1);
    int bad = lua_pcall(L, 1, 0, 0);
    ld_set_recording(recording);
    lua_gc(L, LUA_GCCOLLECT, 0); /* what f has let go of is no part of what it leaves */
    ld_plan_end(&report);
    ld_pool_clear_debt(d->pool);
    ld_random = generator;
    if (bad)
        return lua_error(L);
    size_t room = ld_device_room(d), limit = ld_pool_limit(d->pool);
    room += ld_pool_figures(d->pool).live + ld_pool_figures(d->pool).cached;
    push_report(L, &report);
    set_number(L, "room", (double)(limit && limit < room ? limit : room));
    return 1;
}

void ldl_open_memory(lua_State *L) {
    static const luaL_Reg functions[] = {{"memory_limit", l_memory_limit},
                                         {"synchronize", l_synchronize},
                                         {"memory_fail_at", l_memory_fail_at},
                                         {NULL, NULL}};
    luaL_register(L, NULL, functions);
    lua_getfield(L, -1, "scope");
    lua_setfield(L, LUA_REGISTRYINDEX, "ld.scope");
    lua_newtable(L);
    lua_pushcfunction(L, l_plan);
    lua_setfield(L, -2, "plan");
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, l_memory);
    lua_setfield(L, -2, "__call");
    lua_setmetatable(L, -2);
    lua_setfield(L, -2, "memory");
}
