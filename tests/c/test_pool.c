/* The caching pool: accounting, reuse, limits, shortage, injected failures; the CPU device on top of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/device.h"
#include "base/error.h"

static size_t raw_bytes, raw_calls, raw_capacity;

static void *raw_alloc(size_t n) {
    if (raw_bytes + n > raw_capacity)
        return NULL;
    raw_bytes += n;
    raw_calls++;
    return aligned_alloc(256, n);
}

static void raw_free(void *p, size_t n) {
    raw_bytes -= n;
    free(p);
}

static int begin(void **state) {
    raw_bytes = raw_calls = 0;
    raw_capacity = (size_t)1 << 30;
    ld_pool_on_shortage(NULL, NULL);
    ld_error_clear();
    *state = ld_pool_new("test", raw_alloc, raw_free, 0);
    return *state == NULL;
}

static int end(void **state) {
    ld_pool_free(*state);
    return raw_bytes != 0; /* everything went back */
}

static void blocks_are_distinct_aligned_and_large_enough(void **state) {
    ld_pool *p = *state;
    enum { N = 300 };
    static unsigned char *block[N];
    static size_t size[N];
    size_t total = 0;
    for (int i = 0; i < N; i++) {
        size[i] = (size_t)i * (size_t)i * 7;
        block[i] = ld_pool_take(p, size[i], "test");
        assert_non_null(block[i]);
        assert_int_equal((uintptr_t)block[i] % 256, 0);
        memset(block[i], i & 255, size[i]);
        total += size[i];
    }
    ld_pool_stats s = ld_pool_figures(p);
    assert_int_equal(s.blocks, N);
    assert_int_equal(s.allocations, N);
    assert_int_equal(s.live, raw_bytes);
    assert_int_equal(s.peak, s.live);
    assert_true(s.live >= total && (double)s.live <= 1.25 * (double)total + 256.0 * N);
    for (int i = 0; i < N; i++) {
        for (size_t k = 0; k < size[i]; k++)
            assert_int_equal(block[i][k], i & 255);
        ld_pool_give(p, block[i]);
    }
    s = ld_pool_figures(p);
    assert_int_equal(s.live, 0);
    assert_int_equal(s.blocks, 0);
    assert_int_equal(s.cached, raw_bytes);
    ld_pool_trim(p);
    assert_int_equal(ld_pool_figures(p).cached, 0);
    assert_int_equal(raw_bytes, 0);
}

static void freed_blocks_are_given_out_again(void **state) {
    ld_pool *p = *state;
    void *a = ld_pool_take(p, 5000, "test");
    ld_pool_give(p, a);
    size_t calls = raw_calls;
    assert_ptr_equal(ld_pool_take(p, 4900, "test"), a); /* the same class: 4608 < n <= 5120 */
    assert_int_equal(raw_calls, calls);
    void *b = ld_pool_take(p, 4900, "test");
    assert_ptr_not_equal(b, a);
    ld_pool_give(p, a);
    ld_pool_give(p, b);
    ld_pool_give(p, NULL);
    ld_pool_give(p, &calls); /* not the pool's: left alone */
    assert_int_equal(ld_pool_figures(p).blocks, 0);
    assert_non_null(ld_pool_take(p, 0, "test"));
}

static void peak_and_debt(void **state) {
    ld_pool *p = *state;
    void *a = ld_pool_take(p, 1024, "test"), *b = ld_pool_take(p, 2048, "test");
    assert_int_equal(ld_pool_debt(p), 3072);
    ld_pool_give(p, b);
    assert_int_equal(ld_pool_debt(p), 1024);
    assert_int_equal(ld_pool_figures(p).peak, 3072);
    ld_pool_reset_peak(p);
    assert_int_equal(ld_pool_figures(p).peak, 1024);
    ld_pool_clear_debt(p);
    ld_pool_give(p, a);
    assert_int_equal(ld_pool_debt(p), 0);
    assert_non_null(ld_pool_take(p, 512, "test"));
    assert_int_equal(ld_pool_debt(p), 512); /* no credit for what was taken before */
}

static void the_limit_counts_cached_blocks_and_gives_them_back(void **state) {
    ld_pool *p = *state;
    ld_pool_set_limit(p, 8192);
    void *a = ld_pool_take(p, 4096, "test");
    ld_pool_give(p, a);
    void *b = ld_pool_take(p, 8192, "test"); /* only once the cached block is gone */
    assert_non_null(b);
    assert_int_equal(raw_bytes, 8192);
    assert_null(ld_pool_take(p, 1, "conv2d"));
    assert_int_equal(ld_error_code(), LD_EMEM);
    assert_string_equal(ld_error(), "conv2d: out of memory on test: 1 bytes needed; live 8.0 KiB in 1 blocks, "
                                    "cached 0 bytes, limit 8.0 KiB; most by test 8.0 KiB");
    ld_pool_give(p, b);
    assert_non_null(ld_pool_take(p, 1, "test"));
    assert_null(ld_pool_take(p, SIZE_MAX, "test"));
}

/* The three that hold most, added up; more takers than the table has rows are one together. */
static void shortage_tells_who_holds_what(void **state) {
    ld_pool *p = *state;
    void *many[100];
    char name[16];
    ld_pool_set_limit(p, 1 << 20);
    void *a = ld_pool_take(p, 64 << 10, "conv2d"), *b = ld_pool_take(p, 64 << 10, "conv2d: workspace");
    void *c = ld_pool_take(p, 112 << 10, "norm"), *d = ld_pool_take(p, 1024, "small"),
         *e = ld_pool_take(p, 512, "tiny");
    void *spare = ld_pool_take_spare(p, 256 << 10);
    assert_null(ld_pool_take(p, 1 << 20, "linear"));
    assert_non_null(strstr(ld_error(), "; most by conv2d 128.0 KiB, norm 112.0 KiB, small 1.0 KiB"));
    assert_null(strstr(ld_error(), "tiny"));
    assert_null(strstr(ld_error(), "spare"));
    ld_pool_give(p, spare);
    ld_pool_give(p, a);
    ld_pool_give(p, b);
    ld_pool_give(p, c);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "op %d", i);
        many[i] = ld_pool_take(p, 256, name);
    }
    assert_null(ld_pool_take(p, 1 << 20, "linear"));
    assert_non_null(strstr(ld_error(), "; most by others "));
    for (int i = 0; i < 100; i++)
        ld_pool_give(p, many[i]);
    ld_pool_give(p, d);
    ld_pool_give(p, e);
}

static void the_system_running_out_is_a_shortage_too(void **state) {
    ld_pool *p = *state;
    raw_capacity = 10240;
    void *a = ld_pool_take(p, 8192, "test");
    ld_pool_give(p, a);
    assert_non_null(ld_pool_take(p, 10240, "test"));
    assert_null(ld_pool_take(p, 256, "test"));
    assert_int_equal(ld_error_code(), LD_EMEM);
}

static struct {
    ld_pool *pool;
    void *garbage;
    int calls;
} host;

static void collect(void *arg) {
    assert_ptr_equal(arg, &host);
    host.calls++;
    ld_pool_give(host.pool, host.garbage);
    host.garbage = NULL;
    assert_null(ld_pool_take(host.pool, 1 << 20, "inner")); /* short again inside the hook: no second call */
}

static void the_host_is_asked_to_collect(void **state) {
    ld_pool *p = *state;
    ld_pool_set_limit(p, 16384);
    ld_pool_on_shortage(collect, &host);
    host.pool = p;
    host.calls = 0;
    host.garbage = ld_pool_take(p, 16384, "test");
    void *a = ld_pool_take(p, 10240, "test"); /* another class than the garbage */
    assert_non_null(a);
    assert_int_equal(host.calls, 1);
    host.garbage = NULL;
    assert_null(ld_pool_take(p, 16384, "test"));
    assert_int_equal(host.calls, 2);
    ld_pool_on_shortage(NULL, NULL);
}

static void the_kth_take_fails(void **state) {
    ld_pool *p = *state;
    for (int k = 1; k <= 3; k++) {
        ld_pool_fail_at(p, k);
        for (int i = 1; i <= 4; i++) {
            void *b = ld_pool_take(p, 100, "test");
            assert_int_equal(b == NULL, i == k);
            ld_pool_give(p, b);
        }
    }
    ld_pool_fail_at(p, 1);
    ld_pool_fail_at(p, 0);
    assert_non_null(ld_pool_take(p, 100, "test"));
}

static void many_live_blocks(void **state) {
    ld_pool *p = *state;
    static void *block[5000];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 5000; i++)
            block[i] = ld_pool_take(p, (size_t)(i % 13) * 100, "test");
        for (int i = 0; i < 5000; i += 2)
            ld_pool_give(p, block[i]);
        assert_int_equal(ld_pool_figures(p).blocks, 2500);
        for (int i = 1; i < 5000; i += 2)
            ld_pool_give(p, block[i]);
    }
    assert_int_equal(raw_calls, 5000);
}

static void the_cpu_device(void **state) {
    (void)state;
    ld_device *d = ld_device_find("cpu");
    assert_ptr_equal(ld_device_find("cpu"), d);
    assert_string_equal(d->name, "cpu");
    assert_ptr_equal(d->backend, &ld_cpu_backend);
    static const size_t sizes[] = {0, 1, 4096, (4 << 20) - 1, 4 << 20, (5 << 20) + 1, 33 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *b = ld_pool_take(d->pool, sizes[i], "test");
        assert_non_null(b);
        assert_int_equal((uintptr_t)b % 256, 0);
        memset(b, 1, sizes[i]);
        ld_pool_give(d->pool, b);
        ld_pool_trim(d->pool);
    }
    assert_null(ld_device_find("tpu"));
    assert_int_equal(ld_error_code(), LD_EDEVICE);
    assert_non_null(strstr(ld_error(), "tpu"));
    assert_non_null(strstr(ld_error(), "cpu"));
}

static void threads(void **state) {
    (void)state;
    assert_true(ld_threads() >= 1);
    ld_set_threads(3);
    assert_int_equal(ld_threads(), 3);
    ld_set_threads(0);
    assert_int_equal(ld_threads(), 1);
}

/* What a recording gave back is given out again while it lasts, and only then; it all comes back when it is dropped and
 * nothing in it is in use. */
static void a_recording_keeps_its_memory(void **state) {
    ld_pool *p = *state;
    void *before = ld_pool_take(p, 1000, "before");
    ld_pool_capture *c = ld_pool_capture_begin(p, 4096);
    char *a = ld_pool_take(p, 1000, "a"), *b = ld_pool_take(p, 1000, "b");
    assert_true(a && b && a != b && ((uintptr_t)a & 255) == 0);
    ld_pool_give(p, before); /* of the pool, not of the recording */
    ld_pool_give(p, a);
    assert_ptr_equal(ld_pool_take(p, 700, "again"), a);
    char *more = ld_pool_take(p, 100000, "more"); /* does not fit */
    assert_non_null(more);
    memset(more, 1, 100000);
    ld_pool_give(p, more);
    assert_null(ld_pool_take_spare(p, 100));
    ld_pool_trim(p);
    ld_pool_capture_end(p);
    size_t held = ld_pool_capture_bytes(c);
    assert_true(held >= 104096);
    assert_int_equal(ld_pool_figures(p).graphs, held);
    assert_int_equal(ld_pool_figures(p).live, held);
    for (int i = 0; i < 200; i++) {
        char *x = ld_pool_take(p, 512, "after");
        assert_true(x + 512 <= more || x >= more + 100000);
        assert_true(x + 512 <= a || x >= a + 4096);
        ld_pool_give(p, x);
    }
    ld_pool_capture_drop(p, c);
    assert_int_equal(ld_pool_figures(p).graphs, held); /* a and b are in use */
    ld_pool_give(p, a);
    ld_pool_give(p, b);
    assert_int_equal(ld_pool_figures(p).graphs, 0);
    assert_int_equal(ld_pool_figures(p).live, 0);
    ld_pool_capture_drop(p, NULL);
    ld_pool_set_limit(p, 100000);
    assert_null(ld_pool_capture_begin(p, 200000));
    assert_int_equal(ld_error_code(), LD_EMEM);
}

static void who_holds_what(void **state) {
    ld_pool *p = *state;
    void *x[6];
    for (int i = 0; i < 6; i++)
        x[i] = ld_pool_take(p, i < 3 ? 1024 : 256, i < 3 ? "conv2d" : i < 5 ? "norm" : "a name that is longer than 23");
    ld_pool_user u[8];
    assert_int_equal(ld_pool_users(p, u, 8), 3);
    assert_string_equal(u[0].who, "conv2d");
    assert_int_equal(u[0].bytes, 3072);
    assert_int_equal(u[0].blocks, 3);
    assert_string_equal(u[1].who, "norm");
    assert_string_equal(u[2].who, "a name that is longer t");
    assert_int_equal(ld_pool_users(p, u, 1), 1);
    for (int i = 0; i < 6; i++)
        ld_pool_give(p, x[i]);
    assert_int_equal(ld_pool_users(p, u, 8), 0);
}

static void slots_have_names(void **state) {
    (void)state;
    assert_string_equal(ld_slot_names[0], "fill");
    assert_string_equal(ld_slot_names[ld_slot_count() - 1], "sumsq");
    int (*const *slot)(void) = (int (*const *)(void))(const void *)&ld_cpu_backend.fill;
    for (int i = 0; i < ld_slot_count(); i++)
        assert_non_null(slot[i]);
    assert_true(ld_unary_keeps_result(LD_EXP));
    assert_false(ld_unary_keeps_result(LD_SILU));
}

int main(void) {
#define POOL_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        POOL_TEST(blocks_are_distinct_aligned_and_large_enough),
        POOL_TEST(freed_blocks_are_given_out_again),
        POOL_TEST(peak_and_debt),
        POOL_TEST(the_limit_counts_cached_blocks_and_gives_them_back),
        POOL_TEST(shortage_tells_who_holds_what),
        POOL_TEST(the_system_running_out_is_a_shortage_too),
        POOL_TEST(the_host_is_asked_to_collect),
        POOL_TEST(the_kth_take_fails),
        POOL_TEST(many_live_blocks),
        POOL_TEST(a_recording_keeps_its_memory),
        POOL_TEST(who_holds_what),
        cmocka_unit_test(the_cpu_device),
        cmocka_unit_test(threads),
        cmocka_unit_test(slots_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
