/* Tensors in Lua: making them, asking them, moving them, their gradients. */
#include "base/rng.h"
#include "lua/ldl.h"

#include <stdlib.h>
#include <string.h>

/* ---- making --------------------------------------------------------------------------------------------------------- */

typedef struct making {
    int ndim;
    int64_t shape[LD_MAX_DIMS];
    ld_dtype dtype;
    ld_device *device;
    bool requires_grad;
} making;

/* Sizes from argument i on (a table or numbers), then an option table. */
static making read_making(lua_State *L, int i, const char *who, bool sizes, ld_dtype dtype) {
    making m = {.ndim = 0};
    int next = i;
    if (sizes)
        m.ndim = ldl_shape(L, i, m.shape, &next, who);
    ldl_options(L, next, who, "dtype device requires_grad");
    m.dtype = ldl_field_dtype(L, next, dtype, who);
    m.device = ldl_field_device(L, next, who);
    m.requires_grad = ldl_field_bool(L, next, "requires_grad", false, who);
    if (m.requires_grad && !ld_dtype_is_float(m.dtype))
        ldl_error(L, "%s: only floats can require a gradient, not %s", who, ld_dtype_names[m.dtype]);
    return m;
}

static int push_made(lua_State *L, ld_tensor *x, const making *m) {
    if (x)
        x->requires_grad = m->requires_grad;
    return ldl_push(L, x);
}

static int make_full(lua_State *L, const char *who, double value) {
    making m = read_making(L, 1, who, true, LD_F32);
    return push_made(L, ld_tensor_full(m.device, m.dtype, m.ndim, m.shape, value, who), &m);
}

static int l_zeros(lua_State *L) {
    return make_full(L, "zeros", 0);
}

static int l_ones(lua_State *L) {
    return make_full(L, "ones", 1);
}

/* full(shape, value, options) */
static int l_full(lua_State *L) {
    if (!lua_istable(L, 1) && lua_type(L, 3) == LUA_TNUMBER)
        ldl_error(L, "full: sizes in a table and one value were expected, as in full({2, 3}, 0.5)");
    double value = ldl_number(L, 2, "full", "the value");
    lua_remove(L, 2);
    return make_full(L, "full", value);
}

static int l_rand(lua_State *L) {
    making m = read_making(L, 1, "rand", true, LD_F32);
    return push_made(L, ld_rand(m.device, m.dtype, m.ndim, m.shape, 0, 1), &m);
}

static int l_randn(lua_State *L) {
    making m = read_making(L, 1, "randn", true, LD_F32);
    return push_made(L, ld_randn(m.device, m.dtype, m.ndim, m.shape), &m);
}

/* noise(shape, {seed, purpose, first, uniform, dtype, device}): keyed numbers, row i is sample first + i (from 0). */
static int l_noise(lua_State *L) {
    int64_t shape[LD_MAX_DIMS];
    int next, ndim = ldl_shape(L, 1, shape, &next, "noise");
    ldl_options(L, next, "noise", "seed purpose first uniform dtype device");
    uint64_t seed = (uint64_t)ldl_field_int(L, next, "seed", 0, "noise");
    uint32_t purpose = (uint32_t)ldl_field_int(L, next, "purpose", 64, "noise");
    uint64_t first = (uint64_t)ldl_field_int(L, next, "first", 0, "noise");
    ld_dtype t = ldl_field_dtype(L, next, LD_F32, "noise");
    ld_device *d = ldl_field_device(L, next, "noise");
    if (ldl_field_bool(L, next, "uniform", false, "noise"))
        return ldl_push(L, ld_noise_uniform(d, t, ndim, shape, seed, purpose, first));
    return ldl_push(L, ld_noise(d, t, ndim, shape, seed, purpose, first));
}

/* arange(n) is 0 .. n - 1; arange(first, last, step) includes last. */
static int l_arange(lua_State *L) {
    bool one = lua_type(L, 2) != LUA_TNUMBER;
    double first = one ? 0 : ldl_number(L, 1, "arange", "the first value");
    double last = one ? ldl_number(L, 1, "arange", "the count") - 1 : ldl_number(L, 2, "arange", "the last value");
    double step = lua_type(L, 3) == LUA_TNUMBER ? lua_tonumber(L, 3) : 1;
    making m = read_making(L, one ? 2 : lua_type(L, 3) == LUA_TNUMBER ? 4 : 3, "arange", false, LD_F32);
    double steps = (last - first) / step;
    if (step == 0 || !(steps >= -1 && steps < 281474976710656.0))
        ldl_error(L, "arange: no steps of %g lead from %g to %g", step, first, last);
    m.ndim = 1;
    m.shape[0] = steps < 0 ? 0 : (int64_t)(steps + 1e-9) + 1;
    ld_tensor *host = ld_tensor_new(ld_device_find("cpu"), m.dtype, 1, m.shape, "arange");
    if (host)
        for (int64_t i = 0; i < m.shape[0]; i++)
            ld_dtype_set(m.dtype, (char *)ld_tensor_data(host) + i * (int64_t)ld_dtype_size(m.dtype),
                         first + step * (double)i);
    ld_tensor *x = host ? ld_tensor_to(host, m.dtype, m.device, "arange") : NULL;
    ld_tensor_drop(host);
    return push_made(L, x, &m);
}

/* The shape of nested tables at the top of the stack. */
static int table_shape(lua_State *L, int64_t *shape) {
    int ndim = 0, top = lua_gettop(L);
    while (lua_istable(L, -1)) {
        if (ndim == LD_MAX_DIMS)
            ldl_error(L, "tensor: tables are nested deeper than %d", LD_MAX_DIMS);
        shape[ndim++] = ldl_list(L, lua_gettop(L), "tensor");
        lua_rawgeti(L, -1, 1);
    }
    lua_settop(L, top);
    return ndim;
}

/* Values of the nested tables at the top into a row-major array. */
static double *fill_table(lua_State *L, double *to, int ndim, const int64_t *shape) {
    if (ndim == 0) {
        if (lua_type(L, -1) != LUA_TNUMBER && !lua_isboolean(L, -1))
            ldl_error(L, "tensor: a table of numbers was expected, %s found in it", luaL_typename(L, -1));
        *to = lua_isboolean(L, -1) ? lua_toboolean(L, -1) : lua_tonumber(L, -1);
        return to + 1;
    }
    if (!lua_istable(L, -1) || (int64_t)lua_objlen(L, -1) != shape[0])
        ldl_error(L, "tensor: rows differ in length: %lld values were expected, %s found", (long long)shape[0],
                  lua_istable(L, -1) ? lua_pushfstring(L, "%d", (int)lua_objlen(L, -1)) : luaL_typename(L, -1));
    luaL_checkstack(L, 4, "tensor");
    for (int64_t i = 1; i <= shape[0]; i++) {
        lua_rawgeti(L, -1, (int)i);
        to = fill_table(L, to, ndim - 1, shape + 1);
        lua_pop(L, 1);
    }
    return to;
}

/* tensor(number or nested tables, {dtype, device, requires_grad}) */
static int l_tensor(lua_State *L) {
    if (ldl_is_tensor(L, 1) && !lua_isnoneornil(L, 2))
        ldl_error(L, "tensor: argument 1 is a tensor already; use :to(dtype), :clone(), :detach()");
    if (ldl_is_tensor(L, 1))
        return ldl_push(L, ld_clone(ldl_tensor(L, 1, "tensor")));
    if (!lua_istable(L, 1) && lua_type(L, 1) != LUA_TNUMBER)
        ldl_error(L, "tensor: a number or nested tables of numbers were expected, not %s", luaL_typename(L, 1));
    making m = read_making(L, 2, "tensor", false, LD_F32);
    lua_pushvalue(L, 1);
    m.ndim = table_shape(L, m.shape);
    int64_t n = 1;
    for (int i = 0; i < m.ndim; i++)
        n *= m.shape[i];
    double *values = lua_newuserdata(L, (size_t)(n ? n : 1) * sizeof *values);
    lua_pushvalue(L, 1);
    fill_table(L, values, m.ndim, m.shape);
    ld_tensor *x = ld_tensor_new(m.device, m.dtype, m.ndim, m.shape, "tensor");
    if (!x)
        return ldl_raise(L);
    ld_view from = {.dtype = LD_F64, .ndim = m.ndim, .data = values};
    memcpy(from.shape, m.shape, sizeof from.shape);
    int64_t step = 1;
    for (int i = m.ndim - 1; i >= 0; i--) {
        from.stride[i] = step;
        step *= m.shape[i];
    }
    if (ld_tensor_fill_from(x, &from, "tensor")) {
        ld_tensor_drop(x);
        return ldl_raise(L);
    }
    return push_made(L, x, &m);
}

/* zeros_like(x), ones_like(x), randn_like(x) */
static int l_zeros_like(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "zeros_like");
    return ldl_push(L, ld_tensor_full(x->storage->device, x->dtype, x->ndim, x->shape, 0, "zeros_like"));
}

static int l_ones_like(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "ones_like");
    return ldl_push(L, ld_tensor_full(x->storage->device, x->dtype, x->ndim, x->shape, 1, "ones_like"));
}

static int l_randn_like(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "randn_like");
    return ldl_push(L, ld_randn(x->storage->device, x->dtype, x->ndim, x->shape));
}

/* ---- random state --------------------------------------------------------------------------------------------------- */

/* seed(n): restart the global generator. seed(): its state as (seed, draws). seed(n, draws): put it there. */
static int l_seed(lua_State *L) {
    if (lua_isnoneornil(L, 1)) {
        lua_pushnumber(L, (lua_Number)ld_random.seed);
        lua_pushnumber(L, (lua_Number)ld_random.draws);
        return 2;
    }
    int64_t seed = ldl_int(L, 1, "seed", "the seed");
    int64_t draws = lua_isnoneornil(L, 2) ? 0 : ldl_int(L, 2, "seed", "the number of draws");
    if (seed < 0 || draws < 0)
        ldl_error(L, "seed: %lld; it must not be negative", (long long)(seed < 0 ? seed : draws));
    ld_random.seed = (uint64_t)seed;
    ld_random.draws = (uint64_t)draws;
    return 0;
}

/* permute(i, n, seed, epoch): position i (from 1) of a random order of 1 .. n. */
static int l_shuffled(lua_State *L) {
    int64_t i = ldl_int(L, 1, "shuffled", "the position"), n = ldl_int(L, 2, "shuffled", "the count");
    if (i < 1 || i > n)
        ldl_error(L, "shuffled: position %lld is outside 1 .. %lld", (long long)i, (long long)n);
    uint64_t seed = (uint64_t)ldl_int(L, 3, "shuffled", "the seed");
    uint64_t epoch = (uint64_t)ldl_int(L, 4, "shuffled", "the epoch");
    lua_pushnumber(L, (lua_Number)(ld_shuffle_position(i - 1, n, seed, epoch) + 1));
    return 1;
}

/* ---- asking --------------------------------------------------------------------------------------------------------- */

static int l_size(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "size");
    if (lua_isnoneornil(L, 2))
        ldl_push_shape(L, x->ndim, x->shape);
    else
        lua_pushnumber(L, (lua_Number)x->shape[ldl_dim(L, 2, x->ndim, "size")]);
    return 1;
}

static int l_stride(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "stride");
    ldl_push_shape(L, x->ndim, x->stride);
    return 1;
}

static int l_numel(lua_State *L) {
    lua_pushnumber(L, (lua_Number)ld_tensor_numel(ldl_tensor(L, 1, "numel")));
    return 1;
}

static int l_item(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "item");
    if (ld_tensor_numel(x) != 1)
        ldl_error(L, "item: %s has %lld elements; one was needed: take x[i], x:sum() or x:tolist()", ld_tensor_text(x),
                  (long long)ld_tensor_numel(x));
    ld_tensor *host = ld_tensor_host(x, "item");
    if (!host)
        return ldl_raise(L);
    lua_pushnumber(L, ld_tensor_item(host));
    ld_tensor_drop(host);
    return 1;
}

static void push_list(lua_State *L, const ld_tensor *x, int dim, const char *at) {
    if (dim == x->ndim) {
        lua_pushnumber(L, ld_dtype_get(x->dtype, at));
        return;
    }
    luaL_checkstack(L, 4, "tolist");
    lua_createtable(L, (int)x->shape[dim], 0);
    for (int64_t i = 0; i < x->shape[dim]; i++) {
        push_list(L, x, dim + 1, at + i * x->stride[dim] * (int64_t)ld_dtype_size(x->dtype));
        lua_rawseti(L, -2, (int)i + 1);
    }
}

static int l_tolist(lua_State *L) {
    const ld_tensor *was = ldl_tensor(L, 1, "tolist");
    ld_tensor *x = ldl_host(L, 1, "tolist");
    push_list(L, x, 0, ld_tensor_data(x));
    ldl_host_done(L, 1, was);
    return 1;
}

/* ptr(): address of the first element as light userdata, for FFI; valid while the tensor lives. */
static int l_ptr(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "ptr");
    if (!ld_on_host(x->storage->device))
        ldl_error(L, "ptr: %s is not in the host's memory; take a copy with :cpu()", ld_tensor_text(x));
    lua_pushlightuserdata(L, ld_tensor_expose(x));
    return 1;
}

/* bytes(): the elements in logical row-major order as a string of their own dtype. */
static int l_bytes(lua_State *L) {
    const ld_tensor *was = ldl_tensor(L, 1, "bytes");
    ld_tensor *x = ldl_host(L, 1, "bytes");
    size_t n = (size_t)ld_tensor_numel(x) * ld_dtype_size(x->dtype);
    void *to = lua_newuserdata(L, n ? n : 1);
    ld_view v = {.dtype = x->dtype, .ndim = x->ndim, .data = to};
    memcpy(v.shape, x->shape, sizeof v.shape);
    int64_t step = 1;
    for (int i = x->ndim - 1; i >= 0; i--) {
        v.stride[i] = step;
        step *= x->shape[i];
    }
    ldl_ok(L, x->storage->device->backend->copy(&v, LD_VIEW(x)));
    ldl_host_done(L, 1, was);
    lua_pushlstring(L, to, n);
    return 1;
}

/* describe(): "(32,3,64,64) f32 cpu" */
static int l_describe(lua_State *L) {
    lua_pushstring(L, ld_tensor_text(ldl_tensor(L, 1, "describe")));
    return 1;
}

static int l_is_tensor(lua_State *L) {
    lua_pushboolean(L, ldl_is_tensor(L, 1));
    return 1;
}

/* same_storage(x, y): do they share memory? */
static int l_same_storage(lua_State *L) {
    lua_pushboolean(L, ldl_tensor(L, 1, "same_storage")->storage == ldl_tensor(L, 2, "same_storage")->storage);
    return 1;
}

/* ---- gradients ------------------------------------------------------------------------------------------------------ */

/* backward(y, gradient or nil, {retain}), or backward(y, {retain}) */
static int l_backward(lua_State *L) {
    if (lua_istable(L, 2)) {
        lua_pushnil(L);
        lua_insert(L, 2);
    }
    ld_tensor *y = ldl_tensor(L, 1, "backward"), *g = ldl_opt_tensor(L, 2, "backward");
    ldl_options(L, 3, "backward", "retain");
    ldl_let_tape_free(L);
    ldl_ok(L, ld_backward(y, g, ldl_field_bool(L, 3, "retain", false, "backward")));
    return 0;
}

/* requires_grad_(on): marks a leaf; returns it. */
static int l_requires_grad_(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "requires_grad_");
    bool on = lua_isnoneornil(L, 2) || lua_toboolean(L, 2);
    if (x->node)
        ldl_error(L, "requires_grad_: %s is a result, not a leaf; detach it first", ld_tensor_text(x));
    if (on && !ld_dtype_is_float(x->dtype))
        ldl_error(L, "requires_grad_: only floats can require a gradient, not %s", ld_tensor_text(x));
    x->requires_grad = on;
    lua_settop(L, 1);
    return 1;
}

static int l_zero_grad(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "zero_grad");
    ldl_ok(L, ld_tensor_set_grad(x, NULL));
    return 0;
}

static int l_detach(lua_State *L) {
    return ldl_push(L, ld_detach(ldl_tensor(L, 1, "detach")));
}

static int l_clone(lua_State *L) {
    return ldl_push(L, ld_clone(ldl_tensor(L, 1, "clone")));
}

/* to(x, dtype or device name) */
static int l_to(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "to");
    const char *what = ldl_string(L, 2, "to", "the dtype or device");
    if (ld_dtype_find(what) >= 0)
        return ldl_push(L, ld_cast(x, ldl_dtype(L, 2, "to")));
    return ldl_push(L, ld_to_device(x, ldl_device_or_dtype(L, what, "to")));
}

/* cpu(x), cuda(x): to("cpu"), to("cuda:0") */
static int l_cpu(lua_State *L) {
    return ldl_push(L, ld_to_device(ldl_tensor(L, 1, "cpu"), ld_device_find("cpu")));
}

static int l_cuda(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "cuda");
    ld_device *d = ld_device_find("cuda");
    return d ? ldl_push(L, ld_to_device(x, d)) : ldl_raise(L);
}

static int cast_named(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, lua_tostring(L, lua_upvalueindex(1)));
    return ldl_push(L, ld_cast(x, (ld_dtype)lua_tointeger(L, lua_upvalueindex(2))));
}

/* ---- threads and devices -------------------------------------------------------------------------------------------- */

static int l_threads(lua_State *L) {
    if (!lua_isnoneornil(L, 1)) {
        int64_t n = ldl_int(L, 1, "threads", "the number of threads");
        if (n < 1 || n > 1024)
            ldl_error(L, "threads: %lld; 1 to 1024 are possible", (long long)n);
        ld_set_threads((int)n);
    }
    lua_pushinteger(L, ld_threads());
    return 1;
}

static int l_default_device(lua_State *L) {
    if (!lua_isnoneornil(L, 1)) {
        ld_device *d = ld_device_find(ldl_string(L, 1, "default_device", "the device"));
        if (!d)
            return ldl_raise(L);
        ldl_set_default_device(d);
    }
    lua_pushstring(L, ldl_default_device()->name);
    return 1;
}

void ldl_open_tensor(lua_State *L) {
    static const luaL_Reg functions[] = {{"tensor", l_tensor},
                                         {"zeros", l_zeros},
                                         {"ones", l_ones},
                                         {"full", l_full},
                                         {"rand", l_rand},
                                         {"randn", l_randn},
                                         {"noise", l_noise},
                                         {"arange", l_arange},
                                         {"zeros_like", l_zeros_like},
                                         {"ones_like", l_ones_like},
                                         {"randn_like", l_randn_like},
                                         {"seed", l_seed},
                                         {"shuffled", l_shuffled},
                                         {"is_tensor", l_is_tensor},
                                         {"same_storage", l_same_storage},
                                         {"threads", l_threads},
                                         {"default_device", l_default_device},
                                         {NULL, NULL}};
    static const luaL_Reg methods[] = {{"size", l_size},
                                       {"stride", l_stride},
                                       {"numel", l_numel},
                                       {"item", l_item},
                                       {"tolist", l_tolist},
                                       {"ptr", l_ptr},
                                       {"bytes", l_bytes},
                                       {"describe", l_describe},
                                       {"backward", l_backward},
                                       {"requires_grad_", l_requires_grad_},
                                       {"zero_grad", l_zero_grad},
                                       {"detach", l_detach},
                                       {"clone", l_clone},
                                       {"to", l_to},
                                       {"cpu", l_cpu},
                                       {"cuda", l_cuda},
                                       {NULL, NULL}};
    luaL_register(L, NULL, functions);
    ldl_register_methods(L, methods);
    luaL_getmetatable(L, LDL_TENSOR);
    lua_getfield(L, -1, "methods");
    for (int t = 0; t < LD_DTYPE_COUNT; t++) {
        lua_pushstring(L, ld_dtype_names[t]);
        lua_pushinteger(L, t);
        lua_pushcclosure(L, cast_named, 2);
        lua_setfield(L, -2, ld_dtype_names[t]);
    }
    lua_pop(L, 2);
}
