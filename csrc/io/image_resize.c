/* Antialiased resize with Pillow's arithmetic (src/libImaging/Resample.c there): for each output position a short list
 * of input positions and weights; rows first, into an 8-bit picture, then columns (image_pass.c). Weights are normalised
 * in double and rounded to LD_TAP_BITS after the point. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "io/image_resize.h"

ld_part ld_image_part(const ld_image *im, int x, int y, int width, int height) {
    size_t stride = (size_t)im->width * (size_t)im->channels;
    return (ld_part){im->data + (size_t)y * stride + (size_t)x * (size_t)im->channels, stride, width, height,
                     im->channels};
}

int ld_image_copy(ld_image *out, const ld_part *in) {
    int code = ld_image_new(out, in->width, in->height, in->channels);
    size_t bytes = (size_t)in->width * (size_t)in->channels;
    for (int y = 0; !code && y < in->height; y++)
        memcpy(out->data + (size_t)y * bytes, in->data + (size_t)y * in->stride, bytes);
    return code;
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

static void taps_free(ld_taps *t) {
    free(t->first);
    free(t->count);
    free(t->weight);
}

static int32_t to_fixed(double w) {
    return (int32_t)(w * (1 << LD_TAP_BITS) + (w < 0 ? -0.5 : 0.5));
}

/* Weights of output i, whose centre lies at `centre` of `in` input positions; `w` has room for them as doubles. */
static void taps_fill(ld_taps *t, int i, int in, double centre, double widening, const struct kernel *k, double *w) {
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

static int taps_new(ld_taps *t, const ld_axis *a, ld_filter filter) {
    const struct kernel *k = &kernels[filter];
    double step = (double)(a->to - a->from) / (double)a->full;
    double widening = step < 1 ? 1 : step;
    t->room = (size_t)fmin(ceil(k->support * widening) * 2 + 1, (double)a->in);
    t->first = malloc((size_t)a->n * sizeof *t->first);
    t->count = malloc((size_t)a->n * sizeof *t->count);
    t->weight = malloc((size_t)a->n * t->room * sizeof *t->weight);
    double *w = malloc(t->room * sizeof *w);
    if (!t->first || !t->count || !t->weight || !w) {
        free(w);
        return ld_fail(LD_EMEM, "resize: no memory for %d x %zu weights", a->n, t->room);
    }
    for (int i = 0; i < a->n; i++)
        taps_fill(t, i, (int)a->in, a->from + ((double)(i + a->start) + 0.5) * step, widening, k, w);
    free(w);
    return LD_OK;
}

void ld_taps_range(const ld_taps *t, int n, int *first, int *end) {
    *first = t->first[0];
    *end = 0;
    for (int i = 0; i < n; i++) {
        *first = t->first[i] < *first ? t->first[i] : *first;
        *end = t->first[i] + t->count[i] > *end ? t->first[i] + t->count[i] : *end;
    }
}

/* ---- stages ---- */

/* Taps of one axis, shifted so that position 0 is the first that counts; the stage before makes just those. */
static int plan_axis(ld_taps *t, const ld_axis *a, ld_filter filter, ld_axis *before) {
    int code = taps_new(t, a, filter);
    if (code || !before)
        return code;
    int first, end;
    ld_taps_range(t, a->n, &first, &end);
    for (int i = 0; i < a->n; i++)
        t->first[i] -= first;
    before->start = first;
    before->n = end - first;
    return LD_OK;
}

int ld_image_stages(ld_image *out, const ld_part *in, ld_stage *stages, int count) {
    ld_taps across[LD_STAGES] = {0}, down[LD_STAGES] = {0};
    ld_image made = {0};
    ld_part part = *in;
    int code = LD_OK;
    *out = (ld_image){0};
    for (int i = count - 1; !code && i >= 0; i--) {
        code = plan_axis(&across[i], &stages[i].x, stages[i].filter, i ? &stages[i - 1].x : NULL);
        if (!code)
            code = plan_axis(&down[i], &stages[i].y, stages[i].filter, i ? &stages[i - 1].y : NULL);
    }
    for (int i = 0; !code && i < count; i++) {
        code = ld_image_passes(out, &part, &across[i], &down[i], stages[i].x.n, stages[i].y.n);
        ld_image_free(&made);
        if (!code && i + 1 < count) {
            made = *out;
            *out = (ld_image){0};
            part = ld_image_part(&made, 0, 0, made.width, made.height);
        }
    }
    for (int i = 0; i < count; i++) {
        taps_free(&across[i]);
        taps_free(&down[i]);
    }
    if (code)
        ld_image_free(out);
    return code;
}
