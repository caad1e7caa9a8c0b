/* Template: from the sums of columns to the coefficients of the passes, for one dtype. Include after norm_cols.h, with T,
 * FN(name) set.
 *
 * Statistics belong to a set: a rectangle of samples and channels (batch norm: one channel of all samples; group norm: a
 * group of channels of one sample). With f = 1 + scale and h = shift, u = f x + h has the mean f m + h and the squared
 * deviations f^2 dev where x has m and dev, so u is never made. What is saved by sample and channel, in double until
 * rounded:
 *   centre   about the mean of x                    e = x - centre
 *   offset   f centre + h - the set's mean of u     xhat = r (f e + offset)
 *   r        1 / sqrt(the set's variance of u + eps)
 *   rest     mean of e     (with FiLM only)
 *   square   mean of e^2   (with FiLM only) */

/* Row i of what is saved for sample n. */
static T *FN(row)(const norm_call *q, int64_t n, int i) {
    return (T *)q->stats + (n * q->rows + i) * q->z.c;
}

static double FN(factor)(const norm_call *q, int64_t n, int64_t j) {
    return q->film ? 1 + (double)((const T *)q->film)[n * 2 * q->z.c + j] : 1;
}

static double FN(shift)(const norm_call *q, int64_t n, int64_t j) {
    return q->film ? (double)((const T *)q->film)[(n * 2 + 1) * q->z.c + j] : 0;
}

static double FN(weight)(const norm_call *q, int64_t j) {
    return q->w ? (double)((const T *)q->w)[j] : 1;
}

/* Coefficients a, b of the forward map, which the backward needs too. */
static void FN(map_coef)(const norm_call *q, int64_t n, int64_t j) {
    int64_t c = q->z.c, i = n * c + j;
    double wr = FN(weight)(q, j) * (double)FN(row)(q, n, STAT_R)[j];
    double bias = q->b ? (double)((const T *)q->b)[j] : 0;
    ((T *)q->coef[0])[i] = (T)(wr * FN(factor)(q, n, j));
    ((T *)q->coef[1])[i] = (T)(wr * (double)FN(row)(q, n, STAT_OFFSET)[j] + bias);
}

/* ---- forward ----------------------------------------------------------------------------------------------------- */

/* Mean and variance of u over a set, from the means and deviations of x. */
static void FN(set_stats)(const norm_call *q, const norm_set *s, double *mean, double *var) {
    double p = (double)q->z.p, columns = (double)((s->n1 - s->n0) * (s->j1 - s->j0)), m = 0, d = 0;
    for (int64_t n = s->n0; n < s->n1; n++)
        for (int64_t j = s->j0; j < s->j1; j++)
            m += (FN(factor)(q, n, j) * sums_of(q, n)[j] + FN(shift)(q, n, j)) / columns;
    for (int64_t n = s->n0; n < s->n1; n++)
        for (int64_t j = s->j0; j < s->j1; j++) {
            double f = FN(factor)(q, n, j), delta = f * sums_of(q, n)[j] + FN(shift)(q, n, j) - m;
            d += f * f * sums_of(q, n)[q->z.c + j] + p * delta * delta;
        }
    *mean = m;
    *var = columns * p > 0 ? d / (columns * p) : 0;
}

/* A centre for constants: where u is their mean, unless a small f would put it far from every x. */
static double FN(given_centre)(double f, double h, double mean) {
    return fabs(f) < 0.1 ? 0 : (mean - h) / f;
}

static void FN(measure)(const norm_call *q, const norm_set *s) {
    FN(set_stats)(q, s, q->joined + s->j0, q->joined + q->z.c + s->j0);
}

static void FN(set_fwd)(const norm_call *q, const norm_set *s) {
    double mean, var, p = (double)q->z.p;
    bool given = q->spec->given;
    if (given) {
        mean = (double)((const T *)q->mean)[s->j0];
        var = (double)((const T *)q->var)[s->j0];
    } else {
        if (q->spec->join) {
            mean = q->joined[s->j0];
            var = q->joined[q->z.c + s->j0];
        } else {
            FN(set_stats)(q, s, &mean, &var);
        }
        if (q->mean) {
            ((T *)q->mean)[s->j0] = (T)mean;
            ((T *)q->var)[s->j0] = (T)var;
        }
    }
    T r = (T)(1 / sqrt(var + q->spec->eps));
    for (int64_t n = s->n0; n < s->n1; n++)
        for (int64_t j = s->j0; j < s->j1; j++) {
            double f = FN(factor)(q, n, j), h = FN(shift)(q, n, j);
            double m = given ? FN(given_centre)(f, h, mean) : sums_of(q, n)[j];
            T centre = (T)m;
            FN(row)(q, n, STAT_CENTRE)[j] = centre;
            FN(row)(q, n, STAT_OFFSET)[j] = (T)(f * (double)centre + h - mean);
            FN(row)(q, n, STAT_R)[j] = r;
            if (q->film) { /* not read where the statistics are constants */
                double rest = m - (double)centre, dev = given ? 0 : sums_of(q, n)[q->z.c + j];
                FN(row)(q, n, STAT_REST)[j] = (T)rest;
                FN(row)(q, n, STAT_SQUARE)[j] = (T)(p > 0 ? dev / p + rest * rest : 0);
            }
            FN(map_coef)(q, n, j);
        }
}

/* Coefficients of the map from what is saved. */
static void FN(coefs_again)(const norm_call *q) {
    for (int64_t n = 0; n < q->z.n; n++)
        for (int64_t j = 0; j < q->z.c; j++)
            FN(map_coef)(q, n, j);
}

static int FN(forward)(norm_call *q, T *y, const T *x) {
    const grid *z = &q->z;
    if (!q->spec->given && !q->spec->again) {
        memset(q->sums, 0, (size_t)(z->n * z->parts * 2 * z->c) * sizeof *q->sums);
#pragma omp parallel for schedule(static) num_threads(q->threads)
        for (int64_t u = 0; u < z->n * z->parts; u++) {
            part at = part_of(z, u);
            double *s = q->sums + u * 2 * z->c;
            FN(col_stats)
            (s, s + z->c, x + at.first, at.rows, z->c, (T *)q->temporary + omp_get_thread_num() * 3 * z->c);
        }
        for (int64_t n = 0; n < z->n; n++)
            merge_parts(z, q->sums, n);
    }
    int err = join_ranks(q, FN(measure));
    if (err)
        return err;
    if (q->spec->again)
        FN(coefs_again)(q);
    else
        for_sets(q, FN(set_fwd));
#pragma omp parallel for schedule(static) num_threads(q->threads)
    for (int64_t u = 0; u < z->n * z->parts; u++) {
        part at = part_of(z, u);
        int64_t k = at.n * z->c;
        FN(map)
        (y + at.first, x + at.first, FN(row)(q, at.n, STAT_CENTRE), (T *)q->coef[0] + k, (T *)q->coef[1] + k, at.rows,
         z->c, q->spec);
    }
    return 0;
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

/* sum of dz xhat of one sample and channel */
static double FN(hat_sum)(const norm_call *q, int64_t n, int64_t j) {
    const double *s = sums_of(q, n);
    double f = FN(factor)(q, n, j), o = (double)FN(row)(q, n, STAT_OFFSET)[j];
    return (double)FN(row)(q, n, STAT_R)[j] * (f * s[q->z.c + j] + o * s[j]);
}

/* Gradients of scale and shift: sums of du x and du over the positions, du = r (w dz - g1 - xhat g2). */
static void FN(film_bwd)(const norm_call *q, int64_t n, int64_t j, double g1, double g2) {
    const double *s = sums_of(q, n);
    double f = FN(factor)(q, n, j), o = (double)FN(row)(q, n, STAT_OFFSET)[j], r = (double)FN(row)(q, n, STAT_R)[j];
    double rest = (double)FN(row)(q, n, STAT_REST)[j], square = (double)FN(row)(q, n, STAT_SQUARE)[j];
    double w = FN(weight)(q, j), p = (double)q->z.p;
    double du = r * (w * s[j] - p * (g1 + g2 * r * (f * rest + o)));
    double du_e = r * (w * s[q->z.c + j] - p * (g1 * rest + g2 * r * (f * square + o * rest)));
    T *to = (T *)q->dfilm + n * 2 * q->z.c + j;
    to[0] = (T)(du_e + (double)FN(row)(q, n, STAT_CENTRE)[j] * du);
    to[q->z.c] = (T)du;
}

/* Sums of dz and dz xhat of one channel. */
static void FN(measure_bwd)(const norm_call *q, const norm_set *s) {
    double first = 0, second = 0;
    for (int64_t n = s->n0; n < s->n1; n++) {
        first += sums_of(q, n)[s->j0];
        second += FN(hat_sum)(q, n, s->j0);
    }
    q->joined[s->j0] = first;
    q->joined[q->z.c + s->j0] = second;
}

/* dx = f du; with the statistics constants, g1 = g2 = 0. */
static void FN(set_bwd)(const norm_call *q, const norm_set *s) {
    double g1 = 0, g2 = 0, count = (double)((s->n1 - s->n0) * (s->j1 - s->j0) * q->z.p);
    if (q->spec->join) {
        double share = FN(weight)(q, s->j0) / q->spec->join->rows;
        g1 = share * q->joined[s->j0];
        g2 = share * q->joined[q->z.c + s->j0];
    } else if (!q->spec->given && count > 0)
        for (int64_t n = s->n0; n < s->n1; n++)
            for (int64_t j = s->j0; j < s->j1; j++) {
                g1 += FN(weight)(q, j) * sums_of(q, n)[j] / count;
                g2 += FN(weight)(q, j) * FN(hat_sum)(q, n, j) / count;
            }
    for (int64_t n = s->n0; n < s->n1; n++)
        for (int64_t j = s->j0; j < s->j1; j++) {
            int64_t i = n * q->z.c + j;
            double f = FN(factor)(q, n, j), r = (double)FN(row)(q, n, STAT_R)[j];
            ((T *)q->coef[2])[i] = (T)(f * r * FN(weight)(q, j));
            ((T *)q->coef[3])[i] = (T)(-f * f * r * r * g2);
            ((T *)q->coef[4])[i] = (T)(-f * r * (g1 + r * g2 * (double)FN(row)(q, n, STAT_OFFSET)[j]));
            if (q->dfilm)
                FN(film_bwd)(q, n, j, g1, g2);
        }
}

static void FN(affine_bwd)(const norm_call *q, T *dw, T *db) {
    for (int64_t j = 0; j < q->z.c; j++) {
        double first = 0, second = 0;
        for (int64_t n = 0; n < q->z.n; n++) {
            first += sums_of(q, n)[j];
            second += FN(hat_sum)(q, n, j);
        }
        if (db)
            db[j] = (T)first;
        if (dw)
            dw[j] = (T)second;
    }
}

static int FN(backward)(norm_call *q, T *dx, T *dw, T *db, const T *g, const T *x) {
    const grid *z = &q->z;
    for (int64_t i = 0; i < z->n * z->c; i++)
        FN(map_coef)(q, i / z->c, i % z->c);
    memset(q->sums, 0, (size_t)(z->n * z->parts * 2 * z->c) * sizeof *q->sums);
#pragma omp parallel for schedule(static) num_threads(q->threads)
    for (int64_t u = 0; u < z->n * z->parts; u++) {
        part at = part_of(z, u);
        int64_t k = at.n * z->c;
        FN(grads)
        (q->sums + u * 2 * z->c, dx ? dx + at.first : NULL, g + at.first, x + at.first, FN(row)(q, at.n, STAT_CENTRE),
         (T *)q->coef[0] + k, (T *)q->coef[1] + k, at.rows, z->c, (T *)q->temporary + omp_get_thread_num() * 3 * z->c,
         q->spec);
    }
    for (int64_t n = 0; n < z->n; n++)
        add_parts(z, q->sums, n);
    int err = join_ranks(q, FN(measure_bwd));
    if (err)
        return err;
    for_sets(q, FN(set_bwd));
    if (dw || db)
        FN(affine_bwd)(q, dw, db);
    if (!dx)
        return 0;
    const T *dz = q->spec->act == LD_NORM_PLAIN ? g : dx;
#pragma omp parallel for schedule(static) num_threads(q->threads)
    for (int64_t u = 0; u < z->n * z->parts; u++) {
        part at = part_of(z, u);
        int64_t k = at.n * z->c;
        FN(map_bwd)
        (dx + at.first, dz + at.first, x + at.first, FN(row)(q, at.n, STAT_CENTRE), (T *)q->coef[2] + k,
         (T *)q->coef[3] + k, (T *)q->coef[4] + k, at.rows, z->c);
    }
    return 0;
}
