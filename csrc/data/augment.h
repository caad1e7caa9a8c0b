/* Augmentation of batches, in place.
 *
 * x is (N,C,H,W) f32, any strides; on another device than the CPU it goes by way of the host. Row i is sample first + i: what happens to it is a pure function of
 * (seed, LD_RNG_AUGMENT, first + i), whatever the batch. Pass the count of samples seen since the start of training
 * as `first`, so that a picture is treated differently in every epoch. 0 or an error code: LD_ESHAPE, LD_EDTYPE,
 * LD_EVALUE, LD_ESTATE (x is needed by the tape), LD_EMEM. */
#ifndef LD_AUGMENT_H
#define LD_AUGMENT_H

#include "grad/node.h"

/* Zeros `pad` wide on all four sides, then a crop back to H x W at offsets uniform in 0 .. 2 pad on each axis. */
int ld_augment_pad_crop(ld_tensor *x, int pad, uint64_t seed, uint64_t first);

/* With m, s, lo, hi the mean, (unbiased) standard deviation, smallest and largest value of the whole sample, taken
 * once: k uniform in 0 .. max_num times, a rectangle of int(pct H) x int(pct W) at int(u (1 - pct) H), int(v (1 -
 * pct) W) is filled in all channels with N(m, s), and the sample is clamped to lo .. hi. 0 < pct < 1. */
int ld_augment_rand_erase(ld_tensor *x, double pct, int max_num, uint64_t seed, uint64_t first);

/* Mirror left and right with probability p. */
int ld_augment_flip(ld_tensor *x, double p, uint64_t seed, uint64_t first);

#endif
