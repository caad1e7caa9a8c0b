/* Free and used ranges of an address space, without the memory: who gets which bytes of an arena.
 *
 * A request gets the smallest free range that holds it, the lowest of equals; neighbours that are free become one. Used by
 * the pool for its arena, and on a copy by plans, which so know what the pool will do. */
#ifndef LD_RANGES_H
#define LD_RANGES_H

#include <stddef.h>

typedef struct ld_range {
    size_t at, bytes;
} ld_range;

typedef struct ld_ranges {
    ld_range *free; /* below `top`, in order of address, never touching each other */
    int n, room;
    size_t top;  /* nothing beyond it was ever given out since the last trim */
    size_t size; /* of the whole space */
} ld_ranges;

#define LD_NO_RANGE ((size_t)-1)

/* The start of a range of `bytes`, or LD_NO_RANGE when there is none. A multiple of what all requests are multiples of. */
size_t ld_ranges_take(ld_ranges *r, size_t bytes);
void ld_ranges_give(ld_ranges *r, size_t at, size_t bytes);
/* `top` falls to the end of the last range in use; returns the bytes that are free below it. */
size_t ld_ranges_trim(ld_ranges *r);
/* to becomes a copy: 0 or -1 (no host memory). ld_ranges_drop frees what a copy holds. */
int ld_ranges_copy(ld_ranges *to, const ld_ranges *from);
void ld_ranges_drop(ld_ranges *r);

#endif
