/* softmax and cross entropy: the device's slots against the CPU's (bf16 and f16 against its f32). */
#include "orders.h"

static const int64_t rows_of[] = {0, 1, 3, 33}, columns_of[] = {1, 10, 31, 33, 1000, 1025};
enum { ROWS = 4, COLUMNS = 6 };

static double tolerance(ld_dtype t) {
    return t == LD_F32 ? 2e-6 : unit_of(t);
}

static void softmax_case(ld_dtype t, int64_t m, int64_t k) {
    int64_t shape[] = {m, k};
    ld_view *x = make_view(t, ROW_MAJOR, 2, shape), *y = like(x), *g = like(x), *dx = like(x);
    randomise(x, 8, m == 3 ? -200 : 3); /* far below 0, too: the largest is taken off first */
    randomise(g, 1, 0);
    ld_view *want_y = like_for_cpu(x), *want_dx = like_for_cpu(x);
    ok(ld_cpu_softmax(want_y, for_cpu(x)));
    EACH_ORDER(o) {
        ok(ld_cuda_softmax(y, x));
        agree("softmax", y, want_y, tolerance(t), 1e-3);
    }
    ok(ld_cpu_softmax_bwd(want_dx, for_cpu(g), for_cpu(y)));
    EACH_ORDER(o) {
        ok(ld_cuda_softmax_bwd(dx, g, y));
        agree("softmax backward", dx, want_dx, tolerance(t), 0.1);
    }
    next_case();
}

static void softmax(void **state) {
    (void)state;
    for (int t = 0; t < 4; t++)
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < COLUMNS; c++)
                softmax_case(all_dtypes[t], rows_of[r], columns_of[c]);
}

/* losses: the dtype of loss and of its gradient */
static void entropy_case(ld_dtype t, ld_dtype losses, int64_t m, int64_t k, double smoothing, double scale) {
    ld_view *x = make_view(t, ROW_MAJOR, 2, (int64_t[]){m, k}), *classes = make_view(LD_I64, ROW_MAJOR, 1, &m);
    ld_view *loss = make_view(losses, ROW_MAJOR, 1, &m), *g = like(loss), *dx = like(x);
    randomise(x, scale, -1);
    randomise(g, 1, 0.2);
    for (int64_t i = 0; i < m; i++)
        put(classes, i, (double)(i * 7 % k));
    ld_view *want = like_for_cpu(loss), *want_dx = like_for_cpu(x);
    ok(ld_cpu_cross_entropy(want, for_cpu(x), classes, smoothing));
    EACH_ORDER(o) {
        ok(ld_cuda_cross_entropy(loss, x, classes, smoothing));
        agree("cross_entropy", loss, want, tolerance(losses), 1);
    }
    ok(ld_cpu_cross_entropy_bwd(want_dx, for_cpu(g), for_cpu(x), classes, smoothing));
    EACH_ORDER(o) {
        ok(ld_cuda_cross_entropy_bwd(dx, g, x, classes, smoothing));
        agree("cross_entropy backward", dx, want_dx, tolerance(t), 1e-3);
    }
    next_case();
}

static void cross_entropy(void **state) {
    (void)state;
    for (int t = 0; t < 4; t++)
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < COLUMNS; c++)
                for (int k = 0; k < 2; k++) {
                    entropy_case(all_dtypes[t], all_dtypes[t], rows_of[r], columns_of[c], k * 0.1, 8);
                    if (t == 1 || t == 2)
                        entropy_case(all_dtypes[t], LD_F32, rows_of[r], columns_of[c], k * 0.1, 8);
                }
}

/* A class of probability near 1: its gradient is that of the others, to all digits. */
static void certain(void **state) {
    (void)state;
    int64_t m = 4, k = 40;
    ld_view *x = make_view(LD_F32, ROW_MAJOR, 2, (int64_t[]){m, k}), *t = make_view(LD_I64, ROW_MAJOR, 1, &m);
    ld_view *g = make_view(LD_F32, ROW_MAJOR, 1, &m), *want = like(x), *got = like(x);
    randomise(x, 1, 0);
    randomise(g, 0, 1);
    for (int64_t i = 0; i < m; i++) {
        put(t, i, (double)i);
        put(x, i * k + i, 30);
    }
    ok(ld_cpu_cross_entropy_bwd(want, g, x, t, 0));
    EACH_ORDER(o) {
        ok(ld_cuda_cross_entropy_bwd(got, g, x, t, 0));
        agree("cross_entropy backward", got, want, 3e-6, 0);
    }
    x->dtype = LD_F64;
    assert_int_equal(ld_cuda_cross_entropy_bwd(got, g, x, t, 0), LD_EDTYPE);
}

/* A class that there is not, which a recorded step cannot check: its loss is no number, its neighbours' are, and nothing
 * beyond the row is touched. */
static void outside(void **state) {
    (void)state;
    int64_t m = 4, k = 40;
    ld_view *x = make_view(LD_F32, ROW_MAJOR, 2, (int64_t[]){m, k}), *t = make_view(LD_I64, ROW_MAJOR, 1, &m);
    ld_view *g = make_view(LD_F32, ROW_MAJOR, 1, &m), *loss = like(g), *dx = like(x);
    randomise(x, 1, 0);
    randomise(g, 0, 1);
    const double classes[] = {3, 40, -1, 1e12};
    for (int i = 0; i < 4; i++)
        put(t, i, classes[i]);
    for (int on_card = 0; on_card < 2; on_card++) {
        ok(on_card ? ld_cuda_cross_entropy(loss, x, t, 0.1) : ld_cpu_cross_entropy(loss, x, t, 0.1));
        ok(on_card ? ld_cuda_cross_entropy_bwd(dx, g, x, t, 0.1) : ld_cpu_cross_entropy_bwd(dx, g, x, t, 0.1));
        assert_true(isfinite(get(loss, 0)) && isfinite(get(dx, 3)) && isfinite(get(dx, 4)));
        for (int i = 1; i < 4; i++)
            assert_true(isnan(get(loss, i)));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(softmax, tidy),
        cmocka_unit_test_teardown(cross_entropy, tidy),
        cmocka_unit_test_teardown(certain, tidy),
        cmocka_unit_test_teardown(outside, tidy),
    };
    return RUN_KERNEL_TESTS("softmax kernels", tests);
}
