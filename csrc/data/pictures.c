#include "data/pictures.h"

#include "base/error.h"
#include "data/face.h"

#include <stdlib.h>
#include <string.h>

/* ---- out of a source ------------------------------------------------------------------------------------------------ */

enum { MOST = 256 << 20 }; /* bytes of one file */

struct batch {
    ld_source *s;
    const int64_t *index;
    int n, size;
    ld_transform transform;
    ld_decode how;
    uint8_t *to;
    char **why;
};

/* Position k of a batch, whose bytes are in b unless reading them failed (`bad`). */
static void decode_one(const struct batch *t, int k, const ld_bytes *b, int bad) {
    ld_image im = {0}, out = {0};
    size_t bytes = (size_t)t->size * (size_t)t->size * 3;
    uint8_t *to = t->to + (size_t)k * bytes;
    if (!bad)
        bad = ld_source_decode(t->s, t->index[k], b, &t->how, &im);
    if (!bad)
        bad = ld_image_transform(&out, &im, t->size, t->transform);
    if (bad)
        memset(to, 0, bytes);
    else
        memcpy(to, out.data, bytes);
    t->why[k] = bad ? strdup(ld_error()) : NULL;
    ld_image_free(&im);
    ld_image_free(&out);
}

/* Every thread reads for itself. */
static void read_anywhere(const struct batch *t) {
#pragma omp parallel num_threads(ld_threads())
    {
        ld_source_reader *r = ld_source_borrow(t->s);
        ld_bytes b = {0};
#pragma omp for schedule(dynamic)
        for (int k = 0; k < t->n; k++)
            decode_one(t, k, &b, r ? ld_source_read(r, t->index[k], &b, MOST) : LD_EMEM);
        ld_bytes_free(&b);
        ld_source_give_back(t->s, r);
    }
}

/* One reader, in the order of the list. */
static void read_in_order(const struct batch *t) {
    ld_source_reader *r = ld_source_borrow(t->s);
#pragma omp parallel num_threads(ld_threads())
    {
        ld_bytes b = {0};
#pragma omp for schedule(dynamic) ordered
        for (int k = 0; k < t->n; k++) {
            int bad = 0;
#pragma omp ordered
            bad = r ? ld_source_read(r, t->index[k], &b, MOST) : ld_fail(LD_EMEM, "images: out of host memory");
            decode_one(t, k, &b, bad);
        }
        ld_bytes_free(&b);
    }
    ld_source_give_back(t->s, r);
}

ld_tensor *ld_pictures_read(ld_source *s, const int64_t *index, int n, int size, ld_transform transform, bool exif,
                            char **why) {
    for (int i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= ld_source_count(s))
            return ld_fail_null(LD_EINDEX, "images: picture %lld of %lld", (long long)index[i] + 1,
                                (long long)ld_source_count(s));
    if (size < 1 || size > 16384)
        return ld_fail_null(LD_EVALUE, "images: a size of %d; 1 to 16384 are possible", size);
    int64_t shape[4] = {n, 3, size, size};
    ld_tensor *x = ld_tensor_new(ld_device_find("cpu"), LD_U8, 4, shape, "images");
    if (!x)
        return NULL;
    const struct batch t = {
        .s = s,
        .index = index,
        .n = n,
        .size = size,
        .transform = transform,
        .how = {.channels = 3, .exif = exif, .scale_for = ld_transform_scale_for(transform, size)},
        .to = ld_tensor_data(x), /* canonical: rows of interleaved pixels */
        .why = why,
    };
    if (ld_source_in_order(s))
        read_in_order(&t);
    else
        read_anywhere(&t);
    return x;
}

int ld_picture_inspect(ld_source *s, int64_t i, ld_picture_info *info) {
    ld_source_reader *r = ld_source_borrow(s);
    ld_bytes b = {0};
    ld_image im = {0};
    *info = (ld_picture_info){.bytes = -1};
    int bad = r ? ld_source_read(r, i, &b, MOST) : ld_error_code();
    if (!bad) {
        info->bytes = (int64_t)b.n;
        info->form = !strncmp(ld_source_kind(s), "cifar", 5) ? "cifar" : ld_image_type(b.data, b.n);
        bad = ld_source_decode(s, i, &b, &(ld_decode){0}, &im);
    }
    if (!bad) {
        info->width = im.width;
        info->height = im.height;
        info->channels = im.channels;
    }
    ld_image_free(&im);
    ld_bytes_free(&b);
    ld_source_give_back(s, r);
    return bad;
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

ld_tensor *ld_image_load(const char *path, int channels) {
    ld_image im = {0};
    if (ld_image_read(&im, path, &(ld_decode){.channels = channels}))
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

int ld_image_from(ld_image *im, ld_tensor *x) {
    int64_t channels = x->ndim == 2 ? 1 : x->shape[0];
    if ((x->ndim != 2 && x->ndim != 3) || (channels != 1 && channels != 3) || ld_tensor_numel(x) == 0)
        return ld_fail(LD_ESHAPE,
                       "image: %s cannot be a picture; (3,height,width), (1,height,width) or (height,width) can",
                       ld_tensor_text(x));
    if (x->dtype != LD_U8 && !ld_dtype_is_float(x->dtype))
        return ld_fail(LD_EDTYPE, "image: %s; u8 (0 .. 255) or a float (0 .. 1) is needed", ld_tensor_text(x));
    ld_tensor *host = ld_tensor_host(x, "image");
    if (!host)
        return ld_error_code();
    int bad = ld_image_new(im, (int)x->shape[x->ndim - 1], (int)x->shape[x->ndim - 2], (int)channels);
    if (!bad)
        to_bytes(host, im);
    ld_tensor_drop(host);
    return bad;
}

int ld_image_save(ld_tensor *x, const char *path, const char *const *text) {
    ld_image im;
    if (ld_image_from(&im, x))
        return ld_error_code();
    int bad = ld_image_write_png(&im, path, text);
    ld_image_free(&im);
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
