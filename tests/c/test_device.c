/* Tensors on a device with memory of its own (tests/fake): copies, what the host may not do, the pool's arena, planning. */
#include "backend/plan.h"
#include "backend/plugin.h"
#include "base/error.h"
#include "op/op.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static ld_device *cpu, *fake;

static int open_fake(void **state) {
    (void)state;
    cpu = ld_device_find("cpu");
    fake = getenv("LD_CUDA_PLUGIN") ? ld_device_find("fake:0") : NULL;
    return cpu ? 0 : -1;
}

#define NEED_FAKE()                                                                                                    \
    do {                                                                                                               \
        if (!fake) {                                                                                                   \
            printf("SKIP %s: no fake device, LD_TEST_FAKE does not name it\n", __func__);                              \
            skip();                                                                                                    \
        }                                                                                                              \
    } while (0)

/* 0, 1, 2, ... in x's logical order, on the CPU. */
static ld_tensor *counting(ld_dtype t, int ndim, const int64_t *shape) {
    ld_tensor *x = ld_tensor_new(cpu, t, ndim, shape, "test");
    assert_non_null(x);
    double *values = malloc((size_t)(ld_tensor_numel(x) + 1) * sizeof *values);
    ld_view v = {.dtype = LD_F64, .ndim = ndim, .data = values};
    int64_t step = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        v.shape[i] = shape[i];
        v.stride[i] = step;
        step *= shape[i];
    }
    for (int64_t i = 0; i < step; i++)
        values[i] = (double)(i % 100);
    assert_int_equal(ld_tensor_fill_from(x, &v, "test"), 0);
    free(values);
    return x;
}

static void assert_same(ld_tensor *a, ld_tensor *b) {
    ld_tensor *differ = ld_binary("test", LD_NE, a, b);
    ld_tensor *n = differ ? ld_reduce("test", LD_SUM, differ, NULL, 0, false) : NULL;
    assert_non_null(n);
    assert_int_equal(ld_tensor_item(n), 0);
    ld_tensor_drop(differ);
    ld_tensor_drop(n);
}

static void copies_every_dtype_and_layout(void **state) {
    (void)state;
    NEED_FAKE();
    static const int64_t shapes[][4] = {{2, 3, 4, 5}, {1, 1, 1, 1}, {0, 3, 2, 2}, {3, 7, 1, 2}};
    for (int s = 0; s < 4; s++)
        for (int t = 0; t < LD_DTYPE_COUNT; t++) {
            ld_tensor *x = counting((ld_dtype)t, 4, shapes[s]);
            ld_tensor *turned = ld_permute(x, (int[]){3, 1, 0, 2}); /* strided on both ways */
            ld_tensor *there = ld_tensor_to(turned, (ld_dtype)t, fake, "test");
            ld_tensor *view = ld_permute(there, (int[]){2, 1, 3, 0});
            ld_tensor *back = ld_tensor_host(view, "test");
            assert_true(there->storage->device == fake && back->storage->device == cpu);
            assert_true(ld_tensor_is_canonical(back));
            assert_same(x, back);
            ld_tensor *wide = ld_tensor_to(view, LD_F64, cpu, "test"), *again = ld_tensor_to(x, LD_F64, cpu, "test");
            assert_same(wide, again);
            ld_tensor *list[] = {x, turned, there, view, back, wide, again};
            for (int i = 0; i < 7; i++)
                ld_tensor_drop(list[i]);
        }
}

static void assigns_into_views(void **state) {
    (void)state;
    NEED_FAKE();
    ld_tensor *y = ld_tensor_full(fake, LD_F32, 2, (int64_t[]){4, 6}, -1, "test");
    ld_tensor *part = ld_slice(y, 1, 1, 2, 3); /* columns 1 and 4 */
    ld_tensor *x = counting(LD_I32, 2, (int64_t[]){4, 2});
    assert_int_equal(ld_tensor_assign(part, x, "test"), 0);
    ld_tensor *host = ld_tensor_host(y, "test");
    const float *v = ld_tensor_data(host);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 6; j++)
            assert_true(v[6 * i + j] == (float)(j == 1 ? 2 * i : j == 4 ? 2 * i + 1 : -1));
    assert_int_equal(ld_copy_(y, host), 0);
    ld_tensor *list[] = {y, part, x, host};
    for (int i = 0; i < 4; i++)
        ld_tensor_drop(list[i]);
}

static void gradients_come_back(void **state) {
    (void)state;
    NEED_FAKE();
    ld_tensor *x = counting(LD_F32, 1, (int64_t[]){5});
    x->requires_grad = true;
    ld_tensor *there = ld_to_device(x, fake), *y = ld_unary("square", LD_SQUARE, there, 0, 0);
    ld_tensor *sum = ld_reduce("sum", LD_SUM, y, NULL, 0, false);
    assert_int_equal(ld_backward(sum, NULL, false), 0);
    assert_true(x->grad->storage->device == cpu);
    for (int i = 0; i < 5; i++)
        assert_true(((float *)ld_tensor_data(x->grad))[i] == 2 * (float)i);
    assert_null(ld_binary("add", LD_ADD, x, there));
    assert_int_equal(ld_error_code(), LD_EDEVICE);
    assert_non_null(strstr(ld_error(), "f32 cpu and (5) f32 fake:0"));
    ld_tensor *list[] = {x, there, y, sum};
    for (int i = 0; i < 4; i++)
        ld_tensor_drop(list[i]);
}

/* What the fake device is for: the host that follows an address dies, a slot that gets the host's memory says so. */
static void the_host_cannot_read(void **state) {
    (void)state;
    NEED_FAKE();
    ld_tensor *x = ld_tensor_full(fake, LD_F32, 1, (int64_t[]){3}, 1, "test"), *h = counting(LD_F32, 1, (int64_t[]){3});
    pid_t child = fork();
    if (!child) {
        signal(SIGSEGV, SIG_DFL); /* cmocka's own would go on with the next test */
        _exit(*(volatile char *)ld_tensor_data(x));
    }
    int status;
    assert_true(waitpid(child, &status, 0) == child);
    assert_false(WIFEXITED(status));
    assert_int_equal(fake->backend->copy(LD_VIEW(x), LD_VIEW(h)), LD_EINTERNAL);
    assert_non_null(strstr(ld_error(), "views of host memory"));
    assert_int_equal(fake->backend->sumsq(&(double){0}, LD_VIEW(h), 1), LD_EINTERNAL);
    ld_update u = {.dtype = LD_F32, .n = 3, .p = ld_tensor_data(x), .s = ld_tensor_data(h)};
    assert_int_equal(fake->backend->update(&u, 1, 1, 0.5, NULL), LD_EINTERNAL);
    ld_tensor_drop(x);
    ld_tensor_drop(h);
}

static void the_arena_is_backed_as_it_grows(void **state) {
    (void)state;
    NEED_FAKE();
    ld_pool_trim(fake->pool);
    size_t before = ld_device_room(fake), mib = (size_t)1 << 20;
    void *a = ld_pool_take(fake->pool, 8 * mib, "test"), *b = ld_pool_take(fake->pool, 8 * mib, "test");
    assert_int_equal(before - ld_device_room(fake), 16 * mib);
    ld_pool_give(fake->pool, a);
    void *c = ld_pool_take(fake->pool, 4 * mib, "test");
    assert_ptr_equal(a, c);
    assert_int_equal(before - ld_device_room(fake), 16 * mib);
    ld_pool_give(fake->pool, b);
    ld_pool_give(fake->pool, c);
    ld_pool_trim(fake->pool);
    assert_int_equal(ld_device_room(fake), before);
    assert_null(ld_pool_take(fake->pool, before + mib, "test"));
    assert_int_equal(ld_error_code(), LD_EMEM);
    assert_int_equal(ld_pool_figures(fake->pool).live, 0);
}

static void plans_on_the_device_alone(void **state) {
    (void)state;
    NEED_FAKE();
    ld_tensor *x = counting(LD_F32, 2, (int64_t[]){40, 40}), *there = ld_tensor_to(x, LD_F32, fake, "test");
    ld_plan_report r;
    assert_int_equal(ld_plan_begin(fake), 0);
    ld_tensor *y = ld_unary("neg", LD_NEG, there, 0, 0), *host = ld_tensor_host(y, "test");
    ld_tensor *made = ld_matmul(x, x), *again = ld_tensor_to(x, LD_F32, fake, "test");
    assert_true(ld_planning_on(fake) && !ld_planning_on(cpu));
    ld_tensor_drop(y);
    assert_int_equal(ld_fill_(there, 7), 0);
    ld_plan_end(&r);
    assert_true(r.first.peak - r.first.before >= 2 * 6400);
    assert_true(((float *)ld_tensor_data(host))[5] == 0);       /* nothing was computed there */
    assert_true(((float *)ld_tensor_data(made))[1600 - 1] > 0); /* but here */
    ld_tensor *after = ld_tensor_host(there, "test"), *kept = ld_tensor_host(again, "test");
    assert_same(after, x);
    assert_true(((float *)ld_tensor_data(kept))[5] == 0); /* outlived its plan, as zeros */
    assert_int_equal(ld_fill_(again, 3), 0);
    ld_tensor *list[] = {x, there, host, made, again, after, kept};
    for (int i = 0; i < 7; i++)
        ld_tensor_drop(list[i]);
}

static void names(void **state) {
    (void)state;
    static const char *const wrong[] = {"",        "cpu:",      "cpu:0", "fake:", "fake:x",
                                        "fake:-1", "fake:1000", "Fake",  "a b",   "longfamily:0"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_null(ld_device_find(wrong[i]));
        assert_int_equal(ld_error_code(), LD_EDEVICE);
    }
    assert_true(ld_device_at(0) == cpu);
    if (!fake)
        return;
    assert_true(ld_device_find("fake") == fake && ld_device_at(1) == fake && !ld_device_at(2));
    assert_null(ld_device_find("fake:7"));
    assert_non_null(strstr(ld_error(), "there is no fake:7; fake has 2 devices"));
}

int main(void) {
    const char *plugin = getenv("LD_TEST_FAKE");
    if (plugin && *plugin)
        setenv("LD_CUDA_PLUGIN", plugin, 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(copies_every_dtype_and_layout),
                                       cmocka_unit_test(assigns_into_views),
                                       cmocka_unit_test(gradients_come_back),
                                       cmocka_unit_test(the_host_cannot_read),
                                       cmocka_unit_test(the_arena_is_backed_as_it_grows),
                                       cmocka_unit_test(plans_on_the_device_alone),
                                       cmocka_unit_test(names)};
    return cmocka_run_group_tests(tests, open_fake, NULL);
}
