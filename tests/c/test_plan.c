/* Planning: every operation with workspace takes while planning what it takes when it computes; undoing; the pool. */
#include "ops.h"

#include "backend/plan.h"
#include "op/op.h"

#include <stdlib.h>

/* ---- operations -------------------------------------------------------------------------------------------------------- */

typedef ld_tensor *(*op_fn)(ld_tensor *const *x);

static ld_tensor *conv_same(ld_tensor *const *x) {
    return ld_conv2d(x[0], x[1], x[2], &(ld_conv_shape){1, 1, 1, 1, 1, 1, false});
}
static ld_tensor *conv_half(ld_tensor *const *x) {
    return ld_conv2d(x[0], x[1], NULL, &(ld_conv_shape){2, 2, 1, 1, 1, 1, false});
}
static ld_tensor *conv_one(ld_tensor *const *x) {
    return ld_conv2d(x[0], x[1], x[2], &(ld_conv_shape){1, 1, 0, 0, 0, 0, false});
}
static ld_tensor *conv_up(ld_tensor *const *x) {
    return ld_conv_transpose2d(x[0], x[1], NULL, &(ld_conv_shape){2, 2, 1, 1, 1, 1, false}, 1);
}
static ld_tensor *product(ld_tensor *const *x) {
    return ld_matmul(x[0], x[1]);
}
static ld_tensor *linear(ld_tensor *const *x) {
    return ld_linear(x[0], x[1], x[2]);
}
static ld_tensor *batch_norm(ld_tensor *const *x) {
    return ld_batch_norm(x[0], x[1], x[2], NULL, NULL, true, 0.1, 1e-5);
}
static ld_tensor *group_norm(ld_tensor *const *x) {
    return ld_group_norm(x[0], x[1], x[2], 4, 1e-5);
}
static ld_tensor *layer_norm(ld_tensor *const *x) {
    return ld_layer_norm(x[0], x[1], x[2], 1e-5);
}
static ld_tensor *packed(ld_tensor *const *x) {
    return ld_attention_packed(x[0], 2);
}
static ld_tensor *attention(ld_tensor *const *x) {
    return ld_attention(x[0], x[1], x[2], 4);
}
static ld_tensor *softmax(ld_tensor *const *x) {
    return ld_softmax(x[0], 1);
}

static const struct {
    const char *name;
    op_fn fn;
    struct {
        int ndim;
        int64_t shape[4];
    } in[3];
} ops[] = {
    {"conv 3x3, wide", conv_same, {{4, {2, 64, 16, 16}}, {4, {64, 64, 3, 3}}, {1, {64}}}},
    {"conv 3x3, narrow", conv_same, {{4, {3, 4, 9, 7}}, {4, {16, 4, 3, 3}}, {1, {16}}}},
    {"conv 3x3, one pixel", conv_same, {{4, {1, 16, 1, 1}}, {4, {16, 16, 3, 3}}, {1, {16}}}},
    {"conv of stride 2", conv_half, {{4, {2, 32, 16, 16}}, {4, {48, 32, 3, 3}}}},
    {"conv 1x1", conv_one, {{4, {2, 32, 8, 8}}, {4, {24, 32, 1, 1}}, {1, {24}}}},
    {"transposed conv", conv_up, {{4, {2, 16, 8, 8}}, {4, {16, 8, 3, 3}}}},
    {"product", product, {{2, {33, 40}}, {2, {40, 17}}}},
    {"products", product, {{3, {5, 33, 40}}, {3, {5, 40, 17}}}},
    {"products with one matrix", product, {{3, {5, 33, 40}}, {2, {40, 17}}}},
    {"linear", linear, {{3, {4, 31, 24}}, {2, {48, 24}}, {1, {48}}}},
    {"batch norm", batch_norm, {{4, {4, 24, 16, 16}}, {1, {24}}, {1, {24}}}},
    {"group norm", group_norm, {{4, {4, 24, 16, 16}}, {1, {24}}, {1, {24}}}},
    {"layer norm", layer_norm, {{3, {4, 64, 48}}, {1, {48}}, {1, {48}}}},
    {"attention, packed", packed, {{3, {3, 50, 96}}}},
    {"attention", attention, {{3, {2, 64, 32}}, {3, {2, 20, 32}}, {3, {2, 20, 32}}}},
    {"softmax", softmax, {{2, {30, 20}}}},
};

/* Forward and backward; nothing is left but the leaves' gradients, which go too. */
static void work(op_fn fn, ld_tensor *const *x) {
    ld_tensor *y = fn(x), *sum = y ? ld_reduce("sum", LD_SUM, y, NULL, 0, false) : NULL;
    ld_tensor_drop(y);
    if (!sum || ld_backward(sum, NULL, false))
        fail_msg("%s", ld_error());
    ld_tensor_drop(sum);
    for (int i = 0; i < 3; i++)
        if (x[i])
            assert_int_equal(ld_tensor_set_grad(x[i], NULL), 0);
}

static void plans_what_it_takes(void **state) {
    (void)state;
    for (size_t k = 0; k < LENGTH(ops); k++)
        for (int t = 0; t < 2; t++) {
            ld_tensor *x[3] = {0};
            for (int i = 0; i < 3 && ops[k].in[i].ndim; i++) {
                x[i] = keep(
                    ld_tensor_full(cpu(), t ? LD_F64 : LD_F32, ops[k].in[i].ndim, ops[k].in[i].shape, 0.5 + i, "test"));
                x[i]->requires_grad = true;
            }
            ld_plan_report r;
            int64_t before = memory().allocations, planned, taken;
            assert_int_equal(ld_plan_begin(cpu()), 0);
            work(ops[k].fn, x);
            planned = memory().allocations - before;
            ld_plan_end(&r);
            assert_int_equal(memory().allocations, before);
            ld_pool_reset_peak(cpu()->pool);
            work(ops[k].fn, x);
            taken = memory().allocations - before;
            if (r.first.peak != memory().peak || planned != taken)
                fail_msg("%s %s: %zu bytes and %d blocks planned, %zu and %d taken", ops[k].name, t ? "f64" : "f32",
                         r.first.peak, (int)planned, memory().peak, (int)taken);
            for (int i = 0; i < 3 && x[i]; i++) /* nothing has been written */
                assert_true(ld_tensor_item(x[i]) == 0.5 + i);
            drop_kept();
        }
}

/* ---- what a plan leaves alone ------------------------------------------------------------------------------------------ */

static void undo_first(void *arg) {
    assert_int_equal(*(int *)arg, 2); /* the last remembered is put back first */
    *(int *)arg = 1;
}

static void undo_last(void *arg) {
    *(int *)arg = 2;
}

static void gradients_and_undoing(void **state) {
    (void)state;
    ld_tensor *x = keep(ld_tensor_full(cpu(), LD_F32, SHAPE(3), 2, "test"));
    x->requires_grad = true;
    ld_tensor *old = x->grad = ld_tensor_full(cpu(), LD_F32, SHAPE(3), 7, "test");
    int order = 0;
    assert_false(ld_planning());
    assert_int_equal(ld_plan_begin(cpu()), 0);
    assert_true(ld_planning());
    assert_int_equal(ld_plan_begin(cpu()), LD_ESTATE);
    assert_int_equal(ld_plan_undo(&order, undo_first, &order), 0);
    assert_int_equal(ld_plan_undo(&ops, undo_last, &order), 0);
    assert_true(ld_plan_remembers(&order) && ld_plan_remembers(&ops) && !ld_plan_remembers(&state));
    size_t live = memory().live;
    assert_int_equal(ld_tensor_set_grad(x, NULL), 0);
    assert_int_equal(memory().live, live - 256); /* as if it had gone */
    uint32_t version = x->storage->version;
    assert_int_equal(ld_fill_(keep(ld_detach(x)), 9), 0);
    assert_int_equal(x->storage->version, version);
    ld_plan_end(NULL);
    assert_false(ld_planning());
    assert_int_equal(order, 1);
    assert_ptr_equal(x->grad, old);
    assert_true(ld_tensor_item(x->grad) == 7);
    assert_true(ld_tensor_item(x) == 2);
}

static void plans_that_fail(void **state) {
    (void)state;
    ld_tensor *x = keep(ld_tensor_full(cpu(), LD_F32, SHAPE(30, 20), 1, "test"));
    x->requires_grad = true;
    for (int k = 1;; k++) { /* the k-th block cannot be had */
        ld_pool_stats before = memory();
        assert_int_equal(ld_plan_begin(cpu()), 0);
        ld_pool_fail_at(cpu()->pool, k);
        ld_tensor *y = softmax(&x), *sum = y ? ld_reduce("sum", LD_SUM, y, NULL, 0, false) : NULL;
        int bad = sum ? ld_backward(sum, NULL, false) : LD_EMEM;
        ld_pool_fail_at(cpu()->pool, 0);
        ld_tensor_drop(y);
        ld_tensor_drop(sum);
        ld_plan_end(NULL);
        assert_null(x->grad);
        assert_int_equal(memory().live, before.live);
        assert_int_equal(memory().cached, before.cached);
        assert_int_equal(memory().blocks, before.blocks);
        if (!bad) {
            assert_true(k > 3);
            break;
        }
        assert_int_equal(bad, LD_EMEM);
    }
}

/* ---- the pool ---------------------------------------------------------------------------------------------------------- */

static void blocks_before_within_and_after(void **state) {
    (void)state;
    ld_pool *p = cpu()->pool;
    ld_pool_trim(p);
    void *old = ld_pool_take(p, 1 << 20, "test"), *spare = ld_pool_take(p, 1 << 16, "test");
    ld_pool_give(p, spare);
    ld_pool_stats before = memory();
    ld_plan_report r;
    assert_int_equal(ld_plan_begin(cpu()), 0);
    ld_pool_trim(p);                                          /* leaves the cache alone */
    char *large = ld_pool_take(p, (size_t)64 << 30, "large"); /* more than there is: nothing touches it */
    char *a = ld_pool_take(p, 1 << 16, "a"), *b = ld_pool_take(p, 1 << 16, "b");
    assert_true(large && a && b && a != spare && b != spare);
    assert_int_equal(a[0] | a[65535] | large[(size_t)63 << 30], 0);
    ld_pool_give(p, large);
    ld_pool_give(p, old);
    ld_pool_give(p, a);
    ld_plan_end(&r);
    assert_int_equal(r.first.peak, before.live + ((size_t)64 << 30) + (2 << 16));
    assert_int_equal(r.first.before, before.live);
    assert_int_equal(r.first.held, before.live + before.cached + ((size_t)64 << 30) + (1 << 16)); /* one was spare */
    assert_int_equal(r.again.before, before.live - (1 << 20) + (1 << 16));
    assert_int_equal(r.again.peak, r.again.before + ((size_t)64 << 30) + (1 << 16));
    assert_int_equal(r.uses, 2);
    assert_string_equal(r.use[0].who, "large");
    assert_int_equal(r.use[1].bytes, 1 << 16); /* a; b was there before a second call */
    assert_int_equal(memory().live, before.live - (1 << 20) + (1 << 16));
    assert_int_equal(memory().cached, before.cached + (1 << 20));
    ld_pool_give(p, b); /* outlived its plan: goes back to the system */
    assert_int_equal(memory().live, before.live - (1 << 20));
    assert_int_equal(memory().cached, before.cached + (1 << 20));
    char *after = ld_pool_take(p, 1 << 16, "test");
    assert_int_equal(memory().cached, before.cached + (1 << 20) - (1 << 16)); /* out of what is there */
    ld_pool_give(p, after);
}

static void room(void **state) {
    (void)state;
    size_t room = ld_memory_room();
    assert_true(room > ((size_t)16 << 20)); /* this test could not run in less */
    assert_true(room < ((size_t)1 << 50));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(plans_what_it_takes),
        TEST(gradients_and_undoing),
        TEST(plans_that_fail),
        TEST(blocks_before_within_and_after),
        TEST(room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
