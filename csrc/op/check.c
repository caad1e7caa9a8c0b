#include "op/check.h"

#include "backend/graph.h"
#include "base/error.h"

int ld_check_devices(const char *op, ld_tensor *const *xs, int n) {
    if (ld_interrupted())
        return LD_EINTERRUPT;
    const ld_tensor *first = NULL;
    for (int i = 0; i < n; i++) {
        if (!xs[i])
            continue;
        if (!first)
            first = xs[i];
        if (xs[i]->storage->device != first->storage->device)
            return ld_fail(LD_EDEVICE, "%s: tensors lie on different devices: %s and %s", op, ld_tensor_text(first),
                           ld_tensor_text(xs[i]));
    }
    return 0;
}

static int check_dtypes(const char *op, ld_tensor *const *xs, int n, bool mixed) {
    int bad = ld_check_devices(op, xs, n);
    const ld_tensor *first = NULL;
    for (int i = 0; i < n && !bad; i++) {
        const ld_tensor *x = xs[i];
        if (!x)
            continue;
        bool half = ld_dtype_is_half(x->dtype), halves = LD_BACKEND(x)->halves;
        if (!first)
            first = x;
        if (x->dtype != LD_F32 && x->dtype != LD_F64 && !(half && halves))
            bad = ld_fail(LD_EDTYPE, "%s: %s; f32 or f64 is needed: convert with :f32()", op, ld_tensor_text(x));
        else if (x->dtype != first->dtype && !(mixed && x->dtype == LD_F32 && ld_dtype_is_half(first->dtype)))
            bad = ld_fail(LD_EDTYPE, "%s: dtypes differ: %s and %s", op, ld_tensor_text(first), ld_tensor_text(x));
    }
    return bad;
}

int ld_check_compute(const char *op, ld_tensor *const *xs, int n) {
    return check_dtypes(op, xs, n, false);
}

int ld_check_weights(const char *op, ld_tensor *const *xs, int n) {
    return check_dtypes(op, xs, n, true);
}

int ld_check_change(const char *op, ld_tensor *x, ld_tensor *const *in, int n) {
    for (int i = 0; i < x->ndim; i++)
        if (x->stride[i] == 0 && x->shape[i] > 1)
            return ld_fail(LD_ESTATE, "%s: %s is expanded, so that elements share memory; take a :clone() first", op,
                           ld_tensor_text(x));
    return ld_check_in_place(op, x, in, n);
}

int ld_check_rank(const char *op, const char *what, const ld_tensor *x, int ndim) {
    if (x->ndim != ndim)
        return ld_fail(LD_ESHAPE, "%s: %s has %d dimensions, %d are needed; it is %s%s", op, what, x->ndim, ndim,
                       ld_tensor_text(x),
                       ndim == 4 && x->ndim == 3 ? "; :unsqueeze(1) makes one picture a batch of one" : "");
    return 0;
}

int ld_check_vector(const char *op, const char *what, const ld_tensor *x, int64_t n) {
    if (x && (x->ndim != 1 || x->shape[0] != n))
        return ld_fail(LD_ESHAPE, "%s: %s is %s; (%lld) is needed", op, what, ld_tensor_text(x), (long long)n);
    return 0;
}

int ld_check_shape(const char *op, const ld_tensor *x, int ndim, const int64_t *shape) {
    if (ndim < 0 || ndim > LD_MAX_DIMS)
        return ld_fail(LD_ESHAPE, "%s: %s to %d dimensions; at most %d are possible", op, ld_tensor_text(x), ndim,
                       LD_MAX_DIMS);
    int64_t n = 1;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0)
            return ld_fail(LD_ESHAPE, "%s: %s to %s: size %lld is negative", op, ld_tensor_text(x),
                           ld_shape_text(ndim, shape), (long long)shape[i]);
        if (shape[i] > 0 && n > ((int64_t)1 << 48) / shape[i])
            return ld_fail(LD_ESHAPE, "%s: %s to %s: more than 2^48 elements", op, ld_tensor_text(x),
                           ld_shape_text(ndim, shape));
        n *= shape[i];
    }
    return 0;
}

int ld_check_dim(const char *op, int dim, const ld_tensor *x) {
    if (dim < -x->ndim || dim >= x->ndim) {
        ld_fail(LD_EINDEX, "%s: there is no dimension %d in %s", op, dim < 0 ? dim : dim + 1, ld_tensor_text(x));
        return -1;
    }
    return dim < 0 ? dim + x->ndim : dim;
}

/* The values are looked at on the host, unless the work is recorded: kernels keep to their tables whatever the values. */
int ld_check_positions(const char *op, const char *what, ld_tensor *idx, int64_t limit) {
    if (idx->dtype != LD_I64)
        return ld_fail(LD_EDTYPE, "%s: the %s are %s; i64 is needed: convert with :i64()", op, what,
                       ld_tensor_text(idx));
    if (ld_graph_watches(idx->storage->device))
        return 0;
    ld_tensor *host = ld_tensor_to(idx, LD_I64, ld_device_find("cpu"), op);
    if (!host)
        return ld_error_code();
    int bad = 0;
    const int64_t *v = ld_tensor_data(host);
    for (int64_t i = 0, n = ld_tensor_numel(host); i < n && !bad; i++) {
        int64_t rest = i, at = 0;
        for (int d = host->ndim - 1; d >= 0; rest /= host->shape[d--])
            at += rest % host->shape[d] * host->stride[d];
        if (v[at] < 0 || v[at] >= limit)
            bad = ld_fail(LD_EINDEX, "%s: entry %lld is %lld; 0 to %lld are possible; the %s are %s", op,
                          (long long)i + 1, (long long)v[at], (long long)limit - 1, what, ld_tensor_text(idx));
    }
    ld_tensor_drop(host);
    return bad;
}

int ld_broadcast(const char *op, const ld_tensor *a, const ld_tensor *b, int skip, int64_t shape[LD_MAX_DIMS]) {
    int most = a->ndim > b->ndim ? a->ndim : b->ndim, ndim = most - skip;
    for (int i = 0; i < ndim; i++) {
        int ia = i - (most - a->ndim), ib = i - (most - b->ndim);
        int64_t na = ia < 0 ? 1 : a->shape[ia], nb = ib < 0 ? 1 : b->shape[ib];
        if (na != nb && na != 1 && nb != 1) {
            ld_fail(LD_ESHAPE, "%s: shapes do not broadcast: %s and %s (sizes %lld and %lld)", op, ld_tensor_text(a),
                    ld_tensor_text(b), (long long)na, (long long)nb);
            return -1;
        }
        shape[i] = na == 1 ? nb : na;
    }
    return ndim;
}

ld_view ld_stretched(const ld_tensor *x, int ndim, const int64_t *shape) {
    ld_view v = {.dtype = x->dtype, .ndim = ndim, .data = ld_tensor_data(x)};
    for (int i = 0; i < ndim; i++) {
        int k = i - (ndim - x->ndim);
        v.shape[i] = shape[i];
        v.stride[i] = k < 0 || (x->shape[k] == 1 && shape[i] != 1) ? 0 : x->stride[k];
    }
    return v;
}

ld_view ld_dense(const ld_tensor *x, int ndim, const int64_t *shape) {
    ld_view v = {.dtype = x->dtype, .ndim = ndim, .data = ld_tensor_data(x)};
    int64_t step = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        v.shape[i] = shape[i];
        v.stride[i] = step;
        step *= shape[i];
    }
    return v;
}

ld_tensor *ld_result(ld_tensor *x, int bad) {
    if (!bad)
        return x;
    ld_tensor_drop(x);
    return NULL;
}

ld_tensor *ld_iota(ld_device *d, int64_t n, const char *op) {
    ld_tensor *host = ld_tensor_new(ld_device_find("cpu"), LD_I64, 1, &n, op);
    if (!host)
        return NULL;
    int64_t *v = ld_tensor_data(host);
    for (int64_t i = 0; i < n; i++)
        v[i] = i;
    ld_tensor *y = ld_tensor_to(host, LD_I64, d, op);
    ld_tensor_drop(host);
    return y;
}
