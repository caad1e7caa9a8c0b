/* Optimisers: AdamW, Adam and SGD over a list of parameter tensors; gradient norms and clipping. */
#ifndef LD_OPTIM_H
#define LD_OPTIM_H

#include "grad/node.h"

struct ld_ema;

typedef enum ld_optim_kind { LD_ADAMW, LD_ADAM, LD_SGD, LD_OPTIM_COUNT } ld_optim_kind;
extern const char *const ld_optim_names[LD_OPTIM_COUNT]; /* "adamw", "adam", "sgd" */

/* What may be set before any step. */
typedef struct ld_optim_options {
    double lr;
    double weight_decay;      /* ADAMW: p -= lr wd p; ADAM, SGD: g += wd p */
    double beta1, beta2, eps; /* ADAMW, ADAM */
    double momentum;          /* SGD; 0: no momentum buffer */
    bool nesterov;            /* SGD */
} ld_optim_options;

typedef struct ld_optim_param {
    ld_tensor *x;                 /* owned reference */
    double lr_scale, decay_scale; /* multiply lr and weight_decay for this one; 1 */
    int64_t steps;                /* updates this one has had; one without a gradient does not count */
    ld_tensor *state[2];          /* ADAMW, ADAM: m, v; SGD: buffer; NULL before its first update */
} ld_optim_param;

typedef struct ld_optim {
    int refs;
    ld_optim_kind kind;
    ld_optim_options opt;
    int64_t step; /* calls of ld_optim_step so far */
    int n;
    ld_optim_param *param; /* n of them */
} ld_optim;

/* PyTorch's defaults for `kind`: Adam lr 1e-3, betas 0.9 0.999, eps 1e-8, decay 0.01 (AdamW) or 0; SGD lr 1e-2, rest
 * 0. */
ld_optim_options ld_optim_defaults(ld_optim_kind kind);

/* Keeps a reference to each parameter. LD_EVALUE: one given twice, an option out of range; LD_ESTATE: not a leaf;
 * LD_EDTYPE: not f32 or f64; LD_EMEM. */
ld_optim *ld_optim_new(ld_optim_kind kind, const ld_optim_options *o, ld_tensor *const *params, int n);
ld_optim *ld_optim_ref(ld_optim *o);
void ld_optim_drop(ld_optim *o);

/* lr_scale and decay_scale of parameters first .. first + count - 1. LD_EINDEX, LD_EVALUE (negative). */
int ld_optim_scale(ld_optim *o, int first, int count, double lr_scale, double decay_scale);

/* One update from x->grad; parameters without a gradient are left alone. Counts a version of each changed one.
 * Options that changed since are checked (LD_EVALUE) before anything is touched. */
int ld_optim_step(ld_optim *o);
/* The same with gradients taken times `scale`, and with the averages e (NULL: none) brought up to date as by
 * ld_ema_update: for Adam in one pass over memory. drop: the gradients are let go. SGD multiplies the gradients
 * in memory where scale is not 1. LD_ESTATE: e is swapped in. */
int ld_optim_step_with(ld_optim *o, struct ld_ema *e, double scale, bool drop);
/* The same for a step that is recorded (backend/graph.h): learning rate, beta1, scale, decay and whether anything happens come
 * from the cell, in the device's memory. Nothing is counted: optim/graph.h. The gradients are let go. LD_ESTATE: SGD, or
 * averages that `update` does not take. */
int ld_optim_step_recorded(ld_optim *o, struct ld_ema *e, const ld_cell *cell);
int ld_optim_check(const ld_optim *o); /* the options, as they are now: LD_EVALUE */
/* While memory is planned: what happens to o from now on is put back at the end. Called by whatever changes it. LD_EMEM. */
int ld_optim_plan(ld_optim *o);
/* drop: x->grad becomes NULL; else existing gradients are filled with 0. */
int ld_optim_zero_grad(ld_optim *o, bool drop);

/* State for checkpoints: tensors under the names "step" () i64, "steps" (n) i64, and "m.0", "v.0", ... or
 * "momentum.0", ... by the parameter's position, for the parameters that have been updated. i from 0 to
 * ld_optim_state_count - 1; the tensor is yours to drop and shares storage with the optimiser (copy it before the
 * next step). */
#define LD_OPTIM_NAME 32
int ld_optim_state_count(const ld_optim *o);
ld_tensor *ld_optim_state(const ld_optim *o, int i, char name[LD_OPTIM_NAME]);
/* Replace the whole state by these n named tensors (copied, moved to the parameters' dtype and device). All or nothing.
 * LD_EFORMAT: an unknown name, a missing one; LD_ESHAPE. */
int ld_optim_load(ld_optim *o, const char *const *names, ld_tensor *const *xs, int n);

/* The Euclidean norm of all gradients as one vector, in f64 (0 when there are none); infinite or NaN when one of them
 * is. */
int ld_grad_norm(ld_tensor *const *params, int n, double *norm);
/* What to multiply gradients of this norm with so that it is at most max: PyTorch's rule, below; 1 where it is not finite. */
double ld_clip_scale(double norm, double max);
/* Multiply the gradients by max / (norm + 1e-6) when that is below 1 (PyTorch's rule). *norm (may be NULL) is the norm
 * before; when it is not finite the gradients stay as they are and the call succeeds: the caller decides. */
int ld_clip_grad_norm(ld_tensor *const *params, int n, double max, double *norm);

#endif
