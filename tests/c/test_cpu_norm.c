/* Norms, softmax and cross entropy of the CPU backend, tested as in test_cpu_heavy.c; and what holds for every heavy
 * slot: workspace that cannot be had, dtypes, repeatability. */
#include "pair.h"

#include "backend/cpu/vmath.h"

/* ---- norms ------------------------------------------------------------------------------------------------------- */

/* Rows of x that share statistics: element i belongs to set of(i). */
static void normalise_naive(const ld_view *y, const ld_view *x, const ld_view *w, const ld_view *b, double eps,
                            int64_t sets, int64_t (*of)(const ld_view *, int64_t, int64_t)) {
    int64_t n = ld_view_numel(x), c = x->shape[x->ndim - 1];
    for (int64_t s = 0; s < sets; s++) {
        double mean = 0, var = 0, count = 0;
        for (int64_t i = 0; i < n; i++)
            if (of(x, i, sets) == s) {
                mean += get(x, i);
                count++;
            }
        mean /= count;
        for (int64_t i = 0; i < n; i++)
            if (of(x, i, sets) == s)
                var += (get(x, i) - mean) * (get(x, i) - mean) / count;
        for (int64_t i = 0; i < n; i++)
            if (of(x, i, sets) == s)
                put(y, i, (get(x, i) - mean) / sqrt(var + eps) * (w ? get(w, i % c) : 1) + (b ? get(b, i % c) : 0));
    }
}

static int64_t by_column(const ld_view *x, int64_t i, int64_t sets) {
    (void)x;
    return i % sets;
}

static int64_t by_row(const ld_view *x, int64_t i, int64_t sets) {
    (void)sets;
    return i / x->shape[1];
}

static int64_t by_group(const ld_view *x, int64_t i, int64_t sets) {
    int64_t c = x->shape[2], groups = sets / x->shape[0];
    return i / c / x->shape[1] * groups + i % c / (c / groups);
}

#define VIEW(p, f) ((p) ? &(p)->v[f] : NULL)

static void batch_forward(problem *p, int f) {
    ok(ld_cpu_batch_norm(&p->out[0]->v[f], &p->out[1]->v[f], &p->out[2]->v[f], &p->in[0]->v[f], VIEW(p->in[1], f),
                         VIEW(p->in[2], f), p->number[0], p->number[1] != 0));
}

static void group_forward(problem *p, int f) {
    ok(ld_cpu_group_norm(&p->out[0]->v[f], &p->out[1]->v[f], &p->out[2]->v[f], &p->in[0]->v[f], VIEW(p->in[1], f),
                         VIEW(p->in[2], f), (int)p->number[1], p->number[0]));
}

static void layer_forward(problem *p, int f) {
    ok(ld_cpu_layer_norm(&p->out[0]->v[f], &p->out[1]->v[f], &p->out[2]->v[f], &p->in[0]->v[f], VIEW(p->in[1], f),
                         VIEW(p->in[2], f), p->number[0]));
}

static void norm_backward(problem *p, pair *dx, pair *dw, pair *db, const pair *g, int f) {
    const ld_view *x = &p->in[0]->v[f], *m = &p->out[1]->v[f], *r = &p->out[2]->v[f], *w = VIEW(p->in[1], f);
    if (p->forward == batch_forward)
        ok(ld_cpu_batch_norm_bwd(VIEW(dx, f), VIEW(dw, f), VIEW(db, f), &g->v[f], x, m, r, w, p->number[0],
                                 p->number[1] != 0));
    else if (p->forward == group_forward)
        ok(ld_cpu_group_norm_bwd(VIEW(dx, f), VIEW(dw, f), VIEW(db, f), &g->v[f], x, m, r, w, (int)p->number[1]));
    else
        ok(ld_cpu_layer_norm_bwd(VIEW(dx, f), VIEW(dw, f), VIEW(db, f), &g->v[f], x, m, r, w));
}

/* Forward and backward of one norm; `given` statistics are set before. x is centred at 10, so that a careless variance
 * would cancel; the f32 results then carry the rounding of x - mean, 10 times that of x: 1e-6 still holds for y. */
static void norm_case(problem p, pair *y, int64_t sets, int64_t (*of)(const ld_view *, int64_t, int64_t)) {
    pair *x = p.in[0];
    const ld_view *v = &x->v[0];
    int64_t c = v->shape[v->ndim - 1];
    pair g = randomised(strided_pair(v->ndim, v->shape, NULL), 0), dx = strided_pair(v->ndim, v->shape, NULL);
    pair dw = EMPTY(c), db = EMPTY(c), want = strided_pair(v->ndim, v->shape, NULL);
    p.out[0] = y;
    p.forward(&p, 0);
    p.forward(&p, 1);
    if (of) {
        normalise_naive(&want.v[0], v, VIEW(p.in[1], 0), VIEW(p.in[2], 0), p.number[0], sets, of);
        close_to(&y->v[0], &want.v[0], F64_TOL);
    }
    for (int i = 0; i < 3; i++)
        agrees(*p.out[i]);
    norm_backward(&p, &dx, &dw, &db, &g, 0);
    gradient(&p, x, &dx, &g);
    if (p.in[1])
        gradient(&p, p.in[1], &dw, &g);
    if (p.in[2])
        gradient(&p, p.in[2], &db, &g);
    copy_down(p.out[1]);
    copy_down(p.out[2]);
    norm_backward(&p, &dx, &dw, &db, &g, 0);
    norm_backward(&p, &dx, &dw, &db, &g, 1);
    agrees(dx);
    sum_agrees(dw, ld_view_numel(v) / c);
    sum_agrees(db, ld_view_numel(v) / c);
    norm_backward(&p, NULL, NULL, NULL, &g, 1);
}

static void test_batch_norm(void **state) {
    static const int64_t sizes[][2] = {{31, 1}, {33, 3}, {1000, 64}, {2, 100}, {70, 33}};
    for (int i = 0; i < 5; i++)
        for (int given = 0; given < 2; given++)
            for (int plain = 0; plain < 2; plain++) {
                int64_t m = sizes[i][0], c = sizes[i][1];
                pair x = randomised(EMPTY(m, c), 10), w = RANDOM(c), b = RANDOM(c), y = EMPTY(m, c);
                pair mean = randomised(EMPTY(c), 10), var = randomised(EMPTY(c), 1.5);
                problem p = {
                    {&x, plain ? NULL : &w, plain ? NULL : &b}, {NULL, &mean, &var}, {1e-2, given}, {0}, batch_forward};
                norm_case(p, &y, c, given ? NULL : by_column);
                if (given)
                    assert_true(
                        fabs(get(&y.v[0], 0) - ((get(&x.v[0], 0) - get(&mean.v[0], 0)) /
                                                    sqrt(get(&var.v[0], 0) + 1e-2) * (plain ? 1 : get(&w.v[0], 0)) +
                                                (plain ? 0 : get(&b.v[0], 0)))) < 1e-5);
                free_blocks(state);
            }
}

static void test_group_norm(void **state) {
    static const int64_t sizes[][4] = {{1, 1, 4, 1},      {2, 33, 6, 3}, {3, 31, 64, 32},
                                       {1, 1000, 100, 4}, {2, 9, 5, 5},  {2, 3, 64, 1}};
    for (int i = 0; i < 6; i++)
        for (int plain = 0; plain < 2; plain++) {
            int64_t n = sizes[i][0], p = sizes[i][1], c = sizes[i][2], groups = sizes[i][3];
            pair x = randomised(EMPTY(n, p, c), 10), w = RANDOM(c), b = RANDOM(c), y = EMPTY(n, p, c);
            pair mean = EMPTY(n, groups), rstd = EMPTY(n, groups);
            problem q = {{&x, plain ? NULL : &w, plain ? NULL : &b},
                         {NULL, &mean, &rstd},
                         {1e-2, (double)groups},
                         {0},
                         group_forward};
            norm_case(q, &y, n * groups, by_group);
            free_blocks(state);
        }
}

static void test_layer_norm(void **state) {
    static const int64_t sizes[][2] = {{31, 5}, {1, 33}, {33, 64}, {300, 100}, {3, 1000}};
    for (int i = 0; i < 5; i++)
        for (int plain = 0; plain < 2; plain++) {
            int64_t m = sizes[i][0], c = sizes[i][1];
            pair x = randomised(EMPTY(m, c), i == 4 ? 1e5 : 10), w = RANDOM(c), b = RANDOM(c), y = EMPTY(m, c),
                 mean = EMPTY(m), rstd = EMPTY(m);
            problem p = {{&x, plain ? NULL : &w, plain ? NULL : &b}, {NULL, &mean, &rstd}, {1e-2}, {0}, layer_forward};
            norm_case(p, &y, m, by_row);
            free_blocks(state);
        }
}

/* Empty batches: gradients of the parameters are 0, nothing else is touched. */
static void test_norm_empty(void **state) {
    (void)state;
    pair x = EMPTY(0, 5, 4), w = RANDOM(4), dw = EMPTY(4), db = EMPTY(4), stat = EMPTY(0, 2),
         c = randomised(EMPTY(4), 2), d = c;
    pair rows = EMPTY(0, 4), none = EMPTY(0);
    for (int f = 0; f < 2; f++)
        for (int which = 0; which < 3; which++) {
            problem p = {{which == 1 ? &x : &rows, &w, NULL},
                         {which == 1 ? &x : &rows,
                          which == 0   ? &c
                          : which == 1 ? &stat
                                       : &none,
                          which == 0   ? &d
                          : which == 1 ? &stat
                                       : &none},
                         {1e-5, 2},
                         {0},
                         which == 0   ? batch_forward
                         : which == 1 ? group_forward
                                      : layer_forward};
            p.forward(&p, f);
            norm_backward(&p, p.in[0], &dw, &db, p.in[0], f);
            for (int i = 0; i < 4; i++)
                assert_true(get(&dw.v[f], i) == 0 && get(&db.v[f], i) == 0);
        }
}

/* ---- the exponential --------------------------------------------------------------------------------------------- */

/* The bound stated in vmath.h, at 2e5 points from one end of its domain to the other, and beyond its lower end. */
static void test_exp(void **state) {
    (void)state;
    for (int i = 0; i <= 200000; i++) {
        float x = (float)(-87.3 + (87.3 + 88) * i / 200000);
        x = x < -87.3f ? -87.3f : x;
        double want = exp((double)x), got = (double)ld_exp_f32(x);
        if (!(fabs(got - want) <= 2e-7 * want))
            fail_msg("e^%.9g: %.9g, not %.9g", (double)x, got, want);
    }
    assert_true(ld_exp_f32(0) == 1 && ld_exp_f32(-87.4f) == 0 && ld_exp_f32(-INFINITY) == 0 && isnan(ld_exp_f32(NAN)));
}

/* ---- softmax and cross entropy ----------------------------------------------------------------------------------- */

static void softmax_forward(problem *p, int f) {
    ok(ld_cpu_softmax(&p->out[0]->v[f], &p->in[0]->v[f]));
}

static int64_t classes[40];
static ld_view class_view(int64_t m) {
    return (ld_view){LD_I64, 1, {m}, {1}, classes, 0, 0};
}

static void entropy_forward(problem *p, int f) {
    ld_view t = class_view(p->in[0]->v[f].shape[0]);
    ok(ld_cpu_cross_entropy(&p->out[0]->v[f], &p->in[0]->v[f], &t, p->number[0]));
}

static double log_p(const pair *x, int64_t k, int64_t i) {
    double sum = 0;
    for (int64_t j = i / k * k; j < (i / k + 1) * k; j++)
        sum += exp(get(&x->v[0], j));
    return get(&x->v[0], i) - log(sum);
}

static void softmax_case(int64_t m, int64_t k) {
    pair x = randomised(EMPTY(m, k), 5), y = EMPTY(m, k), g = RANDOM(m, k), dx = EMPTY(m, k), want = EMPTY(m, k);
    problem p = {{&x}, {&y}, {0}, {0}, softmax_forward};
    for (int64_t i = 0; i < m * k; i++)
        put(&want.v[0], i, exp(log_p(&x, k, i)));
    softmax_forward(&p, 0);
    softmax_forward(&p, 1);
    close_to(&y.v[0], &want.v[0], F64_TOL);
    agrees(y);
    ok(ld_cpu_softmax_bwd(&dx.v[0], &g.v[0], &y.v[0]));
    gradient(&p, &x, &dx, &g);
    copy_down(&y);
    for (int f = 0; f < 2; f++)
        ok(ld_cpu_softmax_bwd(&dx.v[f], &g.v[f], &y.v[f]));
    if (k > 1) /* one class: the gradient is 0 */
        agrees(dx);
}

static void entropy_case(int64_t m, int64_t k, double smoothing) {
    pair x = randomised(EMPTY(m, k), 5), l = EMPTY(m), g = RANDOM(m), dx = EMPTY(m, k), want = EMPTY(m);
    problem p = {{&x}, {&l}, {smoothing}, {0}, entropy_forward};
    ld_view t = class_view(m);
    for (int64_t r = 0; r < m; r++) {
        double sum = 0;
        classes[r] = r * 7 % k;
        for (int64_t j = 0; j < k; j++)
            sum -= log_p(&x, k, r * k + j) * (smoothing / (double)k + (j == classes[r] ? 1 - smoothing : 0));
        put(&want.v[0], r, sum);
    }
    entropy_forward(&p, 0);
    entropy_forward(&p, 1);
    for (int f = 0; f < 2; f++)
        ok(ld_cpu_cross_entropy_bwd(&dx.v[f], &g.v[f], &x.v[f], &t, smoothing));
    close_to(&l.v[0], &want.v[0], F64_TOL);
    gradient(&p, &x, &dx, &g);
    agrees(l);
    agrees(dx);
}

static void test_softmax(void **state) {
    static const int64_t sizes[][2] = {{1, 1}, {31, 33}, {3, 1000}, {0, 4}, {5, 2}, {33, 31}};
    for (int i = 0; i < 6; i++) {
        softmax_case(sizes[i][0], sizes[i][1]);
        entropy_case(sizes[i][0], sizes[i][1], 0);
        entropy_case(sizes[i][0], sizes[i][1], 0.1);
        free_blocks(state);
    }
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

typedef struct bench {
    pair image, grad, weight, bias, x, y, c, d, m, q, l, big;
} bench;

static bench bench_tensors(void) {
    return (bench){image(1, 64, 13, 11),
                   image(1, 96, 13, 11),
                   RANDOM(96, 64, 3, 3),
                   RANDOM(96),
                   RANDOM(40, 33),
                   EMPTY(40, 33),
                   EMPTY(33),
                   EMPTY(33),
                   EMPTY(40),
                   RANDOM(1, 2, 50, 16),
                   EMPTY(1, 2, 50),
                   RANDOM(2, 600, 32)};
}

/* Every slot that takes workspace, by number; the results land in b. */
static int run_slot(bench *b, int slot, int f) {
    const ld_conv_shape s = {1, 1, 1, 1, 1, 1, false};
    ld_view ci = b->image.v[f], cg = b->grad.v[f], cw = b->weight.v[f], cb = b->bias.v[f];
    ld_view c = b->c.v[f], d = b->d.v[f], x3 = b->big.v[f], m3 = b->x.v[f], e = b->m.v[f], h = b->y.v[f];
    switch (slot) {
    case 0:
        return ld_cpu_conv2d(&cg, &ci, &cw, &cb, &s);
    case 1:
        return ld_cpu_conv2d_dx(&ci, &cg, &cw, &s);
    case 2:
        return ld_cpu_conv2d_dw(&cw, &cb, &ci, &cg, &s);
    case 3:
        return ld_cpu_attention(&b->q.v[f], &b->l.v[f], &b->q.v[f], &b->q.v[f], &b->q.v[f], 1);
    case 4:
        return ld_cpu_attention_bwd(&b->q.v[f], &b->q.v[f], &b->q.v[f], &b->q.v[f], &b->q.v[f], &b->q.v[f], &b->q.v[f],
                                    &b->q.v[f], &b->l.v[f], 1);
    case 5:
        return ld_cpu_batch_norm(&h, &c, &d, &m3, NULL, NULL, 1e-5, false);
    case 6:
        return ld_cpu_batch_norm_bwd(&h, &c, &d, &m3, &m3, &c, &d, NULL, 1e-5, false);
    case 7:
        return ld_cpu_group_norm(&x3, &c, &d, &x3, NULL, NULL, 4, 1e-5);
    case 8:
        return ld_cpu_group_norm_bwd(&x3, &c, &d, &x3, &x3, &e, &e, NULL, 4);
    case 9:
        return ld_cpu_layer_norm(&h, &e, &e, &m3, NULL, NULL, 1e-5);
    default:
        return ld_cpu_layer_norm_bwd(&h, &c, &d, &m3, &m3, &e, &e, NULL);
    }
}

/* Workspace that cannot be had is LD_EMEM, and none is kept after a call; bf16 is refused. */
static void test_memory_and_dtype(void **state) {
    (void)state;
    ld_pool *pool = ld_device_find("cpu")->pool;
    bench b = bench_tensors();
    setenv("LD_CONV", "blocked", 1);
    for (int slot = 0; slot <= 10; slot++) {
        int64_t before = ld_pool_figures(pool).blocks;
        ld_pool_fail_at(pool, 1);
        assert_int_equal(run_slot(&b, slot, 1), LD_EMEM);
        ld_pool_fail_at(pool, 0);
        ok(run_slot(&b, slot, 1));
        assert_int_equal(ld_pool_figures(pool).blocks, before);
    }
    ld_view half = b.x.v[1];
    half.dtype = LD_BF16;
    assert_int_equal(ld_cpu_softmax(&half, &half), LD_EDTYPE);
    assert_string_equal(ld_error(), "softmax: bf16 on the cpu; f32 and f64 are there");
    assert_int_equal(ld_cpu_layer_norm(&half, &half, &half, &half, NULL, NULL, 1), LD_EDTYPE);
}

/* Norms do not depend on the number of threads; attention and its gradients not on the run. */
static void test_repeatable(void **state) {
    (void)state;
    pair x = randomised(EMPTY(3000, 33), 1), first = EMPTY(3000, 33), dw = EMPTY(33), db = EMPTY(33), mean = EMPTY(33),
         var = EMPTY(33);
    pair q = RANDOM(1, 2, 200, 16), y = EMPTY(1, 2, 200, 16), l = EMPTY(1, 2, 200), d[3] = {y, y, y},
         again = EMPTY(1, 2, 200, 16);
    double sums[4];
    for (int threads = 1; threads <= 4; threads++) {
        ld_set_threads(threads);
        ok(ld_cpu_batch_norm(&first.v[1], &mean.v[1], &var.v[1], &x.v[1], NULL, NULL, 1e-5, false));
        ok(ld_cpu_batch_norm_bwd(NULL, &dw.v[1], &db.v[1], &first.v[1], &x.v[1], &mean.v[1], &var.v[1], NULL, 1e-5,
                                 false));
        sums[threads - 1] = 0;
        for (int i = 0; i < 33; i++)
            sums[threads - 1] += (i + 1) * get(&dw.v[1], i);
        assert_true(sums[threads - 1] == sums[0]);
        ok(ld_cpu_attention(&y.v[1], &l.v[1], &q.v[1], &q.v[1], &q.v[1], 0.25));
        d[0] = d[2] = EMPTY(1, 2, 200, 16);
        d[2] = EMPTY(1, 2, 200, 16);
        for (int run = 0; run < 4; run++) {
            d[1] = run ? again : EMPTY(1, 2, 200, 16);
            ok(ld_cpu_attention_bwd(&d[0].v[1], &d[1].v[1], &d[2].v[1], &q.v[1], &q.v[1], &q.v[1], &q.v[1], &y.v[1],
                                    &l.v[1], 0.25));
            if (!run)
                memcpy(first.v[1].data, d[1].v[1].data, 2 * 200 * 16 * sizeof(float));
            else
                assert_memory_equal(first.v[1].data, again.v[1].data, 2 * 200 * 16 * sizeof(float));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_batch_norm, free_blocks),
        cmocka_unit_test_teardown(test_group_norm, free_blocks),
        cmocka_unit_test_teardown(test_layer_norm, free_blocks),
        cmocka_unit_test_teardown(test_norm_empty, free_blocks),
        cmocka_unit_test_teardown(test_exp, free_blocks),
        cmocka_unit_test_teardown(test_softmax, free_blocks),
        cmocka_unit_test_teardown(test_memory_and_dtype, free_blocks),
        cmocka_unit_test_teardown(test_repeatable, free_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
