/* Antialiased resize with Pillow's arithmetic (src/libImaging/Resample.c there): for each output position a short list
 * of input positions and weights; rows first, into an 8-bit picture, then columns. Weights are normalised in double and
 * rounded to 22 bits after the point: 8 bits of pixel and 2 for overshoot fill the rest of an int32. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "io/image_codec.h"

#define PRECISION 22

/* A rectangle of an image, without its own memory. */
struct view {
    const uint8_t *data;
    size_t stride; /* bytes from row to row */
    int width, height, channels;
};

static struct view cut(const ld_image *im, int x, int y, int width, int height) {
    size_t stride = (size_t)im->width * (size_t)im->channels;
    return (struct view){im->data + (size_t)y * stride + (size_t)x * (size_t)im->channels, stride, width, height,
                         im->channels};
}

/* ---- kernels: weight at distance x, in units of the input (enlarging) or output (shrinking) pixel ---- */

static double box(double x) {
    return x > -0.5 && x <= 0.5 ? 1 : 0;
}

static double bilinear(double x) {
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* Keys 1981, "Cubic convolution interpolation for digital image processing", a = -0.5. */
static double bicubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static double sinc(double x) {
    if (x == 0)
        return 1;
    x *= M_PI;
    return sin(x) / x;
}

static double lanczos(double x) {
    return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

static const struct kernel {
    double (*weight)(double x);
    double support;
} kernels[] = {[LD_FILTER_BOX] = {box, 0.5},
               [LD_FILTER_BILINEAR] = {bilinear, 1},
               [LD_FILTER_BICUBIC] = {bicubic, 2},
               [LD_FILTER_LANCZOS] = {lanczos, 3}};

/* ---- one axis ---- */

/* Output i is the sum over j < count[i] of weight[i * room + j] * input[first[i] + j]. */
struct taps {
    int *first, *count;
    int32_t *weight;
    size_t room;
};

static void taps_free(struct taps *t) {
    free(t->first);
    free(t->count);
    free(t->weight);
}

static int32_t to_fixed(double w) {
    return (int32_t)(w * (1 << PRECISION) + (w < 0 ? -0.5 : 0.5));
}

/* Weights of output i, whose centre lies at `centre` of `in` input positions; `w` has room for them as doubles. */
static void taps_fill(struct taps *t, int i, int in, double centre, double widening, const struct kernel *k,
                      double *w) {
    double support = k->support * widening, inverse = 1 / widening, sum = 0;
    int from = (int)fmin(fmax(centre - support + 0.5, 0), in - 1);
    int n = (int)fmin(centre + support + 0.5, in) - from;
    if (n < 1)
        n = 1;
    for (int j = 0; j < n; j++) {
        w[j] = k->weight((j + from - centre + 0.5) * inverse);
        sum += w[j];
    }
    if (sum == 0) /* a box of no width on the last edge */
        w[0] = sum = 1;
    int skip = 0; /* zeros at both ends do nothing */
    while (skip < n - 1 && to_fixed(w[skip] / sum) == 0)
        skip++;
    while (n - 1 > skip && to_fixed(w[n - 1] / sum) == 0)
        n--;
    int32_t *weight = t->weight + (size_t)i * t->room;
    for (int j = skip; j < n; j++)
        weight[j - skip] = to_fixed(w[j] / sum);
    t->first[i] = from + skip;
    t->count[i] = n - skip;
}

/* A stretch of one axis: input positions from .. to (of 0 .. in) become `full` outputs, of which n from `start` on are
 * wanted. Pillow keeps the ends of the box in single precision. */
struct axis {
    int in;
    float from, to;
    int64_t full, start;
    int n;
};

static int taps_new(struct taps *t, const struct axis *a, ld_filter filter) {
    const struct kernel *k = &kernels[filter];
    double step = (double)(a->to - a->from) / (double)a->full;
    double widening = step < 1 ? 1 : step;
    t->room = (size_t)fmin(ceil(k->support * widening) * 2 + 1, a->in);
    t->first = malloc((size_t)a->n * sizeof *t->first);
    t->count = malloc((size_t)a->n * sizeof *t->count);
    t->weight = malloc((size_t)a->n * t->room * sizeof *t->weight);
    double *w = malloc(t->room * sizeof *w);
    if (!t->first || !t->count || !t->weight || !w) {
        free(w);
        return ld_fail(LD_EMEM, "resize: no memory for %d x %zu weights", a->n, t->room);
    }
    for (int i = 0; i < a->n; i++)
        taps_fill(t, i, a->in, a->from + ((double)(i + a->start) + 0.5) * step, widening, k, w);
    free(w);
    return LD_OK;
}

/* ---- the two passes ---- */

static uint8_t to_byte(int32_t sum) {
    sum >>= PRECISION;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static const int32_t half = 1 << (PRECISION - 1);

static void row_gray(uint8_t *out, const uint8_t *in, const struct taps *t, int n) {
    for (int i = 0; i < n; i++) {
        const int32_t *weight = t->weight + (size_t)i * t->room;
        const uint8_t *p = in + t->first[i];
        int32_t sum = half;
        for (int j = 0; j < t->count[i]; j++)
            sum += weight[j] * p[j];
        out[i] = to_byte(sum);
    }
}

static void row_rgb(uint8_t *out, const uint8_t *in, const struct taps *t, int n) {
    for (int i = 0; i < n; i++, out += 3) {
        const int32_t *weight = t->weight + (size_t)i * t->room;
        const uint8_t *p = in + 3 * (size_t)t->first[i];
        int32_t r = half, g = half, b = half;
        for (int j = 0; j < t->count[i]; j++, p += 3) {
            r += weight[j] * p[0];
            g += weight[j] * p[1];
            b += weight[j] * p[2];
        }
        out[0] = to_byte(r);
        out[1] = to_byte(g);
        out[2] = to_byte(b);
    }
}

enum { STRIP = 64 }; /* bytes of a row summed at a time, a fixed number so that the compiler makes vectors of it */

/* One output row: the weighted sum of `count` rows of `bytes` bytes. */
static void column(uint8_t *out, const uint8_t *in, size_t bytes, const int32_t *weight, int count) {
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

static int both_passes(ld_image *out, const struct view *in, const struct taps *across, const struct taps *down,
                       int width, int height) {
    int top = in->height, bottom = 0; /* the input rows that count */
    for (int y = 0; y < height; y++) {
        top = down->first[y] < top ? down->first[y] : top;
        bottom = down->first[y] + down->count[y] > bottom ? down->first[y] + down->count[y] : bottom;
    }
    size_t bytes = (size_t)width * (size_t)in->channels;
    uint8_t *rows = malloc(bytes * (size_t)(bottom - top));
    if (!rows)
        return ld_fail(LD_EMEM, "resize: no memory for %d rows of %zu bytes", bottom - top, bytes);
    int code = ld_image_new(out, width, height, in->channels);
    for (int y = top; !code && y < bottom; y++) {
        uint8_t *to = rows + (size_t)(y - top) * bytes;
        const uint8_t *from = in->data + (size_t)y * in->stride;
        if (in->channels == 1)
            row_gray(to, from, across, width);
        else
            row_rgb(to, from, across, width);
    }
    for (int y = 0; !code && y < height; y++)
        column(out->data + (size_t)y * bytes, rows + (size_t)(down->first[y] - top) * bytes, bytes,
               down->weight + (size_t)y * down->room, down->count[y]);
    free(rows);
    return code;
}

static int resize(ld_image *out, const struct view *in, const struct axis *x, const struct axis *y, ld_filter filter) {
    struct taps across = {0}, down = {0};
    int code = taps_new(&across, x, filter);
    if (!code)
        code = taps_new(&down, y, filter);
    if (!code)
        code = both_passes(out, in, &across, &down, x->n, y->n);
    taps_free(&across);
    taps_free(&down);
    return code;
}

int ld_image_resize(ld_image *out, const ld_image *in, double x, double y, double w, double h, int width, int height,
                    ld_filter filter) {
    *out = (ld_image){0};
    int code = ld_image_check(in, "resize");
    if (code)
        return code;
    if (width < 1 || height < 1)
        return ld_fail(LD_EVALUE, "resize: to %d x %d pixels; both sides need at least 1", width, height);
    if ((unsigned)filter > LD_FILTER_LANCZOS)
        return ld_fail(LD_EVALUE, "resize: filter %d; needs 0 to %d", (int)filter, LD_FILTER_LANCZOS);
    if (!(x >= 0 && y >= 0 && w > 0 && h > 0 && x + w <= in->width && y + h <= in->height))
        return ld_fail(LD_EVALUE, "resize: rectangle of %g x %g pixels at (%g, %g) is not inside %d x %d", w, h, x, y,
                       in->width, in->height);
    struct view all = cut(in, 0, 0, in->width, in->height);
    struct axis across = {in->width, (float)x, (float)(x + w), width, 0, width};
    struct axis down = {in->height, (float)y, (float)(y + h), height, 0, height};
    return resize(out, &all, &across, &down, filter);
}

/* ---- named ways to a square ---- */

const char *const ld_fit_names[LD_FIT_COUNT] = {"center", "short-center", "topleft", "stretch"};

/* Half of what is left over, halves to the even number: where torchvision's CenterCrop starts. */
static int64_t middle(int64_t spare) {
    int64_t floor = spare / 2;
    return (spare + (floor & 1)) / 2;
}

/* The part of size x size at the middle or the top left of `in` resized to a short side of `size` (bicubic); the long
 * side's fraction is dropped. Only that part is computed. */
static int fit_short(ld_image *out, const struct view *in, int size, int centred) {
    int shorter = in->width < in->height ? in->width : in->height;
    int64_t width = (int64_t)size * in->width / shorter, height = (int64_t)size * in->height / shorter;
    struct axis across = {in->width, 0, (float)in->width, width, centred ? middle(width - size) : 0, size};
    struct axis down = {in->height, 0, (float)in->height, height, centred ? middle(height - size) : 0, size};
    return resize(out, in, &across, &down, LD_FILTER_BICUBIC);
}

static int fit_whole(ld_image *out, const struct view *in, int size) {
    struct axis across = {in->width, 0, (float)in->width, size, 0, size};
    struct axis down = {in->height, 0, (float)in->height, size, 0, size};
    return resize(out, in, &across, &down, LD_FILTER_BILINEAR);
}

static int copy(ld_image *out, const struct view *in) {
    int code = ld_image_new(out, in->width, in->height, in->channels);
    size_t bytes = (size_t)in->width * (size_t)in->channels;
    for (int y = 0; !code && y < in->height; y++)
        memcpy(out->data + (size_t)y * bytes, in->data + (size_t)y * in->stride, bytes);
    return code;
}

int ld_image_fit(ld_image *out, const ld_image *in, int size, ld_fit fit) {
    *out = (ld_image){0};
    int code = ld_image_check(in, "fit");
    if (code)
        return code;
    if (size < 1)
        return ld_fail(LD_EVALUE, "fit: size %d; needs at least 1", size);
    int shorter = in->width < in->height ? in->width : in->height;
    struct view view = cut(in, 0, 0, in->width, in->height);
    switch (fit) {
    case LD_FIT_CENTER:
        return fit_short(out, &view, size, 1);
    case LD_FIT_SHORT_CENTER:
        view = cut(in, (int)middle(in->width - shorter), (int)middle(in->height - shorter), shorter, shorter);
        return fit_whole(out, &view, size);
    case LD_FIT_TOPLEFT:
        if (shorter < size)
            return fit_short(out, &view, size, 0);
        view = cut(in, 0, 0, size, size);
        return copy(out, &view);
    case LD_FIT_STRETCH:
        return fit_whole(out, &view, size);
    default:
        return ld_fail(LD_EVALUE, "fit: way %d; needs 0 to %d", (int)fit, LD_FIT_COUNT - 1);
    }
}
