/* softmax and cross entropy over the rows of (M, K), and their gradients.
 *
 *   p = exp(x - max) / sum;   dx = p (g - sum(g p));   loss = (1-s)(log sum - x_t) + s (log sum - mean x), x less max
 *   dx = g (p - s/K), and at the class g (s - s/K - the others' share), because p - 1 would cancel where p is near 1
 *
 * Traffic: x (and g, p) from memory once, results written once; a row's later passes find it in the caches. A warp a row up
 * to 1024 columns, a block of 256 beyond. bf16 and f16 are computed in f32; then loss and g may also be f32. Proven by
 * tests/sim/test_sim_softmax.c against the CPU's slots. */
#include "kernels/fold.h"
#include "kernels/kernel.h"

enum { THREADS = 256, WIDE = 1024 };

/* The threads of one row: TEAM lanes, a warp or the whole block. */
template <typename F, int TEAM, typename W> LD_DEVICE W team_fold(W v) {
    return TEAM == LD_WARP ? warp_fold<F>(v) : block_fold<F>(v);
}

#define EACH_ROW(r, m)                                                                                                 \
    for (int64_t r = (int64_t)blockIdx.x * (THREADS / TEAM) + threadIdx.x / TEAM; r < (m);                             \
         r += (int64_t)gridDim.x * (THREADS / TEAM))
#define EACH_COLUMN(j, k) for (int64_t j = threadIdx.x % TEAM; j < (k); j += TEAM)

template <int TEAM, typename T, typename W> LD_DEVICE W largest(const T *x, int64_t k) {
    W most = -INFINITY;
    EACH_COLUMN(j, k) most = fold_max::of(most, widen(x[j]));
    return team_fold<fold_max, TEAM>(most);
}

template <int TEAM, typename T>
__global__ void __launch_bounds__(THREADS) k_softmax(T *y, const T *x, int64_t m, int64_t k) {
    typedef typename ld_wide<T>::type W;
    EACH_ROW(r, m) {
        const T *row = x + r * k;
        W most = largest<TEAM, T, W>(row, k), sum = 0;
        EACH_COLUMN(j, k) sum += exp(widen(row[j]) - most);
        W share = 1 / team_fold<fold_sum, TEAM>(sum);
        EACH_COLUMN(j, k) y[r * k + j] = narrow<T>(exp(widen(row[j]) - most) * share);
    }
}

template <int TEAM, typename T>
__global__ void __launch_bounds__(THREADS) k_softmax_bwd(T *dx, const T *g, const T *y, int64_t m, int64_t k) {
    typedef typename ld_wide<T>::type W;
    EACH_ROW(r, m) {
        W dot = 0;
        EACH_COLUMN(j, k) dot += widen(g[r * k + j]) * widen(y[r * k + j]);
        dot = team_fold<fold_sum, TEAM>(dot);
        EACH_COLUMN(j, k) dx[r * k + j] = narrow<T>(widen(y[r * k + j]) * (widen(g[r * k + j]) - dot));
    }
}

template <int TEAM, typename T, typename L>
__global__ void __launch_bounds__(THREADS)
    k_cross_entropy(L *loss, const T *x, const int64_t *t, int64_t m, int64_t k, double smoothing) {
    typedef typename ld_wide<T>::type W;
    EACH_ROW(r, m) {
        const T *row = x + r * k;
        W most = largest<TEAM, T, W>(row, k), sum = 0, all = 0;
        EACH_COLUMN(j, k) {
            W v = widen(row[j]) - most;
            sum += exp(v);
            all += smoothing != 0 ? v : 0; /* an infinite logit is no matter without smoothing */
        }
        sum = log(team_fold<fold_sum, TEAM>(sum));
        all = team_fold<fold_sum, TEAM>(all);
        if (threadIdx.x % TEAM == 0) {
            bool there = t[r] >= 0 && t[r] < k;
            W s = (W)smoothing, picked = there ? widen(row[t[r]]) - most : (W)NAN, mean = all / (W)k;
            loss[r] = narrow<L>((1 - s) * (sum - picked) + (smoothing != 0 ? s * (sum - mean) : 0));
        }
    }
}

template <int TEAM, typename T, typename L>
__global__ void __launch_bounds__(THREADS)
    k_cross_entropy_bwd(T *dx, const L *g, const T *x, const int64_t *t, int64_t m, int64_t k, double smoothing) {
    typedef typename ld_wide<T>::type W;
    EACH_ROW(r, m) {
        const T *row = x + r * k;
        int64_t c = t[r];
        W most = largest<TEAM, T, W>(row, k), others = 0;
        EACH_COLUMN(j, k) others += j == c ? 0 : exp(widen(row[j]) - most);
        others = team_fold<fold_sum, TEAM>(others);
        W sum = others + (c >= 0 && c < k ? exp(widen(row[c]) - most) : (W)NAN), up = widen(g[r]),
          each = (W)smoothing / (W)k;
        EACH_COLUMN(j, k) {
            W slope = j == c ? (W)smoothing - each - others / sum : exp(widen(row[j]) - most) / sum - each;
            dx[r * k + j] = narrow<T>(up * slope);
        }
    }
}

/* ---- the slots ------------------------------------------------------------------------------------------------------- */

#define LAUNCH(kernel, m, k, ...)                                                                                      \
    ((k) <= WIDE ? LD_LAUNCH((kernel<LD_WARP, __VA_ARGS__>), ld_blocks(m, THREADS / LD_WARP), THREADS, 0, ARGUMENTS)   \
                 : LD_LAUNCH((kernel<THREADS, __VA_ARGS__>), ld_blocks(m, 1), THREADS, 0, ARGUMENTS))

int ld_cuda_softmax(const ld_view *y, const ld_view *x) {
    int64_t m = x->shape[0], k = x->shape[1];
    return ld_each_float(x->dtype, "softmax", [&](auto e) {
        typedef decltype(e) T;
#define ARGUMENTS (T *)y->data, (const T *)x->data, m, k
        return m * k == 0 ? 0 : LAUNCH(k_softmax, m, k, T);
#undef ARGUMENTS
    });
}

int ld_cuda_softmax_bwd(const ld_view *dx, const ld_view *g, const ld_view *y) {
    int64_t m = y->shape[0], k = y->shape[1];
    return ld_each_float(y->dtype, "softmax", [&](auto e) {
        typedef decltype(e) T;
#define ARGUMENTS (T *)dx->data, (const T *)g->data, (const T *)y->data, m, k
        return m * k == 0 ? 0 : LAUNCH(k_softmax_bwd, m, k, T);
#undef ARGUMENTS
    });
}

static int refuse(const ld_view *v, const ld_view *x) {
    return ld_fail(LD_EDTYPE, "cross_entropy: losses of %s for logits of %s; %s and f32 are there",
                   ld_dtype_names[v->dtype], ld_dtype_names[x->dtype], ld_dtype_names[x->dtype]);
}

int ld_cuda_cross_entropy(const ld_view *loss, const ld_view *x, const ld_view *t, double smoothing) {
    int64_t m = x->shape[0], k = x->shape[1];
    const int64_t *at = (const int64_t *)t->data;
    if (loss->dtype != x->dtype && (loss->dtype != LD_F32 || x->dtype == LD_F64))
        return refuse(loss, x);
    return ld_each_float(x->dtype, "cross_entropy", [&](auto e) {
        typedef decltype(e) T;
        typedef typename ld_wide<T>::type W;
        if (m * k == 0)
            return 0;
        if (loss->dtype != x->dtype)
#define ARGUMENTS (W *)loss->data, (const T *)x->data, at, m, k, smoothing
            return LAUNCH(k_cross_entropy, m, k, T, W);
#undef ARGUMENTS
#define ARGUMENTS (T *)loss->data, (const T *)x->data, at, m, k, smoothing
        return LAUNCH(k_cross_entropy, m, k, T, T);
#undef ARGUMENTS
    });
}

int ld_cuda_cross_entropy_bwd(const ld_view *dx, const ld_view *g, const ld_view *x, const ld_view *t,
                              double smoothing) {
    int64_t m = x->shape[0], k = x->shape[1];
    const int64_t *at = (const int64_t *)t->data;
    if (g->dtype != x->dtype && (g->dtype != LD_F32 || x->dtype == LD_F64))
        return refuse(g, x);
    return ld_each_float(x->dtype, "cross_entropy", [&](auto e) {
        typedef decltype(e) T;
        typedef typename ld_wide<T>::type W;
        if (m * k == 0)
            return 0;
        if (g->dtype != x->dtype)
#define ARGUMENTS (T *)dx->data, (const W *)g->data, (const T *)x->data, at, m, k, smoothing
            return LAUNCH(k_cross_entropy_bwd, m, k, T, W);
#undef ARGUMENTS
#define ARGUMENTS (T *)dx->data, (const T *)g->data, (const T *)x->data, at, m, k, smoothing
        return LAUNCH(k_cross_entropy_bwd, m, k, T, T);
#undef ARGUMENTS
    });
}
