/* Pictures as tensors: out of sources, out of files and into them, and rendered. */
#ifndef LD_PICTURES_H
#define LD_PICTURES_H

#include "data/source.h"
#include "tensor/tensor.h"

/* Decode pictures index[0 .. n-1] (from 0) of a source, transformed to size x size (io/image.h), on ld_threads() threads:
 * (n,3,size,size) u8, owned by the caller. A picture that cannot be read or decoded leaves zeros and its reason, malloc'd,
 * in why[i]; why[i] is NULL for the others. NULL on LD_EINDEX, LD_EVALUE (size), LD_EMEM. */
ld_tensor *ld_pictures_read(ld_source *s, const int64_t *index, int n, int size, ld_transform transform, bool exif,
                            char **why);

/* What a stored picture is. */
typedef struct ld_picture_info {
    const char *form; /* "png", "jpeg", "webp", "cifar"; NULL for none of them */
    int64_t bytes;    /* of its file */
    int width, height, channels;
} ld_picture_info;

/* Reads and decodes picture i. The errors of ld_source_read and ld_source_decode; form and bytes are set as far as known. */
int ld_picture_inspect(ld_source *s, int64_t i, ld_picture_info *info);

/* One picture file at its own size: (3,height,width) u8, or (1,height,width) when channels is 1. */
ld_tensor *ld_image_load(const char *path, int channels);
/* x (1 or 3,height,width) or (height,width), u8, or a float in 0 .. 1 (clamped, rounded), as a new image that the caller
 * frees. LD_ESHAPE, LD_EDTYPE, LD_EMEM. */
int ld_image_from(ld_image *im, ld_tensor *x);
/* The same to a PNG. `text` as ld_image_write_png. LD_ESHAPE, LD_EDTYPE, LD_EIO. */
int ld_image_save(ld_tensor *x, const char *path, const char *const *text);

/* Synthetic faces first .. first + n - 1 of the stream `seed` (data/face.h): (n,3,size,size) u8. LD_EVALUE. */
ld_tensor *ld_faces(int64_t n, int size, uint64_t seed, uint64_t first);

#endif
