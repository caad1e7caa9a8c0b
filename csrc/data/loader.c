/* Batches of latents for training: from memory, read ahead by threads, or gathered in the memory of a device. */
#include "data/loader.h"

#include "backend/device.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/rng.h"
#include "base/thread.h"
#include "data/augment.h"
#include "op/check.h"
#include "optim/grad_exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AHEAD = 4, THREADS = 4, MOST = 64, TURN = 8 }; /* TURN: rows a thread takes at a time */

/* A batch on its way. */
typedef struct slot {
    int64_t images;
    int count, share; /* rows of all ranks, of this one */
    int64_t *row;     /* share of each: 2 * row + mirrored, with its place below */
    int *place;       /* in the batch; both sorted by row, as they lie in the file */
    int64_t *label;
    float *x;
    int room;         /* rows that there is memory for */
    int begun, ended; /* rows taken by threads, rows that they have done with */
    int code;
    char message[1024];
} slot;

struct ld_loader {
    ld_latents *data;
    ld_loader_options o;
    int64_t n;
    size_t numel;
    bool resident;
    ld_device *device;        /* where batches are made: the CPU, or where the latents are placed */
    ld_tensor *placed;        /* the store's (latent_store.h), or NULL */
    bool plain;               /* rows are batches as they are */
    ld_tensor *shift, *scale; /* (C) f32 on `device`, or NULL */
    double wait, spent;
    int64_t batches;
    slot *slot; /* a ring: `used` of them from `head` on */
    int head, used;
    int64_t following; /* the clock behind the last of them */
    int threads;
    pthread_t thread[MOST];
    pthread_mutex_t lock;
    pthread_cond_t work, ready;
    bool stop;
};

/* ---- which rows ----------------------------------------------------------------------------------------------------- */

int ld_loader_next(const ld_loader *l, int64_t *images) {
    int64_t left = l->n - *images % l->n;
    if (left < 2 && l->o.batch >= 2) {
        *images += left;
        left = l->n;
    }
    return (int)(left < l->o.batch ? left : l->o.batch);
}

/* This rank's share of a batch of `count`: how many rows, from *first on. */
static int share_of(const ld_loader *l, int count, int *first) {
    int own, behind, pieces = ld_sum_pieces(count, l->o.micro, l->o.ranks);
    ld_sum_own(pieces, l->o.rank, l->o.ranks, &own, &behind);
    *first = ld_sum_first(count, l->o.micro, pieces, own);
    return ld_sum_first(count, l->o.micro, pieces, behind) - *first;
}

/* Row i of a share that begins at `first` of its batch, and whether it is mirrored. */
static int64_t row_of(const ld_loader *l, int64_t images, int first, int i) {
    int64_t in_batch = (int64_t)first + i, position = images % l->n + in_batch;
    int64_t row = ld_latents_row(l->data, ld_shuffle_position(position, l->n, l->o.seed, (uint64_t)(images / l->n)));
    uint32_t u[4] = {0};
    if (l->o.mirror)
        ld_philox(l->o.seed, LD_RNG_MIRROR, (uint64_t)(images + in_batch), 0, u);
    return 2 * row + (u[0] >> 31);
}

static int check_batch(const ld_loader *l, int64_t images, int count) {
    if (images < 0 || count < 1 || images % l->n + count > l->n)
        return ld_fail(LD_EVALUE, "loader: %d pictures at %lld go beyond the epoch's %lld", count, (long long)images,
                       (long long)l->n);
    return 0;
}

/* One row as it is to be trained on. Any thread; `raw` has room for a row. */
static int read_row(const ld_loader *l, int64_t row, char *raw, float *out) {
    const ld_latent_store *s = ld_latents_store(l->data);
    if (ld_latent_store_read(s, row & 1 ? LD_LATENT_MIRRORED_MEAN : LD_LATENT_MEAN, row >> 1, 1, raw))
        return ld_error_code();
    ld_latent_widen(ld_latent_store_info(s), raw, out);
    return 0;
}

/* ---- reading ahead -------------------------------------------------------------------------------------------------- */

/* The oldest batch with rows that no thread has taken; the lock is held. */
static slot *open_slot(const ld_loader *l) {
    for (int k = 0; k < l->used; k++) {
        slot *s = &l->slot[(l->head + k) % l->o.ahead];
        if (s->begun < s->share)
            return s;
    }
    return NULL;
}

static int read_turn(const ld_loader *l, const slot *s, int first, int n, char *raw) {
    for (int i = first; i < first + n; i++)
        if (read_row(l, s->row[i], raw, s->x + (size_t)s->place[i] * l->numel))
            return ld_error_code();
    return 0;
}

static void *run(void *arg) {
    ld_loader *l = arg;
    char *raw = malloc(ld_latent_store_info(ld_latents_store(l->data))->row_bytes);
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        slot *s = open_slot(l);
        if (!s) {
            pthread_cond_wait(&l->work, &l->lock);
            continue;
        }
        int first = s->begun, n = s->share - first < TURN ? s->share - first : TURN;
        s->begun += n;
        pthread_mutex_unlock(&l->lock);
        int bad = raw ? read_turn(l, s, first, n, raw) : ld_fail(LD_EMEM, "loader: out of host memory");
        pthread_mutex_lock(&l->lock);
        if (bad && !s->code) {
            s->code = bad;
            snprintf(s->message, sizeof s->message, "%s", ld_error());
        }
        s->ended += n;
        if (s->ended == s->share)
            pthread_cond_broadcast(&l->ready);
    }
    pthread_mutex_unlock(&l->lock);
    free(raw);
    return NULL;
}

typedef struct pair {
    int64_t row;
    int place;
} pair;

static int by_row(const void *a, const void *b) {
    int64_t x = ((const pair *)a)->row, y = ((const pair *)b)->row;
    return (x > y) - (x < y);
}

static int make_room(const ld_loader *l, slot *s, int share) {
    if (s->room >= share)
        return 0;
    free(s->row), free(s->place), free(s->label), free(s->x);
    size_t n = (size_t)share;
    s->row = malloc(n * sizeof *s->row);
    s->place = malloc(n * sizeof *s->place);
    s->label = malloc(n * sizeof *s->label);
    s->x = malloc(n * l->numel * sizeof *s->x);
    s->room = s->row && s->place && s->label && s->x ? share : 0;
    return s->room ? 0 : LD_EMEM;
}

/* One more batch behind those in the ring, for the threads. */
static int enqueue(ld_loader *l, int64_t images, int count) {
    slot *s = &l->slot[(l->head + l->used) % l->o.ahead];
    int first, share = share_of(l, count, &first);
    pair *p = malloc((size_t)share * sizeof *p);
    if (!p || make_room(l, s, share)) {
        free(p);
        return ld_fail(LD_EMEM, "loader: out of host memory for a batch of %d", share);
    }
    for (int i = 0; i < share; i++) {
        p[i] = (pair){row_of(l, images, first, i), i};
        s->label[i] = ld_latent_store_label(ld_latents_store(l->data), p[i].row >> 1);
    }
    qsort(p, (size_t)share, sizeof *p, by_row);
    for (int i = 0; i < share; i++) {
        s->row[i] = p[i].row;
        s->place[i] = p[i].place;
    }
    free(p);
    pthread_mutex_lock(&l->lock);
    s->images = images, s->count = count, s->share = share;
    s->begun = s->ended = s->code = 0;
    l->following = images + count;
    l->used++;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    return 0;
}

static void wait_slot(ld_loader *l, const slot *s) {
    pthread_mutex_lock(&l->lock);
    while (s->ended < s->share)
        pthread_cond_wait(&l->ready, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

static void pop(ld_loader *l) {
    pthread_mutex_lock(&l->lock);
    l->used--;
    l->head = (l->head + 1) % l->o.ahead;
    pthread_mutex_unlock(&l->lock);
}

/* Forgets every batch on its way. */
static void empty(ld_loader *l) {
    pthread_mutex_lock(&l->lock);
    for (int k = 0; k < l->used; k++) { /* rows not yet taken stay so */
        slot *s = &l->slot[(l->head + k) % l->o.ahead];
        s->ended += s->share - s->begun;
        s->begun = s->share;
    }
    pthread_mutex_unlock(&l->lock);
    while (l->used) {
        wait_slot(l, &l->slot[l->head]);
        pop(l);
    }
}

static void stop_threads(ld_loader *l) {
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->threads; i++)
        pthread_join(l->thread[i], NULL);
    l->threads = 0;
    for (int k = 0; l->slot && k < l->o.ahead; k++) {
        slot *s = &l->slot[k];
        free(s->row), free(s->place), free(s->label), free(s->x);
    }
    free(l->slot);
    l->slot = NULL;
}

/* Those that follow the last one, as many as there is room for. */
static int look_ahead(ld_loader *l) {
    while (l->used < l->o.ahead) {
        int64_t images = l->following;
        int count = ld_loader_next(l, &images);
        if (enqueue(l, images, count))
            return ld_error_code();
    }
    return 0;
}

/* The batch at the head of the ring is this one, and as many as possible follow it. */
static int expect(ld_loader *l, int64_t images, int count) {
    const slot *s = &l->slot[l->head];
    if (l->used && s->images == images && s->count == count)
        return 0;
    empty(l);
    return enqueue(l, images, count) || look_ahead(l) ? ld_error_code() : 0;
}

static int take(ld_loader *l, int64_t images, int count, float *x, int64_t *label) {
    double started = ld_clock();
    if (expect(l, images, count))
        return ld_error_code();
    const slot *s = &l->slot[l->head];
    wait_slot(l, s);
    l->wait += ld_clock() - started;
    int bad = s->code ? ld_fail(s->code, "%s", s->message) : 0;
    if (bad) {
        empty(l);
        return bad;
    }
    memcpy(x, s->x, (size_t)s->share * l->numel * sizeof *x);
    memcpy(label, s->label, (size_t)s->share * sizeof *label);
    pop(l);
    return look_ahead(l);
}

/* ---- from memory ---------------------------------------------------------------------------------------------------- */

static int gather(ld_loader *l, int64_t images, int count, float *x, int64_t *label) {
    int first, share = share_of(l, count, &first);
    char *raw = malloc(ld_latent_store_info(ld_latents_store(l->data))->row_bytes);
    int bad = raw ? 0 : ld_fail(LD_EMEM, "loader: out of host memory");
    for (int i = 0; !bad && i < share; i++) {
        int64_t row = row_of(l, images, first, i);
        label[i] = ld_latent_store_label(ld_latents_store(l->data), row >> 1);
        bad = read_row(l, row, raw, x + (size_t)i * l->numel);
    }
    free(raw);
    return bad;
}

/* x (dropped) as batches are: standardised and augmented. */
static ld_tensor *finished(const ld_loader *l, ld_tensor *x, int64_t first) {
    if (!x || l->plain)
        return x;
    ld_augment a = l->o.augment;
    a.first = (uint64_t)first;
    ld_tensor *y = ld_augment_gather(x, NULL, NULL, l->shift, l->scale, &a);
    ld_tensor_drop(x);
    return y;
}

static int host_batch(ld_loader *l, int64_t images, int count, int first, ld_tensor **x, ld_tensor **label) {
    const ld_latent_info *info = ld_latent_store_info(ld_latents_store(l->data));
    int64_t shape[4] = {(*label)->shape[0], info->channels, info->height, info->width};
    *x = ld_tensor_new(l->device, LD_F32, 4, shape, "loader");
    int bad = *x ? (l->resident ? gather : take)(l, images, count, ld_tensor_data(*x), ld_tensor_data(*label))
                 : ld_error_code();
    *x = bad ? ld_result(*x, bad) : finished(l, *x, images + first);
    return *x ? 0 : ld_error_code();
}

/* ---- from a device's memory ------------------------------------------------------------------------------------------- */

/* One copy to the device: row, sample and label of each picture, a line of n numbers each. */
static int device_batch(ld_loader *l, int64_t images, int first, ld_tensor **x, ld_tensor **label) {
    const ld_latent_store *s = ld_latents_store(l->data);
    int64_t n = (*label)->shape[0], all = ld_latent_store_info(s)->count, stride = 1, lines[2] = {3, n};
    ld_tensor *list = ld_tensor_new(ld_device_find("cpu"), LD_I64, 2, lines, "loader"), *there = NULL,
              *part[3] = {NULL};
    int64_t *v = list ? ld_tensor_data(list) : NULL;
    for (int64_t i = 0; v && i < n; i++) {
        int64_t row = row_of(l, images, first, (int)i);
        v[i] = (row >> 1) + (row & 1 ? all : 0);
        v[n + i] = images + first + i;
        v[2 * n + i] = ld_latent_store_label(s, row >> 1);
    }
    there = list ? ld_tensor_to(list, LD_I64, l->device, "loader") : NULL;
    for (int k = 0; there && k < 3; k++)
        part[k] = ld_tensor_view(there, 1, &n, &stride, k * n);
    *x = part[2] ? ld_augment_gather(l->placed, part[0], part[1], l->shift, l->scale, &l->o.augment) : NULL;
    ld_tensor_drop(*label);
    *label = part[2];
    ld_tensor *drop[] = {list, there, part[0], part[1]};
    for (int k = 0; k < 4; k++)
        ld_tensor_drop(drop[k]);
    return *x ? 0 : ld_error_code();
}

/* Vectors of the channels on device d. */
static int channel_rows(const ld_loader *l, ld_device *d, ld_tensor **shift, ld_tensor **scale) {
    ld_tensor **both[] = {shift, scale}, *const now[] = {l->shift, l->scale};
    for (int k = 0; k < 2; k++) {
        *both[k] = now[k] ? ld_tensor_to(now[k], LD_F32, d, "loader") : NULL;
        if (now[k] && !*both[k])
            return ld_error_code();
    }
    return 0;
}

int ld_loader_place(ld_loader *l, ld_device *d) {
    if (l->placed || ld_on_host(d))
        return l->device == d ? 0 : ld_fail(LD_ESTATE, "loader: its latents lie on %s", l->device->name);
    ld_tensor *shift, *scale = NULL;
    ld_tensor *placed = channel_rows(l, d, &shift, &scale) ? NULL : ld_latent_store_place(ld_latents_store(l->data), d);
    if (!placed) {
        ld_tensor_drop(shift);
        ld_tensor_drop(scale);
        return ld_error_code();
    }
    empty(l);
    stop_threads(l);
    ld_tensor_drop(l->shift);
    ld_tensor_drop(l->scale);
    l->placed = placed, l->shift = shift, l->scale = scale;
    l->device = d;
    l->resident = true;
    return 0;
}

int ld_loader_batch(ld_loader *l, int64_t images, int count, ld_tensor **x, ld_tensor **label) {
    double started = ld_clock();
    if (check_batch(l, images, count))
        return ld_error_code();
    int first;
    int64_t n = share_of(l, count, &first);
    *x = NULL;
    *label = ld_tensor_new(ld_device_find("cpu"), LD_I64, 1, &n, "loader");
    int bad = !*label     ? ld_error_code()
              : l->placed ? device_batch(l, images, first, x, label)
                          : host_batch(l, images, count, first, x, label);
    if (bad) {
        ld_tensor_drop(*label);
        *label = NULL;
        return bad;
    }
    l->batches++;
    l->spent += ld_clock() - started;
    return 0;
}

/* ---- life ----------------------------------------------------------------------------------------------------------- */

static int check(const ld_loader *l) {
    const ld_loader_options *o = &l->o;
    if (l->n < 1)
        return ld_fail(LD_EVALUE, "loader: an empty data set");
    if (o->ranks < 1 || o->rank < 0 || o->rank >= o->ranks)
        return ld_fail(LD_EVALUE, "loader: rank %d of %d", o->rank, o->ranks);
    if (o->batch < 1 || o->batch > l->n)
        return ld_fail(LD_EVALUE, "loader: batches of %d of %lld pictures", o->batch, (long long)l->n);
    if (o->micro < 0)
        return ld_fail(LD_EVALUE, "loader: micro-batches of %d", o->micro);
    if (o->ahead < 1 || o->ahead > MOST || o->threads < 1 || o->threads > MOST)
        return ld_fail(LD_EVALUE, "loader: %d batches ahead by %d threads; 1 to %d are possible", o->ahead, o->threads,
                       MOST);
    return ld_augment_check("loader", &o->augment);
}

/* 1 / std is rounded to f32 as an operation on tensors would. */
static int channels_of(ld_loader *l, const double *mean, const double *std) {
    int64_t c = ld_latent_store_info(ld_latents_store(l->data))->channels;
    if (!mean || !std)
        return 0;
    l->shift = ld_tensor_new(l->device, LD_F32, 1, &c, "loader");
    l->scale = l->shift ? ld_tensor_new(l->device, LD_F32, 1, &c, "loader") : NULL;
    for (int64_t i = 0; l->scale && i < c; i++) {
        ((float *)ld_tensor_data(l->shift))[i] = (float)mean[i];
        ((float *)ld_tensor_data(l->scale))[i] = 1 / (float)std[i];
    }
    return l->scale ? 0 : ld_error_code();
}

static bool fits(const ld_latent_store *s) {
    return ld_latent_store_loaded(s) || ld_latent_store_bytes(s) <= ld_memory_room() / 2;
}

static int start(ld_loader *l) {
    ld_latent_store *s = ld_latents_store(l->data);
    if (check(l))
        return ld_error_code();
    l->resident = l->o.resident > 0 || (l->o.resident < 0 && fits(s));
    if (l->resident)
        return ld_latent_store_load(s);
    l->slot = calloc((size_t)l->o.ahead, sizeof *l->slot);
    if (!l->slot)
        return ld_fail(LD_EMEM, "loader: out of host memory");
    while (l->threads < l->o.threads && !ld_thread_start(&l->thread[l->threads], run, l))
        l->threads++;
    return l->threads ? 0 : ld_fail(LD_EINTERNAL, "loader: no thread for reading can be started");
}

ld_loader *ld_loader_new(const ld_latents *d, const ld_loader_options *o) {
    ld_loader *l = calloc(1, sizeof *l);
    if (!l)
        return ld_fail_null(LD_EMEM, "loader: out of host memory");
    l->data = ld_latents_part(d, 0, ld_latents_count(d), false, 0);
    if (!l->data) {
        free(l);
        return NULL;
    }
    const ld_latent_info *info = ld_latent_store_info(ld_latents_store(d));
    l->o = *o;
    l->o.ranks = o->ranks ? o->ranks : 1;
    l->o.ahead = o->ahead ? o->ahead : AHEAD;
    l->o.threads = o->threads ? o->threads : THREADS;
    l->o.mirror = o->mirror && info->set[LD_LATENT_MIRRORED_MEAN];
    l->n = ld_latents_count(d);
    l->numel = (size_t)info->channels * (size_t)info->height * (size_t)info->width;
    l->device = ld_device_find("cpu");
    l->o.augment.seed = o->seed;
    l->plain = !o->mean && !o->augment.pad && !(o->augment.erase > 0) && !(o->augment.flip > 0);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->ready, NULL);
    if (!start(l) && !channels_of(l, o->mean, o->std))
        return l;
    ld_loader_drop(l);
    return NULL;
}

void ld_loader_drop(ld_loader *l) {
    if (!l)
        return;
    stop_threads(l);
    ld_tensor_drop(l->shift);
    ld_tensor_drop(l->scale);
    if (l->placed)
        ld_latent_store_displace(ld_latents_store(l->data));
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->lock);
    ld_latents_drop(l->data);
    free(l);
}

void ld_loader_state(const ld_loader *l, ld_loader_stats *s) {
    const ld_latent_store *store = ld_latents_store(l->data);
    int first;
    size_t ahead = (size_t)l->o.ahead * (size_t)share_of(l, l->o.batch, &first) * l->numel * sizeof(float);
    *s = (ld_loader_stats){.batches = l->batches,
                           .wait = l->wait,
                           .spent = l->spent,
                           .resident = l->resident,
                           .device = l->device->name,
                           .memory = l->resident ? ld_latent_store_bytes(store) : ahead};
}
