/* The tape: results remember what made them, backward walks it in reverse order of creation.
 *
 * A result owns its node; a node owns edges to the nodes of its inputs (or to leaf tensors) and the tensors its gradient
 * needs. Inputs themselves are not kept unless saved. Every op has one result. */
#ifndef LD_NODE_H
#define LD_NODE_H

#include "tensor/tensor.h"

typedef struct ld_node ld_node;

/* Called once per backward with the gradient of the result (borrowed; its shape and dtype, canonical layout not assured).
 * For each input i with ld_node_needs(n, i) it calls ld_node_give. Runs with recording off. Returns 0 or an error code. */
typedef int (*ld_backward_fn)(ld_node *n, ld_tensor *g);

/* Make y (owned, fresh) the recorded result of `op`: returns y. Does nothing but return y when recording is off or no input
 * requires a gradient. `in` and `save` may hold NULLs; save may hold y itself. `attr` is copied. On failure drops y, returns
 * NULL. `op` is a string literal, the name users write. */
ld_tensor *ld_record(ld_tensor *y, const char *op, ld_backward_fn fn, ld_tensor *const *in, int n_in,
                     ld_tensor *const *save, int n_save, const void *attr, size_t attr_bytes);

/* y, a recorded result, can be made again from what its node saved: fn returns a new tensor (owned by the caller, y's shape,
 * layout and bytes), or NULL after ld_fail. Nodes that save y then keep its node instead, and y is made for them while they run
 * backward: memory for a little time. Does nothing when y has no node. */
typedef ld_tensor *(*ld_again_fn)(ld_node *n);
void ld_record_again(ld_tensor *y, ld_again_fn fn);

/* true when ld_record would record for these inputs: ops use it to skip work only backward needs. */
bool ld_will_record(ld_tensor *const *in, int n_in);

bool ld_node_needs(const ld_node *n, int i);
/* Saved tensor i, borrowed; NULL (LD_ESTATE) when it was changed in place since. A NULL saved as NULL is returned without
 * an error: use ld_node_has_saved to tell. */
ld_tensor *ld_node_saved(ld_node *n, int i);
bool ld_node_has_saved(const ld_node *n, int i);
const void *ld_node_attr(const ld_node *n);
const char *ld_node_op(const ld_node *n);

/* Hand over the gradient of input i (dx owned by the node afterwards). dx NULL passes the error on. It is converted to the
 * input's dtype; but a leaf of f32 keeps a first gradient of 16 bits as it is, and sums them in f32. */
int ld_node_give(ld_node *n, int i, ld_tensor *dx);

/* Gradients of every leaf that `y` depends on are added into leaf->grad. g is the gradient of y (its shape), or NULL for
 * ones when y has one element. Nodes free what they saved as it goes, unless `retain`. LD_ESTATE: y has no history, it was
 * used up, or a saved tensor changed in place. */
int ld_backward(ld_tensor *y, ld_tensor *g, bool retain);

/* done(leaf, arg) is called in the next backward for every leaf that it reaches, as soon as its gradient is complete; an error
 * ends the backward. For that one only; NULL for none. */
void ld_backward_on_leaf(int (*done)(ld_tensor *leaf, void *arg), void *arg);

/* Recording is on by default; returns the previous state. */
bool ld_set_recording(bool on);
bool ld_recording(void);

/* In-place ops call this first: fails (LD_ESTATE) when recording is on and x or any of the n inputs requires a gradient. */
int ld_check_in_place(const char *op, ld_tensor *x, ld_tensor *const *in, int n);

#endif
