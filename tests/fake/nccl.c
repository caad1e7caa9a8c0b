/* A stand-in for NCCL between processes of one machine whose device is the fake one (fake.c): what ldlua uses of it, over a
 * mapped file with a box for every pair of ranks. Sums of all ranks are made in the order of the ranks, which is not that
 * of ldlua's tree. The environment says:
 *
 *   STUB_NCCL=code       the version; 22809
 *   STUB_NCCL_ID=error   ncclGetUniqueId fails
 *   STUB_NCCL_JOIN=error ncclCommInitRank fails
 *   STUB_NCCL_ASYNC=n    the n-th message and all behind it fail later, as where a rank is gone */
#define _GNU_SOURCE

#include "fake/stream.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 8, BOX = 1 << 16, OPS = 64, REMOTE_ERROR = 6, INVALID = 4 };

typedef struct unique_id {
    char path[128];
} unique_id;

typedef struct box {
    atomic_int full;
    size_t n;
    char bytes[BOX];
} box;

typedef struct shared {
    atomic_int joined;
    box boxes[MOST][MOST]; /* from, to */
} shared;

typedef struct communicator {
    shared *all;
    int rank, ranks;
    atomic_bool aborted;
    atomic_int error;
} communicator;

/* Messages of one group, which go on together. A sum gathers into `gathered` first. */
typedef struct op {
    bool sends;
    int peer;
    char *at;
    size_t left;
} op;
typedef struct group {
    communicator *c;
    op ops[OPS];
    int n;
    float *gathered, *sum; /* a sum: of `count` numbers each */
    size_t count;
} group;

static int depth;
static group *open_group;
static fake_stream *open_stream;

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

/* ---- moving ------------------------------------------------------------------------------------------------------------- */

static void nap(void) {
    const struct timespec t = {.tv_nsec = 100000};
    nanosleep(&t, NULL);
}

/* Whether something moved. Messages to, or from, one rank go in their order. */
static bool move(communicator *c, op *o) {
    box *b = o->sends ? &c->all->boxes[c->rank][o->peer] : &c->all->boxes[o->peer][c->rank];
    if (b->full == o->sends)
        return false;
    size_t n = o->sends ? (o->left < BOX ? o->left : BOX) : b->n;
    if (o->sends)
        memcpy(b->bytes, o->at, n);
    else
        memcpy(o->at, b->bytes, n);
    b->n = n;
    b->full = o->sends;
    o->at += n;
    o->left -= n;
    return true;
}

static bool go_on(group *g) {
    bool seen[2][MOST] = {{false}}, moved = false;
    for (int i = 0; i < g->n; i++) {
        op *o = &g->ops[i];
        if (!o->left || seen[o->sends][o->peer])
            continue;
        seen[o->sends][o->peer] = true;
        moved |= move(g->c, o);
    }
    return moved;
}

static bool over(const group *g) {
    for (int i = 0; i < g->n; i++)
        if (g->ops[i].left)
            return false;
    return true;
}

/* On the stream's thread. */
static void run_group(void *arg) {
    group *g = arg;
    while (!over(g) && !g->c->aborted)
        if (!go_on(g))
            nap();
    for (size_t i = 0; g->sum && i < g->count && !g->c->aborted; i++) {
        float s = g->gathered[i];
        for (int r = 1; r < g->c->ranks; r++)
            s += g->gathered[(size_t)r * g->count + i];
        g->sum[i] = s;
    }
    free(g->gathered);
    free(g);
}

/* ---- what is asked ------------------------------------------------------------------------------------------------------- */

static group *begin(communicator *c, fake_stream *s) {
    if (!open_group) {
        open_group = calloc(1, sizeof *open_group);
        open_group->c = c;
        open_stream = s;
    }
    return open_group;
}

static void post(void) {
    static int posted;
    int bad_at = number("STUB_NCCL_ASYNC", 0);
    if (open_group && bad_at && ++posted >= bad_at)
        open_group->c->error = REMOTE_ERROR;
    if (open_group)
        open_stream->push(run_group, open_group);
    open_group = NULL;
}

static int append(communicator *c, fake_stream *s, bool sends, int peer, const void *at, size_t numbers) {
    group *g = begin(c, s);
    if (!at || g->n == OPS || peer >= c->ranks)
        return INVALID;
    g->ops[g->n++] = (op){sends, peer, (char *)(unsigned long)at, numbers * sizeof(float)};
    return 0;
}

int ncclGetVersion(int *version) {
    *version = number("STUB_NCCL", 22809);
    return 0;
}

const char *ncclGetErrorString(int error) {
    return error == REMOTE_ERROR ? "remote process exited or there was a network error"
           : error == 2          ? "unhandled system error (run with NCCL_DEBUG=INFO for details)"
                                 : "invalid argument";
}

const char *ncclGetLastError(void *c) {
    (void)c;
    return "the stand-in's last word\nand a line of details";
}

int ncclGetUniqueId(unique_id *id) {
    const char *folder = getenv("TEST_TMP");
    int bad = number("STUB_NCCL_ID", 0);
    if (bad)
        return bad;
    memset(id, 0, sizeof *id);
    snprintf(id->path, sizeof id->path, "%.90s/nccl-%d", folder ? folder : "/tmp", (int)getpid());
    int file = open(id->path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, sizeof(shared)))
        return 2;
    close(file);
    return 0;
}

int ncclCommInitRank(communicator **out, int ranks, unique_id id, int rank) {
    int bad = number("STUB_NCCL_JOIN", 0), file = bad ? -1 : open(id.path, O_RDWR);
    if (bad || file < 0 || ranks > MOST)
        return bad ? bad : 2;
    communicator *c = calloc(1, sizeof *c);
    c->all = mmap(NULL, sizeof(shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (c->all == MAP_FAILED)
        return 2;
    c->rank = rank;
    c->ranks = ranks;
    if (++c->all->joined == ranks)
        unlink(id.path);
    while (c->all->joined < ranks)
        nap();
    *out = c;
    return 0;
}

/* The memory stays: the stream's thread may still look at it. */
int ncclCommAbort(communicator *c) {
    c->aborted = true;
    return 0;
}

int ncclCommDestroy(communicator *c) {
    return ncclCommAbort(c);
}

int ncclCommGetAsyncError(communicator *c, int *error) {
    *error = c->error;
    return 0;
}

int ncclGroupStart(void) {
    depth++;
    return 0;
}

int ncclGroupEnd(void) {
    if (--depth == 0)
        post();
    return 0;
}

int ncclSend(const void *from, size_t n, int kind, int to, communicator *c, fake_stream *s) {
    return kind != 7 || !depth ? INVALID : append(c, s, true, to, s->behind(from), n);
}

int ncclRecv(void *to, size_t n, int kind, int from, communicator *c, fake_stream *s) {
    return kind != 7 || !depth ? INVALID : append(c, s, false, from, s->behind(to), n);
}

static int gather(const void *mine, char *all, size_t n, communicator *c, fake_stream *s) {
    int bad = 0;
    for (int r = 0; r < c->ranks && !bad; r++) {
        bad = append(c, s, true, r, mine, n);
        if (!bad)
            bad = append(c, s, false, r, all + (size_t)r * n * sizeof(float), n);
    }
    return bad;
}

int ncclAllGather(const void *mine, void *all, size_t n, int kind, communicator *c, fake_stream *s) {
    if (kind != 7 || !s->behind(all))
        return INVALID;
    int bad = gather(s->behind(mine), s->behind(all), n, c, s);
    post();
    return bad;
}

int ncclAllReduce(const void *from, void *to, size_t n, int kind, int op_kind, communicator *c, fake_stream *s) {
    if (kind != 7 || op_kind != 0 || !s->behind(to))
        return INVALID;
    group *g = begin(c, s);
    g->gathered = malloc((size_t)c->ranks * n * sizeof(float) + 1);
    g->sum = s->behind(to);
    g->count = n;
    int bad = gather(s->behind(from), (char *)g->gathered, n, c, s);
    post();
    return bad;
}
