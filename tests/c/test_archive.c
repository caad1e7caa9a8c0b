/* Archives: what every kind lists and reads, what is left out, archives that end early, streams read in one pass, threads.
 * The fixtures are made by tests/tools/make_archive_fixtures.py; a member's bytes are its name and a line feed, repeated. */
#define _GNU_SOURCE /* memmem */
#include "archives.h"
#include "base/error.h"
#include "io/archive.h"
#include "io/file.h"

#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

static void put_scratch(const void *bytes, size_t n) {
    FILE *f = fopen(scratch, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void assert_failed(int got, int code, const char *part) {
    assert_int_equal(got, code);
    assert_int_equal(ld_error_code(), code);
    if (!strstr(ld_error(), part))
        fail_msg("the message '%s' does not say '%s'", ld_error(), part);
}

/* ---- what is in the fixtures ---- */

static void assert_bytes(const found *f, const uint8_t *bytes) {
    const char *slash = strrchr(f->name, '/'), *own = slash ? slash + 1 : f->name;
    size_t n = strlen(own);
    assert_int_equal(f->size % (n + 1), 0);
    for (size_t i = 0; i < f->size; i++)
        assert_int_equal(bytes[i], i % (n + 1) == n ? '\n' : (uint8_t)own[i % (n + 1)]);
}

static void assert_members_read(const char *path, const listed *l) {
    ld_archive *a = ld_archive_open(path);
    if (!a)
        fail_msg("%s", ld_error());
    for (int turn = 0; turn < 2; turn++) /* forwards, then backwards */
        for (int k = 0; k < l->n; k++) {
            const found *f = &l->at[turn ? l->n - 1 - k : k];
            uint8_t *bytes = malloc(f->size + 1);
            assert_non_null(bytes);
            if (ld_archive_read(a, &(ld_member){NULL, f->offset, f->size, f->packing}, bytes))
                fail_msg("%s: %s", f->name, ld_error());
            assert_bytes(f, bytes);
            free(bytes);
        }
    ld_archive_close(a);
}

#define LONG10 "longlonglonglonglonglonglonglonglonglong"
#define LONG   LONG10 LONG10 LONG10 LONG10
static const char *const in_tar[] = {"dir/a.txt", "abs/b.txt", "dir/" LONG "/name.txt", "dir/empty", "dir/grüße.txt",
                                     "last.txt",  NULL};
static const char *const in_nested[] = {"n0/n0_0.JPEG",
                                        "n0/n0_1.JPEG",
                                        "n0/n0_2.JPEG",
                                        "n1/n1_0.JPEG",
                                        "n1/n1_1.JPEG",
                                        "n1/n1_2.JPEG",
                                        "n2/n2_0.JPEG",
                                        "n2/n2_1.JPEG",
                                        "n2/n2_2.JPEG",
                                        "notes.txt",
                                        NULL};
static const char *const in_nested_zip[] = {"all/nested/n0/n0_0.JPEG",
                                            "all/nested/n0/n0_1.JPEG",
                                            "all/nested/n0/n0_2.JPEG",
                                            "all/nested/n1/n1_0.JPEG",
                                            "all/nested/n1/n1_1.JPEG",
                                            "all/nested/n1/n1_2.JPEG",
                                            "all/nested/n2/n2_0.JPEG",
                                            "all/nested/n2/n2_1.JPEG",
                                            "all/nested/n2/n2_2.JPEG",
                                            "all/nested/notes.txt",
                                            NULL};
static const char *const in_zip[] = {"dir/m0.txt", "dir/m1.txt", "dir/m2.txt", "grüße.txt", "empty", NULL};
static const char *const in_small[] = {"one.txt", "plain.txt", NULL};
static const char *const in_latin1[] = {"gr\xfc\xdf"
                                        "e.txt",
                                        NULL};

static const struct {
    const char *file;
    ld_archive_kind kind;
    const char *const *names;
    const uint64_t size[7]; /* of some members, in bytes */
} kinds[] = {
    {"gnu.tar", LD_ARCHIVE_TAR, in_tar, {6, 1200, 27, 0, 24, 45}},
    {"pax.tar", LD_ARCHIVE_TAR, in_tar, {6, 1200, 27, 0, 24, 45}},
    {"latin1.tar", LD_ARCHIVE_TAR, in_latin1, {0}},
    {"nested.tar", LD_ARCHIVE_TAR, in_nested, {10, 310, 610, 10, 310, 610}},
    {"packed.tar.gz", LD_ARCHIVE_STREAM, in_tar, {6, 1200, 27, 0, 24, 45}},
    {"packed.tar.xz", LD_ARCHIVE_STREAM, in_tar, {6, 1200, 27, 0, 24, 45}},
    {"packed.tar.bz2", LD_ARCHIVE_STREAM, in_tar, {6, 1200, 27, 0, 24, 45}},
    {"packed.tar.zst", LD_ARCHIVE_STREAM, in_tar, {6, 1200, 27, 0, 24, 45}},
    {"stored.zip", LD_ARCHIVE_ZIP, in_small, {80, 30}},
    {"deflated.zip", LD_ARCHIVE_ZIP, in_zip, {7, 700, 140000, 24, 0}},
    {"zip64.zip", LD_ARCHIVE_ZIP, in_zip, {7, 700, 140000, 24, 0}},
    {"streamed.zip", LD_ARCHIVE_ZIP, in_zip, {7, 700, 140000, 24, 0}},
    {"nested.zip", LD_ARCHIVE_ZIP, in_nested_zip, {10, 310, 610, 10, 310, 610}},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void test_kinds(void **state) {
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        const char *path = archive_fixture(kinds[k].file);
        assert_int_equal(ld_archive_kind_of(path), kinds[k].kind);
        listed l = {0};
        if (ld_archive_list(path, keep_member, &l))
            fail_msg("%s: %s", path, ld_error());
        for (int i = 0; i < l.n; i++) {
            assert_non_null(kinds[k].names[i]);
            assert_string_equal(l.at[i].name, kinds[k].names[i]);
            if (i < 5)
                assert_int_equal(l.at[i].size, kinds[k].size[i]);
        }
        assert_null(kinds[k].names[l.n]);
        assert_members_read(path, &l);
        listed_free(&l);
    }
}

/* Names must not depend on the user's locale: the tests run in "C", ldlua may run in any. */
static void test_locale(void **state) {
    (void)state;
    static const char *const locales[] = {"C", "C.UTF-8", "POSIX"};
    for (int i = 0; i < 3; i++) {
        if (!setlocale(LC_ALL, locales[i]))
            continue;
        listed l = {0};
        assert_int_equal(ld_archive_list(archive_fixture("pax.tar"), keep_member, &l), 0);
        assert_string_equal(l.at[4].name, "dir/grüße.txt");
        listed_free(&l);
    }
    setlocale(LC_ALL, "C");
}

static int stop_at_second(void *arg, const ld_member *m) {
    (void)m;
    return ++*(int *)arg == 2 ? 77 : 0;
}

static void test_stop(void **state) {
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        int calls = 0;
        bool one = kinds[k].names[1] == NULL;
        assert_int_equal(ld_archive_list(archive_fixture(kinds[k].file), stop_at_second, &calls), one ? 0 : 77);
        assert_int_equal(calls, one ? 1 : 2);
    }
}

/* Files that cannot be read at their place: the others are listed, then comes the reason. */
static void test_left_out(void **state) {
    (void)state;
    static const struct {
        const char *file, *name, *why;
    } cases[] = {
        {"lzma.zip", "plain.txt", "1 of its files cannot be read, the first: 'one.txt' is neither stored nor deflated"},
        {"encrypted.zip", "plain.txt", "1 of its files cannot be read, the first: 'one.txt' is encrypted"},
        {"sparse_gnu.tar", "dense", "1 of its files cannot be read, the first: 'holes' is a sparse file"},
        {"sparse_pax.tar", "dense", "1 of its files cannot be read, the first: 'holes' is a sparse file"},
    };
    for (int k = 0; k < 4; k++) {
        listed l = {0};
        const char *path = archive_fixture(cases[k].file);
        assert_failed(ld_archive_list(path, keep_member, &l), LD_EFORMAT, cases[k].why);
        assert_int_equal(l.n, 1);
        assert_string_equal(l.at[0].name, cases[k].name);
        assert_members_read(path, &l);
        listed_free(&l);
    }
}

static void test_no_archive(void **state) {
    (void)state;
    static const struct {
        const char *path;
        int code;
        const char *why;
    } cases[] = {
        {"/nowhere/at/all.tar", LD_EIO, "No such file"},
        {"tests", LD_EIO, "not a regular file"},
        {"README.md", LD_EFORMAT, "no tar, zip, or tar packed"},
        {"tests/fixtures/archives/text.gz", LD_EFORMAT, "no tar comes out of the packed file"},
        {"tests/fixtures/archives/twice.tar.gz.gz", LD_EFORMAT, "packed more than once"},
    };
    for (int k = 0; k < 5; k++) {
        listed l = {0};
        assert_failed(ld_archive_list(cases[k].path, keep_member, &l), cases[k].code, cases[k].why);
        assert_int_equal(l.n, 0);
        assert_null(ld_archive_open(cases[k].path));
        assert_failed(ld_error_code(), cases[k].code, cases[k].why);
        ld_fail(LD_ESHAPE, "as it was");
        assert_int_equal(ld_archive_kind_of(cases[k].path), LD_ARCHIVE_NONE);
        assert_failed(ld_error_code(), LD_ESHAPE, "as it was");
    }
    put_scratch("", 0);
    assert_int_equal(ld_archive_kind_of(scratch), LD_ARCHIVE_NONE);
}

/* ---- archives that end early ---- */

static int count_read(void *arg, const ld_member *m) {
    (void)m;
    ++*(int *)arg;
    return 0;
}

/* A tar or stored zip cut after every 512 bytes: the whole members are listed, then the error names where it ends. */
static void test_truncated_at(const char *file, size_t step) {
    listed all = {0};
    assert_int_equal(ld_archive_list(archive_fixture(file), keep_member, &all), 0);
    void *bytes;
    size_t n;
    assert_int_equal(ld_file_read(archive_fixture(file), &bytes, &n, 0), 0);
    bool zip = strstr(file, ".zip") != NULL;
    const found *last = &all.at[all.n - 1];
    for (size_t cut = 512; cut < n; cut += step) {
        put_scratch(bytes, cut);
        int whole = 0, got = 0;
        while (whole < all.n && all.at[whole].offset + all.at[whole].size <= cut)
            whole++;
        int code = ld_archive_list(scratch, count_read, &got);
        if (got != whole)
            fail_msg("%s cut at %zu: %d members of %d: %s", file, cut, got, whole, ld_error());
        /* behind the last member's last block, a tar is whole when one block of zeros is there */
        bool end = !zip && cut >= (last->offset + last->size + 511) / 512 * 512 + 512;
        if (end) {
            assert_int_equal(code, 0);
        } else {
            char part[80];
            snprintf(part, sizeof part, "ends early at byte %zu, after %d members", cut, whole);
            assert_failed(code, LD_EFORMAT, part);
        }
    }
    free(bytes);
    listed_free(&all);
}

static void test_truncated(void **state) {
    (void)state;
    test_truncated_at("gnu.tar", 512);
    test_truncated_at("pax.tar", 512);
    test_truncated_at("nested.tar", 512);
    test_truncated_at("gnu.tar", 100);
    test_truncated_at("nested.tar", 1000);
}

/* A deflated zip that was cut gives the members that are whole, in their order, and says that it ends early. */
static void test_truncated_zip(void **state) {
    (void)state;
    static const char *const files[] = {"deflated.zip", "zip64.zip", "streamed.zip", "stored.zip"};
    for (int k = 0; k < 4; k++) {
        void *bytes;
        size_t n;
        listed all = {0};
        assert_int_equal(ld_file_read(archive_fixture(files[k]), &bytes, &n, 0), 0);
        assert_int_equal(ld_archive_list(archive_fixture(files[k]), keep_member, &all), 0);
        int before = 0;
        for (size_t cut = 30; cut < n; cut++) {
            put_scratch(bytes, cut);
            listed l = {0};
            assert_failed(ld_archive_list(scratch, keep_member, &l), LD_EFORMAT, "ends early at byte");
            assert_true(l.n >= before && l.n <= all.n);
            for (int i = 0; i < l.n; i++) {
                assert_string_equal(l.at[i].name, all.at[i].name);
                assert_int_equal(l.at[i].offset, all.at[i].offset);
                assert_int_equal(l.at[i].size, all.at[i].size);
            }
            if (l.n > before)
                assert_members_read(scratch, &l);
            before = l.n;
            listed_free(&l);
        }
        assert_int_equal(before, all.n);
        free(bytes);
        listed_free(&all);
    }
}

/* Damage in the middle is told apart from an end that comes early, in files that fit one buffer and others. */
static void test_damaged(void **state) {
    (void)state;
    uint8_t *bytes;
    size_t n;
    listed l = {0};
    assert_int_equal(ld_file_read(archive_fixture("gnu.tar"), (void **)&bytes, &n, 0), 0);
    bytes[1536 + 150] ^= 1; /* in the sum of the second file's header */
    put_scratch(bytes, n);
    assert_failed(ld_archive_list(scratch, keep_member, &l), LD_EFORMAT, "damaged at byte 1536, after 1 members: ");
    assert_int_equal(l.n, 1);
    put_scratch(bytes, 2560);
    assert_failed(ld_archive_list(scratch, keep_member, &l), LD_EFORMAT, "damaged at byte 1536, after 1 members: ");
    free(bytes);
    listed_free(&l);
}

/* A member's bytes are asked for after the file became shorter, or where there never were any. */
static void test_shrunk(void **state) {
    (void)state;
    void *bytes;
    size_t n;
    uint8_t to[16];
    assert_int_equal(ld_file_read(archive_fixture("gnu.tar"), &bytes, &n, 0), 0);
    put_scratch(bytes, n);
    ld_archive *a = ld_archive_open(scratch);
    assert_non_null(a);
    assert_failed(ld_archive_read(a, &(ld_member){NULL, n - 10, 11, LD_PACK_STORED}, to), LD_EFORMAT,
                  "has 10240 bytes");
    assert_failed(ld_archive_read(a, &(ld_member){NULL, UINT64_MAX, 2, LD_PACK_STORED}, to), LD_EFORMAT, "has 10240");
    assert_failed(ld_archive_read(a, &(ld_member){NULL, 1024, UINT64_MAX, LD_PACK_DEFLATE}, to), LD_EFORMAT,
                  "has 10240");
    assert_failed(ld_archive_read(a, &(ld_member){NULL, 1024, 6, LD_PACK_DEFLATE}, to), LD_EFORMAT, "does not unpack");
    assert_int_equal(ld_archive_read(a, &(ld_member){NULL, 1024, 6, LD_PACK_STORED}, to), 0);
    assert_int_equal(truncate(scratch, 1026), 0);
    assert_failed(ld_archive_read(a, &(ld_member){NULL, 1024, 6, LD_PACK_STORED}, to), LD_EFORMAT,
                  "ends at byte 1026; it had 10240 bytes when it was opened");
    ld_archive_close(a);
    free(bytes);
}

/* A deflated member whose size in the list is not that of its bytes. */
static void test_other_size(void **state) {
    (void)state;
    listed l = {0};
    const char *path = archive_fixture("deflated.zip");
    assert_int_equal(ld_archive_list(path, keep_member, &l), 0);
    ld_archive *a = ld_archive_open(path);
    uint8_t *to = malloc(140001);
    for (int i = 0; i < l.n; i++) {
        ld_member m = {NULL, l.at[i].offset, l.at[i].size, LD_PACK_DEFLATE};
        assert_int_equal(ld_archive_read(a, &m, to), 0);
        m.size++;
        assert_failed(ld_archive_read(a, &m, to), LD_EFORMAT, "does not unpack to its");
        m.size -= 2;
        if (l.at[i].size)
            assert_failed(ld_archive_read(a, &m, to), LD_EFORMAT, "does not unpack to its");
    }
    free(to);
    ld_archive_close(a);
    listed_free(&l);
}

/* The file ends inside a deflated member, up to its very last byte. */
static void test_cut_member(void **state) {
    (void)state;
    listed l = {0};
    void *bytes;
    size_t n;
    uint8_t to[700];
    assert_int_equal(ld_file_read(archive_fixture("deflated.zip"), &bytes, &n, 0), 0);
    assert_int_equal(ld_archive_list(archive_fixture("deflated.zip"), keep_member, &l), 0);
    const uint8_t *start = (uint8_t *)bytes + l.at[1].offset, *next = memmem(start, 400, "PK\3\4", 4);
    assert_non_null(next);
    for (const uint8_t *end = start + 1; end <= next; end++) {
        put_scratch(bytes, (size_t)(end - (uint8_t *)bytes));
        ld_archive *a = ld_archive_open(scratch);
        assert_non_null(a);
        int code = ld_archive_read(a, &(ld_member){NULL, l.at[1].offset, l.at[1].size, LD_PACK_DEFLATE}, to);
        if (end < next)
            assert_failed(code, LD_EFORMAT, "");
        else
            assert_int_equal(code, 0);
        ld_archive_close(a);
    }
    free(bytes);
    listed_free(&l);
}

/* ---- many members ---- */

enum { MANY = 1000, MEMBER = 5000 };

static void fill_member(uint8_t *to, int i) {
    uint32_t x = (uint32_t)i * 2654435761u + 1;
    for (int k = 0; k < MEMBER; k++) {
        x = x * 1664525u + 1013904223u;
        to[k] = (uint8_t)(x >> 24);
    }
}

/* A tar of MANY members, packed by gzip unless `mode` says "T" (not at all). */
static void write_many(const char *mode) {
    gzFile f = gzopen(scratch, mode);
    assert_non_null(f);
    static uint8_t bytes[MEMBER + 512];
    char name[32];
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "m%04d.bin", i);
        uint8_t head[512];
        tar_header(head, name, MEMBER);
        assert_int_equal(gzwrite(f, head, 512), 512);
        fill_member(bytes, i);
        unsigned padded = (MEMBER + 511) / 512 * 512;
        memset(bytes + MEMBER, 0, sizeof bytes - MEMBER);
        assert_int_equal(gzwrite(f, bytes, padded), padded);
    }
    memset(bytes, 0, 1024);
    assert_int_equal(gzwrite(f, bytes, 1024), 1024);
    assert_int_equal(gzclose(f), Z_OK);
}

static void assert_member(ld_archive *a, const listed *l, int i) {
    uint8_t want[MEMBER], got[MEMBER];
    fill_member(want, i);
    if (ld_archive_read(a, &(ld_member){NULL, l->at[i].offset, l->at[i].size, LD_PACK_STORED}, got))
        fail_msg("member %d: %s", i, ld_error());
    assert_memory_equal(got, want, MEMBER);
}

/* Bytes that this process has read by system calls so far; -1 where the system does not tell. */
static long long bytes_read(void) {
    FILE *f = fopen("/proc/self/io", "r");
    long long n = -1;
    if (f && fscanf(f, "rchar: %lld", &n) != 1)
        n = -1;
    if (f)
        fclose(f);
    return n;
}

/* A packed tar that was cut: what had come out by then is listed, then the error names where the file ends. */
static void test_truncated_stream(void **state) {
    (void)state;
    write_many("wb1");
    listed all = {0};
    assert_int_equal(ld_archive_list(scratch, keep_member, &all), 0);
    struct stat st;
    assert_int_equal(stat(scratch, &st), 0);
    int before = MANY;
    for (int part = 9; part >= 1; part--) {
        char text[80];
        listed l = {0};
        off_t cut = st.st_size / 10 * part;
        assert_int_equal(truncate(scratch, cut), 0);
        snprintf(text, sizeof text, "ends early at byte %lld, after ", (long long)cut);
        assert_failed(ld_archive_list(scratch, keep_member, &l), LD_EFORMAT, text);
        assert_in_range(l.n, MANY / 10 * part - 30, before - 1);
        for (int i = 0; i < l.n; i++)
            assert_string_equal(l.at[i].name, all.at[i].name);
        ld_archive *a = ld_archive_open(scratch);
        assert_member(a, &l, l.n - 1);
        uint8_t to[MEMBER];
        assert_failed(ld_archive_read(a, &(ld_member){NULL, all.at[MANY - 1].offset, MEMBER, LD_PACK_STORED}, to),
                      LD_EFORMAT, "ends early, at byte");
        assert_member(a, &l, 0); /* and it can be read again */
        ld_archive_close(a);
        before = l.n;
        listed_free(&l);
    }
    listed_free(&all);
}

/* In order, a stream is read once, and with leaps as well; one step back begins again. */
static void test_one_pass(void **state) {
    (void)state;
    write_many("wb1");
    struct stat st;
    assert_int_equal(stat(scratch, &st), 0);
    listed l = {0};
    assert_int_equal(ld_archive_list(scratch, keep_member, &l), 0);
    assert_int_equal(l.n, MANY);
    ld_archive *a = ld_archive_open(scratch);
    assert_non_null(a);
    long long before = bytes_read();
    for (int i = 0; i < MANY; i++)
        assert_member(a, &l, i);
    long long once = bytes_read() - before;
    assert_member(a, &l, 0);
    for (int i = 0; i < MANY; i += 7)
        assert_member(a, &l, i);
    long long more = bytes_read() - before - once;
    if (before >= 0) {
        assert_in_range(once, st.st_size * 9 / 10, st.st_size + 4096);
        assert_in_range(more, st.st_size * 9 / 10, st.st_size + 300000);
    }
    ld_archive_close(a);
    listed_free(&l);
}

static void *read_all(void *arg) {
    const listed *l = arg;
    ld_archive *a = ld_archive_open(scratch);
    for (int i = MANY; a && i-- > 0;) {
        uint8_t want[MEMBER], got[MEMBER];
        fill_member(want, i);
        if (ld_archive_read(a, &(ld_member){NULL, l->at[i].offset, l->at[i].size, LD_PACK_STORED}, got) ||
            memcmp(got, want, MEMBER) != 0) {
            ld_archive_close(a);
            return NULL;
        }
    }
    ld_archive_close(a);
    return a ? arg : NULL;
}

static void test_threads(void **state) {
    (void)state;
    write_many("wbT");
    listed l = {0};
    assert_int_equal(ld_archive_list(scratch, keep_member, &l), 0);
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, read_all, &l), 0);
    for (int i = 0; i < 4; i++) {
        void *done = NULL;
        pthread_join(thread[i], &done);
        assert_ptr_equal(done, &l);
    }
    listed_free(&l);
}

/* Tars in tars in tars: four are gone into, the fifth is a member. */
static void test_depth(void **state) {
    (void)state;
    uint8_t *bytes = calloc(1, 64 << 10);
    size_t n = 512;
    tar_header(bytes, "inmost.txt", 0);
    n += 512; /* of zeros */
    for (int depth = 0; depth < 6; depth++) {
        char name[16];
        snprintf(name, sizeof name, "t%d.TAR", depth);
        memmove(bytes + 512, bytes, n);
        tar_header(bytes, name, n);
        memset(bytes + 512 + n, 0, 512);
        n += 1024;
    }
    put_scratch(bytes, n);
    listed l = {0};
    assert_int_equal(ld_archive_list(scratch, keep_member, &l), 0);
    assert_int_equal(l.n, 1);
    assert_string_equal(l.at[0].name, "t5/t4/t3/t2/t1.TAR");
    listed_free(&l);
    free(bytes);
}

#define WITH_SCRATCH(f) cmocka_unit_test_setup_teardown(f, make_scratch, remove_scratch)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),     cmocka_unit_test(test_locale), cmocka_unit_test(test_stop),
        cmocka_unit_test(test_left_out),  WITH_SCRATCH(test_no_archive), WITH_SCRATCH(test_truncated),
        WITH_SCRATCH(test_truncated_zip), WITH_SCRATCH(test_shrunk),     cmocka_unit_test(test_other_size),
        WITH_SCRATCH(test_cut_member),    WITH_SCRATCH(test_damaged),    WITH_SCRATCH(test_truncated_stream),
        WITH_SCRATCH(test_one_pass),      WITH_SCRATCH(test_threads),    WITH_SCRATCH(test_depth),
    };
    return cmocka_run_group_tests_name("archive", tests, NULL, NULL);
}
