#include "op/check.h"

#include "base/error.h"

#include <string.h>

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

int ld_check_compute(const char *op, ld_tensor *const *xs, int n) {
    int bad = ld_check_devices(op, xs, n);
    const ld_tensor *first = NULL;
    for (int i = 0; i < n && !bad; i++) {
        if (!xs[i])
            continue;
        if (!first)
            first = xs[i];
        if (xs[i]->dtype != LD_F32 && xs[i]->dtype != LD_F64)
            bad = ld_fail(LD_EDTYPE, "%s: %s; f32 or f64 is needed: convert with :f32()", op, ld_tensor_text(xs[i]));
        else if (xs[i]->dtype != first->dtype)
            bad = ld_fail(LD_EDTYPE, "%s: dtypes differ: %s and %s", op, ld_tensor_text(first), ld_tensor_text(xs[i]));
    }
    return bad;
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
        return ld_fail(LD_ESHAPE, "%s: %s has %d dimensions, %d are needed; it is %s", op, what, x->ndim, ndim,
                       ld_tensor_text(x));
    return 0;
}

int ld_check_vector(const char *op, const char *what, const ld_tensor *x, int64_t n) {
    if (x && (x->ndim != 1 || x->shape[0] != n))
        return ld_fail(LD_ESHAPE, "%s: %s is %s; (%lld) is needed", op, what, ld_tensor_text(x), (long long)n);
    return 0;
}

int ld_check_dim(const char *op, int dim, int ndim) {
    if (dim < -ndim || dim >= ndim) {
        ld_fail(LD_EINDEX, "%s: dimension %d of a tensor that has %d", op, dim, ndim);
        return -1;
    }
    return dim < 0 ? dim + ndim : dim;
}

int ld_broadcast(const char *op, const ld_tensor *a, const ld_tensor *b, int64_t shape[LD_MAX_DIMS]) {
    int ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
    for (int i = 0; i < ndim; i++) {
        int ia = i - (ndim - a->ndim), ib = i - (ndim - b->ndim);
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
