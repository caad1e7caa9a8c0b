/* Recordings' memory. */
#include "backend/pool_part.h"

#include <stdlib.h>

enum { GRAIN = 256 };

/* A block for a recording, without giving anything back to the system: that would wait for the device. Its first bytes stay
 * unused, so that no part of it has its address. */
static slab *add_slab(ld_pool *p, ld_pool_capture *c, size_t n) {
    slab *s = calloc(1, sizeof *s);
    size_t bytes = 0;
    if (s)
        s->memory = ld_pool_take_plain(p, n + GRAIN, "graph", &bytes);
    if (!s || !s->memory)
        return free(s), NULL;
    s->ranges.size = bytes;
    ld_ranges_take(&s->ranges, GRAIN);
    s->next = c->slabs;
    c->slabs = s;
    c->bytes += bytes;
    p->stats.graphs += bytes;
    return s;
}

static void *cut(ld_pool *p, slab *s, size_t bytes, const char *who) {
    size_t at = ld_ranges_take(&s->ranges, bytes);
    block *b = at == LD_NO_RANGE ? NULL : malloc(sizeof *b);
    if (!b) {
        if (at != LD_NO_RANGE)
            ld_ranges_give(&s->ranges, at, bytes);
        return NULL;
    }
    *b = (block){.memory = s->memory + at, .bytes = bytes, .slab = s, .capture = p->capture};
    ld_pool_sign(b, who);
    p->capture->live++;
    p->stats.allocations++;
    ld_pool_remember(p, b);
    return b->memory;
}

void *ld_pool_take_captured(ld_pool *p, size_t n, const char *who) {
    size_t bytes = n ? (n + GRAIN - 1) / GRAIN * GRAIN : GRAIN;
    void *memory = NULL;
    for (slab *s = p->capture->slabs; s && !memory; s = s->next)
        memory = cut(p, s, bytes, who);
    if (memory)
        return memory;
    size_t quarter = p->capture->bytes / 4;
    slab *more = bytes < quarter ? add_slab(p, p->capture, quarter) : NULL;
    if (!more)
        more = add_slab(p, p->capture, bytes);
    return more && (memory = cut(p, more, bytes, who)) ? memory : ld_pool_fail_short(p, n, who);
}

ld_pool_capture *ld_pool_capture_begin(ld_pool *p, size_t first) {
    ld_pool_capture *c = calloc(1, sizeof *c);
    if (!c || (first && !add_slab(p, c, first))) {
        free(c);
        return ld_pool_fail_short(p, first, "graph");
    }
    return p->capture = c;
}

void ld_pool_capture_end(ld_pool *p) {
    p->capture = NULL;
}

size_t ld_pool_capture_bytes(const ld_pool_capture *c) {
    return c ? c->bytes : 0;
}

static void free_capture(ld_pool *p, ld_pool_capture *c) {
    for (slab *s = c->slabs, *next; s; s = next) {
        next = s->next;
        p->stats.graphs -= s->ranges.size;
        ld_pool_give(p, s->memory);
        ld_ranges_drop(&s->ranges);
        free(s);
    }
    free(c);
}

void ld_pool_capture_drop(ld_pool *p, ld_pool_capture *c) {
    if (!c)
        return;
    c->dropped = true;
    if (!c->live)
        free_capture(p, c);
}

/* b, no longer among the live ones, goes back to its recording. */
void ld_pool_give_captured(ld_pool *p, block *b) {
    ld_pool_capture *c = b->capture;
    ld_ranges_give(&b->slab->ranges, (size_t)((char *)b->memory - b->slab->memory), b->bytes);
    free(b);
    if (!--c->live && c->dropped)
        free_capture(p, c);
}
