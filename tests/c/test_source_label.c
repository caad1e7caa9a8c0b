/* Sources whose classes are given: files of labels in all their forms, CIFAR's records; and LMDB, which has none. */
#include "sources.h"

#include <lmdb.h>

/* ---- files of labels ---- */

static const char *synsets(void) {
    static char path[LD_PATH_MAX];
    const char *root = getenv("LDLUA_ROOT");
    snprintf(path, sizeof path, "%s/data/ilsvrc2012_synsets.txt", root ? root : ".");
    return path;
}

static ld_source_options with(const char *labels) {
    return (ld_source_options){.labels = in(labels), .synsets = synsets()};
}

static void put_val(int n) {
    char name[64];
    for (int k = 1; k <= n; k++) {
        snprintf(name, sizeof name, "val/ILSVRC2012_val_%08d.JPEG", k);
        put_png(name, k);
    }
}

/* The classes of the first pictures, by name. */
static void assert_wnids(const char *labels, const char *const *wnid) {
    ld_source_options o = with(labels);
    ld_source *s = open_with("val", &o);
    assert_int_equal(ld_source_classes(s), 1000);
    assert_string_equal(ld_source_class(s, 0), "n01440764");
    assert_string_equal(ld_source_class(s, 999), "n15075141");
    for (int64_t i = 0; i < ld_source_count(s); i++)
        assert_string_equal(ld_source_class(s, ld_source_label(s, i)), wnid[i]);
    ld_source_drop(s);
}

/* The truth for the first five validation pictures of ILSVRC2012, in every form in which it is to be had. */
static void test_validation_lists(void **state) {
    (void)state;
    static const char *const wnid[] = {"n01751748", "n09193705", "n02105855", "n04263257", "n03125729"};
    put_val(5);
    put_text("devkit.txt", "490\n361\n171\n822\n297\n");
    put_text("tensorflow.txt", "n01751748\r\nn09193705\r\nn02105855\r\nn04263257\r\nn03125729"); /* no line feed */
    put_text("caffe.txt", "ILSVRC2012_val_00000002.JPEG 970\nILSVRC2012_val_00000001.JPEG 65\n"
                          "ILSVRC2012_val_00000003.JPEG 230\n\n# a remark\nILSVRC2012_val_00000004.JPEG 809\n"
                          "ILSVRC2012_val_00000005.JPEG 516\n");
    put_text("kaggle.csv", "ImageId,PredictionString\nILSVRC2012_val_00000005,n03125729 85 1 499 272 \n"
                           "ILSVRC2012_val_00000001,n01751748 1 2 3 4 n01751748 5 6 7 8 \n"
                           "ILSVRC2012_val_00000002,n09193705 1 1 1 1\nILSVRC2012_val_00000003,n02105855 1 1 1 1\n"
                           "ILSVRC2012_val_00000004,n04263257 1 1 1 1\nILSVRC2012_val_00000006,n04263257 1 1 1 1\n");
    assert_wnids("devkit.txt", wnid);
    assert_wnids("tensorflow.txt", wnid);
    assert_wnids("caffe.txt", wnid);
    assert_wnids("kaggle.csv", wnid);
}

static void test_lists_that_do_not_fit(void **state) {
    (void)state;
    put_val(5);
    put_text("few.txt", "490\n361\n171\n822\n");
    put_text("range.txt", "490\n361\n171\n822\n1001\n");
    put_text("zero.txt", "490\n361\n171\n822\n0\n");
    put_text("mixed.txt", "490\nILSVRC2012_val_00000002.JPEG 3\n");
    put_text("none.txt", "# nothing\n\n");
    put_text("caffe.txt", "ILSVRC2012_val_00000002.JPEG 970\n");
    put_text("empty.csv", "a,b\nILSVRC2012_val_00000002.JPEG,\n");
    put_bytes("binary.txt", "1\0002\n", 4);
    ld_source_options o = with("few.txt");
    assert_refused("val", &o, LD_EFORMAT, "few.txt has 4 labels, ");
    assert_says(LD_EFORMAT, "val has 5 pictures");
    o = with("range.txt");
    assert_refused("val", &o, LD_EFORMAT, "the number 1001; ILSVRC2012's classes are 1 to 1000");
    o = with("zero.txt");
    assert_refused("val", &o, LD_EFORMAT, "the number 0; ILSVRC2012's classes are 1 to 1000");
    o = with("mixed.txt");
    assert_refused("val", &o, LD_EFORMAT, "line 2 of ");
    o = with("none.txt");
    assert_refused("val", &o, LD_EFORMAT, "none.txt has no labels");
    o = with("binary.txt");
    assert_refused("val", &o, LD_EFORMAT, "binary.txt is no text");
    o = with("absent.txt");
    assert_refused("val", &o, LD_EIO, "absent.txt");
    o = with("empty.csv");
    assert_refused("val", &o, LD_EFORMAT, "line 2 of ");
    o = with("caffe.txt");
    assert_refused("val", &o, LD_EFORMAT,
                   "caffe.txt: ILSVRC2012_val_00000001.JPEG, ILSVRC2012_val_00000003.JPEG, "
                   "ILSVRC2012_val_00000004.JPEG, ...");
    assert_says(LD_EFORMAT, "4 of 5 pictures have no label");
    put_text("good.txt", "1\n2\n3\n4\n5\n");
    o = (ld_source_options){.labels = in("good.txt")};
    assert_refused("val", &o, LD_EVALUE, "gives ILSVRC2012_ID");
    o.synsets = in("good.txt");
    assert_refused("val", &o, LD_EFORMAT, "good.txt has 5 wnids, 5 of them different; 1000 are needed");
}

static void test_other_lists(void **state) {
    (void)state;
    put_png("set/x/b.png", 0);
    put_png("set/y/a.png", 1);
    put_png("set/y/c.png", 2);
    put_text("names.txt", "other/a.jpg frog\nother/b.jpg  bird\n\"other/c.jpg\" frog\n");
    put_text("paths.txt", "y/a.png 3\nx/b.png 0\ny/c.png 1\n");
    put_text("rows.txt", "2\n0\n2\n");
    put_text("id.csv", "id,label\na,cat\nb,ant\nc,bee\n");
    put_text("huge.txt", "2\n0\n9999999\n");
    ld_source_options o = with("names.txt");
    ld_source *s = open_with("set", &o);
    assert_list(s, "x/b.png 0, y/a.png 1, y/c.png 1");
    assert_classes(s, "bird frog");
    ld_source_drop(s);
    o = with("paths.txt");
    s = open_with("set", &o);
    assert_list(s, "x/b.png 0, y/a.png 3, y/c.png 1");
    assert_classes(s, "0 1 2 3");
    ld_source_drop(s);
    o = with("rows.txt"); /* in order of file names, not of paths */
    s = open_with("set", &o);
    assert_list(s, "x/b.png 0, y/a.png 2, y/c.png 2");
    ld_source_drop(s);
    o = with("id.csv");
    s = open_with("set", &o);
    assert_list(s, "x/b.png 0, y/a.png 2, y/c.png 1");
    assert_classes(s, "ant bee cat");
    ld_source_drop(s);
    o = with("huge.txt");
    assert_refused("set", &o, LD_EFORMAT, "huge.txt has the class 9999999");
    tar t = {0}; /* an archive whose members lie in no order */
    tar_png(&t, "b.png", 0);
    tar_png(&t, "a.png", 1);
    tar_png(&t, "c.png", 2);
    tar_put(&t, "set.tar");
    o = with("rows.txt");
    o.cache = in("cache");
    for (int k = 0; k < 2; k++) {
        s = open_with("set.tar", &o);
        assert_list(s, "b.png 0, a.png 2, c.png 2");
        ld_source_drop(s);
    }
    o.labels = NULL; /* labels are no part of the list that is kept */
    s = open_with("set.tar", &o);
    assert_list(s, "b.png -1, a.png -1, c.png -1");
    ld_source_drop(s);
}

static void test_synsets(void **state) {
    (void)state;
    void *bytes;
    size_t n;
    int count = 0;
    static const char *const at[][2] = {
        {"1", "n02119789"}, {"2", "n02100735"}, {"13", "n02346627"}, {"1000", "n03255030"}};
    char *rest, *line;
    assert_int_equal(ld_file_read(synsets(), &bytes, &n, 0), 0);
    rest = malloc(n + 1);
    assert_non_null(rest);
    char *text = memcpy(rest, bytes, n);
    text[n] = 0;
    while ((line = strsep(&rest, "\n"))) {
        if (*line != 'n')
            continue;
        count++;
        for (size_t k = 0; k < sizeof at / sizeof *at; k++)
            if (count == atoi(at[k][0]))
                assert_string_equal(line, at[k][1]);
    }
    assert_int_equal(count, 1000); /* that they are different is looked at whenever the file is read */
    free(text);
    free(bytes);
}

/* ---- CIFAR ---- */

/* n records with label i % classes and pixels that tell where they are. */
static void put_records(const char *name, int n, int classes) {
    size_t record = classes == 10 ? 3073 : 3074;
    uint8_t *bytes = malloc((size_t)n * record);
    assert_non_null(bytes);
    for (int i = 0; i < n; i++) {
        uint8_t *p = bytes + (size_t)i * record;
        if (classes == 100)
            *p++ = (uint8_t)(i % 20);
        *p++ = (uint8_t)(i % classes);
        for (int k = 0; k < 3072; k++)
            p[k] = (uint8_t)(i + k / 1024 * 50 + k % 1024 / 32);
    }
    put_bytes(name, bytes, (size_t)n * record);
    free(bytes);
}

static void assert_record(ld_source *s, int64_t i, int record) {
    ld_bytes b = {0};
    ld_image im = {0};
    ld_source_reader *r = ld_source_reader_new(s);
    assert_int_equal(ld_source_read(r, i, &b, 1 << 20), 0);
    assert_int_equal(b.n, ld_source_bytes(s, i));
    assert_int_equal(ld_source_decode(s, i, &b, &(ld_decode){.channels = 3}, &im), 0);
    assert_int_equal(im.width, 32);
    assert_int_equal(im.height, 32);
    for (int k = 0; k < 1024; k++)
        for (int c = 0; c < 3; c++)
            assert_int_equal(im.data[3 * k + c], (uint8_t)(record + c * 50 + k / 32));
    ld_image_free(&im);
    assert_int_equal(ld_source_decode(s, i, &b, &(ld_decode){.channels = 1}, &im), 0);
    assert_int_equal(im.channels, 1);
    assert_in_range(im.data[0], record + 30, record + 50); /* 0.587 * 50 + 0.114 * 100 above the red */
    ld_image_free(&im);
    b.n--;
    assert_int_equal(ld_source_decode(s, i, &b, NULL, &im), LD_EFORMAT);
    assert_int_equal(ld_source_read(r, i, &b, 3000), LD_EVALUE);
    ld_bytes_free(&b);
    ld_source_reader_drop(r);
}

static void test_cifar10(void **state) {
    (void)state;
    char name[64];
    for (int k = 1; k <= 5; k++) {
        snprintf(name, sizeof name, "c/data_batch_%d.bin", k);
        put_records(name, 10 + k, 10);
    }
    put_records("c/test_batch.bin", 20, 10);
    ld_source *s = open_with("c", NULL);
    assert_string_equal(ld_source_kind(s), "cifar-10");
    assert_int_equal(ld_source_count(s), 65);
    assert_classes(s, "0 1 2 3 4 5 6 7 8 9");
    assert_int_equal(ld_source_notes(s), 0);
    ld_source_drop(s);
    put_text("c/batches.meta.txt", "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n");
    s = open_with("c", NULL);
    assert_string_equal(ld_source_class(s, 9), "truck");
    assert_string_equal(ld_source_name(s, 11, name, sizeof name), "data_batch_2.bin/00000");
    assert_int_equal(ld_source_label(s, 11), 0);
    assert_int_equal(ld_source_label(s, 14), 3);
    for (int64_t i = 0; i < 11; i++)
        assert_record(s, i, (int)i);
    assert_record(s, 64, 14);
    assert_record(s, 0, 0);
    assert_int_equal(truncate(in("c/data_batch_5.bin"), 3073), 0);
    ld_bytes b = {0};
    ld_source_reader *r = ld_source_reader_new(s);
    assert_int_equal(ld_source_read(r, 64, &b, 1 << 20), LD_EIO);
    assert_says(LD_EIO, "became shorter");
    ld_source_reader_drop(r);
    ld_bytes_free(&b);
    ld_source_drop(s);
    s = open_with("c/test_batch.bin", NULL);
    assert_int_equal(ld_source_count(s), 20);
    assert_string_equal(ld_source_name(s, 3, name, sizeof name), "00003");
    assert_string_equal(ld_source_class(s, 0), "airplane");
    assert_record(s, 19, 19);
    ld_source_drop(s);
    unlink(in("c/data_batch_3.bin"));
    assert_int_equal(truncate(in("c/data_batch_4.bin"), 1000), 0);
    s = open_with("c", NULL);
    assert_note(s, "only 3 of CIFAR-10's 5 training batches");
    ld_source_drop(s);
    ld_source_options o = with("c/batches.meta.txt");
    assert_refused("c", &o, LD_EVALUE, "has classes of its own");
}

static void test_cifar100(void **state) {
    (void)state;
    put_records("c/train.bin", 30, 100);
    ld_source *s = open_with("c", NULL);
    assert_string_equal(ld_source_kind(s), "cifar-100");
    assert_int_equal(ld_source_classes(s), 100);
    assert_int_equal(ld_source_label(s, 29), 29);
    assert_record(s, 29, 29);
    ld_source_drop(s);
    s = open_with("c/train.bin", NULL);
    assert_int_equal(ld_source_count(s), 30);
    ld_source_drop(s);
    static uint8_t other[3073 * 4] = {11}; /* a label that there is not */
    put_bytes("other.bin", other, sizeof other);
    assert_refused("other.bin", NULL, LD_EFORMAT, "other.bin is no tar");
    put_bytes("p/data_batch_1", "\x80\x02}", 3);
    assert_refused("p", NULL, LD_EFORMAT, "Python's own form");
    assert_refused("p/data_batch_1", NULL, LD_EFORMAT, "Python's own form");
}

/* ---- LMDB ---- */

static void put_entry(MDB_txn *txn, MDB_dbi dbi, const char *key, size_t key_n, const void *bytes, size_t n) {
    MDB_val k = {key_n, (void *)(uintptr_t)key}, v = {n, (void *)(uintptr_t)bytes};
    assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
}

static void make_db(const char *name, bool pictures) {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    assert_int_equal(ld_make_dirs(in(name)), 0);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, in(name), 0, 0666), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    for (int k = 0; k < 3 && pictures; k++) {
        static const char *const key[] = {"\x01\xff\x00key", "a", "b"};
        size_t n;
        void *bytes = png(k, &n);
        put_entry(txn, dbi, key[k], k ? 1 : 6, bytes, n);
        free(bytes);
    }
    if (pictures)
        put_entry(txn, dbi, "c", 1, "no picture, but long enough", 27);
    put_entry(txn, dbi, "num-samples", 11, "3", 1);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void test_lmdb(void **state) {
    (void)state;
    make_db("db", true);
    for (int k = 0; k < 2; k++) {
        ld_source *s = open_with(k ? "db/data.mdb" : "db", NULL);
        assert_string_equal(ld_source_kind(s), "lmdb");
        assert_list(s, "01ff006b6579 -1, a -1, b -1, c -1");
        assert_note(s, "entries of fewer than 16 bytes are passed over: 1");
        ld_source_reader *r = ld_source_reader_new(s), *other = ld_source_reader_new(s);
        for (int i = 0; i < 3; i++) {
            assert_pixels(s, r, i, i);
            assert_pixels(s, other, 2 - i, 2 - i);
        }
        ld_bytes b = {0};
        ld_image im;
        assert_int_equal(ld_source_read(r, 3, &b, 1 << 20), 0);
        assert_int_equal(ld_source_decode(s, 3, &b, NULL, &im), LD_EFORMAT); /* found out when it is decoded */
        assert_int_equal(ld_source_read(r, 3, &b, 20), LD_EVALUE);
        ld_bytes_free(&b);
        ld_source_reader_drop(r);
        ld_source_reader_drop(other);
        ld_source_drop(s);
    }
    make_db("none", false);
    assert_refused("none", NULL, LD_EFORMAT, "no entries that could be pictures");
    assert_int_equal(truncate(in("db/data.mdb"), 9000), 0);
    assert_refused("db", NULL, LD_EFORMAT, "data.mdb");
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_validation_lists),
        TEST(test_lists_that_do_not_fit),
        TEST(test_other_lists),
        TEST(test_synsets),
        TEST(test_cifar10),
        TEST(test_cifar100),
        TEST(test_lmdb),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
