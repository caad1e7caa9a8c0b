#include "data/image_set.h"

#include "base/error.h"
#include "data/face.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- listing -------------------------------------------------------------------------------------------------------- */

static bool sniff(const char *root, const char *name) {
    char path[LD_PATH_MAX];
    unsigned char head[16];
    if (snprintf(path, sizeof path, "%s/%s", root, name) >= (int)sizeof path)
        return false;
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(head, 1, sizeof head, f) : 0;
    if (f)
        fclose(f);
    return ld_image_type(head, n) != NULL;
}

static bool is_picture(const char *root, const char *name) {
    static const char *const known[] = {".png", ".jpg", ".jpeg", ".webp"};
    const char *dot = strrchr(name, '.'), *slash = strrchr(name, '/');
    if (dot && (!slash || dot > slash))
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (!strcasecmp(dot, known[i]))
                return true;
    return sniff(root, name);
}

static void keep_pictures(ld_image_set *s) {
    int64_t kept = 0;
    for (int64_t i = 0; i < s->files.count; i++)
        if (is_picture(s->root, s->files.text + s->files.offset[i]))
            s->files.offset[kept++] = s->files.offset[i];
    s->files.count = kept;
}

/* The name of the folder a picture lies in, "" for the root itself: start and length inside its path. */
static const char *folder_of(const char *path, size_t *n) {
    const char *end = strrchr(path, '/'), *start = end;
    *n = 0;
    if (!end)
        return path;
    while (start > path && start[-1] != '/')
        start--;
    *n = (size_t)(end - start);
    return start;
}

static int compare_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_class(ld_image_set *s, const char *text, size_t n, int *room) {
    if (s->n_classes == *room) {
        *room = *room ? 2 * *room : 64;
        char **more = realloc(s->class_names, (size_t)*room * sizeof *more);
        if (!more)
            return ld_fail(LD_EMEM, "images: out of host memory for %d classes", *room);
        s->class_names = more;
    }
    char *name = strndup(text, n);
    if (!name)
        return ld_fail(LD_EMEM, "images: out of host memory");
    s->class_names[s->n_classes++] = name;
    return 0;
}

static void drop_classes(ld_image_set *s) {
    for (int i = 0; i < s->n_classes; i++)
        free(s->class_names[i]);
    free(s->class_names);
    s->class_names = NULL;
    s->n_classes = 0;
}

/* Paths are sorted, so equal folders follow one another; the same name under two parents is one class. */
static int find_classes(ld_image_set *s) {
    int room = 0;
    const char *last = NULL;
    size_t last_n = 0;
    for (int64_t i = 0; i < s->files.count; i++) {
        size_t n;
        const char *folder = folder_of(ld_image_set_name(s, i), &n);
        if (last && n == last_n && !memcmp(folder, last, n))
            continue;
        last = folder;
        last_n = n;
        if (add_class(s, folder, n, &room))
            return ld_error_code();
    }
    qsort(s->class_names, (size_t)s->n_classes, sizeof *s->class_names, compare_text);
    int unique = 0;
    for (int i = 0; i < s->n_classes; i++) {
        if (unique && !strcmp(s->class_names[unique - 1], s->class_names[i]))
            free(s->class_names[i]);
        else
            s->class_names[unique++] = s->class_names[i];
    }
    s->n_classes = unique;
    if (unique < 2)
        drop_classes(s);
    return 0;
}

static void set_labels(ld_image_set *s) {
    char name[LD_PATH_MAX];
    for (int64_t i = 0; i < s->files.count; i++) {
        size_t n;
        const char *folder = folder_of(ld_image_set_name(s, i), &n), *key = name;
        snprintf(name, sizeof name, "%.*s", (int)n, folder);
        char **hit =
            s->n_classes ? bsearch(&key, s->class_names, (size_t)s->n_classes, sizeof key, compare_text) : NULL;
        s->label[i] = hit ? (int32_t)(hit - s->class_names) : -1;
    }
}

ld_image_set *ld_image_set_open(const char *path) {
    ld_image_set *s = calloc(1, sizeof *s);
    if (!s || !(s->root = strdup(path))) {
        free(s);
        return ld_fail_null(LD_EMEM, "images: out of host memory");
    }
    s->refs = 1;
    int bad = ld_list_files(&s->files, path);
    if (!bad) {
        keep_pictures(s);
        if (!s->files.count)
            bad = ld_fail(LD_EFORMAT, "images: no PNG, JPEG or WebP pictures below %s", path);
    }
    if (!bad && !(s->label = malloc((size_t)s->files.count * sizeof *s->label)))
        bad = ld_fail(LD_EMEM, "images: out of host memory for %lld labels", (long long)s->files.count);
    if (!bad)
        bad = find_classes(s);
    if (bad) {
        ld_image_set_drop(s);
        return NULL;
    }
    set_labels(s);
    return s;
}

ld_image_set *ld_image_set_ref(ld_image_set *s) {
    s->refs++;
    return s;
}

void ld_image_set_drop(ld_image_set *s) {
    if (!s || --s->refs > 0)
        return;
    drop_classes(s);
    ld_file_list_free(&s->files);
    free(s->label);
    free(s->root);
    free(s);
}

const char *ld_image_set_name(const ld_image_set *s, int64_t i) {
    return s->files.text + s->files.offset[i];
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

/* Picture i into size * size * 3 bytes; returns NULL, or the reason, malloc'd. */
static char *read_one(const ld_image_set *s, int64_t i, int size, ld_fit fit, uint8_t *to) {
    char path[LD_PATH_MAX];
    ld_image im = {0}, out = {0};
    int bad = snprintf(path, sizeof path, "%s/%s", s->root, ld_image_set_name(s, i)) >= (int)sizeof path
                  ? ld_fail(LD_EVALUE, "images: the path of %s is too long", ld_image_set_name(s, i))
                  : ld_image_read(&im, path, 3);
    if (!bad)
        bad = ld_image_fit(&out, &im, size, fit);
    size_t bytes = (size_t)size * (size_t)size * 3;
    if (bad)
        memset(to, 0, bytes);
    else
        memcpy(to, out.data, bytes);
    ld_image_free(&im);
    ld_image_free(&out);
    return bad ? strdup(ld_error()) : NULL;
}

ld_tensor *ld_image_set_read(const ld_image_set *s, const int64_t *index, int n, int size, ld_fit fit, char **why) {
    for (int i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= s->files.count)
            return ld_fail_null(LD_EINDEX, "images: picture %lld of %lld", (long long)index[i] + 1,
                                (long long)s->files.count);
    if (size < 1 || size > 16384)
        return ld_fail_null(LD_EVALUE, "images: a size of %d; 1 to 16384 are possible", size);
    int64_t shape[4] = {n, 3, size, size};
    ld_tensor *x = ld_tensor_new(ld_device_find("cpu"), LD_U8, 4, shape, "images");
    if (!x)
        return NULL;
    uint8_t *to = ld_tensor_data(x); /* canonical: rows of interleaved pixels */
    size_t bytes = (size_t)size * (size_t)size * 3;
#pragma omp parallel for schedule(dynamic) num_threads(ld_threads())
    for (int i = 0; i < n; i++)
        why[i] = read_one(s, index[i], size, fit, to + (size_t)i * bytes);
    return x;
}

ld_tensor *ld_image_load(const char *path, int channels) {
    ld_image im = {0};
    if (ld_image_read(&im, path, channels))
        return NULL;
    int64_t shape[4] = {1, im.channels, im.height, im.width};
    ld_tensor *x = ld_tensor_new(ld_device_find("cpu"), LD_U8, 4, shape, "image");
    if (x)
        memcpy(ld_tensor_data(x), im.data, (size_t)im.channels * (size_t)im.height * (size_t)im.width);
    ld_image_free(&im);
    ld_tensor *y = x ? ld_tensor_view(x, 3, x->shape + 1, x->stride + 1, 0) : NULL;
    ld_tensor_drop(x);
    return y;
}

/* x, of host memory and a shape that can be a picture, as bytes. */
static void to_bytes(const ld_tensor *x, const ld_image *im) {
    const char *from = ld_tensor_data(x);
    size_t size = ld_dtype_size(x->dtype);
    int64_t h = x->shape[x->ndim - 2], w = x->shape[x->ndim - 1], channels = im->channels;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < h; i++)
            for (int64_t j = 0; j < w; j++) {
                int64_t at =
                    (x->ndim == 2 ? 0 : c * x->stride[0]) + i * x->stride[x->ndim - 2] + j * x->stride[x->ndim - 1];
                double v = ld_dtype_get(x->dtype, from + at * (int64_t)size);
                if (x->dtype != LD_U8)
                    v = v > 0 ? (v < 1 ? v * 255 + 0.5 : 255) : 0; /* NaN becomes black */
                im->data[(i * w + j) * channels + c] = (uint8_t)v;
            }
}

int ld_image_save(ld_tensor *x, const char *path, const char *const *text) {
    int64_t channels = x->ndim == 2 ? 1 : x->shape[0];
    if ((x->ndim != 2 && x->ndim != 3) || (channels != 1 && channels != 3) || ld_tensor_numel(x) == 0)
        return ld_fail(LD_ESHAPE,
                       "image: %s cannot be a picture; (3,height,width), (1,height,width) or (height,width) can",
                       ld_tensor_text(x));
    if (x->dtype != LD_U8 && !ld_dtype_is_float(x->dtype))
        return ld_fail(LD_EDTYPE, "image: %s; u8 (0 .. 255) or a float (0 .. 1) is needed", ld_tensor_text(x));
    ld_image im;
    ld_tensor *host = ld_tensor_host(x, "image");
    if (!host)
        return ld_error_code();
    int bad = ld_image_new(&im, (int)x->shape[x->ndim - 1], (int)x->shape[x->ndim - 2], (int)channels);
    if (!bad) {
        to_bytes(host, &im);
        bad = ld_image_write_png(&im, path, text);
        ld_image_free(&im);
    }
    ld_tensor_drop(host);
    return bad;
}

ld_tensor *ld_faces(int64_t n, int size, uint64_t seed, uint64_t first) {
    if (size < 16 || size > 1024 || n < 0)
        return ld_fail_null(LD_EVALUE, "synthetic_faces: %lld faces of size %d; sizes 16 to 1024 are possible",
                            (long long)n, size);
    int64_t shape[4] = {n, 3, size, size};
    ld_tensor *x = ld_tensor_new(ld_device_find("cpu"), LD_U8, 4, shape, "synthetic_faces");
    if (!x)
        return NULL;
    uint8_t *to = ld_tensor_data(x);
    size_t bytes = (size_t)size * (size_t)size * 3;
#pragma omp parallel for schedule(dynamic) num_threads(ld_threads())
    for (int64_t i = 0; i < n; i++)
        ld_face_render(to + (size_t)i * bytes, size, seed, first + (uint64_t)i);
    return x;
}
