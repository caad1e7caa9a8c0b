/* Norms, softmax and cross entropy of the CPU backend, tested as in test_cpu_heavy.c; and what holds for every heavy
 * slot: workspace that cannot be had, dtypes, repeatability. */
#include "pair.h"

#include "backend/cpu/vmath.h"

/* ---- batch and group norm ---------------------------------------------------------------------------------------- */

#define VIEW(p, f) ((p) ? &(p)->v[f] : NULL)

/* What norm slots are asked for. in: x (n,p,c), w, b, film; out: y, stats, mean, var. */
typedef struct norm_case {
    ld_norm_spec spec;
    int64_t n, p, c;
    pair x, w, b, film, y, stats, mean, var;
    bool affine, filmed;
} norm_case;
static norm_case q; /* the one under test */

static void norm_forward(problem *p, int f) {
    (void)p;
    bool batch = !q.spec.groups;
    ok(ld_cpu_norm(&q.y.v[f], &q.stats.v[f], VIEW(batch ? &q.mean : NULL, f), VIEW(batch ? &q.var : NULL, f), &q.x.v[f],
                   VIEW(q.filmed ? &q.film : NULL, f), VIEW(q.affine ? &q.w : NULL, f), VIEW(q.affine ? &q.b : NULL, f),
                   &q.spec));
}

typedef struct norm_gradients {
    pair dx, dfilm, dw, db;
} norm_gradients;

static void norm_backward(norm_gradients *d, const pair *g, int f) {
    ok(ld_cpu_norm_bwd(&d->dx.v[f], VIEW(q.filmed ? &d->dfilm : NULL, f), VIEW(q.affine ? &d->dw : NULL, f),
                       VIEW(q.affine ? &d->db : NULL, f), &g->v[f], &q.x.v[f], &q.stats.v[f],
                       VIEW(q.filmed ? &q.film : NULL, f), VIEW(q.affine ? &q.w : NULL, f),
                       VIEW(q.affine ? &q.b : NULL, f), &q.spec));
}

static norm_gradients gradients_like(void) {
    return (norm_gradients){EMPTY(q.n, q.p, q.c), EMPTY(q.n, 2 * q.c), EMPTY(q.c), EMPTY(q.c)};
}

/* u = (1 + scale) x + shift, and the set it belongs to, of element i. */
static double naive_u(int64_t i) {
    int64_t n = i / (q.p * q.c), j = i % q.c;
    double x = get(&q.x.v[0], i);
    return q.filmed ? (1 + get(&q.film.v[0], n * 2 * q.c + j)) * x + get(&q.film.v[0], (2 * n + 1) * q.c + j) : x;
}

static int64_t set_of(int64_t i) {
    int64_t groups = q.spec.groups;
    return groups ? i / (q.p * q.c) * groups + i % q.c / (q.c / groups) : i % q.c;
}

static double naive_act(double v) {
    switch (q.spec.act) {
    case LD_NORM_RELU:
        return fmax(v, 0);
    case LD_NORM_LEAKY:
        return (v > 0 ? v : q.spec.slope * v) - q.spec.sub;
    case LD_NORM_SILU:
        return v / (1 + exp(-v));
    default:
        return v;
    }
}

static double naive_slope(double v) {
    double s = 1 / (1 + exp(-v));
    switch (q.spec.act) {
    case LD_NORM_RELU:
        return v > 0;
    case LD_NORM_LEAKY:
        return v > 0 ? 1 : q.spec.slope;
    case LD_NORM_SILU:
        return s + v * s * (1 - s);
    default:
        return 1;
    }
}

/* The activation's argument by the formula, with statistics of u or the given ones, which are compared too. */
static pair naive_input(void) {
    enum { MOST_SETS = 512 };
    double mean[MOST_SETS] = {0}, var[MOST_SETS] = {0};
    int64_t all = q.n * q.p * q.c, sets = q.spec.groups ? q.n * q.spec.groups : q.c;
    double count = (double)(all / sets);
    assert_true(sets <= MOST_SETS);
    for (int64_t i = 0; i < all; i++)
        mean[set_of(i)] += naive_u(i) / count;
    for (int64_t i = 0; i < all; i++)
        var[set_of(i)] += (naive_u(i) - mean[set_of(i)]) * (naive_u(i) - mean[set_of(i)]) / count;
    for (int64_t s = 0; s < sets && !q.spec.groups; s++) {
        if (q.spec.given) {
            mean[s] = get(&q.mean.v[0], s);
            var[s] = get(&q.var.v[0], s);
        }
        assert_true(fabs(get(&q.mean.v[0], s) - mean[s]) <= 1e-12 * fabs(mean[s]));
        assert_true(fabs(get(&q.var.v[0], s) - var[s]) <= 1e-12 * fmax(var[s], mean[s] * mean[s]));
    }
    pair v = EMPTY(q.n, q.p, q.c);
    for (int64_t i = 0; i < all; i++) {
        double hat = (naive_u(i) - mean[set_of(i)]) / sqrt(var[set_of(i)] + q.spec.eps);
        put(&v.v[0], i, q.affine ? hat * get(&q.w.v[0], i % q.c) + get(&q.b.v[0], i % q.c) : hat);
    }
    return v;
}

/* A kink leaves no differences to take, but between kinks the activation is a factor: the gradients are those of the
 * plain norm with g act'(v) in g's place. Holds for SiLU as well. */
static void same_as_plain(const norm_gradients *d, const pair *g, const pair *v) {
    norm_gradients plain = gradients_like();
    pair dz = EMPTY(q.n, q.p, q.c);
    ld_norm_act act = q.spec.act;
    for (int64_t i = 0; i < q.n * q.p * q.c; i++)
        put(&dz.v[0], i, get(&g->v[0], i) * naive_slope(get(&v->v[0], i)));
    q.spec.act = LD_NORM_PLAIN;
    norm_backward(&plain, &dz, 0);
    q.spec.act = act;
    double tol = F64_TOL * 100; /* x lies far from 0: sums of it times a gradient cancel by as much and more */
    close_to(&d->dx.v[0], &plain.dx.v[0], tol);
    if (q.filmed)
        close_to(&d->dfilm.v[0], &plain.dfilm.v[0], tol);
    if (q.affine) {
        close_to(&d->dw.v[0], &plain.dw.v[0], tol);
        close_to(&d->db.v[0], &plain.db.v[0], tol);
    }
}

/* Forward, backward, f32 against f64. x lies around 3 or 10, so that a careless variance would cancel. */
static void check_norm(void) {
    problem p = {.out = {&q.y}, .forward = norm_forward};
    pair g = RANDOM(q.n, q.p, q.c), want = EMPTY(q.n, q.p, q.c);
    norm_gradients d = gradients_like();
    norm_forward(&p, 0);
    norm_forward(&p, 1);
    pair v = naive_input();
    for (int64_t i = 0; i < q.n * q.p * q.c; i++)
        put(&want.v[0], i, naive_act(get(&v.v[0], i)));
    close_to(&q.y.v[0], &want.v[0], F64_TOL);
    agrees(q.y);
    agrees(q.mean);
    agrees(q.var);
    norm_backward(&d, &g, 0);
    same_as_plain(&d, &g, &v);
    bool small = q.n * q.p * q.c < 10000, whole = q.affine && q.filmed; /* the large ones take long */
    if (q.spec.act == LD_NORM_SILU ? small || whole : q.spec.act == LD_NORM_PLAIN && small) {
        gradient(&p, &q.x, &d.dx, &g);
        if (q.filmed)
            gradient(&p, &q.film, &d.dfilm, &g);
        if (q.affine) {
            gradient(&p, &q.w, &d.dw, &g);
            gradient(&p, &q.b, &d.db, &g);
        }
    }
    copy_down(&q.stats);
    norm_backward(&d, &g, 0);
    norm_backward(&d, &g, 1);
    agrees(d.dx);
    if (q.filmed)
        sum_agrees(d.dfilm, q.p * 8 * 8); /* two sums of terms g x, x up to 4 */
    if (q.affine) {
        sum_agrees(d.dw, q.n * q.p);
        sum_agrees(d.db, q.n * q.p);
    }
}

static void make_case(int64_t n, int64_t p, int64_t c, int bits) {
    q = (norm_case){.n = n, .p = p, .c = c, .affine = bits & 1, .filmed = bits >> 1 & 1};
    /* A scale moves u by x times as much: differences need a smoother function, sets of three values as well. */
    q.spec = (ld_norm_spec){
        .eps = q.filmed || n * p < 40 ? 1 : 1e-2, .act = (ld_norm_act)(bits >> 2 & 3), .slope = 0.1, .sub = 0.4};
    q.x = randomised(EMPTY(n, p, c), q.filmed ? 3 : 10);
    q.w = RANDOM(c);
    q.b = RANDOM(c);
    q.film = RANDOM(n, 2 * c);
    q.y = EMPTY(n, p, c);
    q.stats = EMPTY(n, LD_NORM_STATS(q.filmed), c);
    q.mean = randomised(EMPTY(c), 10);
    q.var = randomised(EMPTY(c), 1.5);
}

enum { KINDS = 16 }; /* affine, film, four activations */

static void test_batch_norm(void **state) {
    static const int64_t sizes[][3] = {{1, 31, 1}, {33, 1, 3}, {1, 991, 33}, {2, 1, 100}, {3, 70, 33}, {2, 528, 31}};
    for (int i = 0; i < 6; i++)
        for (int bits = 0; bits < 2 * KINDS; bits++) {
            make_case(sizes[i][0], sizes[i][1], sizes[i][2], bits);
            q.spec.given = bits >> 4;
            check_norm();
            free_blocks(state);
        }
}

static void test_group_norm(void **state) {
    static const int64_t sizes[][4] = {{1, 1, 4, 1}, {2, 33, 6, 3}, {3, 31, 64, 32}, {1, 500, 40, 4},
                                       {2, 9, 5, 5}, {2, 3, 64, 1}, {31, 1, 33, 11}, {1, 33, 1, 1}};
    for (int i = 0; i < 8; i++)
        for (int bits = 0; bits < KINDS; bits++) {
            make_case(sizes[i][0], sizes[i][1], sizes[i][2], bits);
            q.spec.groups = (int)sizes[i][3];
            check_norm();
            free_blocks(state);
        }
}

/* Far from 0, where u in f32 would keep three digits of its spread; one scale for all, that means do not lie apart. */
static void test_norm_far(void **state) {
    for (int kind = 0; kind < 8; kind++) {
        make_case(2, 200, 8, 1 | (kind & 1) << 1 | (kind & 2 ? LD_NORM_SILU : LD_NORM_PLAIN) << 2);
        q.spec.given = kind & 4;
        q.x = randomised(EMPTY(2, 200, 8), 1e4);
        q.mean = randomised(EMPTY(8), q.filmed ? 1.5e4 : 1e4);
        for (int f = 0; f < 2; f++)
            for (int64_t i = 0; i < 8; i++)
                put(&q.film.v[f], i, 0.5), put(&q.film.v[f], 16 + i, 0.5);
        norm_forward(NULL, 0);
        norm_forward(NULL, 1);
        agrees(q.y);
        free_blocks(state);
    }
}

/* What nobody wants is not computed into; an activation far out neither overflows nor makes NaN. */
static void test_norm_corners(void **state) {
    (void)state;
    for (int act = 0; act < 4; act++) {
        make_case(2, 3, 2, 3 | act << 2);
        q.spec.given = true;
        for (int f = 0; f < 2; f++) {
            ld_view *w = &q.w.v[f];
            put(w, 0, 1e4), put(w, 1, -1e4);
            put(&q.x.v[f], 0, NAN);
            norm_forward(NULL, f);
            pair g = RANDOM(2, 3, 2);
            norm_gradients d = gradients_like();
            norm_backward(&d, &g, f);
            assert_true(isnan(get(&q.y.v[f], 0)));
            for (int64_t i = 1; i < 12; i++)
                assert_true(isfinite(get(&q.y.v[f], i)) && isfinite(get(&d.dx.v[f], i)));
            ok(ld_cpu_norm_bwd(NULL, NULL, NULL, NULL, &g.v[f], &q.x.v[f], &q.stats.v[f], &q.film.v[f], w, &q.b.v[f],
                               &q.spec));
        }
    }
}

/* ---- layer norm -------------------------------------------------------------------------------------------------- */

static void layer_naive(const ld_view *y, const ld_view *x, const ld_view *w, const ld_view *b, double eps) {
    int64_t c = x->shape[1];
    for (int64_t r = 0; r < x->shape[0]; r++) {
        double mean = 0, var = 0;
        for (int64_t i = r * c; i < (r + 1) * c; i++)
            mean += get(x, i);
        mean /= (double)c;
        for (int64_t i = r * c; i < (r + 1) * c; i++)
            var += (get(x, i) - mean) * (get(x, i) - mean) / (double)c;
        for (int64_t i = r * c; i < (r + 1) * c; i++)
            put(y, i, (get(x, i) - mean) / sqrt(var + eps) * (w ? get(w, i % c) : 1) + (b ? get(b, i % c) : 0));
    }
}

static void layer_forward(problem *p, int f) {
    ok(ld_cpu_layer_norm(&p->out[0]->v[f], &p->out[1]->v[f], &p->out[2]->v[f], &p->in[0]->v[f], VIEW(p->in[1], f),
                         VIEW(p->in[2], f), p->number[0]));
}

static void layer_backward(problem *p, pair *dx, pair *dw, pair *db, const pair *g, int f) {
    ok(ld_cpu_layer_norm_bwd(VIEW(dx, f), VIEW(dw, f), VIEW(db, f), &g->v[f], &p->in[0]->v[f], &p->out[1]->v[f],
                             &p->out[2]->v[f], VIEW(p->in[1], f)));
}

/* x is centred at 10; the f32 results then carry the rounding of x - mean, 10 times that of x: 1e-6 still holds for y. */
static void layer_case(problem p, pair *y) {
    pair *x = p.in[0];
    const ld_view *v = &x->v[0];
    int64_t c = v->shape[1];
    pair g = RANDOM(v->shape[0], c), dx = EMPTY(v->shape[0], c), dw = EMPTY(c), db = EMPTY(c),
         want = EMPTY(v->shape[0], c);
    p.out[0] = y;
    p.forward(&p, 0);
    p.forward(&p, 1);
    layer_naive(&want.v[0], v, VIEW(p.in[1], 0), VIEW(p.in[2], 0), p.number[0]);
    close_to(&y->v[0], &want.v[0], F64_TOL);
    for (int i = 0; i < 3; i++)
        agrees(*p.out[i]);
    layer_backward(&p, &dx, &dw, &db, &g, 0);
    if (get(v, 0) < 100) /* farther out, x + h is rounded too much for differences */
        gradient(&p, x, &dx, &g);
    if (p.in[1])
        gradient(&p, p.in[1], &dw, &g);
    if (p.in[2])
        gradient(&p, p.in[2], &db, &g);
    copy_down(p.out[1]);
    copy_down(p.out[2]);
    layer_backward(&p, &dx, &dw, &db, &g, 0);
    layer_backward(&p, &dx, &dw, &db, &g, 1);
    agrees(dx);
    sum_agrees(dw, v->shape[0]);
    sum_agrees(db, v->shape[0]);
    layer_backward(&p, NULL, NULL, NULL, &g, 1);
}

static void test_layer_norm(void **state) {
    static const int64_t sizes[][2] = {{31, 5}, {1, 33}, {33, 64}, {300, 100}, {3, 1000}};
    for (int i = 0; i < 5; i++)
        for (int plain = 0; plain < 2; plain++) {
            int64_t m = sizes[i][0], c = sizes[i][1];
            pair x = randomised(EMPTY(m, c), i == 4 ? 1e5 : 10), w = RANDOM(c), b = RANDOM(c), y = EMPTY(m, c),
                 mean = EMPTY(m), rstd = EMPTY(m);
            problem p = {{&x, plain ? NULL : &w, plain ? NULL : &b}, {NULL, &mean, &rstd}, {1e-2}, {0}, layer_forward};
            layer_case(p, &y);
            free_blocks(state);
        }
}

/* Empty batches, and samples without positions: gradients of the parameters are 0, nothing else is touched. */
static void test_norm_empty(void **state) {
    (void)state;
    pair x = EMPTY(0, 4), dw = EMPTY(4), db = EMPTY(4), none = EMPTY(0);
    for (int f = 0; f < 2; f++) {
        problem p = {{&x}, {&x, &none, &none}, {1e-5}, {0}, layer_forward};
        layer_forward(&p, f);
        layer_backward(&p, &x, &dw, &db, &x, f);
        for (int i = 0; i < 4; i++)
            assert_true(get(&dw.v[f], i) == 0 && get(&db.v[f], i) == 0);
        for (int kind = 0; kind < 8; kind++) {
            bool samples = kind & 1;
            make_case(samples ? 3 : 0, samples ? 0 : 5, 4, 1 | (kind & 2) | LD_NORM_SILU << 2);
            q.spec.groups = kind & 4 ? 2 : 0;
            norm_gradients d = gradients_like();
            norm_forward(NULL, f);
            norm_backward(&d, &q.x, f);
            for (int i = 0; i < 4; i++)
                assert_true(get(&d.dw.v[f], i) == 0 && get(&d.db.v[f], i) == 0);
            for (int i = 0; samples && q.filmed && i < 24; i++)
                assert_true(get(&d.dfilm.v[f], i) == 0);
        }
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
    pair image, grad, weight, bias, x, y, c, d, m, q, l, big, stats;
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
                   RANDOM(2, 600, 32),
                   EMPTY(2, 3, 32)};
}

/* Every slot that takes workspace, by number; the results land in b. */
static int run_slot(bench *b, int slot, int f) {
    const ld_conv_shape s = {1, 1, 1, 1, 1, 1, false};
    ld_view ci = b->image.v[f], cg = b->grad.v[f], cw = b->weight.v[f], cb = b->bias.v[f];
    ld_view c = b->c.v[f], d = b->d.v[f], x3 = b->big.v[f], m3 = b->x.v[f], e = b->m.v[f], h = b->y.v[f];
    ld_view stats = b->stats.v[f];
    ld_norm_spec spec = {.eps = 1e-5};
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
        return ld_cpu_norm(&x3, &stats, &c, &d, &x3, NULL, NULL, NULL, &spec);
    case 6:
        return ld_cpu_norm_bwd(&x3, NULL, &c, &d, &x3, &x3, &stats, NULL, NULL, NULL, &spec);
    case 7:
        spec.groups = 4;
        return ld_cpu_norm(&x3, &stats, NULL, NULL, &x3, NULL, NULL, NULL, &spec);
    case 8:
        spec.groups = 4;
        return ld_cpu_norm_bwd(&x3, NULL, &c, &d, &x3, &x3, &stats, NULL, NULL, NULL, &spec);
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
    pair k = RANDOM(1, 2, 200, 16), y = EMPTY(1, 2, 200, 16), l = EMPTY(1, 2, 200), d[3] = {y, y, y},
         again = EMPTY(1, 2, 200, 16), first = EMPTY(1, 2, 200, 16), g = RANDOM(2, 1500, 33);
    double sums[4];
    make_case(2, 1500, 33, 3 | LD_NORM_SILU << 2);
    for (int threads = 1; threads <= 4; threads++) {
        ld_set_threads(threads);
        norm_forward(NULL, 1);
        norm_gradients n = gradients_like();
        norm_backward(&n, &g, 1);
        sums[threads - 1] = 0;
        for (int i = 0; i < 33; i++)
            sums[threads - 1] += (i + 1) * (get(&n.dw.v[1], i) + get(&n.dfilm.v[1], i)) + get(&n.dx.v[1], i * 1009);
        assert_true(sums[threads - 1] == sums[0]);
        ok(ld_cpu_attention(&y.v[1], &l.v[1], &k.v[1], &k.v[1], &k.v[1], 0.25));
        d[0] = EMPTY(1, 2, 200, 16);
        d[2] = EMPTY(1, 2, 200, 16);
        for (int run = 0; run < 4; run++) {
            d[1] = run ? again : EMPTY(1, 2, 200, 16);
            ok(ld_cpu_attention_bwd(&d[0].v[1], &d[1].v[1], &d[2].v[1], &k.v[1], &k.v[1], &k.v[1], &k.v[1], &y.v[1],
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
        cmocka_unit_test_teardown(test_norm_far, free_blocks),
        cmocka_unit_test_teardown(test_norm_corners, free_blocks),
        cmocka_unit_test_teardown(test_norm_empty, free_blocks),
        cmocka_unit_test_teardown(test_exp, free_blocks),
        cmocka_unit_test_teardown(test_softmax, free_blocks),
        cmocka_unit_test_teardown(test_memory_and_dtype, free_blocks),
        cmocka_unit_test_teardown(test_repeatable, free_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
