/* Folded weights of a convolution behind nearest upsampling by 2 (csrc/backend/cpu/conv_fold.c has the formula). For C and
 * C++. */
#ifndef LD_CUDA_CONV_FOLD_H
#define LD_CUDA_CONV_FOLD_H

#include "kernels/slots.h"

#ifdef __cplusplus
extern "C" {
#endif

/* k (C,4,4,O) dense, of w's dtype, from w (O,C,3,3) of any strides. */
int ld_cuda_conv_fold(void *k, const ld_view *w);
/* dw (O,C,3,3) of any strides and any float dtype, from dk (C,4,4,O) dense of dtype t. */
int ld_cuda_conv_unfold(const ld_view *dw, const void *dk, ld_dtype t);

#ifdef __cplusplus
}
#endif

#endif
