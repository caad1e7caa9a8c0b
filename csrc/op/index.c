/* Rows by number. */
#include "base/error.h"
#include "op/check.h"

#include <string.h>

/* (M) dense copy of idx, values checked to lie in 0 .. limit - 1. */
static ld_tensor *checked_rows(const char *op, ld_tensor *idx, int64_t limit) {
    if (idx->dtype != LD_I64)
        return ld_fail_null(LD_EDTYPE, "%s: the positions are %s; i64 is needed", op, ld_tensor_text(idx));
    int64_t n = ld_tensor_numel(idx);
    ld_tensor *flat = ld_tensor_new(idx->storage->device, LD_I64, 1, &n, op);
    if (!flat)
        return NULL;
    ld_view to = ld_dense(flat, idx->ndim, idx->shape);
    if (LD_BACKEND(idx)->copy(&to, LD_VIEW(idx)))
        return ld_result(flat, 1);
    const int64_t *v = ld_tensor_data(flat);
    for (int64_t i = 0; i < n; i++)
        if (v[i] < 0 || v[i] >= limit) {
            ld_fail(LD_EINDEX, "%s: entry %lld is %lld; 0 to %lld are possible", op, (long long)i + 1, (long long)v[i],
                    (long long)limit - 1);
            return ld_result(flat, 1);
        }
    return flat;
}

typedef struct gather_attr {
    int ndim;
    int64_t shape[LD_MAX_DIMS];
} gather_attr;

/* x's rows lie one after another in canonical layout, whatever the order inside a row. */
static ld_view rows_of(const ld_tensor *x, int64_t rows) {
    int64_t n = ld_tensor_numel(x), shape[2] = {rows, rows ? n / rows : 0};
    return ld_dense(x, 2, shape);
}

static int gather_backward(ld_node *n, ld_tensor *g) {
    const gather_attr *t = ld_node_attr(n);
    ld_tensor *idx = ld_node_saved(n, 0);
    if (!idx)
        return ld_error_code();
    ld_tensor *dx = ld_tensor_new(g->storage->device, g->dtype, t->ndim, t->shape, "gather");
    if (dx) {
        /* g under the shape (M, rest of x), canonical as x's rows are */
        int64_t shape[LD_MAX_DIMS];
        memcpy(shape, t->shape, sizeof shape);
        shape[0] = idx->shape[0];
        ld_tensor *flat = ld_reshape(g, t->ndim, shape), *dense = flat ? ld_tensor_canonical(flat, "gather") : NULL;
        ld_view vx = rows_of(dx, t->shape[0]), vg = dense ? rows_of(dense, shape[0]) : vx;
        dx = ld_result(dx, dense ? LD_BACKEND(g)->scatter_rows(&vx, &vg, LD_VIEW(idx)) : ld_error_code());
        ld_tensor_drop(dense);
        ld_tensor_drop(flat);
    }
    return ld_node_give(n, 0, dx);
}

ld_tensor *ld_gather(ld_tensor *x, ld_tensor *idx) {
    if (ld_check_devices("gather", (ld_tensor *[]){x, idx}, 2))
        return NULL;
    if (x->ndim == 0 || x->ndim - 1 + idx->ndim > LD_MAX_DIMS)
        return ld_fail_null(LD_ESHAPE, "gather: rows %s of %s", ld_tensor_text(idx), ld_tensor_text(x));
    ld_tensor *rows = checked_rows("gather", idx, x->shape[0]), *dense = rows ? ld_tensor_canonical(x, "gather") : NULL;
    gather_attr t = {.ndim = x->ndim};
    memcpy(t.shape, x->shape, sizeof t.shape);
    int64_t shape[LD_MAX_DIMS], m = rows ? rows->shape[0] : 0;
    memcpy(shape, x->shape, sizeof shape);
    shape[0] = m;
    ld_tensor *y = dense ? ld_tensor_new(x->storage->device, x->dtype, x->ndim, shape, "gather") : NULL;
    if (y) {
        ld_view vy = rows_of(y, m), vx = rows_of(dense, x->shape[0]);
        y = ld_result(y, LD_BACKEND(x)->gather_rows(&vy, &vx, LD_VIEW(rows)));
    }
    if (y && idx->ndim != 1) {
        for (int i = 0; i < idx->ndim; i++)
            shape[i] = idx->shape[i];
        memcpy(shape + idx->ndim, x->shape + 1, (size_t)(x->ndim - 1) * sizeof *shape);
        ld_tensor *wide = ld_reshape(y, idx->ndim + x->ndim - 1, shape);
        ld_tensor_drop(y);
        y = wide;
    }
    ld_tensor_drop(dense);
    if (y && ld_dtype_is_float(x->dtype))
        y = ld_record(y, "gather", gather_backward, &x, 1, &rows, 1, &t, sizeof t);
    ld_tensor_drop(rows);
    return y;
}

ld_tensor *ld_one_hot(ld_tensor *idx, int64_t classes, ld_dtype t) {
    if (ld_check_devices("one_hot", &idx, 1))
        return NULL;
    if (classes < 1 || idx->ndim == LD_MAX_DIMS)
        return ld_fail_null(LD_EVALUE, "one_hot: %lld classes for %s", (long long)classes, ld_tensor_text(idx));
    ld_tensor *rows = checked_rows("one_hot", idx, classes);
    if (!rows)
        return NULL;
    int64_t shape[2] = {rows->shape[0], classes}, out[LD_MAX_DIMS];
    ld_tensor *y = ld_tensor_full(idx->storage->device, t, 2, shape, 0, "one_hot");
    const int64_t *v = ld_tensor_data(rows);
    for (int64_t i = 0; y && i < shape[0]; i++)
        ld_dtype_set(t, (char *)ld_tensor_data(y) + (i * classes + v[i]) * (int64_t)ld_dtype_size(t), 1);
    ld_tensor_drop(rows);
    if (!y || idx->ndim == 1)
        return y;
    memcpy(out, idx->shape, sizeof out);
    out[idx->ndim] = classes;
    ld_tensor *wide = ld_reshape(y, idx->ndim + 1, out);
    ld_tensor_drop(y);
    return wide;
}
