#include "base/rng.h"
#include "base/philox.h"

#include <math.h>

void ld_philox(uint64_t seed, uint32_t purpose, uint64_t sample, uint32_t element4, uint32_t out[4]) {
    ld_philox_block(out, seed, purpose, sample, element4);
}

/* 24 random bits as a float in [0, 1). */
static float unit(uint32_t u) {
    return (float)(u >> 8) * 0x1p-24f;
}

typedef void (*block_fn)(float out[4], const uint32_t u[4]);

static void block_uniform(float out[4], const uint32_t u[4]) {
    for (int i = 0; i < 4; i++)
        out[i] = unit(u[i]);
}

static void block_normal(float out[4], const uint32_t u[4]) {
    for (int i = 0; i < 4; i += 2) {
        float r = sqrtf(-2.0f * logf(1.0f - unit(u[i])));
        float a = 6.28318530717958648f * unit(u[i + 1]);
        out[i] = r * cosf(a);
        out[i + 1] = r * sinf(a);
    }
}

static void fill(float *out, int64_t n, uint64_t seed, uint32_t purpose, uint64_t sample, int64_t first, block_fn fn) {
    int64_t last = first + n;
    for (int64_t e = first & ~(int64_t)3; e < last; e += 4) {
        uint32_t u[4];
        float v[4];
        ld_philox(seed, purpose, sample, (uint32_t)(e / 4), u);
        fn(v, u);
        for (int j = 0; j < 4; j++)
            if (e + j >= first && e + j < last)
                out[e + j - first] = v[j];
    }
}

void ld_rng_uniform(float *out, int64_t n, uint64_t seed, uint32_t purpose, uint64_t sample, int64_t first) {
    fill(out, n, seed, purpose, sample, first, block_uniform);
}

void ld_rng_normal(float *out, int64_t n, uint64_t seed, uint32_t purpose, uint64_t sample, int64_t first) {
    fill(out, n, seed, purpose, sample, first, block_normal);
}

uint32_t ld_rng_below(uint32_t n, uint64_t seed, uint32_t purpose, uint64_t sample, int64_t element) {
    uint32_t u[4];
    ld_philox(seed, purpose, sample, (uint32_t)(element / 4), u);
    return (uint32_t)(((uint64_t)u[element & 3] * n) >> 32);
}

int64_t ld_shuffle_position(int64_t i, int64_t n, uint64_t seed, uint64_t epoch) {
    int half = 1;
    while (half < 31 && ((int64_t)1 << (2 * half)) < n)
        half++;
    uint64_t mask = ((uint64_t)1 << half) - 1, x = (uint64_t)i;
    do {
        uint64_t l = x >> half, r = x & mask;
        for (uint32_t round = 0; round < 4; round++) {
            uint32_t u[4];
            ld_philox(seed, LD_RNG_ORDER + (round << 8), epoch, (uint32_t)r, u);
            uint64_t t = l ^ (u[0] & mask);
            l = r;
            r = t;
        }
        x = (l << half) | r;
    } while (x >= (uint64_t)n);
    return (int64_t)x;
}
