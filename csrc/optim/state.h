/* A tensor that accompanies another: a moment, an average. */
#ifndef LD_OPTIM_STATE_H
#define LD_OPTIM_STATE_H

#include "tensor/tensor.h"

/* Bring *state (owned) to x's dtype and device where they differ, integers to x's device alone. 0 or an error code. */
int ld_state_follow(ld_tensor **state, const ld_tensor *x, const char *who);

#endif
