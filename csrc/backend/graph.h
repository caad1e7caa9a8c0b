/* Graphs: a piece of program is recorded once on a device that can, and its work is done again by one call.
 *
 * Recorded are the calls of slots with their addresses and numbers; Lua and C above them do not run again. So what changes
 * from one time to the next has to lie in memory whose address stays: data in tensors that the caller fills, numbers in
 * the graph's cell (ld_cell of backend/backend.h), which is sent before each replay.
 *
 * Whether numbers change otherwise is found out before (probing): the program is run twice while memory is planned, the
 * second time with another clock, another count of draws and whatever else the caller changes, and the slots' arguments
 * are compared. Sample numbers of uniform, normal and dropout may follow the clock or the draws; they are then recorded
 * relative to them. Any other difference is an error that names the slot.
 *
 * While a device records, memory of its pool comes from blocks that belong to the graph (ld_pool_capture) until it is
 * dropped. Numbers cannot be read on the host meanwhile: LD_ESTATE. One thread, one recording at a time. */
#ifndef LD_GRAPH_H
#define LD_GRAPH_H

#include "backend/device.h"

typedef struct ld_graph ld_graph;

bool ld_graph_able(const ld_device *d);
/* LD_ESTATE where the device cannot record; LD_EMEM. */
ld_graph *ld_graph_new(ld_device *d);
void ld_graph_drop(ld_graph *g); /* its memory may be used by work that comes later */
ld_device *ld_graph_device(const ld_graph *g);
ld_cell *ld_graph_cell(const ld_graph *g); /* in the device's memory */

/* Between ld_plan_begin and ld_plan_end on the device: from `begin` on arguments are noted, as those of run 0 or 1. While
 * they are, reading numbers on the host is an error. */
int ld_graph_probe(ld_graph *g, int run);
void ld_graph_probed(ld_graph *g); /* before ld_plan_end */
/* Run 1 had these added to the clock and the draws. 0, or LD_ESTATE: what else differs. */
int ld_graph_compare(ld_graph *g, uint64_t clock, uint64_t draws);

/* Record: sample numbers are relative to `clock` and `draws`, both as they are now. memory: what it will need, in bytes, as
 * far as known. end: 0, or an error, and nothing is recorded. abort: after an error in between. */
int ld_graph_begin(ld_graph *g, uint64_t clock, uint64_t draws, size_t memory);
int ld_graph_end(ld_graph *g);
void ld_graph_abort(ld_graph *g);
/* Work on d is recorded and not done now. */
bool ld_graph_recording_on(const ld_device *d);
bool ld_graph_watches(const ld_device *d); /* it is recorded, or probed */
size_t ld_graph_memory(const ld_graph *g); /* bytes of the pool that it holds */

enum { LD_GRAPH_RING = 4 }; /* replays whose results may be waiting */

/* Do it, without waiting for it. cell: what is sent before (`taken` as well where known), and the cell as it is afterwards
 * becomes a result; NULL: neither. LD_ESTATE where LD_GRAPH_RING results wait. */
int ld_graph_replay(ld_graph *g, const ld_cell *cell, bool taken);
int ld_graph_waiting(const ld_graph *g); /* results that wait */
/* The oldest result: 1, or 0 where it is not there yet (not with `wait`), or -1 after ld_fail. */
int ld_graph_result(ld_graph *g, bool wait, ld_cell *cell);

/* For device.c: numbers go to d while something is probed there; 0, or LD_ESTATE where they may not come back. */
void ld_graph_note_upload(const ld_device *d, const void *from, size_t n);
int ld_graph_check_host(const ld_device *d);

#endif
