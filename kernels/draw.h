/* The numbers of base/rng.h on the device. Uniform ones are those of the CPU to the bit; normal ones differ by what CUDA's logf,
 * sinf and cosf differ from the C library's, a few units in the last place. */
#ifndef LD_KERNEL_DRAW_H
#define LD_KERNEL_DRAW_H

#include "kernels/kernel.h"

#include "base/philox.h"
#include "base/rng.h"

/* 24 random bits as a float in [0, 1). */
LD_DEVICE float unit(uint32_t u) {
    return (float)(u >> 8) * 0x1p-24f;
}

/* Box-Muller: elements 2k and 2k + 1 of the four share a pair. */
LD_DEVICE float bell(const uint32_t *w, int j) {
    float r = sqrtf(-2.0f * logf(1.0f - unit(w[j & 2]))), a = 6.28318530717958648f * unit(w[(j & 2) + 1]);
    return r * (j & 1 ? sinf(a) : cosf(a));
}

/* Element e of a sample: ld_rng_normal or ld_rng_uniform of one element. */
LD_DEVICE float draw_one(uint64_t seed, uint32_t purpose, uint64_t sample, int64_t e, bool normal) {
    uint32_t w[4];
    ld_philox_block(w, seed, purpose, sample, (uint32_t)(e / 4));
    int j = (int)(e & 3);
    uint32_t one = j & 2 ? (j & 1 ? w[3] : w[2]) : (j & 1 ? w[1] : w[0]);
    uint32_t pair[2] = {j & 2 ? w[2] : w[0], j & 2 ? w[3] : w[1]};
    return normal ? bell(pair, j & 1) : unit(one);
}

#endif
