/* Elementwise operations: functions of one argument, arithmetic with broadcasting, selection, casts, and changes in place. */
#include "base/error.h"
#include "op/check.h"

#include <string.h>

/* ---- functions of one argument ------------------------------------------------------------------------------------- */

typedef struct unary_attr {
    ld_unary_op op;
    double a, b;
} unary_attr;

static int unary_backward(ld_node *n, ld_tensor *g) {
    const unary_attr *u = ld_node_attr(n);
    bool constant = u->op == LD_FLOOR || u->op == LD_ROUND || u->op == LD_SIGN;
    if (constant)
        return ld_node_give(n, 0, ld_tensor_full(g->storage->device, g->dtype, g->ndim, g->shape, 0, ld_node_op(n)));
    if (u->op == LD_NEG || u->op == LD_AFFINE) { /* the factor is a constant, nothing was saved */
        ld_tensor *dx = ld_tensor_like(g, ld_node_op(n));
        double factor = u->op == LD_NEG ? -1 : u->a;
        return ld_node_give(n, 0, dx ? ld_result(dx, LD_BACKEND(g)->axpby(LD_VIEW(dx), LD_VIEW(g), factor, 0)) : NULL);
    }
    ld_tensor *s = ld_node_saved(n, 0);
    ld_tensor *dx = s ? ld_tensor_like(g, ld_node_op(n)) : NULL;
    if (dx)
        dx = ld_result(dx, LD_BACKEND(g)->unary_bwd(LD_VIEW(dx), LD_VIEW(g), LD_VIEW(s), u->op, u->a, u->b));
    return ld_node_give(n, 0, dx);
}

static bool takes_integers(ld_unary_op op) {
    return op == LD_NEG || op == LD_ABS || op == LD_SQUARE || op == LD_AFFINE || op == LD_CLAMP || op == LD_SIGN;
}

static int check_unary(const char *name, ld_unary_op op, ld_tensor *x) {
    int bad = ld_check_devices(name, &x, 1);
    if (!bad && !ld_dtype_is_float(x->dtype) && !takes_integers(op))
        bad = ld_fail(LD_EDTYPE, "%s: %s; a float is needed: convert with :f32()", name, ld_tensor_text(x));
    return bad;
}

ld_tensor *ld_unary(const char *name, ld_unary_op op, ld_tensor *x, double a, double b) {
    if (check_unary(name, op, x))
        return NULL;
    ld_tensor *y = ld_tensor_like(x, name);
    if (!y || !(y = ld_result(y, LD_BACKEND(x)->unary(LD_VIEW(y), LD_VIEW(x), op, a, b))))
        return NULL;
    unary_attr u = {op, a, b};
    bool linear = op == LD_NEG || op == LD_AFFINE || op == LD_FLOOR || op == LD_ROUND || op == LD_SIGN;
    ld_tensor *save = ld_unary_keeps_result(op) ? y : x;
    return ld_record(y, name, unary_backward, &x, 1, &save, linear ? 0 : 1, &u, sizeof u);
}

/* ---- arithmetic ---------------------------------------------------------------------------------------------------- */

/* Scratch tensors of a gradient: c = a op b over broadcast shapes, or NULL. Either input may be NULL (passes NULL on). */
static ld_tensor *compute(const char *name, ld_binary_op op, ld_tensor *a, ld_tensor *b) {
    int64_t shape[LD_MAX_DIMS];
    int ndim = a && b ? ld_broadcast(name, a, b, 0, shape) : -1;
    if (ndim < 0)
        return NULL;
    ld_tensor *y = ld_tensor_new(a->storage->device, op >= LD_EQ ? LD_U8 : a->dtype, ndim, shape, name);
    if (!y)
        return NULL;
    ld_view va = ld_stretched(a, ndim, shape), vb = ld_stretched(b, ndim, shape);
    return ld_result(y, LD_BACKEND(a)->binary(LD_VIEW(y), &va, &vb, op));
}

static ld_tensor *apply(const char *name, ld_unary_op op, ld_tensor *x, double a, double b) {
    ld_tensor *y = x ? ld_tensor_like(x, name) : NULL;
    return y ? ld_result(y, LD_BACKEND(x)->unary(LD_VIEW(y), LD_VIEW(x), op, a, b)) : NULL;
}

/* As compute, but a is dropped, and b when asked for. */
static ld_tensor *compute_drop(const char *name, ld_binary_op op, ld_tensor *a, ld_tensor *b, bool drop_b) {
    ld_tensor *y = compute(name, op, a, b);
    ld_tensor_drop(a);
    if (drop_b)
        ld_tensor_drop(b);
    return y;
}

/* g where a op b holds, else 0; with `otherwise` the other way round. */
static ld_tensor *masked(const char *name, ld_tensor *g, ld_binary_op op, ld_tensor *a, ld_tensor *b, bool otherwise) {
    ld_tensor *c = compute(name, op, a, b);
    ld_tensor *zero = c ? ld_tensor_full(g->storage->device, g->dtype, 0, NULL, 0, name) : NULL;
    ld_tensor *y = zero ? ld_tensor_like(g, name) : NULL;
    if (y) {
        ld_view vc = ld_stretched(c, g->ndim, g->shape), vz = ld_stretched(zero, g->ndim, g->shape);
        ld_view vg = ld_tensor_as_view(g);
        y = ld_result(y, LD_BACKEND(g)->where(LD_VIEW(y), &vc, otherwise ? &vz : &vg, otherwise ? &vg : &vz));
    }
    ld_tensor_drop(c);
    ld_tensor_drop(zero);
    return y;
}

/* d (dropped) with zeros where x, which broadcasts to it, is 0. */
static ld_tensor *unless_zero(const char *name, ld_tensor *d, ld_tensor *x) {
    ld_tensor *zero = d ? ld_tensor_full(x->storage->device, x->dtype, 0, NULL, 0, name) : NULL;
    ld_tensor *y = zero ? masked(name, d, LD_NE, x, zero, false) : NULL;
    ld_tensor_drop(zero);
    ld_tensor_drop(d);
    return y;
}

static ld_tensor *gradient_a(const char *name, ld_binary_op op, ld_tensor *g, ld_tensor *a, ld_tensor *b) {
    switch (op) {
    case LD_MUL:
        return compute(name, LD_MUL, g, b);
    case LD_DIV:
        return compute(name, LD_DIV, g, b);
    case LD_MAXIMUM:
        return masked(name, g, LD_GE, a, b, false);
    case LD_MINIMUM:
        return masked(name, g, LD_LE, a, b, false);
    case LD_POWER: { /* g b a^(b-1), 0 where b is 0 */
        ld_tensor *e = apply(name, LD_AFFINE, b, 1, -1), *p = compute(name, LD_POWER, a, e);
        ld_tensor_drop(e);
        p = compute_drop(name, LD_MUL, compute_drop(name, LD_MUL, p, b, false), g, false);
        return unless_zero(name, p, b);
    }
    default:
        return ld_tensor_alias(g);
    }
}

static ld_tensor *gradient_b(const char *name, ld_binary_op op, ld_tensor *g, ld_tensor *a, ld_tensor *b) {
    switch (op) {
    case LD_SUB:
        return apply(name, LD_NEG, g, 0, 0);
    case LD_MUL:
        return compute(name, LD_MUL, g, a);
    case LD_DIV: { /* -g a / b^2 */
        ld_tensor *q = compute_drop(name, LD_DIV, compute(name, LD_DIV, a, b), b, false);
        q = compute_drop(name, LD_MUL, q, g, false);
        ld_tensor *d = apply(name, LD_NEG, q, 0, 0);
        ld_tensor_drop(q);
        return d;
    }
    case LD_MAXIMUM:
        return masked(name, g, LD_GE, a, b, true);
    case LD_MINIMUM:
        return masked(name, g, LD_LE, a, b, true);
    case LD_POWER: { /* g a^b ln a, 0 where a is 0 */
        ld_tensor *p = compute_drop(name, LD_MUL, compute(name, LD_POWER, a, b), apply(name, LD_LOG, a, 0, 0), true);
        return unless_zero(name, compute_drop(name, LD_MUL, p, g, false), a);
    }
    default:
        return ld_tensor_alias(g);
    }
}

/* Of a and b, or the two values of where. */
typedef struct binary_attr {
    ld_binary_op op;
    int rank[2];
    int64_t shape[2][LD_MAX_DIMS];
} binary_attr;

static binary_attr attr_of(ld_binary_op op, const ld_tensor *a, const ld_tensor *b) {
    binary_attr t = {.op = op, .rank = {a->ndim, b->ndim}};
    memcpy(t.shape[0], a->shape, sizeof t.shape[0]);
    memcpy(t.shape[1], b->shape, sizeof t.shape[1]);
    return t;
}

static int binary_backward(ld_node *n, ld_tensor *g) {
    const binary_attr *t = ld_node_attr(n);
    ld_tensor *s[2] = {NULL, NULL};
    for (int k = 0; k < 2; k++)
        if (ld_node_has_saved(n, k) && !(s[k] = ld_node_saved(n, k)))
            return ld_error_code();
    int bad = 0;
    for (int k = 0; k < 2 && !bad; k++) {
        if (!ld_node_needs(n, k))
            continue;
        ld_tensor *d = (k ? gradient_b : gradient_a)(ld_node_op(n), t->op, g, s[0], s[1]);
        ld_tensor *dx = d ? ld_sum_to(d, t->rank[k], t->shape[k]) : NULL;
        ld_tensor_drop(d);
        bad = ld_node_give(n, k, dx);
    }
    return bad;
}

/* The dtype in which a and b meet: theirs; of floats of which one has 16 bits and none 64, what PyTorch takes: f32, but a tensor
 * without dimensions does not widen one that has some. -1: they do not meet. */
static int common_dtype(const ld_tensor *a, const ld_tensor *b) {
    bool half_a = ld_dtype_is_half(a->dtype), half_b = ld_dtype_is_half(b->dtype);
    if (a->dtype == b->dtype)
        return (int)a->dtype;
    if (!(half_a || half_b) || !(half_a || a->dtype == LD_F32) || !(half_b || b->dtype == LD_F32))
        return -1;
    if ((a->ndim == 0) != (b->ndim == 0))
        return (int)(a->ndim ? a->dtype : b->dtype);
    return LD_F32;
}

/* Devices and dtypes; in place (`into`) a's dtype has to hold the result. */
static int check_pair(const char *name, ld_tensor *a, ld_tensor *b, bool into) {
    int bad = ld_check_devices(name, (ld_tensor *[]){a, b}, 2), t = common_dtype(a, b);
    if (!bad && (t < 0 || (into && t != (int)a->dtype)))
        bad = ld_fail(LD_EDTYPE, "%s: dtypes differ: %s and %s; convert one with :to()", name, ld_tensor_text(a),
                      ld_tensor_text(b));
    return bad;
}

/* Of one dtype. */
static ld_tensor *binary(const char *name, ld_binary_op op, ld_tensor *a, ld_tensor *b) {
    ld_tensor *y = compute(name, op, a, b);
    if (!y || op >= LD_EQ)
        return y;
    binary_attr t = attr_of(op, a, b);
    ld_tensor *in[2] = {a, b}, *save[2] = {a, b};
    if (op == LD_ADD || op == LD_SUB)
        save[0] = save[1] = NULL;
    if ((op == LD_MUL || op == LD_DIV) && !b->requires_grad) /* only b's gradient needs a */
        save[0] = NULL;
    if (op == LD_MUL && !a->requires_grad)
        save[1] = NULL;
    return ld_record(y, name, binary_backward, in, 2, save, 2, &t, sizeof t);
}

ld_tensor *ld_binary(const char *name, ld_binary_op op, ld_tensor *a, ld_tensor *b) {
    if (check_pair(name, a, b, false))
        return NULL;
    ld_dtype t = (ld_dtype)common_dtype(a, b);
    ld_tensor *ca = ld_cast(a, t), *cb = ca ? ld_cast(b, t) : NULL;
    ld_tensor *y = cb ? binary(name, op, ca, cb) : NULL;
    ld_tensor_drop(ca);
    ld_tensor_drop(cb);
    return y;
}

int ld_check_number(const char *name, const ld_tensor *x, double s) {
    int64_t cell;
    if (ld_dtype_is_float(x->dtype))
        return 0;
    ld_dtype_set(x->dtype, &cell, s);
    if (ld_dtype_get(x->dtype, &cell) != s)
        return ld_fail(LD_EDTYPE, "%s: the number %.17g is none of %s's dtype: convert with :f32()", name, s,
                       ld_tensor_text(x));
    return 0;
}

ld_tensor *ld_binary_number(const char *name, ld_binary_op op, ld_tensor *x, double s, bool swapped) {
    bool floats = ld_dtype_is_float(x->dtype);
    if (ld_check_number(name, x, s))
        return NULL;
    if (op == LD_ADD && floats)
        return ld_unary(name, LD_AFFINE, x, 1, s);
    if (op == LD_SUB && floats)
        return swapped ? ld_unary(name, LD_AFFINE, x, -1, s) : ld_unary(name, LD_AFFINE, x, 1, -s);
    if (op == LD_MUL && floats)
        return ld_unary(name, LD_AFFINE, x, s, 0);
    if (ld_interrupted())
        return NULL;
    ld_tensor *c = ld_tensor_full(x->storage->device, x->dtype, 0, NULL, s, name);
    ld_tensor *y = c ? swapped ? ld_binary(name, op, c, x) : ld_binary(name, op, x, c) : NULL;
    ld_tensor_drop(c);
    return y;
}

/* ---- selection ------------------------------------------------------------------------------------------------------ */

static int where_backward(ld_node *n, ld_tensor *g) {
    const binary_attr *t = ld_node_attr(n);
    ld_tensor *c = ld_node_saved(n, 0);
    ld_tensor *zero = c ? ld_tensor_full(g->storage->device, LD_U8, 0, NULL, 0, "where") : NULL;
    int bad = zero ? 0 : ld_error_code();
    for (int k = 0; k < 2 && !bad; k++) {
        if (!ld_node_needs(n, k + 1))
            continue;
        ld_tensor *d = masked("where", g, k ? LD_EQ : LD_NE, c, zero, false);
        ld_tensor *dx = d ? ld_sum_to(d, t->rank[k], t->shape[k]) : NULL;
        ld_tensor_drop(d);
        bad = ld_node_give(n, k + 1, dx);
    }
    ld_tensor_drop(zero);
    return bad;
}

ld_tensor *ld_where_select(ld_tensor *c, ld_tensor *a, ld_tensor *b) {
    if (ld_check_devices("where", (ld_tensor *[]){c, a, b}, 3))
        return NULL;
    if (c->dtype != LD_U8)
        return ld_fail_null(LD_EDTYPE, "where: the condition is %s; u8 is needed, as comparisons give",
                            ld_tensor_text(c));
    if (a->dtype != b->dtype)
        return ld_fail_null(LD_EDTYPE, "where: dtypes differ: %s and %s", ld_tensor_text(a), ld_tensor_text(b));
    int64_t shape[LD_MAX_DIMS];
    int ndim = ld_broadcast("where", a, b, 0, shape);
    if (ndim < 0)
        return NULL;
    ld_tensor frame = {.ndim = ndim, .dtype = a->dtype, .storage = a->storage}; /* the two together, against c */
    memcpy(frame.shape, shape, sizeof frame.shape);
    if ((ndim = ld_broadcast("where", &frame, c, 0, shape)) < 0)
        return NULL;
    ld_tensor *y = ld_tensor_new(a->storage->device, a->dtype, ndim, shape, "where");
    if (!y)
        return NULL;
    ld_view vc = ld_stretched(c, ndim, shape), va = ld_stretched(a, ndim, shape), vb = ld_stretched(b, ndim, shape);
    if (!(y = ld_result(y, LD_BACKEND(a)->where(LD_VIEW(y), &vc, &va, &vb))))
        return NULL;
    binary_attr t = attr_of(LD_ADD, a, b);
    return ld_record(y, "where", where_backward, (ld_tensor *[]){NULL, a, b}, 3, &c, 1, &t, sizeof t);
}

/* ---- casts and copies ----------------------------------------------------------------------------------------------- */

static int cast_backward(ld_node *n, ld_tensor *g) {
    const ld_dtype *t = ld_node_attr(n);
    ld_tensor *dx = ld_tensor_new(g->storage->device, *t, g->ndim, g->shape, ld_node_op(n));
    return ld_node_give(n, 0, dx ? ld_result(dx, LD_BACKEND(g)->copy(LD_VIEW(dx), LD_VIEW(g))) : NULL);
}

static ld_tensor *copy_as(const char *name, ld_tensor *x, ld_dtype t) {
    if (ld_check_devices(name, &x, 1))
        return NULL;
    ld_tensor *y = ld_tensor_new(x->storage->device, t, x->ndim, x->shape, name);
    if (!y || !(y = ld_result(y, LD_BACKEND(x)->copy(LD_VIEW(y), LD_VIEW(x)))))
        return NULL;
    if (!ld_dtype_is_float(t))
        return y;
    return ld_record(y, name, cast_backward, &x, 1, NULL, 0, &x->dtype, sizeof x->dtype);
}

ld_tensor *ld_cast(ld_tensor *x, ld_dtype t) {
    return x->dtype == t ? ld_tensor_ref(x) : copy_as("to", x, t);
}

static int device_backward(ld_node *n, ld_tensor *g) {
    ld_device *const *d = ld_node_attr(n);
    return ld_node_give(n, 0, ld_tensor_to(g, g->dtype, *d, ld_node_op(n)));
}

ld_tensor *ld_to_device(ld_tensor *x, ld_device *d) {
    static const char name[] = "to";
    ld_device *from = x->storage->device;
    if (ld_check_devices(name, &x, 1))
        return NULL;
    if (d == from)
        return ld_tensor_ref(x);
    ld_tensor *y = ld_tensor_to(x, x->dtype, d, name);
    if (!y || !ld_dtype_is_float(x->dtype))
        return y;
    return ld_record(y, name, device_backward, &x, 1, NULL, 0, &from, sizeof(ld_device *));
}

ld_tensor *ld_clone(ld_tensor *x) {
    return copy_as("clone", x, x->dtype);
}

ld_tensor *ld_detach(ld_tensor *x) {
    return ld_tensor_alias(x);
}

/* ---- in place ------------------------------------------------------------------------------------------------------- */

static int finish(ld_tensor *x, int bad) {
    if (!bad)
        ld_tensor_touch(x);
    return bad;
}

int ld_fill_(ld_tensor *x, double value) {
    int bad = ld_check_devices("fill_", &x, 1);
    if (!bad)
        bad = ld_check_change("fill_", x, NULL, 0);
    return bad ? bad : finish(x, LD_BACKEND(x)->fill(LD_VIEW(x), value));
}

/* The other operand of a change in place: y stretched to x's shape, or a copy where its memory is x's under another view. */
typedef struct operand {
    ld_view v;
    ld_tensor *copy; /* owned */
} operand;

static int check_operand(const char *name, ld_tensor *x, ld_tensor *y, operand *o) {
    int64_t shape[LD_MAX_DIMS];
    int bad = ld_check_devices(name, (ld_tensor *[]){x, y}, 2);
    if (!bad)
        bad = ld_check_change(name, x, &y, 1);
    if (bad)
        return bad;
    int ndim = ld_broadcast(name, x, y, 0, shape);
    if (ndim < 0)
        return ld_error_code();
    if (ndim != x->ndim || memcmp(shape, x->shape, (size_t)ndim * sizeof *shape))
        return ld_fail(LD_ESHAPE, "%s: %s does not broadcast to %s", name, ld_tensor_text(y), ld_tensor_text(x));
    o->v = ld_stretched(y, ndim, shape);
    o->copy = NULL;
    bool same = y->offset == x->offset && !memcmp(o->v.stride, x->stride, (size_t)ndim * sizeof *shape);
    if (y->storage != x->storage || same)
        return 0;
    if (!(o->copy = ld_tensor_clone(y, name)))
        return ld_error_code();
    o->v = ld_stretched(o->copy, ndim, shape);
    return 0;
}

static int finish_with(ld_tensor *x, operand *o, int bad) {
    ld_tensor_drop(o->copy);
    return finish(x, bad);
}

/* y on x's device, one reference. */
static ld_tensor *beside(ld_tensor *x, ld_tensor *y) {
    ld_device *d = x->storage->device;
    if (d == y->storage->device)
        return ld_tensor_ref(y);
    return ld_check_change("copy_", x, &y, 1) ? NULL : ld_tensor_to(y, y->dtype, d, "copy_");
}

int ld_copy_(ld_tensor *x, ld_tensor *y) {
    operand o;
    ld_tensor *here = beside(x, y);
    int bad = here ? check_operand("copy_", x, here, &o) : ld_error_code();
    if (!bad)
        bad = finish_with(x, &o, LD_BACKEND(x)->copy(LD_VIEW(x), &o.v));
    ld_tensor_drop(here);
    return bad;
}

int ld_binary_(const char *name, ld_binary_op op, ld_tensor *x, ld_tensor *y) {
    operand o;
    int bad = check_pair(name, x, y, true);
    if (!bad && op >= LD_EQ)
        bad = ld_fail(LD_EVALUE, "%s: a comparison cannot be stored in its argument", name);
    ld_tensor *cy = bad ? NULL : ld_cast(y, x->dtype);
    if (!bad)
        bad = cy ? check_operand(name, x, cy, &o) : ld_error_code();
    if (!bad)
        bad = finish_with(x, &o, LD_BACKEND(x)->binary(LD_VIEW(x), LD_VIEW(x), &o.v, op));
    ld_tensor_drop(cy);
    return bad;
}

int ld_unary_(const char *name, ld_unary_op op, ld_tensor *x, double a, double b) {
    int bad = check_unary(name, op, x);
    if (!bad)
        bad = ld_check_change(name, x, NULL, 0);
    return bad ? bad : finish(x, LD_BACKEND(x)->unary(LD_VIEW(x), LD_VIEW(x), op, a, b));
}

int ld_axpby_(ld_tensor *x, ld_tensor *y, double alpha, double beta) {
    static const char name[] = "axpby_";
    operand o;
    int bad = check_pair(name, x, y, true);
    if (!bad && !ld_dtype_is_float(x->dtype))
        bad = ld_fail(LD_EDTYPE, "%s: %s; a float is needed", name, ld_tensor_text(x));
    ld_tensor *cy = bad ? NULL : ld_cast(y, x->dtype);
    if (!bad)
        bad = cy ? check_operand(name, x, cy, &o) : ld_error_code();
    if (!bad)
        bad = finish_with(x, &o, LD_BACKEND(x)->axpby(LD_VIEW(x), &o.v, alpha, beta));
    ld_tensor_drop(cy);
    return bad;
}
