#include "op/inner.h"

static bool lies_innermost(int dim, int ndim) {
    return dim == (ndim == 4 ? 1 : ndim - 1);
}

/* v's dimensions with dim moved to the end. */
static ld_view moved_last(const ld_view *v, int dim) {
    ld_view m = *v;
    int n = 0;
    for (int i = 0; i <= v->ndim; i++) {
        int from = i == v->ndim ? dim : i;
        if (i == dim)
            continue;
        m.shape[n] = v->shape[from];
        m.stride[n++] = v->stride[from];
    }
    return m;
}

ld_tensor *ld_inner_room(const ld_tensor *x, int dim, const char *op) {
    int64_t flat[1] = {ld_tensor_numel(x)};
    if (lies_innermost(dim, x->ndim))
        return ld_tensor_like(x, op);
    return ld_tensor_new(x->storage->device, x->dtype, 1, flat, op);
}

ld_tensor *ld_inner_block(ld_tensor *x, int dim, const char *op) {
    if (lies_innermost(dim, x->ndim))
        return ld_tensor_canonical(x, op);
    ld_tensor *y = ld_inner_room(x, dim, op);
    if (!y)
        return NULL;
    ld_view from = moved_last(LD_VIEW(x), dim), to = ld_dense(y, from.ndim, from.shape);
    return ld_result(y, LD_BACKEND(x)->copy(&to, &from));
}

ld_tensor *ld_inner_back(ld_tensor *y, int dim, int ndim, const int64_t *shape, const char *op) {
    if (!y || lies_innermost(dim, ndim))
        return y;
    ld_tensor *z = ld_tensor_new(y->storage->device, y->dtype, ndim, shape, op);
    if (z) {
        ld_view to = moved_last(LD_VIEW(z), dim), from = ld_dense(y, to.ndim, to.shape);
        z = ld_result(z, LD_BACKEND(y)->copy(&to, &from));
    }
    ld_tensor_drop(y);
    return z;
}
