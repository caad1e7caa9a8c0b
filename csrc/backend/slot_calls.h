/* The slots once more, with the names of their arguments: LD_SLOT_CALLS(X) is a list of X(slot, (parameters), names...), for
 * tables that wrap other tables. Whoever wraps looks at views alone; the lists in `update`, `judge` and `sumsq` take a wrapper of
 * their own. A slot that differs from LD_SLOTS does not compile where the wrapper goes into a table. */
#ifndef LD_SLOT_CALLS_H
#define LD_SLOT_CALLS_H

#define LD_SLOT_CALLS(X)                                                                                               \
    X(fill, (const ld_view *y, double value), y, value)                                                                \
    X(copy, (const ld_view *y, const ld_view *x), y, x)                                                                \
    X(unary, (const ld_view *y, const ld_view *x, ld_unary_op op, double a, double b), y, x, op, a, b)                 \
    X(unary_bwd, (const ld_view *dx, const ld_view *g, const ld_view *s, ld_unary_op op, double a, double b), dx, g,   \
      s, op, a, b)                                                                                                     \
    X(binary, (const ld_view *y, const ld_view *a, const ld_view *b, ld_binary_op op), y, a, b, op)                    \
    X(axpby, (const ld_view *y, const ld_view *x, double alpha, double beta), y, x, alpha, beta)                       \
    X(where, (const ld_view *y, const ld_view *c, const ld_view *a, const ld_view *b), y, c, a, b)                     \
    X(reduce, (const ld_view *y, const ld_view *x, ld_reduce_op op), y, x, op)                                         \
    X(arg, (const ld_view *y, const ld_view *x, int dim, bool smallest), y, x, dim, smallest)                          \
    X(matmul, (const ld_view *y, const ld_view *a, const ld_view *b, const ld_view *bias, double beta), y, a, b, bias, \
      beta)                                                                                                            \
    X(conv2d, (const ld_view *y, const ld_view *x, const ld_view *w, const ld_view *bias, const ld_conv_shape *s), y,  \
      x, w, bias, s)                                                                                                   \
    X(conv2d_dx, (const ld_view *dx, const ld_view *g, const ld_view *w, const ld_conv_shape *s), dx, g, w, s)         \
    X(conv2d_dw, (const ld_view *dw, const ld_view *db, const ld_view *x, const ld_view *g, const ld_conv_shape *s),   \
      dw, db, x, g, s)                                                                                                 \
    X(norm,                                                                                                            \
      (const ld_view *y, const ld_view *stats, const ld_view *mean, const ld_view *var, const ld_view *x,              \
       const ld_view *film, const ld_view *w, const ld_view *b, const ld_norm_spec *s),                                \
      y, stats, mean, var, x, film, w, b, s)                                                                           \
    X(norm_bwd,                                                                                                        \
      (const ld_view *dx, const ld_view *dfilm, const ld_view *dw, const ld_view *db, const ld_view *g,                \
       const ld_view *x, const ld_view *stats, const ld_view *film, const ld_view *w, const ld_view *b,                \
       const ld_norm_spec *s),                                                                                         \
      dx, dfilm, dw, db, g, x, stats, film, w, b, s)                                                                   \
    X(layer_norm,                                                                                                      \
      (const ld_view *y, const ld_view *mean, const ld_view *rstd, const ld_view *x, const ld_view *w,                 \
       const ld_view *b, double eps),                                                                                  \
      y, mean, rstd, x, w, b, eps)                                                                                     \
    X(layer_norm_bwd,                                                                                                  \
      (const ld_view *dx, const ld_view *dw, const ld_view *db, const ld_view *g, const ld_view *x,                    \
       const ld_view *mean, const ld_view *rstd, const ld_view *w),                                                    \
      dx, dw, db, g, x, mean, rstd, w)                                                                                 \
    X(softmax, (const ld_view *y, const ld_view *x), y, x)                                                             \
    X(softmax_bwd, (const ld_view *dx, const ld_view *g, const ld_view *y), dx, g, y)                                  \
    X(cross_entropy, (const ld_view *loss, const ld_view *x, const ld_view *t, double smoothing), loss, x, t,          \
      smoothing)                                                                                                       \
    X(cross_entropy_bwd, (const ld_view *dx, const ld_view *g, const ld_view *x, const ld_view *t, double smoothing),  \
      dx, g, x, t, smoothing)                                                                                          \
    X(attention,                                                                                                       \
      (const ld_view *y, const ld_view *lse, const ld_view *q, const ld_view *k, const ld_view *v, double scale), y,   \
      lse, q, k, v, scale)                                                                                             \
    X(attention_bwd,                                                                                                   \
      (const ld_view *dq, const ld_view *dk, const ld_view *dv, const ld_view *g, const ld_view *q, const ld_view *k,  \
       const ld_view *v, const ld_view *y, const ld_view *lse, double scale),                                          \
      dq, dk, dv, g, q, k, v, y, lse, scale)                                                                           \
    X(avg_pool2d, (const ld_view *y, const ld_view *x, int kh, int kw, int sh, int sw), y, x, kh, kw, sh, sw)          \
    X(avg_pool2d_bwd, (const ld_view *dx, const ld_view *g, int kh, int kw, int sh, int sw), dx, g, kh, kw, sh, sw)    \
    X(adaptive_avg_pool2d, (const ld_view *y, const ld_view *x), y, x)                                                 \
    X(adaptive_avg_pool2d_bwd, (const ld_view *dx, const ld_view *g), dx, g)                                           \
    X(upsample_nearest, (const ld_view *y, const ld_view *x, int scale), y, x, scale)                                  \
    X(upsample_nearest_bwd, (const ld_view *dx, const ld_view *g, int scale), dx, g, scale)                            \
    X(resize_bilinear, (const ld_view *y, const ld_view *x, bool antialias), y, x, antialias)                          \
    X(resize_bilinear_bwd, (const ld_view *dx, const ld_view *g, bool antialias), dx, g, antialias)                    \
    X(gather_rows, (const ld_view *y, const ld_view *x, const ld_view *idx), y, x, idx)                                \
    X(scatter_rows, (const ld_view *dx, const ld_view *g, const ld_view *idx), dx, g, idx)                             \
    X(gather_augment,                                                                                                  \
      (const ld_view *y, const ld_view *x, const ld_view *at, const ld_view *sample, const ld_view *shift,             \
       const ld_view *scale, const ld_augment *a),                                                                     \
      y, x, at, sample, shift, scale, a)                                                                               \
    X(uniform,                                                                                                         \
      (const ld_view *y, double lo, double hi, uint64_t seed, uint32_t purpose, uint64_t sample, bool by_row,          \
       const uint64_t *base),                                                                                          \
      y, lo, hi, seed, purpose, sample, by_row, base)                                                                  \
    X(normal,                                                                                                          \
      (const ld_view *y, double mean, double std, uint64_t seed, uint32_t purpose, uint64_t sample, bool by_row,       \
       const uint64_t *base),                                                                                          \
      y, mean, std, seed, purpose, sample, by_row, base)                                                               \
    X(dropout, (const ld_view *y, const ld_view *x, double p, uint64_t seed, uint64_t sample, const uint64_t *base),   \
      y, x, p, seed, sample, base)                                                                                     \
    X(noised,                                                                                                          \
      (const ld_view *y, const ld_view *x0, const ld_view *eps, const ld_view *t, const ld_view *z,                    \
       const ld_view *shift, double scale, uint64_t seed, uint64_t first, const uint64_t *base),                       \
      y, x0, eps, t, z, shift, scale, seed, first, base)                                                               \
    X(loss, (const ld_view *y, const ld_view *a, const ld_view *b, const ld_loss_spec *s), y, a, b, s)                 \
    X(loss_bwd,                                                                                                        \
      (const ld_view *da, const ld_view *db, const ld_view *g, const ld_view *a, const ld_view *b,                     \
       const ld_loss_spec *s),                                                                                         \
      da, db, g, a, b, s)                                                                                              \
    X(update, (const ld_update *u, int n, double scale, double decay, const ld_cell *cell), u, n, scale, decay, cell)  \
    X(judge, (ld_cell * cell, const ld_view *loss, const ld_view *xs, int n), cell, loss, xs, n)                       \
    X(sgd,                                                                                                             \
      (const ld_view *p, const ld_view *g, const ld_view *buf, double lr, double momentum, double weight_decay,        \
       bool nesterov, bool first),                                                                                     \
      p, g, buf, lr, momentum, weight_decay, nesterov, first)                                                          \
    X(sumsq, (double *sum, const ld_view *xs, int n), sum, xs, n)

#endif
