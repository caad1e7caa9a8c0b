/* Messages between fake devices of several processes: the plug-in's own use of NCCL (csrc/backend/cuda/nccl.c) over a
 * stream that really runs beside the rest, on a thread, so that whoever does not wait for it gets what was there before.
 *
 *   LD_FAKE_CARDS=n    there are n devices, each a card of its own (else two, of which the second does not open)
 *   LD_FAKE_CARD=name  all of them are this card
 *   LD_FAKE_LAG=ms     each piece of work on the stream takes that much longer
 *   LD_FAKE_TALK=file  what is asked, a line each, with the number of slot calls before it */
#ifndef FAKE_RANKS_H
#define FAKE_RANKS_H

#include "backend/cuda/nccl.h"
#include "fake/stream.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct work {
    void (*run)(void *arg);
    void *arg;
    struct work *next;
} work;

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_has = PTHREAD_COND_INITIALIZER;
static work *queue, **queue_end = &queue;
static atomic_long pending;
static int device_number;

static void talk_log(const char *what) {
    const char *path = getenv("LD_FAKE_TALK"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    FILE *f = path ? fopen(path, "a") : NULL;
    if (!f)
        return;
    fprintf(f, "%s %s %ld\n", rank ? rank : "0", what, calls);
    fclose(f);
}

static void *stream_thread(void *arg) {
    const char *lag = getenv("LD_FAKE_LAG");
    useconds_t more = lag ? (useconds_t)atoi(lag) * 1000 : 0;
    (void)arg;
    for (;;) {
        pthread_mutex_lock(&queue_lock);
        while (!queue)
            pthread_cond_wait(&queue_has, &queue_lock);
        work *w = queue;
        queue = w->next;
        if (!queue)
            queue_end = &queue;
        pthread_mutex_unlock(&queue_lock);
        usleep(more);
        w->run(w->arg);
        free(w);
        pending--;
    }
    return NULL;
}

static void push(void (*run)(void *arg), void *arg) {
    work *w = malloc(sizeof *w);
    *w = (work){run, arg, NULL};
    pending++;
    pthread_mutex_lock(&queue_lock);
    *queue_end = w;
    queue_end = &w->next;
    pthread_cond_signal(&queue_has);
    pthread_mutex_unlock(&queue_lock);
}

static void *behind_device(const void *p) {
    return inside(p) ? fake_behind(p) : NULL;
}

static int enter(void **stream) {
    static fake_stream s = {behind_device, push};
    static bool started;
    pthread_t thread;
    *stream = &s;
    if (!started && pthread_create(&thread, NULL, stream_thread, NULL))
        return ld_fail(LD_EINTERNAL, "fake: no thread for a stream");
    started = true;
    return check_lost("ranks");
}

static int done(void) {
    return check_lost("ranks") ? -1 : pending == 0;
}

static int card(char *text, size_t room_for) {
    const char *name = getenv("LD_FAKE_CARD");
    if (name)
        snprintf(text, room_for, "%s", name);
    else
        snprintf(text, room_for, "card %d", device_number);
    return 0;
}

/* A mark says whether it was made; only then may messages follow it, once. */
static void *event(void) {
    return calloc(1, sizeof(atomic_bool));
}

static int mark(void *e) {
    talk_log("mark");
    *(atomic_bool *)e = true;
    return check_lost("ranks");
}

static int follow(void *e) {
    talk_log("follow");
    return atomic_exchange((atomic_bool *)e, false) ? 0
                                                    : ld_fail(LD_EINTERNAL, "fake: messages follow a mark of before");
}

typedef struct addition {
    float *y;
    const float *x;
    int64_t n;
} addition;

static void run_addition(void *arg) {
    addition *a = arg;
    for (int64_t i = 0; i < a->n; i++)
        a->y[i] += a->x[i];
    free(a);
}

static int add(float *y, const float *x, int64_t n) {
    if (n && (!inside(y) || !inside(x)))
        return ld_fail(LD_EINTERNAL, "fake: host memory was to be added");
    addition *a = malloc(sizeof *a);
    *a = (addition){fake_behind(y), fake_behind(x), n};
    push(run_addition, a);
    return 0;
}

static ld_device_ranks ranks = {
    .card = card, .event = event, .event_drop = free, .mark = mark, .follow = follow, .add = add};
static int (*nccl_wait)(void), (*nccl_find)(char *text, size_t room_for);

static int wait_and_log(void) {
    talk_log("wait");
    return nccl_wait();
}

/* The machine's own NCCL has nothing to do with this device. */
static int find_stand_in(char *text, size_t room_for) {
    const char *folder = getenv("LD_CUDA_PATH");
    int bad = nccl_find(text, room_for);
    if (!bad && (!folder || strncmp(ld_nccl_file(), folder, strlen(folder))))
        return ld_fail(LD_EDEVICE, "fake: there is no stand-in for NCCL in LD_CUDA_PATH that will do");
    return bad;
}

static const ld_device_ranks *fake_ranks(void) {
    static const ld_nccl_device device = {enter, done};
    ld_nccl_ranks(&ranks, &device);
    nccl_wait = ranks.wait;
    nccl_find = ranks.find;
    ranks.wait = wait_and_log;
    ranks.find = find_stand_in;
    return &ranks;
}

#endif
