/* Attributes and lists of strings in HDF5 files. */
#include "base/error.h"
#include "io/h5_file.h"

#include <stdlib.h>
#include <string.h>

static hid_t string_type(void) {
    static hid_t t = -1;
    if (t < 0) {
        t = H5Tcopy(H5T_C_S1);
        H5Tset_size(t, H5T_VARIABLE);
        H5Tset_cset(t, H5T_CSET_UTF8);
    }
    return t;
}

/* ---- attributes ----------------------------------------------------------------------------------------------------- */

/* Make (or replace) a scalar attribute; a missing group is made. */
static int set_attribute(ld_h5 *f, const char *path, const char *key, hid_t type, const void *value) {
    const char *at = *path ? path : "/";
    if (!ld_h5_exists(f, at)) {
        hid_t links = H5Pcreate(H5P_LINK_CREATE);
        H5Pset_create_intermediate_group(links, 1);
        hid_t group = H5Gcreate2(f->file, at, links, H5P_DEFAULT, H5P_DEFAULT);
        H5Pclose(links);
        if (group < 0)
            return h5_fail(f, LD_EIO, "make the group", at);
        H5Gclose(group);
    }
    hid_t o = H5Oopen(f->file, at, H5P_DEFAULT);
    if (o < 0)
        return h5_fail(f, LD_EFORMAT, "open", at);
    if (H5Aexists(o, key) > 0)
        H5Adelete(o, key);
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t a = H5Acreate2(o, key, type, space, H5P_DEFAULT, H5P_DEFAULT);
    int bad = a < 0 || H5Awrite(a, type, value) < 0 ? h5_fail(f, LD_EIO, "write the attribute", key) : 0;
    if (a >= 0)
        H5Aclose(a);
    H5Sclose(space);
    H5Oclose(o);
    return bad;
}

int ld_h5_set_number(ld_h5 *f, const char *path, const char *key, double v) {
    return set_attribute(f, path, key, H5T_IEEE_F64LE, &v);
}

int ld_h5_set_string(ld_h5 *f, const char *path, const char *key, const char *v) {
    return set_attribute(f, path, key, string_type(), &v);
}

/* A string attribute, of fixed or variable length, malloc'd; NULL when it cannot be read. */
static char *read_text(hid_t a, hid_t type) {
    char *text = NULL;
    if (H5Tis_variable_str(type) > 0) {
        char *raw = NULL;
        if (H5Aread(a, string_type(), &raw) >= 0 && raw)
            text = strdup(raw);
        H5free_memory(raw);
        return text;
    }
    size_t n = H5Tget_size(type);
    text = calloc(1, n + 1);
    if (text && H5Aread(a, type, text) < 0) {
        free(text);
        return NULL;
    }
    return text;
}

int ld_h5_attribute(ld_h5 *f, const char *path, const char *key, double *number, char **text) {
    const char *at = *path ? path : "/";
    if (!ld_h5_exists(f, at))
        return 0;
    hid_t o = H5Oopen(f->file, at, H5P_DEFAULT);
    if (o < 0)
        return h5_fail(f, LD_EFORMAT, "open", at), -1;
    int found = 0;
    if (H5Aexists(o, key) > 0) {
        hid_t a = H5Aopen(o, key, H5P_DEFAULT), type = H5Aget_type(a), space = H5Aget_space(a);
        H5T_class_t c = H5Tget_class(type);
        bool single = H5Sget_simple_extent_npoints(space) == 1;
        if (single && c == H5T_STRING)
            found = (*text = read_text(a, type)) ? 2 : 0;
        else if (single && (c == H5T_FLOAT || c == H5T_INTEGER))
            found = H5Aread(a, H5T_NATIVE_DOUBLE, number) >= 0;
        if (!found) {
            h5_fail(f, LD_EFORMAT, single ? "read the attribute" : "use the attribute, which is no single value,", key);
            found = -1;
        }
        H5Sclose(space);
        H5Tclose(type);
        H5Aclose(a);
    }
    H5Oclose(o);
    return found;
}

/* ---- lists of strings ----------------------------------------------------------------------------------------------- */

int ld_h5_write_strings(ld_h5 *f, const char *path, const char *const *s, int64_t n) {
    hsize_t dims[1] = {(hsize_t)n};
    hid_t space = H5Screate_simple(1, dims, NULL), links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    hid_t set = H5Dcreate2(f->file, path, string_type(), space, links, H5P_DEFAULT, H5P_DEFAULT);
    int bad = set < 0 || (n && H5Dwrite(set, string_type(), H5S_ALL, H5S_ALL, H5P_DEFAULT, s) < 0);
    if (bad)
        bad = h5_fail(f, LD_EIO, "write the strings", path);
    if (set >= 0)
        H5Dclose(set);
    H5Pclose(links);
    H5Sclose(space);
    return bad;
}

int ld_h5_read_strings(ld_h5 *f, const char *path, char ***out, int64_t *n) {
    if (!ld_h5_exists(f, path))
        return ld_fail(LD_EFORMAT, "hdf5: %s has no '%s'", f->path, path);
    hid_t set = H5Dopen2(f->file, path, H5P_DEFAULT);
    if (set < 0)
        return h5_fail(f, LD_EFORMAT, "open", path);
    hid_t type = H5Dget_type(set), space = H5Dget_space(set);
    int bad = 0;
    *n = (int64_t)H5Sget_simple_extent_npoints(space);
    *out = NULL;
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) <= 0 || *n < 0)
        bad = h5_fail(f, LD_EFORMAT, "read as a list of strings", path);
    if (!bad && !(*out = calloc((size_t)*n + 1, sizeof **out)))
        bad = ld_fail(LD_EMEM, "hdf5: out of host memory for %lld strings", (long long)*n);
    if (!bad && *n && H5Dread(set, string_type(), H5S_ALL, H5S_ALL, H5P_DEFAULT, *out) < 0)
        bad = h5_fail(f, LD_EFORMAT, "read the strings", path);
    if (bad) {
        free(*out);
        *out = NULL;
    }
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(set);
    return bad;
}

void ld_h5_free_strings(char **s, int64_t n) {
    for (int64_t i = 0; s && i < n; i++)
        H5free_memory(s[i]);
    free(s);
}
