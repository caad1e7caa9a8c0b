/* gather_rows and scatter_rows: the device's slots against the CPU's. */
#include "orders.h"

static void rows_case(ld_dtype t, int64_t m, int64_t rows, int64_t k) {
    ld_view *x = make_view(t, ROW_MAJOR, 2, (int64_t[]){rows, k}), *idx = make_view(LD_I64, ROW_MAJOR, 1, &m);
    ld_view *want = make_view(t, ROW_MAJOR, 2, (int64_t[]){m, k}), *got = twin(want);
    randomise_any(x, 9, 0);
    for (int64_t i = 0; i < m; i++)
        put(idx, i, floor((double)rows * (noise() + 1) / 2));
    ok(ld_cpu_gather_rows(want, x, idx));
    EACH_ORDER(o) {
        ok(ld_cuda_gather_rows(got, x, idx));
        agree("gather_rows", got, want, 0, 0);
    }
    if (ld_dtype_is_float(t)) {
        ld_view *dx = twin(x), *sum = like_for_cpu(x);
        randomise(got, 3, 0);
        ok(ld_cpu_scatter_rows(sum, for_cpu(got), idx));
        EACH_ORDER(o) {
            ok(ld_cuda_scatter_rows(dx, got, idx));
            agree("scatter_rows", dx, sum, t == LD_F32 || t == LD_F64 ? 0 : unit_of(t), 0);
        }
    }
    next_case();
}

static void rows(void **state) {
    (void)state;
    static const int64_t sizes[][3] = {{0, 5, 8},    {7, 1, 8},    {31, 33, 1},   {33, 31, 33}, {300, 17, 24},
                                       {5, 1000, 3}, {5, 16, 300}, {1000, 40, 5}, {3, 4, 0}};
    for (int t = 0; t < 7; t++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            rows_case(all_dtypes[t], sizes[s][0], sizes[s][1], sizes[s][2]);
}

/* A table that starts between two groups of 16 bytes. */
static void unaligned(void **state) {
    (void)state;
    int64_t m = 9;
    ld_view *x = make_view(LD_F32, ROW_MAJOR, 2, (int64_t[]){6, 8}), *idx = make_view(LD_I64, ROW_MAJOR, 1, &m);
    ld_view *want = make_view(LD_F32, ROW_MAJOR, 2, (int64_t[]){m, 8}), *got = twin(want);
    randomise(x, 1, 0);
    ld_view odd = *x;
    odd.data = (float *)x->data + 1;
    odd.shape[0] = 5;
    for (int i = 0; i < m; i++)
        put(idx, i, i % 5);
    ok(ld_cpu_gather_rows(want, &odd, idx));
    EACH_ORDER(o) {
        ok(ld_cuda_gather_rows(got, &odd, idx));
        agree("gather_rows", got, want, 0, 0);
    }
}

/* Rows that are not there, which callers refuse: zeros are read, nothing is added. */
static void outside(void **state) {
    (void)state;
    int64_t m = 9;
    ld_view *x = make_view(LD_F32, ROW_MAJOR, 2, (int64_t[]){5, 8}), *idx = make_view(LD_I64, ROW_MAJOR, 1, &m);
    ld_view *g = make_view(LD_F32, ROW_MAJOR, 2, (int64_t[]){m, 8}), *got = twin(g), *want = twin(x), *dx = twin(x);
    randomise(x, 1, 0);
    randomise(g, 1, 0);
    for (int i = 0; i < m; i++)
        put(idx, i, i == 3 ? 17 : i == 4 ? -1 : i % 5);
    EACH_ORDER(o) {
        ok(ld_cuda_gather_rows(got, x, idx));
        for (int64_t i = 0; i < m * 8; i++)
            assert_true(get(got, i) == (i / 8 == 3 || i / 8 == 4 ? 0 : get(x, i / 8 % 5 * 8 + i % 8)));
        ok(ld_cuda_scatter_rows(dx, g, idx));
        for (int64_t i = 0; i < 5 * 8; i++)
            put(want, i, i / 8 < 3 ? get(g, i) + get(g, i + 40) : i / 8 == 3 ? get(g, i + 40) : 0);
        agree("scatter_rows", dx, want, 1e-7, 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(rows, tidy),
        cmocka_unit_test_teardown(unaligned, tidy),
        cmocka_unit_test_teardown(outside, tidy),
    };
    return RUN_KERNEL_TESTS("row kernels", tests);
}
