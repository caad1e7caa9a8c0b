/* Weights in the form that a kernel wants, kept while they stay the same.
 *
 * A network that samples or is frozen meets the same weights again and again; one that trains meets each version once a
 * direction, and then nothing is kept. What decides is seeing the same contents (view.h: serial and version) a second
 * time. The memory is the CPU pool's and is given back when the contents change, when memory runs short, and by
 * ld_packed_clear. */
#ifndef LD_CPU_PACKED_H
#define LD_CPU_PACKED_H

#include "backend/view.h"

typedef enum ld_packed_state {
    LD_PACKED_READY, /* block holds the packed weights */
    LD_PACKED_FILL,  /* block is new: the caller packs into it now */
    LD_PACKED_NONE   /* the caller packs into workspace of its own */
} ld_packed_state;

/* The packed form `form` (any number that names layout and sizes) of w, of `bytes`. Never fails: NONE at worst. */
ld_packed_state ld_packed_find(const ld_view *w, uint64_t form, size_t bytes, void **block);

/* Whether ld_packed_find would say READY. If so the next call of it, for the same, does, whatever comes between: pressure
 * included. Else nothing is remembered of the question. */
bool ld_packed_ready(const ld_view *w, uint64_t form, size_t bytes);

/* The storage of this serial is gone. */
void ld_packed_forget(uint64_t serial);

/* Bytes kept; give everything back. */
size_t ld_packed_bytes(void);
void ld_packed_clear(void);

#endif
