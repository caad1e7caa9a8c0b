#include "io/exif.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* ---- numbers in either order of bytes ---- */

struct span {
    const uint8_t *data;
    size_t n;
};

static uint32_t number(const uint8_t *p, int bytes, bool little) {
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++)
        v = v << 8 | p[little ? bytes - 1 - i : i];
    return v;
}

/* ---- TIFF, the form in which EXIF is written: a header, then a table of 12-byte entries ---- */

/* An entry: tag 2 bytes, type 2, count 4, and the value in up to 4. */
static int entry_value(const uint8_t *p, bool little) {
    static const int bytes_of[] = {[1] = 1, [3] = 2, [4] = 4};
    uint32_t type = number(p + 2, 2, little);
    if (type > 4 || !bytes_of[type] || number(p + 4, 4, little) != 1)
        return 1;
    uint32_t value = number(p + 8, bytes_of[type], little);
    return value >= 1 && value <= 8 ? (int)value : 1;
}

static int tiff_orientation(struct span s) {
    if (s.n >= 6 && !memcmp(s.data, "Exif\0\0", 6)) { /* belongs to JPEG, but some writers put it everywhere */
        s.data += 6;
        s.n -= 6;
    }
    if (s.n < 8 || (memcmp(s.data, "II*\0", 4) && memcmp(s.data, "MM\0*", 4)))
        return 1;
    bool little = s.data[0] == 'I';
    size_t at = number(s.data + 4, 4, little);
    if (at > s.n - 2)
        return 1;
    size_t count = number(s.data + at, 2, little);
    at += 2;
    for (; count > 0 && s.n - at >= 12; count--, at += 12)
        if (number(s.data + at, 2, little) == 0x0112)
            return entry_value(s.data + at, little);
    return 1;
}

/* ---- where it lies in each format; an empty span where it does not ---- */

/* Segments: ff, marker, length of 2 bytes that counts itself. They end where the pixels begin. */
static struct span in_jpeg(const uint8_t *p, size_t n) {
    size_t at = 2;
    while (n - at >= 4 && p[at] == 0xff) {
        uint8_t marker = p[at + 1];
        if (marker == 0xff) { /* filling */
            at++;
            continue;
        }
        size_t length = number(p + at + 2, 2, false);
        if (marker == 0xda || marker == 0xd9 || length < 2 || length > n - at - 2)
            break;
        if (marker == 0xe1 && length >= 8 && !memcmp(p + at + 4, "Exif\0\0", 6))
            return (struct span){p + at + 4, length - 2};
        at += 2 + length;
    }
    return (struct span){0};
}

/* Chunks: length of 4 bytes, name, data, checksum. */
static struct span in_png(const uint8_t *p, size_t n) {
    size_t at = 8;
    while (n - at >= 12) {
        size_t length = number(p + at, 4, false);
        if (length > n - at - 12)
            break;
        if (!memcmp(p + at + 4, "eXIf", 4))
            return (struct span){p + at + 8, length};
        at += 12 + length;
    }
    return (struct span){0};
}

/* Chunks: name, length of 4 bytes, data, filled up to an even number. */
static struct span in_webp(const uint8_t *p, size_t n) {
    size_t at = 12;
    while (n - at >= 8) {
        size_t length = number(p + at + 4, 4, true);
        if (length > n - at - 8)
            break;
        if (!memcmp(p + at, "EXIF", 4))
            return (struct span){p + at + 8, length};
        if (length == n - at - 8) /* the last one; its filling may be missing */
            break;
        at += 8 + length + (length & 1);
    }
    return (struct span){0};
}

int ld_exif_orientation(const void *bytes, size_t n) {
    const char *type = ld_image_type(bytes, n);
    struct span found = {0};
    if (type && !strcmp(type, "jpeg"))
        found = in_jpeg(bytes, n);
    else if (type && !strcmp(type, "png"))
        found = in_png(bytes, n);
    else if (type)
        found = in_webp(bytes, n);
    return tiff_orientation(found);
}

/* ---- turning ---- */

/* Where pixel (0, 0) of the upright picture lies among the stored ones, and in which direction its rows run. */
static const struct turn {
    bool right, bottom; /* the corner */
    bool swapped;       /* its rows are stored columns */
} turns[] = {
    [1] = {false, false, false}, [2] = {true, false, false}, [3] = {true, true, false}, [4] = {false, true, false},
    [5] = {false, false, true},  [6] = {false, true, true},  [7] = {true, true, true},  [8] = {true, false, true},
};

int ld_image_orient(ld_image *im, int how) {
    if (how < 1 || how > 8)
        return ld_fail(LD_EVALUE, "image: orientation %d; 1 to 8 are known", how);
    if (how == 1)
        return LD_OK;
    const struct turn *t = &turns[how];
    ld_image out;
    int code =
        ld_image_new(&out, t->swapped ? im->height : im->width, t->swapped ? im->width : im->height, im->channels);
    if (code)
        return code;
    ptrdiff_t pixel = im->channels, row = pixel * im->width;
    ptrdiff_t x_step = t->right ? -pixel : pixel, y_step = t->bottom ? -row : row;
    ptrdiff_t across = t->swapped ? y_step : x_step, down = t->swapped ? x_step : y_step;
    const uint8_t *corner = im->data + (t->right ? row - pixel : 0) + (t->bottom ? row * (im->height - 1) : 0);
    uint8_t *to = out.data;
    for (int y = 0; y < out.height; y++)
        for (int x = 0; x < out.width; x++, to += pixel)
            memcpy(to, corner + x * across + y * down, (size_t)pixel);
    ld_image_free(im);
    *im = out;
    return LD_OK;
}
