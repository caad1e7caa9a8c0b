/* Recordings' memory, and who holds what. */
#include "backend/pool_part.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    snprintf(b->who, sizeof b->who, "%s", who);
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

/* ---- who holds what ---------------------------------------------------------------------------------------------------- */

typedef struct amount {
    char text[24];
} amount;

static amount amount_of(size_t n) {
    static const char *const unit[] = {"KiB", "MiB", "GiB", "TiB"};
    amount a;
    if (n < 1024) {
        snprintf(a.text, sizeof a.text, "%d bytes", (int)n);
        return a;
    }
    int k = 0;
    double v = (double)n / 1024;
    while (v >= 1000 && k < 3) {
        v /= 1024;
        k++;
    }
    snprintf(a.text, sizeof a.text, "%.1f %s", v, unit[k]);
    return a;
}

int ld_pool_users(const ld_pool *p, ld_pool_user *users, int n) {
    enum { KINDS = 256 };
    static ld_pool_user all[KINDS];
    int kinds = 0;
    for (size_t i = 0; i < p->buckets; i++)
        for (const block *b = p->live[i]; b; b = b->next) {
            int k = 0;
            while (k < kinds && strcmp(all[k].who, b->who))
                k++;
            if (k == KINDS || b->spare || b->slab)
                continue;
            if (k == kinds)
                snprintf(all[kinds++].who, sizeof all[k].who, "%s", b->who), all[k].bytes = 0, all[k].blocks = 0;
            all[k].bytes += b->bytes;
            all[k].blocks++;
        }
    int found = 0;
    for (; found < n && found < kinds; found++) {
        int most = 0;
        for (int k = 1; k < kinds; k++)
            if (all[k].bytes > all[most].bytes)
                most = k;
        users[found] = all[most];
        all[most].bytes = 0;
    }
    return found;
}

/* "; most of it by conv2d 3.1 GiB (40), norm 1.2 GiB (38)": operations, bytes, blocks. */
static const char *say_users(const ld_pool *p) {
    enum { USERS = 6 };
    static char text[USERS * 64];
    ld_pool_user u[USERS];
    int n = ld_pool_users(p, u, USERS), used = 0;
    text[0] = 0;
    for (int i = 0; i < n; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%s%s %s (%lld)", i ? ", " : "; most of it by ",
                         u[i].who, amount_of(u[i].bytes).text, (long long)u[i].blocks);
    return text;
}

void *ld_pool_fail_short(const ld_pool *p, size_t n, const char *who) {
    const ld_pool_stats *s = &p->stats;
    return ld_fail_null(LD_EMEM, "%s: out of memory on %s: %s needed; live %s in %lld blocks, cached %s, limit %s%s",
                        who, p->name, amount_of(n).text, amount_of(s->live).text, (long long)s->blocks,
                        amount_of(s->cached).text, p->limit ? amount_of(p->limit).text : "none", say_users(p));
}
