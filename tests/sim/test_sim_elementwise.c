/* binary, axpby, where: the device's slots against the CPU's. */
#include "orders.h"

/* What a test of a slot does with one dtype, two layouts and a shape. */
typedef void (*case_fn)(ld_dtype t, layout ly, layout lx, const shape_case *s);

static void each_case(case_fn fn, int dtypes) {
    for (int t = 0; t < dtypes; t++)
        for (int p = 0; p < LAYOUT_PAIRS; p++) {
            for (int s = 0; s < SHAPES; s++)
                fn(all_dtypes[t], layout_pairs[p][0], layout_pairs[p][1], &shape_cases[s]);
            next_case();
        }
}

/* ---- binary ---------------------------------------------------------------------------------------------------------- */

static void binary_case(ld_dtype t, layout ly, layout lx, const shape_case *s) {
    ld_view *a = make_view(t, lx == SPREAD ? CANONICAL : lx, s->ndim, s->shape),
            *b = make_view(t, lx, s->ndim, s->shape);
    randomise_any(a, 5, t == LD_I64 || t == LD_I32 ? 0 : 5.5);
    randomise_any(b, 3, 0);
    for (int64_t i = 0; i < ld_view_numel(a); i += 7) {
        put(b, i, get(a, i));
        if (ld_dtype_is_float(t) && i % 2)
            put(i % 4 == 1 ? a : b, i, NAN);
    }
    for (int op = 0; op < LD_BINARY_COUNT; op++) {
        ld_dtype out = op >= LD_EQ ? LD_U8 : t;
        ld_view *want = make_view(out, ly, s->ndim, s->shape), *got = twin(want);
        ok(ld_cpu_binary(want, a, b, (ld_binary_op)op));
        set_order(op % ORDERS);
        ok(ld_cuda_binary(got, a, b, (ld_binary_op)op));
        agree("binary", got, want, op == LD_POWER || op == LD_DIV ? unit_of(t) : 0, 0);
    }
    ld_view *c = twin(a), *d = twin(a); /* in place */
    ok(ld_cpu_binary(c, c, b, LD_MUL));
    ok(ld_cuda_binary(d, d, b, LD_MUL));
    agree("binary in place", d, c, 0, 0);
}

static void binary(void **state) {
    (void)state;
    each_case(binary_case, 7);
}

/* Numbers at the ends of the integers, and divisors of 0. */
static void binary_integers(void **state) {
    (void)state;
    static const int64_t ends[] = {0, 1, -1, 2, 7, INT32_MIN, INT32_MAX, INT64_MIN, INT64_MAX, 200, -13, 3};
    enum { N = sizeof ends / sizeof *ends };
    static const ld_dtype types[] = {LD_I64, LD_I32, LD_U8};
    for (int t = 0; t < 3; t++) {
        ld_view *a = make_view(types[t], ROW_MAJOR, 2, (int64_t[]){N, N}), *b = twin(a);
        for (int i = 0; i < N * N; i++)
            for (int k = 0; k < 2; k++)
                memcpy(element(k ? b : a, i), &ends[k ? i % N : i / N], ld_dtype_size(types[t]));
        for (int op = 0; op < LD_BINARY_COUNT; op++) {
            ld_view *want = make_view(op >= LD_EQ ? LD_U8 : types[t], ROW_MAJOR, 2, a->shape), *got = twin(want);
            ok(ld_cpu_binary(want, a, b, (ld_binary_op)op));
            ok(ld_cuda_binary(got, a, b, (ld_binary_op)op));
            assert_memory_equal(got->data, want->data, (size_t)ld_view_numel(want) * ld_dtype_size(want->dtype));
        }
    }
}

/* ---- axpby, where ---------------------------------------------------------------------------------------------------- */

static void axpby_case(ld_dtype t, layout ly, layout lx, const shape_case *s) {
    ld_view *x = make_view(t, lx, s->ndim, s->shape), *want = make_view(t, ly, s->ndim, s->shape);
    randomise(x, 3, 0);
    for (int k = 0; k < 3; k++) {
        static const double alpha[] = {1, -0.3, 2}, beta[] = {1, 0.7, 0};
        randomise(want, 2, 0);
        ld_view *got = twin(want);
        ok(ld_cpu_axpby(want, x, alpha[k], beta[k]));
        set_order(k);
        ok(ld_cuda_axpby(got, x, alpha[k], beta[k]));
        agree("axpby", got, want, unit_of(t), 1);
    }
    ld_view *nan = make_view(t, ly, s->ndim, s->shape); /* y is not read when beta is 0 */
    randomise(nan, 0, NAN);
    ok(ld_cuda_axpby(nan, x, 2, 0));
    agree("axpby", nan, want, 0, 0);
}

static void axpby(void **state) {
    (void)state;
    each_case(axpby_case, 4);
}

static void where_case(ld_dtype t, layout ly, layout lx, const shape_case *s) {
    ld_view *c = make_view(LD_U8, lx, s->ndim, s->shape), *a = make_view(t, ly, s->ndim, s->shape);
    ld_view *b = make_view(t, lx, s->ndim, s->shape), *want = make_view(t, ly, s->ndim, s->shape), *got = twin(want);
    randomise_any(c, 2, 0);
    randomise_any(a, 9, 0);
    randomise_any(b, 9, 0);
    ok(ld_cpu_where(want, c, a, b));
    EACH_ORDER(o) {
        ok(ld_cuda_where(got, c, a, b));
        agree("where", got, want, 0, 0);
    }
}

static void where(void **state) {
    (void)state;
    each_case(where_case, 7);
}

/* ---- shapes of their own --------------------------------------------------------------------------------------------- */

/* A bias over channels, a factor by sample, and addresses that are not aligned: the paths of space.h. */
static void broadcasts(void **state) {
    (void)state;
    for (int t = 0; t < 4; t++)
        for (int64_t channels = 1; channels <= 48; channels += channels < 3 ? 1 : 15)
            for (int shift = 0; shift < 2; shift++) {
                int64_t n = 5, hw = 33, all[] = {n, hw, channels};
                ld_view *a = make_view(all_dtypes[t], ROW_MAJOR, 3, all),
                        *b = make_view(all_dtypes[t], ROW_MAJOR, 3, all);
                randomise(a, 2, 0);
                randomise(b, 2, 0);
                for (int k = 0; k < 4; k++) { /* by channel, by position, by sample, one for all */
                    ld_view bias = *b, first = *a;
                    for (int d = 0; d < 3; d++)
                        bias.stride[d] = k == (int[]){2, 1, 0}[d] ? b->stride[d] : 0;
                    if (shift) { /* from the second element on, one position less */
                        first.data = (char *)first.data + ld_dtype_size(a->dtype);
                        first.shape[1] = bias.shape[1] = hw - 1;
                    }
                    ld_view *want = make_view(all_dtypes[t], ROW_MAJOR, 3, first.shape), *got = twin(want);
                    ok(ld_cpu_binary(want, &first, &bias, LD_SUB));
                    EACH_ORDER(o) {
                        ok(ld_cuda_binary(got, &first, &bias, LD_SUB));
                        agree("broadcast", got, want, 0, 0);
                    }
                }
                next_case();
            }
}

/* Long grid-stride loops over views that merge in no dimension. */
static void strided_results(void **state) {
    (void)state;
    int64_t shape[] = {1000, 37};
    ld_view *a = make_view(LD_F32, REVERSED, 2, shape), *want = make_view(LD_F32, GAPPED, 2, shape), *got = twin(want);
    randomise(a, 1, 0);
    ld_sim_set_processors(1);
    ok(ld_cpu_binary(want, a, a, LD_ADD));
    EACH_ORDER(o) {
        ok(ld_cuda_binary(got, a, a, LD_ADD));
        agree("strided", got, want, 0, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(binary, tidy),     cmocka_unit_test_teardown(binary_integers, tidy),
        cmocka_unit_test_teardown(axpby, tidy),      cmocka_unit_test_teardown(where, tidy),
        cmocka_unit_test_teardown(broadcasts, tidy), cmocka_unit_test_teardown(strided_results, tidy),
    };
    return RUN_KERNEL_TESTS("elementwise kernels", tests);
}
