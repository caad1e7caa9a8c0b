/* unary and its gradient: the device's slots against the CPU's. */
#include "orders.h"

static bool wants_positive(int op) {
    return op == LD_LOG || op == LD_SQRT || op == LD_RSQRT || op == LD_POW || op == LD_RECIPROCAL;
}

/* Suit LEAKY, CLAMP, AFFINE and POW alike. */
static const double a_of[] = {-0.3, 2, 1, 0.5}, b_of[] = {0.6, 3, 0, 1};

static void unary_case(ld_dtype t, layout ly, layout lx, const shape_case *s, int order) {
    for (int op = 0; op < LD_UNARY_COUNT; op++) {
        int k = (op + s->ndim) % 4;
        ld_view *x = make_view(t, lx, s->ndim, s->shape), *want = make_view(t, ly, s->ndim, s->shape),
                *got = twin(want);
        randomise(x, 4, wants_positive(op) ? 4.1 : 0);
        ok(ld_cpu_unary(want, x, (ld_unary_op)op, a_of[k], b_of[k]));
        set_order(order);
        ok(ld_cuda_unary(got, x, (ld_unary_op)op, a_of[k], b_of[k]));
        agree("unary", got, want, unit_of(t), op == LD_LOG || op == LD_LEAKY || op == LD_AFFINE);
        ld_view *g = make_view(t, ly, s->ndim, s->shape), *other = make_view(t, ly, s->ndim, s->shape);
        const ld_view *kept = ld_unary_keeps_result((ld_unary_op)op) ? want : x;
        randomise(g, 2, 0);
        ok(ld_cpu_unary_bwd(other, g, kept, (ld_unary_op)op, a_of[k], b_of[k]));
        ld_view *dx = twin(g); /* in place, too */
        ok(ld_cuda_unary_bwd(dx, dx, kept, (ld_unary_op)op, a_of[k], b_of[k]));
        agree("unary backward", dx, other, unit_of(t), 0.3);
        if (lx != SPREAD) {
            ok(ld_cuda_unary(x, x, (ld_unary_op)op, a_of[k], b_of[k]));
            agree("unary in place", x, got, 0, 0);
        }
    }
}

static void unary(void **state) {
    (void)state;
    for (int t = 0; t < 4; t++)
        for (int p = 0; p < LAYOUT_PAIRS; p++)
            for (int s = 0; s < SHAPES; s++) {
                unary_case(all_dtypes[t], layout_pairs[p][0], layout_pairs[p][1], &shape_cases[s], (p + s) % ORDERS);
                next_case();
            }
}

/* Exponents with functions of their own, and what happens at the ends of the floats. */
static void extremes(void **state) {
    (void)state;
    static const double ends[] = {0,    -0.0, 1,     -1,    NAN, INFINITY, -INFINITY, 1e-38, 1e38, -1e38, 88.5,
                                  -104, 1e-5, 0.625, -0.75, 20,  -20,      6,         -6,    2.5,  0.5,   -2.5};
    static const double exponents[] = {0, 1, 2, 3, 0.5, -0.5, -1, 2.5, -3};
    enum { N = sizeof ends / sizeof *ends };
    for (int t = 0; t < 4; t++)
        for (int op = 0; op < LD_UNARY_COUNT; op++)
            for (int k = 0; k < (op == LD_POW ? 9 : 1); k++) {
                double a = op == LD_POW ? exponents[k] : 0.25, b = 0.75;
                ld_view *x = make_view(all_dtypes[t], ROW_MAJOR, 1, (int64_t[]){N}), *want = twin(x), *got = twin(x);
                ld_view *g = twin(x);
                for (int i = 0; i < N; i++) {
                    bool far = fabs(ends[i]) > 1e5 && (op == LD_SIN || op == LD_COS || op == LD_TAN);
                    put(x, i, far ? 3 : ends[i]);
                    put(g, i, i % 5 ? 1.5 : INFINITY);
                }
                ok(ld_cpu_unary(want, x, (ld_unary_op)op, a, b));
                ok(ld_cuda_unary(got, x, (ld_unary_op)op, a, b));
                agree("unary", got, want, unit_of(all_dtypes[t]), op == LD_LOG);
                ok(ld_cpu_unary_bwd(want, g, x, (ld_unary_op)op, a, b));
                ok(ld_cuda_unary_bwd(got, g, x, (ld_unary_op)op, a, b));
                agree("unary backward", got, want, 2 * unit_of(all_dtypes[t]), 0.1);
                next_case();
            }
}

/* Integers: what they have, wraps; what they lack is refused. */
static void integers(void **state) {
    (void)state;
    static const int64_t ends[] = {0, 1, -1, 2, 7, INT32_MIN, INT32_MAX, INT64_MIN, INT64_MAX, 200, -13, 3};
    enum { N = sizeof ends / sizeof *ends };
    for (int t = 4; t < 7; t++)
        for (int op = 0; op < LD_UNARY_COUNT; op++)
            for (int k = 0; k < 4; k++) {
                double a = (double[]){-0.3, 2, -5, 1e30}[k], b = (double[]){0.6, 3, 100, 7.5}[k];
                ld_view *x = make_view(all_dtypes[t], ROW_MAJOR, 1, (int64_t[]){N}), *want = twin(x), *got = twin(x);
                for (int i = 0; i < N; i++)
                    memcpy(element(x, i), &ends[i], ld_dtype_size(x->dtype));
                int code = ld_cpu_unary(want, x, (ld_unary_op)op, a, b);
                assert_int_equal(ld_cuda_unary(got, x, (ld_unary_op)op, a, b), code);
                ok(0); /* waits for a card */
                if (!code)
                    assert_memory_equal(got->data, want->data, N * ld_dtype_size(x->dtype));
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(unary, tidy),
        cmocka_unit_test_teardown(extremes, tidy),
        cmocka_unit_test_teardown(integers, tidy),
    };
    return RUN_KERNEL_TESTS("unary kernels", tests);
}
