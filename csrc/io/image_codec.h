/* Between image.c and the files of one format each; nobody else includes this.
 *
 * A decoder gets a zeroed `im` and fills it with the channels the file has: 1 for gray, 3 for all else. On failure it
 * returns the code of one ld_fail; the caller frees `im` then too. `name` is never NULL. */
#ifndef LD_IMAGE_CODEC_H
#define LD_IMAGE_CODEC_H

#include "io/image.h"

/* scale_for: see ld_decode. */
int ld_jpeg_decode(ld_image *im, const void *bytes, size_t n, int scale_for, const char *name);
int ld_png_decode(ld_image *im, const void *bytes, size_t n, const char *name);
int ld_webp_decode(ld_image *im, const void *bytes, size_t n, const char *name);

/* LD_EVALUE with the file's name above 2^28 pixels, the most that are read of a file that declares this size. */
int ld_image_pixels(uint32_t width, uint32_t height, const char *name);
/* LD_EFORMAT when that many pixels need more than the file's n bytes, at `most` pixels a byte: a few bytes that declare a
 * huge picture are refused before memory is taken for it. */
int ld_image_density(uint32_t width, uint32_t height, size_t n, uint64_t most, const char *format, const char *name);

/* Where the format itself sets no bound (one colour all over can take next to nothing), pictures of more than LD_PLAIN
 * pixels must still have a byte for every LD_SPARSE. */
enum { LD_PLAIN = 1 << 24, LD_SPARSE = 2048 };

/* Fails with LD_EVALUE, naming the operation, unless `im` holds a picture. */
int ld_image_check(const ld_image *im, const char *operation);

#endif
