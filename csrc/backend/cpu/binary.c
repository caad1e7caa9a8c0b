/* Elementwise functions of two or three arguments: binary, axpby, where. Every argument is read once, y written once;
 * blocks of elements are shared out to threads. Integers wrap; their quotients are cut towards zero and are 0 for a divisor
 * of 0; their powers are those of whole numbers. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/iterate.h"

#include <math.h>

#define KERNEL(name, suffix, T, R, expression)                                                                         \
    LD_CLONES static void name##_##suffix(int64_t n, void *const *p, const void *arg) {                                \
        R *y = p[0];                                                                                                   \
        const T *av = p[1], *bv = p[2];                                                                                \
        (void)arg;                                                                                                     \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                          \
            T a = av[i], b = bv[i];                                                                                    \
            y[i] = (R)(expression);                                                                                    \
        }                                                                                                              \
    }
#define COMPARISONS(suffix, T)                                                                                         \
    KERNEL(equal, suffix, T, uint8_t, a == b)                                                                          \
    KERNEL(unequal, suffix, T, uint8_t, a != b)                                                                        \
    KERNEL(less, suffix, T, uint8_t, a < b)                                                                            \
    KERNEL(at_most, suffix, T, uint8_t, a <= b)                                                                        \
    KERNEL(greater, suffix, T, uint8_t, a > b)                                                                         \
    KERNEL(at_least, suffix, T, uint8_t, a >= b)
/* A NaN on either side is the result. */
#define FLOATS(suffix, T, pow)                                                                                         \
    KERNEL(add, suffix, T, T, a + b)                                                                                   \
    KERNEL(subtract, suffix, T, T, a - b)                                                                              \
    KERNEL(multiply, suffix, T, T, a *b)                                                                               \
    KERNEL(divide, suffix, T, T, a / b)                                                                                \
    KERNEL(maximum, suffix, T, T, ((a >= b) | (a != a)) ? a : b)                                                       \
    KERNEL(minimum, suffix, T, T, ((a <= b) | (a != a)) ? a : b)                                                       \
    KERNEL(power, suffix, T, T, pow(a, b))                                                                             \
    COMPARISONS(suffix, T)
#define INTEGERS(suffix, T, U)                                                                                         \
    KERNEL(add, suffix, T, T, (U)a + (U)b)                                                                             \
    KERNEL(subtract, suffix, T, T, (U)a - (U)b)                                                                        \
    KERNEL(multiply, suffix, T, T, (U)a *(U)b)                                                                         \
    KERNEL(divide, suffix, T, T, quotient(a, b))                                                                       \
    KERNEL(maximum, suffix, T, T, a >= b ? a : b)                                                                      \
    KERNEL(minimum, suffix, T, T, a <= b ? a : b)                                                                      \
    KERNEL(power, suffix, T, T, whole_power(a, b))                                                                     \
    COMPARISONS(suffix, T)
#define NAMES(suffix)                                                                                                  \
    {                                                                                                                  \
        add_##suffix, subtract_##suffix, multiply_##suffix, divide_##suffix, maximum_##suffix, minimum_##suffix,       \
            power_##suffix, equal_##suffix, unequal_##suffix, less_##suffix, at_most_##suffix, greater_##suffix,       \
            at_least_##suffix                                                                                          \
    }

static int64_t quotient(int64_t a, int64_t b) {
    if (b == 0)
        return 0;
    return b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b; /* the most negative number has no opposite */
}

/* a^b by squaring; a negative power of anything but 1 and -1 is 0. */
static int64_t whole_power(int64_t a, int64_t b) {
    if (b < 0)
        return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
    uint64_t result = 1, square = (uint64_t)a;
    for (; b; b >>= 1) {
        if (b & 1)
            result *= square;
        square *= square;
    }
    return (int64_t)result;
}

FLOATS(f32, float, powf)
FLOATS(f64, double, pow)
INTEGERS(i64, int64_t, uint64_t)
INTEGERS(i32, int32_t, uint32_t)
INTEGERS(u8, uint8_t, uint32_t)

int ld_cpu_binary(const ld_view *y, const ld_view *a, const ld_view *b, ld_binary_op op) {
    static const ld_block_fn table[LD_DTYPE_COUNT][LD_BINARY_COUNT] = {
        [LD_F32] = NAMES(f32), [LD_F64] = NAMES(f64), [LD_I64] = NAMES(i64), [LD_I32] = NAMES(i32), [LD_U8] = NAMES(u8),
    };
    ld_iterate(3, (const ld_view *const[]){y, a, b}, false, table[ld_compute_dtype(a->dtype)][op], NULL);
    return 0;
}

/* ---- axpby ----------------------------------------------------------------------------------------------------------- */

typedef struct factors {
    double alpha, beta;
} factors;

#define AXPBY(T)                                                                                                       \
    LD_CLONES static void scale_##T(int64_t n, void *const *p, const void *arg) {                                      \
        T *y = p[0];                                                                                                   \
        const T *x = p[1], alpha = (T)((const factors *)arg)->alpha;                                                   \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = alpha * x[i];                                       \
    }                                                                                                                  \
    LD_CLONES static void combine_##T(int64_t n, void *const *p, const void *arg) {                                    \
        T *y = p[0];                                                                                                   \
        const T *x = p[1], *old = p[2];                                                                                \
        const T alpha = (T)((const factors *)arg)->alpha, beta = (T)((const factors *)arg)->beta;                      \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = alpha * x[i] + beta * old[i];                       \
    }
AXPBY(float)
AXPBY(double)

int ld_cpu_axpby(const ld_view *y, const ld_view *x, double alpha, double beta) {
    factors f = {alpha, beta};
    const ld_view *views[] = {y, x, y};
    bool f64 = y->dtype == LD_F64;
    if (beta == 0)
        ld_iterate(2, views, false, f64 ? scale_double : scale_float, &f);
    else
        ld_iterate(3, views, false, f64 ? combine_double : combine_float, &f);
    return 0;
}

/* ---- where ----------------------------------------------------------------------------------------------------------- */

#define SELECT(T)                                                                                                      \
    LD_CLONES static void select_##T(int64_t n, void *const *p, const void *arg) {                                     \
        T *y = p[0];                                                                                                   \
        const uint8_t *c = p[1];                                                                                       \
        const T *av = p[2], *bv = p[3];                                                                                \
        (void)arg;                                                                                                     \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                          \
            T a = av[i], b = bv[i];                                                                                    \
            y[i] = c[i] ? a : b;                                                                                       \
        }                                                                                                              \
    }
SELECT(uint8_t)
SELECT(uint16_t)
SELECT(uint32_t)
SELECT(uint64_t)

int ld_cpu_where(const ld_view *y, const ld_view *c, const ld_view *a, const ld_view *b) {
    static const ld_block_fn by_size[9] = {
        [1] = select_uint8_t, [2] = select_uint16_t, [4] = select_uint32_t, [8] = select_uint64_t};
    ld_iterate(4, (const ld_view *const[]){y, c, a, b}, true, by_size[ld_dtype_size(y->dtype)], NULL);
    return 0;
}
