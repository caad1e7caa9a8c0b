/* Attention against the CPU backend in f64, with operands laid out as layers lay them. */
#include "against.h"
#include "fragment.h"

typedef struct att_case {
    ld_dtype t;
    int64_t n, heads, rows, others, d;
    double scale;
    ld_view *q, *kv, *g; /* (n,rows,w), (n,others,2w), (n,rows,w); where `joined`, q is (n,rows,3w) and kv NULL */
    ld_view *y, *lse, *dq, *dkv; /* the same shapes */
    bool joined;
} att_case;

/* Heads of d columns out of rows of `wide`: head j starts at + j step columns in. */
static ld_view heads_of(const ld_view *x, int64_t heads, int64_t d, int64_t at, int64_t step) {
    ld_view v = {.dtype = x->dtype, .ndim = 4};
    int64_t shape[] = {x->shape[0], heads, x->shape[1], d};
    int64_t stride[] = {x->shape[1] * x->shape[2], step, x->shape[2], 1};
    memcpy(v.shape, shape, sizeof shape);
    memcpy(v.stride, stride, sizeof stride);
    v.data = (char *)x->data + (size_t)at * ld_dtype_size(x->dtype);
    return v;
}

/* Views of q, k and v, or of their gradients, in the case's buffers. */
static void parts(const att_case *c, const ld_view *q, const ld_view *kv, ld_view part[3]) {
    if (c->joined)
        for (int i = 0; i < 3; i++)
            part[i] = heads_of(q, c->heads, c->d, i * c->d, 3 * c->d);
    else {
        part[0] = heads_of(q, c->heads, c->d, 0, c->d);
        for (int i = 1; i < 3; i++)
            part[i] = heads_of(kv, c->heads, c->d, (i - 1) * c->heads * c->d, c->d);
    }
}

static att_case make_case(ld_dtype t, int64_t n, int64_t heads, int64_t rows, int64_t others, int64_t d) {
    att_case c = {.t = t, .n = n, .heads = heads, .rows = rows, .others = others, .d = d, .scale = 1 / sqrt((double)d)};
    int64_t w = heads * d;
    c.joined = rows == others;
    c.q = random_view(t, 2, 0, SHAPE(n, rows, c.joined ? 3 * w : w));
    c.kv = c.joined ? NULL : random_view(t, 2, 0, SHAPE(n, others, 2 * w));
    c.g = random_view(t, 1, 0.1, SHAPE(n, rows, w));
    return c;
}

typedef int (*att_fn)(const ld_view *, const ld_view *, const ld_view *, const ld_view *, const ld_view *, double);
typedef int (*att_bwd_fn)(const ld_view *, const ld_view *, const ld_view *, const ld_view *, const ld_view *,
                          const ld_view *, const ld_view *, const ld_view *, const ld_view *, double);

static void forward(att_case *c, att_fn f) {
    ld_view in[3];
    c->y = room_like(c->g);
    c->lse = dense(c->t == LD_F64 ? LD_F64 : LD_F32, SHAPE(c->n, c->heads, c->rows));
    ld_view y = heads_of(c->y, c->heads, c->d, 0, c->d);
    parts(c, c->q, c->kv, in);
    ok(f(&y, c->lse, &in[0], &in[1], &in[2], c->scale));
}

static void backward(att_case *c, att_bwd_fn f) {
    ld_view in[3], grad[3], y = heads_of(c->y, c->heads, c->d, 0, c->d), g = heads_of(c->g, c->heads, c->d, 0, c->d);
    c->dq = room_like(c->q);
    c->dkv = room_like(c->kv);
    parts(c, c->q, c->kv, in);
    parts(c, c->dq, c->dkv, grad);
    ok(f(&grad[0], &grad[1], &grad[2], &g, &in[0], &in[1], &in[2], &y, c->lse, c->scale));
}

static att_case expected(const att_case *c) {
    att_case e = *c;
    e.t = LD_F64;
    e.q = in_f64(c->q);
    e.kv = in_f64(c->kv);
    e.g = in_f64(c->g);
    forward(&e, ld_cpu_attention);
    backward(&e, ld_cpu_attention_bwd);
    return e;
}

/* Whether narrow heads of 16 bits take the kernels of tensor cores. */
static bool narrow_heads(const att_case *c) {
    return (c->t == LD_BF16 || c->t == LD_F16) && c->d <= 64 && c->d % 4 == 0;
}

/* 16 roundings of the arithmetic and one of the result; scores up to 8 are exponents, so their roundings count more. Tensor
 * cores take the exponentials rounded to the dtype: each error is at most that of a rounding of its term. Errors of terms are
 * independent, so their sum is to the sum of the terms, whose signs vary as well, what one of them is to its term; a bias
 * would add up to the same. The gradients see y and the lse as the dtype rounded them: D = g y cancels against g v. */
static void compare(const att_case *c, const att_case *e) {
    double work = 32 * rounding(c->lse->dtype), data = work + (narrow_heads(c) ? 2 : 1) * rounding(c->t);
    near("y", c->y, e->y, data, 0);
    near("lse", c->lse, e->lse, work, 0);
    near("dq", c->dq, e->dq, 4 * work + 4 * rounding(c->t), c->others == 1); /* 0 of one key, but for rounding */
    near("dkv", c->dkv, e->dkv, 4 * work + 4 * rounding(c->t), 0);
}

static void check_case(ld_dtype t, const int64_t *s) {
    att_case c = make_case(t, s[0], s[1], s[2], s[3], s[4]), e = expected(&c), first = {0};
    bool small = s[0] * s[1] * s[2] * s[3] * s[4] < 100000;
    for (int i = 0; i < (small ? ORDERS : 1); i++) {
        set_order(small ? i : (int)(s[2] % ORDERS));
        forward(&c, ld_cuda_attention);
        backward(&c, ld_cuda_attention_bwd);
        if (!i) {
            first = c;
            compare(&c, &e);
        }
        same("y", c.y, first.y);
        same("lse", c.lse, first.lse);
        same("dq", c.dq, first.dq);
        same("dkv", c.dkv, first.dkv);
    }
}

/* n, heads, queries, keys, width */
static const int64_t sizes[][5] = {
    {1, 1, 1, 1, 1},     {2, 3, 31, 33, 8},  {3, 5, 16, 16, 16}, {1, 2, 64, 64, 16}, {2, 2, 33, 31, 32},
    {1, 1, 33, 33, 64},  {1, 1, 4, 1000, 8}, {1, 1, 1000, 4, 8}, {2, 1, 5, 9, 5},    {1, 2, 7, 7, 31},
    {1, 1, 9, 17, 100},  {40, 3, 4, 4, 16},  {1, 1, 3, 20, 512}, {1, 1, 40, 3, 128}, {2, 3, 1, 1, 4},
    {1, 1, 520, 65, 12}, {1, 3, 1, 300, 16}, {0, 2, 3, 3, 8},    {1, 1, 70, 130, 8}, {2, 1, 31, 1000, 4},
    {1, 1, 1, 33, 64},   {1, 2, 17, 1, 48},  {1, 1, 97, 65, 40}, {1, 1, 40, 48, 60},
};

static void test_sizes(void **state) {
    (void)state;
    for (int t = 0; t < 4; t++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            check_case(all_dtypes[t], sizes[i]);
            next_case();
        }
}

/* As networks have it: 256 and 1024 positions of narrow heads. */
static void test_large(void **state) {
    (void)state;
    static const int64_t large[][5] = {{1, 1, 256, 256, 16}, {1, 1, 1024, 1024, 8}, {1, 1, 128, 128, 64}};
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < 3; i++) {
            check_case(all_dtypes[t], large[i]);
            next_case();
        }
}

/* Work is cut by how many processors there are, and by how many rows; what comes out is not. */
static void test_processors(void **state) {
    static const int processors[] = {1, 3, 132};
    for (int t = 0; t < 2; t++) {
        att_case c = make_case(all_dtypes[t], 6, 4, 16, 16, 16), first = {0};
        for (int i = 0; i < 3; i++) {
            ld_sim_set_processors(processors[i]);
            forward(&c, ld_cuda_attention);
            backward(&c, ld_cuda_attention_bwd);
            first = i ? first : c;
            same("y", c.y, first.y);
            same("dq", c.dq, first.dq);
        }
    }
    ld_sim_set_processors(3);
    (void)state;
}

/* What tensor cores hold must begin at a multiple of 4 elements; a view that does not takes the other kernel. */
static void test_unaligned(void **state) {
    (void)state;
    for (int t = 1; t < 3; t++) {
        att_case c = make_case(all_dtypes[t], 2, 3, 20, 20, 16);
        ld_view *aligned = c.q, *room = dense(c.t, SHAPE(1, 2 * 20 * 144 + 1));
        ld_view shifted = *c.q;
        shifted.data = (char *)room->data + 2;
        c.q = &shifted;
        for (int64_t i = 0; i < ld_view_numel(c.q); i++)
            put(c.q, i, get(aligned, i));
        att_case e = expected(&c);
        forward(&c, ld_cuda_attention);
        near("y", c.y, e.y, 2 * rounding(c.t), 0);
        next_case();
    }
}

/* Scores in the hundreds: nothing overflows, and what wins takes all. Scores far below 0: nothing is lost. */
static void check_far(ld_dtype t, double scale) {
    att_case c = make_case(t, 1, 2, 141, 141, 16);
    c.scale = scale;
    if (scale == 1)
        for (int64_t i = 0; i < 141 * 96; i++)
            put(c.q, i, i % 96 % 48 < 16 ? -20 : i % 96 % 48 < 32 ? 5 + 0.01 * (double)(i / 96) : get(c.q, i));
    att_case e = expected(&c);
    forward(&c, ld_cuda_attention);
    backward(&c, ld_cuda_attention_bwd);
    double allowed = 1e-7 * 2000, data = t == LD_F32 ? 0 : rounding(t); /* a rounding of scores of 2000 */
    near("y", c.y, e.y, allowed + 2 * data, 0);
    near("lse", c.lse, e.lse, 1e-6, 0);
    /* y in D is rounded, and sqrt(d) of that meets k: keys of 5 where the scale is 1. */
    near("dq", c.dq, e.dq, allowed + 4 * data, t == LD_F32 ? 1 : scale == 1 ? 20 : fabs(scale));
    next_case();
}

static void test_far(void **state) {
    (void)state;
    for (int t = 0; t < 3; t++) {
        check_far(all_dtypes[t], 1);
        check_far(all_dtypes[t], 100);
        check_far(all_dtypes[t], -100);
    }
}

/* Nothing to look at, or nobody who looks. */
static void test_none(void **state) {
    (void)state;
    for (int t = 0; t < 4; t++) {
        att_case c = make_case(all_dtypes[t], 2, 3, 5, 0, 8);
        forward(&c, ld_cuda_attention);
        backward(&c, ld_cuda_attention_bwd);
        for (int64_t i = 0; i < ld_view_numel(c.y); i++)
            assert_true(get(c.y, i) == 0 && get(c.dq, i) == 0);
        for (int64_t i = 0; i < ld_view_numel(c.lse); i++)
            assert_true(get(c.lse, i) == -INFINITY);
        att_case b = make_case(all_dtypes[t], 2, 3, 0, 5, 8);
        forward(&b, ld_cuda_attention);
        backward(&b, ld_cuda_attention_bwd);
        for (int64_t i = 0; i < ld_view_numel(b.dkv); i++)
            assert_true(get(b.dkv, i) == 0);
        next_case();
    }
}

static double loss(void *of) {
    att_case *c = of;
    forward(c, ld_cuda_attention);
    return weighed(c->y, c->g);
}

static void test_differences(void **state) {
    att_case c = make_case(LD_F64, 1, 2, 3, 4, 3);
    forward(&c, ld_cuda_attention);
    backward(&c, ld_cuda_attention_bwd);
    ld_view *in[] = {c.q, c.kv}, *out[] = {c.dq, c.dkv};
    as_differences(in, out, 2, loss, &c);
    (void)state;
}

static void test_errors(void **state) {
    (void)state;
    att_case c = make_case(LD_BF16, 1, 1, 2, 2, 520);
    c.y = room_like(c.g);
    c.lse = dense(LD_F32, SHAPE(1, 1, 2));
    ld_view y = heads_of(c.y, 1, 520, 0, 520), in[3];
    parts(&c, c.q, c.kv, in);
    assert_int_equal(ld_cuda_attention(&y, c.lse, &in[0], &in[1], &in[2], 1), LD_ESHAPE);
    assert_string_equal(ld_error(), "attention: heads are 520 wide; 512 is the most on cuda");
    c = make_case(LD_F32, 1, 1, 2, 2, 8);
    forward(&c, ld_cuda_attention);
    y = heads_of(c.y, 1, 8, 0, 8);
    parts(&c, c.q, c.kv, in);
    ld_sim_fail_workspace(1);
    assert_int_equal(ld_cuda_attention(&y, c.lse, &in[0], &in[1], &in[2], 1), LD_EMEM);
    ld_sim_fail_workspace(1);
    assert_int_equal(ld_cuda_attention_bwd(&in[0], &in[1], &in[2], &y, &in[0], &in[1], &in[2], &y, c.lse, 1), LD_EMEM);
    ld_sim_fail_workspace(0);
}

/* The product that the kernels of tensor cores are made of, its parts laid out as PTX's description says. */
static void test_product(void **state) {
    (void)state;
    for (int t = 1; t < 3; t++) {
        ld_view *a = random_view(all_dtypes[t], 1, 0.2, SHAPE(16, 16)),
                *b = random_view(all_dtypes[t], 1, 0, SHAPE(16, 8));
        ld_view *c = random_view(LD_F32, 1, 0, SHAPE(16, 8)), *want = in_f64(c);
        for (int64_t i = 0; i < 128; i++)
            for (int64_t k = 0; k < 16; k++)
                put(want, i, get(want, i) + get(a, i / 8 * 16 + k) * get(b, k * 8 + i % 8));
        ok(sim_product(c, a, b));
        near("c", c, want, 64 * rounding(LD_F32), 0); /* cards align terms and cut them off */
        next_case();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_sizes, tidy),      cmocka_unit_test_teardown(test_large, tidy),
        cmocka_unit_test_teardown(test_processors, tidy), cmocka_unit_test_teardown(test_far, tidy),
        cmocka_unit_test_teardown(test_none, tidy),       cmocka_unit_test_teardown(test_differences, tidy),
        cmocka_unit_test_teardown(test_errors, tidy),     cmocka_unit_test_teardown(test_unaligned, tidy),
        cmocka_unit_test_teardown(test_product, tidy),
    };
    return RUN_KERNEL_TESTS("attention", tests);
}
