/* Gradients of batch and group normalisation (norm.cu; the formulas are those of csrc/backend/cpu/norm_sets.h).
 *
 * With dz = g act'((x - centre) a + b): (1) g and x are read for the sums of dz and dz (x - centre) of each column of each
 * part; (2) sums of parts become the coefficients of dx, and the gradients of FiLM, weight and bias, in double; (3) g and x
 * are read again, dz is computed again, and dx = c0 dz + (x - centre) c1 + c2 is written. Memory traffic: g and x twice, dx
 * once, 5 passes, where storing dz would make 6; without dx, g and x once.
 * Parallel over parts of rows and tiles of columns; no atomics. Test: tests/sim/test_sim_norm.c. */
#include "kernels/norm.h"

/* dz of V columns from g, and e = x - centre. */
template <typename T, int V>
LD_DEVICE void norm_dz(wide<T> *dz, wide<T> *e, const pack<T, V> &g, const pack<T, V> &x, const norm_map<wide<T>> *m,
                       const norm_call &q) {
    wide<T> v[V];
#pragma unroll
    for (int k = 0; k < V; k++) {
        dz[k] = widen(g.v[k]);
        e[k] = widen(x.v[k]) - m[k].centre;
        v[k] = e[k] * m[k].a + m[k].b;
    }
    norm_act_bwd<wide<T>, V>(dz, v, q.act, (wide<T>)q.slope);
}

/* ---- 1: sums of parts ---------------------------------------------------------------------------------------------------- */

/* The sums of M rows are added to the thread's by one addition each, so that long columns round less. */
template <typename T, int V, int M>
LD_DEVICE void norm_grad_rows(wide<T> *first, wide<T> *second, const T *g, const T *x, int64_t step,
                              const norm_map<wide<T>> *m, const norm_call &q) {
    pack<T, V> gs[M], xs[M];
    wide<T> one[V], two[V], dz[V], e[V];
#pragma unroll
    for (int k = 0; k < V; k++)
        one[k] = two[k] = 0;
#pragma unroll
    for (int i = 0; i < M; i++) {
        gs[i] = load_pack<T, V>(g + i * step);
        xs[i] = load_pack<T, V>(x + i * step);
    }
#pragma unroll
    for (int i = 0; i < M; i++) {
        norm_dz<T, V>(dz, e, gs[i], xs[i], m, q);
#pragma unroll
        for (int k = 0; k < V; k++) {
            one[k] += dz[k];
            two[k] += dz[k] * e[k];
        }
    }
#pragma unroll
    for (int k = 0; k < V; k++) {
        first[k] += one[k];
        second[k] += two[k];
    }
}

template <typename T, int V>
__global__ void __launch_bounds__(NORM_THREADS, 2) k_norm_grads(norm_call q, const T *g, const T *x, wide<T> *partial) {
    typedef wide<T> A;
    enum { ROWS = NORM_CHUNK / 2 };
    norm_place at = norm_place_to_sum(q.z, V);
    int64_t c = q.z.c;
    A first[V], second[V];
    for (int k = 0; k < V; k++)
        first[k] = second[k] = 0;
    if (at.j < c) {
        norm_map<A> m[V];
        norm_map_of<A, V>(m, q, at.n, at.j);
        int64_t base = at.n * q.z.p * c + at.j, r = at.from + at.y, step = q.z.ty * c;
        for (; r + (ROWS - 1) * q.z.ty < at.to; r += ROWS * q.z.ty)
            norm_grad_rows<T, V, ROWS>(first, second, g + base + r * c, x + base + r * c, step, m, q);
        for (; r < at.to; r += q.z.ty)
            norm_grad_rows<T, V, 1>(first, second, g + base + r * c, x + base + r * c, step, m, q);
    }
    norm_add_block<A, V>(q.z, at.y, first, second);
    if (at.y || at.j >= c)
        return;
    A *to = partial + (at.n * q.z.parts + at.part) * 2 * c + at.j;
    for (int k = 0; k < V; k++) {
        to[k] = first[k];
        to[c + k] = second[k];
    }
}

/* ---- 2: what sets make of them ------------------------------------------------------------------------------------------- */

/* sum of dz xhat of one sample and channel */
template <typename A> LD_DEVICE double norm_hat_sum(const norm_call &q, int64_t n, int64_t j) {
    const double *s = q.sums + n * 2 * q.z.c + j;
    double f = norm_factor(q, n, j), o = (double)norm_row<A>(q, n, STAT_OFFSET)[j];
    return (double)norm_row<A>(q, n, STAT_R)[j] * (f * s[q.z.c] + o * s[0]);
}

/* Gradients of scale and shift: sums of du x and du over the positions, du = r (w dz - g1 - xhat g2). */
template <typename A> LD_DEVICE void norm_film_bwd(const norm_call &q, int64_t n, int64_t j, double g1, double g2) {
    const double *s = q.sums + n * 2 * q.z.c + j;
    double f = norm_factor(q, n, j), o = (double)norm_row<A>(q, n, STAT_OFFSET)[j];
    double r = (double)norm_row<A>(q, n, STAT_R)[j], rest = (double)norm_row<A>(q, n, STAT_REST)[j];
    double square = (double)norm_row<A>(q, n, STAT_SQUARE)[j], w = norm_weight(q, j), p = (double)q.z.p;
    double du = r * (w * s[0] - p * (g1 + g2 * r * (f * rest + o)));
    double du_e = r * (w * s[q.z.c] - p * (g1 * rest + g2 * r * (f * square + o * rest)));
    operand_set(q.dfilm, n * 2 * q.z.c + j, du_e + (double)norm_row<A>(q, n, STAT_CENTRE)[j] * du);
    operand_set(q.dfilm, (n * 2 + 1) * q.z.c + j, du);
}

/* The coefficients of dx = f du. */
template <typename A> LD_DEVICE void norm_coefs(const norm_call &q, int64_t n, int64_t j, double g1, double g2) {
    double f = norm_factor(q, n, j), r = (double)norm_row<A>(q, n, STAT_R)[j];
    double o = (double)norm_row<A>(q, n, STAT_OFFSET)[j];
    A *to = (A *)q.coef + n * q.z.c + j;
    int64_t next = q.z.n * q.z.c;
    to[0] = (A)(f * r * norm_weight(q, j));
    to[next] = (A)(-f * f * r * r * g2);
    to[2 * next] = (A)(-f * r * (g1 + r * g2 * o));
}

/* Gradients of weight and bias from a column's sums of hat and dz. */
LD_DEVICE void norm_affine(const norm_call &q, int64_t j, double hat, double dz) {
    if (q.dw.data)
        operand_set(q.dw, j, hat);
    if (q.db.data)
        operand_set(q.db, j, dz);
}

/* With the statistics constants, g1 = g2 = 0. Of batch norm, whose sets are columns, weight and bias come out too. */
template <typename A> __global__ void __launch_bounds__(SET_THREADS, 1) k_norm_sets_bwd(norm_call q) {
    LD_SHARED(double, room, [SET_THREADS]);
    norm_set s = norm_set_of(q);
    double g1 = 0, g2 = 0, columns = (double)((s.n1 - s.n0) * (s.whole ? q.size : 1)), count = columns * (double)q.z.p;
    if (q.step != NORM_REST)
        norm_merge<A, false>(q, s, room);
    norm_each(s, [&](int64_t n, int64_t j) {
        double w = s.whole ? norm_weight(q, j) : 1; /* of a column it is the same for all */
        g1 += w * q.sums[n * 2 * q.z.c + j];
        g2 += w * norm_hat_sum<A>(q, n, j);
    });
    g1 = norm_reduce(s, g1, room);
    g2 = norm_reduce(s, g2, room);
    if (!s.whole && s.j0 + s.x < s.j1) {
        double w = norm_weight(q, s.j0 + s.x), *joined = q.joined + s.j0 + s.x;
        if (!s.y && q.step != NORM_REST)
            norm_affine(q, s.j0 + s.x, g2, g1);
        if (!s.y && q.step == NORM_MEASURE) {
            joined[0] = g1;
            joined[q.z.c] = g2;
        }
        if (q.step == NORM_REST) {
            g1 = joined[0];
            g2 = joined[q.z.c];
            count = q.rows;
        }
        g1 *= w;
        g2 *= w;
    }
    if (q.step == NORM_MEASURE)
        return;
    g1 = q.given || !(count > 0) ? 0 : g1 / count;
    g2 = q.given || !(count > 0) ? 0 : g2 / count;
    norm_each(s, [&](int64_t n, int64_t j) {
        norm_coefs<A>(q, n, j, g1, g2);
        if (q.dfilm.data)
            norm_film_bwd<A>(q, n, j, g1, g2);
    });
}

/* Of group norm: weight and bias, a block for some columns of all samples, after k_norm_sets_bwd; q as for batch norm. */
template <typename A> __global__ void __launch_bounds__(SET_THREADS, 1) k_norm_affine(norm_call q) {
    LD_SHARED(double, room, [SET_THREADS]);
    norm_set s = norm_set_of(q);
    double dz = 0, hat = 0;
    norm_each(s, [&](int64_t n, int64_t j) {
        dz += q.sums[n * 2 * q.z.c + j];
        hat += norm_hat_sum<A>(q, n, j);
    });
    dz = norm_reduce(s, dz, room);
    hat = norm_reduce(s, hat, room);
    if (!s.y && s.j0 + s.x < s.j1)
        norm_affine(q, s.j0 + s.x, hat, dz);
}

/* ---- 3: the map ---------------------------------------------------------------------------------------------------------- */

template <typename T, int V>
__global__ void __launch_bounds__(NORM_THREADS) k_norm_bwd(norm_call q, T *dx, const T *g, const T *x) {
    typedef wide<T> A;
    norm_place at = norm_place_of(q.z, V, blockIdx.x);
    int64_t c = q.z.c;
    if (at.j >= c)
        return;
    norm_map<A> m[V];
    A c0[V], c1[V], c2[V];
    norm_map_of<A, V>(m, q, at.n, at.j);
    for (int k = 0; k < V; k++) {
        const A *coef = (const A *)q.coef + at.n * c + at.j + k;
        c0[k] = coef[0];
        c1[k] = coef[q.z.n * c];
        c2[k] = coef[2 * q.z.n * c];
    }
    int64_t base = at.n * q.z.p * c + at.j;
#pragma unroll 2
    for (int64_t r = at.from + at.y; r < at.to; r += q.z.ty) {
        A dz[V], e[V];
        norm_dz<T, V>(dz, e, load_pack<T, V>(g + base + r * c), load_pack<T, V>(x + base + r * c), m, q);
#pragma unroll
        for (int k = 0; k < V; k++)
            dz[k] = c0[k] * dz[k] + (e[k] * c1[k] + c2[k]);
        store_narrow<V>(dx + base + r * c, dz);
    }
}

/* ---- the slot -------------------------------------------------------------------------------------------------------------- */

/* Coefficients and gradients of sets: by one launch, or before and after other ranks are heard. */
template <typename A> static int norm_sets_bwd(norm_call q, ld_norm_join *join) {
    int err = 0;
    if (join) {
        q.step = NORM_MEASURE;
        err = LD_LAUNCH((k_norm_sets_bwd<A>), norm_set_blocks(q), norm_set_threads(q), 0, q);
        err = err ? err : norm_join(&q, join);
        q.step = NORM_REST;
        q.rows = join->rows;
    }
    return err ? err : LD_LAUNCH((k_norm_sets_bwd<A>), norm_set_blocks(q), norm_set_threads(q), 0, q);
}

template <typename T, int V>
static int norm_run_bwd(norm_call q, const ld_view *dx, const ld_view *g, const ld_view *x, ld_norm_join *join) {
    typedef wide<T> A;
    unsigned blocks = norm_blocks(q.z);
    bool empty = !q.z.n || !q.z.p;
    int err = empty ? 0
                    : LD_LAUNCH((k_norm_grads<T, V>), blocks, NORM_THREADS, 0, q, (const T *)g->data,
                                (const T *)x->data, (A *)q.partial);
    q.z.parts = empty ? 0 : q.z.parts;
    if (!err && norm_set_blocks(q))
        err = norm_sets_bwd<A>(q, join);
    if (!err && q.groups && (q.dw.data || q.db.data)) {
        norm_call columns = q;
        columns.groups = 0;
        err = LD_LAUNCH((k_norm_affine<A>), norm_set_blocks(columns), norm_set_threads(columns), 0, columns);
    }
    if (!err && dx && !empty)
        err = LD_LAUNCH((k_norm_bwd<T, V>), blocks, NORM_THREADS, 0, q, (T *)dx->data, (const T *)g->data,
                        (const T *)x->data);
    return err;
}

int ld_cuda_norm_bwd(const ld_view *dx, const ld_view *dfilm, const ld_view *dw, const ld_view *db, const ld_view *g,
                     const ld_view *x, const ld_view *stats, const ld_view *film, const ld_view *w, const ld_view *b,
                     const ld_norm_spec *s) {
    norm_call q = norm_call_of(x, stats, film, w, b, s);
    const char *who = norm_name(s);
    int err = norm_check(who, x, stats, film, w, b);
    err = err ? err : check_same(who, "the gradient", g, x->dtype);
    err = err ? err : check_same(who, "dx", dx, x->dtype);
    err = err ? err : check_small(who, "dfilm", dfilm, x->dtype);
    err = err ? err : check_small(who, "dw", dw, x->dtype);
    err = err ? err : check_small(who, "db", db, x->dtype);
    if (err || !q.z.c)
        return err;
    q.dfilm = operand_of(dfilm);
    q.dw = operand_of(dw);
    q.db = operand_of(db);
    bool packs = fits_packs(x, q.z.c) && fits_packs(g, q.z.c) && fits_packs(dx, q.z.c);
    err = norm_begin(&q, packs, NORM_COEFS, who);
    if (err || !q.sums)
        return err;
    err = ld_each_float(x->dtype, who, [&](auto t) {
        typedef decltype(t) T;
        return q.packs ? norm_run_bwd<T, 16 / sizeof(T)>(q, dx, g, x, s->join)
                       : norm_run_bwd<T, 1>(q, dx, g, x, s->join);
    });
    ld_cuda_workspace_done(q.sums);
    return err;
}
