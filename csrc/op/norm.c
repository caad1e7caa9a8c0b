/* Batch, group and layer normalisation: over rows of dense blocks with the channels (for layer norm the last dimension)
 * innermost. */
#include "base/error.h"
#include "op/inner.h"
#include "op/norm_ranks.h"

static int check_norm(const char *op, ld_tensor *x, ld_tensor *w, ld_tensor *b, ld_tensor *film, double eps,
                      int64_t c) {
    int bad = ld_check_weights(op, (ld_tensor *[]){x, w, b, film}, 4);
    if (!bad)
        bad = ld_check_vector(op, "weight", w, c);
    if (!bad)
        bad = ld_check_vector(op, "bias", b, c);
    if (!bad && film && (film->ndim != 2 || film->shape[0] != x->shape[0] || film->shape[1] != 2 * c))
        bad = ld_fail(LD_ESHAPE, "%s: film is %s; (N,2C) = (%lld,%lld) is needed", op, ld_tensor_text(film),
                      (long long)x->shape[0], (long long)(2 * c));
    if (!bad && !(eps >= 0))
        bad = ld_fail(LD_EVALUE, "%s: eps is %g; it must not be negative", op, eps);
    return bad;
}

/* Statistics of x have its dtype, of 16 bits f32. */
static ld_dtype statistics_dtype(const ld_tensor *x) {
    return ld_dtype_is_half(x->dtype) ? LD_F32 : x->dtype;
}

static ld_tensor *vector(const ld_tensor *x, ld_dtype t, int64_t n, const char *op) {
    return ld_tensor_new(x->storage->device, t, 1, &n, op);
}

static ld_tensor *statistics(const ld_tensor *x, int64_t n, const char *op) {
    return vector(x, statistics_dtype(x), n, op);
}

#define VIEW_OR_NULL(x) ((x) ? LD_VIEW(x) : NULL)

/* ---- forward: what goes in and comes out ---------------------------------------------------------------------------- */

/* What goes in (borrowed) and what is made of it (owned). */
typedef struct norm_call {
    const char *op;
    ld_tensor *in[4]; /* x, w, b, film; all but x may be NULL */
    ld_norm_spec spec;
    double rows;                 /* of all ranks; 0: of this one alone */
    ld_tensor *x, *w, *b, *film; /* block and dense vectors */
    ld_tensor *y, *stats;        /* stats: for the backward; of layer norm the means (M) */
    ld_tensor *mean, *var;       /* (C) of batch norm: constants, or statistics for the running ones */
    ld_tensor *rstd;             /* (M) of layer norm */
} norm_call;

/* Dense operands, and room for the result; dim is the channels'. */
static int prepare(norm_call *c, int dim) {
    ld_tensor **dense[] = {&c->w, &c->b, &c->film};
    for (int i = 0; i < 3; i++)
        if (c->in[i + 1] && !(*dense[i] = ld_tensor_canonical(c->in[i + 1], c->op)))
            return ld_error_code();
    if (!(c->x = ld_inner_block(c->in[0], dim, c->op)) || !(c->y = ld_inner_room(c->in[0], dim, c->op)))
        return ld_error_code();
    return 0;
}

typedef struct norm_attr {
    ld_norm_spec spec;
    double rows;
} norm_attr;

/* What the tape keeps, in this order: enough for the gradient and to make the result again. */
enum { X, STATS, W, B, FILM, RSTD, SAVED };

/* The recorded result; everything else is let go. */
static ld_tensor *finish(norm_call *c, int bad, int dim, ld_backward_fn backward, ld_again_fn again) {
    ld_tensor *x = c->in[0], *y = ld_inner_back(ld_result(c->y, bad), dim, x->ndim, x->shape, c->op);
    ld_tensor *save[SAVED] = {[X] = x, [STATS] = c->stats, [W] = c->w, [B] = c->b, [FILM] = c->film, [RSTD] = c->rstd};
    norm_attr attr = {c->spec, c->rows};
    attr.spec.join = NULL;
    y = ld_record(y, c->op, backward, c->in, 4, save, SAVED, &attr, sizeof attr);
    ld_record_again(y, again);
    ld_tensor *made[] = {c->x, c->w, c->b, c->film, c->stats, c->mean, c->var, c->rstd};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        ld_tensor_drop(made[i]);
    return y;
}

/* ---- backward ------------------------------------------------------------------------------------------------------- */

typedef struct norm_gradients {
    ld_tensor *saved[SAVED];      /* borrowed */
    ld_tensor *g_block, *x_block; /* owned */
    ld_tensor *part[4];           /* dx, dw, db, dfilm: owned until given away; NULL where not needed */
} norm_gradients;

/* Saved tensors, borrowed; 0 or an error code. */
static int load_saved(ld_node *n, ld_tensor *saved[SAVED]) {
    for (int i = 0; i < SAVED; i++) {
        saved[i] = NULL;
        if (ld_node_has_saved(n, i) && !(saved[i] = ld_node_saved(n, i)))
            return ld_error_code();
    }
    return 0;
}

static int load(norm_gradients *d, ld_node *n, ld_tensor *g, int dim) {
    const char *op = ld_node_op(n);
    int64_t c = g->shape[dim];
    *d = (norm_gradients){0};
    if (load_saved(n, d->saved) || !(d->g_block = ld_inner_block(g, dim, op)) ||
        !(d->x_block = ld_inner_block(d->saved[X], dim, op)))
        return ld_error_code();
    for (int i = 0; i < 4; i++) {
        if (!ld_node_needs(n, i))
            continue;
        d->part[i] = i == 0   ? ld_inner_room(g, dim, op)
                     : i == 3 ? ld_tensor_like(d->saved[FILM], op)
                              : vector(g, d->saved[i == 1 ? W : B]->dtype, c, op);
        if (!d->part[i])
            return ld_error_code();
    }
    return 0;
}

static int give(norm_gradients *d, ld_node *n, const ld_tensor *g, int dim, int bad) {
    ld_tensor_drop(d->g_block);
    ld_tensor_drop(d->x_block);
    for (int i = 0; i < 4; i++) {
        ld_tensor *part = d->part[i];
        if (bad)
            ld_tensor_drop(part);
        else if (part)
            bad = ld_node_give(n, i, i ? part : ld_inner_back(part, dim, g->ndim, g->shape, ld_node_op(n)));
    }
    return bad;
}

/* ---- batch and group norm ------------------------------------------------------------------------------------------- */

/* A block as (N,P,C); as one sample where every sample is treated alike. */
static ld_view positions(const ld_tensor *block, const ld_tensor *x, const ld_tensor *film, int groups) {
    int64_t n = x->shape[0], c = x->shape[1], p = 1;
    for (int i = 2; i < x->ndim; i++)
        p *= x->shape[i];
    return groups || film ? ld_dense(block, 3, (int64_t[]){n, p, c}) : ld_dense(block, 3, (int64_t[]){1, n * p, c});
}

static ld_tensor *norm_again(ld_node *n) {
    ld_norm_spec spec = ((const norm_attr *)ld_node_attr(n))->spec;
    const char *op = ld_node_op(n);
    ld_tensor *saved[SAVED];
    if (load_saved(n, saved))
        return NULL;
    ld_tensor *x = saved[X], *film = saved[FILM], *block = ld_inner_block(x, 1, op);
    ld_tensor *y = block ? ld_inner_room(x, 1, op) : NULL;
    spec.again = true;
    if (y) {
        ld_view vy = positions(y, x, film, spec.groups), vx = positions(block, x, film, spec.groups);
        y = ld_result(y, LD_BACKEND(x)->norm(&vy, LD_VIEW(saved[STATS]), NULL, NULL, &vx, VIEW_OR_NULL(film),
                                             VIEW_OR_NULL(saved[W]), VIEW_OR_NULL(saved[B]), &spec));
    }
    ld_tensor_drop(block);
    return ld_inner_back(y, 1, x->ndim, x->shape, op);
}

static int norm_backward(ld_node *n, ld_tensor *g) {
    const norm_attr *attr = ld_node_attr(n);
    ld_norm_join join = {ld_norm_join_sums, attr->rows};
    ld_norm_spec with_ranks = attr->spec, *spec = &with_ranks;
    spec->join = attr->rows > 0 ? &join : NULL;
    norm_gradients d;
    int bad = load(&d, n, g, 1);
    if (!bad) {
        ld_tensor *film = d.saved[FILM];
        ld_view vg = positions(d.g_block, g, film, spec->groups), vx = positions(d.x_block, g, film, spec->groups);
        ld_view vd = d.part[0] ? positions(d.part[0], g, film, spec->groups) : vg;
        bad = LD_BACKEND(g)->norm_bwd(d.part[0] ? &vd : NULL, VIEW_OR_NULL(d.part[3]), VIEW_OR_NULL(d.part[1]),
                                      VIEW_OR_NULL(d.part[2]), &vg, &vx, LD_VIEW(d.saved[STATS]), VIEW_OR_NULL(film),
                                      VIEW_OR_NULL(d.saved[W]), VIEW_OR_NULL(d.saved[B]), spec);
    }
    return give(&d, n, g, 1, bad);
}

static int compute(norm_call *c) {
    ld_tensor *x = c->in[0];
    ld_view vy = positions(c->y, x, c->film, c->spec.groups), vx = positions(c->x, x, c->film, c->spec.groups);
    int64_t stats[3] = {vx.shape[0], LD_NORM_STATS(c->film), vx.shape[2]};
    c->stats = ld_tensor_new(x->storage->device, statistics_dtype(x), 3, stats, c->op);
    if (!c->stats)
        return ld_error_code();
    return LD_BACKEND(x)->norm(&vy, LD_VIEW(c->stats), VIEW_OR_NULL(c->mean), VIEW_OR_NULL(c->var), &vx,
                               VIEW_OR_NULL(c->film), VIEW_OR_NULL(c->w), VIEW_OR_NULL(c->b), &c->spec);
}

static norm_call call_of(const char *op, ld_tensor *x, ld_tensor *w, ld_tensor *b, double eps, const ld_norm_fused *f) {
    norm_call c = {.op = op, .in = {x, w, b, f ? f->film : NULL}, .spec = {.eps = eps}};
    if (f) {
        c.spec.act = f->act;
        c.spec.slope = f->slope;
        c.spec.sub = f->sub;
    }
    return c;
}

/* ---- batch norm ----------------------------------------------------------------------------------------------------- */

/* Values a channel. */
static double rows_of(const ld_tensor *x) {
    return x->shape[1] ? (double)(ld_tensor_numel(x) / x->shape[1]) : 0;
}

/* running = (1 - momentum) running + momentum batch; the variance unbiased. */
static int update_running(const norm_call *c, ld_tensor *running_mean, ld_tensor *running_var, double momentum) {
    const ld_backend *be = LD_BACKEND(c->x);
    double rows = c->rows > 0 ? c->rows : rows_of(c->in[0]), unbiased = rows / (rows - 1);
    int bad = running_mean ? be->axpby(LD_VIEW(running_mean), LD_VIEW(c->mean), momentum, 1 - momentum) : 0;
    if (!bad && running_mean)
        ld_tensor_touch(running_mean);
    if (!bad && running_var)
        bad = be->axpby(LD_VIEW(running_var), LD_VIEW(c->var), momentum * unbiased, 1 - momentum);
    if (!bad && running_var)
        ld_tensor_touch(running_var);
    return bad;
}

static int check_running(ld_tensor *x, ld_tensor *running, const char *what, bool training) {
    int bad = ld_check_weights("batch_norm", (ld_tensor *[]){x, running}, 2);
    if (!bad && running && running->dtype != statistics_dtype(x))
        bad = ld_fail(LD_EDTYPE, "batch_norm: %s is %s; %s is needed", what, ld_tensor_text(running),
                      ld_dtype_names[statistics_dtype(x)]);
    if (!bad)
        bad = ld_check_vector("batch_norm", what, running, x->shape[1]);
    if (!bad && training && running)
        bad = ld_check_change("batch_norm", running, NULL, 0);
    return bad;
}

static int check_batch_norm(const norm_call *c, ld_tensor *running_mean, ld_tensor *running_var, bool training) {
    ld_tensor *x = c->in[0];
    if (x->ndim < 2 || x->ndim > 4)
        return ld_fail(LD_ESHAPE, "%s: x is %s; (N,C), (N,C,L) or (N,C,H,W) is needed", c->op, ld_tensor_text(x));
    int bad = check_norm(c->op, x, c->in[1], c->in[2], c->in[3], c->spec.eps, x->shape[1]);
    if (!bad)
        bad = check_running(x, running_mean, "running_mean", training);
    if (!bad)
        bad = check_running(x, running_var, "running_var", training);
    if (!bad && !training && (!running_mean || !running_var))
        bad = ld_fail(LD_EVALUE, "%s: outside training, running_mean and running_var are needed", c->op);
    if (!bad && training && rows_of(x) < 2 && !ld_norm_ranks()) /* of all ranks: ld_norm_join_moments counts */
        bad = ld_fail(LD_EVALUE, "%s: %s has %g value%s a channel; training needs two or more", c->op,
                      ld_tensor_text(x), rows_of(x), rows_of(x) == 1 ? "" : "s");
    return bad;
}

ld_tensor *ld_batch_norm_fused(ld_tensor *x, ld_tensor *w, ld_tensor *b, ld_tensor *running_mean,
                               ld_tensor *running_var, bool training, double momentum, double eps,
                               const ld_norm_fused *f) {
    norm_call c = call_of("batch_norm", x, w, b, eps, f);
    if (check_batch_norm(&c, running_mean, running_var, training))
        return NULL;
    c.spec.given = !training;
    int bad = prepare(&c, 1);
    if (!bad && (!training || running_mean || running_var)) {
        c.mean = training ? statistics(x, x->shape[1], c.op) : ld_tensor_canonical(running_mean, c.op);
        c.var = !c.mean ? NULL : training ? statistics(x, x->shape[1], c.op) : ld_tensor_canonical(running_var, c.op);
        bad = c.var ? 0 : ld_error_code();
    }
    ld_norm_join join = {ld_norm_join_moments, rows_of(x)};
    c.spec.join = training && ld_norm_ranks() ? &join : NULL;
    if (!bad)
        bad = compute(&c);
    c.rows = c.spec.join ? join.rows : 0;
    if (!bad && training)
        bad = update_running(&c, running_mean, running_var, momentum);
    return finish(&c, bad, 1, norm_backward, norm_again);
}

ld_tensor *ld_batch_norm(ld_tensor *x, ld_tensor *w, ld_tensor *b, ld_tensor *running_mean, ld_tensor *running_var,
                         bool training, double momentum, double eps) {
    return ld_batch_norm_fused(x, w, b, running_mean, running_var, training, momentum, eps, NULL);
}

/* ---- group norm ----------------------------------------------------------------------------------------------------- */

ld_tensor *ld_group_norm_fused(ld_tensor *x, ld_tensor *w, ld_tensor *b, int groups, double eps,
                               const ld_norm_fused *f) {
    norm_call c = call_of("group_norm", x, w, b, eps, f);
    if (x->ndim < 2)
        return ld_fail_null(LD_ESHAPE, "%s: x is %s; (N,C,...) is needed", c.op, ld_tensor_text(x));
    if (check_norm(c.op, x, w, b, c.in[3], eps, x->shape[1]))
        return NULL;
    if (groups < 1 || x->shape[1] % groups)
        return ld_fail_null(LD_ESHAPE, "%s: %d groups do not divide the %lld channels of %s", c.op, groups,
                            (long long)x->shape[1], ld_tensor_text(x));
    c.spec.groups = groups;
    int bad = prepare(&c, 1);
    if (!bad)
        bad = compute(&c);
    return finish(&c, bad, 1, norm_backward, norm_again);
}

ld_tensor *ld_group_norm(ld_tensor *x, ld_tensor *w, ld_tensor *b, int groups, double eps) {
    return ld_group_norm_fused(x, w, b, groups, eps, NULL);
}

/* ---- layer norm ----------------------------------------------------------------------------------------------------- */

/* A block as (M,C). */
static ld_view rows_view(const ld_tensor *block, int64_t c) {
    return ld_dense(block, 2, (int64_t[]){c ? ld_tensor_numel(block) / c : 0, c});
}

static int layer_norm_backward(ld_node *n, ld_tensor *g) {
    norm_gradients d;
    int last = g->ndim - 1;
    int64_t c = g->shape[last];
    int bad = load(&d, n, g, last);
    if (!bad) {
        ld_view vg = rows_view(d.g_block, c), vx = rows_view(d.x_block, c);
        ld_view vd = d.part[0] ? rows_view(d.part[0], c) : vg;
        bad = LD_BACKEND(g)->layer_norm_bwd(d.part[0] ? &vd : NULL, VIEW_OR_NULL(d.part[1]), VIEW_OR_NULL(d.part[2]),
                                            &vg, &vx, LD_VIEW(d.saved[STATS]), LD_VIEW(d.saved[RSTD]),
                                            VIEW_OR_NULL(d.saved[W]));
    }
    return give(&d, n, g, last, bad);
}

/* The statistics come out as they are. */
static ld_tensor *layer_norm_again(ld_node *n) {
    const ld_norm_spec *spec = &((const norm_attr *)ld_node_attr(n))->spec;
    const char *op = ld_node_op(n);
    ld_tensor *saved[SAVED];
    if (load_saved(n, saved))
        return NULL;
    ld_tensor *x = saved[X];
    int last = x->ndim - 1;
    int64_t c = x->shape[last];
    ld_tensor *block = ld_inner_block(x, last, op), *y = block ? ld_inner_room(x, last, op) : NULL;
    if (y) {
        ld_view vy = rows_view(y, c), vx = rows_view(block, c);
        y = ld_result(y, LD_BACKEND(x)->layer_norm(&vy, LD_VIEW(saved[STATS]), LD_VIEW(saved[RSTD]), &vx,
                                                   VIEW_OR_NULL(saved[W]), VIEW_OR_NULL(saved[B]), spec->eps));
    }
    ld_tensor_drop(block);
    return ld_inner_back(y, last, x->ndim, x->shape, op);
}

ld_tensor *ld_layer_norm(ld_tensor *x, ld_tensor *w, ld_tensor *b, double eps) {
    norm_call c = call_of("layer_norm", x, w, b, eps, NULL);
    if (x->ndim < 1)
        return ld_fail_null(LD_ESHAPE, "%s: x is %s; (...,C) is needed", c.op, ld_tensor_text(x));
    int last = x->ndim - 1;
    int64_t channels = x->shape[last];
    if (check_norm(c.op, x, w, b, NULL, eps, channels))
        return NULL;
    int bad = prepare(&c, last);
    if (!bad) {
        ld_view vy = rows_view(c.y, channels), vx = rows_view(c.x, channels);
        c.stats = statistics(x, vx.shape[0], c.op);
        c.rstd = c.stats ? statistics(x, vx.shape[0], c.op) : NULL;
        bad = c.rstd ? LD_BACKEND(x)->layer_norm(&vy, LD_VIEW(c.stats), LD_VIEW(c.rstd), &vx, VIEW_OR_NULL(c.w),
                                                 VIEW_OR_NULL(c.b), eps)
                     : ld_error_code();
    }
    return finish(&c, bad, last, layer_norm_backward, layer_norm_again);
}
