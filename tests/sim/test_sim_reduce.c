/* reduce and arg: the device's slots against the CPU's. */
#include "orders.h"

static const shape_case shapes[] = {
    {1, {0}},           {1, {1}},
    {1, {31}},          {1, {33}},
    {1, {1000}},        {2, {3, 0}},
    {2, {33, 31}},      {2, {3, 1000}},
    {2, {1000, 3}},     {4, {2, 3, 5, 7}},
    {3, {5, 1, 40}},    {2, {2500, 33}},
    {4, {2, 40, 6, 6}}, {5, {2, 3, 2, 3, 2}},
    {1, {5000}},        {2, {2, 4100}},
    {3, {4, 9, 32}},
};
enum { COUNT = sizeof shapes / sizeof *shapes };

/* Sums differ by a few roundings of their terms' sizes: x within 2, so measured against 2 depth^(1/2). */
static double tolerance(ld_dtype t, ld_reduce_op op) {
    return op == LD_MAX || op == LD_MIN ? 0 : t == LD_F64 ? 1e-13 : t == LD_F32 ? 1e-6 : unit_of(t);
}

static void reduce_case(ld_dtype t, layout ly, layout lx, const shape_case *s, unsigned gone) {
    int64_t to[LD_MAX_DIMS], depth = 1;
    for (int d = 0; d < s->ndim; d++) {
        to[d] = gone >> d & 1 ? 1 : s->shape[d];
        depth *= gone >> d & 1 ? s->shape[d] : 1;
    }
    ld_view *x = make_view(t, lx, s->ndim, s->shape);
    randomise_any(x, 2, t == LD_I64 || t == LD_I32 ? -1 : 0.3);
    for (int op = 0; op < LD_REDUCE_COUNT; op++) {
        ld_view *want = make_view(t, ly, s->ndim, to), *got = twin(want);
        int code = ld_cpu_reduce(want, x, (ld_reduce_op)op);
        if (code)
            assert_int_equal(ld_cuda_reduce(got, x, (ld_reduce_op)op), code);
        int first = t == LD_F32 ? 0 : (int)(gone + (unsigned)op) % ORDERS; /* other dtypes: one order each, in turn */
        for (int o = first; o < (t == LD_F32 ? ORDERS : first + 1) && !code; o++) {
            ld_view *other = twin(want);
            set_order(o);
            ok(ld_cuda_reduce(other, x, (ld_reduce_op)op));
            agree("reduce", other, want, tolerance(t, (ld_reduce_op)op),
                  sqrt((double)depth) * (op == LD_MEAN ? 1 / fmax(1, (double)depth) : 1));
            if (o == first)
                got = other;
            agree("reduce in another order of threads", other, got, 0, 0); /* the same to the bit */
        }
    }
    next_case();
}

static void reduce(void **state) {
    (void)state;
    for (int t = 0; t < 7; t++)
        for (int s = 0; s < COUNT; s++)
            for (unsigned gone = 0; gone < 1u << shapes[s].ndim; gone++) {
                int p = (int)(gone + (unsigned)s) % LAYOUT_PAIRS;
                reduce_case(all_dtypes[t], layout_pairs[p][0], layout_pairs[p][1], &shapes[s], gone);
                if (t == 0)
                    reduce_case(LD_F32, CANONICAL, CANONICAL, &shapes[s], gone);
            }
}

/* More outputs than blocks: those that a block takes one after another share its memory. */
static void outputs_in_turn(void **state) {
    (void)state;
    static const shape_case rows = {2, {70, 4096}}, columns = {2, {300, 40 * 32}};
    ld_sim_set_processors(1);
    for (int t = 0; t < 4; t++) {
        reduce_case(all_dtypes[t], CANONICAL, CANONICAL, &rows, 2);
        reduce_case(all_dtypes[t], CANONICAL, CANONICAL, &columns, 1);
    }
}

/* NaNs are extreme; workspace that cannot be had is an error; what floats alone have is refused to integers. */
static void reduce_ends(void **state) {
    (void)state;
    ld_view *x = make_view(LD_F32, ROW_MAJOR, 1, (int64_t[]){50000}),
            *y = make_view(LD_F32, ROW_MAJOR, 1, (int64_t[]){1});
    randomise(x, 1, 0);
    put(x, 31234, NAN);
    EACH_ORDER(o) for (int op = 0; op < LD_REDUCE_COUNT; op++) {
        ok(ld_cuda_reduce(y, x, (ld_reduce_op)op));
        assert_true(isnan(get(y, 0)));
    }
    ld_sim_fail_workspace(1);
    assert_int_equal(ld_cuda_reduce(y, x, LD_SUM), LD_EMEM);
    x->dtype = LD_I32;
    assert_int_equal(ld_cuda_reduce(y, x, LD_MEAN), LD_EDTYPE);
}

static void arg_case(ld_dtype t, layout ly, layout lx, const shape_case *s, int dim) {
    int64_t to[LD_MAX_DIMS];
    for (int d = 0; d < s->ndim; d++)
        to[d] = d == dim ? 1 : s->shape[d];
    ld_view *x = make_view(t, lx, s->ndim, s->shape);
    randomise_any(x, 3, 0);
    for (int64_t i = 0; i < ld_view_numel(x); i++) {
        put(x, i, floor(get(x, i) * 4) / 4); /* many are equal */
        if (ld_dtype_is_float(t) && i % 41 == 17)
            put(x, i, NAN);
    }
    for (int smallest = 0; smallest < 2; smallest++) {
        ld_view *want = make_view(LD_I64, ly, s->ndim, to), *got = twin(want);
        ok(ld_cpu_arg(want, x, dim, smallest));
        EACH_ORDER(o) {
            ok(ld_cuda_arg(got, x, dim, smallest));
            agree("arg", got, want, 0, 0);
        }
    }
    next_case();
}

static void arg(void **state) {
    (void)state;
    for (int t = 0; t < 7; t++)
        for (int p = 0; p < LAYOUT_PAIRS; p++)
            for (int s = 0; s < COUNT; s++)
                for (int dim = 0; dim < shapes[s].ndim; dim++)
                    if (shapes[s].shape[dim] > 0 && s != 11)
                        arg_case(all_dtypes[t], layout_pairs[p][0], layout_pairs[p][1], &shapes[s], dim);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(outputs_in_turn, tidy),
        cmocka_unit_test_teardown(reduce, tidy),
        cmocka_unit_test_teardown(reduce_ends, tidy),
        cmocka_unit_test_teardown(arg, tidy),
    };
    return RUN_KERNEL_TESTS("reduce kernels", tests);
}
