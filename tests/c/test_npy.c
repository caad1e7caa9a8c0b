/* NumPy's .npy files: headers of every version, all dtypes, rows, and everything that is refused. */
#include "base/error.h"
#include "io/file.h"
#include "io/npy.h"
#include "mutate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char scratch[64];

static int make_scratch(void **state) {
    (void)state;
    strcpy(scratch, "/tmp/ld_npy_XXXXXX");
    int fd = mkstemp(scratch);
    return fd < 0 ? -1 : close(fd);
}

static int remove_scratch(void **state) {
    (void)state;
    return unlink(scratch);
}

static void put(const void *bytes, size_t n) {
    FILE *f = fopen(scratch, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* A file of that version and header, and n bytes of elements. Returns where these begin. */
static size_t put_npy(int version, const char *header, const void *bytes, size_t n) {
    static uint8_t all[1 << 16];
    size_t length = strlen(header), start = version == 1 ? 10 : 12;
    memcpy(all, "\x93NUMPY", 6);
    all[6] = (uint8_t)version;
    all[7] = 0;
    for (size_t i = 8; i < start; i++)
        all[i] = (uint8_t)(length >> 8 * (i - 8));
    memcpy(all + start, header, length);
    if (n)
        memcpy(all + start + length, bytes, n);
    put(all, start + length + n);
    return start + length;
}

static void assert_refused(const char *header, size_t n, const char *part) {
    static const uint8_t zeros[4096];
    put_npy(1, header, zeros, n);
    assert_null(ld_npy_open(scratch));
    assert_int_equal(ld_error_code(), LD_EFORMAT);
    if (!strstr(ld_error(), part))
        fail_msg("%s: the message '%s' does not say '%s'", header, ld_error(), part);
}

/* As np.save writes it: 24 elements of every dtype, values 0 .. 23. */
static void test_dtypes(void **state) {
    (void)state;
    static const char *const names[] = {"<f4", "<f8", "|u1", "<i4", "<i8"};
    static const ld_dtype dtypes[] = {LD_F32, LD_F64, LD_U8, LD_I32, LD_I64};
    for (int k = 0; k < 5; k++) {
        uint8_t bytes[24 * 8];
        for (int i = 0; i < 24; i++) {
            float f = (float)i;
            double d = i;
            int32_t i4 = i;
            int64_t i8 = i;
            const void *one = k == 0 ? (void *)&f : k == 1 ? (void *)&d : k == 4 ? (void *)&i8 : (void *)&i4;
            memcpy(bytes + (size_t)i * ld_dtype_size(dtypes[k]), one, ld_dtype_size(dtypes[k]));
        }
        char header[100];
        snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (3, 2, 2, 2), }  \n",
                 names[k]);
        for (int version = 1; version <= 3; version++) {
            size_t start = put_npy(version, header, bytes, 24 * ld_dtype_size(dtypes[k]));
            ld_npy *npy = ld_npy_open(scratch);
            if (!npy)
                fail_msg("%s", ld_error());
            assert_int_equal(npy->dtype, dtypes[k]);
            assert_int_equal(npy->ndim, 4);
            assert_int_equal(npy->shape[0], 3);
            assert_int_equal(npy->offset, start);
            assert_int_equal(npy->row, 8 * ld_dtype_size(dtypes[k]));
            /* as a tensor it lies channels last, element (n, c, h, w) is what it was */
            ld_tensor *x = ld_npy_rows(npy, 1, 2);
            assert_non_null(x);
            assert_true(ld_tensor_is_canonical(x));
            assert_int_equal(x->shape[0], 2);
            for (int i = 0; i < 16; i++) {
                int64_t at =
                    i / 8 * x->stride[0] + i / 4 % 2 * x->stride[1] + i / 2 % 2 * x->stride[2] + i % 2 * x->stride[3];
                ld_tensor *one = ld_tensor_view(x, 0, x->shape, x->stride, at);
                assert_true(ld_tensor_item(one) == 8 + i);
                ld_tensor_drop(one);
            }
            ld_tensor_drop(x);
            ld_npy_close(npy);
        }
    }
}

static void test_rows(void **state) {
    (void)state;
    static const uint16_t halves[6] = {0, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500}; /* 0 to 5 */
    put_npy(1, "{\"shape\":(3L,2),'fortran_order':False,'descr':'<f2'}", halves, sizeof halves);
    ld_npy *npy = ld_npy_open(scratch);
    assert_non_null(npy);
    uint16_t got[6];
    for (int64_t first = 0; first <= 3; first++)
        for (int64_t n = 0; n <= 3 - first; n++) {
            assert_int_equal(ld_npy_read_rows(npy, first, n, got), 0);
            assert_memory_equal(got, halves + 2 * first, (size_t)n * 4);
            ld_tensor *x = ld_npy_rows(npy, first, n);
            assert_int_equal(x->dtype, LD_F16);
            assert_int_equal(ld_tensor_numel(x), 2 * n);
            ld_tensor_drop(x);
        }
    static const int64_t bad[][2] = {{-1, 1}, {0, 4}, {4, 0}, {3, 1}, {1, INT64_MAX}, {0, -1}};
    for (int k = 0; k < 6; k++) {
        assert_int_equal(ld_npy_read_rows(npy, bad[k][0], bad[k][1], got), LD_EINDEX);
        assert_null(ld_npy_rows(npy, bad[k][0], bad[k][1]));
        assert_int_equal(ld_error_code(), LD_EINDEX);
    }
    assert_int_equal(truncate(scratch, (off_t)npy->offset + 10), 0);
    assert_int_equal(ld_npy_read_rows(npy, 1, 1, got), 0);
    assert_int_equal(ld_npy_read_rows(npy, 2, 1, got), LD_EFORMAT);
    assert_non_null(strstr(ld_error(), "ends at byte"));
    ld_npy_close(npy);
    ld_npy_close(NULL);
}

/* A number without dimensions, and arrays without elements. */
static void test_small(void **state) {
    (void)state;
    static const double value = 2.5;
    put_npy(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (), }\n", &value, 8);
    ld_npy *npy = ld_npy_open(scratch);
    assert_non_null(npy);
    assert_int_equal(npy->ndim, 0);
    ld_tensor *x = ld_npy_rows(npy, 0, 1);
    assert_true(ld_tensor_item(x) == 2.5);
    ld_tensor_drop(x);
    ld_npy_close(npy);
    put_npy(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4), }\n", NULL, 0);
    npy = ld_npy_open(scratch);
    assert_non_null(npy);
    x = ld_npy_rows(npy, 0, 0);
    assert_int_equal(ld_tensor_numel(x), 0);
    ld_tensor_drop(x);
    ld_npy_close(npy);
}

#define ORDER "'fortran_order': False, "
#define F4    "'descr': '<f4', "
#define SHAPE "'shape': (2, 3), "

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *header, *why;
    } cases[] = {
        {"{" F4 ORDER "'shape': (1025,)}", "(1025) f32 takes 4100 bytes; behind the header are 4096 (cut short?)"},
        {"{" F4 "'fortran_order': True, " SHAPE "}", "Fortran's order"},
        {"{" F4 "'fortran_order': Maybe, " SHAPE "}", "neither True nor False"},
        {"{'descr': '>f4', " ORDER SHAPE "}", "dtype that is not"},
        {"{'descr': '|O', " ORDER SHAPE "}", "dtype that is not"},
        {"{'descr': [('a', '<f4')], " ORDER SHAPE "}", "dtype with fields"},
        {"{'descr': '<f4, " ORDER SHAPE "}", "dtype"},
        {"{" F4 ORDER "'shape': (2), }", "no tuple"},
        {"{" F4 ORDER "'shape': (2 3), }", "no tuple"},
        {"{" F4 ORDER "'shape': (-2, 3), }", "no tuple"},
        {"{" F4 ORDER "'shape': 6, }", "no tuple"},
        {"{" F4 ORDER "'shape': (2, 3", "no tuple"},
        {"{" F4 ORDER "'shape': (99999999999999999999999, 3), }", "2^48"},
        {"{" F4 ORDER "'shape': (16777216, 16777217), }", "2^48"},
        {"{" F4 ORDER "'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1), }", "more than 8 dimensions"},
        {"{" F4 ORDER "}", "without descr, fortran_order or shape"},
        {"{}", "without descr, fortran_order or shape"},
        {"{" F4 F4 ORDER SHAPE "}", "other entries"},
        {"{" F4 ORDER SHAPE "'more': 1}", "other entries"},
        {"{" F4 ORDER "'shape': (2, 3)} + 1", "more than a dictionary"},
        {"{" F4 ORDER "'shape': (2, 3)", "no dictionary"},
        {"{'descr': '<f4' " ORDER SHAPE "}", "no dictionary"},
        {"", "no dictionary"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        assert_refused(cases[k].header, 4096, cases[k].why);
    put_npy(4, "{" F4 ORDER SHAPE "}", "", 0);
    assert_null(ld_npy_open(scratch));
    assert_non_null(strstr(ld_error(), "version 4.0"));
    put("\x93NUMPY\1\0\xff\xff{}", 12);
    assert_null(ld_npy_open(scratch));
    assert_non_null(strstr(ld_error(), "a header of 65535 bytes"));
    put("\x93NUMPY\2\0\xff\xff", 10);
    assert_null(ld_npy_open(scratch));
    assert_non_null(strstr(ld_error(), "ends in its header"));
    put("", 0);
    assert_null(ld_npy_open(scratch));
    assert_non_null(strstr(ld_error(), "no .npy file"));
    assert_null(ld_npy_open("/nowhere.npy"));
    assert_int_equal(ld_error_code(), LD_EIO);
    assert_null(ld_npy_open("tests"));
    assert_int_equal(ld_error_code(), LD_EIO);
}

/* Damaged files open or do not; what opens lies inside the file. */
static void test_mutated(void **state) {
    (void)state;
    float values[24] = {0};
    size_t n =
        put_npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 2, 2), }", values, sizeof values) + 96;
    void *bytes;
    int opened = 0;
    assert_int_equal(ld_file_read(scratch, &bytes, &n, 0), 0);
    for (uint64_t seed = 0; seed < 3000; seed++) {
        uint8_t copy[1024];
        memcpy(copy, bytes, n);
        size_t now = mutate(copy, n, seed);
        put(copy, now);
        ld_npy *npy = ld_npy_open(scratch);
        if (!npy) {
            assert_int_equal(ld_error_code(), LD_EFORMAT);
            continue;
        }
        int64_t rows = npy->ndim ? npy->shape[0] : 1;
        assert_true(npy->offset + (uint64_t)rows * npy->row <= now);
        opened++;
        ld_tensor *x = ld_npy_rows(npy, 0, rows);
        assert_true(x || rows == 0);
        ld_tensor_drop(x);
        ld_npy_close(npy);
    }
    assert_in_range(opened, 100, 2900);
    free(bytes);
}

#define WITH_SCRATCH(f) cmocka_unit_test_setup_teardown(f, make_scratch, remove_scratch)

/* Numbers without a header; what is no regular file is refused, not waited for. */
static void test_raw(void **state) {
    (void)state;
    static const float x[6] = {1, 2, 3, 4, 5, 6};
    static const int64_t shape[2] = {3, 2}, more[2] = {4, 2}, none[2] = {0, 2};
    float row[2];
    put(x, sizeof x);
    ld_npy *npy = ld_npy_open_raw(scratch, LD_F32, 2, shape);
    assert_non_null(npy);
    assert_int_equal(ld_npy_read_rows(npy, 2, 1, row), 0);
    assert_memory_equal(row, x + 4, sizeof row);
    assert_int_equal(ld_npy_read_rows(npy, 2, 2, row), LD_EINDEX);
    ld_npy_close(npy);
    assert_null(ld_npy_open_raw(scratch, LD_F32, 2, more));
    assert_int_equal(ld_error_code(), LD_EFORMAT);
    assert_non_null(strstr(ld_error(), "takes 32 bytes; the file has 24"));
    assert_null(ld_npy_open_raw(scratch, LD_F32, 2, none));
    assert_int_equal(ld_error_code(), LD_EVALUE);
    assert_int_equal(unlink(scratch), 0);
    assert_int_equal(mkfifo(scratch, 0600), 0);
    assert_null(ld_npy_open_raw(scratch, LD_F32, 2, shape));
    assert_int_equal(ld_error_code(), LD_EIO);
    assert_non_null(strstr(ld_error(), "not a regular file"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_SCRATCH(test_dtypes),  WITH_SCRATCH(test_rows),    WITH_SCRATCH(test_small),
        WITH_SCRATCH(test_refused), WITH_SCRATCH(test_mutated), WITH_SCRATCH(test_raw),
    };
    return cmocka_run_group_tests_name("npy", tests, NULL, NULL);
}
