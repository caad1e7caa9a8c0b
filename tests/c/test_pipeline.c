/* The pipeline: order, aligned batches, what is passed over, bad pictures, bounds, errors of threads, stopping at any
 * moment. The source is made here, under the names of data/source.h, so that reading and decoding can be slow, fail or
 * stand still as each test wants; the linker then leaves the real one out. */
#include "base/error.h"
#include "data/pipeline.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "leak.h"

enum { SIZE = 8 };

/* ---- a source of pictures of one colour ----------------------------------------------------------------------------- */

struct ld_source {
    atomic_int refs;
    int64_t count;
    bool in_order, sizes; /* sizes: known before reading */
    size_t bytes;         /* of one file */
    int read_us, decode_us;
    int64_t unreadable, undecodable, poor; /* pictures: reading fails, decoding fails, memory ends; -1: none */
    /* a gate that reading of picture `stuck` waits at */
    int64_t stuck;
    pthread_mutex_t lock;
    pthread_cond_t gate;
    bool open;
    /* seen */
    atomic_int readers, reading, most_readers;
    atomic_llong last_read;
    atomic_bool out_of_order;
    atomic_llong reads, held, most_held;
};

static ld_source *active; /* ld_bytes_free has no source */

static ld_source *source(int64_t count) {
    ld_source *s = calloc(1, sizeof *s);
    s->refs = 1;
    s->count = count;
    s->bytes = 100;
    s->sizes = true;
    s->unreadable = s->undecodable = s->poor = s->stuck = -1;
    s->last_read = -1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->gate, NULL);
    active = s;
    return s;
}

ld_source *ld_source_ref(ld_source *s) {
    s->refs++;
    return s;
}

void ld_source_drop(ld_source *s) {
    if (--s->refs == 0) {
        pthread_cond_destroy(&s->gate);
        pthread_mutex_destroy(&s->lock);
        free(s);
    }
}

int64_t ld_source_count(const ld_source *s) {
    return s->count;
}

bool ld_source_in_order(const ld_source *s) {
    return s->in_order;
}

const char *ld_source_path(const ld_source *s) {
    (void)s;
    return "here";
}

const char *ld_source_name(const ld_source *s, int64_t i, char *name, size_t n) {
    (void)s;
    snprintf(name, n, "picture-%lld", (long long)i);
    return name;
}

int64_t ld_source_bytes(const ld_source *s, int64_t i) {
    (void)i;
    return s->sizes ? (int64_t)s->bytes : -1;
}

int32_t ld_source_label(const ld_source *s, int64_t i) {
    (void)s;
    return (int32_t)(i % 7) - 1;
}

struct ld_source_reader {
    ld_source *s;
};

ld_source_reader *ld_source_reader_new(ld_source *s) {
    ld_source_reader *r = malloc(sizeof *r);
    r->s = ld_source_ref(s);
    s->readers++;
    return r;
}

void ld_source_reader_drop(ld_source_reader *r) {
    if (r)
        ld_source_drop(r->s);
    free(r);
}

void ld_bytes_free(ld_bytes *b) {
    if (b->data)
        active->held -= (long long)b->room;
    free(b->data);
    *b = (ld_bytes){0};
}

static void most(atomic_llong *m, long long v) {
    long long is = *m;
    while (v > is && !atomic_compare_exchange_weak(m, &is, v))
        ;
}

static void pause_us(int us) {
    nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000L}, NULL);
}

int ld_source_read(ld_source_reader *r, int64_t i, ld_bytes *b, size_t limit) {
    ld_source *s = r->s;
    s->reads++;
    int at_once = ++s->reading;
    if (at_once > s->most_readers)
        s->most_readers = at_once;
    if (i <= s->last_read)
        s->out_of_order = true;
    s->last_read = i;
    if (i == s->stuck) {
        pthread_mutex_lock(&s->lock);
        while (!s->open)
            pthread_cond_wait(&s->gate, &s->lock);
        pthread_mutex_unlock(&s->lock);
    }
    if (s->read_us)
        pause_us(s->read_us);
    s->reading--;
    if (i == s->unreadable)
        return ld_fail(LD_EIO, "source: picture-%lld has vanished", (long long)i);
    if (s->bytes > limit)
        return ld_fail(LD_EVALUE, "source: picture-%lld is too large", (long long)i);
    *b = (ld_bytes){malloc(s->bytes), s->bytes, s->bytes};
    memset(b->data, (int)(i % 251), s->bytes);
    most(&s->most_held, s->held += (long long)s->bytes);
    return 0;
}

int ld_source_decode(const ld_source *s, int64_t i, const ld_bytes *b, const ld_decode *how, ld_image *im) {
    assert_int_equal(how->channels, 3);
    if (s->decode_us)
        pause_us(s->decode_us);
    if (i == s->poor)
        return ld_fail(LD_EMEM, "image: no memory for picture-%lld", (long long)i);
    if (i == s->undecodable)
        return ld_fail(LD_EFORMAT, "image: picture-%lld is none", (long long)i);
    if (ld_image_new(im, SIZE, SIZE, 3))
        return ld_error_code();
    memset(im->data, b->data[0], SIZE * SIZE * 3);
    return 0;
}

/* ---- helpers -------------------------------------------------------------------------------------------------------- */

static ld_pipeline *pipeline(ld_source *s, ld_pipeline_options o) {
    o.size = SIZE;
    ld_pipeline *p = ld_pipeline_new(s, &o);
    if (!p)
        fail_msg("%s", ld_error());
    return p;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The checks that every good picture passes. */
static void check_picture(const ld_batch *b, int at) {
    int64_t i = b->first + at;
    const uint8_t *x = (const uint8_t *)ld_tensor_data(b->x) + (size_t)at * SIZE * SIZE * 3;
    for (int k = 0; k < SIZE * SIZE * 3; k++)
        assert_int_equal(x[k], b->valid[at] ? i % 251 : 0);
    assert_int_equal(b->label[at], i % 7 - 1);
    assert_true(b->valid[at] == !b->why[at]);
}

/* CRC-32 bit by bit: the polynomial 0xedb88320. */
static uint32_t crc_of(int value, size_t n) {
    uint32_t c = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        c ^= (uint32_t)value;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ 0xedb88320 : c >> 1;
    }
    return ~c;
}

/* Takes everything; returns how many pictures came. */
static int64_t drain(ld_pipeline *p, int batch) {
    ld_batch b;
    int64_t pictures = 0, last = -1;
    int got;
    while ((got = ld_pipeline_next(p, &b)) == 1) {
        assert_int_equal(b.first % batch, 0);
        assert_true(b.first > last);
        last = b.first;
        for (int k = 0; k < b.count; k++)
            check_picture(&b, k);
        pictures += b.count;
        ld_batch_free(&b);
    }
    assert_int_equal(got, 0);
    assert_int_equal(ld_pipeline_next(p, &b), 0);
    return pictures;
}

/* ---- tests ---------------------------------------------------------------------------------------------------------- */

static void test_order(void **state) {
    (void)state;
    const struct {
        int64_t count;
        int batch, readers, decoders, ahead;
    } cases[] = {{1, 1, 1, 1, 1}, {1, 16, 2, 2, 1}, {37, 5, 1, 3, 2}, {200, 16, 4, 4, 3}, {64, 8, 3, 1, 1}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        ld_source *s = source(cases[k].count);
        s->decode_us = 50;
        ld_pipeline *p = pipeline(s, (ld_pipeline_options){.batch = cases[k].batch,
                                                           .readers = cases[k].readers,
                                                           .decoders = cases[k].decoders,
                                                           .ahead = cases[k].ahead});
        assert_int_equal(drain(p, cases[k].batch), cases[k].count);
        ld_pipeline_stats t;
        ld_pipeline_state(p, &t);
        assert_int_equal(t.read, cases[k].count);
        assert_int_equal(t.decoded, cases[k].count);
        assert_int_equal(t.bad, 0);
        assert_int_equal(t.left, 0);
        assert_int_equal(t.held, 0);
        ld_pipeline_drop(p);
        assert_int_equal(s->readers, cases[k].readers); /* the last may come when all is read */
        assert_int_equal(s->refs, 1);
        ld_source_drop(s);
    }
}

static void test_first_pictures(void **state) {
    (void)state;
    ld_source *s = source(100);
    ld_pipeline *p = pipeline(s, (ld_pipeline_options){.batch = 8, .count = 21});
    assert_int_equal(drain(p, 8), 21);
    assert_int_equal(s->reads, 21);
    ld_pipeline_drop(p);
    ld_source_drop(s);
    s = source(0);
    p = pipeline(s, (ld_pipeline_options){.batch = 8});
    assert_int_equal(drain(p, 8), 0);
    ld_pipeline_drop(p);
    ld_source_drop(s);
}

static void test_done(void **state) {
    (void)state;
    const int batch = 6; /* not a multiple of 8, so that batches cut bytes of the bitmap */
    uint8_t done[8] = {0};
    ld_source *s = source(50);
    int64_t want = 0;
    for (int i = 0; i < 50; i++)
        if (i / batch % 3 || i == 20) /* batches 1 2 4 5 7 8; one row of batch 3 */
            done[i / 8] |= (uint8_t)(1 << i % 8);
        else
            want += i / batch != 3;
    want += batch; /* batch 3 comes as a whole */
    ld_pipeline *p = pipeline(s, (ld_pipeline_options){.batch = batch, .done = done});
    memset(done, 255, sizeof done); /* was copied */
    ld_batch b;
    int64_t firsts[] = {0, 18, 36};
    for (int k = 0; k < 3; k++) {
        assert_int_equal(ld_pipeline_next(p, &b), 1);
        assert_int_equal(b.first, firsts[k]);
        assert_int_equal(b.count, batch);
        check_picture(&b, 2);
        want -= b.count;
        ld_batch_free(&b);
    }
    assert_int_equal(want, 0);
    assert_int_equal(ld_pipeline_next(p, &b), 0);
    assert_int_equal(s->reads, 18);
    ld_pipeline_drop(p);
    p = pipeline(s, (ld_pipeline_options){.batch = batch, .done = done});
    assert_int_equal(drain(p, batch), 0);
    ld_pipeline_drop(p);
    ld_source_drop(s);
}

static void test_bad(void **state) {
    (void)state;
    ld_source *s = source(20);
    s->unreadable = 3;
    s->undecodable = 17;
    ld_pipeline *p = pipeline(s, (ld_pipeline_options){.batch = 20});
    ld_batch b;
    assert_int_equal(ld_pipeline_next(p, &b), 1);
    for (int i = 0; i < 20; i++) {
        check_picture(&b, i);
        assert_int_equal(b.valid[i], i != 3 && i != 17);
        assert_int_equal(b.crc32[i], i == 3 ? 0 : crc_of(i, 100));
    }
    assert_string_equal(b.why[3], "source: picture-3 has vanished");
    assert_string_equal(b.why[17], "image: picture-17 is none");
    ld_batch_free(&b);
    ld_pipeline_stats t;
    ld_pipeline_state(p, &t);
    assert_int_equal(t.bad, 2);
    assert_int_equal(t.decoded, 18);
    ld_pipeline_drop(p);
    s->bytes = 5000; /* every file is larger than what is read */
    p = pipeline(s, (ld_pipeline_options){.batch = 20, .most = 4999});
    assert_int_equal(ld_pipeline_next(p, &b), 1);
    for (int i = 0; i < 20; i++)
        assert_int_equal(b.valid[i], 0);
    ld_batch_free(&b);
    ld_pipeline_drop(p);
    ld_source_drop(s);
}

static void test_in_order(void **state) {
    (void)state;
    ld_source *s = source(300);
    s->in_order = true;
    s->decode_us = 20;
    uint8_t done[38] = {0};
    done[3] = done[4] = 255; /* pictures 24 .. 39: batches 6 .. 9 */
    ld_pipeline *p = pipeline(s, (ld_pipeline_options){.batch = 4, .decoders = 4, .done = done});
    assert_int_equal(drain(p, 4), 284);
    assert_int_equal(s->readers, 1);
    assert_false(s->out_of_order);
    ld_pipeline_drop(p);
    ld_pipeline_options two = {.size = SIZE, .batch = 4, .readers = 2};
    assert_null(ld_pipeline_new(s, &two));
    assert_int_equal(ld_error_code(), LD_EVALUE);
    ld_source_drop(s);
}

/* Slow decoders: what has been read and not decoded stays below the bound; files larger than it come one by one. */
static void test_bounds(void **state) {
    (void)state;
    const struct {
        size_t bytes, raw, bound;
        bool sizes;
    } cases[] = {{1000, 3500, 3000, true}, {5000, 3500, 5000, true}, {1000, 3500, 4000 + 3 * 1000, false}};
    for (size_t k = 0; k < 3; k++) {
        ld_source *s = source(60);
        s->bytes = cases[k].bytes;
        s->sizes = cases[k].sizes;
        s->decode_us = 300;
        ld_pipeline *p = pipeline(
            s, (ld_pipeline_options){.batch = 8, .readers = 3, .decoders = 2, .ahead = 4, .raw_bytes = cases[k].raw});
        assert_int_equal(drain(p, 8), 60);
        assert_true(s->most_held > 0);
        if (s->most_held > (long long)cases[k].bound)
            fail_msg("case %zu: %lld bytes were held, %zu are allowed", k, (long long)s->most_held, cases[k].bound);
        ld_pipeline_drop(p);
        ld_source_drop(s);
    }
}

/* Without a taker the readers stop when the ring is full. */
static void test_ring(void **state) {
    (void)state;
    ld_source *s = source(1000);
    ld_pipeline *p = pipeline(s, (ld_pipeline_options){.batch = 4, .ahead = 3, .decoders = 3});
    double begun = now();
    ld_pipeline_stats t;
    do {
        pause_us(1000);
        ld_pipeline_state(p, &t);
    } while (t.ready < 3 && now() - begun < 20);
    pause_us(20000);
    assert_int_equal(s->reads, 12);
    ld_pipeline_state(p, &t);
    assert_int_equal(t.ready, 3);
    assert_int_equal(t.ready_room, 3);
    assert_true(t.memory > 3 * 4 * SIZE * SIZE * 3);
    assert_int_equal(drain(p, 4), 1000);
    ld_pipeline_drop(p);
    ld_source_drop(s);
}

static void test_memory_ends(void **state) {
    (void)state;
    ld_source *s = source(100);
    s->poor = 42;
    ld_pipeline *p = pipeline(s, (ld_pipeline_options){.batch = 4, .ahead = 2});
    ld_batch b;
    int got, batches = 0;
    while ((got = ld_pipeline_next(p, &b)) == 1) {
        batches++;
        ld_batch_free(&b);
    }
    assert_int_equal(got, -1);
    assert_int_equal(ld_error_code(), LD_EMEM);
    assert_non_null(strstr(ld_error(), "no memory for picture-42"));
    assert_true(batches <= 10);
    assert_int_equal(ld_pipeline_next(p, &b), -1); /* and stays so */
    ld_pipeline_drop(p);
    assert_int_equal(s->refs, 1);
    ld_source_drop(s);
}

static void test_interrupted(void **state) {
    (void)state;
    ld_source *s = source(10);
    s->stuck = 0;
    ld_pipeline *p = pipeline(s, (ld_pipeline_options){.batch = 4});
    double begun = now();
    assert_int_equal(ld_pipeline_wait(p, 0.02), 0);
    assert_true(now() - begun >= 0.02);
    ld_interrupt();
    ld_batch b;
    begun = now();
    assert_int_equal(ld_pipeline_next(p, &b), -1);
    assert_int_equal(ld_error_code(), LD_EINTERRUPT);
    assert_true(now() - begun < 2);
    pthread_mutex_lock(&s->lock);
    s->open = true;
    pthread_cond_broadcast(&s->gate);
    pthread_mutex_unlock(&s->lock);
    assert_int_equal(drain(p, 4), 10); /* an interruption breaks nothing */
    ld_pipeline_drop(p);
    ld_source_drop(s);
}

/* Dropped after any number of batches, with slow or fast stages. */
static void test_dropped(void **state) {
    (void)state;
    for (int k = 0; k < 200; k++) {
        ld_source *s = source(200);
        s->read_us = k % 3 == 0 ? 200 : 0;
        s->decode_us = k % 5 == 0 ? 200 : 0;
        s->unreadable = k % 7;
        ld_pipeline *p = pipeline(
            s,
            (ld_pipeline_options){.batch = 1 + k % 9, .readers = 1 + k % 4, .decoders = 1 + k % 3, .ahead = 1 + k % 5});
        ld_batch b;
        for (int n = 0; n < k % 11; n++) {
            assert_int_equal(ld_pipeline_next(p, &b), 1);
            ld_batch_free(&b);
        }
        if (k % 2)
            pause_us(k * 10);
        ld_pipeline_drop(p);
        assert_int_equal(s->refs, 1);
        assert_int_equal(s->held, 0);
        ld_source_drop(s);
    }
    ld_pipeline_drop(NULL);
}

/* What waits to be decoded is not decoded any more. */
static void test_dropped_soon(void **state) {
    (void)state;
    ld_source *s = source(100);
    s->decode_us = 100000;
    ld_pipeline *p = pipeline(s, (ld_pipeline_options){.batch = 64, .decoders = 1, .ahead = 1});
    for (int k = 0; k < 2000 && s->reads < 60; k++)
        pause_us(1000);
    double begun = now();
    ld_pipeline_drop(p);
    assert_true(now() - begun < 3);
    assert_int_equal(s->held, 0);
    ld_source_drop(s);
}

/* A reader that does not come back: drop returns, and the reader frees what is left when it does. */
static void test_stuck(void **state) {
    (void)state;
    ld_source *s = source(10);
    s->stuck = 1;
    ld_pipeline *p = pipeline(s, (ld_pipeline_options){.batch = 4});
    double begun = now();
    assert_int_equal(ld_pipeline_wait(p, 0.01), 0);
    ld_pipeline_drop(p);
    assert_true(now() - begun > 4 && now() - begun < 20);
    assert_true(s->refs > 1);
    pthread_mutex_lock(&s->lock);
    s->open = true;
    pthread_cond_broadcast(&s->gate);
    pthread_mutex_unlock(&s->lock);
    for (int k = 0; k < 2000 && s->refs > 1; k++)
        pause_us(10000);
    assert_int_equal(s->refs, 1);
    assert_int_equal(s->held, 0);
    pause_us(20000);
    ld_source_drop(s);
}

static void test_refusals(void **state) {
    (void)state;
    ld_source *s = source(10);
    const ld_pipeline_options wrong[] = {{.size = 0, .batch = 1},
                                         {.size = 20000, .batch = 1},
                                         {.size = 8, .batch = 0},
                                         {.size = 8, .batch = 1, .count = 11},
                                         {.size = 8, .batch = 1, .readers = -1},
                                         {.size = 8, .batch = 1, .decoders = 1000},
                                         {.size = 8, .batch = 1 << 16, .ahead = 1 << 16}};
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        assert_null(ld_pipeline_new(s, wrong + k));
        assert_int_equal(ld_error_code(), LD_EVALUE);
    }
    assert_int_equal(s->refs, 1);
    ld_source_drop(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        LEAK_TEST(test_order),   LEAK_TEST(test_first_pictures), LEAK_TEST(test_done),
        LEAK_TEST(test_bad),     LEAK_TEST(test_in_order),       LEAK_TEST(test_bounds),
        LEAK_TEST(test_ring),    LEAK_TEST(test_memory_ends),    LEAK_TEST(test_interrupted),
        LEAK_TEST(test_dropped), LEAK_TEST(test_dropped_soon),   LEAK_TEST(test_stuck),
        LEAK_TEST(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
