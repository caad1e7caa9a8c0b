/* Elementwise operations and reductions against formulas written out here, in f64 and f32, in every layout of their inputs;
 * casts, changes in place. */
#include "formulas.h"
#include "ops.h"

/* ---- elementwise ----------------------------------------------------------------------------------------------------- */

static void unary_values(void **state) {
    (void)state;
    EACH_WAY for (int op = 0; op < LD_UNARY_COUNT; op++) {
        bool positive = op == LD_LOG || op == LD_SQRT || op == LD_RSQRT || op == LD_POW;
        double a = op == LD_CLAMP ? -0.5 : 0.3, b = 0.8;
        ld_tensor *x = INPUT(2, 3, 2, 5);
        for (int i = 0; positive && i < 60; i++)
            set(x, i, fabs(get(x, i)));
        ld_tensor *y = keep(ld_unary("test", (ld_unary_op)op, x, a, b));
        has_shape(y, SHAPE(2, 3, 2, 5));
        lies_canonical(y);
        for (int i = 0; i < 60; i++) {
            double v = unary_formula((ld_unary_op)op, get(x, i), a, b);
            near("unary", get(y, i), v, EPS * (1 + fabs(v)));
        }
        drop_kept();
    }
    ld_tensor *n = tensor(LD_I32, SHAPE(3), VALUES(-7, 0, 9));
    has_values("affine of integers", keep(ld_unary("affine", LD_AFFINE, n, 3, 2)), VALUES(-19, 2, 29), 0);
    has_values("clamp of integers", keep(ld_unary("clamp", LD_CLAMP, n, -2, 5)), VALUES(-2, 0, 5), 0);
}

static double combine(ld_binary_op op, double a, double b) {
    const double v[] = {
        a + b, a - b, a * b, a / b, fmax(a, b), fmin(a, b), pow(a, b), a == b, a != b, a<b, a <= b, a> b, a >= b};
    return v[op];
}

static void binary_values(void **state) {
    (void)state;
    EACH_WAY for (int op = 0; op < LD_BINARY_COUNT; op++) {
        ld_tensor *a = INPUT(2, 1, 5), *b = INPUT(3, 1);
        for (int i = 0; i < 10; i++)
            set(a, i, fabs(get(a, i)));
        set(b, 1, get(a, 3)); /* one equal pair */
        ld_tensor *y = keep(ld_binary("test", (ld_binary_op)op, a, b));
        assert_int_equal(y->dtype, op >= LD_EQ ? LD_U8 : DTYPE);
        has_shape(y, SHAPE(2, 3, 5));
        lies_canonical(y);
        for (int i = 0; i < 30; i++) {
            double v = combine((ld_binary_op)op, get(a, i / 15 * 5 + i % 5), get(b, i / 5 % 3));
            near("binary", get(y, i), v, EPS * (1 + fabs(v)));
        }
        ld_tensor *right = keep(ld_binary_number("test", (ld_binary_op)op, a, 0.5, false));
        ld_tensor *left = keep(ld_binary_number("test", (ld_binary_op)op, a, 0.5, true));
        for (int i = 0; i < 10; i++) {
            near("number on the right", get(right, i), combine((ld_binary_op)op, get(a, i), 0.5), EPS * 10);
            near("number on the left", get(left, i), combine((ld_binary_op)op, 0.5, get(a, i)), EPS * 10);
        }
        drop_kept();
    }
    ld_tensor *n = tensor(LD_F32, SHAPE(1), VALUES(49)); /* 49 (1/49) is not 1 */
    near("49 / 49", get(keep(ld_binary_number("div", LD_DIV, n, 49, false)), 0), 1, 0);
    ld_tensor *big = tensor(LD_I64, SHAPE(2), VALUES(9007199254740991, -3));
    near("integers stay exact", get(keep(ld_binary_number("sub", LD_SUB, big, 1, false)), 0), 9007199254740990, 0);
    near("integers", get(keep(ld_binary_number("mul", LD_MUL, big, -2, true)), 1), 6, 0);
}

static void where_and_casts(void **state) {
    (void)state;
    ld_tensor *c = tensor(LD_U8, SHAPE(2, 1), VALUES(1, 0)), *a = tensor(LD_I64, SHAPE(3), VALUES(1, 2, 3));
    ld_tensor *b = tensor(LD_I64, SHAPE(1), VALUES(-5));
    ld_tensor *y = keep(ld_where_select(c, a, b));
    has_shape(y, SHAPE(2, 3));
    has_values("where", y, VALUES(1, 2, 3, -5, -5, -5), 0);
    ld_tensor *x = tensor(LD_F32, SHAPE(3), VALUES(1.75, -2.5, 300));
    has_values("to i32", keep(ld_cast(x, LD_I32)), VALUES(1, -2, 300), 0);
    has_values("to f16", keep(ld_cast(x, LD_F16)), VALUES(1.75, -2.5, 300), 0);
    ld_tensor *same = keep(ld_cast(x, LD_F32)), *copy = keep(ld_clone(x)), *alias = keep(ld_detach(x));
    assert_ptr_equal(same, x);
    assert_true(copy->storage != x->storage && alias->storage == x->storage);
    x->requires_grad = true;
    assert_false(keep(ld_detach(x))->requires_grad);
    assert_true(keep(ld_clone(x))->requires_grad);
    assert_false(keep(ld_cast(x, LD_I64))->requires_grad);
    assert_false(keep(ld_binary("gt", LD_GT, x, copy))->requires_grad);
}

static void in_place(void **state) {
    (void)state;
    ld_tensor *x = tensor(LD_F64, SHAPE(2, 3), VALUES(1, 2, 3, 4, 5, 6)),
              *row = tensor(LD_F64, SHAPE(3), VALUES(1, 10, 100));
    assert_int_equal(ld_binary_("mul_", LD_MUL, x, row), 0);
    has_values("mul_", x, VALUES(1, 20, 300, 4, 50, 600), 0);
    assert_int_equal(ld_binary_("sub_", LD_SUB, x, keep(ld_select(x, 0, 0))), 0); /* y's memory is x's first row */
    has_values("sub_ of its own row", x, VALUES(0, 0, 0, 3, 30, 300), 0);
    ld_tensor *square = tensor(LD_F64, SHAPE(2, 2), VALUES(1, 2, 3, 4)),
              *turned = keep(ld_permute(square, (int[]){1, 0}));
    assert_int_equal(ld_copy_(square, turned), 0);
    has_values("copy_ of its transpose", square, VALUES(1, 3, 2, 4), 0);
    assert_int_equal(ld_axpby_(square, square, 2, 3), 0);
    has_values("axpby_ of itself", square, VALUES(5, 15, 10, 20), 0);
    assert_int_equal(ld_axpby_(x, row, -1, 0), 0);
    has_values("axpby_", x, VALUES(-1, -10, -100, -1, -10, -100), 0);
    assert_int_equal(ld_unary_("abs_", LD_ABS, keep(ld_slice(x, 1, 0, 2, 2)), 0, 0), 0);
    has_values("abs_ of a slice", x, VALUES(1, -10, 100, 1, -10, 100), 0);
    assert_int_equal(ld_copy_(x, tensor(LD_I32, SHAPE(2, 1), VALUES(7, -8))), 0);
    has_values("copy_", x, VALUES(7, 7, 7, -8, -8, -8), 0);
    assert_int_equal(ld_fill_(keep(ld_select(x, 1, 2)), 0.5), 0);
    has_values("fill_ of a column", x, VALUES(7, 7, 0.5, -8, -8, 0.5), 0);
}

/* ---- reductions ------------------------------------------------------------------------------------------------------ */

static double start_of(ld_reduce_op op) {
    return op == LD_MAX ? -INFINITY : op == LD_MIN ? INFINITY : 0;
}

static double fold(ld_reduce_op op, double a, double v) {
    const double all[] = {a + v, a + v, fmax(a, v), fmin(a, v), a + v * v};
    return all[op];
}

static void reduce_values(void **state) {
    (void)state;
    static const int64_t shape[4] = {2, 3, 4, 5};
    EACH_WAY for (int op = 0; op < LD_REDUCE_COUNT; op++) for (unsigned mask = 0; mask < 16; mask++) {
        ld_tensor *x = laid_out(numbers(DTYPE, 4, shape, 9), way % LAYOUTS);
        int dims[4], n = 0, left = 0;
        int64_t flat[4], wide[4];
        for (int d = 0; d < 4; d++) {
            wide[d] = shape[d];
            if (mask & 1u << d)
                dims[n++] = mask & 1 ? d - 4 : d; /* from the end, too */
            if (mask & 1u << d || mask == 0)
                wide[d] = 1;
            else
                flat[left++] = shape[d];
        }
        ld_tensor *y = keep(ld_reduce("test", (ld_reduce_op)op, x, dims, n, false));
        ld_tensor *z = keep(ld_reduce("test", (ld_reduce_op)op, x, dims, n, true));
        has_shape(y, left, flat);
        has_shape(z, 4, wide);
        lies_canonical(y);
        lies_canonical(z);
        double want[120];
        for (int i = 0; i < 120; i++)
            want[i] = start_of((ld_reduce_op)op);
        for (int i = 0; i < 120; i++) {
            int to = 0, at[4] = {i / 60, i / 20 % 3, i / 5 % 4, i % 5};
            for (int d = 0; d < 4; d++)
                to = to * (int)wide[d] + (wide[d] == 1 ? 0 : at[d]);
            want[to] = fold((ld_reduce_op)op, want[to], get(x, i));
        }
        for (int64_t i = 0, all = ld_tensor_numel(y); i < all; i++)
            want[i] /= op == LD_MEAN ? 120 / (double)all : 1;
        has_values("reduce", y, want, EPS * 10);
        has_values("reduce, kept", z, want, EPS * 10);
        drop_kept();
    }
}

static void reductions_of_integers(void **state) {
    (void)state;
    ld_tensor *x = tensor(LD_U8, SHAPE(2, 3), VALUES(200, 100, 255, 1, 2, 3));
    ld_tensor *y = keep(ld_reduce("sum", LD_SUM, x, (int[]){1}, 1, false)),
              *m = keep(ld_reduce("max", LD_MAX, x, NULL, 0, false));
    assert_int_equal(y->dtype, LD_I64);
    assert_int_equal(m->dtype, LD_U8);
    has_values("sum of u8", y, VALUES(555, 6), 0);
    near("max of u8", get(m, 0), 255, 0);
    ld_tensor *none = tensor(LD_F64, SHAPE(0, 3), NULL);
    has_values("sum of nothing", keep(ld_reduce("sum", LD_SUM, none, (int[]){0}, 1, false)), VALUES(0, 0, 0), 0);
    has_values("mean of nothing", keep(ld_reduce("mean", LD_MEAN, none, NULL, 0, false)), VALUES(NAN), 0);
}

static void arg_values(void **state) {
    (void)state;
    EACH_WAY {
        ld_tensor *x = INPUT(2, 3, 4, 5);
        for (int dim = 0; dim < 4; dim++) {
            ld_tensor *y = keep(ld_arg("argmax", x, dim, false, false)),
                      *z = keep(ld_arg("argmin", x, dim - 4, true, true));
            assert_int_equal(y->dtype, LD_I64);
            assert_int_equal(y->ndim, 3);
            assert_int_equal(z->shape[dim], 1);
            lies_canonical(y);
            int64_t step = 1, size = x->shape[dim];
            for (int d = dim + 1; d < 4; d++)
                step *= x->shape[d];
            for (int64_t i = 0; i < 120 / size; i++) {
                int64_t base = i / step * step * size + i % step, most = 0, least = 0;
                for (int64_t k = 0; k < size; k++) {
                    most = get(x, base + k * step) > get(x, base + most * step) ? k : most;
                    least = get(x, base + k * step) < get(x, base + least * step) ? k : least;
                }
                near("argmax", get(y, i), (double)most, 0);
                near("argmin", get(z, i), (double)least, 0);
            }
        }
    }
}

static void sum_to_undoes_broadcasting(void **state) {
    (void)state;
    EACH_WAY {
        ld_tensor *x = INPUT(4, 2, 3, 5), *y = keep(ld_sum_to(x, SHAPE(2, 1, 5))),
                  *same = keep(ld_sum_to(x, SHAPE(4, 2, 3, 5)));
        assert_ptr_equal(same->storage, x->storage);
        has_shape(y, SHAPE(2, 1, 5));
        for (int i = 0; i < 10; i++) {
            double sum = 0;
            for (int a = 0; a < 4; a++)
                for (int b = 0; b < 3; b++)
                    sum += get4(x, a, i / 5, b, i % 5);
            near("sum_to", get(y, i), sum, EPS * 10);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(unary_values),  TEST(binary_values),          TEST(where_and_casts), TEST(in_place),
        TEST(reduce_values), TEST(reductions_of_integers), TEST(arg_values),      TEST(sum_to_undoes_broadcasting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
