/* Separable linear maps of images: pooling by means, repetition, resizing, and the gradients of them all.
 *
 * An axis says how each of `out` positions is a weighted sum of `in` positions; an image is mapped by one axis for its rows
 * and one for its columns. The gradient of such a map is the map with both axes transposed. */
#ifndef LD_SEPARABLE_H
#define LD_SEPARABLE_H

#include "backend/view.h"

typedef struct ld_axis {
    int64_t out, in;
    int64_t *start; /* out + 1 of them: the taps of position i are start[i] .. start[i + 1] - 1 */
    int64_t *index; /* of each tap: the input position */
    double *weight; /* and what it is multiplied by */
    int64_t room;   /* taps there is memory for; -1 when memory ran out, which ld_separable reports */
} ld_axis;

/* An axis without taps; they are added for i = 0, 1, ... in turn, ld_axis_close ending each i. */
ld_axis ld_axis_new(int64_t out, int64_t in);
void ld_axis_add(ld_axis *a, int64_t i, int64_t index, double weight);
void ld_axis_close(ld_axis *a, int64_t i);

/* y (N,C,P,Q) = rows (P from H) and columns (Q from W) applied to x (N,C,H,W); NHWC, f32 or f64. transposed: rows and
 * columns describe the map from y to x. Frees both axes, whatever happens. LD_EMEM names `who`. */
int ld_separable(const char *who, const ld_view *y, const ld_view *x, ld_axis rows, ld_axis columns, bool transposed);

#endif
