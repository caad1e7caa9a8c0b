/* Orientation: all eight against Pillow, in each format; damaged notes of it are passed over. */
#include "io/exif.h"
#include "pictures.h"

static void assert_turned(const char *file, const char *raw_file, bool exif, bool upright) {
    ld_image im, want = raw(raw_file, upright ? WIDTH : HEIGHT, upright ? HEIGHT : WIDTH, 3);
    if (ld_image_read(&im, fixture(file), &(ld_decode){.channels = 3, .exif = exif}))
        fail_msg("%s", ld_error());
    assert_close(file, &im, &want, strstr(file, "jpg") ? 1 : 0); /* Pillow brings a JPEG library of its own */
    ld_image_free(&im);
    ld_image_free(&want);
}

static void test_orientations(void **state) {
    (void)state;
    for (int i = 1; i <= 8; i++) {
        char file[32], raw_file[32];
        size_t n;
        snprintf(file, sizeof file, "exif-%d.jpg", i);
        snprintf(raw_file, sizeof raw_file, "exif-%d-jpg.raw", i);
        uint8_t *bytes = load(file, &n);
        assert_int_equal(ld_exif_orientation(bytes, n), i);
        free(bytes);
        assert_turned(file, raw_file, true, i < 5);
        assert_turned(file, "exif-1-jpg.raw", false, true); /* only when asked for */
    }
    assert_turned("exif-6.png", "exif-6-png.raw", true, false);
    assert_turned("exif-6.png", "rgb.raw", false, true);
    assert_turned("exif-6.webp", "exif-6-webp.raw", true, false);
    assert_turned("exif-6.webp", "rgb.raw", false, true);
    assert_turned("rgb.png", "rgb.raw", true, true);
    assert_turned("lossless.webp", "rgb.raw", true, true);
}

static void test_orient_gray(void **state) {
    (void)state;
    ld_image im;
    assert_int_equal(ld_image_new(&im, 3, 2, 1), 0);
    memcpy(im.data, "abcdef", 6);
    assert_int_equal(ld_image_orient(&im, 6), 0); /* the first row belongs at the right */
    assert_int_equal(im.width, 2);
    assert_memory_equal(im.data, "daebfc", 6);
    assert_int_equal(ld_image_orient(&im, 8), 0);
    assert_memory_equal(im.data, "abcdef", 6);
    assert_int_equal(ld_image_orient(&im, 0), LD_EVALUE);
    assert_int_equal(ld_image_orient(&im, 9), LD_EVALUE);
    ld_image_free(&im);
}

/* Every beginning and every change of a byte of the first 80: the answer is a number from 1 to 8, and copies of the exact
 * length let a sanitizer see reads past it. */
static void test_damaged_notes(void **state) {
    (void)state;
    static const char *const files[] = {"exif-3.jpg", "exif-6.jpg", "exif-6.png", "exif-6.webp"};
    int kept = 0, lost = 0;
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        size_t n;
        uint8_t *bytes = load(files[f], &n);
        int right = ld_exif_orientation(bytes, n);
        for (size_t cut = 0; cut <= n; cut++) {
            uint8_t *part = malloc(cut ? cut : 1);
            assert_non_null(part);
            memcpy(part, bytes, cut);
            int got = ld_exif_orientation(part, cut);
            assert_true(got == 1 || got == right);
            free(part);
        }
        /* In WebP the note is at the end of the file. */
        size_t from = strstr(files[f], "webp") ? n - 80 : 0;
        for (size_t at = from; at < from + 80; at++)
            for (int bit = 0; bit < 8; bit++) {
                bytes[at] ^= (uint8_t)(1 << bit);
                int got = ld_exif_orientation(bytes, n);
                assert_true(got >= 1 && got <= 8);
                got == right ? kept++ : lost++;
                bytes[at] ^= (uint8_t)(1 << bit);
            }
        free(bytes);
    }
    assert_true(kept > 300 && lost > 300);
}

/* A JPEG of nothing but a note: the entry's 12 bytes are given. */
static int orientation_of(const char *entry) {
    uint8_t bytes[64] = "\xff\xd8\xff\xe1\x00\x1e"
                        "Exif\0\0II*\0\x08\0\0\0\x01\0";
    memcpy(bytes + 22, entry, 12);
    memcpy(bytes + 34, "\xff\xda", 2);
    return ld_exif_orientation(bytes, 36);
}

static void test_entries(void **state) {
    (void)state;
    assert_int_equal(orientation_of("\x12\x01\x03\0\x01\0\0\0\x07\0\0\0"), 7);
    assert_int_equal(orientation_of("\x12\x01\x04\0\x01\0\0\0\x07\0\0\0"), 7);   /* 4 bytes wide */
    assert_int_equal(orientation_of("\x12\x01\x01\0\x01\0\0\0\x07\0\0\0"), 7);   /* 1 byte */
    assert_int_equal(orientation_of("\x12\x01\x03\0\x01\0\0\0\x09\0\0\0"), 1);   /* out of range */
    assert_int_equal(orientation_of("\x12\x01\x03\0\x01\0\0\0\0\0\0\0"), 1);     /* likewise */
    assert_int_equal(orientation_of("\x12\x01\x04\0\x01\0\0\0\x07\0\0\x80"), 1); /* likewise */
    assert_int_equal(orientation_of("\x12\x01\x03\0\x02\0\0\0\x07\0\0\0"), 1);   /* two values */
    assert_int_equal(orientation_of("\x12\x01\x05\0\x01\0\0\0\x07\0\0\0"), 1);   /* a fraction */
    assert_int_equal(orientation_of("\x12\x01\xff\xff\x01\0\0\0\x07\0\0\0"), 1); /* no type */
    assert_int_equal(orientation_of("\x13\x01\x03\0\x01\0\0\0\x07\0\0\0"), 1);   /* another tag */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_orientations),
        cmocka_unit_test(test_orient_gray),
        cmocka_unit_test(test_damaged_notes),
        cmocka_unit_test(test_entries),
    };
    return cmocka_run_group_tests_name("exif", tests, NULL, NULL);
}
