/* The gradient of a batch that is computed in pieces (micro-batches), by one process or by several ranks.
 *
 * The pieces are the leaves of a binary tree: piece 2i and 2i + 1 have a common parent, and so on up; a node without a right
 * neighbour is its left one. Sums follow the tree, so they are the same to the byte however the pieces are spread over
 * ranks (ld_sum_own says how). Running statistics are summed with the gradients: each piece
 * begins with those from before the batch, and their weighted mean remains. Whole numbers (batches counted) remain as the
 * first piece leaves them.
 *
 *   ld_grad_sum_begin(s, n); for each own piece: { loss times weight; ld_grad_sum_watch(s); backward;
 *   ld_grad_sum_add(s, weight); } ld_grad_sum_finish(s)
 *
 * Partial sums are 1 + log2(own pieces) gradients at most. Between ranks every node's numbers go to the rank that owns their
 * part of the flat list, which adds them up in the tree's order, and come back from there: as many bytes as a ring needs when
 * the ranks are a power of two. Parameters are cut into buckets, last ones first; with several ranks a bucket is on its
 * way as soon as backward is through with it. Gradients on a device go from card to card where they can; unless the order is to
 * be the tree's, the cards' library adds them up. Gradients of 16 bits are summed in f32. */
#ifndef LD_GRAD_SUM_H
#define LD_GRAD_SUM_H

#include "grad/node.h"
#include "optim/grad_exchange.h"

typedef struct ld_grad_sum ld_grad_sum;

/* Holds references to parameters and buffers; `how` is for several ranks. LD_EDTYPE: several ranks, and one that is not
 * f32. LD_EMEM. What ld_exchange_new fails with. */
ld_grad_sum *ld_grad_sum_new(ld_tensor *const *params, int n, ld_tensor *const *buffers, int n_buffers, ld_sum_how how);
void ld_grad_sum_drop(ld_grad_sum *s);
/* How gradients go between ranks, for people: ld_exchange_text; "" for a single rank. */
const char *ld_grad_sum_text(const ld_grad_sum *s);

/* A batch of `pieces` begins; gradients that are there are let go. LD_EVALUE. */
int ld_grad_sum_begin(ld_grad_sum *s, int pieces);
/* The next backward is that of the next own piece: where it is the last one, gradients are on their way to the other ranks
 * as soon as they are complete. */
void ld_grad_sum_watch(ld_grad_sum *s);
/* The gradients of the next own piece, which are taken from the parameters, and its buffers, times weight. LD_ESTATE, LD_EMEM. */
int ld_grad_sum_add(ld_grad_sum *s, double weight);
/* Sums over all pieces into the parameters' gradients and the buffers. A parameter that no piece gave a gradient has none.
 * LD_EINTERRUPT, LD_EINTERNAL (ranks), LD_EMEM. */
int ld_grad_sum_finish(ld_grad_sum *s);

#endif
