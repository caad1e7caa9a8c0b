/* Differentiable operations: check, compute, record.
 *
 * Every function returns a new tensor owned by the caller, or NULL after ld_fail; arguments are borrowed. All tensors of a
 * call live on one device (LD_EDEVICE). Results have x's dtype and device and carry history when recording is on and an
 * input requires a gradient; "Gradient:" names the inputs that get one. Everything is checked before anything is
 * allocated. Layout: "a view" shares x's memory; products (matmul, linear) lie row-major; all other results have canonical
 * layout (backend/view.h).
 *
 * Dimensions and positions count from 0 here, negative dimensions from the end; the host language's counting is the
 * binding's business, and messages count from 1 as users do. Classes and row numbers are values, from 0 everywhere.
 * Errors common to all: LD_ESHAPE, LD_EDTYPE, LD_EDEVICE, LD_EMEM, LD_EINTERRUPT. Operations that compute (products,
 * convolution, norms, softmax, attention, spatial) take f32 and f64, and bf16 and f16 where the device computes in them
 * (ld_backend's `halves`), all arguments alike; weights, biases, film and running statistics may be, statistics must be, f32 beside
 * an x of 16 bits. Convolutions and linear then compute with the weights' shadows (ld_tensor_narrow). Losses convert 16 bits to f32
 * on every device. Sizes of 0 are possible where a line does not exclude them. */
#ifndef LD_OP_H
#define LD_OP_H

#include "grad/node.h"

/* ---- elementwise: elementwise.c -------------------------------------------------------------------------------------- */

/* op(x; a, b), see ld_unary_op; any float dtype, and integers for NEG ABS SQUARE AFFINE CLAMP SIGN. `name` is what
 * messages and the tape call it (a string that lives forever). Gradient: x. The tape keeps x, or the result where
 * ld_unary_keeps_result says so, or nothing (NEG AFFINE FLOOR ROUND SIGN). */
ld_tensor *ld_unary(const char *name, ld_unary_op op, ld_tensor *x, double a, double b);
/* a op b with broadcasting (numpy's rule); equal dtypes, every dtype, or floats of which one has 16 bits and none 64: they meet
 * as in PyTorch, in f32, where a tensor without dimensions does not widen one that has some. Gradient: both, for ADD SUB MUL DIV MAXIMUM MINIMUM
 * POWER. Ties of MAXIMUM and MINIMUM go to a; POWER's gradients are 0 for a where b is 0, and for b where a is 0.
 * Comparisons give u8 and no history. */
ld_tensor *ld_binary(const char *name, ld_binary_op op, ld_tensor *a, ld_tensor *b);
/* the same with a number on one side: x op s, or s op x when `swapped`; s is converted to x's dtype. */
ld_tensor *ld_binary_number(const char *name, ld_binary_op op, ld_tensor *x, double s, bool swapped);
/* 0, or LD_EDTYPE where s is no value of x's dtype: integers take whole numbers of their range, floats every number. Asked
 * by ld_binary_number; for callers who make a constant of x's dtype themselves. */
int ld_check_number(const char *name, const ld_tensor *x, double s);
/* c ? a : b with broadcasting of all three; c u8, a and b of one dtype (any). Gradient: a, b. */
ld_tensor *ld_where_select(ld_tensor *c, ld_tensor *a, ld_tensor *b);
/* another dtype (x itself, one more reference, when it has it). Gradient: x (between floats). */
ld_tensor *ld_cast(ld_tensor *x, ld_dtype t);
/* x on another device, canonical there (x itself, one more reference, when it lies there). Gradient: x, on x's device. */
ld_tensor *ld_to_device(ld_tensor *x, ld_device *d);
/* x without history (a view); a copy with storage of its own (Gradient: x). */
ld_tensor *ld_detach(ld_tensor *x);
ld_tensor *ld_clone(ld_tensor *x);

/* In place: x is written and counts a version; y broadcasts to x and may share its memory. They return 0 or an error code.
 * LD_ESTATE: recording is on and x or y requires a gradient; x repeats elements (a view by expand). */
int ld_fill_(ld_tensor *x, double value);
int ld_copy_(ld_tensor *x, ld_tensor *y); /* converts dtype; y may lie on another device */
int ld_binary_(const char *name, ld_binary_op op, ld_tensor *x, ld_tensor *y); /* no comparisons (LD_EVALUE) */
int ld_unary_(const char *name, ld_unary_op op, ld_tensor *x, double a, double b);
int ld_axpby_(ld_tensor *x, ld_tensor *y, double alpha, double beta); /* x = alpha y + beta x; floats */

/* ---- reductions: reduce.c -------------------------------------------------------------------------------------------- */

/* op over the n dimensions dims (n = 0: all); keep: leave them with size 1. MEAN and SUMSQ take floats, the others every
 * dtype; the SUM of integers is i64. Gradient: x; of MAX and MIN it goes to the first extreme element. The tape keeps x
 * for MAX, MIN and SUMSQ, else nothing. LD_EVALUE: MAX or MIN of nothing, a dimension named twice. LD_EINDEX. */
ld_tensor *ld_reduce(const char *name, ld_reduce_op op, ld_tensor *x, const int *dims, int n, bool keep);
/* i64 positions from 0 of the first largest (or smallest) along dim; every dtype. LD_EVALUE: of nothing. LD_EINDEX. */
ld_tensor *ld_arg(const char *name, ld_tensor *x, int dim, bool smallest, bool keep);
/* x summed over what broadcasting from `shape` added or repeated: a tensor of `shape` without history (x's memory where
 * nothing is to be summed). For gradients: shapes are not checked. */
ld_tensor *ld_sum_to(ld_tensor *x, int ndim, const int64_t *shape);

/* ---- shapes: shape.c ------------------------------------------------------------------------------------------------- */

/* Every dtype. Gradient: x (all xs). LD_EINDEX for a dimension or position that is not there. */

/* x's elements in logical row-major order under another shape: a view where strides allow, else a copy. One size may be
 * -1. */
ld_tensor *ld_reshape(ld_tensor *x, int ndim, const int64_t *shape);
/* a view: dimension i of the result is order[i] of x (x->ndim entries). LD_EVALUE: one named twice. */
ld_tensor *ld_permute(ld_tensor *x, const int *order);
/* a view: sizes of 1 repeated, new dimensions in front; -1 keeps a size. */
ld_tensor *ld_expand(ld_tensor *x, int ndim, const int64_t *shape);
/* a view of positions first, first + step, ... (count of them, step at least 1); a view without dim. */
ld_tensor *ld_slice(ld_tensor *x, int dim, int64_t first, int64_t count, int64_t step);
ld_tensor *ld_select(ld_tensor *x, int dim, int64_t i);
/* n tensors (1 to 2^20) of one dtype, one after another along dim; or along a new dimension dim. */
ld_tensor *ld_concat(ld_tensor *const *xs, int n, int dim);
ld_tensor *ld_stack(ld_tensor *const *xs, int n, int dim);
/* before[i] and after[i] (not negative) elements of constant `value` on both sides of dimension i, x->ndim entries each. */
ld_tensor *ld_pad(ld_tensor *x, const int64_t *before, const int64_t *after, double value);
ld_tensor *ld_flip(ld_tensor *x, int dim);
/* x in canonical layout: x itself (one more reference) when it lies so. */
ld_tensor *ld_contiguous(ld_tensor *x);

/* ---- rows: index.c --------------------------------------------------------------------------------------------------- */

/* rows idx (any shape, i64, from 0) of x (R, ...), every dtype: shape idx.shape + x.shape[1:]. Gradient: x (f32, f64).
 * LD_EINDEX names the first bad entry. */
ld_tensor *ld_gather(ld_tensor *x, ld_tensor *idx);
/* (..., classes) of dtype t with 1 at idx (any shape, i64, from 0), else 0. LD_EINDEX. */
ld_tensor *ld_one_hot(ld_tensor *idx, int64_t classes, ld_dtype t);

/* ---- products: matmul.c ---------------------------------------------------------------------------------------------- */

/* (M,K)(K,N), or batched (...,M,K)(...,K,N) with broadcasting of the leading dimensions; a vector on the left is a row, on
 * the right a column, and the result lacks that dimension, as in PyTorch. Gradient: a, b; the tape keeps each only for the
 * other's gradient. */
ld_tensor *ld_matmul(ld_tensor *a, ld_tensor *b);
/* x (..., I) w (O,I)^T + bias (O) or NULL -> (..., O). Gradient: x, w, bias; the tape keeps x for w's gradient, w for x's. */
ld_tensor *ld_linear(ld_tensor *x, ld_tensor *w, ld_tensor *bias);

/* ---- convolution: conv.c --------------------------------------------------------------------------------------------- */

/* x (N,C,H,W), w (O,C,R,S), bias (O) or NULL -> (N,O,P,Q), P = (H + top + bottom - R) / stride_h + 1 (floor). Zero padding
 * per side. Cross-correlation, as PyTorch's. Gradient: x, w, bias; the tape keeps x for w's gradient, w for x's.
 * s->up: of x after ld_upsample_nearest by 2, which is never made: (N,O,2H,2W). LD_EVALUE: a stride below 1, negative
 * padding; with `up` a kernel other than 3x3, stride or padding other than 1. */
ld_tensor *ld_conv2d(ld_tensor *x, ld_tensor *w, ld_tensor *bias, const ld_conv_shape *s);
/* x (N,C,H,W), w (C,O,R,S), bias (O) or NULL -> (N,O,P,Q), P = (H - 1) stride_h - top - bottom + R + output_padding;
 * PyTorch's conv_transpose2d: the padding is taken off the result's sides, output_padding (below both strides) added at
 * the bottom and right. Gradient and errors as above. */
ld_tensor *ld_conv_transpose2d(ld_tensor *x, ld_tensor *w, ld_tensor *bias, const ld_conv_shape *s, int output_padding);

/* ---- normalisation: norm.c ------------------------------------------------------------------------------------------- */

/* All three: y = (x - mean) / sqrt(var + eps) w + b with biased variance; w, b of x's dtype or f32, NULL for ones and zeros;
 * eps >= 0 (LD_EVALUE), in units of x squared. Gradient: x, w, b. The tape keeps x, w and the statistics. */

/* What batch and group norm do besides, in the same passes over memory: y = act(norm(x (1 + scale) + shift)), statistics
 * those of x (1 + scale) + shift. film (N,2C) holds scale, then shift, by sample and channel; NULL for none. Gradient:
 * film, too. The tape keeps b and film besides, but neither the normed values nor the activation's input. Source: Perez et
 * al. 2018, arXiv:1709.07871. */
typedef struct ld_norm_fused {
    ld_tensor *film;
    ld_norm_act act;
    double slope, sub; /* LEAKY only; see ld_unary_op */
} ld_norm_fused;

/* x (N,C), (N,C,L) or (N,C,H,W), per channel C over the rest. training: statistics of x, and running_mean, running_var (C;
 * either may be NULL) are changed in place: running = (1 - momentum) running + momentum batch, the batch's variance
 * unbiased (n/(n-1)). Else both are needed and used. LD_EVALUE: fewer than two values a channel in training. LD_ESTATE:
 * running statistics that require a gradient. Source: Ioffe & Szegedy 2015, arXiv:1502.03167. */
ld_tensor *ld_batch_norm(ld_tensor *x, ld_tensor *w, ld_tensor *b, ld_tensor *running_mean, ld_tensor *running_var,
                         bool training, double momentum, double eps);
/* Batch norm over ranks: between set(true) and set(false), which return what was set before, batch norm in training takes its
 * statistics over the rows of all ranks, in the order of ranks and in f64, and its gradient likewise; running_var by all
 * rows. So all ranks must come to the same norms in the same order, forward and backward (a backward belongs to its forward,
 * whatever is set then). Off at the start, and nothing for a single rank. LD_EINTERRUPT, LD_EINTERNAL: the other ranks. */
bool ld_set_norm_ranks(bool on);
ld_tensor *ld_batch_norm_fused(ld_tensor *x, ld_tensor *w, ld_tensor *b, ld_tensor *running_mean,
                               ld_tensor *running_var, bool training, double momentum, double eps,
                               const ld_norm_fused *f);
/* x (N,C,...), over the C/groups channels of a group and all positions of a sample; groups divides C. w, b (C).
 * Source: Wu & He 2018, arXiv:1803.08494. */
ld_tensor *ld_group_norm(ld_tensor *x, ld_tensor *w, ld_tensor *b, int groups, double eps);
ld_tensor *ld_group_norm_fused(ld_tensor *x, ld_tensor *w, ld_tensor *b, int groups, double eps,
                               const ld_norm_fused *f);
/* x (...,C), over the last dimension. w, b (C). Source: Ba et al. 2016, arXiv:1607.06450. */
ld_tensor *ld_layer_norm(ld_tensor *x, ld_tensor *w, ld_tensor *b, double eps);

/* ---- attention and softmax: attention.c ------------------------------------------------------------------------------ */

/* e^x / sum of e^x along dim. Gradient: x. The tape keeps the result. LD_EINDEX. */
ld_tensor *ld_softmax(ld_tensor *x, int dim);
/* qkv (N,T,3C): head j of `heads` (width d = C/heads) owns columns 3dj .. 3d(j+1), in the order q, k, v (method 4.1).
 * -> (N,T,C), softmax(q k^T / sqrt(d)) v per head, heads concatenated. Gradient: qkv. The tape keeps qkv, the result and
 * N*heads*T numbers, never the T x T weights. Source: Vaswani et al. 2017, arXiv:1706.03762, 3.2. */
ld_tensor *ld_attention_packed(ld_tensor *qkv, int heads);
/* q (N,T,C), k, v (N,S,C), S at least 1, heads of width C/heads side by side (PyTorch's layout; heads = 1 is the VAE's)
 * -> (N,T,C). Gradient: q, k, v. */
ld_tensor *ld_attention(ld_tensor *q, ld_tensor *k, ld_tensor *v, int heads);

/* ---- spatial: spatial.c ---------------------------------------------------------------------------------------------- */

/* x (N,C,H,W). Gradient: x. The tape keeps nothing but shapes. LD_EVALUE for sizes, strides, scales below 1. */

/* Mean over kh x kw windows sh, sw apart: P = (H - kh) / sh + 1, rounded down, or with `ceil` up, as long as the last
 * window starts inside x; windows are clipped to x and the mean is over what is left. */
ld_tensor *ld_avg_pool2d(ld_tensor *x, int kh, int kw, int sh, int sw, bool ceil);
/* (N,C,h,w): the mean over rows floor(i H/h) .. ceil((i+1) H/h) - 1, columns alike. */
ld_tensor *ld_adaptive_avg_pool2d(ld_tensor *x, int64_t h, int64_t w);
/* every pixel repeated scale x scale times. */
ld_tensor *ld_upsample_nearest(ld_tensor *x, int scale);
/* (N,C,h,w), half-pixel centres; antialias widens the triangle when shrinking (as PyTorch's and Pillow's). */
ld_tensor *ld_resize_bilinear(ld_tensor *x, int64_t h, int64_t w, bool antialias);

/* ---- losses: loss.c -------------------------------------------------------------------------------------------------- */

typedef enum ld_mean { LD_MEAN_ALL, LD_MEAN_NONE, LD_MEAN_SUM } ld_mean; /* mean, elementwise, sum */
/* x and y of equal shapes and one float dtype; with d = x - y: d^2, |d|, or |d| <= delta ? d^2/2 : delta (|d| - delta/2).
 * Gradient: x, y. LD_EVALUE: delta not above 0. */
ld_tensor *ld_mse(ld_tensor *x, ld_tensor *y, ld_mean m);
ld_tensor *ld_l1(ld_tensor *x, ld_tensor *y, ld_mean m);
ld_tensor *ld_huber(ld_tensor *x, ld_tensor *y, double delta, ld_mean m);
/* x (M,K) logits, t (M) i64 classes from 0: -(1 - s) log p[t] - s/K sum_k log p[k] with p = softmax(x), s = smoothing in
 * [0, 1). Gradient: x. LD_EINDEX for a class outside. LD_EVALUE: smoothing. Source: Szegedy et al. 2016,
 * arXiv:1512.00567, 7. */
ld_tensor *ld_cross_entropy(ld_tensor *x, ld_tensor *t, double smoothing, ld_mean m);

/* ---- random: random.c ------------------------------------------------------------------------------------------------ */

/* Float dtypes (LD_EDTYPE). The global generator is ld_random; a call that draws from it counts one draw. */

/* Zero with probability p in [0, 1) (LD_EVALUE), the rest scaled by 1/(1-p); x itself (one more reference) when p is 0 or
 * not training. One draw. Gradient: x, through the same mask, which is computed again and never stored. */
ld_tensor *ld_dropout(ld_tensor *x, double p, bool training);
/* New tensors, one draw each: uniform in [lo, hi), standard normal. */
ld_tensor *ld_rand(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, double lo, double hi);
ld_tensor *ld_randn(ld_device *d, ld_dtype t, int ndim, const int64_t *shape);
/* Keyed: row i of dimension 0 is sample first + i, the same whatever the other rows. Standard normal; uniform in [0, 1).
 * No draw. LD_ESHAPE: no dimensions. */
ld_tensor *ld_noise(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, uint64_t seed, uint32_t purpose,
                    uint64_t first);
ld_tensor *ld_noise_uniform(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, uint64_t seed, uint32_t purpose,
                            uint64_t first);
/* In place, one draw each; see the in-place operations above. */
int ld_uniform_(ld_tensor *x, double lo, double hi);
int ld_normal_(ld_tensor *x, double mean, double std);

#endif
