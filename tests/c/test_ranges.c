/* Ranges of an address space against a map of its pages, and the pool's arena on top of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "backend/pool.h"
#include "base/error.h"

enum { PAGE = 4096, PAGES = 512, SLOTS = 64 };

static uint32_t next(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* The lowest of the smallest runs of free pages below `top` that hold n, as the header promises; -1: none. */
static int best_fit(const bool *used, int top, int n) {
    int best = -1, best_length = 0;
    for (int i = 0, j; i < top; i = j + 1) {
        for (j = i; j < top && !used[j]; j++)
            ;
        if (j - i >= n && (best < 0 || j - i < best_length))
            best = i, best_length = j - i;
    }
    return best;
}

static void takes_the_best_fit(void **state) {
    (void)state;
    ld_ranges r = {.size = (size_t)PAGES * PAGE};
    bool used[PAGES] = {false};
    struct {
        int at, n;
    } held[SLOTS] = {{0, 0}};
    uint32_t seed = 7;
    int refused = 0, holes = 0;
    for (int round = 0; round < 20000; round++) {
        int k = (int)(next(&seed) % SLOTS), top = (int)(r.top / PAGE);
        if (held[k].n) {
            ld_ranges_give(&r, (size_t)held[k].at * PAGE, (size_t)held[k].n * PAGE);
            memset(used + held[k].at, 0, (size_t)held[k].n);
            held[k].n = 0;
            continue;
        }
        int n = 1 + (int)(next(&seed) % 24), want = best_fit(used, top, n);
        size_t at = ld_ranges_take(&r, (size_t)n * PAGE);
        if (at == LD_NO_RANGE) {
            assert_true(want < 0);
            refused++;
            continue;
        }
        int page = (int)(at / PAGE);
        if (want >= 0)
            assert_int_equal(page, want);
        holes += want >= 0;
        for (int i = 0; i < n; i++)
            assert_false(used[page + i]);
        memset(used + page, 1, (size_t)n);
        held[k].at = page, held[k].n = n;
        assert_true(at + (size_t)n * PAGE <= r.top && r.top <= r.size);
    }
    assert_true(refused > 100 && holes > 1000); /* both have been there */
    for (int k = 0; k < SLOTS; k++)
        if (held[k].n)
            ld_ranges_give(&r, (size_t)held[k].at * PAGE, (size_t)held[k].n * PAGE);
    assert_int_equal(r.n, 1); /* all of it is one range again */
    assert_int_equal(ld_ranges_trim(&r), 0);
    assert_int_equal(r.top, 0);
    ld_ranges_drop(&r);
}

static void copies_go_their_own_way(void **state) {
    (void)state;
    ld_ranges r = {.size = 64 * PAGE}, copy;
    size_t a = ld_ranges_take(&r, 3 * PAGE), b = ld_ranges_take(&r, PAGE), c = ld_ranges_take(&r, 2 * PAGE);
    assert_true(a == 0 && b == 3 * PAGE && c == 4 * PAGE);
    ld_ranges_give(&r, a, 3 * PAGE);
    assert_int_equal(ld_ranges_copy(&copy, &r), 0);
    assert_int_equal(ld_ranges_take(&copy, PAGE), 0);
    ld_ranges_give(&copy, c, 2 * PAGE);
    assert_int_equal(ld_ranges_trim(&copy), 2 * PAGE);
    assert_int_equal(copy.top, 4 * PAGE);
    assert_int_equal(r.top, 6 * PAGE);
    assert_int_equal(ld_ranges_take(&r, 3 * PAGE), 0);
    ld_ranges_drop(&copy);
    ld_ranges_drop(&r);
}

/* ---- the pool on top --------------------------------------------------------------------------------------------- */

static size_t purged;

static void purge(void *memory, size_t n) {
    memset(memory, 0, n);
    purged += n;
}

static void *raw_alloc(size_t n) {
    return aligned_alloc(256, n);
}

static void raw_free(void *p, size_t n) {
    (void)n;
    free(p);
}

static void arena_reuses_and_gives_back(void **state) {
    (void)state;
    size_t big = LD_POOL_ARENA_FROM, size = 64 * big;
    char *base = aligned_alloc(PAGE, size);
    ld_pool *p = ld_pool_new("test", raw_alloc, raw_free, 0);
    assert_non_null(base);
    assert_non_null(p);
    ld_pool_arena(p, base, size, purge);
    purged = 0;
    char *a = ld_pool_take(p, big, "a"), *b = ld_pool_take(p, 2 * big - 5, "b"), *c = ld_pool_take(p, big, "c");
    assert_true(a == base && b == base + big && c == base + 3 * big);
    size_t below = big - 8192; /* the last class that is not the arena's */
    char *small = ld_pool_take(p, below, "small");
    assert_true(small < base || small >= base + size);
    assert_int_equal(ld_pool_figures(p).live, 4 * big + below);
    ld_pool_give(p, small);
    small = ld_pool_take(p, below + 1, "just above");
    assert_ptr_equal(small, base + 4 * big);
    ld_pool_give(p, small);
    ld_pool_give(p, b);
    assert_int_equal(ld_pool_figures(p).cached, 2 * big + below + (big - 4096));
    char *d = ld_pool_take(p, big, "d"), *e = ld_pool_take(p, big, "e");
    assert_true(d == b && e == b + big); /* two out of one */
    ld_pool_give(p, a);
    ld_pool_give(p, c);
    ld_pool_trim(p);
    assert_int_equal(purged, 3 * big - 4096);
    assert_int_equal(ld_pool_figures(p).cached, 0);
    ld_pool_set_limit(p, 3 * big);
    a = ld_pool_take(p, big, "a");
    assert_ptr_equal(a, base);
    assert_null(ld_pool_take(p, big, "over"));
    assert_int_equal(ld_error_code(), LD_EMEM);
    ld_pool_give(p, d);
    assert_ptr_equal(ld_pool_take(p, big, "d"), d);
    ld_pool_set_limit(p, 0);
    assert_null(ld_pool_take(p, size, "more than there is"));
    assert_int_equal(ld_pool_figures(p).live, 3 * big);
    ld_pool_free(p);
    free(base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_the_best_fit),
        cmocka_unit_test(copies_go_their_own_way),
        cmocka_unit_test(arena_reuses_and_gives_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
