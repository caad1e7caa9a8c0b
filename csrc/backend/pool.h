/* A caching pool of device memory, one per device: freed blocks are kept by size class and given out again. */
#ifndef LD_POOL_H
#define LD_POOL_H

#include "backend/ranges.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ld_pool ld_pool;

enum { LD_POOL_CLASSES = 256 };

typedef struct ld_pool_stats {
    size_t live, cached, peak; /* bytes given out now, held for reuse, and the highest `live` since the last reset */
    size_t spare;              /* given out by ld_pool_take_spare; neither live nor cached */
    size_t graphs;             /* of live, held by recordings (ld_pool_capture) */
    int64_t blocks;            /* blocks given out now */
    int64_t allocations;       /* since start */
} ld_pool_stats;

/* raw_alloc returns memory aligned to 256 bytes, or NULL when it cannot; the pool never sees bytes beyond `limit` (0: no limit) live + cached + spare. */
ld_pool *ld_pool_new(const char *name, void *(*raw_alloc)(size_t), void (*raw_free)(void *, size_t), size_t limit);
void ld_pool_free(ld_pool *p); /* everything, live blocks too */

/* From now on blocks that would be of a class of LD_POOL_ARENA_FROM bytes or more are cut out of `size` bytes of reserved address space at `base`, and
 * become one again when they are given back: what is held stays near the peak of what is live, where size classes hold the
 * peak of every class. purge(memory, bytes) lets the system have the pages back; they stay reserved. */
#define LD_POOL_ARENA_FROM ((size_t)64 << 10)
void ld_pool_arena(ld_pool *p, void *base, size_t size, void (*purge)(void *, size_t));
/* For address space that is not backed by writing to it: commit(memory, bytes) backs a range before it is given out, where it
 * is not backed already; false: there is no memory left. */
void ld_pool_arena_commit(ld_pool *p, bool (*commit)(void *, size_t));

/* Memory of plans for a pool whose memory is not the host's; plan.h has the host's. `keep` is called for a block that
 * outlives its plan and makes it readable, as zeros; false: it could not, and the block stays as it is. */
typedef struct ld_pool_planned {
    void *(*take)(size_t bytes);
    void (*give)(void *memory, size_t bytes);
    bool (*keep)(void *memory, size_t bytes);
} ld_pool_planned;
void ld_pool_set_planned(ld_pool *p, const ld_pool_planned *planned);
/* For plans: the arena as it is, to be dropped, and the bytes of its free ranges that are not backed. 0 or -1. */
int ld_pool_arena_copy(const ld_pool *p, ld_ranges *to, size_t *cold);

/* At least n bytes, 256-byte aligned; n = 0 gives a valid block. On shortage: give back cached blocks, call the collect
 * hook, try again, then fail with LD_EMEM naming `who`, the bytes asked for, the pool's figures, and whose blocks hold most
 * (`who` up to a colon; it is copied). */
void *ld_pool_take(ld_pool *p, size_t n, const char *who);
/* Memory that its owner can do without and gives back when the pressure hook asks: it counts as spare, not as live.
 * Nothing is collected for it; NULL is no error. */
void *ld_pool_take_spare(ld_pool *p, size_t n);
void ld_pool_give(ld_pool *p, void *block);
void ld_pool_trim(ld_pool *p); /* give cached blocks back to the system */
ld_pool_stats ld_pool_figures(const ld_pool *p);
void ld_pool_reset_peak(ld_pool *p);
void ld_pool_set_limit(ld_pool *p, size_t limit);
size_t ld_pool_limit(const ld_pool *p); /* 0: none */

/* On: blocks come from backend/plan.h and are logged there; nothing in the cache is touched. Off: the figures are as before,
 * with what was given back or outlives the plan accounted for. Called by ld_plan_begin and ld_plan_end. */
void ld_pool_plan(ld_pool *p, bool on);
/* While planning: count a block of before as given back, though it is not. */
void ld_pool_plan_hide(ld_pool *p, void *block);
/* Blocks held for reuse, by size class. */
void ld_pool_spare(const ld_pool *p, int64_t *blocks);

/* ---- recordings (backend/graph.h) ---- */

/* From begin to end blocks are cut out of memory that belongs to the recording: what is given back is given out again in
 * between, never afterwards, and stays out of the pool until the recording is dropped and nothing in it is in use. No
 * memory is given back to the system meanwhile. first: bytes to begin with; more is taken where they are too few. NULL: LD_EMEM. */
typedef struct ld_pool_capture ld_pool_capture;
ld_pool_capture *ld_pool_capture_begin(ld_pool *p, size_t first);
void ld_pool_capture_end(ld_pool *p);
void ld_pool_capture_drop(ld_pool *p, ld_pool_capture *c); /* NULL is fine */
size_t ld_pool_capture_bytes(const ld_pool_capture *c);

/* ---- who holds what ---- */

typedef struct ld_pool_user {
    char who[24]; /* the operation that took the memory */
    size_t bytes;
    int64_t blocks;
} ld_pool_user;
/* The n operations whose blocks take most now, most first; how many there are. */
int ld_pool_users(const ld_pool *p, ld_pool_user *users, int n);

/* Bytes taken since the last collection beyond what was given back; the binding's garbage pressure reads it. */
size_t ld_pool_debt(const ld_pool *p);
void ld_pool_clear_debt(ld_pool *p);

/* Called when memory runs short, to drop what the host language no longer needs. */
void ld_pool_on_pressure(void (*give_back)(void)); /* called first: give blocks back that can be done without */
void ld_pool_on_shortage(void (*collect)(void *), void *arg);

/* For tests: the k-th take from now on fails (k = 1: the next); 0 switches off. */
void ld_pool_fail_at(ld_pool *p, int64_t k);

#endif
