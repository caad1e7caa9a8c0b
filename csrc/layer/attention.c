#include "base/error.h"
#include "layer/part.h"

#include <math.h>
#include <stdio.h>

enum { NORM_W, NORM_B, QKV_W, QKV_B, PROJ_W, PROJ_B };

/* y = f(x), x dropped; NULL passes through. */
#define THEN(x, f) step(x, (x) ? (f) : NULL)
static ld_tensor *step(ld_tensor *x, ld_tensor *y) {
    ld_tensor_drop(x);
    return y;
}

/* (N,C,H,W) -> (N,HW,C), through the layers, and back. With channels last in memory both turns are views. */
static ld_tensor *forward(ld_layer *l, ld_tensor *x) {
    const ld_attention_options *o = &l->opt.attention;
    if (x->ndim != 4 || x->shape[1] != o->channels)
        return ld_fail_null(LD_ESHAPE, "attention: x must be (N,%lld,H,W); it is %s", (long long)o->channels,
                            ld_tensor_text(x));
    int64_t n = x->shape[0], c = x->shape[1], h = x->shape[2], w = x->shape[3];
    ld_tensor *y = ld_permute(x, (int[]){0, 2, 3, 1});
    y = THEN(y, ld_reshape(y, 3, (int64_t[]){n, h * w, c}));
    y = THEN(y, ld_layer_norm(y, l->param[NORM_W].x, l->param[NORM_B].x, o->eps));
    y = THEN(y, ld_linear(y, l->param[QKV_W].x, l->param[QKV_B].x));
    y = THEN(y, ld_attention_packed(y, o->heads));
    y = THEN(y, ld_linear(y, l->param[PROJ_W].x, l->param[PROJ_B].x));
    y = THEN(y, ld_reshape(y, 4, (int64_t[]){n, h, w, c}));
    return THEN(y, ld_permute(y, (int[]){0, 3, 1, 2}));
}

static int describe(const ld_layer *l, char *s, size_t n) {
    const ld_attention_options *o = &l->opt.attention;
    return snprintf(s, n, "%lld, heads %d, width %lld", (long long)o->channels, o->heads,
                    (long long)(o->channels / o->heads));
}

ld_layer *ld_layer_attention(ld_device *d, ld_dtype t, const ld_attention_options *o) {
    static const ld_layer_type type = {"attention", forward, describe, true};
    if (o->channels < 1 || o->heads < 1 || o->channels % o->heads)
        return ld_fail_null(LD_EVALUE, "attention: %d heads do not divide %lld channels", o->heads,
                            (long long)o->channels);
    if (!(o->eps > 0))
        return ld_fail_null(LD_EVALUE, "attention: eps %g; it must be above 0", o->eps);
    if (ld_layer_check_dtype("attention", t))
        return NULL;
    ld_layer *l = ld_layer_new(&type);
    if (!l)
        return NULL;
    l->opt.attention = *o;
    int64_t c = o->channels, c3 = 3 * c;
    double bound = 1 / sqrt((double)c);
    const struct {
        const char *name;
        int ndim;
        int64_t shape[2];
        ld_fill_kind how;
        double v;
    } parts[] = {
        [NORM_W] = {"norm.weight", 1, {c}, LD_FILL_VALUE, 1},
        [NORM_B] = {"norm.bias", 1, {c}, LD_FILL_VALUE, 0},
        [QKV_W] = {"qkv.weight", 2, {c3, c}, LD_FILL_UNIFORM, bound},
        [QKV_B] = {"qkv.bias", 1, {c3}, LD_FILL_UNIFORM, bound},
        [PROJ_W] = {"proj.weight", 2, {c, c}, LD_FILL_UNIFORM, bound},
        [PROJ_B] = {"proj.bias", 1, {c}, LD_FILL_UNIFORM, bound},
    };
    int bad = 0;
    for (int i = 0; i < LD_LAYER_PARAMS && !bad; i++)
        bad = ld_layer_add_param(l, parts[i].name, d, t, parts[i].ndim, parts[i].shape, parts[i].how, parts[i].v);
    return ld_layer_made(l, bad);
}
