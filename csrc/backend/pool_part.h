/* What pool.c and pool_capture.c share. */
#ifndef LD_POOL_PART_H
#define LD_POOL_PART_H

#include "backend/pool.h"

typedef struct block {
    void *memory;
    size_t bytes;
    bool spare;        /* given out, and can be had back */
    bool ranged;       /* of the arena */
    bool planned;      /* of a plan's memory, which is never kept for reuse */
    int entry;         /* in the plan's log */
    char who[24];      /* took it */
    struct slab *slab; /* of a recording that it is a part of, or NULL */
    struct ld_pool_capture *capture;
    struct block *next;
} block;

/* A block of the pool from which a recording cuts its own. */
typedef struct slab {
    char *memory;
    ld_ranges ranges;
    struct slab *next;
} slab;

struct ld_pool_capture {
    slab *slabs;
    size_t bytes;
    int64_t live; /* blocks in use */
    bool dropped;
};

struct ld_pool {
    char name[16];
    void *(*raw_alloc)(size_t);
    void (*raw_free)(void *, size_t);
    size_t limit;
    ld_pool_stats stats;
    size_t debt;
    int64_t fail_at;
    bool planning;
    ld_pool_stats before; /* the plan */
    block *cached[LD_POOL_CLASSES];
    char *arena; /* NULL: none */
    ld_ranges ranges;
    size_t cold; /* bytes of free ranges that are backed by nothing */
    void (*purge)(void *, size_t);
    bool (*commit)(void *, size_t); /* NULL: writing backs the arena */
    ld_pool_planned planned;
    ld_pool_capture *capture; /* under way, or NULL */
    block **live;             /* buckets, a power of two of them */
    size_t buckets;
};

void ld_pool_remember(ld_pool *p, block *b);  /* among the blocks that are given out */
void ld_pool_sign(block *b, const char *who); /* who took it, up to a colon */
/* A block from what is kept for reuse or from the system, *bytes long; nothing is given back for it. NULL: there is none. */
void *ld_pool_take_plain(ld_pool *p, size_t n, const char *who, size_t *bytes);
void *ld_pool_fail_short(const ld_pool *p, size_t n, const char *who); /* LD_EMEM with the figures; NULL */

/* While there is p->capture. give: b is no longer among the blocks given out. */
void *ld_pool_take_captured(ld_pool *p, size_t n, const char *who);
void ld_pool_give_captured(ld_pool *p, block *b);

#endif
