/* Folders of pictures, and batches of pixels out of them. */
#ifndef LD_IMAGE_SET_H
#define LD_IMAGE_SET_H

#include "io/file.h"
#include "io/image.h"
#include "tensor/tensor.h"

/* The pictures below a folder, in bytewise order of their relative paths: the same order on every machine. A file counts
 * as a picture by its suffix (png, jpg, jpeg, webp in any case), or, with any other or none, by its first bytes. When
 * pictures lie in more than one folder, the name of its own folder is a picture's class, and classes are numbered from 0
 * in bytewise order. */
typedef struct ld_image_set {
    int refs;
    char *root;
    ld_file_list files;
    int n_classes;      /* 0: pictures without classes */
    char **class_names; /* n_classes of them */
    int32_t *label;     /* one a picture, -1 without classes */
} ld_image_set;

/* LD_EIO (no such folder), LD_EFORMAT (no pictures in it), LD_EMEM. */
ld_image_set *ld_image_set_open(const char *path);
ld_image_set *ld_image_set_ref(ld_image_set *s);
void ld_image_set_drop(ld_image_set *s);
const char *ld_image_set_name(const ld_image_set *s, int64_t i); /* path relative to the folder */

/* Decode pictures index[0 .. n-1] (from 0), fitted to size x size (io/image.h), on ld_threads() threads: (n,3,size,size)
 * u8, owned by the caller. A picture that cannot be decoded leaves zeros and its reason, malloc'd, in why[i]; why[i] is
 * NULL for the others. NULL on LD_EINDEX, LD_EMEM. */
ld_tensor *ld_image_set_read(const ld_image_set *s, const int64_t *index, int n, int size, ld_fit fit, char **why);

/* One picture file at its own size: (3,height,width) u8, or (1,height,width) when channels is 1. */
ld_tensor *ld_image_load(const char *path, int channels);
/* x (1 or 3,height,width) or (height,width), u8, or a float in 0 .. 1 (clamped, rounded), to a PNG. `text` as
 * ld_image_write_png. LD_ESHAPE, LD_EDTYPE, LD_EIO. */
int ld_image_save(ld_tensor *x, const char *path, const char *const *text);

/* Synthetic faces first .. first + n - 1 of the stream `seed` (data/face.h): (n,3,size,size) u8. LD_EVALUE. */
ld_tensor *ld_faces(int64_t n, int size, uint64_t seed, uint64_t first);

#endif
