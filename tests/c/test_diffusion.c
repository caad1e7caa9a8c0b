/* The cosine schedule, noising, times, embedding, and samplers against formulas written out here. */
#include "base/error.h"
#include "base/rng.h"
#include "diffusion/diffusion.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "leak.h" /* wants cmocka.h before it */

#define near(a, b, eps)                                                                                                \
    do {                                                                                                               \
        double a_ = (a), b_ = (b);                                                                                     \
        if (!(fabs(a_ - b_) <= (eps)))                                                                                 \
            fail_msg("%s is %.17g, not %.17g", #a, a_, b_);                                                            \
    } while (0)

static const double pi = 3.14159265358979323846;

static ld_device *cpu(void) {
    return ld_device_find("cpu");
}

static double at(const ld_tensor *x, int64_t i) { /* rank 1 to 3, dense */
    return ld_dtype_get(x->dtype, (char *)ld_tensor_data(x) + (size_t)i * ld_dtype_size(x->dtype));
}

static ld_tensor *values(int64_t n, const double *v) {
    ld_tensor *x = ld_tensor_new(cpu(), LD_F64, 1, &n, "test");
    assert_non_null(x);
    memcpy(ld_tensor_data(x), v, (size_t)n * sizeof *v);
    return x;
}

static ld_tensor *grid(ld_dtype t, uint64_t seed) { /* 3 samples of (2,4) */
    return ld_noise(cpu(), t, 3, (int64_t[]){3, 2, 4}, seed, LD_RNG_USER, 0);
}

static void schedule(void **s) {
    (void)s;
    near(ld_cosine_abar(0), 1, 0);
    near(ld_cosine_abar(0.5), 0.5, 1e-15);
    near(ld_cosine_alpha(1.0 / 3), sqrt(3) / 2, 1e-15);
    near(ld_cosine_sigma(1.0 / 3), 0.5, 1e-15);
    near(ld_cosine_tan(0.5), 1, 1e-15);
    near(ld_cosine_snr(1.0 / 3), 3, 1e-14);
    assert_true(isinf(ld_cosine_snr(0)));
    double t[3] = {0.25, 0.5, 0.999};
    ld_tensor *x = values(3, t), *a = ld_diffusion_alpha(x), *b = ld_diffusion_sigma(x), *r = ld_diffusion_snr(x);
    for (int i = 0; i < 3; i++) {
        near(at(a, i), cos(pi * t[i] / 2), 1e-14);
        near(at(b, i), sin(pi * t[i] / 2), 1e-14);
        near(at(r, i) * pow(tan(pi * t[i] / 2), 2), 1, 1e-10);
    }
    ld_tensor_drop(x);
    ld_tensor_drop(a);
    ld_tensor_drop(b);
    ld_tensor_drop(r);
}

/* noise and x0 are inverses, agree with the formula, and pass gradients. */
static void noising(void **s) {
    (void)s;
    double t[3] = {0, 0.3, 0.999};
    ld_tensor *time = values(3, t), *x0 = grid(LD_F64, 1), *eps = grid(LD_F64, 2);
    eps->requires_grad = x0->requires_grad = true;
    ld_tensor *x = ld_diffusion_noise(x0, time, eps), *back = ld_diffusion_x0(x, time, eps);
    for (int i = 0; i < 24; i++) {
        near(at(x, i), cos(pi * t[i / 8] / 2) * at(x0, i) + sin(pi * t[i / 8] / 2) * at(eps, i), 1e-14);
        near(at(back, i), at(x0, i), 1e-11); /* rounding over alpha = 0.0016 */
    }
    ld_tensor *ones = ld_tensor_full(cpu(), LD_F64, 3, x->shape, 1, "test");
    assert_int_equal(ld_backward(x, ones, true), 0);
    near(at(x0->grad, 8), cos(pi * 0.3 / 2), 1e-14);
    near(at(eps->grad, 8), sin(pi * 0.3 / 2), 1e-14);
    ld_tensor *free_x = ld_detach(x), *again = ld_diffusion_x0(free_x, time, eps);
    ld_tensor_drop(eps->grad);
    eps->grad = NULL;
    assert_int_equal(ld_backward(again, ones, false), 0);
    near(at(eps->grad, 8), -tan(pi * 0.3 / 2), 1e-14);

    ld_tensor *two = values(2, t);
    assert_null(ld_diffusion_noise(x0, two, eps));
    assert_string_equal(ld_error(), "diffusion.noise: x is (3,2,4) f64 cpu, eps (3,2,4) f64 cpu, the times (2) f64 "
                                    "cpu; shapes (N,...), (N,...) and (N) are needed");
    ld_tensor *all[] = {time, x0, eps, x, back, ones, free_x, again, two};
    for (int i = 0; i < 9; i++)
        ld_tensor_drop(all[i]);
}

static void times_and_noise_are_keyed(void **s) {
    (void)s;
    ld_tensor *whole = ld_diffusion_times(cpu(), LD_F32, 2000, 7, 100),
              *part = ld_diffusion_times(cpu(), LD_F32, 5, 7, 200);
    double mean = 0, top = 0;
    for (int i = 0; i < 2000; i++) {
        mean += at(whole, i) / 2000;
        top = fmax(top, at(whole, i));
        assert_true(at(whole, i) >= 0);
    }
    for (int i = 0; i < 5; i++)
        assert_true(at(part, i) == at(whole, 100 + i));
    near(mean, 0.5, 5 * sqrt(1 / 12.0 / 2000)); /* five standard errors */
    assert_true(top ==
                (double)0.999f); /* a uniform above it exists but for a chance of 0.999^2000 = 0.14; seed 7 has one */
    ld_tensor *other = ld_diffusion_times(cpu(), LD_F32, 5, 8, 200);
    assert_true(at(other, 0) != at(part, 0));

    ld_tensor *a = ld_sampler_noise(cpu(), LD_F32, 2, (int64_t[]){4, 3}, 1, 10, 2);
    ld_tensor *b = ld_sampler_noise(cpu(), LD_F32, 2, (int64_t[]){1, 3}, 1, 12, 2);
    ld_tensor *c = ld_sampler_noise(cpu(), LD_F32, 2, (int64_t[]){1, 3}, 1, 12, 3);
    float want[3];
    ld_rng_normal(want, 3, 1, LD_RNG_SAMPLE + (2 << 8), 12, 0);
    for (int i = 0; i < 3; i++) {
        assert_true(at(a, 6 + i) == at(b, i) && at(b, i) != at(c, i));
        near(at(b, i), want[i], 1e-6);
    }
    assert_null(ld_sampler_noise(cpu(), LD_F32, 2, (int64_t[]){1, 3}, 1, 12, -1));
    ld_tensor *d = ld_diffusion_eps(cpu(), LD_F32, 2, (int64_t[]){1, 3}, 1, 12);
    ld_rng_normal(want, 3, 1, LD_RNG_NOISE, 12, 0);
    near(at(d, 2), want[2], 1e-6);
    ld_tensor *all[] = {whole, part, other, a, b, c, d};
    for (int i = 0; i < 7; i++)
        ld_tensor_drop(all[i]);
}

static void time_embedding(void **s) {
    (void)s;
    double t[2] = {0.25, 0.9};
    ld_tensor *time = values(2, t), *e = ld_time_embedding(time, 9), *f = NULL;
    assert_int_equal(e->shape[0], 2);
    assert_int_equal(e->shape[1], 9);
    for (int n = 0; n < 2; n++) {
        for (int k = 0; k < 4; k++) {
            near(at(e, 9 * n + k), sin(t[n] * pow(10000, -k / 3.0)), 1e-14);
            near(at(e, 9 * n + 4 + k), cos(t[n] * pow(10000, -k / 3.0)), 1e-14);
        }
        assert_true(at(e, 9 * n + 8) == 0);
    }
    ld_tensor *single = ld_cast(time, LD_F32);
    f = ld_time_embedding(single, 8);
    assert_int_equal(f->dtype, LD_F32);
    near(at(f, 8), sin(0.9), 1e-7);
    assert_null(ld_time_embedding(time, 3));
    ld_tensor_drop(time);
    ld_tensor_drop(single);
    ld_tensor_drop(e);
    ld_tensor_drop(f);
}

/* ---- samplers ---------------------------------------------------------------------------------------------------- */

/* Method 6.1 in scalars: x' and x0^ of step i. */
static double ddim(int i, int n, double eta, double x, double eps, double noise, double *x0) {
    double t = 1 - (i + 1.0) / n, next = t - 1.0 / n;
    double abar = pow(cos(pi * t / 2), 2), abar2 = i < n - 1 ? pow(cos(pi * next / 2), 2) : 1;
    *x0 = (x - sqrt(1 - abar) * eps) / sqrt(abar);
    if (i == n - 1)
        return *x0;
    double s = eta * sqrt((1 - abar2) / (1 - abar)) * sqrt(1 - abar / abar2);
    if (1 - abar2 <= s * s + 0.01)
        s = 0;
    return sqrt(abar2) * *x0 + sqrt(1 - abar2 - s * s) * eps + s * noise;
}

static double ancestral(double abar, double before, double x, double eps, double noise, double *x0) {
    double alpha = abar / before, beta = 1 - alpha;
    *x0 = (x - sqrt(1 - abar) * eps) / sqrt(abar);
    return *x0 * sqrt(before) * beta / (1 - abar) + x * sqrt(alpha) * (1 - before) / (1 - abar) + sqrt(beta) * noise;
}

static double ddpm_abar(int t) {
    double abar = 1;
    for (int k = 0; k <= t; k++)
        abar *= 1 - (1e-4 + (0.02 - 1e-4) * k / 999);
    return abar;
}

/* One step of a sampler against the value `want` for element 3. */
static void step_gives(const ld_sampler *s, int i, double want, double want_x0) {
    ld_tensor *x = grid(LD_F64, 1), *eps = grid(LD_F64, 2), *noise = grid(LD_F64, 3), *x0 = NULL;
    ld_tensor *y = ld_sampler_step(s, i, x, eps, noise, &x0);
    assert_non_null(y);
    near(at(x0, 3), want_x0, 1e-11 * (1 + fabs(want_x0)));
    near(at(y, 3), want, 1e-11 * (1 + fabs(want)));
    ld_tensor *all[] = {x, eps, noise, x0, y};
    for (int k = 0; k < 5; k++)
        ld_tensor_drop(all[k]);
}

static void samplers_follow_the_method(void **s) {
    (void)s;
    ld_tensor *x = grid(LD_F64, 1), *eps = grid(LD_F64, 2), *noise = grid(LD_F64, 3);
    double x3 = at(x, 3), e3 = at(eps, 3), n3 = at(noise, 3), x0 = 0;
    for (int k = 0; k < 6; k++) {
        int n = k % 2 ? 100 : 10;
        double eta = k / 2 * 0.5;
        ld_sampler *d = ld_sampler_ddim(n, eta);
        assert_int_equal(ld_sampler_steps(d), n);
        for (int i = 0; i < n; i++) {
            near(ld_sampler_t(d, i), 1 - (i + 1.0) / n, 1e-15);
            double want = ddim(i, n, eta, x3, e3, n3, &x0);
            step_gives(d, i, want, x0);
            assert_int_equal(ld_sampler_needs_eps(d, i), i < n - 1);
        }
        assert_int_equal(ld_sampler_needs_noise(d, 0), eta > 0);
        assert_false(ld_sampler_needs_noise(d, n - 2)); /* abar' = 1 */
        ld_sampler_drop(d);
    }
    ld_sampler *p = ld_sampler_ddpm(1000, 1e-4, 0.02);
    for (int i = 0; i < 1000; i += 333) { /* 0, 333, 666, 999 */
        int t = 999 - i;
        near(ld_sampler_t(p, i), t, 0);
        near(p->row[i].abar, ddpm_abar(t), 1e-13);
        double want = ancestral(ddpm_abar(t), t ? ddpm_abar(t - 1) : 1, x3, e3, t ? n3 : 0, &x0);
        step_gives(p, i, want, x0);
        assert_int_equal(ld_sampler_needs_noise(p, i), t > 0);
    }
    ld_sampler_drop(p);
    ld_sampler *c = ld_sampler_ancestral(20);
    for (int i = 0; i < 19; i++) {
        double t = 1 - (i + 1) / 20.0, abar = pow(cos(pi * t / 2), 2), before = pow(cos(pi * (t - 0.05) / 2), 2);
        double want = ancestral(abar, i < 18 ? before : 1, x3, e3, i < 18 ? n3 : 0, &x0);
        step_gives(c, i, want, x0);
    }
    step_gives(c, 19, x3, x3);
    ld_sampler_drop(c);
    ld_tensor_drop(x);
    ld_tensor_drop(eps);
    ld_tensor_drop(noise);
}

/* With the exact eps of a known x0 every sampler ends there, noise or not. */
static void ends_at_the_data(ld_sampler *s, bool cosine) {
    ld_tensor *clean = grid(LD_F64, 9), *x = grid(LD_F64, 10);
    int n = ld_sampler_steps(s);
    for (int i = 0; i < n; i++) {
        const ld_sampler_row *r = &s->row[i];
        if (cosine)
            near(r->abar, ld_cosine_abar(ld_sampler_t(s, i)), 1e-15);
        ld_tensor *eps = NULL, *noise = NULL;
        if (ld_sampler_needs_eps(s, i)) {
            eps = ld_tensor_like(x, "test");
            for (int k = 0; k < 24; k++)
                ((double *)ld_tensor_data(eps))[k] = (at(x, k) - sqrt(r->abar) * at(clean, k)) / sqrt(1 - r->abar);
        }
        if (ld_sampler_needs_noise(s, i))
            noise = ld_sampler_noise(cpu(), LD_F64, 3, x->shape, 5, 0, i + 1);
        ld_tensor *next = ld_sampler_step(s, i, x, eps, noise, NULL);
        assert_non_null(next);
        ld_tensor_drop(x);
        ld_tensor_drop(eps);
        ld_tensor_drop(noise);
        x = next;
    }
    for (int k = 0; k < 24; k++)
        near(at(x, k), at(clean, k), 1e-9);
    ld_tensor_drop(x);
    ld_tensor_drop(clean);
    ld_sampler_drop(s);
}

static void exact_eps_gives_the_data(void **s) {
    (void)s;
    ends_at_the_data(ld_sampler_ddim(2, 0), true);
    ends_at_the_data(ld_sampler_ddim(50, 1), true);
    ends_at_the_data(ld_sampler_ancestral(2), true);
    ends_at_the_data(ld_sampler_ancestral(30), true);
    ends_at_the_data(ld_sampler_ddpm(100, 1e-4, 0.02), false);
}

static void clamp_and_errors(void **s) {
    (void)s;
    ld_sampler *d = ld_sampler_ddim(10, 1);
    ld_tensor *x = grid(LD_F64, 1), *eps = grid(LD_F64, 2), *noise = grid(LD_F64, 3), *x0 = NULL;
    assert_int_equal(ld_sampler_clamp(d, 1, -1), LD_EVALUE);
    assert_int_equal(ld_sampler_clamp(d, -0.5, 0.5), 0);
    ld_tensor *y = ld_sampler_step(d, 2, x, eps, noise, &x0);
    for (int i = 0; i < 24; i++) {
        double want = 0, free = 0;
        want = ddim(2, 10, 1, at(x, i), at(eps, i), at(noise, i), &free);
        double cut = fmin(fmax(free, -0.5), 0.5);
        near(at(x0, i), cut, 1e-12);
        near(at(y, i), want + (cut - free) * ld_cosine_alpha(0.6), 1e-12);
    }
    ld_tensor_drop(y);
    ld_tensor_drop(x0);
    assert_null(ld_sampler_step(d, 10, x, eps, noise, NULL));
    assert_string_equal(ld_error(), "sampler.step: step 11; sampler.ddim has 10");
    assert_null(ld_sampler_step(d, 0, x, eps, NULL, NULL));
    assert_string_equal(ld_error(), "sampler.step: step 1 needs noise");
    assert_null(ld_sampler_step(d, 0, x, NULL, noise, NULL));
    ld_tensor *single = grid(LD_F32, 1);
    assert_null(ld_sampler_step(d, 0, x, single, noise, NULL));
    assert_int_equal(ld_error_code(), LD_ESHAPE);
    assert_true(isnan(ld_sampler_t(d, 10)));
    assert_false(ld_sampler_needs_noise(d, -1));
    assert_null(ld_sampler_ddim(1, 0));
    assert_null(ld_sampler_ddim(10, 1.5));
    assert_null(ld_sampler_ddpm(10, 0.5, 0.1));
    ld_sampler_drop(ld_sampler_ref(d));
    ld_sampler_drop(d);
    ld_tensor *all[] = {x, eps, noise, single};
    for (int k = 0; k < 4; k++)
        ld_tensor_drop(all[k]);
}

/* Every allocation of a step made to fail in turn. */
static void shortage_leaves_nothing(void **s) {
    (void)s;
    ld_sampler *d = ld_sampler_ddim(10, 1);
    ld_tensor *x = grid(LD_F32, 1), *eps = grid(LD_F32, 2), *noise = grid(LD_F32, 3);
    ld_tensor *t = ld_diffusion_times(cpu(), LD_F32, 3, 1, 0);
    int64_t before = ld_tensor_count();
    for (int what = 0; what < 3; what++) {
        bool done = false;
        for (int k = 1; !done; k++) {
            assert_true(k < 100);
            ld_pool_fail_at(cpu()->pool, k);
            ld_tensor *y = what == 0   ? ld_sampler_step(d, 2, x, eps, noise, NULL)
                           : what == 1 ? ld_diffusion_x0(x, t, eps)
                                       : ld_time_embedding(t, 5);
            ld_pool_fail_at(cpu()->pool, 0);
            done = y != NULL;
            ld_tensor_drop(y);
            assert_int_equal(ld_tensor_count(), before);
            assert_true(ld_recording());
        }
    }
    ld_sampler_drop(d);
    ld_tensor *all[] = {x, eps, noise, t};
    for (int k = 0; k < 4; k++)
        ld_tensor_drop(all[k]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        LEAK_TEST(schedule),
        LEAK_TEST(noising),
        LEAK_TEST(times_and_noise_are_keyed),
        LEAK_TEST(time_embedding),
        LEAK_TEST(samplers_follow_the_method),
        LEAK_TEST(exact_eps_gives_the_data),
        LEAK_TEST(clamp_and_errors),
        LEAK_TEST(shortage_leaves_nothing),
    };
    return cmocka_run_group_tests_name("diffusion", tests, NULL, NULL);
}
