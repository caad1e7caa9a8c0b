/* What the HDF5 files share among themselves. */
#ifndef LD_H5_FILE_H
#define LD_H5_FILE_H

#include "io/file.h"
#include "io/h5.h"
#include "io/h5_lib.h"

struct ld_h5 {
    hid_t file;
    char path[LD_PATH_MAX];
    char tmp[LD_PATH_MAX]; /* "" when the file is used in place */
};

/* ld_fail with the library's own reason: "hdf5: FILE: cannot WHAT WHERE: reason". */
int h5_fail(const ld_h5 *f, int code, const char *what, const char *where);

#endif
