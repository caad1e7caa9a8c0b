/* Gradients of every operation in f64: against central differences, under a random upstream gradient, for several layouts
 * of the inputs and of the upstream gradient, all inputs together and each alone. */
#include "op_cases.h"

/* Step of the differences: their error is about STEP^2 in truncation and 1e-16 / STEP in rounding, both near 1e-10 for
 * functions of moderate third derivative; 1e-7 leaves room for those that are not. */
#define STEP 1e-5
#define TOL  1e-7

/* sum of w y, without history. */
static double weighted(const op_case *c, ld_tensor *const *x, const ld_tensor *w) {
    bool was = ld_set_recording(false);
    ld_tensor *y = c->f(x);
    if (!y)
        fail_msg("%s: %s", c->name, ld_error());
    double sum = 0;
    for (int64_t i = 0; i < ld_tensor_numel(y); i++)
        sum += get(w, i) * get(y, i);
    ld_tensor_drop(y);
    ld_set_recording(was);
    return sum;
}

static ld_tensor *differences(const op_case *c, ld_tensor *const *x, int k, const ld_tensor *w) {
    ld_tensor *d = tensor(LD_F64, x[k]->ndim, x[k]->shape, NULL);
    for (int64_t i = 0; i < ld_tensor_numel(d); i++) {
        double at = get(x[k], i);
        set(x[k], i, at + STEP);
        double more = weighted(c, x, w);
        set(x[k], i, at - STEP);
        set(d, i, (more - weighted(c, x, w)) / (2 * STEP));
        set(x[k], i, at);
    }
    return d;
}

/* Forward and backward with the upstream gradient w. */
static void run(const op_case *c, ld_tensor *const *x, ld_tensor *w) {
    ld_tensor *y = keep(c->f(x));
    assert_true(y->requires_grad);
    if (ld_backward(y, w, false))
        fail_msg("%s: %s", c->name, ld_error());
}

static void compare(const op_case *c, int layout, ld_tensor *const *x, ld_tensor *const *d, int n) {
    for (int k = 0; k < n; k++) {
        if (c->f == selected && k == 2) { /* an input that is only compared */
            assert_null(x[k]->grad);
            continue;
        }
        assert_non_null(x[k]->grad);
        has_shape(x[k]->grad, x[k]->ndim, x[k]->shape);
        assert_true(ld_tensor_is_canonical(x[k]->grad));
        double off = distance(x[k]->grad, d[k]);
        if (!(off < TOL))
            fail_msg("%s: gradient %d of layout %d is off by %g", c->name, k, layout, off);
    }
}

/* Each input's gradient alone is what it is together with the others'. */
static void compare_alone(const op_case *c, ld_tensor *const *x, ld_tensor *w, int n) {
    ld_tensor *together[4];
    for (int k = 0; k < n; k++)
        together[k] = x[k]->grad ? keep(ld_tensor_ref(x[k]->grad)) : NULL;
    for (int only = 0; only < n; only++) {
        if (!together[only])
            continue;
        forget_gradients(x, n);
        for (int k = 0; k < n; k++)
            x[k]->requires_grad = k == only;
        run(c, x, w);
        for (int k = 0; k < n; k++)
            if (k == only ? distance(x[k]->grad, together[k]) > 1e-13 : x[k]->grad != NULL)
                fail_msg("%s: gradient %d where only %d is wanted", c->name, k, only);
    }
}

static void check_gradients(const op_case *c) {
    ld_tensor *x[4] = {NULL}, *d[4];
    for (int layout = 0; layout < LAYOUTS; layout++) {
        int n = make_inputs(c, x, layout);
        ld_tensor *y = keep(c->f(x)), *w = laid_out(numbers(LD_F64, y->ndim, y->shape, 5), layout);
        for (int k = 0; k < n; k++)
            d[k] = differences(c, x, k, w);
        run(c, x, w);
        compare(c, layout, x, d, n);
        compare_alone(c, x, w, n);
        drop_kept();
    }
}

#define GRADIENTS(table)                                                                                               \
    static void table##_gradients(void **state) {                                                                      \
        (void)state;                                                                                                   \
        for (size_t i = 0; i < LENGTH(table); i++) {                                                                   \
            check_gradients(&table[i]);                                                                                \
            same_memory(table[i].name);                                                                                \
        }                                                                                                              \
    }
GRADIENTS(elementwise)
GRADIENTS(reductions)
GRADIENTS(shapes)
GRADIENTS(products)
GRADIENTS(norms)
GRADIENTS(others)

/* Casts between floats: the gradient comes back in x's dtype, unchanged up to rounding. */
static void casts_carry_gradients(void **state) {
    (void)state;
    static const ld_dtype floats[] = {LD_F32, LD_BF16, LD_F16, LD_F64};
    for (size_t i = 0; i < LENGTH(floats); i++)
        for (size_t k = 0; k < LENGTH(floats); k++) {
            if (i == k)
                continue;
            ld_tensor *x = tensor(floats[i], SHAPE(3), VALUES(1, -0.5, 2));
            x->requires_grad = true;
            ld_tensor *y = keep(ld_cast(x, floats[k])), *g = tensor(floats[k], SHAPE(3), VALUES(0.25, -3, 1.5));
            assert_int_equal(y->dtype, floats[k]);
            assert_int_equal(ld_backward(y, g, false), 0);
            assert_int_equal(x->grad->dtype, floats[i]);
            has_values("cast", x->grad, VALUES(0.25, -3, 1.5), 0); /* exact in every float dtype */
        }
}

/* Ties of maximum go to a, and of MAX to the first; POWER has no NaN at 0. */
static void corners(void **state) {
    (void)state;
    ld_tensor *x = tensor(LD_F64, SHAPE(2, 3), VALUES(1, 3, 3, -2, -2, -5)),
              *y = tensor(LD_F64, SHAPE(3), VALUES(1, 2, 3));
    x->requires_grad = y->requires_grad = true;
    assert_int_equal(ld_backward(keep(ld_binary("maximum", LD_MAXIMUM, x, y)),
                                 tensor(LD_F64, SHAPE(2, 3), VALUES(1, 2, 3, 4, 5, 6)), false),
                     0);
    has_values("dx of maximum", x->grad, VALUES(1, 2, 3, 0, 0, 0), 0);
    has_values("dy of maximum", y->grad, VALUES(4, 5, 6), 0);
    ld_tensor *z = tensor(LD_F64, SHAPE(2, 3), VALUES(1, 3, 3, -2, -2, -5));
    z->requires_grad = true;
    assert_int_equal(
        ld_backward(keep(ld_reduce("max", LD_MAX, z, D(1), 1, false)), tensor(LD_F64, SHAPE(2), VALUES(5, 7)), false),
        0);
    has_values("dx of max", z->grad, VALUES(0, 5, 0, 7, 0, 0), 0);
    ld_tensor *a = tensor(LD_F64, SHAPE(3), VALUES(0, 0, 2)), *b = tensor(LD_F64, SHAPE(3), VALUES(2, 0, 0));
    a->requires_grad = b->requires_grad = true;
    assert_int_equal(
        ld_backward(keep(ld_binary("pow", LD_POWER, a, b)), tensor(LD_F64, SHAPE(3), VALUES(1, 1, 1)), false), 0);
    has_values("da of pow", a->grad, VALUES(0, 0, 0), 0);
    has_values("db of pow", b->grad, VALUES(0, 0, log(2)), 1e-15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(elementwise_gradients), TEST(reductions_gradients), TEST(shapes_gradients),      TEST(products_gradients),
        TEST(norms_gradients),       TEST(others_gradients),     TEST(casts_carry_gradients), TEST(corners),

    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
