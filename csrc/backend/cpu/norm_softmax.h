/* Template: softmax and cross entropy over the rows of (m, k) for one dtype. Include with T, FN(name), FN_BODY(name)
 * and EXP (e^x for x <= 0) set. */

/* y = exp(x - max); their sum, and the maximum. y may be NULL. */
LD_BODY void FN_BODY(exps)(T *y, const T *x, int64_t k, T *max, T *sum) {
    T m = x[0], z = 0;
#pragma omp simd reduction(max : m)
    for (int64_t j = 0; j < k; j++)
        m = x[j] > m ? x[j] : m;
    if (y)
#pragma omp simd reduction(+ : z)
        for (int64_t j = 0; j < k; j++) {
            T e = EXP(x[j] - m);
            y[j] = e;
            z += e;
        }
    else
#pragma omp simd reduction(+ : z)
        for (int64_t j = 0; j < k; j++)
            z += EXP(x[j] - m);
    *max = m;
    *sum = z;
}
LD_VERSIONS(FN(exps), (T * y, const T *x, int64_t k, T *max, T *sum), (y, x, k, max, sum))

/* y = a y + b */
LD_BODY void FN_BODY(scale)(T *y, int64_t k, T a, T b) {
#pragma omp simd
    for (int64_t j = 0; j < k; j++)
        y[j] = a * y[j] + b;
}
LD_VERSIONS(FN(scale), (T * y, int64_t k, T a, T b), (y, k, a, b))

/* dx = y (g - sum(g y)) */
LD_BODY void FN_BODY(softmax_row_bwd)(T *dx, const T *g, const T *y, int64_t k) {
    T dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t j = 0; j < k; j++)
        dot += g[j] * y[j];
#pragma omp simd
    for (int64_t j = 0; j < k; j++)
        dx[j] = y[j] * (g[j] - dot);
}
LD_VERSIONS(FN(softmax_row_bwd), (T * dx, const T *g, const T *y, int64_t k), (dx, g, y, k))

static void FN(softmax_fwd)(int64_t m, int64_t k, T *y, const T *x) {
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t r = 0; r < m; r++) {
        T max, sum;
        FN(exps)(y + r * k, x + r * k, k, &max, &sum);
        FN(scale)(y + r * k, k, 1 / sum, 0);
    }
}

static void FN(softmax_grad)(int64_t m, int64_t k, T *dx, const T *g, const T *y) {
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t r = 0; r < m; r++)
        FN(softmax_row_bwd)(dx + r * k, g + r * k, y + r * k, k);
}

/* log p[j] = x[j] - max - log sum; their mean over j is taken in double. */
static void FN(entropy_fwd)(int64_t m, int64_t k, T *loss, const T *x, const int64_t *t, double smoothing) {
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t r = 0; r < m; r++) {
        const T *row = x + r * k;
        T max, sum;
        double mean = 0;
        FN(exps)(NULL, row, k, &max, &sum);
        double total = log((double)sum);
        for (int64_t j = 0; smoothing != 0 && j < k; j++)
            mean += ((double)row[j] - (double)max) / (double)k;
        double picked = t[r] >= 0 && t[r] < k ? (double)row[t[r]] - (double)max : (double)NAN;
        loss[r] = (T)((1 - smoothing) * (total - picked) + smoothing * (total - mean));
    }
}

static void FN(entropy_grad)(int64_t m, int64_t k, T *dx, const T *g, const T *x, const int64_t *t, double smoothing) {
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t r = 0; r < m; r++) {
        T max, sum, *out = dx + r * k;
        FN(exps)(out, x + r * k, k, &max, &sum);
        /* at the target by the sum over the others, because p - 1 would cancel where p is near 1 */
        bool there = t[r] >= 0 && t[r] < k;
        double p = there ? (double)out[t[r]] : (double)NAN, others = 0;
        for (int64_t j = 0; j < k; j++)
            others += j == t[r] ? 0 : (double)out[j];
        double target = smoothing - smoothing / (double)k - others / (p + others);
        FN(scale)(out, k, g[r] / sum, (T)(-(double)g[r] * smoothing / (double)k));
        out[there ? t[r] : 0] = (T)((double)g[r] * target);
    }
}
