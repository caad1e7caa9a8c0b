/* Element types and plain views: names, sizes, rounding of the short floats, canonical strides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "backend/view.h"

static void names_and_sizes(void **state) {
    (void)state;
    static const size_t size[LD_DTYPE_COUNT] = {4, 2, 2, 8, 8, 4, 1};
    for (int t = 0; t < LD_DTYPE_COUNT; t++) {
        assert_int_equal(ld_dtype_find(ld_dtype_names[t]), t);
        assert_int_equal(ld_dtype_size((ld_dtype)t), size[t]);
        assert_int_equal(ld_dtype_is_float((ld_dtype)t), t == LD_F32 || t == LD_BF16 || t == LD_F16 || t == LD_F64);
    }
    assert_int_equal(ld_dtype_find("f8"), -1);
}

/* v rounded to `digits` significant bits, exponents not below `least` (that of the smallest normal number). */
static double rounded(double v, int digits, int least, double largest) {
    int e;
    if (v == 0 || !isfinite(v))
        return v;
    frexp(v, &e);
    int unit = (e - 1 < least ? least : e - 1) - (digits - 1);
    double r = ldexp(nearbyint(ldexp(v, -unit)), unit);
    return fabs(r) > largest ? copysign(INFINITY, v) : r;
}

static void same(double got, double want) {
    if (!(got == want || (isnan(got) && isnan(want))))
        fail_msg("got %.17g, want %.17g", got, want);
}

static void short_floats_survive_widening(void **state) {
    (void)state;
    for (uint32_t u = 0; u < 65536; u++) {
        uint16_t h = (uint16_t)u;
        float b = ld_bf16_to_f32(h), f = ld_f16_to_f32(h);
        if (isnan(b))
            assert_true(isnan(ld_bf16_to_f32(ld_f32_to_bf16(b))));
        else
            assert_int_equal(ld_f32_to_bf16(b), h);
        if (isnan(f))
            assert_true(isnan(ld_f16_to_f32(ld_f32_to_f16(f))));
        else
            assert_int_equal(ld_f32_to_f16(f), h);
        int e = h >> 10 & 31, m = h & 1023;
        double value = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
        same(f, h & 0x8000 ? -value : value);
    }
}

static void rounding_is_to_nearest_even(void **state) {
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 400000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint32_t bits = (uint32_t)(seed >> 32);
        if (i & 1) /* near ties of one format or the other, and in f16's range */
            bits =
                (bits & 0x8fffe000u) | 0x30000000u | (uint32_t)(i >> 1 & 1 ? 0x1000 : 0x8000) | (uint32_t)(i >> 2 & 1);
        float v;
        memcpy(&v, &bits, sizeof v);
        same(ld_bf16_to_f32(ld_f32_to_bf16(v)), rounded(v, 8, -126, 0x1.FEp127));
        same(ld_f16_to_f32(ld_f32_to_f16(v)), rounded(v, 11, -14, 65504));
    }
    same(ld_f16_to_f32(ld_f32_to_f16(65519.996f)), 65504);
    same(ld_f16_to_f32(ld_f32_to_f16(65520)), INFINITY);
    same(ld_f16_to_f32(ld_f32_to_f16(0x1p-25f)), 0);
    same(ld_f16_to_f32(ld_f32_to_f16(0x1.8p-24f)), 0x1p-23);
}

static void doubles_are_rounded_once(void **state) {
    (void)state;
    uint16_t h;
    uint64_t seed = 7;
    /* Just above a tie: by way of f32 it would become the tie, and go down. */
    ld_dtype_set(LD_BF16, &h, 1 + 0x1p-8 + 0x1p-40);
    same(ld_dtype_get(LD_BF16, &h), 1 + 0x1p-7);
    ld_dtype_set(LD_F16, &h, -(1 + 0x1p-11 + 0x1p-40));
    same(ld_dtype_get(LD_F16, &h), -(1 + 0x1p-10));
    for (int i = 0; i < 100000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        double v = ldexp((double)(int64_t)seed, (int)(seed >> 3 & 63) - 100);
        ld_dtype_set(LD_F16, &h, v);
        same(ld_dtype_get(LD_F16, &h), rounded(v, 11, -14, 65504));
        ld_dtype_set(LD_BF16, &h, v);
        same(ld_dtype_get(LD_BF16, &h), rounded(v, 8, -126, 0x1.FEp127));
    }
    ld_dtype_set(LD_BF16, &h, 1e300);
    same(ld_dtype_get(LD_BF16, &h), INFINITY);
    ld_dtype_set(LD_F16, &h, NAN);
    same(ld_dtype_get(LD_F16, &h), NAN);
}

static double through(ld_dtype t, double v) {
    uint64_t e = 0;
    ld_dtype_set(t, &e, v);
    return ld_dtype_get(t, &e);
}

static void integers_are_cut_and_held(void **state) {
    (void)state;
    same(through(LD_I64, -2.9), -2);
    same(through(LD_I64, 1e30), 0x1p63);
    same(through(LD_I64, -1e30), -0x1p63);
    same(through(LD_I32, 2.9), 2);
    same(through(LD_I32, 3e9), INT32_MAX);
    same(through(LD_I32, -3e9), INT32_MIN);
    same(through(LD_U8, 255.9), 255);
    same(through(LD_U8, 300), 255);
    same(through(LD_U8, -1), 0);
    same(through(LD_U8, NAN), 0);
    same(through(LD_F32, 0.1), 0.1f);
    same(through(LD_F64, 0.1), 0.1);
}

static void canonical_layout(void **state) {
    (void)state;
    int64_t s[LD_MAX_DIMS];
    ld_canonical_strides(4, (int64_t[]){2, 3, 5, 7}, s);
    assert_memory_equal(s, ((int64_t[]){105, 1, 21, 3}), 4 * sizeof *s);
    assert_true(ld_is_canonical(4, (int64_t[]){2, 3, 5, 7}, s));
    assert_false(ld_is_canonical(4, (int64_t[]){2, 3, 5, 7}, (int64_t[]){105, 35, 7, 1}));
    assert_true(ld_is_canonical(4, (int64_t[]){2, 1, 5, 7}, (int64_t[]){35, 99, 7, 1}));
    assert_true(ld_is_canonical(4, (int64_t[]){2, 0, 5, 7}, (int64_t[]){9, 9, 9, 9}));
    ld_canonical_strides(3, (int64_t[]){2, 3, 5}, s);
    assert_memory_equal(s, ((int64_t[]){15, 5, 1}), 3 * sizeof *s);
    assert_false(ld_is_canonical(2, (int64_t[]){2, 3}, (int64_t[]){1, 2}));
    assert_true(ld_is_canonical(0, NULL, NULL));
    ld_view v = {.ndim = 3, .shape = {2, 3, 5}};
    assert_int_equal(ld_view_numel(&v), 30);
    v.ndim = 0;
    assert_int_equal(ld_view_numel(&v), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_sizes),
        cmocka_unit_test(short_floats_survive_widening),
        cmocka_unit_test(rounding_is_to_nearest_even),
        cmocka_unit_test(doubles_are_rounded_once),
        cmocka_unit_test(integers_are_cut_and_held),
        cmocka_unit_test(canonical_layout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
