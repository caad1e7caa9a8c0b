/* Elementary functions of f32 for elementwise loops: branch-free, so that loops over them become vector code.
 *
 * Relative errors are below 2e-7 where the result is a normal number (sin, cos, tan: for |x| up to VM_FAR). Infinities, NaN
 * and subnormal arguments are taken as in the C library. The polynomials are Chebyshev fits of the functions named beside
 * them; the arguments are reduced as described in Muller, "Elementary Functions" (2016), ch. 11. */
#ifndef LD_VMATH_EW_H
#define LD_VMATH_EW_H

#include "backend/half.h"

#include <float.h>
#include <math.h>

#define VM_FAR 1e6f /* beyond it the reduction by multiples of pi/2 loses digits */

/* e^(x + rest), rest small beside 1. */
LD_INLINE float vm_exp_sum(float x, float rest) {
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    float shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the sum's low bits are the nearest integer n */
    float n = shifted - 12582912.0f;
    int32_t k = (int32_t)(ld_bits_of(shifted) - ld_bits_of(12582912.0f));
    float r = x - n * 0.693359375f - n * -2.12194440e-4f + rest; /* x - n ln 2 */
    float p = 1.392692661e-3f;                                   /* (e^r - 1 - r) / r^2 */
    p = p * r + 8.363773874e-3f;
    p = p * r + 4.166655011e-2f;
    p = p * r + 1.666657338e-1f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    /* 2^k in two factors: one alone would leave the range of f32 where the result need not. */
    int32_t half = k >> 1;
    return p * ld_float_of((uint32_t)(half + 127) << 23) * ld_float_of((uint32_t)(k - half + 127) << 23);
}

LD_INLINE float vm_exp(float x) {
    return vm_exp_sum(x, 0.0f);
}

LD_INLINE float vm_log(float x) {
    float big = x < FLT_MIN ? x * 0x1p23f : x, shift = x < FLT_MIN ? -23.0f : 0.0f;
    uint32_t u = ld_bits_of(big) + (0x3f800000u - 0x3f3504f3u); /* so that m lies in [sqrt(1/2), sqrt(2)) */
    float e = (float)(int32_t)((u >> 23) - 127u) + shift;
    float f = ld_float_of((u & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
    float p = 6.971611471e-2f; /* (ln(1 + f) - f + f^2/2) / f^3 */
    p = p * f - 1.147973385e-1f;
    p = p * f + 1.168541992e-1f;
    p = p * f - 1.242568733e-1f;
    p = p * f + 1.424905765e-1f;
    p = p * f - 1.666780232e-1f;
    p = p * f + 2.000071575e-1f;
    p = p * f - 2.499999696e-1f;
    p = p * f + 3.333333118e-1f;
    float low = p * f * f * f - 0.5f * f * f + e * -2.12194440e-4f;
    float r = e * 0.693359375f + (f + low);
    r = x > FLT_MAX ? x : r;
    r = x == 0.0f ? -INFINITY : r;
    return x >= 0.0f ? r : NAN;
}

/* Are all |x| (or NaN) at most VM_FAR. */
LD_INLINE int vm_within(const float *x, int64_t n) {
    int far = 0;
#pragma omp simd reduction(| : far)
    for (int64_t i = 0; i < n; i++)
        far |= fabsf(x[i]) > VM_FAR;
    return !far;
}

/* x less the nearest multiple of pi/2, and that multiple's low bits. */
LD_INLINE double vm_quarter(float x, uint32_t *quadrant) {
    union {
        double d;
        uint64_t u;
    } shifted = {.d = (double)x * 0.63661977236758134308 + 6755399441055744.0}; /* 1.5 * 2^52 */
    double n = shifted.d - 6755399441055744.0;
    *quadrant = (uint32_t)shifted.u;
    return (double)x - n * 1.57079632673412561417 - n * 6.07710050650619224932e-11;
}

LD_INLINE double vm_sin_quarter(double r) {
    double t = r * r, p = 2.724378141e-6; /* (sin r / r - 1) / r^2 */
    p = p * t - 1.984003887e-4;
    p = p * t + 8.333331785e-3;
    p = p * t - 1.666666666e-1;
    return r + r * t * p;
}

LD_INLINE double vm_cos_quarter(double r) {
    double t = r * r, p = -2.729583083e-7; /* (cos r - 1 + r^2/2) / r^4 */
    p = p * t + 2.480056043e-5;
    p = p * t - 1.388888760e-3;
    p = p * t + 4.166666666e-2;
    return 1.0 - 0.5 * t + t * t * p;
}

/* sin(x + turn pi/2) */
LD_INLINE float vm_sin_turned(float x, uint32_t turn) {
    uint32_t q;
    double r = vm_quarter(x, &q), s = vm_sin_quarter(r), c = vm_cos_quarter(r);
    q += turn;
    float y = (float)(q & 1 ? c : s);
    return q & 2 ? -y : y;
}

LD_INLINE float vm_sin(float x) {
    return vm_sin_turned(x, 0);
}

LD_INLINE float vm_cos(float x) {
    return vm_sin_turned(x, 1);
}

LD_INLINE float vm_tan(float x) {
    uint32_t q;
    double r = vm_quarter(x, &q), s = vm_sin_quarter(r), c = vm_cos_quarter(r);
    double above = q & 1 ? -c : s, below = q & 1 ? s : c;
    return (float)(above / below);
}

LD_INLINE float vm_tanh(float x) {
    float a = fabsf(x), t = x * x, p = -6.045165097e-3f; /* (tanh x / x - 1) / x^2 */
    p = p * t + 2.096132911e-2f;
    p = p * t - 5.384326318e-2f;
    p = p * t + 1.333271885e-1f;
    p = p * t - 3.333332843e-1f;
    float near = x + x * t * p;
    float far = copysignf(1.0f - 2.0f / (vm_exp(2.0f * a) + 1.0f), x);
    return a < 0.6f ? near : far; /* a NaN goes far */
}

LD_INLINE float vm_sigmoid(float x) {
    return 1.0f / (1.0f + vm_exp(-x));
}

LD_INLINE float vm_silu(float x) {
    return x / (1.0f + vm_exp(-x));
}

/* The normal distribution: Phi(x) (relative error below 4e-7, in the lower tail too), and e^(-x^2/2) in *bell. */
LD_INLINE float vm_normal(float x, float *bell) {
    float a = fabsf(x);
    a = a > 15.0f ? 15.0f : a; /* e^(-112) is 0 */
    /* a^2 in two parts, the first without rounding: an error in the exponent becomes one of the result. */
    float high = ld_float_of(ld_bits_of(a) & 0xfffff000u);
    *bell = vm_exp_sum(-0.5f * high * high, -0.5f * (a - high) * (a + high));
    float inverse = 1.0f / (a + 3.0f), w = (a - 3.0f) * inverse;
    float p = 3.973129816e-5f; /* (a + 3) e^(a^2/2) Phi(-a) */
    p = p * w - 2.191398923e-4f;
    p = p * w - 9.358717430e-4f;
    p = p * w + 1.033011106e-3f;
    p = p * w + 6.934259882e-3f;
    p = p * w - 1.046769312e-2f;
    p = p * w - 4.725779114e-2f;
    p = p * w + 2.300182681e-1f;
    p = p * w - 5.093321850e-1f;
    p = p * w + 7.290836823e-1f;
    float tail = *bell * p * inverse;
    float phi = x > 0.0f ? 1.0f - tail : tail;
    return x != x ? x : phi;
}

#endif
