/* One product of kernels/mma.h, for its test. */
#ifndef LD_SIM_FRAGMENT_H
#define LD_SIM_FRAGMENT_H

#include "kernels/slots.h"

#ifdef __cplusplus
extern "C" {
#endif

/* c += a b, by one warp. a (16,16) and b (16,8): both bf16 or both f16; c (16,8): f32; row-major. The launch's value. */
int sim_product(const ld_view *c, const ld_view *a, const ld_view *b);

#ifdef __cplusplus
}
#endif

#endif
