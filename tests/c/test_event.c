/* TensorBoard's event files: CRC-32C, the records to the byte, failures. */
#include "base/error.h"
#include "io/event.h"
#include "io/file.h"
#include "io/hash.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64];

static int make_name(void **state) {
    (void)state;
    strcpy(path, "/tmp/ld_event_XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0)
        return -1;
    close(fd);
    return unlink(path);
}

static int remove_file(void **state) {
    (void)state;
    unlink(path);
    return 0;
}

/* The check value of the catalogue of CRCs, and the examples of RFC 3720, appendix B.4. */
static void test_crc32c(void **state) {
    (void)state;
    uint8_t bytes[32];
    assert_int_equal(ld_crc32c("123456789", 9), 0xe3069283);
    assert_int_equal(ld_crc32c(NULL, 0), 0);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(ld_crc32c(bytes, sizeof bytes), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(ld_crc32c(bytes, sizeof bytes), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(ld_crc32c(bytes, sizeof bytes), 0x46dd794e);
}

static uint64_t little(const uint8_t *b, int width) {
    uint64_t v = 0;
    for (int i = 0; i < width; i++)
        v |= (uint64_t)b[i] << 8 * i;
    return v;
}

/* The next record's content; *at moves behind it. Sums are checked here. */
static const uint8_t *next_record(const uint8_t *file, size_t n, size_t *at, size_t *length) {
    assert_true(*at + 12 <= n);
    const uint8_t *r = file + *at;
    *length = (size_t)little(r, 8);
    assert_true(*at + *length + 16 <= n);
    for (int i = 0; i < 2; i++) {
        uint32_t c = i ? ld_crc32c(r + 12, *length) : ld_crc32c(r, 8);
        assert_int_equal(little(i ? r + 12 + *length : r + 8, 4), (uint32_t)((c >> 15 | c << 17) + 0xa282ead8u));
    }
    *at += *length + 16;
    return r + 12;
}

#define TIME "\x09\0\0\0\0\0\0\xf8\x3f" /* 1.5 */

static void expect(const uint8_t *file, size_t n, size_t *at, const void *want, size_t length) {
    size_t got;
    const uint8_t *r = next_record(file, n, at, &got);
    assert_int_equal(got, length);
    assert_memory_equal(r, want, length);
}

static void test_records(void **state) {
    (void)state;
    static const char first[] = TIME "\x10\0\x1a\x0d"
                                     "brain.Event:2",
                      session[] = TIME "\x10\xac\x02\x3a\x02\x08\x01", /* step 300, START */
        scalar[] = TIME "\x10\x05\x2a\x0a\x0a\x08\x0a\x01"
                        "a\x15\0\0\x20\x40", /* 2.5 */
        image[] = TIME "\x10\x06\x2a\x12\x0a\x10\x0a\x01"
                       "b\x22\x0b\x08\x02\x10\x03\x18\x01\x22\x03"
                       "png";
    ld_event_file *f = ld_event_create(path, 1.5, 300);
    assert_non_null(f);
    assert_int_equal(ld_event_scalar(f, 1.5, 5, "a", 2.5), 0);
    assert_int_equal(ld_event_image(f, 1.5, 6, "b", 3, 2, 1, "png", 3), 0);
    assert_int_equal(ld_event_flush(f), 0);
    assert_int_equal(ld_event_flush(f), 0); /* nothing twice */
    ld_event_close(f);
    void *file;
    size_t n, at = 0;
    assert_int_equal(ld_file_read(path, &file, &n, 0), 0);
    expect(file, n, &at, first, sizeof first - 1);
    expect(file, n, &at, session, sizeof session - 1);
    expect(file, n, &at, scalar, sizeof scalar - 1);
    expect(file, n, &at, image, sizeof image - 1);
    assert_int_equal(at, n);
    free(file);
}

static void test_refused(void **state) {
    (void)state;
    ld_event_file *f = ld_event_create(path, 0, 0);
    assert_non_null(f);
    assert_null(ld_event_create(path, 0, 0)); /* there already */
    assert_int_equal(ld_error_code(), LD_EIO);
    ld_event_close(f);
    assert_null(ld_event_create("/absent/folder/x", 0, 0));
    assert_non_null(strstr(ld_error(), "/absent/folder/x"));
    ld_event_close(NULL);
}

/* A file that may not grow, as on a full disk. */
static void test_full(void **state) {
    (void)state;
    struct rlimit was, none;
    ld_event_file *f = ld_event_create(path, 0, 0);
    assert_non_null(f);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    none = was;
    none.rlim_cur = 10;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    int added = ld_event_scalar(f, 0, 0, "a", 1), flushed = ld_event_flush(f);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(added, 0);
    assert_int_equal(flushed, LD_EIO);
    assert_non_null(strstr(ld_error(), path));
    assert_int_equal(ld_event_flush(f), 0);
    ld_event_close(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c),
        cmocka_unit_test_setup_teardown(test_records, make_name, remove_file),
        cmocka_unit_test_setup_teardown(test_refused, make_name, remove_file),
        cmocka_unit_test_setup_teardown(test_full, make_name, remove_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
