/* Pictures: resizing and the named transforms against Pillow. */
#include "io/image_resize.h"
#include "pictures.h"

/* ---- resizing ---- */

static const char *const filter_names[] = {"box", "bilinear", "bicubic", "lanczos"};

/* The rectangle (x, y, w, h) of `in`, fractions allowed, to width x height: one stage, nothing left out. */
static int resize(ld_image *out, const ld_image *in, double x, double y, double w, double h, int width, int height,
                  ld_filter filter) {
    ld_part all = ld_image_part(in, 0, 0, in->width, in->height);
    ld_stage stage = {{in->width, (float)x, (float)(x + w), width, 0, width},
                      {in->height, (float)y, (float)(y + h), height, 0, height},
                      filter};
    return ld_image_stages(out, &all, &stage, 1);
}

static void check_resize(const ld_image *in, const char *what, ld_filter filter, const double part[4], int width,
                         int height) {
    char name[64];
    snprintf(name, sizeof name, "resize-%s-%s.raw", what, filter_names[filter]);
    ld_image want = raw(name, width, height, in->channels), im;
    if (resize(&im, in, part[0], part[1], part[2], part[3], width, height, filter))
        fail_msg("%s", ld_error());
    assert_close(name, &im, &want, 0);
    ld_image_free(&im);
    ld_image_free(&want);
}

static void test_resize(void **state) {
    (void)state;
    ld_image rgb = raw("rgb.raw", WIDTH, HEIGHT, 3), gray = raw("gray.raw", WIDTH, HEIGHT, 1);
    const double all[4] = {0, 0, WIDTH, HEIGHT}, part[4] = {2.25, 1.5, 17.5, 12.75};
    for (ld_filter f = LD_FILTER_BOX; f <= LD_FILTER_LANCZOS; f++) {
        check_resize(&rgb, "up", f, all, 31, 25);
        check_resize(&rgb, "down", f, all, 9, 7);
        check_resize(&rgb, "part", f, part, 12, 10);
        check_resize(&gray, "gray", f, all, 15, 21);
    }
    ld_image_free(&rgb);
    ld_image_free(&gray);
}

/* The same size gives the same picture, a rectangle of whole pixels a cut. Rows are wider than the column pass takes at
 * a time. */
static void test_resize_identity(void **state) {
    (void)state;
    ld_image in, out;
    for (int channels = 1; channels <= 3; channels += 2) {
        assert_int_equal(ld_image_new(&in, 101, 13, channels), 0);
        for (int i = 0; i < 101 * 13 * channels; i++)
            in.data[i] = (uint8_t)(i * i % 251);
        for (ld_filter f = LD_FILTER_BOX; f <= LD_FILTER_LANCZOS; f++) {
            assert_int_equal(resize(&out, &in, 0, 0, 101, 13, 101, 13, f), 0);
            assert_close("identity", &out, &in, 0);
            ld_image_free(&out);
            assert_int_equal(resize(&out, &in, 3, 2, 90, 5, 90, 5, f), 0);
            for (int y = 0; y < 5; y++)
                assert_memory_equal(out.data + y * 90 * channels, in.data + ((y + 2) * 101 + 3) * channels,
                                    (size_t)(90 * channels));
            ld_image_free(&out);
        }
        ld_image_free(&in);
    }
}

/* A flat picture stays flat, whatever the sizes: the weights of each output sum to one. */
static void test_resize_flat(void **state) {
    (void)state;
    static const int sizes[] = {1, 2, 3, 7, 64, 65, 200};
    enum { N = sizeof sizes / sizeof *sizes };
    for (int i = 0; i < N * N; i++) {
        int from = sizes[i / N], to = sizes[i % N];
        ld_image in, out;
        assert_int_equal(ld_image_new(&in, from, to, 3), 0);
        memset(in.data, 201, (size_t)(from * to * 3));
        for (ld_filter f = LD_FILTER_BOX; f <= LD_FILTER_LANCZOS; f++) {
            assert_int_equal(resize(&out, &in, 0, 0, from, to, to, from, f), 0);
            for (int j = 0; j < from * to * 3; j++)
                assert_int_equal(out.data[j], 201);
            ld_image_free(&out);
        }
        /* A sliver on the last edge still has something to show. */
        assert_int_equal(resize(&out, &in, from - 1e-9, to - 1e-9, 1e-9, 1e-9, 2, 2, LD_FILTER_BOX), 0);
        assert_int_equal(out.data[0], 201);
        ld_image_free(&out);
        ld_image_free(&in);
    }
}

static void test_errors(void **state) {
    (void)state;
    ld_image in, out = {1, 1, 1, NULL}, none = {0};
    assert_int_equal(ld_image_new(&in, 8, 4, 3), 0);
    memset(in.data, 0, 8 * 4 * 3);
    assert_int_equal(ld_image_transform(&out, &in, 0, LD_ADM), LD_EVALUE);
    assert_int_equal(ld_image_transform(&out, &in, 4, LD_TRANSFORM_COUNT), LD_EVALUE);
    assert_int_equal(ld_image_transform(&out, &none, 4, LD_ADM), LD_EVALUE);
    assert_zeroed("transform", &out);
    ld_image_free(&in);
    assert_int_equal(ld_image_new(&in, 0, 4, 3), LD_EVALUE);
    assert_int_equal(ld_image_new(&in, 4, -1, 3), LD_EVALUE);
    assert_int_equal(ld_image_new(&in, 4, 4, 2), LD_EVALUE);
    assert_zeroed("new", &in);
    ld_image_free(&in);
}

static void test_transform(void **state) {
    (void)state;
    ld_image wide = raw("rgb.raw", WIDTH, HEIGHT, 3), tall, im;
    assert_int_equal(ld_image_new(&tall, HEIGHT, WIDTH, 3), 0);
    for (int i = 0; i < WIDTH * HEIGHT; i++)
        memcpy(tall.data + 3 * (i % WIDTH * HEIGHT + i / WIDTH), wide.data + 3 * i, 3);
    for (ld_transform t = LD_ADM; t < LD_DCT_FAST; t++)
        for (int i = 0; i < 6; i++) {
            static const int sizes[] = {4, 11, 20};
            int size = sizes[i / 2];
            char name[64];
            snprintf(name, sizeof name, "square-%s-%s-%d.raw", i & 1 ? "tall" : "wide", ld_transform_names[t], size);
            ld_image want = raw(name, size, size, 3);
            if (ld_image_transform(&im, i & 1 ? &tall : &wide, size, t))
                fail_msg("%s", ld_error());
            assert_close(name, &im, &want, 0);
            ld_image_free(&im);
            ld_image_free(&want);
        }
    ld_image_free(&wide);
    ld_image_free(&tall);
}

/* Photographs, resized by Pillow in one call. Of a tall picture that loses its proportions Pillow takes the columns first,
 * which rounds differently between the passes; all else is equal to the byte. */
static void test_photographs(void **state) {
    (void)state;
    for (int tall = 0; tall <= 1; tall++) {
        ld_image photo, want, im;
        assert_int_equal(ld_image_read(&photo, fixture(tall ? "photo-tall.png" : "photo-wide.png"), NULL), 0);
        for (ld_transform t = LD_ADM; t < LD_DCT_FAST; t++)
            for (int i = 0; i < 2; i++) {
                int size = tall ? (i ? 64 : 40) : (i ? 45 : 24);
                char name[64];
                snprintf(name, sizeof name, "photo-%s-%s-%d.png", tall ? "tall" : "wide", ld_transform_names[t], size);
                if (ld_image_read(&want, fixture(name), NULL) || ld_image_transform(&im, &photo, size, t))
                    fail_msg("%s", ld_error());
                assert_close(name, &im, &want, tall && t == LD_STRETCH ? 1 : 0);
                ld_image_free(&im);
                ld_image_free(&want);
            }
        ld_image_free(&photo);
    }
}

/* Decoded at 1/8, 1/4, 1/2 and in full. Pillow brings a JPEG library of its own, hence a level to spare. */
static void test_dct_fast(void **state) {
    (void)state;
    static const int sizes[] = {12, 24, 45, 64}, widths[] = {19, 38, 76, 151};
    for (int i = 0; i < 4; i++) {
        ld_decode how = {.scale_for = ld_transform_scale_for(LD_DCT_FAST, sizes[i])};
        ld_image small, want, im;
        char name[64];
        snprintf(name, sizeof name, "photo-dct-fast-%d.png", sizes[i]);
        if (ld_image_read(&small, fixture("photo.jpg"), &how) || ld_image_read(&want, fixture(name), NULL) ||
            ld_image_transform(&im, &small, sizes[i], LD_DCT_FAST))
            fail_msg("%s", ld_error());
        assert_int_equal(small.width, widths[i]);
        assert_close(name, &im, &want, 1);
        ld_image_free(&im);
        ld_image_free(&want);
        ld_image_free(&small);
    }
    /* No other transform takes a picture that was decoded small, and no other format is. */
    for (ld_transform t = LD_ADM; t < LD_DCT_FAST; t++)
        assert_int_equal(ld_transform_scale_for(t, 64), 0);
    ld_image png;
    assert_int_equal(ld_image_read(&png, fixture("photo-wide.png"), &(ld_decode){.scale_for = 12}), 0);
    assert_int_equal(png.width, 151);
    ld_image_free(&png);
}

static void test_transform_names(void **state) {
    (void)state;
    for (int t = 0; t < LD_TRANSFORM_COUNT; t++)
        assert_int_equal(ld_transform_find(ld_transform_names[t]), t);
    assert_int_equal(ld_transform_find("short-center"), -1);
    assert_int_equal(ld_transform_find(""), -1);
}

/* Any size of picture and square, against the sums written out: rows of every remainder by the number that are summed
 * together, gray and RGB. */
static uint8_t summed(const uint8_t *p, size_t step, const double *w, int n) {
    double sum = 0.5;
    for (int i = 0; i < n; i++)
        sum += w[i] * p[(size_t)i * step];
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void test_halving_written_out(void **state) {
    (void)state;
    static const double w[2] = {0.5, 0.5};
    for (int rows = 1; rows <= 70; rows += 3)
        for (int channels = 1; channels <= 3; channels += 2) {
            ld_image in, out;
            int width = 2 * (71 - rows);
            size_t c = (size_t)channels, stride = (size_t)width * c;
            assert_int_equal(ld_image_new(&in, width, 2 * rows, channels), 0);
            for (size_t i = 0; i < stride * 2 * (size_t)rows; i++)
                in.data[i] = (uint8_t)(i * i * 7 % 253);
            assert_int_equal(resize(&out, &in, 0, 0, width, 2 * rows, width / 2, rows, LD_FILTER_BOX), 0);
            for (size_t i = 0; i < stride / 2 * (size_t)rows; i++) {
                size_t y = i / (stride / 2), x = i % (stride / 2) / c, k = i % c;
                const uint8_t *p = in.data + 2 * y * stride + 2 * x * c + k;
                uint8_t two[2] = {summed(p, c, w, 2), summed(p + stride, c, w, 2)};
                assert_int_equal(out.data[i], summed(two, 1, w, 2));
            }
            ld_image_free(&out);
            ld_image_free(&in);
        }
}

/* Only the square that is asked for is computed: the whole resized picture would have 2^35 pixels. */
static void test_transform_thin(void **state) {
    (void)state;
    ld_image in, out;
    assert_int_equal(ld_image_new(&in, 1 << 21, 1, 1), 0);
    for (int i = 0; i < 1 << 21; i++)
        in.data[i] = (uint8_t)(i < 1 << 20 ? 10 : 200);
    assert_int_equal(ld_image_transform(&out, &in, 128, LD_ADM), 0);
    assert_int_equal(out.data[0], 10);
    assert_int_equal(out.data[127], 200);
    ld_image_free(&out);
    ld_image_free(&in);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resize),          cmocka_unit_test(test_resize_identity),
        cmocka_unit_test(test_resize_flat),     cmocka_unit_test(test_errors),
        cmocka_unit_test(test_transform),       cmocka_unit_test(test_transform_thin),
        cmocka_unit_test(test_photographs),     cmocka_unit_test(test_dct_fast),
        cmocka_unit_test(test_transform_names), cmocka_unit_test(test_halving_written_out),
    };
    return cmocka_run_group_tests_name("transform", tests, NULL, NULL);
}
