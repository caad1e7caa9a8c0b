/* Pictures: any bytes decode to a picture that every transform takes, or are refused. */
#include "base/error.h"
#include "io/exif.h"
#include "io/image.h"

enum { SIZE = 16, MOST = 1 << 18 };

static void must(int holds) {
    if (!holds)
        __builtin_trap();
}

static void transform_all(const ld_image *im) {
    for (ld_transform t = LD_ADM; t < LD_TRANSFORM_COUNT; t++) {
        ld_image out;
        must(ld_image_transform(&out, im, SIZE, t) == LD_OK);
        must(out.width == SIZE && out.height == SIZE && out.channels == im->channels);
        ld_image_free(&out);
    }
}

static void decode(const uint8_t *bytes, size_t n, const ld_decode *how) {
    ld_image im;
    int code = ld_image_decode(&im, bytes, n, how, "input");
    must(!code || code == LD_EFORMAT || code == LD_EVALUE);
    must(!code == !!im.data);
    if (!code) {
        must((uint64_t)im.width * (uint64_t)im.height <= MOST);
        transform_all(&im);
    }
    ld_image_free(&im);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    const char *type = ld_image_type(bytes, n);
    must(ld_exif_orientation(bytes, n) >= 1);
    decode(bytes, n, &(ld_decode){.exif = true, .most = MOST});
    if (type && type[0] == 'j')
        decode(bytes, n, &(ld_decode){.channels = 3, .scale_for = SIZE, .most = MOST});
    return 0;
}
