/* Latent stores: creation, writing, kills, full disks, reading, statistics. */
#include "base/error.h"
#include "base/rng.h"
#include "data/latent_store.h"
#include "io/file.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { C = 3, H = 4, W = 5, ROW = C * H * W };

static char folder[64];

static const char *in(const char *name) {
    static char path[8][LD_PATH_MAX];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/ld_store_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static const char *name_of(void *arg, int64_t i) {
    static char name[64];
    (void)arg;
    snprintf(name, sizeof name, "picture-%0*lld", (int)(1 + i % 5), (long long)i);
    return name;
}

static const char *const classes[] = {"ant", "bee"};
static const ld_latent_attribute attributes[] = {{"vae", "tiny", 0}, {"vae_hash", "0123", 0}, {"size", NULL, 16}};

static ld_latent_spec spec_of(int64_t count) {
    return (ld_latent_spec){.count = count,
                            .channels = C,
                            .height = H,
                            .width = W,
                            .dtype = LD_F32,
                            .batch = 4,
                            .classes = classes,
                            .n_classes = 2,
                            .name = name_of,
                            .attribute = attributes,
                            .n_attributes = 3};
}

/* Element e of row i of a set. */
static float value(int set, int64_t i, int e) {
    float v;
    ld_rng_normal(&v, 1, 77, LD_RNG_USER + (uint32_t)set, (uint64_t)i, e);
    return v;
}

static ld_tensor *rows_of(int set, int64_t first, int count) {
    ld_tensor *x = ld_tensor_new(ld_device_find("cpu"), LD_F32, 4, (int64_t[]){count, C, H, W}, "test");
    float *p = ld_tensor_data(x);
    for (int i = 0; i < count; i++)
        for (int c = 0; c < C; c++)
            for (int at = 0; at < H * W; at++)
                p[(i * H * W + at) * C + c] = value(set, first + i, c * H * W + at); /* channels last */
    return x;
}

static int32_t label_of(int64_t i) {
    return (int32_t)(i % 2);
}
static uint8_t valid_of(int64_t i) {
    return i % 7 != 3;
}
static uint32_t crc_of(int64_t i) {
    return 0xfffffff0u + (uint32_t)i % 16;
}

static int put(ld_latent_writer *w, const ld_latent_spec *s, int64_t first, int count) {
    int32_t label[64];
    uint8_t valid[64];
    uint32_t crc[64];
    ld_tensor *x[LD_LATENT_SETS] = {NULL};
    ld_latent_rows r = {.first = first, .count = count, .label = label, .valid = valid, .crc32 = crc};
    for (int k = 0; k < LD_LATENT_SETS; k++)
        if ((s->moments || k % 2 == 0) && (s->mirrored || k < 2))
            r.set[k] = x[k] = rows_of(k, first, count);
    for (int i = 0; i < count; i++) {
        label[i] = label_of(first + i);
        valid[i] = valid_of(first + i);
        crc[i] = crc_of(first + i);
    }
    int bad = ld_latent_writer_put(w, &r);
    for (int k = 0; k < LD_LATENT_SETS; k++)
        ld_tensor_drop(x[k]);
    return bad;
}

static bool has(ld_latent_writer *w, int64_t i) {
    return ld_latent_writer_done(w)[i / 8] >> i % 8 & 1;
}

/* Writes what is missing, in aligned batches. */
static int write_rest(ld_latent_writer *w, const ld_latent_spec *s, int64_t until) {
    for (int64_t first = 0; first < until; first += s->batch) {
        int n = (int)(s->count - first < s->batch ? s->count - first : s->batch);
        bool whole = true;
        for (int i = 0; i < n; i++)
            whole = whole && has(w, first + i);
        if (!whole && put(w, s, first, n))
            return ld_error_code();
    }
    return 0;
}

static void ok(int code) {
    if (code)
        print_message("%s\n", ld_error());
    assert_int_equal(code, 0);
}

static void make(const char *part, const ld_latent_spec *s) {
    ok(ld_latent_create(part, s));
    ld_latent_writer *w = ld_latent_writer_open(part);
    assert_non_null(w);
    ok(write_rest(w, s, s->count));
    ok(ld_latent_writer_finish(w));
    ok(ld_latent_writer_close(w));
}

static void same_files(const char *a, const char *b) {
    void *x, *y;
    size_t n, m;
    ok(ld_file_read(a, &x, &n, 0));
    ok(ld_file_read(b, &y, &m, 0));
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

static void says(const char *text) {
    if (!strstr(ld_error(), text))
        fail_msg("'%s' does not say '%s'", ld_error(), text);
    ld_error_clear();
}

/* ---- tests ---------------------------------------------------------------------------------------------------------- */

static float stored(const void *row, ld_dtype t, int e) {
    ld_view from = {
        .dtype = t, .ndim = 1, .shape = {1}, .stride = {1}, .data = (char *)(uintptr_t)row + e * (int)ld_dtype_size(t)};
    float v;
    ld_view to = {.dtype = LD_F32, .ndim = 1, .shape = {1}, .stride = {1}, .data = &v};
    ld_device_find("cpu")->backend->copy(&to, &from);
    return v;
}

static void check_rows(ld_latent_store *s, const ld_latent_spec *spec) {
    double tolerance = spec->dtype == LD_F32 ? 0 : spec->dtype == LD_F16 ? 0x1p-11 : 0x1p-8; /* half a last place */
    const ld_latent_info *info = ld_latent_store_info(s);
    char *all = malloc((size_t)info->count * info->row_bytes);
    for (int k = 0; k < LD_LATENT_SETS; k++) {
        assert_int_equal(info->set[k], (spec->moments || k % 2 == 0) && (spec->mirrored || k < 2));
        if (!info->set[k])
            continue;
        ok(ld_latent_store_read(s, (ld_latent_set)k, 0, info->count, all));
        for (int64_t i = 0; i < info->count; i++)
            for (int e = 0; e < ROW; e++) {
                float want = value(k, i, e), is = stored(all + (size_t)i * info->row_bytes, info->dtype, e);
                assert_true(fabs(is - want) <= tolerance * fabs(want) + 1e-7 * (tolerance > 0));
            }
    }
    free(all);
}

static void round_trip(void **state) {
    (void)state;
    static const ld_dtype types[] = {LD_F16, LD_BF16, LD_F32};
    for (int k = 0; k < 12; k++) {
        ld_latent_spec s = spec_of(30);
        char part[32], path[32];
        s.dtype = types[k % 3];
        s.moments = k / 3 % 2;
        s.mirrored = k / 6;
        s.shards = k % 2 ? 3 : 0;
        snprintf(part, sizeof part, "a%d.h5.part", k);
        snprintf(path, sizeof path, "a%d.h5", k);
        make(in(part), &s);
        assert_int_equal(access(in(part), F_OK), -1);
        ld_latent_store *store = ld_latent_store_open(in(path), false);
        assert_non_null(store);
        const ld_latent_info *info = ld_latent_store_info(store);
        assert_int_equal(info->count, 30);
        assert_int_equal(info->valid, 26);
        assert_true(info->complete);
        check_rows(store, &s);
        ok(ld_latent_store_load(store));
        check_rows(store, &s);
        char name[64];
        for (int64_t i = 0; i < 30; i++) {
            int64_t crc;
            ok(ld_latent_store_name(store, i, name, sizeof name));
            assert_string_equal(name, name_of(NULL, i));
            ok(ld_latent_store_crc32(store, i, 1, &crc));
            assert_int_equal(crc, crc_of(i));
            assert_int_equal(ld_latent_store_label(store, i), label_of(i));
            assert_int_equal(ld_latent_store_has(store, i, true), valid_of(i));
        }
        for (int64_t i = 0, n = 0; i < 30; i++) {
            assert_int_equal(ld_latent_store_before(store, i), n);
            if (valid_of(i))
                assert_int_equal(ld_latent_store_row(store, n++), i);
        }
        ld_latent_store_drop(store);
    }
}

static void equal_bytes(void **state) {
    (void)state;
    for (int shards = 0; shards < 3; shards += 2) {
        ld_latent_spec s = spec_of(50);
        s.shards = shards;
        make(in("x.h5.part"), &s);
        assert_int_equal(rename(in("x.h5"), in("first.h5")), 0);
        if (shards) {
            assert_int_equal(rename(in("x-000.h5"), in("first-0")), 0);
            assert_int_equal(rename(in("x-001.h5"), in("first-1")), 0);
        }
        sleep(1); /* times that files keep count seconds */
        make(in("x.h5.part"), &s);
        same_files(in("x.h5"), in("first.h5"));
        if (shards) {
            same_files(in("x-000.h5"), in("first-0"));
            same_files(in("x-001.h5"), in("first-1"));
        }
    }
}

static void statistics(void **state) {
    (void)state;
    ld_latent_spec s = spec_of(600);
    double mean[C], std[C], low[C], high[C];
    make(in("s.h5.part"), &s);
    ld_latent_store *store = ld_latent_store_open(in("s.h5"), false);
    assert_non_null(store);
    ok(ld_latent_store_statistics(store, mean, std));
    ld_latent_statistics m;
    ok(ld_latent_store_measure(store, &m));
    for (int c = 0; c < C; c++) {
        double sum = 0, squares = 0, n = 0;
        low[c] = 1e9, high[c] = -1e9;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t i = 0; i < 600; i++)
                for (int e = c * H * W; valid_of(i) && e < (c + 1) * H * W; e++) {
                    double v = value(0, i, e);
                    n += pass == 0;
                    sum += pass == 0 ? v : 0;
                    squares += pass == 0 ? 0 : (v - sum / n) * (v - sum / n);
                    low[c] = v < low[c] ? v : low[c];
                    high[c] = v > high[c] ? v : high[c];
                }
        assert_true(fabs(mean[c] - sum / n) < 1e-12);
        assert_true(fabs(std[c] - sqrt(squares / n)) < 1e-12);
        assert_true(m.mean[c] == mean[c] && m.std[c] == std[c] && m.min[c] == low[c] && m.max[c] == high[c]);
    }
    ld_latent_store_drop(store);
}

/* A child that writes in a loop until it is killed; the store goes on where it was and ends as the whole one. */
static void killed(void **state) {
    (void)state;
    ld_latent_spec s = spec_of(2000);
    s.shards = 2;
    make(in("whole.h5.part"), &s);
    assert_int_equal(rename(in("whole-000.h5"), in("w0")) | rename(in("whole-001.h5"), in("w1")), 0);
    assert_int_equal(rename(in("whole.h5"), in("w")), 0);
    ok(ld_latent_create(in("whole.h5.part"), &s));
    int64_t before = 0;
    for (int k = 0; k < 10; k++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child) {
            ld_latent_writer *w = ld_latent_writer_open(in("whole.h5.part"));
            for (int64_t first = 0; w && first < s.count; first += s.batch) {
                if (!has(w, first) && (put(w, &s, first, s.batch) || ld_latent_writer_flush(w)))
                    _exit(1);
                usleep(200);
            }
            pause();
        }
        usleep(10000 + (useconds_t)ld_rng_below(40000, 5, 0, (uint64_t)k, 0));
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        ld_latent_writer *w = ld_latent_writer_open(in("whole.h5.part"));
        assert_non_null(w);
        assert_true(ld_latent_writer_done_count(w) >= before);
        before = ld_latent_writer_done_count(w);
        ld_latent_store *store = ld_latent_store_open(in("whole.h5.part"), true); /* what has a bit is there */
        assert_non_null(store);
        float row[ROW];
        for (int64_t i = 0; i < s.count; i += 17)
            if (has(w, i)) {
                ok(ld_latent_store_read(store, LD_LATENT_MEAN, i, 1, row));
                assert_true(row[0] == value(0, i, 0) && row[ROW - 1] == value(0, i, ROW - 1));
            }
        ld_latent_store_drop(store);
        ok(ld_latent_writer_close(w));
    }
    assert_true(before > 0 && before < s.count);
    ld_latent_writer *w = ld_latent_writer_open(in("whole.h5.part"));
    assert_int_equal(ld_latent_writer_finish(w), LD_ESTATE);
    says("of 2000 rows");
    ok(write_rest(w, &s, s.count));
    ok(ld_latent_writer_finish(w));
    ok(ld_latent_writer_close(w));
    same_files(in("whole.h5"), in("w"));
    same_files(in("whole-000.h5"), in("w0"));
    same_files(in("whole-001.h5"), in("w1"));
}

/* A file that may not grow: what fits is kept, the rest is told, and a later writer goes on. */
static void full(void **state) {
    (void)state;
    ld_latent_spec s = spec_of(4000);
    struct rlimit was, less;
    struct stat st;
    s.shards = 1;
    make(in("f.h5.part"), &s);
    assert_int_equal(rename(in("f.h5"), in("f")) | rename(in("f-000.h5"), in("f0")), 0);
    ok(ld_latent_create(in("f.h5.part"), &s));
    assert_int_equal(stat(in("f-000.h5.part"), &st), 0);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &was);
    less = was;
    less.rlim_cur = (rlim_t)st.st_size / 2;
    setrlimit(RLIMIT_FSIZE, &less);
    ld_latent_writer *w = ld_latent_writer_open(in("f.h5.part"));
    assert_non_null(w);
    int bad = write_rest(w, &s, s.count);
    bad = bad ? bad : ld_latent_writer_flush(w);
    assert_int_equal(bad, LD_EIO);
    says("f-000.h5.part': File too large");
    assert_int_equal(ld_latent_writer_flush(w), LD_EIO);
    assert_int_equal(put(w, &s, 0, 4), LD_EIO);
    int64_t done = ld_latent_writer_done_count(w);
    assert_true(done > 1500 && done < 2500);
    assert_int_equal(ld_latent_writer_close(w), LD_EIO);
    setrlimit(RLIMIT_FSIZE, &was);
    w = ld_latent_writer_open(in("f.h5.part"));
    assert_int_equal(ld_latent_writer_done_count(w), done);
    ok(write_rest(w, &s, s.count));
    ok(ld_latent_writer_finish(w));
    ok(ld_latent_writer_close(w));
    same_files(in("f.h5"), in("f"));
    same_files(in("f-000.h5"), in("f0"));
}

static void refusals(void **state) {
    (void)state;
    ld_latent_spec s = spec_of(20);
    assert_int_equal(ld_latent_create(in("r.h5"), &s), LD_EVALUE);
    says("must end with .part");
    s.count = (int64_t)1 << 32;
    assert_int_equal(ld_latent_create(in("r.h5.part"), &s), LD_EVALUE);
    s = spec_of(20);
    s.dtype = LD_I32;
    assert_int_equal(ld_latent_create(in("r.h5.part"), &s), LD_EDTYPE);
    s = spec_of(100);
    s.height = s.width = 4096;
    s.channels = 64;
    s.count = 100000;
    assert_int_equal(ld_latent_create(in("r.h5.part"), &s), LD_EIO);
    says("needs 429");
    assert_int_equal(access(in("r.h5.part"), F_OK), -1);

    s = spec_of(20);
    s.shards = 2;
    ok(ld_latent_create(in("r.h5.part"), &s));
    assert_null(ld_latent_store_open(in("r.h5.part"), false));
    says("is unfinished: 0 of 20 rows");
    ld_latent_writer *w = ld_latent_writer_open(in("r.h5.part"));
    assert_non_null(w);
    assert_int_equal(put(w, &s, 18, 4), LD_EINDEX);
    says("rows 19 to 22 of a store of 20");
    s.mirrored = true;
    assert_int_equal(put(w, &s, 0, 4), LD_EVALUE);
    says("has no mirrored/mean");
    s.mirrored = false;
    assert_null(ld_latent_writer_open(in("r.h5.part")));
    says("is being written by another process");
    ok(write_rest(w, &s, s.count));
    ok(ld_latent_writer_finish(w));
    ok(ld_latent_writer_close(w));

    assert_int_equal(rename(in("r-001.h5"), in("away")), 0);
    assert_null(ld_latent_store_open(in("r.h5"), false));
    says("lacks its shard");
    assert_int_equal(rename(in("r-000.h5"), in("r-001.h5")), 0);
    assert_int_equal(rename(in("away"), in("r-000.h5")), 0);
    assert_null(ld_latent_store_open(in("r.h5"), false));
    says("is no shard of");
    assert_int_equal(rename(in("r-000.h5"), in("away")) | rename(in("r-001.h5"), in("r-000.h5")), 0);
    assert_int_equal(rename(in("away"), in("r-001.h5")), 0);
    ld_latent_store *store = ld_latent_store_open(in("r.h5"), false);
    assert_non_null(store);
    assert_ptr_equal(ld_latent_store_open(in("r.h5"), false), store); /* one for both */
    assert_int_equal(truncate(in("r-001.h5"), 2500), 0);
    char row[ROW * 4];
    assert_int_equal(ld_latent_store_read(store, LD_LATENT_MEAN, 19, 1, row), LD_EFORMAT);
    says("shorter than it was");
    ld_latent_store_drop(store);
    ld_latent_store_drop(store);
    assert_null(ld_latent_store_open(in("r.h5"), false));
}

static void not_finite(void **state) {
    (void)state;
    ld_latent_spec s = spec_of(2);
    s.dtype = LD_F16;
    ok(ld_latent_create(in("n.h5.part"), &s));
    ld_latent_writer *w = ld_latent_writer_open(in("n.h5.part"));
    ld_tensor *x = ld_tensor_full(ld_device_find("cpu"), LD_F32, 4, (int64_t[]){2, C, H, W}, 1, "test");
    ((float *)ld_tensor_data(x))[ROW] = 1e6f; /* of the second row */
    ld_latent_rows r = {.count = 2, .set = {x}};
    ok(ld_latent_writer_put(w, &r));
    assert_int_equal(ld_latent_writer_finish(w), LD_EVALUE);
    says("those of row 2 are infinite or not a number: too large for f16");
    assert_int_equal(access(in("n.h5.part"), F_OK), 0);
    uint8_t valid[] = {1, 0}; /* what is left out may be anything */
    r.valid = valid;
    ok(ld_latent_writer_put(w, &r));
    ok(ld_latent_writer_finish(w));
    ok(ld_latent_writer_close(w));
    ld_latent_store *store = ld_latent_store_open(in("n.h5"), false);
    double mean[C], std[C];
    ok(ld_latent_store_statistics(store, mean, std));
    assert_true(mean[0] == 1 && std[0] == 0);
    ld_latent_store_drop(store);
    ld_tensor_drop(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(round_trip, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(equal_bytes, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(statistics, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(killed, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(full, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(refusals, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(not_finite, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
