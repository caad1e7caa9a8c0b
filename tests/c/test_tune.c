/* Timed choices: a fake computation whose ways sleep. Ways are 5 to 20 times apart and the best of four counts, so that
 * a busy machine does not turn them round. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "backend/device.h"
#include "backend/plan.h"
#include "backend/tune.h"
#include "base/error.h"

enum { WAYS = 3, RULE = 0, FAST = 1, MIDDLE = 2 };
static const char *const names[WAYS] = {"slow", "fast", "middle"};

/* What the ways do and what was done. */
static struct {
    int ms[WAYS], calls[WAYS];
    int result; /* the way that wrote it */
    int bad;    /* the way that fails, or -1 */
    bool fits[WAYS];
} fake;

static int run_fake(void *arg, int way) {
    assert_ptr_equal(arg, &fake);
    fake.calls[way]++;
    if (way == fake.bad)
        return ld_fail(LD_EMEM, "way %d is bad", way);
    nanosleep(&(struct timespec){.tv_nsec = fake.ms[way] * 1000000L}, NULL);
    fake.result = way;
    return 0;
}

static int compute(const char *key) {
    memset(fake.calls, 0, sizeof fake.calls);
    fake.result = -1;
    return ld_tune_run(&(ld_tune_case){key, WAYS, names, fake.fits, RULE, run_fake, &fake});
}

static void calls_are(int slow, int fast, int middle) {
    assert_int_equal(fake.calls[RULE], slow);
    assert_int_equal(fake.calls[FAST], fast);
    assert_int_equal(fake.calls[MIDDLE], middle);
}

static void speeds(int slow, int fast, int middle) {
    fake.ms[RULE] = slow;
    fake.ms[FAST] = fast;
    fake.ms[MIDDLE] = middle;
}

static int begin(void **state) {
    (void)state;
    speeds(20, 1, 5);
    fake.bad = -1;
    for (int i = 0; i < WAYS; i++)
        fake.fits[i] = true;
    ld_tune_clear();
    ld_tune_saved();
    ld_tune_set(true);
    ld_error_clear();
    return 0;
}

/* ---- choosing ---------------------------------------------------------------------------------------------------- */

static int loads;
static void load(void) {
    loads++;
}

/* The first test: only before any choice and any ld_tune_clear. */
static void test_first(void **state) {
    (void)state;
    fake = (typeof(fake)){.ms = {1, 1, 1}, .bad = -1, .fits = {true, true, true}};
    assert_false(ld_tune_is_on());
    ld_tune_on_first(load);
    assert_int_equal(compute("first"), 0);
    assert_int_equal(loads, 0); /* off: nothing is looked for */
    calls_are(1, 0, 0);
    assert_false(ld_tune_set(true));
    assert_int_equal(compute("first"), 0);
    assert_int_equal(compute("second"), 0);
    assert_int_equal(loads, 1);
}

static void test_off(void **state) {
    (void)state;
    assert_true(ld_tune_set(false));
    assert_false(ld_tune_is_on());
    assert_int_equal(compute("a"), 0);
    assert_int_equal(fake.result, RULE);
    calls_are(1, 0, 0);
    assert_int_equal(ld_tune_count(), 0);
    assert_int_equal(ld_tune_unsaved(), 0);
}

static void test_fastest(void **state) {
    (void)state;
    assert_int_equal(compute("a"), 0);
    assert_int_equal(fake.result, FAST);
    assert_int_equal(fake.calls[RULE], 4);
    assert_true(fake.calls[FAST] >= 4 && fake.calls[FAST] <= 8);
    assert_int_equal(ld_tune_count(), 1);
    assert_int_equal(ld_tune_unsaved(), 1);
    speeds(1, 20, 5); /* what was chosen stays, and is not timed again */
    assert_int_equal(compute("a"), 0);
    assert_int_equal(fake.result, FAST);
    calls_are(0, 1, 0);
    assert_int_equal(ld_tune_count(), 1);
    assert_int_equal(ld_tune_unsaved(), 1);
    assert_int_equal(compute("b"), 0); /* another key is another choice */
    assert_int_equal(fake.result, RULE);
    assert_int_equal(ld_tune_count(), 2);
    assert_int_equal(ld_tune_unsaved(), 2);
    ld_tune_saved();
    assert_int_equal(ld_tune_unsaved(), 0);
    ld_tune_set(false); /* off: the rule, whatever is known; on again: what was known */
    assert_int_equal(compute("a"), 0);
    calls_are(1, 0, 0);
    ld_tune_set(true);
    assert_int_equal(compute("a"), 0);
    calls_are(0, 1, 0);
}

static void test_fitting(void **state) {
    (void)state;
    fake.fits[FAST] = false;
    assert_int_equal(compute("a"), 0);
    assert_int_equal(fake.result, MIDDLE);
    assert_int_equal(fake.calls[FAST], 0);
    fake.fits[MIDDLE] = false; /* one alone is not timed */
    assert_int_equal(compute("b"), 0);
    calls_are(1, 0, 0);
    assert_int_equal(ld_tune_count(), 1);
    fake.fits[FAST] = true; /* what is known does not fit any more: chosen anew, and kept */
    assert_int_equal(compute("a"), 0);
    assert_int_equal(fake.result, FAST);
    assert_int_equal(compute("a"), 0);
    calls_are(0, 1, 0);
    assert_int_equal(ld_tune_count(), 1);
}

static void test_error(void **state) {
    (void)state;
    fake.bad = MIDDLE;
    assert_int_equal(compute("a"), LD_EMEM);
    assert_string_equal(ld_error(), "way 2 is bad");
    assert_int_equal(ld_tune_count(), 0);
    fake.bad = -1;
    assert_int_equal(compute("a"), 0);
    assert_int_equal(fake.result, FAST);
    fake.bad = FAST;
    assert_int_equal(compute("a"), LD_EMEM);
    ld_tune_set(false);
    fake.bad = RULE;
    assert_int_equal(compute("a"), LD_EMEM);
}

static void test_planning(void **state) {
    (void)state;
    assert_int_equal(ld_plan_begin(ld_device_find("cpu")), 0);
    int bad = compute("a");
    ld_plan_end(NULL);
    assert_int_equal(bad, 0);
    calls_are(1, 0, 0);
    assert_int_equal(ld_tune_count(), 0);
}

static void test_clear(void **state) {
    (void)state;
    assert_int_equal(compute("a"), 0);
    ld_tune_saved();
    assert_false(ld_tune_cleared());
    ld_tune_clear();
    assert_true(ld_tune_cleared());
    assert_int_equal(ld_tune_count(), 0);
    assert_true(ld_tune_unsaved() > 0); /* the file should forget too */
    assert_int_equal(compute("a"), 0);
    assert_true(fake.calls[RULE] >= 2);
}

/* Twice as many as the first room, found again in another order. */
static void test_many(void **state) {
    (void)state;
    char key[32];
    speeds(0, 0, 0);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 150; i++) {
            snprintf(key, sizeof key, "key%d", round ? (i * 7) % 150 : i);
            assert_int_equal(compute(key), 0);
            assert_true(!round || fake.calls[0] + fake.calls[1] + fake.calls[2] == 1);
        }
    assert_int_equal(ld_tune_count(), 150);
}

/* ---- as text ----------------------------------------------------------------------------------------------------- */

static char *text_of(void) {
    char *text = ld_tune_text();
    assert_non_null(text);
    return text;
}

static void test_text(void **state) {
    (void)state;
    assert_int_equal(compute("a,1x2"), 0);
    char *text = text_of(), *line = strchr(text, '\n') + 1;
    assert_memory_equal(line, "a,1x2 fast slow ", 16);
    assert_non_null(strstr(line, " fast "));
    assert_non_null(strstr(line, " middle "));
    assert_int_equal(line[strlen(line) - 1], '\n');
    ld_tune_clear();
    ld_tune_saved();
    assert_true(ld_tune_read(text));
    assert_true(ld_tune_read(text)); /* known already */
    assert_int_equal(ld_tune_count(), 1);
    assert_int_equal(ld_tune_unsaved(), 0);
    speeds(1, 20, 5);
    assert_int_equal(compute("a,1x2"), 0);
    calls_are(0, 1, 0);
    char *again = text_of();
    assert_string_equal(again, text);
    free(again);
    free(text);
}

static void test_other_machine(void **state) {
    (void)state;
    assert_int_equal(compute("a"), 0);
    char *text = text_of();
    ld_tune_clear();
    text[0] ^= 1;
    assert_false(ld_tune_read(text));
    text[0] ^= 1;
    char *end = strchr(text, '\n');
    end[-1] ^= 1; /* of the libraries */
    assert_false(ld_tune_read(text));
    end[-1] ^= 1;
    *end = 0; /* cut off */
    assert_false(ld_tune_read(text));
    assert_false(ld_tune_read(""));
    assert_int_equal(ld_tune_count(), 0);
    *end = '\n';
    assert_true(ld_tune_read(text));
    assert_int_equal(ld_tune_count(), 1);
    free(text);
}

static void test_damaged(void **state) {
    (void)state;
    char *first = text_of(), text[4096], longer[LD_TUNE_KEY + 1];
    memset(longer, 'k', sizeof longer);
    longer[LD_TUNE_KEY] = 0;
    int n = snprintf(text, sizeof text, "%s\n\n   \nalone\nkey way\n fast fast 1\n", first);
    n += snprintf(text + n, sizeof text - (size_t)n, "%s fast fast 1\nkey awaythatnobodyknows 1\n", longer);
    n += snprintf(text + n, sizeof text - (size_t)n, "long fast %0*d\n", 1000, 1);
    assert_true(ld_tune_read(text));
    assert_int_equal(ld_tune_count(), 0);
    snprintf(text + n, sizeof text - (size_t)n, "good middle slow 9\nunknown teleport x 1\nhalf fast slow 1.");
    assert_true(ld_tune_read(text));
    assert_int_equal(ld_tune_count(), 3);
    assert_int_equal(compute("good"), 0);
    calls_are(0, 0, 1);
    assert_int_equal(compute("half"), 0);
    calls_are(0, 1, 0);
    for (int i = 0; i < 2; i++) { /* a way that there is not: chosen anew, once */
        assert_int_equal(compute("unknown"), 0);
        assert_int_equal(fake.result, FAST);
    }
    calls_are(0, 1, 0);
    free(first);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first),
        cmocka_unit_test_setup(test_off, begin),
        cmocka_unit_test_setup(test_fastest, begin),
        cmocka_unit_test_setup(test_fitting, begin),
        cmocka_unit_test_setup(test_error, begin),
        cmocka_unit_test_setup(test_planning, begin),
        cmocka_unit_test_setup(test_clear, begin),
        cmocka_unit_test_setup(test_many, begin),
        cmocka_unit_test_setup(test_text, begin),
        cmocka_unit_test_setup(test_other_machine, begin),
        cmocka_unit_test_setup(test_damaged, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
