/* Template: layer normalisation of the rows of (m, c) for one dtype. Include with T, FN(name) and FN_BODY(name) set.
 * A row stays in the cache between its passes. */

LD_BODY void FN_BODY(layer_row)(T *y, T *mean, T *rstd, const T *x, const T *w, const T *b, int64_t c, double eps) {
    T sum = 0, rest = 0, square = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < c; j++)
        sum += x[j];
    T centre = sum / (T)c;
#pragma omp simd reduction(+ : rest, square)
    for (int64_t j = 0; j < c; j++) {
        T d = x[j] - centre;
        rest += d;
        square += d * d;
    }
    double shift = (double)rest / (double)c, var = (double)square / (double)c - shift * shift;
    T m = (T)((double)centre + shift), r = (T)(1 / sqrt(var + eps));
    T lost = (T)((double)centre + shift - (double)m); /* by rounding the mean; a large mean would show it */
#pragma omp simd
    for (int64_t j = 0; j < c; j++)
        y[j] = (x[j] - m - lost) * r * w[j] + b[j];
    *mean = m;
    *rstd = r;
}
LD_VERSIONS(FN(layer_row), (T * y, T *mean, T *rstd, const T *x, const T *w, const T *b, int64_t c, double eps),
            (y, mean, rstd, x, w, b, c, eps))

/* dx = r (w g - mean(w g) - xhat mean(w g xhat)) */
LD_BODY void FN_BODY(layer_row_bwd)(T *dx, const T *g, const T *x, T m, T r, const T *w, int64_t c) {
    T first = 0, second = 0;
#pragma omp simd reduction(+ : first, second)
    for (int64_t j = 0; j < c; j++) {
        T f = w[j] * g[j];
        first += f;
        second += f * (x[j] - m);
    }
    first /= (T)c;
    second *= r * r / (T)c;
#pragma omp simd
    for (int64_t j = 0; j < c; j++)
        dx[j] = r * (w[j] * g[j] - first - (x[j] - m) * second);
}
LD_VERSIONS(FN(layer_row_bwd), (T * dx, const T *g, const T *x, T m, T r, const T *w, int64_t c),
            (dx, g, x, m, r, w, c))

/* sums[0..c) += g xhat, sums[c..2c) += g over m rows, in blocks of BLOCK rows; t has room for 2 c. */
LD_BODY void FN_BODY(layer_sums)(double *sums, const T *g, const T *x, const T *mean, const T *rstd, int64_t m,
                                 int64_t c, T *t) {
    T *dw = t, *db = t + c;
    for (int64_t r0 = 0; r0 < m; r0 += BLOCK) {
        int64_t end = m < r0 + BLOCK ? m : r0 + BLOCK;
        for (int64_t j = 0; j < c; j++)
            dw[j] = db[j] = 0;
        for (int64_t r = r0; r < end; r++) {
            const T *gr = g + r * c, *xr = x + r * c, mr = mean[r], rr = rstd[r];
#pragma omp simd
            for (int64_t j = 0; j < c; j++) {
                dw[j] += gr[j] * (xr[j] - mr) * rr;
                db[j] += gr[j];
            }
        }
#pragma omp simd
        for (int64_t j = 0; j < c; j++) {
            sums[j] += (double)dw[j];
            sums[c + j] += (double)db[j];
        }
    }
}
LD_VERSIONS(FN(layer_sums),
            (double *sums, const T *g, const T *x, const T *mean, const T *rstd, int64_t m, int64_t c, T *t),
            (sums, g, x, mean, rstd, m, c, t))

/* `plain` holds c ones, then c zeros, in place of absent w and b. */
static void FN(fill_plain)(T *plain, int64_t c) {
    for (int64_t j = 0; j < c; j++) {
        plain[j] = 1;
        plain[c + j] = 0;
    }
}

static void FN(layer_fwd)(int64_t rows, int64_t c, T *plain, T *y, T *mean, T *rstd, const T *x, const T *w, const T *b,
                          double eps) {
    FN(fill_plain)(plain, c);
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t r = 0; r < rows; r++)
        FN(layer_row)(y + r * c, mean + r, rstd + r, x + r * c, w ? w : plain, b ? b : plain + c, c, eps);
}

/* sums: parts x 2 c; temporary: threads x 2 c. */
static void FN(layer_bwd)(int64_t rows, int64_t c, T *plain, double *sums, T *temporary, T *dx, T *dw, T *db,
                          const T *g, const T *x, const T *mean, const T *rstd, const T *w) {
    int64_t parts = layer_parts(rows, c), each = (rows + parts - 1) / parts;
    FN(fill_plain)(plain, c);
    memset(sums, 0, (size_t)(parts * 2 * c) * sizeof *sums);
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t p = 0; p < parts; p++) {
        int64_t from = p * each, to = from + each < rows ? from + each : rows;
        for (int64_t r = from; dx && r < to; r++)
            FN(layer_row_bwd)(dx + r * c, g + r * c, x + r * c, mean[r], rstd[r], w ? w : plain, c);
        if ((dw || db) && from < to)
            FN(layer_sums)
        (sums + p * 2 * c, g + from * c, x + from * c, mean + from, rstd + from, to - from, c,
         temporary + omp_get_thread_num() * 2 * c);
    }
    for (int64_t j = 0; j < c; j++) {
        double first = 0, second = 0;
        for (int64_t p = 0; p < parts; p++) {
            first += sums[p * 2 * c + j];
            second += sums[p * 2 * c + c + j];
        }
        if (dw)
            dw[j] = (T)first;
        if (db)
            db[j] = (T)second;
    }
}
