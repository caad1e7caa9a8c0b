/* Tensor handles, scopes and memory pressure. */
#include "lua/ldl.h"

#include <stdlib.h>
#include <string.h>

/* Handles made while a scope is open, innermost last. A collected handle leaves a hole. */
static ldl_handle **slots;
static int slot_count, slot_room, scope_depth;
static ld_device *default_device;

ld_device *ldl_default_device(void) {
    if (!default_device)
        default_device = ld_device_find("cpu");
    return default_device;
}

void ldl_set_default_device(ld_device *d) {
    default_device = d;
}

static void enlist(ldl_handle *h) {
    h->slot = -1;
    if (!scope_depth)
        return;
    if (slot_count == slot_room) {
        int room = slot_room ? 2 * slot_room : 1024;
        ldl_handle **more = realloc(slots, (size_t)room * sizeof *more);
        if (!more)
            return; /* the collector will free it */
        slots = more;
        slot_room = room;
    }
    h->slot = slot_count;
    slots[slot_count++] = h;
}

/* Collect when a device's pool has a debt above `least` bytes, and above a share of what is live there. */
static void collect_above(lua_State *L, size_t least, size_t share) {
    ld_device *d;
    bool due = false;
    for (int i = 0; (d = ld_device_at(i)) && !due; i++) {
        size_t debt = ld_pool_debt(d->pool);
        due = debt > least && (!share || debt > ld_pool_figures(d->pool).live / share);
    }
    if (!due)
        return;
    lua_gc(L, LUA_GCCOLLECT, 0);
    for (int i = 0; (d = ld_device_at(i)); i++)
        ld_pool_clear_debt(d->pool);
}

/* Lua sees a tensor as a few bytes: collect when the bytes behind dead handles may have piled up. */
static void relieve(lua_State *L) {
    collect_above(L, (size_t)512 << 20, 2);
}

void ldl_let_tape_free(lua_State *L) {
    collect_above(L, (size_t)64 << 20, 0);
}

/* While the prompt asks for it: which line made the tensor of the handle on top, in the table of the registry `ld.makers`,
 * whose keys are weak. Lines typed at the prompt are kept as they were typed. */
static bool noting;

static void push_typed_line(lua_State *L, int line) {
    lua_getfield(L, LUA_REGISTRYINDEX, "ld.statements");
    if (lua_istable(L, -1))
        lua_rawgeti(L, -1, (int)lua_objlen(L, -1));
    else
        lua_pushnil(L);
    const char *text = lua_tostring(L, -1);
    while (text && --line > 0)
        text = strchr(text, '\n') ? strchr(text, '\n') + 1 : NULL;
    lua_pushlstring(L, text ? text : "", text ? strcspn(text, "\n") : 0);
    lua_replace(L, -3);
    lua_pop(L, 1);
}

static void note_maker(lua_State *L) {
    ld_where w = ldl_where(L);
    if (!lua_checkstack(L, 8))
        return;
    lua_getfield(L, LUA_REGISTRYINDEX, "ld.makers");
    lua_pushvalue(L, -2);
    if (w.file && !strcmp(w.file, "prompt"))
        push_typed_line(L, w.line);
    else
        lua_pushfstring(L, "%s:%d", w.file ? w.file : "?", w.line);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* note_makers(on): the table {[tensor] = the line that made it}, filled from now on. */
static int l_note_makers(lua_State *L) {
    noting = lua_toboolean(L, 1);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, "ld.makers");
    return 1;
}

int ldl_push(lua_State *L, ld_tensor *x) {
    if (!x)
        return ldl_raise(L);
    ldl_handle *h = lua_newuserdata(L, sizeof *h);
    h->x = x;
    luaL_getmetatable(L, LDL_TENSOR);
    lua_setmetatable(L, -2);
    enlist(h);
    if (noting)
        note_maker(L);
    relieve(L);
    return 1;
}

void ldl_push_shape(lua_State *L, int ndim, const int64_t *shape) {
    lua_createtable(L, ndim, 0);
    for (int i = 0; i < ndim; i++) {
        lua_pushnumber(L, (lua_Number)shape[i]);
        lua_rawseti(L, -2, i + 1);
    }
}

static void let_go(ldl_handle *h) {
    if (h->slot >= 0)
        slots[h->slot] = NULL;
    h->slot = -1;
    ld_tensor *x = h->x;
    h->x = NULL;
    ld_tensor_drop(x);
}

void ldl_host_done(lua_State *L, int i, const ld_tensor *was) {
    ldl_handle *h = lua_touserdata(L, i);
    if (h->x != was)
        let_go(h);
}

static int l_gc(lua_State *L) {
    let_go(lua_touserdata(L, 1));
    return 0;
}

static int l_release(lua_State *L) {
    if (!ldl_is_tensor(L, 1))
        ldl_error(L, "release: argument 1 must be a tensor, not %s", luaL_typename(L, 1));
    let_go(lua_touserdata(L, 1));
    return 0;
}

/* ---- scopes --------------------------------------------------------------------------------------------------------- */

enum { NESTED = 100 }; /* tables within tables that are searched for tensors */

/* h, made since `base`, becomes one of the first *kept handles there; other handles stay where they are. */
static void put_first(ldl_handle *h, int base, int *kept) {
    int to = base + *kept;
    if (h->slot < to)
        return;
    ldl_handle *other = slots[to];
    slots[h->slot] = other;
    if (other)
        other->slot = h->slot;
    slots[to] = h;
    h->slot = to;
    ++*kept;
}

static void leave_scopes(ldl_handle *h) {
    if (h->slot >= 0)
        slots[h->slot] = NULL;
    h->slot = -1;
}

/* Every tensor in value i, a tensor or tables of them: put_first, or with kept NULL leave_scopes. `seen` is the stack index
 * of a table of the tables met. False when tables are nested too deep. */
static bool visit(lua_State *L, int i, int seen, int depth, int base, int *kept) {
    if (ldl_is_tensor(L, i)) {
        if (kept)
            put_first(lua_touserdata(L, i), base, kept);
        else
            leave_scopes(lua_touserdata(L, i));
        return true;
    }
    if (!lua_istable(L, i))
        return true;
    lua_pushvalue(L, i);
    lua_rawget(L, seen);
    bool known = lua_toboolean(L, -1);
    lua_pop(L, 1);
    if (known)
        return true;
    if (depth == NESTED || !lua_checkstack(L, 8))
        return false;
    lua_pushvalue(L, i);
    lua_pushboolean(L, true);
    lua_rawset(L, seen);
    bool whole = true;
    for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1))
        whole = visit(L, lua_gettop(L), seen, depth + 1, base, kept) && whole;
    return whole;
}

/* The innermost scope ends; its first `kept` handles belong to the one around it, if there is one. */
static void close_scope(int base, int kept) {
    for (int i = slot_count - 1; i >= base + kept; i--)
        if (slots[i])
            let_go(slots[i]);
    slot_count = base + kept;
    if (--scope_depth)
        return;
    for (int i = 0; i < slot_count; i++)
        slots[i]->slot = -1;
    slot_count = 0;
}

/* scope(f, ...): f's results; tensors made inside and not among them (or in tables among them) are released. */
static int l_scope(lua_State *L) {
    ldl_callable(L, 1, "scope");
    int base = slot_count, kept = 0;
    scope_depth++;
    int bad = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0), n = lua_gettop(L);
    bool whole = true;
    lua_newtable(L);
    for (int i = 1; i <= n; i++)
        whole = visit(L, i, n + 1, 0, base, &kept) && whole;
    lua_pop(L, 1);
    close_scope(base, kept);
    if (bad)
        return lua_error(L);
    if (!whole)
        ldl_error(L, "scope: tables in the result are nested deeper than %d", NESTED);
    return n;
}

/* keep(x): x, or every tensor in table x, outlives the scope it was made in. Returns x. */
static int l_keep(lua_State *L) {
    lua_settop(L, 1);
    lua_newtable(L);
    if (!visit(L, 1, 2, 0, 0, NULL))
        ldl_error(L, "keep: tables are nested deeper than %d", NESTED);
    lua_settop(L, 1);
    return 1;
}

static int without_recording(lua_State *L) {
    bool was = ld_set_recording(false);
    int bad = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    ld_set_recording(was);
    return bad ? lua_error(L) : lua_gettop(L);
}

/* no_grad(f, ...): f's results, computed without recording, in a scope of its own. */
static int l_no_grad(lua_State *L) {
    ldl_callable(L, 1, "no_grad");
    lua_pushcfunction(L, l_scope);
    lua_insert(L, 1);
    lua_pushcfunction(L, without_recording);
    lua_insert(L, 2);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int l_grad_enabled(lua_State *L) {
    lua_pushboolean(L, ld_recording());
    return 1;
}

static int l_set_grad_enabled(lua_State *L) {
    lua_pushboolean(L, ld_set_recording(lua_toboolean(L, 1)));
    return 1;
}

static void collect(void *L) {
    lua_gc(L, LUA_GCCOLLECT, 0);
}

void ldl_open_scope(lua_State *L) {
    static const luaL_Reg functions[] = {{"scope", l_scope},
                                         {"keep", l_keep},
                                         {"no_grad", l_no_grad},
                                         {"grad_enabled", l_grad_enabled},
                                         {"set_grad_enabled", l_set_grad_enabled},
                                         {"note_makers", l_note_makers},
                                         {NULL, NULL}};
    static const luaL_Reg methods[] = {{"release", l_release}, {NULL, NULL}};
    luaL_register(L, NULL, functions);
    ldl_register_methods(L, methods);
    luaL_getmetatable(L, LDL_TENSOR);
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    ld_pool_on_shortage(collect, L);
}

/* ---- other objects -------------------------------------------------------------------------------------------------- */

void ldl_class(lua_State *L, const char *name, const luaL_Reg *methods) {
    luaL_newmetatable(L, name);
    luaL_register(L, NULL, methods);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
    lua_pop(L, 1);
}

void *ldl_object(lua_State *L, int i, const char *name, const char *who) {
    ldl_install_where(L);
    void **p = lua_touserdata(L, i);
    bool same = false;
    if (p && lua_getmetatable(L, i)) {
        luaL_getmetatable(L, name);
        same = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
    }
    if (!same)
        ldl_error(L, "%s: argument %d must be %s, not %s", who, i, name, luaL_typename(L, i));
    if (!*p)
        ldl_error(L, "%s: argument %d is a closed %s", who, i, name);
    return *p;
}

void ldl_push_object(lua_State *L, void *p, const char *name) {
    if (!p)
        ldl_raise(L);
    void **u = lua_newuserdata(L, sizeof *u);
    *u = p;
    luaL_getmetatable(L, name);
    lua_setmetatable(L, -2);
}

void ldl_register_methods(lua_State *L, const luaL_Reg *methods) {
    if (luaL_newmetatable(L, LDL_TENSOR)) {
        lua_newtable(L);
        lua_setfield(L, -2, "methods");
    }
    lua_getfield(L, -1, "methods");
    luaL_register(L, NULL, methods);
    lua_pop(L, 2);
}
