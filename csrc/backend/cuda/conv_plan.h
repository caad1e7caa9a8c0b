/* Convolutions of cuDNN 9 by its graph interface: a graph of one convolution (and a bias) is described, the heuristics
 * propose engines for it, and each that supports it becomes a plan. Plans can be made for a card that is not there, from its
 * properties, to be tested. */
#ifndef LD_CUDA_CONV_PLAN_H
#define LD_CUDA_CONV_PLAN_H

#include "backend/backend.h"
#include "backend/cuda/library.h"

typedef enum ld_conv_kind { LD_CONV_FORWARD, LD_CONV_DATA, LD_CONV_WEIGHT } ld_conv_kind;

/* Compared byte for byte, so to be cleared before it is filled. All tensors lie NHWC: x (N,C,H,W), w (K,C,R,S), y (N,K,P,Q),
 * of one dtype, f32, bf16, f16 or f64; sums in f32 (f64 for f64). */
typedef struct ld_conv_spec {
    int kind; /* FORWARD: y = x * w (+ bias); DATA: x from y and w; WEIGHT: w from x and y */
    int dtype, bias;
    int alignment; /* of every address, in bytes: 16 or less */
    int64_t x[4], w[4], y[4];
    int64_t stride[2], before[2], after[2]; /* along rows, along columns; padding above and left, below and right */
} ld_conv_spec;

/* What the slots of a convolution ask for, of logical sizes x (N,C,H,W), w (O,C,R,S), y (N,O,P,Q). With s->up it is the convolution
 * with folded 4x4 weights (C,O,4,4), from the large image to the small one, whose parts have changed places: y takes the place
 * of spec->x, and the kind is another. */
void ld_conv_describe(ld_conv_spec *spec, ld_conv_kind kind, ld_dtype t, const int64_t *x, const int64_t *w,
                      const int64_t *y, bool bias, int alignment, const ld_conv_shape *s);

/* Which card plans are for: that of the handle, or, where the handle is NULL, the one whose properties `card` has. */
typedef struct ld_conv_target {
    const ld_cudnn *cudnn;
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t card;
} ld_conv_target;

typedef struct ld_conv_plan {
    cudnnBackendDescriptor_t plan;
    int64_t workspace; /* bytes */
    int64_t engine;    /* cuDNN's number of it */
} ld_conv_plan;

/* At most `most` plans for s, most promising first, each with at most `workspace_most` bytes of workspace. Only engines that
 * come compiled, give the same result on every run, and compute f32 in f32: no TF32, no Winograd, no FFT. The count, 0 where no engine takes s; -1 after
 * ld_fail. */
int ld_conv_plans(const ld_conv_target *t, const ld_conv_spec *s, int64_t workspace_most, ld_conv_plan *plans,
                  int most);
void ld_conv_plan_drop(const ld_conv_target *t, ld_conv_plan *p);
/* Runs on the handle's stream. bias may be NULL. 0 or an error code. */
int ld_conv_plan_run(const ld_conv_target *t, const ld_conv_plan *p, const void *x, const void *w, const void *bias,
                     const void *y, void *workspace);

/* "forward bf16 2x64x32x32 w128x64x3x3 stride1x1 pad1.1.1.1 bias", for messages and keys: without blanks. */
void ld_conv_spec_text(const ld_conv_spec *s, char *text, size_t n);

/* A card that is not there, from cuDNN's JSON of its properties; NULL after ld_fail. */
cudnnBackendDescriptor_t ld_conv_card(const ld_cudnn *cudnn, const char *json);

#endif
