/* Shapes in Lua: reshape, permute, expand, concat and their kin. Each is ld.name(x, ...) and x:name(...). */
#include "lua/ldl.h"

static int l_reshape(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "reshape");
    int64_t shape[LD_MAX_DIMS];
    int n = ldl_shape(L, 2, shape, NULL, "reshape");
    return ldl_push(L, ld_reshape(x, n, shape));
}

static int l_expand(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "expand");
    int64_t shape[LD_MAX_DIMS];
    int n = ldl_shape(L, 2, shape, NULL, "expand");
    return ldl_push(L, ld_expand(x, n, shape));
}

static int l_permute(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "permute");
    int64_t dims[LD_MAX_DIMS];
    int order[LD_MAX_DIMS], n = ldl_shape(L, 2, dims, NULL, "permute");
    if (n != x->ndim)
        ldl_error(L, "permute: %d dimensions named; %s has %d", n, ld_tensor_text(x), x->ndim);
    for (int i = 0; i < n; i++) {
        lua_pushnumber(L, (lua_Number)dims[i]);
        order[i] = ldl_dim(L, lua_gettop(L), n, "permute");
        lua_pop(L, 1);
    }
    return ldl_push(L, ld_permute(x, order));
}

/* transpose(x, a, b): two dimensions exchanged; by default the last two. */
static int l_transpose(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "transpose");
    if (x->ndim < 2)
        ldl_error(L, "transpose: %s has fewer than two dimensions", ld_tensor_text(x));
    int a = lua_isnoneornil(L, 2) ? x->ndim - 2 : ldl_dim(L, 2, x->ndim, "transpose");
    int b = lua_isnoneornil(L, 3) ? x->ndim - 1 : ldl_dim(L, 3, x->ndim, "transpose");
    int order[LD_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++)
        order[i] = i == a ? b : i == b ? a : i;
    return ldl_push(L, ld_permute(x, order));
}

/* flatten(x, first = 1, last = -1): dimensions first .. last become one. */
static int l_flatten(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "flatten");
    if (x->ndim == 0)
        return ldl_push(L, ld_reshape(x, 1, (int64_t[]){1}));
    int a = lua_isnoneornil(L, 2) ? 0 : ldl_dim(L, 2, x->ndim, "flatten");
    int b = lua_isnoneornil(L, 3) ? x->ndim - 1 : ldl_dim(L, 3, x->ndim, "flatten");
    if (a > b)
        ldl_error(L, "flatten: the first dimension, %d, lies behind the last, %d", a + 1, b + 1);
    int64_t shape[LD_MAX_DIMS];
    int n = 0;
    for (int i = 0; i < x->ndim; i++) {
        if (i > a && i <= b)
            shape[n - 1] *= x->shape[i];
        else
            shape[n++] = x->shape[i];
    }
    return ldl_push(L, ld_reshape(x, n, shape));
}

/* squeeze(x, dim): without that dimension of size 1, or without all such. */
static int l_squeeze(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "squeeze");
    int only = lua_isnoneornil(L, 2) ? -1 : ldl_dim(L, 2, x->ndim, "squeeze"), n = 0;
    int64_t shape[LD_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++)
        if (x->shape[i] != 1 || (only >= 0 && i != only))
            shape[n++] = x->shape[i];
    return ldl_push(L, ld_reshape(x, n, shape));
}

/* unsqueeze(x, dim): a dimension of size 1 put at that place. */
static int l_unsqueeze(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "unsqueeze");
    int at = ldl_dim(L, 2, x->ndim + 1, "unsqueeze");
    int64_t shape[LD_MAX_DIMS + 1];
    for (int i = 0; i <= x->ndim; i++)
        shape[i] = i < at ? x->shape[i] : i == at ? 1 : x->shape[i - 1];
    return ldl_push(L, ld_reshape(x, x->ndim + 1, shape));
}

static int join(lua_State *L, const char *who, bool stack) {
    if (!lua_istable(L, 1))
        ldl_error(L, "%s: a table of tensors was expected, not %s", who, luaL_typename(L, 1));
    lua_settop(L, 2);
    int n = ldl_list(L, 1, who);
    if (n == 0)
        ldl_error(L, "%s: the table is empty", who);
    ld_tensor **xs = lua_newuserdata(L, (size_t)n * sizeof *xs);
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, 1, i + 1);
        if (!ldl_is_tensor(L, -1))
            ldl_error(L, "%s: entry %d is %s, not a tensor", who, i + 1, luaL_typename(L, -1));
        xs[i] = ldl_tensor(L, lua_gettop(L), who);
        lua_pop(L, 1);
    }
    int dim = lua_isnoneornil(L, 2) ? 0 : ldl_dim(L, 2, xs[0]->ndim + stack, who);
    return ldl_push(L, stack ? ld_stack(xs, n, dim) : ld_concat(xs, n, dim));
}

static int l_concat(lua_State *L) {
    return join(L, "concat", false);
}

static int l_stack(lua_State *L) {
    return join(L, "stack", true);
}

/* pad(x, {left, right, top, bottom, ...}, value = 0): pairs from the last dimension on, as PyTorch's. */
static int l_pad(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "pad");
    int n = lua_istable(L, 2) ? (int)lua_objlen(L, 2) : 0;
    if (n % 2 || n == 0 || n / 2 > x->ndim)
        ldl_error(L, "pad: a table of pairs {left, right, top, bottom, ...} was expected, at most %d pairs", x->ndim);
    int64_t before[LD_MAX_DIMS] = {0}, after[LD_MAX_DIMS] = {0};
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, 2, i + 1);
        int64_t v = ldl_int(L, lua_gettop(L), "pad", "a width");
        lua_pop(L, 1);
        (i % 2 ? after : before)[x->ndim - 1 - i / 2] = v;
    }
    return ldl_push(L, ld_pad(x, before, after, ldl_number_or(L, 3, 0, "pad", "the value")));
}

static int l_flip(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "flip");
    return ldl_push(L, ld_flip(x, ldl_dim(L, 2, x->ndim, "flip")));
}

static int l_contiguous(lua_State *L) {
    return ldl_push(L, ld_contiguous(ldl_tensor(L, 1, "contiguous")));
}

/* chunk(x, n, dim = 1): n equal parts along dim, as n results. */
static int l_chunk(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "chunk");
    int64_t n = ldl_int(L, 2, "chunk", "the number of parts");
    int dim = lua_isnoneornil(L, 3) ? 0 : ldl_dim(L, 3, x->ndim, "chunk");
    if (n < 1 || n > 64 || x->shape[dim] % n)
        ldl_error(L, "chunk: dimension %d of %s does not divide into %lld parts", dim + 1, ld_tensor_text(x),
                  (long long)n);
    int64_t part = x->shape[dim] / n;
    luaL_checkstack(L, (int)n, "chunk");
    for (int64_t i = 0; i < n; i++)
        ldl_push(L, ld_slice(x, dim, i * part, part, 1));
    return (int)n;
}

void ldl_open_shape(lua_State *L) {
    static const luaL_Reg functions[] = {{"reshape", l_reshape},       {"expand", l_expand},   {"permute", l_permute},
                                         {"transpose", l_transpose},   {"flatten", l_flatten}, {"squeeze", l_squeeze},
                                         {"unsqueeze", l_unsqueeze},   {"pad", l_pad},         {"flip", l_flip},
                                         {"contiguous", l_contiguous}, {"chunk", l_chunk},     {NULL, NULL}};
    static const luaL_Reg joins[] = {{"concat", l_concat}, {"stack", l_stack}, {NULL, NULL}};
    luaL_register(L, NULL, functions);
    luaL_register(L, NULL, joins);
    ldl_register_methods(L, functions);
}
