/* The ways to compute a convolution in f32. See conv.h. A way takes all of its workspace in one piece. */
#include "backend/cpu/conv.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/packed.h"
#include "backend/cpu/winograd.h"
#include "backend/device.h"

#include <string.h>

static const char who[] = "conv2d";
enum { FORM_WINOGRAD, FORM_WINOGRAD_DX }; /* of packed weights */
enum { KEPT_TILES = 128 };

static size_t rounded(size_t bytes) {
    return (bytes + 255) & ~(size_t)255;
}

/* ---- direct and blocked ------------------------------------------------------------------------------------------ */

static ld_dnnl_key key_of(const ld_conv_call *c, ld_conv_way way) {
    ld_dnnl_key k;
    int64_t x[4] = {c->x->shape[0], c->x->shape[1], c->x->shape[2] << c->s->up, c->x->shape[3] << c->s->up};
    memset(&k, 0, sizeof k);
    k.kind = c->kind;
    k.layout = way == LD_CONV_BLOCKED ? LD_DNNL_BLOCKED : LD_DNNL_PLAIN;
    k.threads = ld_threads();
    k.bias = c->bias != NULL;
    k.stride_h = c->s->stride_h;
    k.stride_w = c->s->stride_w;
    k.top = c->s->top;
    k.left = c->s->left;
    k.bottom = c->s->bottom;
    k.right = c->s->right;
    ld_dnnl_describe_nhwc(&k.x, x);
    ld_dnnl_describe_nhwc(&k.y, c->y->shape);
    ld_dnnl_describe(&k.w, 4, c->w->shape, c->w->stride);
    return k;
}

/* Bytes of the repeated image of `up`, which lies in workspace. */
static size_t repeated_bytes(const ld_conv_call *c) {
    return c->s->up ? rounded(4 * (size_t)ld_view_numel(c->x) * sizeof(float)) : 0;
}

static int dnnl_workspace(const ld_conv_call *c, ld_conv_way way, size_t *bytes) {
    ld_dnnl_key k = key_of(c, way);
    int bad = ld_dnnl_workspace(&k, who, bytes);
    *bytes += repeated_bytes(c);
    return bad;
}

static int by_dnnl(const ld_conv_call *c, ld_conv_way way, char *workspace) {
    ld_dnnl_key k = key_of(c, way);
    ld_view big = *c->x;
    for (int i = 2; i < 4 && c->s->up; i++)
        big.shape[i] *= 2;
    if (c->s->up) {
        ld_canonical_strides(4, big.shape, big.stride);
        big.data = workspace;
    }
    int bad = c->s->up && c->kind != LD_DNNL_CONV_DX ? ld_cpu_upsample_nearest(&big, c->x, 2) : 0;
    if (!bad)
        bad = ld_dnnl_run_in(&k, who, big.data, c->w->data, c->bias ? c->bias->data : NULL, c->y->data, c->w,
                             workspace + repeated_bytes(c));
    return !bad && c->s->up && c->kind == LD_DNNL_CONV_DX ? ld_cpu_upsample_nearest_bwd(c->x, &big, 2) : bad;
}

/* ---- Winograd ---------------------------------------------------------------------------------------------------- */

/* The call as a sum over tiles: forward and for dw as it stands, for dx over g with the kernel rotated and the roles of
 * its channels exchanged. */
static ld_winograd problem_of(const ld_conv_call *c) {
    const int64_t *x = c->x->shape, *y = c->y->shape;
    int up = c->s->up ? 2 : 1;
    ld_winograd z = {.n = x[0],
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
    if (c->kind == LD_DNNL_CONV_DX)
        z = (ld_winograd){.n = x[0],
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
    return z;
}

static ld_winograd_weights weights_of(const ld_conv_call *c) {
    const int64_t *s = c->w->stride;
    float *w = c->w->data;
    if (c->kind == LD_DNNL_CONV_DX)
        return (ld_winograd_weights){w + 2 * s[2] + 2 * s[3], s[1], s[0], -s[2], -s[3]};
    return (ld_winograd_weights){w, s[0], s[1], s[2], s[3]};
}

static uint64_t form_of(const ld_conv_call *c) {
    return c->kind == LD_DNNL_CONV_DX ? FORM_WINOGRAD_DX : FORM_WINOGRAD;
}

/* Transforming weights costs as much as some tens of tiles: with many tiles it is not worth the memory of keeping them,
 * four times the weights'. */
static bool worth_keeping(const ld_winograd *z) {
    return z->n * ((z->p + 3) / 4) * ((z->q + 3) / 4) <= KEPT_TILES;
}

static size_t winograd_workspace(const ld_conv_call *c) {
    ld_winograd z = problem_of(c);
    if (c->kind == LD_DNNL_CONV_DW)
        return ld_winograd_dw_workspace(&z);
    size_t packed = ld_winograd_packed_floats(&z) * sizeof(float);
    return ld_winograd_workspace(&z) +
           (worth_keeping(&z) && ld_packed_ready(c->w, form_of(c), packed) ? 0 : rounded(packed));
}

int ld_conv_bias_gradient(const ld_conv_call *c) {
    ld_view db = *c->bias;
    db.ndim = 4;
    for (int i = 0; i < 4; i++)
        db.shape[i] = i == 1 ? c->y->shape[1] : 1;
    ld_canonical_strides(4, db.shape, db.stride);
    return ld_cpu_reduce(&db, c->y, LD_SUM);
}

static int by_winograd(const ld_conv_call *c, char *workspace) {
    ld_winograd z = problem_of(c);
    ld_winograd_weights w = weights_of(c);
    if (c->kind == LD_DNNL_CONV_DW) {
        ld_winograd_dw(&z, &w, c->x->data, c->y->data, (float *)workspace);
        return c->bias ? ld_conv_bias_gradient(c) : 0;
    }
    size_t bytes = ld_winograd_packed_floats(&z) * sizeof(float);
    void *packed = workspace;
    ld_packed_state kept = worth_keeping(&z) ? ld_packed_find(c->w, form_of(c), bytes, &packed) : LD_PACKED_NONE;
    if (kept != LD_PACKED_READY)
        ld_winograd_pack(&z, &w, packed);
    bool dx = c->kind == LD_DNNL_CONV_DX;
    ld_winograd_forward(&z, dx ? c->x->data : c->y->data, dx ? c->y->data : c->x->data, packed,
                        c->bias ? c->bias->data : NULL,
                        (float *)(workspace + (kept == LD_PACKED_READY ? 0 : rounded(bytes))));
    return 0;
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

int ld_conv_workspace(const ld_conv_call *c, ld_conv_way way, size_t *bytes) {
    if (way == LD_CONV_FOLDED)
        return ld_conv_folded_workspace(c, bytes);
    if (way != LD_CONV_WINOGRAD)
        return dnnl_workspace(c, way, bytes);
    *bytes = winograd_workspace(c);
    return 0;
}

int ld_conv_run(const ld_conv_call *c, ld_conv_way way, void *workspace) {
    if (way == LD_CONV_FOLDED)
        return ld_conv_folded(c, workspace);
    return way == LD_CONV_WINOGRAD ? by_winograd(c, workspace) : by_dnnl(c, way, workspace);
}
