/* Latent stores: mean, spread and range of every channel.
 *
 * One pass in f64, rows in order, of values shifted by the first valid row's mean, so that nothing cancels; four sums side
 * by side, so that the loop becomes vector code with the same result everywhere. */
#include "backend/half.h"
#include "base/error.h"
#include "data/latent_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 256, LANES = 4 };

static void widen(ld_dtype t, const void *from, int n, float *to) {
    const uint16_t *half = from;
    if (t == LD_F32)
        memcpy(to, from, (size_t)n * sizeof *to);
    else if (t == LD_F16)
        for (int i = 0; i < n; i++)
            to[i] = ld_widen_f16(half[i]);
    else
        for (int i = 0; i < n; i++)
            to[i] = ld_widen_bf16(half[i]);
}

void ld_latent_widen(const ld_latent_info *info, const void *row, float *out) {
    int n = info->height * info->width, channels = info->channels;
    const uint16_t *half = row;
    const float *full = row;
    for (int c = 0; c < channels; c++, half += n, full += n)
        if (info->dtype == LD_F16)
            for (int i = 0; i < n; i++)
                out[i * channels + c] = ld_widen_f16(half[i]);
        else if (info->dtype == LD_BF16)
            for (int i = 0; i < n; i++)
                out[i * channels + c] = ld_widen_bf16(half[i]);
        else
            for (int i = 0; i < n; i++)
                out[i * channels + c] = full[i];
}

typedef struct sums {
    bool started;
    double shift, sum, square, min, max;
} sums;

/* Adds one plane; false and nothing is added when a value is not finite. */
static bool add(sums *s, const float *x, int n) {
    double sum[LANES] = {0}, square[LANES] = {0}, shift = s->shift;
    float low = x[0], high = x[0];
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            double d = (double)x[i + k] - shift;
            sum[k] += d;
            square[k] += d * d;
        }
    for (; i < n; i++) {
        double d = (double)x[i] - shift;
        sum[0] += d;
        square[0] += d * d;
    }
    double q = (square[0] + square[1]) + (square[2] + square[3]);
    if (!isfinite(q))
        return false;
    for (i = 1; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    s->sum += (sum[0] + sum[1]) + (sum[2] + sum[3]);
    s->square += q;
    s->min = !s->started || low < s->min ? low : s->min;
    s->max = !s->started || high > s->max ? high : s->max;
    s->started = true;
    return true;
}

/* One row; false when it has a value that is not finite. */
static bool add_row(const ld_latent_info *info, const char *row, sums *s, float *plane) {
    int n = info->height * info->width;
    size_t bytes = (size_t)n * ld_dtype_size(info->dtype);
    for (int c = 0; c < info->channels; c++, row += bytes) {
        widen(info->dtype, row, n, plane);
        if (!s[c].started) {
            sums first = {0};
            s[c].shift = add(&first, plane, n) ? first.sum / n : 0;
        }
        if (!add(&s[c], plane, n))
            return false;
    }
    return true;
}

static void finish(const sums *s, int channels, double n, ld_latent_statistics *m) {
    for (int c = 0; c < channels; c++) {
        double mean = n > 0 ? s[c].sum / n : 0, variance = n > 0 ? s[c].square / n - mean * mean : 0;
        m->mean[c] = s[c].shift + mean;
        m->std[c] = sqrt(variance > 0 ? variance : 0);
        m->min[c] = s[c].min;
        m->max[c] = s[c].max;
    }
}

int latent_measure(const latent_files *f, const uint8_t *valid, ld_latent_statistics *m) {
    const ld_latent_info *info = &f->info;
    char *rows = malloc(BLOCK * info->row_bytes);
    float *plane = malloc((size_t)info->height * (size_t)info->width * sizeof *plane);
    sums s[64] = {0};
    *m = (ld_latent_statistics){.bad = -1};
    int bad = rows && plane ? 0 : ld_fail(LD_EMEM, "latents: out of host memory");
    for (int64_t first = 0; !bad && first < info->count; first += BLOCK) {
        int64_t n = info->count - first < BLOCK ? info->count - first : BLOCK;
        bad = latent_read_rows(f, LD_LATENT_MEAN, first, n, rows);
        if (!bad)
            bad = ld_interrupted();
        for (int64_t i = 0; !bad && i < n; i++) {
            if (valid && !valid[first + i])
                continue;
            if (add_row(info, rows + (size_t)i * info->row_bytes, s, plane))
                m->rows++;
            else if (m->bad < 0)
                m->bad = first + i;
        }
    }
    finish(s, info->channels, (double)m->rows * info->height * info->width, m);
    free(rows);
    free(plane);
    return bad;
}
