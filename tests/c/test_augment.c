/* Augmentation: what may change, how often, and that it depends on nothing but the key. */
#include "base/error.h"
#include "base/rng.h"
#include "data/augment.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

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
        LEAK_TEST(errors),
    };
    return cmocka_run_group_tests_name("augment", tests, NULL, NULL);
}
