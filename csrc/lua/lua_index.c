/* x.shape, x[i], x[{...}], x[i] = v, #x. */
#include "lua/ldl.h"

#include <string.h>

/* A position from 1, or from the end with -1, as the core's. */
static int64_t position(lua_State *L, int i, int64_t size, int dim, const char *who) {
    int64_t p = ldl_int(L, i, who, "an index");
    if (p == 0 || p > size || p < -size)
        ldl_error(L, "%s: position %lld of dimension %d; it has %lld (counted from 1, or from the end with -1)", who,
                  (long long)p, dim + 1, (long long)size);
    return p > 0 ? p - 1 : p + size;
}

/* One entry of x[{...}]: a number selects, {} keeps all, {first, last, step} a range; v is dropped. */
static ld_tensor *apply_range(lua_State *L, int i, ld_tensor *v, int dim) {
    int n = (int)lua_objlen(L, i);
    int64_t size = v->shape[dim];
    if (n == 0)
        return v;
    lua_rawgeti(L, i, 1);
    lua_rawgeti(L, i, n >= 2 ? 2 : 1);
    lua_rawgeti(L, i, 3);
    int64_t first = position(L, lua_gettop(L) - 2, size, dim, "index");
    int64_t last = position(L, lua_gettop(L) - 1, size, dim, "index");
    int64_t step = lua_isnil(L, -1) ? 1 : ldl_int(L, lua_gettop(L), "index", "a step");
    lua_pop(L, 3);
    int64_t count = last < first ? 0 : (last - first) / step + 1;
    ld_tensor *y = ld_slice(v, dim, first, count, step);
    ld_tensor_drop(v);
    return y;
}

/* Raises when the key at stack index i names no part of x: before `part` holds a reference, which an error would leak. */
static void check_key(lua_State *L, int i, ld_tensor *x) {
    if (lua_type(L, i) == LUA_TNUMBER) {
        if (x->ndim == 0)
            ldl_error(L, "index: the tensor has no dimensions; use item()");
        position(L, i, x->shape[0], 0, "index");
        return;
    }
    int n = ldl_list(L, i, "index");
    if (n > x->ndim)
        ldl_error(L, "index: %d indices for %s", n, ld_tensor_text(x));
    for (int k = 0; k < n; k++) {
        lua_rawgeti(L, i, k + 1);
        int top = lua_gettop(L);
        if (lua_type(L, top) == LUA_TNUMBER) {
            position(L, top, x->shape[k], k, "index");
        } else if (lua_istable(L, top)) {
            for (int e = 1; e <= (int)lua_objlen(L, top); e++) {
                lua_rawgeti(L, top, e);
                if (e < 3)
                    position(L, top + 1, x->shape[k], k, "index");
                else if (e > 3 || ldl_int(L, top + 1, "index", "a step") < 1)
                    ldl_error(L, "index: a range is {first, last, step}, with a step of at least 1");
                lua_pop(L, 1);
            }
        } else {
            ldl_error(L, "index: an index is a number, {} or {first, last, step}, not %s", luaL_typename(L, top));
        }
        lua_pop(L, 1);
    }
}

/* The part of x that the key at stack index i names: a new reference, or NULL after ld_fail. */
static ld_tensor *part(lua_State *L, int i, ld_tensor *x) {
    check_key(L, i, x);
    if (lua_type(L, i) == LUA_TNUMBER)
        return ld_select(x, 0, position(L, i, x->shape[0], 0, "index"));
    ld_tensor *v = ld_tensor_ref(x);
    int dim = 0, n = (int)lua_objlen(L, i);
    for (int k = 0; k < n && v; k++) {
        lua_rawgeti(L, i, k + 1);
        if (lua_type(L, -1) == LUA_TNUMBER) {
            ld_tensor *y = ld_select(v, dim, position(L, lua_gettop(L), v->shape[dim], k, "index"));
            ld_tensor_drop(v);
            v = y;
        } else {
            v = apply_range(L, lua_gettop(L), v, dim++);
        }
        lua_pop(L, 1);
    }
    return v;
}

static int field(lua_State *L, ld_tensor *x, const char *key) {
    if (!strcmp(key, "shape"))
        ldl_push_shape(L, x->ndim, x->shape);
    else if (!strcmp(key, "dtype"))
        lua_pushstring(L, ld_dtype_names[x->dtype]);
    else if (!strcmp(key, "device"))
        lua_pushstring(L, x->storage->device->name);
    else if (!strcmp(key, "ndim"))
        lua_pushinteger(L, x->ndim);
    else if (!strcmp(key, "requires_grad"))
        lua_pushboolean(L, x->requires_grad);
    else if (!strcmp(key, "is_leaf"))
        lua_pushboolean(L, !x->node);
    else if (!strcmp(key, "version"))
        lua_pushnumber(L, x->storage->version);
    else if (!strcmp(key, "grad") && x->grad)
        ldl_push(L, ld_tensor_ref(x->grad));
    else if (!strcmp(key, "grad"))
        lua_pushnil(L);
    else
        return ldl_error(L, "a tensor has no field or method '%s'; ld.help 'x' lists those it has", key);
    return 1;
}

static int l_index(lua_State *L) {
    if (lua_type(L, 2) == LUA_TSTRING) {
        lua_pushvalue(L, 2);
        lua_rawget(L, lua_upvalueindex(1));
        if (!lua_isnil(L, -1))
            return 1;
        ldl_handle *h = lua_touserdata(L, 1);
        if (!h->x && !strcmp(lua_tostring(L, 2), "released")) {
            lua_pushboolean(L, true);
            return 1;
        }
        if (!strcmp(lua_tostring(L, 2), "released")) {
            lua_pushboolean(L, false);
            return 1;
        }
        return field(L, ldl_tensor(L, 1, "index"), lua_tostring(L, 2));
    }
    if (lua_type(L, 2) != LUA_TNUMBER && !lua_istable(L, 2))
        return ldl_error(L, "index: a tensor is indexed by a number, a table or a name, not %s", luaL_typename(L, 2));
    ld_tensor *x = ldl_tensor(L, 1, "index");
    return ldl_push(L, part(L, 2, x));
}

static int l_newindex(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "index");
    if (lua_type(L, 2) == LUA_TSTRING) {
        const char *key = lua_tostring(L, 2);
        if (strcmp(key, "grad"))
            return ldl_error(L, "a tensor's '%s' cannot be set", key);
        ld_tensor *g = ldl_opt_tensor(L, 3, "grad");
        if (g && (!ld_tensor_same_shape(x, g) || g->dtype != x->dtype))
            return ldl_error(L, "grad: %s does not fit %s", ld_tensor_text(g), ld_tensor_text(x));
        ld_tensor *own = g ? ld_tensor_clone(g, "grad") : NULL;
        if (g && !own)
            return ldl_raise(L);
        ldl_ok(L, ld_tensor_set_grad(x, own));
        return 0;
    }
    if (lua_type(L, 2) != LUA_TNUMBER && !lua_istable(L, 2))
        return ldl_error(L, "index: a tensor is indexed by a number, a table or a name, not %s", luaL_typename(L, 2));
    bool number = lua_type(L, 3) == LUA_TNUMBER;
    if (!number && !ldl_is_tensor(L, 3))
        return ldl_error(L, "index: a number or a tensor can be assigned, not %s", luaL_typename(L, 3));
    ld_tensor *y = number ? NULL : ldl_tensor(L, 3, "index");
    ld_tensor *to = part(L, 2, x);
    if (!to)
        return ldl_raise(L);
    int bad = number ? ld_fill_(to, lua_tonumber(L, 3)) : ld_copy_(to, y);
    ld_tensor_drop(to);
    ldl_ok(L, bad);
    return 0;
}

static int l_len(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "#");
    lua_pushnumber(L, x->ndim ? (lua_Number)x->shape[0] : 0);
    return 1;
}

/* slice(x, dim, first, last, step): first and last included, counted from 1 or from the end. */
static int l_slice(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "slice");
    int dim = ldl_dim(L, 2, x->ndim, "slice");
    int64_t first = position(L, 3, x->shape[dim], dim, "slice");
    int64_t last = lua_isnoneornil(L, 4) ? x->shape[dim] - 1 : position(L, 4, x->shape[dim], dim, "slice");
    int64_t step = lua_isnoneornil(L, 5) ? 1 : ldl_int(L, 5, "slice", "the step");
    if (step < 1)
        ldl_error(L, "slice: a step of %lld; it must be at least 1", (long long)step);
    return ldl_push(L, ld_slice(x, dim, first, last < first ? 0 : (last - first) / step + 1, step));
}

static int l_select(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "select");
    int dim = ldl_dim(L, 2, x->ndim, "select");
    return ldl_push(L, ld_select(x, dim, position(L, 3, x->shape[dim], dim, "select")));
}

void ldl_open_index(lua_State *L) {
    static const luaL_Reg functions[] = {{"slice", l_slice}, {"select", l_select}, {NULL, NULL}};
    luaL_register(L, NULL, functions);
    ldl_register_methods(L, functions);
    luaL_getmetatable(L, LDL_TENSOR);
    lua_getfield(L, -1, "methods");
    lua_pushcclosure(L, l_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pushcfunction(L, l_len);
    lua_setfield(L, -2, "__len");
    lua_pop(L, 1);
}
