#include "data/augment.h"

#include "base/error.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>

/* Each kind of draw has its own purpose, so that no two share numbers. */
enum {
    CROP = LD_RNG_AUGMENT,
    ERASE_PLACE = LD_RNG_AUGMENT + (1 << 8),
    ERASE_NOISE = LD_RNG_AUGMENT + (2 << 8),
    FLIP = LD_RNG_AUGMENT + (3 << 8)
};

/* One sample of x: its sizes, strides and first element. */
typedef struct picture {
    int64_t c, h, w, sc, sh, sw;
    float *at;
} picture;

static picture picture_of(const ld_tensor *x, int64_t i) {
    return (picture){x->shape[1],
                     x->shape[2],
                     x->shape[3],
                     x->stride[1],
                     x->stride[2],
                     x->stride[3],
                     (float *)ld_tensor_data(x) + i * x->stride[0]};
}

static float *pixel(const picture *p, int64_t c, int64_t h, int64_t w) {
    return p->at + c * p->sc + h * p->sh + w * p->sw;
}

static int check(const char *who, ld_tensor *x) {
    if (x->ndim != 4)
        return ld_fail(LD_ESHAPE, "%s: x must be (N,C,H,W); it is %s", who, ld_tensor_text(x));
    if (x->dtype != LD_F32)
        return ld_fail(LD_EDTYPE, "%s: x is %s; f32 is needed", who, ld_tensor_text(x));
    return ld_check_in_place(who, x, NULL, 0);
}

/* x where the host can change it: x itself, or a copy there. NULL after an error. To be handed to `finish`. */
static ld_tensor *begin(const char *who, ld_tensor *x) {
    return check(who, x) ? NULL : ld_tensor_host(x, who);
}

static int finish(const char *who, ld_tensor *x, ld_tensor *host) {
    int bad = host->storage == x->storage ? 0 : ld_tensor_assign(x, host, who);
    ld_tensor_drop(host);
    if (!bad)
        ld_tensor_touch(x);
    return bad;
}

/* ---- crop and flip ----------------------------------------------------------------------------------------------- */

/* p(c, y, x) = p(c, y + dy, x + dx), 0 outside; copy is C H W floats of room. */
static void shift(const picture *p, int64_t dy, int64_t dx, float *copy) {
    float *to = copy;
    for (int64_t c = 0; c < p->c; c++)
        for (int64_t h = 0; h < p->h; h++)
            for (int64_t w = 0; w < p->w; w++) {
                int64_t y = h + dy, x = w + dx;
                bool in = y >= 0 && y < p->h && x >= 0 && x < p->w;
                *to++ = in ? *pixel(p, c, y, x) : 0;
            }
    const float *from = copy;
    for (int64_t c = 0; c < p->c; c++)
        for (int64_t h = 0; h < p->h; h++)
            for (int64_t w = 0; w < p->w; w++)
                *pixel(p, c, h, w) = *from++;
}

int ld_augment_pad_crop(ld_tensor *x, int pad, uint64_t seed, uint64_t first) {
    static const char who[] = "augment.pad_crop";
    if (pad < 0 || pad > 1 << 20)
        return ld_fail(LD_EVALUE, "%s: pad %d; it must be 0 .. 2^20", who, pad);
    ld_tensor *host = begin(who, x);
    if (!host)
        return ld_error_code();
    picture size = picture_of(host, 0);
    float *copy = malloc((size_t)(size.c * size.h * size.w + 1) * sizeof *copy);
    if (!copy) {
        ld_tensor_drop(host);
        return ld_fail(LD_EMEM, "%s: out of host memory", who);
    }
    uint32_t places = 2 * (uint32_t)pad + 1;
    for (int64_t i = 0; i < x->shape[0]; i++) {
        picture p = picture_of(host, i);
        uint64_t sample = first + (uint64_t)i;
        int64_t dy = (int64_t)ld_rng_below(places, seed, CROP, sample, 0) - pad;
        int64_t dx = (int64_t)ld_rng_below(places, seed, CROP, sample, 1) - pad;
        if (dy || dx)
            shift(&p, dy, dx, copy);
    }
    free(copy);
    return finish(who, x, host);
}

int ld_augment_flip(ld_tensor *x, double p, uint64_t seed, uint64_t first) {
    static const char who[] = "augment.flip";
    if (!(p >= 0 && p <= 1))
        return ld_fail(LD_EVALUE, "%s: probability %g; it must be 0 .. 1", who, p);
    ld_tensor *host = begin(who, x);
    if (!host)
        return ld_error_code();
    for (int64_t i = 0; i < x->shape[0]; i++) {
        float u;
        ld_rng_uniform(&u, 1, seed, FLIP, first + (uint64_t)i, 0);
        if (u >= p)
            continue;
        picture q = picture_of(host, i);
        for (int64_t c = 0; c < q.c; c++)
            for (int64_t h = 0; h < q.h; h++)
                for (int64_t w = 0; w < q.w / 2; w++) {
                    float *a = pixel(&q, c, h, w), *b = pixel(&q, c, h, q.w - 1 - w), was = *a;
                    *a = *b;
                    *b = was;
                }
    }
    return finish(who, x, host);
}

/* ---- random erase ------------------------------------------------------------------------------------------------ */

typedef struct figures {
    double mean, std; /* unbiased */
    float lo, hi;
} figures;

static figures measure(const picture *p) {
    double n = (double)(p->c * p->h * p->w), sum = 0, squares = 0;
    figures f = {.lo = INFINITY, .hi = -INFINITY};
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t c = 0; c < p->c; c++)
            for (int64_t h = 0; h < p->h; h++)
                for (int64_t w = 0; w < p->w; w++) {
                    float v = *pixel(p, c, h, w);
                    sum += pass ? 0 : v;
                    squares += pass ? (v - f.mean) * (v - f.mean) : 0;
                    f.lo = v < f.lo ? v : f.lo;
                    f.hi = v > f.hi ? v : f.hi;
                }
        f.mean = sum / n;
    }
    f.std = n > 1 ? sqrt(squares / (n - 1)) : 0;
    return f;
}

/* Only the new values can lie outside lo .. hi, so clamping them clamps the sample. */
static void erase(const picture *p, int64_t top, int64_t left, int64_t h, int64_t w, const figures *f, float *noise) {
    const float *n = noise;
    for (int64_t c = 0; c < p->c; c++)
        for (int64_t i = 0; i < h; i++)
            for (int64_t j = 0; j < w; j++) {
                float v = (float)(f->mean + f->std * *n++);
                *pixel(p, c, top + i, left + j) = v < f->lo ? f->lo : v > f->hi ? f->hi : v;
            }
}

int ld_augment_rand_erase(ld_tensor *x, double pct, int max_num, uint64_t seed, uint64_t first) {
    static const char who[] = "augment.rand_erase";
    if (!(pct > 0 && pct < 1) || max_num < 0)
        return ld_fail(LD_EVALUE, "%s: pct %g, max_num %d; 0 < pct < 1 and max_num >= 0 are needed", who, pct, max_num);
    ld_tensor *host = begin(who, x);
    if (!host)
        return ld_error_code();
    picture size = picture_of(host, 0);
    int64_t h = (int64_t)(pct * (double)size.h), w = (int64_t)(pct * (double)size.w), cells = size.c * h * w;
    float *noise = malloc((size_t)(cells + 1) * sizeof *noise);
    if (!noise) {
        ld_tensor_drop(host);
        return ld_fail(LD_EMEM, "%s: out of host memory", who);
    }
    for (int64_t i = 0; i < x->shape[0] && cells > 0; i++) {
        picture p = picture_of(host, i);
        uint64_t sample = first + (uint64_t)i;
        uint32_t times = ld_rng_below((uint32_t)max_num + 1, seed, ERASE_PLACE, sample, 0);
        figures f = times ? measure(&p) : (figures){0};
        for (uint32_t k = 0; k < times; k++) {
            float u[2];
            ld_rng_uniform(u, 2, seed, ERASE_PLACE, sample, 1 + 2 * (int64_t)k);
            ld_rng_normal(noise, cells, seed, ERASE_NOISE, sample, (int64_t)k * cells);
            erase(&p, (int64_t)(u[0] * (1 - pct) * (double)p.h), (int64_t)(u[1] * (1 - pct) * (double)p.w), h, w, &f,
                  noise);
        }
    }
    free(noise);
    return finish(who, x, host);
}
