/* 8-bit images in memory: decoding, encoding, cropping, resizing.
 *
 * An ld_image is height x width x channels, interleaved, rows top to bottom without padding, values 0 .. 255. */
#ifndef LD_IMAGE_H
#define LD_IMAGE_H

#include <stddef.h>
#include <stdint.h>

typedef struct ld_image {
    int width, height, channels; /* channels is 1 or 3 */
    uint8_t *data;               /* width * height * channels bytes, owned */
} ld_image;

/* Memory for one image, contents undefined. LD_EVALUE when a side is < 1, LD_EMEM. */
int ld_image_new(ld_image *im, int width, int height, int channels);
void ld_image_free(ld_image *im); /* also fine on a zeroed one; zeroes it */

/* Decode PNG, JPEG or WebP, told by content, never by the suffix, into `channels` (1 or 3; 0 keeps gray as 1, all else 3).
 * PNG: palette expanded, 16 bit reduced to 8, alpha dropped. JPEG: baseline and progressive, gray, RGB, YCbCr, CMYK and
 * YCCK (Adobe files hold inverted values; without the Adobe marker they do not); DCT ISLOW, fancy upsampling; warnings of
 * the decoder are tolerated, a file that ends early is an error. EXIF orientation is ignored.
 * `name` is only for messages. LD_EFORMAT names the file and what was wrong; LD_EVALUE for more than 2^28 pixels. */
int ld_image_decode(ld_image *im, const void *bytes, size_t n, int channels, const char *name);
int ld_image_read(ld_image *im, const char *path, int channels); /* the same from a file; LD_EIO */

/* "png", "jpeg", "webp", or NULL for anything else: by the first bytes. */
const char *ld_image_type(const void *bytes, size_t n);

/* PNG, 8 bit gray or RGB. `text` is NULL or a NULL-ended list key, value, key, value ... stored as tEXt. Written safely
 * (io/file.h). */
int ld_image_write_png(const ld_image *im, const char *path, const char *const *text);

/* Named ways from a picture to size x size:
 *   LD_FIT_CENTER        resize the short side to `size` (antialiased bicubic), then cut the centre
 *   LD_FIT_SHORT_CENTER  cut the centre square of the short side's length, then resize (antialiased bilinear): fast.ai's
 *   LD_FIT_TOPLEFT       cut the top left size x size; smaller pictures are first enlarged to a short side of `size`
 *   LD_FIT_STRETCH       resize both sides (antialiased bilinear), proportions lost */
typedef enum ld_fit { LD_FIT_CENTER, LD_FIT_SHORT_CENTER, LD_FIT_TOPLEFT, LD_FIT_STRETCH, LD_FIT_COUNT } ld_fit;
extern const char *const ld_fit_names[LD_FIT_COUNT]; /* "center", "short-center", "topleft", "stretch" */
int ld_image_fit(ld_image *out, const ld_image *in, int size, ld_fit fit);

typedef enum ld_filter { LD_FILTER_BOX, LD_FILTER_BILINEAR, LD_FILTER_BICUBIC, LD_FILTER_LANCZOS } ld_filter;

/* Separable, antialiased resize of the rectangle (x, y, w, h) of `in` (in pixels, fractions allowed) to width x height,
 * with the arithmetic of Pillow's `Image.resize(box=...)`: support scaled when shrinking, bicubic with a = -0.5,
 * weights fixed to 22 bits, rows first and then columns with 8 bits between. Equal to Pillow 11 byte for byte; newer
 * ones start with the columns where that is faster, and then round differently. */
int ld_image_resize(ld_image *out, const ld_image *in, double x, double y, double w, double h, int width, int height,
                    ld_filter filter);

#endif
