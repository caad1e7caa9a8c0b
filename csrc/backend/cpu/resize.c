/* Bilinear resizing and its gradient: separable.h with the weights of PyTorch's interpolate(mode="bilinear",
 * align_corners=False). Position i of `out` lies at (i + 1/2) in/out - 1/2 of the input. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/separable.h"

#include <math.h>

/* The two neighbours; positions before the first pixel's centre take the first pixel. */
static ld_axis neighbours(int64_t out, int64_t in) {
    ld_axis a = ld_axis_new(out, in);
    for (int64_t i = 0; i < out; i++) {
        double at = ((double)i + 0.5) * (double)in / (double)out - 0.5;
        at = at < 0 ? 0 : at;
        int64_t left = (int64_t)at < in - 1 ? (int64_t)at : in - 1;
        double share = left == in - 1 ? 0 : at - (double)left;
        ld_axis_add(&a, i, left, 1 - share);
        if (share > 0)
            ld_axis_add(&a, i, left + 1, share);
        ld_axis_close(&a, i);
    }
    return a;
}

static double triangle(double x) {
    return fabs(x) < 1 ? 1 - fabs(x) : 0;
}

/* A triangle as wide as the step between outputs, its weights divided by their sum within the image. */
static ld_axis triangles(int64_t out, int64_t in) {
    ld_axis a = ld_axis_new(out, in);
    double step = (double)in / (double)out, reach = step > 1 ? step : 1;
    for (int64_t i = 0; i < out; i++) {
        double centre = step * ((double)i + 0.5), sum = 0;
        int64_t first = (int64_t)fmax(centre - reach + 0.5, 0), end = (int64_t)fmin(centre + reach + 0.5, (double)in);
        for (int64_t k = first; k < end; k++)
            sum += triangle(((double)k - centre + 0.5) / reach);
        for (int64_t k = first; k < end; k++) {
            double weight = triangle(((double)k - centre + 0.5) / reach);
            if (weight > 0)
                ld_axis_add(&a, i, k, weight / sum);
        }
        ld_axis_close(&a, i);
    }
    return a;
}

static ld_axis axis(int64_t out, int64_t in, bool antialias) {
    return antialias ? triangles(out, in) : neighbours(out, in);
}

int ld_cpu_resize_bilinear(const ld_view *y, const ld_view *x, bool antialias) {
    return ld_separable("resize_bilinear", y, x, axis(y->shape[2], x->shape[2], antialias),
                        axis(y->shape[3], x->shape[3], antialias), false);
}

int ld_cpu_resize_bilinear_bwd(const ld_view *dx, const ld_view *g, bool antialias) {
    return ld_separable("resize_bilinear backward", dx, g, axis(g->shape[2], dx->shape[2], antialias),
                        axis(g->shape[3], dx->shape[3], antialias), true);
}
