/* The named ways from a picture to a square. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "io/image_codec.h"
#include "io/image_resize.h"

const char *const ld_transform_names[LD_TRANSFORM_COUNT] = {
    "adm", "short-center-bilinear", "topleft", "lanczos", "center", "stretch", "dct-fast",
};

int ld_transform_find(const char *name) {
    for (int t = 0; t < LD_TRANSFORM_COUNT; t++)
        if (!strcmp(ld_transform_names[t], name))
            return t;
    return -1;
}

int ld_transform_scale_for(ld_transform t, int size) {
    return t == LD_DCT_FAST ? size : 0;
}

/* Half of what is left over, halves to the even number: where torchvision's CenterCrop starts. */
static int64_t middle(int64_t spare) {
    int64_t floor = spare / 2;
    return (spare + (floor & 1)) / 2;
}

/* `in` to `full`, of which the n from `start` on are wanted. */
static ld_axis axis(int64_t in, int64_t full, int64_t start, int n) {
    return (ld_axis){in, 0, (float)in, full, start, n};
}

/* Bicubic to a short side of `size`, the long side's fraction dropped; the square at the middle or the top left. */
static int resize_short(ld_image *out, const ld_part *in, int size, bool centred) {
    int shorter = in->width < in->height ? in->width : in->height;
    int64_t width = (int64_t)size * in->width / shorter, height = (int64_t)size * in->height / shorter;
    ld_stage stage = {axis(in->width, width, centred ? middle(width - size) : 0, size),
                      axis(in->height, height, centred ? middle(height - size) : 0, size), LD_FILTER_BICUBIC};
    return ld_image_stages(out, in, &stage, 1);
}

static int resize_whole(ld_image *out, const ld_part *in, int size, ld_filter filter) {
    ld_stage stage = {axis(in->width, size, 0, size), axis(in->height, size, 0, size), filter};
    return ld_image_stages(out, in, &stage, 1);
}

/* Nichol & Dhariwal's center_crop_arr. The scale is a double there, and Python rounds halves to even. */
static int adm(ld_image *out, const ld_part *in, int size) {
    ld_stage stages[LD_STAGES];
    int count = 0;
    int64_t width = in->width, height = in->height, shorter;
    while ((shorter = width < height ? width : height) >= 2 * (int64_t)size) {
        stages[count++] = (ld_stage){axis(width, width / 2, 0, 0), axis(height, height / 2, 0, 0), LD_FILTER_BOX};
        width /= 2;
        height /= 2;
    }
    double scale = (double)size / (double)shorter;
    int64_t wide = (int64_t)rint((double)width * scale), high = (int64_t)rint((double)height * scale);
    stages[count++] = (ld_stage){axis(width, wide, (wide - size) / 2, size),
                                 axis(height, high, (high - size) / 2, size), LD_FILTER_BICUBIC};
    return ld_image_stages(out, in, stages, count);
}

int ld_image_transform(ld_image *out, const ld_image *in, int size, ld_transform t) {
    *out = (ld_image){0};
    int code = ld_image_check(in, "transform");
    if (code)
        return code;
    if (size < 1)
        return ld_fail(LD_EVALUE, "transform: size %d; needs at least 1", size);
    int shorter = in->width < in->height ? in->width : in->height;
    ld_part part = ld_image_part(in, 0, 0, in->width, in->height);
    switch (t) {
    case LD_ADM:
    case LD_DCT_FAST:
        return adm(out, &part, size);
    case LD_SHORT_CENTER_BILINEAR:
        part = ld_image_part(in, (int)middle(in->width - shorter), (int)middle(in->height - shorter), shorter, shorter);
        return resize_whole(out, &part, size, LD_FILTER_BILINEAR);
    case LD_TOPLEFT:
        if (shorter < size)
            return resize_short(out, &part, size, false);
        part = ld_image_part(in, 0, 0, size, size);
        return ld_image_copy(out, &part);
    case LD_LANCZOS:
        part = ld_image_part(in, (in->width - shorter) / 2, (in->height - shorter) / 2, shorter, shorter);
        return resize_whole(out, &part, size, LD_FILTER_LANCZOS);
    case LD_CENTER:
        return resize_short(out, &part, size, true);
    case LD_STRETCH:
        return resize_whole(out, &part, size, LD_FILTER_BILINEAR);
    default:
        return ld_fail(LD_EVALUE, "transform: number %d; needs 0 to %d", (int)t, LD_TRANSFORM_COUNT - 1);
    }
}
