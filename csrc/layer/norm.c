#include "base/error.h"
#include "layer/part.h"

#include <stdio.h>

static int check(const char *who, const ld_norm_options *o, ld_dtype t) {
    if (o->channels < 1)
        return ld_fail(LD_EVALUE, "%s: %lld channels; at least 1 is needed", who, (long long)o->channels);
    if (!(o->eps > 0))
        return ld_fail(LD_EVALUE, "%s: eps %g; it must be above 0", who, o->eps);
    return ld_layer_check_dtype(who, t);
}

static ld_layer *make(const ld_layer_type *type, ld_device *d, ld_dtype t, const ld_norm_options *o) {
    ld_layer *l = ld_layer_new(type);
    if (!l)
        return NULL;
    l->opt.norm = *o;
    int bad = 0;
    if (o->affine) {
        bad = ld_layer_add_param(l, "weight", d, t, 1, &o->channels, LD_FILL_VALUE, 1);
        if (!bad)
            bad = ld_layer_add_param(l, "bias", d, t, 1, &o->channels, LD_FILL_VALUE, 0);
    }
    return ld_layer_made(l, bad);
}

static ld_tensor *weight(const ld_layer *l) {
    return l->opt.norm.affine ? l->param[0].x : NULL;
}

static ld_tensor *bias(const ld_layer *l) {
    return l->opt.norm.affine ? l->param[1].x : NULL;
}

static const char *affine_text(const ld_norm_options *o) {
    return o->affine ? "" : ", no weight and bias";
}

/* ---- batch ------------------------------------------------------------------------------------------------------- */

static ld_tensor *batch_fused(ld_layer *l, ld_tensor *x, const ld_norm_fused *f) {
    const ld_norm_options *o = &l->opt.norm;
    ld_tensor *count = l->buffer[2].x;
    ld_tensor *y =
        ld_batch_norm_fused(x, weight(l), bias(l), l->buffer[0].x, l->buffer[1].x, l->training, o->momentum, o->eps, f);
    if (!y || !l->training)
        return y;
    if (count->storage->device->backend->unary(LD_VIEW(count), LD_VIEW(count), LD_AFFINE, 1, 1)) {
        ld_tensor_drop(y);
        return NULL;
    }
    ld_tensor_touch(count);
    return y;
}

static ld_tensor *batch_forward(ld_layer *l, ld_tensor *x) {
    return batch_fused(l, x, NULL);
}

static int batch_describe(const ld_layer *l, char *s, size_t n) {
    const ld_norm_options *o = &l->opt.norm;
    return snprintf(s, n, "%lld, eps %g, momentum %g%s", (long long)o->channels, o->eps, o->momentum, affine_text(o));
}

ld_layer *ld_layer_batch_norm(ld_device *d, ld_dtype t, const ld_norm_options *o) {
    static const ld_layer_type type = {"batch_norm", batch_forward, batch_describe, false};
    if (check("batch_norm", o, t))
        return NULL;
    if (!(o->momentum >= 0 && o->momentum <= 1))
        return ld_fail_null(LD_EVALUE, "batch_norm: momentum %g; it must be 0 .. 1", o->momentum);
    ld_layer *l = make(&type, d, t, o);
    if (!l)
        return NULL;
    int bad = ld_layer_add_buffer(l, "running_mean", d, t, 1, &o->channels, 0);
    if (!bad)
        bad = ld_layer_add_buffer(l, "running_var", d, t, 1, &o->channels, 1);
    if (!bad)
        bad = ld_layer_add_buffer(l, "num_batches_tracked", d, LD_I64, 0, &o->channels, 0);
    return ld_layer_made(l, bad);
}

/* ---- group ------------------------------------------------------------------------------------------------------- */

static ld_tensor *group_forward(ld_layer *l, ld_tensor *x) {
    return ld_group_norm(x, weight(l), bias(l), l->opt.norm.groups, l->opt.norm.eps);
}

static ld_tensor *group_fused(ld_layer *l, ld_tensor *x, const ld_norm_fused *f) {
    return ld_group_norm_fused(x, weight(l), bias(l), l->opt.norm.groups, l->opt.norm.eps, f);
}

static int group_describe(const ld_layer *l, char *s, size_t n) {
    const ld_norm_options *o = &l->opt.norm;
    return snprintf(s, n, "%d, %lld, eps %g%s", o->groups, (long long)o->channels, o->eps, affine_text(o));
}

ld_layer *ld_layer_group_norm(ld_device *d, ld_dtype t, const ld_norm_options *o) {
    static const ld_layer_type type = {"group_norm", group_forward, group_describe, false};
    if (check("group_norm", o, t))
        return NULL;
    if (o->groups < 1 || o->channels % o->groups)
        return ld_fail_null(LD_EVALUE, "group_norm: %d groups do not divide %lld channels", o->groups,
                            (long long)o->channels);
    return make(&type, d, t, o);
}

/* ---- batch and group norm with what is fused around them --------------------------------------------------------- */

/* An activation's kind as norm kernels know it; false for those that are an operation of their own. */
static bool fusible(const ld_layer *act, ld_norm_fused *f) {
    const ld_activation_options *o = &act->opt.activation;
    f->slope = o->slope;
    f->sub = o->sub;
    switch (o->kind) {
    case LD_ACT_IDENTITY:
        f->act = LD_NORM_PLAIN;
        return true;
    case LD_ACT_RELU:
        f->act = LD_NORM_RELU;
        return true;
    case LD_ACT_LEAKY:
        f->act = LD_NORM_LEAKY;
        return true;
    case LD_ACT_SILU:
        f->act = LD_NORM_SILU;
        return true;
    default:
        return false;
    }
}

ld_tensor *ld_layer_norm_act(ld_layer *norm, ld_layer *act, ld_tensor *x, ld_tensor *film) {
    bool batch = norm->type->forward == batch_forward;
    ld_norm_fused f = {.film = film};
    if (!batch && norm->type->forward != group_forward)
        return ld_fail_null(LD_EVALUE, "norm_act: the first layer is %s; batch_norm or group_norm is needed",
                            norm->type->name);
    if (act && !ld_layer_is_activation(act))
        return ld_fail_null(LD_EVALUE, "norm_act: the second layer is %s; an activation is needed", act->type->name);
    bool apart = act && !fusible(act, &f);
    ld_tensor *y = batch ? batch_fused(norm, x, &f) : group_fused(norm, x, &f);
    if (!y || !apart)
        return y;
    ld_tensor *z = ld_layer_forward(act, y);
    ld_tensor_drop(y);
    return z;
}

/* ---- layer ------------------------------------------------------------------------------------------------------- */

static ld_tensor *layer_forward(ld_layer *l, ld_tensor *x) {
    const ld_norm_options *o = &l->opt.norm;
    if (x->ndim < 1 || x->shape[x->ndim - 1] != o->channels)
        return ld_fail_null(LD_ESHAPE, "layer_norm: the last dimension must be %lld; x is %s", (long long)o->channels,
                            ld_tensor_text(x));
    return ld_layer_norm(x, weight(l), bias(l), o->eps);
}

static int layer_describe(const ld_layer *l, char *s, size_t n) {
    const ld_norm_options *o = &l->opt.norm;
    return snprintf(s, n, "%lld, eps %g%s", (long long)o->channels, o->eps, affine_text(o));
}

ld_layer *ld_layer_layer_norm(ld_device *d, ld_dtype t, const ld_norm_options *o) {
    static const ld_layer_type type = {"layer_norm", layer_forward, layer_describe, false};
    return check("layer_norm", o, t) ? NULL : make(&type, d, t, o);
}
