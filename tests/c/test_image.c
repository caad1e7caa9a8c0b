/* Pictures: decoding against pixels made by Pillow, hostile files, PNG writing. */
#include "base/rng.h"
#include "pictures.h"

#include <unistd.h>

/* ---- decoding ---- */

static ld_image gray_of(const ld_image *rgb) {
    ld_image gray;
    assert_int_equal(ld_image_new(&gray, rgb->width, rgb->height, 1), 0);
    for (int i = 0; i < rgb->width * rgb->height; i++) {
        const uint8_t *p = rgb->data + 3 * i;
        gray.data[i] = (uint8_t)((19595 * p[0] + 38470 * p[1] + 7471 * p[2] + 32768) / 65536);
    }
    return gray;
}

static ld_image rgb_of(const ld_image *gray) {
    ld_image rgb;
    assert_int_equal(ld_image_new(&rgb, gray->width, gray->height, 3), 0);
    for (int i = 0; i < gray->width * gray->height * 3; i++)
        rgb.data[i] = gray->data[i / 3];
    return rgb;
}

/* Exact where the format is. JPEG and lossy WebP have one level to spare: Pillow brings libraries of its own. */
static const struct good {
    const char *file, *type, *raw;
    int channels, tolerance;
} good[] = {
    {"rgb.png", "png", "rgb.raw", 3, 0},
    {"interlaced.png", "png", "rgb.raw", 3, 0},
    {"alpha.png", "png", "rgb.raw", 3, 0},
    {"key.png", "png", "rgb.raw", 3, 0},
    {"deep.png", "png", "rgb.raw", 3, 0},
    {"palette.png", "png", "palette.raw", 3, 0},
    {"palette4.png", "png", "palette4.raw", 3, 0},
    {"gray.png", "png", "gray.raw", 1, 0},
    {"gray-alpha.png", "png", "gray.raw", 1, 0},
    {"deep-gray.png", "png", "gray.raw", 1, 0},
    {"gray1.png", "png", "gray1.raw", 1, 0},
    {"gray2.png", "png", "gray2.raw", 1, 0},
    {"gray.jpg", "jpeg", "gray-jpg.raw", 1, 1},
    {"420.jpg", "jpeg", "420-jpg.raw", 3, 1},
    {"422.jpg", "jpeg", "422-jpg.raw", 3, 1},
    {"444.jpg", "jpeg", "444-jpg.raw", 3, 1},
    {"progressive.jpg", "jpeg", "progressive-jpg.raw", 3, 1},
    {"keep-rgb.jpg", "jpeg", "keep-rgb-jpg.raw", 3, 1},
    {"cmyk-adobe.jpg", "jpeg", "cmyk-adobe-jpg.raw", 3, 1},
    {"cmyk.jpg", "jpeg", "cmyk-jpg.raw", 3, 1},
    {"ycck.jpg", "jpeg", "ycck-jpg.raw", 3, 1},
    {"jpeg-inside.png", "jpeg", "420-jpg.raw", 3, 1},
    {"lossless.webp", "webp", "rgb.raw", 3, 0},
    {"lossless-alpha.webp", "webp", "rgb.raw", 3, 0},
    {"lossy.webp", "webp", "lossy-webp.raw", 3, 1},
};
enum { GOOD = sizeof good / sizeof *good };

static void test_decode(void **state) {
    (void)state;
    for (int i = 0; i < GOOD; i++) {
        ld_image want = raw(good[i].raw, WIDTH, HEIGHT, good[i].channels), im;
        ld_image other = want.channels == 1 ? rgb_of(&want) : gray_of(&want);
        const ld_image *as[4] = {&want, want.channels == 1 ? &want : &other, NULL, want.channels == 3 ? &want : &other};
        for (int channels = 0; channels <= 3; channels += channels ? 2 : 1) {
            if (ld_image_read(&im, fixture(good[i].file), &(ld_decode){.channels = channels}))
                fail_msg("%s", ld_error());
            assert_close(good[i].file, &im, as[channels], good[i].tolerance);
            ld_image_free(&im);
            assert_zeroed(good[i].file, &im);
        }
        ld_image_free(&want);
        ld_image_free(&other);
    }
}

static void test_type(void **state) {
    (void)state;
    for (int i = 0; i < GOOD; i++) {
        size_t n;
        uint8_t *bytes = load(good[i].file, &n);
        assert_string_equal(ld_image_type(bytes, n), good[i].type);
        free(bytes);
    }
    assert_null(ld_image_type("", 0));
    assert_null(ld_image_type("\xff\xd8", 2));
    assert_null(ld_image_type("\x89PNG\r\n\x1a", 7));
    assert_null(ld_image_type("RIFF\0\0\0\0WEB", 11));
    assert_null(ld_image_type("RIFF\0\0\0\0WAVE", 12));
    assert_null(ld_image_type("GIF89a\0\0\0\0\0\0", 12));
}

/* ---- files that must be refused ---- */

static void assert_refused(const char *name, const void *bytes, size_t n, int code, const char *part) {
    ld_image im = {7, 7, 3, NULL};
    int got = ld_image_decode(&im, bytes, n, NULL, name);
    if (got != code)
        fail_msg("%s: code %d, expected %d (%s)", name, got, code, got ? ld_error() : "decoded");
    assert_zeroed(name, &im);
    if (!strstr(ld_error(), name) || !strstr(ld_error(), part))
        fail_msg("the message '%s' says nothing of '%s' or '%s'", ld_error(), name, part);
}

static void test_refuse(void **state) {
    (void)state;
    static const struct {
        const char *file;
        int code;
        const char *part;
    } bad[] = {
        {"empty.jpg", LD_EFORMAT, "empty"},
        {"garbage.jpg", LD_EFORMAT, "needs PNG, JPEG or WebP"},
        {"garbage.png", LD_EFORMAT, "PNG"},
        {"truncated.jpg", LD_EFORMAT, "Premature end"},
        {"truncated.png", LD_EFORMAT, "ends early"},
        {"truncated.webp", LD_EFORMAT, "ends early"},
        {"animated.webp", LD_EFORMAT, "animation"},
        {"huge.png", LD_EVALUE, "2^28"},
        {"bomb.png", LD_EFORMAT, "cannot hold"},
        {"flat.png", LD_EFORMAT, "PNG"},
        {"square-wide-center-11.raw", LD_EFORMAT, "needs PNG, JPEG or WebP"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t n;
        uint8_t *bytes = load(bad[i].file, &n);
        assert_refused(bad[i].file, bytes, n, bad[i].code, bad[i].part);
        free(bytes);
    }
    ld_image im;
    assert_int_equal(ld_image_read(&im, fixture("none.png"), NULL), LD_EIO);
    assert_non_null(strstr(ld_error(), "none.png"));
    assert_zeroed("none.png", &im);
    assert_int_equal(ld_image_read(&im, fixture("."), NULL), LD_EIO);
    assert_int_equal(ld_image_read(&im, fixture("rgb.png"), &(ld_decode){.channels = 4}), LD_EVALUE);
    assert_zeroed("rgb.png", &im);
}

/* The frame header of a JPEG: ff c0, length 2, precision 1, height 2, width 2. */
static uint8_t *frame(uint8_t *bytes, size_t n) {
    for (size_t i = 0; i + 9 < n; i++)
        if (bytes[i] == 0xff && (bytes[i + 1] == 0xc0 || bytes[i + 1] == 0xc2))
            return bytes + i;
    fail_msg("no frame header");
    return NULL;
}

static void test_refuse_jpeg_sizes(void **state) {
    (void)state;
    size_t n;
    uint8_t *bytes = load("progressive.jpg", &n), *f = frame(bytes, n);
    memcpy(f + 5, "\xff\xdc\xff\xdc", 4);
    assert_refused("large.jpg", bytes, n, LD_EVALUE, "2^28");
    memcpy(f + 5, "\x10\x00\xff\xdc", 4);
    assert_refused("sparse.jpg", bytes, n, LD_EFORMAT, "cannot hold");
    memcpy(f + 5, "\0\0\0\x17", 4);
    assert_refused("flat.jpg", bytes, n, LD_EFORMAT, "JPEG");
    memcpy(f + 5, "\0\x17\0\0", 4);
    assert_refused("thin.jpg", bytes, n, LD_EFORMAT, "JPEG");
    free(bytes);
}

/* What sets no bound of its own: arithmetic coding, and WebP, where one colour all over takes a few bytes. */
static void test_refuse_sparse(void **state) {
    (void)state;
    size_t n;
    uint8_t *bytes = load("420.jpg", &n), *f = frame(bytes, n);
    f[1] = 0xc9;
    memcpy(f + 5, "\x3f\xff\x3f\xff", 4);
    assert_refused("arithmetic.jpg", bytes, n, LD_EFORMAT, "cannot hold");
    free(bytes);
    bytes = load("lossless.webp", &n);
    assert_memory_equal(bytes + 12, "VP8L", 4);
    memcpy(bytes + 21, "\xff\xff\xff", 3); /* 14 bits each of width and height, less one */
    bytes[24] |= 0x0f;
    assert_refused("lossless.webp", bytes, n, LD_EFORMAT, "cannot hold");
    free(bytes);
    bytes = load("lossy.webp", &n);
    assert_memory_equal(bytes + 12, "VP8 ", 4);
    memcpy(bytes + 26, "\xff\x3f\xff\x3f", 4);
    assert_refused("lossy.webp", bytes, n, LD_EFORMAT, "cannot hold");
    free(bytes);
}

/* A progressive picture whose last scan comes again and again. */
static void test_refuse_many_scans(void **state) {
    (void)state;
    size_t n, scan = 0;
    uint8_t *bytes = load("progressive.jpg", &n);
    for (size_t i = 0; i + 1 < n; i++)
        if (bytes[i] == 0xff && bytes[i + 1] == 0xda)
            scan = i;
    size_t length = n - 2 - scan, total = scan + 600 * length + 2;
    uint8_t *many = malloc(total);
    assert_non_null(many);
    memcpy(many, bytes, scan);
    for (size_t i = 0; i < 600; i++)
        memcpy(many + scan + i * length, bytes + scan, length);
    memcpy(many + total - 2, "\xff\xd9", 2);
    assert_refused("many.jpg", many, total, LD_EFORMAT, "scans");
    free(many);
    free(bytes);
}

/* Warnings alone do not refuse a file: bytes between scans, or after the end. */
static void test_tolerate(void **state) {
    (void)state;
    size_t n;
    uint8_t *bytes = load("420.jpg", &n), *f = frame(bytes, n);
    ld_image want = raw("420-jpg.raw", WIDTH, HEIGHT, 3), im;
    uint8_t *more = malloc(n + 10);
    assert_non_null(more);
    size_t head = (size_t)(f - bytes);
    memcpy(more, bytes, head);
    memset(more + head, 0x11, 5);
    memcpy(more + head + 5, f, n - head);
    memset(more + n + 5, 0x11, 5);
    assert_int_equal(ld_image_decode(&im, more, n + 10, NULL, "more.jpg"), 0);
    assert_close("more.jpg", &im, &want, 1);
    ld_image_free(&im);
    ld_image_free(&want);
    free(more);
    free(bytes);
}

/* Every proper beginning of every file is refused. Copies of the exact length let a sanitizer see reads past it. */
static void test_every_beginning(void **state) {
    (void)state;
    for (int i = 0; i < GOOD; i++) {
        size_t n;
        uint8_t *bytes = load(good[i].file, &n);
        for (size_t cut = 0; cut < n; cut++) {
            uint8_t *part = malloc(cut ? cut : 1);
            assert_non_null(part);
            memcpy(part, bytes, cut);
            assert_refused(good[i].file, part, cut, LD_EFORMAT, "");
            free(part);
        }
        free(bytes);
    }
}

/* ---- damaged files ---- */

static uint32_t crc(const uint8_t *p, size_t n) {
    uint32_t c = ~0u;
    while (n--) {
        c ^= *p++;
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
    }
    return ~c;
}

/* Makes the checksums of a damaged PNG right again, so that the damage gets past them. */
static void heal(uint8_t *p, size_t n) {
    for (size_t at = 8; at + 12 <= n;) {
        size_t length = (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 | p[at + 3];
        if (length > n - at - 12)
            return;
        uint32_t c = crc(p + at + 4, length + 4);
        for (int i = 0; i < 4; i++)
            p[at + 8 + length + (size_t)i] = (uint8_t)(c >> (24 - 8 * i));
        at += length + 12;
    }
}

/* Damages `bytes` by the numbers of trial i; the new length. */
static size_t damage(uint8_t *bytes, size_t n, uint64_t i) {
    int64_t k = 0;
    uint32_t flips = 1 + ld_rng_below(6, 1, LD_RNG_USER, i, k++);
    for (uint32_t j = 0; j < flips; j++) {
        uint32_t at = ld_rng_below((uint32_t)n, 1, LD_RNG_USER, i, k++);
        bytes[at] = (uint8_t)ld_rng_below(256, 1, LD_RNG_USER, i, k++);
    }
    if (ld_rng_below(4, 1, LD_RNG_USER, i, k++) == 0)
        n = ld_rng_below((uint32_t)n, 1, LD_RNG_USER, i, k++);
    if (i % 2 && n > 8 && !memcmp(bytes, "\x89PNG", 4))
        heal(bytes, n);
    return n;
}

static void test_damaged(void **state) {
    (void)state;
    int decoded = 0, refused = 0;
    for (uint64_t i = 0; i < 2000; i++) {
        size_t n;
        const char *name = good[i / 2 % GOOD].file;
        uint8_t *bytes = load(name, &n);
        n = damage(bytes, n, i);
        uint8_t *exact = malloc(n ? n : 1);
        assert_non_null(exact);
        memcpy(exact, bytes, n);
        ld_image im;
        int code = ld_image_decode(&im, exact, n, &(ld_decode){.channels = (int)(i % 2) * 3}, name);
        if (code) {
            assert_true(code == LD_EFORMAT || code == LD_EVALUE);
            assert_zeroed(name, &im);
            refused++;
        } else {
            assert_true(im.width > 0 && im.height > 0 && (im.channels == 1 || im.channels == 3) && im.data);
            decoded++;
        }
        ld_image_free(&im);
        free(exact);
        free(bytes);
    }
    /* Both must happen a lot, or the trials are not worth their time. */
    assert_true(decoded > 300 && refused > 300);
}

/* ---- writing ---- */

static int contains(const uint8_t *bytes, size_t n, const void *part, size_t length) {
    for (size_t i = 0; i + length <= n; i++)
        if (!memcmp(bytes + i, part, length))
            return 1;
    return 0;
}

static void test_write_png(void **state) {
    (void)state;
    char folder[] = "/tmp/ld_image_XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.png", folder);
    static const char *const text[] = {"seed", "17", "Software", "", NULL};
    for (int channels = 1; channels <= 3; channels += 2) {
        ld_image im = raw(channels == 1 ? "gray.raw" : "rgb.raw", WIDTH, HEIGHT, channels), back;
        assert_int_equal(ld_image_write_png(&im, path, channels == 1 ? NULL : text), 0);
        assert_int_equal(ld_image_read(&back, path, NULL), 0);
        assert_close("a.png", &back, &im, 0);
        ld_image_free(&back);
        ld_image_free(&im);
    }
    void *bytes;
    size_t n;
    assert_int_equal(ld_file_read(path, &bytes, &n, 0), 0);
    assert_true(contains(bytes, n,
                         "\0\0\0\x07tEXtseed\0"
                         "17",
                         15));
    assert_true(contains(bytes, n, "\0\0\0\x09tEXtSoftware\0", 17));
    free(bytes);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void test_write_png_errors(void **state) {
    (void)state;
    ld_image im = raw("rgb.raw", WIDTH, HEIGHT, 3), none = {0};
    char folder[] = "/tmp/ld_image_XXXXXX", path[64], long_key[81];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/none/a.png", folder);
    assert_int_equal(ld_image_write_png(&im, path, NULL), LD_EIO);
    snprintf(path, sizeof path, "%s/a.png", folder);
    assert_int_equal(ld_image_write_png(&none, path, NULL), LD_EVALUE);
    memset(long_key, 'k', 80);
    long_key[80] = 0;
    const char *const keys[] = {"", long_key, " a", "a ", "a  b", "a\nb", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        assert_int_equal(ld_image_write_png(&im, path, (const char *const[]){keys[i], "value", NULL}), LD_EVALUE);
        assert_non_null(strstr(ld_error(), path));
    }
    assert_int_equal(ld_image_write_png(&im, path, (const char *const[]){"key", NULL}), LD_EVALUE);
    assert_int_equal(rmdir(folder), 0); /* nothing was left in it */
    ld_image_free(&im);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),           cmocka_unit_test(test_type),
        cmocka_unit_test(test_refuse),           cmocka_unit_test(test_refuse_jpeg_sizes),
        cmocka_unit_test(test_refuse_sparse),    cmocka_unit_test(test_refuse_many_scans),
        cmocka_unit_test(test_tolerate),         cmocka_unit_test(test_every_beginning),
        cmocka_unit_test(test_damaged),          cmocka_unit_test(test_write_png),
        cmocka_unit_test(test_write_png_errors),
    };
    return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
