/* HDF5 files of tensors, attributes and strings.
 *
 * Paths inside a file are separated by '/', groups are made as needed. Tensors lie in logical row-major order. f16 is
 * IEEE half (h5py's float16); bf16 is stored as uint16 with the attribute dtype = "bfloat16". Attributes are numbers (f64)
 * or strings, on any object; "/" or "" is the file itself. All functions return 0 or an error code unless said. */
#ifndef LD_H5_H
#define LD_H5_H

#include "tensor/tensor.h"

typedef struct ld_h5 ld_h5;

/* A new file under a temporary name; ld_h5_commit makes it `path` safely, ld_h5_close without commit throws it away. */
ld_h5 *ld_h5_create(const char *path);
/* An existing file, to read, or to read and write in place (`writable`: for stores that grow row by row; every
 * ld_h5_flush leaves a readable file). LD_EIO, LD_EFORMAT (no HDF5 file, or truncated). */
ld_h5 *ld_h5_open(const char *path, bool writable);
/* A new file that carries the sum of its own bytes (io/h5_sum.c): committing writes the sum, reads the file again and compares,
 * before the file gets its name. */
ld_h5 *ld_h5_create_summed(const char *path);
/* Are the bytes of a file those that were summed? The library is not asked, so that it meets no damage. *summed: the file
 * carries a sum; one without is not looked at further. LD_EIO, LD_EFORMAT (damaged, no HDF5 file). */
int ld_h5_check(const char *path, bool *summed);
const char *ld_h5_library(void); /* name and version of the HDF5 library, which is loaded for it; NULL: LD_EIO */
int ld_h5_flush(ld_h5 *f);       /* to the disk */
int ld_h5_commit(ld_h5 *f);      /* and close; f is freed also on failure */
void ld_h5_close(ld_h5 *f);

int ld_h5_write(ld_h5 *f, const char *path, ld_tensor *x);
/* A copy, canonical layout, owned by the caller. LD_EFORMAT when absent or of another kind. */
ld_tensor *ld_h5_read(ld_h5 *f, const char *path);

/* Data sets written by rows: make one of the given full shape (zeros; contiguous, in its place in the file from now on),
 * write and read rows first .. first + count - 1 of dimension 0 (from 0). */
int ld_h5_make(ld_h5 *f, const char *path, ld_dtype t, int ndim, const int64_t *shape);
int ld_h5_write_rows(ld_h5 *f, const char *path, int64_t first, ld_tensor *x);
ld_tensor *ld_h5_read_rows(ld_h5 *f, const char *path, int64_t first, int64_t count);
/* Where a contiguous data set of numbers or of strings lies: bytes from the beginning of the file, a user block included.
 * There it may be read and written past the library while the file is closed. LD_EFORMAT for any other layout. */
int ld_h5_place(ld_h5 *f, const char *path, int64_t *offset, int64_t *bytes);
/* A data set of the given shape whose rows lie in other files: part k, in file `file` (relative to this file's folder), is
 * all of its data set `path`, which has `rows` rows; the parts follow one another. */
typedef struct ld_h5_part {
    const char *file;
    int64_t rows;
} ld_h5_part;
int ld_h5_make_virtual(ld_h5 *f, const char *path, ld_dtype t, int ndim, const int64_t *shape, const ld_h5_part *part,
                       int parts);
/* Rank, sizes and dtype; -1 when absent (no error set) or unreadable. */
int ld_h5_shape(ld_h5 *f, const char *path, int64_t shape[LD_MAX_DIMS], ld_dtype *t);

/* Lists of strings (UTF-8, written with the length of the longest; both kinds are read). Read: *out is malloc'd, as are its
 * strings. */
int ld_h5_write_strings(ld_h5 *f, const char *path, const char *const *s, int64_t n);
/* n strings from a callback, which is called twice for each, in order; it returns NULL after ld_fail. */
typedef const char *(*ld_h5_string)(void *arg, int64_t i);
int ld_h5_write_each(ld_h5 *f, const char *path, int64_t n, ld_h5_string fn, void *arg);
int ld_h5_read_strings(ld_h5 *f, const char *path, char ***out, int64_t *n);
void ld_h5_free_strings(char **s, int64_t n);

int ld_h5_set_number(ld_h5 *f, const char *path, const char *key, double v);
int ld_h5_set_string(ld_h5 *f, const char *path, const char *key, const char *v);
/* 1: *number is set; 2: *text is malloc'd; 0: absent; -1 after ld_fail. */
int ld_h5_attribute(ld_h5 *f, const char *path, const char *key, double *number, char **text);

/* Names of every data set below `path`, relative to it, in order of name; call fn for each, stop when it returns non-zero. */
int ld_h5_each(ld_h5 *f, const char *path, int (*fn)(void *arg, const char *name), void *arg);
/* Names of the attributes of `path`. */
int ld_h5_each_attribute(ld_h5 *f, const char *path, int (*fn)(void *arg, const char *key), void *arg);
bool ld_h5_exists(ld_h5 *f, const char *path);

#endif
