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
    bool summed;           /* is to carry the sum of its bytes */
};

/* ld_fail with the library's own reason: "hdf5: FILE: cannot WHAT WHERE: reason". */
int h5_fail(const ld_h5 *f, int code, const char *what, const char *where);

enum {
    H5_SUM_BLOCK = 4096
}; /* bytes before HDF5's own, in which the sum stands: a page, as data sets begin on pages */
/* Writes the sum of a closed file into its first block, brings it to the disk, and reads all again: 0, or LD_EIO, LD_EFORMAT. */
int h5_sum_write(const char *file, const char *path);

hid_t h5_type_of(ld_dtype t); /* not to be closed */
/* A property list for new files, groups or data sets (a class such as h5.P_GROUP_CREATE), to be closed: nothing keeps the
 * time it was made, so that equal content gives equal bytes. */
hid_t h5_creation(hid_t class);
/* The same for data sets that have their place in the file at once; what is not written reads as zeros there, since new
 * files grow by zeros. */
hid_t h5_reserving(void);
/* Makes the groups above `path` that are missing, and with `itself` the last one too. */
int h5_make_groups(ld_h5 *f, const char *path, bool itself);
/* A new data set, to be closed, and the groups above it; `creation` is closed here, as is `space`. -1 after ld_fail. */
hid_t h5_new_set(ld_h5 *f, const char *path, hid_t type, hid_t space, hid_t creation);
hid_t h5_space(int ndim, const int64_t *shape);

#endif
