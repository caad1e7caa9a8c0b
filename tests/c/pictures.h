/* What the tests of pictures share. The files are in $LD_TEST_DIR/fixtures/images, made by
 * tests/tools/make_image_fixtures.py. */
#ifndef PICTURES_H
#define PICTURES_H

#include "base/error.h"
#include "io/file.h"
#include "io/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WIDTH = 23, HEIGHT = 17 }; /* of most fixtures */

static inline const char *fixture(const char *name) {
    static char path[LD_PATH_MAX];
    const char *folder = getenv("LD_TEST_DIR");
    snprintf(path, sizeof path, "%s/fixtures/images/%s", folder ? folder : "tests", name);
    return path;
}

static inline uint8_t *load(const char *name, size_t *n) {
    void *bytes;
    if (ld_file_read(fixture(name), &bytes, n, 0))
        fail_msg("%s", ld_error());
    return bytes;
}

/* A raw picture of the fixtures, of known size. */
static inline ld_image raw(const char *name, int width, int height, int channels) {
    size_t n;
    uint8_t *bytes = load(name, &n);
    assert_int_equal(n, (size_t)width * (size_t)height * (size_t)channels);
    return (ld_image){width, height, channels, bytes};
}

static inline void assert_close(const char *what, const ld_image *im, const ld_image *want, int tolerance) {
    if (im->width != want->width || im->height != want->height || im->channels != want->channels)
        fail_msg("%s: %d x %d x %d, expected %d x %d x %d", what, im->width, im->height, im->channels, want->width,
                 want->height, want->channels);
    size_t n = (size_t)im->width * (size_t)im->height * (size_t)im->channels;
    for (size_t i = 0; i < n; i++)
        if (abs(im->data[i] - want->data[i]) > tolerance)
            fail_msg("%s: byte %zu is %d, expected %d", what, i, im->data[i], want->data[i]);
}

static inline void assert_zeroed(const char *what, const ld_image *im) {
    if (im->data || im->width || im->height || im->channels)
        fail_msg("%s: the image is not zeroed after a failure", what);
}

#endif
