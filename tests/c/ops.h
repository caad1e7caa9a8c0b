/* For tests of operations: tensors that go away by themselves, elements by logical position, the same numbers in several
 * layouts, and a watch over memory around every test. */
#ifndef LD_TEST_OPS_H
#define LD_TEST_OPS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "op/op.h"

#define SHAPE(...)                                                                                                     \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) {                                           \
        __VA_ARGS__                                                                                                    \
    }
#define LENGTH(table) (sizeof(table) / sizeof *(table))

static inline ld_device *cpu(void) {
    return ld_device_find("cpu");
}

static inline ld_pool_stats memory(void) {
    return ld_pool_figures(cpu()->pool);
}

/* ---- tensors of a test ----------------------------------------------------------------------------------------------- */

enum { MOST_KEPT = 512 };
static ld_tensor *kept[MOST_KEPT];
static int kept_count;
static int64_t headers_before, blocks_before;
static size_t bytes_before;

/* x, dropped at the end of the test. */
static inline ld_tensor *keep(ld_tensor *x) {
    if (!x)
        fail_msg("%s", ld_error());
    assert_true(kept_count < MOST_KEPT);
    return kept[kept_count++] = x;
}

static inline void drop_kept(void) {
    while (kept_count)
        ld_tensor_drop(kept[--kept_count]);
}

static inline void same_memory(const char *what) {
    if (ld_tensor_count() != headers_before || memory().live != bytes_before || memory().blocks != blocks_before)
        fail_msg("%s: %lld tensors and %lld blocks are left", what, (long long)(ld_tensor_count() - headers_before),
                 (long long)(memory().blocks - blocks_before));
}

static inline int watch(void **state) {
    (void)state;
    headers_before = ld_tensor_count();
    blocks_before = memory().blocks;
    bytes_before = memory().live;
    ld_error_clear();
    return 0;
}

static inline int look_back(void **state) {
    (void)state;
    drop_kept();
    ld_set_recording(true);
    ld_pool_fail_at(cpu()->pool, 0);
    same_memory("at the end");
    return 0;
}
#define TEST(f) cmocka_unit_test_setup_teardown(f, watch, look_back)

/* ---- elements -------------------------------------------------------------------------------------------------------- */

/* Address of logical element i, counted in row-major order whatever the layout. */
static inline void *element(const ld_tensor *x, int64_t i) {
    int64_t at = 0;
    for (int d = x->ndim - 1; d >= 0; i /= x->shape[d--])
        at += i % x->shape[d] * x->stride[d];
    return (char *)ld_tensor_data(x) + at * (int64_t)ld_dtype_size(x->dtype);
}

static inline double get(const ld_tensor *x, int64_t i) {
    return ld_dtype_get(x->dtype, element(x, i));
}

static inline void set(ld_tensor *x, int64_t i, double v) {
    ld_dtype_set(x->dtype, element(x, i), v);
}

/* Element (a, b, c, d) of a rank-4 tensor, or 0 outside (zero padding). */
static inline double get4(const ld_tensor *x, int64_t a, int64_t b, int64_t c, int64_t d) {
    const int64_t *s = x->shape;
    if (c < 0 || c >= s[2] || d < 0 || d >= s[3])
        return 0;
    return get(x, ((a * s[1] + b) * s[2] + c) * s[3] + d);
}

/* A number for element i of stream s: magnitude 0.2 to 1.5, so that no kink at 0 is near. */
static inline double number(uint64_t s, int64_t i) {
    uint64_t z = (s << 32) + (uint64_t)i + 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    double u = (double)(z >> 12) / 4503599627370496.0;
    return (z & 1 ? 1 : -1) * (0.2 + 1.3 * u);
}

static inline ld_tensor *tensor(ld_dtype t, int ndim, const int64_t *shape, const double *v) {
    ld_tensor *x = keep(ld_tensor_new(cpu(), t, ndim, shape, "test"));
    for (int64_t i = 0; v && i < ld_tensor_numel(x); i++)
        set(x, i, v[i]);
    return x;
}
#define VALUES(...)                                                                                                    \
    (double[]) {                                                                                                       \
        __VA_ARGS__                                                                                                    \
    }

static inline ld_tensor *numbers(ld_dtype t, int ndim, const int64_t *shape, uint64_t stream) {
    ld_tensor *x = tensor(t, ndim, shape, NULL);
    for (int64_t i = 0; i < ld_tensor_numel(x); i++)
        set(x, i, number(stream, i));
    return x;
}

/* ---- layouts --------------------------------------------------------------------------------------------------------- */

enum { CANONICAL, REVERSED, GAPPED, LAYOUTS };

/* x's numbers in another layout: dimensions reversed in memory, or row-major with a gap after every element. */
static inline ld_tensor *laid_out(const ld_tensor *x, int layout) {
    int64_t stride[LD_MAX_DIMS], step = layout == GAPPED ? 2 : 1, n = 2 * ld_tensor_numel(x) + 3;
    for (int i = 0; i < x->ndim; i++) {
        int d = layout == REVERSED ? i : x->ndim - 1 - i;
        stride[d] = step;
        step *= x->shape[d];
    }
    ld_tensor *room = keep(ld_tensor_new(cpu(), x->dtype, 1, &n, "test"));
    memset(ld_tensor_data(room), 0x7f, room->storage->bytes);
    ld_tensor *y = layout == CANONICAL ? keep(ld_tensor_clone(x, "test"))
                                       : keep(ld_tensor_view(room, x->ndim, x->shape, stride, 3));
    for (int64_t i = 0; i < ld_tensor_numel(x); i++)
        set(y, i, get(x, i));
    return y;
}

/* Values are checked in f64 and f32 and every layout. EPS: 1e-12 for f64 is some thousand roundings of sums near 1; 2e-5
 * for f32 is two hundred. */
static const ld_dtype computed[] = {LD_F64, LD_F32};
#define EACH_WAY   for (int way = 0; way < 2 * LAYOUTS; way++, drop_kept())
#define DTYPE      computed[way / LAYOUTS]
#define EPS        (DTYPE == LD_F64 ? 1e-12 : 2e-5)
#define INPUT(...) laid_out(numbers(DTYPE, SHAPE(__VA_ARGS__), __COUNTER__ + 1), way % LAYOUTS)

/* ---- comparisons ----------------------------------------------------------------------------------------------------- */

static inline void near(const char *what, double a, double b, double eps) {
    if (!(fabs(a - b) <= eps) && !(isnan(a) && isnan(b)) && a != b)
        fail_msg("%s: %.17g, not %.17g", what, a, b);
}

static inline void has_shape(const ld_tensor *x, int ndim, const int64_t *shape) {
    if (x->ndim != ndim || (ndim && memcmp(x->shape, shape, (size_t)ndim * sizeof *shape)))
        fail_msg("%s, not %s", ld_tensor_text(x), ld_shape_text(ndim, shape));
}

static inline void has_values(const char *what, const ld_tensor *x, const double *v, double eps) {
    char text[96];
    for (int64_t i = 0; i < ld_tensor_numel(x); i++) {
        snprintf(text, sizeof text, "%s, element %lld", what, (long long)i);
        near(text, get(x, i), v[i], eps);
    }
}

static inline void lies_canonical(const ld_tensor *y) {
    if (!ld_tensor_is_canonical(y))
        fail_msg("the layout of %s is not canonical", ld_tensor_text(y));
}

/* ||x - y|| / ||y||, with 0/0 = 0. */
static inline double distance(const ld_tensor *x, const ld_tensor *y) {
    double d = 0, n = 0;
    for (int64_t i = 0; i < ld_tensor_numel(x); i++) {
        double u = get(x, i) - get(y, i);
        d += u * u;
        n += get(y, i) * get(y, i);
    }
    return d == 0 ? 0 : sqrt(d / n);
}

#endif
