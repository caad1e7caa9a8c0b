#include "io/npy_folder.h"

#include "base/error.h"
#include "io/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ld_npy_folder {
    char *root;
    ld_file_list files; /* those that end in .npy, moved to the front */
    int ndim;
    int64_t shape[LD_MAX_DIMS];
    ld_dtype dtype;
    size_t bytes; /* of one file's elements */
    int32_t n_classes;
    char **classes;
    int32_t *label;
};

static bool is_npy(const char *name) {
    size_t n = strlen(name);
    return n > 4 && !strcmp(name + n - 4, ".npy");
}

/* The last folder of a path: where it begins, and its length; 0 for a file in the root. */
static size_t own_folder(const char *name, const char **at) {
    const char *end = strrchr(name, '/');
    *at = name;
    if (!end)
        return 0;
    for (const char *p = name; p < end; p++)
        if (*p == '/')
            *at = p + 1;
    return (size_t)(end - *at);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Adds the class of a file unless the file before had it too. */
static int add_class(ld_npy_folder *f, const char *name, size_t *room) {
    const char *at;
    size_t n = own_folder(name, &at);
    if (f->n_classes && strlen(f->classes[f->n_classes - 1]) == n && !memcmp(f->classes[f->n_classes - 1], at, n))
        return 0;
    if ((size_t)f->n_classes == *room) {
        *room = 2 * *room + 64;
        char **more = realloc(f->classes, *room * sizeof *more);
        if (!more)
            return LD_EMEM;
        f->classes = more;
    }
    if (!(f->classes[f->n_classes] = strndup(at, n)))
        return LD_EMEM;
    f->n_classes++;
    return 0;
}

static void sort_classes(ld_npy_folder *f) {
    int32_t kept = 0;
    qsort(f->classes, (size_t)f->n_classes, sizeof *f->classes, by_text);
    for (int32_t c = 0; c < f->n_classes; c++)
        if (kept && !strcmp(f->classes[kept - 1], f->classes[c]))
            free(f->classes[c]);
        else
            f->classes[kept++] = f->classes[c];
    f->n_classes = kept;
}

static int32_t class_of(const ld_npy_folder *f, const char *name) {
    const char *at;
    size_t n = own_folder(name, &at);
    int32_t low = 0, high = f->n_classes - 1;
    while (low < high) {
        int32_t middle = (low + high) / 2;
        int order = strncmp(f->classes[middle], at, n);
        if (order < 0)
            low = middle + 1;
        else
            high = middle; /* of those that begin so, the shortest comes first */
    }
    return low;
}

static int find_classes(ld_npy_folder *f) {
    size_t room = 0;
    for (int64_t i = 0; i < f->files.count; i++)
        if (add_class(f, ld_npy_folder_name(f, i), &room))
            return ld_fail(LD_EMEM, "npy: out of host memory for the classes of '%.900s'", f->root);
    sort_classes(f);
    if (f->n_classes < 2) {
        for (int32_t c = 0; c < f->n_classes; c++)
            free(f->classes[c]);
        f->n_classes = 0;
        return 0;
    }
    f->label = malloc((size_t)f->files.count * sizeof *f->label);
    if (!f->label)
        return ld_fail(LD_EMEM, "npy: out of host memory for %lld labels", (long long)f->files.count);
    for (int64_t i = 0; i < f->files.count; i++)
        f->label[i] = class_of(f, ld_npy_folder_name(f, i));
    return 0;
}

static ld_npy *open_file(const ld_npy_folder *f, int64_t i) {
    char path[LD_PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", f->root, ld_npy_folder_name(f, i)) >= (int)sizeof path)
        return ld_fail_null(LD_EIO, "npy: a path below '%.900s' is too long", f->root);
    return ld_npy_open(path);
}

static int look_at_first(ld_npy_folder *f) {
    ld_npy *first = open_file(f, 0);
    if (!first)
        return ld_error_code();
    f->ndim = first->ndim;
    f->dtype = first->dtype;
    memcpy(f->shape, first->shape, sizeof f->shape);
    f->bytes = ld_dtype_size(f->dtype);
    for (int k = 0; k < f->ndim; k++)
        f->bytes *= (size_t)f->shape[k];
    ld_npy_close(first);
    if (f->ndim < 1 || f->ndim >= LD_MAX_DIMS)
        return ld_fail(LD_EFORMAT, "npy: '%.900s' holds arrays of rank %d", f->root, f->ndim);
    return 0;
}

ld_npy_folder *ld_npy_folder_open(const char *path) {
    ld_npy_folder *f = calloc(1, sizeof *f);
    if (!f || !(f->root = strdup(path))) {
        free(f);
        return ld_fail_null(LD_EMEM, "npy: out of host memory");
    }
    int bad = ld_list_files(&f->files, path);
    int64_t all = bad ? 0 : f->files.count, n = 0;
    for (int64_t i = 0; i < all; i++)
        if (is_npy(f->files.text + f->files.offset[i]))
            f->files.offset[n++] = f->files.offset[i];
    f->files.count = n;
    if (!bad && n == 0)
        bad = ld_fail(LD_EFORMAT, "npy: there are no .npy files below '%.900s'", path);
    if (!bad && !look_at_first(f) && !find_classes(f))
        return f;
    ld_npy_folder_close(f);
    return NULL;
}

void ld_npy_folder_close(ld_npy_folder *f) {
    if (!f)
        return;
    for (int32_t c = 0; c < f->n_classes; c++)
        free(f->classes[c]);
    free(f->classes);
    free(f->label);
    ld_file_list_free(&f->files);
    free(f->root);
    free(f);
}

int64_t ld_npy_folder_count(const ld_npy_folder *f) {
    return f->files.count;
}

int ld_npy_folder_shape(const ld_npy_folder *f, int64_t shape[LD_MAX_DIMS], ld_dtype *t) {
    memcpy(shape, f->shape, sizeof f->shape);
    *t = f->dtype;
    return f->ndim;
}

const char *ld_npy_folder_name(const ld_npy_folder *f, int64_t i) {
    return f->files.text + f->files.offset[i];
}

int32_t ld_npy_folder_label(const ld_npy_folder *f, int64_t i) {
    return f->label ? f->label[i] : -1;
}

int32_t ld_npy_folder_classes(const ld_npy_folder *f) {
    return f->n_classes;
}

const char *ld_npy_folder_class(const ld_npy_folder *f, int32_t c) {
    return f->classes[c];
}

static int read_file(const ld_npy_folder *f, int64_t i, char *to) {
    ld_npy *one = open_file(f, i);
    if (!one)
        return ld_error_code();
    int bad = 0;
    if (one->ndim != f->ndim || one->dtype != f->dtype ||
        memcmp(one->shape, f->shape, (size_t)f->ndim * sizeof *f->shape))
        bad = ld_fail(LD_EFORMAT, "npy: '%.500s' is %s %s, the first file %s %s", one->path,
                      ld_shape_text(one->ndim, one->shape), ld_dtype_names[one->dtype],
                      ld_shape_text(f->ndim, f->shape), ld_dtype_names[f->dtype]);
    else
        bad = ld_npy_read_rows(one, 0, one->shape[0], to);
    ld_npy_close(one);
    return bad;
}

ld_tensor *ld_npy_folder_rows(const ld_npy_folder *f, int64_t first, int64_t n) {
    ld_view from = {.dtype = f->dtype, .ndim = f->ndim + 1};
    if (first < 0 || n < 1 || first > f->files.count || n > f->files.count - first)
        return ld_fail_null(LD_EINDEX, "npy: '%.900s' has %lld files; asked for %lld from file %lld on", f->root,
                            (long long)f->files.count, (long long)n, (long long)first);
    from.shape[0] = n;
    memcpy(from.shape + 1, f->shape, (size_t)f->ndim * sizeof *f->shape);
    int64_t step = 1;
    for (int k = f->ndim; k >= 0; k--) {
        from.stride[k] = step;
        step *= from.shape[k];
    }
    char *all = malloc((size_t)n * f->bytes + 1);
    ld_tensor *x = all ? ld_tensor_new(ld_device_find("cpu"), f->dtype, f->ndim + 1, from.shape, "npy") : NULL;
    int bad = x ? 0 : ld_fail(LD_EMEM, "npy: out of host memory for %lld files", (long long)n);
    for (int64_t i = 0; !bad && i < n; i++)
        bad = read_file(f, first + i, all + (size_t)i * f->bytes);
    from.data = all;
    if (!bad)
        bad = x->storage->device->backend->copy(LD_VIEW(x), &from);
    free(all);
    if (!bad)
        return x;
    ld_tensor_drop(x);
    return NULL;
}
