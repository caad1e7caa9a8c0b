/* Latent stores: creating one. */
#include "base/error.h"
#include "data/latent_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const latent_set_names[LD_LATENT_SETS] = {"/latents/mean", "/latents/logvar", "/mirrored/mean",
                                                      "/mirrored/logvar"};

bool latent_is_part(const char *path) {
    size_t n = strlen(path);
    return n > 5 && !strcmp(path + n - 5, ".part");
}

/* "a.h5.part" or "a.h5": a name for shard k of it, without folder and ".part": "a-003.h5". */
static void shard_name(const char *path, int k, char *name, size_t n) {
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t length = strlen(base) - (latent_is_part(path) ? 5 : 0);
    if (length > 3 && !strncmp(base + length - 3, ".h5", 3))
        length -= 3;
    snprintf(name, n, "%.*s-%03d.h5", (int)length, base, k);
}

int64_t latent_shard_rows(int64_t count, int shards, int batch) {
    int64_t rows = (count + shards - 1) / shards;
    return (rows + batch - 1) / batch * batch;
}

bool latent_is_row(ld_dtype t, int64_t channels, int64_t height, int64_t width) {
    enum { MOST = 1 << 24 };
    return (t == LD_F16 || t == LD_BF16 || t == LD_F32) && channels >= 1 && channels <= 64 && height >= 1 &&
           height <= MOST && width >= 1 && width <= MOST && height * width <= MOST;
}

static bool wanted(const ld_latent_spec *s, int set) {
    return (s->moments || set == LD_LATENT_MEAN || set == LD_LATENT_MIRRORED_MEAN) &&
           (s->mirrored || set < LD_LATENT_MIRRORED_MEAN);
}

static int check(const char *part, const ld_latent_spec *s) {
    static const char who[] = "latents";
    if (!latent_is_part(part) || strlen(part) >= LD_PATH_MAX - 64)
        return ld_fail(LD_EVALUE, "%s: the name '%.900s' of a store in the making must end with .part", who, part);
    if (s->count < 1 || s->count > UINT32_MAX)
        return ld_fail(LD_EVALUE, "%s: a store of %lld pictures; 1 to 2^32 - 1 are possible", who, (long long)s->count);
    if (!latent_is_row(LD_F32, s->channels, s->height, s->width))
        return ld_fail(LD_EVALUE, "%s: latents of shape (%d,%d,%d)", who, s->channels, s->height, s->width);
    if (!latent_is_row(s->dtype, 1, 1, 1))
        return ld_fail(LD_EDTYPE, "%s: latents of dtype '%s'; known: f16 bf16 f32", who, ld_dtype_names[s->dtype]);
    if (s->batch < 1 || s->shards < 0 || s->shards > LATENT_SHARDS)
        return ld_fail(LD_EVALUE, "%s: %d shards, batches of %d; 0 to %d shards and batches of at least 1 are possible",
                       who, s->shards, s->batch, LATENT_SHARDS);
    return 0;
}

static int check_room(const char *part, const ld_latent_spec *s) {
    int64_t row = (int64_t)s->channels * s->height * s->width * (int64_t)ld_dtype_size(s->dtype), rows = 0;
    size_t name = 1;
    for (int k = 0; k < LD_LATENT_SETS; k++)
        rows += wanted(s, k) ? row : 0;
    for (int64_t i = 0; i < s->count; i++) {
        const char *text = s->name(s->name_arg, i);
        if (!text)
            return ld_error_code();
        name = strlen(text) > name ? strlen(text) : name;
    }
    double need = (double)s->count * ((double)rows + (double)name + 4 + 1 + 8 + 0.125);
    int64_t have = ld_disk_free(part);
    if (have >= 0 && need > (double)have)
        return ld_fail(LD_EIO, "latents: '%.500s' needs %.2f GB for %lld pictures; %.2f GB are free there", part,
                       need * 1e-9, (long long)s->count, (double)have * 1e-9);
    return 0;
}

static int write_attributes(ld_h5 *f, const ld_latent_spec *s, const char *format) {
    int bad = ld_h5_set_string(f, "/", "format", format) || ld_h5_set_number(f, "/", "count", (double)s->count) ||
              ld_h5_set_string(f, "/", "dtype", ld_dtype_names[s->dtype]) ||
              ld_h5_set_number(f, "/", "moments", s->moments) || ld_h5_set_number(f, "/", "mirrored", s->mirrored) ||
              ld_h5_set_number(f, "/", "batch", s->batch) || ld_h5_set_number(f, "/", "shards", s->shards);
    for (int i = 0; !bad && i < s->n_attributes; i++) {
        const ld_latent_attribute *a = &s->attribute[i];
        bad = a->text ? ld_h5_set_string(f, "/", a->key, a->text) : ld_h5_set_number(f, "/", a->key, a->number);
    }
    return bad ? ld_error_code() : 0;
}

/* The sets of rows, in this file or over those of `shard`. */
static int make_rows(ld_h5 *f, const ld_latent_spec *s, int64_t rows, const ld_h5_part *shard, int shards) {
    int64_t shape[4] = {rows, s->channels, s->height, s->width};
    for (int k = 0; k < LD_LATENT_SETS; k++) {
        const char *name = latent_set_names[k];
        if (!wanted(s, k))
            continue;
        if (shards ? ld_h5_make_virtual(f, name, s->dtype, 4, shape, shard, shards)
                   : ld_h5_make(f, name, s->dtype, 4, shape))
            return ld_error_code();
    }
    return ld_h5_set_string(f, latent_set_names[0], "dimensions",
                            "picture, channel, row, column; posterior mean, not scaled");
}

/* /done is written out, so that a full disk cannot keep rows that are there from being counted. */
static int make_done(ld_h5 *f, int64_t count) {
    int64_t n = (count + 7) / 8;
    ld_tensor *none = ld_tensor_full(ld_device_find("cpu"), LD_U8, 1, &n, 0, "latents");
    int bad = none ? ld_h5_write(f, "/done", none) : ld_error_code();
    ld_tensor_drop(none);
    return bad;
}

static int make_columns(ld_h5 *f, const ld_latent_spec *s, const char *const *shard_names, int shards) {
    int64_t count = s->count, channels = s->channels, one = 1;
    int bad = make_done(f, count) || ld_h5_make(f, "/complete", LD_U8, 1, &one) ||
              ld_h5_make(f, "/statistics/mean", LD_F64, 1, &channels) ||
              ld_h5_make(f, "/statistics/std", LD_F64, 1, &channels) || ld_h5_make(f, "/label", LD_I32, 1, &count) ||
              ld_h5_make(f, "/valid", LD_U8, 1, &count) || ld_h5_make(f, "/crc32", LD_I64, 1, &count) ||
              ld_h5_write_strings(f, "/class_name", s->classes, s->n_classes) ||
              ld_h5_write_strings(f, "/shard", shard_names, shards) ||
              ld_h5_write_each(f, "/name", count, s->name, s->name_arg);
    return bad ? ld_error_code() : 0;
}

static int create_shard(const char *part, const ld_latent_spec *s, const char *name, int64_t first, int64_t rows) {
    char path[LD_PATH_MAX];
    const char *slash = strrchr(part, '/');
    snprintf(path, sizeof path, "%.*s%s.part", slash ? (int)(slash - part + 1) : 0, part, name);
    ld_h5 *f = ld_h5_create(path);
    if (!f)
        return ld_error_code();
    int bad = write_attributes(f, s, LD_LATENT_FORMAT " shard") || ld_h5_set_number(f, "/", "first", (double)first) ||
              make_rows(f, s, rows, NULL, 0);
    if (!bad)
        return ld_h5_commit(f);
    ld_h5_close(f);
    return ld_error_code();
}

static int create_main(const char *part, const ld_latent_spec *s, const ld_h5_part *shard, int shards) {
    ld_h5 *f = ld_h5_create(part);
    if (!f)
        return ld_error_code();
    const char *names[LATENT_SHARDS];
    for (int k = 0; k < shards; k++)
        names[k] = shard[k].file;
    int bad = write_attributes(f, s, LD_LATENT_FORMAT) || make_rows(f, s, s->count, shard, shards) ||
              make_columns(f, s, names, shards);
    if (!bad)
        return ld_h5_commit(f);
    ld_h5_close(f);
    return ld_error_code();
}

int ld_latent_create(const char *part, const ld_latent_spec *s) {
    enum { NAME = 512 };
    if (check(part, s) || check_room(part, s))
        return ld_error_code();
    ld_h5_part *shard = calloc((size_t)s->shards + 1, sizeof *shard);
    char(*name)[NAME] = calloc((size_t)s->shards + 1, sizeof *name);
    int bad = shard && name ? 0 : ld_fail(LD_EMEM, "latents: out of host memory"), n = 0;
    int64_t most = s->shards ? latent_shard_rows(s->count, s->shards, s->batch) : 0;
    for (int64_t first = 0; !bad && s->shards && first < s->count; first += most, n++) {
        shard_name(part, n, name[n], NAME);
        shard[n] = (ld_h5_part){name[n], s->count - first < most ? s->count - first : most};
        bad = create_shard(part, s, name[n], first, shard[n].rows);
    }
    if (!bad)
        bad = create_main(part, s, shard, n);
    free(shard);
    free(name);
    return bad;
}
