/* Differentiable operations in Lua: each is ld.name(x, ...) and x:name(...). */
#include "lua/ldl.h"

#include <string.h>

/* ---- elementwise ---------------------------------------------------------------------------------------------------- */

typedef struct unary_entry {
    const char *name;
    ld_unary_op op;
    int n;       /* how many parameters it takes */
    double a, b; /* their defaults */
} unary_entry;

static const unary_entry unaries[] = {{"neg", LD_NEG, 0, 0, 0},
                                      {"abs", LD_ABS, 0, 0, 0},
                                      {"exp", LD_EXP, 0, 0, 0},
                                      {"log", LD_LOG, 0, 0, 0},
                                      {"sqrt", LD_SQRT, 0, 0, 0},
                                      {"rsqrt", LD_RSQRT, 0, 0, 0},
                                      {"square", LD_SQUARE, 0, 0, 0},
                                      {"reciprocal", LD_RECIPROCAL, 0, 0, 0},
                                      {"sin", LD_SIN, 0, 0, 0},
                                      {"cos", LD_COS, 0, 0, 0},
                                      {"tan", LD_TAN, 0, 0, 0},
                                      {"tanh", LD_TANH, 0, 0, 0},
                                      {"sigmoid", LD_SIGMOID, 0, 0, 0},
                                      {"silu", LD_SILU, 0, 0, 0},
                                      {"gelu", LD_GELU, 0, 0, 0},
                                      {"relu", LD_RELU, 0, 0, 0},
                                      {"leaky_relu", LD_LEAKY, 1, 0.01, 0},
                                      {"general_relu", LD_LEAKY, 2, 0.1, 0.4},
                                      {"affine", LD_AFFINE, 2, 1, 0},
                                      {"floor", LD_FLOOR, 0, 0, 0},
                                      {"round", LD_ROUND, 0, 0, 0},
                                      {"sign", LD_SIGN, 0, 0, 0}};

static const unary_entry *unary_upvalue(lua_State *L) {
    return &unaries[lua_tointeger(L, lua_upvalueindex(1))];
}

static int l_unary(lua_State *L) {
    const unary_entry *u = unary_upvalue(L);
    ld_tensor *x = ldl_tensor(L, 1, u->name);
    double a = u->n > 0 ? ldl_number_or(L, 2, u->a, u->name, "the first parameter") : 0;
    double b = u->n > 1 ? ldl_number_or(L, 3, u->b, u->name, "the second parameter") : u->b;
    return ldl_push(L, ld_unary(u->name, u->op, x, a, b));
}

static int l_unary_(lua_State *L) {
    const unary_entry *u = unary_upvalue(L);
    ld_tensor *x = ldl_tensor(L, 1, u->name);
    double a = u->n > 0 ? ldl_number_or(L, 2, u->a, u->name, "the first parameter") : 0;
    double b = u->n > 1 ? ldl_number_or(L, 3, u->b, u->name, "the second parameter") : u->b;
    ldl_ok(L, ld_unary_(u->name, u->op, x, a, b));
    lua_settop(L, 1);
    return 1;
}

/* clamp(x, lo, hi): either may be nil. */
static int l_clamp(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "clamp");
    double lo = ldl_number_or(L, 2, -1.0 / 0.0, "clamp", "the lower bound");
    double hi = ldl_number_or(L, 3, 1.0 / 0.0, "clamp", "the upper bound");
    return ldl_push(L, ld_unary("clamp", LD_CLAMP, x, lo, hi));
}

static int l_clamp_(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "clamp_");
    double lo = ldl_number_or(L, 2, -1.0 / 0.0, "clamp_", "the lower bound");
    double hi = ldl_number_or(L, 3, 1.0 / 0.0, "clamp_", "the upper bound");
    ldl_ok(L, ld_unary_("clamp_", LD_CLAMP, x, lo, hi));
    lua_settop(L, 1);
    return 1;
}

typedef struct binary_entry {
    const char *name, *meta, *in_place;
    ld_binary_op op;
} binary_entry;

static const binary_entry binaries[] = {{"add", "__add", "add_", LD_ADD},
                                        {"sub", "__sub", "sub_", LD_SUB},
                                        {"mul", "__mul", "mul_", LD_MUL},
                                        {"div", "__div", "div_", LD_DIV},
                                        {"pow", "__pow", "pow_", LD_POWER},
                                        {"maximum", NULL, "maximum_", LD_MAXIMUM},
                                        {"minimum", NULL, "minimum_", LD_MINIMUM},
                                        {"eq", NULL, NULL, LD_EQ},
                                        {"ne", NULL, NULL, LD_NE},
                                        {"lt", NULL, NULL, LD_LT},
                                        {"le", NULL, NULL, LD_LE},
                                        {"gt", NULL, NULL, LD_GT},
                                        {"ge", NULL, NULL, LD_GE}};

static int l_binary(lua_State *L) {
    const binary_entry *e = &binaries[lua_tointeger(L, lua_upvalueindex(1))];
    bool left = lua_type(L, 1) == LUA_TNUMBER, right = lua_type(L, 2) == LUA_TNUMBER;
    if (left && !right)
        return ldl_push(L, ld_binary_number(e->name, e->op, ldl_tensor(L, 2, e->name), lua_tonumber(L, 1), true));
    ld_tensor *x = ldl_tensor(L, 1, e->name);
    if (!right)
        return ldl_push(L, ld_binary(e->name, e->op, x, ldl_tensor(L, 2, e->name)));
    if (e->op == LD_POWER)
        return ldl_push(L, ld_unary("pow", LD_POW, x, lua_tonumber(L, 2), 0));
    return ldl_push(L, ld_binary_number(e->name, e->op, x, lua_tonumber(L, 2), false));
}

static int l_binary_(lua_State *L) {
    const binary_entry *e = &binaries[lua_tointeger(L, lua_upvalueindex(1))];
    ld_tensor *x = ldl_tensor(L, 1, e->in_place);
    if (lua_type(L, 2) == LUA_TNUMBER) {
        ldl_ok(L, ld_check_number(e->in_place, x, lua_tonumber(L, 2)));
        ld_device *d = x->storage->device;
        ld_tensor *s = ld_tensor_full(d, x->dtype, 0, NULL, lua_tonumber(L, 2), e->in_place);
        if (!s)
            return ldl_raise(L);
        int bad = ld_binary_(e->in_place, e->op, x, s);
        ld_tensor_drop(s);
        ldl_ok(L, bad);
    } else {
        ldl_ok(L, ld_binary_(e->in_place, e->op, x, ldl_tensor(L, 2, e->in_place)));
    }
    lua_settop(L, 1);
    return 1;
}

static int l_fill_(lua_State *L) {
    ldl_ok(L, ld_fill_(ldl_tensor(L, 1, "fill_"), ldl_number(L, 2, "fill_", "the value")));
    lua_settop(L, 1);
    return 1;
}

static int l_zero_(lua_State *L) {
    ldl_ok(L, ld_fill_(ldl_tensor(L, 1, "zero_"), 0));
    lua_settop(L, 1);
    return 1;
}

static int l_copy_(lua_State *L) {
    ldl_ok(L, ld_copy_(ldl_tensor(L, 1, "copy_"), ldl_tensor(L, 2, "copy_")));
    lua_settop(L, 1);
    return 1;
}

/* axpby_(x, y, alpha, beta): x = alpha y + beta x */
static int l_axpby_(lua_State *L) {
    ldl_ok(L, ld_axpby_(ldl_tensor(L, 1, "axpby_"), ldl_tensor(L, 2, "axpby_"), ldl_number(L, 3, "axpby_", "alpha"),
                        ldl_number(L, 4, "axpby_", "beta")));
    lua_settop(L, 1);
    return 1;
}

static int l_uniform_(lua_State *L) {
    ldl_ok(L, ld_uniform_(ldl_tensor(L, 1, "uniform_"), ldl_number_or(L, 2, 0, "uniform_", "the lower bound"),
                          ldl_number_or(L, 3, 1, "uniform_", "the upper bound")));
    lua_settop(L, 1);
    return 1;
}

static int l_normal_(lua_State *L) {
    ldl_ok(L, ld_normal_(ldl_tensor(L, 1, "normal_"), ldl_number_or(L, 2, 0, "normal_", "the mean"),
                         ldl_number_or(L, 3, 1, "normal_", "the standard deviation")));
    lua_settop(L, 1);
    return 1;
}

static int l_where(lua_State *L) {
    return ldl_push(L,
                    ld_where_select(ldl_tensor(L, 1, "where"), ldl_tensor(L, 2, "where"), ldl_tensor(L, 3, "where")));
}

/* ---- reductions ----------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    ld_reduce_op op;
} reductions[] = {{"sum", LD_SUM}, {"mean", LD_MEAN}, {"max", LD_MAX}, {"min", LD_MIN}, {"sumsq", LD_SUMSQ}};

/* sum(x, dim or {dims} or nil, keep) */
static int l_reduce(lua_State *L) {
    int e = (int)lua_tointeger(L, lua_upvalueindex(1));
    const char *who = reductions[e].name;
    ld_tensor *x = ldl_tensor(L, 1, who);
    int dims[LD_MAX_DIMS], n = 0;
    if (lua_istable(L, 2)) {
        n = (int)lua_objlen(L, 2);
        if (n > x->ndim)
            ldl_error(L, "%s: %d dimensions of a tensor with %d", who, n, x->ndim);
        for (int i = 0; i < n; i++) {
            lua_rawgeti(L, 2, i + 1);
            dims[i] = ldl_dim(L, lua_gettop(L), x->ndim, who);
            lua_pop(L, 1);
        }
    } else if (!lua_isnoneornil(L, 2)) {
        dims[n++] = ldl_dim(L, 2, x->ndim, who);
    }
    return ldl_push(L, ld_reduce(who, reductions[e].op, x, dims, n, lua_toboolean(L, 3)));
}

static int l_argmax(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "argmax");
    return ldl_push(L, ld_arg("argmax", x, ldl_dim(L, 2, x->ndim, "argmax"), false, lua_toboolean(L, 3)));
}

static int l_argmin(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "argmin");
    return ldl_push(L, ld_arg("argmin", x, ldl_dim(L, 2, x->ndim, "argmin"), true, lua_toboolean(L, 3)));
}

/* ---- products, convolutions ----------------------------------------------------------------------------------------- */

static int l_matmul(lua_State *L) {
    return ldl_push(L, ld_matmul(ldl_tensor(L, 1, "matmul"), ldl_tensor(L, 2, "matmul")));
}

static int l_linear(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "linear"), *w = ldl_tensor(L, 2, "linear");
    return ldl_push(L, ld_linear(x, w, ldl_opt_tensor(L, 3, "linear")));
}

/* conv2d(x, weight, bias or nil, {stride, padding, upsample}) */
static int l_conv2d(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "conv2d"), *w = ldl_tensor(L, 2, "conv2d");
    ldl_options(L, 4, "conv2d", "stride padding upsample");
    ld_conv_shape s = ldl_field_conv(L, 4, "conv2d");
    return ldl_push(L, ld_conv2d(x, w, ldl_opt_tensor(L, 3, "conv2d"), &s));
}

/* conv_transpose2d(x, weight, bias or nil, {stride, padding, output_padding}) */
static int l_conv_transpose2d(lua_State *L) {
    static const char who[] = "conv_transpose2d";
    ld_tensor *x = ldl_tensor(L, 1, who), *w = ldl_tensor(L, 2, who);
    ldl_options(L, 4, who, "stride padding output_padding");
    ld_conv_shape s = ldl_field_conv(L, 4, who);
    int extra = (int)ldl_field_int(L, 4, "output_padding", 0, who);
    return ldl_push(L, ld_conv_transpose2d(x, w, ldl_opt_tensor(L, 3, who), &s, extra));
}

/* ---- normalisation, attention --------------------------------------------------------------------------------------- */

#define FUSED " film act slope sub"

/* The options film (N,2C), act = 'relu', 'leaky' or 'silu', slope and sub of table i: act(norm(x (1 + scale) + shift)). */
static ld_norm_fused fused_options(lua_State *L, int i, const char *who) {
    static const char *const names[] = {
        [LD_NORM_PLAIN] = "identity", [LD_NORM_RELU] = "relu", [LD_NORM_LEAKY] = "leaky", [LD_NORM_SILU] = "silu"};
    const char *act = ldl_field_string(L, i, "act", names[LD_NORM_PLAIN], who);
    int k = LD_NORM_PLAIN;
    while (k <= LD_NORM_SILU && strcmp(names[k], act))
        k++;
    if (k > LD_NORM_SILU)
        ldl_error(L, "%s: unknown act '%s'; known: identity relu leaky silu", who, act);
    return (ld_norm_fused){ldl_field_tensor(L, i, "film", who), (ld_norm_act)k,
                           ldl_field_number(L, i, "slope", 0.01, who), ldl_field_number(L, i, "sub", 0, who)};
}

/* batch_norm(x, {weight, bias, running_mean, running_var, training = false, momentum = 0.1, eps = 1e-5, film, act}) */
static int l_batch_norm(lua_State *L) {
    static const char who[] = "batch_norm";
    ld_tensor *x = ldl_tensor(L, 1, who);
    ldl_options(L, 2, who, "weight bias running_mean running_var training momentum eps" FUSED);
    ld_norm_fused f = fused_options(L, 2, who);
    return ldl_push(L, ld_batch_norm_fused(
                           x, ldl_field_tensor(L, 2, "weight", who), ldl_field_tensor(L, 2, "bias", who),
                           ldl_field_tensor(L, 2, "running_mean", who), ldl_field_tensor(L, 2, "running_var", who),
                           ldl_field_bool(L, 2, "training", false, who), ldl_field_number(L, 2, "momentum", 0.1, who),
                           ldl_field_number(L, 2, "eps", 1e-5, who), &f));
}

/* group_norm(x, groups, {weight, bias, eps = 1e-5, film, act}) */
static int l_group_norm(lua_State *L) {
    static const char who[] = "group_norm";
    ld_tensor *x = ldl_tensor(L, 1, who);
    int groups = (int)ldl_int(L, 2, who, "the number of groups");
    ldl_options(L, 3, who, "weight bias eps" FUSED);
    ld_norm_fused f = fused_options(L, 3, who);
    return ldl_push(L,
                    ld_group_norm_fused(x, ldl_field_tensor(L, 3, "weight", who), ldl_field_tensor(L, 3, "bias", who),
                                        groups, ldl_field_number(L, 3, "eps", 1e-5, who), &f));
}

/* layer_norm(x, {weight, bias, eps = 1e-5}): over the last dimension */
static int l_layer_norm(lua_State *L) {
    static const char who[] = "layer_norm";
    ld_tensor *x = ldl_tensor(L, 1, who);
    ldl_options(L, 2, who, "weight bias eps");
    return ldl_push(L, ld_layer_norm(x, ldl_field_tensor(L, 2, "weight", who), ldl_field_tensor(L, 2, "bias", who),
                                     ldl_field_number(L, 2, "eps", 1e-5, who)));
}

static int l_softmax(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "softmax");
    return ldl_push(L, ld_softmax(x, lua_isnoneornil(L, 2) ? x->ndim - 1 : ldl_dim(L, 2, x->ndim, "softmax")));
}

/* attention(q, k, v, heads = 1) */
static int l_attention(lua_State *L) {
    ld_tensor *q = ldl_tensor(L, 1, "attention"), *k = ldl_tensor(L, 2, "attention");
    ld_tensor *v = ldl_tensor(L, 3, "attention");
    return ldl_push(L, ld_attention(q, k, v, (int)ldl_number_or(L, 4, 1, "attention", "heads")));
}

/* attention_packed(qkv, heads) */
static int l_attention_packed(lua_State *L) {
    ld_tensor *qkv = ldl_tensor(L, 1, "attention_packed");
    return ldl_push(L, ld_attention_packed(qkv, (int)ldl_int(L, 2, "attention_packed", "heads")));
}

/* ---- spatial -------------------------------------------------------------------------------------------------------- */

/* avg_pool2d(x, kernel, {stride = kernel, ceil = false}) */
static int l_avg_pool2d(lua_State *L) {
    static const char who[] = "avg_pool2d";
    ld_tensor *x = ldl_tensor(L, 1, who);
    int k = (int)ldl_int(L, 2, who, "the kernel");
    ldl_options(L, 3, who, "stride ceil");
    int s = (int)ldl_field_int(L, 3, "stride", k, who);
    return ldl_push(L, ld_avg_pool2d(x, k, k, s, s, ldl_field_bool(L, 3, "ceil", false, who)));
}

static int l_adaptive_avg_pool2d(lua_State *L) {
    static const char who[] = "adaptive_avg_pool2d";
    ld_tensor *x = ldl_tensor(L, 1, who);
    int64_t h = ldl_int(L, 2, who, "the height");
    return ldl_push(L, ld_adaptive_avg_pool2d(x, h, lua_isnoneornil(L, 3) ? h : ldl_int(L, 3, who, "the width")));
}

static int l_upsample_nearest(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "upsample_nearest");
    return ldl_push(L, ld_upsample_nearest(x, (int)ldl_number_or(L, 2, 2, "upsample_nearest", "the scale")));
}

/* resize_bilinear(x, height, width, {antialias = true}) */
static int l_resize_bilinear(lua_State *L) {
    static const char who[] = "resize_bilinear";
    ld_tensor *x = ldl_tensor(L, 1, who);
    int64_t h = ldl_int(L, 2, who, "the height"), w = ldl_int(L, 3, who, "the width");
    ldl_options(L, 4, who, "antialias");
    return ldl_push(L, ld_resize_bilinear(x, h, w, ldl_field_bool(L, 4, "antialias", true, who)));
}

/* ---- losses --------------------------------------------------------------------------------------------------------- */

static ld_mean reduction(lua_State *L, int i, const char *who) {
    static const char *const names[] = {"mean", "none", "sum"};
    const char *s = ldl_field_string(L, i, "reduction", "mean", who);
    for (int k = 0; k < 3; k++)
        if (!strcmp(s, names[k]))
            return (ld_mean)k;
    return (ld_mean)ldl_error(L, "%s: unknown reduction '%s'; known: mean none sum", who, s);
}

static int l_mse(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "mse"), *y = ldl_tensor(L, 2, "mse");
    ldl_options(L, 3, "mse", "reduction");
    return ldl_push(L, ld_mse(x, y, reduction(L, 3, "mse")));
}

static int l_l1(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "l1"), *y = ldl_tensor(L, 2, "l1");
    ldl_options(L, 3, "l1", "reduction");
    return ldl_push(L, ld_l1(x, y, reduction(L, 3, "l1")));
}

static int l_huber(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "huber"), *y = ldl_tensor(L, 2, "huber");
    ldl_options(L, 3, "huber", "reduction delta");
    return ldl_push(L, ld_huber(x, y, ldl_field_number(L, 3, "delta", 1, "huber"), reduction(L, 3, "huber")));
}

/* cross_entropy(logits, classes, {smoothing = 0, reduction = 'mean'}) */
static int l_cross_entropy(lua_State *L) {
    static const char who[] = "cross_entropy";
    ld_tensor *x = ldl_tensor(L, 1, who), *t = ldl_tensor(L, 2, who);
    ldl_options(L, 3, who, "smoothing reduction");
    return ldl_push(L, ld_cross_entropy(x, t, ldl_field_number(L, 3, "smoothing", 0, who), reduction(L, 3, who)));
}

/* dropout(x, p, training = true) */
static int l_dropout(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "dropout");
    double p = ldl_number(L, 2, "dropout", "the probability");
    return ldl_push(L, ld_dropout(x, p, lua_isnoneornil(L, 3) || lua_toboolean(L, 3)));
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

static int l_gather(lua_State *L) {
    return ldl_push(L, ld_gather(ldl_tensor(L, 1, "gather"), ldl_tensor(L, 2, "gather")));
}

/* one_hot(classes tensor, count, dtype = 'f32') */
static int l_one_hot(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "one_hot");
    int64_t n = ldl_int(L, 2, "one_hot", "the number of classes");
    return ldl_push(L, ld_one_hot(x, n, lua_isnoneornil(L, 3) ? LD_F32 : ldl_dtype(L, 3, "one_hot")));
}

/* Closures over a table's index i: into ld.core and the methods, and under `meta` into the metatable. */
static void add_closure(lua_State *L, lua_CFunction f, int i, const char *name, const char *meta) {
    lua_pushinteger(L, i);
    lua_pushcclosure(L, f, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, name);
    luaL_getmetatable(L, LDL_TENSOR);
    lua_getfield(L, -1, "methods");
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, name);
    if (meta) {
        lua_pushvalue(L, -3);
        lua_setfield(L, -3, meta);
    }
    lua_pop(L, 3);
}

void ldl_open_op(lua_State *L) {
    static const luaL_Reg functions[] = {{"clamp", l_clamp},
                                         {"where", l_where},
                                         {"argmax", l_argmax},
                                         {"argmin", l_argmin},
                                         {"matmul", l_matmul},
                                         {"linear", l_linear},
                                         {"conv2d", l_conv2d},
                                         {"conv_transpose2d", l_conv_transpose2d},
                                         {"batch_norm", l_batch_norm},
                                         {"group_norm", l_group_norm},
                                         {"layer_norm", l_layer_norm},
                                         {"softmax", l_softmax},
                                         {"attention", l_attention},
                                         {"attention_packed", l_attention_packed},
                                         {"avg_pool2d", l_avg_pool2d},
                                         {"adaptive_avg_pool2d", l_adaptive_avg_pool2d},
                                         {"upsample_nearest", l_upsample_nearest},
                                         {"resize_bilinear", l_resize_bilinear},
                                         {"mse", l_mse},
                                         {"l1", l_l1},
                                         {"huber", l_huber},
                                         {"cross_entropy", l_cross_entropy},
                                         {"dropout", l_dropout},
                                         {"gather", l_gather},
                                         {"one_hot", l_one_hot},
                                         {NULL, NULL}};
    static const luaL_Reg methods[] = {{"clamp_", l_clamp_},   {"fill_", l_fill_},   {"zero_", l_zero_},
                                       {"copy_", l_copy_},     {"axpby_", l_axpby_}, {"uniform_", l_uniform_},
                                       {"normal_", l_normal_}, {NULL, NULL}};
    luaL_register(L, NULL, functions);
    ldl_register_methods(L, functions);
    ldl_register_methods(L, methods);
    for (size_t i = 0; i < sizeof unaries / sizeof *unaries; i++) {
        char in_place[32];
        strcpy(in_place, unaries[i].name);
        strcat(in_place, "_");
        add_closure(L, l_unary, (int)i, unaries[i].name, unaries[i].op == LD_NEG ? "__unm" : NULL);
        add_closure(L, l_unary_, (int)i, in_place, NULL);
    }
    for (size_t i = 0; i < sizeof binaries / sizeof *binaries; i++) {
        add_closure(L, l_binary, (int)i, binaries[i].name, binaries[i].meta);
        if (binaries[i].in_place)
            add_closure(L, l_binary_, (int)i, binaries[i].in_place, NULL);
    }
    for (size_t i = 0; i < sizeof reductions / sizeof *reductions; i++)
        add_closure(L, l_reduce, (int)i, reductions[i].name, NULL);
}
