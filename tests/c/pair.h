/* For tests of backend slots: views that hold the same numbers in f64 and f32, comparison of results, and gradients by
 * central differences.
 *
 * Tolerances are relative L2 errors: 1e-12 for f64 against a naive formula; 1e-6 for f32 against f64, which is 8
 * roundings of 2^-23. */
#ifndef LD_TEST_PAIR_H
#define LD_TEST_PAIR_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/cpu/cpu.h"
#include "backend/device.h"
#include "base/error.h"

#define F64_TOL 1e-12
#define F32_TOL 1e-6

/* ---- views in both dtypes ---------------------------------------------------------------------------------------- */

/* The same numbers in f64 (v[0]) and f32 (v[1]); both are exact in f32 when made by random_pair. */
typedef struct pair {
    ld_view v[2];
} pair;

enum { MOST_BLOCKS = 4096 };
static void *blocks[MOST_BLOCKS];
static int block_count;

static inline int free_blocks(void **state) {
    (void)state;
    while (block_count)
        free(blocks[--block_count]);
    unsetenv("LD_CONV");
    ld_set_threads(2);
    return 0;
}

static inline void *block(size_t bytes) {
    assert_true(block_count < MOST_BLOCKS);
    blocks[block_count] = aligned_alloc(64, (bytes + 128) / 64 * 64);
    memset(blocks[block_count], 0xcd, bytes);
    return blocks[block_count++];
}

/* `count` elements with the given shape and strides (NULL: row-major); filled with a byte pattern. */
static inline pair strided_pair(int ndim, const int64_t *shape, const int64_t *stride) {
    pair p;
    memset(&p, 0, sizeof p);
    int64_t reach = 1, n = 1;
    for (int d = ndim - 1; d >= 0; d--) {
        int64_t s = stride ? stride[d] : n;
        for (int i = 0; i < 2; i++) {
            p.v[i].shape[d] = shape[d];
            p.v[i].stride[d] = s;
        }
        reach += shape[d] ? (shape[d] - 1) * s : 0;
        n *= shape[d];
    }
    for (int i = 0; i < 2; i++) {
        p.v[i].ndim = ndim;
        p.v[i].dtype = i ? LD_F32 : LD_F64;
        p.v[i].data = block((size_t)reach * ld_dtype_size(p.v[i].dtype));
    }
    return p;
}

#define DIMS(...)                                                                                                      \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) {                                           \
        __VA_ARGS__                                                                                                    \
    }
#define EMPTY(...) strided_pair(DIMS(__VA_ARGS__), NULL)

static inline void *element(const ld_view *v, int64_t i) {
    int64_t at = 0;
    for (int d = v->ndim - 1; d >= 0; d--) {
        at += i % v->shape[d] * v->stride[d];
        i /= v->shape[d];
    }
    return (char *)v->data + (size_t)at * ld_dtype_size(v->dtype);
}

static inline double get(const ld_view *v, int64_t i) {
    void *e = element(v, i);
    return v->dtype == LD_F64 ? *(double *)e : (double)*(float *)e;
}

static inline void put(const ld_view *v, int64_t i, double x) {
    void *e = element(v, i);
    if (v->dtype == LD_F64)
        *(double *)e = x;
    else
        *(float *)e = (float)x;
}

static uint64_t random_state = 1;

static inline double uniform(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 40) / (double)(1 << 24) * 2 - 1;
}

static inline pair randomised(pair p, double shift) {
    for (int64_t i = 0; i < ld_view_numel(&p.v[0]); i++) {
        float x = (float)(uniform() + shift);
        put(&p.v[0], i, (double)x);
        put(&p.v[1], i, (double)x);
    }
    return p;
}

#define RANDOM(...) randomised(EMPTY(__VA_ARGS__), 0)

static inline pair image(int64_t n, int64_t c, int64_t h, int64_t w) {
    return strided_pair(4, (int64_t[]){n, c, h, w}, (int64_t[]){h * w * c, 1, w * c, c});
}

/* What a backward slot reads is the f32 forward's rounding of the f64 value; copy it so only the slot is judged. */
static inline void copy_down(pair *p) {
    for (int64_t i = 0; i < ld_view_numel(&p->v[0]); i++) {
        float x = (float)get(&p->v[0], i);
        put(&p->v[0], i, (double)x);
        put(&p->v[1], i, (double)x);
    }
}

static inline double distance(const ld_view *a, const ld_view *b) {
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < ld_view_numel(a); i++) {
        double x = get(a, i), y = get(b, i);
        diff += (x - y) * (x - y);
        norm += y * y;
    }
    return diff > 0 || isnan(diff) ? sqrt(diff / (norm > 0 ? norm : 1)) : 0;
}

#define close_to(a, b, tol) check_close(#a, a, b, tol, __LINE__)
static inline void check_close(const char *what, const ld_view *a, const ld_view *b, double tol, int line) {
    double d = distance(a, b);
    if (!(d <= tol))
        fail_msg("line %d: %s is off by %.3g, allowed %.3g", line, what, d, tol);
}
#define agrees(p) check_close(#p, &(p).v[1], &(p).v[0], F32_TOL, __LINE__)

/* A sum of `terms` numbers of either sign may come out near 0: its error is measured against its usual size. */
#define sum_agrees(p, terms) check_sum(#p, &(p), terms, __LINE__)
static inline void check_sum(const char *what, const pair *p, int64_t terms, int line) {
    double norm = 0, n = (double)ld_view_numel(&p->v[0]);
    for (int64_t i = 0; i < ld_view_numel(&p->v[0]); i++)
        norm += get(&p->v[0], i) * get(&p->v[0], i);
    check_close(what, &p->v[1], &p->v[0], F32_TOL * fmax(1, sqrt(n * (double)terms / norm)), line);
}

static inline void ok(int err) {
    if (err)
        fail_msg("%s", ld_error());
}

/* ---- central differences ----------------------------------------------------------------------------------------- */

typedef struct problem {
    pair *in[6], *out[3]; /* inputs; results, the first of which is y */
    double number[2];
    ld_conv_shape conv;
    void (*forward)(struct problem *, int f32);
} problem;

static inline double loss(problem *p, const ld_view *g) {
    double sum = 0;
    p->forward(p, 0);
    for (int64_t i = 0; i < ld_view_numel(g); i++)
        sum += get(g, i) * get(&p->out[0]->v[0], i);
    return sum;
}

/* dx against (L(x + h) - L(x - h)) / 2h, L = sum of g y, at about 8 elements of x. h = 1e-4 leaves h^2 = 1e-8 of
 * truncation and 1e-12 of rounding, relative to L; 1e-6 of the largest gradient is far above both. */
#define gradient(p, x, dx, g) check_gradient(p, x, dx, g, __LINE__)
static inline void check_gradient(problem *p, pair *x, const pair *dx, const pair *g, int line) {
    int64_t n = ld_view_numel(&x->v[0]), step = n > 8 ? n / 8 : 1;
    double largest = 1e-3, h = 1e-4;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(get(&dx->v[0], i)));
    for (int64_t i = 0; i < n; i += step) {
        double at = get(&x->v[0], i);
        put(&x->v[0], i, at + h);
        double above = loss(p, &g->v[0]);
        put(&x->v[0], i, at - h);
        double below = loss(p, &g->v[0]), want = (above - below) / (2 * h), got = get(&dx->v[0], i);
        put(&x->v[0], i, at);
        if (!(fabs(got - want) <= 1e-6 * largest))
            fail_msg("line %d: gradient %g at %d, differences say %g", line, got, (int)i, want);
    }
    p->forward(p, 0);
}

#endif
