/* gather_augment: training pictures out of a data set in the device's memory (ld_augment of backend/backend.h says how).
 *
 *   y[i](c,h,w) = z(c, h + dy, w' + dx), or noise where a rectangle covers (h,w'); w' = w, or W - 1 - w where it is mirrored
 *
 * Traffic: y written once, in the order of memory, x read once; with erasing a kernel before it reads the samples that get
 * rectangles twice more, out of the cache for the sizes of latents, and leaves four numbers a sample. That one has a block a
 * sample; its sums are in f64, in an order that depends on shapes alone. The other takes CHUNK elements of one sample a
 * block, whose first threads draw what happens to it. Draws are those of the CPU (backend/augment_draws.h), so every place
 * is the same to the bit, and values outside of rectangles too; inside they differ by what normal numbers do (draw.h) times
 * the spread. A row that x does not have reads as zeros. Proven by tests/sim/test_sim_augment.c against the CPU's slot. */
#include "kernels/draw.h"
#include "kernels/fold.h"

#include "backend/augment_draws.h"

enum { THREADS = 256, CHUNK = 4 * THREADS };

struct figures {
    double mean, std;
    float lo, hi;
};

template <typename T> struct gathering {
    float *y;
    const T *x;
    const int64_t *at, *sample;
    const float *shift, *scale;
    figures *of; /* by sample, or NULL: no erasing */
    ld_augment a;
    int64_t samples, rows, stride[4];
    int c, h, w, eh, ew; /* of a picture; of a rectangle */
};

LD_DEVICE float as_float(uint8_t v) {
    return (float)v;
}
LD_DEVICE float as_float(double v) {
    return (float)v;
}
template <typename T> LD_DEVICE float as_float(T v) {
    return widen(v);
}

template <typename T> LD_DEVICE uint64_t sample_of(const gathering<T> &g, int64_t i) {
    return g.sample ? (uint64_t)g.sample[i] : g.a.first + (uint64_t)i;
}

/* The sample after moving. */
template <typename T>
LD_DEVICE float moved(const gathering<T> &g, const ld_augment_draws &d, int64_t row, int c, int h, int w) {
    h += d.dy;
    w += d.dx;
    if (h < 0 || h >= g.h || w < 0 || w >= g.w || row < 0 || row >= g.rows)
        return 0;
    float v = as_float(g.x[row * g.stride[0] + c * g.stride[1] + h * g.stride[2] + w * g.stride[3]]);
    return g.scale ? (v - g.shift[c]) * g.scale[c] : v;
}

template <typename T> __global__ void __launch_bounds__(THREADS) k_augment_measure(const gathering<T> g) {
    LD_SHARED(ld_augment_draws, draws, [1]);
    const int n = g.c * g.h * g.w;
    for (int64_t i = blockIdx.x; i < g.samples; i += gridDim.x) {
        if (threadIdx.x == 0)
            draws[0] = ld_augment_draw(&g.a, sample_of(g, i));
        __syncthreads();
        const ld_augment_draws d = draws[0];
        int64_t row = g.at ? g.at[i] : i;
        double sum = 0, squares = 0;
        float lo = INFINITY, hi = -INFINITY;
        for (int e = (int)threadIdx.x; e < n && d.erases; e += THREADS) {
            float v = moved(g, d, row, e / (g.h * g.w), e / g.w % g.h, e % g.w);
            sum += v;
            lo = v < lo ? v : lo;
            hi = v > hi ? v : hi;
        }
        double mean = block_fold<fold_sum>(sum) / n;
        for (int e = (int)threadIdx.x; e < n && d.erases; e += THREADS) {
            double off = moved(g, d, row, e / (g.h * g.w), e / g.w % g.h, e % g.w) - mean;
            squares += off * off;
        }
        squares = block_fold<fold_sum>(squares);
        lo = block_fold<fold_min>(lo);
        hi = block_fold<fold_max>(hi);
        if (threadIdx.x == 0)
            g.of[i] = figures{mean, n > 1 ? sqrt(squares / (n - 1)) : 0, lo, hi};
    } /* the folds' barriers stand between the readers of draws and who draws next */
}

/* What covers (h,w): the last rectangle that does, or -1. */
LD_DEVICE int covered(const int *top, const int *left, int erases, int h, int w, int eh, int ew) {
    int k = erases - 1;
    while (k >= 0 && !(h >= top[k] && h < top[k] + eh && w >= left[k] && w < left[k] + ew))
        k--;
    return k;
}

template <typename T> __global__ void __launch_bounds__(THREADS) k_gather_augment(const gathering<T> g) {
    LD_SHARED(ld_augment_draws, draws, [1]);
    LD_SHARED(int, top, [LD_AUGMENT_ERASES]);
    LD_SHARED(int, left, [LD_AUGMENT_ERASES]);
    const int n = g.c * g.h * g.w, chunks = (n + CHUNK - 1) / CHUNK;
    for (int64_t u = blockIdx.x; u < g.samples * chunks; u += gridDim.x) {
        int64_t i = u / chunks, row = g.at ? g.at[i] : i;
        int begin = (int)(u % chunks) * CHUNK, end = n - begin < CHUNK ? n : begin + CHUNK, t = (int)threadIdx.x;
        uint64_t sample = sample_of(g, i);
        if (t == 0)
            draws[0] = ld_augment_draw(&g.a, sample);
        if (g.of && t < LD_AUGMENT_ERASES && t < g.a.erases)
            ld_augment_place(&g.a, sample, t, g.h, g.w, &top[t], &left[t]);
        __syncthreads();
        const ld_augment_draws d = draws[0];
        for (int e = begin + t; e < end; e += THREADS) {
            int c = e % g.c, h = e / g.c / g.w, w = e / g.c % g.w;
            w = d.flip ? g.w - 1 - w : w;
            int k = g.of ? covered(top, left, d.erases, h, w, g.eh, g.ew) : -1;
            float v;
            if (k < 0) {
                v = moved(g, d, row, c, h, w);
            } else {
                const figures f = g.of[i];
                int64_t cell = ((int64_t)(k * g.c + c) * g.eh + (h - top[k])) * g.ew + (w - left[k]);
                v = (float)(f.mean + f.std * (double)draw_one(g.a.seed, LD_AUGMENT_ERASE_NOISE, sample, cell, true));
                v = v < f.lo ? f.lo : v > f.hi ? f.hi : v;
            }
            g.y[i * n + e] = v;
        }
        __syncthreads();
    }
}

template <typename T> static int launch(gathering<T> g) {
    int64_t chunks = ((int64_t)g.c * g.h * g.w + CHUNK - 1) / CHUNK;
    int bad = 0;
    if (g.eh > 0 && g.ew > 0 && g.a.erases > 0) {
        g.of = (figures *)ld_cuda_workspace((size_t)g.samples * sizeof(figures), "gather_augment");
        if (!g.of)
            return ld_cuda_workspace_missing();
        bad = LD_LAUNCH(k_augment_measure<T>, ld_blocks(g.samples, 1), THREADS, 0, g);
    }
    if (!bad)
        bad = LD_LAUNCH(k_gather_augment<T>, ld_blocks(g.samples * chunks, 1), THREADS, 0, g);
    ld_cuda_workspace_done(g.of);
    return bad;
}

template <typename T>
static int gather(const ld_view *y, const ld_view *x, const ld_view *at, const ld_view *sample, const ld_view *shift,
                  const ld_view *scale, const ld_augment *a) {
    gathering<T> g = {};
    g.y = (float *)y->data;
    g.x = (const T *)x->data;
    g.at = at ? (const int64_t *)at->data : NULL;
    g.sample = sample ? (const int64_t *)sample->data : NULL;
    g.shift = shift ? (const float *)shift->data : NULL;
    g.scale = scale ? (const float *)scale->data : NULL;
    g.a = *a;
    g.samples = y->shape[0];
    g.rows = x->shape[0];
    for (int d = 0; d < 4; d++)
        g.stride[d] = x->stride[d];
    g.c = (int)y->shape[1], g.h = (int)y->shape[2], g.w = (int)y->shape[3];
    g.eh = ld_augment_side(a, g.h), g.ew = ld_augment_side(a, g.w);
    return launch(g);
}

int ld_cuda_gather_augment(const ld_view *y, const ld_view *x, const ld_view *at, const ld_view *sample,
                           const ld_view *shift, const ld_view *scale, const ld_augment *a) {
    int64_t n = y->shape[1] * y->shape[2] * y->shape[3];
    if (n > INT32_MAX / 2)
        return ld_fail(LD_ESHAPE, "gather_augment: pictures of %lld numbers; at most 2^30 are possible", (long long)n);
    if (y->shape[0] * n == 0)
        return 0;
    if (x->dtype == LD_U8)
        return gather<uint8_t>(y, x, at, sample, shift, scale, a);
    return ld_each_float(x->dtype, "gather_augment",
                         [&](auto t) { return gather<decltype(t)>(y, x, at, sample, shift, scale, a); });
}
