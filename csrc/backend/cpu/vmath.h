/* Vector code in a portable binary: a body is compiled once a level of the x86-64 instruction set, and the level of
 * this processor is taken at run time.
 *
 * LD_VERSIONS writes the versions of a function around an always-inline body (name_body); it is used for functions
 * called from parallel regions, because the outlined part of a region does not inherit a target attribute.
 * LD_VERSIONS_BY_LANES calls the body with arguments of its own, among which LD_LANES is the number of floats in a
 * register of the version. Not for translation units under -ffast-math: ld_exp_f32 rounds by adding and subtracting. */
#ifndef LD_CPU_VMATH_H
#define LD_CPU_VMATH_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LD_BODY static inline __attribute__((always_inline))

#if defined(__x86_64__) && defined(__GNUC__)

#ifdef __clang__
#define LD_WIDE ""
#else
#define LD_WIDE ",prefer-vector-width=512"
#endif
#define LD_AVX2   __attribute__((target("avx2,fma,bmi2")))
#define LD_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2" LD_WIDE)))

/* 4: AVX-512, 3: AVX2 and FMA, 1: SSE2. The environment variable LD_SIMD lowers it, for tests. */
static inline int ld_simd_level(void) {
    static _Atomic int level; /* threads may ask first together */
    if (!level) {
        int have = 1;
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
            have = 3;
        if (have == 3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
            have = 4;
        const char *wish = getenv("LD_SIMD");
        int at_most = wish ? atoi(wish) : 4;
        level = at_most >= have ? have : at_most >= 3 ? 3 : 1;
    }
    return level;
}

#define LD_VERSIONS_OF(name, params, args, body_args)                                                                  \
    LD_AVX512 static void name##_avx512 params {                                                                       \
        enum { LD_LANES = 16 };                                                                                        \
        name##_body body_args;                                                                                         \
    }                                                                                                                  \
    LD_AVX2 static void name##_avx2 params {                                                                           \
        enum { LD_LANES = 8 };                                                                                         \
        name##_body body_args;                                                                                         \
    }                                                                                                                  \
    static void name##_sse2 params {                                                                                   \
        enum { LD_LANES = 4 };                                                                                         \
        name##_body body_args;                                                                                         \
    }                                                                                                                  \
    static void name params {                                                                                          \
        switch (ld_simd_level()) {                                                                                     \
        case 4:                                                                                                        \
            name##_avx512 args;                                                                                        \
            break;                                                                                                     \
        case 3:                                                                                                        \
            name##_avx2 args;                                                                                          \
            break;                                                                                                     \
        default:                                                                                                       \
            name##_sse2 args;                                                                                          \
        }                                                                                                              \
    }

#else

#define LD_VERSIONS_OF(name, params, args, body_args)                                                                  \
    static void name params {                                                                                          \
        enum { LD_LANES = 4 };                                                                                         \
        name##_body body_args;                                                                                         \
    }

#endif

#define LD_VERSIONS(name, params, args)                     LD_VERSIONS_OF(name, params, args, args)
#define LD_VERSIONS_BY_LANES(name, params, args, body_args) LD_VERSIONS_OF(name, params, args, body_args)

/* e^x for x <= 88, relative error below 2e-7; 0 below -87.3; NaN stays NaN. Made to be vectorised inside a loop.
 * x = n ln 2 + r with |r| <= ln 2 / 2; e^r = 1 + r + r^2 q(r), q interpolating at Chebyshev nodes (error 1e-8). */
LD_BODY float ld_exp_f32(float x) {
    const float round = 12582912.0f;                 /* 1.5 * 2^23: adding it leaves n in the last bits */
    uint32_t keep = -(uint32_t) !(x < -87.3f), bits; /* a mask, because gcc makes a branch of a choice */
    memcpy(&bits, &x, sizeof bits);
    bits &= keep;
    float z;
    memcpy(&z, &bits, sizeof z);
    float t = z * 1.44269504f + round;
    float n = t - round;
    float r = z - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float q = 0.001392618358789702f;
    q = q * r + 0.008363179052727866f;
    q = q * r + 0.041666554617201146f;
    q = q * r + 0.16666576989698692f;
    q = q * r + 0.5f;
    float e = q * (r * r) + r + 1.0f;
    memcpy(&bits, &t, sizeof bits);
    bits = ((bits + 127u) << 23) & keep;
    float power;
    memcpy(&power, &bits, sizeof power);
    return e * power;
}

#endif
