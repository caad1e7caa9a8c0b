/* Means over windows and over cells, repetition of pixels, and their gradients: separable.h with taps of equal weight.
 *
 * Traffic: x is read once from memory (overlapping windows find it in the caches), y written once; the gradients read g and
 * write dx. Proven by tests/sim/test_sim_image.c against the CPU's slots. */
#include "kernels/separable.h"

/* Windows of `size` every `stride`, clipped to the input. */
struct windows {
    int out, in, size, stride;
    LD_BOTH_MEMBER int first(int i) const {
        return i * stride;
    }
    LD_BOTH_MEMBER int end(int i) const {
        return i * stride + size < in ? i * stride + size : in;
    }
    LD_BOTH_MEMBER int low(int k) const {
        return k < size ? 0 : (k - size) / stride + 1;
    }
    LD_BOTH_MEMBER int high(int k) const {
        return k / stride + 1 < out ? k / stride + 1 : out;
    }
    template <typename W> __device__ W weight(int i, int) const {
        return 1 / (W)(end(i) - first(i));
    }
};

/* floor(i in / out) .. ceil((i + 1) in / out) */
struct cells {
    int64_t out, in;
    LD_BOTH_MEMBER int first(int i) const {
        return (int)(i * in / out);
    }
    LD_BOTH_MEMBER int end(int i) const {
        return (int)(((i + 1) * in + out - 1) / out);
    }
    LD_BOTH_MEMBER int low(int k) const {
        return (int)(k * out / in);
    }
    LD_BOTH_MEMBER int high(int k) const {
        return (int)(((k + 1) * out + in - 1) / in);
    }
    template <typename W> __device__ W weight(int i, int) const {
        return 1 / (W)(end(i) - first(i));
    }
};

/* Every position `scale` times. */
struct repeats {
    int scale;
    LD_BOTH_MEMBER int first(int i) const {
        return i / scale;
    }
    LD_BOTH_MEMBER int end(int i) const {
        return i / scale + 1;
    }
    LD_BOTH_MEMBER int low(int k) const {
        return k * scale;
    }
    LD_BOTH_MEMBER int high(int k) const {
        return (k + 1) * scale;
    }
    template <typename W> __device__ W weight(int, int) const {
        return 1;
    }
};

static windows windows_of(const ld_view *y, const ld_view *x, int dim, int size, int stride) {
    return {(int)y->shape[dim], (int)x->shape[dim], size, stride};
}

static cells cells_of(const ld_view *y, const ld_view *x, int dim) {
    return {y->shape[dim], x->shape[dim]};
}

int ld_cuda_avg_pool2d(const ld_view *y, const ld_view *x, int kh, int kw, int sh, int sw) {
    return ld_image_map("avg_pool2d", y, x, windows_of(y, x, 2, kh, sh), windows_of(y, x, 3, kw, sw));
}

int ld_cuda_avg_pool2d_bwd(const ld_view *dx, const ld_view *g, int kh, int kw, int sh, int sw) {
    return ld_image_map_bwd("avg_pool2d backward", dx, g, windows_of(g, dx, 2, kh, sh), windows_of(g, dx, 3, kw, sw));
}

int ld_cuda_adaptive_avg_pool2d(const ld_view *y, const ld_view *x) {
    return ld_image_map("adaptive_avg_pool2d", y, x, cells_of(y, x, 2), cells_of(y, x, 3));
}

int ld_cuda_adaptive_avg_pool2d_bwd(const ld_view *dx, const ld_view *g) {
    return ld_image_map_bwd("adaptive_avg_pool2d backward", dx, g, cells_of(g, dx, 2), cells_of(g, dx, 3));
}

int ld_cuda_upsample_nearest(const ld_view *y, const ld_view *x, int scale) {
    return ld_image_map("upsample_nearest", y, x, repeats{scale}, repeats{scale});
}

int ld_cuda_upsample_nearest_bwd(const ld_view *dx, const ld_view *g, int scale) {
    return ld_image_map_bwd("upsample_nearest backward", dx, g, repeats{scale}, repeats{scale});
}
