/* Sums over ranks whose parameters lie on devices that can talk to each other. Everything is given to the device by the
 * thread of messages, so that the thread that computes never waits inside a library for a rank that is gone. */
#define _GNU_SOURCE /* gethostname */

#include "base/error.h"
#include "optim/grad_bucket.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WHO "ranks"

enum { ALIGN = 32 }; /* numbers that a part is a multiple of: 128 bytes */

/* ---- agreeing -------------------------------------------------------------------------------------------------------- */

/* What ranks tell each other before they begin. */
typedef struct greeting {
    int code; /* 0, or why this rank's device cannot talk: an error code, and the message */
    char text[400];
    char machine[64], card[32];
} greeting;

typedef struct beginning {
    int code;
    char text[400];
    char id[LD_RANKS_ID];
} beginning;

/* Of the process: ranks agree once. */
static struct {
    bool decided;
    ld_device *device;
    char text[320];
} agreed;

/* The device that all items lie on, or NULL. */
static ld_device *device_of(const ld_exchange *e) {
    ld_device *d = e->n ? e->item[0]->storage->device : NULL;
    for (int i = 1; i < e->n; i++)
        if (e->item[i]->storage->device != d)
            return NULL;
    return d && !ld_on_host(d) ? d : NULL;
}

/* Names of machines may be equal (containers); what a kernel says of its start is not. */
static void machine_name(char *name, size_t n) {
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (!f || !fgets(name, (int)n, f))
        gethostname(name, n);
    name[n - 1] = 0;
    name[strcspn(name, "\n")] = 0;
    if (f)
        fclose(f);
}

static greeting make_greeting(ld_device *d, const char *place) {
    greeting g = {.code = LD_EDEVICE};
    char found[64];
    machine_name(g.machine, sizeof g.machine);
    if (!d)
        snprintf(g.text, sizeof g.text, "the network is on %s", place);
    else if (!d->ranks)
        snprintf(g.text, sizeof g.text, "%s has no messages of its own", d->name);
    else if ((g.code = d->ranks->find(found, sizeof found)) || (g.code = d->ranks->card(g.card, sizeof g.card)))
        snprintf(g.text, sizeof g.text, "%.390s", ld_error());
    else
        snprintf(g.text, sizeof g.text, "%s", found);
    return g;
}

/* What two ranks on one card would do to each other, an error; 0 where there are none. */
static int find_shared(const greeting *g, int ranks) {
    for (int b = 1; b < ranks; b++)
        for (int a = 0; a < b; a++)
            if (*g[a].card && !strcmp(g[a].card, g[b].card) && !strcmp(g[a].machine, g[b].machine))
                return ld_fail(LD_EDEVICE,
                               WHO ": ranks %d and %d share one card (%s); start as many ranks on a machine as it has "
                                   "cards, with --device cuda, which gives each its own, or let gradients go through "
                                   "the host with --comm host",
                               a, b, g[a].card);
    return 0;
}

typedef struct join_job {
    ld_comm_job job;
    const ld_device_ranks *by;
    char id[LD_RANKS_ID];
} join_job;

static int run_join(ld_comm_job *job) {
    join_job *j = (join_job *)job;
    return j->by->join(j->id, ld_comm_rank(), ld_comm_ranks());
}

static const ld_device_ranks *leaving;

static void leave(void) {
    leaving->leave();
}

/* Rank 0's beginning goes to all of them; then they come together. */
static int begin(const ld_device_ranks *by) {
    static join_job j; /* the thread may keep it */
    size_t n = (size_t)ld_comm_ranks();
    beginning mine = {.code = 0}, *all = calloc(n, sizeof *all);
    if (!all)
        return ld_fail(LD_EMEM, WHO ": out of host memory");
    if (ld_comm_rank() == 0 && (mine.code = by->id(mine.id)))
        snprintf(mine.text, sizeof mine.text, "%.390s", ld_error());
    int bad = ld_comm_gather(&mine, sizeof mine, all);
    if (!bad && all[0].code)
        bad = ld_fail(all[0].code, "%s", all[0].text);
    if (!bad) {
        j = (join_job){.job.run = run_join, .by = by};
        memcpy(j.id, all[0].id, sizeof j.id);
        ld_comm_post(&j.job);
        bad = ld_comm_wait();
    }
    if (!bad) {
        leaving = by;
        ld_comm_at_end(leave);
    }
    free(all);
    return bad;
}

/* `way` is the same on all ranks, and so is the outcome. */
static int agree(ld_device *d, const char *place, ld_sum_way way) {
    int ranks = ld_comm_ranks(), lacks = -1;
    greeting mine = make_greeting(d, place), *all = calloc((size_t)ranks, sizeof *all);
    if (!all)
        return ld_fail(LD_EMEM, WHO ": out of host memory");
    int bad = ld_comm_gather(&mine, sizeof mine, all);
    for (int r = ranks - 1; r >= 0 && !bad; r--)
        lacks = all[r].code ? r : lacks;
    if (!bad && lacks >= 0 && way == LD_SUM_DEVICE)
        bad = ld_fail(LD_EDEVICE, WHO ": --comm nccl, but rank %d cannot: %s", lacks, all[lacks].text);
    else if (!bad && lacks >= 0)
        snprintf(agreed.text, sizeof agreed.text, "through the host (rank %d: %.270s)", lacks, all[lacks].text);
    else if (!bad)
        bad = find_shared(all, ranks);
    if (!bad && lacks < 0 && !(bad = begin(d->ranks))) {
        agreed.device = d;
        snprintf(agreed.text, sizeof agreed.text, "by %.300s", all[0].text);
    }
    free(all);
    agreed.decided = !bad;
    return bad;
}

int ld_exchange_choose(ld_exchange *e, ld_sum_way way) {
    ld_device *d = device_of(e);
    int bad = 0;
    if (way != LD_SUM_HOST && !agreed.decided)
        bad = agree(d, e->n ? e->item[0]->storage->device->name : "no device", way);
    if (bad || !d) /* the CPU's numbers are where they have to be */
        return bad;
    e->device = way != LD_SUM_HOST && agreed.device == d ? d : NULL;
    snprintf(e->text, sizeof e->text, "%.290s%s", way == LD_SUM_HOST ? "through the host, as asked for" : agreed.text,
             e->device && !e->any_order ? ", in a fixed order" : "");
    return 0;
}

/* ---- one bucket ------------------------------------------------------------------------------------------------------ */

static int64_t whole_size(const ld_bucket *b) {
    int64_t step = (int64_t)ALIGN * b->e->ranks;
    return (b->n + step - 1) / step * step;
}

int64_t ld_bucket_room(const ld_bucket *b, int own, int all) {
    int64_t whole = whole_size(b);
    return b->e->any_order ? whole : own * whole + all * (whole / b->e->ranks);
}

static ld_tensor *numbers(const ld_exchange *e, int64_t n) {
    return ld_tensor_full(e->device, LD_F32, 1, &n, 0, WHO);
}

static bool enough(const ld_tensor *x, int64_t n) {
    return x && ld_tensor_numel(x) >= n;
}

int ld_bucket_new(ld_bucket *b, int own, int all) {
    ld_exchange *e = b->e;
    b->whole = whole_size(b);
    int64_t out = e->any_order ? b->whole : own * b->whole, in = e->any_order ? 0 : all * (b->whole / e->ranks);
    if (enough(b->out_memory, out) && enough(b->in_memory, in))
        return 0;
    ld_bucket_drop(b);
    if (!(b->out_memory = numbers(e, out)) || !(b->in_memory = numbers(e, in)) ||
        !(b->ready = e->device->ranks->event()))
        return ld_error_code();
    b->out = ld_tensor_data(b->out_memory);
    b->in = ld_tensor_data(b->in_memory);
    return 0;
}

void ld_bucket_drop(ld_bucket *b) {
    ld_tensor_drop(b->out_memory);
    ld_tensor_drop(b->in_memory);
    b->e->device->ranks->event_drop(b->ready);
    b->out_memory = b->in_memory = NULL;
    b->out = b->in = NULL;
    b->ready = NULL;
}

static ld_view row(const float *x, int64_t n) {
    return (ld_view){.dtype = LD_F32, .ndim = 1, .shape = {n}, .stride = {1}, .data = (void *)(uintptr_t)x};
}

int ld_bucket_put(const ld_bucket *b, float *to, const float *from, int64_t n, bool added) {
    const ld_backend *by = b->e->device->backend;
    ld_view y = row(to, n), x = row(from, n);
    if (added)
        return from ? by->axpby(&y, &x, 1, 1) : 0;
    return from ? by->copy(&y, &x) : by->fill(&y, 0);
}

/* On the thread of messages. Nothing here waits for the device, only what the device does next for what it did before. */
static int run(ld_comm_job *job) {
    ld_bucket *b = (ld_bucket *)job;
    ld_exchange *e = b->e;
    const ld_device_ranks *by = e->device->ranks;
    int64_t mine = b->whole / e->ranks, taken[e->ranks];
    int all = 0, bad = by->follow(b->ready);
    if (bad || e->any_order)
        return bad ? bad : by->sum(b->out, b->whole);
    for (int r = 0; r < e->ranks; r++) {
        taken[r] = e->nodes[r] * mine;
        all += e->nodes[r];
    }
    memcpy(e->order, e->at, (size_t)all * sizeof *e->order);
    bad = by->trade(b->out, e->nodes[e->rank] * mine, b->in, taken);
    if (!bad)
        bad = ld_sum_tree_by(b->in, mine, all, e->order, by->add);
    return bad ? bad : by->spread(b->in, b->out, mine);
}

int ld_bucket_post(ld_bucket *b) {
    int bad = b->e->device->ranks->mark(b->ready);
    b->job.run = run;
    if (!bad)
        ld_comm_post(&b->job);
    return bad;
}

static int run_wait(ld_comm_job *job) {
    ld_exchange *e = (ld_exchange *)((char *)job - offsetof(ld_exchange, wait));
    return e->device->ranks->wait();
}

int ld_buckets_wait(ld_exchange *e) {
    e->wait = (ld_comm_job){.run = run_wait};
    ld_comm_post(&e->wait);
    int bad = ld_comm_wait();
    if (bad)
        e->device->ranks->give_up();
    return bad;
}

int ld_bucket_take(const ld_bucket *b, ld_tensor *x, int64_t at) {
    ld_tensor *there = ld_tensor_view(b->out_memory, x->ndim, x->shape, x->stride, at);
    int bad = there ? ld_tensor_assign(x, there, WHO) : ld_error_code();
    ld_tensor_drop(there);
    return bad;
}
