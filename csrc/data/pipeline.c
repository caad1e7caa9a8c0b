/* One mutex guards everything but what a thread has claimed: a reader owns the picture it claimed, a decoder the entry it
 * took from the queue and that picture's place in its batch. Readers claim pictures in ascending order, and only pictures
 * of the `ahead` batches after the last one taken, so that a decoder never waits for anything but files, and whatever is
 * read drains: no order of threads can lock up. A claimed picture that waits for room gets it once the others have drained. */
#include "data/pipeline.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "io/hash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GRACE = 5, NAME = 512, AHEAD = 4, MOST_WAITING = 1 << 24 };

/* One batch in the making. */
typedef struct place {
    int64_t first;
    int count, left; /* pictures; those not yet finished */
    uint8_t *x;
    int32_t *label;
    uint8_t *valid;
    uint32_t *crc32;
    char **why;
} place;

/* A file that has been read. */
typedef struct file {
    int64_t i; /* picture */
    place *to;
    int at; /* in its batch */
    size_t reserved;
    ld_bytes bytes;
} file;

struct ld_pipeline {
    pthread_mutex_t lock;
    pthread_cond_t room;  /* readers: a batch was taken, bytes were freed */
    pthread_cond_t files; /* decoders: a file was read, or none will come */
    pthread_cond_t ready; /* the taker */
    pthread_cond_t gone;  /* a thread has ended */
    ld_source *source;
    ld_pipeline_options o;
    size_t pixels; /* bytes of one picture */
    uint8_t *done;
    place *place; /* ring of o.ahead */
    file *queue;  /* ring of o.ahead * o.batch */
    int queue_room, queue_first, queued;
    size_t held;                  /* bytes reserved by files that are being read, wait, or are being decoded */
    int64_t batches;              /* to be taken in all */
    int64_t begun, taken;         /* of them: claimed from by readers; taken */
    int64_t next_batch;           /* where the search for an unfinished batch goes on */
    int64_t current, current_end; /* pictures of the batch that is being claimed */
    int reading;                  /* readers that may still bring files */
    int code;                     /* what a thread has met */
    char *message;
    bool stop, abandoned;
    int alive;
    pthread_t *thread;
    int threads;
    ld_pipeline_stats stats;
};

/* ---- memory --------------------------------------------------------------------------------------------------------- */

static void place_clear(place *b) {
    for (int i = 0; b->why && i < b->count; i++) {
        free(b->why[i]);
        b->why[i] = NULL;
    }
}

static void free_all(ld_pipeline *p) {
    for (int k = 0; p->place && k < p->o.ahead; k++) {
        place *b = p->place + k;
        place_clear(b);
        free(b->x);
        free(b->label);
        free(b->valid);
        free(b->crc32);
        free(b->why);
    }
    for (int k = 0; k < p->queued; k++)
        ld_bytes_free(&p->queue[(p->queue_first + k) % p->queue_room].bytes);
    free(p->place);
    free(p->queue);
    free(p->done);
    free(p->thread);
    free(p->message);
    ld_source_drop(p->source);
    pthread_cond_destroy(&p->room);
    pthread_cond_destroy(&p->files);
    pthread_cond_destroy(&p->ready);
    pthread_cond_destroy(&p->gone);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static bool make_places(ld_pipeline *p) {
    size_t n = (size_t)p->o.batch;
    p->queue_room = p->o.ahead * p->o.batch;
    p->queue = calloc((size_t)p->queue_room, sizeof *p->queue);
    p->place = calloc((size_t)p->o.ahead, sizeof *p->place);
    if (!p->queue || !p->place)
        return false;
    for (int k = 0; k < p->o.ahead; k++) {
        place *b = p->place + k;
        b->x = malloc(n * p->pixels);
        b->label = calloc(n, sizeof *b->label);
        b->valid = calloc(n, sizeof *b->valid);
        b->crc32 = calloc(n, sizeof *b->crc32);
        b->why = calloc(n, sizeof *b->why);
        if (!b->x || !b->label || !b->valid || !b->crc32 || !b->why)
            return false;
    }
    size_t one = n * (p->pixels + sizeof(int32_t) + 1 + sizeof(uint32_t) + sizeof(char *)) + sizeof *p->place;
    p->stats.memory = (size_t)p->o.ahead * one + (size_t)p->queue_room * sizeof *p->queue + sizeof *p +
                      (p->done ? (size_t)(p->o.count + 7) / 8 : 0) + p->o.raw_bytes;
    return true;
}

/* ---- batches that are still to be made ------------------------------------------------------------------------------ */

static int64_t batch_end(const ld_pipeline *p, int64_t batch) {
    int64_t end = (batch + 1) * p->o.batch;
    return end < p->o.count ? end : p->o.count;
}

static bool finished(const ld_pipeline *p, int64_t batch) {
    if (!p->done)
        return false;
    for (int64_t i = batch * p->o.batch; i < batch_end(p, batch); i++)
        if (!(p->done[i / 8] >> i % 8 & 1))
            return false;
    return true;
}

static int64_t all_batches(const ld_pipeline *p) {
    return (p->o.count + p->o.batch - 1) / p->o.batch;
}

static void count_batches(ld_pipeline *p) {
    for (int64_t b = 0; b < all_batches(p); b++)
        if (!finished(p, b)) {
            p->batches++;
            p->stats.left += batch_end(p, b) - b * p->o.batch;
        }
}

static place *place_of(ld_pipeline *p, int64_t nth) {
    return p->place + nth % p->o.ahead;
}

/* The next unfinished batch gets its place in the ring. */
static void begin_batch(ld_pipeline *p) {
    while (finished(p, p->next_batch))
        p->next_batch++;
    place *b = place_of(p, p->begun);
    p->current = b->first = p->next_batch * p->o.batch;
    p->current_end = batch_end(p, p->next_batch);
    b->count = b->left = (int)(p->current_end - p->current);
    p->next_batch++;
    p->begun++;
}

/* ---- threads -------------------------------------------------------------------------------------------------------- */

/* A failure that is no picture's fault ends the work. With the lock held. */
static void give_up(ld_pipeline *p, int code, const char *message) {
    if (!p->code) {
        p->code = code;
        p->message = strdup(message);
    }
    p->stop = true;
    pthread_cond_broadcast(&p->room);
    pthread_cond_broadcast(&p->files);
    pthread_cond_broadcast(&p->ready);
}

/* The picture of f is done, well or badly (why, malloc'd). With the lock held; f's bytes are the caller's. */
static void finish(ld_pipeline *p, const file *f, uint32_t crc32, char *why) {
    place *b = f->to;
    b->label[f->at] = ld_source_label(p->source, f->i);
    b->valid[f->at] = !why;
    b->crc32[f->at] = crc32;
    b->why[f->at] = why;
    p->stats.bad += why != NULL;
    p->held -= f->reserved;
    if (--b->left == 0)
        pthread_cond_signal(&p->ready);
    pthread_cond_broadcast(&p->room);
}

static void wait_for(ld_pipeline *p, pthread_cond_t *what, double *waited) {
    double t = ld_clock();
    pthread_cond_wait(what, &p->lock);
    *waited += ld_clock() - t;
}

/* Claims the next picture. false: there is none, or the work is to stop. With the lock held. */
static bool claim(ld_pipeline *p, file *f) {
    while (!p->stop && p->current == p->current_end) {
        if (p->begun == p->batches)
            return false;
        if (p->begun == p->taken + p->o.ahead)
            wait_for(p, &p->room, &p->stats.read_wait);
        else
            begin_batch(p);
    }
    if (p->stop)
        return false;
    place *b = place_of(p, p->begun - 1);
    *f = (file){.i = p->current, .to = b, .at = (int)(p->current - b->first)};
    p->current++;
    return true;
}

/* Waits for room for n bytes. false: the work is to stop. With the lock held. */
static bool reserve(ld_pipeline *p, file *f, size_t n) {
    while (!p->stop && p->held && p->held + n > p->o.raw_bytes)
        wait_for(p, &p->room, &p->stats.read_wait);
    f->reserved = p->stop ? 0 : n;
    p->held += f->reserved;
    return !p->stop;
}

/* What picture i will take of the room; 0 where that is not known. May ask the file system: without the lock. */
static size_t bytes_of(const ld_pipeline *p, int64_t i) {
    int64_t n = ld_source_bytes(p->source, i);
    return n > 0 && (uint64_t)n <= p->o.most ? (size_t)n : 0;
}

static char *reason(const ld_pipeline *p, int64_t i) {
    char name[NAME];
    const char *text = ld_error();
    char *copy = strdup(*text ? text : ld_source_name(p->source, i, name, sizeof name));
    return copy ? copy : strdup("out of memory");
}

/* A reason to blame on the picture, or the end of the work. With the lock held. */
static void fail(ld_pipeline *p, const file *f, uint32_t crc32, char *why) {
    memset(f->to->x + (size_t)f->at * p->pixels, 0, p->pixels);
    if (ld_error_code() == LD_EMEM || !why)
        give_up(p, LD_EMEM, ld_error());
    finish(p, f, crc32, why);
}

static void leave(ld_pipeline *p) {
    p->alive--;
    bool last = p->abandoned && p->alive == 0;
    pthread_cond_signal(&p->gone);
    pthread_mutex_unlock(&p->lock);
    if (last)
        free_all(p);
}

static void *read_files(void *arg) {
    ld_pipeline *p = arg;
    file f;
    ld_source_reader *r = ld_source_reader_new(p->source);
    pthread_mutex_lock(&p->lock);
    if (!r)
        give_up(p, ld_error_code(), ld_error());
    while (r && claim(p, &f)) {
        pthread_mutex_unlock(&p->lock);
        size_t n = bytes_of(p, f.i);
        pthread_mutex_lock(&p->lock);
        if (!reserve(p, &f, n))
            break;
        pthread_mutex_unlock(&p->lock);
        int bad = ld_source_read(r, f.i, &f.bytes, p->o.most);
        char *why = bad ? reason(p, f.i) : NULL;
        if (bad)
            ld_bytes_free(&f.bytes);
        pthread_mutex_lock(&p->lock);
        if (bad) {
            fail(p, &f, 0, why);
            continue;
        }
        p->held += f.bytes.n - f.reserved;
        f.reserved = f.bytes.n;
        p->stats.read++;
        p->queue[(p->queue_first + p->queued++) % p->queue_room] = f;
        pthread_cond_signal(&p->files);
    }
    if (--p->reading == 0)
        pthread_cond_broadcast(&p->files);
    pthread_mutex_unlock(&p->lock);
    ld_source_reader_drop(r);
    pthread_mutex_lock(&p->lock);
    leave(p);
    return NULL;
}

static int decode(const ld_pipeline *p, const file *f) {
    ld_decode how = {.channels = 3, .exif = p->o.exif, .scale_for = ld_transform_scale_for(p->o.transform, p->o.size)};
    ld_image im = {0}, out = {0};
    int bad = ld_source_decode(p->source, f->i, &f->bytes, &how, &im);
    if (!bad)
        bad = ld_image_transform(&out, &im, p->o.size, p->o.transform);
    if (!bad)
        memcpy(f->to->x + (size_t)f->at * p->pixels, out.data, p->pixels);
    ld_image_free(&im);
    ld_image_free(&out);
    return bad;
}

static void *decode_files(void *arg) {
    ld_pipeline *p = arg;
    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        if (!p->queued) {
            if (!p->reading)
                break;
            wait_for(p, &p->files, &p->stats.decode_wait);
            continue;
        }
        file f = p->queue[p->queue_first];
        p->queue_first = (p->queue_first + 1) % p->queue_room;
        p->queued--;
        pthread_mutex_unlock(&p->lock);
        uint32_t crc32 = ld_crc32(f.bytes.data, f.bytes.n);
        int bad = decode(p, &f);
        char *why = bad ? reason(p, f.i) : NULL;
        ld_bytes_free(&f.bytes);
        pthread_mutex_lock(&p->lock);
        if (bad)
            fail(p, &f, crc32, why);
        else
            finish(p, &f, crc32, NULL);
        p->stats.decoded += !bad;
    }
    leave(p);
    return NULL;
}

/* ---- from outside --------------------------------------------------------------------------------------------------- */

static int check(const ld_source *s, const ld_pipeline_options *o) {
    if (o->size < 1 || o->size > 16384)
        return ld_fail(LD_EVALUE, "pipeline: a size of %d; 1 to 16384 are possible", o->size);
    if (o->batch < 1 || o->ahead < 0 || o->readers < 0 || o->decoders < 0 || o->batch > 1 << 20 || o->ahead > 1 << 16)
        return ld_fail(LD_EVALUE,
                       "pipeline: batch %d, ahead %d, readers %d, decoders %d; a batch of at least 1 is needed, "
                       "and no negative number",
                       o->batch, o->ahead, o->readers, o->decoders);
    if ((int64_t)o->batch * (o->ahead ? o->ahead : AHEAD) > MOST_WAITING)
        return ld_fail(LD_EVALUE, "pipeline: %d batches of %d pictures ahead; %d pictures in all are possible",
                       o->ahead ? o->ahead : AHEAD, o->batch, MOST_WAITING);
    if (o->readers > 256 || o->decoders > 256)
        return ld_fail(LD_EVALUE, "pipeline: %d readers and %d decoders; at most 256 are possible", o->readers,
                       o->decoders);
    if (o->count < 0 || o->count > ld_source_count(s))
        return ld_fail(LD_EVALUE, "pipeline: %lld pictures of a source of %lld", (long long)o->count,
                       (long long)ld_source_count(s));
    if (o->readers > 1 && ld_source_in_order(s))
        return ld_fail(LD_EVALUE, "pipeline: %d readers; %s is read in order, by one", o->readers, ld_source_path(s));
    return 0;
}

static ld_pipeline_options with_defaults(ld_source *s, ld_pipeline_options o) {
    o.count = o.count ? o.count : ld_source_count(s);
    o.readers = o.readers ? o.readers : ld_source_in_order(s) ? 1 : 2;
    o.decoders = o.decoders ? o.decoders : ld_threads();
    o.ahead = o.ahead ? o.ahead : AHEAD;
    o.raw_bytes = o.raw_bytes ? o.raw_bytes : (size_t)64 << 20;
    o.most = o.most ? o.most : (size_t)256 << 20;
    return o;
}

static int start(ld_pipeline *p) {
    int wrong = 0;
    pthread_mutex_lock(&p->lock);
    while (p->threads < p->o.readers + p->o.decoders && !wrong) {
        bool reads = p->threads < p->o.readers;
        wrong = ld_thread_start(p->thread + p->threads, reads ? read_files : decode_files, p);
        if (!wrong) {
            p->threads++;
            p->alive++;
            p->reading += reads;
        }
    }
    p->stop = wrong != 0;
    pthread_mutex_unlock(&p->lock);
    return wrong ? ld_fail(LD_EINTERNAL, "pipeline: no thread number %d of %d: %s", p->threads + 1,
                           p->o.readers + p->o.decoders, strerror(wrong))
                 : 0;
}

ld_pipeline *ld_pipeline_new(ld_source *s, const ld_pipeline_options *options) {
    if (check(s, options))
        return NULL;
    ld_pipeline *p = calloc(1, sizeof *p);
    if (!p)
        return ld_fail_null(LD_EMEM, "pipeline: out of host memory");
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->room, NULL);
    pthread_cond_init(&p->files, NULL);
    pthread_cond_init(&p->ready, &clock);
    pthread_cond_init(&p->gone, &clock);
    pthread_condattr_destroy(&clock);
    p->source = ld_source_ref(s);
    p->o = with_defaults(s, *options);
    p->pixels = (size_t)p->o.size * (size_t)p->o.size * 3;
    p->thread = calloc((size_t)(p->o.readers + p->o.decoders), sizeof *p->thread);
    bool fits = p->thread;
    if (options->done && fits) {
        size_t n = (size_t)(p->o.count + 7) / 8;
        fits = (p->done = malloc(n + 1));
        if (fits)
            memcpy(p->done, options->done, n);
    }
    p->o.done = NULL;
    if (!fits || !make_places(p)) {
        ld_fail(LD_EMEM, "pipeline: out of host memory for %d batches of %d pictures of %d x %d", p->o.ahead,
                p->o.batch, p->o.size, p->o.size);
        free_all(p);
        return NULL;
    }
    count_batches(p);
    if (start(p)) {
        ld_pipeline_drop(p);
        return NULL;
    }
    return p;
}

int ld_pipeline_wait(ld_pipeline *p, double seconds) {
    const double slice = 0.05; /* how soon an interruption is seen */
    double begun = ld_clock(), t = begun;
    int result = 0;
    pthread_mutex_lock(&p->lock);
    while (!result) {
        if (ld_interrupted())
            result = -1;
        else if (p->code)
            result = ld_fail(p->code, "%s", p->message ? p->message : "pipeline: out of host memory") ? -1 : 0;
        else if (p->taken == p->batches || (p->begun > p->taken && place_of(p, p->taken)->left == 0))
            result = 1;
        else if (t - begun >= seconds)
            break;
        else {
            double until = begun + seconds < t + slice ? begun + seconds : t + slice;
            struct timespec end = ld_clock_moment(until);
            pthread_cond_timedwait(&p->ready, &p->lock, &end);
            t = ld_clock();
        }
    }
    p->stats.take_wait += ld_clock() - begun;
    pthread_mutex_unlock(&p->lock);
    return result;
}

static void *copy_of(const void *from, size_t n) {
    void *to = malloc(n);
    return to ? memcpy(to, from, n) : NULL;
}

/* The batch out of its place: pixels and numbers are copied, reasons handed over. */
static int hand_over(ld_pipeline *p, place *from, ld_batch *b) {
    size_t n = (size_t)from->count;
    int64_t shape[4] = {from->count, 3, p->o.size, p->o.size};
    *b = (ld_batch){.first = from->first, .count = from->count};
    b->x = ld_tensor_new(ld_device_find("cpu"), LD_U8, 4, shape, "pipeline");
    if (!b->x)
        return ld_error_code();
    memcpy(ld_tensor_data(b->x), from->x, n * p->pixels);
    b->label = copy_of(from->label, n * sizeof *b->label);
    b->valid = copy_of(from->valid, n);
    b->crc32 = copy_of(from->crc32, n * sizeof *b->crc32);
    b->why = copy_of(from->why, n * sizeof *b->why);
    if (b->why)
        memset(from->why, 0, n * sizeof *from->why);
    if (b->label && b->valid && b->crc32 && b->why)
        return 0;
    ld_batch_free(b);
    return ld_fail(LD_EMEM, "pipeline: out of host memory for a batch of %d", from->count);
}

int ld_pipeline_next(ld_pipeline *p, ld_batch *b) {
    int ready = 0;
    while (!ready)
        ready = ld_pipeline_wait(p, 60);
    if (ready < 0)
        return -1;
    if (p->taken == p->batches) /* only this thread changes it */
        return 0;
    if (hand_over(p, place_of(p, p->taken), b))
        return -1;
    pthread_mutex_lock(&p->lock);
    p->taken++;
    p->stats.left -= b->count;
    pthread_cond_broadcast(&p->room);
    pthread_mutex_unlock(&p->lock);
    return 1;
}

void ld_batch_free(ld_batch *b) {
    for (int i = 0; b->why && i < b->count; i++)
        free(b->why[i]);
    free(b->why);
    free(b->label);
    free(b->valid);
    free(b->crc32);
    ld_tensor_drop(b->x);
    *b = (ld_batch){0};
}

void ld_pipeline_state(ld_pipeline *p, ld_pipeline_stats *s) {
    pthread_mutex_lock(&p->lock);
    *s = p->stats;
    s->raw = p->queued;
    s->raw_room = p->queue_room;
    s->ready_room = p->o.ahead;
    s->readers = p->o.readers;
    s->decoders = p->o.decoders;
    s->held = p->held;
    for (int64_t k = p->taken; k < p->begun; k++)
        s->ready += place_of(p, k)->left == 0;
    pthread_mutex_unlock(&p->lock);
}

void ld_pipeline_drop(ld_pipeline *p) {
    if (!p)
        return;
    struct timespec end = ld_clock_moment(ld_clock() + GRACE);
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->room);
    pthread_cond_broadcast(&p->files);
    while (p->alive && pthread_cond_timedwait(&p->gone, &p->lock, &end) != ETIMEDOUT)
        ;
    bool hang = p->alive > 0;
    int threads = p->threads;
    for (int k = 0; k < threads && hang; k++)
        pthread_detach(p->thread[k]);
    p->abandoned = hang;
    pthread_mutex_unlock(&p->lock);
    if (hang)
        return;
    for (int k = 0; k < threads; k++)
        pthread_join(p->thread[k], NULL);
    free_all(p);
}
