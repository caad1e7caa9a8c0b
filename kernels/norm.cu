/* Batch and group normalisation: y = act((u - mean) / sqrt(var + eps) w + b), u = (1 + scale) x + shift.
 *
 * Three launches. (1) x is read for mean and squared deviations of each column of each part. Values are taken from the
 * column's first one, and 8 rows at a time are centred about their own mean and merged by Chan's formula, so a mean far
 * from 0 costs nothing; a first value far from the others counts as much in the variance as in the rounding. (2) Sums of
 * parts become statistics of sets, in double, as u's follow from x's: with f = 1 + scale, u has the mean f m + shift and
 * deviations f^2 dev. (3) x is read again and y written, y = act((x - centre) a + b). With given statistics (1) is left
 * out; again, with kept ones, (1) and (2) are: y then comes out of the same instructions.
 * Memory traffic: x twice (the second time from the L2 cache where it fits), y once. Parallel over parts of rows and tiles
 * of columns; no atomics. Test: tests/sim/test_sim_norm.c. */
#include "kernels/norm.h"

/* ---- 1: statistics of parts -------------------------------------------------------------------------------------- */

/* mean, dev of `count` rows, and M rows more. */
template <typename T, int V, int M>
LD_DEVICE void norm_take(wide<T> *mean, wide<T> *dev, int count, const T *x, int64_t step, const wide<T> *pivot) {
    typedef wide<T> A;
    pack<T, V> v[M];
#pragma unroll
    for (int i = 0; i < M; i++)
        v[i] = load_pack<T, V>(x + i * step);
    A share = (A)M / (A)(count + M), weight = share * (A)count;
#pragma unroll
    for (int k = 0; k < V; k++) {
        A mu = 0, square = 0;
#pragma unroll
        for (int i = 0; i < M; i++)
            mu += widen(v[i].v[k]) - pivot[k];
        mu *= (A)1 / M;
#pragma unroll
        for (int i = 0; i < M; i++) {
            A d = widen(v[i].v[k]) - pivot[k] - mu;
            square += d * d;
        }
        A delta = mu - mean[k];
        mean[k] += delta * share;
        dev[k] += square + delta * delta * weight;
    }
}

/* The threads along y merged into the first, pair by pair. */
template <typename A, int V> LD_DEVICE void norm_merge_block(const norm_grid &z, int y, A *mean, A *dev, int count) {
    LD_SHARED(A, means, [V * NORM_THREADS]);
    LD_SHARED(A, devs, [V * NORM_THREADS]);
    LD_SHARED(int, counts, [NORM_THREADS]);
    int tid = (int)threadIdx.x;
    for (int k = 0; k < V; k++) {
        means[k * NORM_THREADS + tid] = mean[k];
        devs[k * NORM_THREADS + tid] = dev[k];
    }
    counts[tid] = count;
    __syncthreads();
    for (int half = z.ty / 2; half; half /= 2) {
        int m = y < half ? counts[tid + half * z.tx] : 0;
        if (m) {
            int before = counts[tid];
            A share = (A)m / (A)(before + m), weight = share * (A)before;
            for (int k = 0; k < V; k++) {
                int at = k * NORM_THREADS + tid, other = at + half * z.tx;
                A delta = means[other] - means[at];
                means[at] += delta * share;
                devs[at] += devs[other] + delta * delta * weight;
            }
            counts[tid] = before + m;
        }
        __syncthreads();
    }
    for (int k = 0; k < V; k++) {
        mean[k] = means[k * NORM_THREADS + tid];
        dev[k] = devs[k * NORM_THREADS + tid];
    }
}

template <typename T, int V>
__global__ void __launch_bounds__(NORM_THREADS) k_norm_stats(norm_grid z, const T *x, wide<T> *partial) {
    typedef wide<T> A;
    norm_place at = norm_place_to_sum(z, V);
    A mean[V], dev[V], pivot[V];
    int count = 0;
    for (int k = 0; k < V; k++)
        mean[k] = dev[k] = pivot[k] = 0;
    if (at.j < z.c) {
        pack<T, V> first = load_pack<T, V>(x + at.n * z.p * z.c + at.j);
        for (int k = 0; k < V; k++)
            pivot[k] = widen(first.v[k]);
        const T *column = x + at.n * z.p * z.c + at.j;
        int64_t r = at.from + at.y, step = z.ty * z.c;
        for (; r + (NORM_CHUNK - 1) * z.ty < at.to; r += NORM_CHUNK * z.ty, count += NORM_CHUNK)
            norm_take<T, V, NORM_CHUNK>(mean, dev, count, column + r * z.c, step, pivot);
        for (; r < at.to; r += z.ty, count++)
            norm_take<T, V, 1>(mean, dev, count, column + r * z.c, step, pivot);
    }
    norm_merge_block<A, V>(z, at.y, mean, dev, count);
    if (at.y || at.j >= z.c)
        return;
    A *to = partial + (at.n * z.parts + at.part) * 2 * z.c + at.j;
    for (int k = 0; k < V; k++) {
        to[k] = mean[k];
        to[z.c + k] = dev[k];
    }
}

/* ---- 2: statistics of sets --------------------------------------------------------------------------------------- */

/* Mean and deviations of x's column in place of the sums about its first value. */
LD_DEVICE void norm_unshift(const norm_call &q, int64_t n, int64_t j) {
    double p = (double)q.z.p, *first = q.sums + n * 2 * q.z.c + j, *second = first + q.z.c;
    double mean = p > 0 ? *first / p : 0, dev = *second - *first * mean;
    *first = p > 0 ? mean + operand_get(q.x, n * q.z.p * q.z.c + j) : 0;
    *second = dev > 0 ? dev : dev < 0 ? 0 : dev;
}

/* A centre for constants: where u is their mean, unless a small f would put it far from every x. */
LD_DEVICE double norm_given_centre(double f, double h, double mean) {
    return fabs(f) < 0.1 ? 0 : (mean - h) / f;
}

/* What is kept of sample n and column j of a set with these statistics. */
template <typename A> LD_DEVICE void norm_keep(const norm_call &q, int64_t n, int64_t j, double mean, A r) {
    double f = norm_factor(q, n, j), h = norm_shift(q, n, j), p = (double)q.z.p;
    double m = q.given ? norm_given_centre(f, h, mean) : q.sums[n * 2 * q.z.c + j];
    A centre = (A)m;
    norm_row<A>(q, n, STAT_CENTRE)[j] = centre;
    norm_row<A>(q, n, STAT_OFFSET)[j] = (A)(f * (double)centre + h - mean);
    norm_row<A>(q, n, STAT_R)[j] = r;
    if (q.film.data) { /* not read where the statistics are constants */
        double rest = m - (double)centre, dev = q.given ? 0 : q.sums[(n * 2 + 1) * q.z.c + j];
        norm_row<A>(q, n, STAT_REST)[j] = (A)rest;
        norm_row<A>(q, n, STAT_SQUARE)[j] = (A)(p > 0 ? dev / p + rest * rest : 0);
    }
}

template <typename A> __global__ void __launch_bounds__(SET_THREADS, 1) k_norm_sets(norm_call q) {
    LD_SHARED(double, room, [SET_THREADS]);
    norm_set s = norm_set_of(q);
    double mean = 0, var = 0, columns = (double)((s.n1 - s.n0) * (s.whole ? q.size : 1)), p = (double)q.z.p;
    int64_t column = s.j0 + s.x < s.j1 ? s.j0 + s.x : s.j0; /* of batch norm */
    if (q.given) {
        mean = (double)((const A *)q.mean)[column];
        var = (double)((const A *)q.var)[column];
    } else if (q.step == NORM_REST) {
        mean = q.joined[column];
        var = q.joined[q.z.c + column];
    } else {
        norm_merge<A, true>(q, s, room);
        norm_each(s, [&](int64_t n, int64_t j) {
            norm_unshift(q, n, j);
            mean += (norm_factor(q, n, j) * q.sums[n * 2 * q.z.c + j] + norm_shift(q, n, j)) / columns;
        });
        mean = norm_reduce(s, mean, room);
        norm_each(s, [&](int64_t n, int64_t j) {
            double f = norm_factor(q, n, j), delta = f * q.sums[n * 2 * q.z.c + j] + norm_shift(q, n, j) - mean;
            var += f * f * q.sums[(n * 2 + 1) * q.z.c + j] + p * delta * delta;
        });
        var = norm_reduce(s, var, room);
        var = columns * p > 0 ? var / (columns * p) : 0;
    }
    bool writes = !s.y && s.j0 + s.x < s.j1;
    if (q.step == NORM_MEASURE) {
        if (writes) {
            q.joined[column] = mean;
            q.joined[q.z.c + column] = var;
        }
        return;
    }
    if (!q.given && q.mean && writes) {
        ((A *)q.mean)[column] = (A)mean;
        ((A *)q.var)[column] = (A)var;
    }
    A r = (A)(1 / sqrt(var + q.eps));
    norm_each(s, [&](int64_t n, int64_t j) { norm_keep<A>(q, n, j, mean, r); });
}

/* ---- 3: the map -------------------------------------------------------------------------------------------------- */

template <typename T, int V> __global__ void __launch_bounds__(NORM_THREADS) k_norm(norm_call q, T *y, const T *x) {
    typedef wide<T> A;
    norm_place at = norm_place_of(q.z, V, blockIdx.x);
    if (at.j >= q.z.c)
        return;
    norm_map<A> m[V];
    norm_map_of<A, V>(m, q, at.n, at.j);
    int64_t base = at.n * q.z.p * q.z.c + at.j;
#pragma unroll 4
    for (int64_t r = at.from + at.y; r < at.to; r += q.z.ty) {
        pack<T, V> in = load_pack<T, V>(x + base + r * q.z.c);
        A v[V];
#pragma unroll
        for (int k = 0; k < V; k++)
            v[k] = (widen(in.v[k]) - m[k].centre) * m[k].a + m[k].b;
        norm_act<A, V>(v, q.act, (A)q.slope, (A)q.sub);
        store_narrow<V>(y + base + r * q.z.c, v);
    }
}

/* ---- the slot ---------------------------------------------------------------------------------------------------- */

/* Statistics of sets: by one launch, or before and after other ranks are heard. */
template <typename A> static int norm_sets(norm_call q, ld_norm_join *join) {
    int err = 0;
    if (join) {
        q.step = NORM_MEASURE;
        err = LD_LAUNCH((k_norm_sets<A>), norm_set_blocks(q), norm_set_threads(q), 0, q);
        err = err ? err : norm_join(&q, join);
        q.step = NORM_REST;
    }
    return err ? err : LD_LAUNCH((k_norm_sets<A>), norm_set_blocks(q), norm_set_threads(q), 0, q);
}

template <typename T, int V>
static int norm_run(norm_call q, const ld_view *y, const ld_view *x, const ld_norm_spec *s) {
    typedef wide<T> A;
    bool again = s->again;
    unsigned blocks = norm_blocks(q.z);
    bool empty = !q.z.n || !q.z.p;
    int err = 0;
    if (!again && !q.given && !empty)
        err = LD_LAUNCH((k_norm_stats<T, V>), blocks, NORM_THREADS, 0, q.z, (const T *)x->data, (A *)q.partial);
    q.z.parts = empty ? 0 : q.z.parts;
    if (!err && !again && norm_set_blocks(q))
        err = norm_sets<A>(q, s->join);
    if (!err && !empty)
        err = LD_LAUNCH((k_norm<T, V>), blocks, NORM_THREADS, 0, q, (T *)y->data, (const T *)x->data);
    return err;
}

int ld_cuda_norm(const ld_view *y, const ld_view *stats, const ld_view *mean, const ld_view *var, const ld_view *x,
                 const ld_view *film, const ld_view *w, const ld_view *b, const ld_norm_spec *s) {
    norm_call q = norm_call_of(x, stats, film, w, b, s);
    const char *who = norm_name(s);
    int err = norm_check(who, x, stats, film, w, b);
    err = err ? err : check_same(who, "y", y, x->dtype);
    err = err ? err : check_same(who, "mean", mean, statistics_dtype(x->dtype));
    err = err ? err : check_same(who, "var", var, statistics_dtype(x->dtype));
    if (err || !q.z.c)
        return err;
    q.mean = data_of(mean);
    q.var = data_of(var);
    bool packs = fits_packs(x, q.z.c) && fits_packs(y, q.z.c);
    err = norm_begin(&q, packs, s->again || s->given ? NORM_MAP : NORM_SUMS, who);
    if (err || !q.sums)
        return err;
    err = ld_each_float(x->dtype, who, [&](auto t) {
        typedef decltype(t) T;
        return q.packs ? norm_run<T, 16 / sizeof(T)>(q, y, x, s) : norm_run<T, 1>(q, y, x, s);
    });
    ld_cuda_workspace_done(q.sums);
    return err;
}
