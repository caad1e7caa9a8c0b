/* Diffusion: the cosine schedule, noising, time embedding, samplers.
 *
 * Time t runs from 0 (data) to 1 (noise): x_t = alpha x0 + sigma eps, alpha = sqrt(abar) = cos(pi t / 2), sigma =
 * sin(pi t / 2). Networks predict eps. Source: Nichol & Dhariwal 2021, arXiv:2102.09672, without the offset. */
#ifndef LD_DIFFUSION_H
#define LD_DIFFUSION_H

#include "op/op.h"

/* ---- the cosine schedule: schedule.c ----------------------------------------------------------------------------- */

double ld_cosine_abar(double t);  /* cos^2(pi t / 2) */
double ld_cosine_alpha(double t); /* sqrt(abar) */
double ld_cosine_sigma(double t); /* sqrt(1 - abar) */
double ld_cosine_tan(double t);   /* sigma / alpha */
double ld_cosine_snr(double t);   /* abar / (1 - abar); infinite at 0 */

/* n times (n) of dtype t: uniform in [0, 1), values above LD_TIME_MAX (backend.h) set to it. Row i is sample first + i of (seed,
 * LD_RNG_TIME), whatever the batch. */
ld_tensor *ld_diffusion_times(ld_device *d, ld_dtype t, int64_t n, uint64_t seed, uint64_t first);
/* Unit noise for training, rows keyed likewise with LD_RNG_NOISE. */
ld_tensor *ld_diffusion_eps(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, uint64_t seed, uint64_t first);

/* What a batch is trained on, in one pass: x0 = (z - shift) scale, and times, noise and x_t made of it as by the functions
 * above and below, to the same bytes on the CPU. z (N,...) f32 or f64, shift (C) or NULL. No history. */
typedef struct ld_training_batch {
    ld_tensor *x_t, *t, *eps, *x0; /* owned by the caller; x0 NULL unless asked for */
} ld_training_batch;
int ld_diffusion_batch(ld_training_batch *b, ld_tensor *z, ld_tensor *shift, double scale, uint64_t seed,
                       uint64_t first, bool with_x0);

/* x_t = alpha(t) x0 + sigma(t) eps. x0, eps (N,...) alike, t (N) f32 or f64; the coefficients are computed in f64.
 * Gradient: x0, eps. */
ld_tensor *ld_diffusion_noise(ld_tensor *x0, ld_tensor *t, ld_tensor *eps);
/* x0^ = (x_t - sigma(t) eps) / alpha(t), shapes as above. Gradient: x, eps. */
ld_tensor *ld_diffusion_x0(ld_tensor *x, ld_tensor *t, ld_tensor *eps);
/* The schedule for a batch of times: (N) -> (N), dtype of t, computed in f64. No history. */
ld_tensor *ld_diffusion_alpha(ld_tensor *t);
ld_tensor *ld_diffusion_sigma(ld_tensor *t);
ld_tensor *ld_diffusion_snr(ld_tensor *t);

/* (N) f32 or f64 -> (N,dim) of the same dtype: [sin(t f_k) for all k, cos(t f_k) for all k], f_k = 10000^(-k/(half-1)),
 * half = dim/2, a last column of 0 when dim is odd; computed in f64. No history. LD_EVALUE: dim below 4. */
ld_tensor *ld_time_embedding(ld_tensor *t, int dim);

/* ---- samplers: sampler.c ----------------------------------------------------------------------------------------- */

/* One step as numbers: x0^ = x0_x x + x0_eps eps^ (then clamped, if asked for);
 * x' = next_x x + next_x0 x0^ + next_eps eps^ + next_noise n. */
typedef struct ld_sampler_row {
    double t; /* the time to give to the network */
    double abar;
    double x0_x, x0_eps;
    double next_x, next_x0, next_eps, next_noise;
} ld_sampler_row;

typedef struct ld_sampler {
    int refs;
    const char *name; /* "ddim", "ddpm", "ancestral" */
    bool clamp;       /* x0^ to lo .. hi */
    double lo, hi;
    int n;
    ld_sampler_row *row; /* n of them, noisiest first */
} ld_sampler;

/* n steps at t_i = 1 - (i + 1)/n: the last, at t = 0, leaves x as it is and needs no network (ld_sampler_needs_eps).
 * eta 0 .. 1: 0 is deterministic, 1 adds the noise of the posterior. A step to abar' with 1 - abar' <= s^2 + 0.01
 * adds none. The result is x0^ of the last step. LD_EVALUE: n below 2, eta outside. Source: Song et al. 2020,
 * arXiv:2010.02502. */
ld_sampler *ld_sampler_ddim(int n, double eta);
/* Ho et al. 2020, arXiv:2006.11239: betas linear from `first` to `last` (1e-4, 0.02) over n (1000) steps; t is the
 * integer n - 1, ..., 0; noise of variance beta, none in the last step. */
ld_sampler *ld_sampler_ddpm(int n, double first, double last);
/* The same step on the cosine schedule at the times of ld_sampler_ddim, beta = 1 - abar/abar'. Noise of variance beta
 * suits many steps (hundreds); with few, DDIM with eta 1 adds the right amount. */
ld_sampler *ld_sampler_ancestral(int n);
/* Clamp x0^ to lo .. hi from now on. LD_EVALUE: lo above hi. */
int ld_sampler_clamp(ld_sampler *s, double lo, double hi);

ld_sampler *ld_sampler_ref(ld_sampler *s);
void ld_sampler_drop(ld_sampler *s);

int ld_sampler_steps(const ld_sampler *s);
/* i from 0; NaN and false outside. */
double ld_sampler_t(const ld_sampler *s, int i);
bool ld_sampler_needs_noise(const ld_sampler *s, int i);
bool ld_sampler_needs_eps(const ld_sampler *s, int i); /* false: eps may be NULL, its value does not matter */

/* x after step i; the final sample after the last. x, eps, noise one shape; noise (eps) NULL where it is not needed.
 * x0 (may be NULL) receives x0^, owned by the caller. Gradient: x, eps. LD_EINDEX, LD_ESHAPE, LD_EVALUE (noise
 * missing). */
ld_tensor *ld_sampler_step(const ld_sampler *s, int i, ld_tensor *x, ld_tensor *eps, ld_tensor *noise, ld_tensor **x0);

/* Unit noise for sampling: row j is sample first + j of (seed, LD_RNG_SAMPLE + (k << 8)). k = 0 is what sampling
 * starts from, k = i + 1 what step i adds: sample number first + j is the same picture in any batch. */
ld_tensor *ld_sampler_noise(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, uint64_t seed, uint64_t first,
                            int k);

#endif
