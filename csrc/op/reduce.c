/* Reductions over any set of dimensions. */
#include "base/error.h"
#include "op/check.h"

#include <string.h>

typedef struct reduce_attr {
    ld_reduce_op op;
    bool keep;
    double scale; /* of the gradient of SUM and MEAN */
    int ndim;     /* of x */
    int64_t shape[LD_MAX_DIMS];
    bool reduced[LD_MAX_DIMS];
} reduce_attr;

/* The result, or its gradient, in x's dimensions: reduced ones get stride 0 and size 1, or x's size when `wide`. */
static ld_view against_x(const ld_tensor *y, const reduce_attr *t, bool wide) {
    ld_view v = {.dtype = y->dtype, .ndim = t->ndim, .data = ld_tensor_data(y)};
    for (int i = 0, k = 0; i < t->ndim; i++) {
        v.shape[i] = t->reduced[i] && !wide ? 1 : t->shape[i];
        v.stride[i] = t->reduced[i] ? 0 : y->stride[k];
        k += !t->reduced[i] || t->keep;
    }
    return v;
}

static int result_shape(const reduce_attr *t, int64_t shape[LD_MAX_DIMS]) {
    int ndim = 0;
    for (int i = 0; i < t->ndim; i++)
        if (!t->reduced[i] || t->keep)
            shape[ndim++] = t->reduced[i] ? 1 : t->shape[i];
    return ndim;
}

/* ---- the gradient of extremes --------------------------------------------------------------------------------------- */

/* v's kept dimensions, then its reduced ones. */
static ld_view kept_first(const ld_view *v, const reduce_attr *t) {
    ld_view m = *v;
    int n = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < t->ndim; i++)
            if (t->reduced[i] == (pass == 1)) {
                m.shape[n] = v->shape[i];
                m.stride[n++] = v->stride[i];
            }
    return m;
}

/* u8 (groups, size): 1 at the first extreme element of each group. */
static ld_tensor *first_extremes(const reduce_attr *t, ld_tensor *x, int64_t groups, int64_t size, const char *op) {
    ld_device *d = x->storage->device;
    int64_t all[2] = {groups, size}, one[2] = {groups, 1};
    ld_tensor *block = ld_tensor_new(d, x->dtype, 2, all, op), *at = NULL, *iota = NULL, *mask = NULL;
    ld_view from = kept_first(LD_VIEW(x), t), to;
    int bad = block ? 0 : ld_error_code();
    if (!bad) {
        to = ld_dense(block, from.ndim, from.shape);
        bad = d->backend->copy(&to, &from);
    }
    if (!bad && (at = ld_tensor_new(d, LD_I64, 2, one, op)))
        bad = d->backend->arg(LD_VIEW(at), LD_VIEW(block), 1, t->op == LD_MIN);
    ld_tensor_drop(block);
    if (!bad && at && (iota = ld_iota(d, size, op)) && (mask = ld_tensor_new(d, LD_U8, 2, all, op))) {
        ld_view va = ld_stretched(at, 2, all), vi = ld_stretched(iota, 2, all);
        mask = ld_result(mask, d->backend->binary(LD_VIEW(mask), &va, &vi, LD_EQ));
    }
    ld_tensor_drop(at);
    ld_tensor_drop(iota);
    return mask;
}

static ld_tensor *extreme_gradient(const reduce_attr *t, ld_tensor *g, ld_tensor *x, const char *op) {
    int64_t groups = 1, size = 1;
    for (int i = 0; i < t->ndim; i++)
        *(t->reduced[i] ? &size : &groups) *= t->shape[i];
    ld_tensor *mask = first_extremes(t, x, groups, size, op);
    ld_tensor *zero = mask ? ld_tensor_full(g->storage->device, g->dtype, 0, NULL, 0, op) : NULL;
    ld_tensor *dx = zero ? ld_tensor_like(x, op) : NULL;
    if (dx) {
        ld_view wide = against_x(g, t, true), vg = kept_first(&wide, t), vd = kept_first(LD_VIEW(dx), t);
        ld_view vm = ld_dense(mask, vd.ndim, vd.shape), vz = ld_stretched(zero, vd.ndim, vd.shape);
        dx = ld_result(dx, LD_BACKEND(g)->where(&vd, &vm, &vg, &vz));
    }
    ld_tensor_drop(mask);
    ld_tensor_drop(zero);
    return dx;
}

/* ---- operations ----------------------------------------------------------------------------------------------------- */

static bool keeps_x(ld_reduce_op op) {
    return op == LD_MAX || op == LD_MIN || op == LD_SUMSQ;
}

static int reduce_backward(ld_node *n, ld_tensor *g) {
    const reduce_attr *t = ld_node_attr(n);
    const char *op = ld_node_op(n);
    ld_tensor *x = keeps_x(t->op) ? ld_node_saved(n, 0) : NULL, *dx = NULL;
    if (keeps_x(t->op) && !x)
        return ld_error_code();
    if (t->op == LD_MAX || t->op == LD_MIN)
        return ld_node_give(n, 0, extreme_gradient(t, g, x, op));
    if ((dx = ld_tensor_new(g->storage->device, g->dtype, t->ndim, t->shape, op))) {
        ld_view v = against_x(g, t, true);
        int bad;
        if (x) {
            bad = LD_BACKEND(g)->binary(LD_VIEW(dx), LD_VIEW(x), &v, LD_MUL);
            bad = bad ? bad : LD_BACKEND(g)->unary(LD_VIEW(dx), LD_VIEW(dx), LD_AFFINE, 2, 0);
        } else {
            bad = LD_BACKEND(g)->axpby(LD_VIEW(dx), &v, t->scale, 0);
        }
        dx = ld_result(dx, bad);
    }
    return ld_node_give(n, 0, dx);
}

/* The dimensions named, none twice, and how many elements go into one; -1 after ld_fail. */
static int64_t mark_reduced(const char *name, const ld_tensor *x, const int *dims, int n, reduce_attr *t) {
    int64_t count = 1;
    for (int i = 0; i < (n ? n : x->ndim); i++) {
        int d = n ? ld_check_dim(name, dims[i], x) : i;
        if (d < 0)
            return -1;
        if (t->reduced[d])
            return ld_fail(LD_EVALUE, "%s: dimension %d is named twice for %s", name, d + 1, ld_tensor_text(x)), -1;
        t->reduced[d] = true;
        count *= x->shape[d];
    }
    return count;
}

ld_tensor *ld_reduce(const char *name, ld_reduce_op op, ld_tensor *x, const int *dims, int n, bool keep) {
    if (ld_check_devices(name, &x, 1))
        return NULL;
    bool floats = ld_dtype_is_float(x->dtype);
    if (!floats && (op == LD_MEAN || op == LD_SUMSQ))
        return ld_fail_null(LD_EDTYPE, "%s: %s; a float is needed: convert with :f32()", name, ld_tensor_text(x));
    reduce_attr t = {.op = op, .keep = keep, .scale = 1, .ndim = x->ndim};
    memcpy(t.shape, x->shape, sizeof t.shape);
    int64_t count = mark_reduced(name, x, dims, n, &t), shape[LD_MAX_DIMS];
    if (count < 0)
        return NULL;
    if ((op == LD_MAX || op == LD_MIN) && count == 0)
        return ld_fail_null(LD_EVALUE, "%s: nothing to choose from in %s", name, ld_tensor_text(x));
    if (op == LD_MEAN)
        t.scale = 1 / (double)count;
    /* sums of integers are i64, so that small ones do not wrap */
    ld_tensor *from = op == LD_SUM && !floats ? ld_tensor_to(x, LD_I64, x->storage->device, name) : ld_tensor_ref(x);
    int ndim = result_shape(&t, shape);
    ld_tensor *y = from ? ld_tensor_new(x->storage->device, from->dtype, ndim, shape, name) : NULL;
    if (y) {
        ld_view v = against_x(y, &t, false);
        y = ld_result(y, LD_BACKEND(x)->reduce(&v, LD_VIEW(from), op));
    }
    ld_tensor_drop(from);
    return ld_record(y, name, reduce_backward, &x, 1, &x, keeps_x(op), &t, sizeof t);
}

ld_tensor *ld_arg(const char *name, ld_tensor *x, int dim, bool smallest, bool keep) {
    if (ld_check_devices(name, &x, 1) || (dim = ld_check_dim(name, dim, x)) < 0)
        return NULL;
    if (x->shape[dim] == 0)
        return ld_fail_null(LD_EVALUE, "%s: nothing to choose from in %s", name, ld_tensor_text(x));
    reduce_attr t = {.keep = keep, .ndim = x->ndim};
    memcpy(t.shape, x->shape, sizeof t.shape);
    t.reduced[dim] = true;
    int64_t shape[LD_MAX_DIMS];
    ld_tensor *y = ld_tensor_new(x->storage->device, LD_I64, result_shape(&t, shape), shape, name);
    if (!y)
        return NULL;
    ld_view v = against_x(y, &t, false);
    return ld_result(y, LD_BACKEND(x)->arg(&v, LD_VIEW(x), dim, smallest));
}

ld_tensor *ld_sum_to(ld_tensor *x, int ndim, const int64_t *shape) {
    if (x->ndim == ndim && !memcmp(x->shape, shape, (size_t)ndim * sizeof *shape))
        return ld_tensor_alias(x);
    ld_tensor *y = ld_tensor_new(x->storage->device, x->dtype, ndim, shape, "sum");
    if (!y)
        return NULL;
    ld_view v = {.dtype = y->dtype, .ndim = x->ndim, .data = ld_tensor_data(y)};
    for (int i = 0; i < x->ndim; i++) {
        int k = i - (x->ndim - ndim);
        v.shape[i] = k < 0 ? 1 : shape[k];
        v.stride[i] = k < 0 ? 0 : y->stride[k];
    }
    return ld_result(y, LD_BACKEND(x)->reduce(&v, LD_VIEW(x), LD_SUM));
}
