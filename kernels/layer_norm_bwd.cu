/* Gradients of layer normalisation: dx = r (w g - mean(w g) - xhat mean(w g xhat)), dw = sum of g xhat, db = sum of g.
 *
 * dx: lanes hold a row of g and x (layer_norm.h). dw and db: sums of columns as in batch norm (norm.h), added up in double
 * in a fixed order. Memory traffic: g and x once and dx once; g and x once more for dw and db.
 * Test: tests/sim/test_sim_layer_norm.c. */
#include "kernels/layer_norm.h"
#include "kernels/norm.h"

template <typename T> struct layer_gradient {
    T *dx;
    const T *g, *x;
    const wide<T> *mean, *rstd;
    operand w;
};

template <typename T, int V, int K>
__global__ void __launch_bounds__(LAYER_THREADS, 2) k_layer_norm_dx(layer_shape z, layer_gradient<T> q) {
    typedef wide<T> A;
    layer_place at = layer_place_of(z);
    layer_row<T, V, K> x, g;
    A first = 0, second = 0, mean = at.there ? q.mean[at.row] : 0, r = at.there ? q.rstd[at.row] : 0;
    layer_load<T, V, K>(x, q.x, z, at);
    layer_load<T, V, K>(g, q.g, z, at);
    layer_each<V, K>(z, at, [&](int k, int64_t j) {
        pack<T, V> xs = layer_get<T, V, K>(x, k, j), gs = layer_get<T, V, K>(g, k, j);
        A w[V];
        operand_pack<A, V>(w, q.w, j, 1);
        for (int e = 0; e < V; e++) {
            A f = w[e] * widen(gs.v[e]);
            first += f;
            second += f * (widen(xs.v[e]) - mean);
        }
    });
    first = warp_fold<fold_sum>(first, z.lanes) / (A)z.c;
    second = warp_fold<fold_sum>(second, z.lanes) * r * r / (A)z.c;
    layer_each<V, K>(z, at, [&](int k, int64_t j) {
        pack<T, V> xs = layer_get<T, V, K>(x, k, j), gs = layer_get<T, V, K>(g, k, j);
        A w[V];
        operand_pack<A, V>(w, q.w, j, 1);
        for (int e = 0; e < V; e++)
            w[e] = r * (w[e] * widen(gs.v[e]) - first - (widen(xs.v[e]) - mean) * second);
        store_narrow<V>(q.dx + at.row * z.c + j, w);
    });
}

/* Sums of g xhat and of g of the columns of a part. */
template <typename T, int V>
__global__ void __launch_bounds__(NORM_THREADS) k_layer_norm_sums(norm_grid z, layer_gradient<T> q, wide<T> *partial) {
    typedef wide<T> A;
    norm_place at = norm_place_to_sum(z, V);
    A first[V], second[V];
    for (int k = 0; k < V; k++)
        first[k] = second[k] = 0;
    if (at.j < z.c) {
#pragma unroll 4
        for (int64_t row = at.from + at.y; row < at.to; row += z.ty) {
            pack<T, V> gs = load_pack<T, V>(q.g + row * z.c + at.j), xs = load_pack<T, V>(q.x + row * z.c + at.j);
            A mean = q.mean[row], r = q.rstd[row];
#pragma unroll
            for (int k = 0; k < V; k++) {
                A g = widen(gs.v[k]);
                first[k] += g * (widen(xs.v[k]) - mean) * r;
                second[k] += g;
            }
        }
    }
    norm_add_block<A, V>(z, at.y, first, second);
    if (at.y || at.j >= z.c)
        return;
    A *to = partial + at.part * 2 * z.c + at.j;
    for (int k = 0; k < V; k++) {
        to[k] = first[k];
        to[z.c + k] = second[k];
    }
}

/* The parts added up: dw and db of some columns a block. */
template <typename A> __global__ void __launch_bounds__(SET_THREADS, 1) k_layer_norm_affine(norm_call q) {
    LD_SHARED(double, room, [SET_THREADS]);
    norm_set s = norm_set_of(q);
    int64_t j = s.j0 + s.x;
    norm_merge<A, false>(q, s, room);
    if (s.y || j >= s.j1)
        return;
    if (q.dw.data)
        operand_set(q.dw, j, q.sums[j]);
    if (q.db.data)
        operand_set(q.db, j, q.sums[q.z.c + j]);
}

template <typename T> static int layer_run_affine(norm_call q, const layer_gradient<T> &d) {
    typedef wide<T> A;
    enum { V = 16 / sizeof(T) };
    int err = 0;
    if (q.z.p)
        err = q.packs ? LD_LAUNCH((k_layer_norm_sums<T, V>), norm_blocks(q.z), NORM_THREADS, 0, q.z, d, (A *)q.partial)
                      : LD_LAUNCH((k_layer_norm_sums<T, 1>), norm_blocks(q.z), NORM_THREADS, 0, q.z, d, (A *)q.partial);
    q.z.parts = q.z.p ? q.z.parts : 0;
    return err ? err : LD_LAUNCH(k_layer_norm_affine<A>, norm_set_blocks(q), norm_set_threads(q), 0, q);
}

static int layer_check_bwd(const ld_view *dx, const ld_view *dw, const ld_view *db, const ld_view *g, const ld_view *x,
                           const ld_view *mean, const ld_view *rstd, const ld_view *w) {
    static const char who[] = "layer_norm";
    ld_dtype t = x->dtype, s = statistics_dtype(t);
    int err = check_float(who, t);
    err = err ? err : check_same(who, "dx", dx, t);
    err = err ? err : check_same(who, "the gradient", g, t);
    err = err ? err : check_same(who, "mean", mean, s);
    err = err ? err : check_same(who, "rstd", rstd, s);
    err = err ? err : check_small(who, "weight", w, t);
    err = err ? err : check_small(who, "dw", dw, t);
    return err ? err : check_small(who, "db", db, t);
}

int ld_cuda_layer_norm_bwd(const ld_view *dx, const ld_view *dw, const ld_view *db, const ld_view *g, const ld_view *x,
                           const ld_view *mean, const ld_view *rstd, const ld_view *w) {
    static const char who[] = "layer_norm";
    layer_shape z = {x->shape[0], x->shape[1], 1};
    int err = layer_check_bwd(dx, dw, db, g, x, mean, rstd, w);
    if (err || !z.c)
        return err;
    bool packs = fits_packs(x, z.c) && fits_packs(g, z.c) && fits_packs(dx, z.c) && (uintptr_t)data_of(w) % 16 == 0;
    norm_call q;
    memset(&q, 0, sizeof q);
    q.z.n = 1;
    q.z.p = z.rows;
    q.z.c = z.c;
    q.size = 1;
    q.x = operand_of(x);
    q.dw = operand_of(dw);
    q.db = operand_of(db);
    err = norm_begin(&q, packs, NORM_SUMS, who);
    if (err || !q.sums)
        return err;
    err = ld_each_float(x->dtype, who, [&](auto type) {
        typedef decltype(type) T;
        layer_gradient<T> d = {(T *)data_of(dx),
                               (const T *)g->data,
                               (const T *)x->data,
                               (const wide<T> *)mean->data,
                               (const wide<T> *)rstd->data,
                               operand_of(w)};
        int bad = 0;
        if (dx && z.rows)
            bad = layer_each_width<T>(z, packs, [&](const layer_shape &s, auto v, auto k) {
                return LD_LAUNCH((k_layer_norm_dx<T, decltype(v)::value, decltype(k)::value>), layer_blocks(s),
                                 LAYER_THREADS, 0, s, d);
            });
        return !bad && (dw || db) ? layer_run_affine<T>(q, d) : bad;
    });
    ld_cuda_workspace_done(q.sums);
    return err;
}
