/* The CPU backend's reductions, positions of extremes, and rows by index, against plain loops. */
#include "views.h"

/* y's element for element i of x. */
static int64_t group_of(const ld_view *y, const ld_view *x, int64_t i) {
    int64_t at = 0, step = 1;
    for (int d = x->ndim - 1; d >= 0; i /= x->shape[d--]) {
        at += y->shape[d] == 1 ? 0 : i % x->shape[d] * step;
        step *= y->shape[d];
    }
    return at;
}

static double fold(ld_reduce_op op, double a, double v) {
    switch (op) {
    case LD_MAX:
        return v > a ? v : a;
    case LD_MIN:
        return v < a ? v : a;
    case LD_SUMSQ:
        return a + v * v;
    default:
        return a + v;
    }
}

static void check_reduce(const ld_view *y, const ld_view *x, ld_reduce_op op) {
    int64_t outputs = ld_view_numel(y), n = ld_view_numel(x);
    double *want = malloc((size_t)(outputs + 1) * sizeof *want), *size = calloc((size_t)outputs + 1, sizeof *size);
    for (int64_t i = 0; i < outputs; i++)
        want[i] = op == LD_MAX ? -INFINITY : op == LD_MIN ? INFINITY : 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t k = group_of(y, x, i);
        want[k] = fold(op, want[k], get(x, i));
        size[k] += op == LD_SUMSQ ? get(x, i) * get(x, i) : fabs(get(x, i));
    }
    for (int64_t i = 0; i < outputs; i++) {
        double count = (double)n / (double)outputs;
        uint64_t e = 0;
        ld_dtype_set(y->dtype, &e, op == LD_MEAN ? want[i] / count : want[i]);
        double v = ld_dtype_get(y->dtype, &e);
        if (x->dtype == LD_U8) /* wraps */
            v = (double)((int64_t)want[i] & 255);
        /* Sums run in f64: beside an f64 result stand the roundings of all terms, beside a shorter one next to none. */
        double scale = op == LD_MAX || op == LD_MIN ? 0 : y->dtype == LD_F64 ? 100 * size[i] : 1e-6 * size[i];
        check_value("reduce", y->dtype, i, get(y, i), v, scale);
    }
    check_guards(y);
    free(want);
    free(size);
}

/* Every set of reduced dimensions, as bits. */
static void reduce_case(ld_dtype t, layout ly, layout lx, const shape_case *s) {
    bool floats = ld_dtype_is_float(t);
    for (int mask = 0; mask < 1 << s->ndim; mask++)
        for (int op = 0; op < LD_REDUCE_COUNT; op++) {
            if (!floats && (op == LD_MEAN || op == LD_SUMSQ))
                continue;
            int64_t shape[LD_MAX_DIMS];
            bool empty = false;
            for (int d = 0; d < s->ndim; d++) {
                shape[d] = mask >> d & 1 ? 1 : s->shape[d];
                empty |= s->shape[d] == 0;
            }
            if (empty && !floats && op != LD_SUM)
                continue; /* the extremes of no integers are nothing in particular */
            ld_view *x = make_view(t, lx, s->ndim, s->shape), *y = make_view(t, ly, s->ndim, shape);
            randomise(x, 3, t == LD_U8 ? 4 : 0);
            ok(ld_cpu_reduce(y, x, (ld_reduce_op)op));
            check_reduce(y, x, (ld_reduce_op)op);
        }
}

static void reduce(void **state) {
    (void)state;
    static const layout pairs[][2] = {
        {CANONICAL, CANONICAL}, {GAPPED, ROW_MAJOR}, {CANONICAL, REVERSED}, {REVERSED, GAPPED}, {CANONICAL, SPREAD}};
    for (int t = 0; t < LD_DTYPE_COUNT; t++)
        for (int p = 0; p < 5; p++)
            for (int s = 0; s < SHAPES; s++) {
                reduce_case((ld_dtype)t, pairs[p][0], pairs[p][1], &shape_cases[s]);
                free_views(NULL);
            }
    ld_view *x = make_view(LD_I32, CANONICAL, 1, (int64_t[]){3}), *y = make_view(LD_I32, CANONICAL, 1, (int64_t[]){1});
    assert_int_equal(ld_cpu_reduce(y, x, LD_MEAN), LD_EDTYPE);
}

/* Sizes at which groups are cut into segments and given to threads: right, and the same for any number of threads. */
static void large_reductions(void **state) {
    (void)state;
    static const struct {
        shape_case x;
        int mask;
    } cases[] = {
        {{1, {300001}}, 1},        {{2, {70001, 3}}, 1},       {{2, {70001, 3}}, 2},        {{2, {3000, 67}}, 1},
        {{2, {101, 1300}}, 1},     {{2, {7, 40000}}, 2},       {{4, {4, 20, 50, 49}}, 13},  {{4, {4, 20, 50, 49}}, 12},
        {{4, {4, 20, 50, 49}}, 2}, {{4, {4, 20, 50, 49}}, 15}, {{4, {2, 700, 20, 11}}, 13}, {{3, {40, 50, 60}}, 5},
    };
    static const ld_dtype types[] = {LD_F32, LD_F64, LD_BF16, LD_I64};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        for (int t = 0; t < 4; t++)
            for (int op = 0; op < LD_REDUCE_COUNT; op++) {
                const shape_case *s = &cases[k].x;
                if (types[t] == LD_I64 && (op == LD_MEAN || op == LD_SUMSQ))
                    continue;
                int64_t shape[LD_MAX_DIMS];
                for (int d = 0; d < s->ndim; d++)
                    shape[d] = cases[k].mask >> d & 1 ? 1 : s->shape[d];
                ld_view *x = make_view(types[t], CANONICAL, s->ndim, s->shape);
                ld_view *y = make_view(types[t], CANONICAL, s->ndim, shape);
                ld_view *z = make_view(types[t], CANONICAL, s->ndim, shape);
                randomise(x, 3, 0.5);
                ld_set_threads(3);
                ok(ld_cpu_reduce(y, x, (ld_reduce_op)op));
                check_reduce(y, x, (ld_reduce_op)op);
                ld_set_threads(1);
                ok(ld_cpu_reduce(z, x, (ld_reduce_op)op));
                assert_memory_equal(y->data, z->data, (size_t)ld_view_numel(y) * ld_dtype_size(types[t]));
                free_views(NULL);
            }
}

static void extremes_of_nothing_and_of_nan(void **state) {
    (void)state;
    int64_t n = 300;
    for (int t = 0; t < 2; t++) {
        ld_dtype dtype = t ? LD_F64 : LD_F32;
        ld_view *x = make_view(dtype, ROW_MAJOR, 1, &n), *y = make_view(dtype, ROW_MAJOR, 1, (int64_t[]){1});
        ld_view *none = make_view(dtype, ROW_MAJOR, 1, (int64_t[]){0});
        for (int k = 0; k < 300; k += 13) {
            randomise(x, 1, 0);
            put(x, k, NAN);
            for (int op = LD_SUM; op <= LD_SUMSQ; op++) {
                ok(ld_cpu_reduce(y, x, (ld_reduce_op)op));
                assert_true(isnan(get(y, 0)));
            }
        }
        ok(ld_cpu_reduce(y, none, LD_MAX));
        assert_true(get(y, 0) == -INFINITY);
        ok(ld_cpu_reduce(y, none, LD_MEAN));
        assert_true(isnan(get(y, 0)));
        ok(ld_cpu_reduce(y, none, LD_SUM));
        assert_true(get(y, 0) == 0);
    }
}

static void sums_are_accurate(void **state) {
    (void)state;
    int64_t n = 1 << 20;
    ld_view *x = make_view(LD_F32, ROW_MAJOR, 1, &n), *y = make_view(LD_F32, ROW_MAJOR, 1, (int64_t[]){1});
    ok(ld_cpu_fill(x, 0.1));
    ok(ld_cpu_reduce(y, x, LD_SUM));
    assert_true((float)get(y, 0) == (float)((double)n * (double)0.1f)); /* f64 sums leave one rounding */
}

static void sumsq(void **state) {
    (void)state;
    for (int t = 0; t < 2; t++)
        for (int s = 0; s < SHAPES; s++) {
            ld_view *x = make_view(t ? LD_F64 : LD_F32, CANONICAL, shape_cases[s].ndim, shape_cases[s].shape);
            double got = NAN, want = 0;
            randomise(x, 2, 0);
            for (int64_t i = 0; i < ld_view_numel(x); i++)
                want += get(x, i) * get(x, i);
            ok(ld_cpu_sumsq(&got, x, 1));
            assert_true(fabs(got - want) <= 1e-13 * want);
            if (ld_view_numel(x) > 20) {
                put(x, 17, 1e30);
                ok(ld_cpu_sumsq(&got, x, 1));
                assert_true(isfinite(got) && got > 1e59); /* beyond f32 */
                put(x, 17, INFINITY);
                ok(ld_cpu_sumsq(&got, x, 1));
                assert_true(got == INFINITY);
                put(x, 17, NAN);
                ok(ld_cpu_sumsq(&got, x, 1));
                assert_true(isnan(got));
            }
        }
}

/* ---- arg ------------------------------------------------------------------------------------------------------------- */

static void check_arg(ld_dtype t, layout l, const shape_case *s, int dim, bool smallest) {
    int64_t shape[LD_MAX_DIMS], n = s->shape[dim], inner = 1;
    memcpy(shape, s->shape, sizeof shape);
    shape[dim] = 1;
    for (int d = dim + 1; d < s->ndim; d++)
        inner *= s->shape[d];
    ld_view *x = make_view(t, l, s->ndim, s->shape), *y = make_view(LD_I64, CANONICAL, s->ndim, shape);
    randomise(x, 9, 10); /* whole numbers among the integers: many ties */
    ok(ld_cpu_arg(y, x, dim, smallest));
    for (int64_t k = 0; k < ld_view_numel(y); k++) {
        int64_t first = k / inner * inner * n + k % inner, best = 0;
        for (int64_t i = 1; i < n; i++) {
            double a = get(x, first + i * inner), b = get(x, first + best * inner);
            best = (smallest ? a < b : a > b) ? i : best;
        }
        assert_int_equal(get(y, k), best);
    }
    check_guards(y);
}

static void arg(void **state) {
    (void)state;
    static const shape_case cases[] = {{1, {1}},          {1, {33}},       {2, {31, 10}},
                                       {4, {2, 3, 5, 7}}, {2, {4000, 10}}, {3, {3, 0, 2}}};
    ld_set_threads(3);
    for (int t = 0; t < LD_DTYPE_COUNT; t++)
        for (int k = 0; k < 6; k++)
            for (int dim = 0; dim < cases[k].ndim; dim++)
                for (int smallest = 0; smallest < 2; smallest++) {
                    if (cases[k].shape[dim] == 0)
                        continue;
                    check_arg((ld_dtype)t, CANONICAL, &cases[k], dim, smallest);
                    check_arg((ld_dtype)t, GAPPED, &cases[k], dim, smallest);
                    free_views(NULL);
                }
    ld_view *x = make_view(LD_F32, CANONICAL, 1, (int64_t[]){4}), *y = make_view(LD_I64, CANONICAL, 1, (int64_t[]){1});
    memcpy(x->data, ((float[]){1, NAN, 5, NAN}), 16);
    for (int smallest = 0; smallest < 2; smallest++) {
        ok(ld_cpu_arg(y, x, 0, smallest));
        assert_int_equal(get(y, 0), 1);
    }
}

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

static ld_view *indices(int64_t m, int64_t rows) {
    ld_view *idx = make_view(LD_I64, ROW_MAJOR, 1, &m);
    for (int64_t i = 0; i < m; i++)
        ((int64_t *)idx->data)[i] = (i * 7 + i / 3) % rows;
    return idx;
}

static void rows(void **state) {
    (void)state;
    static const int64_t sizes[][3] = {{0, 5, 3}, {1, 1, 1}, {31, 5, 33}, {33, 40, 1}, {1000, 17, 40}, {4, 3, 0}};
    ld_set_threads(3);
    for (int t = 0; t < LD_DTYPE_COUNT; t++)
        for (int k = 0; k < 6; k++) {
            int64_t m = sizes[k][0], r = sizes[k][1], w = sizes[k][2];
            ld_view *x = make_view((ld_dtype)t, ROW_MAJOR, 2, (int64_t[]){r, w});
            ld_view *y = make_view((ld_dtype)t, ROW_MAJOR, 2, (int64_t[]){m, w}), *idx = indices(m, r);
            const int64_t *at = idx->data;
            randomise(x, 100, 100);
            ok(ld_cpu_gather_rows(y, x, idx));
            for (int64_t i = 0; i < m * w; i++)
                assert_true(get(y, i) == get(x, at[i / w] * w + i % w));
            check_guards(y);
            if (t != LD_F32 && t != LD_F64)
                continue;
            double *want = calloc((size_t)(r * w) + 1, sizeof *want);
            for (int64_t i = 0; i < m * w; i++) {
                double *to = &want[at[i / w] * w + i % w];
                *to = t == LD_F64 ? *to + get(y, i) : (double)((float)*to + (float)get(y, i)); /* in order of m */
            }
            ok(ld_cpu_scatter_rows(x, y, idx));
            for (int64_t i = 0; i < r * w; i++)
                assert_true(get(x, i) == want[i]);
            check_guards(x);
            free(want);
        }
}

static void rows_outside_are_refused(void **state) {
    (void)state;
    ld_view *x = make_view(LD_F32, ROW_MAJOR, 2, (int64_t[]){5, 2}),
            *y = make_view(LD_F32, ROW_MAJOR, 2, (int64_t[]){3, 2});
    ld_view *idx = indices(3, 5);
    for (int64_t bad = -1; bad <= 5; bad += 6) {
        ((int64_t *)idx->data)[2] = bad;
        assert_int_equal(ld_cpu_gather_rows(y, x, idx), LD_EINDEX);
        assert_int_equal(ld_cpu_scatter_rows(x, y, idx), LD_EINDEX);
    }
    assert_string_equal(ld_error(), "gather backward: index 5 at position 2; there are 5 rows, counted from 0");
}

int main(void) {
#define VIEWS_TEST(f) cmocka_unit_test_setup_teardown(f, free_views, free_views)
    const struct CMUnitTest tests[] = {
        VIEWS_TEST(reduce),
        VIEWS_TEST(large_reductions),
        VIEWS_TEST(extremes_of_nothing_and_of_nan),
        VIEWS_TEST(sums_are_accurate),
        VIEWS_TEST(sumsq),
        VIEWS_TEST(arg),
        VIEWS_TEST(rows),
        VIEWS_TEST(rows_outside_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
