/* The rounds of Philox4x32-10 (base/rng.h has the streams made of it), once for the core, the CPU's vector loops and device
 * code: C11, C++17 and CUDA. */
#ifndef LD_PHILOX_H
#define LD_PHILOX_H

#include <stdint.h>

#ifdef __CUDACC__
#define LD_PHILOX static __device__ __forceinline__
#else
#define LD_PHILOX static inline __attribute__((always_inline))
#endif

/* out: four words of the counter {element4, sample low, sample high, purpose} under the key seed. */
LD_PHILOX void ld_philox_block(uint32_t *out, uint64_t seed, uint32_t purpose, uint64_t sample, uint32_t element4) {
    uint32_t c0 = element4, c1 = (uint32_t)sample, c2 = (uint32_t)(sample >> 32), c3 = purpose;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
#ifdef __CUDACC__
#pragma unroll
#endif
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

#endif
