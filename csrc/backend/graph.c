#include "backend/graph.h"

#include "backend/plan.h"
#include "backend/slot_calls.h"
#include "base/error.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { FIXED, CLOCK, DRAWS }; /* what a sample number follows */

/* One call of a slot. */
typedef struct call {
    const char *slot;
    uint64_t hash;   /* of all else */
    uint64_t sample; /* the last 64-bit integer among the arguments: of slots that draw */
    bool relative;   /* the slot takes the base of a sample number */
} call;

typedef struct list {
    call *call;
    int n, room;
} list;

struct ld_graph {
    ld_device *device;
    void *recorded; /* the device's */
    ld_pool_capture *memory;
    ld_cell *cell; /* on the device */
    ld_cell *ring; /* pinned: LD_GRAPH_RING to send, then as many results */
    void *mark[LD_GRAPH_RING];
    int sent, taken; /* replays with a cell, and results taken */
    list run[2];
    unsigned char *follows; /* of each sample number, in order */
    int n_follows, at;
    uint64_t clock, draws; /* when recording began */
};

static struct {
    ld_graph *probed, *recording; /* or NULL */
    list *to;
    const ld_backend *table; /* the device's own */
    ld_backend based;        /* and with bases, while recording */
} now;

bool ld_graph_able(const ld_device *d) {
    return d->ops && d->ops->graph;
}

bool ld_graph_recording_on(const ld_device *d) {
    return now.recording && now.recording->device == d;
}

ld_device *ld_graph_device(const ld_graph *g) {
    return g->device;
}

ld_cell *ld_graph_cell(const ld_graph *g) {
    return g->cell;
}

ld_graph *ld_graph_new(ld_device *d) {
    if (!ld_graph_able(d))
        return ld_fail_null(LD_ESTATE, "graph: %s cannot record what it does", d->name);
    ld_graph *g = calloc(1, sizeof *g);
    if (!g)
        return ld_fail_null(LD_EMEM, "graph: out of host memory");
    g->device = d;
    g->cell = ld_pool_take(d->pool, sizeof *g->cell, "graph");
    g->ring = g->cell ? d->ops->graph->pinned(2 * LD_GRAPH_RING * sizeof *g->ring) : NULL;
    ld_cell zero;
    memset(&zero, 0, sizeof zero);
    if (!g->ring || ld_device_upload(d, g->cell, &zero, sizeof zero)) {
        ld_graph_drop(g);
        return NULL;
    }
    return g;
}

void ld_graph_drop(ld_graph *g) {
    if (!g)
        return;
    const ld_graph_ops *o = g->device->ops->graph;
    if (now.recording == g)
        ld_graph_abort(g);
    if (g->recorded)
        o->release(g->recorded);
    for (int i = 0; i < LD_GRAPH_RING; i++)
        if (g->mark[i])
            o->mark_free(g->mark[i]);
    if (g->ring)
        o->pinned_free(g->ring);
    ld_pool_capture_drop(g->device->pool, g->memory);
    ld_pool_give(g->device->pool, g->cell);
    free(g->run[0].call);
    free(g->run[1].call);
    free(g->follows);
    free(g);
}

/* ---- probing --------------------------------------------------------------------------------------------------------- */

static call noted; /* the call whose arguments are looked at */

static void mix(const void *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        noted.hash = (noted.hash ^ ((const unsigned char *)p)[i]) * 0x100000001B3u;
}

static void note_view(const ld_view *v) {
    uint64_t present = v != NULL;
    mix(&present, sizeof present);
    if (!v)
        return;
    int64_t kind[2] = {v->dtype, v->ndim};
    mix(kind, sizeof kind);
    mix(v->shape, (size_t)v->ndim * sizeof *v->shape);
    mix(v->stride, (size_t)v->ndim * sizeof *v->stride);
}

static void note_conv(const ld_conv_shape *s) {
    int64_t all[] = {s->stride_h, s->stride_w, s->top, s->bottom, s->left, s->right, s->up};
    mix(all, sizeof all);
}

static void note_norm(const ld_norm_spec *s) {
    int64_t whole[] = {s->groups, s->given, s->again, s->act};
    double real[] = {s->eps, s->slope, s->sub};
    mix(whole, sizeof whole);
    mix(real, sizeof real);
}

static void note_loss(const ld_loss_spec *s) {
    int64_t whole[] = {s->kind, s->mean};
    double delta = s->kind == LD_LOSS_HUBER ? s->delta : 0;
    mix(whole, sizeof whole);
    mix(&delta, sizeof delta);
}

/* Its samples are given, or counted from a number that no base moves: a step in which that follows the clock is refused. */
static void note_augment(const ld_augment *a) {
    uint64_t whole[] = {(uint64_t)a->pad, (uint64_t)a->erases, a->seed, a->first};
    double real[] = {a->erase, a->flip};
    mix(whole, sizeof whole);
    mix(real, sizeof real);
}

static void note_double(double v) {
    mix(&v, sizeof v);
}

static void note_int(int64_t v) {
    mix(&v, sizeof v);
}

/* The one before was a seed. */
static void note_word(uint64_t v) {
    mix(&noted.sample, sizeof noted.sample);
    noted.sample = v;
}

static void note_base(const uint64_t *base) {
    (void)base;
    noted.relative = true;
}

static void note_address(const void *p) {
    (void)p;
}

#define NOTE(a)                                                                                                        \
    _Generic((a), const ld_view *                                                                                      \
             : note_view, const ld_conv_shape *                                                                        \
             : note_conv, const ld_norm_spec *                                                                         \
             : note_norm, const ld_loss_spec *                                                                         \
             : note_loss, const ld_augment *                                                                           \
             : note_augment, const uint64_t *                                                                          \
             : note_base, const ld_update *                                                                            \
             : note_address, const ld_cell *                                                                           \
             : note_address, ld_cell *                                                                                 \
             : note_address, double *                                                                                  \
             : note_address, double                                                                                    \
             : note_double, uint64_t                                                                                   \
             : note_word, default                                                                                      \
             : note_int)(a);

#define NOTE_1(a)                                                       NOTE(a)
#define NOTE_2(a, ...)                                                  NOTE(a) NOTE_1(__VA_ARGS__)
#define NOTE_3(a, ...)                                                  NOTE(a) NOTE_2(__VA_ARGS__)
#define NOTE_4(a, ...)                                                  NOTE(a) NOTE_3(__VA_ARGS__)
#define NOTE_5(a, ...)                                                  NOTE(a) NOTE_4(__VA_ARGS__)
#define NOTE_6(a, ...)                                                  NOTE(a) NOTE_5(__VA_ARGS__)
#define NOTE_7(a, ...)                                                  NOTE(a) NOTE_6(__VA_ARGS__)
#define NOTE_8(a, ...)                                                  NOTE(a) NOTE_7(__VA_ARGS__)
#define NOTE_9(a, ...)                                                  NOTE(a) NOTE_8(__VA_ARGS__)
#define NOTE_10(a, ...)                                                 NOTE(a) NOTE_9(__VA_ARGS__)
#define NOTE_11(a, ...)                                                 NOTE(a) NOTE_10(__VA_ARGS__)
#define NOTE_12(a, ...)                                                 NOTE(a) NOTE_11(__VA_ARGS__)
#define NOTE_13(a, ...)                                                 NOTE(a) NOTE_12(__VA_ARGS__)
#define NOTE_14(a, ...)                                                 NOTE(a) NOTE_13(__VA_ARGS__)
#define NOTE_15(a, ...)                                                 NOTE(a) NOTE_14(__VA_ARGS__)
#define NOTE_16(a, ...)                                                 NOTE(a) NOTE_15(__VA_ARGS__)
#define PICK(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, name, ...) name
#define NOTE_ALL(...)                                                                                                  \
    PICK(__VA_ARGS__, NOTE_16, NOTE_15, NOTE_14, NOTE_13, NOTE_12, NOTE_11, NOTE_10, NOTE_9, NOTE_8, NOTE_7, NOTE_6,   \
         NOTE_5, NOTE_4, NOTE_3, NOTE_2, NOTE_1, none)                                                                 \
    (__VA_ARGS__)

static void start(const char *slot) {
    noted = (call){.slot = slot, .hash = 0xCBF29CE484222325u};
}

/* Without room the lists are of different lengths, which is an error later. */
static void keep(void) {
    list *l = now.to;
    if (l->n == l->room) {
        int room = l->room ? 2 * l->room : 1024;
        call *more = realloc(l->call, (size_t)room * sizeof *more);
        if (!more)
            return;
        l->call = more;
        l->room = room;
    }
    l->call[l->n++] = noted;
}

#define PROBE(slot, params, ...)                                                                                       \
    static int probe_##slot params {                                                                                   \
        start(#slot);                                                                                                  \
        NOTE_ALL(__VA_ARGS__)                                                                                          \
        keep();                                                                                                        \
        return now.table->slot(__VA_ARGS__);                                                                           \
    }
LD_SLOT_CALLS(PROBE)

int ld_graph_probe(ld_graph *g, int run) {
#define ENTRY(slot, params, ...) .slot = probe_##slot,
    static ld_backend table = {LD_SLOT_CALLS(ENTRY)};
    ld_device *d = g->device;
    if (!ld_planning_on(d))
        return ld_fail(LD_EINTERNAL, "graph: nothing is planned on %s", d->name);
    now.table = d->backend;
    now.probed = g;
    now.to = &g->run[run];
    now.to->n = 0;
    table.name = d->backend->name;
    table.halves = d->backend->halves;
    table.forget = d->backend->forget;
    d->backend = &table;
    return 0;
}

void ld_graph_probed(ld_graph *g) {
    if (now.probed == g)
        g->device->backend = now.table;
    now.probed = NULL;
}

void ld_graph_note_upload(const ld_device *d, const void *from, size_t n) {
    if (!now.probed || now.probed->device != d)
        return;
    start("a copy to the device");
    mix(from, n);
    keep();
}

bool ld_graph_watches(const ld_device *d) {
    return ld_graph_recording_on(d) || (now.probed && now.probed->device == d);
}

int ld_graph_check_host(const ld_device *d) {
    if (!ld_graph_watches(d))
        return 0;
    return ld_fail(LD_ESTATE, "graph: numbers of %s are read on the host, which work that is recorded cannot wait for",
                   d->name);
}

int ld_graph_compare(ld_graph *g, uint64_t clock, uint64_t draws) {
    const list *a = &g->run[0], *b = &g->run[1];
    if (a->n != b->n)
        return ld_fail(LD_ESTATE, "graph: there are %d calls one time and %d the next", a->n, b->n);
    free(g->follows);
    g->follows = malloc((size_t)a->n + 1);
    g->n_follows = 0;
    if (!g->follows)
        return ld_fail(LD_EMEM, "graph: out of host memory");
    for (int i = 0; i < a->n; i++) {
        const call *x = &a->call[i], *y = &b->call[i];
        uint64_t more = y->sample - x->sample;
        if (strcmp(x->slot, y->slot) || x->hash != y->hash || (more && !x->relative))
            return ld_fail(LD_ESTATE, "graph: %s (%d of %d) has other arguments from one step to the next", x->slot,
                           i + 1, a->n);
        if (more && more != clock && more != draws)
            return ld_fail(LD_ESTATE,
                           "graph: the sample number of %s (%d of %d) follows neither the clock nor the generator",
                           x->slot, i + 1, a->n);
        if (x->relative)
            g->follows[g->n_follows++] = !more ? FIXED : more == clock ? CLOCK : DRAWS;
    }
    return 0;
}

/* ---- recording ------------------------------------------------------------------------------------------------------- */

/* The base that the next sample number is relative to, or NULL, with the number as it is passed on. */
static const uint64_t *base_of(uint64_t *sample) {
    ld_graph *g = now.recording;
    int what = g->at < g->n_follows ? g->follows[g->at] : FIXED;
    g->at++;
    *sample -= what == CLOCK ? g->clock : what == DRAWS ? g->draws : 0;
    return what == CLOCK ? &g->cell->clock : what == DRAWS ? &g->cell->draws : NULL;
}

static int based_uniform(const ld_view *y, double lo, double hi, uint64_t seed, uint32_t purpose, uint64_t sample,
                         bool by_row, const uint64_t *base) {
    base = base_of(&sample);
    return now.table->uniform(y, lo, hi, seed, purpose, sample, by_row, base);
}

static int based_normal(const ld_view *y, double mean, double std, uint64_t seed, uint32_t purpose, uint64_t sample,
                        bool by_row, const uint64_t *base) {
    base = base_of(&sample);
    return now.table->normal(y, mean, std, seed, purpose, sample, by_row, base);
}

static int based_dropout(const ld_view *y, const ld_view *x, double p, uint64_t seed, uint64_t sample,
                         const uint64_t *base) {
    base = base_of(&sample);
    return now.table->dropout(y, x, p, seed, sample, base);
}

static int based_noised(const ld_view *y, const ld_view *x0, const ld_view *eps, const ld_view *t, const ld_view *z,
                        const ld_view *shift, double scale, uint64_t seed, uint64_t first, const uint64_t *base) {
    base = base_of(&first);
    return now.table->noised(y, x0, eps, t, z, shift, scale, seed, first, base);
}

int ld_graph_begin(ld_graph *g, uint64_t clock, uint64_t draws, size_t memory) {
    ld_device *d = g->device;
    if (now.recording || ld_planning() || g->recorded)
        return ld_fail(LD_ESTATE, "graph: %s", g->recorded ? "it is recorded already" : "something is recorded");
    if (!(g->memory = ld_pool_capture_begin(d->pool, memory)))
        return ld_error_code();
    int bad = d->ops->graph->begin();
    if (bad) {
        ld_pool_capture_end(d->pool);
        return bad;
    }
    now.recording = g;
    now.table = d->backend;
    now.based = *d->backend;
    now.based.uniform = based_uniform;
    now.based.normal = based_normal;
    now.based.dropout = based_dropout;
    now.based.noised = based_noised;
    d->backend = &now.based;
    g->clock = clock;
    g->draws = draws;
    g->at = 0;
    return 0;
}

static int stop(ld_graph *g, bool keep_it) {
    ld_device *d = g->device;
    d->backend = now.table;
    now.recording = NULL;
    ld_pool_capture_end(d->pool);
    return d->ops->graph->end(keep_it ? &g->recorded : NULL);
}

int ld_graph_end(ld_graph *g) {
    int bad = stop(g, true);
    if (!bad && g->at != g->n_follows)
        bad = ld_fail(LD_ESTATE, "graph: numbers are drawn %d times, and were %d times before", g->at, g->n_follows);
    return bad;
}

void ld_graph_abort(ld_graph *g) {
    if (now.recording == g)
        stop(g, false);
}

size_t ld_graph_memory(const ld_graph *g) {
    return ld_pool_capture_bytes(g->memory);
}

/* ---- replaying ------------------------------------------------------------------------------------------------------- */

int ld_graph_waiting(const ld_graph *g) {
    return g->sent - g->taken;
}

int ld_graph_replay(ld_graph *g, const ld_cell *cell, bool taken) {
    const ld_graph_ops *o = g->device->ops->graph;
    if (!g->recorded)
        return ld_fail(LD_ESTATE, "graph: nothing is recorded");
    if (!cell)
        return o->replay(g->recorded);
    if (ld_graph_waiting(g) == LD_GRAPH_RING)
        return ld_fail(LD_ESTATE, "graph: %d results wait", LD_GRAPH_RING);
    int i = g->sent % LD_GRAPH_RING;
    g->ring[i] = *cell;
    int bad =
        o->send(g->cell, &g->ring[i], taken ? offsetof(ld_cell, taken) + sizeof cell->taken : offsetof(ld_cell, taken));
    if (!bad)
        bad = o->replay(g->recorded);
    if (!bad)
        bad = o->fetch(&g->ring[LD_GRAPH_RING + i], g->cell, sizeof *g->cell);
    if (!bad)
        bad = o->mark(&g->mark[i]);
    if (!bad)
        g->sent++;
    return bad;
}

int ld_graph_result(ld_graph *g, bool wait, ld_cell *cell) {
    int i = g->taken % LD_GRAPH_RING;
    if (!ld_graph_waiting(g))
        return 0;
    int there = g->device->ops->graph->reached(g->mark[i], wait);
    if (there == 1) {
        *cell = g->ring[LD_GRAPH_RING + i];
        g->taken++;
    }
    return there;
}
