/* Views and copies that change shapes. */
#include "base/error.h"
#include "op/check.h"

#include <stdlib.h>
#include <string.h>

typedef struct shape_attr {
    int ndim; /* of the input */
    int64_t shape[LD_MAX_DIMS];
    int dim; /* slice, select, flip */
    int64_t at, step;
    int order[LD_MAX_DIMS]; /* permute */
} shape_attr;

static shape_attr attr_of(const ld_tensor *x) {
    shape_attr t = {.ndim = x->ndim};
    memcpy(t.shape, x->shape, sizeof t.shape);
    return t;
}

/* ---- reshape -------------------------------------------------------------------------------------------------------- */

/* x's elements under another shape: a view, or a copy where strides do not allow one. */
static ld_tensor *reshaped(ld_tensor *x, int ndim, const int64_t *shape) {
    int64_t stride[LD_MAX_DIMS];
    if (ld_tensor_reshape_strides(x, ndim, shape, stride))
        return ld_tensor_view(x, ndim, shape, stride, x->offset);
    ld_tensor *y = ld_tensor_new(x->storage->device, x->dtype, ndim, shape, "reshape");
    if (!y)
        return NULL;
    /* through a row-major copy: either side may lie NHWC */
    int64_t n = ld_tensor_numel(x);
    ld_tensor *flat = ld_tensor_new(x->storage->device, x->dtype, 1, &n, "reshape");
    int bad = flat ? 0 : ld_error_code();
    if (!bad) {
        ld_view in = ld_dense(flat, x->ndim, x->shape), out = ld_dense(flat, ndim, shape);
        bad = LD_BACKEND(x)->copy(&in, LD_VIEW(x));
        if (!bad)
            bad = LD_BACKEND(x)->copy(LD_VIEW(y), &out);
    }
    ld_tensor_drop(flat);
    return ld_result(y, bad);
}

static int reshape_backward(ld_node *n, ld_tensor *g) {
    const shape_attr *t = ld_node_attr(n);
    return ld_node_give(n, 0, reshaped(g, t->ndim, t->shape));
}

ld_tensor *ld_reshape(ld_tensor *x, int ndim, const int64_t *given) {
    int64_t shape[LD_MAX_DIMS], known = 1, n = ld_tensor_numel(x);
    int open = -1;
    if (ld_check_devices("reshape", &x, 1))
        return NULL;
    for (int i = 0; i < ndim && i < LD_MAX_DIMS; i++) {
        shape[i] = given[i];
        if (given[i] == -1 && open < 0)
            shape[open = i] = 1;
        else if (given[i] < 0)
            return ld_fail_null(LD_ESHAPE, "reshape: %s cannot become %s: one size may be -1, the others not negative",
                                ld_tensor_text(x), ld_shape_text(ndim, given));
    }
    if (ld_check_shape("reshape", x, ndim, shape))
        return NULL;
    for (int i = 0; i < ndim; i++)
        known *= shape[i];
    bool fits = open < 0 ? known == n : known > 0 && n % known == 0;
    if (!fits)
        return ld_fail_null(LD_ESHAPE, "reshape: %s has %lld elements, which do not fill %s", ld_tensor_text(x),
                            (long long)n, ld_shape_text(ndim, given));
    if (open >= 0)
        shape[open] = n / known;
    shape_attr t = attr_of(x);
    return ld_record(reshaped(x, ndim, shape), "reshape", reshape_backward, &x, 1, NULL, 0, &t, sizeof t);
}

/* ---- permute, expand ------------------------------------------------------------------------------------------------ */

static int permute_backward(ld_node *n, ld_tensor *g) {
    const shape_attr *t = ld_node_attr(n);
    int64_t shape[LD_MAX_DIMS], stride[LD_MAX_DIMS];
    for (int i = 0; i < t->ndim; i++) {
        shape[t->order[i]] = g->shape[i];
        stride[t->order[i]] = g->stride[i];
    }
    return ld_node_give(n, 0, ld_tensor_view(g, t->ndim, shape, stride, g->offset));
}

ld_tensor *ld_permute(ld_tensor *x, const int *order) {
    if (ld_check_devices("permute", &x, 1))
        return NULL;
    shape_attr t = attr_of(x);
    int64_t shape[LD_MAX_DIMS], stride[LD_MAX_DIMS];
    unsigned seen = 0;
    for (int i = 0; i < x->ndim; i++) {
        int d = ld_check_dim("permute", order[i], x);
        if (d < 0)
            return NULL;
        if (seen & 1u << d)
            return ld_fail_null(LD_EVALUE, "permute: dimension %d is named twice for %s", d + 1, ld_tensor_text(x));
        seen |= 1u << d;
        t.order[i] = d;
        shape[i] = x->shape[d];
        stride[i] = x->stride[d];
    }
    ld_tensor *y = ld_tensor_view(x, x->ndim, shape, stride, x->offset);
    return ld_record(y, "permute", permute_backward, &x, 1, NULL, 0, &t, sizeof t);
}

static int expand_backward(ld_node *n, ld_tensor *g) {
    const shape_attr *t = ld_node_attr(n);
    return ld_node_give(n, 0, ld_sum_to(g, t->ndim, t->shape));
}

ld_tensor *ld_expand(ld_tensor *x, int ndim, const int64_t *given) {
    if (ld_check_devices("expand", &x, 1))
        return NULL;
    int64_t shape[LD_MAX_DIMS];
    bool fits = ndim >= x->ndim;
    for (int i = 0; fits && i < ndim && i < LD_MAX_DIMS; i++) {
        int k = i - (ndim - x->ndim);
        int64_t own = k < 0 ? 1 : x->shape[k];
        shape[i] = given[i] == -1 && k >= 0 ? own : given[i];
        fits = own == 1 || own == shape[i];
    }
    if (fits && ld_check_shape("expand", x, ndim, shape))
        return NULL;
    if (!fits)
        return ld_fail_null(LD_ESHAPE, "expand: %s does not stretch to %s", ld_tensor_text(x),
                            ld_shape_text(ndim, given));
    shape_attr t = attr_of(x);
    ld_view v = ld_stretched(x, ndim, shape);
    ld_tensor *y = ld_tensor_view(x, ndim, shape, v.stride, x->offset);
    return ld_record(y, "expand", expand_backward, &x, 1, NULL, 0, &t, sizeof t);
}

/* ---- slices --------------------------------------------------------------------------------------------------------- */

static ld_tensor *slice_view(const ld_tensor *x, int dim, int64_t first, int64_t count, int64_t step) {
    int64_t shape[LD_MAX_DIMS], stride[LD_MAX_DIMS];
    memcpy(shape, x->shape, sizeof shape);
    memcpy(stride, x->stride, sizeof stride);
    int64_t offset = x->offset + (count ? first * stride[dim] : 0);
    shape[dim] = count;
    stride[dim] *= count > 1 ? step : 1;
    return ld_tensor_view(x, x->ndim, shape, stride, offset);
}

static ld_tensor *select_view(const ld_tensor *x, int dim, int64_t i) {
    int64_t shape[LD_MAX_DIMS], stride[LD_MAX_DIMS];
    int ndim = 0;
    for (int k = 0; k < x->ndim; k++)
        if (k != dim) {
            shape[ndim] = x->shape[k];
            stride[ndim++] = x->stride[k];
        }
    return ld_tensor_view(x, ndim, shape, stride, x->offset + i * x->stride[dim]);
}

/* Zeros of the input's shape with g copied into the part that was taken. */
static int slice_backward(ld_node *n, ld_tensor *g) {
    const shape_attr *t = ld_node_attr(n);
    ld_tensor *dx = ld_tensor_full(g->storage->device, g->dtype, t->ndim, t->shape, 0, ld_node_op(n)), *part = NULL;
    if (dx && g->ndim < t->ndim)
        part = select_view(dx, t->dim, t->at);
    else if (dx)
        part = slice_view(dx, t->dim, t->at, g->shape[t->dim], t->step);
    int bad = part ? LD_BACKEND(g)->copy(LD_VIEW(part), LD_VIEW(g)) : ld_error_code();
    ld_tensor_drop(part);
    return ld_node_give(n, 0, ld_result(dx, bad));
}

ld_tensor *ld_slice(ld_tensor *x, int dim, int64_t first, int64_t count, int64_t step) {
    if (ld_check_devices("slice", &x, 1) || (dim = ld_check_dim("slice", dim, x)) < 0)
        return NULL;
    int64_t size = x->shape[dim];
    if (step < 1 || count < 0 || first < 0 || first > size ||
        (count > 0 && (first == size || count - 1 > (size - 1 - first) / step)))
        return ld_fail_null(LD_EINDEX, "slice: %lld positions from %lld by %lld are outside dimension %d of %s",
                            (long long)count, (long long)first + 1, (long long)step, dim + 1, ld_tensor_text(x));
    shape_attr t = attr_of(x);
    t.dim = dim;
    t.at = first;
    t.step = step;
    return ld_record(slice_view(x, dim, first, count, step), "slice", slice_backward, &x, 1, NULL, 0, &t, sizeof t);
}

ld_tensor *ld_select(ld_tensor *x, int dim, int64_t i) {
    if (ld_check_devices("select", &x, 1) || (dim = ld_check_dim("select", dim, x)) < 0)
        return NULL;
    if (i < 0 || i >= x->shape[dim])
        return ld_fail_null(LD_EINDEX, "select: position %lld is outside dimension %d of %s", (long long)i + 1, dim + 1,
                            ld_tensor_text(x));
    shape_attr t = attr_of(x);
    t.dim = dim;
    t.at = i;
    return ld_record(select_view(x, dim, i), "select", slice_backward, &x, 1, NULL, 0, &t, sizeof t);
}

/* ---- joining -------------------------------------------------------------------------------------------------------- */

enum { JOIN_MAX = 1 << 20 };

typedef struct concat_sizes {
    int dim, n;
    int64_t size[];
} concat_sizes;

static int concat_backward(ld_node *n, ld_tensor *g) {
    const concat_sizes *t = ld_node_attr(n);
    int64_t at = 0;
    int bad = 0;
    for (int i = 0; i < t->n && !bad; i++) {
        if (ld_node_needs(n, i))
            bad = ld_node_give(n, i, slice_view(g, t->dim, at, t->size[i], 1));
        at += t->size[i];
    }
    return bad;
}

static int check_join(const char *name, ld_tensor *const *xs, int n) {
    if (n < 1 || n > JOIN_MAX)
        return ld_fail(LD_EVALUE, "%s: %d tensors; 1 to %d are possible", name, n, JOIN_MAX);
    int bad = ld_check_devices(name, xs, n);
    for (int i = 1; i < n && !bad; i++)
        if (xs[i]->dtype != xs[0]->dtype)
            bad = ld_fail(LD_EDTYPE, "%s: dtypes differ: tensor %d is %s, the first is %s", name, i + 1,
                          ld_tensor_text(xs[i]), ld_tensor_text(xs[0]));
    return bad;
}

static int record_sizes(concat_sizes **out, ld_tensor *const *xs, int n, int dim, size_t *bytes) {
    *bytes = sizeof(concat_sizes) + (size_t)n * sizeof(int64_t);
    concat_sizes *t = *out = malloc(*bytes);
    if (!t)
        return ld_fail(LD_EMEM, "concat: out of host memory");
    t->dim = dim;
    t->n = n;
    for (int i = 0; i < n; i++)
        t->size[i] = xs[i]->shape[dim];
    return 0;
}

ld_tensor *ld_concat(ld_tensor *const *xs, int n, int dim) {
    if (check_join("concat", xs, n) || (dim = ld_check_dim("concat", dim, xs[0])) < 0)
        return NULL;
    int64_t shape[LD_MAX_DIMS], total = 0;
    memcpy(shape, xs[0]->shape, sizeof shape);
    for (int i = 0; i < n; i++) {
        bool fits = xs[i]->ndim == xs[0]->ndim;
        for (int k = 0; fits && k < xs[0]->ndim; k++)
            fits = k == dim || xs[i]->shape[k] == shape[k];
        if (!fits)
            return ld_fail_null(LD_ESHAPE, "concat: tensor %d is %s, the first is %s; all but dimension %d must agree",
                                i + 1, ld_tensor_text(xs[i]), ld_tensor_text(xs[0]), dim + 1);
        total += xs[i]->shape[dim];
    }
    shape[dim] = total;
    concat_sizes *t;
    size_t bytes;
    if (record_sizes(&t, xs, n, dim, &bytes))
        return NULL;
    ld_tensor *y = ld_tensor_new(xs[0]->storage->device, xs[0]->dtype, xs[0]->ndim, shape, "concat");
    int64_t at = 0;
    int bad = y ? 0 : ld_error_code();
    for (int i = 0; i < n && !bad; i++) {
        ld_tensor *part = slice_view(y, dim, at, t->size[i], 1);
        bad = part ? LD_BACKEND(y)->copy(LD_VIEW(part), LD_VIEW(xs[i])) : ld_error_code();
        ld_tensor_drop(part);
        at += t->size[i];
    }
    y = ld_record(ld_result(y, bad), "concat", concat_backward, xs, n, NULL, 0, t, bytes);
    free(t);
    return y;
}

ld_tensor *ld_stack(ld_tensor *const *xs, int n, int dim) {
    if (check_join("stack", xs, n))
        return NULL;
    if (dim < -xs[0]->ndim - 1 || dim > xs[0]->ndim)
        return ld_fail_null(LD_EINDEX, "stack: there is no place for a dimension %d in %s", dim < 0 ? dim : dim + 1,
                            ld_tensor_text(xs[0]));
    dim = dim < 0 ? dim + xs[0]->ndim + 1 : dim;
    if (xs[0]->ndim == LD_MAX_DIMS)
        return ld_fail_null(LD_ESHAPE, "stack: %s has no room for one more dimension", ld_tensor_text(xs[0]));
    for (int i = 1; i < n; i++)
        if (!ld_tensor_same_shape(xs[i], xs[0]))
            return ld_fail_null(LD_ESHAPE, "stack: tensor %d is %s, the first is %s", i + 1, ld_tensor_text(xs[i]),
                                ld_tensor_text(xs[0]));
    int64_t shape[LD_MAX_DIMS];
    for (int k = 0; k <= xs[0]->ndim; k++)
        shape[k] = k < dim ? xs[0]->shape[k] : k == dim ? 1 : xs[0]->shape[k - 1];
    ld_tensor **thin = calloc((size_t)n, sizeof *thin);
    int bad = thin ? 0 : ld_fail(LD_EMEM, "stack: out of host memory");
    for (int i = 0; i < n && !bad; i++)
        bad = (thin[i] = ld_reshape(xs[i], xs[0]->ndim + 1, shape)) ? 0 : ld_error_code();
    ld_tensor *y = bad ? NULL : ld_concat(thin, n, dim);
    for (int i = 0; thin && i < n; i++)
        ld_tensor_drop(thin[i]);
    free(thin);
    return y;
}

/* ---- padding, flipping, layout -------------------------------------------------------------------------------------- */

#define MOST ((int64_t)1 << 48)

typedef struct pad_attr {
    int ndim;
    int64_t before[LD_MAX_DIMS], shape[LD_MAX_DIMS];
} pad_attr;

/* The part of y that starts at `before` and has `shape`. */
static ld_tensor *inner(const ld_tensor *y, const int64_t *before, const int64_t *shape) {
    int64_t offset = y->offset;
    for (int i = 0; i < y->ndim; i++)
        offset += shape[i] ? before[i] * y->stride[i] : 0;
    return ld_tensor_view(y, y->ndim, shape, y->stride, offset);
}

static int pad_backward(ld_node *n, ld_tensor *g) {
    const pad_attr *t = ld_node_attr(n);
    return ld_node_give(n, 0, inner(g, t->before, t->shape));
}

ld_tensor *ld_pad(ld_tensor *x, const int64_t *before, const int64_t *after, double value) {
    if (ld_check_devices("pad", &x, 1))
        return NULL;
    pad_attr t = {.ndim = x->ndim};
    int64_t shape[LD_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++) {
        if (before[i] < 0 || after[i] < 0 || before[i] > MOST || after[i] > MOST)
            return ld_fail_null(LD_EVALUE, "pad: %lld before and %lld after dimension %d of %s; 0 to 2^48 is needed",
                                (long long)before[i], (long long)after[i], i + 1, ld_tensor_text(x));
        t.before[i] = before[i];
        t.shape[i] = x->shape[i];
        shape[i] = x->shape[i] + before[i] + after[i];
    }
    if (ld_check_shape("pad", x, x->ndim, shape))
        return NULL;
    ld_tensor *y = ld_tensor_full(x->storage->device, x->dtype, x->ndim, shape, value, "pad");
    ld_tensor *part = y ? inner(y, t.before, t.shape) : NULL;
    int bad = part ? LD_BACKEND(x)->copy(LD_VIEW(part), LD_VIEW(x)) : ld_error_code();
    ld_tensor_drop(part);
    return ld_record(ld_result(y, bad), "pad", pad_backward, &x, 1, NULL, 0, &t, sizeof t);
}

/* A flip is its own inverse: copied slice by slice, since views cannot run backwards. */
static ld_tensor *flipped(ld_tensor *x, int dim) {
    ld_tensor *y = ld_tensor_like(x, "flip");
    int bad = y ? 0 : ld_error_code();
    for (int64_t i = 0, n = x->shape[dim]; i < n && !bad; i++) {
        ld_tensor *from = slice_view(x, dim, i, 1, 1), *to = slice_view(y, dim, n - 1 - i, 1, 1);
        bad = from && to ? LD_BACKEND(x)->copy(LD_VIEW(to), LD_VIEW(from)) : ld_error_code();
        ld_tensor_drop(from);
        ld_tensor_drop(to);
    }
    return ld_result(y, bad);
}

static int flip_backward(ld_node *n, ld_tensor *g) {
    const shape_attr *t = ld_node_attr(n);
    return ld_node_give(n, 0, flipped(g, t->dim));
}

ld_tensor *ld_flip(ld_tensor *x, int dim) {
    if (ld_check_devices("flip", &x, 1) || (dim = ld_check_dim("flip", dim, x)) < 0)
        return NULL;
    shape_attr t = attr_of(x);
    t.dim = dim;
    return ld_record(flipped(x, dim), "flip", flip_backward, &x, 1, NULL, 0, &t, sizeof t);
}

ld_tensor *ld_contiguous(ld_tensor *x) {
    return ld_tensor_is_canonical(x) ? ld_tensor_ref(x) : ld_clone(x);
}
