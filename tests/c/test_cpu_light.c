/* The elementwise slots of the CPU backend against formulas in double, over dtypes, layouts and sizes. */
#include "formulas.h"
#include "views.h"

typedef void (*case_fn)(ld_dtype t, layout ly, layout lx, const shape_case *s);

/* Every shape in a few pairs of layouts, and one large enough for three threads in half of them. */
static void each_case(const ld_dtype *types, int n, case_fn fn) {
    static const layout pairs[][2] = {{CANONICAL, CANONICAL}, {ROW_MAJOR, CANONICAL}, {CANONICAL, ROW_MAJOR},
                                      {GAPPED, REVERSED},     {REVERSED, GAPPED},     {CANONICAL, SPREAD}};
    for (int t = 0; t < n; t++)
        for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++) {
            for (int s = 0; s < SHAPES; s++)
                fn(types[t], pairs[p][0], pairs[p][1], &shape_cases[s]);
            ld_set_threads(3);
            if (p % 2)
                fn(types[t], pairs[p][0], pairs[p][1], &large_case);
            free_views(NULL);
        }
}

static const ld_dtype all_types[] = {LD_F32, LD_BF16, LD_F16, LD_F64, LD_I64, LD_I32, LD_U8};
static const ld_dtype float_types[] = {LD_F32, LD_BF16, LD_F16, LD_F64};

/* ---- fill and copy --------------------------------------------------------------------------------------------------- */

static void fill_case(ld_dtype t, layout ly, layout lx, const shape_case *s) {
    if (lx == SPREAD)
        return;
    ld_view *y = make_view(t, ly, s->ndim, s->shape);
    ok(ld_cpu_fill(y, 3.7));
    uint64_t e;
    ld_dtype_set(t, &e, 3.7);
    for (int64_t i = 0; i < ld_view_numel(y); i++)
        assert_true(get(y, i) == ld_dtype_get(t, &e));
    check_guards(y);
}

static void fill(void **state) {
    (void)state;
    each_case(all_types, 7, fill_case);
}

static const double odd_values[] = {0,
                                    -0.0,
                                    1.5,
                                    -2.5,
                                    255.5,
                                    300,
                                    1e10,
                                    -1e10,
                                    1e30,
                                    -1e30,
                                    0.1,
                                    65519.99,
                                    1 / 3.0,
                                    1 + 0x1p-8 + 0x1p-30,
                                    1 + 0x1p-11 + 0x1p-23,
                                    77};

static void copy_case(ld_dtype t, layout ly, layout lx, const shape_case *s) {
    for (int k = 0; k < 7; k++) {
        ld_view *y = make_view(all_types[k], ly, s->ndim, s->shape), *x = make_view(t, lx, s->ndim, s->shape);
        int64_t n = ld_view_numel(y);
        for (int64_t i = 0; i < n; i++)
            put(x, i, i % 3 ? 100 * noise() : odd_values[i / 3 % 16]);
        ok(ld_cpu_copy(y, x));
        for (int64_t i = 0; i < n; i++) {
            uint64_t e = 0;
            double v = get(x, i);
            if (ld_dtype_is_float(t) || ld_dtype_is_float(y->dtype))
                ld_dtype_set(y->dtype, &e, v);
            else /* integers wrap: their low bytes stay */
                e = (uint64_t)(t == LD_I64 ? *(int64_t *)element(x, i) : (int64_t)v);
            double want = ld_dtype_get(y->dtype, &e);
            if (get(y, i) != want)
                fail_msg("%s to %s, layouts %d %d, element %d: %.17g became %.17g, not %.17g", ld_dtype_names[t],
                         ld_dtype_names[k], ly, lx, (int)i, v, get(y, i), want);
        }
        check_guards(y);
    }
}

static void copy(void **state) {
    (void)state;
    each_case(all_types, 7, copy_case);
    double v[] = {NAN, INFINITY, -INFINITY};
    ld_view *x = make_view(LD_F64, ROW_MAJOR, 1, (int64_t[]){3});
    memcpy(x->data, v, sizeof v);
    for (int k = 0; k < 7; k++) {
        ld_view *y = make_view(all_types[k], ROW_MAJOR, 1, (int64_t[]){3});
        ok(ld_cpu_copy(y, x));
        if (ld_dtype_is_float(y->dtype)) {
            assert_true(isnan(get(y, 0)) && get(y, 1) == INFINITY && get(y, 2) == -INFINITY);
            ld_view *z = make_view(LD_F32, ROW_MAJOR, 1, (int64_t[]){3});
            ok(ld_cpu_copy(z, y));
            assert_true(isnan(get(z, 0)) && get(z, 1) == INFINITY);
        } else
            assert_true(get(y, 0) == 0 && get(y, 1) >= 255 && get(y, 2) <= 0);
    }
}

/* ---- unary ----------------------------------------------------------------------------------------------------------- */

static bool wants_positive(ld_unary_op op) {
    return op == LD_LOG || op == LD_SQRT || op == LD_RSQRT || op == LD_POW || op == LD_RECIPROCAL;
}

/* -0.3 and 0.6 suit LEAKY, CLAMP, AFFINE and POW alike. */
#define A (-0.3)
#define B 0.6

static double stored(ld_dtype t, double v) {
    return t == LD_F64 ? v : (double)(float)v;
}

static void unary_case(ld_dtype t, layout ly, layout lx, const shape_case *s) {
    for (int op = 0; op < LD_UNARY_COUNT; op++) {
        ld_view *y = make_view(t, ly, s->ndim, s->shape), *x = make_view(t, lx, s->ndim, s->shape);
        randomise(x, 4, wants_positive((ld_unary_op)op) ? 4.1 : 0);
        ok(ld_cpu_unary(y, x, (ld_unary_op)op, A, B));
        double a = stored(t, A), b = stored(t, B);
        for (int64_t i = 0; i < ld_view_numel(y); i++)
            check_value("unary", t, i, get(y, i), unary_formula((ld_unary_op)op, get(x, i), a, b),
                        op == LD_LOG                        ? 0.1
                        : op == LD_LEAKY || op == LD_AFFINE ? 1
                                                            : 0);
        check_guards(y);
        if (lx != SPREAD) { /* the same in place */
            ok(ld_cpu_unary(x, x, (ld_unary_op)op, A, B));
            for (int64_t i = 0; i < ld_view_numel(y); i++)
                check_value("unary in place", t, i, get(x, i), get(y, i), op == LD_LEAKY || op == LD_AFFINE);
            check_guards(x);
        }
    }
}

static void unary(void **state) {
    (void)state;
    each_case(float_types, 4, unary_case);
}

/* Over the whole range of f32, and the values where functions are apt to go wrong. */
static void unary_f32_extremes(void **state) {
    (void)state;
    static const double special[] = {0,      -0.0,    INFINITY, -INFINITY, NAN,   1e-45, -1e-40, 1e-38,
                                     3.4e38, -3.4e38, 88.7,     89,        -87.3, -100,  -104,   -110,
                                     1e6,    3e7,     -1e20,    0.5,       1.5,   2.5,   -0.5};
    int64_t n = 23 + 4000;
    ld_view *x = make_view(LD_F32, ROW_MAJOR, 1, &n), *y = make_view(LD_F32, ROW_MAJOR, 1, &n);
    for (int64_t i = 0; i < n; i++)
        put(x, i, i < 23 ? special[i] : noise() * exp2(120 * noise()));
    for (int op = 0; op < LD_UNARY_COUNT; op++) {
        ok(ld_cpu_unary(y, x, (ld_unary_op)op, A, B));
        for (int64_t i = 0; i < n; i++) {
            double v = get(x, i), want = unary_formula((ld_unary_op)op, v, stored(LD_F32, A), stored(LD_F32, B));
            want = isnan(v) && op != LD_SIGN ? NAN : want;
            double bound = op == LD_SIGMOID || op == LD_SILU                                    ? 1e-36
                           : op == LD_GELU || op == LD_LOG || op == LD_AFFINE || op == LD_LEAKY ? 1
                                                                                                : 0;
            check_value("extremes", LD_F32, (int64_t)op * 10000 + i, get(y, i),
                        fabs(want) > 3.4028236e38 ? copysign(INFINITY, want) : want, bound);
        }
    }
}

static void unary_bwd(void **state) {
    (void)state;
    int64_t n = 999;
    double h = 1e-5;
    for (int op = 0; op < LD_UNARY_COUNT; op++)
        for (int k = 0; k < 4; k++) {
            double a = op == LD_POW && k > 0 ? (double[]){0, 0, 1, 2}[k] : A;
            ld_view *x = make_view(LD_F64, GAPPED, 1, &n), *y = make_view(LD_F64, ROW_MAJOR, 1, &n);
            ld_view *g = make_view(LD_F64, ROW_MAJOR, 1, &n), *dx = make_view(LD_F64, GAPPED, 1, &n);
            ld_view *s32 = make_view(float_types[k], GAPPED, 1, &n), *g32 = make_view(float_types[k], ROW_MAJOR, 1, &n);
            ld_view *d32 = make_view(float_types[k], ROW_MAJOR, 1, &n);
            randomise(x, 1.4, wants_positive((ld_unary_op)op) ? 1.6 : 0);
            randomise(g32, 1, 0);
            ok(ld_cpu_copy(g, g32));
            ok(ld_cpu_unary(y, x, (ld_unary_op)op, a, B));
            ld_view *s = ld_unary_keeps_result((ld_unary_op)op) ? y : x;
            ok(ld_cpu_copy(s32, s));
            ok(ld_cpu_unary_bwd(dx, g, s, (ld_unary_op)op, a, B));
            for (int64_t i = 0; i < n; i++) {
                double v = get(x, i), want = (unary_formula((ld_unary_op)op, v + h, a, B) -
                                              unary_formula((ld_unary_op)op, v - h, a, B)) /
                                             (2 * h) * get(g, i);
                bool corner =
                    fabs(v) < h || fabs(v - A) < h || fabs(v - B) < h ||
                    ((op == LD_FLOOR || op == LD_ROUND) && fabs(fabs(2 * v) - nearbyint(fabs(2 * v))) < 3 * h);
                if (!corner && !(fabs(get(dx, i) - want) <= 1e-7 * (1 + fabs(want))))
                    fail_msg("gradient of %d at %g: %.9g, differences say %.9g", op, v, get(dx, i), want);
            }
            check_guards(dx);
            /* The other dtypes against f64, at the values that they hold. */
            ok(ld_cpu_copy(s, s32));
            ok(ld_cpu_unary_bwd(dx, g, s, (ld_unary_op)op, stored(float_types[k], a), stored(float_types[k], B)));
            ok(ld_cpu_unary_bwd(d32, g32, s32, (ld_unary_op)op, a, B));
            for (int64_t i = 0; i < n; i++)
                check_value("gradient", float_types[k], i, get(d32, i), get(dx, i),
                            op == LD_GELU || op == LD_SILU                  ? 3
                            : op == LD_TANH || op == LD_COS || op == LD_SIN ? 1
                                                                            : 0.1);
            check_guards(d32);
            ok(ld_cpu_unary_bwd(g32, g32, s32, (ld_unary_op)op, a, B)); /* in place */
            for (int64_t i = 0; i < n; i++)
                check_value("gradient in place", float_types[k], i, get(g32, i), get(d32, i), 0.1);
            free_views(NULL);
        }
}

static void unary_bwd_at_corners(void **state) {
    (void)state;
    static const struct {
        ld_unary_op op;
        double s, want;
    } cases[] = {{LD_RELU, 0, 0},     {LD_LEAKY, 0, A}, {LD_CLAMP, A, 1}, {LD_CLAMP, B, 1},
                 {LD_CLAMP, 0.61, 0}, {LD_ABS, 0, 0},   {LD_POW, 0, 0}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        for (int t = 0; t < 2; t++) {
            ld_dtype dtype = t ? LD_F64 : LD_F32;
            ld_view *s = make_view(dtype, CANONICAL, 0, NULL), *g = make_view(dtype, CANONICAL, 0, NULL);
            put(s, 0, cases[k].s);
            put(g, 0, 1);
            ok(ld_cpu_unary_bwd(g, g, s, cases[k].op, cases[k].op == LD_POW ? 0 : A, B));
            assert_true(fabs(get(g, 0) - cases[k].want) < 1e-6);
        }
    ld_view *s = make_view(LD_F32, CANONICAL, 0, NULL), *g = make_view(LD_F32, CANONICAL, 0, NULL);
    put(s, 0, 2.2);
    put(g, 0, INFINITY);
    ok(ld_cpu_unary_bwd(g, g, s, LD_FLOOR, 0, 0));
    assert_true(get(g, 0) == 0);
}

static void unary_integers(void **state) {
    (void)state;
    static const ld_unary_op ops[] = {LD_NEG, LD_ABS, LD_SQUARE, LD_SIGN, LD_CLAMP, LD_AFFINE};
    int64_t n = 100;
    for (int t = LD_I64; t <= LD_U8; t++)
        for (int k = 0; k < 6; k++) {
            ld_view *x = make_view((ld_dtype)t, GAPPED, 1, &n), *y = make_view((ld_dtype)t, ROW_MAJOR, 1, &n);
            randomise(x, t == LD_U8 ? 5 : 10, t == LD_U8 ? 5.5 : 0);
            double a = ops[k] == LD_CLAMP ? 2 : 3, b = 7;
            ok(ld_cpu_unary(y, x, ops[k], a, b));
            for (int64_t i = 0; i < n; i++) {
                double want = unary_formula(ops[k], get(x, i), a, b);
                assert_true(get(y, i) == (t == LD_U8 && want < 0 ? want + 256 : want));
            }
            ok(ld_cpu_unary(y, x, LD_AFFINE, 0.5, 0));
            assert_true(get(y, 0) == trunc(0.5 * get(x, 0)));
            assert_int_equal(ld_cpu_unary(y, x, LD_EXP, 0, 0), LD_EDTYPE);
        }
    ld_view *x = make_view(LD_I64, ROW_MAJOR, 1, (int64_t[]){1});
    *(int64_t *)x->data = ((int64_t)1 << 60) + 1; /* more than a double holds */
    ok(ld_cpu_unary(x, x, LD_AFFINE, 3, 1));
    assert_true(*(int64_t *)x->data == 3 * (((int64_t)1 << 60) + 1) + 1);
    ok(ld_cpu_unary(x, x, LD_CLAMP, -INFINITY, 5));
    assert_true(*(int64_t *)x->data == 5);
}

/* ---- binary, axpby, where -------------------------------------------------------------------------------------------- */

static double binary_formula(ld_binary_op op, double a, double b, bool whole) {
    double q;
    switch (op) {
    case LD_ADD:
        return a + b;
    case LD_SUB:
        return a - b;
    case LD_MUL:
        return a * b;
    case LD_DIV:
        q = whole && b == 0 ? 0 : a / b;
        return whole ? trunc(q) : q;
    case LD_MAXIMUM:
        return a > b ? a : b;
    case LD_MINIMUM:
        return a < b ? a : b;
    case LD_POWER:
        return whole ? trunc(a == 0 && b < 0 ? 0 : pow(a, b)) : pow(a, b);
    case LD_EQ:
        return a == b;
    case LD_NE:
        return a != b;
    case LD_LT:
        return a < b;
    case LD_LE:
        return a <= b;
    case LD_GT:
        return a > b;
    case LD_GE:
        return a >= b;
    default:
        return NAN;
    }
}

/* Small whole numbers, so that comparisons meet equals and powers fit every dtype; halves for floats. */
static void small_numbers(const ld_view *v, bool positive) {
    for (int64_t i = 0; i < ld_view_numel(v); i++) {
        double x = nearbyint(positive ? 2.5 + 2.4 * noise() : 2.4 * noise());
        put(v, i, ld_dtype_is_float(v->dtype) ? x / 2 : x);
    }
}

static void binary_case(ld_dtype t, layout ly, layout lx, const shape_case *s) {
    bool whole = !ld_dtype_is_float(t);
    for (int op = 0; op < LD_BINARY_COUNT; op++) {
        ld_view *y = make_view(op >= LD_EQ ? LD_U8 : t, ly, s->ndim, s->shape);
        ld_view *a = make_view(t, ly, s->ndim, s->shape), *b = make_view(t, lx, s->ndim, s->shape);
        small_numbers(a, t == LD_U8 || (op == LD_POWER && !whole));
        small_numbers(b, t == LD_U8);
        ok(ld_cpu_binary(y, a, b, (ld_binary_op)op));
        for (int64_t i = 0; i < ld_view_numel(y); i++) {
            double want = binary_formula((ld_binary_op)op, get(a, i), get(b, i), whole);
            if (t == LD_U8) /* wraps */
                want = (double)((int64_t)want & 255);
            check_value("binary", t, i, get(y, i), want, 0);
        }
        check_guards(y);
        if (op < LD_EQ) {
            ok(ld_cpu_binary(a, a, b, (ld_binary_op)op)); /* y may be a */
            for (int64_t i = 0; i < ld_view_numel(y); i++)
                check_value("binary in place", t, i, get(a, i), get(y, i), 0);
        }
    }
}

static void binary(void **state) {
    (void)state;
    each_case(all_types, 7, binary_case);
}

static void binary_broadcasts_within(void **state) {
    (void)state;
    ld_view *x = make_view(LD_F32, CANONICAL, 4, (int64_t[]){2, 5, 9, 11}),
            *y = make_view(LD_F32, CANONICAL, 4, x->shape);
    ld_view *c = make_view(LD_F32, ROW_MAJOR, 1, (int64_t[]){5}), *n = make_view(LD_F32, ROW_MAJOR, 1, (int64_t[]){2});
    randomise(x, 1, 0);
    randomise(c, 1, 0);
    randomise(n, 1, 0);
    ld_view by_channel = {LD_F32, 4, {2, 5, 9, 11}, {0, 1, 0, 0}, c->data, 0, 0};
    ld_view by_image = {LD_F32, 4, {2, 5, 9, 11}, {1, 0, 0, 0}, n->data, 0, 0};
    for (int k = 0; k < 2; k++) {
        ok(ld_cpu_binary(y, x, k ? &by_image : &by_channel, LD_MUL));
        for (int64_t i = 0; i < 990; i++)
            assert_true((float)get(y, i) == (float)get(x, i) * (float)(k ? get(n, i / 495) : get(c, i / 99 % 5)));
    }
}

static void binary_extremes(void **state) {
    (void)state;
    ld_view *a = make_view(LD_F32, ROW_MAJOR, 1, (int64_t[]){4}), *b = make_view(LD_F32, ROW_MAJOR, 1, (int64_t[]){4}),
            *y = make_view(LD_F32, ROW_MAJOR, 1, (int64_t[]){4});
    memcpy(a->data, ((float[]){NAN, 1, INFINITY, 0}), 16);
    memcpy(b->data, ((float[]){1, NAN, 1, 0}), 16);
    ok(ld_cpu_binary(y, a, b, LD_MAXIMUM));
    assert_true(isnan(get(y, 0)) && isnan(get(y, 1)) && get(y, 2) == INFINITY);
    ok(ld_cpu_binary(y, a, b, LD_MINIMUM));
    assert_true(isnan(get(y, 0)) && isnan(get(y, 1)) && get(y, 2) == 1);
    ok(ld_cpu_binary(y, a, b, LD_DIV));
    assert_true(isnan(get(y, 3)));
    int64_t u[] = {INT64_MIN, INT64_MIN, 7, 3}, v[] = {-1, 0, -2, 39}, r[4];
    ld_view w = {LD_I64, 1, {4}, {1}, u, 0, 0}, x = {LD_I64, 1, {4}, {1}, v, 0, 0}, z = {LD_I64, 1, {4}, {1}, r, 0, 0};
    ok(ld_cpu_binary(&z, &w, &x, LD_DIV));
    assert_true(r[0] == INT64_MIN && r[1] == 0 && r[2] == -3);
    ok(ld_cpu_binary(&z, &w, &x, LD_POWER));
    assert_true(r[0] == 0 && r[1] == 1 && r[2] == 0 && r[3] == 4052555153018976267);
}

static void axpby_case(ld_dtype t, layout ly, layout lx, const shape_case *s) {
    ld_view *y = make_view(t, ly, s->ndim, s->shape), *x = make_view(t, lx, s->ndim, s->shape);
    ld_view *old = make_view(t, ROW_MAJOR, s->ndim, s->shape);
    randomise(x, 1, 0);
    randomise(old, 1, 0);
    ok(ld_cpu_copy(y, old));
    ok(ld_cpu_axpby(y, x, 0.5, -3));
    for (int64_t i = 0; i < ld_view_numel(y); i++)
        check_value("axpby", t, i, get(y, i), 0.5 * get(x, i) - 3 * get(old, i), 3);
    ok(ld_cpu_fill(y, NAN));
    ok(ld_cpu_axpby(y, x, 2, 0));
    for (int64_t i = 0; i < ld_view_numel(y); i++)
        check_value("axpby, beta 0", t, i, get(y, i), 2 * get(x, i), 0);
    check_guards(y);
}

static void axpby(void **state) {
    (void)state;
    each_case(float_types, 4, axpby_case);
}

static void where_case(ld_dtype t, layout ly, layout lx, const shape_case *s) {
    ld_view *y = make_view(t, ly, s->ndim, s->shape), *c = make_view(LD_U8, lx, s->ndim, s->shape);
    ld_view *a = make_view(t, lx, s->ndim, s->shape), *b = make_view(t, ly, s->ndim, s->shape);
    for (int64_t i = 0; i < ld_view_numel(y); i++)
        put(c, i, noise() > 0 ? 1 + (double)(i % 3) : 0);
    randomise(a, 50, 50);
    randomise(b, 50, 150);
    ok(ld_cpu_where(y, c, a, b));
    for (int64_t i = 0; i < ld_view_numel(y); i++)
        assert_true(get(y, i) == (get(c, i) != 0 ? get(a, i) : get(b, i)));
    check_guards(y);
}

static void where(void **state) {
    (void)state;
    each_case(all_types, 7, where_case);
}

int main(void) {
#define VIEWS_TEST(f) cmocka_unit_test_setup_teardown(f, free_views, free_views)
    const struct CMUnitTest tests[] = {
        VIEWS_TEST(fill),
        VIEWS_TEST(copy),
        VIEWS_TEST(unary),
        VIEWS_TEST(unary_f32_extremes),
        VIEWS_TEST(unary_bwd),
        VIEWS_TEST(unary_bwd_at_corners),
        VIEWS_TEST(unary_integers),
        VIEWS_TEST(binary),
        VIEWS_TEST(binary_broadcasts_within),
        VIEWS_TEST(binary_extremes),
        VIEWS_TEST(axpby),
        VIEWS_TEST(where),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
