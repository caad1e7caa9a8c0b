/* The product of tensor cores, from sm_80 on: a warp makes C += A B, with A 16 x 16, B 16 x 8 and C 16 x 8; A and B are bf16
 * or f16, C is float, and so are the sums.
 *
 * Each lane holds a part ("fragment") of each matrix. With g = lane / 4 and t = lane % 4, and two neighbouring elements to a
 * word, the first in the low half (PTX ISA, "Matrix fragments for mma.m16n8k16"):
 *   a[0], a[1]   row g, g + 8; columns 2t, 2t + 1             a[2], a[3]   the same rows; columns 2t + 8, 2t + 9
 *   b[0], b[1]   rows 2t, 2t + 1 and rows 2t + 8, 2t + 9; column g
 *   c[0], c[1]   row g; columns 2t, 2t + 1                    c[2], c[3]   row g + 8; the same columns
 * So c of two products side by side, rounded, is a of the next one. All lanes of the warp call together. In the simulator the
 * parts come together by shuffles, and the 16 products of an element are added in order; cards add them in an order of their
 * own. Tests: tests/sim/test_sim_attention.c. */
#ifndef LD_KERNEL_MMA_H
#define LD_KERNEL_MMA_H

#include "kernels/kernel.h"

/* Two numbers rounded to nearest even, `low` in the low half. */
template <typename T> struct mma_element;
template <> struct mma_element<bf16> {
    static __device__ __forceinline__ uint32_t word(float low, float high) {
#ifdef LD_SIM
        return (uint32_t)narrow<bf16>(high).bits << 16 | narrow<bf16>(low).bits;
#else
        uint32_t w;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(high), "f"(low));
        return w;
#endif
    }
#ifndef LD_SIM
    static __device__ __forceinline__ void product(float *c, const uint32_t *a, const uint32_t *b) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
#endif
};
template <> struct mma_element<f16> {
    static __device__ __forceinline__ uint32_t word(float low, float high) {
#ifdef LD_SIM
        return (uint32_t)narrow<f16>(high).bits << 16 | narrow<f16>(low).bits;
#else
        uint32_t w;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(high), "f"(low));
        return w;
#endif
    }
#ifndef LD_SIM
    static __device__ __forceinline__ void product(float *c, const uint32_t *a, const uint32_t *b) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
#endif
};

#ifdef LD_SIM
template <typename T> static inline float mma_half(uint64_t words, int i) {
    return widen(T{(uint16_t)(words >> 16 * i)});
}

/* Lane 4r + i holds columns 2i, 2i + 1, 2i + 8 and 2i + 9 of row r of A, and those rows of column r of B. */
template <typename T> static inline void mma_emulated(float *c, const uint32_t *a, const uint32_t *b) {
    int lane = (int)(threadIdx.x % LD_WARP), g = lane / 4, t = lane % 4;
    uint64_t upper = a[0] | (uint64_t)a[2] << 32, lower = a[1] | (uint64_t)a[3] << 32,
             mine = b[0] | (uint64_t)b[1] << 32;
    float rows[2][16], columns[2][16];
    for (int i = 0; i < 4; i++) {
        uint64_t from[4] = {__shfl_sync(LD_ALL_LANES, upper, 4 * g + i), __shfl_sync(LD_ALL_LANES, lower, 4 * g + i),
                            __shfl_sync(LD_ALL_LANES, mine, 8 * t + i), __shfl_sync(LD_ALL_LANES, mine, 8 * t + 4 + i)};
        for (int e = 0; e < 4; e++) {
            int k = 2 * i + e % 2 + e / 2 * 8;
            for (int n = 0; n < 2; n++) {
                rows[n][k] = mma_half<T>(from[n], e);
                columns[n][k] = mma_half<T>(from[2 + n], e);
            }
        }
    }
    for (int r = 0; r < 2; r++)
        for (int n = 0; n < 2; n++)
            for (int k = 0; k < 16; k++)
                c[2 * r + n] += rows[r][k] * columns[n][k];
}
#endif

/* C += A B for elements of T. */
template <typename T> LD_DEVICE void mma_16x8x16(float *c, const uint32_t *a, const uint32_t *b) {
#ifdef LD_SIM
    mma_emulated<T>(c, a, b);
#else
    mma_element<T>::product(c, a, b);
#endif
}

template <typename T> LD_DEVICE uint32_t mma_word(float low, float high) {
    return mma_element<T>::word(low, high);
}
template <typename T> LD_DEVICE T mma_low(uint32_t word) {
    return T{(uint16_t)word};
}
template <typename T> LD_DEVICE T mma_high(uint32_t word) {
    return T{(uint16_t)(word >> 16)};
}

#endif
