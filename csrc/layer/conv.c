#include "base/error.h"
#include "layer/part.h"

#include <math.h>
#include <stdio.h>

static int check(const char *who, const ld_conv_options *o, bool transposed) {
    const ld_conv_shape *s = &o->shape;
    if (o->in < 1 || o->out < 1)
        return ld_fail(LD_EVALUE, "%s: %lld channels in, %lld out; both must be at least 1", who, (long long)o->in,
                       (long long)o->out);
    if (o->kernel_h < 1 || o->kernel_w < 1)
        return ld_fail(LD_EVALUE, "%s: kernel %d x %d; both must be at least 1", who, o->kernel_h, o->kernel_w);
    if (s->stride_h < 1 || s->stride_w < 1)
        return ld_fail(LD_EVALUE, "%s: stride %d x %d; both must be at least 1", who, s->stride_h, s->stride_w);
    if (s->top < 0 || s->bottom < 0 || s->left < 0 || s->right < 0)
        return ld_fail(LD_EVALUE, "%s: padding %d %d %d %d (top bottom left right); none may be negative", who, s->top,
                       s->bottom, s->left, s->right);
    if (s->up && (o->kernel_h != 3 || o->kernel_w != 3 || s->stride_h != 1 || s->stride_w != 1 || s->top != 1 ||
                  s->bottom != 1 || s->left != 1 || s->right != 1))
        return ld_fail(LD_EVALUE, "%s: upsample takes a kernel of 3, stride 1 and padding 1", who);
    int least = s->stride_h < s->stride_w ? s->stride_h : s->stride_w;
    if (o->output_padding < 0 || o->output_padding >= (transposed ? least : 1))
        return ld_fail(LD_EVALUE, "%s: output_padding %d; it must be 0 .. %d", who, o->output_padding,
                       transposed ? least - 1 : 0);
    return 0;
}

/* "kernel 3" or "kernel 3 x 1". */
static int pair(char *s, size_t n, const char *name, int h, int w) {
    return h == w ? snprintf(s, n, ", %s %d", name, h) : snprintf(s, n, ", %s %d x %d", name, h, w);
}

static int describe(const ld_layer *l, char *s, size_t n) {
    const ld_conv_options *o = &l->opt.conv;
    const ld_conv_shape *c = &o->shape;
    char kernel[48], stride[48], padding[96], output[48] = "";
    pair(kernel, sizeof kernel, "kernel", o->kernel_h, o->kernel_w);
    pair(stride, sizeof stride, "stride", c->stride_h, c->stride_w);
    if (c->top == c->bottom && c->left == c->right)
        pair(padding, sizeof padding, "padding", c->top, c->left);
    else
        snprintf(padding, sizeof padding, ", padding top %d bottom %d left %d right %d", c->top, c->bottom, c->left,
                 c->right);
    if (o->output_padding)
        snprintf(output, sizeof output, ", output_padding %d", o->output_padding);
    return snprintf(s, n, "%lld, %lld%s%s%s%s%s%s", (long long)o->in, (long long)o->out, kernel, stride, padding,
                    output, c->up ? ", upsample" : "", o->bias ? "" : ", no bias");
}

static ld_tensor *bias(const ld_layer *l) {
    return l->opt.conv.bias ? l->param[1].x : NULL;
}

static ld_tensor *forward(ld_layer *l, ld_tensor *x) {
    return ld_conv2d(x, l->param[0].x, bias(l), &l->opt.conv.shape);
}

static ld_tensor *forward_transpose(ld_layer *l, ld_tensor *x) {
    const ld_conv_options *o = &l->opt.conv;
    return ld_conv_transpose2d(x, l->param[0].x, bias(l), &o->shape, o->output_padding);
}

static const ld_layer_type conv2d = {"conv2d", forward, describe, true};
static const ld_layer_type conv_transpose2d = {"conv_transpose2d", forward_transpose, describe, true};

static ld_layer *make(const ld_layer_type *type, ld_device *d, ld_dtype t, const ld_conv_options *o) {
    bool transposed = type == &conv_transpose2d;
    if (check(type->name, o, transposed) || ld_layer_check_dtype(type->name, t))
        return NULL;
    ld_layer *l = ld_layer_new(type);
    if (!l)
        return NULL;
    l->opt.conv = *o;
    int64_t w[4] = {transposed ? o->in : o->out, transposed ? o->out : o->in, o->kernel_h, o->kernel_w};
    double bound = 1 / sqrt((double)w[1] * o->kernel_h * o->kernel_w);
    int bad = ld_layer_add_param(l, "weight", d, t, 4, w, LD_FILL_UNIFORM, bound);
    if (!bad && o->bias)
        bad = ld_layer_add_param(l, "bias", d, t, 1, &o->out, LD_FILL_UNIFORM, bound);
    return ld_layer_made(l, bad);
}

ld_layer *ld_layer_conv2d(ld_device *d, ld_dtype t, const ld_conv_options *o) {
    return make(&conv2d, d, t, o);
}

ld_layer *ld_layer_conv_transpose2d(ld_device *d, ld_dtype t, const ld_conv_options *o) {
    return make(&conv_transpose2d, d, t, o);
}
