/* The ways to compute a convolution in f32. See conv.h. */
#include "backend/cpu/conv.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/packed.h"
#include "backend/cpu/winograd.h"
#include "backend/device.h"
#include "base/error.h"

#include <string.h>

static const char who[] = "conv2d";

/* ---- direct and blocked ------------------------------------------------------------------------------------------ */

static int by_dnnl(const ld_conv_call *c, ld_dnnl_layout layout) {
    ld_dnnl_key k;
    memset(&k, 0, sizeof k);
    k.kind = c->kind;
    k.layout = layout;
    k.threads = ld_threads();
    k.bias = c->bias != NULL;
    k.stride_h = c->s->stride_h;
    k.stride_w = c->s->stride_w;
    k.top = c->s->top;
    k.left = c->s->left;
    k.bottom = c->s->bottom;
    k.right = c->s->right;
    ld_dnnl_describe_nhwc(&k.x, c->x->shape);
    ld_dnnl_describe_nhwc(&k.y, c->y->shape);
    ld_dnnl_describe(&k.w, 4, c->w->shape, c->w->stride);
    return ld_dnnl_run(&k, who, c->x->data, c->w->data, c->bias ? c->bias->data : NULL, c->y->data, c->w);
}

/* With the image of `up` repeated in workspace. */
static int by_dnnl_repeated(const ld_conv_call *c, ld_dnnl_layout layout) {
    ld_view big = *c->x;
    ld_conv_shape s = *c->s;
    ld_conv_call plain = *c;
    big.shape[2] *= 2;
    big.shape[3] *= 2;
    big.serial = 0;
    ld_canonical_strides(4, big.shape, big.stride);
    big.data = ld_cpu_workspace((size_t)ld_view_numel(&big) * sizeof(float), who);
    if (!big.data)
        return LD_EMEM;
    s.up = false;
    plain.x = &big;
    plain.s = &s;
    int bad = c->kind == LD_DNNL_CONV_DX ? 0 : ld_cpu_upsample_nearest(&big, c->x, 2);
    if (!bad)
        bad = by_dnnl(&plain, layout);
    if (!bad && c->kind == LD_DNNL_CONV_DX)
        bad = ld_cpu_upsample_nearest_bwd(c->x, &big, 2);
    ld_cpu_workspace_done(big.data);
    return bad;
}

/* ---- Winograd ---------------------------------------------------------------------------------------------------- */

/* The call as a sum over tiles: forward and for dw as it stands, for dx over g with the kernel rotated and the roles of
 * its channels exchanged. */
static ld_winograd problem_of(const ld_conv_call *c) {
    const int64_t *x = c->x->shape, *y = c->y->shape;
    int up = c->s->up ? 2 : 1;
    if (c->kind == LD_DNNL_CONV_DX)
        return (ld_winograd){.n = x[0],
                             .c = y[1],
                             .h = y[2],
                             .w = y[3],
                             .o = x[1],
                             .p = up * x[2],
                             .q = up * x[3],
                             .top = 2 - c->s->top,
                             .left = 2 - c->s->left,
                             .up = 1,
                             .down = up};
    return (ld_winograd){.n = x[0],
                         .c = x[1],
                         .h = x[2],
                         .w = x[3],
                         .o = y[1],
                         .p = y[2],
                         .q = y[3],
                         .top = c->s->top,
                         .left = c->s->left,
                         .up = up,
                         .down = 1};
}

static ld_winograd_weights weights_of(const ld_conv_call *c) {
    const int64_t *s = c->w->stride;
    float *w = c->w->data;
    if (c->kind == LD_DNNL_CONV_DX)
        return (ld_winograd_weights){w + 2 * s[2] + 2 * s[3], s[1], s[0], -s[2], -s[3]};
    return (ld_winograd_weights){w, s[0], s[1], s[2], s[3]};
}

int ld_conv_bias_gradient(const ld_conv_call *c) {
    ld_view db = *c->bias;
    db.ndim = 4;
    for (int i = 0; i < 4; i++)
        db.shape[i] = i == 1 ? c->y->shape[1] : 1;
    ld_canonical_strides(4, db.shape, db.stride);
    return ld_cpu_reduce(&db, c->y, LD_SUM);
}

static int by_winograd(const ld_conv_call *c) {
    ld_winograd z = problem_of(c);
    ld_winograd_weights w = weights_of(c);
    if (c->kind == LD_DNNL_CONV_DW) {
        int bad = ld_winograd_dw(&z, &w, c->x->data, c->y->data, who);
        return bad || !c->bias ? bad : ld_conv_bias_gradient(c);
    }
    size_t bytes = ld_winograd_packed_floats(&z) * sizeof(float);
    void *packed = NULL, *own = NULL;
    ld_packed_state kept = ld_packed_find(c->w, c->kind == LD_DNNL_CONV_DX ? 2 : 1, bytes, &packed);
    if (kept == LD_PACKED_NONE && !(packed = own = ld_cpu_workspace(bytes, who)))
        return LD_EMEM;
    if (kept != LD_PACKED_READY)
        ld_winograd_pack(&z, &w, packed);
    bool dx = c->kind == LD_DNNL_CONV_DX;
    int bad = ld_winograd_forward(&z, dx ? c->x->data : c->y->data, dx ? c->y->data : c->x->data, packed,
                                  c->bias ? c->bias->data : NULL, who);
    ld_cpu_workspace_done(own);
    return bad;
}

/* ---- any --------------------------------------------------------------------------------------------------------- */

bool ld_conv_fits(const ld_conv_call *c, ld_conv_way way) {
    const ld_conv_shape *s = c->s;
    if (way == LD_CONV_FOLDED)
        return s->up;
    if (way != LD_CONV_WINOGRAD)
        return true;
    if (c->w->shape[2] != 3 || c->w->shape[3] != 3 || s->stride_h != 1 || s->stride_w != 1)
        return false;
    /* dx pads g by 2 - top; the border of more than 2 would be rows without a gradient */
    if (c->kind == LD_DNNL_CONV_DX && (s->top > 2 || s->left > 2))
        return false;
    ld_winograd z = problem_of(c);
    return ld_winograd_fits(&z);
}

int ld_conv_run(const ld_conv_call *c, ld_conv_way way) {
    if (way == LD_CONV_WINOGRAD)
        return by_winograd(c);
    if (way == LD_CONV_FOLDED)
        return ld_conv_folded(c);
    ld_dnnl_layout layout = way == LD_CONV_BLOCKED ? LD_DNNL_BLOCKED : LD_DNNL_PLAIN;
    return c->s->up ? by_dnnl_repeated(c, layout) : by_dnnl(c, layout);
}
