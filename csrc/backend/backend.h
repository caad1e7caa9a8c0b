/* The seam between operations and devices: a table of functions over plain views.
 *
 * Unless a line says otherwise: arguments are checked by the caller; views are dense, row-major, of one float dtype (f32 or
 * f64; statistics have the same dtype); outputs do not overlap inputs; sizes of 0 are allowed; a result is fully
 * overwritten; sums accumulate in at least f32 (f64 for f64). A function returns 0, or an error code after ld_fail (LD_EMEM
 * for workspace, LD_EDTYPE for a dtype it lacks, LD_EINTERNAL). On a card x, y, g and dx of norms and attention may be bf16 or
 * f16 as well: arithmetic, statistics and lse are then f32, and film, w, b and their gradients have x's dtype or that of the
 * statistics, each its own. The layout of a norm's stats is the same on every device. "NHWC" marks rank-4 views with logical shape (N,C,H,W) in
 * canonical layout. "any" marks views of any strides and rank. Optional views are NULL. */
#ifndef LD_BACKEND_H
#define LD_BACKEND_H

#include "backend/view.h"

/* Elementwise functions of one argument; a and b are parameters. The gradient is taken from x or, where "y" stands, from
 * the result. */
typedef enum ld_unary_op {
    LD_NEG,        /* -x */
    LD_ABS,        /* |x|; gradient sign(x) */
    LD_EXP,        /* e^x (y) */
    LD_LOG,        /* ln x */
    LD_SQRT,       /* (y) */
    LD_RSQRT,      /* x^-1/2 (y) */
    LD_SQUARE,     /* x^2 */
    LD_RECIPROCAL, /* 1/x (y) */
    LD_SIN,
    LD_COS,
    LD_TAN,     /* (y) */
    LD_TANH,    /* (y) */
    LD_SIGMOID, /* (y) */
    LD_SILU,    /* x sigmoid(x) */
    LD_GELU,    /* x Phi(x), exact (erf) */
    LD_RELU,    /* max(x, 0); gradient 0 at 0 */
    LD_LEAKY,   /* (x > 0 ? x : a x) - b; gradient a at 0. GeneralReLU of method 3.1 */
    LD_CLAMP,   /* min(max(x, a), b); gradient 1 inside and on the borders, 0 outside */
    LD_POW,     /* x^a */
    LD_AFFINE,  /* a x + b */
    LD_FLOOR,   /* gradient 0 */
    LD_ROUND,   /* half to even; gradient 0 */
    LD_SIGN,    /* gradient 0 */
    LD_UNARY_COUNT
} ld_unary_op;
bool ld_unary_keeps_result(ld_unary_op op); /* the ops marked (y) */

typedef enum ld_binary_op {
    LD_ADD,
    LD_SUB,
    LD_MUL,
    LD_DIV,
    LD_MAXIMUM,
    LD_MINIMUM,
    LD_POWER,
    LD_EQ, /* comparisons from here: the result is u8, 1 or 0 */
    LD_NE,
    LD_LT,
    LD_LE,
    LD_GT,
    LD_GE,
    LD_BINARY_COUNT
} ld_binary_op;

typedef enum ld_reduce_op { LD_SUM, LD_MEAN, LD_MAX, LD_MIN, LD_SUMSQ, LD_REDUCE_COUNT } ld_reduce_op;

typedef struct ld_conv_shape {
    int stride_h, stride_w;
    int top, bottom, left, right; /* zero padding; may differ by side */
    bool up; /* x counts as if every pixel were repeated 2x2; then the kernel is 3x3, stride and padding are 1 */
} ld_conv_shape;

/* The largest time that diffusion training draws: alpha stays above 0.0015.
 * Slot noised: x0 = (z - shift) scale and y = alpha x0 + sigma eps, where alpha = cos(pi t/2) and sigma = sin(pi t/2) are worked
 * out in f64. y, x0 (or NULL), eps like z; shift (channels of rank 4) or NULL. eps is drawn as by normal, t (N; f32 for bf16
 * and f16) as by uniform and cut to LD_TIME_MAX, by row, with LD_RNG_NOISE and LD_RNG_TIME: row i is sample first + i. */
#define LD_TIME_MAX 0.999

typedef struct ld_adam_step {
    double lr, beta1, beta2, eps, weight_decay;
    int64_t step;   /* 1 at the first update */
    bool decoupled; /* AdamW: p -= lr wd p first; else Adam: g += wd p */
} ld_adam_step;

/* One tensor of an update: n elements of f32 or f64, all dense and laid out alike. With d = scale g:
 *   p, m, v by Adam's rule from d: mhat = m/(1-beta1^step), p -= lr mhat/(sqrt(vhat) + eps); where g is NULL they stay
 *   s = decay s + (1 - decay) p, with the new p; where s is NULL nothing
 * Mixed precision (CUDA; elsewhere LD_EDTYPE): with dtype f32, g may be bf16 or f16, and shadow gets the new p as bf16. */
typedef struct ld_update {
    ld_dtype dtype;
    int64_t n;
    void *p, *m, *v, *s;
    const void *g;
    ld_adam_step adam;
    ld_dtype g_dtype; /* LD_BF16 or LD_F16, or anything else: g has dtype */
    void *shadow;     /* or NULL; written where g is not NULL */
} ld_update;

/* Slot gather_augment: training pictures out of a data set. Row i of y (N,C,H,W) is made of row at[i] of x, or of row i, as
 *   z = (x - shift) scale by channel, in f32
 *   pad: z moved by -pad .. pad pixels on each axis, zeros behind it
 *   erase: 0 .. erases times a rectangle of int(erase H) x int(erase W), in all channels, is filled with noise of the mean and
 *     (unbiased) spread that z has by then, clamped to its range
 *   flip: left and right change sides, with this probability
 * in this order. Draws are a function of (seed, sample), which is sample[i], or first + i; augment_draws.h has them.
 * y f32 NHWC; x of rank 4, any strides, a float or u8; at (checked), sample (N) i64 or NULL; shift, scale (C) f32, or both
 * NULL. */
enum { LD_AUGMENT_ERASES = 64 };
typedef struct ld_augment {
    int pad, erases; /* 0: none; erases at most LD_AUGMENT_ERASES */
    double erase;    /* 0 <= erase < 1 */
    double flip;
    uint64_t seed, first;
} ld_augment;

/* Numbers of a training step in the device's memory, for a step that is recorded once and done many times (backend/graph.h).
 * `update` with a cell: adam.lr is a factor of lr, adam.step the updates before the recording; step, beta1, scale and decay
 * come from here, and without ok nothing happens. */
enum { LD_CELL_REPORT = 24 };
typedef struct ld_cell {
    /* from the host, before each time */
    uint64_t clock, draws;  /* bases of sample numbers */
    double lr, beta1, clip; /* clip: the largest norm of the gradient; 0: none */
    double average;         /* decay of the averages */
    int64_t updates;        /* of the averages, before the recording; -1: the decay does not warm up */
    /* the device counts; from the host when it knows better */
    int64_t taken; /* times since the recording that were ok */
    /* what `judge` finds */
    double sum, scale, decay; /* of squares of the gradient; the gradient's factor; decay of the averages this time */
    uint8_t ok, unused[7];    /* 1: loss and sum are finite */
    double report[LD_CELL_REPORT]; /* whatever the recording copies there */
} ld_cell;

/* The activation behind a norm: those of ld_unary_op, at v = 0 with the same slopes. */
typedef enum ld_norm_act { LD_NORM_PLAIN, LD_NORM_RELU, LD_NORM_LEAKY, LD_NORM_SILU } ld_norm_act;

/* Batch norm over several ranks: between its passes a slot calls run, on the host, with what this rank has of each of c
 * channels, which becomes what all ranks have. Forward: mean and (biased) variance of u over `rows` rows, which becomes the
 * rows of all. Backward: sums of dz and dz xhat, where dz is the gradient behind the activation; weights are not in them. 0 or
 * an error code, which the slot returns. */
typedef struct ld_norm_join {
    int (*run)(struct ld_norm_join *join, double *first, double *second, int64_t c);
    double rows;
} ld_norm_join;

typedef struct ld_norm_spec {
    int groups; /* statistics of C/groups channels and all positions of a sample; 0, batch norm: of a channel over all */
    bool given; /* batch norm only: mean and var are constants */
    bool again; /* norm only: stats are read, and y comes out as it was when they were written */
    double eps;
    ld_norm_act act;
    double slope, sub;  /* LEAKY only */
    ld_norm_join *join; /* batch norm only, or NULL; not with given or again */
} ld_norm_spec;

/* A loss between two tensors alike, as one number: the sum, or the mean, over d = a - b of
 *   SQUARE d^2,   ABS |d|,   HUBER c (d - c/2) with c = d held to -delta .. delta */
typedef enum ld_loss_kind { LD_LOSS_SQUARE, LD_LOSS_ABS, LD_LOSS_HUBER } ld_loss_kind;

typedef struct ld_loss_spec {
    ld_loss_kind kind;
    bool mean;
    double delta; /* HUBER only */
} ld_loss_spec;

/* Numbers kept by sample and channel. */
#define LD_NORM_STATS(film) ((film) ? 5 : 3)

/* X(name, parameters) */
#define LD_SLOTS(X)                                                                                                        \
    /* y = value. any, every dtype */                                                                                      \
    X(fill, (const ld_view *y, double value))                                                                              \
    /* y = x converted to y's dtype, equal shapes. any, every pair of dtypes */                                            \
    X(copy, (const ld_view *y, const ld_view *x))                                                                          \
    /* y = op(x; a, b). any, equal shapes, one float dtype (NEG ABS SQUARE AFFINE CLAMP SIGN also integers); y may be x */ \
    X(unary, (const ld_view *y, const ld_view *x, ld_unary_op op, double a, double b))                                     \
    /* dx = g op'(s), s is x, or the result where marked. any, equal shapes, floats; dx may be g */                        \
    X(unary_bwd, (const ld_view *dx, const ld_view *g, const ld_view *s, ld_unary_op op, double a, double b))              \
    /* y = a op b. any (broadcast by stride 0), equal shapes, one dtype, every dtype; y u8 for comparisons; y may be a */  \
    X(binary, (const ld_view *y, const ld_view *a, const ld_view *b, ld_binary_op op))                                     \
    /* y = alpha x + beta y (y is not read when beta is 0). any, one float dtype */                                        \
    X(axpby, (const ld_view *y, const ld_view *x, double alpha, double beta))                                              \
    /* y = c ? a : b, c is u8. any, a b y one dtype; y may be a */                                                         \
    X(where, (const ld_view *y, const ld_view *c, const ld_view *a, const ld_view *b))                                     \
    /* y = op over the dimensions where y has size 1 and x more; equal rank. any; every dtype (MEAN, SUMSQ: floats) */     \
    X(reduce, (const ld_view *y, const ld_view *x, ld_reduce_op op))                                                       \
    /* y (i64, x's shape with size 1 at dim) = position from 0 of the first largest (or smallest) along dim. any */        \
    X(arg, (const ld_view *y, const ld_view *x, int dim, bool smallest))                                                   \
    /* y[i] = a[i] b[i] + bias + beta y[i], i over the batch: y (B,M,N), a (B,M,K), b (B,K,N), bias (N) or NULL, beta  \
     * 0 or 1. any strides (batch stride 0 = shared) where one of the last two strides of each is 1, or size 1 */   \
    X(matmul, (const ld_view *y, const ld_view *a, const ld_view *b, const ld_view *bias, double beta))                    \
    /* NHWC cross-correlation. y (N,O,P,Q), x (N,C,H,W), w (O,C,R,S) any dense layout, bias (O) or NULL */                 \
    X(conv2d, (const ld_view *y, const ld_view *x, const ld_view *w, const ld_view *bias, const ld_conv_shape *s))         \
    /* gradient of x from g (shape of y) */                                                                                \
    X(conv2d_dx, (const ld_view *dx, const ld_view *g, const ld_view *w, const ld_conv_shape *s))                          \
    /* gradients of w (layout as given) and bias; db may be NULL */                                                        \
    X(conv2d_dw, (const ld_view *dw, const ld_view *db, const ld_view *x, const ld_view *g, const ld_conv_shape *s))       \
    /* y = act((u - mean) / sqrt(var + eps) w + b), u = (1 + scale) x + shift: x, y (N,P,C), P positions, channels  \
     * innermost; film (N,2C): scale, then shift, or NULL; w, b (C) or NULL. stats (N,LD_NORM_STATS(film),C) is  \
     * written for norm_bwd. mean, var (C) of u, biased: written, or read when s->given; NULL for group norm.        \
     * s->join: of all ranks; norm_bwd's dw, db stay this rank's */      \
    X(norm, (const ld_view *y, const ld_view *stats, const ld_view *mean, const ld_view *var, const ld_view *x,            \
             const ld_view *film, const ld_view *w, const ld_view *b, const ld_norm_spec *s))                              \
    /* any of dx, dfilm, dw, db may be NULL */                                                                             \
    X(norm_bwd, (const ld_view *dx, const ld_view *dfilm, const ld_view *dw, const ld_view *db, const ld_view *g,          \
                 const ld_view *x, const ld_view *stats, const ld_view *film, const ld_view *w, const ld_view *b,          \
                 const ld_norm_spec *s))                                                                                   \
    /* over each row of (M,C); mean, rstd (M) are written */                                                               \
    X(layer_norm, (const ld_view *y, const ld_view *mean, const ld_view *rstd, const ld_view *x, const ld_view *w,         \
                   const ld_view *b, double eps))                                                                          \
    X(layer_norm_bwd, (const ld_view *dx, const ld_view *dw, const ld_view *db, const ld_view *g, const ld_view *x,        \
                       const ld_view *mean, const ld_view *rstd, const ld_view *w))                                        \
    /* over each row of (M,K) */                                                                                           \
    X(softmax, (const ld_view *y, const ld_view *x))                                                                       \
    X(softmax_bwd, (const ld_view *dx, const ld_view *g, const ld_view *y))                                                \
    /* loss (M) of logits x (M,K), classes t (M, i64; outside: NaN): -(1-s) log p[t] - s/K sum_k log p[k] */               \
    X(cross_entropy, (const ld_view *loss, const ld_view *x, const ld_view *t, double smoothing))                          \
    /* dx = g[m] (p - target distribution), g (M) */                                                                       \
    X(cross_entropy_bwd, (const ld_view *dx, const ld_view *g, const ld_view *x, const ld_view *t, double smoothing))      \
    /* y = softmax(scale q k^T) v: q, y (N,heads,T,d), k, v (N,heads,S,d): any strides, the last 1; lse (N,heads,T)    \
     * dense: log of the sum of exponentials */   \
    X(attention,                                                                                                           \
      (const ld_view *y, const ld_view *lse, const ld_view *q, const ld_view *k, const ld_view *v, double scale))          \
    X(attention_bwd, (const ld_view *dq, const ld_view *dk, const ld_view *dv, const ld_view *g, const ld_view *q,         \
                      const ld_view *k, const ld_view *v, const ld_view *y, const ld_view *lse, double scale))             \
    /* NHWC mean over kh x kw windows clipped to x; divided by the clipped size */                                         \
    X(avg_pool2d, (const ld_view *y, const ld_view *x, int kh, int kw, int sh, int sw))                                    \
    X(avg_pool2d_bwd, (const ld_view *dx, const ld_view *g, int kh, int kw, int sh, int sw))                               \
    /* NHWC mean over cells floor(i H/P) .. ceil((i+1) H/P) */                                                             \
    X(adaptive_avg_pool2d, (const ld_view *y, const ld_view *x))                                                           \
    X(adaptive_avg_pool2d_bwd, (const ld_view *dx, const ld_view *g))                                                      \
    /* NHWC, y's sides are `scale` times x's */                                                                            \
    X(upsample_nearest, (const ld_view *y, const ld_view *x, int scale))                                                   \
    X(upsample_nearest_bwd, (const ld_view *dx, const ld_view *g, int scale))                                              \
    /* NHWC, half-pixel centres; antialias widens the triangle when shrinking */                                           \
    X(resize_bilinear, (const ld_view *y, const ld_view *x, bool antialias))                                               \
    X(resize_bilinear_bwd, (const ld_view *dx, const ld_view *g, bool antialias))                                          \
    /* y (M,K) = rows idx (M, i64, checked) of x (R,K). every dtype */                                                     \
    X(gather_rows, (const ld_view *y, const ld_view *x, const ld_view *idx))                                               \
    /* dx (R,K) zeroed, then dx[idx[m]] += g[m], in order of m */                                                          \
    X(scatter_rows, (const ld_view *dx, const ld_view *g, const ld_view *idx))                                             \
    /* see ld_augment */                                                                                                   \
    X(gather_augment, (const ld_view *y, const ld_view *x, const ld_view *at, const ld_view *sample,                       \
                       const ld_view *shift, const ld_view *scale, const ld_augment *a))                                   \
    /* y = lo + (hi - lo) u, or mean + std n, from base/rng.h. any, floats. by_row: row i of dimension 0 is sample     \
     * `sample` + i, its elements counted in logical row-major order; else all of y is sample `sample`;         \
     * base, in the device's memory, or NULL: *base is added to `sample` */   \
    X(uniform, (const ld_view *y, double lo, double hi, uint64_t seed, uint32_t purpose, uint64_t sample, bool by_row,     \
                const uint64_t *base))                                                                                     \
    X(normal, (const ld_view *y, double mean, double std, uint64_t seed, uint32_t purpose, uint64_t sample,                \
               bool by_row, const uint64_t *base))                                                                         \
    /* y = u < p ? 0 : x / (1 - p), u as in uniform with purpose LD_RNG_DROPOUT over all of x. any; y may be x */          \
    X(dropout, (const ld_view *y, const ld_view *x, double p, uint64_t seed, uint64_t sample, const uint64_t *base))       \
    /* training data, drawn and mixed: see LD_TIME_MAX. z (N,...) canonical */                                             \
    X(noised, (const ld_view *y, const ld_view *x0, const ld_view *eps, const ld_view *t, const ld_view *z,                \
               const ld_view *shift, double scale, uint64_t seed, uint64_t first, const uint64_t *base))                   \
    /* y (one element) = the loss between a and b, dense, laid out alike */                                                \
    X(loss, (const ld_view *y, const ld_view *a, const ld_view *b, const ld_loss_spec *s))                                 \
    /* da = g times the slope, db = -da: either may be NULL; g one element */                                              \
    X(loss_bwd, (const ld_view *da, const ld_view *db, const ld_view *g, const ld_view *a, const ld_view *b,               \
                 const ld_loss_spec *s))                                                                                   \
    /* the n tensors of a training step in place, each element read and written once; ld_update says what happens */       \
    X(update, (const ld_update *u, int n, double scale, double decay, const ld_cell *cell))                                \
    /* cell: sum = sum of x^2 over the n tensors xs, as sumsq; ok: that and loss (a float) are finite; scale; decay */     \
    X(judge, (ld_cell * cell, const ld_view *loss, const ld_view *xs, int n))                                              \
    /* in place: d = g + wd p; buf = first ? d : momentum buf + d; p -= lr (nesterov ? d + momentum buf : buf) */          \
    X(sgd, (const ld_view *p, const ld_view *g, const ld_view *buf, double lr, double momentum, double weight_decay,       \
            bool nesterov, bool first))                                                                                    \
    /* *sum = sum of x^2 over the n tensors xs, in f64, infinite or NaN when an element is. any dense layout, floats */    \
    X(sumsq, (double *sum, const ld_view *xs, int n))

typedef struct ld_backend {
    const char *name;
    bool halves; /* what computes (convolution, products, norms, attention, ...) takes bf16 and f16 */
    void (*forget)(uint64_t serial); /* the storage of this serial (view.h) is gone: drop what was kept of it */
#define LD_SLOT_MEMBER(slot, args) int(*slot) args;
    LD_SLOTS(LD_SLOT_MEMBER)
#undef LD_SLOT_MEMBER
} ld_backend;

extern const char *const ld_slot_names[]; /* in the order of the table */
int ld_slot_count(void);

extern const ld_backend ld_cpu_backend;
const ld_backend *ld_cpu_plan_backend(void); /* computes nothing, see backend/plan.h */

#endif
