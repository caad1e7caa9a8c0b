/* Gradients of the elementwise functions: dx = g op'(s), s being x, or the result where ld_unary_keeps_result.
 *
 * Traffic: g and s are read once, dx is written once, 16 bytes a thread (space.h). Where a function is flat the gradient is 0
 * whatever g is, infinities too. Proven by tests/sim/test_sim_unary.c against the CPU's slot. */
#include "kernels/space.h"

template <typename W> LD_DEVICE W ld_silu_slope(W x) {
    W s = 1 / (1 + exp(-x));
    return s * (1 + x * (1 - s));
}

template <typename W> LD_DEVICE W ld_gelu_slope(W x) {
    return normcdf(x) + x * exp((W)-0.5 * x * x) * (W)0.39894228040143267794;
}

template <int V, typename W> LD_DEVICE void apply(int op, W a, W b, const W *g, const W *x, W *dx) {
#define EACH(expression)                                                                                               \
    _Pragma("unroll") for (int i = 0; i < V; i++) {                                                                    \
        const W s = x[i];                                                                                              \
        (void)s;                                                                                                       \
        dx[i] = (W)(expression);                                                                                       \
    }                                                                                                                  \
    return
    switch (op) {
    case LD_NEG:
        EACH(-g[i]);
    case LD_ABS:
        EACH(g[i] * (W)((s > 0) - (s < 0)));
    case LD_EXP:
        EACH(g[i] * s);
    case LD_LOG:
        EACH(g[i] * (1 / s));
    case LD_SQRT:
        EACH(g[i] * ((W)0.5 / s));
    case LD_RSQRT:
        EACH(g[i] * ((W)-0.5 * s * s * s));
    case LD_SQUARE:
        EACH(g[i] * (2 * s));
    case LD_RECIPROCAL:
        EACH(g[i] * (-s * s));
    case LD_SIN:
        EACH(g[i] * cos(s));
    case LD_COS:
        EACH(g[i] * -sin(s));
    case LD_TAN:
        EACH(g[i] * (1 + s * s));
    case LD_TANH:
        EACH(g[i] * (1 - s * s));
    case LD_SIGMOID:
        EACH(g[i] * (s * (1 - s)));
    case LD_SILU:
        EACH(g[i] * ld_silu_slope(s));
    case LD_GELU:
        EACH(g[i] * ld_gelu_slope(s));
    case LD_RELU:
        EACH(s > 0 ? g[i] : 0);
    case LD_LEAKY:
        EACH(s > 0 ? g[i] : a * g[i]);
    case LD_CLAMP:
        EACH(s >= a && s <= b ? g[i] : 0);
    case LD_POW:
        EACH(g[i] * (a * pow(s, a - 1)));
    case LD_AFFINE:
        EACH(g[i] * a);
    default: /* FLOOR, ROUND, SIGN */
        EACH(0);
    }
#undef EACH
}

template <typename T> struct slope {
    enum { N = 3 };
    typedef typename ld_wide<T>::type W;
    T *dx;
    const T *g, *s;
    int op;
    W a, b;
    template <int V> __device__ void run(const int64_t *at, const bool *same) const {
        W u[V], v[V], r[V];
        load_wide<V>(u, g + at[1], same[1]);
        load_wide<V>(v, s + at[2], same[2]);
        apply<V, W>(op, a, b, u, v, r);
        store_narrow<V>(dx + at[0], r);
    }
};

int ld_cuda_unary_bwd(const ld_view *dx, const ld_view *g, const ld_view *s, ld_unary_op op, double a, double b) {
    const ld_view *views[] = {dx, g, s};
    int code = op;
    if (op == LD_POW) /* 0 at x = 0, too */
        code = a == 0 ? LD_SIGN : a == 1 ? LD_AFFINE : a == 2 ? LD_SQUARE : LD_POW;
    return ld_each_float(g->dtype, "unary backward", [&](auto t) {
        typedef decltype(t) T;
        typedef typename ld_wide<T>::type W;
        return ld_map<ld_lanes<T>::COUNT>(
            views, slope<T>{(T *)dx->data, (const T *)g->data, (const T *)s->data, code, (W)a, (W)b});
    });
}
