/* The CPU backend's random numbers, one by one against base/rng.h, and its optimisers against their formulas. */
#include "views.h"

#include "base/rng.h"

/* ---- random numbers -------------------------------------------------------------------------------------------------- */

enum { SEED = 12345, PURPOSE = LD_RNG_NOISE };
static const uint64_t sample = ((uint64_t)1 << 40) + 7;

static float number(bool normal, uint64_t of_sample, int64_t element) {
    float v;
    if (normal)
        ld_rng_normal(&v, 1, SEED, PURPOSE, of_sample, element);
    else
        ld_rng_uniform(&v, 1, SEED, PURPOSE, of_sample, element);
    return v;
}

/* Element i, in logical order, is number i of the sample; by row, number i mod (elements of a row) of the row's sample. */
static void random_case(ld_dtype t, layout l, const shape_case *s, bool normal, bool by_row) {
    ld_view *y = make_view(t, l, s->ndim, s->shape);
    ok(normal ? ld_cpu_normal(y, 0.5, 2, SEED, PURPOSE, sample, by_row, NULL)
              : ld_cpu_uniform(y, -1, 3, SEED, PURPOSE, sample, by_row, NULL));
    int64_t n = ld_view_numel(y), row = by_row && s->ndim > 0 && n > 0 ? n / s->shape[0] : n;
    for (int64_t i = 0; i < n; i++) {
        uint64_t e;
        double u = (double)number(normal, sample + (uint64_t)(i / row), i % row),
               want = normal ? 0.5 + 2 * u : -1 + 4 * u;
        ld_dtype_set(t, &e, t == LD_F64 ? want : (double)(float)want);
        if (get(y, i) != ld_dtype_get(t, &e))
            fail_msg("element %d is %.9g, not %.9g", (int)i, get(y, i), ld_dtype_get(t, &e));
    }
    check_guards(y);
}

static void numbers_do_not_depend_on_layout(void **state) {
    (void)state;
    static const ld_dtype types[] = {LD_F32, LD_F64, LD_BF16, LD_F16};
    for (int t = 0; t < 4; t++)
        for (layout l = CANONICAL; l <= GAPPED; l++)
            for (int k = 0; k < 4; k++) {
                ld_set_threads(3);
                for (int s = 0; s < SHAPES; s++)
                    random_case(types[t], l, &shape_cases[s], k & 1, k & 2);
                random_case(types[t], l, &large_case, k & 1, k & 2);
                free_views(NULL);
            }
}

/* Any batch holds the same samples. */
static void rows_are_samples(void **state) {
    (void)state;
    ld_view *all = make_view(LD_F32, CANONICAL, 4, (int64_t[]){5, 3, 7, 6});
    ld_view *last = make_view(LD_F32, CANONICAL, 4, (int64_t[]){2, 3, 7, 6});
    for (int normal = 0; normal < 2; normal++) {
        if (normal) {
            ok(ld_cpu_normal(all, 0, 1, SEED, PURPOSE, 10, true, NULL));
            ok(ld_cpu_normal(last, 0, 1, SEED, PURPOSE, 13, true, NULL));
        } else {
            ok(ld_cpu_uniform(all, 0, 1, SEED, PURPOSE, 10, true, NULL));
            ok(ld_cpu_uniform(last, 0, 1, SEED, PURPOSE, 13, true, NULL));
        }
        for (int64_t i = 0; i < 2 * 126; i++)
            assert_true(get(last, i) == get(all, 3 * 126 + i));
        assert_true(get(all, 0) != get(all, 126));
    }
}

static void dropout_case(ld_dtype t, layout ly, layout lx, const shape_case *s, double p) {
    ld_view *y = make_view(t, ly, s->ndim, s->shape), *x = make_view(t, lx, s->ndim, s->shape);
    randomise(x, 1, 3);
    ok(ld_cpu_dropout(y, x, p, SEED, 9, NULL));
    int64_t dropped = 0, n = ld_view_numel(y);
    for (int64_t i = 0; i < n; i++) {
        float u;
        ld_rng_uniform(&u, 1, SEED, LD_RNG_DROPOUT, 9, i);
        check_value("dropout", t, i, get(y, i), (double)u < p ? 0 : get(x, i) / (1 - p), 0);
        dropped += get(y, i) == 0;
    }
    if (n > 900)
        assert_true(fabs((double)dropped / (double)n - p) < 0.1);
    check_guards(y);
    ok(ld_cpu_dropout(x, x, p, SEED, 9, NULL)); /* y may be x */
    for (int64_t i = 0; i < n; i++)
        assert_true(get(x, i) == get(y, i));
    check_guards(x);
}

static void dropout(void **state) {
    (void)state;
    static const ld_dtype types[] = {LD_F32, LD_F64, LD_BF16};
    for (int t = 0; t < 3; t++)
        for (int s = 0; s <= SHAPES; s++) {
            const shape_case *k = s < SHAPES ? &shape_cases[s] : &large_case;
            ld_set_threads(3);
            dropout_case(types[t], CANONICAL, CANONICAL, k, 0.1);
            dropout_case(types[t], CANONICAL, ROW_MAJOR, k, 0.75);
            dropout_case(types[t], GAPPED, REVERSED, k, 1);
            dropout_case(types[t], REVERSED, GAPPED, k, 0);
            free_views(NULL);
        }
}

/* An element is dropped when its number is below p, not at it. */
static void dropout_at_the_threshold(void **state) {
    (void)state;
    int64_t n = 40;
    ld_view *x = make_view(LD_F32, CANONICAL, 1, &n), *y = make_view(LD_F32, CANONICAL, 1, &n);
    ok(ld_cpu_fill(x, 1));
    for (int64_t i = 0; i < n; i++) {
        float u;
        ld_rng_uniform(&u, 1, SEED, LD_RNG_DROPOUT, 9, i);
        ok(ld_cpu_dropout(y, x, (double)u, SEED, 9, NULL));
        assert_true(get(y, i) != 0);
        ok(ld_cpu_dropout(y, x, (double)u + 1e-12, SEED, 9, NULL));
        assert_true(get(y, i) == 0);
    }
}

/* ---- optimisers ------------------------------------------------------------------------------------------------------ */

static const int64_t lengths[] = {0, 1, 31, 33, 1000, 40001};

typedef struct group {
    ld_view *p, *g, *m, *v;
} group;

static group make_group(ld_dtype t, int64_t n) {
    group k = {make_view(t, ROW_MAJOR, 1, &n), make_view(t, ROW_MAJOR, 1, &n), make_view(t, ROW_MAJOR, 1, &n),
               make_view(t, ROW_MAJOR, 1, &n)};
    ok(ld_cpu_fill(k.m, 0));
    ok(ld_cpu_fill(k.v, 0));
    random_state = 5;
    randomise(k.p, 1, 0);
    return k;
}

static void check_group(const group *k, const double *p) {
    for (int64_t i = 0; i < ld_view_numel(k->p); i++)
        check_value("parameter", k->p->dtype, i, get(k->p, i), p[i], 1);
    check_guards(k->p);
    check_guards(k->m);
    check_guards(k->v);
}

static void adam_case(ld_dtype t, int64_t n, bool decoupled) {
    ld_adam_step s = {0.01, 0.9, 0.99, 1e-5, 0.1, 0, decoupled};
    group k = make_group(t, n);
    double *state = calloc(3 * (size_t)n + 3, sizeof *state), *p = state, *m = p + n, *v = m + n;
    for (int64_t i = 0; i < n; i++)
        p[i] = get(k.p, i);
    for (s.step = 1; s.step <= 4; s.step++) {
        randomise(k.g, 1, 0.2);
        ok(ld_cpu_update(
            &(ld_update){.dtype = t, .n = n, .p = k.p->data, .m = k.m->data, .v = k.v->data, .g = k.g->data, .adam = s},
            1, 1, 0, NULL));
        double c1 = 1 - pow(s.beta1, (double)s.step), c2 = 1 - pow(s.beta2, (double)s.step);
        for (int64_t i = 0; i < n; i++) {
            double g = get(k.g, i) + (decoupled ? 0 : s.weight_decay * p[i]);
            p[i] -= decoupled ? s.lr * s.weight_decay * p[i] : 0;
            m[i] = s.beta1 * m[i] + (1 - s.beta1) * g;
            v[i] = s.beta2 * v[i] + (1 - s.beta2) * g * g;
            p[i] -= s.lr * (m[i] / c1) / (sqrt(v[i] / c2) + s.eps);
        }
    }
    check_group(&k, p);
    free(state);
}

static void sgd_case(ld_dtype t, int64_t n, bool nesterov) {
    group k = make_group(t, n);
    double *state = calloc(2 * (size_t)n + 2, sizeof *state), *p = state, *buf = p + n;
    ok(ld_cpu_fill(k.m, NAN)); /* not read at the first step */
    for (int64_t i = 0; i < n; i++)
        p[i] = get(k.p, i);
    for (int step = 0; step < 4; step++) {
        randomise(k.g, 1, 0.2);
        ok(ld_cpu_sgd(k.p, k.g, k.m, 0.1, 0.8, 0.05, nesterov, step == 0));
        for (int64_t i = 0; i < n; i++) {
            double d = get(k.g, i) + 0.05 * p[i];
            buf[i] = step ? 0.8 * buf[i] + d : d;
            p[i] -= 0.1 * (nesterov ? d + 0.8 * buf[i] : buf[i]);
        }
    }
    check_group(&k, p);
    free(state);
}

static void ema_case(ld_dtype t, int64_t n) {
    group k = make_group(t, n);
    double *s = calloc((size_t)n + 1, sizeof *s);
    for (int step = 0; step < 3; step++) {
        randomise(k.g, 1, 0);
        for (int64_t i = 0; i < n; i++)
            s[i] = 0.75 * (step ? s[i] : get(k.p, i)) + 0.25 * get(k.g, i);
        ok(ld_cpu_update(&(ld_update){.dtype = t, .n = n, .p = k.g->data, .s = k.p->data}, 1, 1, 0.75, NULL));
    }
    check_group(&k, s);
    free(s);
}

static void optimisers(void **state) {
    (void)state;
    ld_set_threads(3);
    for (int t = 0; t < 2; t++)
        for (int k = 0; k < 6; k++) {
            ld_dtype dtype = t ? LD_F64 : LD_F32;
            for (int flag = 0; flag < 2; flag++) {
                adam_case(dtype, lengths[k], flag);
                sgd_case(dtype, lengths[k], flag);
            }
            ema_case(dtype, lengths[k]);
            free_views(NULL);
            ld_set_threads(3);
        }
}

int main(void) {
#define VIEWS_TEST(f) cmocka_unit_test_setup_teardown(f, free_views, free_views)
    const struct CMUnitTest tests[] = {
        VIEWS_TEST(numbers_do_not_depend_on_layout), VIEWS_TEST(rows_are_samples), VIEWS_TEST(dropout),
        VIEWS_TEST(dropout_at_the_threshold),        VIEWS_TEST(optimisers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
