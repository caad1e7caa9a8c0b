/* uniform, normal, dropout: the numbers of base/rng.h, counted in logical row-major order whatever the layout.
 *
 *   y = lo + (hi - lo) u;   y = mean + std n;   y = u < p ? 0 : x / (1 - p)
 *
 * Traffic: y is written once (dropout reads x once), in the order of memory. Beside y walk two views without memory, whose
 * offsets are the number of an element within its sample and the sample's: space.h does the rest. Where memory lies in logical
 * order a thread makes four elements of one counter; else one. uniform and dropout are those of the CPU to the bit; normal
 * differs by what CUDA's logf, sinf and cosf differ from the C library's, a few units in the last place. Proven by
 * tests/sim/test_sim_random.c against the CPU's slots. */
#include "kernels/draw.h"
#include "kernels/space.h"

struct stream {
    uint64_t seed, sample;
    uint32_t purpose;
    const uint64_t *base; /* on the device, added to sample; or NULL */
};

/* Element e of a sample, and the next ones, unless `same`; or the same element of the next samples. */
template <int V>
LD_DEVICE void numbers(float *u, const stream &s, int64_t e, int64_t row, const bool *same, bool normal) {
    uint32_t w[4];
    uint64_t sample = s.sample + (s.base ? *s.base : 0) + (uint64_t)row;
    if (V == 4 && !same[0] && same[1]) { /* e is a multiple of 4 */
        ld_philox_block(w, s.seed, s.purpose, sample, (uint32_t)(e / 4));
        for (int i = 0; i < V; i++)
            u[i] = normal ? bell(w, i) : unit(w[i]);
        return;
    }
    for (int i = 0; i < V; i++) {
        uint64_t of = sample + (uint64_t)(same[1] ? 0 : i);
        u[i] = draw_one(s.seed, s.purpose, of, e + (same[0] ? 0 : i), normal);
    }
}

template <typename T> struct drawing {
    enum { N = 3 }; /* y, the element, the sample */
    typedef typename ld_wide<T>::type W;
    T *y;
    stream from;
    double p, q; /* y = p + q u */
    bool normal;
    template <int V> __device__ void run(const int64_t *at, const bool *same) const {
        float u[V];
        W v[V];
        numbers<V>(u, from, at[1], at[2], same + 1, normal);
        for (int i = 0; i < V; i++)
            v[i] = (W)(p + q * (double)u[i]);
        store_narrow<V>(y + at[0], v);
    }
};

template <typename T> struct dropping {
    enum { N = 4 }; /* y, x, the element, the sample */
    typedef typename ld_wide<T>::type W;
    T *y;
    const T *x;
    stream from;
    float p;
    W keep;
    template <int V> __device__ void run(const int64_t *at, const bool *same) const {
        float u[V];
        W v[V];
        numbers<V>(u, from, at[2], at[3], same + 2, false);
        load_wide<V>(v, x + at[1], same[1]);
        for (int i = 0; i < V; i++)
            v[i] = u[i] < p ? 0 : v[i] / keep;
        store_narrow<V>(y + at[0], v);
    }
};

/* The views without memory: offsets are the element within its sample, and the sample. */
static void count_elements(const ld_view *y, bool by_row, ld_view *element, ld_view *sample) {
    *element = *sample = *y;
    element->dtype = sample->dtype = LD_U8;
    element->data = sample->data = NULL;
    int64_t n = 1;
    for (int d = y->ndim - 1; d >= 0; d--) {
        element->stride[d] = by_row && d == 0 ? 0 : n;
        sample->stride[d] = by_row && d == 0;
        n *= y->shape[d];
    }
}

static int draw(const char *who, const ld_view *y, const stream &from, double p, double q, bool normal, bool by_row) {
    ld_view element, sample;
    count_elements(y, by_row, &element, &sample);
    const ld_view *views[] = {y, &element, &sample};
    return ld_each_float(y->dtype, who, [&](auto t) {
        typedef decltype(t) T;
        return ld_map<4>(views, drawing<T>{(T *)y->data, from, p, q, normal});
    });
}

int ld_cuda_uniform(const ld_view *y, double lo, double hi, uint64_t seed, uint32_t purpose, uint64_t sample,
                    bool by_row, const uint64_t *base) {
    return draw("uniform", y, stream{seed, sample, purpose, base}, lo, hi - lo, false, by_row);
}

int ld_cuda_normal(const ld_view *y, double mean, double std, uint64_t seed, uint32_t purpose, uint64_t sample,
                   bool by_row, const uint64_t *base) {
    return draw("normal", y, stream{seed, sample, purpose, base}, mean, std, true, by_row);
}

int ld_cuda_dropout(const ld_view *y, const ld_view *x, double p, uint64_t seed, uint64_t sample,
                    const uint64_t *base) {
    ld_view element, row;
    count_elements(y, false, &element, &row);
    const ld_view *views[] = {y, x, &element, &row};
    double least = ceil(p * 0x1p24) * 0x1p-24; /* exact as f32, and no multiple of 2^-24 lies between it and p */
    return ld_each_float(y->dtype, "dropout", [&](auto t) {
        typedef decltype(t) T;
        typedef typename ld_wide<T>::type W;
        return ld_map<4>(views, dropping<T>{(T *)y->data, (const T *)x->data,
                                            stream{seed, sample, LD_RNG_DROPOUT, base}, (float)least, (W)(1 - p)});
    });
}
