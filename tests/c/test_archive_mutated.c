/* Thousands of damaged archives of every kind: listing and reading end, give members or an error, and never take more
 * memory than the file's size allows. What libarchive makes of damage is its own; that it comes back is asked here. */
#include "archives.h"
#include "base/error.h"
#include "io/file.h"
#include "mutate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

enum { ROUNDS = 400 };

typedef struct sums {
    ld_archive *a;
    bool plain;
    uint64_t most; /* bytes that a member can have */
    int64_t members, read;
} sums;

static int read_member(void *arg, const ld_member *m) {
    sums *s = arg;
    if (s->plain)
        assert_true(m->size <= s->most);
    assert_true(m->name && m->name[0]);
    s->members++;
    uint8_t *bytes = malloc(m->size + 1);
    assert_non_null(bytes);
    int code = ld_archive_read(s->a, m, bytes);
    s->read += !code;
    assert_true(code == 0 || code == LD_EFORMAT);
    free(bytes);
    return 0;
}

/* Sums of headers of a tar made right again, so that damage is not found by them alone. */
static void mend_sums(uint8_t *p, size_t n) {
    for (size_t at = 0; at + 512 <= n; at += 512) {
        if (memcmp(p + at + 257, "ustar", 5) != 0)
            continue;
        memset(p + at + 148, ' ', 8);
        unsigned sum = 0;
        for (int i = 0; i < 512; i++)
            sum += p[at + (size_t)i];
        snprintf((char *)p + at + 148, 8, "%06o", sum);
    }
}

static void test_one(const uint8_t *bytes, size_t n, sums *all) {
    FILE *f = fopen(scratch, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    ld_archive_kind kind = ld_archive_kind_of(scratch);
    sums s = {.a = ld_archive_open(scratch), .plain = kind != LD_ARCHIVE_STREAM, .most = 1032 * n + 1031};
    assert_true((s.a != NULL) == (kind != LD_ARCHIVE_NONE));
    int code = ld_archive_list(scratch, read_member, &s);
    assert_true(code == 0 || code == LD_EFORMAT);
    ld_archive_close(s.a);
    all->members += s.members;
    all->read += s.read;
}

static long resident_kib(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_maxrss;
}

static void test_mutated(void **state) {
    (void)state;
    static const char *const files[] = {"gnu.tar",        "pax.tar",       "nested.tar",    "sparse_gnu.tar",
                                        "sparse_pax.tar", "packed.tar.gz", "packed.tar.xz", "packed.tar.bz2",
                                        "packed.tar.zst", "stored.zip",    "deflated.zip",  "zip64.zip",
                                        "streamed.zip",   "encrypted.zip", "nested.zip"};
    sums all = {0};
    for (int k = 0; k < (int)(sizeof files / sizeof *files); k++) {
        void *bytes;
        size_t n;
        assert_int_equal(ld_file_read(archive_fixture(files[k]), &bytes, &n, 0), 0);
        uint8_t *copy = malloc(2 * n);
        assert_non_null(copy);
        if (k == 0) { /* what libraries take at their first use is not counted */
            test_one(bytes, n, &all);
            all = (sums){.most = (uint64_t)resident_kib()};
        }
        for (uint64_t seed = 0; seed < ROUNDS; seed++) {
            memcpy(copy, bytes, n);
            size_t now = mutate(copy, n, seed + 1000 * (uint64_t)k);
            if (seed % 2)
                mend_sums(copy, now);
            test_one(copy, now, &all);
        }
        free(copy);
        free(bytes);
    }
    /* the damage leaves some members alone and not others, or this would test nothing */
    assert_in_range(all.members, 3 * ROUNDS, 60 * ROUNDS);
    assert_in_range(all.read, 3 * ROUNDS, all.members - 1);
    assert_in_range(resident_kib() - (long)all.most, 0, 600 << 10); /* the sanitizer keeps what was freed for a while */
}

/* A tar packed by gzip whose stream is whole, but what comes out of it is damaged. */
static void test_mutated_inside(void **state) {
    (void)state;
    void *bytes;
    size_t n;
    sums all = {0};
    assert_int_equal(ld_file_read(archive_fixture("pax.tar"), &bytes, &n, 0), 0);
    uint8_t *copy = malloc(2 * n), *packed = malloc(n + n / 8 + 64);
    assert_true(copy && packed);
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        memcpy(copy, bytes, n);
        size_t now = mutate(copy, n, seed + 77777), m = 0;
        mend_sums(copy, now);
        /* gzip of stored blocks: header, blocks with their lengths, and no sum, which comes last and is missed there */
        memcpy(packed, "\x1f\x8b\x08\0\0\0\0\0\0\xff", m = 10);
        for (size_t at = 0, step; at < now; at += step) {
            step = now - at < 4096 ? now - at : 4096;
            packed[m++] = at + step == now;
            packed[m++] = (uint8_t)step;
            packed[m++] = (uint8_t)(step >> 8);
            packed[m++] = (uint8_t)~step;
            packed[m++] = (uint8_t)(~step >> 8);
            memcpy(packed + m, copy + at, step);
            m += step;
        }
        memset(packed + m, 0, 8);
        test_one(packed, m + 8, &all);
    }
    assert_in_range(all.members, ROUNDS, 6 * ROUNDS);
    free(packed);
    free(copy);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mutated, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(test_mutated_inside, make_scratch, remove_scratch),
    };
    return cmocka_run_group_tests_name("archive mutated", tests, NULL, NULL);
}
