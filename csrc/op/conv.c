/* Convolution and transposed convolution. */
#include "base/error.h"
#include "op/check.h"

typedef struct conv_attr {
    ld_conv_shape s;
    int64_t x[4], w[4]; /* shapes */
} conv_attr;

static conv_attr attr_of(const ld_tensor *x, const ld_tensor *w, const ld_conv_shape *s) {
    conv_attr t = {.s = *s};
    for (int i = 0; i < 4; i++) {
        t.x[i] = x->shape[i];
        t.w[i] = w->shape[i];
    }
    return t;
}

static int check_shape(const char *op, ld_tensor *x, ld_tensor *w, ld_tensor *bias, const ld_conv_shape *s, int in,
                       int out) {
    int bad = ld_check_weights(op, (ld_tensor *[]){x, w, bias}, 3);
    if (!bad)
        bad = ld_check_rank(op, "x", x, 4);
    if (!bad)
        bad = ld_check_rank(op, "weight", w, 4);
    if (!bad && x->shape[1] != w->shape[in])
        bad = ld_fail(LD_ESHAPE, "%s: x has %lld channels, weight %s takes %lld; x is %s", op, (long long)x->shape[1],
                      ld_tensor_text(w), (long long)w->shape[in], ld_tensor_text(x));
    if (!bad)
        bad = ld_check_vector(op, "bias", bias, w->shape[out]);
    if (!bad && (s->stride_h < 1 || s->stride_w < 1 || s->top < 0 || s->bottom < 0 || s->left < 0 || s->right < 0))
        bad = ld_fail(LD_EVALUE, "%s: stride %d x %d, padding %d %d %d %d; strides are at least 1, padding at least 0",
                      op, s->stride_h, s->stride_w, s->top, s->bottom, s->left, s->right);
    if (!bad && (w->shape[0] == 0 || w->shape[1] == 0 || w->shape[2] == 0 || w->shape[3] == 0))
        bad = ld_fail(LD_ESHAPE, "%s: weight %s is empty", op, ld_tensor_text(w));
    return bad;
}

/* w as backends see it: weights that are being trained change soon, so nothing made of them is worth keeping. */
static ld_view weights_view(const ld_tensor *w, bool changing) {
    ld_view v = ld_tensor_as_view(w);
    if (changing)
        v.serial = 0;
    return v;
}

/* ---- the three directions, over canonical copies ------------------------------------------------------------------- */

static ld_tensor *run_forward(ld_tensor *x, ld_tensor *w, ld_tensor *bias, const ld_conv_shape *s, const int64_t *out,
                              bool changing, const char *op) {
    ld_tensor *cx = ld_tensor_canonical(x, op), *cw = cx ? ld_tensor_canonical(w, op) : NULL;
    ld_tensor *cb = cw && bias ? ld_tensor_canonical(bias, op) : NULL, *y = NULL;
    if (cw && (!bias || cb) && (y = ld_tensor_new(x->storage->device, x->dtype, 4, out, op))) {
        ld_view vb = cb ? ld_tensor_as_view(cb) : ld_tensor_as_view(y), vw = weights_view(cw, changing);
        y = ld_result(y, LD_BACKEND(x)->conv2d(LD_VIEW(y), LD_VIEW(cx), &vw, cb ? &vb : NULL, s));
    }
    ld_tensor_drop(cx);
    ld_tensor_drop(cw);
    ld_tensor_drop(cb);
    return y;
}

static ld_tensor *run_dx(ld_tensor *g, ld_tensor *w, const ld_conv_shape *s, const int64_t *shape, bool changing,
                         const char *op) {
    ld_tensor *cg = ld_tensor_canonical(g, op), *cw = cg ? ld_tensor_canonical(w, op) : NULL;
    ld_tensor *dx = cw ? ld_tensor_new(g->storage->device, g->dtype, 4, shape, op) : NULL;
    if (dx) {
        ld_view vw = weights_view(cw, changing);
        dx = ld_result(dx, LD_BACKEND(g)->conv2d_dx(LD_VIEW(dx), LD_VIEW(cg), &vw, s));
    }
    ld_tensor_drop(cg);
    ld_tensor_drop(cw);
    return dx;
}

/* dw, and db when asked for. */
static ld_tensor *run_dw(ld_tensor *x, ld_tensor *g, const ld_conv_shape *s, const int64_t *shape, ld_tensor **db,
                         const char *op) {
    ld_tensor *cx = ld_tensor_canonical(x, op), *cg = cx ? ld_tensor_canonical(g, op) : NULL;
    ld_tensor *dw = cg ? ld_tensor_new(g->storage->device, g->dtype, 4, shape, op) : NULL;
    if (dw && db && !(*db = ld_tensor_new(g->storage->device, g->dtype, 1, shape, op)))
        dw = ld_result(dw, 1);
    if (dw) {
        ld_view vb = ld_tensor_as_view(db ? *db : dw);
        int bad = LD_BACKEND(g)->conv2d_dw(LD_VIEW(dw), db ? &vb : NULL, LD_VIEW(cx), LD_VIEW(cg), s);
        if (bad && db) {
            ld_tensor_drop(*db);
            *db = NULL;
        }
        dw = ld_result(dw, bad);
    }
    ld_tensor_drop(cx);
    ld_tensor_drop(cg);
    return dw;
}

static int give_bias(ld_node *n, ld_tensor *g) {
    return ld_node_give(n, 2, ld_reduce(ld_node_op(n), LD_SUM, g, (int[]){0, 2, 3}, 3, false));
}

/* y as the recorded result; nw and nb, the weights as they were computed with, are let go. */
static ld_tensor *recorded(ld_tensor *y, const char *op, ld_backward_fn fn, ld_tensor *const in[3], ld_tensor *nw,
                           ld_tensor *nb, const ld_conv_shape *s) {
    ld_tensor *x = in[0], *w = in[1];
    conv_attr t = attr_of(x, w, s);
    ld_tensor *save[2] = {w->requires_grad ? x : NULL, x->requires_grad ? nw : NULL};
    y = ld_record(y, op, fn, in, 3, save, 2, &t, sizeof t);
    ld_tensor_drop(nw);
    ld_tensor_drop(nb);
    return y;
}

/* ---- conv2d --------------------------------------------------------------------------------------------------------- */

static int conv2d_backward(ld_node *n, ld_tensor *g) {
    const conv_attr *t = ld_node_attr(n);
    int bad = 0;
    if (ld_node_needs(n, 0)) {
        ld_tensor *w = ld_node_saved(n, 1);
        bad = ld_node_give(n, 0, w ? run_dx(g, w, &t->s, t->x, ld_node_needs(n, 1), "conv2d") : NULL);
    }
    if (!bad && ld_node_needs(n, 1)) {
        ld_tensor *x = ld_node_saved(n, 0), *db = NULL;
        bool bias = ld_node_needs(n, 2);
        bad = ld_node_give(n, 1, x ? run_dw(x, g, &t->s, t->w, bias ? &db : NULL, "conv2d") : NULL);
        if (bad)
            ld_tensor_drop(db);
        else if (bias)
            bad = ld_node_give(n, 2, db);
    } else if (!bad && ld_node_needs(n, 2)) {
        bad = give_bias(n, g);
    }
    return bad;
}

static int check_up(const ld_tensor *w, const ld_conv_shape *s) {
    bool fits = w->shape[2] == 3 && w->shape[3] == 3 && s->stride_h == 1 && s->stride_w == 1 && s->top == 1 &&
                s->bottom == 1 && s->left == 1 && s->right == 1;
    if (!s->up || fits)
        return 0;
    return ld_fail(LD_EVALUE,
                   "conv2d: with upsample the kernel is 3 x 3, stride 1, padding 1; weight is %s, stride %d x "
                   "%d, padding %d %d %d %d",
                   ld_tensor_text(w), s->stride_h, s->stride_w, s->top, s->bottom, s->left, s->right);
}

ld_tensor *ld_conv2d(ld_tensor *x, ld_tensor *w, ld_tensor *bias, const ld_conv_shape *s) {
    if (check_shape("conv2d", x, w, bias, s, 1, 0) || check_up(w, s))
        return NULL;
    int up = s->up ? 2 : 1;
    int64_t h = up * x->shape[2] + s->top + s->bottom - w->shape[2];
    int64_t v = up * x->shape[3] + s->left + s->right - w->shape[3];
    if (h < 0 || v < 0)
        return ld_fail_null(LD_ESHAPE, "conv2d: a kernel of %lld x %lld does not fit into %s with padding %d %d %d %d",
                            (long long)w->shape[2], (long long)w->shape[3], ld_tensor_text(x), s->top, s->bottom,
                            s->left, s->right);
    int64_t out[4] = {x->shape[0], w->shape[0], h / s->stride_h + 1, v / s->stride_w + 1};
    ld_tensor *nw = ld_tensor_narrow(w, x->dtype, "conv2d");
    ld_tensor *nb = nw && bias ? ld_tensor_narrow(bias, x->dtype, "conv2d") : NULL, *y = NULL;
    if (nw && (nb || !bias))
        y = run_forward(x, nw, nb, s, out, ld_recording() && w->requires_grad, "conv2d");
    return recorded(y, "conv2d", conv2d_backward, (ld_tensor *[]){x, w, bias}, nw, nb, s);
}

/* ---- conv_transpose2d ----------------------------------------------------------------------------------------------- */

/* The transposed convolution is conv2d's data gradient: its own gradients are conv2d forward and the weight gradient with
 * x and g exchanged. */
static int conv_transpose_backward(ld_node *n, ld_tensor *g) {
    const conv_attr *t = ld_node_attr(n);
    static const char op[] = "conv_transpose2d";
    int bad = 0;
    if (ld_node_needs(n, 0)) {
        ld_tensor *w = ld_node_saved(n, 1);
        bad = ld_node_give(n, 0, w ? run_forward(g, w, NULL, &t->s, t->x, ld_node_needs(n, 1), op) : NULL);
    }
    if (!bad && ld_node_needs(n, 1)) {
        ld_tensor *x = ld_node_saved(n, 0);
        bad = ld_node_give(n, 1, x ? run_dw(g, x, &t->s, t->w, NULL, op) : NULL);
    }
    return !bad && ld_node_needs(n, 2) ? give_bias(n, g) : bad;
}

static ld_tensor *add_bias(ld_tensor *y, ld_tensor *bias, const char *op) {
    ld_tensor *dense = y && bias ? ld_tensor_canonical(bias, op) : NULL;
    if (!y || !bias)
        return y;
    int bad = dense ? 0 : ld_error_code();
    if (!bad) {
        ld_view v = ld_tensor_as_view(y);
        v.data = ld_tensor_data(dense);
        v.stride[0] = v.stride[2] = v.stride[3] = 0;
        v.stride[1] = 1;
        bad = LD_BACKEND(y)->binary(LD_VIEW(y), LD_VIEW(y), &v, LD_ADD);
    }
    ld_tensor_drop(dense);
    return ld_result(y, bad);
}

ld_tensor *ld_conv_transpose2d(ld_tensor *x, ld_tensor *w, ld_tensor *bias, const ld_conv_shape *s, int extra) {
    static const char op[] = "conv_transpose2d";
    if (check_shape(op, x, w, bias, s, 0, 1))
        return NULL;
    if (extra < 0 || extra >= s->stride_h || extra >= s->stride_w)
        return ld_fail_null(LD_EVALUE, "%s: output_padding %d with stride %d x %d; 0 up to the stride less 1 is needed",
                            op, extra, s->stride_h, s->stride_w);
    int64_t out[4] = {x->shape[0], w->shape[1],
                      (x->shape[2] - 1) * s->stride_h - s->top - s->bottom + w->shape[2] + extra,
                      (x->shape[3] - 1) * s->stride_w - s->left - s->right + w->shape[3] + extra};
    if (out[2] < 1 || out[3] < 1)
        return ld_fail_null(LD_ESHAPE, "%s: a kernel of %lld x %lld with padding %d %d %d %d leaves nothing of %s", op,
                            (long long)w->shape[2], (long long)w->shape[3], s->top, s->bottom, s->left, s->right,
                            ld_tensor_text(x));
    ld_tensor *nw = ld_tensor_narrow(w, x->dtype, op), *nb = nw && bias ? ld_tensor_narrow(bias, x->dtype, op) : NULL;
    ld_tensor *y = NULL;
    if (nw && (nb || !bias))
        y = add_bias(run_dx(x, nw, s, out, ld_recording() && w->requires_grad, op), nb, op);
    return recorded(y, op, conv_transpose_backward, (ld_tensor *[]){x, w, bias}, nw, nb, s);
}
