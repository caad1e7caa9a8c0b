/* For tests of elementwise slots: views of any dtype and layout, with guards around and between their elements. */
#ifndef LD_TEST_VIEWS_H
#define LD_TEST_VIEWS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/device.h"
#include "base/error.h"

typedef enum layout {
    CANONICAL, /* dense, NHWC for rank 4 */
    ROW_MAJOR, /* dense */
    REVERSED,  /* dense, the first dimension fastest */
    GAPPED,    /* row-major, every second element */
    SPREAD,    /* first dimension repeated by stride 0; for inputs */
    LAYOUTS
} layout;

enum { GUARD = 0xcd, MOST_VIEWS = 4096 };
static struct {
    ld_view view;
    unsigned char *memory;
    size_t bytes;
} made[MOST_VIEWS];
static int made_count;

static inline ld_view *make_view(ld_dtype t, layout l, int ndim, const int64_t *shape) {
    assert_true(made_count < MOST_VIEWS);
    ld_view v = {.dtype = t, .ndim = ndim};
    int64_t step = l == GAPPED ? 2 : 1, reach = 0;
    for (int i = 0; i < ndim; i++) {
        int d = l == REVERSED ? i : ndim - 1 - i;
        v.shape[d] = shape[d];
        v.stride[d] = l == SPREAD && d == 0 ? 0 : step;
        step *= shape[d] > 0 ? shape[d] : 1;
    }
    if (l == CANONICAL)
        ld_canonical_strides(ndim, shape, v.stride);
    for (int d = 0; d < ndim; d++)
        reach += shape[d] > 0 ? (shape[d] - 1) * v.stride[d] : 0;
    size_t bytes = (size_t)(reach + 1) * ld_dtype_size(t) + 128;
    unsigned char *memory = malloc(bytes);
    memset(memory, GUARD, bytes);
    v.data = memory + 64;
    made[made_count].view = v;
    made[made_count].memory = memory;
    made[made_count].bytes = bytes;
    return &made[made_count++].view;
}

static inline int free_views(void **state) {
    (void)state;
    while (made_count > 0)
        free(made[--made_count].memory);
    ld_set_threads(2);
    return 0;
}

static inline void *element(const ld_view *v, int64_t i) {
    int64_t at = 0;
    for (int d = v->ndim - 1; d >= 0; i /= v->shape[d--])
        at += i % v->shape[d] * v->stride[d];
    return (char *)v->data + at * (int64_t)ld_dtype_size(v->dtype);
}

static inline double get(const ld_view *v, int64_t i) {
    return ld_dtype_get(v->dtype, element(v, i));
}

static inline void put(const ld_view *v, int64_t i, double x) {
    ld_dtype_set(v->dtype, element(v, i), x);
}

/* Nothing but v's elements was written: the rest still holds the guard. */
static inline void check_guards(const ld_view *v) {
    int k = 0;
    while (k < made_count && &made[k].view != v)
        k++;
    assert_true(k < made_count);
    unsigned char *seen = calloc(made[k].bytes, 1);
    for (int64_t i = 0; i < ld_view_numel(v); i++)
        memset(seen + ((unsigned char *)element(v, i) - made[k].memory), 1, ld_dtype_size(v->dtype));
    for (size_t b = 0; b < made[k].bytes; b++)
        if (!seen[b] && made[k].memory[b] != GUARD)
            fail_msg("byte %zu outside the view was written", b);
    free(seen);
}

static uint64_t random_state = 1;

/* In [-1, 1). */
static inline double noise(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 40) * 0x1p-23 - 1;
}

static inline void randomise(const ld_view *v, double scale, double shift) {
    for (int64_t i = 0; i < ld_view_numel(v); i++)
        put(v, i, scale * noise() + shift);
}

/* The relative error left by one rounding to the dtype, and by vmath_ew.h for f32. */
static inline double precision(ld_dtype t) {
    static const double unit[LD_DTYPE_COUNT] = {4e-7, 0x1p-8 + 4e-7, 0x1p-11 + 4e-7, 4e-15, 0, 0, 0};
    return unit[t];
}

/* got against want, errors measured against |want| + scale */
static inline void check_value(const char *what, ld_dtype t, int64_t i, double got, double want, double scale) {
    if (got == want || (isnan(got) && isnan(want)))
        return;
    double tiny = t == LD_F16 ? 0x1p-24 : t == LD_F64 ? 1e-300 : 1e-38;
    if (!(fabs(got - want) <= precision(t) * (fabs(want) + scale) + tiny))
        fail_msg("%s, %s: element %d is %.9g, not %.9g", what, ld_dtype_names[t], (int)i, got, want);
}

static inline void ok(int err) {
    if (err)
        fail_msg("%s", ld_error());
}

/* Shapes that meet every path of the iterator: nothing, one, short rows, rows, blocks, images, and enough for threads. */
typedef struct shape_case {
    int ndim;
    int64_t shape[LD_MAX_DIMS];
} shape_case;
static const shape_case shape_cases[] = {
    {1, {0}},
    {0, {0}},
    {1, {1}},
    {1, {31}},
    {1, {33}},
    {1, {1000}},
    {2, {3, 0}},
    {2, {33, 31}},
    {4, {2, 3, 5, 7}},
    {4, {1, 70, 3, 2}},
    {3, {5, 1, 1300}},
    {2, {5000, 3}},
    {5, {2, 2, 2, 2, 2}},
};
static const shape_case large_case = {4, {3, 11, 33, 31}};
enum { SHAPES = sizeof shape_cases / sizeof *shape_cases };

#endif
