#include "backend/ranges.h"

#include <stdlib.h>
#include <string.h>

static void remove_range(ld_ranges *r, int i) {
    r->n--;
    memmove(r->free + i, r->free + i + 1, (size_t)(r->n - i) * sizeof *r->free);
}

size_t ld_ranges_take(ld_ranges *r, size_t bytes) {
    int best = -1;
    for (int i = 0; i < r->n; i++)
        if (r->free[i].bytes >= bytes && (best < 0 || r->free[i].bytes < r->free[best].bytes))
            best = i;
    if (best >= 0) {
        ld_range *f = &r->free[best];
        size_t at = f->at;
        f->at += bytes;
        f->bytes -= bytes;
        if (!f->bytes)
            remove_range(r, best);
        return at;
    }
    /* the last free range, where it reaches the top, is the beginning of what is needed */
    size_t at = r->top;
    if (r->n && r->free[r->n - 1].at + r->free[r->n - 1].bytes == r->top)
        at = r->free[r->n - 1].at;
    if (bytes > r->size - at)
        return LD_NO_RANGE;
    if (at < r->top)
        r->n--;
    r->top = at + bytes;
    return at;
}

void ld_ranges_give(ld_ranges *r, size_t at, size_t bytes) {
    int low = 0, high = r->n;
    while (low < high) {
        int mid = (low + high) / 2;
        if (r->free[mid].at < at)
            low = mid + 1;
        else
            high = mid;
    }
    ld_range *before = low > 0 ? &r->free[low - 1] : NULL, *after = low < r->n ? &r->free[low] : NULL;
    if (after && at + bytes != after->at)
        after = NULL;
    if (before && before->at + before->bytes == at) {
        before->bytes += bytes + (after ? after->bytes : 0);
        if (after)
            remove_range(r, low);
        return;
    }
    if (after) {
        after->at = at;
        after->bytes += bytes;
        return;
    }
    if (r->n == r->room) {
        int room = r->room ? 2 * r->room : 64;
        ld_range *wide = realloc(r->free, (size_t)room * sizeof *wide);
        if (!wide)
            return; /* these bytes are lost to the arena; nothing else is */
        r->free = wide;
        r->room = room;
    }
    memmove(r->free + low + 1, r->free + low, (size_t)(r->n - low) * sizeof *r->free);
    r->free[low] = (ld_range){at, bytes};
    r->n++;
}

size_t ld_ranges_trim(ld_ranges *r) {
    size_t left = 0;
    if (r->n && r->free[r->n - 1].at + r->free[r->n - 1].bytes == r->top)
        r->top = r->free[--r->n].at;
    for (int i = 0; i < r->n; i++)
        left += r->free[i].bytes;
    return left;
}

int ld_ranges_copy(ld_ranges *to, const ld_ranges *from) {
    *to = *from;
    to->room = from->n;
    to->free = malloc((size_t)(from->n ? from->n : 1) * sizeof *to->free);
    if (!to->free)
        return -1;
    if (from->n)
        memcpy(to->free, from->free, (size_t)from->n * sizeof *to->free);
    return 0;
}

void ld_ranges_drop(ld_ranges *r) {
    free(r->free);
    *r = (ld_ranges){0};
}
