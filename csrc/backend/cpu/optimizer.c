/* adam, sgd, ema: one pass over memory, in place; each element is one thread's. The order of operations is that of PyTorch's
 * single-tensor optimisers, with hyperparameters rounded to the element type once. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/iterate.h"

#include <math.h>
#include <omp.h>

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

int ld_cpu_adam(const ld_view *p, const ld_view *g, const ld_view *m, const ld_view *v, const ld_adam_step *s) {
    pass k = {.p = p->data, .g = g->data, .m = m->data, .v = v->data};
    k.decay = s->decoupled ? 1 - s->lr * s->weight_decay : 1;
    k.coupled = s->decoupled ? 0 : s->weight_decay;
    k.beta1 = s->beta1;
    k.beta2 = s->beta2;
    k.one_less_beta1 = 1 - s->beta1;
    k.one_less_beta2 = 1 - s->beta2;
    k.root_correction = sqrt(1 - pow(s->beta2, (double)s->step));
    k.eps = s->eps;
    k.step = s->lr / (1 - pow(s->beta1, (double)s->step));
    run(&k, ld_view_numel(p), p->dtype == LD_F64 ? adam_double : adam_float);
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

int ld_cpu_ema(const ld_view *s, const ld_view *p, double decay) {
    pass k = {.m = s->data, .g = p->data, .decay = 1 - decay};
    run(&k, ld_view_numel(s), s->dtype == LD_F64 ? ema_double : ema_float);
    return 0;
}
