/* Augmentation of batches, in place or on their way out of a data set: slot gather_augment does all of it, on any device.
 *
 * In place x is (N,C,H,W) f32, any strides, and row i is sample first + i: what happens to it is a pure function of
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
 * pct) W) is filled in all channels with N(m, s), and the sample is clamped to lo .. hi. 0 < pct < 1, max_num at most
 * LD_AUGMENT_ERASES. */
int ld_augment_rand_erase(ld_tensor *x, double pct, int max_num, uint64_t seed, uint64_t first);

/* Mirror left and right with probability p. */
int ld_augment_flip(ld_tensor *x, double p, uint64_t seed, uint64_t first);

/* Whether a can be done: pad and erases not negative and not beyond what there is room for, erase and flip in their ranges.
 * 0 or LD_EVALUE. */
int ld_augment_check(const char *who, const ld_augment *a);

/* A new (n,C,H,W) f32 of rows of x (R,C,H,W; any float or u8, any strides), standardised and augmented as `a` says
 * (ld_augment in backend/backend.h has the order).
 *   rows, samples   (n) i64 on x's device, whose numbers the caller has checked: which rows of x, and which samples they are;
 *                   without rows all of x, without samples a->first, a->first + 1, ...
 *   shift, scale    (C) f32 on x's device, or both NULL: (x - shift) scale
 * No gradient. NULL on error: LD_ESHAPE, LD_EDTYPE, LD_EDEVICE, LD_EVALUE, LD_EMEM. */
ld_tensor *ld_augment_gather(ld_tensor *x, ld_tensor *rows, ld_tensor *samples, ld_tensor *shift, ld_tensor *scale,
                             const ld_augment *a);

#endif
