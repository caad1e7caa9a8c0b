/* JPEG by libjpeg-turbo.
 *
 * libjpeg reports an error by a callback that must not return: it jumps back to the setjmp in decode(). All that has to
 * survive the jump lies in struct job, which belongs to the caller of decode(), so no local needs to be volatile. */
#include <setjmp.h>
#include <stdio.h>

#include <jerror.h>
#include <jpeglib.h>

#include "base/error.h"
#include "io/image_codec.h"

/* Real progressive files have about ten scans; each hostile one costs a pass over the whole picture. */
#define MAX_SCANS 500

/* The fewest bits a picture can have is one for each block of its largest component, and that component covers at least
 * a quarter of the 8 x 8 blocks (sampling factors 4 x 1 beside 1 x 4): 2048 pixels a byte. Huffman coding only. */
#define MAX_PIXELS_A_BYTE 2048

struct job {
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    int code;
    ld_image *im;
    const void *bytes;
    size_t n;
    int scale_for;
    const char *name;
};

static void on_error(j_common_ptr info) {
    struct job *job = info->client_data;
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    int memory = info->err->msg_code == JERR_OUT_OF_MEMORY;
    job->code = ld_fail(memory ? LD_EMEM : LD_EFORMAT, "image: %s: JPEG: %s", job->name, text);
    longjmp(job->escape, 1);
}

/* Warnings (level -1) and traces. The memory source only warns when the bytes run out, and goes on with gray. */
static void on_message(j_common_ptr info, int level) {
    if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF)
        on_error(info);
}

static void on_output(j_common_ptr info) {
    (void)info;
}

static void on_progress(j_common_ptr info) {
    struct job *job = info->client_data;
    if (job->info.input_scan_number > MAX_SCANS) {
        job->code = ld_fail(LD_EFORMAT, "image: %s: JPEG: more than %d scans", job->name, MAX_SCANS);
        longjmp(job->escape, 1);
    }
}

/* c * k / 255, rounded. */
static unsigned scale(unsigned c, unsigned k) {
    unsigned t = c * k + 128;
    return ((t >> 8) + t) >> 8;
}

/* R = (1 - C) (1 - K), and so on, in Pillow's arithmetic. `flip` is 255 for values that are stored inverted. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, int width, unsigned flip) {
    for (int i = 0; i < width; i++, rgb += 3, cmyk += 4) {
        unsigned light = 255 - (cmyk[3] ^ flip);
        for (int c = 0; c < 3; c++)
            rgb[c] = (uint8_t)(light - scale(cmyk[c] ^ flip, light));
    }
}

/* The largest of 8, 4, 2 that leaves the short side at `least` pixels or more; else 1. */
static unsigned scale_denominator(const struct jpeg_decompress_struct *info, int least) {
    unsigned shorter = info->image_width < info->image_height ? info->image_width : info->image_height;
    unsigned by = least > 0 ? 8 : 1;
    while (by > 1 && (shorter + by - 1) / by < (unsigned)least)
        by /= 2;
    return by;
}

static int read_header(struct job *job) {
    struct jpeg_decompress_struct *info = &job->info;
    jpeg_read_header(info, TRUE);
    switch (info->num_components) {
    case 1:
        info->out_color_space = JCS_GRAYSCALE;
        break;
    case 3:
        info->out_color_space = JCS_RGB;
        break;
    case 4:
        info->out_color_space = JCS_CMYK;
        break;
    default:
        return ld_fail(LD_EFORMAT, "image: %s: JPEG: %d components; needs 1, 3 or 4", job->name, info->num_components);
    }
    unsigned width = info->image_width, height = info->image_height;
    int code = ld_image_pixels(width, height, job->name);
    if (!code && (!info->arith_code || (uint64_t)width * height > LD_PLAIN))
        code = ld_image_density(width, height, job->n, info->arith_code ? LD_SPARSE : MAX_PIXELS_A_BYTE, "JPEG",
                                job->name);
    if (code)
        return code;
    info->dct_method = JDCT_ISLOW;
    info->do_fancy_upsampling = TRUE;
    info->scale_num = 1;
    info->scale_denom = scale_denominator(info, job->scale_for);
    jpeg_calc_output_dimensions(info);
    return ld_image_new(job->im, (int)info->output_width, (int)info->output_height, info->num_components == 1 ? 1 : 3);
}

static int decode(struct job *job) {
    struct jpeg_decompress_struct *info = &job->info;
    if (setjmp(job->escape))
        return job->code;
    jpeg_create_decompress(info);
    info->progress = &job->progress;
    jpeg_mem_src(info, job->bytes, job->n);
    int code = read_header(job);
    if (code)
        return code;
    jpeg_start_decompress(info);
    ld_image *im = job->im;
    size_t stride = (size_t)im->width * (size_t)im->channels;
    JSAMPROW line = NULL; /* one row of CMYK, freed with info */
    if (info->out_color_space == JCS_CMYK)
        line = info->mem->alloc_large((j_common_ptr)info, JPOOL_IMAGE, 4 * (size_t)im->width);
    while (info->output_scanline < info->output_height) {
        uint8_t *target = im->data + info->output_scanline * stride;
        JSAMPROW row = line ? line : target;
        jpeg_read_scanlines(info, &row, 1);
        if (line)
            cmyk_to_rgb(target, line, im->width, info->saw_Adobe_marker ? 255 : 0);
    }
    jpeg_finish_decompress(info); /* reads on to the end marker, so that a missing one is noticed */
    return LD_OK;
}

int ld_jpeg_decode(ld_image *im, const void *bytes, size_t n, int scale_for, const char *name) {
    struct job job = {.im = im, .bytes = bytes, .n = n, .scale_for = scale_for, .name = name};
    job.info.err = jpeg_std_error(&job.errors);
    job.info.client_data = &job;
    job.errors.error_exit = on_error;
    job.errors.emit_message = on_message;
    job.errors.output_message = on_output;
    job.progress.progress_monitor = on_progress;
    int code = decode(&job);
    jpeg_destroy_decompress(&job.info);
    return code;
}
