/* Sums over micro-batches: the tree, and that it does not matter how pieces are spread over ranks. */
#include "base/error.h"
#include "op/op.h"
#include "optim/grad_exchange.h"
#include "optim/grad_sum.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { N = 5 };

/* The definition: pieces [first, last) of a node that covers 2^level. */
static void tree_by_hand(const float *x, int first, int level, int pieces, float *sum) {
    if (level == 0) {
        memcpy(sum, x + (size_t)first * N, N * sizeof *sum);
        return;
    }
    int half = 1 << (level - 1);
    tree_by_hand(x, first, level - 1, pieces, sum);
    if (first + half >= pieces)
        return;
    float right[N];
    tree_by_hand(x, first + half, level - 1, pieces, right);
    for (int i = 0; i < N; i++)
        sum[i] += right[i];
}

static void whole_tree(const float *x, int pieces, float *sum) {
    int level = 0;
    while (1 << level < pieces)
        level++;
    tree_by_hand(x, 0, level, pieces, sum);
}

static void random_pieces(float *x, int pieces) {
    for (int i = 0; i < pieces * N; i++) /* of many sizes, so that another order gives other bytes */
        x[i] = sinf((float)i * 1.7f) * expf((float)(i % 9));
}

static void test_any_ranks(void **state) {
    (void)state;
    enum { MOST = 40 };
    float x[MOST * N], node[MOST * N], sum[N];
    for (int pieces = 1; pieces <= MOST; pieces++)
        for (int ranks = 1; ranks <= 11; ranks++) {
            ld_sum_node at[MOST + 1];
            int all = 0, next = 0;
            random_pieces(x, pieces);
            for (int r = 0; r < ranks; r++) {
                int first, last, n = ld_sum_nodes(pieces, r, ranks, at + all);
                ld_sum_own(pieces, r, ranks, &first, &last);
                assert_int_equal(first, next);
                next = last;
                for (int k = 0; k < n; k++, all++) { /* each node is a whole subtree */
                    int from = at[all].index << at[all].level;
                    tree_by_hand(x, from, at[all].level, pieces, node + all * N);
                    assert_true(from >= first && from + (1 << at[all].level) <= last);
                }
            }
            assert_int_equal(next, pieces);
            ld_sum_tree(node, N, all, at);
            whole_tree(x, pieces, sum);
            assert_memory_equal(node, sum, sizeof sum);
        }
}

/* Another order would have given other bytes: the test above can fail. */
static void test_order_matters(void **state) {
    (void)state;
    float x[7 * N], sum[N], row[N] = {0};
    random_pieces(x, 7);
    whole_tree(x, 7, sum);
    for (int k = 0; k < 7; k++)
        for (int i = 0; i < N; i++)
            row[i] += x[k * N + i];
    assert_memory_not_equal(row, sum, sizeof sum);
}

static ld_tensor *leaf(void) {
    ld_tensor *x = ld_tensor_full(ld_device_find("cpu"), LD_F32, 1, (int64_t[]){N}, 0, "test");
    x->requires_grad = true;
    return x;
}

static ld_tensor *numbers(const float *from) {
    ld_tensor *x = ld_tensor_new(ld_device_find("cpu"), LD_F32, 1, (int64_t[]){N}, "test");
    memcpy(ld_tensor_data(x), from, N * sizeof *from);
    return x;
}

static void test_pieces_of_one_rank(void **state) {
    (void)state;
    for (int pieces = 1; pieces <= 9; pieces++) {
        ld_tensor *p[2] = {leaf(), leaf()}, *mean = leaf(),
                  *count = ld_tensor_full(ld_device_find("cpu"), LD_I64, 0, NULL, 3, "test");
        mean->requires_grad = false;
        ld_grad_sum *s = ld_grad_sum_new(p, 2, (ld_tensor *[]){mean, count}, 2, (ld_sum_how){LD_SUM_AUTO, false});
        assert_non_null(s);
        assert_int_equal(ld_grad_sum_begin(s, pieces), 0);
        float x[9 * N], sum[N];
        random_pieces(x, pieces);
        for (int k = 0; k < pieces; k++) {
            ld_tensor_set_grad(p[0], numbers(x + k * N)); /* the other one has none */
            for (int i = 0; i < N; i++)
                ((float *)ld_tensor_data(mean))[i] += 8;
            *(int64_t *)ld_tensor_data(count) += 1;
            ld_grad_sum_watch(s);
            assert_int_equal(ld_grad_sum_add(s, 1.0 / pieces), 0);
        }
        assert_int_equal(ld_grad_sum_add(s, 1), LD_ESTATE);
        assert_int_equal(ld_grad_sum_finish(s), 0);
        whole_tree(x, pieces, sum);
        assert_memory_equal(ld_tensor_data(p[0]->grad), sum, sizeof sum);
        assert_null(p[1]->grad);
        assert_true(((float *)ld_tensor_data(mean))[1] > 7.999f && ((float *)ld_tensor_data(mean))[1] < 8.001f);
        assert_int_equal(*(int64_t *)ld_tensor_data(count), 4);
        ld_grad_sum_drop(s);
        ld_tensor_drop(p[0]);
        ld_tensor_drop(p[1]);
        ld_tensor_drop(mean);
        ld_tensor_drop(count);
    }
}

/* Leaves are told in the order in which backward is through with them, each once, with the whole gradient. */
typedef struct told {
    int n;
    ld_tensor *leaf[4];
    float grad[4];
} told;

static int tell(ld_tensor *x, void *arg) {
    told *t = arg;
    t->leaf[t->n] = x;
    t->grad[t->n++] = *(float *)ld_tensor_data(x->grad);
    return 0;
}

static void test_leaf_hook(void **state) {
    (void)state;
    ld_tensor *p = leaf(), *q = leaf();
    ld_tensor *once = ld_binary("add", LD_ADD, p, q), *twice = ld_binary("add", LD_ADD, once, p),
              *y = ld_reduce("sum", LD_SUM, twice, NULL, 0, false);
    told t = {.n = 0};
    ld_backward_on_leaf(tell, &t);
    assert_int_equal(ld_backward(y, NULL, true), 0);
    assert_int_equal(t.n, 2);
    for (int i = 0; i < 2; i++)
        assert_float_equal(t.grad[i], (t.leaf[i] == p ? 2 : 1), 0);
    assert_int_equal(ld_backward(y, NULL, false), 0); /* for one backward only */
    assert_int_equal(t.n, 2);
    ld_tensor_drop(y);
    ld_tensor_drop(twice);
    ld_tensor_drop(once);
    ld_tensor_drop(p);
    ld_tensor_drop(q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_ranks),
        cmocka_unit_test(test_order_matters),
        cmocka_unit_test(test_pieces_of_one_rank),
        cmocka_unit_test(test_leaf_hook),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
