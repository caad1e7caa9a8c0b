/* Augmentation: what may change, how often, and that it depends on nothing but the key. */
#include "base/error.h"
#include "base/rng.h"
#include "data/augment.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "leak.h" /* wants cmocka.h before it */

enum { C = 4, S = 32, SIZE = C * S * S };

static float *cell(const ld_tensor *x, int64_t n, int64_t c, int64_t h, int64_t w) {
    return (float *)ld_tensor_data(x) + n * x->stride[0] + c * x->stride[1] + h * x->stride[2] + w * x->stride[3];
}

/* n samples, first .. first + n - 1 of an endless set; no value is 0. */
static ld_tensor *batch(int64_t n, uint64_t first) {
    ld_tensor *x = ld_tensor_new(ld_device_find("cpu"), LD_F32, 4, (int64_t[]){n, C, S, S}, "test");
    assert_non_null(x);
    float v[SIZE];
    for (int64_t i = 0; i < n; i++) {
        ld_rng_normal(v, SIZE, 3, LD_RNG_USER, first + (uint64_t)i, 0);
        for (int k = 0; k < SIZE; k++)
            *cell(x, i, k / (S * S), k / S % S, k % S) = v[k];
    }
    return x;
}

static double difference(const ld_tensor *a, int64_t i, const ld_tensor *b, int64_t j) {
    double worst = 0;
    for (int k = 0; k < SIZE; k++)
        worst = fmax(worst, fabs((double)*cell(a, i, k / (S * S), k / S % S, k % S) -
                                 *cell(b, j, k / (S * S), k / S % S, k % S)));
    return worst;
}

typedef int (*augment)(ld_tensor *x, uint64_t seed, uint64_t first);

static int crop(ld_tensor *x, uint64_t seed, uint64_t first) {
    return ld_augment_pad_crop(x, 2, seed, first);
}

static int erase(ld_tensor *x, uint64_t seed, uint64_t first) {
    return ld_augment_rand_erase(x, 0.2, 4, seed, first);
}

static int flip(ld_tensor *x, uint64_t seed, uint64_t first) {
    return ld_augment_flip(x, 0.5, seed, first);
}

/* The same sample is treated the same in any batch and memory layout, and differently under another seed or number. */
static void depends_on_the_key_alone(void **s) {
    (void)s;
    const augment all[] = {crop, erase, flip};
    for (int k = 0; k < 3; k++) {
        ld_tensor *eight = batch(8, 100), *rows = batch(8, 100), *other = batch(8, 100);
        int64_t shape[4] = {8, C, S, S}, stride[4] = {SIZE, S * S, S, 1};
        float *memory = malloc(8 * SIZE * sizeof *memory);
        ld_tensor *planes = ld_tensor_borrow(LD_F32, 4, shape, stride, memory, 8 * SIZE * sizeof *memory, free, memory);
        for (int i = 0; i < 8 * SIZE; i++)
            memory[i] = *cell(rows, i / SIZE, i / (S * S) % C, i / S % S, i % S);
        uint32_t version = eight->storage->version;
        assert_int_equal(all[k](eight, 1, 100), 0);
        assert_true(eight->storage->version > version);
        assert_int_equal(all[k](planes, 1, 100), 0);
        int changed = 0;
        for (int i = 0; i < 8; i++) {
            ld_tensor *one = batch(1, 100 + (uint64_t)i);
            assert_int_equal(all[k](one, 1, 100 + (uint64_t)i), 0);
            assert_true(difference(eight, i, one, 0) == 0);
            assert_true(difference(eight, i, planes, i) < 1e-6); /* sums in another order */
            ld_tensor_drop(one);
        }
        assert_int_equal(all[k](rows, 2, 100), 0);
        assert_int_equal(all[k](other, 1, 900), 0);
        for (int i = 0; i < 8; i++)
            changed += (difference(eight, i, rows, i) > 0) + (difference(eight, i, other, i) > 0);
        assert_true(changed > 2);
        ld_tensor *drop[] = {eight, rows, other, planes};
        for (int i = 0; i < 4; i++)
            ld_tensor_drop(drop[i]);
    }
}

/* Each result is the sample moved by -2 .. 2 with zeros behind it; all 25 places come up. */
static void pad_crop(void **s) {
    (void)s;
    enum { N = 400 };
    ld_tensor *x = batch(N, 0), *was = batch(N, 0);
    assert_int_equal(ld_augment_pad_crop(x, 2, 1, 0), 0);
    int seen[5][5] = {{0}};
    for (int i = 0; i < N; i++) {
        int matches = 0;
        for (int dy = -2; dy <= 2; dy++)
            for (int dx = -2; dx <= 2; dx++) {
                bool same = true;
                for (int k = 0; k < SIZE && same; k++) {
                    int c = k / (S * S), h = k / S % S, w = k % S, y = h + dy, z = w + dx;
                    bool in = y >= 0 && y < S && z >= 0 && z < S;
                    same = *cell(x, i, c, h, w) == (in ? *cell(was, i, c, y, z) : 0);
                }
                matches += same;
                seen[dy + 2][dx + 2] += same;
            }
        assert_int_equal(matches, 1);
    }
    for (int k = 0; k < 25; k++)
        assert_in_range(seen[k / 5][k % 5], 2, 36); /* 16 +- 3.9 each: five standard deviations up */
    ld_tensor_drop(x);
    ld_tensor_drop(was);
}

typedef struct figures {
    double mean, std, lo, hi;
} figures;

static figures measure(const ld_tensor *x, int i) {
    figures f = {.lo = INFINITY, .hi = -INFINITY};
    for (int pass = 0; pass < 2; pass++)
        for (int k = 0; k < SIZE; k++) {
            double v = *cell(x, i, k / (S * S), k / S % S, k % S);
            if (!pass)
                f.mean += v / SIZE;
            else
                f.std += (v - f.mean) * (v - f.mean) / (SIZE - 1);
            f.lo = fmin(f.lo, v);
            f.hi = fmax(f.hi, v);
        }
    f.std = sqrt(f.std);
    return f;
}

/* Changed places are the same in all channels, form up to four 6 x 6 squares, hold noise of the sample's figures. */
static void rand_erase(void **s) {
    (void)s;
    enum { N = 300 };
    ld_tensor *x = batch(N, 0), *was = batch(N, 0);
    for (int k = 0; k < SIZE * N; k++) /* other figures than 0 and 1 */
        *((float *)ld_tensor_data(x) + k) = *((float *)ld_tensor_data(was) + k) =
            5 + 3 * *((float *)ld_tensor_data(x) + k);
    assert_int_equal(ld_augment_rand_erase(x, 0.2, 4, 1, 0), 0);
    int none = 0, largest = 0, lowest = S, highest = 0, changed = 0;
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) {
        figures f = measure(was, i);
        int count = 0;
        for (int h = 0; h < S; h++)
            for (int w = 0; w < S; w++) {
                bool first = *cell(x, i, 0, h, w) != *cell(was, i, 0, h, w);
                for (int c = 0; c < C; c++) {
                    double v = *cell(x, i, c, h, w);
                    assert_true((v != *cell(was, i, c, h, w)) == first);
                    assert_true(v >= f.lo && v <= f.hi);
                    if (first) {
                        sum += (v - f.mean) / f.std;
                        squares += (v - f.mean) * (v - f.mean) / f.std / f.std;
                        changed++;
                    }
                }
                count += first;
                lowest = first && h < lowest ? h : lowest;
                highest = first && h > highest ? h : highest;
            }
        assert_true(count == 0 || (count >= 36 && count <= 144));
        none += count == 0;
        largest = count > largest ? count : largest;
    }
    assert_in_range(none, 60 - 35, 60 + 35); /* one in five; five standard deviations */
    assert_true(largest > 108);              /* four squares, little overlap */
    assert_int_equal(lowest, 0);
    assert_int_equal(highest, 30); /* 25 + 6 - 1 */
    assert_true(fabs(sum / changed) < 5 / sqrt(changed));
    assert_true(fabs(squares / changed - 1) < 5 * sqrt(2.0 / changed) + 0.005); /* the clamp takes a little off */
    ld_tensor_drop(x);
    ld_tensor_drop(was);
}

static void flips(void **s) {
    (void)s;
    enum { N = 100 };
    ld_tensor *x = batch(N, 0), *was = batch(N, 0);
    assert_int_equal(ld_augment_flip(x, 0.3, 1, 0), 0);
    int count = 0;
    for (int i = 0; i < N; i++) {
        bool turned = *cell(x, i, 0, 0, 0) != *cell(was, i, 0, 0, 0);
        for (int k = 0; k < SIZE; k++) {
            int c = k / (S * S), h = k / S % S, w = k % S;
            assert_true(*cell(x, i, c, h, w) == *cell(was, i, c, h, turned ? S - 1 - w : w));
        }
        count += turned;
    }
    assert_in_range(count, 30 - 23, 30 + 23); /* five standard deviations */
    assert_int_equal(ld_augment_flip(x, 0, 5, 0), 0);
    ld_tensor_drop(x);
    ld_tensor_drop(was);
}

/* ---- out of a data set ---------------------------------------------------------------------------------------------- */

/* One sample, channel by channel, as the draws of base/rng.h say. Products and sums of f64 are rounded one by one. */
static void plainly(float *v, int c, int h, int w, const ld_augment *a, uint64_t sample) {
    int n = c * h * w, dy = 0, dx = 0, eh = (int)(a->erase * h), ew = (int)(a->erase * w), cells = c * eh * ew;
    float *was = malloc((size_t)(n + 1) * sizeof *was), *noise = malloc((size_t)(cells + 1) * sizeof *noise), u[2];
    if (a->pad) {
        dy = (int)ld_rng_below(2 * (uint32_t)a->pad + 1, a->seed, LD_RNG_AUGMENT, sample, 0) - a->pad;
        dx = (int)ld_rng_below(2 * (uint32_t)a->pad + 1, a->seed, LD_RNG_AUGMENT, sample, 1) - a->pad;
    }
    memcpy(was, v, (size_t)n * sizeof *v);
    for (int k = 0; k < n; k++) {
        int y = k / w % h + dy, x = k % w + dx;
        v[k] = y >= 0 && y < h && x >= 0 && x < w ? was[k / (h * w) * h * w + y * w + x] : 0;
    }
    volatile double mean = 0, squares = 0, step;
    float lo = INFINITY, hi = -INFINITY;
    for (int k = 0; k < n; k++) {
        mean += v[k];
        lo = fminf(lo, v[k]);
        hi = fmaxf(hi, v[k]);
    }
    mean /= n;
    for (int k = 0; k < n; k++) {
        step = v[k] - mean;
        step *= step;
        squares += step;
    }
    uint32_t times = ld_rng_below((uint32_t)a->erases + 1, a->seed, LD_RNG_AUGMENT + (1 << 8), sample, 0);
    for (uint32_t t = 0; t < times && cells; t++) {
        ld_rng_uniform(u, 2, a->seed, LD_RNG_AUGMENT + (1 << 8), sample, 1 + 2 * t);
        ld_rng_normal(noise, cells, a->seed, LD_RNG_AUGMENT + (2 << 8), sample, (int64_t)t * cells);
        int top = (int)(u[0] * (1 - a->erase) * h), left = (int)(u[1] * (1 - a->erase) * w);
        for (int k = 0; k < cells; k++) {
            step = (n > 1 ? sqrt(squares / (n - 1)) : 0) * noise[k];
            step += mean;
            v[k / (eh * ew) * h * w + (top + k / ew % eh) * w + left + k % ew] = fminf(fmaxf((float)step, lo), hi);
        }
    }
    ld_rng_uniform(u, 1, a->seed, LD_RNG_AUGMENT + (3 << 8), sample, 0);
    memcpy(was, v, (size_t)n * sizeof *v);
    for (int k = 0; k < n && u[0] < a->flip; k++)
        v[k] = was[k / w * w + w - 1 - k % w];
    free(was);
    free(noise);
}

static ld_tensor *numbers(ld_dtype t, int64_t n, const double *v) {
    ld_tensor *x = ld_tensor_new(ld_device_find("cpu"), t, 1, &n, "test");
    for (int64_t i = 0; i < n; i++)
        ld_dtype_set(t, (char *)ld_tensor_data(x) + i * (int64_t)ld_dtype_size(t), v[i]);
    return x;
}

/* A set of 5 pictures in dtype t; `planes`: as files have them, channel by channel. */
static ld_tensor *set_of(ld_dtype t, bool planes, int64_t c, int64_t h, int64_t w) {
    int64_t shape[4] = {5, c, h, w}, stride[4] = {c * h * w, h * w, w, 1}, flat[2] = {5, c * h * w};
    ld_device *cpu = ld_device_find("cpu");
    ld_tensor *all = planes ? ld_tensor_new(cpu, t, 2, flat, "test") : ld_tensor_new(cpu, t, 4, shape, "test");
    ld_tensor *x = planes ? ld_tensor_view(all, 4, shape, stride, 0) : ld_tensor_ref(all);
    float v[5000];
    ld_rng_normal(v, 5 * c * h * w, 9, LD_RNG_USER, 0, 0);
    for (int64_t i = 0; i < 5 * c * h * w; i++) {
        int64_t at = i / (c * h * w) * x->stride[0] + i / (h * w) % c * x->stride[1] + i / w % h * x->stride[2] +
                     i % w * x->stride[3];
        ld_dtype_set(t, (char *)ld_tensor_data(x) + at * (int64_t)ld_dtype_size(t),
                     t == LD_U8 ? fabs(v[i]) * 60 : v[i] * 3 + 1);
    }
    ld_tensor_drop(all);
    return x;
}

static void gather_case(ld_tensor *x, const ld_augment *a, bool standard, bool listed) {
    static const double row[] = {4, 0, 0, 3, 2, 4}, sample[] = {7, 1e12, 3, 4, 5, 6}, mean[] = {0.5, -1, 2},
                        factor[] = {0.3, 1.7, 1};
    int64_t c = x->shape[1], h = x->shape[2], w = x->shape[3], m = listed ? 6 : 5;
    ld_tensor *rows = listed ? numbers(LD_I64, m, row) : NULL, *samples = listed ? numbers(LD_I64, m, sample) : NULL;
    ld_tensor *shift = standard ? numbers(LD_F32, c, mean) : NULL,
              *scale = standard ? numbers(LD_F32, c, factor) : NULL;
    ld_tensor *y = ld_augment_gather(x, rows, samples, shift, scale, a);
    assert_non_null(y);
    assert_true(ld_tensor_is_canonical(y) && y->dtype == LD_F32 && y->shape[0] == m);
    float v[1000];
    for (int64_t i = 0; i < m; i++) {
        int64_t from = listed ? (int64_t)row[i] : i;
        for (int64_t k = 0; k < c * h * w; k++) {
            int64_t at =
                from * x->stride[0] + k / (h * w) * x->stride[1] + k / w % h * x->stride[2] + k % w * x->stride[3];
            v[k] = (float)ld_dtype_get(x->dtype, (char *)ld_tensor_data(x) + at * (int64_t)ld_dtype_size(x->dtype));
            if (standard) {
                v[k] -= (float)mean[k / (h * w)];
                v[k] *= (float)factor[k / (h * w)];
            }
        }
        plainly(v, (int)c, (int)h, (int)w, a, listed ? (uint64_t)sample[i] : a->first + (uint64_t)i);
        for (int64_t k = 0; k < c * h * w; k++)
            assert_memory_equal(&v[k], cell(y, i, k / (h * w), k / w % h, k % w), sizeof *v);
    }
    ld_tensor *drop[] = {rows, samples, shift, scale, y};
    for (int k = 0; k < 5; k++)
        ld_tensor_drop(drop[k]);
}

/* To the byte what is written above, whatever the dtype and layout of the set, in whichever sizes. */
static void gathers(void **s) {
    (void)s;
    static const int64_t sizes[][3] = {{3, 7, 5}, {1, 1, 1}, {2, 1, 33}, {3, 16, 8}};
    static const ld_augment all[] = {{0},
                                     {.pad = 2, .seed = 1, .first = 9},
                                     {.pad = 40, .erase = 0.4, .erases = 3, .seed = 2, .first = 1u << 31},
                                     {.erase = 0.25, .erases = LD_AUGMENT_ERASES, .flip = 0.5, .seed = 1ull << 40},
                                     {.pad = 1, .erase = 0.7, .erases = 4, .flip = 0.5, .seed = 5, .first = 77}};
    static const ld_dtype types[] = {LD_F32, LD_F16, LD_BF16, LD_F64, LD_U8};
    for (int k = 0; k < 4; k++)
        for (int t = 0; t < 5; t++)
            for (int planes = 0; planes < 2; planes++) {
                ld_tensor *x = set_of(types[t], planes, sizes[k][0], sizes[k][1], sizes[k][2]);
                for (int i = 0; i < 5; i++)
                    for (int how = 0; how < 4; how++)
                        gather_case(x, &all[i], how & 1, how & 2);
                ld_tensor_drop(x);
            }
}

/* All at once is one after another. */
static void in_place_is_the_same(void **s) {
    (void)s;
    ld_tensor *x = batch(8, 100);
    ld_augment a = {.pad = 2, .erase = 0.2, .erases = 4, .flip = 0.5, .seed = 6, .first = 50};
    ld_tensor *y = ld_augment_gather(x, NULL, NULL, NULL, NULL, &a);
    assert_int_equal(ld_augment_pad_crop(x, 2, 6, 50) || ld_augment_rand_erase(x, 0.2, 4, 6, 50), 0);
    assert_int_equal(ld_augment_flip(x, 0.5, 6, 50), 0);
    for (int i = 0; i < 8; i++)
        assert_true(difference(x, i, y, i) == 0);
    ld_tensor_drop(x);
    ld_tensor_drop(y);
}

static void gather_errors(void **s) {
    (void)s;
    ld_augment none = {0}, bad[] = {{.pad = -1}, {.erase = 1}, {.erases = LD_AUGMENT_ERASES + 1}, {.flip = -0.1}};
    ld_tensor *x = set_of(LD_F16, true, 3, 4, 4), *i32 = numbers(LD_I32, 2, (double[]){0, 1});
    ld_tensor *far = numbers(LD_I64, 2, (double[]){0, 5}), *c = numbers(LD_F32, 3, (double[]){0, 0, 0});
    for (int k = 0; k < 4; k++) {
        assert_null(ld_augment_gather(x, NULL, NULL, NULL, NULL, &bad[k]));
        assert_int_equal(ld_error_code(), LD_EVALUE);
    }
    assert_null(ld_augment_gather(x, i32, NULL, NULL, NULL, &none));
    assert_int_equal(ld_error_code(), LD_ESHAPE);
    assert_null(ld_augment_gather(x, NULL, far, NULL, NULL, &none)); /* 2 samples, 5 rows */
    assert_int_equal(ld_error_code(), LD_ESHAPE);
    assert_null(ld_augment_gather(x, NULL, NULL, c, NULL, &none));
    assert_int_equal(ld_error_code(), LD_EVALUE);
    assert_null(ld_augment_gather(x, far, NULL, NULL, NULL, &none));
    assert_int_equal(ld_error_code(), LD_EINDEX);
    assert_string_equal(ld_error(), "gather_augment: index 5 at position 1; there are 5 rows, counted from 0");
    ld_tensor *drop[] = {x, i32, far, c};
    for (int k = 0; k < 4; k++)
        ld_tensor_drop(drop[k]);
}

static void errors(void **s) {
    (void)s;
    ld_tensor *x = batch(1, 0);
    assert_int_equal(ld_augment_pad_crop(x, -1, 0, 0), LD_EVALUE);
    assert_int_equal(ld_augment_rand_erase(x, 1, 4, 0, 0), LD_EVALUE);
    assert_int_equal(ld_augment_rand_erase(x, 0.2, -1, 0, 0), LD_EVALUE);
    assert_int_equal(ld_augment_flip(x, 1.5, 0, 0), LD_EVALUE);
    x->requires_grad = true;
    assert_int_equal(ld_augment_flip(x, 0.5, 0, 0), LD_ESTATE);
    x->requires_grad = false;
    x->dtype = LD_I32;
    assert_int_equal(ld_augment_flip(x, 0.5, 0, 0), LD_EDTYPE);
    x->dtype = LD_F32;
    x->ndim = 3;
    assert_int_equal(ld_augment_flip(x, 0.5, 0, 0), LD_ESHAPE);
    x->ndim = 4;
    ld_tensor_drop(x);
    ld_tensor *none = ld_tensor_new(ld_device_find("cpu"), LD_F32, 4, (int64_t[]){0, C, S, S}, "test");
    assert_int_equal(ld_augment_pad_crop(none, 2, 0, 0), 0);
    assert_int_equal(ld_augment_rand_erase(none, 0.2, 4, 0, 0), 0);
    ld_tensor_drop(none);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        LEAK_TEST(depends_on_the_key_alone),
        LEAK_TEST(pad_crop),
        LEAK_TEST(rand_erase),
        LEAK_TEST(flips),
        LEAK_TEST(gathers),
        LEAK_TEST(in_place_is_the_same),
        LEAK_TEST(gather_errors),
        LEAK_TEST(errors),
    };
    return cmocka_run_group_tests_name("augment", tests, NULL, NULL);
}
