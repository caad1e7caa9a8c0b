/* bf16 and f16 to f32 and back, rounded to nearest even, without branches: loops over them become vector code. */
#ifndef LD_HALF_H
#define LD_HALF_H

#include <stdint.h>

typedef union ld_float_bits {
    float f;
    uint32_t u;
} ld_float_bits;

#define LD_INLINE static inline __attribute__((always_inline))

LD_INLINE uint32_t ld_bits_of(float f) {
    return (ld_float_bits){.f = f}.u;
}

LD_INLINE float ld_float_of(uint32_t u) {
    return (ld_float_bits){.u = u}.f;
}

LD_INLINE float ld_widen_bf16(uint16_t v) {
    return ld_float_of((uint32_t)v << 16);
}

LD_INLINE uint16_t ld_narrow_bf16(float v) {
    uint32_t u = ld_bits_of(v), rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    uint32_t nan = u >> 16 | 0x40; /* stays a NaN when its low bits go */
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

LD_INLINE float ld_widen_f16(uint16_t v) {
    uint32_t sign = (uint32_t)(v & 0x8000) << 16, rest = (uint32_t)(v & 0x7fff) << 13;
    uint32_t finite = ld_bits_of(ld_float_of(rest) * 0x1p112f); /* exact; makes subnormals normal, too */
    return ld_float_of(sign | (rest >= 0x7c00u << 13 ? 0x7f800000u | rest : finite));
}

LD_INLINE uint16_t ld_narrow_f16(float v) {
    uint32_t u = ld_bits_of(v), a = u & 0x7fffffffu;
    uint32_t normal = ((a + 0xfff + (a >> 13 & 1)) >> 13) - (112u << 10);
    /* Below 2^-14: adding 1/2 rounds to multiples of 2^-24, the unit of the subnormals. */
    uint32_t tiny = ld_bits_of(ld_float_of(a) + 0.5f) - 0x3f000000u;
    uint32_t h = a >= 0x38800000u ? normal : tiny;
    h = a >= 0x477ff000u ? 0x7c00u : h; /* 65520 and more round to infinity */
    h = a > 0x7f800000u ? 0x7e00u | (a >> 13 & 0x1ff) : h;
    return (uint16_t)((u >> 16 & 0x8000u) | h);
}

/* v as a float rounded to odd: truncated, and its last bit set when something was lost. Rounding that to a shorter format
 * gives what rounding v at once would have. */
LD_INLINE float ld_round_to_odd(double v) {
    float f = (float)v;
    uint32_t u = ld_bits_of(f);
    uint32_t truncated = (f < 0 ? (double)f < v : (double)f > v) ? u - 1 : u;
    return ld_float_of((double)f == v || v != v ? u : truncated | 1);
}

#endif
