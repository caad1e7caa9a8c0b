#include "backend/view.h"

#include "backend/half.h"

#include <string.h>

const char *const ld_dtype_names[LD_DTYPE_COUNT] = {"f32", "bf16", "f16", "f64", "i64", "i32", "u8"};

size_t ld_dtype_size(ld_dtype t) {
    static const unsigned char size[LD_DTYPE_COUNT] = {4, 2, 2, 8, 8, 4, 1};
    return size[t];
}

bool ld_dtype_is_half(ld_dtype t) {
    return t == LD_BF16 || t == LD_F16;
}

bool ld_dtype_is_float(ld_dtype t) {
    return t <= LD_F64;
}

int ld_dtype_find(const char *name) {
    for (int i = 0; i < LD_DTYPE_COUNT; i++)
        if (!strcmp(name, ld_dtype_names[i]))
            return i;
    return -1;
}

float ld_bf16_to_f32(uint16_t v) {
    return ld_widen_bf16(v);
}

uint16_t ld_f32_to_bf16(float v) {
    return ld_narrow_bf16(v);
}

float ld_f16_to_f32(uint16_t v) {
    return ld_widen_f16(v);
}

uint16_t ld_f32_to_f16(float v) {
    return ld_narrow_f16(v);
}

double ld_dtype_get(ld_dtype t, const void *p) {
    switch (t) {
    case LD_F32:
        return *(const float *)p;
    case LD_BF16:
        return ld_bf16_to_f32(*(const uint16_t *)p);
    case LD_F16:
        return ld_f16_to_f32(*(const uint16_t *)p);
    case LD_F64:
        return *(const double *)p;
    case LD_I64:
        return (double)*(const int64_t *)p;
    case LD_I32:
        return *(const int32_t *)p;
    default:
        return *(const uint8_t *)p;
    }
}

/* Towards zero; values outside the type become its nearest value and NaN 0, where C leaves the result open. */
static int64_t to_integer(double v, int64_t least, int64_t most) {
    if (v != v)
        return 0;
    if (v <= (double)least)
        return least;
    return v >= (double)most ? most : (int64_t)v;
}

void ld_dtype_set(ld_dtype t, void *p, double v) {
    switch (t) {
    case LD_F32:
        *(float *)p = (float)v;
        break;
    case LD_BF16:
        *(uint16_t *)p = ld_narrow_bf16(ld_round_to_odd(v));
        break;
    case LD_F16:
        *(uint16_t *)p = ld_narrow_f16(ld_round_to_odd(v));
        break;
    case LD_F64:
        *(double *)p = v;
        break;
    case LD_I64:
        *(int64_t *)p = to_integer(v, INT64_MIN, INT64_MAX);
        break;
    case LD_I32:
        *(int32_t *)p = (int32_t)to_integer(v, INT32_MIN, INT32_MAX);
        break;
    default:
        *(uint8_t *)p = (uint8_t)to_integer(v, 0, UINT8_MAX);
    }
}

int64_t ld_view_numel(const ld_view *v) {
    int64_t n = 1;
    for (int i = 0; i < v->ndim; i++)
        n *= v->shape[i];
    return n;
}

/* Dimensions of rank 4 from the slowest to the fastest in memory. */
static const int nhwc[4] = {0, 2, 3, 1};

void ld_canonical_strides(int ndim, const int64_t *shape, int64_t *stride) {
    int64_t step = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        int dim = ndim == 4 ? nhwc[i] : i;
        stride[dim] = step;
        step *= shape[dim] > 1 ? shape[dim] : 1;
    }
}

bool ld_is_canonical(int ndim, const int64_t *shape, const int64_t *stride) {
    int64_t want[LD_MAX_DIMS];
    ld_canonical_strides(ndim, shape, want);
    for (int i = 0; i < ndim; i++)
        if (shape[i] == 0)
            return true;
    for (int i = 0; i < ndim; i++)
        if (shape[i] > 1 && stride[i] != want[i])
            return false;
    return true;
}
