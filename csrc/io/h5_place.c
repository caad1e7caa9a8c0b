/* Data sets with a fixed place in the file, to be read and written past the library, and data sets made up of those of
 * other files. */
#include "base/error.h"
#include "io/h5_file.h"

hid_t h5_reserving(void) {
    hid_t p = h5_creation(h5.P_DATASET_CREATE);
    h5.Pset_alloc_time(p, H5D_ALLOC_TIME_EARLY);
    h5.Pset_fill_time(p, H5D_FILL_TIME_NEVER);
    return p;
}

/* What is stored as another type says so. */
static int finish(ld_h5 *f, const char *path, ld_dtype t, hid_t set) {
    if (set < 0)
        return ld_error_code();
    h5.Dclose(set);
    return t == LD_BF16 ? ld_h5_set_string(f, path, "dtype", "bfloat16") : 0;
}

int ld_h5_make(ld_h5 *f, const char *path, ld_dtype t, int ndim, const int64_t *shape) {
    return finish(f, path, t, h5_new_set(f, path, h5_type_of(t), h5_space(ndim, shape), h5_reserving()));
}

int ld_h5_place(ld_h5 *f, const char *path, int64_t *offset, int64_t *bytes) {
    if (!ld_h5_exists(f, path))
        return ld_fail(LD_EFORMAT, "hdf5: %s has no '%s'", f->path, path);
    hid_t set = h5.Dopen2(f->file, path, H5P_DEFAULT);
    if (set < 0)
        return h5_fail(f, LD_EFORMAT, "open the data set", path);
    hid_t space = h5.Dget_space(set), type = h5.Dget_type(set);
    haddr_t at = h5.Dget_offset(set);
    int64_t n;
    bool whole = !__builtin_mul_overflow(h5.Sget_simple_extent_npoints(space), h5.Tget_size(type), &n) && n >= 0 &&
                 at <= (haddr_t)(INT64_MAX - n) && h5.Dget_storage_size(set) == (uint64_t)n &&
                 h5.Tis_variable_str(type) <= 0;
    h5.Tclose(type);
    h5.Sclose(space);
    h5.Dclose(set);
    h5.Eclear2(H5E_DEFAULT);
    if (!whole)
        return ld_fail(LD_EFORMAT, "hdf5: %s: '%s' does not lie in one piece", f->path, path);
    *offset = (int64_t)at;
    *bytes = n;
    return 0;
}

/* Adds one part to the list of a virtual data set whose space is `all`: rows from `first` on. */
static int add_part(hid_t creation, hid_t all, const char *path, const ld_h5_part *part, int ndim, const int64_t *shape,
                    int64_t first) {
    int64_t own[LD_MAX_DIMS];
    hsize_t start[LD_MAX_DIMS] = {(hsize_t)first}, size[LD_MAX_DIMS];
    for (int i = 0; i < ndim; i++) {
        own[i] = i ? shape[i] : part->rows;
        size[i] = (hsize_t)own[i];
    }
    hid_t from = h5_space(ndim, own);
    int bad = h5.Sselect_hyperslab(all, H5S_SELECT_SET, start, NULL, size, NULL) < 0 ||
              h5.Pset_virtual(creation, all, part->file, path, from) < 0;
    h5.Sclose(from);
    return bad;
}

int ld_h5_make_virtual(ld_h5 *f, const char *path, ld_dtype t, int ndim, const int64_t *shape, const ld_h5_part *part,
                       int parts) {
    hid_t creation = h5_creation(h5.P_DATASET_CREATE), all = h5_space(ndim, shape);
    int64_t first = 0;
    int bad = 0;
    for (int k = 0; !bad && k < parts; first += part[k++].rows)
        bad = add_part(creation, all, path, &part[k], ndim, shape, first);
    h5.Sclose(all);
    if (!bad)
        return finish(f, path, t, h5_new_set(f, path, h5_type_of(t), h5_space(ndim, shape), creation));
    h5.Pclose(creation);
    return h5_fail(f, LD_EIO, "make the virtual data set", path);
}
