/* noised, loss and loss_bwd: the device's slots against the CPU's. */
#include "against.h"

#include "base/rng.h"

static const shape_case shapes[] = {
    {1, {5}},    {4, {3, 4, 8, 8}}, {4, {2, 3, 5, 7}},   {2, {33, 31}},     {4, {1, 1, 1, 1}},  {2, {2, 1000}},
    {2, {0, 5}}, {2, {7, 0}},       {4, {2, 300, 3, 3}}, {4, {2, 0, 3, 3}}, {4, {2, 4, 23, 17}}};
enum { COUNT = sizeof shapes / sizeof *shapes };
static const uint64_t seed = 0x123456789abcdef0u, first = 0xfffffffeu;

/* ---- noised ------------------------------------------------------------------------------------------------------------ */

static ld_view *canonical(ld_dtype t, const shape_case *s) {
    return make_view(t, CANONICAL, s->ndim, s->shape);
}

/* Against the numbers that the CPU makes of the same z: errors of normals are a few units of f32. */
static void noised_case(ld_dtype t, const shape_case *s, bool shifted, bool with_x0) {
    bool halves = t == LD_BF16 || t == LD_F16;
    ld_dtype stat = t == LD_F64 ? LD_F64 : LD_F32;
    int64_t n = s->shape[0], channels = s->ndim == 4 ? s->shape[1] : 1;
    shifted &= s->ndim == 4;
    ld_view *z = canonical(t, s), *shift = shifted ? make_view(t, ROW_MAJOR, 1, &channels) : NULL;
    randomise(z, 3, 0.5);
    if (shift)
        randomise(shift, 1, 0);
    ld_view *wide = for_cpu(z), *wide_shift = shift ? for_cpu(shift) : NULL;
    ld_view *wy = canonical(stat, s), *w0 = canonical(stat, s), *we = canonical(stat, s);
    ld_view *wt = make_view(stat, ROW_MAJOR, 1, &n);
    ok(ld_cpu_noised(wy, w0, we, wt, wide, wide_shift, 0.3, seed, first, NULL));
    EACH_ORDER(o) {
        ld_view *y = canonical(t, s), *x0 = with_x0 ? canonical(t, s) : NULL, *e = canonical(t, s);
        ld_view *times = make_view(stat, ROW_MAJOR, 1, &n);
        ok(ld_cuda_noised(y, x0, e, times, z, shift, 0.3, seed, first, NULL));
        agree("times", times, wt, 0, 0);
        agree("eps", e, we, halves ? unit_of(t) : 1e-6, 0.01);
        agree("y", y, wy, halves ? 2 * unit_of(t) : 1e-6, 1);
        if (x0)
            agree("x0", x0, w0, halves ? unit_of(t) : 1e-6, 0.01);
    }
    next_case();
}

static void noised(void **state) {
    (void)state;
    for (int t = 0; t < 4; t++)
        for (int s = 0; s < COUNT; s++)
            for (int k = 0; k < 4; k++)
                noised_case(all_dtypes[t], &shapes[s], k & 1, k & 2);
}

/* The CPU's slot is uniform, normal and the formula; rows belong to their samples; times are cut. */
static void parts(void **state) {
    (void)state;
    int64_t shape[] = {2000, 3, 2, 2}, n = 2000;
    ld_view *z = make_view(LD_F32, CANONICAL, 4, shape), *y = like(z), *x0 = like(z), *e = like(z), *normal = like(z);
    ld_view *t = make_view(LD_F32, ROW_MAJOR, 1, &n), *u = twin(t);
    randomise(z, 2, 0);
    ok(ld_cpu_noised(y, x0, e, t, z, NULL, 0.25, 7, 100, NULL));
    ok(ld_cpu_normal(normal, 0, 1, 7, LD_RNG_NOISE, 100, true, NULL));
    ok(ld_cpu_uniform(u, 0, 1, 7, LD_RNG_TIME, 100, true, NULL));
    same("eps", e, normal);
    int cut = 0;
    for (int64_t i = 0; i < n * 12; i++) {
        double time = fmin(get(u, i / 12), (double)(float)LD_TIME_MAX), half_pi = acos(0);
        cut += i % 12 == 0 && get(u, i / 12) > time;
        assert_true(get(t, i / 12) == time && get(x0, i) == (double)(float)(get(z, i) * 0.25));
        double want = cos(half_pi * time) * get(x0, i) + sin(half_pi * time) * get(e, i);
        assert_true(fabs(get(y, i) - want) <= 4e-7 * (1 + fabs(want)));
    }
    assert_true(cut > 0); /* a thousandth of 2000 on average; seed 7 has one */
    ld_view *want = twin(y);
    EACH_ORDER(o) {
        ok(ld_cuda_noised(y, NULL, e, t, z, NULL, 0.25, 7, 100, NULL));
        agree("y of samples in turn", y, want, 1e-6, 1);
        for (int64_t i = 0; i < n; i++)
            assert_true(get(t, i) == fmin(get(u, i), (double)(float)LD_TIME_MAX));
    }
}

/* A base in memory is added to the number of the first sample. */
static void based(void **state) {
    (void)state;
    int64_t shape[] = {5, 3, 2, 2}, n = 5;
    const uint64_t base = 93;
    ld_view *place = make_view(LD_I64, ROW_MAJOR, 1, (int64_t[]){1});
    memcpy(place->data, &base, sizeof base);
    ld_view *z = make_view(LD_F32, CANONICAL, 4, shape), *y = like(z), *e = like(z), *wy = like(z), *we = like(z);
    ld_view *t = make_view(LD_F32, ROW_MAJOR, 1, &n), *wt = make_view(LD_F32, ROW_MAJOR, 1, &n);
    randomise(z, 2, 0);
    ok(ld_cpu_noised(wy, NULL, we, wt, z, NULL, 0.25, 7, 100, NULL));
    ok(ld_cpu_noised(y, NULL, e, t, z, NULL, 0.25, 7, 7, place->data));
    same("cpu: y", y, wy);
    same("cpu: t", t, wt);
    EACH_ORDER(o) {
        ok(ld_cuda_noised(y, NULL, e, t, z, NULL, 0.25, 7, 7, place->data));
        agree("t", t, wt, 0, 0);
        agree("eps", e, we, 1e-6, 0.01);
    }
}

static void noised_dtypes(void **state) {
    (void)state;
    int64_t n = 3, shape[] = {3, 4};
    ld_view *z = make_view(LD_BF16, ROW_MAJOR, 2, shape), *t = make_view(LD_BF16, ROW_MAJOR, 1, &n);
    assert_int_equal(ld_cuda_noised(like(z), NULL, like(z), t, z, NULL, 1, 0, 0, NULL), LD_EDTYPE);
}

/* ---- losses ------------------------------------------------------------------------------------------------------------ */

static void loss_case(ld_dtype t, int64_t n, ld_loss_spec s) {
    ld_view *a = random_view(t, 2, 0.3, 1, &n), *b = random_view(t, 2, 0, 1, &n);
    ld_view *wa = in_f64(a), *wb = in_f64(b), *want = make_view(LD_F64, ROW_MAJOR, 0, NULL);
    ld_dtype stat = t == LD_F64 ? LD_F64 : LD_F32; /* of the loss */
    ld_view *g = make_view(stat, ROW_MAJOR, 0, NULL), *wg = make_view(LD_F64, ROW_MAJOR, 0, NULL);
    ld_view *da = make_view(LD_F64, ROW_MAJOR, 1, &n), *db = make_view(LD_F64, ROW_MAJOR, 1, &n);
    put(g, 0, 1.75);
    put(wg, 0, 1.75);
    ok(ld_cpu_loss(want, wa, wb, &s));
    ok(ld_cpu_loss_bwd(da, db, wg, wa, wb, &s));
    ld_view *before = NULL;
    EACH_ORDER(o) {
        ld_view *y = make_view(stat, ROW_MAJOR, 0, NULL), *ga = like(a), *gb = like(a);
        ok(ld_cuda_loss(y, a, b, &s));
        near("loss", y, want, 32 * rounding(stat), 0); /* in f64 both sides round at every sum */
        ok(ld_cuda_loss_bwd(ga, gb, g, a, b, &s));
        near("da", ga, da, 2 * rounding(t), 0);
        near("db", gb, db, 2 * rounding(t), 0);
        ld_view *alone = like(a);
        ok(ld_cuda_loss_bwd(NULL, alone, g, a, b, &s));
        same("db alone", alone, gb);
        ok(ld_cuda_loss_bwd(alone, NULL, g, a, b, &s));
        same("da alone", alone, ga);
        if (before)
            same("loss again", y, before);
        before = y;
    }
    next_case();
}

static void losses(void **state) {
    (void)state;
    static const int64_t sizes[] = {0, 1, 7, 31, 33, 1000, 2048, 2049, 30011};
    for (int t = 0; t < 4; t++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            for (int kind = 0; kind < 3; kind++)
                loss_case(all_dtypes[t], sizes[k], (ld_loss_spec){(ld_loss_kind)kind, k % 2 == 0, 0.75});
}

/* The CPU's slots against formulas written out, and its gradient against differences. */
static double value_of(double d, const ld_loss_spec *s) {
    if (s->kind == LD_LOSS_SQUARE)
        return d * d;
    if (s->kind == LD_LOSS_ABS)
        return fabs(d);
    return fabs(d) <= s->delta ? d * d / 2 : s->delta * (fabs(d) - s->delta / 2);
}

static void formulas(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 5, 100, 70000, 200001};
    for (int kind = 0; kind < 3; kind++)
        for (int k = 0; k < 5; k++)
            for (int mean = 0; mean < 2; mean++) {
                ld_loss_spec s = {(ld_loss_kind)kind, mean, 0.6};
                int64_t n = sizes[k];
                ld_view *a = random_view(LD_F64, 1, 0.2, 1, &n), *b = random_view(LD_F64, 1, 0, 1, &n);
                ld_view *y = make_view(LD_F64, ROW_MAJOR, 0, NULL), *g = twin(y), *da = like(a), *db = like(a);
                double sum = 0, share = mean ? 1 / (double)n : 1;
                for (int64_t i = 0; i < n; i++)
                    sum += share * value_of(get(a, i) - get(b, i), &s);
                ok(ld_cpu_loss(y, a, b, &s));
                assert_true(fabs(get(y, 0) - sum) <= 1e-12 * fabs(sum));
                put(g, 0, 2);
                ok(ld_cpu_loss_bwd(da, db, g, a, b, &s));
                for (int64_t i = 0; i < n; i += n / 5 + 1) {
                    double d = get(a, i) - get(b, i), h = 1e-6;
                    double slope = share * (value_of(d + h, &s) - value_of(d - h, &s)) / h;
                    assert_true(fabs(get(da, i) - slope) <= 1e-8 && get(db, i) == -get(da, i));
                }
                next_case();
            }
}

/* Gradients that do not begin at a multiple of 16 bytes; workspace that cannot be had. */
static void unaligned_and_short(void **state) {
    (void)state;
    int64_t n = 4097, most = 4098;
    ld_loss_spec s = {LD_LOSS_SQUARE, true, 0};
    ld_view *a = random_view(LD_F32, 1, 0, 1, &n), *b = random_view(LD_F32, 1, 0, 1, &n), *da = like(a);
    ld_view *room = make_view(LD_F32, ROW_MAJOR, 1, &most), *g = make_view(LD_F32, ROW_MAJOR, 0, NULL);
    put(g, 0, 1);
    ld_view db = *room;
    db.shape[0] = n;
    db.data = (float *)room->data + 1;
    ok(ld_cuda_loss_bwd(da, &db, g, a, b, &s));
    for (int64_t i = 0; i < n; i++)
        assert_true(get(da, i) == -(double)((float *)db.data)[i]);
    ld_sim_fail_workspace(1);
    assert_int_equal(ld_cuda_loss(g, a, b, &s), LD_EMEM);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(noised, tidy),
        cmocka_unit_test_teardown(parts, tidy),
        cmocka_unit_test_teardown(based, tidy),
        cmocka_unit_test_teardown(noised_dtypes, tidy),
        cmocka_unit_test_teardown(losses, tidy),
        cmocka_unit_test_teardown(formulas, tidy),
        cmocka_unit_test_teardown(unaligned_and_short, tidy),
    };
    return RUN_KERNEL_TESTS("training kernels", tests);
}
