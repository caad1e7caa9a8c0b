/* Exponential moving averages of tensors: parameters, and buffers such as running statistics. */
#ifndef LD_EMA_H
#define LD_EMA_H

#include "tensor/tensor.h"

typedef struct ld_ema {
    int refs;
    double decay; /* 0 <= decay < 1 */
    bool warmup;  /* use min(decay, (1 + t) / (10 + t)), t the updates before this one */
    bool swapped; /* the live tensors hold the averages now */
    int64_t updates;
    int n;
    ld_tensor **live, **shadow; /* owned references */
} ld_ema;

/* Copies the n tensors as they are now. Integer tensors are copied at every update instead of averaged. LD_EVALUE,
 * LD_EMEM. */
ld_ema *ld_ema_new(ld_tensor *const *xs, int n, double decay, bool warmup);
ld_ema *ld_ema_ref(ld_ema *e);
void ld_ema_drop(ld_ema *e); /* swaps back first when swapped */

double ld_ema_decay_now(const ld_ema *e); /* of the next update */
/* shadow = decay shadow + (1 - decay) live. LD_ESTATE while swapped. */
int ld_ema_update(ld_ema *e);

/* Its two halves, for an update that does some of the averaging itself (optim/step.c). ready: everything that can fail
 * before a change. update_others: the averages i without done[i] (NULL: all), and the count; with a
 * cell its decay, where it is ok, and no count. */
int ld_ema_ready(ld_ema *e);
int ld_ema_update_others(ld_ema *e, const bool *done, const ld_cell *cell);

/* Exchange the contents of the live tensors and the averages, without copying; again to undo. A live tensor keeps its
 * header; other headers over its storage (views, detached tensors) keep what they saw. */
int ld_ema_swap(ld_ema *e);
/* Overwrite the live tensors with the averages, for good. LD_ESTATE while swapped. */
int ld_ema_copy_to_live(ld_ema *e);

/* Average i (from 0), borrowed, swapped or not; NULL when there is no i-th. For a checkpoint: these and `updates`. */
ld_tensor *ld_ema_average(const ld_ema *e, int i);
/* Set average i to x (copied, converted). LD_EINDEX, LD_ESHAPE, LD_ESTATE while swapped. */
int ld_ema_load(ld_ema *e, int i, ld_tensor *x);

#endif
