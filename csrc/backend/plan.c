/* The log of a plan is a list of takes and gives; all figures come from playing it back against the blocks that the pool
 * held for reuse at the start. The second call is the same log, in which what outlived the first is there already. */
#include "backend/plan.h"

#include "backend/device.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef struct entry {
    size_t bytes;
    int size_class;
    size_t at;            /* in the arena */
    bool workspace, old;  /* old: given out before the plan, of which the log has the giving back alone */
    bool out, out_at_end; /* given out: while playing back, and when the plan ended */
    char who[24];
} entry;

typedef struct undo {
    const void *what;
    void (*fn)(void *);
    void *arg;
} undo;

static struct {
    ld_device *device; /* NULL: nothing is planned */
    const ld_backend *backend;
    size_t live, cached;
    int64_t spare[LD_POOL_CLASSES]; /* blocks for reuse at the start */
    ld_ranges ranges;               /* the arena at the start */
    size_t cold;
    entry *entries;
    int n, room;
    int *events; /* entry + 1 taken, -(entry + 1) given */
    int n_events, events_room;
    undo *undos;
    int n_undos, undos_room;
} plan;

/* One more place at the end of a growing list, or false. */
static bool grow(void *list, int n, int *room, size_t size) {
    if (n < *room)
        return true;
    int more = *room ? 2 * *room : 256;
    void *was, *at;
    memcpy(&was, list, sizeof was);
    at = realloc(was, (size_t)more * size);
    if (!at)
        return false;
    memcpy(list, &at, sizeof at);
    *room = more;
    return true;
}

bool ld_planning(void) {
    return plan.device != NULL;
}

bool ld_planning_on(const ld_device *d) {
    return d && plan.device == d;
}

/* ---- memory that is not touched -------------------------------------------------------------------------------------- */

enum { MAPPED_FROM = 1 << 16, ALIGNMENT = 256 };

void *ld_plan_memory(size_t bytes) {
    if (bytes < MAPPED_FROM) {
        void *small = aligned_alloc(ALIGNMENT, bytes);
        return small ? memset(small, 0, bytes) : NULL;
    }
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    madvise(p, bytes, MADV_NOHUGEPAGE); /* a host that writes one number shall not get 2 MiB; advice only */
    return p;
}

void ld_plan_memory_free(void *memory, size_t bytes) {
    if (bytes < MAPPED_FROM)
        free(memory);
    else
        munmap(memory, bytes);
}

/* ---- the log --------------------------------------------------------------------------------------------------------- */

static int new_entry(size_t bytes, int size_class, const char *who) {
    if (!grow(&plan.entries, plan.n, &plan.room, sizeof *plan.entries) ||
        !grow(&plan.events, plan.n_events, &plan.events_room, sizeof *plan.events))
        return -1;
    entry *e = &plan.entries[plan.n];
    *e = (entry){.bytes = bytes, .size_class = size_class};
    snprintf(e->who, sizeof e->who, "%s", who ? who : "");
    return plan.n++;
}

int ld_plan_taken(size_t bytes, int size_class, const char *who) {
    int k = new_entry(bytes, size_class, who);
    if (k >= 0) {
        plan.entries[k].out_at_end = true;
        plan.events[plan.n_events++] = k + 1;
    }
    return k;
}

void ld_plan_given(int k, size_t bytes, int size_class, size_t at) {
    if (k == LD_PLAN_OLD && (k = new_entry(bytes, size_class, "")) >= 0) {
        plan.entries[k].old = true;
        plan.entries[k].at = at;
    }
    if (k < 0 || !grow(&plan.events, plan.n_events, &plan.events_room, sizeof *plan.events))
        return; /* the figures are too high, by these bytes */
    plan.entries[k].out_at_end = false;
    plan.events[plan.n_events++] = -(k + 1);
}

void ld_plan_mark_workspace(void) {
    if (plan.n)
        plan.entries[plan.n - 1].workspace = true;
}

/* ---- playing it back ------------------------------------------------------------------------------------------------- */

typedef struct player {
    int64_t spare[LD_POOL_CLASSES];
    ld_ranges ranges;
    size_t cold;                          /* free bytes of the arena that are backed by nothing */
    size_t live, held, before, workspace; /* now */
    ld_plan_figures figures;
    int peak_at; /* events played when the peak was reached */
} player;

static void note_peak(player *y, int at) {
    if (y->held > y->figures.held)
        y->figures.held = y->held;
    if (y->live <= y->figures.peak)
        return;
    y->figures.peak = y->live;
    y->figures.before = y->before;
    y->figures.workspace = y->workspace;
    y->peak_at = at;
}

static void play_arena(player *y, entry *e) {
    size_t top = y->ranges.top;
    e->at = ld_ranges_take(&y->ranges, e->bytes);
    size_t more = y->ranges.top - top, cold = e->bytes - more < y->cold ? e->bytes - more : y->cold;
    y->cold -= cold;
    y->held += more + cold;
}

static void play_take(player *y, entry *e) {
    if (e->size_class == LD_PLAN_ARENA)
        play_arena(y, e);
    else if (y->spare[e->size_class])
        y->spare[e->size_class]--;
    else
        y->held += e->bytes;
    y->live += e->bytes;
    y->workspace += e->workspace ? e->bytes : 0;
    e->out = true;
}

static void play_give(player *y, entry *e) {
    if (e->size_class != LD_PLAN_ARENA)
        y->spare[e->size_class]++;
    else if (e->at != LD_NO_RANGE)
        ld_ranges_give(&y->ranges, e->at, e->bytes);
    y->live -= e->bytes;
    y->workspace -= e->workspace ? e->bytes : 0;
    y->before -= e->old ? e->bytes : 0;
    e->out = false;
}

/* Events 0 .. count - 1 of the first call, or of a second one after it. */
static void play(player *y, int count, bool second) {
    y->figures = (ld_plan_figures){.peak = y->live, .before = y->before, .held = y->held};
    y->peak_at = 0;
    for (int i = 0; i < count; i++) {
        int k = abs(plan.events[i]) - 1;
        entry *e = &plan.entries[k];
        if (second && (e->old || e->out_at_end))
            continue;
        if (plan.events[i] > 0)
            play_take(y, e);
        else
            play_give(y, e);
        note_peak(y, i + 1);
    }
}

static void count_uses(ld_plan_report *r) {
    for (int i = 0; i < plan.n; i++) {
        entry *e = &plan.entries[i];
        e->out &= !e->out_at_end; /* that was there before the call */
        if (!e->out)
            continue;
        e->out = false;
        ld_plan_use u = {.bytes = e->bytes, .blocks = 1};
        memcpy(u.who, e->who, sizeof u.who);
        for (int j = i + 1; j < plan.n; j++)
            if (plan.entries[j].out && !plan.entries[j].out_at_end && !strcmp(plan.entries[j].who, u.who)) {
                u.bytes += plan.entries[j].bytes;
                u.blocks++;
                plan.entries[j].out = false;
            }
        int at = r->uses < LD_PLAN_BLOCKS ? r->uses++ : LD_PLAN_BLOCKS;
        for (; at > 0 && r->use[at - 1].bytes < u.bytes; at--)
            if (at < LD_PLAN_BLOCKS)
                r->use[at] = r->use[at - 1];
        if (at < LD_PLAN_BLOCKS)
            r->use[at] = u;
    }
}

static void make_report(ld_plan_report *r) {
    *r = (ld_plan_report){0};
    player y = {.live = plan.live,
                .held = plan.live + plan.cached,
                .before = plan.live,
                .ranges = plan.ranges,
                .cold = plan.cold};
    memcpy(y.spare, plan.spare, sizeof y.spare);
    play(&y, plan.n_events, false);
    r->first = y.figures;
    y.before = y.live; /* what the first call leaves is what the second finds */
    player start = y;
    bool copied = !ld_ranges_copy(&start.ranges, &y.ranges);
    play(&y, plan.n_events, true);
    r->again = y.figures;
    if (copied) {
        play(&start, y.peak_at, true);
        count_uses(r);
        ld_ranges_drop(&start.ranges);
    }
    plan.ranges = y.ranges;
    for (int i = 0; i < plan.n; i++)
        if (plan.entries[i].workspace && plan.entries[i].bytes > r->workspace)
            r->workspace = plan.entries[i].bytes;
}

/* ---- beginning and end ----------------------------------------------------------------------------------------------- */

int ld_plan_undo(const void *what, void (*fn)(void *), void *arg) {
    if (!grow(&plan.undos, plan.n_undos, &plan.undos_room, sizeof *plan.undos))
        return ld_fail(LD_EMEM, "plan: out of host memory");
    plan.undos[plan.n_undos++] = (undo){what, fn, arg};
    return 0;
}

bool ld_plan_remembers(const void *what) {
    for (int i = 0; i < plan.n_undos; i++)
        if (plan.undos[i].what == what)
            return true;
    return false;
}

int ld_plan_begin(ld_device *d) {
    if (plan.device)
        return ld_fail(LD_ESTATE, "plan: another plan is under way");
    ld_pool_stats s = ld_pool_figures(d->pool);
    plan.live = s.live;
    plan.cached = s.cached;
    if (ld_pool_arena_copy(d->pool, &plan.ranges, &plan.cold))
        return ld_fail(LD_EMEM, "plan: out of host memory");
    ld_pool_spare(d->pool, plan.spare);
    ld_pool_plan(d->pool, true);
    plan.device = d;
    plan.backend = d->backend;
    d->backend = d->ops ? d->ops->plan : ld_cpu_plan_backend();
    return 0;
}

/* What was neither given back nor put back. */
static void find_survivors(ld_plan_report *r) {
    for (int k = plan.n - 1; k >= 0; k--)
        if (plan.entries[k].out_at_end && !plan.entries[k].old) {
            r->outlived += plan.entries[k].bytes;
            memcpy(r->outlived_who, plan.entries[k].who, sizeof r->outlived_who);
        }
}

void ld_plan_end(ld_plan_report *r) {
    if (!plan.device)
        return;
    if (r)
        make_report(r);
    while (plan.n_undos) {
        undo u = plan.undos[--plan.n_undos];
        u.fn(u.arg);
    }
    if (r)
        find_survivors(r);
    plan.device->backend = plan.backend;
    ld_pool_plan(plan.device->pool, false);
    ld_ranges_drop(&plan.ranges);
    free(plan.entries);
    free(plan.events);
    free(plan.undos);
    memset(&plan, 0, sizeof plan);
}
