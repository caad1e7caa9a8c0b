/* Latents as data sets, and the training loader: order, ranks, mirrored pictures, seeking, reading ahead. */
#include "base/error.h"
#include "base/rng.h"
#include "data/loader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { N = 103, C = 2, S = 3, NUMEL = C * S * S };

static char folder[64];
static ld_latent_store *store; /* with mirrored latents; rows 10, 20, ... are not valid */

static const char *path(void) {
    static char p[96];
    snprintf(p, sizeof p, "%s/a.h5", folder);
    return p;
}

static const char *name_of(void *arg, int64_t i) {
    (void)arg;
    (void)i;
    return "x";
}

/* Element e (channels last) of a row: exact in f16. */
static float value(int64_t row, int mirrored, int e) {
    return (float)row + (float)e / 32 + (mirrored ? 0.5f / 32 : 0);
}

static int make_store(void **state) {
    (void)state;
    strcpy(folder, "/tmp/ld_loader_XXXXXX");
    char part[112];
    ld_latent_spec s = {.count = N,
                        .channels = C,
                        .height = S,
                        .width = S,
                        .dtype = LD_F32,
                        .mirrored = true,
                        .batch = 1,
                        .shards = 2,
                        .name = name_of};
    if (!mkdtemp(folder))
        return -1;
    snprintf(part, sizeof part, "%s.part", path());
    ld_latent_writer *w = ld_latent_create(part, &s) ? NULL : ld_latent_writer_open(part);
    for (int64_t i = 0; w && i < N; i++) {
        ld_tensor *x[2];
        for (int k = 0; k < 2; k++) {
            x[k] = ld_tensor_new(ld_device_find("cpu"), LD_F32, 4, (int64_t[]){1, C, S, S}, "test");
            for (int e = 0; e < NUMEL; e++)
                ((float *)ld_tensor_data(x[k]))[e] = value(i, k, e);
        }
        int32_t label = (int32_t)i * 3;
        uint8_t valid = !(i && i % 10 == 0);
        ld_latent_rows r = {.first = i, .count = 1, .set = {x[0], NULL, x[1]}, .label = &label, .valid = &valid};
        if (ld_latent_writer_put(w, &r))
            return -1;
        ld_tensor_drop(x[0]);
        ld_tensor_drop(x[1]);
    }
    if (!w || ld_latent_writer_finish(w) || ld_latent_writer_close(w))
        return -1;
    store = ld_latent_store_open(path(), false);
    return store ? 0 : -1;
}

static int remove_store(void **state) {
    (void)state;
    char command[128];
    ld_latent_store_drop(store);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* The row each picture of x came from, twice that, and one more when it is mirrored; every element is checked. */
static int64_t source(const ld_tensor *x, const ld_tensor *label, int i) {
    const float *p = (const float *)ld_tensor_data(x) + (size_t)i * NUMEL;
    int64_t row = ((const int64_t *)ld_tensor_data(label))[i] / 3;
    int mirrored = p[0] != value(row, 0, 0);
    for (int e = 0; e < NUMEL; e++)
        assert_true(p[e] == value(row, mirrored, e));
    return 2 * row + mirrored;
}

static ld_loader *loader(const ld_latents *d, ld_loader_options o) {
    ld_loader *l = ld_loader_new(d, &o);
    if (!l)
        print_message("%s\n", ld_error());
    assert_non_null(l);
    return l;
}

/* Adds what a batch has to out; returns how many. */
static int batch(ld_loader *l, int64_t images, int count, int64_t *out) {
    ld_tensor *x, *label;
    int bad = ld_loader_batch(l, images, count, &x, &label);
    if (bad)
        print_message("%s\n", ld_error());
    assert_int_equal(bad, 0);
    int n = (int)x->shape[0];
    for (int i = 0; i < n; i++)
        out[i] = source(x, label, i);
    ld_tensor_drop(x);
    ld_tensor_drop(label);
    return n;
}

/* ---- data sets ------------------------------------------------------------------------------------------------------ */

static void data_sets(void **state) {
    (void)state;
    ld_latents *all = ld_latents_new(store);
    int64_t n = ld_latents_count(all);
    assert_int_equal(n, N - 10);
    for (int64_t i = 0, row = 0; i < n; i++, row++) {
        row += row && row % 10 == 0;
        assert_int_equal(ld_latents_row(all, i), row);
    }
    ld_latents *tail = ld_latents_part(all, 50, 40, false, 0), *mixed = ld_latents_part(tail, 5, 20, true, 3);
    ld_latents *rest = ld_latents_part(mixed, 4, 10, false, 0), *again = ld_latents_part(rest, 1, 9, true, 8);
    for (int64_t i = 0; i < 40; i++)
        assert_int_equal(ld_latents_row(tail, i), ld_latents_row(all, 50 + i));
    for (int64_t i = 0; i < 20; i++)
        assert_int_equal(ld_latents_row(mixed, i), ld_latents_row(tail, ld_shuffle_position(5 + i, 40, 3, 0)));
    for (int64_t i = 0; i < 9; i++)
        assert_int_equal(ld_latents_row(again, i), ld_latents_row(rest, ld_shuffle_position(1 + i, 10, 8, 0)));
    assert_null(ld_latents_part(rest, 1, 10, false, 0));
    assert_int_equal(ld_error_code(), LD_EINDEX);
    ld_tensor *x, *label;
    int64_t at[] = {3, 0, 3};
    assert_int_equal(ld_latents_get(mixed, at, 3, &x, &label), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(source(x, label, i), 2 * ld_latents_row(mixed, at[i]));
    ld_tensor_drop(x);
    ld_tensor_drop(label);
    at[1] = 20;
    assert_int_equal(ld_latents_get(mixed, at, 3, &x, &label), LD_EINDEX);
    ld_latents_drop(again);
    ld_latents_drop(rest);
    ld_latents_drop(mixed);
    ld_latents_drop(tail);
    ld_latents_drop(all);
}

/* ---- the loader ----------------------------------------------------------------------------------------------------- */

/* By the formula, three epochs, both ways; then at random places. */
static void order(void **state) {
    (void)state;
    ld_latents *all = ld_latents_new(store);
    int64_t n = ld_latents_count(all), got[N];
    for (int resident = 0; resident < 2; resident++)
        for (int size = 2; size <= 46; size += 11) { /* 93 = 46 + 46 + 1: one is left over */
            ld_loader *l = loader(all, (ld_loader_options){.batch = size, .seed = 5, .resident = resident});
            int64_t images = 0, seen = 0;
            while (images < 3 * n) {
                int count = ld_loader_next(l, &images);
                if (images >= 3 * n)
                    break;
                assert_int_equal(batch(l, images, count, got), count);
                for (int i = 0; i < count; i++)
                    assert_int_equal(got[i], 2 * ld_latents_row(all, ld_shuffle_position(images % n + i, n, 5,
                                                                                         (uint64_t)(images / n))));
                seen += count;
                images += count;
            }
            assert_int_equal(seen, 3 * (n - (n % size == 1)));
            for (int k = 0; k < 50; k++) {
                int64_t at = ld_rng_below(1000000, 1, 0, (uint64_t)k, 0);
                int count = 1 + (int)(at % 7);
                if (at % n + count > n)
                    continue;
                batch(l, at, count, got);
                for (int i = 0; i < count; i++)
                    assert_int_equal(
                        got[i], 2 * ld_latents_row(all, ld_shuffle_position(at % n + i, n, 5, (uint64_t)(at / n))));
            }
            ld_loader_stats s;
            ld_loader_state(l, &s);
            assert_int_equal(s.resident, resident);
            assert_true(s.batches > 0 && s.spent > 0 && (resident ? s.wait == 0 : s.wait > 0));
            ld_loader_drop(l);
        }
    ld_latents_drop(all);
}

static void ranks(void **state) {
    (void)state;
    static const int counts[] = {1, 2, 3, 8};
    ld_latents *all = ld_latents_new(store);
    int64_t n = ld_latents_count(all);
    for (int k = 0; k < 4; k++) {
        int R = counts[k], times[N] = {0}, total = 0;
        ld_loader *l[8], *single = loader(all, (ld_loader_options){.batch = 24, .seed = 2, .resident = 0});
        for (int r = 0; r < R; r++)
            l[r] = loader(all, (ld_loader_options){.batch = 24, .seed = 2, .rank = r, .ranks = R, .resident = r % 2});
        for (int64_t images = 0;;) {
            int count = ld_loader_next(l[0], &images);
            int64_t whole[N], part[N];
            for (int r = 1; r < R; r++) {
                int64_t same = images;
                assert_int_equal(ld_loader_next(l[r], &same), count);
                assert_int_equal(same, images);
            }
            if (images >= n)
                break;
            batch(single, images, count, whole);
            int at = 0;
            for (int r = 0; r < R; r++) {
                int share = batch(l[r], images, count, part);
                assert_true(count < 24 || share == 24 / R);
                for (int i = 0; i < share; i++) {
                    assert_int_equal(part[i], whole[at++]);
                    times[part[i] / 2]++;
                    total++;
                }
            }
            assert_int_equal(at, count);
            images += count;
        }
        for (int i = 0; i < N; i++)
            assert_true(times[i] <= 1);
        assert_int_equal(total, n);
        for (int r = 0; r < R; r++)
            ld_loader_drop(l[r]);
        ld_loader_drop(single);
    }
    ld_latents_drop(all);
}

static void mirrored(void **state) {
    (void)state;
    ld_latents *all = ld_latents_new(store);
    int64_t n = ld_latents_count(all), a[N], b[N], half[N];
    ld_loader *l = loader(all, (ld_loader_options){.batch = 16, .seed = 9, .mirror = true, .resident = 0});
    ld_loader *m = loader(all, (ld_loader_options){.batch = 16, .seed = 9, .mirror = true, .resident = 1});
    ld_loader *second =
        loader(all, (ld_loader_options){.batch = 16, .seed = 9, .mirror = true, .rank = 1, .ranks = 2, .resident = 0});
    int64_t images = 0;
    int flips = 0, total = 0, changed = 0, before[N];
    memset(before, -1, sizeof before);
    while (images < 20 * n) {
        int count = ld_loader_next(l, &images);
        if (images >= 20 * n)
            break;
        batch(l, images, count, a);
        batch(m, images, count, b);
        assert_memory_equal(a, b, (size_t)count * sizeof *a);
        int before_it = count >= 4 ? count / 2 : count; /* half each, unless that were fewer than two */
        assert_int_equal(batch(second, images, count, half), count - before_it);
        assert_memory_equal(half, a + before_it, (size_t)(count - before_it) * sizeof *a);
        for (int i = 0; i < count; i++) {
            uint32_t coin[4];
            ld_philox(9, LD_RNG_MIRROR, (uint64_t)(images + i), 0, coin);
            assert_int_equal(a[i] & 1, coin[0] >> 31);
            flips += a[i] & 1;
            total++;
            changed += before[a[i] / 2] >= 0 && before[a[i] / 2] != (int)(a[i] & 1);
            before[a[i] / 2] = (int)(a[i] & 1);
        }
        images += count;
    }
    assert_true(abs(flips - total / 2) < 110); /* 1860 coins: five standard deviations */
    assert_true(changed > total / 3);          /* another coin in every epoch */
    ld_loader_drop(l);
    ld_loader_drop(m);
    ld_loader_drop(second);
    ld_latents_drop(all);
}

static void misuse(void **state) {
    (void)state;
    ld_latents *all = ld_latents_new(store);
    ld_tensor *x, *label;
    assert_null(ld_loader_new(all, &(ld_loader_options){.batch = 10, .micro = -1}));
    assert_non_null(strstr(ld_error(), "micro-batches of -1"));
    assert_null(ld_loader_new(all, &(ld_loader_options){.batch = 94}));
    assert_null(ld_loader_new(all, &(ld_loader_options){.batch = 9, .rank = 3, .ranks = 3}));
    ld_loader *l = loader(all, (ld_loader_options){.batch = 10, .ranks = 2});
    assert_int_equal(ld_loader_batch(l, 90, 4, &x, &label), LD_EVALUE);
    assert_int_equal(ld_loader_batch(l, 0, 0, &x, &label), LD_EVALUE);
    ld_loader_drop(l);
    ld_latents_drop(all);
}

/* A disk that gives no more: the error comes out of the batch, and the loader can be asked again. Last: the store is of no
 * use afterwards. */
static void lost(void **state) {
    (void)state;
    char shard[96];
    snprintf(shard, sizeof shard, "%s/a-001.h5", folder);
    ld_latent_store *own = ld_latent_store_open(path(), true);
    ld_latents *all = ld_latents_new(own);
    ld_loader *l = loader(all, (ld_loader_options){.batch = 90, .resident = 0});
    ld_tensor *x, *label;
    if (ld_latent_store_loaded(own)) { /* an earlier test had it in memory: this one needs the file */
        ld_loader_drop(l);
        ld_latents_drop(all);
        ld_latent_store_drop(own);
        ld_latent_store_drop(store);
        assert_non_null(store = ld_latent_store_open(path(), false));
        own = ld_latent_store_ref(store);
        all = ld_latents_new(own);
        l = loader(all, (ld_loader_options){.batch = 90, .resident = 0});
    }
    assert_false(ld_latent_store_loaded(own));
    assert_int_equal(truncate(shard, 4000), 0);
    for (int k = 0; k < 3; k++) {
        assert_int_equal(ld_loader_batch(l, 0, 90, &x, &label), LD_EFORMAT);
        assert_non_null(strstr(ld_error(), "a-001.h5' is shorter than it was"));
    }
    ld_loader_drop(l);
    ld_latents_drop(all);
    ld_latent_store_drop(own);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_sets), cmocka_unit_test(order),  cmocka_unit_test(ranks),
        cmocka_unit_test(mirrored),  cmocka_unit_test(misuse), cmocka_unit_test(lost),
    };
    return cmocka_run_group_tests(tests, make_store, remove_store);
}
