/* Template: statistics of columns and the affine maps of batch and group normalisation, for one dtype. Include with T
 * (float or double), FN(name) and FN_BODY(name) set.
 *
 * Tensors are (n, p, c), c innermost; a sample's p rows are split into `parts` runs of rows (a number that depends on
 * the sizes only), each summed in blocks of BLOCK rows in T, the blocks and then the parts in double, in order:
 * results do not depend on the number of threads. */

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

/* sg = sum of g, sgx = sum of g (x - centre), by column; t has room for 2 c. */
LD_BODY void FN_BODY(col_grads)(double *sg, double *sgx, const T *g, const T *x, const T *centre, int64_t m, int64_t c,
                                T *t) {
    T *a = t, *b = t + c;
    for (int64_t r0 = 0; r0 < m; r0 += BLOCK) {
        int64_t end = m < r0 + BLOCK ? m : r0 + BLOCK;
        for (int64_t j = 0; j < c; j++)
            a[j] = b[j] = 0;
        for (int64_t r = r0; r < end; r++) {
            const T *gr = g + r * c, *xr = x + r * c;
#pragma omp simd
            for (int64_t j = 0; j < c; j++) {
                a[j] += gr[j];
                b[j] += gr[j] * (xr[j] - centre[j]);
            }
        }
#pragma omp simd
        for (int64_t j = 0; j < c; j++) {
            sg[j] += (double)a[j];
            sgx[j] += (double)b[j];
        }
    }
}
LD_VERSIONS(FN(col_grads),
            (double *sg, double *sgx, const T *g, const T *x, const T *centre, int64_t m, int64_t c, T *t),
            (sg, sgx, g, x, centre, m, c, t))

/* y = (x - centre) a + b */
LD_BODY void FN_BODY(apply)(T *y, const T *x, const T *centre, const T *a, const T *b, int64_t m, int64_t c) {
    for (int64_t r = 0; r < m; r++)
#pragma omp simd
        for (int64_t j = 0; j < c; j++)
            y[r * c + j] = (x[r * c + j] - centre[j]) * a[j] + b[j];
}
LD_VERSIONS(FN(apply), (T * y, const T *x, const T *centre, const T *a, const T *b, int64_t m, int64_t c),
            (y, x, centre, a, b, m, c))

/* dx = a g + (x - centre) b + d */
LD_BODY void FN_BODY(apply_bwd)(T *dx, const T *g, const T *x, const T *centre, const T *a, const T *b, const T *d,
                                int64_t m, int64_t c) {
    for (int64_t r = 0; r < m; r++)
#pragma omp simd
        for (int64_t j = 0; j < c; j++)
            dx[r * c + j] = a[j] * g[r * c + j] + (x[r * c + j] - centre[j]) * b[j] + d[j];
}
LD_VERSIONS(FN(apply_bwd),
            (T * dx, const T *g, const T *x, const T *centre, const T *a, const T *b, const T *d, int64_t m, int64_t c),
            (dx, g, x, centre, a, b, d, m, c))

/* Two sums a column and part: in[0] and in[1] of part u at u * 2 c. g NULL: statistics of x. */
static void FN(sums)(const grid *z, double *sums, const T *g, const T *x, const T *centre, T *temporary) {
    memset(sums, 0, (size_t)(z->n * z->parts * 2 * z->c) * sizeof *sums);
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t u = 0; u < z->n * z->parts; u++) {
        int64_t n = u / z->parts, from = u % z->parts * z->rows, m = part_rows(z, from);
        int64_t at = (n * z->p + from) * z->c;
        double *first = sums + u * 2 * z->c, *second = first + z->c;
        T *t = temporary + omp_get_thread_num() * 3 * z->c;
        if (g)
            FN(col_grads)(first, second, g + at, x + at, centre + n * z->c, m, z->c, t);
        else
            FN(col_stats)(first, second, x + at, m, z->c, t);
    }
}

/* Map every element with the coefficients of its sample and channel: forward (d NULL) or backward. */
static void FN(map)(const grid *z, T *out, const T *g, const T *x, const T *centre, const T *a, const T *b,
                    const T *d) {
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t u = 0; u < z->n * z->parts; u++) {
        int64_t n = u / z->parts, from = u % z->parts * z->rows, m = part_rows(z, from), k = n * z->c;
        int64_t at = (n * z->p + from) * z->c;
        if (d)
            FN(apply_bwd)(out + at, g + at, x + at, centre + k, a + k, b + k, d + k, m, z->c);
        else
            FN(apply)(out + at, x + at, centre + k, a + k, b + k, m, z->c);
    }
}

/* ---- batch: one "sample" of M rows ------------------------------------------------------------------------------- */

static void FN(batch_fwd)(const grid *z, room *w_, T *y, T *mean, T *var, const T *x, const T *w, const T *b,
                          double eps, bool given) {
    T *a = w_->coef, *shift = a + z->c;
    if (!given) {
        FN(sums)(z, w_->sums, NULL, x, NULL, w_->temporary);
        merge_parts(z, w_->sums, 0);
        for (int64_t j = 0; j < z->c; j++) {
            mean[j] = (T)w_->sums[j];
            var[j] = (T)(z->p ? w_->sums[z->c + j] / (double)z->p : 0);
        }
    }
    for (int64_t j = 0; j < z->c; j++) {
        double lost = given ? 0 : w_->sums[j] - (double)mean[j]; /* by rounding the mean; a large mean would show it */
        double f = (w ? (double)w[j] : 1) / sqrt((double)var[j] + eps);
        a[j] = (T)f;
        shift[j] = (T)((b ? (double)b[j] : 0) - f * lost);
    }
    FN(map)(z, y, NULL, x, mean, a, shift, NULL);
}

static void FN(batch_bwd)(const grid *z, room *w_, T *dx, T *dw, T *db, const T *g, const T *x, const T *mean,
                          const T *var, const T *w, double eps, bool given) {
    T *a = w_->coef, *b = a + z->c, *d = b + z->c;
    FN(sums)(z, w_->sums, g, x, mean, w_->temporary);
    add_parts(z, w_->sums, 0);
    const double *sg = w_->sums, *sgx = sg + z->c;
    double inv = given || !z->p ? 0 : 1 / (double)z->p;
    for (int64_t j = 0; j < z->c; j++) {
        double r = 1 / sqrt((double)var[j] + eps), f = (w ? (double)w[j] : 1) * r;
        if (dw)
            dw[j] = (T)(sgx[j] * r);
        if (db)
            db[j] = (T)sg[j];
        a[j] = (T)f;
        b[j] = (T)(-f * r * r * sgx[j] * inv);
        d[j] = (T)(-f * sg[j] * inv);
    }
    if (dx)
        FN(map)(z, dx, g, x, mean, a, b, d);
}

/* ---- group ------------------------------------------------------------------------------------------------------- */

/* Mean and rstd of each group of a sample from the columns' means and deviations; `mean` becomes the group's. */
static void FN(group_stats)(const grid *z, double *mean, const double *dev, int groups, double eps, T *out_mean,
                            T *out_rstd) {
    int64_t size = z->c / groups;
    for (int64_t k = 0; k < groups; k++) {
        double m = 0, s = 0;
        for (int64_t j = k * size; j < (k + 1) * size; j++)
            m += mean[j] / (double)size;
        for (int64_t j = k * size; j < (k + 1) * size; j++)
            s += dev[j] + (double)z->p * (mean[j] - m) * (mean[j] - m);
        for (int64_t j = k * size; j < (k + 1) * size; j++)
            mean[j] = m;
        double count = (double)(size * z->p);
        out_mean[k] = (T)m;
        out_rstd[k] = (T)(1 / sqrt((count > 0 ? s / count : 0) + eps));
    }
}

static void FN(group_fwd)(const grid *z, room *w_, T *y, T *mean, T *rstd, const T *x, const T *w, const T *b,
                          int groups, double eps) {
    int64_t all = z->n * z->c;
    T *centre = w_->coef, *a = centre + all, *shift = a + all;
    FN(sums)(z, w_->sums, NULL, x, NULL, w_->temporary);
    for (int64_t n = 0; n < z->n; n++) {
        double *s = merge_parts(z, w_->sums, n);
        FN(group_stats)(z, s, s + z->c, groups, eps, mean + n * groups, rstd + n * groups);
        for (int64_t j = 0; j < z->c; j++) {
            int64_t k = n * groups + j / (z->c / groups), i = n * z->c + j;
            centre[i] = mean[k];
            a[i] = (w ? w[j] : 1) * rstd[k];
            shift[i] = (T)((b ? (double)b[j] : 0) - (double)a[i] * (s[j] - (double)mean[k]));
        }
    }
    FN(map)(z, y, NULL, x, centre, a, shift, NULL);
}

/* Coefficients of dx for sample n: dx = r (w g - mean(w g) - xhat mean(w g xhat)), means over the group. */
static void FN(group_coef)(const grid *z, const double *sg, const double *sgx, const T *w, const T *rstd, int groups,
                           T *a, T *b, T *d) {
    int64_t size = z->c / groups;
    for (int64_t k = 0; k < groups; k++) {
        double g1 = 0, g2 = 0, r = (double)rstd[k], inv = 1 / (double)(size * z->p);
        for (int64_t j = k * size; j < (k + 1) * size; j++) {
            g1 += (w ? (double)w[j] : 1) * sg[j];
            g2 += (w ? (double)w[j] : 1) * sgx[j];
        }
        for (int64_t j = k * size; j < (k + 1) * size; j++) {
            a[j] = (T)(r * (w ? (double)w[j] : 1));
            b[j] = (T)(-r * r * r * g2 * inv);
            d[j] = (T)(-r * g1 * inv);
        }
    }
}

static void FN(group_bwd)(const grid *z, room *w_, T *dx, T *dw, T *db, const T *g, const T *x, const T *mean,
                          const T *rstd, const T *w, int groups) {
    int64_t all = z->n * z->c, size = z->c / groups;
    T *centre = w_->coef, *a = centre + all, *b = a + all, *d = b + all;
    double *total = w_->total;
    memset(total, 0, (size_t)(2 * z->c) * sizeof *total);
    for (int64_t i = 0; i < all; i++)
        centre[i] = mean[i / z->c * groups + i % z->c / size];
    FN(sums)(z, w_->sums, g, x, centre, w_->temporary);
    for (int64_t n = 0; n < z->n; n++) {
        const double *s = add_parts(z, w_->sums, n);
        for (int64_t j = 0; j < z->c; j++) {
            total[j] += s[j];
            total[z->c + j] += s[z->c + j] * (double)rstd[n * groups + j / size];
        }
        FN(group_coef)(z, s, s + z->c, w, rstd + n * groups, groups, a + n * z->c, b + n * z->c, d + n * z->c);
    }
    for (int64_t j = 0; j < z->c; j++) {
        if (db)
            db[j] = (T)total[j];
        if (dw)
            dw[j] = (T)total[z->c + j];
    }
    if (dx)
        FN(map)(z, dx, g, x, centre, a, b, d);
}
