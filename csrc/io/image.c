#include "io/image.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "io/exif.h"
#include "io/file.h"
#include "io/image_codec.h"

#define MAX_PIXELS ((uint64_t)1 << 28)

int ld_image_new(ld_image *im, int width, int height, int channels) {
    *im = (ld_image){0};
    if (width < 1 || height < 1)
        return ld_fail(LD_EVALUE, "image: %d x %d pixels; both sides need at least 1", width, height);
    if (channels != 1 && channels != 3)
        return ld_fail(LD_EVALUE, "image: %d channels; needs 1 or 3", channels);
    uint8_t *data = malloc((size_t)width * (size_t)height * (size_t)channels);
    if (!data)
        return ld_fail(LD_EMEM, "image: no memory for %d x %d x %d bytes", width, height, channels);
    *im = (ld_image){width, height, channels, data};
    return LD_OK;
}

void ld_image_free(ld_image *im) {
    free(im->data);
    *im = (ld_image){0};
}

int ld_image_pixels(uint32_t width, uint32_t height, const char *name) {
    if ((uint64_t)width * height > MAX_PIXELS)
        return ld_fail(LD_EVALUE, "image: %s has %u x %u pixels; at most 2^28 are read", name, width, height);
    return LD_OK;
}

int ld_image_density(uint32_t width, uint32_t height, size_t n, uint64_t most, const char *format, const char *name) {
    if ((uint64_t)width * height / most > n)
        return ld_fail(LD_EFORMAT, "image: %s: %s: %zu bytes cannot hold %u x %u pixels", name, format, n, width,
                       height);
    return LD_OK;
}

int ld_image_check(const ld_image *im, const char *operation) {
    if (!im->data || im->width < 1 || im->height < 1 || (im->channels != 1 && im->channels != 3))
        return ld_fail(LD_EVALUE, "%s: no picture: %d x %d pixels, %d channels", operation, im->width, im->height,
                       im->channels);
    return LD_OK;
}

const char *ld_image_type(const void *bytes, size_t n) {
    if (n >= 8 && !memcmp(bytes, "\x89PNG\r\n\x1a\n", 8))
        return "png";
    if (n >= 3 && !memcmp(bytes, "\xff\xd8\xff", 3))
        return "jpeg";
    if (n >= 12 && !memcmp(bytes, "RIFF", 4) && !memcmp((const char *)bytes + 8, "WEBP", 4))
        return "webp";
    return NULL;
}

/* Luma of ITU-R 601-2 in 16-bit fixed point, as Pillow's convert("L"). */
static int to_gray(ld_image *im) {
    size_t pixels = (size_t)im->width * (size_t)im->height;
    ld_image gray;
    int code = ld_image_new(&gray, im->width, im->height, 1);
    if (code)
        return code;
    for (size_t i = 0; i < pixels; i++) {
        const uint8_t *p = im->data + 3 * i;
        gray.data[i] = (uint8_t)((p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16);
    }
    free(im->data);
    *im = gray;
    return LD_OK;
}

static int to_rgb(ld_image *im) {
    size_t pixels = (size_t)im->width * (size_t)im->height;
    ld_image rgb;
    int code = ld_image_new(&rgb, im->width, im->height, 3);
    if (code)
        return code;
    for (size_t i = 0; i < pixels; i++)
        memset(rgb.data + 3 * i, im->data[i], 3);
    free(im->data);
    *im = rgb;
    return LD_OK;
}

static int fail_type(const void *bytes, size_t n, const char *name) {
    char start[3 * 8 + 1] = "";
    for (size_t i = 0; i < n && i < 8; i++) {
        unsigned byte = ((const uint8_t *)bytes)[i];
        start[3 * i] = ' ';
        start[3 * i + 1] = "0123456789abcdef"[byte >> 4];
        start[3 * i + 2] = "0123456789abcdef"[byte & 15];
    }
    if (n == 0)
        return ld_fail(LD_EFORMAT, "image: %s is empty; needs PNG, JPEG or WebP", name);
    return ld_fail(LD_EFORMAT, "image: %s starts with%s; needs PNG, JPEG or WebP", name, start);
}

int ld_image_decode(ld_image *im, const void *bytes, size_t n, const ld_decode *how, const char *name) {
    static const ld_decode plain = {0};
    *im = (ld_image){0};
    if (!how)
        how = &plain;
    int channels = how->channels;
    if (!name)
        name = "picture";
    if (channels != 0 && channels != 1 && channels != 3)
        return ld_fail(LD_EVALUE, "image: %s asked for with %d channels; needs 0, 1 or 3", name, channels);
    const char *type = ld_image_type(bytes, n);
    if (!type)
        return fail_type(bytes, n, name);
    int code;
    if (!strcmp(type, "jpeg"))
        code = ld_jpeg_decode(im, bytes, n, how->scale_for, name);
    else if (!strcmp(type, "png"))
        code = ld_png_decode(im, bytes, n, name);
    else
        code = ld_webp_decode(im, bytes, n, name);
    if (!code && channels == 1 && im->channels == 3)
        code = to_gray(im);
    if (!code && channels == 3 && im->channels == 1)
        code = to_rgb(im);
    if (!code && how->exif)
        code = ld_image_orient(im, ld_exif_orientation(bytes, n));
    if (code)
        ld_image_free(im);
    return code;
}

int ld_image_read(ld_image *im, const char *path, const ld_decode *how) {
    *im = (ld_image){0};
    void *bytes;
    size_t n;
    int code = ld_file_read(path, &bytes, &n, 0);
    if (code)
        return code;
    code = ld_image_decode(im, bytes, n, how, path);
    free(bytes);
    return code;
}
