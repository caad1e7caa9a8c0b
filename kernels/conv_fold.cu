/* Weights of a 3x3 convolution behind nearest upsampling by 2, folded into those of one transposed 4x4 convolution of stride
 * 2, and the gradient back:
 *
 *   along an axis  k = [w2, w1 + w2, w0 + w1, w0],   dw = [dk2 + dk3, dk1 + dk2, dk0 + dk1]
 *
 * Traffic: w read and k written once, 9 and 16 numbers a pair of channels: little beside the convolution. A thread takes one
 * pair, outputs fastest, so that k is read and written in whole lines. Sums are taken in f32 (f64 for f64) and rounded once.
 * Proven by tests/sim/test_sim_conv_fold.c against the sums written out. */
#include "kernels/conv_fold.h"

#include "kernels/kernel.h"

template <typename W> LD_DEVICE void fold_axis(W *o, int os, const W *w, int ws) {
    o[0] = w[2 * ws];
    o[os] = w[ws] + w[2 * ws];
    o[2 * os] = w[0] + w[ws];
    o[3 * os] = w[0];
}

template <typename W> LD_DEVICE void unfold_axis(W *o, int os, const W *k, int ks) {
    o[0] = k[2 * ks] + k[3 * ks];
    o[os] = k[ks] + k[2 * ks];
    o[2 * os] = k[0] + k[ks];
}

struct fold_sizes {
    int64_t no, nc, stride[4]; /* of w: O, C, R, S */
};

template <typename T> __global__ void __launch_bounds__(256) k_conv_fold(T *k, const T *w, fold_sizes z) {
    typedef typename ld_wide<T>::type W;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < z.no * z.nc;
         i += (int64_t)gridDim.x * blockDim.x) {
        int64_t c = i / z.no, o = i - c * z.no;
        W taps[9], half[12], all[16];
        for (int r = 0; r < 9; r++)
            taps[r] = widen(w[o * z.stride[0] + c * z.stride[1] + r / 3 * z.stride[2] + r % 3 * z.stride[3]]);
        for (int s = 0; s < 3; s++)
            fold_axis(half + s, 3, taps + s, 3);
        for (int r = 0; r < 4; r++)
            fold_axis(all + 4 * r, 1, half + 3 * r, 1);
        for (int r = 0; r < 16; r++)
            k[(c * 16 + r) * z.no + o] = narrow<T>(all[r]);
    }
}

template <typename T, typename U>
__global__ void __launch_bounds__(256) k_conv_unfold(U *dw, const T *dk, fold_sizes z) {
    typedef typename ld_wide<T>::type W;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < z.no * z.nc;
         i += (int64_t)gridDim.x * blockDim.x) {
        int64_t c = i / z.no, o = i - c * z.no;
        W all[16], half[12], taps[9];
        for (int r = 0; r < 16; r++)
            all[r] = widen(dk[(c * 16 + r) * z.no + o]);
        for (int s = 0; s < 4; s++)
            unfold_axis(half + s, 4, all + s, 4);
        for (int r = 0; r < 3; r++)
            unfold_axis(taps + 3 * r, 1, half + 4 * r, 1);
        for (int r = 0; r < 9; r++)
            dw[o * z.stride[0] + c * z.stride[1] + r / 3 * z.stride[2] + r % 3 * z.stride[3]] =
                narrow<U>((typename ld_wide<U>::type)taps[r]);
    }
}

static fold_sizes sizes_of(const ld_view *w) {
    return {w->shape[0], w->shape[1], {w->stride[0], w->stride[1], w->stride[2], w->stride[3]}};
}

int ld_cuda_conv_fold(void *k, const ld_view *w) {
    fold_sizes z = sizes_of(w);
    if (z.no * z.nc == 0)
        return 0;
    return ld_each_float(w->dtype, "conv2d", [&](auto zero) -> int {
        typedef decltype(zero) T;
        return LD_LAUNCH(k_conv_fold<T>, ld_blocks(z.no * z.nc, 256), 256, 0, (T *)k, (const T *)w->data, z);
    });
}

int ld_cuda_conv_unfold(const ld_view *dw, const void *dk, ld_dtype t) {
    fold_sizes z = sizes_of(dw);
    if (z.no * z.nc == 0)
        return 0;
    return ld_each_float(t, "conv2d", [&](auto from) -> int {
        typedef decltype(from) T;
        return ld_each_float(dw->dtype, "conv2d", [&](auto to) -> int {
            typedef decltype(to) U;
            return LD_LAUNCH((k_conv_unfold<T, U>), ld_blocks(z.no * z.nc, 256), 256, 0, (U *)dw->data, (const T *)dk,
                             z);
        });
    });
}
