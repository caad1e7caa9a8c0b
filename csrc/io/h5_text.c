/* Attributes and lists of strings in HDF5 files.
 *
 * Strings are written with a fixed length: the library keeps those of variable length in a heap that, unlike all else of
 * the format's structure, has no checksum, and ends the process when it is damaged. Both kinds are read. */
#include "base/error.h"
#include "io/h5_file.h"

#include <stdlib.h>
#include <string.h>

/* A new type, to be closed: UTF-8 of at most n bytes, zeros behind, or of any length when n is H5T_VARIABLE. */
static hid_t string_type(size_t n) {
    hid_t t = h5.Tcopy(h5.T_C_S1);
    h5.Tset_size(t, n ? n : 1);
    h5.Tset_cset(t, H5T_CSET_UTF8);
    h5.Tset_strpad(t, n == H5T_VARIABLE ? H5T_STR_NULLTERM : H5T_STR_NULLPAD);
    return t;
}

/* ---- attributes ----------------------------------------------------------------------------------------------------- */

/* Make (or replace) a scalar attribute; a missing group is made. */
static int set_attribute(ld_h5 *f, const char *path, const char *key, hid_t type, const void *value) {
    const char *at = *path ? path : "/";
    if (!ld_h5_exists(f, at) && h5_make_groups(f, at, true))
        return ld_error_code();
    hid_t o = h5.Oopen(f->file, at, H5P_DEFAULT);
    if (o < 0)
        return h5_fail(f, LD_EFORMAT, "open", at);
    if (h5.Aexists(o, key) > 0)
        h5.Adelete(o, key);
    hid_t space = h5.Screate(H5S_SCALAR);
    hid_t a = h5.Acreate2(o, key, type, space, H5P_DEFAULT, H5P_DEFAULT);
    int bad = a < 0 || h5.Awrite(a, type, value) < 0 ? h5_fail(f, LD_EIO, "write the attribute", key) : 0;
    if (a >= 0)
        h5.Aclose(a);
    h5.Sclose(space);
    h5.Oclose(o);
    return bad;
}

int ld_h5_set_number(ld_h5 *f, const char *path, const char *key, double v) {
    return set_attribute(f, path, key, h5.T_IEEE_F64LE, &v);
}

int ld_h5_set_string(ld_h5 *f, const char *path, const char *key, const char *v) {
    hid_t type = string_type(strlen(v));
    int bad = set_attribute(f, path, key, type, v);
    h5.Tclose(type);
    return bad;
}

/* A string attribute, of fixed or variable length, malloc'd; NULL when it cannot be read. */
static char *read_text(hid_t a, hid_t type) {
    char *text = NULL;
    if (h5.Tis_variable_str(type) > 0) {
        char *raw = NULL;
        hid_t any = string_type(H5T_VARIABLE);
        if (h5.Aread(a, any, &raw) >= 0 && raw)
            text = strdup(raw);
        h5.free_memory(raw);
        h5.Tclose(any);
        return text;
    }
    size_t n = h5.Tget_size(type);
    text = calloc(1, n + 1);
    if (text && h5.Aread(a, type, text) < 0) {
        free(text);
        return NULL;
    }
    return text;
}

int ld_h5_attribute(ld_h5 *f, const char *path, const char *key, double *number, char **text) {
    const char *at = *path ? path : "/";
    if (!ld_h5_exists(f, at))
        return 0;
    hid_t o = h5.Oopen(f->file, at, H5P_DEFAULT);
    if (o < 0)
        return h5_fail(f, LD_EFORMAT, "open", at), -1;
    int found = 0;
    if (h5.Aexists(o, key) > 0) {
        hid_t a = h5.Aopen(o, key, H5P_DEFAULT), type = h5.Aget_type(a), space = h5.Aget_space(a);
        H5T_class_t c = h5.Tget_class(type);
        bool single = h5.Sget_simple_extent_npoints(space) == 1;
        if (single && c == H5T_STRING)
            found = (*text = read_text(a, type)) ? 2 : 0;
        else if (single && (c == H5T_FLOAT || c == H5T_INTEGER))
            found = h5.Aread(a, h5.T_NATIVE_DOUBLE, number) >= 0;
        if (!found) {
            h5_fail(f, LD_EFORMAT, single ? "read the attribute" : "use the attribute, which is no single value,", key);
            found = -1;
        }
        h5.Sclose(space);
        h5.Tclose(type);
        h5.Aclose(a);
    }
    h5.Oclose(o);
    return found;
}

/* ---- lists of strings ----------------------------------------------------------------------------------------------- */

enum { BLOCK = 4096 }; /* strings written at a time */

/* The length of the longest, at least 1; 0 after the callback failed. */
static size_t longest(int64_t n, ld_h5_string fn, void *arg) {
    size_t width = 1;
    for (int64_t i = 0; i < n; i++) {
        const char *s = fn(arg, i);
        if (!s)
            return 0;
        width = strlen(s) > width ? strlen(s) : width;
    }
    return width;
}

static int write_block(ld_h5 *f, const char *path, hid_t set, hid_t type, int64_t first, int64_t n, const char *text) {
    hsize_t start[1] = {(hsize_t)first}, size[1] = {(hsize_t)n};
    hid_t mem = h5.Screate_simple(1, size, NULL), file = h5.Dget_space(set);
    int bad = h5.Sselect_hyperslab(file, H5S_SELECT_SET, start, NULL, size, NULL) < 0 ||
              h5.Dwrite(set, type, mem, file, H5P_DEFAULT, text) < 0;
    if (bad)
        bad = h5_fail(f, LD_EIO, "write the strings", path);
    h5.Sclose(mem);
    h5.Sclose(file);
    return bad;
}

/* `text` has room for BLOCK strings of `width` bytes. */
static int write_all(ld_h5 *f, const char *path, hid_t set, hid_t type, char *text, size_t width, int64_t n,
                     ld_h5_string fn, void *arg) {
    int bad = 0;
    for (int64_t first = 0; !bad && first < n; first += BLOCK) {
        int64_t count = n - first < BLOCK ? n - first : BLOCK;
        memset(text, 0, (size_t)count * width);
        for (int64_t i = 0; !bad && i < count; i++) {
            const char *s = fn(arg, first + i);
            size_t length = s ? strlen(s) : 0;
            if (!s)
                bad = ld_error_code();
            else if (length > width)
                bad = ld_fail(LD_ESTATE, "hdf5: %s: string %lld of '%s' has changed", f->path, (long long)(first + i),
                              path);
            else
                memcpy(text + (size_t)i * width, s, length);
        }
        if (!bad)
            bad = write_block(f, path, set, type, first, count, text);
    }
    return bad;
}

int ld_h5_write_each(ld_h5 *f, const char *path, int64_t n, ld_h5_string fn, void *arg) {
    size_t width = longest(n, fn, arg);
    if (!width)
        return ld_error_code();
    char *text = malloc(BLOCK * width);
    if (!text)
        return ld_fail(LD_EMEM, "hdf5: out of host memory for strings of %zu bytes", width);
    hid_t type = string_type(width);
    hid_t set = h5_new_set(f, path, type, h5_space(1, &n), h5_reserving());
    int bad = set < 0 ? ld_error_code() : write_all(f, path, set, type, text, width, n, fn, arg);
    if (set >= 0)
        h5.Dclose(set);
    h5.Tclose(type);
    free(text);
    return bad;
}

static const char *of_array(void *arg, int64_t i) {
    return ((const char *const *)arg)[i];
}

int ld_h5_write_strings(ld_h5 *f, const char *path, const char *const *s, int64_t n) {
    return ld_h5_write_each(f, path, n, of_array, (void *)(uintptr_t)s);
}

/* The library's memory is its own to free, so the strings are copied. */
static int read_variable(ld_h5 *f, const char *path, hid_t set, char **out, int64_t n) {
    hid_t any = string_type(H5T_VARIABLE);
    char **raw = calloc((size_t)n, sizeof *raw);
    int bad = raw ? 0 : ld_fail(LD_EMEM, "hdf5: out of host memory for %lld strings", (long long)n);
    if (!bad && h5.Dread(set, any, H5S_ALL, H5S_ALL, H5P_DEFAULT, raw) < 0)
        bad = h5_fail(f, LD_EFORMAT, "read the strings", path);
    for (int64_t i = 0; raw && i < n; i++) {
        if (!bad && !(out[i] = strdup(raw[i] ? raw[i] : "")))
            bad = ld_fail(LD_EMEM, "hdf5: out of host memory for %lld strings", (long long)n);
        h5.free_memory(raw[i]);
    }
    h5.Tclose(any);
    free(raw);
    return bad;
}

static int read_fixed(ld_h5 *f, const char *path, hid_t set, hid_t type, char **out, int64_t n) {
    size_t width = h5.Tget_size(type);
    char *all = calloc((size_t)n, width);
    int bad = all ? 0 : ld_fail(LD_EMEM, "hdf5: out of host memory for %lld strings", (long long)n);
    if (!bad && h5.Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all) < 0)
        bad = h5_fail(f, LD_EFORMAT, "read the strings", path);
    for (int64_t i = 0; !bad && i < n; i++)
        if (!(out[i] = strndup(all + (size_t)i * width, width)))
            bad = ld_fail(LD_EMEM, "hdf5: out of host memory for %lld strings", (long long)n);
    free(all);
    return bad;
}

int ld_h5_read_strings(ld_h5 *f, const char *path, char ***out, int64_t *n) {
    if (!ld_h5_exists(f, path))
        return ld_fail(LD_EFORMAT, "hdf5: %s has no '%s'", f->path, path);
    hid_t set = h5.Dopen2(f->file, path, H5P_DEFAULT);
    if (set < 0)
        return h5_fail(f, LD_EFORMAT, "open", path);
    hid_t type = h5.Dget_type(set), space = h5.Dget_space(set);
    int bad = 0;
    *n = (int64_t)h5.Sget_simple_extent_npoints(space);
    *out = NULL;
    if (h5.Tget_class(type) != H5T_STRING || *n < 0)
        bad = h5_fail(f, LD_EFORMAT, "read as a list of strings", path);
    if (!bad && !(*out = calloc((size_t)*n + 1, sizeof **out)))
        bad = ld_fail(LD_EMEM, "hdf5: out of host memory for %lld strings", (long long)*n);
    if (!bad && *n)
        bad = h5.Tis_variable_str(type) > 0 ? read_variable(f, path, set, *out, *n)
                                            : read_fixed(f, path, set, type, *out, *n);
    if (bad) {
        ld_h5_free_strings(*out, *n);
        *out = NULL;
    }
    h5.Sclose(space);
    h5.Tclose(type);
    h5.Dclose(set);
    return bad;
}

void ld_h5_free_strings(char **s, int64_t n) {
    for (int64_t i = 0; s && i < n; i++)
        free(s[i]);
    free(s);
}
