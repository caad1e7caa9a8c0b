/* Batch, group and layer normalisation. */
#include "base/error.h"
#include "op/check.h"

#include <string.h>

typedef struct norm_attr {
    int groups;
    bool given; /* batch norm in eval mode: the statistics are constants */
    double eps;
} norm_attr;

/* x with its channels innermost, as one dense block: its own memory for (N,C) and NHWC, else a copy as (N,...,C). */
static ld_tensor *channels_last(ld_tensor *x, const char *op) {
    if (x->ndim == 2 || x->ndim == 4)
        return ld_tensor_canonical(x, op);
    int64_t shape[LD_MAX_DIMS];
    ld_tensor view = *x;
    for (int i = 0; i < x->ndim; i++) { /* (N,C,rest) -> (N,rest,C) */
        int from = i == 0 ? 0 : i == x->ndim - 1 ? 1 : i + 1;
        shape[i] = x->shape[from];
        view.shape[i] = x->shape[from];
        view.stride[i] = x->stride[from];
    }
    int64_t flat[1] = {ld_tensor_numel(x)};
    ld_tensor *y = ld_tensor_new(x->storage->device, x->dtype, 1, flat, op);
    if (!y)
        return NULL;
    ld_view to = ld_dense(y, x->ndim, shape);
    return ld_result(y, LD_BACKEND(x)->copy(&to, LD_VIEW(&view)));
}

/* The way back: a dense block with channels innermost as a tensor like x. Takes over y. */
static ld_tensor *channels_second(ld_tensor *y, int ndim, const int64_t *shape, const char *op) {
    if (!y || ndim == 2 || ndim == 4)
        return y;
    int64_t order[LD_MAX_DIMS] = {0};
    for (int i = 0; i < ndim; i++)
        order[i] = shape[i == 0 ? 0 : i == ndim - 1 ? 1 : i + 1];
    ld_view from = ld_dense(y, ndim, order), v = from;
    for (int i = 0; i < ndim; i++) {
        int at = i == 0 ? 0 : i == 1 ? ndim - 1 : i - 1;
        v.shape[i] = shape[i];
        v.stride[i] = from.stride[at];
    }
    ld_tensor *z = ld_tensor_new(y->storage->device, y->dtype, ndim, shape, op);
    if (z)
        z = ld_result(z, LD_BACKEND(y)->copy(LD_VIEW(z), &v));
    ld_tensor_drop(y);
    return z;
}

/* A fresh block to write channels-last results into: like x, or flat when x's rank needs the way back. */
static ld_tensor *block_like(const ld_tensor *x, const char *op) {
    if (x->ndim == 2 || x->ndim == 4)
        return ld_tensor_like(x, op);
    int64_t flat[1] = {ld_tensor_numel(x)};
    return ld_tensor_new(x->storage->device, x->dtype, 1, flat, op);
}

static ld_tensor *vector_like(const ld_tensor *x, int64_t n, const char *op) {
    return ld_tensor_new(x->storage->device, x->dtype, 1, &n, op);
}

static ld_view rows_view(const ld_tensor *x, int64_t rows, int64_t c) {
    return ld_dense(x, 2, (int64_t[]){rows, c});
}

static int check_norm(const char *op, ld_tensor *x, ld_tensor *w, ld_tensor *b, double eps, int64_t c) {
    int bad = ld_check_compute(op, (ld_tensor *[]){x, w, b}, 3);
    if (!bad)
        bad = ld_check_vector(op, "weight", w, c);
    if (!bad)
        bad = ld_check_vector(op, "bias", b, c);
    if (!bad && !(eps >= 0))
        bad = ld_fail(LD_EVALUE, "%s: eps is %g; it must not be negative", op, eps);
    if (!bad && ((w && !ld_tensor_is_canonical(w)) || (b && !ld_tensor_is_canonical(b))))
        bad = ld_fail(LD_ESHAPE, "%s: weight and bias must lie densely; use :contiguous()", op);
    return bad;
}

#define VIEW_OR_NULL(x) ((x) ? LD_VIEW(x) : NULL)

/* What the three gradients share: room for those that are needed, the call, giving them away. */
typedef struct norm_gradients {
    ld_tensor *dx, *dw, *db;
    int64_t shape[LD_MAX_DIMS];
    int ndim;
} norm_gradients;

static int make_gradients(norm_gradients *d, ld_node *n, const ld_tensor *g, int64_t c, const char *op) {
    *d = (norm_gradients){.ndim = g->ndim};
    memcpy(d->shape, g->shape, sizeof d->shape);
    if (ld_node_needs(n, 0) && !(d->dx = block_like(g, op)))
        return ld_error_code();
    if (ld_node_needs(n, 1) && !(d->dw = vector_like(g, c, op)))
        return ld_error_code();
    if (ld_node_needs(n, 2) && !(d->db = vector_like(g, c, op)))
        return ld_error_code();
    return 0;
}

static int give_gradients(norm_gradients *d, ld_node *n, int bad, const char *op) {
    ld_tensor *parts[3] = {d->dx, d->dw, d->db};
    for (int i = 0; i < 3; i++) {
        if (bad)
            ld_tensor_drop(parts[i]);
        else if (ld_node_needs(n, i))
            bad = ld_node_give(n, i, i ? parts[i] : channels_second(parts[0], d->ndim, d->shape, op));
    }
    return bad;
}

/* ---- batch norm ----------------------------------------------------------------------------------------------------- */

static int batch_norm_backward(ld_node *n, ld_tensor *g) {
    static const char op[] = "batch_norm";
    const norm_attr *t = ld_node_attr(n);
    ld_tensor *x = ld_node_saved(n, 0), *mean = x ? ld_node_saved(n, 1) : NULL,
              *var = mean ? ld_node_saved(n, 2) : NULL;
    ld_tensor *w = var && ld_node_has_saved(n, 3) ? ld_node_saved(n, 3) : NULL;
    if (!var || (ld_node_has_saved(n, 3) && !w))
        return ld_error_code();
    int64_t c = mean->shape[0], rows = c ? ld_tensor_numel(x) / c : 0;
    norm_gradients d = {0};
    ld_tensor *block_g = channels_last(g, op), *block_x = block_g ? channels_last(x, op) : NULL;
    int bad = block_x ? make_gradients(&d, n, g, c, op) : ld_error_code();
    if (!bad) {
        ld_view vg = rows_view(block_g, rows, c), vx = rows_view(block_x, rows, c);
        ld_view vd = d.dx ? rows_view(d.dx, rows, c) : vg;
        bad = LD_BACKEND(g)->batch_norm_bwd(d.dx ? &vd : NULL, VIEW_OR_NULL(d.dw), VIEW_OR_NULL(d.db), &vg, &vx,
                                            LD_VIEW(mean), LD_VIEW(var), VIEW_OR_NULL(w), t->eps, t->given);
    }
    ld_tensor_drop(block_g);
    ld_tensor_drop(block_x);
    return give_gradients(&d, n, bad, op);
}

/* running = (1 - momentum) running + momentum batch; the variance unbiased. */
static int update_running(ld_tensor *mean, ld_tensor *var, ld_tensor *running_mean, ld_tensor *running_var,
                          double momentum, int64_t rows) {
    const ld_backend *be = LD_BACKEND(mean);
    double unbiased = (double)rows / (double)(rows - 1);
    int bad = running_mean ? be->axpby(LD_VIEW(running_mean), LD_VIEW(mean), momentum, 1 - momentum) : 0;
    if (!bad && running_var)
        bad = be->axpby(LD_VIEW(running_var), LD_VIEW(var), momentum * unbiased, 1 - momentum);
    if (!bad && running_mean)
        ld_tensor_touch(running_mean);
    if (!bad && running_var)
        ld_tensor_touch(running_var);
    return bad;
}

static int check_batch_norm(ld_tensor *x, ld_tensor *w, ld_tensor *b, ld_tensor *running_mean, ld_tensor *running_var,
                            bool training, double eps) {
    static const char op[] = "batch_norm";
    if (x->ndim < 2 || x->ndim > 4)
        return ld_fail(LD_ESHAPE, "%s: x is %s; (N,C), (N,C,L) or (N,C,H,W) is needed", op, ld_tensor_text(x));
    int64_t c = x->shape[1], rows = c ? ld_tensor_numel(x) / c : 0;
    int bad = check_norm(op, x, w, b, eps, c);
    if (!bad)
        bad = ld_check_compute(op, (ld_tensor *[]){x, running_mean, running_var}, 3);
    if (!bad)
        bad = ld_check_vector(op, "running_mean", running_mean, c);
    if (!bad)
        bad = ld_check_vector(op, "running_var", running_var, c);
    if (!bad && !training && (!running_mean || !running_var))
        bad = ld_fail(LD_EVALUE, "%s: outside training, running_mean and running_var are needed", op);
    if (!bad && training && rows < 2)
        bad = ld_fail(LD_EVALUE, "%s: %s has %lld value%s a channel; training needs two or more", op, ld_tensor_text(x),
                      (long long)rows, rows == 1 ? "" : "s");
    return bad;
}

ld_tensor *ld_batch_norm(ld_tensor *x, ld_tensor *w, ld_tensor *b, ld_tensor *running_mean, ld_tensor *running_var,
                         bool training, double momentum, double eps) {
    static const char op[] = "batch_norm";
    if (check_batch_norm(x, w, b, running_mean, running_var, training, eps))
        return NULL;
    int64_t c = x->shape[1], rows = c ? ld_tensor_numel(x) / c : 0;
    /* eval: copies, so that later training steps do not touch what the tape saved */
    ld_tensor *mean = training ? vector_like(x, c, op) : ld_tensor_clone(running_mean, op);
    ld_tensor *var = !mean ? NULL : training ? vector_like(x, c, op) : ld_tensor_clone(running_var, op);
    ld_tensor *block = var ? channels_last(x, op) : NULL, *y = block ? block_like(x, op) : NULL;
    int bad = y ? 0 : ld_error_code();
    if (!bad) {
        ld_view vy = rows_view(y, rows, c), vx = rows_view(block, rows, c);
        bad = LD_BACKEND(x)->batch_norm(&vy, LD_VIEW(mean), LD_VIEW(var), &vx, VIEW_OR_NULL(w), VIEW_OR_NULL(b), eps,
                                        !training);
    }
    if (!bad && training)
        bad = update_running(mean, var, running_mean, running_var, momentum, rows);
    if (y)
        y = channels_second(ld_result(y, bad), x->ndim, x->shape, op);
    norm_attr t = {.given = !training, .eps = eps};
    y = ld_record(y, op, batch_norm_backward, (ld_tensor *[]){x, w, b}, 3, (ld_tensor *[]){x, mean, var, w}, 4, &t,
                  sizeof t);
    ld_tensor_drop(block);
    ld_tensor_drop(mean);
    ld_tensor_drop(var);
    return y;
}

/* ---- group norm ----------------------------------------------------------------------------------------------------- */

static ld_view positions_view(const ld_tensor *block, const ld_tensor *x) {
    int64_t n = x->shape[0], c = x->shape[1], p = 1;
    for (int i = 2; i < x->ndim; i++)
        p *= x->shape[i];
    return ld_dense(block, 3, (int64_t[]){n, p, c});
}

static int group_norm_backward(ld_node *n, ld_tensor *g) {
    static const char op[] = "group_norm";
    const norm_attr *t = ld_node_attr(n);
    ld_tensor *x = ld_node_saved(n, 0), *mean = x ? ld_node_saved(n, 1) : NULL;
    ld_tensor *rstd = mean ? ld_node_saved(n, 2) : NULL;
    ld_tensor *w = rstd && ld_node_has_saved(n, 3) ? ld_node_saved(n, 3) : NULL;
    if (!rstd || (ld_node_has_saved(n, 3) && !w))
        return ld_error_code();
    norm_gradients d = {0};
    ld_tensor *block_g = channels_last(g, op), *block_x = block_g ? channels_last(x, op) : NULL;
    int bad = block_x ? make_gradients(&d, n, g, x->shape[1], op) : ld_error_code();
    if (!bad) {
        ld_view vg = positions_view(block_g, x), vx = positions_view(block_x, x);
        ld_view vd = d.dx ? positions_view(d.dx, x) : vg;
        bad = LD_BACKEND(g)->group_norm_bwd(d.dx ? &vd : NULL, VIEW_OR_NULL(d.dw), VIEW_OR_NULL(d.db), &vg, &vx,
                                            LD_VIEW(mean), LD_VIEW(rstd), VIEW_OR_NULL(w), t->groups);
    }
    ld_tensor_drop(block_g);
    ld_tensor_drop(block_x);
    return give_gradients(&d, n, bad, op);
}

ld_tensor *ld_group_norm(ld_tensor *x, ld_tensor *w, ld_tensor *b, int groups, double eps) {
    static const char op[] = "group_norm";
    if (x->ndim < 2)
        return ld_fail_null(LD_ESHAPE, "%s: x is %s; (N,C,...) is needed", op, ld_tensor_text(x));
    int64_t c = x->shape[1];
    if (check_norm(op, x, w, b, eps, c))
        return NULL;
    if (groups < 1 || c % groups)
        return ld_fail_null(LD_ESHAPE, "%s: %d groups do not divide the %lld channels of %s", op, groups, (long long)c,
                            ld_tensor_text(x));
    int64_t stats[2] = {x->shape[0], groups};
    ld_tensor *mean = ld_tensor_new(x->storage->device, x->dtype, 2, stats, op);
    ld_tensor *rstd = mean ? ld_tensor_new(x->storage->device, x->dtype, 2, stats, op) : NULL;
    ld_tensor *block = rstd ? channels_last(x, op) : NULL, *y = block ? block_like(x, op) : NULL;
    if (y) {
        ld_view vy = positions_view(y, x), vx = positions_view(block, x);
        y = ld_result(y, LD_BACKEND(x)->group_norm(&vy, LD_VIEW(mean), LD_VIEW(rstd), &vx, VIEW_OR_NULL(w),
                                                   VIEW_OR_NULL(b), groups, eps));
        y = channels_second(y, x->ndim, x->shape, op);
    }
    norm_attr t = {.groups = groups, .eps = eps};
    y = ld_record(y, op, group_norm_backward, (ld_tensor *[]){x, w, b}, 3, (ld_tensor *[]){x, mean, rstd, w}, 4, &t,
                  sizeof t);
    ld_tensor_drop(block);
    ld_tensor_drop(mean);
    ld_tensor_drop(rstd);
    return y;
}

/* ---- layer norm ----------------------------------------------------------------------------------------------------- */

/* x row by row: canonical, or for rank 4 (NHWC in memory) a row-major copy. */
static ld_tensor *row_block(ld_tensor *x, const char *op) {
    if (x->ndim != 4)
        return ld_tensor_canonical(x, op);
    int64_t flat[1] = {ld_tensor_numel(x)};
    ld_tensor *y = ld_tensor_new(x->storage->device, x->dtype, 1, flat, op);
    if (!y)
        return NULL;
    ld_view to = ld_dense(y, 4, x->shape);
    return ld_result(y, LD_BACKEND(x)->copy(&to, LD_VIEW(x)));
}

static ld_tensor *from_rows(ld_tensor *y, int ndim, const int64_t *shape, const char *op) {
    if (!y || ndim != 4)
        return y;
    ld_tensor *z = ld_tensor_new(y->storage->device, y->dtype, 4, shape, op);
    ld_view from = ld_dense(y, 4, shape);
    if (z)
        z = ld_result(z, LD_BACKEND(y)->copy(LD_VIEW(z), &from));
    ld_tensor_drop(y);
    return z;
}

static ld_tensor *rows_like(const ld_tensor *x, const char *op) {
    int64_t flat[1] = {ld_tensor_numel(x)};
    return x->ndim == 4 ? ld_tensor_new(x->storage->device, x->dtype, 1, flat, op) : ld_tensor_like(x, op);
}

static int layer_norm_backward(ld_node *n, ld_tensor *g) {
    static const char op[] = "layer_norm";
    ld_tensor *x = ld_node_saved(n, 0), *mean = x ? ld_node_saved(n, 1) : NULL;
    ld_tensor *rstd = mean ? ld_node_saved(n, 2) : NULL;
    ld_tensor *w = rstd && ld_node_has_saved(n, 3) ? ld_node_saved(n, 3) : NULL;
    if (!rstd || (ld_node_has_saved(n, 3) && !w))
        return ld_error_code();
    int64_t c = x->shape[x->ndim - 1], rows = mean->shape[0];
    ld_tensor *dx = NULL, *dw = NULL, *db = NULL;
    ld_tensor *block_g = row_block(g, op), *block_x = block_g ? row_block(x, op) : NULL;
    int bad = block_x ? 0 : ld_error_code();
    if (!bad && ld_node_needs(n, 0) && !(dx = rows_like(g, op)))
        bad = ld_error_code();
    if (!bad && ld_node_needs(n, 1) && !(dw = vector_like(g, c, op)))
        bad = ld_error_code();
    if (!bad && ld_node_needs(n, 2) && !(db = vector_like(g, c, op)))
        bad = ld_error_code();
    if (!bad) {
        ld_view vg = rows_view(block_g, rows, c), vx = rows_view(block_x, rows, c);
        ld_view vd = dx ? rows_view(dx, rows, c) : vg;
        bad = LD_BACKEND(g)->layer_norm_bwd(dx ? &vd : NULL, VIEW_OR_NULL(dw), VIEW_OR_NULL(db), &vg, &vx,
                                            LD_VIEW(mean), LD_VIEW(rstd), VIEW_OR_NULL(w));
    }
    ld_tensor_drop(block_g);
    ld_tensor_drop(block_x);
    ld_tensor *parts[3] = {dx, dw, db};
    for (int i = 0; i < 3; i++) {
        if (bad)
            ld_tensor_drop(parts[i]);
        else if (ld_node_needs(n, i))
            bad = ld_node_give(n, i, i ? parts[i] : from_rows(dx, g->ndim, g->shape, op));
    }
    return bad;
}

ld_tensor *ld_layer_norm(ld_tensor *x, ld_tensor *w, ld_tensor *b, double eps) {
    static const char op[] = "layer_norm";
    if (x->ndim < 1)
        return ld_fail_null(LD_ESHAPE, "%s: x has no dimensions", op);
    int64_t c = x->shape[x->ndim - 1], rows = 1;
    if (check_norm(op, x, w, b, eps, c))
        return NULL;
    for (int i = 0; i < x->ndim - 1; i++)
        rows *= x->shape[i];
    ld_tensor *mean = vector_like(x, rows, op), *rstd = mean ? vector_like(x, rows, op) : NULL;
    ld_tensor *block = rstd ? row_block(x, op) : NULL, *y = block ? rows_like(x, op) : NULL;
    if (y) {
        ld_view vy = rows_view(y, rows, c), vx = rows_view(block, rows, c);
        y = ld_result(y, LD_BACKEND(x)->layer_norm(&vy, LD_VIEW(mean), LD_VIEW(rstd), &vx, VIEW_OR_NULL(w),
                                                   VIEW_OR_NULL(b), eps));
        y = from_rows(y, x->ndim, x->shape, op);
    }
    y = ld_record(y, op, layer_norm_backward, (ld_tensor *[]){x, w, b}, 3, (ld_tensor *[]){x, mean, rstd, w}, 4, NULL,
                  0);
    ld_tensor_drop(block);
    ld_tensor_drop(mean);
    ld_tensor_drop(rstd);
    return y;
}
