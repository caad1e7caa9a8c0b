/* Profiling: what was called is counted, each slot apart and by pass; the device's table is as before afterwards. */
#include "backend/plan.h"
#include "backend/profile.h"
#include "base/error.h"
#include "op/op.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static ld_profile_entry find(const char *slot, bool backward) {
    ld_profile_entry e, none = {0};
    for (int i = 0; ld_profile_at(i, &e); i++)
        if (!strcmp(e.slot, slot) && e.backward == backward)
            return e;
    return none;
}

static void counts_by_pass(void **state) {
    ld_device *d = ld_device_find("cpu");
    const ld_backend *before = d->backend;
    ld_tensor *w = ld_tensor_full(d, LD_F32, 2, (int64_t[]){3, 3}, 1, "test");
    (void)state;
    w->requires_grad = true;
    assert_int_equal(ld_profile_begin(d), 0);
    assert_ptr_not_equal(d->backend, before);
    ld_tensor *y = ld_matmul(w, w), *sum = ld_reduce("sum", LD_SUM, y, NULL, 0, false);
    assert_int_equal(ld_backward(sum, NULL, false), 0);
    ld_profile_end();
    assert_ptr_equal(d->backend, before);
    assert_int_equal(find("matmul", false).calls, 1);
    assert_int_equal(find("matmul", true).calls, 2);
    assert_int_equal(find("reduce", false).calls, 1);
    assert_int_equal(find("conv2d", false).calls, 0);
    assert_true(find("matmul", false).seconds > 0);
    ld_tensor *z = ld_matmul(w, w); /* no longer counted */
    assert_int_equal(find("matmul", false).calls, 1);
    assert_int_equal(ld_profile_begin(d), 0);
    assert_int_equal(find("matmul", false).calls, 0);
    ld_profile_end();
    ld_tensor_drop(w), ld_tensor_drop(y), ld_tensor_drop(sum), ld_tensor_drop(z);
}

static void one_at_a_time(void **state) {
    ld_device *d = ld_device_find("cpu");
    const ld_backend *before = d->backend;
    (void)state;
    assert_int_equal(ld_profile_begin(d), 0);
    assert_int_equal(ld_profile_begin(d), LD_ESTATE);
    assert_int_equal(ld_plan_begin(d), 0); /* a plan may run inside */
    ld_plan_end(NULL);
    ld_profile_end();
    ld_profile_end(); /* does nothing */
    assert_ptr_equal(d->backend, before);
    assert_int_equal(ld_plan_begin(d), 0);
    assert_int_equal(ld_profile_begin(d), LD_ESTATE);
    ld_plan_end(NULL);
    assert_ptr_equal(d->backend, before);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts_by_pass), cmocka_unit_test(one_at_a_time)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
