/* Layers that change the shape of an image and have no parameters. */
#include "base/error.h"
#include "layer/part.h"

#include <stdio.h>

static ld_tensor *avg_forward(ld_layer *l, ld_tensor *x) {
    const ld_avg_pool_options *o = &l->opt.avg_pool;
    return ld_avg_pool2d(x, o->kernel_h, o->kernel_w, o->stride_h, o->stride_w, o->ceil);
}

static int avg_describe(const ld_layer *l, char *s, size_t n) {
    const ld_avg_pool_options *o = &l->opt.avg_pool;
    return snprintf(s, n, "kernel %d x %d, stride %d x %d%s", o->kernel_h, o->kernel_w, o->stride_h, o->stride_w,
                    o->ceil ? ", ceil" : "");
}

ld_layer *ld_layer_avg_pool2d(const ld_avg_pool_options *o) {
    static const ld_layer_type type = {"avg_pool2d", avg_forward, avg_describe, false};
    if (o->kernel_h < 1 || o->kernel_w < 1 || o->stride_h < 1 || o->stride_w < 1)
        return ld_fail_null(LD_EVALUE, "avg_pool2d: kernel %d x %d, stride %d x %d; all must be at least 1",
                            o->kernel_h, o->kernel_w, o->stride_h, o->stride_w);
    ld_layer *l = ld_layer_new(&type);
    if (l)
        l->opt.avg_pool = *o;
    return l;
}

static ld_tensor *adaptive_forward(ld_layer *l, ld_tensor *x) {
    return ld_adaptive_avg_pool2d(x, l->opt.size.h, l->opt.size.w);
}

static int adaptive_describe(const ld_layer *l, char *s, size_t n) {
    return snprintf(s, n, "%lld x %lld", (long long)l->opt.size.h, (long long)l->opt.size.w);
}

ld_layer *ld_layer_adaptive_avg_pool2d(const ld_size_options *o) {
    static const ld_layer_type type = {"adaptive_avg_pool2d", adaptive_forward, adaptive_describe, false};
    if (o->h < 1 || o->w < 1)
        return ld_fail_null(LD_EVALUE, "adaptive_avg_pool2d: size %lld x %lld; both must be at least 1",
                            (long long)o->h, (long long)o->w);
    ld_layer *l = ld_layer_new(&type);
    if (l)
        l->opt.size = *o;
    return l;
}

static ld_tensor *upsample_forward(ld_layer *l, ld_tensor *x) {
    return ld_upsample_nearest(x, l->opt.upsample.scale);
}

static int upsample_describe(const ld_layer *l, char *s, size_t n) {
    return snprintf(s, n, "scale %d", l->opt.upsample.scale);
}

ld_layer *ld_layer_upsample(const ld_upsample_options *o) {
    static const ld_layer_type type = {"upsample", upsample_forward, upsample_describe, false};
    if (o->scale < 1)
        return ld_fail_null(LD_EVALUE, "upsample: scale %d; it must be at least 1", o->scale);
    ld_layer *l = ld_layer_new(&type);
    if (l)
        l->opt.upsample = *o;
    return l;
}

static ld_tensor *flatten_forward(ld_layer *l, ld_tensor *x) {
    (void)l;
    if (x->ndim < 1)
        return ld_fail_null(LD_ESHAPE, "flatten: x must have a batch dimension; it is %s", ld_tensor_text(x));
    int64_t rest = 1;
    for (int i = 1; i < x->ndim; i++)
        rest *= x->shape[i];
    return ld_reshape(x, 2, (int64_t[]){x->shape[0], rest});
}

ld_layer *ld_layer_flatten(void) {
    static const ld_layer_type type = {"flatten", flatten_forward, NULL, false};
    return ld_layer_new(&type);
}
