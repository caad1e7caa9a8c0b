/* update, sgd: one pass over memory, in place; each element is one thread's. The order of operations is that of PyTorch's
 * single-tensor optimisers, with hyperparameters rounded to the element type once.
 *
 * update and sumsq work on all tensors of a network in one parallel region: most are small, and a region each would cost
 * more than the arithmetic. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/iterate.h"

#include "base/error.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

typedef struct pass pass;
typedef void (*pass_fn)(const pass *k, int64_t first, int64_t last);

struct pass {
    void *p, *m, *v, *s; /* parameter, the states there are, the average */
    const void *g;
    double scale, share;   /* of the gradient; of the parameter in its average */
    double decay, coupled; /* p is first multiplied by `decay`; g grows by `coupled` p */
    double beta1, beta2, one_less_beta1, one_less_beta2, root_correction, eps, step; /* adam */
    double lr, momentum;                                                             /* sgd */
    bool nesterov, first;
};

#define ADAM(name, T, root, SET, EACH)                                                                                 \
    LD_CLONES static void name(const pass *k, int64_t first, int64_t last) {                                           \
        T *restrict p = k->p, *restrict m = k->m, *restrict v = k->v;                                                  \
        const T *restrict g = k->g;                                                                                    \
        const T scale = (T)k->scale, decay = (T)k->decay, coupled = (T)k->coupled;                                     \
        const T beta1 = (T)k->beta1, beta2 = (T)k->beta2, a = (T)k->one_less_beta1, b = (T)k->one_less_beta2;          \
        const T correction = (T)k->root_correction, eps = (T)k->eps, step = (T)k->step;                                \
        SET _Pragma("omp simd") for (int64_t i = first; i < last; i++) {                                               \
            T d = scale * g[i] + coupled * p[i], q = p[i] * decay;                                                     \
            m[i] = beta1 * m[i] + a * d;                                                                               \
            v[i] = beta2 * v[i] + b * d * d;                                                                           \
            q -= step * m[i] / (root(v[i]) / correction + eps);                                                        \
            p[i] = q;                                                                                                  \
            EACH                                                                                                       \
        }                                                                                                              \
    }
/* s + (1 - decay)(q - s): one rounded factor instead of two */
#define AVERAGE_SET(T)                                                                                                 \
    T *restrict s = k->s;                                                                                              \
    const T share = (T)k->share;
#define AVERAGE s[i] += share * (q - s[i]);
#define PASSES(T, root)                                                                                                \
    ADAM(adam_##T, T, root, , )                                                                                        \
    ADAM(adam_ema_##T, T, root, AVERAGE_SET(T), AVERAGE)                                                               \
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
    /* s + (1 - decay)(p - s): one rounded factor instead of two */                                                    \
    LD_CLONES static void ema_##T(const pass *k, int64_t first, int64_t last) {                                        \
        T *restrict s = k->s;                                                                                          \
        const T *restrict p = k->p, share = (T)k->share;                                                               \
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

static pass pass_of(const ld_update *u, double scale, double decay) {
    const ld_adam_step *s = &u->adam;
    pass k = {.p = u->p, .g = u->g, .m = u->m, .v = u->v, .s = u->s, .scale = scale, .share = 1 - decay};
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

/* Elements first .. last - 1 of one tensor. */
static void update_part(const ld_update *u, double scale, double decay, int64_t first, int64_t last) {
    const bool wide = u->dtype == LD_F64;
    const pass k = pass_of(u, scale, decay);
    pass_fn fn = wide ? ema_double : ema_float;
    if (u->g && u->s)
        fn = wide ? adam_ema_double : adam_ema_float;
    else if (u->g)
        fn = wide ? adam_double : adam_float;
    if (u->g || u->s)
        fn(&k, first, last);
}

static int update(const ld_update *u, int n, double scale, double decay) {
    int64_t total = 0;
    for (int i = 0; i < n; i++) {
        if (u[i].shadow || u[i].g_dtype == LD_BF16 || u[i].g_dtype == LD_F16)
            return ld_fail(LD_EDTYPE,
                           "update: gradients and weights of 16 bits are not on the cpu; f32 and f64 are there");
        total += u[i].n;
    }
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

/* With a cell: the numbers that are there. */
int ld_cpu_update(const ld_update *u, int n, double scale, double decay, const ld_cell *cell) {
    if (!cell)
        return update(u, n, scale, decay);
    if (!cell->ok)
        return 0;
    ld_update *list = malloc((size_t)(n + 1) * sizeof *list);
    if (!list)
        return ld_fail(LD_EMEM, "update: out of host memory");
    for (int i = 0; i < n; i++) {
        list[i] = u[i];
        list[i].adam.lr = cell->lr * u[i].adam.lr;
        list[i].adam.beta1 = cell->beta1;
        list[i].adam.step = u[i].adam.step + cell->taken;
    }
    int bad = update(list, n, cell->scale, cell->decay);
    free(list);
    return bad;
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

enum { UNIT = 1 << 15, LANES = 32 }; /* elements of one partial sum; sums side by side */

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

int ld_cpu_judge(ld_cell *cell, const ld_view *loss, const ld_view *xs, int n) {
    int bad = ld_cpu_sumsq(&cell->sum, xs, n);
    if (bad)
        return bad;
    double updates = (double)cell->updates + (double)cell->taken, warm = (1 + updates) / (10 + updates);
    double scale = cell->clip / (sqrt(cell->sum) + 1e-6);
    cell->decay = cell->updates >= 0 && warm < cell->average ? warm : cell->average;
    cell->scale = cell->clip > 0 && scale < 1 ? scale : 1;
    cell->ok = isfinite(ld_dtype_get(loss->dtype, loss->data)) && isfinite(cell->sum);
    cell->taken += cell->ok;
    return 0;
}
