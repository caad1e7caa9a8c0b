/* A training step that is recorded once and done many times: the part of it that knows optimisers and averages. What is
 * general is in backend/graph.h, what calls the user's function in lua/ld/run_graph.lua.
 *
 * The device decides whether a step counts, and the host learns of it later: so the counts of optimiser and averages lag
 * behind the device's by the results that wait. */
#ifndef LD_OPTIM_GRAPH_H
#define LD_OPTIM_GRAPH_H

#include "backend/graph.h"
#include "optim/ema.h"
#include "optim/optim.h"

typedef struct ld_step_graph {
    ld_graph *graph;
    ld_optim *o;
    ld_ema *e;       /* or NULL */
    ld_tensor **x;   /* n buffers, which a step that does not count leaves as they were */
    ld_tensor **was; /* the buffers before; released when recorded */
    int n;
    int64_t step, updates; /* of optimiser and averages when the recording began */
    uint64_t print;        /* of everything whose address or value is part of the recording */
    bool *counted;         /* of each parameter: it has a gradient in the recording */
} ld_step_graph;

/* LD_ESTATE where the device cannot record. */
ld_step_graph *ld_step_graph_new(ld_device *d, ld_optim *o, ld_ema *e, ld_tensor *const *buffers, int n);
void ld_step_graph_drop(ld_step_graph *s);

/* Before ld_graph_begin: what the recording uses besides the user's operations is called once, without effect: a library may
 * load its code at the first call, which a recording may not stand. */
int ld_step_graph_warm(ld_step_graph *s);
/* Between ld_graph_begin and ld_graph_end: before the loss is computed; and after backward. params: those whose gradients make
 * the norm. The first n numbers of the report (at most LD_CELL_REPORT) become those of xs, tensors of one element, loss
 * first. */
int ld_step_graph_open(ld_step_graph *s);
int ld_step_graph_close(ld_step_graph *s, ld_tensor *const *params, int n_params, ld_tensor *const *xs, int n);

/* Whether everything lies where it did and has the options it had; false: it has to be recorded anew. Holds as soon as it
 * is recorded. Only while no result waits. */
int ld_step_graph_fits(ld_step_graph *s, bool *fits);
/* cell: lr, beta1 and the like are filled in from optimiser and averages. */
int ld_step_graph_replay(ld_step_graph *s, ld_cell *cell, bool settled);
/* As ld_graph_result; what it says is counted. */
int ld_step_graph_result(ld_step_graph *s, bool wait, ld_cell *cell);

#endif
