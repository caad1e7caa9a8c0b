/* WebP by libwebp: lossy and lossless, alpha dropped, animations refused. */
#include <webp/decode.h>

#include "base/error.h"
#include "io/image_codec.h"

static int fail_status(VP8StatusCode status, const char *name) {
    switch (status) {
    case VP8_STATUS_OUT_OF_MEMORY:
        return ld_fail(LD_EMEM, "image: %s: WebP: out of memory", name);
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED:
        return ld_fail(LD_EFORMAT, "image: %s: WebP: the file ends early", name);
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return ld_fail(LD_EFORMAT, "image: %s: WebP: uses a feature that is not supported", name);
    default:
        return ld_fail(LD_EFORMAT, "image: %s: WebP: damaged (status %d)", name, (int)status);
    }
}

int ld_webp_decode(ld_image *im, const void *bytes, size_t n, const char *name) {
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return ld_fail(LD_EINTERNAL, "image: the WebP library has another version than its header");
    VP8StatusCode status = WebPGetFeatures(bytes, n, &config.input);
    if (status != VP8_STATUS_OK)
        return fail_status(status, name);
    if (config.input.has_animation)
        return ld_fail(LD_EFORMAT, "image: %s: WebP: an animation; needs a single picture", name);
    uint32_t width = (uint32_t)config.input.width, height = (uint32_t)config.input.height;
    int code =
        (uint64_t)width * height > LD_PLAIN ? ld_image_density(width, height, n, LD_SPARSE, "WebP", name) : LD_OK;
    if (!code)
        code = ld_image_pixels(width, height, name);
    if (!code)
        code = ld_image_new(im, (int)width, (int)height, 3);
    if (code)
        return code;
    size_t stride = 3 * (size_t)im->width;
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = im->data;
    config.output.u.RGBA.stride = (int)stride;
    config.output.u.RGBA.size = stride * (size_t)im->height;
    status = WebPDecode(bytes, n, &config);
    WebPFreeDecBuffer(&config.output);
    return status == VP8_STATUS_OK ? LD_OK : fail_status(status, name);
}
