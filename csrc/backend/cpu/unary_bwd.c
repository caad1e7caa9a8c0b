/* Gradients of the elementwise functions: dx = g op'(s), s being x, or the result where ld_unary_keeps_result. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/iterate.h"
#include "backend/cpu/vmath_ew.h"

typedef struct parameters {
    double a, b;
} parameters;

/* s is one element of s; the expression is the factor of g. */
#define KERNEL(name, T, factor)                                                                                        \
    LD_CLONES static void name(int64_t n, void *const *p, const void *arg) {                                           \
        T *dx = p[0];                                                                                                  \
        const T *g = p[1], *sv = p[2];                                                                                 \
        const T a = (T)((const parameters *)arg)->a, b = (T)((const parameters *)arg)->b;                              \
        (void)a, (void)b;                                                                                              \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                          \
            T s = sv[i];                                                                                               \
            (void)s;                                                                                                   \
            dx[i] = g[i] * (factor);                                                                                   \
        }                                                                                                              \
    }
#define FLOATS(name, factor)                                                                                           \
    KERNEL(name##_f32, float, factor)                                                                                  \
    KERNEL(name##_f64, double, factor)
#define FLOATS_APART(name, f32_factor, f64_factor)                                                                     \
    KERNEL(name##_f32, float, f32_factor)                                                                              \
    KERNEL(name##_f64, double, f64_factor)

/* Where the function is flat the gradient is 0 whatever g is, infinities too. */
#define GATED(name, T, condition, otherwise)                                                                           \
    LD_CLONES static void name(int64_t n, void *const *p, const void *arg) {                                           \
        T *dx = p[0];                                                                                                  \
        const T *g = p[1], *sv = p[2];                                                                                 \
        const T a = (T)((const parameters *)arg)->a, b = (T)((const parameters *)arg)->b;                              \
        (void)a, (void)b;                                                                                              \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                          \
            T s = sv[i], through = g[i], other = otherwise;                                                            \
            (void)s;                                                                                                   \
            dx[i] = condition ? through : other;                                                                       \
        }                                                                                                              \
    }
#define GATED_FLOATS(name, condition, otherwise)                                                                       \
    GATED(name##_f32, float, condition, otherwise)                                                                     \
    GATED(name##_f64, double, condition, otherwise)

LD_INLINE float silu_slope_f32(float x) {
    float s = vm_sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

LD_INLINE double silu_slope_f64(double x) {
    double s = 1 / (1 + exp(-x));
    return s * (1 + x * (1 - s));
}

LD_INLINE float gelu_slope_f32(float x) {
    float bell, phi = vm_normal(x, &bell);
    return phi + x * bell * 0.398942280f;
}

LD_INLINE double gelu_slope_f64(double x) {
    return 0.5 * erfc(-x * 0.70710678118654752440) + x * exp(-0.5 * x * x) * 0.39894228040143267794;
}

/* Blocks with an argument beyond VM_FAR go to the C library. */
#define PERIODIC(name, near, far)                                                                                      \
    KERNEL(name##_near, float, near)                                                                                   \
    static void name##_f32(int64_t n, void *const *p, const void *arg) {                                               \
        float *dx = p[0];                                                                                              \
        const float *g = p[1], *sv = p[2];                                                                             \
        if (vm_within(sv, n)) {                                                                                        \
            name##_near(n, p, arg);                                                                                    \
            return;                                                                                                    \
        }                                                                                                              \
        for (int64_t i = 0; i < n; i++)                                                                                \
            dx[i] = g[i] * far(sv[i]);                                                                                 \
    }

FLOATS(negate, -1)
FLOATS(absolute, (s > 0) - (s < 0))
FLOATS(exponential, s)
FLOATS(logarithm, 1 / s)
FLOATS(root, 0.5f / s)
FLOATS(inverse_root, -0.5f * s * s * s)
FLOATS(square, 2 * s)
FLOATS(inverse, -s *s)
PERIODIC(sin, vm_cos(s), cosf)
KERNEL(sin_f64, double, cos(s))
PERIODIC(cos, -vm_sin(s), -sinf)
KERNEL(cos_f64, double, -sin(s))
FLOATS(tan, 1 + s * s)
FLOATS(hyperbolic, 1 - s * s)
FLOATS(sigmoid, s *(1 - s))
FLOATS_APART(silu, silu_slope_f32(s), silu_slope_f64(s))
FLOATS_APART(gelu, gelu_slope_f32(s), gelu_slope_f64(s))
GATED_FLOATS(relu, s > 0, 0)
GATED_FLOATS(leaky, s > 0, a *through)
GATED_FLOATS(clamp, (s >= a) & (s <= b), 0)
FLOATS_APART(power, a *powf(s, a - 1), a *pow(s, a - 1))
FLOATS(scale, a)
GATED_FLOATS(zero, false, 0)

static const ld_block_fn f32_kernels[LD_UNARY_COUNT] = {
    negate_f32, absolute_f32, exponential_f32, logarithm_f32,  root_f32,    inverse_root_f32, square_f32, inverse_f32,
    sin_f32,    cos_f32,      tan_f32,         hyperbolic_f32, sigmoid_f32, silu_f32,         gelu_f32,   relu_f32,
    leaky_f32,  clamp_f32,    power_f32,       scale_f32,      zero_f32,    zero_f32,         zero_f32,
};
static const ld_block_fn f64_kernels[LD_UNARY_COUNT] = {
    negate_f64, absolute_f64, exponential_f64, logarithm_f64,  root_f64,    inverse_root_f64, square_f64, inverse_f64,
    sin_f64,    cos_f64,      tan_f64,         hyperbolic_f64, sigmoid_f64, silu_f64,         gelu_f64,   relu_f64,
    leaky_f64,  clamp_f64,    power_f64,       scale_f64,      zero_f64,    zero_f64,         zero_f64,
};

int ld_cpu_unary_bwd(const ld_view *dx, const ld_view *g, const ld_view *s, ld_unary_op op, double a, double b) {
    parameters k = {.a = a, .b = b};
    const ld_block_fn *kernels = g->dtype == LD_F64 ? f64_kernels : f32_kernels;
    ld_block_fn fn = kernels[op];
    if (op == LD_POW && a == 0)
        fn = kernels[LD_SIGN]; /* 0 at x = 0, too */
    else if (op == LD_POW && a == 1)
        fn = kernels[LD_AFFINE];
    else if (op == LD_POW && a == 2)
        fn = kernels[LD_SQUARE];
    ld_iterate(3, (const ld_view *const[]){dx, g, s}, false, fn, &k);
    return 0;
}
