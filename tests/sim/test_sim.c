/* The simulator itself: right kernels compute the same in every order of threads, wrong ones are found out. */
#include "faulty.h"
#include "orders.h"

enum { MOST = 1024 };
static _Alignas(16) int x[MOST], y[MOST], first[MOST];

static void numbers(void) {
    for (int i = 0; i < MOST; i++)
        x[i] = 3 * i + 1;
    memset(y, 0, sizeof y);
}

static void failed(int code, const char *part) {
    assert_int_equal(code, LD_EINTERNAL);
    if (!strstr(ld_error(), part))
        fail_msg("the message is '%s', without '%s'", ld_error(), part);
}

static void barriers(void **state) {
    (void)state;
    numbers();
    EACH_ORDER(o) for (int n = 32; n <= MOST; n *= 2) {
        ok(sim_reverse(y, x, n));
        for (int i = 0; i < n; i++)
            assert_int_equal(y[i], x[n - 1 - i]);
        ok(sim_rotate(y, x, n, 1));
        for (int i = 0; i < n; i++)
            assert_int_equal(y[i], x[(i + 1) % n]);
    }
}

/* In how many orders the result differs from the first order's. */
static int differences(int n, int rotate) {
    int count = 0;
    EACH_ORDER(o) {
        memset(y, 0, sizeof y);
        ok(rotate ? sim_rotate(y, x, n, 0) : sim_reverse_unguarded(y, x, n));
        if (o == 0)
            memcpy(first, y, sizeof y);
        count += memcmp(first, y, sizeof y) != 0;
    }
    return count;
}

/* Without its barrier a kernel gives another result in every other order: of writes seen too late, and too early. */
static void missing_barriers(void **state) {
    (void)state;
    numbers();
    assert_int_equal(differences(256, 0), ORDERS - 1);
    assert_int_equal(differences(256, 1), ORDERS - 1);
}

static void divergent_barriers(void **state) {
    (void)state;
    EACH_ORDER(o) {
        failed(sim_branch_barrier(64), "k_branch_barrier: block (0,0,0): a barrier in a branch");
        failed(sim_two_barriers(64), "threads of the block wait at lines");
        ok(sim_shape(1, 32)); /* nothing is left of the error */
    }
}

static void warps(void **state) {
    (void)state;
    numbers();
    EACH_ORDER(o) {
        ok(sim_warp_sum(y, x, 96));
        for (int w = 0; w < 3; w++)
            assert_int_equal(y[w], 32 + 3 * (31 * 32 / 2 + 32 * 32 * w));
        for (int width = 8; width <= 32; width *= 2)
            for (int kind = 0; kind < 4; kind++) {
                ok(sim_shuffles(y, kind, width));
                for (int i = 0; i < 32; i++) {
                    int at = i % width, base = i - at;
                    int want = kind == 0   ? (at >= 3 ? i - 3 : i)
                               : kind == 1 ? (at + 3 < width ? i + 3 : i)
                               : kind == 2 ? base + (at ^ 3)
                                           : base + 3;
                    assert_int_equal(y[i], want);
                }
            }
        unsigned votes = 0;
        ok(sim_votes(&votes));
        assert_int_equal(votes, 31 | 1 << 8 | 1 << 10);
    }
}

static void masks(void **state) {
    (void)state;
    EACH_ORDER(o) {
        memset(y, 0, sizeof y);
        ok(sim_outside_mask(y, 0xf0u, 5));
        assert_true(y[4] == 5 && y[7] == 5 && y[3] == 0);
        failed(sim_outside_mask(y, 0xf0u, 3), "reads a lane outside the mask 000000f0 of __shfl_sync");
        failed(sim_not_in_mask(y), "which lacks it");
        failed(sim_absent_lane(y), "that do not come");
    }
}

static void shared_memory(void **state) {
    (void)state;
    float v = 0;
    EACH_ORDER(o) {
        ok(sim_shared_past(63));
        ok(sim_dynamic_past(63));
        ok(sim_shared_unwritten(&v));
        assert_true(isnan(v));
#ifndef __SANITIZE_ADDRESS__ /* which ends the process there and then */
        failed(sim_shared_past(64), "outside its bounds");
        failed(sim_shared_past(-1), "outside its bounds");
        failed(sim_dynamic_past(64), "outside its bounds");
#endif
        ok(sim_shared_bytes(48 << 10, 0));
        failed(sim_shared_bytes((48 << 10) + 1, 0), "more than there is");
        ok(sim_shared_bytes(99 << 10, 99 << 10));
        failed(sim_shared_bytes((64 << 10) + 1, 64 << 10), "more than there is");
        failed(sim_shared_bytes(0, (99 << 10) + 1), "refuses");
    }
}

static void shapes(void **state) {
    (void)state;
    EACH_ORDER(o) {
        memset(y, 0, sizeof y);
        ok(sim_indices(y, 2, 3, 16, 4));
        for (int r = 0; r < 12; r++)
            for (int c = 0; c < 32; c++)
                assert_int_equal(y[r * 32 + c], 1 + r / 4 * 100 + r % 4);
        failed(sim_shape(1, 1025), "a block of 1025");
        failed(sim_shape(65536, 32), "a grid of 1 x 65536");
        failed(sim_shape(0, 32), "a grid of 1 x 0");
        ok(sim_unaligned(y, 4));
        failed(sim_unaligned(y, 3), "16 bytes at once at address");
        unsigned count = 0;
        ok(sim_last_block(y, &count, 10));
        assert_int_equal(y[10], 45);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(barriers),
        cmocka_unit_test(missing_barriers),
        cmocka_unit_test(divergent_barriers),
        cmocka_unit_test(warps),
        cmocka_unit_test(masks),
        cmocka_unit_test(shared_memory),
        cmocka_unit_test(shapes),
    };
    return cmocka_run_group_tests_name("simulator", tests, tidy, NULL);
}
