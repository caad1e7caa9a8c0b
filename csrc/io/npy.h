/* NumPy's .npy files, versions 1 to 3: one array in row-major order behind a header in Python's notation.
 *
 *   magic "\x93NUMPY", version (1 + 1 bytes), length of the header (2 bytes in version 1, else 4; little endian),
 *   header {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }, then the elements
 *
 * dtypes: <f2 <f4 <f8 |u1 <i4 <i8. Source: NumPy's NEP 1 and numpy.lib.format. */
#ifndef LD_NPY_H
#define LD_NPY_H

#include "tensor/tensor.h"

typedef struct ld_npy {
    ld_dtype dtype;
    int ndim; /* 0 for a single number */
    int64_t shape[LD_MAX_DIMS];
    uint64_t offset; /* of the first element in the file */
    size_t row;      /* bytes of a row, which is all behind one position of the first dimension; a number is one row */
    int fd;          /* from here on the reader's own */
    char *path;
} ld_npy;

/* The header is read and checked wholly, the elements against the file's size; bytes behind them are tolerated. LD_EIO;
 * LD_EFORMAT (no .npy, cut short, another version, dtype or order; more than 8 dimensions or 2^48 elements), LD_EMEM. */
ld_npy *ld_npy_open(const char *path);
/* A file of numbers alone, row-major, without a header (NumPy's memmap): as if it had one of this dtype and shape. LD_EVALUE
 * unless that has 1 to 8 dimensions and 1 to 2^48 elements; LD_EFORMAT when the file is shorter; LD_EIO, LD_EMEM. */
ld_npy *ld_npy_open_raw(const char *path, ld_dtype t, int ndim, const int64_t *shape);
void ld_npy_close(ld_npy *npy); /* NULL is fine */

/* Rows first .. first + n - 1 as they lie in the file, n * npy->row bytes, to `to`. Any number of threads at once.
 * LD_EINDEX when there are not so many, LD_EIO, LD_EFORMAT when the file has become shorter. */
int ld_npy_read_rows(const ld_npy *npy, int64_t first, int64_t n, void *to);

/* The same as a tensor (n, shape[1], ...) in canonical layout, owned by the caller; for ndim 0 the tensor of rank 0. LD_EMEM,
 * and as above. */
ld_tensor *ld_npy_rows(const ld_npy *npy, int64_t first, int64_t n);

#endif
