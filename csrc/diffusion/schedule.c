#include "base/error.h"
#include "base/rng.h"
#include "diffusion/diffusion.h"

#include <math.h>

static const double half_pi = 1.57079632679489661923;

double ld_cosine_alpha(double t) {
    return cos(half_pi * t);
}

double ld_cosine_sigma(double t) {
    return sin(half_pi * t);
}

double ld_cosine_abar(double t) {
    return cos(half_pi * t) * cos(half_pi * t);
}

double ld_cosine_tan(double t) {
    return tan(half_pi * t);
}

double ld_cosine_snr(double t) {
    double r = tan(half_pi * t);
    return 1 / (r * r);
}

ld_tensor *ld_diffusion_times(ld_device *d, ld_dtype t, int64_t n, uint64_t seed, uint64_t first) {
    ld_tensor *u = ld_noise_uniform(d, t, 1, &n, seed, LD_RNG_TIME, first);
    ld_tensor *y = u ? ld_unary("diffusion.times", LD_CLAMP, u, 0, LD_TIME_MAX) : NULL;
    ld_tensor_drop(u);
    return y;
}

ld_tensor *ld_diffusion_eps(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, uint64_t seed, uint64_t first) {
    return ld_noise(d, t, ndim, shape, seed, LD_RNG_NOISE, first);
}

/* ---- coefficients per sample ------------------------------------------------------------------------------------- */

static ld_tensor *then(ld_tensor *x, ld_tensor *y) {
    ld_tensor_drop(x);
    return y;
}

static int check_times(const char *who, const ld_tensor *t) {
    if (t->ndim != 1)
        return ld_fail(LD_ESHAPE, "%s: the times must be (N); they are %s", who, ld_tensor_text(t));
    if (t->dtype != LD_F32 && t->dtype != LD_F64)
        return ld_fail(LD_EDTYPE, "%s: the times are %s; f32 or f64 is needed", who, ld_tensor_text(t));
    return 0;
}

/* op(pi t / 2) ^ power, worked out in f64, as (n) of dtype `out`, without history. */
static ld_tensor *coefficient(const char *who, ld_tensor *t, ld_unary_op op, double power, ld_dtype out) {
    if (check_times(who, t))
        return NULL;
    bool was = ld_set_recording(false);
    ld_tensor *y = ld_cast(t, LD_F64);
    y = then(y, y ? ld_unary(who, LD_AFFINE, y, half_pi, 0) : NULL);
    y = then(y, y ? ld_unary(who, op, y, 0, 0) : NULL);
    if (power != 1)
        y = then(y, y ? ld_unary(who, LD_POW, y, power, 0) : NULL);
    y = then(y, y ? ld_cast(y, out) : NULL);
    ld_set_recording(was);
    return y;
}

ld_tensor *ld_diffusion_alpha(ld_tensor *t) {
    return coefficient("diffusion.alpha", t, LD_COS, 1, t->dtype);
}

ld_tensor *ld_diffusion_sigma(ld_tensor *t) {
    return coefficient("diffusion.sigma", t, LD_SIN, 1, t->dtype);
}

ld_tensor *ld_diffusion_snr(ld_tensor *t) {
    return coefficient("diffusion.snr", t, LD_TAN, -2, t->dtype);
}

/* The same shaped (N,1,1,...) to multiply x with. */
static ld_tensor *over(const char *who, const ld_tensor *x, ld_tensor *t, ld_unary_op op, double power) {
    ld_tensor *c = coefficient(who, t, op, power, x->dtype);
    int64_t shape[LD_MAX_DIMS] = {t->shape[0]};
    for (int i = 1; i < x->ndim; i++)
        shape[i] = 1;
    return then(c, c ? ld_reshape(c, x->ndim, shape) : NULL);
}

static int check_batch(const char *who, const ld_tensor *x, const ld_tensor *t, const ld_tensor *eps) {
    if (check_times(who, t))
        return ld_error_code();
    if (!ld_tensor_same_shape(x, eps) || x->ndim < 1 || x->shape[0] != t->shape[0])
        return ld_fail(LD_ESHAPE, "%s: x is %s, eps %s, the times %s; shapes (N,...), (N,...) and (N) are needed", who,
                       ld_tensor_text(x), ld_tensor_text(eps), ld_tensor_text(t));
    return 0;
}

/* c x with c given back. */
static ld_tensor *scaled(const char *who, ld_tensor *c, ld_tensor *x) {
    return then(c, c ? ld_binary(who, LD_MUL, x, c) : NULL);
}

static ld_tensor *combine(const char *who, ld_binary_op op, ld_tensor *a, ld_tensor *b) {
    ld_tensor *y = a && b ? ld_binary(who, op, a, b) : NULL;
    ld_tensor_drop(a);
    ld_tensor_drop(b);
    return y;
}

ld_tensor *ld_diffusion_noise(ld_tensor *x0, ld_tensor *t, ld_tensor *eps) {
    static const char who[] = "diffusion.noise";
    if (check_batch(who, x0, t, eps))
        return NULL;
    ld_tensor *a = scaled(who, over(who, x0, t, LD_COS, 1), x0);
    ld_tensor *b = a ? scaled(who, over(who, x0, t, LD_SIN, 1), eps) : NULL;
    return combine(who, LD_ADD, a, b);
}

ld_tensor *ld_diffusion_x0(ld_tensor *x, ld_tensor *t, ld_tensor *eps) {
    static const char who[] = "diffusion.x0";
    if (check_batch(who, x, t, eps))
        return NULL;
    ld_tensor *noise = scaled(who, over(who, x, t, LD_SIN, 1), eps);
    ld_tensor *rest = then(noise, noise ? ld_binary(who, LD_SUB, x, noise) : NULL);
    ld_tensor *inverse = rest ? over(who, x, t, LD_COS, -1) : NULL;
    return combine(who, LD_MUL, rest, inverse);
}

static int check_training(const ld_tensor *z, ld_tensor *shift) {
    static const char who[] = "diffusion.batch";
    if (z->ndim < 1)
        return ld_fail(LD_ESHAPE, "%s: the latents are %s; (N,...) is needed", who, ld_tensor_text(z));
    if (z->dtype != LD_F32 && z->dtype != LD_F64)
        return ld_fail(LD_EDTYPE, "%s: the latents are %s; f32 or f64 is needed", who, ld_tensor_text(z));
    if (shift && (z->ndim != 4 || shift->ndim != 1 || shift->shape[0] != z->shape[1] || shift->dtype != z->dtype ||
                  shift->storage->device != z->storage->device))
        return ld_fail(LD_ESHAPE, "%s: the latents are %s, the shift %s; a number for each channel is needed", who,
                       ld_tensor_text(z), ld_tensor_text(shift));
    return ld_interrupted() ? ld_error_code() : 0;
}

int ld_diffusion_batch(ld_training_batch *b, ld_tensor *z, ld_tensor *shift, double scale, uint64_t seed,
                       uint64_t first, bool with_x0) {
    static const char who[] = "diffusion.batch";
    *b = (ld_training_batch){0};
    if (check_training(z, shift))
        return ld_error_code();
    ld_tensor *from = ld_tensor_canonical(z, who), *by = shift ? ld_tensor_canonical(shift, who) : NULL;
    if (from && (by || !shift) && (b->x_t = ld_tensor_like(from, who)) && (b->eps = ld_tensor_like(from, who)) &&
        (b->t = ld_tensor_new(z->storage->device, z->dtype, 1, z->shape, who)) && with_x0)
        b->x0 = ld_tensor_like(from, who);
    int bad = b->t && (b->x0 || !with_x0) ? 0 : ld_error_code();
    if (!bad)
        bad = z->storage->device->backend->noised(LD_VIEW(b->x_t), b->x0 ? LD_VIEW(b->x0) : NULL, LD_VIEW(b->eps),
                                                  LD_VIEW(b->t), LD_VIEW(from), by ? LD_VIEW(by) : NULL, scale, seed,
                                                  first, NULL);
    ld_tensor_drop(from);
    ld_tensor_drop(by);
    if (bad) {
        ld_tensor *all[] = {b->x_t, b->t, b->eps, b->x0};
        for (int i = 0; i < 4; i++)
            ld_tensor_drop(all[i]);
        *b = (ld_training_batch){0};
    }
    return bad;
}

/* ---- time embedding ---------------------------------------------------------------------------------------------- */

/* f_k as (1,half) f64 on d. */
static ld_tensor *frequencies(int half, ld_device *d) {
    ld_device *cpu = ld_device_find("cpu");
    ld_tensor *f = cpu ? ld_tensor_new(cpu, LD_F64, 2, (int64_t[]){1, half}, "time_embedding") : NULL;
    if (!f)
        return NULL;
    double *v = ld_tensor_data(f);
    for (int k = 0; k < half; k++)
        v[k] = exp(-log(10000) * k / (half - 1));
    return then(f, ld_tensor_to(f, LD_F64, d, "time_embedding"));
}

static ld_tensor *embed(ld_tensor *t, int dim) {
    static const char who[] = "time_embedding";
    ld_tensor *wide = ld_cast(t, LD_F64);
    ld_tensor *column = then(wide, wide ? ld_reshape(wide, 2, (int64_t[]){t->shape[0], 1}) : NULL);
    ld_tensor *f = column ? frequencies(dim / 2, t->storage->device) : NULL;
    ld_tensor *angle = combine(who, LD_MUL, column, f);
    ld_tensor *parts[2] = {angle ? ld_unary(who, LD_SIN, angle, 0, 0) : NULL,
                           angle ? ld_unary(who, LD_COS, angle, 0, 0) : NULL};
    ld_tensor *y = parts[0] && parts[1] ? ld_concat(parts, 2, 1) : NULL;
    ld_tensor_drop(angle);
    ld_tensor_drop(parts[0]);
    ld_tensor_drop(parts[1]);
    if (dim % 2)
        y = then(y, y ? ld_pad(y, (int64_t[]){0, 0}, (int64_t[]){0, 1}, 0) : NULL);
    return then(y, y ? ld_cast(y, t->dtype) : NULL);
}

ld_tensor *ld_time_embedding(ld_tensor *t, int dim) {
    if (check_times("time_embedding", t))
        return NULL;
    if (dim < 4)
        return ld_fail_null(LD_EVALUE, "time_embedding: dim %d; it must be at least 4", dim);
    bool was = ld_set_recording(false);
    ld_tensor *y = embed(t, dim);
    ld_set_recording(was);
    return y;
}
