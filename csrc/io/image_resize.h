/* Between image_pass.c, image_resize.c and image_transform.c: resizing in stages, of which only what the last one needs is
 * computed. Nobody else includes this. */
#ifndef LD_IMAGE_RESIZE_H
#define LD_IMAGE_RESIZE_H

#include "io/image.h"

typedef enum ld_filter { LD_FILTER_BOX, LD_FILTER_BILINEAR, LD_FILTER_BICUBIC, LD_FILTER_LANCZOS } ld_filter;

/* A rectangle of a picture, without its own memory. */
typedef struct ld_part {
    const uint8_t *data;
    size_t stride; /* bytes from row to row */
    int width, height, channels;
} ld_part;
ld_part ld_image_part(const ld_image *im, int x, int y, int width, int height);
int ld_image_copy(ld_image *out, const ld_part *in);

/* One axis of one stage: the stretch from .. to of `in` input positions becomes `full` outputs, of which n from `start` on
 * are wanted. Pillow keeps the ends of the stretch in single precision. */
typedef struct ld_axis {
    int64_t in;
    float from, to;
    int64_t full, start;
    int n;
} ld_axis;

/* Bits of a weight after the point: 8 of a pixel and 2 for overshoot fill the rest of an int32. */
enum { LD_TAP_BITS = 22 };

/* Output i is the sum over j < count[i] of weight[i * room + j] * input[first[i] + j]. */
typedef struct ld_taps {
    int *first, *count;
    int32_t *weight;
    size_t room;
} ld_taps;
/* The input positions that count: *first .. *end - 1. */
void ld_taps_range(const ld_taps *t, int n, int *first, int *end);

/* Rows first, then columns, with 8 bits between: in to width x height. `out` is not freed on failure. */
int ld_image_passes(ld_image *out, const ld_part *in, const ld_taps *across, const ld_taps *down, int width,
                    int height);

typedef struct ld_stage {
    ld_axis x, y;
    ld_filter filter;
} ld_stage;

enum { LD_STAGES = 32 };

/* Resize `in` by stages[0], its result by stages[1], and so on to stages[count - 1]; 1 <= count <= LD_STAGES. Of all but
 * the last, start and n are set here, to what the next stage needs. LD_EMEM.
 *
 * Separable and antialiased, with the arithmetic of Pillow's `Image.resize(box=...)`: support scaled when shrinking,
 * bicubic with a = -0.5, weights fixed to 22 bits, rows first and then columns with 8 bits between. Equal to Pillow up to
 * 12 byte for byte; Pillow 13 takes the columns first where the height shrinks more than the width, and then rounds
 * differently. */
int ld_image_stages(ld_image *out, const ld_part *in, ld_stage *stages, int count);

#endif
