/* loss and loss_bwd: one number for the difference of two tensors, and its gradient.
 *
 *   y = sum, or mean, of d^2, |d| or c (d - c/2), d = a - b, c = d held to -delta .. delta
 *   da = g share slope(d), db = -da
 *
 * Traffic: forward reads a and b once; backward reads them again and writes what is wanted. Forward: each thread sums eight
 * elements in f32 as a tree, the trees in f64; blocks leave their sums, a second launch adds those, none where one block does.
 * The number of blocks depends on the size alone, and every sum has one order. Proven by tests/sim/test_sim_training.c. */
#include "kernels/fold.h"
#include "kernels/operand.h"

enum { THREADS = 256, AHEAD = 8, BLOCKS = 512 };

template <typename W> LD_DEVICE W held(W d, W most) {
    return d < -most ? -most : d > most ? most : d;
}

template <typename W> LD_DEVICE W loss_of(ld_loss_kind kind, W d, W most) {
    W c = held(d, most);
    return kind == LD_LOSS_SQUARE ? d * d : kind == LD_LOSS_ABS ? (d < 0 ? -d : d) : c * (d - (W)0.5 * c);
}

template <typename W> LD_DEVICE W slope_of(ld_loss_kind kind, W d, W most) {
    W sign = d != d ? d : (W)((d > 0) - (d < 0));
    return kind == LD_LOSS_SQUARE ? 2 * d : kind == LD_LOSS_ABS ? sign : held(d, most);
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    k_loss(double *partial, operand y, const T *a, const T *b, ld_loss_spec s, int64_t n) {
    typedef wide<T> W;
    double sum = 0;
    for (int64_t i = (blockIdx.x * (int64_t)THREADS + threadIdx.x); i < n; i += (int64_t)gridDim.x * THREADS * AHEAD) {
        W v[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            int64_t at = i + k * (int64_t)gridDim.x * THREADS;
            v[k] = at < n ? loss_of<W>(s.kind, widen(a[at]) - widen(b[at]), (W)s.delta) : (W)0;
        }
        sum += (double)(((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7])));
    }
    sum = block_fold<fold_sum>(sum);
    if (threadIdx.x == 0 && partial)
        partial[blockIdx.x] = sum;
    else if (threadIdx.x == 0)
        operand_set(y, 0, s.mean ? sum / (double)n : sum);
}

static __global__ void __launch_bounds__(THREADS)
    k_loss_sum(operand y, const double *partial, int blocks, double count) {
    double sum = 0;
    for (int i = (int)threadIdx.x; i < blocks; i += THREADS)
        sum += partial[i];
    sum = block_fold<fold_sum>(sum);
    if (threadIdx.x == 0)
        operand_set(y, 0, sum / count);
}

int ld_cuda_loss(const ld_view *y, const ld_view *a, const ld_view *b, const ld_loss_spec *s) {
    int64_t n = ld_view_numel(a), wanted = (n + THREADS * AHEAD - 1) / (THREADS * AHEAD);
    int blocks = (int)(wanted < 1 ? 1 : wanted < BLOCKS ? wanted : (int64_t)BLOCKS);
    int bad = check_same("loss", "b", b, a->dtype);
    if (!bad)
        bad = check_float("loss", y->dtype);
    if (bad)
        return bad;
    double *partial = NULL;
    if (blocks > 1 && !(partial = (double *)ld_cuda_workspace((size_t)blocks * sizeof *partial, "loss")))
        return ld_cuda_workspace_missing();
    bad = ld_each_float(a->dtype, "loss", [&](auto t) {
        typedef decltype(t) T;
        return LD_LAUNCH(k_loss<T>, (unsigned)blocks, THREADS, 0, partial, operand_of(y), (const T *)a->data,
                         (const T *)b->data, *s, n);
    });
    if (!bad && partial)
        bad = LD_LAUNCH(k_loss_sum, 1, THREADS, 0, operand_of(y), partial, blocks, s->mean ? (double)n : 1.0);
    ld_cuda_workspace_done(partial);
    return bad;
}

template <typename T> struct sloping {
    enum { N = 3 }; /* one that is written, a, b: all laid out alike */
    typedef wide<T> W;
    T *da, *db;
    const T *a, *b;
    operand g;
    ld_loss_spec s;
    W share;
    template <int V> __device__ void run(const int64_t *at, const bool *same) const {
        W u[V], v[V], up = share * (W)operand_get(g, 0);
        load_wide<V>(u, a + at[1], same[1]);
        load_wide<V>(v, b + at[2], same[2]);
        for (int i = 0; i < V; i++)
            u[i] = up * slope_of<W>(s.kind, u[i] - v[i], (W)s.delta);
        if (da)
            store_narrow<V>(da + at[0], u);
        for (int i = 0; i < V; i++)
            u[i] = -u[i];
        if (db)
            store_narrow<V>(db + at[0], u);
    }
};

int ld_cuda_loss_bwd(const ld_view *da, const ld_view *db, const ld_view *g, const ld_view *a, const ld_view *b,
                     const ld_loss_spec *s) {
    const ld_view *views[] = {da ? da : db, a, b};
    int64_t n = ld_view_numel(a);
    if (!views[0] || n == 0)
        return 0;
    int bad = check_same("loss", "b", b, a->dtype);
    if (!bad)
        bad = check_float("loss", g->dtype);
    if (bad)
        return bad;
    return ld_each_float(a->dtype, "loss", [&](auto t) {
        typedef decltype(t) T;
        sloping<T> op = {(T *)data_of(da),
                         (T *)data_of(db),
                         (const T *)a->data,
                         (const T *)b->data,
                         operand_of(g),
                         *s,
                         (wide<T>)(s->mean ? 1 / (double)n : 1)};
        bool aligned = !(da && db) || (uintptr_t)db->data % 16 == 0;
        if (!aligned) /* the walk looks at the three views alone */
            return ld_map<1>(views, op);
        return ld_map<ld_lanes<T>::COUNT>(views, op);
    });
}
