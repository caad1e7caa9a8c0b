/* Dense blocks with one dimension innermost: what norms and softmax hand to the backend as rows.
 *
 * The dimension already lies so in a canonical tensor when it is the last, or the channels of rank 4; then a block is the
 * tensor itself. Otherwise it is a flat copy whose order is x's dimensions with that one moved to the end. */
#ifndef LD_INNER_H
#define LD_INNER_H

#include "op/check.h"

/* x as a block. Owned by the caller; NULL on LD_EMEM. */
ld_tensor *ld_inner_block(ld_tensor *x, int dim, const char *op);
/* Room for a block of x's size, to be written. */
ld_tensor *ld_inner_room(const ld_tensor *x, int dim, const char *op);
/* The way back: block y (taken over, may be NULL) as a canonical tensor of `shape`. */
ld_tensor *ld_inner_back(ld_tensor *y, int dim, int ndim, const int64_t *shape, const char *op);

#endif
