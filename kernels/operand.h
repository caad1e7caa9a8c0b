/* Helpers of the norms and attention: small operands whose dtype shows at run time, and what the host checks about views. */
#ifndef LD_KERNEL_OPERAND_H
#define LD_KERNEL_OPERAND_H

#include "kernels/space.h"

template <typename T> using wide = typename ld_wide<T>::type;

/* A vector of parameters, or the like: NULL where absent; of any float dtype. */
struct operand {
    void *data;
    ld_dtype dtype;
};

LD_DEVICE double operand_get(const operand &a, int64_t i) {
    switch (a.dtype) {
    case LD_F32:
        return (double)((const float *)a.data)[i];
    case LD_BF16:
        return (double)widen(((const bf16 *)a.data)[i]);
    case LD_F16:
        return (double)widen(((const f16 *)a.data)[i]);
    default:
        return ((const double *)a.data)[i];
    }
}

LD_DEVICE void operand_set(const operand &a, int64_t i, double v) {
    switch (a.dtype) {
    case LD_F32:
        ((float *)a.data)[i] = (float)v;
        break;
    case LD_BF16:
        ((bf16 *)a.data)[i] = narrow<bf16>((float)v);
        break;
    case LD_F16:
        ((f16 *)a.data)[i] = narrow<f16>((float)v);
        break;
    default:
        ((double *)a.data)[i] = v;
    }
}

template <typename T, typename A, int V> LD_DEVICE void operand_read(A *to, const void *data, int64_t i) {
    enum { S = 16 / sizeof(T) < V ? 16 / sizeof(T) : V };
#pragma unroll
    for (int k = 0; k < V; k += S) {
        pack<T, S> in = load_pack<T, S>((const T *)data + i + k);
#pragma unroll
        for (int e = 0; e < S; e++)
            to[k + e] = (A)widen(in.v[e]);
    }
}

/* Elements i to i + V - 1, which begin at a multiple of 16 bytes where V is above 1; `absent` where there are none. */
template <typename A, int V> LD_DEVICE void operand_pack(A *to, const operand &a, int64_t i, A absent) {
    if (!a.data)
        for (int k = 0; k < V; k++)
            to[k] = absent;
    else if (a.dtype == LD_F32)
        operand_read<float, A, V>(to, a.data, i);
    else if (a.dtype == LD_BF16)
        operand_read<bf16, A, V>(to, a.data, i);
    else if (a.dtype == LD_F16)
        operand_read<f16, A, V>(to, a.data, i);
    else
        operand_read<double, A, V>(to, a.data, i);
}

/* 1/x, in float to within 2 units in the last place; 0 for infinity. */
LD_DEVICE float reciprocal(float x) {
    return __fdividef(1.0f, x);
}
LD_DEVICE double reciprocal(double x) {
    return 1 / x;
}

/* ---- on the host ------------------------------------------------------------------------------------------------------- */

static inline operand operand_of(const ld_view *v) {
    operand a = {v ? v->data : NULL, v ? v->dtype : LD_F32};
    return a;
}

static inline void *data_of(const ld_view *v) {
    return v ? v->data : NULL;
}

/* Statistics of f32, bf16 and f16 data are f32, of f64 data f64; small operands may have either's or the data's dtype. */
static inline ld_dtype statistics_dtype(ld_dtype t) {
    return t == LD_F64 ? LD_F64 : LD_F32;
}

static inline int check_float(const char *who, ld_dtype t) {
    return ld_dtype_is_float(t) ? 0 : ld_fail(LD_EDTYPE, "%s: takes floats, not %s", who, ld_dtype_names[t]);
}

static inline int check_same(const char *who, const char *what, const ld_view *v, ld_dtype t) {
    return !v || v->dtype == t ? 0
                               : ld_fail(LD_EDTYPE, "%s: %s is %s; %s is needed", who, what, ld_dtype_names[v->dtype],
                                         ld_dtype_names[t]);
}

static inline int check_small(const char *who, const char *what, const ld_view *v, ld_dtype t) {
    return !v || v->dtype == t ? 0 : check_same(who, what, v, statistics_dtype(t));
}

/* Whether rows of c elements, all dense, can be read 16 bytes at a time. */
static inline bool fits_packs(const ld_view *v, int64_t c) {
    size_t size = v ? ld_dtype_size(v->dtype) : 0;
    return !v || ((uintptr_t)v->data % 16 == 0 && (size_t)c * size % 16 == 0);
}

#endif
