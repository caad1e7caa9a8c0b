/* Walking views of equal shape and any strides, so that kernels see contiguous runs only.
 *
 * The dimensions are ordered by the first operand's strides and merged where every operand allows it. Elements are handed
 * to the kernel in blocks: an operand that is contiguous within a block is passed in place, any other is gathered into a
 * buffer first (and the result scattered from one after). bf16 and f16 are widened to f32 on the way, so a kernel computes
 * on f32, f64, i64, i32 or u8. Blocks are shared out to threads when there are enough elements. */
#ifndef LD_ITERATE_H
#define LD_ITERATE_H

#include "backend/device.h"
#include "base/clones.h"

enum {
    LD_OPERANDS = 4 /* at most, the result among them */
};

/* n elements: p[0] is the result, p[1] ... the inputs, in the views' order. */
typedef void (*ld_block_fn)(int64_t n, void *const *p, const void *arg);

/* views[0] is written, the others are read; an input that is views[0] itself is allowed. raw: hand over bf16 and f16
 * as they are, for kernels that only move elements. */
void ld_iterate(int count, const ld_view *const *views, bool raw, ld_block_fn fn, const void *arg);

/* n elements of dtype t, `step` elements apart, into a dense array of the type a kernel computes on, and back. */
void ld_load_run(void *dense, const void *from, ld_dtype t, int64_t step, int64_t n, bool raw);
void ld_store_run(void *to, const void *dense, ld_dtype t, int64_t step, int64_t n, bool raw);
ld_dtype ld_compute_dtype(ld_dtype t); /* f32 for bf16 and f16, else t */

/* Threads worth using on `work` elements: one, or all of them (a changing team would be made anew each time). */
static inline int ld_team(int64_t work) {
    return work < 32768 ? 1 : ld_threads();
}

/* Part i of n of [0, total): its first element; part i ends where i + 1 begins. */
static inline int64_t ld_part(int64_t total, int i, int n) {
    return total / n * i + (total % n < i ? total % n : i);
}

#endif
