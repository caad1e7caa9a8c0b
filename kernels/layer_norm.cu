/* Layer normalisation of each row of (M,C): y = (x - mean) / sqrt(var + eps) w + b.
 *
 * The deviations are taken from the mean as it is first found, and what that lacks is added; what rounding the mean to its
 * dtype takes away is added back (csrc/backend/cpu/norm_rows.h). Memory traffic: x once and y once, for rows up to 4 packs a
 * lane (layer_norm.h); longer ones are read three times, from the cache. w and b stay in the cache. Parallel over rows.
 * Test: tests/sim/test_sim_layer_norm.c. */
#include "kernels/layer_norm.h"

template <typename T> struct layer_call {
    T *y;
    wide<T> *mean, *rstd;
    const T *x;
    operand w, b;
    double eps;
};

template <typename T, int V, int K>
__global__ void __launch_bounds__(LAYER_THREADS, 2) k_layer_norm(layer_shape z, layer_call<T> q) {
    typedef wide<T> A;
    layer_place at = layer_place_of(z);
    layer_row<T, V, K> x;
    A sum = 0, rest = 0, square = 0, count = (A)z.c;
    layer_load<T, V, K>(x, q.x, z, at);
    layer_each<V, K>(z, at, [&](int k, int64_t j) {
        pack<T, V> in = layer_get<T, V, K>(x, k, j);
        for (int e = 0; e < V; e++)
            sum += widen(in.v[e]);
    });
    A centre = warp_fold<fold_sum>(sum, z.lanes) / count;
    layer_each<V, K>(z, at, [&](int k, int64_t j) {
        pack<T, V> in = layer_get<T, V, K>(x, k, j);
        for (int e = 0; e < V; e++) {
            A d = widen(in.v[e]) - centre;
            rest += d;
            square += d * d;
        }
    });
    rest = warp_fold<fold_sum>(rest, z.lanes) / count;
    square = warp_fold<fold_sum>(square, z.lanes) / count;
    A mean = centre + rest, lost = (centre - mean) + rest;
    A r = 1 / sqrt(square - rest * rest + (A)q.eps);
    layer_each<V, K>(z, at, [&](int k, int64_t j) {
        pack<T, V> in = layer_get<T, V, K>(x, k, j);
        A w[V], b[V];
        operand_pack<A, V>(w, q.w, j, 1);
        operand_pack<A, V>(b, q.b, j, 0);
        for (int e = 0; e < V; e++)
            w[e] = (widen(in.v[e]) - mean - lost) * r * w[e] + b[e];
        store_narrow<V>(q.y + at.row * z.c + j, w);
    });
    if (at.there && !at.lane) {
        q.mean[at.row] = mean;
        q.rstd[at.row] = r;
    }
}

int ld_cuda_layer_norm(const ld_view *y, const ld_view *mean, const ld_view *rstd, const ld_view *x, const ld_view *w,
                       const ld_view *b, double eps) {
    static const char who[] = "layer_norm";
    layer_shape z = {x->shape[0], x->shape[1], 1};
    ld_dtype t = x->dtype;
    int err = check_float(who, t);
    err = err ? err : check_same(who, "y", y, t);
    err = err ? err : check_same(who, "mean", mean, statistics_dtype(t));
    err = err ? err : check_same(who, "rstd", rstd, statistics_dtype(t));
    err = err ? err : check_small(who, "weight", w, t);
    err = err ? err : check_small(who, "bias", b, t);
    if (err)
        return err;
    bool packs =
        fits_packs(x, z.c) && fits_packs(y, z.c) && (uintptr_t)data_of(w) % 16 == 0 && (uintptr_t)data_of(b) % 16 == 0;
    void *block = ld_cuda_workspace(16, who); /* needs none, but a plan ends a slot here */
    if (!block)
        return ld_cuda_workspace_missing();
    if (z.rows)
        err = ld_each_float(t, who, [&](auto type) {
            typedef decltype(type) T;
            layer_call<T> q = {(T *)y->data,
                               (wide<T> *)mean->data,
                               (wide<T> *)rstd->data,
                               (const T *)x->data,
                               operand_of(w),
                               operand_of(b),
                               eps};
            return layer_each_width<T>(z, packs, [&](const layer_shape &s, auto v, auto k) {
                return LD_LAUNCH((k_layer_norm<T, decltype(v)::value, decltype(k)::value>), layer_blocks(s),
                                 LAYER_THREADS, 0, s, q);
            });
        });
    ld_cuda_workspace_done(block);
    return err;
}
