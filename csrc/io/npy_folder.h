/* Arrays in many files: a folder of .npy files of equal shape, one a picture.
 *
 * Order is bytewise by relative path, the same on every machine. The name of the folder in which a file lies (the last part
 * of its path) is its class, unless all have the same; classes are numbered from 0 in bytewise order. Positions count from
 * 0. */
#ifndef LD_NPY_FOLDER_H
#define LD_NPY_FOLDER_H

#include "io/npy.h"

typedef struct ld_npy_folder ld_npy_folder;

/* Every file below `path` whose name ends in ".npy"; the first one gives shape and dtype. LD_EIO, LD_EFORMAT (none), LD_EMEM. */
ld_npy_folder *ld_npy_folder_open(const char *path);
void ld_npy_folder_close(ld_npy_folder *f); /* NULL is fine */
int64_t ld_npy_folder_count(const ld_npy_folder *f);
/* Of one file; returns the rank. */
int ld_npy_folder_shape(const ld_npy_folder *f, int64_t shape[LD_MAX_DIMS], ld_dtype *t);
const char *ld_npy_folder_name(const ld_npy_folder *f, int64_t i);
int32_t ld_npy_folder_label(const ld_npy_folder *f, int64_t i); /* -1 without classes */
int32_t ld_npy_folder_classes(const ld_npy_folder *f);
const char *ld_npy_folder_class(const ld_npy_folder *f, int32_t c);
/* Files first .. first + n - 1 one after another: (n, shape...), dtype of the first file, owned by the caller. LD_EFORMAT when
 * one is of another shape or dtype; LD_EINDEX, LD_EIO, LD_EMEM. */
ld_tensor *ld_npy_folder_rows(const ld_npy_folder *f, int64_t first, int64_t n);

#endif
