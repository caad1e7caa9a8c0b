/* Growing lists of strings in one block of memory, and finding in them by hash. */
#ifndef LD_NAMES_H
#define LD_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ld_names {
    char *text;   /* NUL-ended strings */
    uint64_t *at; /* where each begins */
    size_t used, text_room;
    int64_t count, room;
} ld_names;

/* Adds the n bytes at `name`, which hold no NUL. LD_EMEM. */
int ld_names_add(ld_names *l, const char *name, size_t n);
const char *ld_names_get(const ld_names *l, int64_t i);
void ld_names_free(ld_names *l);
void ld_names_fit(ld_names *l); /* gives back the room that is not used */
size_t ld_names_memory(const ld_names *l);
/* new_of[i]: the place of string i after sorting bytewise; new_of may be NULL. LD_EMEM. */
int ld_names_sort(ld_names *l, int32_t *new_of);

/* Which strings of a list have been entered, by their bytes. Open addressing, a power of two at most two thirds full. */
typedef struct ld_name_table {
    uint32_t *slot; /* number + 1; 0: free */
    size_t room;
    int64_t count;
} ld_name_table;

uint64_t ld_hash(uint64_t seed, const void *bytes, size_t n);
/* Number of the entered string that equals the n bytes, -1 for none. */
int64_t ld_table_find(const ld_name_table *t, const ld_names *l, const char *name, size_t n);
/* Enters string i of the list, which is not entered yet, or replaces the entry of an equal one, whose number is put into
 * *was (else -1). LD_EMEM. */
int ld_table_put(ld_name_table *t, const ld_names *l, int64_t i, int64_t *was);
void ld_table_clear(ld_name_table *t); /* forgets all, keeps the room */
void ld_table_free(ld_name_table *t);

/* Number of the n bytes in the list, which they join where they are new: -1 on LD_EMEM. */
int64_t ld_names_number(ld_names *l, ld_name_table *t, const char *name, size_t n);

#endif
