/* arg: y (i64) = position of the first largest (or smallest) element along a dimension; a NaN counts as extreme.
 *
 * Traffic: x is read once. Where the dimension is the fastest and long, a warp reads along it and folds by shuffles; else a
 * thread walks it, neighbours standing side by side. Proven by tests/sim/test_sim_reduce.c against the CPU's slot. */
#include "kernels/kernel.h"
#include "kernels/space.h"

template <typename W> struct found {
    W value;
    int64_t at; /* -1: nothing yet */
};

/* Does b come before a? */
template <typename W> LD_DEVICE bool beats(const found<W> &b, const found<W> &a, bool smallest) {
    if (b.at < 0 || a.at < 0)
        return a.at < 0 && b.at >= 0;
    bool nan_a = a.value != a.value, nan_b = b.value != b.value;
    if (nan_a || nan_b)
        return nan_b && (!nan_a || b.at < a.at);
    if (b.value == a.value)
        return b.at < a.at;
    return smallest ? b.value < a.value : b.value > a.value;
}

/* `team` is 1 or 32 lanes a result. */
template <typename T>
__global__ void __launch_bounds__(256)
    k_arg(int64_t *y, const T *x, const ld_space<2> space, int64_t n, int64_t step, bool smallest, int team) {
    typedef typename ld_wide<T>::type W;
    int64_t teams = (int64_t)gridDim.x * (256 / team), lane = threadIdx.x % (unsigned)team;
    for (int64_t base = (int64_t)blockIdx.x * (256 / team); base < space.units; base += teams) {
        int64_t u = base + threadIdx.x / (unsigned)team, at[2] = {0, 0};
        found<W> best = {0, -1};
        if (u < space.units) {
            space.locate(u, at);
            for (int64_t i = lane; i < n; i += team) {
                found<W> f = {widen(x[at[1] + i * step]), i};
                if (beats(f, best, smallest))
                    best = f;
            }
        }
        for (int d = team / 2; d > 0; d /= 2) {
            found<W> f = {(W)__shfl_xor_sync(LD_ALL_LANES, best.value, d), __shfl_xor_sync(LD_ALL_LANES, best.at, d)};
            if (beats(f, best, smallest))
                best = f;
        }
        if (lane == 0 && u < space.units)
            y[at[0]] = best.at;
    }
}

int ld_cuda_arg(const ld_view *y, const ld_view *x, int dim, bool smallest) {
    if (ld_view_numel(x) == 0)
        return 0;
    ld_view rest_y = *y, rest_x = *x;
    rest_y.ndim = rest_x.ndim = 0;
    int64_t fastest = INT64_MAX;
    for (int d = 0; d < x->ndim; d++) {
        if (d == dim)
            continue;
        fastest = x->shape[d] > 1 && x->stride[d] < fastest ? x->stride[d] : fastest;
        rest_y.shape[rest_y.ndim] = rest_x.shape[rest_x.ndim] = x->shape[d];
        rest_y.stride[rest_y.ndim++] = y->stride[d];
        rest_x.stride[rest_x.ndim++] = x->stride[d];
    }
    const ld_view *views[] = {&rest_y, &rest_x};
    ld_space<2> space = ld_space_of<2>(views, 1);
    int team = x->shape[dim] >= LD_WARP && x->stride[dim] < fastest ? LD_WARP : 1;
    unsigned grid = ld_blocks(space.units * team, 256);
    return ld_each_type(x->dtype, "arg", [&](auto t) {
        typedef decltype(t) T;
        return LD_LAUNCH(k_arg<T>, grid, 256, 0, (int64_t *)y->data, (const T *)x->data, space, x->shape[dim],
                         x->stride[dim], smallest, team);
    });
}
