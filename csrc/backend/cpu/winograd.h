/* Convolution 3x3 of stride 1 by Winograd's F(4x4,3x3), f32, on channels-last images as they lie.
 *
 * 36 multiplications make 16 results where the direct sum takes 144. Widths must divide by 16 on both sides (`fits`).
 * Sums run in an order that depends on shapes alone: the same numbers for any number of threads. */
#ifndef LD_CPU_WINOGRAD_H
#define LD_CPU_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ld_winograd {
    int64_t n, c, h, w; /* x: images, channels, rows, columns */
    int64_t o, p, q;    /* y: channels, rows, columns, counted before `down` */
    int64_t top, left;  /* zeros before x */
    int64_t up;         /* 2: every pixel of x stands for 2x2 (nearest upsampling), p = 2h + padding - 2; else 1 */
    int64_t down;       /* 2: y is written as sums of its 2x2 blocks, without bias; p and q are even; else 1 */
} ld_winograd;

/* Weights by element strides: output o, input c, row r, column s. A rotated kernel has negative r and s. */
typedef struct ld_winograd_weights {
    float *data;
    int64_t o, c, r, s;
} ld_winograd_weights;

/* Widths are multiples of 16, and nothing is empty. */
bool ld_winograd_fits(const ld_winograd *z);

/* The transformed weights: their size in floats, and themselves. */
size_t ld_winograd_packed_floats(const ld_winograd *z);
void ld_winograd_pack(const ld_winograd *z, const ld_winograd_weights *w, float *packed);

/* y = x * w + bias (NULL: none), and the gradient of w from g of y's shape (down 1), in workspace of ..._workspace bytes,
 * aligned to 64. */
size_t ld_winograd_workspace(const ld_winograd *z);
size_t ld_winograd_dw_workspace(const ld_winograd *z);
void ld_winograd_forward(const ld_winograd *z, float *y, const float *x, const float *packed, const float *bias,
                         float *workspace);
void ld_winograd_dw(const ld_winograd *z, const ld_winograd_weights *dw, const float *x, const float *g,
                    float *workspace);

#endif
