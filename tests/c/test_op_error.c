/* Every refusal of an operation: its code, the distinctive part of its message, and that nothing was allocated before. */
#include "op_cases.h"

static int64_t allocations;

static void refused(const char *what, bool failed, int code, const char *part) {
    if (!failed)
        fail_msg("%s: no error", what);
    if (ld_error_code() != code || !strstr(ld_error(), part))
        fail_msg("%s: code %d, \"%s\"; not code %d with \"%s\"", what, ld_error_code(), ld_error(), code, part);
    if (memory().allocations != allocations)
        fail_msg("%s: %lld allocations before the error", what, (long long)(memory().allocations - allocations));
    ld_error_clear();
}
#define FAILS(expression, code, part)                                                                                  \
    do {                                                                                                               \
        allocations = memory().allocations;                                                                            \
        refused(#expression, (expression) == NULL, code, part);                                                        \
    } while (0)
#define REFUSES(expression, code, part)                                                                                \
    do {                                                                                                               \
        allocations = memory().allocations;                                                                            \
        refused(#expression, (expression) == (code), code, part);                                                      \
    } while (0)

/* An argument made within the expression, which does not count. */
static ld_tensor *made(ld_dtype t, int ndim, const int64_t *shape, double value) {
    int64_t before = memory().allocations;
    ld_tensor *x = keep(ld_tensor_full(cpu(), t, ndim, shape, value, "test"));
    allocations += memory().allocations - before;
    return x;
}
#undef F /* the one of op_cases.h */
#define F(...)    made(LD_F32, SHAPE(__VA_ARGS__), 1)
#define BF(...)   made(LD_BF16, SHAPE(__VA_ARGS__), 1)
#define I(v, ...) made(LD_I64, SHAPE(__VA_ARGS__), v)

static void elementwise_errors(void **state) {
    (void)state;
    ld_tensor *x = F(2, 3), *y = F(4), *n = I(5, 2, 3), *u = tensor(LD_U8, SHAPE(2, 3), NULL);
    FAILS(ld_unary("exp", LD_EXP, n, 0, 0), LD_EDTYPE, "exp: (2,3) i64 cpu; a float is needed: convert with :f32()");
    FAILS(ld_binary("add", LD_ADD, x, y), LD_ESHAPE,
          "add: shapes do not broadcast: (2,3) f32 cpu and (4) f32 cpu (sizes 3 and 4)");
    FAILS(ld_binary("add", LD_ADD, x, n), LD_EDTYPE,
          "add: dtypes differ: (2,3) f32 cpu and (2,3) i64 cpu; convert one with :to()");
    FAILS(ld_binary_number("mul", LD_MUL, n, 0.5, false), LD_EDTYPE,
          "mul: the number 0.5 is none of (2,3) i64 cpu's dtype");
    FAILS(ld_binary_number("lt", LD_LT, u, 256, false), LD_EDTYPE, "lt: the number 256 is none of");
    FAILS(ld_where_select(x, x, x), LD_EDTYPE,
          "where: the condition is (2,3) f32 cpu; u8 is needed, as comparisons give");
    FAILS(ld_where_select(u, x, n), LD_EDTYPE, "where: dtypes differ: (2,3) f32 cpu and (2,3) i64 cpu");
    FAILS(ld_where_select(u, x, y), LD_ESHAPE, "where: shapes do not broadcast: (2,3) f32 cpu and (4) f32 cpu");
    FAILS(ld_where_select(u, y, y), LD_ESHAPE, "where: shapes do not broadcast: (4) f32 cpu and (2,3) u8 cpu");
}

static void in_place_errors(void **state) {
    (void)state;
    ld_tensor *x = F(2, 3), *row = F(3), *n = I(5, 2, 3), *broad = keep(ld_expand(row, SHAPE(2, 3))), *leaf = F(2, 3);
    leaf->requires_grad = true;
    REFUSES(ld_binary_("add_", LD_ADD, row, x), LD_ESHAPE, "add_: (2,3) f32 cpu does not broadcast to (3) f32 cpu");
    REFUSES(ld_binary_("add_", LD_ADD, x, F(4)), LD_ESHAPE, "add_: shapes do not broadcast");
    REFUSES(ld_binary_("add_", LD_ADD, x, n), LD_EDTYPE, "add_: dtypes differ");
    REFUSES(ld_binary_("lt_", LD_LT, x, row), LD_EVALUE, "lt_: a comparison cannot be stored in its argument");
    REFUSES(ld_unary_("exp_", LD_EXP, n, 0, 0), LD_EDTYPE, "exp_: (2,3) i64 cpu; a float is needed");
    REFUSES(ld_axpby_(n, n, 1, 1), LD_EDTYPE, "axpby_: (2,3) i64 cpu; a float is needed");
    REFUSES(ld_axpby_(x, n, 1, 1), LD_EDTYPE, "axpby_: dtypes differ");
    REFUSES(ld_copy_(row, x), LD_ESHAPE, "copy_: (2,3) f32 cpu does not broadcast to (3) f32 cpu");
    REFUSES(ld_uniform_(n, 0, 1), LD_EDTYPE, "uniform_: i64; a float dtype is needed");
    REFUSES(ld_fill_(broad, 0), LD_ESTATE, "fill_: (2,3) f32 cpu is expanded, so that elements share memory");
    REFUSES(ld_copy_(broad, x), LD_ESTATE, "copy_: (2,3) f32 cpu is expanded");
    REFUSES(ld_unary_("neg_", LD_NEG, broad, 0, 0), LD_ESTATE, "neg_: (2,3) f32 cpu is expanded");
    REFUSES(ld_normal_(broad, 0, 1), LD_ESTATE, "normal_: (2,3) f32 cpu is expanded");
    REFUSES(ld_fill_(leaf, 0), LD_ESTATE, "fill_: (2,3) f32 cpu requires a gradient");
    REFUSES(ld_binary_("mul_", LD_MUL, x, leaf), LD_ESTATE, "mul_: (2,3) f32 cpu meets one that requires one");
    REFUSES(ld_copy_(leaf, x), LD_ESTATE, "copy_: (2,3) f32 cpu requires a gradient");
    REFUSES(ld_unary_("neg_", LD_NEG, leaf, 0, 0), LD_ESTATE, "neg_: (2,3) f32 cpu requires a gradient");
    REFUSES(ld_axpby_(x, leaf, 1, 1), LD_ESTATE, "axpby_: (2,3) f32 cpu meets one");
    REFUSES(ld_normal_(leaf, 0, 1), LD_ESTATE, "normal_: (2,3) f32 cpu requires a gradient");
    ld_set_recording(false);
    assert_int_equal(ld_fill_(leaf, 0), 0); /* as optimisers do */
    ld_set_recording(true);
}

static void reduction_errors(void **state) {
    (void)state;
    ld_tensor *x = F(2, 3), *n = I(5, 2, 3), *empty = F(0, 3);
    FAILS(ld_reduce("sum", LD_SUM, x, D(2), 1, false), LD_EINDEX, "sum: there is no dimension 3 in (2,3) f32 cpu");
    FAILS(ld_reduce("sum", LD_SUM, x, D(0, -3), 2, false), LD_EINDEX, "sum: there is no dimension -3 in (2,3) f32 cpu");
    FAILS(ld_reduce("sum", LD_SUM, x, D(1, -1), 2, false), LD_EVALUE,
          "sum: dimension 2 is named twice for (2,3) f32 cpu");
    FAILS(ld_reduce("mean", LD_MEAN, n, NULL, 0, false), LD_EDTYPE, "mean: (2,3) i64 cpu; a float is needed");
    FAILS(ld_reduce("sumsq", LD_SUMSQ, n, NULL, 0, false), LD_EDTYPE, "sumsq: (2,3) i64 cpu; a float is needed");
    FAILS(ld_reduce("max", LD_MAX, empty, NULL, 0, false), LD_EVALUE, "max: nothing to choose from in (0,3) f32 cpu");
    FAILS(ld_arg("argmin", empty, 0, true, false), LD_EVALUE, "argmin: nothing to choose from in (0,3) f32 cpu");
    FAILS(ld_arg("argmax", x, 2, false, false), LD_EINDEX, "argmax: there is no dimension 3 in (2,3) f32 cpu");
}

static void shape_errors(void **state) {
    (void)state;
    ld_tensor *x = F(2, 3), *deep = F(1, 1, 1, 1, 1, 1, 1, 1), *two[2] = {x, F(2, 4)}, *types[2] = {x, I(1, 2, 3)};
    ld_tensor *deeps[2] = {deep, deep}, *ranks[2] = {x, F(3)};
    int64_t many[9] = {6, 1, 1, 1, 1, 1, 1, 1, 1}, huge = (int64_t)1 << 40;
    FAILS(ld_reshape(x, SHAPE(4, 2)), LD_ESHAPE, "reshape: (2,3) f32 cpu has 6 elements, which do not fill (4,2)");
    FAILS(ld_reshape(x, SHAPE(4, -1)), LD_ESHAPE, "which do not fill (4,-1)");
    FAILS(ld_reshape(x, SHAPE(-1, 0)), LD_ESHAPE, "which do not fill (-1,0)");
    FAILS(ld_reshape(F(0), SHAPE(-1, 0)), LD_ESHAPE, "which do not fill (-1,0)");
    FAILS(ld_reshape(x, SHAPE(-1, -1)), LD_ESHAPE,
          "reshape: (2,3) f32 cpu cannot become (-1,-1): one size may be -1, the others not negative");
    FAILS(ld_reshape(x, SHAPE(-2, -3)), LD_ESHAPE, "cannot become (-2,-3)");
    FAILS(ld_reshape(x, 9, many), LD_ESHAPE, "reshape: (2,3) f32 cpu to 9 dimensions; at most 8 are possible");
    FAILS(ld_reshape(x, SHAPE(huge, huge)), LD_ESHAPE, "more than 2^48 elements");
    FAILS(ld_permute(x, D(0, 0)), LD_EVALUE, "permute: dimension 1 is named twice for (2,3) f32 cpu");
    FAILS(ld_permute(x, D(0, 2)), LD_EINDEX, "permute: there is no dimension 3 in (2,3) f32 cpu");
    FAILS(ld_expand(x, SHAPE(2, 4)), LD_ESHAPE, "expand: (2,3) f32 cpu does not stretch to (2,4)");
    FAILS(ld_expand(x, SHAPE(3)), LD_ESHAPE, "expand: (2,3) f32 cpu does not stretch to (3)");
    FAILS(ld_expand(x, SHAPE(-1, 2, 3)), LD_ESHAPE, "size -1 is negative");
    FAILS(ld_expand(x, SHAPE(huge, huge, 2, 3)), LD_ESHAPE, "more than 2^48 elements");
    FAILS(ld_slice(x, 2, 0, 1, 1), LD_EINDEX, "slice: there is no dimension 3 in (2,3) f32 cpu");
    FAILS(ld_slice(x, 1, 1, 3, 1), LD_EINDEX,
          "slice: 3 positions from 2 by 1 are outside dimension 2 of (2,3) f32 cpu");
    FAILS(ld_slice(x, 1, 0, 2, 3), LD_EINDEX, "slice: 2 positions from 1 by 3 are outside");
    FAILS(ld_slice(x, 1, -1, 2, 1), LD_EINDEX, "slice: 2 positions from 0 by 1 are outside");
    FAILS(ld_slice(x, 1, 4, 0, 1), LD_EINDEX, "slice: 0 positions from 5 by 1 are outside");
    FAILS(ld_slice(x, 1, 0, 1, 0), LD_EINDEX, "slice: 1 positions from 1 by 0 are outside");
    FAILS(ld_slice(x, 1, 0, INT64_MAX, INT64_MAX), LD_EINDEX, "are outside dimension 2");
    FAILS(ld_select(x, 1, 3), LD_EINDEX, "select: position 4 is outside dimension 2 of (2,3) f32 cpu");
    FAILS(ld_select(x, -3, 0), LD_EINDEX, "select: there is no dimension -3 in (2,3) f32 cpu");
    FAILS(ld_concat(two, 2, 0), LD_ESHAPE,
          "concat: tensor 2 is (2,4) f32 cpu, the first is (2,3) f32 cpu; all but dimension 1 must agree");
    FAILS(ld_concat(ranks, 2, 0), LD_ESHAPE, "concat: tensor 2 is (3) f32 cpu");
    FAILS(ld_concat(types, 2, 0), LD_EDTYPE,
          "concat: dtypes differ: tensor 2 is (2,3) i64 cpu, the first is (2,3) f32 cpu");
    FAILS(ld_concat(two, 2, 2), LD_EINDEX, "concat: there is no dimension 3 in (2,3) f32 cpu");
    FAILS(ld_concat(two, 0, 0), LD_EVALUE, "concat: 0 tensors; 1 to 1048576 are possible");
    FAILS(ld_stack(two, 2, 0), LD_ESHAPE, "stack: tensor 2 is (2,4) f32 cpu, the first is (2,3) f32 cpu");
    FAILS(ld_stack(two, 2, 3), LD_EINDEX, "stack: there is no place for a dimension 4 in (2,3) f32 cpu");
    FAILS(ld_stack(deeps, 2, 0), LD_ESHAPE, "stack: (1,1,1,1,1,1,1,1) f32 cpu has no room for one more dimension");
    FAILS(ld_pad(x, S(0, -1), S(0, 0), 0), LD_EVALUE, "pad: -1 before and 0 after dimension 2 of (2,3) f32 cpu");
    FAILS(ld_pad(x, S(huge, huge), S(0, 0), 0), LD_ESHAPE, "pad: (2,3) f32 cpu to");
    FAILS(ld_flip(x, 2), LD_EINDEX, "flip: there is no dimension 3 in (2,3) f32 cpu");
}

static void row_errors(void **state) {
    (void)state;
    ld_tensor *x = F(4, 3), *idx = tensor(LD_I64, SHAPE(2, 2), VALUES(0, 3, 4, -1)), *half = BF(4, 3),
              *apart = laid_out(idx, GAPPED);
    FAILS(ld_gather(x, F(2)), LD_EDTYPE, "gather: the rows are (2) f32 cpu; i64 is needed: convert with :i64()");
    FAILS(ld_gather(x, idx), LD_EINDEX, "gather: entry 3 is 4; 0 to 3 are possible; the rows are (2,2) i64 cpu");
    FAILS(ld_gather(x, apart), LD_EINDEX, "gather: entry 3 is 4;");
    FAILS(ld_gather(x, I(-1, 1)), LD_EINDEX, "gather: entry 1 is -1;");
    FAILS(ld_gather(made(LD_F32, 0, NULL, 1), I(0, 1)), LD_ESHAPE, "gather: x is () f32 cpu; it needs rows");
    FAILS(ld_gather(F(1, 1, 1, 1, 1), I(0, 1, 1, 1, 1, 1)), LD_ESHAPE, "make more than 8 dimensions");
    half->requires_grad = true;
    FAILS(ld_gather(half, I(0, 1)), LD_EDTYPE, "gather: a gradient of (4,3) bf16 cpu; f32 or f64 is needed");
    FAILS(ld_one_hot(idx, 4, LD_F32), LD_EINDEX,
          "one_hot: entry 3 is 4; 0 to 3 are possible; the classes are (2,2) i64 cpu");
    FAILS(ld_one_hot(idx, 0, LD_F32), LD_EVALUE, "one_hot: 0 classes; at least 1 is needed");
    FAILS(ld_one_hot(x, 4, LD_F32), LD_EDTYPE, "one_hot: the classes are (4,3) f32 cpu; i64 is needed");
    FAILS(ld_one_hot(I(0, 1, 1, 1, 1, 1, 1, 1, 1), 2, LD_F32), LD_ESHAPE, "has no room for one more dimension");
}

static void product_errors(void **state) {
    (void)state;
    ld_tensor *x = F(2, 3), *scalar = made(LD_F32, 0, NULL, 1);
    FAILS(ld_matmul(x, F(4, 2)), LD_ESHAPE, "matmul: (2,3) f32 cpu times (4,2) f32 cpu: inner sizes 3 and 4 differ");
    FAILS(ld_matmul(x, F(4)), LD_ESHAPE, "matmul: (2,3) f32 cpu times (4) f32 cpu: inner sizes 3 and 4 differ");
    FAILS(ld_matmul(F(3), x), LD_ESHAPE, "inner sizes 3 and 2 differ");
    FAILS(ld_matmul(scalar, x), LD_ESHAPE, "matmul: () f32 cpu times (2,3) f32 cpu: both need a dimension");
    FAILS(ld_matmul(F(2, 5, 3), F(4, 3, 2)), LD_ESHAPE,
          "matmul: shapes do not broadcast: (2,5,3) f32 cpu and (4,3,2) f32 cpu (sizes 2 and 4)");
    FAILS(ld_matmul(BF(2, 3), BF(3, 2)), LD_EDTYPE,
          "matmul: (2,3) bf16 cpu; f32 or f64 is needed: convert with :f32()");
    FAILS(ld_linear(x, F(5, 4), NULL), LD_ESHAPE,
          "linear: the last size of x must be 4, as weight (5,4) f32 cpu takes it; x is (2,3) f32 cpu");
    FAILS(ld_linear(scalar, F(5, 4), NULL), LD_ESHAPE, "linear: the last size of x must be 4");
    FAILS(ld_linear(x, F(3), NULL), LD_ESHAPE, "linear: weight has 1 dimensions, 2 are needed; it is (3) f32 cpu");
    FAILS(ld_linear(x, F(5, 3), F(3)), LD_ESHAPE, "linear: bias is (3) f32 cpu; (5) is needed");
}

static void conv_errors(void **state) {
    (void)state;
    static const ld_conv_shape flat = {0, 1, 0, 0, 0, 0, false}, negative = {1, 1, 0, -1, 0, 0, false},
                               tight = {1, 1, 9, 9, 0, 0, false};
    static const ld_conv_shape two = {2, 2, 0, 0, 0, 0, false}, mixed = {1, 2, 0, 0, 0, 0, false},
                               tall = {2, 1, 0, 0, 0, 0, false};
    ld_tensor *x = F(2, 3, 4, 5), *w = F(6, 3, 3, 3), *back = F(3, 6, 2, 2);
    FAILS(ld_conv2d(F(32, 3, 8, 8), F(64, 16, 3, 3), NULL, &none), LD_ESHAPE,
          "conv2d: x has 3 channels, weight (64,16,3,3) f32 cpu takes 16; x is (32,3,8,8) f32 cpu");
    FAILS(ld_conv2d(F(3, 4, 5), w, NULL, &none), LD_ESHAPE,
          "conv2d: x has 3 dimensions, 4 are needed; it is (3,4,5) f32 cpu");
    FAILS(ld_conv2d(x, F(6, 3), NULL, &none), LD_ESHAPE, "conv2d: weight has 2 dimensions, 4 are needed");
    FAILS(ld_conv2d(x, w, F(3), &none), LD_ESHAPE, "conv2d: bias is (3) f32 cpu; (6) is needed");
    FAILS(ld_conv2d(x, w, NULL, &flat), LD_EVALUE,
          "conv2d: stride 0 x 1, padding 0 0 0 0; strides are at least 1, padding at least 0");
    FAILS(ld_conv2d(x, w, NULL, &negative), LD_EVALUE, "conv2d: stride 1 x 1, padding 0 -1 0 0");
    FAILS(ld_conv2d(x, F(6, 3, 5, 3), NULL, &none), LD_ESHAPE,
          "conv2d: a kernel of 5 x 3 does not fit into (2,3,4,5) f32 cpu with padding 0 0 0 0");
    FAILS(ld_conv2d(x, F(6, 3, 0, 3), NULL, &none), LD_ESHAPE, "conv2d: weight (6,3,0,3) f32 cpu is empty");
    FAILS(ld_conv2d(BF(2, 3, 4, 5), BF(6, 3, 3, 3), NULL, &none), LD_EDTYPE,
          "conv2d: (2,3,4,5) bf16 cpu; f32 or f64 is needed");
    FAILS(ld_conv_transpose2d(x, w, NULL, &none, 0), LD_ESHAPE,
          "conv_transpose2d: x has 3 channels, weight (6,3,3,3) f32 cpu takes 6; x is");
    FAILS(ld_conv_transpose2d(x, back, F(3), &none, 0), LD_ESHAPE,
          "conv_transpose2d: bias is (3) f32 cpu; (6) is needed");
    FAILS(ld_conv_transpose2d(x, back, NULL, &two, 2), LD_EVALUE,
          "conv_transpose2d: output_padding 2 with stride 2 x 2; 0 up to the stride less 1 is needed");
    FAILS(ld_conv_transpose2d(x, back, NULL, &mixed, 1), LD_EVALUE,
          "conv_transpose2d: output_padding 1 with stride 1 x 2");
    FAILS(ld_conv_transpose2d(x, back, NULL, &tall, 1), LD_EVALUE,
          "conv_transpose2d: output_padding 1 with stride 2 x 1");
    FAILS(ld_conv_transpose2d(x, back, NULL, &two, -1), LD_EVALUE, "conv_transpose2d: output_padding -1");
    FAILS(ld_conv_transpose2d(x, back, NULL, &tight, 0), LD_ESHAPE,
          "conv_transpose2d: a kernel of 2 x 2 with padding 9 9 0 0 leaves nothing of (2,3,4,5) f32 cpu");
}

static void norm_errors(void **state) {
    (void)state;
    ld_tensor *x = F(2, 6, 2, 2), *c = F(6), *other = F(5), *f64 = numbers(LD_F64, SHAPE(6), 1), *leaf = F(6);
    FAILS(ld_batch_norm(F(6), c, c, NULL, NULL, true, 0.1, 1e-5), LD_ESHAPE,
          "batch_norm: x is (6) f32 cpu; (N,C), (N,C,L) or (N,C,H,W) is needed");
    FAILS(ld_batch_norm(F(1, 6, 1, 1, 1), c, c, NULL, NULL, true, 0.1, 1e-5), LD_ESHAPE,
          "batch_norm: x is (1,6,1,1,1) f32 cpu");
    FAILS(ld_batch_norm(x, other, c, NULL, NULL, true, 0.1, 1e-5), LD_ESHAPE,
          "batch_norm: weight is (5) f32 cpu; (6) is needed");
    FAILS(ld_batch_norm(x, c, other, NULL, NULL, true, 0.1, 1e-5), LD_ESHAPE,
          "batch_norm: bias is (5) f32 cpu; (6) is needed");
    FAILS(ld_batch_norm(x, c, c, other, c, true, 0.1, 1e-5), LD_ESHAPE,
          "batch_norm: running_mean is (5) f32 cpu; (6) is needed");
    FAILS(ld_batch_norm(x, c, c, c, other, true, 0.1, 1e-5), LD_ESHAPE,
          "batch_norm: running_var is (5) f32 cpu; (6) is needed");
    FAILS(ld_batch_norm(x, c, c, f64, c, true, 0.1, 1e-5), LD_EDTYPE,
          "batch_norm: dtypes differ: (2,6,2,2) f32 cpu and (6) f64 cpu");
    FAILS(ld_batch_norm(x, c, c, c, NULL, false, 0.1, 1e-5), LD_EVALUE,
          "batch_norm: outside training, running_mean and running_var are needed");
    FAILS(ld_batch_norm(F(1, 6), c, c, c, c, true, 0.1, 1e-5), LD_EVALUE,
          "batch_norm: (1,6) f32 cpu has 1 value a channel; training needs two or more");
    FAILS(ld_batch_norm(F(0, 6), c, c, c, c, true, 0.1, 1e-5), LD_EVALUE,
          "batch_norm: (0,6) f32 cpu has 0 values a channel");
    FAILS(ld_batch_norm(x, c, c, NULL, NULL, true, 0.1, -1), LD_EVALUE,
          "batch_norm: eps is -1; it must not be negative");
    FAILS(ld_batch_norm(BF(2, 6), NULL, NULL, NULL, NULL, true, 0.1, 1e-5), LD_EDTYPE,
          "batch_norm: (2,6) bf16 cpu; f32 or f64");
    leaf->requires_grad = true;
    FAILS(ld_batch_norm(x, c, c, leaf, c, true, 0.1, 1e-5), LD_ESTATE, "batch_norm: (6) f32 cpu requires a gradient");
    FAILS(ld_group_norm(c, c, c, 2, 1e-5), LD_ESHAPE, "group_norm: x is (6) f32 cpu; (N,C,...) is needed");
    FAILS(ld_group_norm(x, c, c, 4, 1e-5), LD_ESHAPE,
          "group_norm: 4 groups do not divide the 6 channels of (2,6,2,2) f32 cpu");
    FAILS(ld_group_norm(x, c, c, 0, 1e-5), LD_ESHAPE, "group_norm: 0 groups do not divide");
    FAILS(ld_group_norm(x, other, c, 2, 1e-5), LD_ESHAPE, "group_norm: weight is (5) f32 cpu; (6) is needed");
    FAILS(ld_group_norm(x, c, c, 2, NAN), LD_EVALUE, "group_norm: eps is");
    ld_norm_fused film = {.film = F(2, 6)}, flat = {.film = F(24)};
    ld_norm_fused doubles = {.film = numbers(LD_F64, SHAPE(2, 12), 1)};
    FAILS(ld_batch_norm_fused(x, c, c, c, c, true, 0.1, 1e-5, &film), LD_ESHAPE,
          "batch_norm: film is (2,6) f32 cpu; (N,2C) = (2,12) is needed");
    FAILS(ld_group_norm_fused(x, c, c, 2, 1e-5, &flat), LD_ESHAPE,
          "group_norm: film is (24) f32 cpu; (N,2C) = (2,12) is needed");
    FAILS(ld_group_norm_fused(x, c, c, 2, 1e-5, &doubles), LD_EDTYPE,
          "group_norm: dtypes differ: (2,6,2,2) f32 cpu and ");
    FAILS(ld_layer_norm(made(LD_F32, 0, NULL, 1), NULL, NULL, 1e-5), LD_ESHAPE,
          "layer_norm: x is () f32 cpu; (...,C) is needed");
    FAILS(ld_layer_norm(x, c, NULL, 1e-5), LD_ESHAPE, "layer_norm: weight is (6) f32 cpu; (2) is needed");
    FAILS(ld_layer_norm(x, NULL, f64, 1e-5), LD_EDTYPE, "layer_norm: dtypes differ");
}

static void attention_errors(void **state) {
    (void)state;
    ld_tensor *x = F(2, 4, 6), *k = F(2, 5, 6);
    FAILS(ld_softmax(x, 3), LD_EINDEX, "softmax: there is no dimension 4 in (2,4,6) f32 cpu");
    FAILS(ld_softmax(BF(2), 0), LD_EDTYPE, "softmax: (2) bf16 cpu; f32 or f64 is needed");
    FAILS(ld_attention_packed(F(4, 6), 1), LD_ESHAPE,
          "attention_packed: qkv has 2 dimensions, 3 are needed; it is (4,6) f32 cpu");
    FAILS(ld_attention_packed(F(2, 4, 7), 1), LD_ESHAPE,
          "attention_packed: (2,4,7) f32 cpu; its last size must divide by 3");
    FAILS(ld_attention_packed(x, 4), LD_ESHAPE,
          "attention_packed: 4 heads do not divide the 2 channels of (2,4,6) f32 cpu");
    FAILS(ld_attention_packed(x, 0), LD_ESHAPE, "attention_packed: 0 heads do not divide");
    FAILS(ld_attention(F(4, 6), k, k, 1), LD_ESHAPE, "attention: q has 2 dimensions, 3 are needed");
    FAILS(ld_attention(x, k, F(5, 6), 1), LD_ESHAPE, "attention: v has 2 dimensions, 3 are needed");
    FAILS(ld_attention(x, k, F(2, 4, 6), 1), LD_ESHAPE,
          "attention: q (2,4,6) f32 cpu, k (2,5,6) f32 cpu, v (2,4,6) f32 cpu do not fit: (N,T,C), (N,S,C), (N,S,C) is "
          "needed");
    FAILS(ld_attention(x, F(2, 5, 3), F(2, 5, 3), 1), LD_ESHAPE, "do not fit");
    FAILS(ld_attention(x, F(3, 5, 6), F(3, 5, 6), 1), LD_ESHAPE, "do not fit");
    FAILS(ld_attention(x, k, k, 4), LD_ESHAPE, "attention: 4 heads do not divide the 6 channels of (2,4,6) f32 cpu");
    FAILS(ld_attention(x, F(2, 0, 6), F(2, 0, 6), 1), LD_ESHAPE,
          "attention: k (2,0,6) f32 cpu has no positions to attend to");
}

static void image_errors(void **state) {
    (void)state;
    ld_tensor *x = F(2, 3, 4, 5), *empty = F(2, 3, 0, 5);
    FAILS(ld_avg_pool2d(F(3, 4, 5), 2, 2, 2, 2, false), LD_ESHAPE, "avg_pool2d: x has 3 dimensions, 4 are needed");
    FAILS(ld_avg_pool2d(x, 2, 0, 2, 2, false), LD_EVALUE,
          "avg_pool2d: kernel 2 x 0, stride 2 x 2; all must be at least 1");
    FAILS(ld_avg_pool2d(x, 5, 2, 2, 2, false), LD_ESHAPE,
          "avg_pool2d: a window of 5 x 2 does not fit into (2,3,4,5) f32 cpu");
    FAILS(ld_avg_pool2d(empty, 1, 1, 1, 1, true), LD_ESHAPE,
          "avg_pool2d: a window of 1 x 1 does not fit into (2,3,0,5) f32 cpu");
    FAILS(ld_adaptive_avg_pool2d(x, 0, 2), LD_EVALUE, "adaptive_avg_pool2d: a result of 0 x 2; sizes are 1 to 2^24");
    FAILS(ld_adaptive_avg_pool2d(empty, 1, 1), LD_ESHAPE, "adaptive_avg_pool2d: (2,3,0,5) f32 cpu has no pixels");
    FAILS(ld_upsample_nearest(x, 0), LD_EVALUE, "upsample_nearest: a scale of 0; 1 to 2^24 is needed");
    FAILS(ld_upsample_nearest(BF(1, 1, 2, 2), 2), LD_EDTYPE, "upsample_nearest: (1,1,2,2) bf16 cpu; f32 or f64");
    FAILS(ld_resize_bilinear(x, 4, -1, true), LD_EVALUE, "resize_bilinear: a result of 4 x -1; sizes are 1 to 2^24");
    FAILS(ld_resize_bilinear(empty, 4, 4, true), LD_ESHAPE, "resize_bilinear: (2,3,0,5) f32 cpu has no pixels");
    FAILS(ld_resize_bilinear(F(4, 5), 4, 4, true), LD_ESHAPE, "resize_bilinear: x has 2 dimensions");
}

static void loss_errors(void **state) {
    (void)state;
    ld_tensor *x = F(2, 3), *n = I(1, 2, 3), *t = tensor(LD_I64, SHAPE(2), VALUES(2, 3));
    FAILS(ld_mse(x, F(3), LD_MEAN_ALL), LD_ESHAPE, "mse: (2,3) f32 cpu against (3) f32 cpu; equal shapes are needed");
    FAILS(ld_l1(x, n, LD_MEAN_ALL), LD_EDTYPE, "l1: dtypes differ: (2,3) f32 cpu and (2,3) i64 cpu");
    FAILS(ld_mse(n, n, LD_MEAN_ALL), LD_EDTYPE, "mse: (2,3) i64 cpu; a float is needed: convert with :f32()");
    FAILS(ld_huber(x, x, 0, LD_MEAN_ALL), LD_EVALUE, "huber: delta is 0; it must be positive");
    FAILS(ld_huber(x, F(2), 1, LD_MEAN_ALL), LD_ESHAPE, "huber: (2,3) f32 cpu against (2) f32 cpu");
    FAILS(ld_cross_entropy(x, t, 0, LD_MEAN_ALL), LD_EINDEX,
          "cross_entropy: entry 2 is 3; 0 to 2 are possible; the classes are (2) i64 cpu");
    FAILS(ld_cross_entropy(x, I(0, 3), 0, LD_MEAN_ALL), LD_ESHAPE,
          "cross_entropy: classes is (3) i64 cpu; (2) is needed");
    FAILS(ld_cross_entropy(x, F(2), 0, LD_MEAN_ALL), LD_EDTYPE,
          "cross_entropy: the classes are (2) f32 cpu; i64 is needed");
    FAILS(ld_cross_entropy(F(2), t, 0, LD_MEAN_ALL), LD_ESHAPE, "cross_entropy: logits has 1 dimensions, 2 are needed");
    FAILS(ld_cross_entropy(n, t, 0, LD_MEAN_ALL), LD_EDTYPE, "cross_entropy: (2,3) i64 cpu; f32 or f64");
    FAILS(ld_cross_entropy(x, I(0, 2), 1, LD_MEAN_ALL), LD_EVALUE,
          "cross_entropy: smoothing is 1; 0 <= smoothing < 1 is needed");
}

static void random_errors(void **state) {
    (void)state;
    ld_tensor *x = F(2, 3);
    uint64_t draws = ld_random.draws;
    FAILS(ld_dropout(x, 1, true), LD_EVALUE, "dropout: the probability is 1; 0 <= p < 1 is needed");
    FAILS(ld_dropout(x, -0.1, false), LD_EVALUE, "dropout: the probability is -0.1");
    FAILS(ld_dropout(I(1, 2), 0.5, true), LD_EDTYPE, "dropout: i64; a float dtype is needed");
    FAILS(ld_rand(cpu(), LD_U8, SHAPE(2), 0, 1), LD_EDTYPE, "rand: u8; a float dtype is needed");
    FAILS(ld_randn(cpu(), LD_I64, SHAPE(2)), LD_EDTYPE, "randn: i64; a float dtype is needed");
    FAILS(ld_randn(cpu(), LD_F32, SHAPE(-2)), LD_EVALUE, "randn: size -2");
    FAILS(ld_noise(cpu(), LD_F32, 0, NULL, 1, 1, 0), LD_ESHAPE,
          "noise: the shape has no dimensions; the first counts the samples");
    FAILS(ld_noise_uniform(cpu(), LD_I32, SHAPE(2), 1, 1, 0), LD_EDTYPE, "noise: i32; a float dtype is needed");
    assert_true(ld_random.draws == draws);
    ld_interrupt();
    FAILS(ld_randn(cpu(), LD_F32, SHAPE(2)), LD_EINTERRUPT, "");
}

/* ---- every operation with one argument out of line ------------------------------------------------------------------- */

static ld_tensor *moved(const ld_tensor *x, ld_device *d, ld_dtype t) {
    ld_tensor *y = keep(ld_tensor_new(d, t, x->ndim, x->shape, "test"));
    for (int64_t i = 0; i < ld_tensor_numel(x); i++)
        set(y, i, get(x, i));
    return y;
}

static void check_mixed(const op_case *c) {
    static ld_device other;
    other = *cpu();
    strcpy(other.name, "other");
    ld_tensor *x[4] = {NULL};
    int n = make_inputs(c, x, CANONICAL);
    for (int k = 1; k < n; k++) {
        ld_tensor *own = x[k];
        x[k] = moved(own, &other, LD_F64);
        ld_error_clear();
        assert_null(c->f(x));
        if (ld_error_code() != LD_EDEVICE || !strstr(ld_error(), " other"))
            fail_msg("%s: input %d on another device: %s", c->name, k, ld_error());
        x[k] = moved(own, cpu(), LD_F32);
        assert_null(c->f(x));
        if (ld_error_code() != LD_EDTYPE || !strstr(ld_error(), "dtypes differ"))
            fail_msg("%s: input %d of another dtype: %s", c->name, k, ld_error());
        x[k] = own;
    }
}

static void mixed_arguments(void **state) {
    (void)state;
    each_case(check_mixed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(elementwise_errors), TEST(in_place_errors), TEST(reduction_errors), TEST(shape_errors),
        TEST(row_errors),         TEST(product_errors),  TEST(conv_errors),      TEST(norm_errors),
        TEST(attention_errors),   TEST(image_errors),    TEST(loss_errors),      TEST(random_errors),
        TEST(mixed_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
