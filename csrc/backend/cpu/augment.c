/* gather_augment: training pictures out of a data set. A sample is widened and moved while it goes into its place, measured
 * and erased there, and mirrored in the end; samples are shared out to threads. Sums are in f64 in one order (channel, row,
 * column), and this file is compiled without contraction of products and sums (Makefile), so that the same draws give the
 * same bytes on any processor. */
#include "backend/augment_draws.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/iterate.h"
#include "base/error.h"

#include <math.h>

enum { RUN = 512, NOISE = 256 }; /* elements at a time */

typedef struct job {
    const ld_view *y, *x;
    const int64_t *at, *sample;
    const float *shift, *scale;
    const ld_augment *a;
    int64_t c, h, w;
} job;

/* n elements from one channel and row of x to the places of a channel in y. */
static void put_run(const job *j, float *to, const char *from, int64_t channel, int64_t n) {
    float shift = j->shift ? j->shift[channel] : 0, scale = j->scale ? j->scale[channel] : 1;
    int64_t step = j->x->stride[3], size = (int64_t)ld_dtype_size(j->x->dtype);
    for (int64_t first = 0; first < n; first += RUN) {
        float v[RUN];
        int64_t m = n - first < RUN ? n - first : RUN;
        if (j->x->dtype == LD_U8)
            for (int64_t i = 0; i < m; i++)
                v[i] = (float)((const uint8_t *)from)[(first + i) * step];
        else if (j->x->dtype == LD_F64)
            for (int64_t i = 0; i < m; i++)
                v[i] = (float)((const double *)from)[(first + i) * step];
        else
            ld_load_run(v, from + first * step * size, j->x->dtype, step, m, false);
        if (j->scale)
            for (int64_t i = 0; i < m; i++)
                v[i] = (v[i] - shift) * scale;
        for (int64_t i = 0; i < m; i++)
            to[(first + i) * j->c] = v[i];
    }
}

/* Row `row` of x, moved by (dy, dx), zeros behind it, into sample i of y. */
static void fetch(const job *j, float *y, int64_t row, int64_t dy, int64_t dx) {
    const ld_view *x = j->x;
    int64_t size = (int64_t)ld_dtype_size(x->dtype);
    int64_t left = dx < 0 ? -dx : 0, right = dx > 0 ? j->w - dx : j->w; /* columns that are not zeros */
    bool all_zero = left >= right;
    for (int64_t h = 0; h < j->h; h++) {
        int64_t from = h + dy;
        bool zero = all_zero || from < 0 || from >= j->h;
        float *line = y + h * j->w * j->c;
        for (int64_t k = 0; (zero || dx) && k < j->w * j->c; k++)
            line[k] = 0;
        for (int64_t c = 0; c < j->c && !zero; c++)
            put_run(j, line + left * j->c + c,
                    (const char *)x->data +
                        (row * x->stride[0] + c * x->stride[1] + from * x->stride[2] + (left + dx) * x->stride[3]) *
                            size,
                    c, right - left);
    }
}

typedef struct figures {
    double mean, std; /* unbiased */
    float lo, hi;
} figures;

static figures measure(const job *j, const float *y) {
    int64_t places = j->h * j->w;
    double n = (double)(j->c * places), sum = 0, squares = 0;
    figures f = {.lo = INFINITY, .hi = -INFINITY};
    for (int64_t c = 0; c < j->c; c++)
        for (int64_t p = 0; p < places; p++) {
            float v = y[p * j->c + c];
            sum += v;
            f.lo = v < f.lo ? v : f.lo;
            f.hi = v > f.hi ? v : f.hi;
        }
    f.mean = sum / n;
    for (int64_t c = 0; c < j->c; c++)
        for (int64_t p = 0; p < places; p++) {
            float v = y[p * j->c + c];
            squares += (v - f.mean) * (v - f.mean);
        }
    f.std = n > 1 ? sqrt(squares / (n - 1)) : 0;
    return f;
}

/* Only the new values can lie outside lo .. hi, so clamping them clamps the sample. */
static void erase(const job *j, float *y, uint64_t sample, int k, const figures *f) {
    int eh = ld_augment_side(j->a, j->h), ew = ld_augment_side(j->a, j->w), top, left;
    ld_augment_place(j->a, sample, k, (int)j->h, (int)j->w, &top, &left);
    int64_t cells = j->c * eh * ew;
    for (int64_t first = 0; first < cells; first += NOISE) {
        float noise[NOISE];
        int64_t m = cells - first < NOISE ? cells - first : NOISE;
        ld_rng_normal(noise, m, j->a->seed, LD_AUGMENT_ERASE_NOISE, sample, k * cells + first);
        for (int64_t i = 0; i < m; i++) {
            int64_t e = first + i, c = e / (eh * ew), h = top + e / ew % eh, w = left + e % ew;
            float v = (float)(f->mean + f->std * noise[i]);
            y[(h * j->w + w) * j->c + c] = v < f->lo ? f->lo : v > f->hi ? f->hi : v;
        }
    }
}

static void mirror(const job *j, float *y) {
    for (int64_t h = 0; h < j->h; h++)
        for (int64_t w = 0; w < j->w / 2; w++) {
            float *a = y + (h * j->w + w) * j->c, *b = y + (h * j->w + j->w - 1 - w) * j->c;
            for (int64_t c = 0; c < j->c; c++) {
                float was = a[c];
                a[c] = b[c];
                b[c] = was;
            }
        }
}

static void one(const job *j, int64_t i) {
    uint64_t sample = j->sample ? (uint64_t)j->sample[i] : j->a->first + (uint64_t)i;
    float *y = (float *)j->y->data + i * j->c * j->h * j->w;
    ld_augment_draws d = ld_augment_draw(j->a, sample);
    fetch(j, y, j->at ? j->at[i] : i, d.dy, d.dx);
    if (d.erases && ld_augment_side(j->a, j->h) && ld_augment_side(j->a, j->w)) {
        figures f = measure(j, y);
        for (int k = 0; k < d.erases; k++)
            erase(j, y, sample, k, &f);
    }
    if (d.flip)
        mirror(j, y);
}

int ld_cpu_gather_augment(const ld_view *y, const ld_view *x, const ld_view *at, const ld_view *sample,
                          const ld_view *shift, const ld_view *scale, const ld_augment *a) {
    int64_t n = y->shape[0], c = y->shape[1], h = y->shape[2], w = y->shape[3];
    job j = {y,
             x,
             at ? at->data : NULL,
             sample ? sample->data : NULL,
             shift ? shift->data : NULL,
             scale ? scale->data : NULL,
             a,
             c,
             h,
             w};
    for (int64_t i = 0; i < n; i++) {
        int64_t row = j.at ? j.at[i] : i;
        if (row < 0 || row >= x->shape[0])
            return ld_fail(LD_EINDEX,
                           "gather_augment: index %lld at position %lld; there are %lld rows, counted from 0",
                           (long long)row, (long long)i, (long long)x->shape[0]);
    }
    if (c * h * w == 0)
        return 0;
    int team = ld_team(n * c * h * w);
#pragma omp parallel for num_threads(team) if (team > 1)
    for (int64_t i = 0; i < n; i++)
        one(&j, i);
    return 0;
}
