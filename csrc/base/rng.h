/* Counter-based random numbers: Philox4x32-10.
 *
 * A number is a pure function of (seed, purpose, sample, element): the same whatever the batch, the device, the order of
 * calls or the number of threads. The key is `seed`; the counter is {element / 4, sample low, sample high, purpose}.
 * Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". */
#ifndef LD_RNG_H
#define LD_RNG_H

#include <stdint.h>

/* What a stream is for: two purposes never share numbers. Recipes may use LD_RNG_USER and above. */
typedef enum ld_rng_purpose {
    LD_RNG_DEFAULT = 0, /* the global generator behind ld.randn and friends */
    LD_RNG_INIT = 1,    /* parameter initialisation */
    LD_RNG_DROPOUT = 2, /* dropout masks */
    LD_RNG_NOISE = 3,   /* the noise of diffusion training */
    LD_RNG_TIME = 4,    /* the times of diffusion training */
    LD_RNG_SAMPLE = 5,  /* the noise a sampler starts from and adds; step k uses purpose LD_RNG_SAMPLE + (k << 8) */
    LD_RNG_ORDER = 6,   /* order of a data set within an epoch */
    LD_RNG_AUGMENT = 7, /* augmentation */
    LD_RNG_FACE = 8,    /* the synthetic faces */
    LD_RNG_LATENT = 9,  /* samples from a VAE's posterior */
    LD_RNG_MIRROR = 10, /* which pictures of a batch are taken mirrored */
    LD_RNG_LABEL = 11,  /* which labels of a batch a conditional network does not see */
    LD_RNG_USER = 64
} ld_rng_purpose;

/* Four 32-bit words of the counter `element4` (element / 4) of one sample. */
void ld_philox(uint64_t seed, uint32_t purpose, uint64_t sample, uint32_t element4, uint32_t out[4]);

/* n consecutive numbers, elements first .. first + n - 1 of one sample (first + n at most 2^34).
 * uniform: in [0, 1), 24 bits. normal: Box-Muller on pairs of uniforms in (0, 1]; elements 2k and 2k + 1 share one pair. */
void ld_rng_uniform(float *out, int64_t n, uint64_t seed, uint32_t purpose, uint64_t sample, int64_t first);
void ld_rng_normal(float *out, int64_t n, uint64_t seed, uint32_t purpose, uint64_t sample, int64_t first);

/* A uniform integer in [0, n), n at least 1, by 64-bit multiplication (bias below n / 2^32). */
uint32_t ld_rng_below(uint32_t n, uint64_t seed, uint32_t purpose, uint64_t sample, int64_t element);

/* Position i (0 <= i < n) of a random permutation of 0 .. n - 1: a pure function of (seed, epoch, n), so that any position
 * of any epoch is found without an index array. A four-round Feistel network on the next even power of two, walked until
 * the value falls inside. n up to 2^62. Source: Black & Rogaway 2002, "Ciphers with arbitrary finite domains". */
int64_t ld_shuffle_position(int64_t i, int64_t n, uint64_t seed, uint64_t epoch);

#endif
