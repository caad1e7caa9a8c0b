/* Batch, group and layer normalisation: over rows of dense blocks with the channels (for layer norm the last dimension)
 * innermost. */
#include "base/error.h"
#include "op/inner.h"

typedef struct norm_attr {
    int groups;
    bool given; /* batch norm in eval mode: the statistics are constants */
    double eps;
} norm_attr;

static int check_norm(const char *op, ld_tensor *x, ld_tensor *w, ld_tensor *b, double eps, int64_t c) {
    int bad = ld_check_compute(op, (ld_tensor *[]){x, w, b}, 3);
    if (!bad)
        bad = ld_check_vector(op, "weight", w, c);
    if (!bad)
        bad = ld_check_vector(op, "bias", b, c);
    if (!bad && !(eps >= 0))
        bad = ld_fail(LD_EVALUE, "%s: eps is %g; it must not be negative", op, eps);
    return bad;
}

static ld_tensor *vector_like(const ld_tensor *x, int64_t n, const char *op) {
    return ld_tensor_new(x->storage->device, x->dtype, 1, &n, op);
}

/* A block as (M,C) and as (N,P,C). */
static ld_view rows_view(const ld_tensor *block, int64_t c) {
    return ld_dense(block, 2, (int64_t[]){c ? ld_tensor_numel(block) / c : 0, c});
}

static ld_view positions_view(const ld_tensor *block, const ld_tensor *x) {
    int64_t n = x->shape[0], c = x->shape[1], p = 1;
    for (int i = 2; i < x->ndim; i++)
        p *= x->shape[i];
    return ld_dense(block, 3, (int64_t[]){n, p, c});
}

#define VIEW_OR_NULL(x) ((x) ? LD_VIEW(x) : NULL)

/* ---- forward: what goes in and comes out ---------------------------------------------------------------------------- */

/* All owned. */
typedef struct norm_call {
    ld_tensor *x, *w, *b; /* block, dense weight and bias */
    ld_tensor *mean, *spread, *y;
} norm_call;

static int start(norm_call *c, ld_tensor *x, int dim, ld_tensor *w, ld_tensor *b, const char *op) {
    if (w && !(c->w = ld_tensor_canonical(w, op)))
        return ld_error_code();
    if (b && !(c->b = ld_tensor_canonical(b, op)))
        return ld_error_code();
    if (!(c->x = ld_inner_block(x, dim, op)) || !(c->y = ld_inner_room(x, dim, op)))
        return ld_error_code();
    return 0;
}

/* The recorded result; everything else is let go. */
static ld_tensor *finish(norm_call *c, int bad, const char *op, ld_backward_fn backward, ld_tensor *const in[3],
                         int dim, const norm_attr *t) {
    ld_tensor *x = in[0], *y = ld_inner_back(ld_result(c->y, bad), dim, x->ndim, x->shape, op);
    ld_tensor *save[4] = {x, c->mean, c->spread, x->requires_grad ? c->w : NULL};
    y = ld_record(y, op, backward, in, 3, save, 4, t, sizeof *t);
    ld_tensor_drop(c->x);
    ld_tensor_drop(c->w);
    ld_tensor_drop(c->b);
    ld_tensor_drop(c->mean);
    ld_tensor_drop(c->spread);
    return y;
}

/* ---- backward ------------------------------------------------------------------------------------------------------- */

typedef struct norm_gradients {
    ld_tensor *x, *mean, *spread, *w; /* saved, borrowed */
    ld_tensor *g_block, *x_block;     /* owned */
    ld_tensor *dx, *dw, *db;          /* owned until given away; NULL where not needed */
} norm_gradients;

static int load(norm_gradients *d, ld_node *n, ld_tensor *g, int dim, int64_t c) {
    const char *op = ld_node_op(n);
    *d = (norm_gradients){0};
    if (!(d->x = ld_node_saved(n, 0)) || !(d->mean = ld_node_saved(n, 1)) || !(d->spread = ld_node_saved(n, 2)))
        return ld_error_code();
    if (ld_node_has_saved(n, 3) && !(d->w = ld_node_saved(n, 3)))
        return ld_error_code();
    if (!(d->g_block = ld_inner_block(g, dim, op)) || !(d->x_block = ld_inner_block(d->x, dim, op)))
        return ld_error_code();
    if (ld_node_needs(n, 0) && !(d->dx = ld_inner_room(g, dim, op)))
        return ld_error_code();
    if (ld_node_needs(n, 1) && !(d->dw = vector_like(g, c, op)))
        return ld_error_code();
    if (ld_node_needs(n, 2) && !(d->db = vector_like(g, c, op)))
        return ld_error_code();
    return 0;
}

static int give(norm_gradients *d, ld_node *n, const ld_tensor *g, int dim, int bad) {
    ld_tensor *parts[3] = {d->dx, d->dw, d->db};
    ld_tensor_drop(d->g_block);
    ld_tensor_drop(d->x_block);
    for (int i = 0; i < 3; i++) {
        if (bad)
            ld_tensor_drop(parts[i]);
        else if (parts[i])
            bad = ld_node_give(n, i, i ? parts[i] : ld_inner_back(d->dx, dim, g->ndim, g->shape, ld_node_op(n)));
    }
    return bad;
}

/* ---- batch norm ----------------------------------------------------------------------------------------------------- */

static int batch_norm_backward(ld_node *n, ld_tensor *g) {
    const norm_attr *t = ld_node_attr(n);
    norm_gradients d;
    int64_t c = g->shape[1];
    int bad = load(&d, n, g, 1, c);
    if (!bad) {
        ld_view vg = rows_view(d.g_block, c), vx = rows_view(d.x_block, c);
        ld_view vd = d.dx ? rows_view(d.dx, c) : vg;
        bad = LD_BACKEND(g)->batch_norm_bwd(d.dx ? &vd : NULL, VIEW_OR_NULL(d.dw), VIEW_OR_NULL(d.db), &vg, &vx,
                                            LD_VIEW(d.mean), LD_VIEW(d.spread), VIEW_OR_NULL(d.w), t->eps, t->given);
    }
    return give(&d, n, g, 1, bad);
}

/* running = (1 - momentum) running + momentum batch; the variance unbiased. */
static int update_running(const norm_call *c, ld_tensor *running_mean, ld_tensor *running_var, double momentum,
                          int64_t rows) {
    const ld_backend *be = LD_BACKEND(c->mean);
    double unbiased = (double)rows / (double)(rows - 1);
    int bad = running_mean ? be->axpby(LD_VIEW(running_mean), LD_VIEW(c->mean), momentum, 1 - momentum) : 0;
    if (!bad && running_mean)
        ld_tensor_touch(running_mean);
    if (!bad && running_var)
        bad = be->axpby(LD_VIEW(running_var), LD_VIEW(c->spread), momentum * unbiased, 1 - momentum);
    if (!bad && running_var)
        ld_tensor_touch(running_var);
    return bad;
}

static int check_running(ld_tensor *x, ld_tensor *running, const char *what, bool training) {
    int bad = ld_check_compute("batch_norm", (ld_tensor *[]){x, running}, 2);
    if (!bad)
        bad = ld_check_vector("batch_norm", what, running, x->shape[1]);
    if (!bad && training && running)
        bad = ld_check_change("batch_norm", running, NULL, 0);
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
        bad = check_running(x, running_mean, "running_mean", training);
    if (!bad)
        bad = check_running(x, running_var, "running_var", training);
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
    int64_t channels = x->shape[1];
    norm_call c = {0};
    int bad = start(&c, x, 1, w, b, op);
    if (!bad) { /* eval: copies, so that later training steps do not touch what the tape saved */
        c.mean = training ? vector_like(x, channels, op) : ld_tensor_clone(running_mean, op);
        c.spread = !c.mean ? NULL : training ? vector_like(x, channels, op) : ld_tensor_clone(running_var, op);
        bad = c.spread ? 0 : ld_error_code();
    }
    if (!bad) {
        ld_view vy = rows_view(c.y, channels), vx = rows_view(c.x, channels);
        bad = LD_BACKEND(x)->batch_norm(&vy, LD_VIEW(c.mean), LD_VIEW(c.spread), &vx, VIEW_OR_NULL(c.w),
                                        VIEW_OR_NULL(c.b), eps, !training);
        if (!bad && training)
            bad = update_running(&c, running_mean, running_var, momentum, vx.shape[0]);
    }
    norm_attr t = {.given = !training, .eps = eps};
    return finish(&c, bad, op, batch_norm_backward, (ld_tensor *[]){x, w, b}, 1, &t);
}

/* ---- group norm ----------------------------------------------------------------------------------------------------- */

static int group_norm_backward(ld_node *n, ld_tensor *g) {
    const norm_attr *t = ld_node_attr(n);
    norm_gradients d;
    int bad = load(&d, n, g, 1, g->shape[1]);
    if (!bad) {
        ld_view vg = positions_view(d.g_block, g), vx = positions_view(d.x_block, g);
        ld_view vd = d.dx ? positions_view(d.dx, g) : vg;
        bad = LD_BACKEND(g)->group_norm_bwd(d.dx ? &vd : NULL, VIEW_OR_NULL(d.dw), VIEW_OR_NULL(d.db), &vg, &vx,
                                            LD_VIEW(d.mean), LD_VIEW(d.spread), VIEW_OR_NULL(d.w), t->groups);
    }
    return give(&d, n, g, 1, bad);
}

ld_tensor *ld_group_norm(ld_tensor *x, ld_tensor *w, ld_tensor *b, int groups, double eps) {
    static const char op[] = "group_norm";
    if (x->ndim < 2)
        return ld_fail_null(LD_ESHAPE, "%s: x is %s; (N,C,...) is needed", op, ld_tensor_text(x));
    int64_t channels = x->shape[1], stats[2] = {x->shape[0], groups};
    if (check_norm(op, x, w, b, eps, channels))
        return NULL;
    if (groups < 1 || channels % groups)
        return ld_fail_null(LD_ESHAPE, "%s: %d groups do not divide the %lld channels of %s", op, groups,
                            (long long)channels, ld_tensor_text(x));
    norm_call c = {0};
    int bad = start(&c, x, 1, w, b, op);
    if (!bad && (c.mean = ld_tensor_new(x->storage->device, x->dtype, 2, stats, op)))
        c.spread = ld_tensor_new(x->storage->device, x->dtype, 2, stats, op);
    if (!bad && !c.spread)
        bad = ld_error_code();
    if (!bad) {
        ld_view vy = positions_view(c.y, x), vx = positions_view(c.x, x);
        bad = LD_BACKEND(x)->group_norm(&vy, LD_VIEW(c.mean), LD_VIEW(c.spread), &vx, VIEW_OR_NULL(c.w),
                                        VIEW_OR_NULL(c.b), groups, eps);
    }
    norm_attr t = {.groups = groups, .eps = eps};
    return finish(&c, bad, op, group_norm_backward, (ld_tensor *[]){x, w, b}, 1, &t);
}

/* ---- layer norm ----------------------------------------------------------------------------------------------------- */

static int layer_norm_backward(ld_node *n, ld_tensor *g) {
    norm_gradients d;
    int last = g->ndim - 1;
    int64_t c = g->shape[last];
    int bad = load(&d, n, g, last, c);
    if (!bad) {
        ld_view vg = rows_view(d.g_block, c), vx = rows_view(d.x_block, c);
        ld_view vd = d.dx ? rows_view(d.dx, c) : vg;
        bad = LD_BACKEND(g)->layer_norm_bwd(d.dx ? &vd : NULL, VIEW_OR_NULL(d.dw), VIEW_OR_NULL(d.db), &vg, &vx,
                                            LD_VIEW(d.mean), LD_VIEW(d.spread), VIEW_OR_NULL(d.w));
    }
    return give(&d, n, g, last, bad);
}

ld_tensor *ld_layer_norm(ld_tensor *x, ld_tensor *w, ld_tensor *b, double eps) {
    static const char op[] = "layer_norm";
    if (x->ndim < 1)
        return ld_fail_null(LD_ESHAPE, "%s: x is %s; (...,C) is needed", op, ld_tensor_text(x));
    int last = x->ndim - 1;
    int64_t channels = x->shape[last];
    if (check_norm(op, x, w, b, eps, channels))
        return NULL;
    norm_call c = {0};
    int bad = start(&c, x, last, w, b, op);
    if (!bad) {
        ld_view vy = rows_view(c.y, channels), vx = rows_view(c.x, channels);
        c.mean = vector_like(x, vx.shape[0], op);
        c.spread = c.mean ? vector_like(x, vx.shape[0], op) : NULL;
        bad = c.spread ? LD_BACKEND(x)->layer_norm(&vy, LD_VIEW(c.mean), LD_VIEW(c.spread), &vx, VIEW_OR_NULL(c.w),
                                                   VIEW_OR_NULL(c.b), eps)
                       : ld_error_code();
    }
    norm_attr t = {.eps = eps};
    return finish(&c, bad, op, layer_norm_backward, (ld_tensor *[]){x, w, b}, last, &t);
}
