/* Every differentiable operation as a function of up to four f64 inputs, in tables: for tests that go through all of them. */
#ifndef LD_TEST_OP_CASES_H
#define LD_TEST_OP_CASES_H

#include "ops.h"

typedef struct op_case {
    const char *name;
    ld_tensor *(*f)(ld_tensor *const *x);
    struct {
        int ndim;
        int64_t shape[5];
        int flag;
    } in[4];       /* ends at the first without a flag */
    unsigned kept; /* bit i: the tape keeps input i when all require gradients */
} op_case;

enum { ANY = 1, POSITIVE }; /* kinds of input */

#define F(name, expression)                                                                                            \
    static ld_tensor *name(ld_tensor *const *x) {                                                                      \
        return expression;                                                                                             \
    }
#define S(...)                                                                                                         \
    (int64_t[]) {                                                                                                      \
        __VA_ARGS__                                                                                                    \
    }
#define D(...)                                                                                                         \
    (int[]) {                                                                                                          \
        __VA_ARGS__                                                                                                    \
    }

/* ---- elementwise ----------------------------------------------------------------------------------------------------- */

#define UNARY(name, op, a, b) F(name, ld_unary(#name, op, x[0], a, b))
UNARY(neg, LD_NEG, 0, 0)
UNARY(absolute, LD_ABS, 0, 0)
UNARY(exponential, LD_EXP, 0, 0)
UNARY(logarithm, LD_LOG, 0, 0)
UNARY(root, LD_SQRT, 0, 0)
UNARY(rsqrt, LD_RSQRT, 0, 0)
UNARY(square, LD_SQUARE, 0, 0)
UNARY(reciprocal, LD_RECIPROCAL, 0, 0)
UNARY(sine, LD_SIN, 0, 0)
UNARY(cosine, LD_COS, 0, 0)
UNARY(tangent, LD_TAN, 0, 0)
UNARY(hyperbolic, LD_TANH, 0, 0)
UNARY(sigmoid, LD_SIGMOID, 0, 0)
UNARY(silu, LD_SILU, 0, 0)
UNARY(gelu, LD_GELU, 0, 0)
UNARY(relu, LD_RELU, 0, 0)
UNARY(leaky, LD_LEAKY, 0.1, 0.4)
UNARY(clamp, LD_CLAMP, -0.7, 0.9)
UNARY(power_of, LD_POW, 2.3, 0)
UNARY(affine, LD_AFFINE, -1.7, 0.3)
UNARY(lowered, LD_FLOOR, 0, 0)
UNARY(rounded, LD_ROUND, 0, 0)
UNARY(sign, LD_SIGN, 0, 0)

#define BINARY(name, op) F(name, ld_binary(#name, op, x[0], x[1]))
BINARY(add, LD_ADD)
BINARY(sub, LD_SUB)
BINARY(mul, LD_MUL)
BINARY(divide, LD_DIV)
BINARY(maximum, LD_MAXIMUM)
BINARY(minimum, LD_MINIMUM)
BINARY(power, LD_POWER)
F(add_number, ld_binary_number("add", LD_ADD, x[0], 0.7, false))
F(number_sub, ld_binary_number("sub", LD_SUB, x[0], 0.7, true))
F(div_number, ld_binary_number("div", LD_DIV, x[0], 0.7, false))
F(number_div, ld_binary_number("div", LD_DIV, x[0], 0.7, true))
F(number_power, ld_binary_number("pow", LD_POWER, x[0], 0.7, true))
F(clone, ld_clone(x[0]))

static ld_tensor *selected(ld_tensor *const *x) {
    ld_tensor *c = ld_binary("gt", LD_GT, x[0], x[2]);
    ld_tensor *y = c ? ld_where_select(c, x[0], x[1]) : NULL;
    ld_tensor_drop(c);
    return y;
}

static const op_case elementwise[] = {
    {"neg", neg, {{2, {3, 5}, ANY}}, 0},
    {"abs", absolute, {{2, {3, 5}, ANY}}, 1},
    {"exp", exponential, {{4, {2, 3, 2, 2}, ANY}}, 0},
    {"log", logarithm, {{2, {3, 5}, POSITIVE}}, 1},
    {"sqrt", root, {{2, {3, 5}, POSITIVE}}, 0},
    {"rsqrt", rsqrt, {{2, {3, 5}, POSITIVE}}, 0},
    {"square", square, {{2, {3, 5}, ANY}}, 1},
    {"reciprocal", reciprocal, {{2, {3, 5}, ANY}}, 0},
    {"sin", sine, {{2, {3, 5}, ANY}}, 1},
    {"cos", cosine, {{2, {3, 5}, ANY}}, 1},
    {"tan", tangent, {{1, {7}, ANY}}, 0},
    {"tanh", hyperbolic, {{2, {3, 5}, ANY}}, 0},
    {"sigmoid", sigmoid, {{2, {3, 5}, ANY}}, 0},
    {"silu", silu, {{4, {2, 3, 2, 3}, ANY}}, 1},
    {"gelu", gelu, {{2, {3, 5}, ANY}}, 1},
    {"relu", relu, {{2, {3, 5}, ANY}}, 1},
    {"leaky", leaky, {{2, {3, 5}, ANY}}, 1},
    {"clamp", clamp, {{2, {3, 7}, ANY}}, 1},
    {"pow a number", power_of, {{2, {3, 5}, POSITIVE}}, 1},
    {"affine", affine, {{2, {3, 5}, ANY}}, 0},
    {"floor", lowered, {{2, {3, 5}, ANY}}, 0},
    {"round", rounded, {{2, {3, 5}, ANY}}, 0},
    {"sign", sign, {{2, {3, 5}, ANY}}, 0},
    {"add", add, {{2, {3, 5}, ANY}, {2, {3, 5}, ANY}}, 0},
    {"add row", add, {{3, {2, 3, 5}, ANY}, {1, {5}, ANY}}, 0},
    {"sub", sub, {{2, {3, 1}, ANY}, {2, {1, 5}, ANY}}, 0},
    {"mul", mul, {{4, {2, 3, 2, 3}, ANY}, {4, {1, 3, 1, 1}, ANY}}, 3},
    {"div", divide, {{2, {1, 5}, ANY}, {2, {3, 1}, ANY}}, 3},
    {"maximum", maximum, {{2, {3, 5}, ANY}, {1, {5}, ANY}}, 3},
    {"minimum", minimum, {{2, {3, 1}, ANY}, {2, {3, 5}, ANY}}, 3},
    {"power", power, {{2, {3, 1}, POSITIVE}, {2, {3, 5}, ANY}}, 3},
    {"x + number", add_number, {{2, {3, 5}, ANY}}, 0},
    {"number - x", number_sub, {{2, {3, 5}, ANY}}, 0},
    {"x / number", div_number, {{2, {3, 5}, ANY}}, 0},
    {"number / x", number_div, {{2, {3, 5}, ANY}}, 1},
    {"number ^ x", number_power, {{2, {3, 5}, ANY}}, 1},
    {"where", selected, {{2, {3, 1}, ANY}, {3, {2, 1, 5}, ANY}, {2, {3, 5}, ANY}}, 0},
    {"clone", clone, {{3, {2, 3, 2}, ANY}}, 0},
};

/* ---- reductions ------------------------------------------------------------------------------------------------------ */

#define REDUCE(name, op, dims, n, keep) F(name, ld_reduce(#name, op, x[0], dims, n, keep))
REDUCE(sum_all, LD_SUM, NULL, 0, false)
REDUCE(sum_middle, LD_SUM, D(1), 1, false)
REDUCE(sum_keep, LD_SUM, D(-1, 0), 2, true)
REDUCE(mean_all, LD_MEAN, NULL, 0, true)
REDUCE(mean_space, LD_MEAN, D(2, 3), 2, false)
REDUCE(mean_rows, LD_MEAN, D(0), 1, false)
REDUCE(sumsq_all, LD_SUMSQ, NULL, 0, false)
REDUCE(sumsq_one, LD_SUMSQ, D(2), 1, true)
REDUCE(max_all, LD_MAX, NULL, 0, false)
REDUCE(max_channels, LD_MAX, D(1), 1, false)
REDUCE(max_two, LD_MAX, D(0, 2), 2, true)
REDUCE(min_last, LD_MIN, D(-1), 1, false)

static const op_case reductions[] = {
    {"sum", sum_all, {{3, {2, 3, 5}, ANY}}, 0},
    {"sum of nothing else", sum_all, {{0, {0}, ANY}}, 0},
    {"sum over 1", sum_middle, {{3, {2, 3, 5}, ANY}}, 0},
    {"sum over -1, 0", sum_keep, {{4, {2, 3, 4, 5}, ANY}}, 0},
    {"mean", mean_all, {{2, {3, 5}, ANY}}, 0},
    {"mean of images", mean_space, {{4, {2, 3, 4, 5}, ANY}}, 0},
    {"mean of rows", mean_rows, {{5, {2, 3, 2, 2, 3}, ANY}}, 0},
    {"sumsq", sumsq_all, {{2, {3, 5}, ANY}}, 1},
    {"sumsq over 2", sumsq_one, {{4, {2, 3, 4, 5}, ANY}}, 1},
    {"max", max_all, {{4, {2, 3, 2, 3}, ANY}}, 1},
    {"max over 1", max_channels, {{4, {2, 3, 2, 3}, ANY}}, 1},
    {"max over 0, 2", max_two, {{3, {3, 2, 5}, ANY}}, 1},
    {"min over -1", min_last, {{3, {2, 3, 5}, ANY}}, 1},
};

/* ---- shapes ---------------------------------------------------------------------------------------------------------- */

F(reshaped, ld_reshape(x[0], 2, S(5, -1)))
F(flattened, ld_reshape(x[0], 2, S(2, -1)))
F(permuted, ld_permute(x[0], D(2, 0, -2)))
F(expanded, ld_expand(x[0], 4, S(2, 3, -1, 5)))
F(sliced, ld_slice(x[0], 1, 1, 3, 2))
F(sliced_empty, ld_slice(x[0], 1, 2, 0, 1))
F(picked, ld_select(x[0], -1, 2))
F(joined, ld_concat(x, 3, 1))
F(stacked, ld_stack(x, 2, 1))
F(stacked_last, ld_stack(x, 2, -1))
F(padded, ld_pad(x[0], S(0, 1, 2), S(1, 0, 3), 0.5))
F(flipped, ld_flip(x[0], 1))

static ld_tensor *contiguous(ld_tensor *const *x) { /* x itself in some layouts, so something comes after it */
    ld_tensor *y = ld_contiguous(x[0]), *z = y ? ld_unary("neg", LD_NEG, y, 0, 0) : NULL;
    ld_tensor_drop(y);
    return z;
}

static ld_tensor *rows(ld_tensor *const *x) {
    ld_tensor *idx = ld_tensor_new(cpu(), LD_I64, 2, S(2, 4), "test");
    for (int i = 0; idx && i < 8; i++)
        ((int64_t *)ld_tensor_data(idx))[i] = (i * i + 1) % 3; /* repeats: 1 2 2 1 2 2 1 2 */
    ld_tensor *y = idx ? ld_gather(x[0], idx) : NULL;
    ld_tensor_drop(idx);
    return y;
}

static ld_tensor *through_views(ld_tensor *const *x) { /* view of view of view, then arithmetic with the whole */
    ld_tensor *a = ld_permute(x[0], D(1, 0, 2)), *b = a ? ld_slice(a, 0, 1, 2, 1) : NULL;
    ld_tensor *c = b ? ld_reshape(b, 2, S(2, -1)) : NULL, *d = c ? ld_select(c, 0, 1) : NULL;
    ld_tensor *e = d ? ld_reshape(d, 3, S(2, 1, 2)) : NULL, *y = e ? ld_binary("mul", LD_MUL, x[0], e) : NULL;
    ld_tensor *all[] = {a, b, c, d, e};
    for (int i = 0; i < 5; i++)
        ld_tensor_drop(all[i]);
    return y;
}

static const op_case shapes[] = {
    {"reshape", reshaped, {{3, {2, 3, 5}, ANY}}, 0},
    {"reshape of images", flattened, {{4, {2, 3, 2, 5}, ANY}}, 0},
    {"permute", permuted, {{3, {2, 3, 5}, ANY}}, 0},
    {"expand", expanded, {{3, {3, 2, 1}, ANY}}, 0},
    {"slice", sliced, {{3, {2, 7, 3}, ANY}}, 0},
    {"slice of nothing", sliced_empty, {{2, {2, 3}, ANY}}, 0},
    {"select", picked, {{4, {2, 3, 2, 4}, ANY}}, 0},
    {"concat", joined, {{4, {2, 1, 2, 3}, ANY}, {4, {2, 3, 2, 3}, ANY}, {4, {2, 2, 2, 3}, ANY}}, 0},
    {"stack", stacked, {{3, {2, 3, 2}, ANY}, {3, {2, 3, 2}, ANY}}, 0},
    {"stack last", stacked_last, {{1, {5}, ANY}, {1, {5}, ANY}}, 0},
    {"pad", padded, {{3, {2, 3, 2}, ANY}}, 0},
    {"flip", flipped, {{4, {2, 3, 2, 2}, ANY}}, 0},
    {"contiguous", contiguous, {{3, {2, 3, 4}, ANY}}, 0},
    {"gather rows of images", rows, {{4, {3, 2, 2, 3}, ANY}}, 0},
    {"gather", rows, {{2, {3, 4}, ANY}}, 0},
    {"views of views", through_views, {{3, {2, 3, 2}, ANY}}, 1},
};

/* ---- products, convolution ------------------------------------------------------------------------------------------- */

F(matmul, ld_matmul(x[0], x[1]))
F(linear, ld_linear(x[0], x[1], x[2]))
F(linear_plain, ld_linear(x[0], x[1], NULL))

static const ld_conv_shape same = {1, 1, 1, 1, 1, 1, false}, uneven = {2, 3, 0, 2, 1, 0, false},
                           none = {1, 1, 0, 0, 0, 0, false};
static const ld_conv_shape doubling = {2, 2, 1, 1, 1, 1, false}, wide = {3, 2, 0, 1, 1, 0, false};
F(conv_same, ld_conv2d(x[0], x[1], x[2], &same))
F(conv_uneven, ld_conv2d(x[0], x[1], x[2], &uneven))
F(conv_plain, ld_conv2d(x[0], x[1], NULL, &none))
F(conv_back, ld_conv_transpose2d(x[0], x[1], x[2], &doubling, 1))
F(conv_back_uneven, ld_conv_transpose2d(x[0], x[1], x[2], &wide, 1))
F(conv_back_plain, ld_conv_transpose2d(x[0], x[1], NULL, &none, 0))

static const op_case products[] = {
    {"matmul", matmul, {{2, {3, 4}, ANY}, {2, {4, 5}, ANY}}, 3},
    {"matmul of batches", matmul, {{3, {2, 3, 4}, ANY}, {3, {2, 4, 5}, ANY}}, 3},
    {"matmul broadcast", matmul, {{4, {2, 1, 3, 4}, ANY}, {3, {3, 4, 2}, ANY}}, 3},
    {"matmul one for all", matmul, {{2, {3, 4}, ANY}, {4, {2, 2, 4, 3}, ANY}}, 3},
    {"matmul vector matrix", matmul, {{1, {4}, ANY}, {3, {2, 4, 3}, ANY}}, 3},
    {"matmul matrix vector", matmul, {{3, {2, 3, 4}, ANY}, {1, {4}, ANY}}, 3},
    {"matmul of vectors", matmul, {{1, {4}, ANY}, {1, {4}, ANY}}, 3},
    {"linear", linear, {{3, {2, 3, 4}, ANY}, {2, {5, 4}, ANY}, {1, {5}, ANY}}, 3},
    {"linear of a vector", linear, {{1, {4}, ANY}, {2, {5, 4}, ANY}, {1, {5}, ANY}}, 3},
    {"linear without bias", linear_plain, {{4, {2, 3, 2, 4}, ANY}, {2, {5, 4}, ANY}}, 3},
    {"conv2d", conv_same, {{4, {2, 3, 4, 5}, ANY}, {4, {2, 3, 3, 3}, ANY}, {1, {2}, ANY}}, 3},
    {"conv2d uneven", conv_uneven, {{4, {2, 3, 5, 7}, ANY}, {4, {2, 3, 3, 2}, ANY}, {1, {2}, ANY}}, 3},
    {"conv2d without bias", conv_plain, {{4, {1, 2, 3, 4}, ANY}, {4, {3, 2, 1, 1}, ANY}}, 3},
    {"conv_transpose2d", conv_back, {{4, {2, 3, 3, 2}, ANY}, {4, {3, 2, 3, 3}, ANY}, {1, {2}, ANY}}, 3},
    {"conv_transpose2d uneven", conv_back_uneven, {{4, {1, 2, 2, 3}, ANY}, {4, {2, 3, 2, 3}, ANY}, {1, {3}, ANY}}, 3},
    {"conv_transpose2d without bias", conv_back_plain, {{4, {1, 2, 2, 3}, ANY}, {4, {2, 3, 2, 2}, ANY}}, 3},
};

/* ---- norms, attention ------------------------------------------------------------------------------------------------ */

/* Statistics for eval mode, and to be updated in training. */
static ld_tensor *batch_normed(ld_tensor *x, ld_tensor *w, ld_tensor *b, bool training) {
    int64_t c = x->shape[1];
    ld_tensor *mean = ld_tensor_full(cpu(), LD_F64, 1, &c, 0.3, "test");
    ld_tensor *var = mean ? ld_tensor_full(cpu(), LD_F64, 1, &c, 1.7, "test") : NULL;
    ld_tensor *y = var ? ld_batch_norm(x, w, b, mean, var, training, 0.1, 1e-5) : NULL;
    ld_tensor_drop(mean);
    ld_tensor_drop(var);
    return y;
}
F(batch_norm, batch_normed(x[0], x[1], x[2], true))
F(batch_norm_plain, ld_batch_norm(x[0], NULL, NULL, NULL, NULL, true, 0.1, 1e-5))
F(batch_norm_eval, batch_normed(x[0], x[1], x[2], false))
F(batch_norm_eval_plain, batch_normed(x[0], NULL, NULL, false))
F(group_norm, ld_group_norm(x[0], x[1], x[2], 2, 1e-5))
F(group_norm_plain, ld_group_norm(x[0], NULL, NULL, 3, 1e-5))
F(group_norm_weight, ld_group_norm(x[0], x[1], NULL, 1, 1e-5))
static ld_tensor *batch_fused(ld_tensor *const *x, bool film, ld_norm_act act) {
    ld_norm_fused f = {film ? x[3] : NULL, act, 0.1, 0.4};
    return ld_batch_norm_fused(x[0], x[1], x[2], NULL, NULL, true, 0.1, 1e-2, &f);
}
static ld_tensor *group_fused(ld_tensor *const *x, bool film, ld_norm_act act) {
    ld_norm_fused f = {film ? x[3] : NULL, act, 0.1, 0.4};
    return ld_group_norm_fused(x[0], x[1], x[2], 2, 1e-2, &f);
}
F(batch_norm_silu, batch_fused(x, false, LD_NORM_SILU))
F(batch_norm_leaky, batch_fused(x, false, LD_NORM_LEAKY))
F(batch_norm_film, batch_fused(x, true, LD_NORM_PLAIN))
F(batch_norm_film_silu, batch_fused(x, true, LD_NORM_SILU))
F(group_norm_relu, group_fused(x, false, LD_NORM_RELU))
F(group_norm_film, group_fused(x, true, LD_NORM_PLAIN))
F(group_norm_film_silu, group_fused(x, true, LD_NORM_SILU))
F(layer_norm, ld_layer_norm(x[0], x[1], x[2], 1e-5))
F(layer_norm_plain, ld_layer_norm(x[0], NULL, NULL, 1e-5))
F(softmax_last, ld_softmax(x[0], -1))
F(softmax_channels, ld_softmax(x[0], 1))
F(softmax_first, ld_softmax(x[0], 0))
F(attention_packed, ld_attention_packed(x[0], 2))
F(attention, ld_attention(x[0], x[1], x[2], 2))
F(attention_self, ld_attention(x[0], x[0], x[0], 1))

static const op_case norms[] = {
    {"batch_norm", batch_norm, {{4, {2, 3, 2, 3}, ANY}, {1, {3}, ANY}, {1, {3}, ANY}}, 7},
    {"batch_norm (N,C)", batch_norm, {{2, {5, 3}, ANY}, {1, {3}, ANY}, {1, {3}, ANY}}, 7},
    {"batch_norm (N,C,L)", batch_norm, {{3, {2, 3, 4}, ANY}, {1, {3}, ANY}, {1, {3}, ANY}}, 7},
    {"batch_norm plain", batch_norm_plain, {{4, {2, 3, 2, 2}, ANY}}, 1},
    {"batch_norm eval", batch_norm_eval, {{4, {2, 3, 2, 3}, ANY}, {1, {3}, ANY}, {1, {3}, ANY}}, 7},
    {"batch_norm eval plain", batch_norm_eval_plain, {{3, {2, 3, 4}, ANY}}, 1},
    {"group_norm", group_norm, {{4, {2, 4, 2, 3}, ANY}, {1, {4}, ANY}, {1, {4}, ANY}}, 7},
    {"group_norm (N,C)", group_norm, {{2, {3, 8}, ANY}, {1, {8}, ANY}, {1, {8}, ANY}}, 7},
    {"group_norm (N,C,L)", group_norm, {{3, {2, 4, 3}, ANY}, {1, {4}, ANY}, {1, {4}, ANY}}, 7},
    {"group_norm (N,C,D,H,W)", group_norm, {{5, {2, 4, 2, 1, 3}, ANY}, {1, {4}, ANY}, {1, {4}, ANY}}, 7},
    {"group_norm plain", group_norm_plain, {{4, {2, 3, 3, 2}, ANY}}, 1},
    {"group_norm without bias", group_norm_weight, {{4, {2, 3, 2, 2}, ANY}, {1, {3}, ANY}}, 3},
    {"batch_norm and silu", batch_norm_silu, {{4, {2, 3, 2, 3}, ANY}, {1, {3}, ANY}, {1, {3}, ANY}}, 7},
    {"batch_norm and leaky", batch_norm_leaky, {{2, {5, 3}, ANY}, {1, {3}, ANY}, {1, {3}, ANY}}, 7},
    {"film and batch_norm",
     batch_norm_film,
     {{4, {2, 3, 2, 3}, ANY}, {1, {3}, ANY}, {1, {3}, ANY}, {2, {2, 6}, ANY}},
     15},
    {"film, batch_norm, silu",
     batch_norm_film_silu,
     {{3, {3, 3, 2}, ANY}, {1, {3}, ANY}, {1, {3}, ANY}, {2, {3, 6}, ANY}},
     15},
    {"group_norm and relu", group_norm_relu, {{4, {2, 4, 2, 3}, ANY}, {1, {4}, ANY}, {1, {4}, ANY}}, 7},
    {"film and group_norm",
     group_norm_film,
     {{4, {2, 4, 2, 3}, ANY}, {1, {4}, ANY}, {1, {4}, ANY}, {2, {2, 8}, ANY}},
     15},
    {"film, group_norm, silu",
     group_norm_film_silu,
     {{2, {3, 8}, ANY}, {1, {8}, ANY}, {1, {8}, ANY}, {2, {3, 16}, ANY}},
     15},
    {"layer_norm", layer_norm, {{3, {2, 3, 5}, ANY}, {1, {5}, ANY}, {1, {5}, ANY}}, 7},
    {"layer_norm of rank 4", layer_norm, {{4, {2, 3, 2, 5}, ANY}, {1, {5}, ANY}, {1, {5}, ANY}}, 7},
    {"layer_norm plain", layer_norm_plain, {{2, {3, 5}, ANY}}, 1},
    {"softmax", softmax_last, {{2, {3, 5}, ANY}}, 0},
    {"softmax of rank 4", softmax_last, {{4, {2, 3, 2, 4}, ANY}}, 0},
    {"softmax over channels", softmax_channels, {{4, {2, 3, 2, 2}, ANY}}, 0},
    {"softmax over 0", softmax_first, {{3, {3, 2, 2}, ANY}}, 0},
    {"attention_packed", attention_packed, {{3, {2, 5, 12}, ANY}}, 1},
    {"attention", attention, {{3, {2, 4, 6}, ANY}, {3, {2, 5, 6}, ANY}, {3, {2, 5, 6}, ANY}}, 7},
    {"attention to itself", attention_self, {{3, {2, 4, 3}, ANY}}, 1},
};

/* ---- spatial, losses, dropout ---------------------------------------------------------------------------------------- */

F(avg_pool, ld_avg_pool2d(x[0], 2, 3, 2, 1, false))
F(avg_pool_ceil, ld_avg_pool2d(x[0], 2, 2, 2, 2, true))
F(adaptive, ld_adaptive_avg_pool2d(x[0], 3, 2))
F(upsample, ld_upsample_nearest(x[0], 3))
F(shrink, ld_resize_bilinear(x[0], 3, 2, true))
F(shrink_plain, ld_resize_bilinear(x[0], 3, 2, false))
F(enlarge, ld_resize_bilinear(x[0], 7, 9, false))
F(mse, ld_mse(x[0], x[1], LD_MEAN_ALL))
F(mse_each, ld_mse(x[0], x[1], LD_MEAN_NONE))
F(l1, ld_l1(x[0], x[1], LD_MEAN_SUM))
F(huber, ld_huber(x[0], x[1], 0.9, LD_MEAN_ALL))

static ld_tensor *entropy(ld_tensor *x, double smoothing, ld_mean m) {
    ld_tensor *t = ld_tensor_new(cpu(), LD_I64, 1, x->shape, "test");
    for (int64_t i = 0; t && i < x->shape[0]; i++)
        ((int64_t *)ld_tensor_data(t))[i] = (i * 2 + 1) % x->shape[1];
    ld_tensor *y = t ? ld_cross_entropy(x, t, smoothing, m) : NULL;
    ld_tensor_drop(t);
    return y;
}
F(entropy_mean, entropy(x[0], 0, LD_MEAN_ALL))
F(entropy_each, entropy(x[0], 0.2, LD_MEAN_NONE))
F(entropy_sum, entropy(x[0], 0.1, LD_MEAN_SUM))

static ld_tensor *dropped(ld_tensor *const *x) {
    ld_random = (ld_generator){.seed = 7, .draws = 3};
    return ld_dropout(x[0], 0.4, true);
}

static const op_case others[] = {
    {"avg_pool2d", avg_pool, {{4, {2, 3, 5, 6}, ANY}}, 0},
    {"avg_pool2d ceil", avg_pool_ceil, {{4, {2, 2, 5, 3}, ANY}}, 0},
    {"adaptive_avg_pool2d", adaptive, {{4, {2, 3, 5, 4}, ANY}}, 0},
    {"upsample_nearest", upsample, {{4, {2, 3, 2, 3}, ANY}}, 0},
    {"resize_bilinear smaller", shrink, {{4, {2, 2, 7, 5}, ANY}}, 0},
    {"resize_bilinear smaller, plain", shrink_plain, {{4, {1, 2, 7, 5}, ANY}}, 0},
    {"resize_bilinear larger", enlarge, {{4, {1, 2, 3, 4}, ANY}}, 0},
    {"mse", mse, {{2, {3, 5}, ANY}, {2, {3, 5}, ANY}}, 3},
    {"mse each", mse_each, {{4, {2, 3, 2, 2}, ANY}, {4, {2, 3, 2, 2}, ANY}}, 0},
    {"l1", l1, {{2, {3, 5}, ANY}, {2, {3, 5}, ANY}}, 3},
    {"huber", huber, {{2, {3, 5}, ANY}, {2, {3, 5}, ANY}}, 3},
    {"cross_entropy", entropy_mean, {{2, {4, 5}, ANY}}, 1},
    {"cross_entropy smoothed", entropy_each, {{2, {4, 3}, ANY}}, 1},
    {"cross_entropy sum", entropy_sum, {{2, {3, 7}, ANY}}, 1},
    {"dropout", dropped, {{4, {2, 3, 4, 3}, ANY}}, 0},
};

/* ---- inputs ---------------------------------------------------------------------------------------------------------- */

static inline int make_inputs(const op_case *c, ld_tensor *x[4], int layout) {
    int n = 0;
    for (; n < 4 && c->in[n].flag; n++) {
        ld_tensor *plain = numbers(LD_F64, c->in[n].ndim, c->in[n].shape, (uint64_t)n + 11);
        for (int64_t i = 0; c->in[n].flag == POSITIVE && i < ld_tensor_numel(plain); i++)
            set(plain, i, fabs(get(plain, i)));
        x[n] = laid_out(plain, layout);
        x[n]->requires_grad = true;
    }
    return n;
}

static inline void forget_gradients(ld_tensor *const *x, int n) {
    for (int k = 0; k < n; k++) {
        ld_tensor_drop(x[k]->grad);
        x[k]->grad = NULL;
    }
}

/* ---- all of them ----------------------------------------------------------------------------------------------------- */

static const struct {
    const op_case *at;
    size_t n;
} tables[] = {{elementwise, LENGTH(elementwise)}, {reductions, LENGTH(reductions)}, {shapes, LENGTH(shapes)},
              {products, LENGTH(products)},       {norms, LENGTH(norms)},           {others, LENGTH(others)}};

static inline void each_case(void (*check)(const op_case *)) {
    for (size_t t = 0; t < LENGTH(tables); t++)
        for (size_t i = 0; i < tables[t].n; i++) {
            check(&tables[t].at[i]);
            drop_kept();
            same_memory(tables[t].at[i].name);
        }
}

#endif
