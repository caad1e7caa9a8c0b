/* PNG by libpng.
 *
 * libpng reports an error by a callback that must not return: it jumps back to the setjmp in decode() or encode(). All
 * that has to survive the jump lies in a struct of their callers, so no local needs to be volatile. */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "base/error.h"
#include "io/file.h"
#include "io/image_codec.h"

/* Deflate shrinks at most 1032 : 1 and a pixel has at least one bit. */
#define MAX_PIXELS_A_BYTE (8 * 1032)
#define MAX_SIDE          1000000 /* libpng keeps a few rows in memory */

static void on_warning(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

/* ---- reading ---- */

struct reader {
    png_structp png;
    png_infop info;
    jmp_buf escape;
    int code;
    ld_image *im;
    const uint8_t *bytes;
    size_t n, at;
    const char *name;
};

static void on_read_error(png_structp png, png_const_charp text) {
    struct reader *r = png_get_error_ptr(png);
    r->code = ld_fail(strstr(text, "memory") ? LD_EMEM : LD_EFORMAT, "image: %s: PNG: %s", r->name, text);
    longjmp(r->escape, 1);
}

static void on_read(png_structp png, png_bytep to, size_t n) {
    struct reader *r = png_get_io_ptr(png);
    if (n > r->n - r->at)
        png_error(png, "the file ends early");
    memcpy(to, r->bytes + r->at, n);
    r->at += n;
}

/* Asks libpng for 8 bits of gray or RGB: the high byte of 16 bits, colours without the alpha that goes with them. */
static int set_up(struct reader *r) {
    png_uint_32 width, height;
    int depth, colour;
    png_get_IHDR(r->png, r->info, &width, &height, &depth, &colour, NULL, NULL, NULL);
    int gray = !(colour & PNG_COLOR_MASK_COLOR);
    int code = ld_image_pixels(width, height, r->name);
    if (!code && (width > MAX_SIDE || height > MAX_SIDE))
        code = ld_fail(LD_EVALUE, "image: %s has %u x %u pixels; a side may have %d", r->name, width, height, MAX_SIDE);
    if (!code)
        code = ld_image_density(width, height, r->n, MAX_PIXELS_A_BYTE, "PNG", r->name);
    if (!code)
        code = ld_image_new(r->im, (int)width, (int)height, gray ? 1 : 3);
    if (code)
        return code;
    if (colour == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(r->png);
    if (gray && depth < 8)
        png_set_expand_gray_1_2_4_to_8(r->png);
    if (depth == 16)
        png_set_strip_16(r->png);
    png_set_strip_alpha(r->png);
    return LD_OK;
}

static int decode(struct reader *r) {
    if (setjmp(r->escape))
        return r->code;
    png_set_read_fn(r->png, r, on_read);
    png_set_user_limits(r->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* set_up says more about what is too large */
    /* Text, colour profiles and the like are neither used nor worth their memory. */
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_read_info(r->png, r->info);
    int code = set_up(r);
    if (code)
        return code;
    int passes = png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    size_t stride = (size_t)r->im->width * (size_t)r->im->channels;
    if (png_get_rowbytes(r->png, r->info) != stride)
        return ld_fail(LD_EINTERNAL, "image: %s: PNG: rows of %zu bytes; needs %zu", r->name,
                       png_get_rowbytes(r->png, r->info), stride);
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < r->im->height; y++)
            png_read_row(r->png, r->im->data + (size_t)y * stride, NULL);
    png_read_end(r->png, NULL);
    return LD_OK;
}

int ld_png_decode(ld_image *im, const void *bytes, size_t n, const char *name) {
    struct reader r = {.im = im, .bytes = bytes, .n = n, .name = name};
    r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r, NULL, on_warning);
    if (!r.png)
        return ld_fail(LD_EMEM, "image: %s: PNG: libpng does not start", name);
    /* Only now: an error inside png_create_read_struct has libpng's own way out, r.escape is not yet set. */
    png_set_error_fn(r.png, &r, on_read_error, on_warning);
    r.info = png_create_info_struct(r.png);
    int code = r.info ? decode(&r) : ld_fail(LD_EMEM, "image: %s: PNG: out of memory", name);
    png_destroy_read_struct(&r.png, &r.info, NULL);
    return code;
}

/* ---- writing ---- */

struct writer {
    png_structp png;
    png_infop info;
    jmp_buf escape;
    int code;
    const ld_image *im;
    const char *const *text;
    const char *path;
    uint8_t *bytes;
    size_t n, room;
};

static void on_write_error(png_structp png, png_const_charp text) {
    struct writer *w = png_get_error_ptr(png);
    w->code = ld_fail(strstr(text, "memory") ? LD_EMEM : LD_EINTERNAL, "write_png: %s: %s", w->path, text);
    longjmp(w->escape, 1);
}

static void on_write(png_structp png, png_bytep from, size_t n) {
    struct writer *w = png_get_io_ptr(png);
    if (n > w->room - w->n) {
        size_t room = 2 * w->room + n + 4096;
        uint8_t *more = realloc(w->bytes, room);
        if (!more)
            png_error(png, "out of memory");
        w->bytes = more;
        w->room = room;
    }
    memcpy(w->bytes + w->n, from, n);
    w->n += n;
}

static void on_flush(png_structp png) {
    (void)png;
}

static int encode(struct writer *w) {
    if (setjmp(w->escape))
        return w->code;
    png_set_write_fn(w->png, w, on_write, on_flush);
    png_set_IHDR(w->png, w->info, (png_uint_32)w->im->width, (png_uint_32)w->im->height, 8,
                 w->im->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    for (const char *const *t = w->text; t && t[0]; t += 2) {
        /* libpng takes pointers to non-const text and copies it. */
        png_text entry = {.compression = PNG_TEXT_COMPRESSION_NONE,
                          .key = (char *)(uintptr_t)t[0],
                          .text = (char *)(uintptr_t)t[1],
                          .text_length = strlen(t[1])};
        png_set_text(w->png, w->info, &entry, 1);
    }
    png_write_info(w->png, w->info);
    size_t stride = (size_t)w->im->width * (size_t)w->im->channels;
    for (int y = 0; y < w->im->height; y++)
        png_write_row(w->png, w->im->data + (size_t)y * stride);
    png_write_end(w->png, NULL);
    return LD_OK;
}

/* A tEXt keyword has 1 to 79 bytes, is printable, and has no space at its ends or twice in a row. */
static int check_text(const char *const *text, const char *path) {
    for (const char *const *t = text; t && t[0]; t += 2) {
        const char *key = t[0];
        size_t n = strlen(key);
        if (!t[1])
            return ld_fail(LD_EVALUE, "write_png: %s: text '%s' has no value", path, key);
        int good = n >= 1 && n <= 79 && key[0] != ' ' && key[n - 1] != ' ' && !strstr(key, "  ");
        for (size_t i = 0; good && i < n; i++)
            good = key[i] >= ' ' && key[i] <= '~';
        if (!good)
            return ld_fail(LD_EVALUE, "write_png: %s: text key '%s'; needs 1 to 79 ASCII characters", path, key);
    }
    return LD_OK;
}

int ld_image_write_png(const ld_image *im, const char *path, const char *const *text) {
    int code = ld_image_check(im, "write_png");
    if (!code)
        code = check_text(text, path);
    if (code)
        return code;
    struct writer w = {.im = im, .text = text, .path = path};
    w.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &w, NULL, on_warning);
    if (!w.png)
        return ld_fail(LD_EMEM, "write_png: %s: libpng does not start", path);
    png_set_error_fn(w.png, &w, on_write_error, on_warning);
    w.info = png_create_info_struct(w.png);
    code = w.info ? encode(&w) : ld_fail(LD_EMEM, "write_png: %s: out of memory", path);
    png_destroy_write_struct(&w.png, &w.info);
    if (!code)
        code = ld_file_write(path, w.bytes, w.n);
    free(w.bytes);
    return code;
}
