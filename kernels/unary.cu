/* Elementwise functions of one argument: y = op(x; a, b).
 *
 * Traffic: x is read once, y written once, 16 bytes a thread (space.h). Arithmetic in f32, or f64 for f64, by CUDA's
 * functions. Which function is meant is the same for all threads and chosen inside the kernel. Integers wrap; AFFINE with a
 * or b not whole rounds towards zero. Proven by tests/sim/test_sim_unary.c against the CPU's slot. */
#include "kernels/convert.h"
#include "kernels/space.h"

enum { CUBE = LD_UNARY_COUNT }; /* x^3: of POW with a = 3 */

template <int V, typename W> LD_DEVICE void apply(int op, W a, W b, const W *x, W *y) {
#define EACH(expression)                                                                                               \
    _Pragma("unroll") for (int i = 0; i < V; i++) {                                                                    \
        const W v = x[i];                                                                                              \
        y[i] = (W)(expression);                                                                                        \
    }                                                                                                                  \
    return
    switch (op) {
    case LD_NEG:
        EACH(-v);
    case LD_ABS:
        EACH(v < 0 ? -v : v + 0);
    case LD_EXP:
        EACH(exp(v));
    case LD_LOG:
        EACH(log(v));
    case LD_SQRT:
        EACH(sqrt(v));
    case LD_RSQRT:
        EACH(1 / sqrt(v));
    case LD_SQUARE:
        EACH(v * v);
    case CUBE:
        EACH(v * v * v);
    case LD_RECIPROCAL:
        EACH(1 / v);
    case LD_SIN:
        EACH(sin(v));
    case LD_COS:
        EACH(cos(v));
    case LD_TAN:
        EACH(tan(v));
    case LD_TANH:
        EACH(tanh(v));
    case LD_SIGMOID:
        EACH(1 / (1 + exp(-v)));
    case LD_SILU:
        EACH(v / (1 + exp(-v)));
    case LD_GELU:
        EACH(v * normcdf(v));
    case LD_RELU: /* a NaN stays */
        EACH(v <= 0 ? 0 : v);
    case LD_LEAKY:
        EACH((v > 0 ? v : a * v) - b);
    case LD_CLAMP:
        EACH(v < a ? a : (v > b ? b : v));
    case LD_POW:
        EACH(pow(v, a));
    case LD_AFFINE:
        EACH(a * v + b);
    case LD_FLOOR:
        EACH(floor(v));
    case LD_ROUND:
        EACH(rint(v));
    default:
        EACH((v > 0) - (v < 0));
    }
#undef EACH
}

template <typename T> struct function {
    enum { N = 2 };
    typedef typename ld_wide<T>::type W;
    T *y;
    const T *x;
    int op;
    W a, b;
    template <int V> __device__ void run(const int64_t *at, const bool *same) const {
        W v[V], r[V];
        load_wide<V>(v, x + at[1], same[1]);
        apply<V, W>(op, a, b, v, r);
        store_narrow<V>(y + at[0], r);
    }
};

/* The function that x^a is, for exponents that need no logarithm. */
static int power(double a) {
    if (a == 1)
        return LD_AFFINE;
    if (a == 2)
        return LD_SQUARE;
    if (a == 3)
        return CUBE;
    if (a == 0.5)
        return LD_SQRT;
    if (a == -0.5)
        return LD_RSQRT;
    return a == -1 ? LD_RECIPROCAL : LD_POW;
}

/* ---- integers -------------------------------------------------------------------------------------------------------- */

template <typename T> struct whole_function {
    enum { N = 2 };
    T *y;
    const T *x;
    ld_unary_op op;
    bool stretch; /* AFFINE with numbers that are not whole */
    int64_t a, b;
    double real_a, real_b;
    __device__ T of(int64_t v) const {
        uint64_t u = (uint64_t)v;
        switch (op) {
        case LD_NEG:
            return (T)(0 - u);
        case LD_ABS:
            return (T)(v < 0 ? 0 - u : u);
        case LD_SQUARE:
            return (T)(u * u);
        case LD_AFFINE:
            return stretch ? ld_to<T>::from(real_a * (double)v + real_b) : (T)((uint64_t)a * u + (uint64_t)b);
        case LD_CLAMP:
            return (T)(v < a ? a : (v > b ? b : v));
        default:
            return (T)((v > 0) - (v < 0));
        }
    }
    template <int V> __device__ void run(const int64_t *at, const bool *same) const {
        T v[V];
        load_wide<V>(v, x + at[1], same[1]);
        for (int i = 0; i < V; i++)
            v[i] = of((int64_t)v[i]);
        store_narrow<V>(y + at[0], v);
    }
};

static bool is_whole(double v) {
    return v == floor(v) && fabs(v) < 0x1p53;
}

/* The nearest value of an integer dtype. */
template <typename T> static int64_t nearest(ld_dtype t, double v) {
    T e;
    ld_dtype_set(t, &e, v);
    return (int64_t)e;
}

template <typename T> static int unary_whole(const ld_view *y, const ld_view *x, ld_unary_op op, double a, double b) {
    const ld_view *views[] = {y, x};
    if (op != LD_NEG && op != LD_ABS && op != LD_SQUARE && op != LD_AFFINE && op != LD_CLAMP && op != LD_SIGN)
        return ld_fail(LD_EDTYPE, "unary: function %d takes floats, x is %s", (int)op, ld_dtype_names[x->dtype]);
    whole_function<T> f = {(T *)y->data, (const T *)x->data, op, !is_whole(a) || !is_whole(b), 0, 0, a, b};
    if (op == LD_CLAMP) { /* to the dtype's own range at most */
        f.a = nearest<T>(x->dtype, a);
        f.b = nearest<T>(x->dtype, b);
    } else if (!f.stretch) {
        f.a = (int64_t)a;
        f.b = (int64_t)b;
    }
    return ld_map<ld_lanes<T>::COUNT>(views, f);
}

/* ---- the slot -------------------------------------------------------------------------------------------------------- */

int ld_cuda_unary(const ld_view *y, const ld_view *x, ld_unary_op op, double a, double b) {
    const ld_view *views[] = {y, x};
    if (x->dtype == LD_I64)
        return unary_whole<int64_t>(y, x, op, a, b);
    if (x->dtype == LD_I32)
        return unary_whole<int32_t>(y, x, op, a, b);
    if (x->dtype == LD_U8)
        return unary_whole<uint8_t>(y, x, op, a, b);
    int code = op == LD_POW ? power(a) : (int)op;
    if (op == LD_POW && code == LD_AFFINE)
        b = 0;
    return ld_each_float(x->dtype, "unary", [&](auto t) {
        typedef decltype(t) T;
        typedef typename ld_wide<T>::type W;
        return ld_map<ld_lanes<T>::COUNT>(views, function<T>{(T *)y->data, (const T *)x->data, code, (W)a, (W)b});
    });
}
