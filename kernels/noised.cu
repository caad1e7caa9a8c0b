/* noised: what a diffusion model is trained on, in one launch.
 *
 *   x0 = (z - shift) scale;   y = alpha x0 + sigma eps;   alpha = cos(pi t / 2), sigma = sin(pi t / 2) of the sample's t
 *
 * Traffic: z read once, y, eps and x0 written once, in the order of memory. A block takes CHUNK elements of one sample; its first
 * thread draws t and works out the coefficients in f64. Each element makes the four numbers of its own counter, and keeps one:
 * in memory neighbours are channels, in the stream places. Proven by tests/sim/test_sim_training.c against the CPU's slot. */
#include "kernels/draw.h"
#include "kernels/operand.h"

enum { THREADS = 256, CHUNK = 4 * THREADS };

template <typename T> struct noising {
    T *y, *x0, *eps;
    const T *z, *shift;
    wide<T> *t;
    wide<T> scale;
    uint64_t seed, first;
    const uint64_t *base; /* on the device, added to first; or NULL */
    int64_t samples, channels, places;
};

template <typename T> LD_DEVICE uint64_t number_of(const noising<T> &a, int64_t sample) {
    return a.first + (a.base ? *a.base : 0) + (uint64_t)sample;
}

template <typename T> LD_DEVICE void coefficients(wide<T> *c, const noising<T> &a, int64_t sample, bool writes) {
    wide<T> t = (wide<T>)draw_one(a.seed, LD_RNG_TIME, number_of<T>(a, sample), 0, false);
    t = t > (wide<T>)LD_TIME_MAX ? (wide<T>)LD_TIME_MAX : t;
    c[0] = (wide<T>)cos(1.57079632679489661923 * (double)t);
    c[1] = (wide<T>)sin(1.57079632679489661923 * (double)t);
    if (writes)
        a.t[sample] = t;
}

template <typename T> __global__ void __launch_bounds__(THREADS) k_noised(const noising<T> a) {
    LD_SHARED(wide<T>, c, [2]);
    const int64_t n = a.channels * a.places, chunks = (n + CHUNK - 1) / CHUNK;
    for (int64_t u = blockIdx.x; u < a.samples * chunks; u += gridDim.x) {
        int64_t sample = u / chunks, begin = u % chunks * CHUNK, end = begin + CHUNK < n ? begin + CHUNK : n;
        if (threadIdx.x == 0)
            coefficients<T>(c, a, sample, begin == 0);
        __syncthreads();
        for (int64_t i = begin + threadIdx.x; i < end; i += THREADS) {
            int64_t place = i / a.channels, channel = i - place * a.channels, at = sample * n + i;
            T e = narrow<T>(
                (wide<T>)draw_one(a.seed, LD_RNG_NOISE, number_of<T>(a, sample), channel * a.places + place, true));
            wide<T> clean = (widen(a.z[at]) - (a.shift ? widen(a.shift[channel]) : (wide<T>)0)) * a.scale;
            a.eps[at] = e;
            if (a.x0)
                a.x0[at] = narrow<T>(clean);
            a.y[at] = narrow<T>(clean * c[0] + widen(e) * c[1]);
        }
        __syncthreads();
    }
}

/* Samples without elements have times all the same. */
template <typename T> __global__ void __launch_bounds__(THREADS) k_noised_times(const noising<T> a) {
    wide<T> c[2];
    for (int64_t i = blockIdx.x * (int64_t)THREADS + threadIdx.x; i < a.samples; i += (int64_t)gridDim.x * THREADS)
        coefficients<T>(c, a, i, true);
}

int ld_cuda_noised(const ld_view *y, const ld_view *x0, const ld_view *eps, const ld_view *t, const ld_view *z,
                   const ld_view *shift, double scale, uint64_t seed, uint64_t first, const uint64_t *base) {
    int64_t channels = z->ndim == 4 ? z->shape[1] : 1, places = 1;
    for (int d = z->ndim == 4 ? 2 : 1; d < z->ndim; d++)
        places *= z->shape[d];
    if (z->shape[0] == 0)
        return 0;
    int bad = check_same("noised", "shift", shift, z->dtype);
    if (!bad)
        bad = check_same("noised", "t", t, statistics_dtype(z->dtype));
    if (bad)
        return bad;
    return ld_each_float(z->dtype, "noised", [&](auto type) {
        typedef decltype(type) T;
        noising<T> a = {(T *)y->data,
                        (T *)data_of(x0),
                        (T *)eps->data,
                        (const T *)z->data,
                        (const T *)data_of(shift),
                        (wide<T> *)t->data,
                        (wide<T>)scale,
                        seed,
                        first,
                        base,
                        z->shape[0],
                        channels,
                        places};
        int64_t blocks = a.samples * ((channels * places + CHUNK - 1) / CHUNK);
        if (blocks == 0)
            return LD_LAUNCH(k_noised_times<T>, ld_blocks(a.samples, THREADS), THREADS, 0, a);
        return LD_LAUNCH(k_noised<T>, ld_blocks(blocks, 1), THREADS, 0, a);
    });
}
