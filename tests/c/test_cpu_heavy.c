/* The heavy slots of the CPU backend: convolution, matrix product, attention.
 *
 * Every slot is run three ways: f64 against a naive formula written here (or, for gradients, against central
 * differences of the f64 forward pass), and f32 against f64 on the same numbers. */
#include "backend/cpu/dnnl.h"
#include "pair.h"

/* F(4x4,3x3) adds and subtracts its inputs with weights of up to 5 before it multiplies; measured: about 1e-6. Folded
 * weights are rounded sums. */
#define WINOGRAD_TOL 3e-6

/* ---- convolution ------------------------------------------------------------------------------------------------- */

typedef struct conv_case {
    int64_t n, c, h, w, o, r, s;
    ld_conv_shape shape;
    bool channels_last; /* of the weights */
} conv_case;

static const conv_case conv_cases[] = {
    {1, 1, 1, 1, 1, 1, 1, {1, 1, 0, 0, 0, 0, false}, false},
    {2, 3, 31, 33, 5, 3, 3, {1, 1, 1, 1, 1, 1, false}, true},
    {2, 4, 9, 7, 100, 5, 5, {1, 1, 2, 2, 2, 2, false}, false},
    {3, 100, 8, 8, 4, 1, 1, {1, 1, 0, 0, 0, 0, false}, true},
    {2, 64, 9, 10, 33, 3, 3, {2, 2, 0, 1, 0, 1, false}, false},
    {1, 5, 6, 5, 3, 3, 2, {2, 1, 1, 0, 2, 1, false}, true},
    {2, 64, 8, 8, 64, 3, 3, {1, 1, 1, 1, 1, 1, false}, false},
    {1, 64, 9, 7, 96, 3, 3, {1, 1, 1, 1, 1, 1, false}, true},
    {1, 64, 8, 6, 64, 3, 3, {1, 1, 0, 2, 2, 1, false}, false},
    {1, 17, 4, 4, 31, 4, 4, {4, 4, 0, 0, 0, 0, false}, true},
    {2, 128, 2, 2, 64, 3, 3, {1, 1, 1, 1, 1, 1, false}, false},
    {1, 8, 1, 33, 1, 1, 3, {1, 1, 0, 0, 1, 1, false}, false},
    {1, 48, 11, 5, 16, 3, 3, {1, 1, 2, 0, 0, 2, false}, true},
    {5, 16, 8, 12, 80, 3, 3, {1, 1, 1, 1, 1, 1, false}, true},
    {1, 32, 3, 5, 32, 3, 3, {1, 1, 3, 3, 3, 3, false}, false},
    /* upsampled by 2 */
    {2, 32, 6, 5, 48, 3, 3, {1, 1, 1, 1, 1, 1, true}, true},
    {3, 5, 3, 4, 7, 3, 3, {1, 1, 1, 1, 1, 1, true}, false},
    {1, 16, 1, 1, 16, 3, 3, {1, 1, 1, 1, 1, 1, true}, true},
    {2, 64, 4, 4, 32, 3, 3, {1, 1, 1, 1, 1, 1, true}, false},
    {0, 4, 8, 8, 6, 3, 3, {1, 1, 1, 1, 1, 1, false}, false},
};

typedef struct conv_data {
    pair x, w, b, y, g, dx, dw, db;
} conv_data;

static conv_data conv_tensors(const conv_case *k) {
    int64_t up = k->shape.up, p = ((k->h << up) + k->shape.top + k->shape.bottom - k->r) / k->shape.stride_h + 1;
    int64_t q = ((k->w << up) + k->shape.left + k->shape.right - k->s) / k->shape.stride_w + 1;
    int64_t shape[4] = {k->o, k->c, k->r, k->s}, last[4] = {k->r * k->s * k->c, 1, k->s * k->c, k->c};
    const int64_t *stride = k->channels_last ? last : NULL;
    return (conv_data){.x = randomised(image(k->n, k->c, k->h, k->w), 0),
                       .w = randomised(strided_pair(4, shape, stride), 0),
                       .b = RANDOM(k->o),
                       .y = image(k->n, k->o, p, q),
                       .g = randomised(image(k->n, k->o, p, q), 0),
                       .dx = image(k->n, k->c, k->h, k->w),
                       .dw = strided_pair(4, shape, stride),
                       .db = EMPTY(k->o)};
}

static void conv_naive(const ld_view *y, const ld_view *x, const ld_view *w, const ld_view *b, const ld_conv_shape *s) {
    int64_t c = x->shape[1], h = x->shape[2], wide = x->shape[3], kh = w->shape[2], kw = w->shape[3], up = s->up;
    for (int64_t i = 0; i < ld_view_numel(y); i++) {
        int64_t q = i % y->shape[3], p = i / y->shape[3] % y->shape[2], o = i / y->shape[3] / y->shape[2];
        int64_t n = o / y->shape[1];
        o %= y->shape[1];
        double sum = b ? get(b, o) : 0;
        for (int64_t k = 0; k < c * kh * kw; k++) {
            int64_t row = p * s->stride_h + k / kw % kh - s->top, col = q * s->stride_w + k % kw - s->left;
            if (row >= 0 && row < h << up && col >= 0 && col < wide << up)
                sum += get(x, ((n * c + k / kw / kh) * h + (row >> up)) * wide + (col >> up)) *
                       get(w, o * c * kh * kw + k);
        }
        put(y, i, sum);
    }
}

static void conv_forward(problem *p, int f) {
    ok(ld_cpu_conv2d(&p->out[0]->v[f], &p->in[0]->v[f], &p->in[1]->v[f], &p->in[2]->v[f], &p->conv));
}

static void conv_f32(conv_data *t, const ld_conv_shape *s, double tol) {
    ok(ld_cpu_conv2d(&t->y.v[1], &t->x.v[1], &t->w.v[1], &t->b.v[1], s));
    close_to(&t->y.v[1], &t->y.v[0], tol);
    ok(ld_cpu_conv2d_dx(&t->dx.v[1], &t->g.v[1], &t->w.v[1], s));
    close_to(&t->dx.v[1], &t->dx.v[0], tol);
    ok(ld_cpu_conv2d_dw(&t->dw.v[1], &t->db.v[1], &t->x.v[1], &t->g.v[1], s));
    close_to(&t->dw.v[1], &t->dw.v[0], tol);
    close_to(&t->db.v[1], &t->db.v[0], F32_TOL);
}

static void test_conv(void **state) {
    static const char *const ways[] = {"direct", "blocked", "folded", "winograd", "rule"};
    for (size_t i = 0; i < sizeof conv_cases / sizeof *conv_cases; i++) {
        const conv_case *k = &conv_cases[i];
        conv_data t = conv_tensors(k);
        pair want = image(t.y.v[0].shape[0], t.y.v[0].shape[1], t.y.v[0].shape[2], t.y.v[0].shape[3]);
        problem p = {{&t.x, &t.w, &t.b}, {&t.y}, {0}, k->shape, conv_forward};
        conv_naive(&want.v[0], &t.x.v[0], &t.w.v[0], &t.b.v[0], &k->shape);
        conv_forward(&p, 0);
        close_to(&t.y.v[0], &want.v[0], F64_TOL);
        ok(ld_cpu_conv2d_dx(&t.dx.v[0], &t.g.v[0], &t.w.v[0], &k->shape));
        ok(ld_cpu_conv2d_dw(&t.dw.v[0], &t.db.v[0], &t.x.v[0], &t.g.v[0], &k->shape));
        gradient(&p, &t.x, &t.dx, &t.g);
        gradient(&p, &t.w, &t.dw, &t.g);
        gradient(&p, &t.b, &t.db, &t.g);
        for (int j = 0; j < 5; j++) {
            setenv("LD_CONV", ways[j], 1);
            conv_f32(&t, &k->shape, j < 3 && !k->shape.up ? F32_TOL : WINOGRAD_TOL);
        }
        free_blocks(state);
    }
}

static void run_as(const char *way, ld_view *y, const conv_data *t, const ld_conv_shape *s) {
    setenv("LD_CONV", way, 1);
    ok(ld_cpu_conv2d(y, &t->x.v[1], &t->w.v[1], NULL, s));
}

/* Without bias and without its gradient. The rule takes Winograd for a 3x3 of 32 channels and never for narrower ones:
 * the choice shows in the rounding. Threads do not. */
static void test_conv_choice(void **state) {
    (void)state;
    for (int wide = 0; wide < 2; wide++) {
        conv_case k = {1, wide ? 64 : 16, 16, 16, 64, 3, 3, {1, 1, 1, 1, 1, 1, false}, false};
        conv_data t = conv_tensors(&k);
        ld_view y[4] = {image(1, 64, 16, 16).v[1], image(1, 64, 16, 16).v[1], image(1, 64, 16, 16).v[1],
                        image(1, 64, 16, 16).v[1]};
        run_as(ld_dnnl_has_avx512() ? "direct" : "blocked", &y[0], &t, &k.shape);
        run_as("winograd", &y[1], &t, &k.shape);
        run_as("rule", &y[2], &t, &k.shape);
        ok(ld_cpu_conv2d(&t.y.v[0], &t.x.v[0], &t.w.v[0], NULL, &k.shape));
        close_to(&y[0], &t.y.v[0], F32_TOL);
        close_to(&y[1], &t.y.v[0], WINOGRAD_TOL);
        assert_true(distance(&y[0], &y[1]) > 0);
        assert_true(distance(&y[2], &y[wide]) == 0);
        int threads = ld_threads();
        ld_set_threads(threads == 1 ? 3 : 1);
        run_as("winograd", &y[3], &t, &k.shape);
        ld_set_threads(threads);
        assert_true(distance(&y[1], &y[3]) == 0);
        ok(ld_cpu_conv2d_dw(&t.dw.v[0], NULL, &t.x.v[0], &t.g.v[0], &k.shape));
        ok(ld_cpu_conv2d_dw(&t.dw.v[1], NULL, &t.x.v[1], &t.g.v[1], &k.shape));
        close_to(&t.dw.v[1], &t.dw.v[0], WINOGRAD_TOL);
    }
    conv_data t = conv_tensors(&conv_cases[0]);
    setenv("LD_CONV", "fast", 1);
    assert_int_equal(ld_cpu_conv2d(&t.y.v[1], &t.x.v[1], &t.w.v[1], NULL, &conv_cases[0].shape), LD_EVALUE);
    assert_string_equal(ld_error(), "LD_CONV is 'fast'; known: direct, blocked, winograd, folded, rule, auto");
}

/* An empty batch leaves gradients of 0, no channels the bias. */
static void test_conv_empty(void **state) {
    (void)state;
    for (int f = 0; f < 2; f++) {
        conv_data t = conv_tensors(&conv_cases[sizeof conv_cases / sizeof *conv_cases - 1]);
        ok(ld_cpu_conv2d_dw(&t.dw.v[f], &t.db.v[f], &t.x.v[f], &t.g.v[f], &conv_cases[1].shape));
        for (int64_t i = 0; i < ld_view_numel(&t.dw.v[f]); i++)
            assert_true(get(&t.dw.v[f], i) == 0);
        assert_true(get(&t.db.v[f], 5) == 0);
        pair x = image(1, 0, 2, 2), w = EMPTY(3, 0, 1, 1), b = RANDOM(3), y = image(1, 3, 2, 2);
        ok(ld_cpu_conv2d(&y.v[f], &x.v[f], &w.v[f], &b.v[f], &(ld_conv_shape){1, 1, 0, 0, 0, 0, false}));
        for (int64_t i = 0; i < 12; i++)
            assert_true(get(&y.v[f], i) == get(&b.v[f], i / 4));
    }
}

/* ---- matrix product ---------------------------------------------------------------------------------------------- */

/* (count, rows, cols), transposed in memory or not, one matrix for all of the batch or not, rows `gap` further apart.
 * All positive, so that a result of one element cannot cancel. */
static pair matrix(int64_t count, int64_t rows, int64_t cols, bool turned, bool shared, int64_t gap) {
    int64_t row = turned ? 1 : cols + gap, col = turned ? rows + gap : 1, each = turned ? cols * col : rows * row;
    return randomised(strided_pair(3, (int64_t[]){count, rows, cols}, (int64_t[]){shared ? 0 : each, row, col}), 1);
}

static void product_case(int64_t count, int64_t m, int64_t n, int64_t k, int how) {
    bool ta = how & 1, tb = how & 2, ty = how & 4, sa = how & 8, sb = how & 16, bias = how & 32, keep = how & 64;
    int64_t gap = how & 128 ? 3 : 0;
    pair a = matrix(count, m, k, ta, sa, gap), b = matrix(count, k, n, tb, sb, gap), c = randomised(EMPTY(n), 1);
    pair y = matrix(count, m, n, ty, false, gap), want = EMPTY(count, m, n);
    for (int64_t i = 0; i < count * m * n; i++) {
        int64_t col = i % n, row = i / n;
        double sum = (bias ? get(&c.v[0], col) : 0) + (keep ? get(&y.v[0], i) : 0);
        for (int64_t j = 0; j < k; j++)
            sum += get(&a.v[0], row * k + j) * get(&b.v[0], (i / n / m * k + j) * n + col);
        put(&want.v[0], i, sum);
    }
    for (int f = 0; f < 2; f++) {
        ok(ld_cpu_matmul(&y.v[f], &a.v[f], &b.v[f], bias ? &c.v[f] : NULL, keep));
        double d = distance(&y.v[f], &want.v[0]);
        if (!(d <= (f ? F32_TOL : F64_TOL)))
            fail_msg("matmul (%d,%d,%d,%d) how %d dtype %d: off by %g", (int)count, (int)m, (int)n, (int)k, how, f, d);
    }
}

static void test_matmul(void **state) {
    static const int64_t sizes[][4] = {{1, 1, 1, 1},  {1, 31, 33, 5},  {3, 33, 1, 31},   {2, 1, 33, 64},
                                       {4, 5, 31, 1}, {1, 64, 100, 0}, {0, 3, 4, 5},     {2, 0, 4, 5},
                                       {2, 4, 0, 5},  {3, 17, 20, 9},  {2, 64, 100, 300}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int how = 0; how < 256; how += sizes[i][3] < 100 ? 1 : 37) {
            product_case(sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3], how);
            free_blocks(state);
        }
}

/* ---- attention --------------------------------------------------------------------------------------------------- */

/* (n, heads, t, d) inside a packed (n, t, 3, heads, d): third `which`. */
static pair third(const pair *packed, int which, int64_t n, int64_t heads, int64_t t, int64_t d) {
    pair p = *packed;
    for (int f = 0; f < 2; f++) {
        ld_view v = {p.v[f].dtype, 4, {n, heads, t, d}, {t * 3 * heads * d, d, 3 * heads * d, 1}, p.v[f].data, 0, 0};
        v.data = (char *)v.data + (size_t)(which * heads * d) * ld_dtype_size(v.dtype);
        p.v[f] = v;
    }
    return p;
}

static void attention_forward(problem *p, int f) {
    ok(ld_cpu_attention(&p->out[0]->v[f], &p->out[1]->v[f], &p->in[0]->v[f], &p->in[1]->v[f], &p->in[2]->v[f],
                        p->number[0]));
}

static void attention_naive(const pair *y, const pair *lse, const pair *q, const pair *k, const pair *v, double scale) {
    int64_t t = q->v[0].shape[2], s = k->v[0].shape[2], d = q->v[0].shape[3];
    for (int64_t i = 0; i < ld_view_numel(&lse->v[0]); i++) {
        double sum = 0;
        for (int64_t c = 0; c < d; c++)
            put(&y->v[0], i * d + c, 0);
        for (int64_t j = i / t * s; j < (i / t + 1) * s; j++) {
            double dot = 0;
            for (int64_t c = 0; c < d; c++)
                dot += get(&q->v[0], i * d + c) * get(&k->v[0], j * d + c);
            sum += exp(scale * dot);
            for (int64_t c = 0; c < d; c++)
                put(&y->v[0], i * d + c, get(&y->v[0], i * d + c) + exp(scale * dot) * get(&v->v[0], j * d + c));
        }
        for (int64_t c = 0; c < d; c++)
            put(&y->v[0], i * d + c, get(&y->v[0], i * d + c) / sum);
        put(&lse->v[0], i, log(sum));
    }
}

/* q, k, v, y and their gradients; s = t where packed. */
static void attention_case(int64_t n, int64_t heads, int64_t t, int64_t s, int64_t d, bool packed) {
    int64_t turned[4] = {t * heads * d, d, heads * d, 1}, shape[4] = {n, heads, t, d};
    pair all = RANDOM(n, t, 3, heads, d), grads = EMPTY(n, t, 3, heads, d);
    pair q = packed ? third(&all, 0, n, heads, t, d) : RANDOM(n, heads, t, d);
    pair k = packed ? third(&all, 1, n, heads, t, d) : RANDOM(n, heads, s, d);
    pair v = packed ? third(&all, 2, n, heads, t, d) : RANDOM(n, heads, s, d);
    pair dq = packed ? third(&grads, 0, n, heads, t, d) : EMPTY(n, heads, t, d);
    pair dk = packed ? third(&grads, 1, n, heads, t, d) : EMPTY(n, heads, s, d);
    pair dv = packed ? third(&grads, 2, n, heads, t, d) : EMPTY(n, heads, s, d);
    pair y = strided_pair(4, shape, turned), lse = EMPTY(n, heads, t), want = EMPTY(n, heads, t, d),
         sums = EMPTY(n, heads, t);
    pair g = randomised(strided_pair(4, shape, turned), 0);
    problem p = {{&q, &k, &v}, {&y, &lse}, {2 / sqrt((double)d)}, {0}, attention_forward};
    attention_naive(&want, &sums, &q, &k, &v, p.number[0]);
    attention_forward(&p, 0);
    attention_forward(&p, 1);
    close_to(&y.v[0], &want.v[0], F64_TOL);
    close_to(&lse.v[0], &sums.v[0], F64_TOL);
    agrees(y);
    agrees(lse);
    for (int f = 0; f < 2; f++)
        ok(ld_cpu_attention_bwd(&dq.v[f], &dk.v[f], &dv.v[f], &g.v[f], &q.v[f], &k.v[f], &v.v[f], &y.v[f], &lse.v[f],
                                p.number[0]));
    gradient(&p, &q, &dq, &g);
    gradient(&p, &k, &dk, &g);
    gradient(&p, &v, &dv, &g);
    if (s > 1) { /* one key: dq and dk are 0, and relative errors mean nothing */
        check_close("dq", &dq.v[1], &dq.v[0], 2 * F32_TOL, __LINE__);
        check_close("dk", &dk.v[1], &dk.v[0], 2 * F32_TOL, __LINE__);
    }
    agrees(dv);
}

/* dq and dk are differences of nearly equal sums (dP - rowsum), which doubles their error: 2e-6. */
static void test_attention(void **state) {
    attention_case(1, 1, 1, 1, 1, false);
    attention_case(2, 3, 31, 31, 8, true);
    attention_case(1, 2, 33, 33, 16, true);
    free_blocks(state);
    attention_case(2, 2, 5, 100, 33, false);
    attention_case(1, 5, 100, 3, 64, false);
    attention_case(3, 8, 64, 64, 16, true);
    free_blocks(state);
    attention_case(1, 1, 64, 64, 512, false);
    ld_set_threads(3);
    attention_case(1, 1, 130, 300, 31, false);
    attention_case(0, 2, 4, 4, 8, true);
}

/* Scores of +-1000 must neither overflow nor vanish: y is the value of the best key. */
static void test_attention_large_scores(void **state) {
    (void)state;
    pair q = EMPTY(1, 1, 2, 1), k = EMPTY(1, 1, 3, 1), v = RANDOM(1, 1, 3, 1), y = EMPTY(1, 1, 2, 1),
         lse = EMPTY(1, 1, 2);
    for (int f = 0; f < 2; f++) {
        put(&q.v[f], 0, 1000);
        put(&q.v[f], 1, -1000);
        for (int i = 0; i < 3; i++)
            put(&k.v[f], i, i - 1);
        ok(ld_cpu_attention(&y.v[f], &lse.v[f], &q.v[f], &k.v[f], &v.v[f], 1));
        assert_true(get(&y.v[f], 0) == get(&v.v[f], 2) && get(&y.v[f], 1) == get(&v.v[f], 0));
        assert_true(get(&lse.v[f], 0) == 1000 && get(&lse.v[f], 1) == 1000);
        q.v[f].shape[3] = k.v[f].shape[3] = v.v[f].shape[3] = y.v[f].shape[3] = 1;
        k.v[f].shape[2] = v.v[f].shape[2] = 0; /* no key at all */
        ok(ld_cpu_attention(&y.v[f], &lse.v[f], &q.v[f], &k.v[f], &v.v[f], 1));
        assert_true(get(&y.v[f], 0) == 0 && get(&lse.v[f], 1) == -INFINITY);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_conv, free_blocks),
        cmocka_unit_test_teardown(test_conv_choice, free_blocks),
        cmocka_unit_test_teardown(test_conv_empty, free_blocks),
        cmocka_unit_test_teardown(test_matmul, free_blocks),
        cmocka_unit_test_teardown(test_attention, free_blocks),
        cmocka_unit_test_teardown(test_attention_large_scores, free_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
