/* Layers: parameters, buffers and a forward pass, reference counted.
 *
 * A constructor returns a layer you own (ld_layer_drop when done), initialised as PyTorch does, in training mode, its
 * parameters leaves that require a gradient; NULL after ld_fail (LD_EVALUE for an option out of range, LD_EMEM). `d`
 * NULL stands for the CPU; `t` is f32 or f64. Every option must be set; nothing is guessed from zero. Names of
 * parameters and buffers are PyTorch's. Numbers come from ld_random, one draw a tensor, purpose LD_RNG_INIT: the same
 * on every device. */
#ifndef LD_LAYER_H
#define LD_LAYER_H

#include "op/op.h"

typedef struct ld_layer ld_layer;

typedef struct ld_layer_type {
    const char *name; /* "conv2d", the word users write */
    ld_tensor *(*forward)(ld_layer *l, ld_tensor *x);
    int (*describe)(const ld_layer *l, char *s, size_t n); /* what stands between the brackets; as snprintf */
    bool narrows;                                          /* its f32 input is taken to the precision in force */
} ld_layer_type;

/* ---- options ----------------------------------------------------------------------------------------------------- */

typedef struct ld_conv_options {
    int64_t in, out; /* channels */
    int kernel_h, kernel_w;
    ld_conv_shape shape; /* stride, zero padding per side; `up`: of the input upsampled by 2 (conv2d only) */
    int output_padding;  /* conv_transpose2d only, 0 .. stride - 1 */
    bool bias;
} ld_conv_options;

typedef struct ld_linear_options {
    int64_t in, out;
    bool bias;
} ld_linear_options;

typedef struct ld_norm_options {
    int64_t channels; /* layer_norm: size of the last dimension */
    int groups;       /* group_norm only; divides channels */
    double eps;       /* > 0 */
    double momentum;  /* batch_norm only, 0 .. 1: weight of the new statistics */
    bool affine;      /* with weight and bias */
} ld_norm_options;

typedef struct ld_attention_options {
    int64_t channels;
    int heads;  /* divides channels */
    double eps; /* of the normalisation in front */
} ld_attention_options;

typedef struct ld_embedding_options {
    int64_t num, dim;
} ld_embedding_options;

typedef struct ld_dropout_options {
    double p; /* probability of zero, 0 <= p < 1; may be changed at any time */
} ld_dropout_options;

typedef enum ld_act {
    LD_ACT_IDENTITY,
    LD_ACT_RELU,
    LD_ACT_LEAKY, /* (x > 0 ? x : slope x) - sub: GeneralReLU */
    LD_ACT_SILU,
    LD_ACT_GELU,
    LD_ACT_TANH,
    LD_ACT_SIGMOID,
    LD_ACT_COUNT
} ld_act;
extern const char *const ld_act_names[LD_ACT_COUNT]; /* "identity", "relu", "leaky", ... */

typedef struct ld_activation_options {
    ld_act kind;
    double slope, sub; /* LEAKY only */
} ld_activation_options;

typedef struct ld_avg_pool_options {
    int kernel_h, kernel_w, stride_h, stride_w;
    bool ceil; /* round the output size up */
} ld_avg_pool_options;

typedef struct ld_size_options {
    int64_t h, w;
} ld_size_options;

typedef struct ld_upsample_options {
    int scale;
} ld_upsample_options;

/* ---- the layer --------------------------------------------------------------------------------------------------- */

#define LD_LAYER_PARAMS  6
#define LD_LAYER_BUFFERS 3

typedef struct ld_named_tensor {
    const char *name;
    ld_tensor *x; /* owned by the layer; the header stays the same for the layer's life */
} ld_named_tensor;

struct ld_layer {
    int refs;
    const ld_layer_type *type;
    bool training; /* batch_norm, dropout */
    int n_params, n_buffers;
    ld_named_tensor param[LD_LAYER_PARAMS], buffer[LD_LAYER_BUFFERS];
    union {
        ld_conv_options conv;
        ld_linear_options linear;
        ld_norm_options norm;
        ld_attention_options attention;
        ld_embedding_options embedding;
        ld_dropout_options dropout;
        ld_activation_options activation;
        ld_avg_pool_options avg_pool;
        ld_size_options size;
        ld_upsample_options upsample;
    } opt;
};

/* ---- constructors ------------------------------------------------------------------------------------------------ */

/* x (N,in,H,W). weight (out,in,kh,kw), bias (out): U(-b, b), b = 1/sqrt(in kh kw). */
ld_layer *ld_layer_conv2d(ld_device *d, ld_dtype t, const ld_conv_options *o);
/* weight (in,out,kh,kw), bias (out): U(-b, b), b = 1/sqrt(out kh kw) as PyTorch computes it. */
ld_layer *ld_layer_conv_transpose2d(ld_device *d, ld_dtype t, const ld_conv_options *o);
/* x (...,in). weight (out,in), bias (out): U(-b, b), b = 1/sqrt(in). */
ld_layer *ld_layer_linear(ld_device *d, ld_dtype t, const ld_linear_options *o);
/* x (N,C), (N,C,L) or (N,C,H,W). weight 1, bias 0 (C); buffers running_mean 0, running_var 1 (C), num_batches_tracked
 * () i64. A forward in training mode updates the buffers, gradient wanted or not. */
ld_layer *ld_layer_batch_norm(ld_device *d, ld_dtype t, const ld_norm_options *o);
ld_layer *ld_layer_group_norm(ld_device *d, ld_dtype t, const ld_norm_options *o); /* x (N,C,...) */
ld_layer *ld_layer_layer_norm(ld_device *d, ld_dtype t, const ld_norm_options *o); /* x (...,C) */
/* Self-attention over the positions of x (N,C,H,W), without the residual: layer norm over channels, linear C -> 3C,
 * ld_attention_packed, linear C -> C. norm.weight, norm.bias (C), qkv.weight (3C,C), qkv.bias, proj.weight (C,C),
 * proj.bias; initialised as the layers they belong to. */
ld_layer *ld_layer_attention(ld_device *d, ld_dtype t, const ld_attention_options *o);
/* x i64 of any shape, 0 .. num - 1 -> x.shape + (dim). weight (num,dim): N(0,1). */
ld_layer *ld_layer_embedding(ld_device *d, ld_dtype t, const ld_embedding_options *o);
ld_layer *ld_layer_dropout(const ld_dropout_options *o);
ld_layer *ld_layer_activation(const ld_activation_options *o);
ld_layer *ld_layer_avg_pool2d(const ld_avg_pool_options *o);
ld_layer *ld_layer_adaptive_avg_pool2d(const ld_size_options *o);
ld_layer *ld_layer_upsample(const ld_upsample_options *o); /* nearest */
ld_layer *ld_layer_flatten(void);                          /* (N,...) -> (N,rest); rank 1 and more */

/* ---- use --------------------------------------------------------------------------------------------------------- */

ld_tensor *ld_layer_forward(ld_layer *l, ld_tensor *x); /* a result you own, or NULL */

/* Mixed precision: convolutions, linear and attention layers convert an x of f32 to the precision in force, LD_F32 (the start),
 * LD_BF16 or LD_F16, on devices that compute in it; their weights follow as shadows (ld_tensor_narrow), and what comes behind
 * takes the dtype it gets. set returns the one before. */
ld_dtype ld_layer_precision(void);
ld_dtype ld_layer_set_precision(ld_dtype t);
/* act(norm(x (1 + scale) + shift)) as one operation (ld_norm_fused; gelu, tanh and sigmoid follow as their own). norm is
 * a batch_norm or group_norm, act an activation or NULL (LD_EVALUE); film (N,2C) or NULL. */
ld_tensor *ld_layer_norm_act(ld_layer *norm, ld_layer *act, ld_tensor *x, ld_tensor *film);
bool ld_layer_is_activation(const ld_layer *l);

/* Borrowed. i from 0; NULL (no error set) when there is no i-th. name may be NULL. */
int ld_layer_param_count(const ld_layer *l);
ld_tensor *ld_layer_param(const ld_layer *l, int i, const char **name);
int ld_layer_buffer_count(const ld_layer *l);
ld_tensor *ld_layer_buffer(const ld_layer *l, int i, const char **name);

void ld_layer_train(ld_layer *l, bool training);
void ld_layer_require_grad(ld_layer *l, bool on); /* of every parameter; gradients present stay */

/* Parameters and floating buffers to dtype t (f32 or f64), everything to device d (NULL: where it is). Every
 * ld_tensor keeps its header, which gets new storage, so optimisers and averages that hold it stay valid; gradients
 * are dropped where something changed. All or nothing. */
int ld_layer_to(ld_layer *l, ld_dtype t, ld_device *d);

/* "conv2d(3, 64, kernel 3, stride 1, padding 1)" into s (n bytes, cut to fit); returns s. */
const char *ld_layer_describe(const ld_layer *l, char *s, size_t n);

ld_layer *ld_layer_ref(ld_layer *l); /* returns l */
void ld_layer_drop(ld_layer *l);     /* NULL is fine */

/* ---- initialisers: init.c ---------------------------------------------------------------------------------------- */

/* In place, one draw of ld_random each (zeros: none), leaves that require a gradient included; each counts a version.
 * 0 or an error code. LD_ESTATE for a tensor with history. */
int ld_init_zeros_(ld_tensor *x);
int ld_init_constant_(ld_tensor *x, double value);
int ld_init_uniform_(ld_tensor *x, double lo, double hi);
int ld_init_normal_(ld_tensor *x, double mean, double std);
/* N(0, 2 / ((1 + a^2) fan_in)), a the slope of the leaky ReLU that follows. fan_in 0: the product of all sizes but
 * the first. Source: He et al. 2015, arXiv:1502.01852, eq. 15. */
int ld_init_kaiming_normal_(ld_tensor *x, double a, int64_t fan_in);

#endif
