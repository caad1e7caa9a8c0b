/* Walking views of equal shape and any strides: what elementwise kernels share.
 *
 * The dimensions are ordered by the result's strides and merged where every operand allows it, so that dense operands
 * become one dimension. Where the fastest dimension is contiguous in every operand (or repeated, stride 0), sizes divide and
 * addresses are aligned, a thread takes V elements by one load of 16 bytes at most; the last, smaller group of a single
 * dimension is taken one by one. Everything else goes element by element. Index arithmetic has 32 bits below 2^31 units.
 *
 * An operation is a struct with N operands, the first being written:
 *   enum { N = 2 };
 *   template <int V> __device__ void run(const int64_t *at, const bool *same) const;
 * at: offsets of the operands in elements; same: the V elements are one (a repeated operand). */
#ifndef LD_SPACE_H
#define LD_SPACE_H

#include "kernels/kernel.h"

/* Quotients of numbers below 2^31. Source: Granlund & Montgomery 1994, "Division by invariant integers". */
struct ld_divisor {
    uint32_t by, factor, shift;
    LD_BOTH_MEMBER uint32_t quotient(uint32_t n) const {
#ifdef __CUDA_ARCH__
        return (__umulhi(n, factor) + n) >> shift;
#else
        return ((uint32_t)((uint64_t)n * factor >> 32) + n) >> shift;
#endif
    }
};

static inline ld_divisor ld_divisor_of(uint32_t by) {
    uint32_t shift = 0;
    while (((uint64_t)1 << shift) < by)
        shift++;
    uint64_t factor = (((uint64_t)1 << 32) * (((uint64_t)1 << shift) - by)) / by + 1;
    return {by, (uint32_t)factor, shift};
}

template <int N> struct ld_space {
    int ndim;      /* at least 1 */
    int64_t units; /* of `vector` elements each, the last of `tail` where that is not 0 */
    int vector, tail;
    bool small;
    bool same[N];
    ld_divisor size[LD_MAX_DIMS];
    int64_t wide_size[LD_MAX_DIMS];
    int64_t stride[N][LD_MAX_DIMS]; /* of units */

    LD_BOTH_MEMBER void locate(int64_t unit, int64_t *at) const {
        for (int k = 0; k < N; k++)
            at[k] = 0;
        if (small) {
            uint32_t rest = (uint32_t)unit;
            for (int d = ndim - 1; d > 0; d--) {
                uint32_t next = size[d].quotient(rest), i = rest - next * size[d].by;
                for (int k = 0; k < N; k++)
                    at[k] += (int64_t)i * stride[k][d];
                rest = next;
            }
            unit = rest;
        } else
            for (int d = ndim - 1; d > 0; d--) {
                int64_t next = unit / wide_size[d], i = unit - next * wide_size[d];
                for (int k = 0; k < N; k++)
                    at[k] += i * stride[k][d];
                unit = next;
            }
        for (int k = 0; k < N; k++)
            at[k] += unit * stride[k][0];
    }
};

/* Dimension d of the views comes before (is slower than) dimension e. */
template <int N> static inline bool ld_slower(const ld_view *const *views, int d, int e) {
    for (int k = 0; k < N; k++)
        if (views[k]->stride[d] != views[k]->stride[e])
            return views[k]->stride[d] > views[k]->stride[e];
    return false;
}

template <int N> static inline ld_space<N> ld_merge(const ld_view *const *views, int64_t *size) {
    ld_space<N> s;
    memset(&s, 0, sizeof s);
    int order[LD_MAX_DIMS], n = 0;
    for (int d = 0; d < views[0]->ndim; d++) {
        if (views[0]->shape[d] == 1)
            continue;
        int i = n++;
        for (; i > 0 && ld_slower<N>(views, d, order[i - 1]); i--)
            order[i] = order[i - 1];
        order[i] = d;
    }
    for (int i = 0; i < n; i++) {
        int d = order[i], last = s.ndim - 1;
        bool joins = last >= 0;
        for (int k = 0; k < N && joins; k++)
            joins = s.stride[k][last] == views[k]->stride[d] * views[k]->shape[d];
        last = joins ? last : s.ndim++;
        size[last] = (joins ? size[last] : 1) * views[0]->shape[d];
        for (int k = 0; k < N; k++)
            s.stride[k][last] = views[k]->stride[d];
    }
    if (s.ndim == 0)
        size[s.ndim++] = 1;
    return s;
}

/* Can groups of v elements be taken along the fastest dimension? */
template <int N>
static inline bool ld_groups(const ld_space<N> &s, const ld_view *const *views, const int64_t *size, int v) {
    int fast = s.ndim - 1;
    bool good = size[fast] >= v && (s.ndim == 1 || size[fast] % v == 0);
    for (int k = 0; k < N && good; k++) {
        bool same = s.stride[k][fast] == 0;
        good = same || (s.stride[k][fast] == 1 &&
                        (uintptr_t)views[k]->data % (ld_dtype_size(views[k]->dtype) * (size_t)v) == 0);
        for (int d = 0; d < fast && good && !same; d++)
            good = s.stride[k][d] % v == 0;
    }
    return good;
}

/* The space of views, in groups of v elements where possible, else of 1. */
template <int N> static inline ld_space<N> ld_space_of(const ld_view *const *views, int v) {
    int64_t size[LD_MAX_DIMS];
    ld_space<N> s = ld_merge<N>(views, size);
    int fast = s.ndim - 1;
    s.vector = v > 1 && ld_groups(s, views, size, v) ? v : 1;
    s.tail = (int)(size[fast] % s.vector);
    size[fast] = (size[fast] + s.vector - 1) / s.vector;
    s.units = 1;
    for (int k = 0; k < N; k++) {
        s.same[k] = s.stride[k][fast] == 0;
        s.stride[k][fast] *= s.vector;
    }
    for (int d = 0; d < s.ndim; d++)
        s.units *= size[d];
    s.small = s.units < ((int64_t)1 << 31);
    for (int d = 0; d < s.ndim; d++) {
        s.wide_size[d] = size[d];
        if (s.small && s.units)
            s.size[d] = ld_divisor_of((uint32_t)size[d]);
    }
    return s;
}

template <int V, typename Op> __global__ void __launch_bounds__(256) k_map(ld_space<Op::N> s, Op op) {
    for (int64_t u = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; u < s.units;
         u += (int64_t)gridDim.x * blockDim.x) {
        int64_t at[Op::N];
        s.locate(u, at);
        if (V == 1 || s.tail == 0 || u + 1 < s.units)
            op.template run<V>(at, s.same);
        else
            for (int i = 0; i < s.tail; i++) {
                op.template run<1>(at, s.same);
                for (int k = 0; k < Op::N; k++)
                    at[k] += !s.same[k];
            }
    }
}

/* op over the views, views[0] being the result; at most V elements at once. */
template <int V, typename Op> static inline int ld_map(const ld_view *const *views, const Op &op) {
    ld_space<Op::N> s = ld_space_of<Op::N>(views, V);
    if (s.units == 0)
        return 0;
    if (s.vector == V)
        return LD_LAUNCH((k_map<V, Op>), ld_blocks(s.units, 256), 256, 0, s, op);
    return LD_LAUNCH((k_map<1, Op>), ld_blocks(s.units, 256), 256, 0, s, op);
}

/* V elements of T in the type arithmetic is done in, and back. */
template <int V, typename T> LD_DEVICE void load_wide(typename ld_wide<T>::type *x, const T *p, bool same) {
    if (V == 1 || same) {
        typename ld_wide<T>::type v = widen(*p);
        for (int i = 0; i < V; i++)
            x[i] = v;
        return;
    }
    pack<T, V> q = load_pack<T, V>(p);
#pragma unroll
    for (int i = 0; i < V; i++)
        x[i] = widen(q.v[i]);
}

template <int V, typename T> LD_DEVICE void store_narrow(T *p, const typename ld_wide<T>::type *x) {
    pack<T, V> q;
#pragma unroll
    for (int i = 0; i < V; i++)
        q.v[i] = narrow<T>(x[i]);
    store_pack<T, V>(p, q);
}

/* Elements of T in 16 bytes. */
template <typename T> struct ld_lanes {
    enum { COUNT = 16 / sizeof(T) };
};

#endif
