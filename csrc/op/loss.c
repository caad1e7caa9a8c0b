/* Losses. Means and sums of f32 and f64 are one operation each; elementwise ones, and other dtypes, compositions. */
#include "base/error.h"
#include "op/check.h"

static ld_tensor *reduced(const char *op, ld_tensor *d, ld_mean m) {
    if (!d || m == LD_MEAN_NONE)
        return d;
    ld_tensor *y = ld_reduce(op, m == LD_MEAN_SUM ? LD_SUM : LD_MEAN, d, NULL, 0, false);
    ld_tensor_drop(d);
    return y;
}

/* Losses are computed in f32 or f64: x of 16 bits is converted, others are themselves (one more reference). */
static ld_tensor *widened(ld_tensor *x) {
    return ld_cast(x, ld_dtype_is_half(x->dtype) ? LD_F32 : x->dtype);
}

static int check_pair(const char *op, ld_tensor *x, ld_tensor *y) {
    if (!ld_tensor_same_shape(x, y))
        return ld_fail(LD_ESHAPE, "%s: %s against %s; equal shapes are needed", op, ld_tensor_text(x),
                       ld_tensor_text(y));
    if (!ld_dtype_is_float(x->dtype))
        return ld_fail(LD_EDTYPE, "%s: %s; a float is needed: convert with :f32()", op, ld_tensor_text(x));
    return 0;
}

/* ---- in one pass ---------------------------------------------------------------------------------------------------- */

static int loss_backward(ld_node *n, ld_tensor *g) {
    const char *op = ld_node_op(n);
    ld_tensor *x = ld_node_saved(n, 0), *y = x ? ld_node_saved(n, 1) : NULL, *d[2] = {NULL, NULL};
    int bad = y ? 0 : ld_error_code();
    for (int i = 0; i < 2 && !bad; i++)
        if (ld_node_needs(n, i) && !(d[i] = ld_tensor_like(x, op)))
            bad = ld_error_code();
    if (!bad)
        bad = LD_BACKEND(g)->loss_bwd(d[0] ? LD_VIEW(d[0]) : NULL, d[1] ? LD_VIEW(d[1]) : NULL, LD_VIEW(g), LD_VIEW(x),
                                      LD_VIEW(y), ld_node_attr(n));
    if (bad) {
        ld_tensor_drop(d[0]);
        ld_tensor_drop(d[1]);
        return bad;
    }
    for (int i = 0; i < 2 && !bad; i++) {
        bad = d[i] ? ld_node_give(n, i, d[i]) : 0;
        if (bad && i == 0)
            ld_tensor_drop(d[1]);
    }
    return bad;
}

static bool one_pass(const ld_tensor *x, const ld_tensor *y, ld_mean m) {
    return m != LD_MEAN_NONE && x->dtype == y->dtype && (x->dtype == LD_F32 || x->dtype == LD_F64);
}

static ld_tensor *loss(const char *op, ld_tensor *x, ld_tensor *y, ld_loss_kind kind, double delta, ld_mean m) {
    if (ld_check_devices(op, (ld_tensor *[]){x, y}, 2))
        return NULL;
    ld_tensor *a = ld_tensor_canonical(x, op), *b = a ? ld_tensor_canonical(y, op) : NULL;
    ld_tensor *z = b ? ld_tensor_new(x->storage->device, x->dtype, 0, NULL, op) : NULL;
    ld_loss_spec s = {kind, m == LD_MEAN_ALL, delta};
    if (z)
        z = ld_result(z, LD_BACKEND(x)->loss(LD_VIEW(z), LD_VIEW(a), LD_VIEW(b), &s));
    z = ld_record(z, op, loss_backward, (ld_tensor *[]){x, y}, 2, (ld_tensor *[]){a, b}, 2, &s, sizeof s);
    ld_tensor_drop(a);
    ld_tensor_drop(b);
    return z;
}

/* ---- one by one ----------------------------------------------------------------------------------------------------- */

static ld_tensor *through(const char *op, ld_unary_op u, ld_tensor *d, double a, double b) {
    ld_tensor *y = d ? ld_unary(op, u, d, a, b) : NULL;
    ld_tensor_drop(d);
    return y;
}

/* With c = clamp(d, -delta, delta): c (d - c/2) is d^2/2 inside and delta (|d| - delta/2) outside. */
static ld_tensor *huber_of(const char *op, ld_tensor *d, double delta) {
    ld_tensor *c = d ? ld_unary(op, LD_CLAMP, d, -delta, delta) : NULL;
    ld_tensor *half = c ? ld_unary(op, LD_AFFINE, c, 0.5, 0) : NULL;
    ld_tensor *rest = half ? ld_binary(op, LD_SUB, d, half) : NULL;
    ld_tensor *z = rest ? ld_binary(op, LD_MUL, c, rest) : NULL;
    ld_tensor_drop(d);
    ld_tensor_drop(c);
    ld_tensor_drop(half);
    ld_tensor_drop(rest);
    return z;
}

static ld_tensor *pair_loss(const char *op, ld_tensor *x, ld_tensor *y, ld_loss_kind kind, double delta, ld_mean m) {
    if (check_pair(op, x, y))
        return NULL;
    ld_tensor *a = widened(x), *b = a ? widened(y) : NULL, *z = NULL;
    if (b && one_pass(a, b, m)) {
        z = loss(op, a, b, kind, delta, m);
    } else if (b) {
        ld_tensor *d = ld_binary(op, LD_SUB, a, b);
        d = kind == LD_LOSS_HUBER ? huber_of(op, d, delta)
                                  : through(op, kind == LD_LOSS_SQUARE ? LD_SQUARE : LD_ABS, d, 0, 0);
        z = reduced(op, d, m);
    }
    ld_tensor_drop(a);
    ld_tensor_drop(b);
    return z;
}

ld_tensor *ld_mse(ld_tensor *x, ld_tensor *y, ld_mean m) {
    return pair_loss("mse", x, y, LD_LOSS_SQUARE, 0, m);
}

ld_tensor *ld_l1(ld_tensor *x, ld_tensor *y, ld_mean m) {
    return pair_loss("l1", x, y, LD_LOSS_ABS, 0, m);
}

ld_tensor *ld_huber(ld_tensor *x, ld_tensor *y, double delta, ld_mean m) {
    if (!(delta > 0))
        return ld_fail_null(LD_EVALUE, "huber: delta is %g; it must be positive", delta);
    return pair_loss("huber", x, y, LD_LOSS_HUBER, delta, m);
}

/* ---- cross entropy -------------------------------------------------------------------------------------------------- */

typedef struct entropy_attr {
    double smoothing;
} entropy_attr;

static int cross_entropy_backward(ld_node *n, ld_tensor *g) {
    static const char op[] = "cross_entropy";
    const entropy_attr *t = ld_node_attr(n);
    ld_tensor *x = ld_node_saved(n, 0), *classes = x ? ld_node_saved(n, 1) : NULL;
    ld_tensor *cg = classes ? ld_tensor_canonical(g, op) : NULL, *dx = cg ? ld_tensor_like(x, op) : NULL;
    if (dx)
        dx = ld_result(
            dx, LD_BACKEND(g)->cross_entropy_bwd(LD_VIEW(dx), LD_VIEW(cg), LD_VIEW(x), LD_VIEW(classes), t->smoothing));
    ld_tensor_drop(cg);
    return ld_node_give(n, 0, dx);
}

static int check_cross_entropy(ld_tensor *x, ld_tensor *t, double smoothing) {
    static const char op[] = "cross_entropy";
    int bad = ld_check_devices(op, (ld_tensor *[]){x, t}, 2);
    if (!bad && !ld_dtype_is_float(x->dtype))
        bad = ld_fail(LD_EDTYPE, "%s: %s; f32 or f64 is needed: convert with :f32()", op, ld_tensor_text(x));
    if (!bad)
        bad = ld_check_rank(op, "logits", x, 2);
    if (!bad)
        bad = ld_check_vector(op, "classes", t, x->shape[0]);
    if (!bad && !(smoothing >= 0 && smoothing < 1))
        bad = ld_fail(LD_EVALUE, "%s: smoothing is %g; 0 <= smoothing < 1 is needed", op, smoothing);
    return bad ? bad : ld_check_positions(op, "classes", t, x->shape[1]);
}

static ld_tensor *cross_entropy(ld_tensor *x, ld_tensor *t, double smoothing, ld_mean m) {
    static const char op[] = "cross_entropy";
    ld_tensor *dense = ld_tensor_canonical(x, op), *classes = dense ? ld_tensor_canonical(t, op) : NULL;
    ld_tensor *y = classes ? ld_tensor_new(x->storage->device, x->dtype, 1, x->shape, op) : NULL;
    if (y)
        y = ld_result(y, LD_BACKEND(x)->cross_entropy(LD_VIEW(y), LD_VIEW(dense), LD_VIEW(classes), smoothing));
    entropy_attr a = {smoothing};
    y = ld_record(y, op, cross_entropy_backward, &x, 1, (ld_tensor *[]){dense, classes}, 2, &a, sizeof a);
    ld_tensor_drop(dense);
    ld_tensor_drop(classes);
    return reduced(op, y, m);
}

ld_tensor *ld_cross_entropy(ld_tensor *x, ld_tensor *t, double smoothing, ld_mean m) {
    if (check_cross_entropy(x, t, smoothing))
        return NULL;
    ld_tensor *wide = widened(x), *y = wide ? cross_entropy(wide, t, smoothing, m) : NULL;
    ld_tensor_drop(wide);
    return y;
}
