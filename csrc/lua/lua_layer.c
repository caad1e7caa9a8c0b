/* Layers in Lua: core.layer.conv2d{in_channels = 3, ...} and methods. lua/ld/nn.lua wraps them as modules. */
#include "lua/ldl.h"

#include "layer/layer.h"

#include <string.h>

#define CLASS "ld.layer"

static ld_layer *layer_arg(lua_State *L, const char *who) {
    return ldl_object(L, 1, CLASS, who);
}

static int64_t need(lua_State *L, const char *key, const char *who) {
    lua_getfield(L, 1, key);
    if (lua_isnil(L, -1))
        ldl_error(L, "%s: option '%s' is needed", who, key);
    lua_pop(L, 1);
    return ldl_field_int(L, 1, key, 0, who);
}

static int push_layer(lua_State *L, ld_layer *l) {
    ldl_push_object(L, l, CLASS);
    return 1;
}

static void begin(lua_State *L, const char *who, const char *known) {
    ldl_install_where(L);
    ldl_options(L, 1, who, known);
}

/* ---- constructors: one option table each ---------------------------------------------------------------------------- */

static ld_conv_options conv_options(lua_State *L, const char *who) {
    int64_t k[2];
    ld_conv_options o = {.in = need(L, "in_channels", who), .out = need(L, "out_channels", who)};
    int n = ldl_field_ints(L, 1, "kernel", k, 2, who);
    if (!n)
        ldl_error(L, "%s: option 'kernel' is needed", who);
    o.kernel_h = (int)k[0];
    o.kernel_w = (int)k[n - 1];
    o.shape = ldl_field_conv(L, 1, who);
    o.output_padding = (int)ldl_field_int(L, 1, "output_padding", 0, who);
    o.bias = ldl_field_bool(L, 1, "bias", true, who);
    return o;
}

static int l_conv2d(lua_State *L) {
    static const char who[] = "nn.conv2d";
    begin(L, who, "in_channels out_channels kernel stride padding upsample bias dtype device");
    ld_conv_options o = conv_options(L, who);
    return push_layer(L, ld_layer_conv2d(ldl_field_device(L, 1, who), ldl_field_dtype(L, 1, LD_F32, who), &o));
}

static int l_conv_transpose2d(lua_State *L) {
    static const char who[] = "nn.conv_transpose2d";
    begin(L, who, "in_channels out_channels kernel stride padding output_padding bias dtype device");
    ld_conv_options o = conv_options(L, who);
    return push_layer(L,
                      ld_layer_conv_transpose2d(ldl_field_device(L, 1, who), ldl_field_dtype(L, 1, LD_F32, who), &o));
}

static int l_linear(lua_State *L) {
    static const char who[] = "nn.linear";
    begin(L, who, "in_features out_features bias dtype device");
    ld_linear_options o = {need(L, "in_features", who), need(L, "out_features", who),
                           ldl_field_bool(L, 1, "bias", true, who)};
    return push_layer(L, ld_layer_linear(ldl_field_device(L, 1, who), ldl_field_dtype(L, 1, LD_F32, who), &o));
}

static int l_batch_norm(lua_State *L) {
    static const char who[] = "nn.batch_norm";
    begin(L, who, "channels eps momentum affine dtype device");
    ld_norm_options o = {.channels = need(L, "channels", who),
                         .eps = ldl_field_number(L, 1, "eps", 1e-5, who),
                         .momentum = ldl_field_number(L, 1, "momentum", 0.1, who),
                         .affine = ldl_field_bool(L, 1, "affine", true, who)};
    return push_layer(L, ld_layer_batch_norm(ldl_field_device(L, 1, who), ldl_field_dtype(L, 1, LD_F32, who), &o));
}

static int l_group_norm(lua_State *L) {
    static const char who[] = "nn.group_norm";
    begin(L, who, "groups channels eps affine dtype device");
    ld_norm_options o = {.channels = need(L, "channels", who),
                         .groups = (int)need(L, "groups", who),
                         .eps = ldl_field_number(L, 1, "eps", 1e-5, who),
                         .affine = ldl_field_bool(L, 1, "affine", true, who)};
    return push_layer(L, ld_layer_group_norm(ldl_field_device(L, 1, who), ldl_field_dtype(L, 1, LD_F32, who), &o));
}

static int l_layer_norm(lua_State *L) {
    static const char who[] = "nn.layer_norm";
    begin(L, who, "features eps affine dtype device");
    ld_norm_options o = {.channels = need(L, "features", who),
                         .eps = ldl_field_number(L, 1, "eps", 1e-5, who),
                         .affine = ldl_field_bool(L, 1, "affine", true, who)};
    return push_layer(L, ld_layer_layer_norm(ldl_field_device(L, 1, who), ldl_field_dtype(L, 1, LD_F32, who), &o));
}

static int l_attention(lua_State *L) {
    static const char who[] = "nn.attention";
    begin(L, who, "channels heads head_width eps dtype device");
    int64_t channels = need(L, "channels", who), width = ldl_field_int(L, 1, "head_width", 0, who);
    if (width < 0 || (width && channels % width))
        ldl_error(L, "%s: head_width %lld does not divide %lld channels", who, (long long)width, (long long)channels);
    int64_t heads = ldl_field_int(L, 1, "heads", width ? channels / width : 1, who);
    if (width && heads != channels / width)
        ldl_error(L, "%s: %lld heads of width %lld are not %lld channels; give one of heads and head_width", who,
                  (long long)heads, (long long)width, (long long)channels);
    ld_attention_options o = {
        .channels = channels, .heads = (int)heads, .eps = ldl_field_number(L, 1, "eps", 1e-5, who)};
    return push_layer(L, ld_layer_attention(ldl_field_device(L, 1, who), ldl_field_dtype(L, 1, LD_F32, who), &o));
}

static int l_embedding(lua_State *L) {
    static const char who[] = "nn.embedding";
    begin(L, who, "count features dtype device");
    ld_embedding_options o = {need(L, "count", who), need(L, "features", who)};
    return push_layer(L, ld_layer_embedding(ldl_field_device(L, 1, who), ldl_field_dtype(L, 1, LD_F32, who), &o));
}

static int l_dropout(lua_State *L) {
    begin(L, "nn.dropout", "p");
    ld_dropout_options o = {ldl_field_number(L, 1, "p", 0.5, "nn.dropout")};
    return push_layer(L, ld_layer_dropout(&o));
}

/* activation{kind = 'silu', slope, sub} */
static int l_activation(lua_State *L) {
    static const char who[] = "nn.activation";
    begin(L, who, "kind slope sub");
    const char *kind = ldl_field_string(L, 1, "kind", "identity", who);
    int k = 0;
    while (k < LD_ACT_COUNT && strcmp(ld_act_names[k], kind))
        k++;
    if (k == LD_ACT_COUNT)
        return ldl_error(L, "%s: unknown kind '%s'; known: identity relu leaky silu gelu tanh sigmoid", who, kind);
    ld_activation_options o = {(ld_act)k, ldl_field_number(L, 1, "slope", 0.01, who),
                               ldl_field_number(L, 1, "sub", 0, who)};
    return push_layer(L, ld_layer_activation(&o));
}

static int l_avg_pool2d(lua_State *L) {
    static const char who[] = "nn.avg_pool2d";
    begin(L, who, "kernel stride ceil");
    int64_t k[2], s[2];
    int n = ldl_field_ints(L, 1, "kernel", k, 2, who);
    if (!n)
        ldl_error(L, "%s: option 'kernel' is needed", who);
    int m = ldl_field_ints(L, 1, "stride", s, 2, who);
    ld_avg_pool_options o = {(int)k[0], (int)k[n - 1], (int)(m ? s[0] : k[0]), (int)(m ? s[m - 1] : k[n - 1]),
                             ldl_field_bool(L, 1, "ceil", false, who)};
    return push_layer(L, ld_layer_avg_pool2d(&o));
}

static int l_adaptive_avg_pool2d(lua_State *L) {
    static const char who[] = "nn.adaptive_avg_pool2d";
    begin(L, who, "size");
    int64_t s[2] = {1, 1};
    int n = ldl_field_ints(L, 1, "size", s, 2, who);
    ld_size_options o = {s[0], s[n == 2 ? 1 : 0]};
    return push_layer(L, ld_layer_adaptive_avg_pool2d(&o));
}

static int l_upsample(lua_State *L) {
    begin(L, "nn.upsample", "scale");
    ld_upsample_options o = {(int)ldl_field_int(L, 1, "scale", 2, "nn.upsample")};
    return push_layer(L, ld_layer_upsample(&o));
}

static int l_flatten(lua_State *L) {
    begin(L, "nn.flatten", "");
    return push_layer(L, ld_layer_flatten());
}

/* ---- methods -------------------------------------------------------------------------------------------------------- */

static int l_forward(lua_State *L) {
    ld_layer *l = layer_arg(L, "forward");
    if (!ldl_is_tensor(L, 2))
        ldl_error(L, "%s: x must be a tensor, not %s", l->type->name, luaL_typename(L, 2));
    return ldl_push(L, ld_layer_forward(l, ldl_tensor(L, 2, l->type->name)));
}

/* norm:norm_act(act or nil, x, film or nil): act(norm(x (1 + scale) + shift)) as one operation */
static int l_norm_act(lua_State *L) {
    static const char who[] = "norm_act";
    ld_layer *norm = layer_arg(L, who), *act = lua_isnoneornil(L, 2) ? NULL : ldl_object(L, 2, CLASS, who);
    return ldl_push(L, ld_layer_norm_act(norm, act, ldl_tensor(L, 3, who), ldl_opt_tensor(L, 4, who)));
}

/* l:parameters(), l:buffers(): a list of {name, tensor} in order. */
static int push_named(lua_State *L, const ld_named_tensor *at, int n) {
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        lua_createtable(L, 2, 0);
        lua_pushstring(L, at[i].name);
        lua_rawseti(L, -2, 1);
        ldl_push(L, ld_tensor_ref(at[i].x));
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int l_parameters(lua_State *L) {
    ld_layer *l = layer_arg(L, "parameters");
    return push_named(L, l->param, l->n_params);
}

static int l_buffers(lua_State *L) {
    ld_layer *l = layer_arg(L, "buffers");
    return push_named(L, l->buffer, l->n_buffers);
}

static int l_train(lua_State *L) {
    ld_layer_train(layer_arg(L, "train"), lua_isnoneornil(L, 2) || lua_toboolean(L, 2));
    return 0;
}

static int l_require_grad(lua_State *L) {
    ld_layer_require_grad(layer_arg(L, "require_grad"), lua_toboolean(L, 2));
    return 0;
}

/* l:to('f64') or l:to('cpu') */
static int l_to(lua_State *L) {
    ld_layer *l = layer_arg(L, "to");
    const char *what = ldl_string(L, 2, "to", "the dtype or device");
    ld_dtype t = l->n_params ? l->param[0].x->dtype : LD_F32;
    ld_device *d = NULL;
    if (ld_dtype_find(what) >= 0)
        t = (ld_dtype)ld_dtype_find(what);
    else
        d = ldl_device_or_dtype(L, what, "to");
    ldl_ok(L, ld_layer_to(l, t, d));
    return 0;
}

static int l_describe(lua_State *L) {
    char s[256];
    lua_pushstring(L, ld_layer_describe(layer_arg(L, "describe"), s, sizeof s));
    return 1;
}

static int l_type(lua_State *L) {
    lua_pushstring(L, layer_arg(L, "type")->type->name);
    return 1;
}

static int l_gc(lua_State *L) {
    ld_layer **p = lua_touserdata(L, 1);
    ld_layer_drop(*p);
    *p = NULL;
    return 0;
}

/* ---- precision -------------------------------------------------------------------------------------------------------- */

static ld_dtype precision_arg(lua_State *L, const char *who) {
    const char *name = ldl_string(L, 1, who, "the precision");
    int t = ld_dtype_find(name);
    if (t != LD_F32 && t != LD_BF16 && t != LD_F16)
        ldl_error(L, "%s: unknown precision '%s'; known: f32 bf16 f16", who, name);
    return (ld_dtype)t;
}

/* precision(): the one in force; precision(name): sets it, whatever the device, and returns the one before. */
static int l_precision(lua_State *L) {
    bool ask = lua_isnoneornil(L, 1);
    lua_pushstring(L,
                   ld_dtype_names[ask ? ld_layer_precision() : ld_layer_set_precision(precision_arg(L, "precision"))]);
    return 1;
}

/* computes(precision, device): whether the device, by default the default one, computes in it. */
static int l_computes(lua_State *L) {
    ld_dtype t = precision_arg(L, "computes");
    const char *name = lua_isnoneornil(L, 2) ? NULL : ldl_string(L, 2, "computes", "the device");
    ld_device *d = name ? ld_device_find(name) : ldl_default_device();
    if (!d)
        ldl_raise(L);
    lua_pushboolean(L, t == LD_F32 || d->backend->halves);
    return 1;
}

/* ---- initialisers: core.init.kaiming_normal_(x, slope, fan_in) ------------------------------------------------------- */

static int l_kaiming_normal_(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "kaiming_normal_");
    ldl_ok(L, ld_init_kaiming_normal_(x, ldl_number_or(L, 2, 0, "kaiming_normal_", "the slope"),
                                      (int64_t)ldl_number_or(L, 3, 0, "kaiming_normal_", "fan_in")));
    return 0;
}

static int l_constant_(lua_State *L) {
    ldl_ok(L, ld_init_constant_(ldl_tensor(L, 1, "constant_"), ldl_number_or(L, 2, 0, "constant_", "the value")));
    return 0;
}

static int l_uniform_(lua_State *L) {
    ldl_ok(L, ld_init_uniform_(ldl_tensor(L, 1, "uniform_"), ldl_number(L, 2, "uniform_", "the lower bound"),
                               ldl_number(L, 3, "uniform_", "the upper bound")));
    return 0;
}

static int l_normal_(lua_State *L) {
    ldl_ok(L, ld_init_normal_(ldl_tensor(L, 1, "normal_"), ldl_number(L, 2, "normal_", "the mean"),
                              ldl_number(L, 3, "normal_", "the standard deviation")));
    return 0;
}

void ldl_open_layer(lua_State *L) {
    static const luaL_Reg methods[] = {{"forward", l_forward},
                                       {"norm_act", l_norm_act},
                                       {"parameters", l_parameters},
                                       {"buffers", l_buffers},
                                       {"train", l_train},
                                       {"require_grad", l_require_grad},
                                       {"to", l_to},
                                       {"describe", l_describe},
                                       {"type", l_type},
                                       {"__tostring", l_describe},
                                       {"__call", l_forward},
                                       {"__gc", l_gc},
                                       {NULL, NULL}};
    static const luaL_Reg constructors[] = {{"conv2d", l_conv2d},
                                            {"conv_transpose2d", l_conv_transpose2d},
                                            {"linear", l_linear},
                                            {"batch_norm", l_batch_norm},
                                            {"group_norm", l_group_norm},
                                            {"layer_norm", l_layer_norm},
                                            {"attention", l_attention},
                                            {"embedding", l_embedding},
                                            {"dropout", l_dropout},
                                            {"activation", l_activation},
                                            {"avg_pool2d", l_avg_pool2d},
                                            {"adaptive_avg_pool2d", l_adaptive_avg_pool2d},
                                            {"upsample", l_upsample},
                                            {"flatten", l_flatten},
                                            {NULL, NULL}};
    static const luaL_Reg initialisers[] = {{"kaiming_normal_", l_kaiming_normal_},
                                            {"constant_", l_constant_},
                                            {"uniform_", l_uniform_},
                                            {"normal_", l_normal_},
                                            {NULL, NULL}};
    static const luaL_Reg functions[] = {{"precision", l_precision}, {"computes", l_computes}, {NULL, NULL}};
    luaL_register(L, NULL, functions);
    ldl_class(L, CLASS, methods);
    lua_newtable(L);
    luaL_register(L, NULL, constructors);
    lua_setfield(L, -2, "layer");
    lua_newtable(L);
    luaL_register(L, NULL, initialisers);
    lua_setfield(L, -2, "init");
}
