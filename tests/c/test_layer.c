/* Layers: initialisation, names, forward against arithmetic written out here, moves, texts, memory. */
#include "base/error.h"
#include "layer/layer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "leak.h" /* wants cmocka.h before it */

#define near(a, b, eps)                                                                                                \
    do {                                                                                                               \
        double a_ = (a), b_ = (b);                                                                                     \
        if (!(fabs(a_ - b_) <= (eps)))                                                                                 \
            fail_msg("%s is %.17g, not %.17g", #a, a_, b_);                                                            \
    } while (0)

static double at(const ld_tensor *x, int64_t i) {
    ld_tensor *c = ld_tensor_clone(x, "test");
    int64_t offset = i;
    if (x->ndim == 4) { /* logical position i of a tensor that lies NHWC */
        offset = 0;
        for (int d = 3; d >= 0; i /= x->shape[d--])
            offset += i % x->shape[d] * c->stride[d];
    }
    double v = ld_dtype_get(c->dtype, (char *)ld_tensor_data(c) + (size_t)offset * ld_dtype_size(c->dtype));
    ld_tensor_drop(c);
    return v;
}

static ld_tensor *random_tensor(ld_dtype t, int ndim, const int64_t *shape) {
    ld_tensor *x = ld_randn(ld_device_find("cpu"), t, ndim, shape);
    assert_non_null(x);
    return x;
}

static const ld_conv_options conv_3_8 = {
    .in = 3, .out = 8, .kernel_h = 3, .kernel_w = 3, .shape = {1, 1, 1, 1, 1, 1}, .bias = true};
static const ld_attention_options attention_8_2 = {.channels = 8, .heads = 2, .eps = 1e-5};

static void within(const ld_tensor *x, double bound) {
    double largest = 0, sum = 0;
    int64_t n = ld_tensor_numel(x);
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(at(x, i)));
        sum += at(x, i);
    }
    assert_true(largest <= bound);
    if (n >= 100) {
        assert_true(largest > 0.9 * bound);                                     /* misses with probability 0.9^n */
        assert_true(fabs(sum / (double)n) < 5 * bound / sqrt(3.0 * (double)n)); /* five standard errors */
    }
}

static void conv_starts_as_pytorch(void **s) {
    (void)s;
    ld_random = (ld_generator){.seed = 5};
    ld_layer *l = ld_layer_conv2d(NULL, LD_F32, &conv_3_8);
    assert_int_equal(ld_random.draws, 2);
    const char *name = NULL;
    ld_tensor *w = ld_layer_param(l, 0, &name);
    assert_string_equal(name, "weight");
    assert_true(w->requires_grad && !w->node);
    assert_int_equal(w->shape[0], 8);
    assert_int_equal(w->shape[1], 3);
    within(w, 1 / sqrt(27.0));
    within(ld_layer_param(l, 1, &name), 1 / sqrt(27.0));
    assert_string_equal(name, "bias");
    assert_int_equal(ld_layer_param_count(l), 2);
    assert_null(ld_layer_param(l, 2, NULL));
    ld_random = (ld_generator){.seed = 5};
    ld_layer *again = ld_layer_conv2d(NULL, LD_F64, &conv_3_8);
    for (int i = 0; i < 216; i++)
        near(at(w, i), at(ld_layer_param(again, 0, NULL), i), 1e-7);
    ld_layer_drop(l);
    ld_layer_drop(again);

    ld_conv_options o = conv_3_8;
    l = ld_layer_conv_transpose2d(NULL, LD_F32, &o);
    assert_int_equal(ld_layer_param(l, 0, NULL)->shape[0], 3);
    within(ld_layer_param(l, 0, NULL), 1 / sqrt(8 * 9.0));
    ld_layer_drop(l);

    l = ld_layer_linear(NULL, LD_F32, &(ld_linear_options){7, 100, true});
    within(ld_layer_param(l, 0, NULL), 1 / sqrt(7.0));
    within(ld_layer_param(l, 1, NULL), 1 / sqrt(7.0));
    ld_layer_drop(l);

    l = ld_layer_embedding(NULL, LD_F32, &(ld_embedding_options){50, 40});
    ld_tensor *squares = ld_reduce("sumsq", LD_SUMSQ, w = ld_layer_param(l, 0, NULL), NULL, 0, false);
    near(ld_tensor_item(squares) / 2000, 1, 5 * sqrt(2 / 2000.0)); /* five standard errors */
    assert_true(squares->requires_grad);
    ld_tensor_drop(squares);
    ld_layer_drop(l);
}

static void forward_of_conv_and_linear(void **s) {
    (void)s;
    ld_conv_options o = {.in = 2, .out = 1, .kernel_h = 1, .kernel_w = 1, .shape = {1, 1, 0, 0, 0, 0}, .bias = true};
    ld_layer *l = ld_layer_conv2d(NULL, LD_F64, &o);
    ld_tensor *x = random_tensor(LD_F64, 4, (int64_t[]){1, 2, 2, 2});
    ld_tensor *y = ld_layer_forward(l, x), *w = ld_layer_param(l, 0, NULL), *b = ld_layer_param(l, 1, NULL);
    for (int i = 0; i < 4; i++)
        near(at(y, i), at(w, 0) * at(x, i) + at(w, 1) * at(x, 4 + i) + at(b, 0), 1e-12);
    ld_tensor_drop(x);
    ld_tensor_drop(y);
    ld_layer_drop(l);

    ld_layer *no_bias = ld_layer_linear(NULL, LD_F64, &(ld_linear_options){.in = 3, .out = 2});
    assert_int_equal(ld_layer_param_count(no_bias), 1);
    x = random_tensor(LD_F64, 2, (int64_t[]){1, 3});
    y = ld_layer_forward(no_bias, x);
    w = ld_layer_param(no_bias, 0, NULL);
    for (int o2 = 0; o2 < 2; o2++)
        near(at(y, o2), at(w, 3 * o2) * at(x, 0) + at(w, 3 * o2 + 1) * at(x, 1) + at(w, 3 * o2 + 2) * at(x, 2), 1e-12);
    ld_tensor_drop(x);
    ld_tensor_drop(y);
    ld_layer_drop(no_bias);
}

static void batch_norm_keeps_statistics(void **s) {
    (void)s;
    ld_norm_options o = {.channels = 2, .eps = 1e-5, .momentum = 0.25, .affine = true};
    ld_layer *l = ld_layer_batch_norm(NULL, LD_F64, &o);
    ld_tensor *x = random_tensor(LD_F64, 2, (int64_t[]){5, 2});
    const char *name = NULL;
    ld_tensor *mean = ld_layer_buffer(l, 0, &name), *var = ld_layer_buffer(l, 1, NULL),
              *count = ld_layer_buffer(l, 2, NULL);
    assert_string_equal(name, "running_mean");
    assert_int_equal(count->dtype, LD_I64);
    assert_int_equal(count->ndim, 0);
    ld_tensor *y = ld_layer_forward(l, x);
    for (int c = 0; c < 2; c++) {
        double m = 0, v = 0;
        for (int i = 0; i < 5; i++)
            m += at(x, 2 * i + c) / 5;
        for (int i = 0; i < 5; i++)
            v += (at(x, 2 * i + c) - m) * (at(x, 2 * i + c) - m);
        near(at(mean, c), 0.25 * m, 1e-12);
        near(at(var, c), 0.75 + 0.25 * v / 4, 1e-12);
        near(at(y, c), (at(x, c) - m) / sqrt(v / 5 + 1e-5), 1e-12);
    }
    assert_int_equal(ld_tensor_item(count), 1);
    double kept = at(mean, 0);
    ld_layer_train(l, false);
    ld_tensor *z = ld_layer_forward(l, x);
    assert_true(at(mean, 0) == kept);
    assert_int_equal(ld_tensor_item(count), 1);
    near(at(z, 0), (at(x, 0) - at(mean, 0)) / sqrt(at(var, 0) + 1e-5), 1e-12);
    ld_tensor_drop(x);
    ld_tensor_drop(y);
    ld_tensor_drop(z);
    ld_layer_drop(l);
}

/* A norm and an activation as one, and which layers these can be. */
static void norm_and_activation(void **s) {
    (void)s;
    ld_norm_options o = {.channels = 4, .groups = 2, .eps = 1e-5, .momentum = 0.25, .affine = true};
    ld_layer *norm[] = {ld_layer_batch_norm(NULL, LD_F64, &o), ld_layer_group_norm(NULL, LD_F64, &o)};
    ld_layer *flat = ld_layer_flatten();
    ld_tensor *x = random_tensor(LD_F64, 2, (int64_t[]){5, 4}), *none = random_tensor(LD_F64, 2, (int64_t[]){5, 3});
    for (int kind = 0; kind < LD_ACT_COUNT; kind++) {
        ld_activation_options a = {(ld_act)kind, 0.1, 0.4};
        ld_layer *act = ld_layer_activation(&a);
        assert_true(ld_layer_is_activation(act));
        for (int i = 0; i < 2; i++) {
            ld_tensor *y = ld_layer_norm_act(norm[i], act, x, NULL), *v = ld_layer_forward(norm[i], x),
                      *want = ld_layer_forward(act, v);
            for (int e = 0; e < 20; e++)
                near(at(y, e), at(want, e), 1e-12);
            ld_tensor_drop(y);
            ld_tensor_drop(v);
            ld_tensor_drop(want);
            assert_null(ld_layer_norm_act(norm[i], act, none, NULL));
        }
        assert_null(ld_layer_norm_act(act, NULL, x, NULL));
        assert_int_equal(ld_error_code(), LD_EVALUE);
        ld_layer_drop(act);
    }
    assert_int_equal(ld_tensor_item(ld_layer_buffer(norm[0], 2, NULL)), 2 * LD_ACT_COUNT);
    assert_null(ld_layer_norm_act(flat, NULL, x, NULL));
    assert_string_equal(ld_error(), "norm_act: the first layer is flatten; batch_norm or group_norm is needed");
    assert_null(ld_layer_norm_act(norm[1], flat, x, NULL));
    assert_string_equal(ld_error(), "norm_act: the second layer is flatten; an activation is needed");
    assert_false(ld_layer_is_activation(flat));
    ld_tensor_drop(x);
    ld_tensor_drop(none);
    ld_layer_drop(norm[0]);
    ld_layer_drop(norm[1]);
    ld_layer_drop(flat);
}

/* out[o] = b[o] + sum_i w[o,i] in[i] */
static void apply(double *out, int n_out, const double *in, int n_in, const ld_tensor *w, const ld_tensor *b) {
    for (int o = 0; o < n_out; o++) {
        out[o] = at(b, o);
        for (int i = 0; i < n_in; i++)
            out[o] += at(w, o * n_in + i) * in[i];
    }
}

/* Attention as method 4.1 writes it, token by token: 8 channels, 2 heads of width 4, 6 positions. */
static void attention_matches_formula(void **s) {
    (void)s;
    enum { C = 8, D = 4, T = 6 };
    ld_layer *l = ld_layer_attention(NULL, LD_F64, &attention_8_2);
    assert_int_equal(ld_init_normal_(ld_layer_param(l, 0, NULL), 1, 0.3), 0);
    assert_int_equal(ld_init_normal_(ld_layer_param(l, 1, NULL), 0, 0.3), 0);
    ld_tensor *x = random_tensor(LD_F64, 4, (int64_t[]){2, C, 2, 3}), *p[6];
    for (int i = 0; i < 6; i++)
        p[i] = ld_layer_param(l, i, NULL);
    ld_tensor *y = ld_layer_forward(l, x);
    assert_true(ld_tensor_same_shape(x, y));
    double qkv[T][3 * C];
    for (int t = 0; t < T; t++) {
        double v[C], m = 0, q = 0;
        for (int c = 0; c < C; c++)
            m += (v[c] = at(x, (C + c) * T + t)) / C; /* sample 1 */
        for (int c = 0; c < C; c++)
            q += (v[c] - m) * (v[c] - m) / C;
        for (int c = 0; c < C; c++)
            v[c] = (v[c] - m) / sqrt(q + 1e-5) * at(p[0], c) + at(p[1], c);
        apply(qkv[t], 3 * C, v, C, p[2], p[3]);
    }
    for (int t = 0; t < T; t++) {
        double heads[C] = {0}, out[C];
        for (int j = 0; j < 2; j++) {
            double e[T], sum = 0;
            for (int k = 0; k < T; k++) {
                double dot = 0;
                for (int d = 0; d < D; d++)
                    dot += qkv[t][3 * D * j + d] * qkv[k][3 * D * j + D + d];
                sum += e[k] = exp(dot / 2);
            }
            for (int k = 0; k < T; k++)
                for (int d = 0; d < D; d++)
                    heads[D * j + d] += e[k] / sum * qkv[k][3 * D * j + 2 * D + d];
        }
        apply(out, C, heads, C, p[4], p[5]);
        for (int c = 0; c < C; c++)
            near(at(y, (C + c) * T + t), out[c], 1e-12);
    }
    ld_tensor *sum = ld_reduce("sum", LD_SUMSQ, y, NULL, 0, false);
    assert_int_equal(ld_backward(sum, NULL, false), 0);
    for (int i = 0; i < 6; i++)
        assert_non_null(p[i]->grad);
    ld_tensor_drop(sum);
    ld_tensor_drop(x);
    ld_tensor_drop(y);
    ld_layer_drop(l);
}

static void small_layers(void **s) {
    (void)s;
    ld_tensor *x = random_tensor(LD_F64, 4, (int64_t[]){2, 3, 4, 4});
    ld_layer *l = ld_layer_activation(&(ld_activation_options){LD_ACT_LEAKY, 0.1, 0.4});
    ld_tensor *y = ld_layer_forward(l, x);
    for (int i = 0; i < 96; i++)
        near(at(y, i), (at(x, i) > 0 ? at(x, i) : 0.1 * at(x, i)) - 0.4, 1e-12);
    ld_tensor_drop(y);
    ld_layer_drop(l);

    l = ld_layer_activation(&(ld_activation_options){.kind = LD_ACT_SILU});
    y = ld_layer_forward(l, x);
    near(at(y, 7), at(x, 7) / (1 + exp(-at(x, 7))), 1e-12);
    ld_tensor_drop(y);
    ld_layer_drop(l);

    l = ld_layer_flatten();
    y = ld_layer_forward(l, x);
    assert_int_equal(y->ndim, 2);
    assert_int_equal(y->shape[1], 48);
    assert_true(at(y, 50) == at(x, 50)); /* channels before positions, whatever the memory */
    ld_tensor_drop(y);
    ld_layer_drop(l);

    l = ld_layer_dropout(&(ld_dropout_options){0.5});
    y = ld_layer_forward(l, x);
    int zeros = 0;
    for (int i = 0; i < 96; i++)
        zeros += at(y, i) == 0;
    assert_in_range(zeros, 20, 76); /* 48 +- 5.7 standard deviations */
    ld_tensor_drop(y);
    ld_layer_train(l, false);
    y = ld_layer_forward(l, x);
    assert_ptr_equal(y, x);
    ld_tensor_drop(y);
    ld_layer_drop(l);

    l = ld_layer_embedding(NULL, LD_F64, &(ld_embedding_options){5, 3});
    ld_tensor *i = ld_tensor_full(ld_device_find("cpu"), LD_I64, 1, (int64_t[]){2}, 4, "test");
    y = ld_layer_forward(l, i);
    assert_true(at(y, 4) == at(ld_layer_param(l, 0, NULL), 13));
    ld_tensor_drop(i);
    ld_tensor_drop(y);
    ld_layer_drop(l);
    ld_tensor_drop(x);
}

static void initialisers(void **s) {
    (void)s;
    ld_layer *l = ld_layer_conv2d(NULL, LD_F32, &(ld_conv_options){32, 64, 3, 3, {1, 1, 1, 1, 1, 1, false}, 0, true});
    ld_tensor *w = ld_layer_param(l, 0, NULL);
    uint32_t version = w->storage->version;
    assert_int_equal(ld_init_kaiming_normal_(w, 0.1, 0), 0);
    assert_true(w->storage->version > version);
    double sum = 0, squares = 0, n = 32 * 64 * 9;
    ld_tensor *sq = ld_reduce("sumsq", LD_SUMSQ, w, NULL, 0, false),
              *total = ld_reduce("sum", LD_SUM, w, NULL, 0, false);
    sum = ld_tensor_item(total);
    squares = ld_tensor_item(sq);
    double std = sqrt(2 / (1.01 * 288));
    near(sqrt(squares / n) / std, 1, 5 / sqrt(2 * n)); /* five standard errors */
    near(sum / n, 0, 5 * std / sqrt(n));
    assert_int_equal(ld_init_zeros_(w), 0);
    assert_true(at(w, 1000) == 0);
    assert_int_equal(ld_init_uniform_(total, 0, 1), LD_ESTATE);
    assert_int_equal(ld_init_uniform_(w, 1, 0), LD_EVALUE);
    ld_tensor_drop(sq);
    ld_tensor_drop(total);
    ld_layer_drop(l);
}

static void moves_keep_headers(void **s) {
    (void)s;
    ld_norm_options o = {.channels = 3, .eps = 1e-5, .momentum = 0.1, .affine = true};
    ld_layer *l = ld_layer_batch_norm(NULL, LD_F32, &o);
    ld_tensor *w = ld_tensor_ref(ld_layer_param(l, 0, NULL)), *x = random_tensor(LD_F32, 2, (int64_t[]){4, 3});
    assert_int_equal(ld_init_normal_(w, 0, 1), 0);
    double v = at(w, 2);
    ld_tensor *y = ld_layer_forward(l, x), *sum = ld_reduce("sum", LD_SUMSQ, y, NULL, 0, false);
    assert_int_equal(ld_backward(sum, NULL, false), 0);
    assert_int_equal(ld_layer_to(l, LD_F32, NULL), 0);
    assert_non_null(w->grad); /* nothing changed */
    assert_int_equal(ld_layer_to(l, LD_F64, NULL), 0);
    assert_ptr_equal(ld_layer_param(l, 0, NULL), w);
    assert_int_equal(w->dtype, LD_F64);
    assert_true(w->requires_grad && !w->grad && at(w, 2) == v);
    assert_int_equal(ld_layer_buffer(l, 1, NULL)->dtype, LD_F64);
    assert_int_equal(ld_layer_buffer(l, 2, NULL)->dtype, LD_I64);
    assert_int_equal(ld_layer_to(l, LD_I64, NULL), LD_EDTYPE);
    ld_layer_require_grad(l, false);
    assert_false(w->requires_grad);
    ld_tensor_drop(sum);
    ld_tensor_drop(y);
    ld_tensor_drop(x);
    ld_layer_drop(l);
    assert_true(at(w, 2) == v); /* the caller's reference */
    ld_tensor_drop(w);
}

static void says(ld_layer *l, const char *text) {
    char s[256];
    assert_non_null(l);
    assert_string_equal(ld_layer_describe(l, s, sizeof s), text);
    ld_layer_drop(l);
}

static void descriptions(void **s) {
    (void)s;
    ld_conv_options o = {.in = 3, .out = 64, .kernel_h = 3, .kernel_w = 3, .shape = {1, 1, 1, 1, 1, 1}, .bias = true};
    says(ld_layer_conv2d(NULL, LD_F32, &o), "conv2d(3, 64, kernel 3, stride 1, padding 1)");
    o = (ld_conv_options){3, 4, 3, 1, {2, 2, 0, 1, 0, 1, false}, 0, false};
    says(ld_layer_conv2d(NULL, LD_F32, &o),
         "conv2d(3, 4, kernel 3 x 1, stride 2, padding top 0 bottom 1 left 0 right 1, no bias)");
    o = (ld_conv_options){3, 4, 2, 2, {2, 2, 0, 0, 0, 0, false}, 1, true};
    says(ld_layer_conv_transpose2d(NULL, LD_F32, &o),
         "conv_transpose2d(3, 4, kernel 2, stride 2, padding 0, output_padding 1)");
    says(ld_layer_linear(NULL, LD_F32, &(ld_linear_options){2, 3, false}), "linear(2, 3, no bias)");
    ld_norm_options n = {.channels = 8, .groups = 4, .eps = 1e-6, .momentum = 0.1, .affine = true};
    says(ld_layer_batch_norm(NULL, LD_F32, &n), "batch_norm(8, eps 1e-06, momentum 0.1)");
    says(ld_layer_group_norm(NULL, LD_F32, &n), "group_norm(4, 8, eps 1e-06)");
    n.affine = false;
    says(ld_layer_layer_norm(NULL, LD_F32, &n), "layer_norm(8, eps 1e-06, no weight and bias)");
    says(ld_layer_attention(NULL, LD_F32, &attention_8_2), "attention(8, heads 2, width 4)");
    says(ld_layer_activation(&(ld_activation_options){LD_ACT_LEAKY, 0.1, 0.4}), "leaky(slope 0.1, sub 0.4)");
    says(ld_layer_activation(&(ld_activation_options){.kind = LD_ACT_GELU}), "gelu()");
    says(ld_layer_avg_pool2d(&(ld_avg_pool_options){2, 2, 2, 2, true}), "avg_pool2d(kernel 2 x 2, stride 2 x 2, ceil)");
    says(ld_layer_upsample(&(ld_upsample_options){2}), "upsample(scale 2)");
    says(ld_layer_adaptive_avg_pool2d(&(ld_size_options){1, 1}), "adaptive_avg_pool2d(1 x 1)");
    says(ld_layer_flatten(), "flatten()");
    char cut[8];
    ld_layer *l = ld_layer_flatten();
    assert_string_equal(ld_layer_describe(l, cut, sizeof cut), "flatten");
    ld_layer_drop(l);
}

static void errors(void **s) {
    (void)s;
    ld_norm_options n = {.channels = 10, .groups = 4, .eps = 1e-6};
    assert_null(ld_layer_group_norm(NULL, LD_F32, &n));
    assert_string_equal(ld_error(), "group_norm: 4 groups do not divide 10 channels");
    assert_null(ld_layer_attention(NULL, LD_F32, &(ld_attention_options){10, 4, 1e-5}));
    assert_null(ld_layer_linear(NULL, LD_BF16, &(ld_linear_options){2, 3, true}));
    assert_int_equal(ld_error_code(), LD_EDTYPE);
    assert_null(ld_layer_dropout(&(ld_dropout_options){1}));
    ld_conv_options o = conv_3_8;
    o.output_padding = 1;
    assert_null(ld_layer_conv2d(NULL, LD_F32, &o));
    assert_string_equal(ld_error(), "conv2d: output_padding 1; it must be 0 .. 0");
    ld_layer *l = ld_layer_attention(NULL, LD_F32, &attention_8_2);
    ld_tensor *x = random_tensor(LD_F32, 4, (int64_t[]){1, 4, 2, 2});
    assert_null(ld_layer_forward(l, x));
    assert_string_equal(ld_error(), "attention: x must be (N,8,H,W); it is (1,4,2,2) f32 cpu");
    ld_tensor_drop(x);
    ld_layer_drop(l);
}

/* Every allocation of a constructor, a forward and a move made to fail in turn: an error, and nothing left behind. */
static void shortage_leaves_nothing(void **s) {
    (void)s;
    int64_t before = ld_tensor_count();
    ld_pool *pool = ld_device_find("cpu")->pool;
    ld_tensor *x = random_tensor(LD_F32, 4, (int64_t[]){2, 8, 2, 2});
    bool done = false;
    for (int k = 1; !done; k++) {
        assert_true(k < 200);
        ld_pool_fail_at(pool, k);
        ld_layer *l = ld_layer_attention(NULL, LD_F32, &attention_8_2);
        ld_tensor *y = l ? ld_layer_forward(l, x) : NULL;
        done = y && !ld_layer_to(l, LD_F64, NULL);
        ld_pool_fail_at(pool, 0);
        if (!done)
            assert_int_equal(ld_error_code(), LD_EMEM);
        if (y && !done)
            assert_int_equal(ld_layer_param(l, 0, NULL)->dtype, LD_F32); /* all or nothing */
        ld_tensor_drop(y);
        ld_layer_drop(l);
        assert_int_equal(ld_tensor_count(), before + 1);
    }
    ld_tensor_drop(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        LEAK_TEST(conv_starts_as_pytorch),
        LEAK_TEST(forward_of_conv_and_linear),
        LEAK_TEST(batch_norm_keeps_statistics),
        LEAK_TEST(norm_and_activation),
        LEAK_TEST(attention_matches_formula),
        LEAK_TEST(small_layers),
        LEAK_TEST(initialisers),
        LEAK_TEST(moves_keep_headers),
        LEAK_TEST(descriptions),
        LEAK_TEST(errors),
        LEAK_TEST(shortage_leaves_nothing),
    };
    return cmocka_run_group_tests_name("layer", tests, NULL, NULL);
}
