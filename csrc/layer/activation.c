/* Elementwise layers: activations and dropout. */
#include "base/error.h"
#include "layer/part.h"

#include <stdio.h>

const char *const ld_act_names[LD_ACT_COUNT] = {
    [LD_ACT_IDENTITY] = "identity", [LD_ACT_RELU] = "relu", [LD_ACT_LEAKY] = "leaky",     [LD_ACT_SILU] = "silu",
    [LD_ACT_GELU] = "gelu",         [LD_ACT_TANH] = "tanh", [LD_ACT_SIGMOID] = "sigmoid",
};

static ld_tensor *act_forward(ld_layer *l, ld_tensor *x) {
    static const ld_unary_op op[LD_ACT_COUNT] = {
        [LD_ACT_RELU] = LD_RELU, [LD_ACT_LEAKY] = LD_LEAKY, [LD_ACT_SILU] = LD_SILU,
        [LD_ACT_GELU] = LD_GELU, [LD_ACT_TANH] = LD_TANH,   [LD_ACT_SIGMOID] = LD_SIGMOID,
    };
    const ld_activation_options *o = &l->opt.activation;
    if (o->kind == LD_ACT_IDENTITY)
        return ld_tensor_ref(x);
    bool leaky = o->kind == LD_ACT_LEAKY;
    return ld_unary(ld_act_names[o->kind], op[o->kind], x, leaky ? o->slope : 0, leaky ? o->sub : 0);
}

bool ld_layer_is_activation(const ld_layer *l) {
    return l->type->forward == act_forward;
}

static int act_describe(const ld_layer *l, char *s, size_t n) {
    const ld_activation_options *o = &l->opt.activation;
    if (o->kind != LD_ACT_LEAKY)
        return snprintf(s, n, "%s", "");
    return snprintf(s, n, "slope %g, sub %g", o->slope, o->sub);
}

ld_layer *ld_layer_activation(const ld_activation_options *o) {
#define TYPE(name)                                                                                                     \
    { name, act_forward, act_describe, false }
    static const ld_layer_type types[LD_ACT_COUNT] = {
        [LD_ACT_IDENTITY] = TYPE("identity"), [LD_ACT_RELU] = TYPE("relu"), [LD_ACT_LEAKY] = TYPE("leaky"),
        [LD_ACT_SILU] = TYPE("silu"),         [LD_ACT_GELU] = TYPE("gelu"), [LD_ACT_TANH] = TYPE("tanh"),
        [LD_ACT_SIGMOID] = TYPE("sigmoid"),
    };
#undef TYPE
    if ((int)o->kind < 0 || o->kind >= LD_ACT_COUNT)
        return ld_fail_null(LD_EVALUE, "activation: there is no kind %d", (int)o->kind);
    ld_layer *l = ld_layer_new(&types[o->kind]);
    if (l)
        l->opt.activation = *o;
    return l;
}

static ld_tensor *dropout_forward(ld_layer *l, ld_tensor *x) {
    return ld_dropout(x, l->opt.dropout.p, l->training);
}

static int dropout_describe(const ld_layer *l, char *s, size_t n) {
    return snprintf(s, n, "%g", l->opt.dropout.p);
}

ld_layer *ld_layer_dropout(const ld_dropout_options *o) {
    static const ld_layer_type type = {"dropout", dropout_forward, dropout_describe, false};
    if (!(o->p >= 0 && o->p < 1))
        return ld_fail_null(LD_EVALUE, "dropout: p %g; it must be at least 0 and below 1", o->p);
    ld_layer *l = ld_layer_new(&type);
    if (l)
        l->opt.dropout = *o;
    return l;
}
