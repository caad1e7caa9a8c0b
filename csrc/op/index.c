/* Rows by number. */
#include "base/error.h"
#include "op/check.h"

#include <string.h>

/* ---- gather --------------------------------------------------------------------------------------------------------- */

typedef struct gather_attr {
    int ndim;
    int64_t shape[LD_MAX_DIMS]; /* of x */
} gather_attr;

/* x's rows lie one after another in canonical layout, whatever the order inside a row. */
static ld_view rows_of(const ld_tensor *x) {
    int64_t rows = x->shape[0], n = ld_tensor_numel(x);
    return ld_dense(x, 2, (int64_t[]){rows, rows ? n / rows : 0});
}

/* idx as a dense (M). */
static ld_tensor *flat_positions(ld_tensor *idx) {
    int64_t n = ld_tensor_numel(idx);
    if (idx->ndim == 1)
        return ld_tensor_canonical(idx, "gather");
    ld_tensor *flat = ld_tensor_new(idx->storage->device, LD_I64, 1, &n, "gather");
    if (!flat)
        return NULL;
    ld_view to = ld_dense(flat, idx->ndim, idx->shape);
    return ld_result(flat, LD_BACKEND(idx)->copy(&to, LD_VIEW(idx)));
}

/* x (dropped, may be NULL) under another shape, canonical, without history. */
static ld_tensor *reshaped(ld_tensor *x, int ndim, const int64_t *shape) {
    bool was = ld_set_recording(false);
    ld_tensor *v = x ? ld_reshape(x, ndim, shape) : NULL, *y = v ? ld_tensor_canonical(v, "gather") : NULL;
    ld_set_recording(was);
    ld_tensor_drop(x);
    ld_tensor_drop(v);
    return y;
}

static int gather_backward(ld_node *n, ld_tensor *g) {
    const gather_attr *t = ld_node_attr(n);
    ld_tensor *rows = ld_node_saved(n, 0), *dx = NULL;
    if (!rows)
        return ld_error_code();
    int64_t shape[LD_MAX_DIMS]; /* g as rows of x's kind */
    memcpy(shape, t->shape, sizeof shape);
    shape[0] = rows->shape[0];
    ld_tensor *dense = reshaped(ld_tensor_ref(g), t->ndim, shape);
    if (dense && (dx = ld_tensor_new(g->storage->device, g->dtype, t->ndim, t->shape, "gather"))) {
        ld_view vx = rows_of(dx), vg = rows_of(dense);
        dx = ld_result(dx, LD_BACKEND(g)->scatter_rows(&vx, &vg, LD_VIEW(rows)));
    }
    ld_tensor_drop(dense);
    return ld_node_give(n, 0, dx);
}

static int check_gather(ld_tensor *x, ld_tensor *idx) {
    static const char op[] = "gather";
    int bad = ld_check_devices(op, (ld_tensor *[]){x, idx}, 2);
    if (!bad && x->ndim == 0)
        bad = ld_fail(LD_ESHAPE, "%s: x is %s; it needs rows", op, ld_tensor_text(x));
    if (!bad && x->ndim - 1 + idx->ndim > LD_MAX_DIMS)
        bad = ld_fail(LD_ESHAPE, "%s: rows %s of %s make more than %d dimensions", op, ld_tensor_text(idx),
                      ld_tensor_text(x), LD_MAX_DIMS);
    if (!bad && ld_will_record(&x, 1) && x->dtype != LD_F32 && x->dtype != LD_F64 &&
        !(ld_dtype_is_half(x->dtype) && LD_BACKEND(x)->halves))
        bad = ld_fail(LD_EDTYPE, "%s: a gradient of %s; f32 or f64 is needed: convert with :f32()", op,
                      ld_tensor_text(x));
    return bad ? bad : ld_check_positions(op, "rows", idx, x->shape[0]);
}

ld_tensor *ld_gather(ld_tensor *x, ld_tensor *idx) {
    if (check_gather(x, idx))
        return NULL;
    gather_attr t = {.ndim = x->ndim};
    int64_t shape[LD_MAX_DIMS], full[LD_MAX_DIMS];
    memcpy(t.shape, x->shape, sizeof t.shape);
    memcpy(shape, x->shape, sizeof shape);
    shape[0] = ld_tensor_numel(idx);
    memcpy(full, idx->shape, (size_t)idx->ndim * sizeof *full);
    memcpy(full + idx->ndim, x->shape + 1, (size_t)(x->ndim - 1) * sizeof *full);
    ld_tensor *rows = flat_positions(idx), *dense = rows ? ld_tensor_canonical(x, "gather") : NULL;
    ld_tensor *y = dense ? ld_tensor_new(x->storage->device, x->dtype, x->ndim, shape, "gather") : NULL;
    if (y) {
        ld_view vy = rows_of(y), vx = rows_of(dense);
        y = ld_result(y, LD_BACKEND(x)->gather_rows(&vy, &vx, LD_VIEW(rows)));
        y = idx->ndim == 1 ? y : reshaped(y, idx->ndim + x->ndim - 1, full);
    }
    y = ld_record(y, "gather", gather_backward, &x, 1, &rows, 1, &t, sizeof t);
    ld_tensor_drop(dense);
    ld_tensor_drop(rows);
    return y;
}

/* ---- one hot -------------------------------------------------------------------------------------------------------- */

ld_tensor *ld_one_hot(ld_tensor *idx, int64_t classes, ld_dtype t) {
    static const char op[] = "one_hot";
    if (ld_check_devices(op, &idx, 1))
        return NULL;
    if (classes < 1)
        return ld_fail_null(LD_EVALUE, "%s: %lld classes; at least 1 is needed", op, (long long)classes);
    if (idx->ndim == LD_MAX_DIMS)
        return ld_fail_null(LD_ESHAPE, "%s: %s has no room for one more dimension", op, ld_tensor_text(idx));
    if (ld_check_positions(op, "classes", idx, classes))
        return NULL;
    ld_view v = ld_tensor_as_view(idx); /* (..., classes), every class a repetition */
    v.shape[v.ndim] = classes;
    v.stride[v.ndim++] = 0;
    ld_device *d = idx->storage->device;
    ld_tensor *iota = ld_iota(d, classes, op), *y = NULL;
    ld_tensor *mask = iota ? ld_tensor_new(d, LD_U8, v.ndim, v.shape, op) : NULL;
    if (mask) {
        ld_view vi = ld_stretched(iota, v.ndim, v.shape);
        mask = ld_result(mask, d->backend->binary(LD_VIEW(mask), &v, &vi, LD_EQ));
        y = mask ? ld_tensor_to(mask, t, d, op) : NULL;
    }
    ld_tensor_drop(iota);
    ld_tensor_drop(mask);
    return y;
}
