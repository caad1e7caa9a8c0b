/* For tests of kernels against the CPU backend: views of any float dtype, the same numbers in f64, and comparison of
 * results.
 *
 * What is expected comes from the CPU's f64 slots, given the numbers that the device's operands were rounded to. Errors are
 * relative L2, measured against what is expected; the allowance says how many roundings of the dtype it is. */
#ifndef LD_TEST_AGAINST_H
#define LD_TEST_AGAINST_H

#include "orders.h"

#define SHAPE(...)                                                                                                     \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) {                                           \
        __VA_ARGS__                                                                                                    \
    }

/* Row-major whatever the rank. */
static inline ld_view *dense(ld_dtype t, int ndim, const int64_t *shape) {
    return make_view(t, ROW_MAJOR, ndim, shape);
}

static inline ld_view *random_view(ld_dtype t, double scale, double shift, int ndim, const int64_t *shape) {
    ld_view *v = dense(t, ndim, shape);
    randomise(v, scale, shift);
    return v;
}

/* The same numbers in f64, densely; NULL for NULL. */
static inline ld_view *in_f64(const ld_view *v) {
    if (!v)
        return NULL;
    ld_view *w = dense(LD_F64, v->ndim, v->shape);
    for (int64_t i = 0; i < ld_view_numel(v); i++)
        put(w, i, get(v, i));
    return w;
}

/* Room like v, of its dtype and layout, holding the guard byte. */
static inline ld_view *room_like(const ld_view *v) {
    return v ? dense(v->dtype, v->ndim, v->shape) : NULL;
}

/* One rounding to t, relative. */
static inline double rounding(ld_dtype t) {
    return t == LD_F64 ? 0x1p-53 : t == LD_F32 ? 0x1p-24 : t == LD_F16 ? 0x1p-11 : 0x1p-8;
}

/* Both NULL is fine. `usual`: the size that elements of `want` would have without cancellation, 0 where that is theirs. */
static inline void near(const char *what, const ld_view *got, const ld_view *want, double allowed, double usual) {
    if (!got)
        return;
    check_guards(got);
    double diff = 0, norm = 0, n = (double)ld_view_numel(got);
    for (int64_t i = 0; i < ld_view_numel(got); i++) {
        double a = get(got, i), b = get(want, i);
        if (a == b || (isnan(a) && isnan(b)))
            continue;
        diff += (a - b) * (a - b);
    }
    for (int64_t i = 0; i < ld_view_numel(got); i++)
        norm += isnan(get(want, i)) ? 0 : get(want, i) * get(want, i);
    norm = fmax(norm, n * usual * usual);
    if (!(sqrt(diff) <= allowed * sqrt(norm)))
        fail_msg("%s %s: off by %.3g, allowed %.3g", what, ld_dtype_names[got->dtype], sqrt(diff / norm), allowed);
}

/* To the bit. */
static inline void same(const char *what, const ld_view *a, const ld_view *b) {
    for (int64_t i = 0; a && i < ld_view_numel(a); i++)
        if (memcmp(element(a, i), element(b, i), ld_dtype_size(a->dtype)) != 0)
            fail_msg("%s %s: element %d is %.17g and %.17g", what, ld_dtype_names[a->dtype], (int)i, get(a, i),
                     get(b, i));
}

/* The gradients `out` of the f64 operands `in` against central differences of loss(of), which looks at the operands as they
 * are: h^2 = 1e-8 of truncation, and rounding below. */
static inline void as_differences(ld_view *const *in, ld_view *const *out, int n, double (*loss)(void *), void *of) {
    for (int k = 0; k < n; k++)
        for (int64_t i = 0; i < ld_view_numel(in[k]); i++) {
            double at = get(in[k], i), h = 1e-4;
            put(in[k], i, at + h);
            double above = loss(of);
            put(in[k], i, at - h);
            double below = loss(of), want = (above - below) / (2 * h);
            put(in[k], i, at);
            if (!(fabs(get(out[k], i) - want) <= 1e-6 * (1 + fabs(want))))
                fail_msg("operand %d, element %d: %g, differences say %g", k, (int)i, get(out[k], i), want);
        }
}

/* A loss whose gradient with respect to y is g. */
static inline double weighed(const ld_view *y, const ld_view *g) {
    double sum = 0;
    for (int64_t i = 0; i < ld_view_numel(y); i++)
        sum += get(y, i) * get(g, i);
    return sum;
}

#endif
