/* What operations share: checks, broadcasting, views of memory.
 *
 * A check returns 0, or an error code after ld_fail with the operation's name in front. Messages count dimensions and
 * positions from 1, as users do. */
#ifndef LD_CHECK_H
#define LD_CHECK_H

#include "op/op.h"

#define LD_BACKEND(x) ((x)->storage->device->backend)

/* Not interrupted; every tensor of the list (NULLs skipped) on the first one's device. */
int ld_check_devices(const char *op, ld_tensor *const *xs, int n);
/* As above, and all of one dtype: f32, f64, or bf16 or f16 where the device computes in them. */
int ld_check_compute(const char *op, ld_tensor *const *xs, int n);
/* The same for xs[0] and its weights, which may be f32 where xs[0] has 16 bits. */
int ld_check_weights(const char *op, ld_tensor *const *xs, int n);
/* x may be changed in place: ld_check_in_place, and no two of its elements share memory, as those of an expanded one do. */
int ld_check_change(const char *op, ld_tensor *x, ld_tensor *const *in, int n);
/* Rank of x. */
int ld_check_rank(const char *op, const char *what, const ld_tensor *x, int ndim);
/* x is a vector of n elements, or NULL. */
int ld_check_vector(const char *op, const char *what, const ld_tensor *x, int64_t n);
/* What x is to become has a shape that a tensor can have: at most LD_MAX_DIMS sizes, none negative, at most 2^48
 * elements. */
int ld_check_shape(const char *op, const ld_tensor *x, int ndim, const int64_t *shape);
/* A dimension of x (negative from the end) as 0 .. x->ndim - 1, or -1 after ld_fail. */
int ld_check_dim(const char *op, int dim, const ld_tensor *x);
/* idx is i64 and every entry lies in 0 .. limit - 1; `what` names them ("classes"). */
int ld_check_positions(const char *op, const char *what, ld_tensor *idx, int64_t limit);

/* The shape a and b broadcast to (numpy's rule), leaving out the last `skip` dimensions of both; returns the rank, or -1
 * after ld_fail. */
int ld_broadcast(const char *op, const ld_tensor *a, const ld_tensor *b, int skip, int64_t shape[LD_MAX_DIMS]);
/* x's view stretched to a shape it broadcasts to (strides of 0 where repeated). */
ld_view ld_stretched(const ld_tensor *x, int ndim, const int64_t *shape);
/* A dense row-major view of x's memory with another shape: x must be dense with its elements in that order. */
ld_view ld_dense(const ld_tensor *x, int ndim, const int64_t *shape);

/* x, or NULL and x dropped when bad: the usual end of an operation. x may be NULL. */
ld_tensor *ld_result(ld_tensor *x, int bad);
/* 0, 1, ... n - 1 as i64 (n) on device d. */
ld_tensor *ld_iota(ld_device *d, int64_t n, const char *op);

#endif
