/* Planning: a piece of program is run without computing, to learn how much memory it needs before it needs it.
 *
 * Between ld_plan_begin and ld_plan_end
 *   - the device's slots compute nothing; those that take workspace take it and give it back;
 *   - its pool hands out memory that is reserved and reads as zeros, but is backed by nothing until it is written to; it
 *     counts as always, from the present figures on, and keeps a log; the blocks it holds for reuse stay where they are;
 *   - what the program changes besides tensors' contents is put back at the end by the undo list.
 * One thread computes, one plan at a time, on one device. Memory taken while planning may outlive it: it stays readable, counts as live,
 * and goes back to the system when it is given back. */
#ifndef LD_PLAN_H
#define LD_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ld_device;

#define LD_PLAN_BLOCKS 12 /* largest users that a report names */

/* Bytes, in whole blocks as the pool counts them. `again` describes a second call that finds what the first one left (an
 * optimiser's state, say): the figures of a training's second and later steps. */
typedef struct ld_plan_figures {
    size_t peak;      /* the highest count of bytes given out */
    size_t before;    /* of those, given out before the call (or, for `again`, left by the first) */
    size_t workspace; /* of those, kernels' workspace */
    size_t held;      /* the most that is given out or kept for reuse: what the process takes from the system */
} ld_plan_figures;

typedef struct ld_plan_use {
    char who[24]; /* the operation that took the memory */
    size_t bytes;
    int64_t blocks;
} ld_plan_use;

typedef struct ld_plan_report {
    ld_plan_figures first, again;
    size_t workspace;      /* the most workspace of one kernel, at whatever moment */
    size_t outlived;       /* bytes that were made while planning and are still there when all is as before: zeros */
    char outlived_who[24]; /* the operation that made the first of them */
    int uses;
    ld_plan_use use[LD_PLAN_BLOCKS]; /* what the call of `again` has taken and not given back at its peak, most first */
} ld_plan_report;

/* LD_ESTATE: a plan is under way. LD_EMEM. */
int ld_plan_begin(struct ld_device *d);
/* Everything is as before; r may be NULL. */
void ld_plan_end(ld_plan_report *r);
bool ld_planning(void);
bool ld_planning_on(const struct ld_device *d); /* on that device; others compute as always */

/* While planning: undo(arg) is called at the end, last remembered first. `what` stands for the thing that is put back:
 * ld_plan_remembers tells whether it is taken care of. Returns 0 or LD_EMEM. */
int ld_plan_undo(const void *what, void (*undo)(void *arg), void *arg);
bool ld_plan_remembers(const void *what);

/* For the pool: memory of a plan, and the log. An entry is what ld_plan_taken returned (below 0: out of host memory), or
 * LD_PLAN_OLD for a block that was given out before; `at`: where that lies in the pool's arena, or LD_NO_RANGE. Class
 * LD_PLAN_ARENA: a block of the arena. */
#define LD_PLAN_ARENA (-1)
#define LD_PLAN_OLD   (-1)
void *ld_plan_memory(size_t bytes); /* zeros, aligned to 256 bytes; NULL when there is none */
void ld_plan_memory_free(void *memory, size_t bytes);
int ld_plan_taken(size_t bytes, int size_class, const char *who);
void ld_plan_given(int entry, size_t bytes, int size_class, size_t at);

/* For kernels' workspace: the newest block taken is such. */
void ld_plan_mark_workspace(void);

#endif
