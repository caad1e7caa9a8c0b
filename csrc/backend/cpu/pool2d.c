/* Means over windows and repetition of pixels, with their gradients: separable.h with taps of equal weight. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/separable.h"

static void add_mean(ld_axis *a, int64_t i, int64_t first, int64_t end) {
    for (int64_t k = first; k < end; k++)
        ld_axis_add(a, i, k, 1.0 / (double)(end - first));
    ld_axis_close(a, i);
}

/* Windows of `size` every `stride`, clipped to the input. */
static ld_axis windows(int64_t out, int64_t in, int size, int stride) {
    ld_axis a = ld_axis_new(out, in);
    for (int64_t i = 0; i < out; i++) {
        int64_t first = i * stride, end = first + size;
        add_mean(&a, i, first, end < in ? end : in);
    }
    return a;
}

/* floor(i in / out) .. ceil((i + 1) in / out) */
static ld_axis cells(int64_t out, int64_t in) {
    ld_axis a = ld_axis_new(out, in);
    for (int64_t i = 0; i < out; i++)
        add_mean(&a, i, i * in / out, ((i + 1) * in + out - 1) / out);
    return a;
}

static ld_axis repeats(int64_t out, int64_t in, int scale) {
    ld_axis a = ld_axis_new(out, in);
    for (int64_t i = 0; i < out; i++)
        add_mean(&a, i, i / scale, i / scale + 1);
    return a;
}

int ld_cpu_avg_pool2d(const ld_view *y, const ld_view *x, int kh, int kw, int sh, int sw) {
    return ld_separable("avg_pool2d", y, x, windows(y->shape[2], x->shape[2], kh, sh),
                        windows(y->shape[3], x->shape[3], kw, sw), false);
}

int ld_cpu_avg_pool2d_bwd(const ld_view *dx, const ld_view *g, int kh, int kw, int sh, int sw) {
    return ld_separable("avg_pool2d backward", dx, g, windows(g->shape[2], dx->shape[2], kh, sh),
                        windows(g->shape[3], dx->shape[3], kw, sw), true);
}

int ld_cpu_adaptive_avg_pool2d(const ld_view *y, const ld_view *x) {
    return ld_separable("adaptive_avg_pool2d", y, x, cells(y->shape[2], x->shape[2]), cells(y->shape[3], x->shape[3]),
                        false);
}

int ld_cpu_adaptive_avg_pool2d_bwd(const ld_view *dx, const ld_view *g) {
    return ld_separable("adaptive_avg_pool2d backward", dx, g, cells(g->shape[2], dx->shape[2]),
                        cells(g->shape[3], dx->shape[3]), true);
}

int ld_cpu_upsample_nearest(const ld_view *y, const ld_view *x, int scale) {
    return ld_separable("upsample_nearest", y, x, repeats(y->shape[2], x->shape[2], scale),
                        repeats(y->shape[3], x->shape[3], scale), false);
}

int ld_cpu_upsample_nearest_bwd(const ld_view *dx, const ld_view *g, int scale) {
    return ld_separable("upsample_nearest backward", dx, g, repeats(g->shape[2], dx->shape[2], scale),
                        repeats(g->shape[3], dx->shape[3], scale), true);
}
