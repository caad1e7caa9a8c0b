/* Reductions over any set of dimensions. */
#include "base/error.h"
#include "op/check.h"

#include <string.h>

typedef struct reduce_attr {
    ld_reduce_op op;
    double scale; /* MEAN: one over the number of elements summed */
    int ndim;
    int64_t kept[LD_MAX_DIMS]; /* the result's shape with sizes of 1 where reduced */
    int64_t shape[LD_MAX_DIMS];
} reduce_attr;

/* A view of x's memory under `kept`, which only adds or drops sizes of 1. */
static ld_tensor *with_shape(ld_tensor *x, int ndim, const int64_t *shape) {
    ld_tensor *c = ld_tensor_canonical(x, "reduce");
    if (!c)
        return NULL;
    int64_t stride[LD_MAX_DIMS];
    ld_tensor *y = NULL;
    if (ld_tensor_reshape_strides(c, ndim, shape, stride)) {
        y = ld_tensor_view(c, ndim, shape, stride, c->offset);
    } else { /* sizes of 1 never stand in the way of a row-major copy */
        y = ld_tensor_new(c->storage->device, c->dtype, ndim, shape, "reduce");
        ld_view from = ld_tensor_as_view(c), to = y ? ld_tensor_as_view(y) : from;
        int k = 0;
        for (int i = 0; y && i < ndim; i++) { /* match sizes that are not 1, in order */
            if (shape[i] == 1)
                continue;
            while (c->shape[k] == 1)
                k++;
            from.stride[i] = c->stride[k++];
        }
        for (int i = 0; y && i < ndim; i++) {
            from.shape[i] = shape[i];
            if (shape[i] == 1)
                from.stride[i] = 0;
        }
        from.ndim = ndim;
        if (y)
            y = ld_result(y, LD_BACKEND(c)->copy(&to, &from));
    }
    ld_tensor_drop(c);
    return y;
}

/* dx where x is the first extreme element of its group: one group after another by position. */
static ld_tensor *extreme_gradient(ld_node *n, const reduce_attr *t, ld_tensor *g, ld_tensor *x) {
    ld_tensor *dx = ld_tensor_full(x->storage->device, x->dtype, x->ndim, x->shape, 0, ld_node_op(n));
    if (!dx)
        return NULL;
    int64_t groups = 1, at[LD_MAX_DIMS] = {0};
    for (int i = 0; i < t->ndim; i++)
        groups *= t->kept[i];
    size_t size = ld_dtype_size(x->dtype);
    char *px = ld_tensor_data(x), *pd = ld_tensor_data(dx), *pg = ld_tensor_data(g);
    for (int64_t group = 0; group < groups; group++) {
        int64_t base = 0, out = 0, rest = group, g_at = 0, count = 1;
        for (int i = t->ndim - 1; i >= 0; i--) {
            at[i] = rest % t->kept[i];
            rest /= t->kept[i];
            base += at[i] * x->stride[i];
            out += at[i] * dx->stride[i];
            g_at += at[i] * g->stride[i];
            count *= t->kept[i] == 1 ? x->shape[i] : 1;
        }
        int64_t best_out = -1;
        double best = 0;
        for (int64_t e = 0; e < count; e++) {
            int64_t left = e, px_at = base, pd_at = out;
            for (int i = t->ndim - 1; i >= 0; i--) {
                if (t->kept[i] != 1)
                    continue;
                px_at += left % x->shape[i] * x->stride[i];
                pd_at += left % x->shape[i] * dx->stride[i];
                left /= x->shape[i];
            }
            double v = ld_dtype_get(x->dtype, px + px_at * (int64_t)size);
            if (best_out < 0 || (t->op == LD_MAX ? v > best : v < best)) {
                best = v;
                best_out = pd_at;
            }
        }
        if (best_out >= 0)
            ld_dtype_set(x->dtype, pd + best_out * (int64_t)size, ld_dtype_get(g->dtype, pg + g_at * (int64_t)size));
    }
    return dx;
}

static int reduce_backward(ld_node *n, ld_tensor *g) {
    const reduce_attr *t = ld_node_attr(n);
    bool needs_x = t->op == LD_MAX || t->op == LD_MIN || t->op == LD_SUMSQ;
    ld_tensor *x = needs_x ? ld_node_saved(n, 0) : NULL;
    ld_tensor *wide = needs_x && !x ? NULL : with_shape(g, t->ndim, t->kept);
    ld_tensor *dx = NULL;
    if (wide && (t->op == LD_MAX || t->op == LD_MIN)) {
        dx = extreme_gradient(n, t, wide, x);
    } else if (wide && (dx = ld_tensor_new(g->storage->device, g->dtype, t->ndim, t->shape, ld_node_op(n)))) {
        ld_view v = ld_stretched(wide, t->ndim, t->shape);
        if (t->op == LD_SUMSQ)
            dx = ld_result(dx, LD_BACKEND(g)->binary(LD_VIEW(dx), LD_VIEW(x), &v, LD_MUL));
        else
            dx = ld_result(dx, LD_BACKEND(g)->axpby(LD_VIEW(dx), &v, t->scale, 0));
        if (dx && t->op == LD_SUMSQ)
            dx = ld_result(dx, LD_BACKEND(g)->unary(LD_VIEW(dx), LD_VIEW(dx), LD_AFFINE, 2, 0));
    }
    ld_tensor_drop(wide);
    return ld_node_give(n, 0, dx);
}

ld_tensor *ld_reduce(const char *name, ld_reduce_op op, ld_tensor *x, const int *dims, int n, bool keep) {
    if (ld_check_devices(name, &x, 1))
        return NULL;
    if (!ld_dtype_is_float(x->dtype) && (op == LD_MEAN || op == LD_SUMSQ))
        return ld_fail_null(LD_EDTYPE, "%s: %s; a float is needed: convert with :f32()", name, ld_tensor_text(x));
    reduce_attr t = {.op = op, .scale = 1, .ndim = x->ndim};
    memcpy(t.kept, x->shape, sizeof t.kept);
    memcpy(t.shape, x->shape, sizeof t.shape);
    int64_t count = 1;
    for (int i = 0; i < (n ? n : x->ndim); i++) {
        int d = n ? ld_check_dim(name, dims[i], x->ndim) : i;
        if (d < 0)
            return NULL;
        count *= t.kept[d];
        t.kept[d] = 1;
    }
    if ((op == LD_MAX || op == LD_MIN) && count == 0)
        return ld_fail_null(LD_EVALUE, "%s: nothing to choose from in %s", name, ld_tensor_text(x));
    if (op == LD_MEAN)
        t.scale = 1.0 / (double)count;
    bool reduced[LD_MAX_DIMS] = {false};
    for (int i = 0; i < (n ? n : x->ndim); i++)
        reduced[n ? ld_check_dim(name, dims[i], x->ndim) : i] = true;
    ld_tensor *y = ld_tensor_new(x->storage->device, x->dtype, x->ndim, t.kept, name);
    if (!y || !(y = ld_result(y, LD_BACKEND(x)->reduce(LD_VIEW(y), LD_VIEW(x), op))))
        return NULL;
    if (!keep) {
        int64_t shape[LD_MAX_DIMS];
        int ndim = 0;
        for (int i = 0; i < x->ndim; i++)
            if (!reduced[i])
                shape[ndim++] = t.kept[i];
        ld_tensor *flat = with_shape(y, ndim, shape);
        ld_tensor_drop(y);
        if (!(y = flat))
            return NULL;
    }
    if (!ld_dtype_is_float(x->dtype))
        return y;
    int saves = op == LD_MAX || op == LD_MIN || op == LD_SUMSQ;
    return ld_record(y, name, reduce_backward, &x, 1, &x, saves, &t, sizeof t);
}

ld_tensor *ld_arg(const char *name, ld_tensor *x, int dim, bool smallest, bool keep) {
    if (ld_check_devices(name, &x, 1) || (dim = ld_check_dim(name, dim, x->ndim)) < 0)
        return NULL;
    if (x->shape[dim] == 0)
        return ld_fail_null(LD_EVALUE, "%s: nothing to choose from in %s", name, ld_tensor_text(x));
    int64_t shape[LD_MAX_DIMS], flat[LD_MAX_DIMS];
    int ndim = 0;
    memcpy(shape, x->shape, sizeof shape);
    shape[dim] = 1;
    ld_tensor *y = ld_tensor_new(x->storage->device, LD_I64, x->ndim, shape, name);
    if (!y || !(y = ld_result(y, LD_BACKEND(x)->arg(LD_VIEW(y), LD_VIEW(x), dim, smallest))) || keep)
        return y;
    for (int i = 0; i < x->ndim; i++)
        if (i != dim)
            flat[ndim++] = x->shape[i];
    ld_tensor *z = with_shape(y, ndim, flat);
    ld_tensor_drop(y);
    return z;
}

ld_tensor *ld_sum_to(ld_tensor *x, int ndim, const int64_t *shape) {
    if (x->ndim == ndim && !memcmp(x->shape, shape, (size_t)ndim * sizeof *shape))
        return ld_tensor_alias(x);
    int64_t kept[LD_MAX_DIMS];
    int lead = x->ndim - ndim;
    for (int i = 0; i < x->ndim; i++)
        kept[i] = i < lead ? 1 : shape[i - lead];
    ld_tensor *y = ld_tensor_new(x->storage->device, x->dtype, x->ndim, kept, "sum");
    if (!y || !(y = ld_result(y, LD_BACKEND(x)->reduce(LD_VIEW(y), LD_VIEW(x), LD_SUM))) || !lead)
        return y;
    ld_tensor *z = with_shape(y, ndim, shape);
    ld_tensor_drop(y);
    return z;
}
