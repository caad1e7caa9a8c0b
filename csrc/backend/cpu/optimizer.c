/* update, sgd: one pass over memory, in place; each element is one thread's. The order of operations is that of PyTorch's
 * single-tensor optimisers, with hyperparameters rounded to the element type once.
 *
 * update and sumsq work on all tensors of a network in one parallel region: most are small, and a region each would cost
 * more than the arithmetic. An update goes block by block, small enough for the first cache: scaled gradient, Adam, average,
 * each with the roundings it would have as a pass of its own. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/iterate.h"

#include "base/error.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

typedef struct pass pass;
typedef void (*pass_fn)(const pass *k, int64_t first, int64_t last);

struct pass {
    void *p, *m, *v; /* parameter, and the states there are */
    const void *g;
    double decay, coupled; /* p is first multiplied by `decay`; g grows by `coupled` p */
    double beta1, beta2, one_less_beta1, one_less_beta2, root_correction, eps, step; /* adam */
    double lr, momentum;                                                             /* sgd */
    bool nesterov, first;
};

#define PASSES(T, root)                                                                                                \
    LD_CLONES static void adam_##T(const pass *k, int64_t first, int64_t last) {                                       \
        T *restrict p = k->p, *restrict m = k->m, *restrict v = k->v;                                                  \
        const T *restrict g = k->g;                                                                                    \
        const T decay = (T)k->decay, coupled = (T)k->coupled, beta1 = (T)k->beta1, beta2 = (T)k->beta2;                \
        const T a = (T)k->one_less_beta1, b = (T)k->one_less_beta2, correction = (T)k->root_correction;                \
        const T eps = (T)k->eps, step = (T)k->step;                                                                    \
        _Pragma("omp simd") for (int64_t i = first; i < last; i++) {                                                   \
            T d = g[i] + coupled * p[i], q = p[i] * decay;                                                             \
            m[i] = beta1 * m[i] + a * d;                                                                               \
            v[i] = beta2 * v[i] + b * d * d;                                                                           \
            p[i] = q - step * m[i] / (root(v[i]) / correction + eps);                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    LD_CLONES static void sgd_##T(const pass *k, int64_t first, int64_t last) {                                        \
        T *restrict p = k->p, *restrict buf = k->m;                                                                    \
        const T *restrict g = k->g;                                                                                    \
        const T coupled = (T)k->coupled, momentum = (T)k->momentum, lr = (T)k->lr;                                     \
        const bool nesterov = k->nesterov, fresh = k->first;                                                           \
        _Pragma("omp simd") for (int64_t i = first; i < last; i++) {                                                   \
            T d = g[i] + coupled * p[i], moved = momentum * buf[i] + d;                                                \
            T kept = fresh ? d : moved, ahead = d + momentum * kept;                                                   \
            buf[i] = kept;                                                                                             \
            p[i] -= lr * (nesterov ? ahead : kept);                                                                    \
        }                                                                                                              \
    }                                                                                                                  \
    LD_CLONES static void scale_##T(const pass *k, int64_t first, int64_t last) {                                      \
        T *restrict d = k->p;                                                                                          \
        const T *restrict g = k->g, scale = (T)k->decay;                                                               \
        _Pragma("omp simd") for (int64_t i = first; i < last; i++) d[i] = g[i] * scale;                                \
    }                                                                                                                  \
    /* s + (1 - decay)(p - s): one rounded factor instead of two */                                                    \
    LD_CLONES static void ema_##T(const pass *k, int64_t first, int64_t last) {                                        \
        T *restrict s = k->m;                                                                                          \
        const T *restrict p = k->g, share = (T)k->decay;                                                               \
        _Pragma("omp simd") for (int64_t i = first; i < last; i++) s[i] += share * (p[i] - s[i]);                      \
    }
PASSES(float, sqrtf)
PASSES(double, sqrt)

static void run(const pass *k, int64_t n, pass_fn fn) {
    int team = ld_team(n);
#pragma omp parallel num_threads(team) if (team > 1)
    {
        int me = omp_get_thread_num(), all = omp_get_num_threads();
        /* whole cache lines each */
        int64_t lines = (n + 15) / 16, first = 16 * ld_part(lines, me, all), last = 16 * ld_part(lines, me + 1, all);
        fn(k, first, last < n ? last : n);
    }
}

static pass adam_pass(const ld_update *u) {
    const ld_adam_step *s = &u->adam;
    pass k = {.p = u->p, .g = u->g, .m = u->m, .v = u->v};
    k.decay = s->decoupled ? 1 - s->lr * s->weight_decay : 1;
    k.coupled = s->decoupled ? 0 : s->weight_decay;
    k.beta1 = s->beta1;
    k.beta2 = s->beta2;
    k.one_less_beta1 = 1 - s->beta1;
    k.one_less_beta2 = 1 - s->beta2;
    k.root_correction = sqrt(1 - pow(s->beta2, (double)s->step));
    k.eps = s->eps;
    k.step = s->lr / (1 - pow(s->beta1, (double)s->step));
    return k;
}

enum { BLOCK = 1024, UNIT = 1 << 15, LANES = 32 };

/* Elements first .. last - 1 of one tensor. */
static void update_part(const ld_update *u, double scale, double decay, int64_t first, int64_t last) {
    _Alignas(64) char scaled[BLOCK * sizeof(double)];
    const bool wide = u->dtype == LD_F64;
    const int64_t size = (int64_t)ld_dtype_size(u->dtype);
    const pass_fn scale_fn = wide ? scale_double : scale_float, ema = wide ? ema_double : ema_float;
    const pass_fn adam = wide ? adam_double : adam_float;
    const pass start = u->g ? adam_pass(u) : (pass){0};
    for (int64_t i = first; i < last; i += BLOCK) {
        int64_t n = last - i < BLOCK ? last - i : BLOCK, at = i * size;
        char *p = (char *)u->p + at;
        if (u->g) {
            pass k = start;
            k.p = p;
            k.m = (char *)u->m + at;
            k.v = (char *)u->v + at;
            k.g = (const char *)u->g + at;
            if (scale != 1) {
                scale_fn(&(pass){.p = scaled, .g = k.g, .decay = scale}, 0, n);
                k.g = scaled;
            }
            adam(&k, 0, n);
        }
        if (u->s)
            ema(&(pass){.m = (char *)u->s + at, .g = p, .decay = 1 - decay}, 0, n);
    }
}

int ld_cpu_update(const ld_update *u, int n, double scale, double decay) {
    int64_t total = 0;
    for (int i = 0; i < n; i++)
        total += u[i].n;
    int team = ld_team(total);
#pragma omp parallel num_threads(team) if (team > 1)
    {
        int me = omp_get_thread_num(), all = omp_get_num_threads();
        /* a share of all elements; whole cache lines where a tensor is cut */
        int64_t first = ld_part(total, me, all), last = ld_part(total, me + 1, all), start = 0;
        for (int i = 0; i < n && start < last; start += u[i++].n) {
            int64_t from = first > start ? (first - start + 15) / 16 * 16 : 0, to = (last - start + 15) / 16 * 16;
            to = to < u[i].n ? to : u[i].n;
            if (from < to)
                update_part(&u[i], scale, decay, from, to);
        }
    }
    return 0;
}

int ld_cpu_sgd(const ld_view *p, const ld_view *g, const ld_view *buf, double lr, double momentum, double weight_decay,
               bool nesterov, bool first) {
    pass k = {.p = p->data, .g = g->data, .m = buf->data, .coupled = weight_decay};
    k.lr = lr;
    k.momentum = momentum;
    k.nesterov = nesterov;
    k.first = first;
    run(&k, ld_view_numel(p), p->dtype == LD_F64 ? sgd_double : sgd_float);
    return 0;
}

/* ---- the norm of a gradient ------------------------------------------------------------------------------------------ */

#define SQUARES(T)                                                                                                     \
    LD_CLONES static double squares_##T(const void *data, int64_t n) {                                                 \
        const T *x = data;                                                                                             \
        double lane[LANES] = {0}, sum = 0;                                                                             \
        int64_t i = 0;                                                                                                 \
        for (; i + LANES <= n; i += LANES)                                                                             \
            _Pragma("omp simd") for (int j = 0; j < LANES; j++) lane[j] += (double)x[i + j] * (double)x[i + j];        \
        for (int j = 0; i < n; i++, j++)                                                                               \
            lane[j] += (double)x[i] * (double)x[i];                                                                    \
        for (int j = 0; j < LANES; j++)                                                                                \
            sum += lane[j];                                                                                            \
        return sum;                                                                                                    \
    }
SQUARES(float)
SQUARES(double)

static int64_t units_of(const ld_view *x) {
    return (ld_view_numel(x) + UNIT - 1) / UNIT;
}

/* Units first .. last - 1 of all the tensors, one sum each. */
static void sum_units(double *sums, const ld_view *xs, int n, int64_t first, int64_t last) {
    int64_t start = 0;
    for (int i = 0; i < n && start < last; i++) {
        const int64_t units = units_of(&xs[i]), all = ld_view_numel(&xs[i]), size = (int64_t)ld_dtype_size(xs[i].dtype);
        for (int64_t u = first > start ? first - start : 0; u < units && start + u < last; u++) {
            const void *at = (const char *)xs[i].data + u * UNIT * size;
            int64_t count = all - u * UNIT < UNIT ? all - u * UNIT : UNIT;
            sums[start + u] = xs[i].dtype == LD_F64 ? squares_double(at, count) : squares_float(at, count);
        }
        start += units;
    }
}

/* Units are cut by the shapes and added in order: the same sum for any number of threads. */
int ld_cpu_sumsq(double *sum, const ld_view *xs, int n) {
    int64_t units = 0, total = 0;
    for (int i = 0; i < n; i++) {
        if (xs[i].dtype != LD_F32 && xs[i].dtype != LD_F64)
            return ld_fail(LD_EDTYPE, "sumsq: %s; f32 and f64 are there", ld_dtype_names[xs[i].dtype]);
        units += units_of(&xs[i]);
        total += ld_view_numel(&xs[i]);
    }
    double *sums = malloc((size_t)(units + 1) * sizeof *sums), all_of_them = 0;
    if (!sums)
        return ld_fail(LD_EMEM, "sumsq: out of host memory for partial sums");
    int team = ld_team(total);
#pragma omp parallel num_threads(team) if (team > 1)
    {
        int me = omp_get_thread_num(), all = omp_get_num_threads();
        sum_units(sums, xs, n, ld_part(units, me, all), ld_part(units, me + 1, all));
    }
    for (int64_t u = 0; u < units; u++)
        all_of_them += sums[u];
    free(sums);
    *sum = all_of_them;
    return 0;
}
