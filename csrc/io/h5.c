#include "io/h5.h"

#include "base/error.h"
#include "io/file.h"
#include "io/h5_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- errors and types ----------------------------------------------------------------------------------------------- */

enum { REASON = 1000 };

static herr_t keep_last(unsigned n, const H5E_error2_t *e, void *out) {
    (void)n;
    snprintf(out, REASON, "%s", e->desc ? e->desc : "");
    return 0;
}

/* The library's own reason, the innermost one, which comes last. Where the system refused, its words stand in the middle
 * of a dump of numbers. */
int h5_fail(const ld_h5 *f, int code, const char *what, const char *where) {
    static const char system[] = "error message = '";
    char text[REASON] = "";
    h5.Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_last, text);
    h5.Eclear2(H5E_DEFAULT);
    char *why = strstr(text, system);
    why = why ? why + strlen(system) : text;
    if (why != text)
        why[strcspn(why, "'")] = 0;
    return ld_fail(code, "hdf5: %s: cannot %s%s%s%s%.200s", f->path, what, *where ? " " : "", where, *why ? ": " : "",
                   why);
}

static hid_t half_type(void) {
    static hid_t t = -1;
    if (t < 0) {
        t = h5.Tcopy(h5.T_IEEE_F32LE);
        h5.Tset_fields(t, 15, 10, 5, 0, 10);
        h5.Tset_size(t, 2);
        h5.Tset_ebias(t, 15);
    }
    return t;
}

hid_t h5_type_of(ld_dtype t) {
    switch (t) {
    case LD_F32:
        return h5.T_IEEE_F32LE;
    case LD_F64:
        return h5.T_IEEE_F64LE;
    case LD_F16:
        return half_type();
    case LD_I64:
        return h5.T_STD_I64LE;
    case LD_I32:
        return h5.T_STD_I32LE;
    case LD_BF16:
        return h5.T_STD_U16LE;
    default:
        return h5.T_STD_U8LE;
    }
}

/* The dtype a data set is read as: its own, or the nearest that holds it; -1 for strings and compounds. */
static int dtype_of(hid_t set) {
    hid_t t = h5.Dget_type(set);
    H5T_class_t c = h5.Tget_class(t);
    size_t n = h5.Tget_size(t);
    bool is_signed = c == H5T_INTEGER && h5.Tget_sign(t) == H5T_SGN_2;
    h5.Tclose(t);
    if (c == H5T_FLOAT)
        return n <= 2 ? LD_F16 : n <= 4 ? LD_F32 : LD_F64;
    if (c != H5T_INTEGER)
        return -1;
    if (n == 2 && !is_signed && h5.Aexists(set, "dtype") > 0)
        return LD_BF16;
    if (n == 1 && !is_signed)
        return LD_U8;
    return n < 4 || (n == 4 && is_signed) ? LD_I32 : LD_I64;
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static ld_h5 *h5_new(const char *path) {
    if (h5_load())
        return NULL;
    if (strlen(path) >= LD_PATH_MAX - 64)
        return ld_fail_null(LD_EVALUE, "hdf5: a path of %zu bytes is too long", strlen(path));
    h5.Eset_auto2(H5E_DEFAULT, NULL, NULL);
    ld_h5 *f = calloc(1, sizeof *f);
    if (!f)
        return ld_fail_null(LD_EMEM, "hdf5: out of host memory");
    snprintf(f->path, sizeof f->path, "%s", path);
    f->file = -1;
    return f;
}

/* 1.10's format: readable by every h5py, safe to reopen after a crash when flushed. What is not small begins on a page, so
 * that rows of a size of pages touch no more of them than they must. */
static hid_t access_list(void) {
    hid_t p = h5.Pcreate(h5.P_FILE_ACCESS);
    h5.Pset_alignment(p, 1 << 16, 4096);
    h5.Pset_libver_bounds(p, H5F_LIBVER_V18, H5F_LIBVER_LATEST);
    h5.Pset_fclose_degree(p, H5F_CLOSE_STRONG);
    return p;
}

static ld_h5 *create(const char *path, bool summed) {
    ld_h5 *f = h5_new(path);
    if (!f)
        return NULL;
    if (ld_file_temporary(path, f->tmp)) {
        free(f);
        return NULL;
    }
    hid_t p = access_list(), creation = h5_creation(h5.P_FILE_CREATE);
    f->summed = summed;
    if (summed)
        h5.Pset_userblock(creation, H5_SUM_BLOCK);
    f->file = h5.Fcreate(f->tmp, H5F_ACC_TRUNC, creation, p);
    h5.Pclose(creation);
    h5.Pclose(p);
    if (f->file < 0) {
        h5_fail(f, LD_EIO, "create the file", "");
        ld_file_discard(f->tmp);
        free(f);
        return NULL;
    }
    return f;
}

ld_h5 *ld_h5_create(const char *path) {
    return create(path, false);
}

ld_h5 *ld_h5_create_summed(const char *path) {
    return create(path, true);
}

ld_h5 *ld_h5_open(const char *path, bool writable) {
    ld_h5 *f = h5_new(path);
    if (!f)
        return NULL;
    ld_map probe;
    if (ld_map_open(&probe, path)) { /* the system's own words for a missing or unreadable file */
        free(f);
        return NULL;
    }
    ld_map_close(&probe);
    hid_t p = access_list();
    f->file = h5.Fopen(path, writable ? H5F_ACC_RDWR : H5F_ACC_RDONLY, p);
    h5.Pclose(p);
    if (f->file < 0) {
        h5_fail(f, LD_EFORMAT, "open it as HDF5 (truncated, or no HDF5 file)", "");
        free(f);
        return NULL;
    }
    return f;
}

/* Down to the disk: the library only hands its buffers to the system. */
int ld_h5_flush(ld_h5 *f) {
    void *handle = NULL;
    if (h5.Fflush(f->file, H5F_SCOPE_GLOBAL) < 0 || h5.Fget_vfd_handle(f->file, H5P_DEFAULT, &handle) < 0)
        return h5_fail(f, LD_EIO, "flush the file", "");
    if ((ld_file_fails() || fsync(*(int *)handle)) && errno != EINVAL)
        return ld_fail(LD_EIO, "hdf5: %s: cannot flush the file: %s", f->path, strerror(errno));
    return 0;
}

int ld_h5_commit(ld_h5 *f) {
    int bad = ld_h5_flush(f);
    if (h5.Fclose(f->file) < 0 && !bad)
        bad = h5_fail(f, LD_EIO, "close the file", "");
    if (!bad && f->summed)
        bad = h5_sum_write(f->tmp, f->path);
    if (bad && *f->tmp)
        ld_file_discard(f->tmp);
    if (!bad && *f->tmp)
        bad = ld_file_commit(f->tmp, f->path);
    free(f);
    return bad;
}

void ld_h5_close(ld_h5 *f) {
    if (!f)
        return;
    h5.Fclose(f->file);
    if (*f->tmp)
        ld_file_discard(f->tmp);
    h5.Eclear2(H5E_DEFAULT);
    free(f);
}

/* ---- objects -------------------------------------------------------------------------------------------------------- */

bool ld_h5_exists(ld_h5 *f, const char *path) {
    char part[LD_PATH_MAX];
    size_t n = strlen(path);
    if (n == 0 || !strcmp(path, "/"))
        return true;
    if (n >= sizeof part)
        return false;
    for (size_t i = 1; i <= n; i++) /* every group on the way must exist before the next can be asked for */
        if (path[i] == '/' || i == n) {
            memcpy(part, path, i);
            part[i] = 0;
            if (h5.Lexists(f->file, part, H5P_DEFAULT) <= 0)
                return h5.Eclear2(H5E_DEFAULT), false;
        }
    return true;
}

hid_t h5_creation(hid_t class) {
    hid_t p = h5.Pcreate(class);
    h5.Pset_obj_track_times(p, 0);
    return p;
}

int h5_make_groups(ld_h5 *f, const char *path, bool itself) {
    char part[LD_PATH_MAX];
    size_t n = strlen(path);
    if (n >= sizeof part)
        return ld_fail(LD_EVALUE, "hdf5: a name of %zu bytes is too long", n);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && !(itself && i == n))
            continue;
        memcpy(part, path, i);
        part[i] = 0;
        if (h5.Lexists(f->file, part, H5P_DEFAULT) > 0)
            continue;
        hid_t creation = h5_creation(h5.P_GROUP_CREATE);
        hid_t group = h5.Gcreate2(f->file, part, H5P_DEFAULT, creation, H5P_DEFAULT);
        h5.Pclose(creation);
        if (group < 0)
            return h5_fail(f, LD_EIO, "make the group", part);
        h5.Gclose(group);
    }
    return 0;
}

hid_t h5_space(int ndim, const int64_t *shape) {
    hsize_t dims[LD_MAX_DIMS];
    for (int i = 0; i < ndim; i++)
        dims[i] = (hsize_t)shape[i];
    return ndim ? h5.Screate_simple(ndim, dims, NULL) : h5.Screate(H5S_SCALAR);
}

hid_t h5_new_set(ld_h5 *f, const char *path, hid_t type, hid_t space, hid_t creation) {
    hid_t set = -1;
    if (!h5_make_groups(f, path, false)) {
        set = h5.Dcreate2(f->file, path, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
        if (set < 0)
            h5_fail(f, LD_EIO, "create", path);
    }
    h5.Pclose(creation);
    h5.Sclose(space);
    return set;
}

static hid_t make_set(ld_h5 *f, const char *path, ld_dtype t, int ndim, const int64_t *shape) {
    return h5_new_set(f, path, h5_type_of(t), h5_space(ndim, shape), h5_creation(h5.P_DATASET_CREATE));
}

static hid_t open_set(ld_h5 *f, const char *path) {
    if (!ld_h5_exists(f, path)) {
        ld_fail(LD_EFORMAT, "hdf5: %s has no '%s'", f->path, path);
        return -1;
    }
    hid_t set = h5.Dopen2(f->file, path, H5P_DEFAULT);
    if (set < 0)
        h5_fail(f, LD_EFORMAT, "open the data set", path);
    return set;
}

/* A tensor's elements in logical row-major order on the host: in `host`'s memory where it lies so, else in `copy`. */
typedef struct row_data {
    ld_tensor *host; /* owned */
    void *copy;      /* malloc'd, or NULL */
    const void *data;
} row_data;

static void drop_rows(row_data *r) {
    ld_tensor_drop(r->host);
    free(r->copy);
    *r = (row_data){0};
}

/* 0, or an error code and nothing to drop. */
static int row_major(ld_tensor *x, row_data *r) {
    *r = (row_data){.host = ld_tensor_host(x, "hdf5")};
    if (!r->host)
        return ld_error_code();
    ld_view v = ld_tensor_as_view(r->host), to = v;
    int64_t step = 1;
    bool same = true;
    for (int i = x->ndim - 1; i >= 0; i--) {
        same = same && (x->shape[i] == 1 || v.stride[i] == step);
        to.stride[i] = step;
        step *= x->shape[i];
    }
    r->data = v.data;
    if (same)
        return 0;
    r->data = to.data = r->copy = malloc((size_t)step * ld_dtype_size(x->dtype) + 1);
    int bad = r->copy ? r->host->storage->device->backend->copy(&to, &v) : ld_fail(LD_EMEM, "hdf5: out of host memory");
    if (bad)
        drop_rows(r);
    return bad;
}

int ld_h5_write(ld_h5 *f, const char *path, ld_tensor *x) {
    row_data r;
    int bad = row_major(x, &r);
    if (bad)
        return bad;
    hid_t set = make_set(f, path, x->dtype, x->ndim, x->shape);
    bad = set < 0 ? ld_error_code() : 0;
    if (!bad && ld_tensor_numel(x) && h5.Dwrite(set, h5_type_of(x->dtype), H5S_ALL, H5S_ALL, H5P_DEFAULT, r.data) < 0)
        bad = h5_fail(f, LD_EIO, "write", path);
    drop_rows(&r);
    if (set >= 0)
        h5.Dclose(set);
    return bad || x->dtype != LD_BF16 ? bad : ld_h5_set_string(f, path, "dtype", "bfloat16");
}

static int set_shape(hid_t set, int64_t *shape) {
    hid_t space = h5.Dget_space(set);
    int ndim = h5.Sget_simple_extent_ndims(space);
    hsize_t dims[H5S_MAX_RANK];
    if (ndim > 0)
        h5.Sget_simple_extent_dims(space, dims, NULL);
    h5.Sclose(space);
    if (ndim < 0 || ndim > LD_MAX_DIMS)
        return -1;
    for (int i = 0; i < ndim; i++)
        shape[i] = (int64_t)dims[i];
    return ndim;
}

int ld_h5_shape(ld_h5 *f, const char *path, int64_t shape[LD_MAX_DIMS], ld_dtype *t) {
    if (!ld_h5_exists(f, path))
        return -1;
    hid_t set = h5.Dopen2(f->file, path, H5P_DEFAULT);
    if (set < 0)
        return h5.Eclear2(H5E_DEFAULT), -1;
    int ndim = set_shape(set, shape), dtype = dtype_of(set);
    h5.Dclose(set);
    *t = (ld_dtype)dtype;
    return dtype < 0 ? -1 : ndim;
}

/* A memory space and a file space for rows first .. first + count - 1; both to be closed. */
static int row_spaces(hid_t set, int ndim, const int64_t *shape, int64_t first, int64_t count, hid_t *mem,
                      hid_t *file) {
    hsize_t start[LD_MAX_DIMS] = {(hsize_t)first}, size[LD_MAX_DIMS];
    for (int i = 0; i < ndim; i++)
        size[i] = (hsize_t)(i ? shape[i] : count);
    *mem = h5.Screate_simple(ndim, size, NULL);
    *file = h5.Dget_space(set);
    return h5.Sselect_hyperslab(*file, H5S_SELECT_SET, start, NULL, size, NULL) < 0;
}

int ld_h5_write_rows(ld_h5 *f, const char *path, int64_t first, ld_tensor *x) {
    int64_t shape[LD_MAX_DIMS];
    hid_t set = open_set(f, path);
    if (set < 0)
        return ld_error_code();
    int ndim = set_shape(set, shape);
    bool fits =
        ndim == x->ndim && ndim > 0 && dtype_of(set) == (int)x->dtype && first >= 0 && first + x->shape[0] <= shape[0];
    for (int i = 1; fits && i < ndim; i++)
        fits = shape[i] == x->shape[i];
    int bad = fits ? 0
                   : ld_fail(LD_ESHAPE, "hdf5: %s: rows %s at %lld do not fit '%s' %s", f->path, ld_tensor_text(x),
                             (long long)first, path, ndim >= 0 ? ld_shape_text(ndim, shape) : "");
    row_data r = {0};
    if (!bad)
        bad = row_major(x, &r);
    if (!bad && ld_tensor_numel(x)) {
        hid_t mem, file;
        bad = row_spaces(set, ndim, shape, first, x->shape[0], &mem, &file) ||
              h5.Dwrite(set, h5_type_of(x->dtype), mem, file, H5P_DEFAULT, r.data) < 0;
        h5.Sclose(mem);
        h5.Sclose(file);
        if (bad)
            bad = h5_fail(f, LD_EIO, "write rows of", path);
    }
    drop_rows(&r);
    h5.Dclose(set);
    return bad;
}

/* The selected elements of an open set as a new tensor of `shape`. */
static ld_tensor *read_selected(ld_h5 *f, hid_t set, const char *path, ld_dtype t, int ndim, const int64_t *shape,
                                hid_t mem, hid_t file) {
    ld_tensor *x = ld_tensor_new(ld_device_find("cpu"), t, ndim, shape, "hdf5");
    if (!x)
        return NULL;
    size_t bytes = (size_t)ld_tensor_numel(x) * ld_dtype_size(t);
    ld_view from = {.dtype = t, .ndim = ndim, .data = malloc(bytes + 1)};
    int64_t step = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        from.shape[i] = shape[i];
        from.stride[i] = step;
        step *= shape[i];
    }
    int bad = from.data ? 0 : ld_fail(LD_EMEM, "hdf5: out of host memory for %zu bytes", bytes);
    if (!bad && bytes && h5.Dread(set, h5_type_of(t), mem, file, H5P_DEFAULT, from.data) < 0)
        bad = h5_fail(f, LD_EFORMAT, "read", path);
    if (!bad)
        bad = x->storage->device->backend->copy(LD_VIEW(x), &from);
    free(from.data);
    if (!bad)
        return x;
    ld_tensor_drop(x);
    return NULL;
}

/* Rows of a data set, or all of it when count is -1 (any rank). */
static ld_tensor *read_set(ld_h5 *f, const char *path, int64_t first, int64_t count) {
    int64_t shape[LD_MAX_DIMS];
    hid_t set = open_set(f, path), mem = H5S_ALL, file = H5S_ALL;
    if (set < 0)
        return NULL;
    int ndim = set_shape(set, shape), t = dtype_of(set);
    ld_tensor *x = NULL;
    bool rows = count >= 0;
    if (ndim < 0 || t < 0) {
        ld_fail(LD_EFORMAT, "hdf5: %s: '%s' does not hold numbers of at most 8 dimensions", f->path, path);
    } else if (rows && (ndim == 0 || first < 0 || first + count > shape[0])) {
        ld_fail(LD_EINDEX, "hdf5: %s: rows %lld to %lld of '%s' %s", f->path, (long long)first,
                (long long)(first + count - 1), path, ld_shape_text(ndim, shape));
    } else if (rows && row_spaces(set, ndim, shape, first, count, &mem, &file)) {
        h5_fail(f, LD_EINTERNAL, "select rows of", path);
    } else {
        if (rows)
            shape[0] = count;
        x = read_selected(f, set, path, (ld_dtype)t, ndim, shape, mem, file);
    }
    if (mem != H5S_ALL)
        h5.Sclose(mem);
    if (file != H5S_ALL)
        h5.Sclose(file);
    h5.Dclose(set);
    return x;
}

ld_tensor *ld_h5_read(ld_h5 *f, const char *path) {
    return read_set(f, path, 0, -1);
}

ld_tensor *ld_h5_read_rows(ld_h5 *f, const char *path, int64_t first, int64_t count) {
    return read_set(f, path, first, count < 0 ? 0 : count);
}

/* ---- names ---------------------------------------------------------------------------------------------------------- */

/* Names found so far; they are told when all are known, in order. */
typedef struct walk {
    char **name;
    size_t n, room;
    bool short_of_memory;
} walk;

static herr_t collect(hid_t at, const char *name, const h5_info *info, void *arg) {
    (void)at;
    walk *w = arg;
    if (info->type != H5O_TYPE_DATASET || !strcmp(name, "."))
        return 0;
    if (w->n == w->room) {
        size_t room = w->room ? 2 * w->room : 256;
        char **more = realloc(w->name, room * sizeof *more);
        if (!more)
            return w->short_of_memory = true, -1;
        w->name = more;
        w->room = room;
    }
    if (!(w->name[w->n] = strdup(name)))
        return w->short_of_memory = true, -1;
    w->n++;
    return 0;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In the file's own order: asked to sort them itself, the library frees what it never had when the file is damaged. */
static herr_t collect_all(hid_t at, walk *w) {
    return h5.visit(at, H5_INDEX_NAME, H5_ITER_NATIVE, collect, w);
}

int ld_h5_each(ld_h5 *f, const char *path, int (*fn)(void *arg, const char *name), void *arg) {
    walk w = {0};
    if (!ld_h5_exists(f, path))
        return 0;
    hid_t at = h5.Oopen(f->file, *path ? path : "/", H5P_DEFAULT);
    if (at < 0)
        return h5_fail(f, LD_EFORMAT, "open", path);
    int bad = collect_all(at, &w) < 0 ? h5_fail(f, LD_EFORMAT, "list", path) : 0;
    h5.Oclose(at);
    if (w.short_of_memory)
        bad = ld_fail(LD_EMEM, "hdf5: %s: out of host memory for %zu names", f->path, w.n);
    if (!bad && w.n)
        qsort(w.name, w.n, sizeof *w.name, by_text);
    for (size_t i = 0, stop = 0; i < w.n; i++) {
        if (!bad && !stop)
            stop = fn(arg, w.name[i]) != 0;
        free(w.name[i]);
    }
    free(w.name);
    return bad;
}

typedef struct visitor {
    int (*fn)(void *, const char *);
    void *arg;
} visitor;

static herr_t visit_attribute(hid_t at, const char *name, const H5A_info_t *info, void *arg) {
    (void)at;
    (void)info;
    visitor *v = arg;
    return v->fn(v->arg, name);
}

int ld_h5_each_attribute(ld_h5 *f, const char *path, int (*fn)(void *arg, const char *key), void *arg) {
    visitor v = {fn, arg};
    hid_t at = h5.Oopen(f->file, *path ? path : "/", H5P_DEFAULT);
    if (at < 0)
        return h5_fail(f, LD_EFORMAT, "open", path);
    herr_t r = h5.Aiterate2(at, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_attribute, &v);
    h5.Oclose(at);
    return r < 0 ? h5_fail(f, LD_EFORMAT, "list the attributes of", path) : 0;
}
