/* Latent stores: writing rows in a thread of its own, and finishing a store. */
#define _GNU_SOURCE /* locks of open files */

#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "data/latent_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SYNC_SECONDS = 10 };
static const size_t room = (size_t)64 << 20;

/* What one put gave; everything lies behind it in one block. */
typedef struct chunk {
    struct chunk *next;
    size_t bytes;
    int64_t first;
    int count;
    char *set[LD_LATENT_SETS];
    int64_t *crc32;
    int32_t *label;
    uint8_t *valid;
} chunk;

struct ld_latent_writer {
    latent_files files;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, moved; /* for the thread; for those who wait for it */
    chunk *head, *tail;
    size_t bytes; /* in the queue, what is being written included */
    int waiting;
    bool flush, stop;
    int code; /* the thread's error */
    char message[1024];
    double wait;
    uint8_t *done;           /* as on the disk */
    int64_t done_count;      /* bits in it */
    uint8_t *written;        /* done, and what was written since */
    int64_t lowest, highest; /* bytes of `written` that differ from `done`; lowest > highest: none */
    bool *dirty;             /* the parts written to since the last sync */
};

static size_t bitmap_bytes(const ld_latent_writer *w) {
    return (size_t)(w->files.info.count + 7) / 8;
}

static int64_t count_bits(const uint8_t *bits, size_t n) {
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += __builtin_popcount(bits[i]);
    return sum;
}

/* ---- the thread ----------------------------------------------------------------------------------------------------- */

static int write_chunk(ld_latent_writer *w, const chunk *c) {
    const latent_files *f = &w->files;
    for (int k = 0; k < LD_LATENT_SETS; k++)
        if (c->set[k] && latent_write_rows(f, (ld_latent_set)k, c->first, c->count, c->set[k]))
            return ld_error_code();
    for (int k = 0; k < f->parts; k++)
        if (c->first < f->part[k].first + f->part[k].rows && c->first + c->count > f->part[k].first)
            w->dirty[k] = true;
    size_t n = (size_t)c->count;
    if (latent_pwrite(f->fd, f->path, c->label, 4 * n, f->label + 4 * c->first) ||
        latent_pwrite(f->fd, f->path, c->valid, n, f->valid + c->first) ||
        latent_pwrite(f->fd, f->path, c->crc32, 8 * n, f->crc32 + 8 * c->first))
        return ld_error_code();
    for (int64_t i = c->first; i < c->first + c->count; i++)
        w->written[i / 8] |= (uint8_t)(1 << i % 8);
    w->lowest = c->first / 8 < w->lowest ? c->first / 8 : w->lowest;
    w->highest = (c->first + c->count - 1) / 8 > w->highest ? (c->first + c->count - 1) / 8 : w->highest;
    return 0;
}

/* Rows to the disk, then their bits, then those to the disk. */
static int bring_to_disk(ld_latent_writer *w) {
    const latent_files *f = &w->files;
    if (w->lowest > w->highest)
        return 0;
    for (int k = 0; k < f->parts; k++) {
        if (w->dirty[k] && f->part[k].fd != f->fd && latent_sync(f->part[k].fd, f->part[k].path))
            return ld_error_code();
        w->dirty[k] = false;
    }
    size_t n = (size_t)(w->highest - w->lowest + 1);
    if (latent_sync(f->fd, f->path) || latent_pwrite(f->fd, f->path, w->written + w->lowest, n, f->done + w->lowest) ||
        latent_sync(f->fd, f->path))
        return ld_error_code();
    pthread_mutex_lock(&w->lock);
    w->done_count += count_bits(w->written + w->lowest, n) - count_bits(w->done + w->lowest, n);
    memcpy(w->done + w->lowest, w->written + w->lowest, n);
    pthread_mutex_unlock(&w->lock);
    w->lowest = INT64_MAX;
    w->highest = -1;
    return 0;
}

/* Keeps this thread's error for the others. What was written before it is brought to the disk if that can be done; not when
 * that is what failed: asked once more, the system may say that all is well. */
static void fail(ld_latent_writer *w, bool while_writing) {
    char message[sizeof w->message];
    int code = ld_error_code();
    snprintf(message, sizeof message, "%s", ld_error());
    if (while_writing)
        bring_to_disk(w);
    pthread_mutex_lock(&w->lock);
    w->code = code;
    memcpy(w->message, message, sizeof message);
    pthread_cond_broadcast(&w->moved);
    pthread_mutex_unlock(&w->lock);
}

/* Waits for a chunk, a flush, the end, or `until`; the lock is held. */
static void wait_for_work(ld_latent_writer *w, double until) {
    struct timespec t = ld_clock_moment(until);
    while (!w->head && !w->flush && !w->stop && ld_clock() < until)
        pthread_cond_timedwait(&w->work, &w->lock, &t);
}

static void *run(void *arg) {
    ld_latent_writer *w = arg;
    double synced = ld_clock();
    for (;;) {
        pthread_mutex_lock(&w->lock);
        wait_for_work(w, synced + SYNC_SECONDS);
        chunk *c = w->head;
        bool flush = w->flush && !c, end = w->stop && !c;
        if (c && !(w->head = c->next))
            w->tail = NULL;
        pthread_mutex_unlock(&w->lock);
        int unwritten = c ? write_chunk(w, c) : 0, bad = unwritten;
        if (!bad && (flush || end || ld_clock() >= synced + SYNC_SECONDS)) {
            bad = bring_to_disk(w);
            synced = ld_clock();
        }
        if (bad)
            fail(w, unwritten != 0);
        pthread_mutex_lock(&w->lock);
        w->bytes -= c ? c->bytes : 0;
        w->waiting -= c != NULL;
        w->flush = w->flush && !flush;
        pthread_cond_broadcast(&w->moved);
        pthread_mutex_unlock(&w->lock);
        free(c);
        if (bad || end)
            return NULL;
    }
}

/* ---- opening and closing -------------------------------------------------------------------------------------------- */

static void discard(ld_latent_writer *w) {
    while (w->head) {
        chunk *c = w->head;
        w->head = c->next;
        free(c);
    }
    pthread_cond_destroy(&w->moved);
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    latent_files_close(&w->files);
    free(w->done);
    free(w->written);
    free(w->dirty);
    free(w);
}

/* A lock of the open file, which ends with it: the library's own locks are of another kind. */
static int lock_file(const latent_files *f) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(f->fd, F_OFD_SETLK, &whole) && (errno == EAGAIN || errno == EACCES))
        return ld_fail(LD_ESTATE, "latents: '%.900s' is being written by another process", f->path);
    return 0;
}

static int prepare(ld_latent_writer *w, const char *part) {
    if (latent_files_open(&w->files, part, true) || lock_file(&w->files))
        return ld_error_code();
    size_t n = bitmap_bytes(w);
    w->done = malloc(n);
    w->written = malloc(n);
    w->dirty = calloc((size_t)w->files.parts, sizeof *w->dirty);
    if (!w->done || !w->written || !w->dirty)
        return ld_fail(LD_EMEM, "latents: out of host memory");
    if (latent_pread(w->files.fd, part, w->done, n, w->files.done))
        return ld_error_code();
    memcpy(w->written, w->done, n);
    w->done_count = count_bits(w->done, n);
    w->lowest = INT64_MAX;
    w->highest = -1;
    if (ld_thread_start(&w->thread, run, w))
        return ld_fail(LD_EINTERNAL, "latents: no thread for writing can be started");
    return 0;
}

ld_latent_writer *ld_latent_writer_open(const char *part) {
    ld_latent_writer *w = calloc(1, sizeof *w);
    pthread_condattr_t steady;
    if (!w)
        return ld_fail_null(LD_EMEM, "latents: out of host memory");
    w->files.fd = -1;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_cond_init(&w->work, &steady);
    pthread_cond_init(&w->moved, &steady);
    pthread_condattr_destroy(&steady);
    if (!prepare(w, part))
        return w;
    discard(w);
    return NULL;
}

int ld_latent_writer_close(ld_latent_writer *w) {
    if (!w)
        return 0;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    int bad = w->code ? ld_fail(w->code, "%s", w->message) : 0;
    discard(w);
    return bad;
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

static int check_rows(const ld_latent_writer *w, const ld_latent_rows *r) {
    const ld_latent_info *info = &w->files.info;
    int64_t shape[4] = {r->count, info->channels, info->height, info->width};
    if (r->first < 0 || r->count < 1 || r->first + r->count > info->count)
        return ld_fail(LD_EINDEX, "latents: rows %lld to %lld of a store of %lld", (long long)r->first + 1,
                       (long long)r->first + r->count, (long long)info->count);
    for (int k = 0; k < LD_LATENT_SETS; k++) {
        const ld_tensor *x = r->set[k];
        if (!x != !info->set[k])
            return ld_fail(LD_EVALUE, x ? "latents: the store has no %s" : "latents: the store has %s, the rows do not",
                           latent_set_names[k] + 1);
        if (x && (x->ndim != 4 || memcmp(x->shape, shape, sizeof shape)))
            return ld_fail(LD_ESHAPE, "latents: %s is %s; %s is needed", latent_set_names[k] + 1, ld_tensor_text(x),
                           ld_shape_text(4, shape));
    }
    return 0;
}

/* x in the store's dtype, row-major. */
static int pack(const ld_latent_info *info, ld_tensor *x, void *out) {
    ld_tensor *host = ld_tensor_host(x, "latents");
    if (!host)
        return ld_error_code();
    ld_view to = {.dtype = info->dtype, .ndim = 4, .data = out}, from = ld_tensor_as_view(host);
    int64_t step = 1;
    for (int i = 3; i >= 0; i--) {
        to.shape[i] = x->shape[i];
        to.stride[i] = step;
        step *= x->shape[i];
    }
    int bad = host->storage->device->backend->copy(&to, &from);
    ld_tensor_drop(host);
    return bad;
}

static chunk *chunk_of(const ld_latent_info *info, const ld_latent_rows *r) {
    size_t n = (size_t)r->count, set = (n * info->row_bytes + 7) / 8 * 8, bytes = sizeof(chunk) + n * (8 + 4 + 1);
    for (int k = 0; k < LD_LATENT_SETS; k++)
        bytes += r->set[k] ? set : 0;
    chunk *c = malloc(bytes);
    if (!c)
        return ld_fail_null(LD_EMEM, "latents: out of host memory for %d rows", r->count);
    *c = (chunk){.bytes = bytes, .first = r->first, .count = r->count};
    char *at = (char *)(c + 1);
    for (int k = 0; k < LD_LATENT_SETS; k++)
        if (r->set[k]) {
            if (pack(info, r->set[k], at)) {
                free(c);
                return NULL;
            }
            c->set[k] = at;
            at += set;
        }
    c->crc32 = (int64_t *)(void *)at;
    c->label = (int32_t *)(void *)(at + 8 * n);
    c->valid = (uint8_t *)(at + 12 * n);
    for (size_t i = 0; i < n; i++) {
        c->crc32[i] = r->crc32 ? r->crc32[i] : 0;
        c->label[i] = r->label ? r->label[i] : -1;
        c->valid[i] = r->valid ? r->valid[i] != 0 : 1;
    }
    return c;
}

/* The thread's error as this thread's; the lock is held. */
static int told(const ld_latent_writer *w) {
    return w->code ? ld_fail(w->code, "%s", w->message) : 0;
}

int ld_latent_writer_put(ld_latent_writer *w, const ld_latent_rows *r) {
    if (check_rows(w, r))
        return ld_error_code();
    chunk *c = chunk_of(&w->files.info, r);
    if (!c)
        return ld_error_code();
    double started = ld_clock();
    pthread_mutex_lock(&w->lock);
    while (!w->code && w->waiting > 0 && w->bytes + c->bytes > room)
        pthread_cond_wait(&w->moved, &w->lock);
    w->wait += ld_clock() - started;
    int bad = told(w);
    if (!bad) {
        if (w->tail)
            w->tail->next = c;
        else
            w->head = c;
        w->tail = c;
        w->bytes += c->bytes;
        w->waiting++;
        pthread_cond_signal(&w->work);
    }
    pthread_mutex_unlock(&w->lock);
    if (bad)
        free(c);
    return bad;
}

int ld_latent_writer_flush(ld_latent_writer *w) {
    double started = ld_clock();
    pthread_mutex_lock(&w->lock);
    w->flush = true;
    pthread_cond_signal(&w->work);
    while (!w->code && w->flush)
        pthread_cond_wait(&w->moved, &w->lock);
    w->wait += ld_clock() - started;
    int bad = told(w);
    pthread_mutex_unlock(&w->lock);
    return bad;
}

int64_t ld_latent_writer_count(const ld_latent_writer *w) {
    return w->files.info.count;
}

int64_t ld_latent_writer_done_count(ld_latent_writer *w) {
    pthread_mutex_lock(&w->lock);
    int64_t n = w->done_count;
    pthread_mutex_unlock(&w->lock);
    return n;
}

const uint8_t *ld_latent_writer_done(ld_latent_writer *w) {
    return w->done;
}

void ld_latent_writer_state(ld_latent_writer *w, ld_latent_writer_stats *s) {
    pthread_mutex_lock(&w->lock);
    *s = (ld_latent_writer_stats){.waiting = w->waiting, .bytes = w->bytes, .room = room, .wait = w->wait};
    pthread_mutex_unlock(&w->lock);
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

static int write_statistics(const latent_files *f) {
    ld_latent_statistics m;
    size_t n = (size_t)f->info.channels * sizeof *m.mean;
    uint8_t *valid = malloc((size_t)f->info.count);
    int bad = valid ? latent_pread(f->fd, f->path, valid, (size_t)f->info.count, f->valid)
                    : ld_fail(LD_EMEM, "latents: out of host memory for %lld rows", (long long)f->info.count);
    bad = bad || latent_measure(f, valid, &m);
    free(valid);
    if (bad)
        return ld_error_code();
    if (m.bad >= 0)
        return ld_fail(
            LD_EVALUE,
            "latents: those of row %lld are infinite or not a number: too large for %s, or the VAE is broken; "
            "try f32",
            (long long)m.bad + 1, ld_dtype_names[f->info.dtype]);
    if (m.rows == 0)
        return ld_fail(LD_EVALUE, "latents: none of the pictures could be read");
    return latent_pwrite(f->fd, f->path, m.mean, n, f->mean) || latent_pwrite(f->fd, f->path, m.std, n, f->std)
               ? ld_error_code()
               : 0;
}

/* Drops ".part" where the file still has it. */
static int rename_final(const char *path) {
    char final[LD_PATH_MAX];
    if (!latent_is_part(path))
        return 0;
    snprintf(final, sizeof final, "%.*s", (int)(strlen(path) - 5), path);
    return ld_file_rename(path, final);
}

int ld_latent_writer_finish(ld_latent_writer *w) {
    const latent_files *f = &w->files;
    if (ld_latent_writer_flush(w))
        return ld_error_code();
    int64_t done = ld_latent_writer_done_count(w);
    if (done < f->info.count)
        return ld_fail(LD_ESTATE, "latents: '%.900s' has %lld of %lld rows", f->path, (long long)done,
                       (long long)f->info.count);
    if (write_statistics(f))
        return ld_error_code();
    static const uint8_t yes = 1;
    if (latent_sync(f->fd, f->path) || latent_pwrite(f->fd, f->path, &yes, 1, f->complete))
        return ld_error_code();
    for (int k = 0; k < f->parts; k++)
        if (f->part[k].fd != f->fd && rename_final(f->part[k].path))
            return ld_error_code();
    return rename_final(f->path);
}
