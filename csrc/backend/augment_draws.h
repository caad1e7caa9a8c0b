/* What slot gather_augment draws for one sample: the same on every device, whatever the batch. Each kind has its own purpose, so
 * that no two share numbers. C11, C++17 and CUDA. */
#ifndef LD_AUGMENT_DRAWS_H
#define LD_AUGMENT_DRAWS_H

#include "backend/backend.h"
#include "base/philox.h"
#include "base/rng.h"

enum {
    LD_AUGMENT_CROP = LD_RNG_AUGMENT,
    LD_AUGMENT_ERASE_PLACE = LD_RNG_AUGMENT + (1 << 8),
    LD_AUGMENT_ERASE_NOISE = LD_RNG_AUGMENT + (2 << 8),
    LD_AUGMENT_FLIP = LD_RNG_AUGMENT + (3 << 8)
};

typedef struct ld_augment_draws {
    int dy, dx; /* the sample is moved by: what lies at (y + dy, x + dx) comes to (y, x) */
    int flip;   /* 0 or 1 */
    int erases; /* rectangles */
} ld_augment_draws;

/* In [0, n): base/rng.h, ld_rng_below. */
LD_PHILOX uint32_t ld_augment_below(uint32_t n, uint32_t word) {
    return (uint32_t)(((uint64_t)word * n) >> 32);
}

/* In [0, 1): base/rng.h, ld_rng_uniform. */
LD_PHILOX float ld_augment_unit(uint32_t word) {
    return (float)(word >> 8) * 0x1p-24f;
}

LD_PHILOX ld_augment_draws ld_augment_draw(const ld_augment *a, uint64_t sample) {
    ld_augment_draws d = {0, 0, 0, 0};
    uint32_t u[4];
    if (a->pad > 0) {
        ld_philox_block(u, a->seed, LD_AUGMENT_CROP, sample, 0);
        d.dy = (int)ld_augment_below(2 * (uint32_t)a->pad + 1, u[0]) - a->pad;
        d.dx = (int)ld_augment_below(2 * (uint32_t)a->pad + 1, u[1]) - a->pad;
    }
    if (a->flip > 0) {
        ld_philox_block(u, a->seed, LD_AUGMENT_FLIP, sample, 0);
        d.flip = (double)ld_augment_unit(u[0]) < a->flip;
    }
    if (a->erases > 0) {
        ld_philox_block(u, a->seed, LD_AUGMENT_ERASE_PLACE, sample, 0);
        d.erases = (int)ld_augment_below((uint32_t)a->erases + 1, u[0]);
    }
    return d;
}

/* Where rectangle k of a picture of h x w begins: elements 1 + 2k and 2 + 2k of the places. */
LD_PHILOX void ld_augment_place(const ld_augment *a, uint64_t sample, int k, int h, int w, int *top, int *left) {
    uint32_t u[4], v[4];
    ld_philox_block(u, a->seed, LD_AUGMENT_ERASE_PLACE, sample, (uint32_t)(1 + 2 * k) / 4);
    ld_philox_block(v, a->seed, LD_AUGMENT_ERASE_PLACE, sample, (uint32_t)(2 + 2 * k) / 4);
    *top = (int)((double)ld_augment_unit(k % 2 ? u[3] : u[1]) * (1 - a->erase) * (double)h);
    *left = (int)((double)ld_augment_unit(k % 2 ? v[0] : v[2]) * (1 - a->erase) * (double)w);
}

/* The sides of a rectangle. */
LD_PHILOX int ld_augment_side(const ld_augment *a, int64_t side) {
    return (int)(a->erase * (double)side);
}

#endif
