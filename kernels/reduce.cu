/* reduce: y = sum, mean, largest, smallest or sum of squares of x over a set of dimensions.
 *
 * Traffic: x is read once. Dimensions are ordered by x's strides and merged, apart for those that stay (outputs) and those
 * that go (depth). Where the fastest one goes, a team of neighbouring lanes (up to a warp, or a block of 256 where depth is
 * large) reads along it and folds by shuffles. Where it stays, lanes stand side by side on outputs, 8 rows of them a block,
 * folded through shared memory. Where that makes few blocks, depth is cut into segments, whose number depends on the shape
 * alone, and a second kernel folds those. Each thread has 8 loads under way; 8 elements are summed in f32 as a tree, and the
 * trees in f64. Every sum has one order: results are the same on every run. MAX and MIN give NaN when an element is NaN.
 * Proven by tests/sim/test_sim_reduce.c against the CPU's slot. */
#include "kernels/convert.h"
#include "kernels/fold.h"
#include "kernels/space.h"

enum { THREADS = 256, AHEAD = 8, ROWS = 8, BLOCKS = 512, SEGMENT = 2048 };

/* W: elements, widened and folded by the tree; A: the sums. Integers are summed in 64 bits. */
template <typename T> struct widths { typedef int64_t W, A; };
template <> struct widths<float> {
    typedef float W;
    typedef double A;
};
template <> struct widths<bf16> : widths<float> {};
template <> struct widths<f16> : widths<float> {};
template <> struct widths<double> { typedef double W, A; };

template <typename T> struct reduction {
    typedef typename widths<T>::A A;
    const T *x;
    T *y;
    A *partial; /* (outputs, segments), or NULL */
    ld_reduce_op op;
    ld_space<2> kept; /* of x and y */
    ld_space<1> gone; /* of x */
    int segments, lanes;
    int64_t depth;
};

template <typename A> LD_DEVICE A start_of(ld_reduce_op op) {
    return op == LD_MAX ? ld_lowest(A()) : op == LD_MIN ? ld_highest(A()) : (A)0;
}

template <typename A> LD_DEVICE A fold(ld_reduce_op op, A a, A b) {
    return op == LD_MAX ? fold_max::of(a, b) : op == LD_MIN ? fold_min::of(a, b) : fold_sum::of(a, b);
}

template <typename A> LD_DEVICE A fold_warp(ld_reduce_op op, A v, int lanes) {
    for (int d = lanes / 2; d > 0; d /= 2)
        v = fold(op, v, __shfl_xor_sync(LD_ALL_LANES, v, d));
    return v;
}

template <typename F, typename W> LD_DEVICE W tree(const W *v) {
    return F::of(F::of(F::of(v[0], v[1]), F::of(v[2], v[3])), F::of(F::of(v[4], v[5]), F::of(v[6], v[7])));
}

/* Elements first, first + step, ... below end of the depth, x's first one lying at `at`. What goes is most often one dimension,
 * and AHEAD loads are under way; else the elements are found one by one. */
template <typename T>
LD_DEVICE typename widths<T>::A fold_elements(const reduction<T> &r, const T *at, int64_t first, int64_t end,
                                              int64_t step) {
    typedef typename widths<T>::W W;
    typedef typename widths<T>::A A;
    A sum = start_of<A>(r.op);
    if (r.gone.ndim > 1) {
#pragma unroll 1
        for (int64_t i = first; i < end; i += step) {
            int64_t from;
            r.gone.locate(i, &from);
            W v = (W)widen(at[from]);
            sum = fold(r.op, sum, (A)(r.op == LD_SUMSQ ? v * v : v));
        }
        return sum;
    }
    const int64_t stride = r.gone.stride[0][0];
    for (int64_t i = first; i < end; i += AHEAD * step) {
        W v[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++)
            v[k] = i + k * step < end ? (W)widen(at[(i + k * step) * stride]) : start_of<W>(r.op);
        if (r.op == LD_SUMSQ)
            for (int k = 0; k < AHEAD; k++)
                v[k] *= v[k];
        W part = r.op == LD_MAX ? tree<fold_max>(v) : r.op == LD_MIN ? tree<fold_min>(v) : tree<fold_sum>(v);
        sum = fold(r.op, sum, (A)part);
    }
    return sum;
}

template <typename T> LD_DEVICE void finish(const reduction<T> &r, int64_t at, typename widths<T>::A sum) {
    if (r.op == LD_MEAN)
        sum = (typename widths<T>::A)((double)sum / (double)r.depth);
    r.y[at] = ld_to<T>::from(sum);
}

template <typename T>
LD_DEVICE void put(const reduction<T> &r, int64_t output, int segment, int64_t at, typename widths<T>::A sum) {
    if (r.partial)
        r.partial[output * r.segments + segment] = sum;
    else
        finish(r, at, sum);
}

/* Part i of n of the depth begins here. */
template <typename T> LD_DEVICE int64_t part(const reduction<T> &r, int64_t i) {
    return r.depth / r.segments * i + (r.depth % r.segments < i ? r.depth % r.segments : i);
}

/* The fastest dimension goes: r.lanes lanes an output, at most a warp. */
template <typename T> __global__ void __launch_bounds__(THREADS) k_reduce_lanes(const reduction<T> r) {
    int lane = (int)threadIdx.x % r.lanes;
    int64_t units = r.kept.units * r.segments, teams = (int64_t)gridDim.x * (THREADS / r.lanes);
    int64_t first = (int64_t)blockIdx.x * (THREADS / r.lanes);
    for (int64_t base = first; base < units; base += teams) { /* the same for all threads of the block */
        int64_t u = base + threadIdx.x / r.lanes, at[2] = {0, 0};
        typename widths<T>::A sum = start_of<typename widths<T>::A>(r.op);
        if (u < units) {
            r.kept.locate(u / r.segments, at);
            sum = fold_elements(r, r.x + at[0], part(r, u % r.segments) + lane, part(r, u % r.segments + 1), r.lanes);
        }
        sum = fold_warp(r.op, sum, r.lanes);
        if (lane == 0 && u < units)
            put(r, u / r.segments, (int)(u % r.segments), at[1], sum);
    }
}

/* The same with a block an output. */
template <typename T> __global__ void __launch_bounds__(THREADS) k_reduce_block(const reduction<T> r) {
    typedef typename widths<T>::A A;
    LD_SHARED(A, warps, [THREADS / LD_WARP]);
    for (int64_t u = blockIdx.x; u < r.kept.units * r.segments; u += gridDim.x) {
        int64_t at[2];
        r.kept.locate(u / r.segments, at);
        A sum =
            fold_elements(r, r.x + at[0], part(r, u % r.segments) + threadIdx.x, part(r, u % r.segments + 1), THREADS);
        sum = fold_warp(r.op, sum, LD_WARP);
        if (threadIdx.x % LD_WARP == 0)
            warps[threadIdx.x / LD_WARP] = sum;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int w = 1; w < THREADS / LD_WARP; w++)
                sum = fold(r.op, sum, warps[w]);
            put(r, u / r.segments, (int)(u % r.segments), at[1], sum);
        }
        __syncthreads();
    }
}

/* The fastest dimension stays: a column of threads an output. */
template <typename T> __global__ void __launch_bounds__(THREADS) k_reduce_columns(const reduction<T> r) {
    typedef typename widths<T>::A A;
    LD_SHARED(A, rows, [ROWS][LD_WARP]);
    int64_t strips = (r.kept.units + LD_WARP - 1) / LD_WARP;
    for (int64_t u = blockIdx.x; u < strips * r.segments; u += gridDim.x) {
        int64_t output = u / r.segments * LD_WARP + threadIdx.x, at[2] = {0, 0};
        int segment = (int)(u % r.segments);
        bool mine = output < r.kept.units;
        A sum = start_of<A>(r.op);
        if (mine) {
            r.kept.locate(output, at);
            sum = fold_elements(r, r.x + at[0], part(r, segment) + threadIdx.y, part(r, segment + 1), ROWS);
        }
        rows[threadIdx.y][threadIdx.x] = sum;
        __syncthreads();
        if (threadIdx.y == 0 && mine) {
            for (int k = 1; k < ROWS; k++)
                sum = fold(r.op, sum, rows[k][threadIdx.x]);
            put(r, output, segment, at[1], sum);
        }
        __syncthreads();
    }
}

/* The segments of an output, by a warp. */
template <typename T> __global__ void __launch_bounds__(THREADS) k_reduce_segments(const reduction<T> r) {
    int lane = (int)threadIdx.x % LD_WARP;
    int64_t warps = (int64_t)gridDim.x * (THREADS / LD_WARP);
    for (int64_t u = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / LD_WARP; u < r.kept.units; u += warps) {
        int64_t at[2];
        r.kept.locate(u, at);
        typename widths<T>::A sum = start_of<typename widths<T>::A>(r.op);
        for (int s = lane; s < r.segments; s += LD_WARP)
            sum = fold(r.op, sum, r.partial[u * r.segments + s]);
        sum = fold_warp(r.op, sum, LD_WARP);
        if (lane == 0)
            finish(r, at[1], sum);
    }
}

/* ---- the slot -------------------------------------------------------------------------------------------------------- */

/* x and y without the dimensions that go, x without those that stay; the smallest stride of each. */
static void split(const ld_view *y, const ld_view *x, ld_view *kept_x, ld_view *kept_y, ld_view *gone,
                  int64_t *kept_step, int64_t *gone_step) {
    *kept_x = *gone = *x;
    *kept_y = *y;
    kept_x->ndim = kept_y->ndim = gone->ndim = 0;
    *kept_step = *gone_step = INT64_MAX;
    for (int d = 0; d < x->ndim; d++) {
        bool stays = y->shape[d] == x->shape[d];
        int64_t *least = stays ? kept_step : gone_step;
        ld_view *to = stays ? kept_x : gone;
        if (x->shape[d] == 1)
            continue;
        *least = x->stride[d] < *least ? x->stride[d] : *least;
        to->shape[to->ndim] = x->shape[d];
        to->stride[to->ndim++] = x->stride[d];
        if (stays) {
            kept_y->shape[kept_y->ndim] = y->shape[d];
            kept_y->stride[kept_y->ndim++] = y->stride[d];
        }
    }
}

template <typename T> static int launch(reduction<T> &r, bool columns) {
    int64_t outputs = r.kept.units, blocks, whole = columns ? ROWS * AHEAD : THREADS * AHEAD;
    r.lanes = 1;
    while (r.lanes < LD_WARP && r.lanes < r.depth)
        r.lanes *= 2;
    bool block = !columns && r.depth >= SEGMENT;
    blocks = columns ? (outputs + LD_WARP - 1) / LD_WARP
             : block ? outputs
                     : (outputs + THREADS / r.lanes - 1) / (THREADS / r.lanes);
    int64_t most = r.depth / whole, wanted = BLOCKS / blocks;
    r.segments = (int)(most < 2 || wanted < 2 ? 1 : wanted < most ? wanted : most);
    void *workspace = NULL;
    if (r.segments > 1) {
        workspace = ld_cuda_workspace((size_t)(outputs * r.segments) * sizeof *r.partial, "reduce");
        if (!workspace)
            return ld_cuda_workspace_missing();
    }
    r.partial = (typename widths<T>::A *)workspace;
    unsigned grid = ld_blocks(blocks * r.segments, 1);
    int bad = columns ? LD_LAUNCH(k_reduce_columns<T>, grid, dim3(LD_WARP, ROWS), 0, r)
              : block ? LD_LAUNCH(k_reduce_block<T>, grid, THREADS, 0, r)
                      : LD_LAUNCH(k_reduce_lanes<T>, grid, THREADS, 0, r);
    if (!bad && workspace)
        bad = LD_LAUNCH(k_reduce_segments<T>, ld_blocks(outputs, THREADS / LD_WARP), THREADS, 0, r);
    ld_cuda_workspace_done(workspace);
    return bad;
}

int ld_cuda_reduce(const ld_view *y, const ld_view *x, ld_reduce_op op) {
    if (!ld_dtype_is_float(x->dtype) && (op == LD_MEAN || op == LD_SUMSQ))
        return ld_fail(LD_EDTYPE, "%s: takes floats, x is %s", op == LD_MEAN ? "mean" : "sumsq",
                       ld_dtype_names[x->dtype]);
    if (ld_view_numel(y) == 0)
        return 0;
    ld_view kept_x, kept_y, gone;
    int64_t kept_step, gone_step;
    split(y, x, &kept_x, &kept_y, &gone, &kept_step, &gone_step);
    const ld_view *kept[] = {&kept_x, &kept_y}, *reduced = &gone;
    return ld_each_type(x->dtype, "reduce", [&](auto t) {
        typedef decltype(t) T;
        reduction<T> r = {
            (const T *)x->data,  (T *)y->data, NULL, op, ld_space_of<2>(kept, 1), ld_space_of<1>(&reduced, 1), 1, 1,
            ld_view_numel(&gone)};
        return launch(r, kept_step < gone_step);
    });
}
