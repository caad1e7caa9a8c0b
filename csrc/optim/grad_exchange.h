/* Sums over ranks, for grad_sum.c: nodes of its tree that lie on several ranks become the root, on every rank. */
#ifndef LD_GRAD_EXCHANGE_H
#define LD_GRAD_EXCHANGE_H

#include "tensor/tensor.h"

enum { LD_SUM_DEPTH = 21 }; /* levels of a tree, and the most nodes that one rank may be left with */

/* Pieces index 2^level to (index + 1) 2^level - 1, those that there are. */
typedef struct ld_sum_node {
    int level, index;
} ld_sum_node;

static inline bool ld_sum_siblings(ld_sum_node left, ld_sum_node right) {
    return left.level == right.level && left.index % 2 == 0 && right.index == left.index + 1;
}

/* How many pieces a batch of `count` has when each is of `micro` pictures. A single one left over joins the piece before it:
 * batch norm cannot use it alone. micro 0: one piece a rank, of equal sizes as far as possible, or, where that is fewer than two
 * pictures each, a single piece, which is rank 0's. */
int ld_sum_pieces(int count, int micro, int ranks);
/* The picture of the batch, from 0, at which piece i of those begins; `count` for i = pieces. */
int ld_sum_first(int count, int micro, int pieces, int i);
/* The pieces of rank r of R: first to last - 1, about equally many, those of rank 0 first. */
void ld_sum_own(int pieces, int rank, int ranks, int *first, int *last);

typedef struct ld_exchange ld_exchange;

/* How numbers on a device go to the other ranks' devices: directly where all of them can, else through the host; or as is
 * said here. */
typedef enum ld_sum_way { LD_SUM_AUTO, LD_SUM_HOST, LD_SUM_DEVICE } ld_sum_way;
typedef struct ld_sum_how {
    ld_sum_way way;
    bool any_order; /* a device may add in its library's order, which is faster, and depends on the number of ranks */
} ld_sum_how;

/* For sums shaped like these n items, of which the first n_params are parameters and the others buffers; the same call on all ranks. LD_EDTYPE: one that is not f32; LD_EMEM; what
 * ld_comm_start and a device's messages fail with. Starts the ranks' messages where need be. */
ld_exchange *ld_exchange_new(ld_tensor *const *item, int n, int n_params, ld_sum_how how);
void ld_exchange_drop(ld_exchange *e);
/* How gradients go, for people: "by NCCL 2.28.9, in a fixed order", "through the host (rank 0: ...)"; "" on the CPU. */
const char *ld_exchange_text(const ld_exchange *e);

/* A sum over `pieces` begins. LD_EMEM. */
int ld_exchange_begin(ld_exchange *e, int pieces);
/* While memory is planned: a sum over `pieces` would begin, and end; its memory on the device is there in between. LD_EMEM. */
int ld_exchange_plan(ld_exchange *e, int pieces);
void ld_exchange_planned(ld_exchange *e);
/* Item i of this rank's nodes, which are ld_sum_nodes of it; NULL for nothing. A bucket that is complete, and those before it, is
 * sent. Each item once; those that are not given are nothing. */
int ld_exchange_give(ld_exchange *e, int i, int nodes, ld_tensor *const *x);
/* The sums over all ranks' nodes to the items: parameters get it as their gradient, none where no rank has one, buffers as
 * their value. LD_EINTERRUPT, LD_EINTERNAL, LD_EMEM. */
int ld_exchange_finish(ld_exchange *e);
/* x becomes what it is on rank 0. */
int ld_exchange_first(ld_tensor *x);

/* The nodes that rank r of R is left with, in the pieces' order; at has room for LD_SUM_DEPTH * 2. Returns how many. */
int ld_sum_nodes(int pieces, int rank, int ranks, ld_sum_node *at);
/* The root over nodes in the pieces' order, of n numbers each, node after node: into the first. Changes at. */
void ld_sum_tree(float *x, int64_t n, int nodes, ld_sum_node *at);

#endif
