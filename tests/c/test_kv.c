/* LMDB, read only: entries in order and by key, one environment for all who open a file, files that are cut short,
 * damaged, or no LMDB at all. The data bases are written by liblmdb itself. */
#include "base/error.h"
#include "io/file.h"
#include "io/kv.h"
#include "mutate.h"

#include <lmdb.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64], file[80], lock_file[80];

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/ld_kv_XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(file, sizeof file, "%s/data.mdb", folder);
    snprintf(lock_file, sizeof lock_file, "%s/lock.mdb", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    unlink(file);
    unlink(lock_file);
    return rmdir(folder);
}

static void assert_failed(int got, int code, const char *part) {
    assert_int_equal(got, code);
    if (!strstr(ld_error(), part))
        fail_msg("the message '%s' does not say '%s'", ld_error(), part);
}

static void assert_refused(const char *path, int code, const char *part) {
    assert_null(ld_kv_open(path));
    assert_failed(ld_error_code(), code, part);
}

static void put_file(const void *bytes, size_t n) {
    FILE *f = fopen(file, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* ---- data bases ---- */

enum { LARGEST = 20000 };

/* Value i: every seventh is large enough for pages of its own. */
static size_t value_of(int i, uint8_t *to) {
    size_t n = i % 7 == 3 ? 2100 + (size_t)i * 37 % (LARGEST - 2100) : (size_t)i % 60;
    for (size_t k = 0; k < n; k++)
        to[k] = (uint8_t)((size_t)i + k * 13);
    return n;
}

static void key_of(int i, char key[32]) {
    snprintf(key, 32, "key %06d of a data base", i);
}

/* A data base of n entries, written in no order; in a data base of its own inside when `name` says so. */
static void write_db(int n, const char *name, unsigned flags) {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    static uint8_t bytes[LARGEST];
    unlink(file);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 4), 0);
    assert_int_equal(mdb_env_set_mapsize(env, (size_t)1 << 30), 0);
    assert_int_equal(mdb_env_open(env, folder, MDB_NOSYNC, 0644), 0);
    for (int part = 0; part < 2; part++) { /* two transactions, so that both meta pages have been written */
        assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
        assert_int_equal(mdb_dbi_open(txn, name, MDB_CREATE | flags, &dbi), 0);
        for (int i = part; i < n; i += 2) {
            char text[32];
            int which = (int)((int64_t)i * 7919 % n);
            key_of(which, text);
            MDB_val key = {strlen(text), text}, value = {0, bytes};
            value.mv_size = value_of(which, bytes);
            if (flags)
                value.mv_size = value.mv_size > 100 ? 100 : value.mv_size;
            assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
        }
        assert_int_equal(mdb_txn_commit(txn), 0);
    }
    mdb_env_close(env);
    unlink(lock_file);
}

static int check_entry(void *arg, const void *key, size_t key_n, const void *value, size_t value_n) {
    int i = (*(int *)arg)++;
    char text[32];
    uint8_t want[LARGEST];
    key_of(i, text);
    size_t n = value_of(i, want);
    return key_n == strlen(text) && !memcmp(key, text, key_n) && value_n == n && !memcmp(value, want, n) ? 0 : 1000 + i;
}

static void assert_holds(ld_kv *kv, int n) {
    int seen = 0;
    assert_int_equal(ld_kv_list(kv, check_entry, &seen), 0);
    assert_int_equal(seen, n);
    for (int i = n - 1; i >= 0; i -= 1 + n / 500) {
        char text[32];
        uint8_t want[LARGEST];
        const void *value;
        size_t value_n, want_n = value_of(i, want);
        key_of(i, text);
        assert_int_equal(ld_kv_get(kv, text, strlen(text), &value, &value_n), 0);
        assert_int_equal(value_n, want_n);
        assert_memory_equal(value, want, want_n);
    }
}

static int stop(void *arg, const void *key, size_t key_n, const void *value, size_t value_n) {
    (void)key;
    (void)key_n;
    (void)value;
    (void)value_n;
    return ++*(int *)arg == 3 ? 77 : 0;
}

static void test_read(void **state) {
    (void)state;
    static const int sizes[] = {0, 1, 2, 50, 700, 20000};
    for (int k = 0; k < 6; k++) {
        write_db(sizes[k], NULL, 0);
        assert_true(ld_kv_is(folder));
        assert_true(ld_kv_is(file));
        for (int way = 0; way < 2; way++) {
            ld_kv *kv = ld_kv_open(way ? file : folder);
            if (!kv)
                fail_msg("%d entries: %s", sizes[k], ld_error());
            assert_holds(kv, sizes[k]);
            const void *value;
            size_t value_n;
            char longest[1000];
            memset(longest, 'k', sizeof longest);
            assert_failed(ld_kv_get(kv, "absent", 6, &value, &value_n), LD_EFORMAT, "no entry 'absent'");
            assert_failed(ld_kv_get(kv, "", 0, &value, &value_n), LD_EFORMAT, "no entry ''");
            assert_failed(ld_kv_get(kv, longest, sizeof longest, &value, &value_n), LD_EFORMAT, "no entry 'kkk");
            int calls = 0;
            assert_int_equal(ld_kv_list(kv, stop, &calls), sizes[k] < 3 ? 0 : 77);
            ld_kv_close(kv);
        }
        assert_int_equal(access(lock_file, F_OK), -1); /* nothing is written, not even a lock */
    }
}

/* How often this process maps the file. */
static int maps(void) {
    char line[4096];
    int n = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        n += strstr(line, file) != NULL;
    fclose(f);
    return n;
}

/* All who open a file share what liblmdb has of it; the last one closes it. */
static void test_shared(void **state) {
    (void)state;
    write_db(300, NULL, 0);
    ld_kv *a = ld_kv_open(folder), *b = ld_kv_open(file), *c;
    assert_true(a && b);
    assert_int_equal(maps(), 1);
    ld_kv_close(a);
    assert_int_equal(maps(), 1);
    assert_holds(b, 300);
    c = ld_kv_open(folder);
    assert_non_null(c);
    ld_kv_close(b);
    assert_holds(c, 300);
    ld_kv_close(c);
    assert_int_equal(maps(), 0);
    ld_kv_close(NULL);
}

static void *read_much(void *arg) {
    for (int turn = 0; turn < 5; turn++) {
        ld_kv *kv = ld_kv_open(folder);
        int seen = 0;
        if (!kv || ld_kv_list(kv, check_entry, &seen) || seen != 700)
            arg = NULL;
        ld_kv_close(kv);
    }
    return arg;
}

static void test_threads(void **state) {
    (void)state;
    write_db(700, NULL, 0);
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, read_much, thread), 0);
    for (int i = 0; i < 4; i++) {
        void *done = NULL;
        pthread_join(thread[i], &done);
        assert_ptr_equal(done, thread);
    }
}

static void test_refused(void **state) {
    (void)state;
    assert_refused("/nowhere/at/all", LD_EIO, "No such file");
    assert_refused(folder, LD_EIO, "data.mdb': No such file");
    assert_false(ld_kv_is(folder));
    assert_refused("README.md", LD_EFORMAT, "no LMDB file");
    assert_false(ld_kv_is("README.md"));
    put_file("", 0);
    assert_refused(folder, LD_EFORMAT, "no LMDB file");
    assert_false(ld_kv_is(folder));
    write_db(50, "inside", 0);
    assert_refused(folder, LD_EFORMAT, "holds other data bases");
    write_db(50, NULL, MDB_DUPSORT);
    assert_refused(folder, LD_EFORMAT, "have several values");
}

/* ---- other sizes of pages: two meta pages and one leaf, written by hand ---- */

static void put_number(uint8_t *to, uint64_t x, int bytes) {
    for (int i = 0; i < bytes; i++, x >>= 8)
        to[i] = (uint8_t)x;
}

/* The two meta pages, of a tree with its root on page 2. */
static void put_metas(uint8_t *bytes, size_t page, unsigned pages, unsigned depth, int entries) {
    for (unsigned k = 0; k < 2; k++) {
        uint8_t *m = bytes + k * page;
        put_number(m, k, 8);
        put_number(m + 10, 8, 2);               /* a meta page */
        put_number(m + 16, 0xbeefc0de, 4);      /* magic */
        put_number(m + 20, 1, 4);               /* version */
        put_number(m + 32, pages * page, 8);    /* size of the map */
        put_number(m + 40, page, 4);            /* size of a page */
        put_number(m + 40 + 40, UINT64_MAX, 8); /* no free pages */
        put_number(m + 88 + 6, depth, 2);
        put_number(m + 88 + 32, (uint64_t)entries, 8);
        put_number(m + 88 + 40, 2, 8);      /* the root */
        put_number(m + 136, pages - 1u, 8); /* the last page */
        put_number(m + 144, 1 + k, 8);      /* transaction */
    }
}

static void put_leaf(uint8_t *leaf, size_t page, unsigned number, int entries) {
    uint8_t want[LARGEST];
    size_t top = page;
    for (int i = 0; i < entries; i++) {
        char text[32];
        key_of(i, text);
        size_t n = value_of(i, want), key = strlen(text);
        top = (top - 8 - key - n) & ~(size_t)1;
        put_number(leaf + 16 + 2 * i, top, 2);
        put_number(leaf + top, n, 4);
        put_number(leaf + top + 6, key, 2);
        memcpy(leaf + top + 8, text, key);
        memcpy(leaf + top + 8 + key, want, n);
    }
    put_number(leaf, number, 8);
    put_number(leaf + 10, 2, 2);
    put_number(leaf + 12, 16 + 2 * (uint64_t)entries, 2);
    put_number(leaf + 14, top, 2);
}

static uint8_t *hand_made(size_t page, int entries) {
    uint8_t *bytes = calloc(3, page);
    assert_non_null(bytes);
    put_metas(bytes, page, 3, 1, entries);
    put_leaf(bytes + 2 * page, page, 2, entries);
    return bytes;
}

/* Branches of two nodes that both lead to the next page: each level doubles the ways to the leaf. */
static void test_many_ways(void **state) {
    (void)state;
    enum { BRANCHES = 30, PAGE = 512 };
    static uint8_t bytes[(BRANCHES + 3) * PAGE];
    put_metas(bytes, PAGE, BRANCHES + 3, BRANCHES + 1, 1);
    for (unsigned k = 2; k < 2 + BRANCHES; k++) {
        uint8_t *p = bytes + k * PAGE;
        put_number(p, k, 8);
        put_number(p + 10, 1, 2);
        put_number(p + 12, 16 + 4, 2);
        put_number(p + 14, PAGE - 20, 2);
        for (unsigned i = 0; i < 2; i++) {
            put_number(p + 16 + 2 * i, PAGE - 20 + 10 * i, 2);
            put_number(p + PAGE - 20 + 10 * i, k + 1, 4);
            put_number(p + PAGE - 20 + 10 * i + 6, 2, 2);
        }
    }
    put_leaf(bytes + (2 + BRANCHES) * PAGE, PAGE, 2 + BRANCHES, 1);
    put_file(bytes, sizeof bytes);
    assert_refused(folder, LD_EFORMAT, "is reached on several ways");
    put_number(bytes + 2 * PAGE + 12, 16 + 2, 2);
    put_file(bytes, sizeof bytes);
    assert_refused(folder, LD_EFORMAT, "page 2 has too few nodes");
}

/* What is wrong with one place of the file, and what is said of it. */
static void test_damage(void **state) {
    (void)state;
    enum { LEAF = 2 * 4096 };
    static const struct {
        size_t at;
        uint64_t value;
        int bytes;
        const char *why;
    } cases[] = {
        {20, 2, 4, "version 2 of the format"},
        {4096 + 20, 999, 4, "version 999 of the format"},
        {4096 + 10, 2, 2, "page 1 is no meta page"},
        {4096 + 40, 8192, 4, "page 1 gives another size of pages"},
        {4096 + 88 + 4, 4, 2, "not in order of their bytes, or have several values"},
        {4096 + 88 + 6, 2, 2, "page 2 is no branch"},
        {4096 + 88 + 6, 99, 2, "page 1 gives impossible sizes"},
        {4096 + 88 + 32, 4, 8, "page 1 gives another number of entries"},
        {4096 + 88 + 40, 1, 8, "page 1 is not in use"},
        {4096 + 88 + 40, 3, 8, "page 3 is not in use"},
        {4096 + 136, UINT64_MAX, 8, "page 1 gives impossible sizes"},
        {LEAF, 7, 8, "page 2 has another page's number"},
        {LEAF + 10, 1, 2, "page 2 is no leaf"},
        {LEAF + 12, 16, 2, "page 2 has too few nodes"},
        {LEAF + 12, 17, 2, "list of nodes"},
        {LEAF + 14, 4098, 2, "list of nodes"},
        {LEAF + 16, 4094, 2, "has a node beyond its end"},
        {LEAF + 16, 18, 2, "has a node beyond its end"},
        {LEAF + 4062 + 6, 4000, 2, "has a node beyond its end"},
        {LEAF + 4062 + 6, 0, 2, "has an empty key"},
        {LEAF + 4062, 4000, 4, "has a value beyond its end"},
        {LEAF + 3992 + 4, 1, 2, "has a value on pages that are not in use"},
        {LEAF + 4062 + 4, 2, 2, "holds other data bases"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        uint8_t *bytes = hand_made(4096, 3);
        assert_int_equal(bytes[LEAF + 16] | bytes[LEAF + 17] << 8, 4062);
        put_number(bytes + cases[k].at, cases[k].value, cases[k].bytes);
        put_file(bytes, LEAF + 4096);
        assert_refused(folder, LD_EFORMAT, cases[k].why);
        free(bytes);
    }
}

static void test_page_size(void **state) {
    (void)state;
    static const size_t pages[] = {512, 1024, 4096, 8192, 16384, 32768};
    for (int k = 0; k < 6; k++) {
        uint8_t *bytes = hand_made(pages[k], 3);
        put_file(bytes, 3 * pages[k]);
        ld_kv *kv = ld_kv_open(folder);
        if (!kv)
            fail_msg("%zu: %s", pages[k], ld_error());
        assert_holds(kv, 3);
        ld_kv_close(kv);
        free(bytes);
    }
    static const size_t odd[] = {0, 1, 256, 4095, 12288, 65536};
    for (int k = 0; k < 6; k++) {
        uint8_t *bytes = hand_made(4096, 3);
        put_number(bytes + 40, odd[k], 4);
        put_file(bytes, 3 * 4096);
        assert_refused(folder, LD_EFORMAT, "512 to 32768 are read");
        free(bytes);
    }
}

/* ---- damage ---- */

static void *whole_file(size_t *n) {
    void *bytes;
    assert_int_equal(ld_file_read(file, &bytes, n, 0), 0);
    return bytes;
}

/* A file cut short gives an error when it is opened, or, where nothing in use was cut off, everything. */
static void test_truncated(void **state) {
    (void)state;
    write_db(120, NULL, 0);
    size_t n;
    void *bytes = whole_file(&n);
    int whole = 0;
    for (size_t cut = 0; cut <= n; cut += 512) {
        put_file(bytes, cut);
        ld_kv *kv = ld_kv_open(folder);
        if (kv)
            assert_holds(kv, 120);
        else
            assert_int_equal(ld_error_code(), LD_EFORMAT);
        whole += kv != NULL;
        ld_kv_close(kv);
    }
    assert_in_range(whole, 1, 16);
    free(bytes);
}

static int add_up(void *arg, const void *key, size_t key_n, const void *value, size_t value_n) {
    uint64_t *sum = arg;
    for (size_t i = 0; i < key_n; i++)
        *sum += ((const uint8_t *)key)[i];
    for (size_t i = 0; i < value_n; i++)
        *sum += ((const uint8_t *)value)[i];
    return 0;
}

static void read_whatever(void) {
    ld_kv *kv = ld_kv_open(folder);
    if (!kv) {
        assert_true(ld_error_code() == LD_EFORMAT || ld_error_code() == LD_EIO);
        return;
    }
    uint64_t sum = 0;
    ld_kv_list(kv, add_up, &sum);
    for (int i = 0; i < 120; i++) {
        char text[32];
        const void *value;
        size_t value_n;
        key_of(i, text);
        if (!ld_kv_get(kv, text, strlen(text), &value, &value_n))
            add_up(&sum, NULL, 0, value, value_n);
    }
    ld_kv_close(kv);
}

/* Bytes changed anywhere, and then only in what the tree consists of (the first bytes of every page). */
static void test_mutated(void **state) {
    (void)state;
    write_db(120, NULL, 0);
    size_t n;
    uint8_t *bytes = whole_file(&n), *copy = malloc(2 * n);
    assert_non_null(copy);
    for (uint64_t seed = 0; seed < 1500; seed++) {
        memcpy(copy, bytes, n);
        put_file(copy, mutate(copy, n, seed));
        read_whatever();
        memcpy(copy, bytes, n);
        for (uint64_t x = seed, times = 1 + seed % 3; times > 0; times--) {
            size_t page = (size_t)(mutate_next(&x) % (n / 4096)), at = (size_t)(mutate_next(&x) % 64);
            page = seed % 2 ? page % 2 : page; /* a meta page every other time */
            copy[page * 4096 + at + (page < 2 ? mutate_next(&x) % 2 * 88 : 0)] = (uint8_t)mutate_next(&x);
        }
        put_file(copy, n);
        read_whatever();
    }
    free(copy);
    free(bytes);
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_read),    IN_FOLDER(test_shared),    IN_FOLDER(test_threads),
        IN_FOLDER(test_refused), IN_FOLDER(test_page_size), IN_FOLDER(test_many_ways),
        IN_FOLDER(test_damage),  IN_FOLDER(test_truncated), IN_FOLDER(test_mutated),
    };
    return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
