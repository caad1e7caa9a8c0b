/* Blocks are rounded up to size classes: multiples of 256 up to 1024, then four classes between powers of two, so that at
 * most a fifth of a block is unused; from LD_POOL_ARENA_FROM on they are pages of the arena, where there is one. All figures
 * count whole blocks. What is known of a block lies on the host (the
 * memory may be a device's): in a hash table by address while it is given out, in its class's list while cached.
 * raw_alloc must return memory aligned to 256 bytes. One thread uses the pools. */
#include "backend/pool_part.h"

#include "backend/plan.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLASSES = LD_POOL_CLASSES, SMALLEST = 256, PAGE = 4096 };

static void (*collect_hook)(void *);
static void *collect_arg;
static void (*pressure_hook)(void);

void ld_pool_on_pressure(void (*give_back)(void)) {
    pressure_hook = give_back;
}

void ld_pool_on_shortage(void (*collect)(void *), void *arg) {
    collect_hook = collect;
    collect_arg = arg;
}

/* The class of n bytes; *bytes becomes the size of its blocks. */
static int plain_class(size_t n, size_t *bytes) {
    if (n <= 4 * SMALLEST) {
        size_t k = n ? (n + SMALLEST - 1) / SMALLEST : 1;
        *bytes = k * SMALLEST;
        return (int)k - 1;
    }
    int top = 63 - __builtin_clzll((unsigned long long)(n - 1)); /* 2^top < n <= 2^(top + 1) */
    size_t step = (size_t)1 << (top - 2), quarter = (n - ((size_t)1 << top) + step - 1) / step;
    *bytes = ((size_t)1 << top) + quarter * step;
    return 4 * (top - 10) + 3 + (int)quarter;
}

/* The same with LD_PLAN_ARENA for what the arena has: blocks of classes from LD_POOL_ARENA_FROM on. The size of a block has the
 * class of what it was taken for. */
static int size_class(const ld_pool *p, size_t n, size_t *bytes) {
    int class = plain_class(n, bytes);
    if (!p->arena || *bytes < LD_POOL_ARENA_FROM)
        return class;
    *bytes = (n + PAGE - 1) & ~(size_t)(PAGE - 1);
    return LD_PLAN_ARENA;
}

static size_t bucket_of(const ld_pool *p, const void *memory) {
    return (size_t)(((uint64_t)(uintptr_t)memory >> 8) * 0x9E3779B97F4A7C15u >> 32) & (p->buckets - 1);
}

void ld_pool_remember(ld_pool *p, block *b) {
    block **at = &p->live[bucket_of(p, b->memory)];
    b->next = *at;
    *at = b;
}

/* Keep the chains short; without memory for a larger table they merely grow. */
static void widen(ld_pool *p) {
    block **old = p->live, **wide = calloc(2 * p->buckets, sizeof *wide);
    if (!wide)
        return;
    size_t n = p->buckets;
    p->live = wide;
    p->buckets = 2 * n;
    for (size_t i = 0; i < n; i++)
        for (block *b = old[i], *next; b; b = next) {
            next = b->next;
            ld_pool_remember(p, b);
        }
    free(old);
}

ld_pool *ld_pool_new(const char *name, void *(*raw_alloc)(size_t), void (*raw_free)(void *, size_t), size_t limit) {
    ld_pool *p = calloc(1, sizeof *p);
    block **live = calloc(64, sizeof *live);
    if (!p || !live) {
        free(p);
        free(live);
        return ld_fail_null(LD_EMEM, "pool: out of host memory for the pool of %s", name);
    }
    snprintf(p->name, sizeof p->name, "%s", name);
    p->raw_alloc = raw_alloc;
    p->raw_free = raw_free;
    p->planned = (ld_pool_planned){ld_plan_memory, ld_plan_memory_free, NULL};
    p->limit = limit;
    p->live = live;
    p->buckets = 64;
    return p;
}

static void free_block(ld_pool *p, block *b) {
    if (b->planned)
        p->planned.give(b->memory, b->bytes);
    else if (!b->ranged)
        p->raw_free(b->memory, b->bytes);
    free(b);
}

static void free_list(ld_pool *p, block **list) {
    for (block *b = *list, *next; b; b = next) {
        next = b->next;
        free_block(p, b);
    }
    *list = NULL;
}

void ld_pool_free(ld_pool *p) {
    if (!p)
        return;
    ld_pool_trim(p);
    for (size_t i = 0; i < p->buckets; i++)
        free_list(p, &p->live[i]);
    ld_ranges_drop(&p->ranges);
    free(p->live);
    free(p);
}

void ld_pool_arena(ld_pool *p, void *base, size_t size, void (*purge)(void *, size_t)) {
    p->arena = base;
    p->ranges.size = size;
    p->purge = purge;
}

void ld_pool_arena_commit(ld_pool *p, bool (*commit)(void *, size_t)) {
    p->commit = commit;
}

void ld_pool_set_planned(ld_pool *p, const ld_pool_planned *planned) {
    p->planned = *planned;
}

int ld_pool_arena_copy(const ld_pool *p, ld_ranges *to, size_t *cold) {
    *cold = p->cold;
    return ld_ranges_copy(to, &p->ranges);
}

static void purge_arena(ld_pool *p) {
    size_t top = p->ranges.top;
    p->cold = ld_ranges_trim(&p->ranges);
    if (top > p->ranges.top)
        p->purge(p->arena + p->ranges.top, top - p->ranges.top);
    for (int i = 0; i < p->ranges.n; i++)
        p->purge(p->arena + p->ranges.free[i].at, p->ranges.free[i].bytes);
}

void ld_pool_trim(ld_pool *p) {
    if (p->planning || p->capture)
        return;
    for (int i = 0; i < CLASSES; i++)
        free_list(p, &p->cached[i]);
    if (p->arena)
        purge_arena(p);
    p->stats.cached = 0;
}

static block *from_arena(ld_pool *p, size_t bytes) {
    block *b = malloc(sizeof *b);
    size_t top = p->ranges.top, at = b ? ld_ranges_take(&p->ranges, bytes) : LD_NO_RANGE;
    if (at == LD_NO_RANGE) {
        free(b);
        return NULL;
    }
    size_t more = p->ranges.top - top, reused = bytes - more, cold = reused < p->cold ? reused : p->cold;
    size_t held = p->stats.live + p->stats.cached + p->stats.spare;
    p->cold -= cold;
    if ((p->limit && held + more + cold > p->limit) || (p->commit && !p->commit(p->arena + at, bytes))) {
        ld_ranges_give(&p->ranges, at, bytes);
        p->cold += cold + more;
        free(b);
        return NULL;
    }
    p->stats.cached -= reused - cold;
    *b = (block){.memory = p->arena + at, .bytes = bytes, .ranged = true};
    return b;
}

/* What was given back, or the arena. */
static block *from_cache(ld_pool *p, int class, size_t bytes) {
    if (class == LD_PLAN_ARENA)
        return from_arena(p, bytes);
    block *b = p->cached[class];
    if (b) {
        p->cached[class] = b->next;
        p->stats.cached -= b->bytes;
    }
    return b;
}

static block *from_system(ld_pool *p, int class, size_t bytes) {
    if (class == LD_PLAN_ARENA)
        return from_arena(p, bytes);
    size_t held = p->stats.live + p->stats.cached + p->stats.spare;
    if (p->limit && (held > p->limit || bytes > p->limit - held))
        return NULL;
    block *b = malloc(sizeof *b);
    if (!b)
        return NULL;
    b->memory = p->raw_alloc(bytes);
    if (!b->memory) {
        free(b);
        return NULL;
    }
    *b = (block){.memory = b->memory, .bytes = bytes};
    return b;
}

static block *from_plan(const ld_pool *p, size_t bytes, int class, const char *who) {
    block *b = malloc(sizeof *b);
    void *memory = b ? p->planned.take(bytes) : NULL;
    int entry = memory ? ld_plan_taken(bytes, class, who) : -1;
    if (entry >= 0) {
        *b = (block){.memory = memory, .bytes = bytes, .planned = true, .entry = entry};
        return b;
    }
    if (memory)
        p->planned.give(memory, bytes);
    free(b);
    return NULL;
}

static block *after_shortage(ld_pool *p, int class, size_t bytes) {
    static bool collecting;
    if (pressure_hook)
        pressure_hook();
    ld_pool_trim(p);
    block *b = from_system(p, class, bytes);
    if (b || !collect_hook || collecting)
        return b;
    collecting = true; /* the hook may itself run short */
    collect_hook(collect_arg);
    collecting = false;
    if ((b = from_cache(p, class, bytes)))
        return b;
    ld_pool_trim(p);
    return from_system(p, class, bytes);
}

static void *hand_out(ld_pool *p, block *b, size_t bytes, const char *who) {
    ld_pool_sign(b, who);
    if ((size_t)p->stats.blocks >= p->buckets)
        widen(p);
    ld_pool_remember(p, b);
    p->stats.allocations++;
    if (b->spare) {
        p->stats.spare += bytes;
        return b->memory;
    }
    p->stats.live += bytes;
    p->stats.blocks++;
    if (p->stats.live > p->stats.peak)
        p->stats.peak = p->stats.live;
    p->debt += bytes;
    return b->memory;
}

void *ld_pool_take_plain(ld_pool *p, size_t n, const char *who, size_t *bytes) {
    int class = size_class(p, n, bytes);
    block *b = from_cache(p, class, *bytes);
    return b || (b = from_system(p, class, *bytes)) ? hand_out(p, b, *bytes, who) : NULL;
}

void *ld_pool_take(ld_pool *p, size_t n, const char *who) {
    size_t bytes = 0;
    if (p->fail_at && --p->fail_at == 0)
        return ld_pool_fail_short(p, n, who);
    if (n > SIZE_MAX / 4)
        return ld_pool_fail_short(p, n, who);
    if (p->capture)
        return ld_pool_take_captured(p, n, who);
    int class = size_class(p, n, &bytes);
    block *b = p->planning ? from_plan(p, bytes, class, who) : from_cache(p, class, bytes);
    if (!b && (p->planning || (!(b = from_system(p, class, bytes)) && !(b = after_shortage(p, class, bytes)))))
        return ld_pool_fail_short(p, n, who);
    return hand_out(p, b, bytes, who);
}

void *ld_pool_take_spare(ld_pool *p, size_t n) {
    size_t bytes = 0;
    if (n > SIZE_MAX / 4 || p->planning || p->capture)
        return NULL;
    int class = size_class(p, n, &bytes);
    block *b = from_cache(p, class, bytes);
    if (!b && !(b = from_system(p, class, bytes)))
        return NULL;
    b->spare = true;
    return hand_out(p, b, bytes, "spare");
}

static size_t place_of(const ld_pool *p, const block *b) {
    return b->ranged ? (size_t)((char *)b->memory - p->arena) : LD_NO_RANGE;
}

/* To where it came from, for reuse. */
static void put_back(ld_pool *p, block *b, int class) {
    p->stats.cached += b->bytes;
    if (b->ranged) {
        ld_ranges_give(&p->ranges, place_of(p, b), b->bytes);
        free(b);
        return;
    }
    b->next = p->cached[class];
    p->cached[class] = b;
}

/* While planning: a block that is really there goes back for good. */
static void note_given(ld_pool *p, const block *b, int class) {
    ld_plan_given(b->planned && b->entry >= 0 ? b->entry : LD_PLAN_OLD, b->bytes, class, place_of(p, b));
    if (b->planned && b->entry >= 0)
        return;
    p->before.live -= b->bytes;
    p->before.blocks--;
}

void ld_pool_plan_hide(ld_pool *p, void *memory) {
    for (const block *b = p->live[bucket_of(p, memory)]; b; b = b->next)
        if (b->memory == memory && p->planning && (!b->planned || b->entry < 0)) {
            size_t bytes;
            int class = size_class(p, b->bytes, &bytes);
            ld_plan_given(LD_PLAN_OLD, b->bytes, class, place_of(p, b));
            p->stats.live -= b->bytes;
        }
}

void ld_pool_give(ld_pool *p, void *memory) {
    block **at = &p->live[bucket_of(p, memory)];
    while (*at && (*at)->memory != memory)
        at = &(*at)->next;
    block *b = *at;
    if (!b) /* NULL, or never taken here */
        return;
    *at = b->next;
    if (b->slab) {
        ld_pool_give_captured(p, b);
        return;
    }
    size_t bytes;
    int class = size_class(p, b->bytes, &bytes);
    if (b->spare) {
        b->spare = false;
        p->stats.spare -= bytes;
        put_back(p, b, class);
        return;
    }
    if (p->planning)
        note_given(p, b, class);
    if (b->planned)
        free_block(p, b);
    else
        put_back(p, b, class);
    p->stats.live -= bytes;
    p->stats.blocks--;
    p->debt -= bytes < p->debt ? bytes : p->debt; /* what was taken earlier earns no credit */
}

ld_pool_stats ld_pool_figures(const ld_pool *p) {
    return p->stats;
}

void ld_pool_reset_peak(ld_pool *p) {
    p->stats.peak = p->stats.live;
}

void ld_pool_set_limit(ld_pool *p, size_t limit) {
    p->limit = limit;
}

void ld_pool_spare(const ld_pool *p, int64_t *blocks) {
    for (int i = 0; i < CLASSES; i++) {
        blocks[i] = 0;
        for (const block *b = p->cached[i]; b; b = b->next)
            blocks[i]++;
    }
}

/* Blocks of the plan that are still given out are from now on live like others, and no entries of any log. */
static void settle_survivors(ld_pool *p) {
    for (size_t i = 0; i < p->buckets; i++)
        for (block *b = p->live[i]; b; b = b->next)
            if (b->planned && b->entry >= 0) {
                b->entry = -1;
                if (p->planned.keep)
                    p->planned.keep(b->memory, b->bytes);
                p->before.live += b->bytes;
                p->before.blocks++;
            }
}

void ld_pool_plan(ld_pool *p, bool on) {
    if (on == p->planning)
        return;
    p->planning = on;
    if (on) {
        p->before = p->stats;
        return;
    }
    settle_survivors(p);
    p->before.cached = p->stats.cached;
    p->before.spare = p->stats.spare;
    if (p->before.peak < p->before.live)
        p->before.peak = p->before.live;
    p->stats = p->before;
}

size_t ld_pool_limit(const ld_pool *p) {
    return p->limit;
}

size_t ld_pool_debt(const ld_pool *p) {
    return p->debt;
}

void ld_pool_clear_debt(ld_pool *p) {
    p->debt = 0;
}

void ld_pool_fail_at(ld_pool *p, int64_t k) {
    p->fail_at = k;
}
