/* Folding the values of a warp's lanes, or of a block's threads, into one: in the same order on every run, and with the
 * result in every thread. F is one of the structs below: start() is what does not change a value, of(a, b) folds two.
 * All lanes (all threads) have to call. Proven by tests/sim/test_sim_reduce.c and the kernels that use it. */
#ifndef LD_FOLD_H
#define LD_FOLD_H

#include "kernels/kernel.h"

/* The ends of a type, by which a largest or smallest value starts. */
LD_DEVICE float ld_lowest(float) {
    return -INFINITY;
}
LD_DEVICE double ld_lowest(double) {
    return -(double)INFINITY;
}
LD_DEVICE int64_t ld_lowest(int64_t) {
    return INT64_MIN;
}
LD_DEVICE float ld_highest(float) {
    return INFINITY;
}
LD_DEVICE double ld_highest(double) {
    return (double)INFINITY;
}
LD_DEVICE int64_t ld_highest(int64_t) {
    return INT64_MAX;
}

struct fold_sum {
    template <typename T> static __device__ T start(T) {
        return 0;
    }
    template <typename T> static __device__ T of(T a, T b) {
        return a + b;
    }
};

/* A NaN wins. */
struct fold_max {
    template <typename T> static __device__ T start(T v) {
        return ld_lowest(v);
    }
    template <typename T> static __device__ T of(T a, T b) {
        return b > a || b != b ? b : a;
    }
};

struct fold_min {
    template <typename T> static __device__ T start(T v) {
        return ld_highest(v);
    }
    template <typename T> static __device__ T of(T a, T b) {
        return b < a || b != b ? b : a;
    }
};

/* Over groups of `lanes` neighbours: 32, or a smaller power of two. */
template <typename F, typename T> LD_DEVICE T warp_fold(T v, int lanes = LD_WARP) {
    for (int d = lanes / 2; d > 0; d /= 2)
        v = F::of(v, __shfl_xor_sync(LD_ALL_LANES, v, d));
    return v;
}

/* Over all threads of the block, in the order of threadIdx.x + blockDim.x threadIdx.y; two barriers, and 32 numbers of shared
 * memory for each F and T. */
template <typename F, typename T> LD_DEVICE T block_fold(T v) {
    LD_SHARED(T, part, [LD_WARP]);
    int thread = (int)(threadIdx.x + blockDim.x * threadIdx.y), warps = (int)(blockDim.x * blockDim.y) / LD_WARP;
    v = warp_fold<F>(v);
    if (warps == 1)
        return v;
    __syncthreads(); /* the last call's numbers have been read */
    if (thread % LD_WARP == 0)
        part[thread / LD_WARP] = v;
    __syncthreads();
    v = thread % LD_WARP < warps ? part[thread % LD_WARP] : F::start(v);
    return warp_fold<F>(v);
}

#endif
