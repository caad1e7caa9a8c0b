#include "base/error.h"
#include "base/rng.h"
#include "diffusion/diffusion.h"

#include <math.h>
#include <stdlib.h>

static ld_sampler *sampler_new(const char *name, int n) {
    ld_sampler *s = calloc(1, sizeof *s);
    ld_sampler_row *row = calloc((size_t)n, sizeof *row);
    if (!s || !row) {
        free(s);
        free(row);
        return ld_fail_null(LD_EMEM, "sampler.%s: out of host memory for %d steps", name, n);
    }
    *s = (ld_sampler){.refs = 1, .name = name, .n = n, .row = row};
    return s;
}

ld_sampler *ld_sampler_ref(ld_sampler *s) {
    s->refs++;
    return s;
}

void ld_sampler_drop(ld_sampler *s) {
    if (!s || --s->refs > 0)
        return;
    free(s->row);
    free(s);
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

/* What every step has: the time, and x0^ = (x - sigma eps^) / alpha. */
static ld_sampler_row row_at(double t, double alpha, double sigma) {
    return (ld_sampler_row){.t = t, .abar = alpha * alpha, .x0_x = 1 / alpha, .x0_eps = -sigma / alpha};
}

/* The last step: x' = x0^. */
static ld_sampler_row last_row(double t, double alpha, double sigma) {
    ld_sampler_row r = row_at(t, alpha, sigma);
    r.next_x0 = 1;
    return r;
}

static double cosine_time(int i, int n) {
    return (double)(n - 1 - i) / n;
}

static int check_steps(const char *name, int n) {
    return n < 2 ? ld_fail(LD_EVALUE, "sampler.%s: %d steps; at least 2 are needed", name, n) : 0;
}

ld_sampler *ld_sampler_ddim(int n, double eta) {
    if (check_steps("ddim", n))
        return NULL;
    if (!(eta >= 0 && eta <= 1))
        return ld_fail_null(LD_EVALUE, "sampler.ddim: eta %g; it must be 0 .. 1", eta);
    ld_sampler *d = sampler_new("ddim", n);
    for (int i = 0; d && i < n - 1; i++) {
        double t = cosine_time(i, n), next = cosine_time(i + 1, n);
        double abar = ld_cosine_abar(t), abar_next = ld_cosine_abar(next), var = 1 - abar, var_next = 1 - abar_next;
        double s = eta * sqrt(var_next / var) * sqrt(1 - abar / abar_next);
        if (var_next <= s * s + 0.01)
            s = 0;
        ld_sampler_row *r = &d->row[i];
        *r = row_at(t, ld_cosine_alpha(t), ld_cosine_sigma(t));
        r->next_x0 = ld_cosine_alpha(next);
        r->next_eps = sqrt(var_next - s * s);
        r->next_noise = s;
    }
    if (d)
        d->row[n - 1] = last_row(0, 1, 0);
    return d;
}

/* x' = x0^ sqrt(abar') beta / (1 - abar) + x sqrt(1 - beta) (1 - abar') / (1 - abar) + sqrt(beta) n. */
static ld_sampler_row ancestral_row(double t, double alpha, double sigma, double abar_next, double beta) {
    ld_sampler_row r = row_at(t, alpha, sigma);
    double var = sigma * sigma;
    r.next_x0 = sqrt(abar_next) * beta / var;
    r.next_x = sqrt(1 - beta) * (1 - abar_next) / var;
    r.next_noise = sqrt(beta);
    return r;
}

ld_sampler *ld_sampler_ancestral(int n) {
    if (check_steps("ancestral", n))
        return NULL;
    ld_sampler *d = sampler_new("ancestral", n);
    for (int i = 0; d && i < n - 2; i++) {
        double t = cosine_time(i, n), abar_next = ld_cosine_abar(cosine_time(i + 1, n));
        double beta = 1 - ld_cosine_abar(t) / abar_next;
        d->row[i] = ancestral_row(t, ld_cosine_alpha(t), ld_cosine_sigma(t), abar_next, beta);
    }
    if (!d)
        return NULL;
    double t = cosine_time(n - 2, n); /* to t = 0 */
    d->row[n - 2] = last_row(t, ld_cosine_alpha(t), ld_cosine_sigma(t));
    d->row[n - 1] = last_row(0, 1, 0);
    return d;
}

ld_sampler *ld_sampler_ddpm(int n, double first, double last) {
    if (check_steps("ddpm", n))
        return NULL;
    if (!(first > 0 && first <= last && last < 1))
        return ld_fail_null(LD_EVALUE, "sampler.ddpm: betas from %g to %g; 0 < first <= last < 1 is needed", first,
                            last);
    ld_sampler *d = sampler_new("ddpm", n);
    double abar = 1;
    for (int t = 0; d && t < n; t++) {
        double beta = first + (last - first) * t / (n - 1), before = abar;
        abar *= 1 - beta;
        double alpha = sqrt(abar), sigma = sqrt(1 - abar);
        d->row[n - 1 - t] = t ? ancestral_row(t, alpha, sigma, before, beta) : last_row(t, alpha, sigma);
    }
    return d;
}

int ld_sampler_clamp(ld_sampler *s, double lo, double hi) {
    if (!(lo <= hi))
        return ld_fail(LD_EVALUE, "sampler.%s: clamp from %g to %g; the first must not be above the second", s->name,
                       lo, hi);
    s->clamp = true;
    s->lo = lo;
    s->hi = hi;
    return 0;
}

/* ---- use --------------------------------------------------------------------------------------------------------- */

static bool inside(const ld_sampler *s, int i) {
    return i >= 0 && i < s->n;
}

int ld_sampler_steps(const ld_sampler *s) {
    return s->n;
}

double ld_sampler_t(const ld_sampler *s, int i) {
    return inside(s, i) ? s->row[i].t : NAN;
}

bool ld_sampler_needs_noise(const ld_sampler *s, int i) {
    return inside(s, i) && s->row[i].next_noise != 0;
}

bool ld_sampler_needs_eps(const ld_sampler *s, int i) {
    return inside(s, i) && (s->row[i].x0_eps != 0 || s->row[i].next_eps != 0);
}

/* *y += c x, where *y may be NULL for 0. */
static int add(ld_tensor **y, ld_tensor *x, double c) {
    if (c == 0)
        return 0;
    ld_tensor *part = c == 1 ? ld_tensor_ref(x) : ld_unary("sampler.step", LD_AFFINE, x, c, 0);
    if (part && *y) {
        ld_tensor *sum = ld_binary("sampler.step", LD_ADD, *y, part);
        ld_tensor_drop(part);
        part = sum;
    }
    ld_tensor_drop(*y);
    *y = part;
    return part ? 0 : ld_error_code();
}

/* (x - sigma eps^) / alpha: the difference first, as its factor may be large. */
static ld_tensor *predict(const ld_sampler *s, const ld_sampler_row *r, ld_tensor *x, ld_tensor *eps) {
    ld_tensor *diff = NULL, *y = NULL;
    int bad = add(&diff, x, 1);
    if (!bad)
        bad = add(&diff, eps, r->x0_eps / r->x0_x);
    if (!bad)
        bad = add(&y, diff, r->x0_x);
    ld_tensor_drop(diff);
    if (bad || !s->clamp)
        return y;
    ld_tensor *cut = ld_unary("sampler.step", LD_CLAMP, y, s->lo, s->hi);
    ld_tensor_drop(y);
    return cut;
}

static int check_like(const ld_tensor *x, const ld_tensor *y, const char *name, bool needed, int i) {
    if (!y)
        return needed ? ld_fail(LD_EVALUE, "sampler.step: step %d needs %s", i + 1, name) : 0;
    if (!ld_tensor_same_shape(x, y) || x->dtype != y->dtype)
        return ld_fail(LD_ESHAPE, "sampler.step: x is %s, %s %s; they must be alike", ld_tensor_text(x), name,
                       ld_tensor_text(y));
    return 0;
}

ld_tensor *ld_sampler_step(const ld_sampler *s, int i, ld_tensor *x, ld_tensor *eps, ld_tensor *noise, ld_tensor **x0) {
    if (!inside(s, i))
        return ld_fail_null(LD_EINDEX, "sampler.step: step %d; sampler.%s has %d", i + 1, s->name, s->n);
    if (check_like(x, eps, "eps", ld_sampler_needs_eps(s, i), i) ||
        check_like(x, noise, "noise", ld_sampler_needs_noise(s, i), i))
        return NULL;
    const ld_sampler_row *r = &s->row[i];
    ld_tensor *clean = predict(s, r, x, eps), *y = NULL;
    if (!clean)
        return NULL;
    int bad = add(&y, clean, r->next_x0);
    if (!bad)
        bad = add(&y, x, r->next_x);
    if (!bad)
        bad = add(&y, eps, r->next_eps);
    if (!bad)
        bad = add(&y, noise, r->next_noise);
    if (bad || !x0) {
        ld_tensor_drop(clean);
        return bad ? NULL : y;
    }
    *x0 = clean;
    return y;
}

ld_tensor *ld_sampler_noise(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, uint64_t seed, uint64_t first,
                            int k) {
    if (k < 0 || k >= 1 << 24)
        return ld_fail_null(LD_EVALUE, "sampler.noise: step %d; it must be 0 .. 2^24 - 1", k);
    return ld_noise(d, t, ndim, shape, seed, LD_RNG_SAMPLE + ((uint32_t)k << 8), first);
}
