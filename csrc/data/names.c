#define _GNU_SOURCE
#include "data/names.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

int ld_names_add(ld_names *l, const char *name, size_t n) {
    if (l->used + n + 1 > l->text_room) {
        size_t room = l->text_room + l->text_room / 2 + n + 4096;
        char *text = realloc(l->text, room);
        if (!text)
            return ld_fail(LD_EMEM, "images: out of host memory for %lld names", (long long)l->count);
        l->text = text;
        l->text_room = room;
    }
    if (l->count == l->room) {
        int64_t room = l->room + l->room / 2 + 64;
        uint64_t *at = realloc(l->at, (size_t)room * sizeof *at);
        if (!at)
            return ld_fail(LD_EMEM, "images: out of host memory for %lld names", (long long)l->count);
        l->at = at;
        l->room = room;
    }
    memcpy(l->text + l->used, name, n);
    l->text[l->used + n] = 0;
    l->at[l->count++] = l->used;
    l->used += n + 1;
    return 0;
}

const char *ld_names_get(const ld_names *l, int64_t i) {
    return l->text + l->at[i];
}

void ld_names_free(ld_names *l) {
    free(l->text);
    free(l->at);
    *l = (ld_names){0};
}

void ld_names_fit(ld_names *l) {
    char *text = realloc(l->text, l->used + 1);
    uint64_t *at = realloc(l->at, ((size_t)l->count + 1) * sizeof *at);
    if (text) {
        l->text = text;
        l->text_room = l->used + 1;
    }
    if (at) {
        l->at = at;
        l->room = l->count + 1;
    }
}

size_t ld_names_memory(const ld_names *l) {
    return l->text_room + (size_t)l->room * sizeof *l->at;
}

struct place {
    uint64_t at;
    int32_t number;
};

static int by_text(const void *a, const void *b, void *text) {
    return strcmp((char *)text + ((const struct place *)a)->at, (char *)text + ((const struct place *)b)->at);
}

int ld_names_sort(ld_names *l, int32_t *new_of) {
    struct place *p = malloc(((size_t)l->count + 1) * sizeof *p);
    if (!p)
        return ld_fail(LD_EMEM, "images: out of host memory for %lld names", (long long)l->count);
    for (int64_t i = 0; i < l->count; i++)
        p[i] = (struct place){l->at[i], (int32_t)i};
    if (l->count > 1)
        qsort_r(p, (size_t)l->count, sizeof *p, by_text, l->text);
    for (int64_t i = 0; i < l->count; i++) {
        l->at[i] = p[i].at;
        if (new_of)
            new_of[p[i].number] = (int32_t)i;
    }
    free(p);
    return 0;
}

/* ---- hashing -------------------------------------------------------------------------------------------------------- */

/* Eight bytes at a time, each multiplied and folded (the constants are odd and otherwise arbitrary). */
uint64_t ld_hash(uint64_t h, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    h ^= n * 0x9e3779b97f4a7c15u;
    while (n > 0) {
        uint64_t w = 0;
        size_t k = n < 8 ? n : 8;
        memcpy(&w, p, k);
        h = (h ^ w) * 0xd6e8feb86659fd93u;
        h ^= h >> 32;
        p += k;
        n -= k;
    }
    h *= 0xff51afd7ed558ccdu;
    return h ^ h >> 33;
}

static bool same(const ld_names *l, int64_t i, const char *name, size_t n) {
    const char *text = ld_names_get(l, i);
    return !memcmp(text, name, n) && text[n] == 0;
}

/* The slot of a string, or the free one where it belongs. Strings of a list end before its block does, so comparing n
 * bytes of one is safe only up to the block's end. */
static size_t slot_of(const ld_name_table *t, const ld_names *l, const char *name, size_t n) {
    size_t k = (size_t)ld_hash(0, name, n) & (t->room - 1);
    while (t->slot[k]) {
        int64_t i = (int64_t)t->slot[k] - 1;
        if (l->at[i] + n < l->used && same(l, i, name, n))
            break;
        k = (k + 1) & (t->room - 1);
    }
    return k;
}

int64_t ld_table_find(const ld_name_table *t, const ld_names *l, const char *name, size_t n) {
    return t->room ? (int64_t)t->slot[slot_of(t, l, name, n)] - 1 : -1;
}

static int grow(ld_name_table *t, const ld_names *l) {
    ld_name_table more = {.room = t->room ? 2 * t->room : 64, .count = t->count};
    more.slot = calloc(more.room, sizeof *more.slot);
    if (!more.slot)
        return ld_fail(LD_EMEM, "images: out of host memory for %lld names", (long long)t->count);
    for (size_t k = 0; k < t->room; k++)
        if (t->slot[k]) {
            const char *name = ld_names_get(l, (int64_t)t->slot[k] - 1);
            more.slot[slot_of(&more, l, name, strlen(name))] = t->slot[k];
        }
    free(t->slot);
    *t = more;
    return 0;
}

int ld_table_put(ld_name_table *t, const ld_names *l, int64_t i, int64_t *was) {
    if (i >= UINT32_MAX)
        return ld_fail(LD_EVALUE, "images: more than %lld names", (long long)UINT32_MAX - 1);
    if (3 * (size_t)(t->count + 1) > 2 * t->room && grow(t, l))
        return ld_error_code();
    const char *name = ld_names_get(l, i);
    size_t k = slot_of(t, l, name, strlen(name));
    *was = (int64_t)t->slot[k] - 1;
    t->count += *was < 0;
    t->slot[k] = (uint32_t)(i + 1);
    return 0;
}

void ld_table_clear(ld_name_table *t) {
    if (t->count)
        memset(t->slot, 0, t->room * sizeof *t->slot);
    t->count = 0;
}

void ld_table_free(ld_name_table *t) {
    free(t->slot);
    *t = (ld_name_table){0};
}

int64_t ld_names_number(ld_names *l, ld_name_table *t, const char *name, size_t n) {
    int64_t i = ld_table_find(t, l, name, n), was;
    if (i >= 0)
        return i;
    if (ld_names_add(l, name, n) || ld_table_put(t, l, l->count - 1, &was))
        return -1;
    return l->count - 1;
}
