/* noised: what a diffusion model is trained on. A sample's noise is drawn in blocks in logical order and moved to its places,
 * then the sample is mixed while it lies in the cache; samples are shared out to threads. The steps round as the operations
 * that do the same one by one: this file is compiled without contraction of products and sums (Makefile). */
#include "backend/cpu/cpu.h"
#include "backend/cpu/iterate.h"
#include "base/rng.h"

#include <math.h>

enum {
    BLOCK = 1024, /* numbers drawn at once */
    ROW = 256     /* elements mixed at once, whole pixels */
};

typedef struct job {
    const ld_view *y, *x0, *eps, *t, *z, *shift;
    double scale;
    uint64_t seed, first;
    int64_t channels, places; /* of a sample; its elements lie place by place */
} job;

#define FOR(T)                                                                                                         \
    static void draw_##T(T *eps, const job *j, uint64_t sample) {                                                      \
        float u[BLOCK];                                                                                                \
        int64_t n = j->channels * j->places;                                                                           \
        for (int64_t first = 0; first < n; first += BLOCK) {                                                           \
            int64_t m = n - first < BLOCK ? n - first : BLOCK;                                                         \
            ld_rng_normal(u, m, j->seed, LD_RNG_NOISE, sample, first);                                                 \
            for (int64_t k = 0; k < m;) {                                                                              \
                int64_t channel = (first + k) / j->places, place = (first + k) % j->places;                            \
                int64_t run = j->places - place < m - k ? j->places - place : m - k;                                   \
                T *to = eps + place * j->channels + channel;                                                           \
                for (int64_t i = 0; i < run; i++)                                                                      \
                    to[i * j->channels] = (T)u[k + i];                                                                 \
                k += run;                                                                                              \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    /* x0 may be y: it is written first. */                                                                            \
    LD_CLONES static void mix_##T(T *y, T *x0, const T *z, const T *eps, const T *shift, T scale, T alpha, T sigma,    \
                                  int64_t n) {                                                                         \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                          \
            T clean = (z[i] - shift[i]) * scale + 0;                                                                   \
            x0[i] = clean;                                                                                             \
            y[i] = clean * alpha + eps[i] * sigma;                                                                     \
        }                                                                                                              \
    }                                                                                                                  \
    static void sample_##T(const job *j, int64_t i, const T *row, int64_t width) {                                     \
        int64_t n = j->channels * j->places, at = i * n;                                                               \
        uint64_t sample = j->first + (uint64_t)i;                                                                      \
        float u;                                                                                                       \
        ld_rng_uniform(&u, 1, j->seed, LD_RNG_TIME, sample, 0);                                                        \
        T most = (T)LD_TIME_MAX, t = (T)u > most ? most : (T)u;                                                        \
        ((T *)j->t->data)[i] = t;                                                                                      \
        T alpha = (T)cos(1.57079632679489661923 * (double)t), sigma = (T)sin(1.57079632679489661923 * (double)t);      \
        T *eps = (T *)j->eps->data + at, *y = (T *)j->y->data + at, *x0 = j->x0 ? (T *)j->x0->data + at : y;           \
        const T *z = (const T *)j->z->data + at;                                                                       \
        draw_##T(eps, j, sample);                                                                                      \
        for (int64_t k = 0; k < n; k += width)                                                                         \
            mix_##T(y + k, x0 + k, z + k, eps + k, row, (T)j->scale, alpha, sigma, n - k < width ? n - k : width);     \
    }                                                                                                                  \
    /* The shifts of as many pixels as a row holds. */                                                                 \
    static void all_##T(const job *j) {                                                                                \
        T zero_or_shift[ROW] = {0};                                                                                    \
        const T *row = zero_or_shift, *shift = j->shift ? j->shift->data : NULL;                                       \
        int64_t width = shift && j->channels > ROW ? j->channels : ROW / j->channels * j->channels;                    \
        if (!shift)                                                                                                    \
            width = ROW;                                                                                               \
        else if (j->channels > ROW)                                                                                    \
            row = shift;                                                                                               \
        for (int64_t k = 0; shift && row != shift && k < width; k++)                                                   \
            zero_or_shift[k] = shift[k % j->channels];                                                                 \
        int team = ld_team(ld_view_numel(j->z) * 8); /* a number costs several plain operations */                     \
        _Pragma("omp parallel for num_threads(team) if (team > 1)") for (int64_t i = 0; i < j->z->shape[0]; i++)       \
            sample_##T(j, i, row, width);                                                                              \
    }
FOR(float)
FOR(double)

int ld_cpu_noised(const ld_view *y, const ld_view *x0, const ld_view *eps, const ld_view *t, const ld_view *z,
                  const ld_view *shift, double scale, uint64_t seed, uint64_t first, const uint64_t *base) {
    job j = {y, x0, eps, t, z, shift, scale, seed, first + (base ? *base : 0), 1, 1};
    if (z->ndim == 4)
        j.channels = z->shape[1];
    for (int d = 1; d < z->ndim; d++)
        j.places *= z->ndim == 4 && d == 1 ? 1 : z->shape[d];
    if (j.channels < 1)
        j.channels = 1, j.places = 0;
    if (z->dtype == LD_F64)
        all_double(&j);
    else
        all_float(&j);
    return 0;
}
