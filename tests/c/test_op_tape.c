/* The tape under every operation: what it keeps, changes in place, interruption, memory running short. */
#include "op_cases.h"

/* An input changed in place between forward and backward is noticed exactly where the tape keeps it. */
static void check_kept(const op_case *c) {
    ld_tensor *x[4] = {NULL};
    for (int k = 0; k < 4 && c->in[k].flag; k++) {
        make_inputs(c, x, CANONICAL);
        ld_tensor *y = keep(c->f(x)), *w = numbers(LD_F64, y->ndim, y->shape, 5);
        if (!(c->kept >> k & 1) && y->storage != x[k]->storage)
            assert_int_equal(x[k]->storage->refs, 1); /* nobody holds its memory but itself */
        ld_tensor_touch(x[k]);
        int bad = ld_backward(y, w, false);
        if (bad != (c->kept >> k & 1 ? LD_ESTATE : 0))
            fail_msg("%s: input %d changed in place: %s", c->name, k, bad ? ld_error() : "nobody noticed");
        drop_kept();
    }
}

/* Where each of two inputs is kept for the other's gradient, one that is alone in wanting a gradient is not. */
static void check_kept_for_the_other(const op_case *c) {
    static const char *const names[] = {"mul", "matmul", "linear", "conv2d", "conv_transpose2d"};
    bool listed = false;
    for (size_t i = 0; i < LENGTH(names); i++)
        listed = listed || !strcmp(c->name, names[i]);
    for (int only = 0; listed && only < 2; only++)
        for (int touched = 0; touched < 2; touched++) {
            ld_tensor *x[4] = {NULL};
            int n = make_inputs(c, x, CANONICAL);
            for (int k = 0; k < n; k++)
                x[k]->requires_grad = k == only;
            ld_tensor *y = keep(c->f(x)), *w = numbers(LD_F64, y->ndim, y->shape, 5);
            assert_int_equal(x[only]->storage->refs, 1); /* nobody holds its memory but itself */
            ld_tensor_touch(x[touched]);
            assert_int_equal(ld_backward(y, w, false), touched == only ? 0 : LD_ESTATE);
            drop_kept();
        }
}

static void tape_keeps_what_it_needs(void **state) {
    (void)state;
    each_case(check_kept);
    each_case(check_kept_for_the_other);
}

/* conv2d after a norm keeps the norm and not its result, and computes the same gradients; twice, when the graph is retained. */
static void norm_results_are_made_again(void **state) {
    (void)state;
    for (int dtype = 0; dtype < 2; dtype++) {
        ld_dtype t = dtype ? LD_F64 : LD_F32;
        ld_tensor *x = numbers(t, SHAPE(2, 4, 5, 3), 1), *w = numbers(t, SHAPE(3, 4, 3, 3), 2);
        ld_tensor *scale = numbers(t, SHAPE(4), 3), *shift = numbers(t, SHAPE(4), 4);
        x->requires_grad = w->requires_grad = true;
        ld_norm_fused f = {.act = LD_NORM_SILU};
        ld_tensor *y = ld_group_norm_fused(x, scale, shift, 2, 1e-5, &f);
        ld_tensor *z = ld_conv2d(y, w, NULL, &(ld_conv_shape){1, 1, 1, 1, 1, 1, false});
        assert_int_equal(y->storage->refs, 1); /* the tape has it not */
        ld_tensor *copy = keep(ld_tensor_clone(y, "test"));
        ld_tensor_drop(y);
        ld_tensor *g = numbers(t, z->ndim, z->shape, 5);
        for (int i = 0; i < 2; i++)
            assert_int_equal(ld_backward(z, g, i == 0), 0);
        assert_int_equal(ld_backward(z, g, false), LD_ESTATE);
        ld_tensor_drop(z);
        ld_tensor *v = keep(ld_tensor_clone(w, "test"));
        v->requires_grad = true;
        z = keep(ld_conv2d(copy, v, NULL, &(ld_conv_shape){1, 1, 1, 1, 1, 1, false}));
        for (int i = 0; i < 2; i++)
            assert_int_equal(ld_backward(z, g, i == 0), 0);
        assert_memory_equal(ld_tensor_data(w->grad), ld_tensor_data(v->grad), w->storage->bytes);
        drop_kept();
    }
}

static void check_interrupt(const op_case *c) {
    ld_tensor *x[4] = {NULL};
    make_inputs(c, x, CANONICAL);
    x[0] = laid_out(x[0], REVERSED); /* so that contiguous has something to do */
    int64_t before = memory().allocations;
    ld_tensor *(*const makers[])(ld_tensor *const *) = {
        selected, batch_norm, batch_norm_eval, rows, entropy_mean, entropy_each, entropy_sum, batch_norm_eval_plain};
    bool own = false; /* cases that make tensors of their own first */
    for (size_t i = 0; i < LENGTH(makers); i++)
        own = own || c->f == makers[i];
    ld_interrupt();
    assert_null(c->f(x));
    assert_int_equal(ld_error_code(), LD_EINTERRUPT);
    assert_true(own || memory().allocations == before);
}

static void interrupts_are_seen_first(void **state) {
    (void)state;
    each_case(check_interrupt);
}

/* The k-th allocation of a forward and backward fails, for every k: LD_EMEM, and nothing is left behind. */
static void check_shortage(const op_case *c) {
    ld_tensor *x[4] = {NULL};
    int n = make_inputs(c, x, REVERSED);
    ld_tensor *y = keep(c->f(x)), *w = laid_out(numbers(LD_F64, y->ndim, y->shape, 5), REVERSED);
    int64_t headers = ld_tensor_count(), blocks = memory().blocks;
    for (int k = 1, bad = LD_EMEM; bad; k++) {
        ld_error_clear();
        ld_pool_fail_at(cpu()->pool, k);
        ld_tensor *z = c->f(x);
        bad = z ? ld_backward(z, w, false) : ld_error_code();
        ld_pool_fail_at(cpu()->pool, 0);
        assert_int_equal(bad, ld_error_code()); /* no failure is swallowed */
        ld_tensor_drop(z);
        forget_gradients(x, n);
        if (bad && bad != LD_EMEM)
            fail_msg("%s: allocation %d: code %d, %s", c->name, k, bad, ld_error());
        if (ld_tensor_count() != headers || memory().blocks != blocks)
            fail_msg("%s: allocation %d leaves %lld tensors, %lld blocks", c->name, k,
                     (long long)(ld_tensor_count() - headers), (long long)(memory().blocks - blocks));
        assert_true(k < 100);
    }
}

static void shortage_leaves_nothing(void **state) {
    (void)state;
    each_case(check_shortage);
}

/* ---- changes in place ------------------------------------------------------------------------------------------------ */

static int line;
static ld_where here(void *arg) {
    return (ld_where){arg, line};
}

/* The message says what was saved, by whom and where, and where it was changed. */
static void change_in_place_is_reported(void **state) {
    (void)state;
    static char file[] = "recipe.lua";
    ld_where_hook(here, file);
    ld_tensor *x = numbers(LD_F64, SHAPE(1, 2, 4, 4), 1), *w = numbers(LD_F64, SHAPE(3, 2, 3, 3), 2);
    w->requires_grad = true;
    line = 30;
    ld_tensor *y = keep(ld_conv2d(x, w, NULL, &same)), *loss = keep(ld_reduce("sum", LD_SUM, y, NULL, 0, false));
    line = 33;
    assert_int_equal(ld_fill_(x, 0), 0); /* x itself requires no gradient */
    assert_int_equal(ld_backward(loss, NULL, false), LD_ESTATE);
    assert_string_equal(ld_error(), "backward: tensor (1,2,4,4) f64 cpu saved by conv2d at recipe.lua:30 was changed "
                                    "in place at recipe.lua:33");
    line = 40;
    ld_tensor *z = keep(ld_unary("exp", LD_EXP, w, 0, 0)); /* the result is what exp keeps */
    line = 41;
    bool was = ld_set_recording(false);
    assert_int_equal(ld_unary_("neg_", LD_NEG, z, 0, 0), 0);
    ld_set_recording(was);
    assert_int_equal(ld_backward(z, z, false), LD_ESTATE);
    assert_non_null(strstr(ld_error(), "saved by exp at recipe.lua:40 was changed in place at recipe.lua:41"));
    line = 50;
    ld_tensor *v = keep(ld_slice(x, 2, 0, 2, 1)), *factor = numbers(LD_F64, SHAPE(1), 3);
    factor->requires_grad = true;
    ld_tensor *p = keep(ld_binary("mul", LD_MUL, x, factor));
    ld_where_hook(NULL, NULL);
    assert_int_equal(ld_fill_(v, 2), 0); /* through a view */
    assert_int_equal(ld_backward(p, p, false), LD_ESTATE);
    assert_non_null(strstr(ld_error(), "saved by mul at recipe.lua:50 was changed in place at ?:0"));
}

/* Every in-place operation counts one version, of the storage that views share, and none when it fails. */
static void in_place_counts_versions(void **state) {
    (void)state;
    ld_tensor *x = numbers(LD_F64, SHAPE(2, 3), 1), *y = numbers(LD_F64, SHAPE(3), 2),
              *other = numbers(LD_F64, SHAPE(4), 2);
    ld_tensor *view = keep(ld_select(x, 0, 1));
    uint32_t v = x->storage->version;
    assert_int_equal(ld_fill_(x, 1), 0);
    assert_int_equal(ld_copy_(x, y), 0);
    assert_int_equal(ld_binary_("add_", LD_ADD, x, y), 0);
    assert_int_equal(ld_unary_("neg_", LD_NEG, view, 0, 0), 0);
    assert_int_equal(ld_axpby_(x, y, 2, 3), 0);
    assert_int_equal(ld_uniform_(x, 0, 1), 0);
    assert_int_equal(ld_normal_(view, 0, 1), 0);
    assert_int_equal(x->storage->version, v + 7);
    assert_int_equal(ld_binary_("add_", LD_ADD, x, other), LD_ESHAPE);
    assert_int_equal(x->storage->version, v + 7);
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

enum { PARAMETERS = 8 };

/* conv, group norm, SiLU, attention over the positions, linear, loss: forward and backward. */
static int network(ld_tensor *const *p, ld_tensor *image) {
    ld_tensor *t[16] = {NULL};
    int n = 0, bad;
    bad = (t[n++] = ld_conv2d(image, p[0], p[1], &same)) ? 0 : ld_error_code();
#define THEN(expression)                                                                                               \
    if (!bad) {                                                                                                        \
        ld_tensor *x = t[n - 1];                                                                                       \
        bad = (t[n++] = (expression)) ? 0 : ld_error_code();                                                           \
    }
    THEN(ld_group_norm(x, p[2], p[3], 2, 1e-5))
    THEN(ld_unary("silu", LD_SILU, x, 0, 0))
    THEN(ld_permute(x, D(0, 2, 3, 1)))
    THEN(ld_reshape(x, 3, S(2, 12, 4)))
    THEN(ld_linear(x, p[4], p[5]))
    THEN(ld_attention_packed(x, 2))
    THEN(ld_linear(x, p[6], p[7]))
    THEN(ld_binary("add", LD_ADD, x, t[4]))
    THEN(ld_dropout(x, 0.2, true))
    THEN(ld_mse(x, t[4], LD_MEAN_ALL))
#undef THEN
    if (!bad)
        bad = ld_backward(t[n - 1], NULL, false);
    while (n)
        ld_tensor_drop(t[--n]);
    return bad;
}

static void network_under_shortage(void **state) {
    (void)state;
    for (int dtype = 0; dtype < 2; dtype++) {
        ld_dtype t = dtype ? LD_F64 : LD_F32;
        ld_tensor *image = numbers(t, SHAPE(2, 3, 3, 4), 1);
        ld_tensor *p[PARAMETERS] = {numbers(t, SHAPE(4, 3, 3, 3), 2), numbers(t, SHAPE(4), 3),
                                    numbers(t, SHAPE(4), 4),          numbers(t, SHAPE(4), 5),
                                    numbers(t, SHAPE(12, 4), 6),      numbers(t, SHAPE(12), 7),
                                    numbers(t, SHAPE(4, 4), 8),       numbers(t, SHAPE(4), 9)};
        for (int i = 0; i < PARAMETERS; i++)
            p[i]->requires_grad = true;
        for (int i = 0; i < 2; i++) { /* what backends keep of weights seen again is there then */
            assert_int_equal(network(p, image), 0);
            forget_gradients(p, PARAMETERS);
        }
        int64_t headers = ld_tensor_count(), blocks = memory().blocks, k = 1;
        size_t bytes = memory().live;
        for (int bad = LD_EMEM; bad; k++) {
            ld_error_clear();
            ld_pool_fail_at(cpu()->pool, k);
            bad = network(p, image);
            ld_pool_fail_at(cpu()->pool, 0);
            assert_int_equal(bad, ld_error_code());
            forget_gradients(p, PARAMETERS);
            if (bad && (bad != LD_EMEM || !strstr(ld_error(), "out of memory on cpu")))
                fail_msg("allocation %d: code %d, %s", (int)k, bad, ld_error());
            assert_int_equal(ld_tensor_count(), headers);
            assert_int_equal(memory().blocks, blocks);
            assert_int_equal(memory().live, bytes);
            assert_true(ld_recording());
        }
        assert_true(k > 30); /* results, statistics and gradients are more */
        drop_kept();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(tape_keeps_what_it_needs), TEST(norm_results_are_made_again), TEST(interrupts_are_seen_first),
        TEST(shortage_leaves_nothing),  TEST(change_in_place_is_reported), TEST(in_place_counts_versions),
        TEST(network_under_shortage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
