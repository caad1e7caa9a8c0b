/* Sources: folders and archives, their order, names, classes and notes; reading; lists of archives that are kept. */
#include "sources.h"

#include <pthread.h>
#include <zlib.h>

/* ---- folders ---- */

static void test_folder(void **state) {
    (void)state;
    put_png("b/2.png", 2);
    put_png("b/10.PNG", 1);
    put_png("a/z.JPEG", 0);
    put_png("c/deep/plain", 3);
    put_text("a/notes.txt", "no picture");
    put_text("a/short", "x");
    put_png("a/.hidden.png", 9);
    put_png(".cache/x.png", 9);
    ld_source *s = open_with("", NULL);
    assert_list(s, "a/z.JPEG 0, b/10.PNG 1, b/2.png 1, c/deep/plain 2");
    assert_classes(s, "a b deep");
    assert_string_equal(ld_source_kind(s), "folder");
    assert_false(ld_source_in_order(s));
    assert_int_equal(ld_source_notes(s), 0);
    assert_all_pixels(s, 0);
    ld_source_drop(s);
    s = open_with("b/", NULL); /* one folder: no classes */
    assert_list(s, "10.PNG -1, 2.png -1");
    assert_int_equal(ld_source_classes(s), 0);
    ld_source_drop(s);
}

static void test_same_class_under_two_parents(void **state) {
    (void)state;
    put_png("train/cat/1.png", 0);
    put_png("train/dog/1.png", 1);
    put_png("val/cat/1.png", 2);
    put_png("top.png", 3);
    ld_source *s = open_with("", NULL);
    assert_list(s, "top.png 0, train/cat/1.png 1, train/dog/1.png 2, val/cat/1.png 1");
    assert_classes(s, " cat dog");
    assert_note(s, "train, val lie side by side");
    ld_source_drop(s);
    s = open_with("train", NULL);
    assert_int_equal(ld_source_notes(s), 0);
    ld_source_drop(s);
}

static void test_folders_without_pictures(void **state) {
    (void)state;
    put_png("set/a/1.png", 0);
    put_png("set/b/1.png", 0);
    assert_int_equal(ld_make_dirs(in("set/empty")), 0);
    ld_source *s = open_with("set", NULL);
    assert_int_equal(ld_source_notes(s), 1);
    assert_note(s, "the folder empty has no pictures");
    ld_source_drop(s);
    put_text("set/notes/readme.txt", "x");
    put_text("set/more.tar", "x");
    s = open_with("", NULL);
    assert_note(s, "2 folders have no pictures, the first is set/empty");
    assert_note(s, "1 archives that lie beside the pictures");
    ld_source_drop(s);
    assert_refused("set/empty", NULL, LD_EFORMAT, "no PNG, JPEG or WebP pictures below");
    assert_refused("set/absent", NULL, LD_EIO, "set/absent: No such file");
    assert_refused("set/notes/readme.txt", NULL, LD_EFORMAT, "readme.txt is no tar");
    assert_refused("set/notes/readme.txt/inside", NULL, LD_EIO, "No such file");
    ld_error_clear();
    assert_null(ld_source_open("", NULL));
    assert_says(LD_EVALUE, "a path of 0 bytes");
}

static void assert_read_fails(ld_source *s, int64_t i, size_t most, int code, const char *part) {
    ld_bytes b = {0};
    ld_source_reader *r = ld_source_reader_new(s);
    assert_non_null(r);
    assert_int_equal(ld_source_read(r, i, &b, most), code);
    assert_says(code, part);
    assert_int_equal(b.n, 0);
    ld_bytes_free(&b);
    ld_source_reader_drop(r);
}

static void test_files_that_change(void **state) {
    (void)state;
    put_png("1.png", 1);
    put_png("2.png", 2);
    put_png("3.png", 3);
    put_png("4.png", 4);
    ld_source *s = open_with("", NULL);
    unlink(in("1.png"));
    assert_read_fails(s, 0, 1 << 20, LD_EIO, "1.png: No such file");
    assert_int_equal(ld_source_bytes(s, 0), -1);
    unlink(in("2.png"));
    assert_int_equal(mkdir(in("2.png"), 0777), 0);
    assert_read_fails(s, 1, 1 << 20, LD_EIO, "2.png is no file any more");
    unlink(in("3.png"));
    assert_int_equal(mkfifo(in("3.png"), 0666), 0); /* must not be waited for */
    assert_read_fails(s, 2, 1 << 20, LD_EIO, "3.png is no file any more");
    assert_read_fails(s, 3, 10, LD_EVALUE, "more than 10");
    assert_read_fails(s, 4, 10, LD_EINDEX, "picture 5 of 4");
    ld_source_drop(s);
}

/* The system's own files are longer, or shorter, than they say, as files are that change while they are read. */
static void test_files_in_change(void **state) {
    (void)state;
    static const char shorter[] = "/sys/devices/system/cpu/online";
    struct stat st;
    put_png("c.png", 2);
    assert_int_equal(symlink("/proc/self/status", in("a.png")), 0);
    ld_source *s = open_with("", NULL);
    assert_list(s, "a.png -1, c.png -1");
    assert_read_fails(s, 0, 1 << 20, LD_EIO, "a.png grew while it was read");
    ld_source_drop(s);
    if (stat(shorter, &st) || st.st_size < 4096) {
        print_message("SKIP a file that becomes shorter: %s is not there\n", shorter);
        skip();
    }
    assert_int_equal(symlink(shorter, in("b.png")), 0);
    s = open_with("", NULL);
    assert_read_fails(s, 1, 1 << 20, LD_EIO, "b.png became shorter while it was read");
    ld_source_drop(s);
}

/* ---- archives ---- */

static void test_tar(void **state) {
    (void)state;
    tar t = {0};
    tar_png(&t, "./set/train/b/1.png", 0);
    tar_text(&t, "set/readme.txt", "no picture");
    tar_png(&t, "set/train/a/2", 1); /* told by its first bytes */
    tar_text(&t, "set/train/a/short", "x");
    tar_text(&t, "set/train/a/words", "this is no picture, but long enough for one");
    tar_text(&t, "set/train/a/.hidden.png", "x");
    tar_png(&t, "set/train/b/0.PNG", 2);
    tar_png(&t, "set/val/b/1.png", 3);
    tar_put(&t, "set.tar");
    ld_source *s = open_with("set.tar", NULL);
    assert_list(s, "set/train/b/1.png 1, set/train/a/2 0, set/train/b/0.PNG 1, set/val/b/1.png 1");
    assert_classes(s, "a b");
    assert_string_equal(ld_source_kind(s), "tar");
    assert_all_pixels(s, 0);
    ld_source_drop(s);
    s = open_with("set.tar/set/train/", NULL);
    assert_list(s, "b/1.png 1, a/2 0, b/0.PNG 1");
    assert_all_pixels(s, 0);
    ld_source_drop(s);
    s = open_with("set.tar/", NULL);
    assert_int_equal(ld_source_count(s), 4);
    ld_source_drop(s);
    assert_refused("set.tar/set/tra", NULL, LD_EFORMAT, "pictures below 'set/tra/'");
    assert_refused("set.tar/absent", NULL, LD_EFORMAT, "set.tar (8 members)");
}

static void test_tar_of_tars(void **state) {
    (void)state;
    tar t = {0}, inner = {0};
    tar_png(&inner, "n02_1.JPEG", 0);
    tar_png(&inner, "n02_2.JPEG", 1);
    tar_tar(&t, "n02.tar", &inner);
    tar_png(&inner, "n01_1.JPEG", 2);
    tar_tar(&t, "n01.tar", &inner);
    tar_put(&t, "ILSVRC2012_img_train.tar");
    ld_source *s = open_with("ILSVRC2012_img_train.tar", NULL);
    assert_list(s, "n02/n02_1.JPEG 1, n02/n02_2.JPEG 1, n01/n01_1.JPEG 0");
    assert_classes(s, "n01 n02");
    assert_all_pixels(s, 0);
    ld_source_drop(s);
}

static void test_folder_of_archives(void **state) {
    (void)state;
    tar t = {0};
    tar_png(&t, "1.png", 1);
    tar_put(&t, "set/n02.tar");
    tar_png(&t, "1.png", 0);
    tar_put(&t, "set/n01.tar");
    put_text("set/readme.txt", "x");
    ld_source *s = open_with("set", NULL);
    assert_list(s, "n01/1.png 0, n02/1.png 1"); /* in bytewise order */
    assert_string_equal(ld_source_kind(s), "folder of tars");
    assert_all_pixels(s, 0);
    ld_source_drop(s);
    s = open_with("set/n02", NULL);
    assert_list(s, "1.png -1");
    ld_source_drop(s);
    assert_refused("set/n0", NULL, LD_EIO, "set/n0: No such file");
    assert_refused("set/n02/absent", NULL, LD_EFORMAT, "(1 members)"); /* the other archive is not looked into */
    for (int k = 0; k < 12; k++) {                                     /* more than a reader keeps open */
        char name[32];
        snprintf(name, sizeof name, "shards/cats-%03d.tar", k);
        tar_png(&t, "1.png", k);
        tar_put(&t, name);
    }
    s = open_with("shards", NULL);
    assert_int_equal(ld_source_count(s), 12);
    assert_int_equal(ld_source_classes(s), 0);
    assert_note(s, "12 archives are named like shards");
    assert_all_pixels(s, 0);
    ld_source_drop(s);
    tar_png(&t, "cat/1.png", 0); /* folders inside shards are classes all the same */
    tar_png(&t, "dog/1.png", 1);
    tar_put(&t, "two/000.tar");
    s = open_with("two", NULL);
    assert_list(s, "000/cat/1.png 0, 000/dog/1.png 1");
    ld_source_drop(s);
}

static void test_webdataset(void **state) {
    (void)state;
    tar t = {0};
    tar_png(&t, "000.jpg", 0);
    tar_text(&t, "000.cls", "2\n");
    tar_text(&t, "001.cls", "0");
    tar_text(&t, "001.json", "{}");
    tar_png(&t, "001.left.png", 1); /* a key ends at the first dot */
    tar_png(&t, "001.right.png", 2);
    tar_png(&t, "0015.png", 3);
    tar_put(&t, "set/a-0.tar");
    tar_png(&t, "002.jpg", 4);
    tar_put(&t, "set/a-1.tar");
    ld_source *s = open_with("set", NULL);
    assert_list(s, "a-0/000.jpg 2, a-0/001.left.png 0, a-0/001.right.png 0, a-0/0015.png -1, a-1/002.jpg -1");
    assert_classes(s, "0 1 2");
    assert_note(s, "2 pictures have no .cls member");
    assert_all_pixels(s, 0);
    ld_source_drop(s);
    static const char *const bad[] = {"", "two", "-1", "3 4", "1048576", "99999999999999999999999"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        tar_png(&t, "0.jpg", 0);
        tar_text(&t, "0.cls", bad[k]);
        tar_put(&t, "bad.tar");
        assert_refused("bad.tar", NULL, LD_EFORMAT, "a class from 0 to 1048575 is needed");
    }
}

static void test_a_name_twice(void **state) {
    (void)state;
    tar t = {0};
    tar_png(&t, "a/1.png", 9);
    tar_png(&t, "b/1.png", 0);
    tar_png(&t, "a/1.png", 9);
    tar_png(&t, "a/2.png", 1);
    tar_png(&t, "a/1.png", 2);
    tar_put(&t, "set.tar");
    ld_source *s = open_with("set.tar", NULL);
    assert_list(s, "b/1.png 1, a/2.png 0, a/1.png 0"); /* the last one counts, where it lies */
    assert_note(s, "the last one counts, 2 before it are left out");
    assert_all_pixels(s, 0);
    ld_source_drop(s);
}

static void test_cut_archive(void **state) {
    (void)state;
    tar t = {0};
    tar_png(&t, "1.png", 0);
    tar_png(&t, "2.png", 1);
    put_bytes("cut.tar", t.data, t.n - 600);
    free(t.data);
    assert_refused("cut.tar", NULL, LD_EFORMAT, "ends early");
    ld_source_options o = {.partial = true, .cache = in("cache")};
    for (int k = 0; k < 2; k++) { /* the list of a damaged one is not kept */
        ld_source *s = open_with("cut.tar", &o);
        assert_list(s, "1.png -1");
        assert_note(s, "what lies before the damage is taken");
        assert_all_pixels(s, 0);
        ld_source_drop(s);
    }
    o.partial = false;
    assert_refused("cut.tar", &o, LD_EFORMAT, "ends early");
    t = (tar){0};
    tar_text(&t, "x/data.mdb", "x");
    tar_put(&t, "lmdb.tar");
    assert_refused("lmdb.tar", NULL, LD_EFORMAT, "holds an LMDB, which cannot be read inside an archive; unpack it");
    tar_text(&t, "cifar/data_batch_1.bin", "x");
    tar_put(&t, "cifar.tar");
    assert_refused("cifar.tar", NULL, LD_EFORMAT, "unpack it first");
    tar_text(&t, "readme.txt", "x");
    tar_put(&t, "none.tar");
    assert_refused("none.tar", NULL, LD_EFORMAT, "no PNG, JPEG or WebP pictures in");
}

static void put_packed(tar *t, const char *name) {
    gzFile f = gzopen(in(name), "wb");
    assert_non_null(f);
    assert_int_equal(gzwrite(f, t->data, (unsigned)t->n + 1024), t->n + 1024);
    assert_int_equal(gzclose(f), Z_OK);
    free(t->data);
    *t = (tar){0};
}

static void test_packed(void **state) {
    (void)state;
    tar t = {0};
    char name[32];
    for (int k = 0; k < 20; k++) {
        snprintf(name, sizeof name, "%d/%02d%s", k / 10, k, k % 2 ? "" : ".png");
        tar_png(&t, name, k);
    }
    put_packed(&t, "set.tgz");
    ld_source *s = open_with("set.tgz", NULL);
    assert_string_equal(ld_source_kind(s), "packed tar");
    assert_true(ld_source_in_order(s));
    assert_int_equal(ld_source_classes(s), 2);
    assert_int_equal(ld_source_count(s), 20);
    assert_all_pixels(s, 0);
    ld_source_reader *r = ld_source_reader_new(s);
    for (int64_t i = 19; i >= 0; i--)
        assert_pixels(s, r, i, (int)i);
    ld_source_reader_drop(r);
    ld_source_drop(s);
}

/* ---- lists that are kept ---- */

static int listings;
static void count_listing(void *arg, int64_t members, const char *archive) {
    (void)arg;
    (void)archive;
    listings += members == 0;
}

/* Opens it; whether the archive was read through. */
static bool lists(const char *name, const char *want) {
    const ld_source_options o = {.cache = in("cache/index"), .progress = count_listing};
    listings = 0;
    ld_source *s = open_with(name, &o);
    assert_list(s, want);
    assert_classes(s, "a b");
    assert_note(s, "the last one counts");
    assert_all_pixels(s, 0);
    ld_source_drop(s);
    return listings > 0;
}

static void make_set(int first) {
    tar t = {0};
    tar_png(&t, "b/1.png", first);
    tar_png(&t, "b/1.png", 0);
    tar_png(&t, "a/1.png", 1);
    tar_put(&t, "set.tar");
}

/* The only file in the folder of lists. */
static const char *kept_list(void) {
    static char path[LD_PATH_MAX];
    DIR *dir = opendir(in("cache/index"));
    assert_non_null(dir);
    struct dirent *e;
    int n = 0;
    while ((e = readdir(dir)))
        if (e->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", in("cache/index"), e->d_name);
            n++;
        }
    closedir(dir);
    assert_int_equal(n, 1);
    return path;
}

static void test_kept_list(void **state) {
    (void)state;
    static const char list[] = "b/1.png 1, a/1.png 0";
    make_set(7);
    assert_true(lists("set.tar", list));
    assert_false(lists("set.tar", list));
    make_set(8); /* another time of change */
    assert_true(lists("set.tar", list));
    assert_false(lists("set.tar", list));
    /* a damaged one is made again, wherever a byte is wrong */
    void *bytes;
    size_t n;
    const char *path = kept_list();
    assert_int_equal(ld_file_read(path, &bytes, &n, 0), 0);
    for (size_t at = 0; at < n; at += at < 112 ? 1 : 5) { /* 112: the header */
        ((uint8_t *)bytes)[at] ^= 0x21;
        assert_int_equal(ld_file_write(path, bytes, n), 0);
        assert_true(lists("set.tar", list));
        ((uint8_t *)bytes)[at] ^= 0x21;
    }
    for (size_t keep = 0; keep < n; keep += 7) { /* cut short, or with more behind */
        assert_int_equal(ld_file_write(path, bytes, keep), 0);
        assert_true(lists("set.tar", list));
    }
    uint8_t *longer = malloc(n + 8);
    memcpy(longer, bytes, n);
    memset(longer + n, 0, 8);
    assert_int_equal(ld_file_write(path, longer, n + 8), 0);
    assert_true(lists("set.tar", list));
    assert_int_equal(ld_file_write(path, bytes, n), 0);
    assert_false(lists("set.tar", list));
    free(bytes);
    free(longer);
    unlink(path); /* a folder where lists cannot be kept does no harm */
    rmdir(in("cache/index"));
    put_text("cache/index", "a file in its place");
    assert_true(lists("set.tar", list));
    assert_true(lists("set.tar", list));
}

static void test_archive_that_changes(void **state) {
    (void)state;
    make_set(7);
    ld_source *s = open_with("set.tar", NULL);
    make_set(8);
    assert_read_fails(s, 0, 1 << 20, LD_EIO, "set.tar was changed after it was listed");
    assert_read_fails(s, 0, 3, LD_EVALUE, "more than 3");
    unlink(in("set.tar"));
    assert_read_fails(s, 0, 1 << 20, LD_EIO, "set.tar: No such file");
    ld_source_drop(s);
}

/* ---- all kinds ---- */

static void test_fingerprint(void **state) {
    (void)state;
    char is[4][65], cut[65];
    put_png("a/1.png", 1);
    put_png("a/2.png", 2);
    ld_source *s = open_with("", NULL);
    assert_int_equal(ld_source_fingerprint(s, 2, is[0]), 0);
    assert_int_equal(ld_source_fingerprint(s, 1, cut), 0);
    ld_source_drop(s);
    assert_int_equal(rename(in("a/2.png"), in("a/3.png")), 0); /* another name */
    s = open_with("", NULL);
    assert_int_equal(ld_source_fingerprint(s, 2, is[1]), 0);
    ld_source_drop(s);
    put_text("a/3.png", "another size"); /* another size */
    s = open_with("", NULL);
    assert_int_equal(ld_source_fingerprint(s, 2, is[2]), 0);
    ld_source_drop(s);
    put_png("b/1.png", 1); /* classes */
    s = open_with("", NULL);
    assert_int_equal(ld_source_fingerprint(s, 2, is[3]), 0);
    assert_int_equal(ld_source_fingerprint(s, 1 << 20, is[3]), 0);
    ld_source_drop(s);
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < a; b++)
            assert_string_not_equal(is[a], is[b]);
    assert_string_not_equal(cut, is[0]);
    assert_int_equal(strlen(cut), 64);
}

static void *read_everything(void *source) {
    ld_source *s = source;
    for (int turn = 0; turn < 20; turn++)
        assert_all_pixels(s, 0);
    ld_source_drop(s);
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    enum { THREADS = 4 };
    pthread_t thread[THREADS];
    tar t = {0};
    char name[32];
    for (int k = 0; k < 30; k++) {
        snprintf(name, sizeof name, "%d.png", k + 100);
        tar_png(&t, name, k);
    }
    tar_put(&t, "set.tar");
    ld_source *s = open_with("set.tar", NULL);
    for (int k = 0; k < THREADS; k++)
        assert_int_equal(pthread_create(&thread[k], NULL, read_everything, ld_source_ref(s)), 0);
    ld_source_drop(s);
    for (int k = 0; k < THREADS; k++)
        pthread_join(thread[k], NULL);
}

/* A list of a million names, 31 bytes each, takes less than 80 bytes a name: 32 of them for the name itself. */
static void test_memory(void **state) {
    (void)state;
    enum { COUNT = 1000000, PART = 1000 };
    gzFile f = gzopen(in("million.tgz"), "wb1");
    assert_non_null(f);
    for (int at = 0; at < COUNT; at += PART) {
        tar t = {0};
        for (int k = 0; k < PART; k++) {
            char name[64];
            snprintf(name, sizeof name, "n%08d/n%08d_%07d.JPEG", at / PART, at / PART, at + k);
            tar_add(&t, name, "", 0);
        }
        assert_int_equal(gzwrite(f, t.data, (unsigned)t.n), t.n);
        free(t.data);
    }
    static const uint8_t end[1024];
    assert_int_equal(gzwrite(f, end, sizeof end), sizeof end);
    assert_int_equal(gzclose(f), Z_OK);
    const ld_source_options o = {.cache = in("cache")};
    for (int turn = 0; turn < 2; turn++) {
        ld_source *s = open_with("million.tgz", &o);
        assert_int_equal(ld_source_count(s), COUNT);
        assert_int_equal(ld_source_classes(s), COUNT / PART);
        assert_int_equal(ld_source_label(s, COUNT - 1), COUNT / PART - 1);
        assert_in_range(ld_source_memory(s) / COUNT, 31, 80);
        ld_source_drop(s);
    }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_folder),
        TEST(test_same_class_under_two_parents),
        TEST(test_folders_without_pictures),
        TEST(test_files_that_change),
        TEST(test_files_in_change),
        TEST(test_tar),
        TEST(test_tar_of_tars),
        TEST(test_folder_of_archives),
        TEST(test_webdataset),
        TEST(test_a_name_twice),
        TEST(test_cut_archive),
        TEST(test_packed),
        TEST(test_kept_list),
        TEST(test_archive_that_changes),
        TEST(test_fingerprint),
        TEST(test_threads),
        TEST(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
