/* What a convolution is for cuDNN. */
#include "backend/cuda/conv_plan.h"

#include <stdio.h>
#include <string.h>

static void describe_up(ld_conv_spec *d, const int64_t *x, const int64_t *w, const int64_t *y) {
    static const ld_conv_kind kinds[] = {
        [LD_CONV_FORWARD] = LD_CONV_DATA, [LD_CONV_DATA] = LD_CONV_FORWARD, [LD_CONV_WEIGHT] = LD_CONV_WEIGHT};
    d->kind = kinds[d->kind];
    d->bias = false;
    memcpy(d->x, y, sizeof d->x);
    memcpy(d->y, x, sizeof d->y);
    memcpy(d->w, (int64_t[]){w[1], w[0], 4, 4}, sizeof d->w);
    d->stride[0] = d->stride[1] = 2;
    d->before[0] = d->before[1] = d->after[0] = d->after[1] = 1;
}

void ld_conv_describe(ld_conv_spec *d, ld_conv_kind kind, ld_dtype t, const int64_t *x, const int64_t *w,
                      const int64_t *y, bool bias, int alignment, const ld_conv_shape *s) {
    memset(d, 0, sizeof *d);
    d->kind = kind;
    d->dtype = t;
    d->bias = bias;
    d->alignment = alignment;
    if (s->up) {
        describe_up(d, x, w, y);
        return;
    }
    memcpy(d->x, x, sizeof d->x);
    memcpy(d->w, w, sizeof d->w);
    memcpy(d->y, y, sizeof d->y);
    d->stride[0] = s->stride_h, d->stride[1] = s->stride_w;
    d->before[0] = s->top, d->before[1] = s->left;
    d->after[0] = s->bottom, d->after[1] = s->right;
}

void ld_conv_spec_text(const ld_conv_spec *s, char *text, size_t n) {
    static const char *const kinds[] = {"conv", "conv_dx", "conv_dw"};
    snprintf(text, n, "%s,%s,%lldx%lldx%lldx%lld,%lldx%lldx%lld,stride%lldx%lld,pad%lld.%lld.%lld.%lld%s%s",
             kinds[s->kind], ld_dtype_names[s->dtype], (long long)s->x[0], (long long)s->x[1], (long long)s->x[2],
             (long long)s->x[3], (long long)s->w[0], (long long)s->w[2], (long long)s->w[3], (long long)s->stride[0],
             (long long)s->stride[1], (long long)s->before[0], (long long)s->after[0], (long long)s->before[1],
             (long long)s->after[1], s->bias ? ",bias" : "", s->alignment < 16 ? ",unaligned" : "");
}
