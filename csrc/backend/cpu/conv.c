/* Convolution. f32 runs in oneDNN, in one of three ways:
 *   direct    on the tensors as they lie (NHWC); the weights are reordered to what the kernel wants
 *   blocked   the same arithmetic with x and y reordered to oneDNN's blocks of channels and back
 *   winograd  F(4x4,3x3) between two such reorders: 2.3 to 2.8 times fewer multiplications in practice
 * LD_CONV=direct|blocked|winograd|auto chooses (winograd where it exists, else direct). auto is winograd for 3x3 of
 * stride 1 with at least 64 channels on either side and tiles that are not mostly empty, else direct; without AVX-512,
 * where oneDNN's channels-last kernels are weak, blocked replaces direct from 16 channels on.
 * f64 serves gradient checks and is written to be read. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl.h"
#include "backend/device.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

typedef enum choice { AUTO, DIRECT, BLOCKED, WINOGRAD } choice;

static int chosen(choice *c) {
    const char *s = getenv("LD_CONV");
    *c = AUTO;
    if (!s || !*s || !strcmp(s, "auto"))
        return 0;
    if (!strcmp(s, "direct"))
        *c = DIRECT;
    else if (!strcmp(s, "blocked"))
        *c = BLOCKED;
    else if (!strcmp(s, "winograd"))
        *c = WINOGRAD;
    else
        return ld_fail(LD_EVALUE, "LD_CONV is '%s'; known: direct, blocked, winograd, auto", s);
    return 0;
}

static bool has_avx512(void) {
#ifdef __x86_64__
    return __builtin_cpu_supports("avx512f");
#else
    return false;
#endif
}

/* Winograd spends 36 multiplications on a tile of 4x4 results, direct 9 on each result. */
static bool winograd_pays(const ld_dnnl_key *k) {
    int64_t p = k->y.dims[2], q = k->y.dims[3];
    bool fits = k->w.dims[2] == 3 && k->w.dims[3] == 3 && k->stride_h == 1 && k->stride_w == 1;
    return fits && k->w.dims[0] >= 64 && k->w.dims[1] >= 64 && 3 * 36 * ((p + 3) / 4) * ((q + 3) / 4) <= 2 * 9 * p * q;
}

static int choose_layout(ld_dnnl_key *k) {
    choice c;
    int err = chosen(&c);
    if (err)
        return err;
    if (c == WINOGRAD || (c == AUTO && winograd_pays(k))) {
        k->layout = LD_DNNL_WINOGRAD;
        if (ld_dnnl_can(k))
            return 0;
    }
    bool wide = k->w.dims[0] >= 16 && k->w.dims[1] >= 16;
    bool blocked = c == BLOCKED || (c == AUTO && wide && !has_avx512());
    k->layout = blocked ? LD_DNNL_BLOCKED : LD_DNNL_PLAIN;
    return 0;
}

static int run(ld_dnnl_kind kind, const char *who, const ld_view *x, const ld_view *w, const ld_view *bias,
               const ld_view *y, const ld_conv_shape *s) {
    ld_dnnl_key k;
    memset(&k, 0, sizeof k);
    k.kind = kind;
    k.threads = ld_threads();
    k.bias = bias != NULL;
    k.stride_h = s->stride_h;
    k.stride_w = s->stride_w;
    k.top = s->top;
    k.left = s->left;
    k.bottom = s->bottom;
    k.right = s->right;
    ld_dnnl_describe_nhwc(&k.x, x->shape);
    ld_dnnl_describe_nhwc(&k.y, y->shape);
    ld_dnnl_describe(&k.w, 4, w->shape, w->stride);
    int err = choose_layout(&k);
    return err ? err : ld_dnnl_run(&k, who, x->data, w->data, bias ? bias->data : NULL, y->data);
}

/* ---- f64, and the cases in which there is nothing to sum --------------------------------------------------------- */

typedef struct sizes {
    int64_t n, c, h, w, o, p, q, r, s;
} sizes;

static sizes sizes_of(const ld_view *x, const ld_view *w, const ld_view *y) {
    return (sizes){x->shape[0], x->shape[1], x->shape[2], x->shape[3], y->shape[1],
                   y->shape[2], y->shape[3], w->shape[2], w->shape[3]};
}

static double *at(const ld_view *v, int64_t a, int64_t b, int64_t c, int64_t d) {
    return (double *)v->data + a * v->stride[0] + b * v->stride[1] + c * v->stride[2] + d * v->stride[3];
}

/* Every element of a dense view, whatever its order, becomes 0. */
static void clear(const ld_view *v) {
    memset(v->data, 0, (size_t)ld_view_numel(v) * ld_dtype_size(v->dtype));
}

static void forward_f64(const ld_view *y, const ld_view *x, const ld_view *w, const double *bias,
                        const ld_conv_shape *cs) {
    sizes z = sizes_of(x, w, y);
#pragma omp parallel for collapse(2) schedule(static) num_threads(ld_threads())
    for (int64_t n = 0; n < z.n; n++)
        for (int64_t o = 0; o < z.o; o++)
            for (int64_t p = 0; p < z.p; p++)
                for (int64_t q = 0; q < z.q; q++) {
                    double sum = bias ? bias[o] : 0;
                    for (int64_t r = 0; r < z.r; r++)
                        for (int64_t s = 0; s < z.s; s++) {
                            int64_t h = p * cs->stride_h + r - cs->top, i = q * cs->stride_w + s - cs->left;
                            if (h < 0 || h >= z.h || i < 0 || i >= z.w)
                                continue;
                            for (int64_t c = 0; c < z.c; c++)
                                sum += *at(x, n, c, h, i) * *at(w, o, c, r, s);
                        }
                    *at(y, n, o, p, q) = sum;
                }
}

/* Each g[n,o,p,q] w[o,c,r,s] goes to dx[n,c,h,i]; samples are independent. */
static void dx_f64(const ld_view *dx, const ld_view *g, const ld_view *w, const ld_conv_shape *cs) {
    sizes z = sizes_of(dx, w, g);
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t n = 0; n < z.n; n++)
        for (int64_t o = 0; o < z.o; o++)
            for (int64_t p = 0; p < z.p; p++)
                for (int64_t q = 0; q < z.q; q++)
                    for (int64_t r = 0; r < z.r; r++)
                        for (int64_t s = 0; s < z.s; s++) {
                            int64_t h = p * cs->stride_h + r - cs->top, i = q * cs->stride_w + s - cs->left;
                            if (h < 0 || h >= z.h || i < 0 || i >= z.w)
                                continue;
                            for (int64_t c = 0; c < z.c; c++)
                                *at(dx, n, c, h, i) += *at(g, n, o, p, q) * *at(w, o, c, r, s);
                        }
}

/* Each x[n,c,h,i] g[n,o,p,q] goes to dw[o,c,r,s]; outputs o are independent. */
static void dw_f64(const ld_view *dw, double *db, const ld_view *x, const ld_view *g, const ld_conv_shape *cs) {
    sizes z = sizes_of(x, dw, g);
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t o = 0; o < z.o; o++)
        for (int64_t n = 0; n < z.n; n++)
            for (int64_t p = 0; p < z.p; p++)
                for (int64_t q = 0; q < z.q; q++) {
                    if (db)
                        db[o] += *at(g, n, o, p, q);
                    for (int64_t r = 0; r < z.r; r++)
                        for (int64_t s = 0; s < z.s; s++) {
                            int64_t h = p * cs->stride_h + r - cs->top, i = q * cs->stride_w + s - cs->left;
                            if (h < 0 || h >= z.h || i < 0 || i >= z.w)
                                continue;
                            for (int64_t c = 0; c < z.c; c++)
                                *at(dw, o, c, r, s) += *at(x, n, c, h, i) * *at(g, n, o, p, q);
                        }
                }
}

static int wrong_dtype(const char *who, ld_dtype t) {
    return ld_fail(LD_EDTYPE, "%s: %s on the cpu; f32 and f64 are there", who, ld_dtype_names[t]);
}

/* y = bias where x has no channel. */
static void fill_bias(const ld_view *y, const ld_view *bias) {
    size_t size = ld_dtype_size(y->dtype);
    int64_t o = y->shape[1], pixels = o ? ld_view_numel(y) / o : 0;
    clear(y);
    for (int64_t i = 0; bias && i < pixels; i++)
        memcpy((char *)y->data + (size_t)(i * o) * size, bias->data, (size_t)o * size);
}

/* ---- slots ------------------------------------------------------------------------------------------------------- */

int ld_cpu_conv2d(const ld_view *y, const ld_view *x, const ld_view *w, const ld_view *bias, const ld_conv_shape *s) {
    if (y->dtype != LD_F32 && y->dtype != LD_F64)
        return wrong_dtype("conv2d", y->dtype);
    if (!ld_view_numel(y))
        return 0;
    if (!ld_view_numel(x) || !ld_view_numel(w)) {
        fill_bias(y, bias);
        return 0;
    }
    if (y->dtype == LD_F32)
        return run(LD_DNNL_CONV, "conv2d", x, w, bias, y, s);
    forward_f64(y, x, w, bias ? bias->data : NULL, s);
    return 0;
}

int ld_cpu_conv2d_dx(const ld_view *dx, const ld_view *g, const ld_view *w, const ld_conv_shape *s) {
    if (dx->dtype != LD_F32 && dx->dtype != LD_F64)
        return wrong_dtype("conv2d", dx->dtype);
    bool nothing = !ld_view_numel(g) || !ld_view_numel(w);
    if (!ld_view_numel(dx))
        return 0;
    if (!nothing && dx->dtype == LD_F32)
        return run(LD_DNNL_CONV_DX, "conv2d", dx, w, NULL, g, s);
    clear(dx);
    if (!nothing)
        dx_f64(dx, g, w, s);
    return 0;
}

int ld_cpu_conv2d_dw(const ld_view *dw, const ld_view *db, const ld_view *x, const ld_view *g, const ld_conv_shape *s) {
    if (dw->dtype != LD_F32 && dw->dtype != LD_F64)
        return wrong_dtype("conv2d", dw->dtype);
    bool nothing = !ld_view_numel(x) || !ld_view_numel(g) || !ld_view_numel(dw);
    if (!nothing && dw->dtype == LD_F32)
        return run(LD_DNNL_CONV_DW, "conv2d", x, dw, db, g, s);
    clear(dw);
    if (db)
        clear(db);
    if (!nothing)
        dw_f64(dw, db ? db->data : NULL, x, g, s);
    return 0;
}
