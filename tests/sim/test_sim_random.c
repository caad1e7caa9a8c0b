/* uniform, normal, dropout: the device's slots against the CPU's. */
#include "orders.h"

#include "base/rng.h"

static const shape_case shapes[] = {
    {1, {0}},          {0, {0}},         {1, {1}},      {1, {31}},           {1, {33}},
    {1, {1000}},       {2, {3, 0}},      {2, {33, 31}}, {2, {6, 32}},        {4, {2, 3, 5, 7}},
    {4, {3, 8, 4, 4}}, {3, {5, 1, 130}}, {2, {500, 3}}, {5, {2, 2, 2, 2, 2}}};
enum { COUNT = sizeof shapes / sizeof *shapes };
static const uint64_t seed = 0x123456789abcdef0u, sample = 0xfffffffffu;

static void draw_case(ld_dtype t, layout l, const shape_case *s, bool by_row) {
    ld_view *want = make_view(t, l, s->ndim, s->shape);
    ok(ld_cpu_uniform(want, 0, 1, seed, LD_RNG_NOISE, sample, by_row, NULL));
    EACH_ORDER(o) {
        ld_view *got = make_view(t, l, s->ndim, s->shape);
        ok(ld_cuda_uniform(got, 0, 1, seed, LD_RNG_NOISE, sample, by_row, NULL));
        agree("uniform", got, want, 0, 0);
    }
    ld_view *got = twin(want);
    ok(ld_cpu_uniform(want, -0.3, 1.7, seed, LD_RNG_USER, sample, by_row, NULL));
    ok(ld_cuda_uniform(got, -0.3, 1.7, seed, LD_RNG_USER, sample, by_row, NULL));
    agree("uniform", got, want, t == LD_F64 ? 1e-15 : 0, 1); /* fused or not, the sum in f64 */
    ok(ld_cpu_normal(want, 0, 1, seed, LD_RNG_DEFAULT, 7, by_row, NULL));
    ok(ld_cuda_normal(got, 0, 1, seed, LD_RNG_DEFAULT, 7, by_row, NULL));
    /* a few units in the last place of f32 in log, sin, cos; one in a short dtype where that crosses a border */
    agree("normal", got, want, t == LD_BF16 || t == LD_F16 ? unit_of(t) : 1e-6, 0.01);
    ok(ld_cpu_normal(want, 5, 0.01, seed, LD_RNG_DEFAULT, 7, by_row, NULL));
    ok(ld_cuda_normal(got, 5, 0.01, seed, LD_RNG_DEFAULT, 7, by_row, NULL));
    agree("normal", got, want, t == LD_BF16 || t == LD_F16 ? unit_of(t) : 1e-7, 0);
    next_case();
}

static void draws(void **state) {
    (void)state;
    for (int t = 0; t < 4; t++)
        for (int l = 0; l < SPREAD; l++)
            for (int s = 0; s < COUNT; s++)
                for (int by_row = 0; by_row < 2; by_row++)
                    draw_case(all_dtypes[t], (layout)l, &shapes[s], by_row);
}

/* Row i is sample + i whatever the number of rows, and what base/rng.h says. */
static void rows(void **state) {
    (void)state;
    int64_t shape[] = {5, 12};
    ld_view *y = make_view(LD_F32, ROW_MAJOR, 2, shape);
    float want[12];
    ok(ld_cuda_uniform(y, 0, 1, seed, LD_RNG_NOISE, sample, true, NULL));
    for (int i = 0; i < 5; i++) {
        ld_rng_uniform(want, 12, seed, LD_RNG_NOISE, sample + (uint64_t)i, 0);
        for (int j = 0; j < 12; j++)
            assert_true(get(y, 12 * i + j) == (double)want[j]);
    }
}

static void dropout(void **state) {
    (void)state;
    for (int t = 0; t < 4; t++)
        for (int p = 0; p < LAYOUT_PAIRS; p++)
            for (int s = 0; s < COUNT; s++) {
                layout ly = layout_pairs[p][0], lx = layout_pairs[p][1];
                ld_view *x = make_view(all_dtypes[t], lx, shapes[s].ndim, shapes[s].shape);
                ld_view *want = make_view(all_dtypes[t], ly, shapes[s].ndim, shapes[s].shape), *got = twin(want);
                randomise(x, 2, 0);
                float first; /* equal to the share: kept */
                ld_rng_uniform(&first, 1, seed, LD_RNG_DROPOUT, 3, 0);
                for (int k = 0; k < 4; k++) {
                    double share = (double[]){0, 0.3, (double)first, 1 - 0x1p-24}[k];
                    ok(ld_cpu_dropout(want, x, share, seed, 3, NULL));
                    set_order(k + 1);
                    ok(ld_cuda_dropout(got, x, share, seed, 3, NULL));
                    agree("dropout", got, want, 0, 0);
                }
                if (lx != SPREAD) { /* in place */
                    ok(ld_cuda_dropout(x, x, 1 - 0x1p-24, seed, 3, NULL));
                    agree("dropout", x, want, 0, 0);
                }
                next_case();
            }
}

/* A base that lies in memory is added to the sample's number. */
static void based(void **state) {
    (void)state;
    const uint64_t base = ((uint64_t)5 << 32) + 77;
    ld_view *place = make_view(LD_I64, ROW_MAJOR, 1, (int64_t[]){1});
    const uint64_t *at = place->data;
    memcpy(place->data, &base, sizeof base);
    ld_view *want = make_view(LD_F32, ROW_MAJOR, 2, (int64_t[]){3, 33}), *got = like(want), *x = like(want);
    randomise(x, 1, 0);
    EACH_ORDER(o) {
        for (int by_row = 0; by_row < 2; by_row++) {
            ok(ld_cpu_uniform(want, 0, 1, 9, LD_RNG_NOISE, base + 4, by_row, NULL));
            ok(ld_cuda_uniform(got, 0, 1, 9, LD_RNG_NOISE, 4, by_row, at));
            agree("uniform", got, want, 0, 0);
            ok(ld_cpu_uniform(got, 0, 1, 9, LD_RNG_NOISE, 4, by_row, at));
            agree("uniform on the cpu", got, want, 0, 0);
            ok(ld_cpu_normal(want, 0, 1, 9, LD_RNG_NOISE, base + 4, by_row, NULL));
            ok(ld_cuda_normal(got, 0, 1, 9, LD_RNG_NOISE, 4, by_row, at));
            agree("normal", got, want, 1e-6, 1);
            ok(ld_cpu_normal(got, 0, 1, 9, LD_RNG_NOISE, 4, by_row, at));
            agree("normal on the cpu", got, want, 0, 0);
        }
        ok(ld_cpu_dropout(want, x, 0.3, 9, base + 4, NULL));
        ok(ld_cuda_dropout(got, x, 0.3, 9, 4, at));
        agree("dropout", got, want, 0, 0);
        ok(ld_cpu_dropout(got, x, 0.3, 9, 4, at));
        agree("dropout on the cpu", got, want, 0, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(draws, tidy),
        cmocka_unit_test_teardown(rows, tidy),
        cmocka_unit_test_teardown(dropout, tidy),
        cmocka_unit_test_teardown(based, tidy),
    };
    return RUN_KERNEL_TESTS("random kernels", tests);
}
