/* Matrix products. */
#include "base/error.h"
#include "op/check.h"

#include <string.h>

/* x as (B,M,K) over the batch shape, strides of 0 where broadcast; lead dimensions must fold into one, else *copy is made
 * (owned by the caller). */
static int batched(ld_tensor *x, int lead, const int64_t *batch, ld_view *v, ld_tensor **copy) {
    int own = x->ndim - 2;
    int64_t total = 1;
    for (int i = 0; i < lead; i++)
        total *= batch[i];
    int64_t full[LD_MAX_DIMS];
    memcpy(full, batch, (size_t)lead * sizeof *full);
    full[lead] = x->shape[own];
    full[lead + 1] = x->shape[own + 1];
    ld_view s = ld_stretched(x, lead + 2, full);
    bool inner_ok = s.stride[lead] == 1 || s.stride[lead + 1] == 1 || full[lead] == 1 || full[lead + 1] == 1;
    int64_t step = 0;
    bool even = true, started = false;
    for (int i = lead - 1; i >= 0; i--) { /* one stride for the whole batch? */
        if (full[i] == 1)
            continue;
        if (!started)
            step = s.stride[i];
        int64_t expected = step;
        for (int k = i + 1; started && k < lead; k++)
            expected *= full[k];
        even = even && s.stride[i] == expected;
        started = true;
    }
    *copy = NULL;
    if (!even || !inner_ok) {
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

static void transpose_view(ld_tensor *x, ld_tensor *t) {
    int d = x->ndim - 2;
    *t = *x;
    t->shape[d] = x->shape[d + 1];
    t->shape[d + 1] = x->shape[d];
    t->stride[d] = x->stride[d + 1];
    t->stride[d + 1] = x->stride[d];
}

/* a b for operands of rank 2 and more with broadcast leading dimensions; ranks and inner sizes are known to fit. */
static ld_tensor *product(ld_tensor *a, ld_tensor *b) {
    ld_tensor ha = *a, hb = *b; /* heads for broadcasting the leading dimensions only */
    ha.ndim -= 2;
    hb.ndim -= 2;
    int64_t shape[LD_MAX_DIMS];
    int lead = ld_broadcast("matmul", &ha, &hb, shape);
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

static int matmul_backward(ld_node *n, ld_tensor *g) {
    ld_tensor *a = ld_node_has_saved(n, 0) ? ld_node_saved(n, 0) : NULL, t;
    ld_tensor *b = ld_node_has_saved(n, 1) ? ld_node_saved(n, 1) : NULL;
    int bad = 0;
    for (int k = 0; k < 2 && !bad; k++) {
        if (!ld_node_needs(n, k))
            continue;
        const ld_tensor *shape = ld_node_attr(n);
        ld_tensor *other = k ? a : b;
        if (!other)
            return ld_error_code();
        transpose_view(other, &t);
        ld_tensor *d = k ? product(&t, g) : product(g, &t);
        ld_tensor *dx = d ? ld_sum_to(d, shape[k].ndim, shape[k].shape) : NULL;
        ld_tensor_drop(d);
        bad = ld_node_give(n, k, dx);
    }
    return bad;
}

static ld_tensor *matmul2(ld_tensor *a, ld_tensor *b) {
    if (a->shape[a->ndim - 1] != b->shape[b->ndim - 2])
        return ld_fail_null(LD_ESHAPE, "matmul: %s times %s: inner sizes %lld and %lld differ", ld_tensor_text(a),
                            ld_tensor_text(b), (long long)a->shape[a->ndim - 1], (long long)b->shape[b->ndim - 2]);
    bool was = ld_set_recording(false);
    ld_tensor *y = product(a, b);
    ld_set_recording(was);
    ld_tensor shapes[2] = {*a, *b}, *in[2] = {a, b};
    ld_tensor *save[2] = {b->requires_grad ? a : NULL, a->requires_grad ? b : NULL};
    return ld_record(y, "matmul", matmul_backward, in, 2, save, 2, shapes, sizeof shapes);
}

ld_tensor *ld_matmul(ld_tensor *a, ld_tensor *b) {
    if (ld_check_compute("matmul", (ld_tensor *[]){a, b}, 2))
        return NULL;
    if (a->ndim == 0 || b->ndim == 0)
        return ld_fail_null(LD_ESHAPE, "matmul: %s times %s: both need a dimension", ld_tensor_text(a),
                            ld_tensor_text(b));
    if (a->ndim > 1 && b->ndim > 1)
        return matmul2(a, b);
    /* vectors become matrices of one row or column, and the result loses that dimension again */
    ld_tensor *wa = a->ndim == 1 ? ld_reshape(a, 2, (int64_t[]){1, a->shape[0]}) : ld_tensor_ref(a);
    ld_tensor *wb = b->ndim == 1 ? ld_reshape(b, 2, (int64_t[]){b->shape[0], 1}) : ld_tensor_ref(b);
    ld_tensor *wide = wa && wb ? matmul2(wa, wb) : NULL, *y = NULL;
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

/* x as (1,M,I) of a dense row-major copy or of its own memory. */
static ld_tensor *row_major(ld_tensor *x) {
    ld_tensor *flat = NULL;
    int64_t shape[2] = {ld_tensor_numel(x) / (x->shape[x->ndim - 1] ? x->shape[x->ndim - 1] : 1),
                        x->shape[x->ndim - 1]};
    if (ld_tensor_numel(x) == 0) {
        shape[0] = 1;
        for (int i = 0; i < x->ndim - 1; i++)
            shape[0] *= x->shape[i];
    }
    flat = ld_reshape(x, 2, shape);
    ld_tensor *y = flat ? ld_tensor_canonical(flat, "linear") : NULL;
    ld_tensor_drop(flat);
    return y;
}

static ld_view batch_of_one(const ld_tensor *x, bool transposed) {
    ld_view v = {.dtype = x->dtype, .ndim = 3, .data = ld_tensor_data(x)};
    int r = transposed ? 1 : 0, c = transposed ? 0 : 1;
    v.shape[0] = 1;
    v.shape[1] = x->shape[r];
    v.shape[2] = x->shape[c];
    v.stride[1] = x->stride[r];
    v.stride[2] = x->stride[c];
    return v;
}

static int linear_backward(ld_node *n, ld_tensor *g) {
    const ld_tensor *shape = ld_node_attr(n); /* of x and w */
    ld_tensor *x = ld_node_has_saved(n, 0) ? ld_node_saved(n, 0) : NULL;
    ld_tensor *w = ld_node_has_saved(n, 1) ? ld_node_saved(n, 1) : NULL;
    ld_tensor *rows = row_major(g);
    int bad = rows ? 0 : ld_error_code();
    if (!bad && ld_node_needs(n, 0)) {
        ld_tensor *dx =
            w ? ld_tensor_new(g->storage->device, g->dtype, 2, (int64_t[]){rows->shape[0], shape[1].shape[1]}, "linear")
              : NULL;
        if (dx) {
            ld_view vy = batch_of_one(dx, false), vg = batch_of_one(rows, false), vw = batch_of_one(w, false);
            dx = ld_result(dx, LD_BACKEND(g)->matmul(&vy, &vg, &vw, NULL, 0));
        }
        ld_tensor *wide = dx ? ld_reshape(dx, shape[0].ndim, shape[0].shape) : NULL;
        ld_tensor_drop(dx);
        bad = ld_node_give(n, 0, wide);
    }
    if (!bad && ld_node_needs(n, 1)) {
        ld_tensor *flat = x ? row_major(x) : NULL;
        ld_tensor *dw = flat ? ld_tensor_new(g->storage->device, g->dtype, 2, shape[1].shape, "linear") : NULL;
        if (dw) {
            ld_view vy = batch_of_one(dw, false), vg = batch_of_one(rows, true), vx = batch_of_one(flat, false);
            dw = ld_result(dw, LD_BACKEND(g)->matmul(&vy, &vg, &vx, NULL, 0));
        }
        ld_tensor_drop(flat);
        bad = ld_node_give(n, 1, dw);
    }
    if (!bad && ld_node_needs(n, 2))
        bad = ld_node_give(n, 2, ld_sum_to(rows, 1, &shape[1].shape[0]));
    ld_tensor_drop(rows);
    return bad;
}

ld_tensor *ld_linear(ld_tensor *x, ld_tensor *w, ld_tensor *bias) {
    if (ld_check_compute("linear", (ld_tensor *[]){x, w, bias}, 3) || ld_check_rank("linear", "weight", w, 2))
        return NULL;
    if (x->ndim == 0 || x->shape[x->ndim - 1] != w->shape[1])
        return ld_fail_null(LD_ESHAPE, "linear: x is %s; its last size must be the weight's %lld; weight is %s",
                            ld_tensor_text(x), (long long)w->shape[1], ld_tensor_text(w));
    if (ld_check_vector("linear", "bias", bias, w->shape[0]))
        return NULL;
    bool was = ld_set_recording(false);
    ld_tensor *rows = row_major(x), *dense_w = rows ? ld_tensor_canonical(w, "linear") : NULL;
    ld_tensor *dense_b = dense_w && bias ? ld_tensor_canonical(bias, "linear") : NULL, *y = NULL;
    if (dense_w && (!bias || dense_b)) {
        ld_tensor *flat =
            ld_tensor_new(x->storage->device, x->dtype, 2, (int64_t[]){rows->shape[0], w->shape[0]}, "linear");
        if (flat) {
            ld_view vy = batch_of_one(flat, false), vx = batch_of_one(rows, false), vw = batch_of_one(dense_w, true);
            ld_view vb = dense_b ? ld_tensor_as_view(dense_b) : vy;
            flat = ld_result(flat, LD_BACKEND(x)->matmul(&vy, &vx, &vw, dense_b ? &vb : NULL, 0));
        }
        int64_t shape[LD_MAX_DIMS];
        memcpy(shape, x->shape, sizeof shape);
        shape[x->ndim - 1] = w->shape[0];
        y = flat ? ld_reshape(flat, x->ndim, shape) : NULL;
        ld_tensor_drop(flat);
    }
    ld_set_recording(was);
    ld_tensor_drop(rows);
    ld_tensor_drop(dense_w);
    ld_tensor_drop(dense_b);
    ld_tensor shapes[2] = {*x, *w}, *in[3] = {x, w, bias};
    ld_tensor *save[2] = {w->requires_grad ? x : NULL, x->requires_grad ? w : NULL};
    return ld_record(y, "linear", linear_backward, in, 3, save, 2, shapes, sizeof shapes);
}
