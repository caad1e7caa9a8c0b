/* Elementwise functions of two or three arguments: binary, axpby, where.
 *
 *   y = a op b;   y = alpha x + beta y;   y = c ? a : b
 *
 * Traffic: every argument is read once (a repeated one from the caches), y is written once; axpby reads y only when beta is
 * not 0. A thread takes 16 bytes of the widest operand (space.h). Which function is meant is the same for all threads and
 * chosen inside the kernel. Integers wrap; quotients are cut towards zero and are 0 for a divisor of 0. Comparisons write
 * bytes. Proven by tests/sim/test_sim_elementwise.c against the CPU's slots. */
#include "kernels/space.h"

LD_DEVICE float ld_power(float a, float b) {
    return powf(a, b);
}
LD_DEVICE double ld_power(double a, double b) {
    return pow(a, b);
}
/* By squaring; a negative power of anything but 1 and -1 is 0. */
LD_DEVICE int64_t ld_power(int64_t a, int64_t b) {
    if (b < 0)
        return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
    uint64_t result = 1, square = (uint64_t)a;
    for (; b; b >>= 1) {
        if (b & 1)
            result *= square;
        square *= square;
    }
    return (int64_t)result;
}
LD_DEVICE int32_t ld_power(int32_t a, int32_t b) {
    return (int32_t)ld_power((int64_t)a, (int64_t)b);
}
LD_DEVICE uint8_t ld_power(uint8_t a, uint8_t b) {
    return (uint8_t)ld_power((int64_t)a, (int64_t)b);
}

LD_DEVICE float ld_quotient(float a, float b) {
    return a / b;
}
LD_DEVICE double ld_quotient(double a, double b) {
    return a / b;
}
LD_DEVICE int64_t ld_quotient(int64_t a, int64_t b) {
    if (b == 0)
        return 0;
    return b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b; /* the most negative number has no opposite */
}
LD_DEVICE int32_t ld_quotient(int32_t a, int32_t b) {
    return (int32_t)ld_quotient((int64_t)a, (int64_t)b);
}
LD_DEVICE uint8_t ld_quotient(uint8_t a, uint8_t b) {
    return b ? (uint8_t)(a / b) : (uint8_t)0;
}

/* Sums, differences and products of integers wrap: they are those of the unsigned type. */
template <typename T> struct ld_ring { typedef T type; };
template <> struct ld_ring<int64_t> { typedef uint64_t type; };
template <> struct ld_ring<int32_t> { typedef uint32_t type; };
template <> struct ld_ring<uint8_t> { typedef uint32_t type; };

template <typename W> LD_DEVICE bool ld_is_nan(W v) {
    return v != v;
}

template <int V, typename W> LD_DEVICE void calculate(ld_binary_op op, const W *a, const W *b, W *y) {
    typedef typename ld_ring<W>::type R;
#define EACH(expression)                                                                                               \
    _Pragma("unroll") for (int i = 0; i < V; i++) y[i] = (W)(expression);                                              \
    break
    switch (op) {
    case LD_ADD:
        EACH((R)a[i] + (R)b[i]);
    case LD_SUB:
        EACH((R)a[i] - (R)b[i]);
    case LD_MUL:
        EACH((R)a[i] * (R)b[i]);
    case LD_DIV:
        EACH(ld_quotient(a[i], b[i]));
    case LD_MAXIMUM: /* a NaN on either side is the result */
        EACH(a[i] >= b[i] || ld_is_nan(a[i]) ? a[i] : b[i]);
    case LD_MINIMUM:
        EACH(a[i] <= b[i] || ld_is_nan(a[i]) ? a[i] : b[i]);
    default:
        EACH(ld_power(a[i], b[i]));
    }
#undef EACH
}

template <typename W> LD_DEVICE bool holds(ld_binary_op op, W a, W b) {
    switch (op) {
    case LD_EQ:
        return a == b;
    case LD_NE:
        return a != b;
    case LD_LT:
        return a < b;
    case LD_LE:
        return a <= b;
    case LD_GT:
        return a > b;
    default:
        return a >= b;
    }
}

template <typename T> struct arithmetic {
    enum { N = 3 };
    T *y;
    const T *a, *b;
    ld_binary_op op;
    template <int V> __device__ void run(const int64_t *at, const bool *same) const {
        typename ld_wide<T>::type u[V], v[V], r[V];
        load_wide<V>(u, a + at[1], same[1]);
        load_wide<V>(v, b + at[2], same[2]);
        calculate<V>(op, u, v, r);
        store_narrow<V>(y + at[0], r);
    }
};

template <typename T> struct comparison {
    enum { N = 3 };
    uint8_t *y;
    const T *a, *b;
    ld_binary_op op;
    template <int V> __device__ void run(const int64_t *at, const bool *same) const {
        typename ld_wide<T>::type u[V], v[V];
        uint8_t r[V];
        load_wide<V>(u, a + at[1], same[1]);
        load_wide<V>(v, b + at[2], same[2]);
        for (int i = 0; i < V; i++)
            r[i] = holds(op, u[i], v[i]);
        store_narrow<V>(y + at[0], r);
    }
};

int ld_cuda_binary(const ld_view *y, const ld_view *a, const ld_view *b, ld_binary_op op) {
    const ld_view *views[] = {y, a, b};
    return ld_each_type(a->dtype, "binary", [&](auto t) {
        typedef decltype(t) T;
        if (op < LD_EQ)
            return ld_map<ld_lanes<T>::COUNT>(views,
                                              arithmetic<T>{(T *)y->data, (const T *)a->data, (const T *)b->data, op});
        return ld_map<ld_lanes<T>::COUNT>(
            views, comparison<T>{(uint8_t *)y->data, (const T *)a->data, (const T *)b->data, op});
    });
}

/* ---- axpby ----------------------------------------------------------------------------------------------------------- */

template <typename T> struct combination {
    enum { N = 2 };
    T *y;
    const T *x;
    typename ld_wide<T>::type alpha, beta;
    template <int V> __device__ void run(const int64_t *at, const bool *same) const {
        typename ld_wide<T>::type u[V], v[V];
        load_wide<V>(u, x + at[1], same[1]);
        if (beta != 0) {
            load_wide<V>(v, y + at[0], false);
            for (int i = 0; i < V; i++)
                v[i] = alpha * u[i] + beta * v[i];
        } else
            for (int i = 0; i < V; i++)
                v[i] = alpha * u[i];
        store_narrow<V>(y + at[0], v);
    }
};

int ld_cuda_axpby(const ld_view *y, const ld_view *x, double alpha, double beta) {
    const ld_view *views[] = {y, x};
    return ld_each_float(y->dtype, "axpby", [&](auto t) {
        typedef decltype(t) T;
        typedef typename ld_wide<T>::type W;
        return ld_map<ld_lanes<T>::COUNT>(views, combination<T>{(T *)y->data, (const T *)x->data, (W)alpha, (W)beta});
    });
}

/* ---- where: elements are moved, whatever they mean ------------------------------------------------------------------- */

template <typename T> struct choice {
    enum { N = 4 };
    T *y;
    const uint8_t *c;
    const T *a, *b;
    template <int V> __device__ void run(const int64_t *at, const bool *same) const {
        uint8_t k[V];
        T u[V], v[V];
        load_wide<V>(k, c + at[1], same[1]);
        load_wide<V>(u, a + at[2], same[2]);
        load_wide<V>(v, b + at[3], same[3]);
        for (int i = 0; i < V; i++)
            u[i] = k[i] ? u[i] : v[i];
        store_narrow<V>(y + at[0], u);
    }
};

int ld_cuda_where(const ld_view *y, const ld_view *c, const ld_view *a, const ld_view *b) {
    const ld_view *views[] = {y, c, a, b};
    return ld_each_size(y->dtype, [&](auto t) {
        typedef decltype(t) T;
        return ld_map<ld_lanes<T>::COUNT>(
            views, choice<T>{(T *)y->data, (const uint8_t *)c->data, (const T *)a->data, (const T *)b->data});
    });
}
