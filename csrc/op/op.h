/* Differentiable operations: check, compute, record.
 *
 * Every function returns a new tensor owned by the caller, or NULL after ld_fail; arguments are borrowed. All tensors of a
 * call live on one device (LD_EDEVICE). Results have x's dtype and device, canonical layout (views apart), and carry history
 * when recording is on and an input requires a gradient. Dimensions count from 0 here, negatives from the end; the host
 * language's counting is the binding's business. Errors common to all: LD_ESHAPE, LD_EDTYPE, LD_EDEVICE, LD_EMEM,
 * LD_EINTERRUPT. Ops that compute (convolution, products, norms, attention) take f32 and f64. */
#ifndef LD_OP_H
#define LD_OP_H

#include "grad/node.h"

/* ---- elementwise: elementwise.c -------------------------------------------------------------------------------------- */

/* op(x; a, b), see ld_unary_op; any float dtype. Gradient: x. */
ld_tensor *ld_unary(const char *name, ld_unary_op op, ld_tensor *x, double a, double b);
/* a op b with broadcasting (numpy's rule); equal dtypes. Gradient: both, for ADD SUB MUL DIV MAXIMUM MINIMUM POWER (ties of
 * MAXIMUM and MINIMUM go to a). Comparisons give u8 and no history. */
ld_tensor *ld_binary(const char *name, ld_binary_op op, ld_tensor *a, ld_tensor *b);
/* the same with a number on one side: x op s, or s op x when `swapped`; integers take whole numbers of their range. */
ld_tensor *ld_binary_number(const char *name, ld_binary_op op, ld_tensor *x, double s, bool swapped);
/* LD_EDTYPE unless s is a value of x's dtype (floats take every number). */
int ld_check_number(const char *name, const ld_tensor *x, double s);
/* c ? a : b with broadcasting; c u8. Gradient: a, b. */
ld_tensor *ld_where_select(ld_tensor *c, ld_tensor *a, ld_tensor *b);
/* another dtype. Gradient: x (between floats). */
ld_tensor *ld_cast(ld_tensor *x, ld_dtype t);
/* x without history (shares storage); a copy (Gradient: x) with storage of its own. */
ld_tensor *ld_detach(ld_tensor *x);
ld_tensor *ld_clone(ld_tensor *x);

/* In place; each counts a version and refuses (LD_ESTATE) tensors the tape needs. x is written; y broadcasts to x.
 * They return 0 or an error code. */
int ld_fill_(ld_tensor *x, double value);
int ld_copy_(ld_tensor *x, ld_tensor *y); /* converts dtype */
int ld_binary_(const char *name, ld_binary_op op, ld_tensor *x, ld_tensor *y);
int ld_unary_(const char *name, ld_unary_op op, ld_tensor *x, double a, double b);
int ld_axpby_(ld_tensor *x, ld_tensor *y, double alpha, double beta); /* x = alpha y + beta x */

/* ---- reductions: reduce.c -------------------------------------------------------------------------------------------- */

/* op over the n dimensions dims (n = 0: all); keep: leave them with size 1. Gradient: SUM, MEAN, SUMSQ, and MAX, MIN (to
 * the first extreme element). LD_EVALUE: MAX or MIN of nothing. */
ld_tensor *ld_reduce(const char *name, ld_reduce_op op, ld_tensor *x, const int *dims, int n, bool keep);
ld_tensor *ld_arg(const char *name, ld_tensor *x, int dim, bool smallest, bool keep); /* i64 positions from 0 */
/* sum x over what broadcasting added, back to `shape`: no history; used by gradients. */
ld_tensor *ld_sum_to(ld_tensor *x, int ndim, const int64_t *shape);

/* ---- shapes: shape.c ------------------------------------------------------------------------------------------------- */

/* Views where strides allow, else copies; gradient: x. One size may be -1 in reshape. */
ld_tensor *ld_reshape(ld_tensor *x, int ndim, const int64_t *shape);
ld_tensor *ld_permute(ld_tensor *x, const int *order);              /* always a view */
ld_tensor *ld_expand(ld_tensor *x, int ndim, const int64_t *shape); /* sizes 1 repeated; -1 keeps; always a view */
ld_tensor *ld_slice(ld_tensor *x, int dim, int64_t first, int64_t count, int64_t step); /* a view; LD_EINDEX */
ld_tensor *ld_select(ld_tensor *x, int dim, int64_t i); /* a view without dim; LD_EINDEX */
ld_tensor *ld_concat(ld_tensor *const *xs, int n, int dim);
ld_tensor *ld_stack(ld_tensor *const *xs, int n, int dim);
/* before/after: ndim counts each, of constant `value` on both sides of every dimension. Gradient: x. */
ld_tensor *ld_pad(ld_tensor *x, const int64_t *before, const int64_t *after, double value);
ld_tensor *ld_flip(ld_tensor *x, int dim);
/* x in canonical layout (x's view itself when it is). Gradient: x. */
ld_tensor *ld_contiguous(ld_tensor *x);

/* ---- rows: index.c --------------------------------------------------------------------------------------------------- */

/* rows idx (any shape, i64) of x (R, ...): shape idx.shape + x.shape[1:]. Gradient: x. LD_EINDEX names the first bad one. */
ld_tensor *ld_gather(ld_tensor *x, ld_tensor *idx);
/* (..., classes) of dtype t with 1 at idx. */
ld_tensor *ld_one_hot(ld_tensor *idx, int64_t classes, ld_dtype t);

/* ---- products: matmul.c ---------------------------------------------------------------------------------------------- */

/* (M,K)(K,N), or batched (...,M,K)(...,K,N) with broadcasting of the leading dimensions; 1-D operands as in PyTorch. */
ld_tensor *ld_matmul(ld_tensor *a, ld_tensor *b);
/* x (..., I) w (O,I)^T + bias (O) or NULL. Gradient: x, w, bias. */
ld_tensor *ld_linear(ld_tensor *x, ld_tensor *w, ld_tensor *bias);

/* ---- convolution: conv.c --------------------------------------------------------------------------------------------- */

/* x (N,C,H,W), w (O,C,R,S), bias (O) or NULL -> (N,O,P,Q), P = (H + top + bottom - R) / stride_h + 1 (floor). Zero padding
 * per side. Cross-correlation, as PyTorch's. Gradient: x, w, bias. */
ld_tensor *ld_conv2d(ld_tensor *x, ld_tensor *w, ld_tensor *bias, const ld_conv_shape *s);
/* x (N,C,H,W), w (C,O,R,S) -> (N,O,(H-1) stride - 2 pad + R + output_padding, ...); PyTorch's conv_transpose2d. `s`'s padding
 * is taken off the result's sides. Gradient: x, w, bias. */
ld_tensor *ld_conv_transpose2d(ld_tensor *x, ld_tensor *w, ld_tensor *bias, const ld_conv_shape *s, int output_padding);

/* ---- normalisation: norm.c ------------------------------------------------------------------------------------------- */

/* x (N,C), (N,C,L) or (N,C,H,W), per channel C over the rest. training: statistics of x, biased variance, and, when
 * running_mean/var (C) are given, running = (1 - momentum) running + momentum batch (variance unbiased, n/(n-1)); else the
 * running statistics are used. w, b (C) or NULL. Gradient: x, w, b. LD_EVALUE: one value a channel in training. */
ld_tensor *ld_batch_norm(ld_tensor *x, ld_tensor *w, ld_tensor *b, ld_tensor *running_mean, ld_tensor *running_var,
                         bool training, double momentum, double eps);
/* x (N,C,...), groups divides C. Gradient: x, w, b. Source: Wu & He 2018, arXiv:1803.08494. */
ld_tensor *ld_group_norm(ld_tensor *x, ld_tensor *w, ld_tensor *b, int groups, double eps);
/* over the last dimension. Gradient: x, w, b. Source: Ba et al. 2016, arXiv:1607.06450. */
ld_tensor *ld_layer_norm(ld_tensor *x, ld_tensor *w, ld_tensor *b, double eps);

/* ---- attention and softmax: attention.c ------------------------------------------------------------------------------ */

ld_tensor *ld_softmax(ld_tensor *x, int dim); /* Gradient: x */
/* qkv (N,T,3C): head j of `heads` (width d = C/heads) owns columns 3dj .. 3d(j+1), in the order q, k, v (method 4.1).
 * -> (N,T,C), softmax(q k^T / sqrt(d)) v per head, heads concatenated. Gradient: qkv. */
ld_tensor *ld_attention_packed(ld_tensor *qkv, int heads);
/* q (N,T,C), k, v (N,S,C), heads of width C/heads side by side (PyTorch's layout; heads = 1 is the VAE's). Gradient: q, k, v. */
ld_tensor *ld_attention(ld_tensor *q, ld_tensor *k, ld_tensor *v, int heads);

/* ---- spatial: spatial.c ---------------------------------------------------------------------------------------------- */

/* x (N,C,H,W). ceil: round the output size up (windows are clipped, the mean is over the clipped window). Gradient: x. */
ld_tensor *ld_avg_pool2d(ld_tensor *x, int kh, int kw, int sh, int sw, bool ceil);
ld_tensor *ld_adaptive_avg_pool2d(ld_tensor *x, int64_t h, int64_t w);
ld_tensor *ld_upsample_nearest(ld_tensor *x, int scale);
ld_tensor *ld_resize_bilinear(ld_tensor *x, int64_t h, int64_t w, bool antialias);

/* ---- losses: loss.c -------------------------------------------------------------------------------------------------- */

typedef enum ld_mean { LD_MEAN_ALL, LD_MEAN_NONE, LD_MEAN_SUM } ld_mean; /* mean, elementwise, sum */
ld_tensor *ld_mse(ld_tensor *x, ld_tensor *y, ld_mean m);                /* Gradient: x, y */
ld_tensor *ld_l1(ld_tensor *x, ld_tensor *y, ld_mean m);
ld_tensor *ld_huber(ld_tensor *x, ld_tensor *y, double delta,
                    ld_mean m); /* |d| <= delta: d^2/2, else delta(|d| - delta/2) */
/* x (M,K) logits, t (M) i64 classes from 0. LD_EINDEX for a class outside. Gradient: x. */
ld_tensor *ld_cross_entropy(ld_tensor *x, ld_tensor *t, double smoothing, ld_mean m);

/* ---- random: random.c ------------------------------------------------------------------------------------------------ */

/* Zero with probability p, the rest scaled by 1/(1-p); x itself (one more reference) when p is 0 or not training. Draws
 * from ld_random. Gradient: x. */
ld_tensor *ld_dropout(ld_tensor *x, double p, bool training);
/* New tensors from the global generator (one draw each), or keyed: row i of dimension 0 is sample first + i. */
ld_tensor *ld_rand(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, double lo, double hi);
ld_tensor *ld_randn(ld_device *d, ld_dtype t, int ndim, const int64_t *shape);
ld_tensor *ld_noise(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, uint64_t seed, uint32_t purpose,
                    uint64_t first); /* normal, keyed */
ld_tensor *ld_noise_uniform(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, uint64_t seed, uint32_t purpose,
                            uint64_t first);         /* [0,1), keyed */
int ld_uniform_(ld_tensor *x, double lo, double hi); /* in place, from the global generator */
int ld_normal_(ld_tensor *x, double mean, double std);

#endif
