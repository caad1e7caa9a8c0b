/* uniform, normal, dropout: the numbers of base/rng.h, counted in logical row-major order whatever the layout. Blocks of
 * numbers are drawn into a buffer and moved to their places, shared out to threads. tests/c/test_cpu_light_random.c compares them
 * with base/rng.h one by one. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/iterate.h"
#include "base/philox.h"
#include "base/rng.h"

#include <math.h>
#include <omp.h>

enum {
    BLOCK = 1024,
    BATCH = 32 /* counters at once */
};

typedef struct stream {
    uint64_t seed, sample;
    uint32_t purpose;
} stream;

/* ---- numbers --------------------------------------------------------------------------------------------------------- */

/* The words of BATCH consecutive counters; ld_philox side by side. */
LD_CLONES static void words(uint32_t *restrict out, const stream *s, uint32_t first) {
    const uint64_t seed = s->seed, sample = s->sample;
    const uint32_t purpose = s->purpose;
#pragma omp simd
    for (uint32_t i = 0; i < BATCH; i++)
        ld_philox_block(out + 4 * i, seed, purpose, sample, first + i);
}

LD_CLONES static void to_unit(float *restrict u, const uint32_t *restrict w) {
#pragma omp simd
    for (int i = 0; i < 4 * BATCH; i++)
        u[i] = (float)(int32_t)(w[i] >> 8) * 0x1p-24f;
}

/* ld_rng_uniform of elements first .. first + n - 1, first a multiple of 4; writes up to the next multiple of 4 BATCH. */
static void draw_uniform(float *u, int64_t n, const stream *s, int64_t first) {
    for (int64_t i = 0; i < n; i += 4 * BATCH) {
        uint32_t w[4 * BATCH];
        words(w, s, (uint32_t)((first + i) / 4));
        to_unit(u + i, w);
    }
}

static void draw_normal(float *u, int64_t n, const stream *s, int64_t first) {
    ld_rng_normal(u, n, s->seed, s->purpose, s->sample, first);
}

/* ---- places ---------------------------------------------------------------------------------------------------------- */

/* One or two views' dimensions in logical order, merged where both allow. */
typedef struct order {
    int ndim;
    int64_t shape[LD_MAX_DIMS], stride[2][LD_MAX_DIMS];
    int64_t numel;
} order;

/* Dimensions first_dim, first_dim + 1, ... of the views. */
static order order_of(const ld_view *a, const ld_view *b, int first_dim) {
    order o = {.ndim = 1, .shape = {1}, .stride = {{1}, {1}}, .numel = 1};
    for (int d = first_dim; d < a->ndim; d++) {
        int64_t n = a->shape[d], *u = o.stride[0], *v = o.stride[1];
        int last = o.ndim - 1;
        o.numel *= n;
        if (n == 1)
            continue;
        if (o.shape[last] == 1)
            o.shape[last] = n;
        else if (u[last] == a->stride[d] * n && v[last] == b->stride[d] * n)
            o.shape[last] *= n;
        else
            o.shape[last = o.ndim++] = n;
        u[last] = a->stride[d];
        v[last] = b->stride[d];
    }
    return o;
}

typedef void (*run_fn)(void *dense, void *at, ld_dtype t, int64_t step, int64_t n);

static void load(void *dense, void *at, ld_dtype t, int64_t step, int64_t n) {
    ld_load_run(dense, at, t, step, n, false);
}

static void store(void *dense, void *at, ld_dtype t, int64_t step, int64_t n) {
    ld_store_run(at, dense, t, step, n, false);
}

/* Elements first .. first + n - 1 of view `which`, whose dtype is t and whose element 0 lies at `data`. */
static void each_run(const order *o, int which, run_fn fn, char *data, ld_dtype t, int64_t first, int64_t n,
                     char *dense) {
    int fast = o->ndim - 1;
    int64_t size = (int64_t)ld_dtype_size(t), width = (int64_t)ld_dtype_size(ld_compute_dtype(t));
    while (n > 0) {
        int64_t column = first % o->shape[fast], m = o->shape[fast] - column;
        m = m < n ? m : n;
        int64_t index = first / o->shape[fast], at = column * o->stride[which][fast];
        for (int d = fast - 1; d >= 0; index /= o->shape[d--])
            at += index % o->shape[d] * o->stride[which][d];
        fn(dense, data + at * size, t, o->stride[which][fast], m);
        dense += m * width;
        first += m;
        n -= m;
    }
}

/* ---- the slots ------------------------------------------------------------------------------------------------------- */

typedef struct job job;
typedef void (*finish_fn)(const job *j, const float *u, int64_t n, void *dense);

struct job {
    const ld_view *y, *x; /* x: dropout's argument, else y */
    order order;          /* of one sample */
    stream stream;        /* of the first */
    int64_t samples, blocks;
    void (*draw)(float *u, int64_t n, const stream *s, int64_t first);
    finish_fn finish; /* from n numbers to y's values; dense holds x's for dropout */
    double p, q;      /* y = p + q u, or for dropout the share dropped and the share kept */
};

static void run_blocks(const job *j, int64_t first, int64_t last) {
    _Alignas(64) float u[BLOCK];
    _Alignas(64) char dense[BLOCK * sizeof(double)];
    int64_t size = (int64_t)ld_dtype_size(j->y->dtype);
    for (int64_t k = first; k < last; k++) {
        int64_t row = k / j->blocks, start = k % j->blocks * BLOCK, left = j->order.numel - start;
        int64_t n = left < BLOCK ? left : BLOCK, offset = row > 0 ? row * j->y->stride[0] * size : 0;
        stream s = j->stream;
        s.sample += (uint64_t)row;
        j->draw(u, n, &s, start);
        if (j->x != j->y)
            each_run(&j->order, 1, load, j->x->data, j->x->dtype, start, n, dense);
        j->finish(j, u, n, dense);
        each_run(&j->order, 0, store, (char *)j->y->data + offset, j->y->dtype, start, n, dense);
    }
}

static void run(job *j, bool by_row) {
    by_row &= j->y->ndim > 0;
    j->order = order_of(j->y, j->x, by_row);
    j->samples = by_row ? j->y->shape[0] : 1;
    j->blocks = (j->order.numel + BLOCK - 1) / BLOCK;
    int64_t units = j->samples * j->blocks;
    int team = ld_team(j->samples * j->order.numel * 8); /* a number costs several plain operations */
#pragma omp parallel num_threads(team) if (team > 1)
    {
        int me = omp_get_thread_num(), all = omp_get_num_threads();
        run_blocks(j, ld_part(units, me, all), ld_part(units, me + 1, all));
    }
}

#define FINISH(T)                                                                                                      \
    LD_CLONES static void scaled_##T(const job *j, const float *u, int64_t n, void *dense) {                           \
        T *y = dense;                                                                                                  \
        double p = j->p, q = j->q;                                                                                     \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = (T)(p + q * (double)u[i]);                          \
    }                                                                                                                  \
    LD_CLONES static void dropped_##T(const job *j, const float *u, int64_t n, void *dense) {                          \
        T *y = dense, keep = (T)j->q;                                                                                  \
        float p = (float)j->p;                                                                                         \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                          \
            T kept = y[i] / keep;                                                                                      \
            y[i] = u[i] < p ? 0 : kept;                                                                                \
        }                                                                                                              \
    }
FINISH(float)
FINISH(double)

static uint64_t from(uint64_t sample, const uint64_t *base) {
    return base ? sample + *base : sample;
}

int ld_cpu_uniform(const ld_view *y, double lo, double hi, uint64_t seed, uint32_t purpose, uint64_t sample,
                   bool by_row, const uint64_t *base) {
    job j = {
        .y = y, .x = y, .stream = {seed, from(sample, base), purpose}, .draw = draw_uniform, .p = lo, .q = hi - lo};
    j.finish = y->dtype == LD_F64 ? scaled_double : scaled_float;
    run(&j, by_row);
    return 0;
}

int ld_cpu_normal(const ld_view *y, double mean, double std, uint64_t seed, uint32_t purpose, uint64_t sample,
                  bool by_row, const uint64_t *base) {
    job j = {.y = y, .x = y, .stream = {seed, from(sample, base), purpose}, .draw = draw_normal, .p = mean, .q = std};
    j.finish = y->dtype == LD_F64 ? scaled_double : scaled_float;
    run(&j, by_row);
    return 0;
}

int ld_cpu_dropout(const ld_view *y, const ld_view *x, double p, uint64_t seed, uint64_t sample, const uint64_t *base) {
    ld_view source = *x; /* an address of its own: x may be y */
    job j = {
        .y = y, .x = &source, .stream = {seed, from(sample, base), LD_RNG_DROPOUT}, .draw = draw_uniform, .q = 1 - p};
    j.p = ceil(p * 0x1p24) * 0x1p-24; /* exact as f32, and no multiple of 2^-24 lies between it and p */
    j.finish = y->dtype == LD_F64 ? dropped_double : dropped_float;
    run(&j, false);
    return 0;
}
