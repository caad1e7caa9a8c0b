/* 8-bit images in memory: decoding, encoding, cropping, resizing.
 *
 * An ld_image is height x width x channels, interleaved, rows top to bottom without padding, values 0 .. 255. */
#ifndef LD_IMAGE_H
#define LD_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ld_image {
    int width, height, channels; /* channels is 1 or 3 */
    uint8_t *data;               /* width * height * channels bytes, owned */
} ld_image;

/* Memory for one image, contents undefined. LD_EVALUE when a side is < 1, LD_EMEM. */
int ld_image_new(ld_image *im, int width, int height, int channels);
void ld_image_free(ld_image *im); /* also fine on a zeroed one; zeroes it */

/* How a file becomes pixels; zeros (or NULL for all of it) are the plain way. */
typedef struct ld_decode {
    int channels;  /* 1 or 3; 0 keeps gray as 1, all else 3 */
    bool exif;     /* turn and mirror as the EXIF orientation says; false: as the pixels are stored */
    int scale_for; /* > 0: a JPEG is decoded at 1/8, 1/4 or 1/2 where its short side stays >= scale_for; 0: never */
    uint32_t most; /* pixels of a file; one that declares more is refused before memory is taken; 0: 2^28 */
} ld_decode;

/* Decode PNG, JPEG or WebP, told by content, never by the suffix.
 * PNG: palette expanded, 16 bit reduced to 8, alpha dropped. JPEG: baseline and progressive, gray, RGB, YCbCr, CMYK and
 * YCCK (Adobe files hold inverted values; without the Adobe marker they do not); DCT ISLOW, fancy upsampling; warnings of
 * the decoder are tolerated, a file that ends early is an error. WebP: alpha dropped, animations refused.
 * EXIF that cannot be understood is passed over (io/exif.h). Beside the picture itself a decoder takes a few rows, or, for
 * progressive JPEG and for WebP, at most 8 bytes a pixel. Bytes too few for the size they declare are refused first.
 * `name` is only for messages. LD_EFORMAT names the file and what was wrong; LD_EVALUE for more than `most` pixels. */
int ld_image_decode(ld_image *im, const void *bytes, size_t n, const ld_decode *how, const char *name);
int ld_image_read(ld_image *im, const char *path, const ld_decode *how); /* the same from a file; LD_EIO */

/* "png", "jpeg", "webp", or NULL for anything else: by the first bytes. */
const char *ld_image_type(const void *bytes, size_t n);

/* PNG, 8 bit gray or RGB. `text` is NULL or a NULL-ended list key, value, key, value ... stored as tEXt. Written safely
 * (io/file.h). */
int ld_image_write_png(const ld_image *im, const char *path, const char *const *text);

/* Named ways from a picture of w x h pixels to size x size. All resizing is antialiased; shrink and enlarge alike.
 *   adm                    guided-diffusion's: while the short side is >= 2 size, halve both sides (box; w/2 and h/2, rounded
 *                          down); then bicubic so that the short side is `size`, the other rounded to the nearest (halves
 *                          to even); then cut the middle, from (w - size)/2 and (h - size)/2 on, rounded down
 *   short-center-bilinear  fast.ai's: cut the centre square of the short side's length, then bilinear
 *   topleft                cut the top left size x size; smaller pictures are first enlarged to a short side of `size`
 *   lanczos                StyleGAN's and EDM's center-crop: cut the centre square of the short side's length, from
 *                          (w - short)/2 and (h - short)/2 on, rounded down; then Lanczos of support 3
 *   center                 torchvision's: bicubic to a short side of `size`, the other rounded down; then cut the centre
 *   stretch                bilinear, both sides at once, proportions lost
 *   dct-fast               adm, of a JPEG that was decoded small: ld_decode.scale_for = size; other formats as adm
 * The centre starts at half of what is left over, halves rounded to the even number, unless said otherwise. */
typedef enum ld_transform {
    LD_ADM,
    LD_SHORT_CENTER_BILINEAR,
    LD_TOPLEFT,
    LD_LANCZOS,
    LD_CENTER,
    LD_STRETCH,
    LD_DCT_FAST,
    LD_TRANSFORM_COUNT
} ld_transform;
extern const char *const ld_transform_names[LD_TRANSFORM_COUNT];
int ld_transform_find(const char *name); /* -1 when there is none of that name */
/* What ld_decode.scale_for has to be for transform t: `size` for dct-fast, else 0. */
int ld_transform_scale_for(ld_transform t, int size);
/* LD_EVALUE for no picture, a size below 1 or another t; LD_EMEM. `out` is zeroed then. */
int ld_image_transform(ld_image *out, const ld_image *in, int size, ld_transform t);

#endif
