/* Matrix products. Results lie row-major whatever their rank: views of the block that the backend wrote. */
#include "base/error.h"
#include "op/check.h"

#include <string.h>

/* Whether the first `lead` dimensions of v are as one with stride *step. */
static bool fold_lead(const ld_view *v, int lead, int64_t *step) {
    int64_t expected = -1; /* of the next dimension that is not of size 1 */
    *step = 0;
    for (int i = lead - 1; i >= 0; i--) {
        if (v->shape[i] == 1)
            continue;
        if (expected < 0)
            expected = *step = v->stride[i];
        if (v->stride[i] != expected)
            return false;
        expected *= v->shape[i];
    }
    return true;
}

/* x as (B,M,K) over the batch shape, strides of 0 where broadcast. Where its layout does not allow that, of a copy (owned
 * by the caller). */
static int batched(ld_tensor *x, int lead, const int64_t *batch, ld_view *v, ld_tensor **copy) {
    int64_t total = 1, step, full[LD_MAX_DIMS];
    for (int i = 0; i < lead; i++)
        total *= full[i] = batch[i];
    full[lead] = x->shape[x->ndim - 2];
    full[lead + 1] = x->shape[x->ndim - 1];
    ld_view s = ld_stretched(x, lead + 2, full);
    bool plain = s.stride[lead] == 1 || s.stride[lead + 1] == 1 || full[lead] == 1 || full[lead + 1] == 1;
    *copy = NULL;
    if (!fold_lead(&s, lead, &step) || !plain) {
        int64_t flat[3] = {total, full[lead], full[lead + 1]};
        if (!(*copy = ld_tensor_new(x->storage->device, x->dtype, 3, flat, "matmul")))
            return ld_error_code();
        ld_view to = ld_dense(*copy, lead + 2, full);
        int bad = LD_BACKEND(x)->copy(&to, &s);
        if (bad)
            return bad;
        *v = ld_tensor_as_view(*copy);
        return 0;
    }
    *v = (ld_view){.dtype = x->dtype, .ndim = 3, .data = s.data};
    v->shape[0] = total;
    v->stride[0] = total == 1 ? 0 : step;
    for (int i = 0; i < 2; i++) {
        v->shape[1 + i] = full[lead + i];
        v->stride[1 + i] = s.stride[lead + i];
    }
    return 0;
}

/* A header for x with its last two dimensions exchanged: for reading within a call, not a reference. */
static ld_tensor transposed(const ld_tensor *x) {
    ld_tensor t = *x;
    int d = x->ndim - 2;
    t.shape[d] = x->shape[d + 1];
    t.shape[d + 1] = x->shape[d];
    t.stride[d] = x->stride[d + 1];
    t.stride[d + 1] = x->stride[d];
    return t;
}

/* a b for operands of rank 2 and more with broadcast leading dimensions; ranks and inner sizes are known to fit. */
static ld_tensor *product(ld_tensor *a, ld_tensor *b) {
    int64_t shape[LD_MAX_DIMS];
    int lead = ld_broadcast("matmul", a, b, 2, shape);
    if (lead < 0)
        return NULL;
    ld_view va, vb, vy;
    ld_tensor *ca = NULL, *cb = NULL, *y = NULL, *flat = NULL;
    int bad = batched(a, lead, shape, &va, &ca);
    if (!bad)
        bad = batched(b, lead, shape, &vb, &cb);
    if (!bad) {
        int64_t rows[3] = {va.shape[0], va.shape[1], vb.shape[2]};
        flat = ld_tensor_new(a->storage->device, a->dtype, 3, rows, "matmul");
        bad = flat ? 0 : ld_error_code();
    }
    if (!bad) {
        vy = ld_tensor_as_view(flat);
        bad = LD_BACKEND(a)->matmul(&vy, &va, &vb, NULL, 0);
    }
    if (!bad) {
        shape[lead] = va.shape[1];
        shape[lead + 1] = vb.shape[2];
        y = ld_reshape(flat, lead + 2, shape);
    }
    ld_tensor_drop(flat);
    ld_tensor_drop(ca);
    ld_tensor_drop(cb);
    return y;
}

typedef struct product_attr {
    int ndim[2]; /* of a and b, or x and w */
    int64_t shape[2][LD_MAX_DIMS];
} product_attr;

static product_attr attr_of(const ld_tensor *a, const ld_tensor *b) {
    product_attr t = {.ndim = {a->ndim, b->ndim}};
    memcpy(t.shape[0], a->shape, sizeof t.shape[0]);
    memcpy(t.shape[1], b->shape, sizeof t.shape[1]);
    return t;
}

/* da = g b^T, db = a^T g, summed over what broadcasting repeated. */
static int matmul_backward(ld_node *n, ld_tensor *g) {
    const product_attr *t = ld_node_attr(n);
    int bad = 0;
    for (int k = 0; k < 2 && !bad; k++) {
        if (!ld_node_needs(n, k))
            continue;
        const ld_tensor *other = ld_node_saved(n, 1 - k);
        if (!other)
            return ld_error_code();
        ld_tensor flipped = transposed(other), *d = k ? product(&flipped, g) : product(g, &flipped);
        ld_tensor *dx = d ? ld_sum_to(d, t->ndim[k], t->shape[k]) : NULL;
        ld_tensor_drop(d);
        bad = ld_node_give(n, k, dx);
    }
    return bad;
}

static ld_tensor *matmul2(ld_tensor *a, ld_tensor *b) {
    bool was = ld_set_recording(false);
    ld_tensor *y = product(a, b);
    ld_set_recording(was);
    product_attr t = attr_of(a, b);
    ld_tensor *in[2] = {a, b}, *save[2] = {b->requires_grad ? a : NULL, a->requires_grad ? b : NULL};
    return ld_record(y, "matmul", matmul_backward, in, 2, save, 2, &t, sizeof t);
}

static int check_matmul(ld_tensor *a, ld_tensor *b) {
    int64_t shape[LD_MAX_DIMS];
    if (ld_check_compute("matmul", (ld_tensor *[]){a, b}, 2))
        return ld_error_code();
    if (a->ndim == 0 || b->ndim == 0)
        return ld_fail(LD_ESHAPE, "matmul: %s times %s: both need a dimension", ld_tensor_text(a), ld_tensor_text(b));
    int64_t left = a->shape[a->ndim - 1], right = b->shape[b->ndim > 1 ? b->ndim - 2 : 0];
    if (left != right)
        return ld_fail(LD_ESHAPE, "matmul: %s times %s: inner sizes %lld and %lld differ", ld_tensor_text(a),
                       ld_tensor_text(b), (long long)left, (long long)right);
    bool batches = a->ndim > 2 && b->ndim > 2;
    return batches && ld_broadcast("matmul", a, b, 2, shape) < 0 ? ld_error_code() : 0;
}

ld_tensor *ld_matmul(ld_tensor *a, ld_tensor *b) {
    if (check_matmul(a, b))
        return NULL;
    if (a->ndim > 1 && b->ndim > 1)
        return matmul2(a, b);
    /* vectors become matrices of one row or column, and the result loses that dimension again */
    ld_tensor *wa = a->ndim == 1 ? ld_reshape(a, 2, (int64_t[]){1, a->shape[0]}) : ld_tensor_ref(a);
    ld_tensor *wb = !wa ? NULL : b->ndim == 1 ? ld_reshape(b, 2, (int64_t[]){b->shape[0], 1}) : ld_tensor_ref(b);
    ld_tensor *wide = wb ? matmul2(wa, wb) : NULL, *y = NULL;
    if (wide) {
        int64_t shape[LD_MAX_DIMS];
        int ndim = 0;
        for (int i = 0; i < wide->ndim; i++)
            if (!(a->ndim == 1 && i == wide->ndim - 2) && !(b->ndim == 1 && i == wide->ndim - 1))
                shape[ndim++] = wide->shape[i];
        y = ld_reshape(wide, ndim, shape);
    }
    ld_tensor_drop(wide);
    ld_tensor_drop(wa);
    ld_tensor_drop(wb);
    return y;
}

/* ---- linear --------------------------------------------------------------------------------------------------------- */

/* x as (M,I), dense row-major: its own memory or a copy. Called with recording off. */
static ld_tensor *row_major(ld_tensor *x) {
    int64_t shape[2] = {1, x->shape[x->ndim - 1]};
    for (int i = 0; i < x->ndim - 1; i++)
        shape[0] *= x->shape[i];
    ld_tensor *flat = ld_reshape(x, 2, shape), *y = flat ? ld_tensor_canonical(flat, "linear") : NULL;
    ld_tensor_drop(flat);
    return y;
}

/* A matrix as the backend's (1,rows,cols). */
static ld_view one(const ld_tensor *x, bool transpose) {
    ld_view v = {.dtype = x->dtype, .ndim = 3, .data = ld_tensor_data(x)};
    int r = transpose ? 1 : 0, c = transpose ? 0 : 1;
    v.shape[0] = 1;
    v.shape[1] = x->shape[r];
    v.shape[2] = x->shape[c];
    v.stride[1] = x->stride[r];
    v.stride[2] = x->stride[c];
    return v;
}

/* A new matrix a b + bias, of dense matrices or their transposes. */
static ld_tensor *multiply(const ld_tensor *a, bool ta, const ld_tensor *b, bool tb, const ld_tensor *bias) {
    ld_view va = one(a, ta), vb = one(b, tb);
    ld_tensor *y = ld_tensor_new(a->storage->device, a->dtype, 2, (int64_t[]){va.shape[1], vb.shape[2]}, "linear");
    if (!y)
        return NULL;
    ld_view vy = one(y, false);
    return ld_result(y, LD_BACKEND(a)->matmul(&vy, &va, &vb, bias ? LD_VIEW(bias) : NULL, 0));
}

/* y (dropped, may be NULL) under another shape. */
static ld_tensor *reshaped(ld_tensor *y, int ndim, const int64_t *shape) {
    ld_tensor *z = y ? ld_reshape(y, ndim, shape) : NULL;
    ld_tensor_drop(y);
    return z;
}

static ld_tensor *linear_dx(ld_node *n, const product_attr *t, ld_tensor *rows) {
    ld_tensor *w = ld_node_saved(n, 1), *dense = w ? ld_tensor_canonical(w, "linear") : NULL;
    ld_tensor *dx = dense ? multiply(rows, false, dense, false, NULL) : NULL;
    ld_tensor_drop(dense);
    return reshaped(dx, t->ndim[0], t->shape[0]);
}

static ld_tensor *linear_dw(ld_node *n, ld_tensor *rows) {
    ld_tensor *x = ld_node_saved(n, 0), *flat = x ? row_major(x) : NULL;
    ld_tensor *dw = flat ? multiply(rows, true, flat, false, NULL) : NULL;
    ld_tensor_drop(flat);
    return dw;
}

/* dx = g w, dw = g^T x, db = sum of g's rows. */
static int linear_backward(ld_node *n, ld_tensor *g) {
    const product_attr *t = ld_node_attr(n);
    ld_tensor *rows = row_major(g);
    int bad = rows ? 0 : ld_error_code();
    if (!bad && ld_node_needs(n, 0))
        bad = ld_node_give(n, 0, linear_dx(n, t, rows));
    if (!bad && ld_node_needs(n, 1))
        bad = ld_node_give(n, 1, linear_dw(n, rows));
    if (!bad && ld_node_needs(n, 2))
        bad = ld_node_give(n, 2, ld_sum_to(rows, 1, t->shape[1]));
    ld_tensor_drop(rows);
    return bad;
}

ld_tensor *ld_linear(ld_tensor *x, ld_tensor *w, ld_tensor *bias) {
    if (ld_check_weights("linear", (ld_tensor *[]){x, w, bias}, 3) || ld_check_rank("linear", "weight", w, 2))
        return NULL;
    if (x->ndim == 0 || x->shape[x->ndim - 1] != w->shape[1])
        return ld_fail_null(LD_ESHAPE, "linear: the last size of x must be %lld, as weight %s takes it; x is %s",
                            (long long)w->shape[1], ld_tensor_text(w), ld_tensor_text(x));
    if (ld_check_vector("linear", "bias", bias, w->shape[0]))
        return NULL;
    int64_t shape[LD_MAX_DIMS];
    memcpy(shape, x->shape, sizeof shape);
    shape[x->ndim - 1] = w->shape[0];
    bool was = ld_set_recording(false);
    ld_tensor *rows = row_major(x), *nw = rows ? ld_tensor_narrow(w, x->dtype, "linear") : NULL;
    ld_tensor *dense = nw ? ld_tensor_canonical(nw, "linear") : NULL;
    ld_tensor *nb = dense && bias ? ld_tensor_narrow(bias, x->dtype, "linear") : NULL;
    ld_tensor *add = nb ? ld_tensor_canonical(nb, "linear") : NULL, *y = NULL;
    if (dense && (add || !bias))
        y = reshaped(multiply(rows, false, dense, true, add), x->ndim, shape);
    ld_set_recording(was);
    ld_tensor_drop(rows);
    ld_tensor_drop(dense);
    ld_tensor_drop(nb);
    ld_tensor_drop(add);
    product_attr t = attr_of(x, w);
    ld_tensor *in[3] = {x, w, bias}, *save[2] = {w->requires_grad ? x : NULL, x->requires_grad ? nw : NULL};
    y = ld_record(y, "linear", linear_backward, in, 3, save, 2, &t, sizeof t);
    ld_tensor_drop(nw);
    return y;
}
