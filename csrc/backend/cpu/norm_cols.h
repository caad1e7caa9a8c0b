/* Template: the passes of batch and group normalisation over columns, for one dtype. Include with T (float or double),
 * FN(name) and FN_BODY(name) set.
 *
 * Tensors are (n, p, c), c innermost; a sample's p rows are split into `parts` runs of rows (a number that depends on
 * the sizes only), each summed in blocks of BLOCK rows in T, the blocks and then the parts in double, in order:
 * results do not depend on the number of threads. centre, a, b, d are vectors of c coefficients. */

/* Mean and sum of squared deviations of each of c columns over m rows; t has room for 3 c. Blocks are merged by Chan's
 * formula, so a large mean costs no accuracy. */
LD_BODY void FN_BODY(col_stats)(double *mean, double *dev, const T *x, int64_t m, int64_t c, T *t) {
    T *centre = t, *rest = t + c, *square = t + 2 * c;
    for (int64_t r0 = 0; r0 < m; r0 += BLOCK) {
        int64_t n = m - r0 < BLOCK ? m - r0 : BLOCK;
        T inv = 1 / (T)n;
        for (int64_t j = 0; j < c; j++)
            centre[j] = rest[j] = square[j] = 0;
        for (int64_t r = r0; r < r0 + n; r++) {
            const T *row = x + r * c;
#pragma omp simd
            for (int64_t j = 0; j < c; j++)
                centre[j] += row[j];
        }
#pragma omp simd
        for (int64_t j = 0; j < c; j++)
            centre[j] *= inv;
        for (int64_t r = r0; r < r0 + n; r++) {
            const T *row = x + r * c;
#pragma omp simd
            for (int64_t j = 0; j < c; j++) {
                T d = row[j] - centre[j];
                rest[j] += d;
                square[j] += d * d;
            }
        }
        double share = (double)n / (double)(r0 + n), weight = share * (double)r0, inv_n = 1 / (double)n;
#pragma omp simd
        for (int64_t j = 0; j < c; j++) {
            double delta = (double)centre[j] + (double)rest[j] * inv_n - mean[j];
            mean[j] += delta * share;
            dev[j] += (double)square[j] - (double)rest[j] * (double)rest[j] * inv_n + delta * delta * weight;
        }
    }
}
LD_VERSIONS(FN(col_stats), (double *mean, double *dev, const T *x, int64_t m, int64_t c, T *t), (mean, dev, x, m, c, t))

/* ---- the activation ---------------------------------------------------------------------------------------------- */

LD_BODY T FN_BODY(act)(T v, ld_norm_act act, T slope, T sub) {
    if (act == LD_NORM_SILU)
        return v * FN(sigmoid)(v);
    if (act == LD_NORM_RELU)
        return v < 0 ? 0 : v;
    return act == LD_NORM_LEAKY ? (v > 0 ? v : slope * v) - sub : v;
}

/* g times the activation's slope at v */
LD_BODY T FN_BODY(act_bwd)(T g, T v, ld_norm_act act, T slope) {
    if (act == LD_NORM_SILU) {
        T s = FN(sigmoid)(v);
        return g * (s * (1 + v * (1 - s)));
    }
    T other = act == LD_NORM_LEAKY ? slope * g : 0;
    return act == LD_NORM_PLAIN || v > 0 ? g : other;
}

/* The body with the activation a constant, so that each becomes a loop of its own. */
#define FOR_ACT(body, act, ...)                                                                                        \
    do {                                                                                                               \
        if (act == LD_NORM_PLAIN)                                                                                      \
            body(__VA_ARGS__, LD_NORM_PLAIN);                                                                          \
        else if (act == LD_NORM_RELU)                                                                                  \
            body(__VA_ARGS__, LD_NORM_RELU);                                                                           \
        else if (act == LD_NORM_LEAKY)                                                                                 \
            body(__VA_ARGS__, LD_NORM_LEAKY);                                                                          \
        else                                                                                                           \
            body(__VA_ARGS__, LD_NORM_SILU);                                                                           \
    } while (0)

/* ---- forward: y = act((x - centre) a + b) ------------------------------------------------------------------------ */

LD_BODY void FN_BODY(map_rows)(T *y, const T *x, const T *centre, const T *a, const T *b, int64_t m, int64_t c, T slope,
                               T sub, ld_norm_act act) {
    for (int64_t r = 0; r < m; r++)
#pragma omp simd
        for (int64_t j = 0; j < c; j++)
            y[r * c + j] = FN_BODY(act)((x[r * c + j] - centre[j]) * a[j] + b[j], act, slope, sub);
}
LD_BODY void FN_BODY(map)(T *y, const T *x, const T *centre, const T *a, const T *b, int64_t m, int64_t c,
                          const ld_norm_spec *s) {
    FOR_ACT(FN_BODY(map_rows), s->act, y, x, centre, a, b, m, c, (T)s->slope, (T)s->sub);
}
LD_VERSIONS(FN(map),
            (T * y, const T *x, const T *centre, const T *a, const T *b, int64_t m, int64_t c, const ld_norm_spec *s),
            (y, x, centre, a, b, m, c, s))

/* ---- backward, first pass: dz = g act'((x - centre) a + b), its sums by column ----------------------------------- */

/* sums += sum of dz, sum of dz (x - centre), c each; dz may be NULL; t has room for 2 c. */
LD_BODY void FN_BODY(grad_rows)(double *sums, T *dz, const T *g, const T *x, const T *centre, const T *a, const T *b,
                                int64_t m, int64_t c, T *t, T slope, ld_norm_act act) {
    T *first = t, *second = t + c;
    for (int64_t r0 = 0; r0 < m; r0 += BLOCK) {
        int64_t end = m < r0 + BLOCK ? m : r0 + BLOCK;
        for (int64_t j = 0; j < 2 * c; j++)
            t[j] = 0;
        for (int64_t r = r0; r < end; r++) {
            const T *gr = g + r * c, *xr = x + r * c;
            T *out = dz ? dz + r * c : t; /* written unless dz is g, or nobody wants dx */
#pragma omp simd
            for (int64_t j = 0; j < c; j++) {
                T e = xr[j] - centre[j];
                T v = FN_BODY(act_bwd)(gr[j], act == LD_NORM_PLAIN ? 0 : e * a[j] + b[j], act, slope);
                first[j] += v;
                second[j] += v * e;
                if (act != LD_NORM_PLAIN && dz)
                    out[j] = v;
            }
        }
#pragma omp simd
        for (int64_t j = 0; j < 2 * c; j++)
            sums[j] += (double)t[j];
    }
}
LD_BODY void FN_BODY(grads)(double *sums, T *dz, const T *g, const T *x, const T *centre, const T *a, const T *b,
                            int64_t m, int64_t c, T *t, const ld_norm_spec *s) {
    FOR_ACT(FN_BODY(grad_rows), s->act, sums, dz, g, x, centre, a, b, m, c, t, (T)s->slope);
}
LD_VERSIONS(FN(grads),
            (double *sums, T *dz, const T *g, const T *x, const T *centre, const T *a, const T *b, int64_t m, int64_t c,
             T *t, const ld_norm_spec *s),
            (sums, dz, g, x, centre, a, b, m, c, t, s))

/* ---- backward, second pass: dx = a dz + (x - centre) b + d; dx may be dz ------------------------------------------ */

LD_BODY void FN_BODY(map_bwd)(T *dx, const T *dz, const T *x, const T *centre, const T *a, const T *b, const T *d,
                              int64_t m, int64_t c) {
    for (int64_t r = 0; r < m; r++)
#pragma omp simd
        for (int64_t j = 0; j < c; j++)
            dx[r * c + j] = a[j] * dz[r * c + j] + (x[r * c + j] - centre[j]) * b[j] + d[j];
}
LD_VERSIONS(FN(map_bwd),
            (T * dx, const T *dz, const T *x, const T *centre, const T *a, const T *b, const T *d, int64_t m,
             int64_t c),
            (dx, dz, x, centre, a, b, d, m, c))

#undef FOR_ACT
