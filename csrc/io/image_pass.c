/* The two passes of a resize: sums of 8-bit values by 22-bit weights in int32, exact in any order.
 *
 * Rows are taken LANES / 4 at a time (gray: LANES) and laid side by side, position by position. One output position of
 * all of them is then a sum of LANES-wide vectors by scalars, as in the pass over columns: for each tap a load that widens,
 * a multiplication and an addition, beside one copy of the input on the way in and of the result on the way out. With
 * fewer lanes the sums, which the compiler keeps in memory, would wait for one another. */
#include <stdlib.h>
#include <string.h>

#include "base/clones.h"
#include "base/error.h"
#include "io/image_resize.h"

enum { LANES = 64, STRIP = 64 };

static const int32_t half = 1 << (LD_TAP_BITS - 1);

static inline uint8_t to_byte(int32_t sum) {
    sum >>= LD_TAP_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* in: LANES bytes a column, of which number 0 is input position `first`. out: LANES bytes for each of n outputs. */
LD_CLONES static void sum_lanes(uint8_t *restrict out, const uint8_t *restrict in, const ld_taps *t, int first, int n) {
    for (int i = 0; i < n; i++) {
        const int32_t *weight = t->weight + (size_t)i * t->room;
        const uint8_t *p = in + (size_t)(t->first[i] - first) * LANES;
        int count = t->count[i];
        int32_t sum[LANES];
        for (int k = 0; k < LANES; k++)
            sum[k] = half;
        for (int j = 0; j < count; j++, p += LANES)
            for (int k = 0; k < LANES; k++)
                sum[k] += weight[j] * p[k];
        for (int k = 0; k < LANES; k++)
            out[(size_t)i * LANES + (size_t)k] = to_byte(sum[k]);
    }
}

/* One output row: the weighted sum of `count` rows of `bytes` bytes. */
LD_CLONES static void column(uint8_t *restrict out, const uint8_t *restrict in, size_t bytes, const int32_t *weight,
                             int count) {
    int32_t sum[STRIP];
    size_t at = 0;
    for (; at + STRIP <= bytes; at += STRIP) {
        for (int i = 0; i < STRIP; i++)
            sum[i] = half;
        for (int j = 0; j < count; j++) {
            const uint8_t *p = in + (size_t)j * bytes + at;
            for (int i = 0; i < STRIP; i++)
                sum[i] += weight[j] * p[i];
        }
        for (int i = 0; i < STRIP; i++)
            out[at + (size_t)i] = to_byte(sum[i]);
    }
    for (; at < bytes; at++) {
        int32_t last = half;
        for (int j = 0; j < count; j++)
            last += weight[j] * in[(size_t)j * bytes + at];
        out[at] = to_byte(last);
    }
}

/* `rows` rows of n RGB pixels, at most LANES / 4, side by side, four bytes a pixel; what the fourth is does not matter. */
static void lay_rgb(uint8_t *to, const uint8_t *from, size_t stride, int n, int rows) {
    for (int r = 0; r < rows; r++, from += stride) {
        uint8_t *q = to + 4 * r;
        for (int i = 0; i < n - 1; i++)
            memcpy(q + (size_t)i * LANES, from + 3 * (size_t)i, 4);
        memcpy(q + (size_t)(n - 1) * LANES, from + 3 * (size_t)(n - 1), 3);
    }
}

static void take_rgb(uint8_t *to, const uint8_t *from, int n, int rows) {
    for (int r = 0; r < rows; r++, to += 3 * (size_t)n) {
        const uint8_t *p = from + 4 * r;
        for (int i = 0; i < n - 1; i++) /* the fourth byte is overwritten by the next */
            memcpy(to + 3 * (size_t)i, p + (size_t)i * LANES, 4);
        memcpy(to + 3 * (size_t)(n - 1), p + (size_t)(n - 1) * LANES, 3);
    }
}

static void lay_gray(uint8_t *to, const uint8_t *from, size_t stride, int n, int rows) {
    for (int r = 0; r < rows; r++, from += stride)
        for (int i = 0; i < n; i++)
            to[(size_t)i * LANES + (size_t)r] = from[i];
}

static void take_gray(uint8_t *to, const uint8_t *from, int n, int rows) {
    for (int r = 0; r < rows; r++, to += n)
        for (int i = 0; i < n; i++)
            to[i] = from[(size_t)i * LANES + (size_t)r];
}

/* Rows top .. bottom - 1 of `in`, resized to n outputs each, to `to`. */
static int pass_rows(uint8_t *to, const ld_part *in, const ld_taps *t, int n, int top, int bottom) {
    int first, end;
    ld_taps_range(t, n, &first, &end);
    size_t channels = (size_t)in->channels, bytes = (size_t)n * channels;
    uint8_t *laid = calloc((size_t)(end - first) + (size_t)n, LANES);
    if (!laid)
        return ld_fail(LD_EMEM, "resize: no memory for %d columns", end - first + n);
    uint8_t *made = laid + (size_t)(end - first) * LANES;
    int step = channels == 1 ? LANES : LANES / 4;
    for (int y = top; y < bottom; y += step, to += (size_t)step * bytes) {
        int rows = bottom - y < step ? bottom - y : step;
        const uint8_t *from = in->data + (size_t)y * in->stride + (size_t)first * channels;
        (channels == 1 ? lay_gray : lay_rgb)(laid, from, in->stride, end - first, rows);
        sum_lanes(made, laid, t, first, n);
        (channels == 1 ? take_gray : take_rgb)(to, made, n, rows);
    }
    free(laid);
    return LD_OK;
}

int ld_image_passes(ld_image *out, const ld_part *in, const ld_taps *across, const ld_taps *down, int width,
                    int height) {
    int top, bottom;
    ld_taps_range(down, height, &top, &bottom);
    size_t bytes = (size_t)width * (size_t)in->channels;
    uint8_t *rows = malloc(bytes * (size_t)(bottom - top));
    if (!rows)
        return ld_fail(LD_EMEM, "resize: no memory for %d rows of %zu bytes", bottom - top, bytes);
    int code = pass_rows(rows, in, across, width, top, bottom);
    if (!code)
        code = ld_image_new(out, width, height, in->channels);
    for (int y = 0; !code && y < height; y++)
        column(out->data + (size_t)y * bytes, rows + (size_t)(down->first[y] - top) * bytes, bytes,
               down->weight + (size_t)y * down->room, down->count[y]);
    free(rows);
    return code;
}
