/* Arguments and option tables. */
#include "lua/ldl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static ldl_handle *handle_at(lua_State *L, int i) {
    ldl_handle *h = lua_touserdata(L, i);
    if (!h || !lua_getmetatable(L, i))
        return NULL;
    luaL_getmetatable(L, LDL_TENSOR);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same ? h : NULL;
}

bool ldl_is_tensor(lua_State *L, int i) {
    return handle_at(L, i) != NULL;
}

ld_tensor *ldl_tensor(lua_State *L, int i, const char *who) {
    ldl_install_where(L);
    ldl_handle *h = handle_at(L, i);
    if (!h)
        ldl_error(L, "%s: argument %d must be a tensor, not %s", who, i, luaL_typename(L, i));
    if (!h->x)
        ldl_error(L, "%s: argument %d is a released tensor (its scope ended, or release was called)", who, i);
    return h->x;
}

ld_tensor *ldl_host(lua_State *L, int i, const char *who) {
    ld_tensor *x = ldl_tensor(L, i, who);
    if (ld_on_host(x->storage->device))
        return x;
    ldl_push(L, ld_tensor_host(x, who));
    lua_replace(L, i);
    return ldl_tensor(L, i, who);
}

ld_tensor *ldl_opt_tensor(lua_State *L, int i, const char *who) {
    return lua_isnoneornil(L, i) ? NULL : ldl_tensor(L, i, who);
}

double ldl_number(lua_State *L, int i, const char *who, const char *what) {
    if (lua_type(L, i) != LUA_TNUMBER)
        ldl_error(L, "%s: %s must be a number, not %s", who, what, luaL_typename(L, i));
    return lua_tonumber(L, i);
}

double ldl_number_or(lua_State *L, int i, double otherwise, const char *who, const char *what) {
    return lua_isnoneornil(L, i) ? otherwise : ldl_number(L, i, who, what);
}

int64_t ldl_int(lua_State *L, int i, const char *who, const char *what) {
    double v = ldl_number(L, i, who, what);
    if (v != floor(v) || fabs(v) > 9007199254740992.0)
        ldl_error(L, "%s: %s must be a whole number, not %g", who, what, v);
    return (int64_t)v;
}

int ldl_dim(lua_State *L, int i, int ndim, const char *who) {
    int64_t d = ldl_int(L, i, who, "the dimension");
    if (d == 0 || d > ndim || d < -ndim)
        ldl_error(L, "%s: dimension %lld; the tensor has %d (counted from 1, or from the end with -1)", who,
                  (long long)d, ndim);
    return d > 0 ? (int)d - 1 : (int)d + ndim;
}

int ldl_list(lua_State *L, int i, const char *who) {
    for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING)
            ldl_error(L, "%s: '%s' stands among the numbers; options go into a table of their own, which comes last",
                      who, lua_tostring(L, -2));
    return (int)lua_objlen(L, i);
}

const char *ldl_string(lua_State *L, int i, const char *who, const char *what) {
    if (lua_type(L, i) != LUA_TSTRING)
        ldl_error(L, "%s: %s must be a string, not %s", who, what, luaL_typename(L, i));
    return lua_tostring(L, i);
}

ld_device *ldl_device_or_dtype(lua_State *L, const char *name, const char *who) {
    ld_device *d = ld_device_find(name);
    if (!d)
        ldl_error(L, "%s: '%s' is no dtype (f32 bf16 f16 f64 i64 i32 u8); %s", who, name, ld_error());
    return d;
}

void ldl_callable(lua_State *L, int i, const char *who) {
    if (lua_isfunction(L, i))
        return;
    if (!luaL_getmetafield(L, i, "__call"))
        ldl_error(L, "%s: a function was expected, not %s", who, luaL_typename(L, i));
    lua_pop(L, 1);
}

int ldl_shape(lua_State *L, int i, int64_t *out, int *next, const char *who) {
    int n = 0;
    if (lua_istable(L, i)) {
        int count = ldl_list(L, i, who);
        if (count > LD_MAX_DIMS)
            ldl_error(L, "%s: %d dimensions; at most %d are possible", who, count, LD_MAX_DIMS);
        for (; n < count; n++) {
            lua_rawgeti(L, i, n + 1);
            out[n] = ldl_int(L, -1, who, "a size");
            lua_pop(L, 1);
        }
        i++;
    } else {
        for (; lua_type(L, i) == LUA_TNUMBER; i++, n++) {
            if (n == LD_MAX_DIMS)
                ldl_error(L, "%s: more than %d dimensions", who, LD_MAX_DIMS);
            out[n] = ldl_int(L, i, who, "a size");
        }
    }
    if (next)
        *next = i;
    return n;
}

static ld_dtype dtype_named(lua_State *L, const char *name, const char *who) {
    int t = ld_dtype_find(name);
    if (t < 0)
        ldl_error(L, "%s: unknown dtype '%s'; known: f32 bf16 f16 f64 i64 i32 u8", who, name);
    return (ld_dtype)t;
}

ld_dtype ldl_dtype(lua_State *L, int i, const char *who) {
    if (lua_type(L, i) != LUA_TSTRING)
        ldl_error(L, "%s: the dtype must be a string such as 'f32', not %s", who, luaL_typename(L, i));
    return dtype_named(L, lua_tostring(L, i), who);
}

/* ---- option tables -------------------------------------------------------------------------------------------------- */

static bool is_known(const char *known, const char *key) {
    size_t n = strlen(key);
    for (const char *p = known; (p = strstr(p, key)); p += n)
        if ((p == known || p[-1] == ' ') && (p[n] == ' ' || !p[n]))
            return true;
    return false;
}

void ldl_options(lua_State *L, int i, const char *who, const char *known) {
    const char *listed = *known ? known : "none";
    ldl_install_where(L);
    if (lua_isnoneornil(L, i)) {
        if (lua_gettop(L) < i)
            lua_settop(L, i);
        lua_newtable(L);
        lua_replace(L, i);
        return;
    }
    if (!lua_istable(L, i))
        ldl_error(L, "%s: options must be a table, not %s; known: %s", who, luaL_typename(L, i), listed);
    lua_pushnil(L);
    while (lua_next(L, i)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            ldl_error(L, "%s: options are named; known: %s", who, listed);
        if (!is_known(known, lua_tostring(L, -1)))
            ldl_error(L, "%s: unknown option '%s'; known: %s", who, lua_tostring(L, -1), listed);
    }
}

double ldl_field_number(lua_State *L, int i, const char *key, double otherwise, const char *who) {
    lua_getfield(L, i, key);
    double v = ldl_number_or(L, -1, otherwise, who, key);
    lua_pop(L, 1);
    return v;
}

int64_t ldl_field_int(lua_State *L, int i, const char *key, int64_t otherwise, const char *who) {
    lua_getfield(L, i, key);
    int64_t v = lua_isnil(L, -1) ? otherwise : ldl_int(L, -1, who, key);
    lua_pop(L, 1);
    return v;
}

bool ldl_field_bool(lua_State *L, int i, const char *key, bool otherwise, const char *who) {
    lua_getfield(L, i, key);
    if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
        ldl_error(L, "%s: %s must be true or false, not %s", who, key, luaL_typename(L, -1));
    bool v = lua_isnil(L, -1) ? otherwise : lua_toboolean(L, -1);
    lua_pop(L, 1);
    return v;
}

ld_tensor *ldl_field_tensor(lua_State *L, int i, const char *key, const char *who) {
    lua_getfield(L, i, key);
    ld_tensor *x = NULL;
    if (!lua_isnil(L, -1)) {
        if (!ldl_is_tensor(L, -1))
            ldl_error(L, "%s: %s must be a tensor, not %s", who, key, luaL_typename(L, -1));
        x = ldl_tensor(L, lua_gettop(L), who);
    }
    lua_pop(L, 1);
    return x;
}

const char *ldl_field_string(lua_State *L, int i, const char *key, const char *otherwise, const char *who) {
    lua_getfield(L, i, key);
    if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING)
        ldl_error(L, "%s: %s must be a string, not %s", who, key, luaL_typename(L, -1));
    const char *s = lua_isnil(L, -1) ? otherwise : lua_tostring(L, -1);
    lua_pop(L, 1); /* the table keeps the string alive */
    return s;
}

int ldl_field_ints(lua_State *L, int i, const char *key, int64_t *out, int n_max, const char *who) {
    int n = 0;
    lua_getfield(L, i, key);
    if (lua_istable(L, -1)) {
        n = (int)lua_objlen(L, -1);
        if (n > n_max)
            ldl_error(L, "%s: %s has %d numbers; at most %d are taken", who, key, n, n_max);
        for (int k = 0; k < n; k++) {
            lua_rawgeti(L, -1, k + 1);
            out[k] = ldl_int(L, -1, who, key);
            lua_pop(L, 1);
        }
    } else if (!lua_isnil(L, -1)) {
        out[n++] = ldl_int(L, -1, who, key);
    }
    lua_pop(L, 1);
    return n;
}

ld_dtype ldl_field_dtype(lua_State *L, int i, ld_dtype otherwise, const char *who) {
    const char *name = ldl_field_string(L, i, "dtype", NULL, who);
    return name ? dtype_named(L, name, who) : otherwise;
}

ld_device *ldl_field_device(lua_State *L, int i, const char *who) {
    const char *name = ldl_field_string(L, i, "device", NULL, who);
    if (!name)
        return ldl_default_device();
    ld_device *d = ld_device_find(name);
    if (!d)
        ldl_raise(L);
    return d;
}

ld_conv_shape ldl_field_conv(lua_State *L, int i, const char *who) {
    int64_t v[4];
    ld_conv_shape s = {.stride_h = 1, .stride_w = 1};
    int n = ldl_field_ints(L, i, "stride", v, 2, who);
    if (n) {
        s.stride_h = (int)v[0];
        s.stride_w = (int)v[n - 1];
    }
    n = ldl_field_ints(L, i, "padding", v, 4, who);
    if (n == 1 || n == 2) {
        s.top = s.bottom = (int)v[0];
        s.left = s.right = (int)v[n - 1];
    } else if (n == 4) {
        s.top = (int)v[0], s.bottom = (int)v[1], s.left = (int)v[2], s.right = (int)v[3];
    } else if (n) {
        ldl_error(L, "%s: padding is a number, {height, width} or {top, bottom, left, right}; %d numbers were given",
                  who, n);
    }
    s.up = ldl_field_bool(L, i, "upsample", false, who);
    return s;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void ldl_strings(lua_State *L, int i, const char **out, int most, const char *who) {
    int n = 0;
    out[0] = NULL;
    if (!lua_istable(L, i))
        return;
    for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) {
        if (n == most || lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
            ldl_error(L, "%s: the text is a table of at most %d strings by name", who, most);
        out[2 * n] = lua_tostring(L, -2);
        out[2 * n++ + 1] = lua_tostring(L, -1);
    }
    qsort(out, (size_t)n, 2 * sizeof *out, by_name);
    out[2 * n] = NULL;
}
