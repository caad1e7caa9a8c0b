/* Elementwise functions of one argument. Reads x once, writes y once; blocks of elements are shared out to threads. f32
 * (and bf16, f16 through it) uses vmath_ew.h, f64 the C library. Integers wrap; AFFINE with a or b not whole rounds towards
 * zero. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/iterate.h"
#include "backend/cpu/vmath_ew.h"
#include "base/error.h"

typedef struct parameters {
    double a, b;
    int64_t whole_a, whole_b; /* for the integers */
} parameters;

#define KERNEL(name, T, expression)                                                                                    \
    LD_CLONES static void name(int64_t n, void *const *p, const void *arg) {                                           \
        T *y = p[0];                                                                                                   \
        const T *x = p[1];                                                                                             \
        const T a = (T)((const parameters *)arg)->a, b = (T)((const parameters *)arg)->b;                              \
        (void)a, (void)b;                                                                                              \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                          \
            T v = x[i];                                                                                                \
            y[i] = expression;                                                                                         \
        }                                                                                                              \
    }
#define FLOATS(name, expression)                                                                                       \
    KERNEL(name##_f32, float, expression)                                                                              \
    KERNEL(name##_f64, double, expression)
#define FLOATS_APART(name, f32_expression, f64_expression)                                                             \
    KERNEL(name##_f32, float, f32_expression)                                                                          \
    KERNEL(name##_f64, double, f64_expression)

/* Periodic functions: blocks with an argument beyond VM_FAR go to the C library. */
#define PERIODIC(name)                                                                                                 \
    KERNEL(name##_near, float, vm_##name(v))                                                                           \
    KERNEL(name##_f64, double, name(v))                                                                                \
    static void name##_f32(int64_t n, void *const *p, const void *arg) {                                               \
        if (vm_within(p[1], n)) {                                                                                      \
            name##_near(n, p, arg);                                                                                    \
            return;                                                                                                    \
        }                                                                                                              \
        float *y = p[0];                                                                                               \
        const float *x = p[1];                                                                                         \
        for (int64_t i = 0; i < n; i++)                                                                                \
            y[i] = name##f(x[i]);                                                                                      \
    }

LD_INLINE float normal_f32(float v) {
    float bell;
    return vm_normal(v, &bell);
}

FLOATS(negate, -v)
FLOATS_APART(absolute, fabsf(v), fabs(v))
FLOATS_APART(exponential, vm_exp(v), exp(v))
FLOATS_APART(logarithm, vm_log(v), log(v))
FLOATS_APART(root, sqrtf(v), sqrt(v))
FLOATS_APART(inverse_root, 1 / sqrtf(v), 1 / sqrt(v))
FLOATS(square, v *v)
FLOATS(cube, v *v *v)
FLOATS(inverse, 1 / v)
PERIODIC(sin)
PERIODIC(cos)
PERIODIC(tan)
FLOATS_APART(hyperbolic, vm_tanh(v), tanh(v))
FLOATS_APART(sigmoid, vm_sigmoid(v), 1 / (1 + exp(-v)))
FLOATS_APART(silu, vm_silu(v), v / (1 + exp(-v)))
FLOATS_APART(gelu, v *normal_f32(v), 0.5 * v * erfc(-v * 0.70710678118654752440))
FLOATS(relu, v <= 0 ? 0 : v)
FLOATS(leaky, (v > 0 ? v : a * v) - b)
FLOATS(clamp, v < a ? a : (v > b ? b : v))
FLOATS_APART(power, powf(v, a), pow(v, a))
FLOATS(affine, a *v + b)
FLOATS_APART(down, floorf(v), floor(v))
FLOATS_APART(nearest, rintf(v), rint(v))
FLOATS(sign, (v > 0) - (v < 0))

static const ld_block_fn f32_kernels[LD_UNARY_COUNT] = {
    negate_f32, absolute_f32, exponential_f32, logarithm_f32,  root_f32,    inverse_root_f32, square_f32, inverse_f32,
    sin_f32,    cos_f32,      tan_f32,         hyperbolic_f32, sigmoid_f32, silu_f32,         gelu_f32,   relu_f32,
    leaky_f32,  clamp_f32,    power_f32,       affine_f32,     down_f32,    nearest_f32,      sign_f32,
};
static const ld_block_fn f64_kernels[LD_UNARY_COUNT] = {
    negate_f64, absolute_f64, exponential_f64, logarithm_f64,  root_f64,    inverse_root_f64, square_f64, inverse_f64,
    sin_f64,    cos_f64,      tan_f64,         hyperbolic_f64, sigmoid_f64, silu_f64,         gelu_f64,   relu_f64,
    leaky_f64,  clamp_f64,    power_f64,       affine_f64,     down_f64,    nearest_f64,      sign_f64,
};

/* ---- integers -------------------------------------------------------------------------------------------------------- */

#define INTEGER_KERNEL(name, T, U, expression)                                                                         \
    LD_CLONES static void name##_##T(int64_t n, void *const *p, const void *arg) {                                     \
        T *y = p[0];                                                                                                   \
        const T *x = p[1];                                                                                             \
        const int64_t a = ((const parameters *)arg)->whole_a, b = ((const parameters *)arg)->whole_b;                  \
        (void)a, (void)b;                                                                                              \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                          \
            int64_t v = x[i];                                                                                          \
            y[i] = (T)(expression);                                                                                    \
        }                                                                                                              \
    }
#define INTEGERS(T, U, dtype)                                                                                          \
    INTEGER_KERNEL(negate, T, U, (U)0 - (U)v)                                                                          \
    INTEGER_KERNEL(absolute, T, U, v < 0 ? (U)0 - (U)v : (U)v)                                                         \
    INTEGER_KERNEL(square, T, U, (U)v *(U)v)                                                                           \
    INTEGER_KERNEL(affine, T, U, (U)a *(U)v + (U)b)                                                                    \
    INTEGER_KERNEL(clamp, T, U, v < a ? a : (v > b ? b : v))                                                           \
    INTEGER_KERNEL(sign, T, U, (v > 0) - (v < 0))                                                                      \
    static void stretch_##T(int64_t n, void *const *p, const void *arg) {                                              \
        T *y = p[0];                                                                                                   \
        const T *x = p[1];                                                                                             \
        const parameters *k = arg;                                                                                     \
        for (int64_t i = 0; i < n; i++)                                                                                \
            ld_dtype_set(dtype, &y[i], k->a *(double)x[i] + k->b);                                                     \
    }
INTEGERS(int64_t, uint64_t, LD_I64)
INTEGERS(int32_t, uint32_t, LD_I32)
INTEGERS(uint8_t, uint32_t, LD_U8)

static bool is_whole(double v) {
    return v == floor(v) && fabs(v) < 0x1p53;
}

/* NULL for the functions that integers lack. */
static ld_block_fn integer_kernel(ld_dtype t, ld_unary_op op, const parameters *k) {
#define ROW(T)                                                                                                         \
    { negate_##T, absolute_##T, square_##T, affine_##T, clamp_##T, sign_##T, stretch_##T }
    static const ld_block_fn table[3][7] = {ROW(int64_t), ROW(int32_t), ROW(uint8_t)};
#undef ROW
    const ld_block_fn *row = table[t == LD_I64 ? 0 : t == LD_I32 ? 1 : 2];
    switch (op) {
    case LD_NEG:
        return row[0];
    case LD_ABS:
        return row[1];
    case LD_SQUARE:
        return row[2];
    case LD_AFFINE:
        return row[is_whole(k->a) && is_whole(k->b) ? 3 : 6];
    case LD_CLAMP:
        return row[4];
    case LD_SIGN:
        return row[5];
    default:
        return NULL;
    }
}

/* The nearest value of t, an integer dtype. */
static int64_t nearest_integer(ld_dtype t, double v) {
    union {
        int64_t i64;
        int32_t i32;
        uint8_t u8;
    } e;
    ld_dtype_set(t, &e, v);
    return t == LD_I64 ? e.i64 : t == LD_I32 ? e.i32 : e.u8;
}

/* ---- the slot -------------------------------------------------------------------------------------------------------- */

/* x^a for the exponents that need no logarithm. */
static ld_block_fn power_kernel(bool f64, double a) {
    if (a == 1)
        return f64 ? affine_f64 : affine_f32;
    if (a == 2)
        return f64 ? square_f64 : square_f32;
    if (a == 3)
        return f64 ? cube_f64 : cube_f32;
    if (a == 0.5)
        return f64 ? root_f64 : root_f32;
    if (a == -0.5)
        return f64 ? inverse_root_f64 : inverse_root_f32;
    if (a == -1)
        return f64 ? inverse_f64 : inverse_f32;
    return f64 ? power_f64 : power_f32;
}

int ld_cpu_unary(const ld_view *y, const ld_view *x, ld_unary_op op, double a, double b) {
    parameters k = {.a = a, .b = b};
    bool f64 = x->dtype == LD_F64;
    ld_block_fn fn = f64 ? f64_kernels[op] : f32_kernels[op];
    if (!ld_dtype_is_float(x->dtype)) {
        bool clamps = op == LD_CLAMP; /* to the dtype's own range at most */
        k.whole_a = clamps ? nearest_integer(x->dtype, a) : is_whole(a) ? (int64_t)a : 0;
        k.whole_b = clamps ? nearest_integer(x->dtype, b) : is_whole(b) ? (int64_t)b : 0;
        fn = integer_kernel(x->dtype, op, &k);
        if (!fn)
            return ld_fail(LD_EDTYPE, "unary: function %d takes floats, x is %s", (int)op, ld_dtype_names[x->dtype]);
    } else if (op == LD_POW) {
        fn = power_kernel(f64, a);
        if (a == 1)
            k.b = 0;
    }
    ld_iterate(2, (const ld_view *const[]){y, x}, false, fn, &k);
    return 0;
}
