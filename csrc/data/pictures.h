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

/* One picture file at its own size: (3,height,width) u8, or (1,height,width) when channels is 1. */
ld_tensor *ld_image_load(const char *path, int channels);
/* x (1 or 3,height,width) or (height,width), u8, or a float in 0 .. 1 (clamped, rounded), to a PNG. `text` as
 * ld_image_write_png. LD_ESHAPE, LD_EDTYPE, LD_EIO. */
int ld_image_save(const ld_tensor *x, const char *path, const char *const *text);

/* Synthetic faces first .. first + n - 1 of the stream `seed` (data/face.h): (n,3,size,size) u8. LD_EVALUE. */
ld_tensor *ld_faces(int64_t n, int size, uint64_t seed, uint64_t first);

#endif
