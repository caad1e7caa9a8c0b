/* gather_augment: the device's slot against the CPU's. What is drawn and every value outside of rectangles is the same to the
 * bit; inside, normal numbers differ by what logf, sinf and cosf do (test_sim_random.c), times the sample's spread, and a
 * clamped one is the range's end. */
#include "orders.h"

typedef struct sizes {
    int64_t n, rows, c, h, w;
} sizes;

static const ld_augment ways[] = {{.seed = 3},
                                  {.pad = 2, .seed = 1, .first = 9},
                                  {.flip = 0.5, .seed = 1ull << 40, .first = 1ull << 33},
                                  {.erase = 0.2, .erases = 4, .seed = 2, .first = 7},
                                  {.pad = 40, .erase = 0.5, .erases = LD_AUGMENT_ERASES, .flip = 1, .seed = 5},
                                  {.pad = 1, .erase = 0.3, .erases = 3, .flip = 0.5, .seed = 8, .first = 1}};
enum { WAYS = sizeof ways / sizeof *ways };

static ld_view *listed(int64_t n, double scale, double shift) {
    ld_view *v = make_view(LD_I64, ROW_MAJOR, 1, &n);
    for (int64_t i = 0; i < n; i++)
        put(v, i, floor(scale * (noise() + 1) / 2 + shift));
    return v;
}

/* The largest magnitude in x. */
static double reach(const ld_view *x) {
    double most = 0;
    for (int64_t i = 0; i < ld_view_numel(x); i++)
        most = fmax(most, fabs(get(x, i)));
    return most;
}

static void gather_case(ld_dtype t, layout l, sizes s, const ld_augment *a, bool standard, bool lists) {
    int64_t n = lists ? s.n : s.rows;
    ld_view *x = make_view(t, l, 4, (int64_t[]){s.rows, s.c, s.h, s.w});
    ld_view *at = lists ? listed(n, (double)s.rows, 0) : NULL, *sample = lists ? listed(n, 0x1p40, 5) : NULL;
    ld_view *shift = standard ? make_view(LD_F32, ROW_MAJOR, 1, &s.c) : NULL, *scale = standard ? twin(shift) : NULL;
    ld_view *want = make_view(LD_F32, CANONICAL, 4, (int64_t[]){n, s.c, s.h, s.w}), *got = twin(want);
    randomise_any(x, t == LD_U8 ? 255 : 3, t == LD_U8 ? 0 : 1);
    if (standard) {
        randomise(shift, 1, 0);
        randomise(scale, 1, 2);
    }
    ok(ld_cpu_gather_augment(want, x, at, sample, shift, scale, a));
    bool draws_noise = (int64_t)(a->erase * (double)s.h) && (int64_t)(a->erase * (double)s.w);
    EACH_ORDER(o) {
        ok(ld_cuda_gather_augment(got, x, at, sample, shift, scale, a));
        agree("gather_augment", got, want, draws_noise ? 1e-6 : 0, reach(want));
    }
    next_case();
}

static void gathers(void **state) {
    (void)state;
    static const sizes all[] = {{0, 1, 3, 4, 4},  {1, 1, 1, 1, 1},   {31, 2, 3, 5, 7}, {33, 5, 1, 1, 33},
                                {3, 2, 4, 32, 8}, {5, 3, 3, 31, 33}, {2, 4, 1, 33, 1}, {4, 3, 0, 3, 3}};
    static const ld_dtype types[] = {LD_F16, LD_U8, LD_F32, LD_BF16, LD_F64};
    for (int t = 0; t < 5; t++)
        for (size_t s = 0; s < sizeof all / sizeof *all; s++)
            for (int w = 0; w < WAYS; w++)
                for (int how = 0; how < 4; how++)
                    if (t < 2 || how == 3) {
                        layout l = (layout)((s + (size_t)how + (size_t)t) % SPREAD);
                        gather_case(types[t], l, all[s], &ways[w], how & 1, how & 2);
                    }
}

/* More samples than blocks, and samples of several chunks. */
static void many(void **state) {
    (void)state;
    gather_case(LD_F16, ROW_MAJOR, (sizes){1000, 7, 2, 4, 3}, &ways[WAYS - 1], true, true);
    gather_case(LD_F16, ROW_MAJOR, (sizes){3, 2, 3, 40, 40}, &ways[WAYS - 1], true, true);
    gather_case(LD_U8, CANONICAL, (sizes){0, 200, 3, 8, 8}, &ways[1], true, false);
}

/* Places outside of rectangles to the bit: those that erasing leaves alone are those of the same draws without it. */
static void outside_to_the_bit(void **state) {
    (void)state;
    ld_augment with = ways[WAYS - 1], without = with;
    without.erases = 0;
    ld_view *x = make_view(LD_F16, ROW_MAJOR, 4, (int64_t[]){40, 4, 16, 16});
    ld_view *plain = make_view(LD_F32, CANONICAL, 4, (int64_t[]){40, 4, 16, 16}), *want = twin(plain),
            *got = twin(plain);
    randomise(x, 3, 1);
    ok(ld_cpu_gather_augment(plain, x, NULL, NULL, NULL, NULL, &without));
    ok(ld_cpu_gather_augment(want, x, NULL, NULL, NULL, NULL, &with));
    EACH_ORDER(o) {
        ok(ld_cuda_gather_augment(got, x, NULL, NULL, NULL, NULL, &with));
        int64_t covered = 0;
        for (int64_t i = 0; i < ld_view_numel(x); i++) {
            bool kept = get(want, i) == get(plain, i);
            covered += !kept;
            if (kept)
                assert_true(get(got, i) == get(want, i));
            else
                assert_true(get(got, i) != get(plain, i));
        }
        assert_true(covered > 1000 && covered < ld_view_numel(x) / 2);
    }
}

/* Rows that are not there, which callers refuse: zeros. */
static void missing_rows(void **state) {
    (void)state;
    int64_t n = 3;
    ld_view *x = make_view(LD_F32, CANONICAL, 4, (int64_t[]){2, 2, 3, 3}), *at = make_view(LD_I64, ROW_MAJOR, 1, &n);
    ld_view *y = make_view(LD_F32, CANONICAL, 4, (int64_t[]){n, 2, 3, 3});
    randomise(x, 1, 3);
    put(at, 0, 1), put(at, 1, 2), put(at, 2, -1);
    ok(ld_cuda_gather_augment(y, x, at, NULL, NULL, NULL, &ways[0]));
    for (int64_t i = 0; i < ld_view_numel(y); i++)
        assert_true(get(y, i) == (i < 18 ? get(x, 18 + i) : 0));
}

/* Memory for the samples' figures is asked for before anything is launched. */
static void no_workspace(void **state) {
    (void)state;
    ld_view *x = make_view(LD_F32, CANONICAL, 4, (int64_t[]){2, 2, 9, 9}), *y = twin(x);
    int64_t before = ld_sim_launches();
    ld_sim_fail_workspace(1);
    assert_int_equal(ld_cuda_gather_augment(y, x, NULL, NULL, NULL, NULL, &ways[3]), LD_EMEM);
    assert_int_equal(ld_sim_launches(), before);
    ld_sim_fail_workspace(0);
    randomise(x, 1, 0);
    ok(ld_cuda_gather_augment(y, x, NULL, NULL, NULL, NULL, &ways[3]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(gathers, tidy),
        cmocka_unit_test_teardown(many, tidy),
        cmocka_unit_test_teardown(outside_to_the_bit, tidy),
        cmocka_unit_test_teardown(missing_rows, tidy),
        cmocka_unit_test_teardown(no_workspace, tidy),
    };
    return RUN_KERNEL_TESTS("augmentation kernels", tests);
}
