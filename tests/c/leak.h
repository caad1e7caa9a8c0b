/* LEAK_TEST(f): the cmocka test f, which also fails when it leaves a tensor behind. Include after cmocka.h. */
#ifndef LEAK_H
#define LEAK_H

#include "tensor/tensor.h"

static int64_t headers;

static int count_headers(void **s) {
    (void)s;
    headers = ld_tensor_count();
    return 0;
}

static int no_leak(void **s) {
    (void)s;
    return ld_tensor_count() != headers;
}

#define LEAK_TEST(f) cmocka_unit_test_setup_teardown(f, count_headers, no_leak)

#endif
