/* Pooling and resizing, losses, dropout and random tensors against formulas written out here. */
#include "ops.h"

#include "base/rng.h"

/* ---- spatial --------------------------------------------------------------------------------------------------------- */

/* Mean over rows r0 .. r1 - 1 and columns c0 .. c1 - 1 of plane p (sample and channel as one). */
static double mean_of(const ld_tensor *x, int64_t p, int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
    double sum = 0, n = 0;
    for (int64_t r = r0; r < r1 && r < x->shape[2]; r++)
        for (int64_t c = c0; c < c1 && c < x->shape[3]; c++, n++)
            sum += get(x, (p * x->shape[2] + r) * x->shape[3] + c);
    return sum / n;
}

static void pooling(void **state) {
    (void)state;
    static const struct {
        int kh, kw, sh, sw;
        bool ceil;
        int64_t h, w;
    } cases[] = {{2, 2, 2, 2, false, 2, 3}, {2, 2, 2, 2, true, 3, 4},  {3, 2, 1, 3, false, 3, 2},
                 {1, 3, 2, 4, true, 3, 2},  {5, 7, 1, 1, false, 1, 1}, {8, 8, 3, 3, true, 1, 1},
                 {1, 1, 3, 3, true, 2, 3}};
    EACH_WAY {
        ld_tensor *x = INPUT(2, 3, 5, 7);
        for (size_t k = 0; k < LENGTH(cases); k++) {
            ld_tensor *y = keep(ld_avg_pool2d(x, cases[k].kh, cases[k].kw, cases[k].sh, cases[k].sw, cases[k].ceil));
            has_shape(y, SHAPE(2, 3, cases[k].h, cases[k].w));
            lies_canonical(y);
            for (int64_t i = 0, w = cases[k].w, h = cases[k].h; i < ld_tensor_numel(y); i++) {
                int64_t r = i / w % h * cases[k].sh, c = i % w * cases[k].sw;
                near("avg_pool2d", get(y, i), mean_of(x, i / (h * w), r, r + cases[k].kh, c, c + cases[k].kw), EPS);
            }
        }
        for (int64_t h = 1; h < 9; h += 3) {
            ld_tensor *y = keep(ld_adaptive_avg_pool2d(x, h, 3));
            has_shape(y, SHAPE(2, 3, h, 3));
            for (int64_t i = 0; i < ld_tensor_numel(y); i++) {
                int64_t r = i / 3 % h, c = i % 3;
                near("adaptive_avg_pool2d", get(y, i),
                     mean_of(x, i / (3 * h), r * 5 / h, ((r + 1) * 5 + h - 1) / h, c * 7 / 3, ((c + 1) * 7 + 2) / 3),
                     EPS);
            }
        }
    }
}

static void upsampling(void **state) {
    (void)state;
    EACH_WAY for (int scale = 1; scale < 4; scale++) {
        ld_tensor *x = INPUT(2, 3, 2, 4), *y = keep(ld_upsample_nearest(x, scale));
        has_shape(y, SHAPE(2, 3, 2 * scale, 4 * scale));
        lies_canonical(y);
        for (int i = 0; i < 48 * scale * scale; i++) {
            int w = i % (4 * scale), h = i / (4 * scale) % (2 * scale), p = i / (8 * scale * scale);
            near("upsample_nearest", get(y, i), get4(x, p / 3, p % 3, h / scale, w / scale), 0);
        }
    }
}

/* Weight of input j for output i: a triangle around the output's centre, as wide as an input pixel or, when shrinking
 * with antialias, as an output pixel; normalised. Without antialias positions are clamped to the border pixels. */
static double weight(int64_t i, int64_t j, int64_t in, int64_t out, bool antialias) {
    double scale = (double)in / (double)out, centre = ((double)i + 0.5) * scale;
    if (!antialias) {
        double at = fmin(fmax(centre - 0.5, 0), (double)in - 1);
        return fmax(0, 1 - fabs(at - (double)j));
    }
    double radius = fmax(scale, 1), total = 0;
    for (int64_t k = 0; k < in; k++)
        total += fmax(0, 1 - fabs((double)k + 0.5 - centre) / radius);
    return fmax(0, 1 - fabs((double)j + 0.5 - centre) / radius) / total;
}

static void resizing(void **state) {
    (void)state;
    static const int64_t sizes[][2] = {{5, 7}, {2, 3}, {9, 4}, {1, 1}, {11, 15}};
    EACH_WAY for (size_t k = 0; k < 2 * LENGTH(sizes); k++) {
        int64_t h = sizes[k / 2][0], w = sizes[k / 2][1];
        bool antialias = k % 2;
        ld_tensor *x = INPUT(1, 2, 5, 7), *y = keep(ld_resize_bilinear(x, h, w, antialias));
        has_shape(y, SHAPE(1, 2, h, w));
        lies_canonical(y);
        for (int64_t i = 0; i < 2 * h * w; i++) {
            double sum = 0;
            for (int j = 0; j < 35; j++)
                sum += weight(i / w % h, j / 7, 5, h, antialias) * weight(i % w, j % 7, 7, w, antialias) *
                       get4(x, 0, i / (h * w), j / 7, j % 7);
            near("resize_bilinear", get(y, i), sum, EPS);
        }
        drop_kept();
    }
}

/* ---- losses ---------------------------------------------------------------------------------------------------------- */

static void losses(void **state) {
    (void)state;
    EACH_WAY {
        ld_tensor *x = INPUT(2, 3, 2, 2), *y = INPUT(2, 3, 2, 2), *each[3], *mean[3], *sum[3];
        each[0] = keep(ld_mse(x, y, LD_MEAN_NONE)), mean[0] = keep(ld_mse(x, y, LD_MEAN_ALL)),
        sum[0] = keep(ld_mse(x, y, LD_MEAN_SUM));
        each[1] = keep(ld_l1(x, y, LD_MEAN_NONE)), mean[1] = keep(ld_l1(x, y, LD_MEAN_ALL)),
        sum[1] = keep(ld_l1(x, y, LD_MEAN_SUM));
        each[2] = keep(ld_huber(x, y, 0.7, LD_MEAN_NONE)), mean[2] = keep(ld_huber(x, y, 0.7, LD_MEAN_ALL)),
        sum[2] = keep(ld_huber(x, y, 0.7, LD_MEAN_SUM));
        for (int k = 0; k < 3; k++) {
            double total = 0;
            for (int i = 0; i < 24; i++) {
                double d = get(x, i) - get(y, i), v = k == 0           ? d * d
                                                      : k == 1         ? fabs(d)
                                                      : fabs(d) <= 0.7 ? d * d / 2
                                                                       : 0.7 * (fabs(d) - 0.35);
                near("loss", get(each[k], i), v, EPS);
                total += v;
            }
            has_shape(mean[k], 0, NULL);
            near("mean", get(mean[k], 0), total / 24, EPS);
            near("sum", get(sum[k], 0), total, EPS * 10);
        }
    }
}

static void cross_entropy_values(void **state) {
    (void)state;
    EACH_WAY for (int smooth = 0; smooth < 2; smooth++) {
        double s = 0.1 * smooth, total = 0;
        ld_tensor *x = INPUT(4, 5), *t = laid_out(tensor(LD_I64, SHAPE(4), VALUES(4, 0, 2, 2)), way % LAYOUTS);
        ld_tensor *each = keep(ld_cross_entropy(x, t, s, LD_MEAN_NONE));
        has_shape(each, SHAPE(4));
        for (int m = 0; m < 4; m++) {
            double sum = 0, all = 0;
            for (int k = 0; k < 5; k++)
                sum += exp(get(x, m * 5 + k));
            for (int k = 0; k < 5; k++)
                all -= get(x, m * 5 + k) - log(sum);
            double v = -(1 - s) * (get(x, m * 5 + (int)get(t, m)) - log(sum)) + s / 5 * all;
            near("cross_entropy", get(each, m), v, EPS);
            total += v;
        }
        near("mean", get(keep(ld_cross_entropy(x, t, s, LD_MEAN_ALL)), 0), total / 4, EPS);
        near("sum", get(keep(ld_cross_entropy(x, t, s, LD_MEAN_SUM)), 0), total, EPS);
    }
}

/* ---- random ---------------------------------------------------------------------------------------------------------- */

static void random_tensors_follow_the_generator(void **state) {
    (void)state;
    float u[120], n[120];
    ld_random = (ld_generator){.seed = 9, .draws = 5};
    ld_tensor *x = keep(ld_rand(cpu(), LD_F32, SHAPE(2, 3, 4, 5), -1, 3)),
              *y = keep(ld_randn(cpu(), LD_F64, SHAPE(120)));
    assert_int_equal(ld_random.draws, 7);
    ld_rng_uniform(u, 120, 9, LD_RNG_DEFAULT, 5, 0);
    ld_rng_normal(n, 120, 9, LD_RNG_DEFAULT, 6, 0);
    ld_tensor *z = laid_out(x, REVERSED);
    assert_int_equal(ld_uniform_(z, 0, 2), 0);
    assert_int_equal(ld_normal_(y, 10, 0.5), 0);
    assert_int_equal(ld_random.draws, 9);
    for (int i = 0; i < 120; i++)
        near("rand", get(x, i), -1 + 4 * (double)u[i], 1e-6);
    ld_rng_uniform(u, 120, 9, LD_RNG_DEFAULT, 7, 0);
    ld_rng_normal(n, 120, 9, LD_RNG_DEFAULT, 8, 0);
    for (int i = 0; i < 120; i++) {
        near("uniform_", get(z, i), 2 * (double)u[i], 1e-6);
        near("normal_", get(y, i), 10 + 0.5 * (double)n[i], 1e-5);
    }
}

static void noise_is_keyed_by_sample(void **state) {
    (void)state;
    ld_random = (ld_generator){.seed = 1, .draws = 2};
    ld_tensor *x = keep(ld_noise(cpu(), LD_F32, SHAPE(4, 3, 2, 2), 77, LD_RNG_NOISE, 10));
    ld_tensor *u = keep(ld_noise_uniform(cpu(), LD_F32, SHAPE(4, 3), 77, LD_RNG_TIME, 10));
    assert_int_equal(ld_random.draws, 2);
    for (int row = 0; row < 4; row++) { /* alone as in the batch, and as the generator says */
        float n[12], v[3];
        ld_rng_normal(n, 12, 77, LD_RNG_NOISE, (uint64_t)(10 + row), 0);
        ld_rng_uniform(v, 3, 77, LD_RNG_TIME, (uint64_t)(10 + row), 0);
        ld_tensor *one = keep(ld_noise(cpu(), LD_F32, SHAPE(1, 3, 2, 2), 77, LD_RNG_NOISE, (uint64_t)(10 + row)));
        for (int i = 0; i < 12; i++) {
            near("noise", get(x, row * 12 + i), (double)n[i], 1e-6);
            near("one row of noise", get(one, i), get(x, row * 12 + i), 0);
        }
        for (int i = 0; i < 3; i++)
            near("uniform noise", get(u, row * 3 + i), (double)v[i], 0);
    }
}

static void dropout_values(void **state) {
    (void)state;
    EACH_WAY {
        float u[60];
        ld_random = (ld_generator){.seed = 3, .draws = 8};
        ld_tensor *x = INPUT(3, 2, 2, 5), *y = keep(ld_dropout(x, 0.3, true));
        assert_int_equal(ld_random.draws, 9);
        assert_ptr_equal(keep(ld_dropout(x, 0.3, false)), x);
        assert_ptr_equal(keep(ld_dropout(x, 0, true)), x);
        assert_int_equal(ld_random.draws, 9);
        ld_rng_uniform(u, 60, 3, LD_RNG_DROPOUT, 8, 0);
        int zeros = 0;
        for (int i = 0; i < 60; i++) {
            near("dropout", get(y, i), (double)u[i] < 0.3 ? 0 : get(x, i) / 0.7, EPS);
            zeros += get(y, i) == 0;
        }
        assert_true(zeros > 5 && zeros < 35); /* 18 expected, deviation 3.5 */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(pooling),
        TEST(upsampling),
        TEST(resizing),
        TEST(losses),
        TEST(cross_entropy_values),
        TEST(random_tensors_follow_the_generator),
        TEST(noise_is_keyed_by_sample),
        TEST(dropout_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
