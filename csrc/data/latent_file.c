/* Latent stores: their files and the places of the data sets in them. */
#include "data/latent_file.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int latent_pread(int fd, const char *path, void *out, size_t n, int64_t at) {
    for (char *p = out; n > 0;) {
        ssize_t got = pread(fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return ld_fail(LD_EIO, "latents: cannot read '%.900s': %s", path, strerror(errno));
        if (got == 0)
            return ld_fail(LD_EFORMAT, "latents: '%.900s' is shorter than it was", path);
        p += got, at += got, n -= (size_t)got;
    }
    return 0;
}

int latent_pwrite(int fd, const char *path, const void *data, size_t n, int64_t at) {
    for (const char *p = data; n > 0;) {
        ssize_t got = pwrite(fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return ld_fail(LD_EIO, "latents: cannot write '%.900s': %s", path, strerror(errno));
        p += got, at += got, n -= (size_t)got;
    }
    return 0;
}

int latent_sync(int fd, const char *path) {
    if (fdatasync(fd) && errno != EINVAL)
        return ld_fail(LD_EIO, "latents: cannot bring '%.900s' to the disk: %s", path, strerror(errno));
    return 0;
}

/* Rows of one set, read into `out` or written from `data`. */
static int each_part(const latent_files *f, ld_latent_set set, int64_t first, int64_t count, char *out,
                     const char *data) {
    size_t row = f->info.row_bytes;
    for (int k = 0; k < f->parts && count > 0; k++) {
        const latent_part *p = &f->part[k];
        if (first >= p->first + p->rows)
            continue;
        int64_t from = first - p->first, n = p->rows - from < count ? p->rows - from : count;
        size_t bytes = (size_t)n * row;
        int64_t at = p->at[set] + from * (int64_t)row;
        if (out ? latent_pread(p->fd, p->path, out, bytes, at) : latent_pwrite(p->fd, p->path, data, bytes, at))
            return ld_error_code();
        out += out ? bytes : 0;
        data += data ? bytes : 0;
        first += n;
        count -= n;
    }
    return 0;
}

int latent_read_rows(const latent_files *f, ld_latent_set set, int64_t first, int64_t count, void *out) {
    return each_part(f, set, first, count, out, NULL);
}

int latent_write_rows(const latent_files *f, ld_latent_set set, int64_t first, int64_t count, const void *data) {
    return each_part(f, set, first, count, NULL, data);
}

/* ---- opening -------------------------------------------------------------------------------------------------------- */

static int check_format(ld_h5 *h, const char *path, const char *wanted) {
    double number;
    char *text = NULL;
    int kind = ld_h5_attribute(h, "/", "format", &number, &text), bad = 0;
    if (kind < 0)
        return ld_error_code();
    if (kind == 2 && !strcmp(text, "ldlua latents 1"))
        bad = ld_fail(LD_EFORMAT, "latents: '%.900s' is a store of an earlier version; delete it and make it again",
                      path);
    else if (kind != 2 || strcmp(text, wanted))
        bad = ld_fail(LD_EFORMAT, "latents: '%.900s' is no latent store", path);
    free(text);
    return bad;
}

static int64_t attribute(ld_h5 *h, const char *key) {
    double number = -1;
    char *text = NULL;
    int kind = ld_h5_attribute(h, "/", key, &number, &text);
    if (kind == 2)
        free(text);
    return kind == 1 ? (int64_t)number : -1;
}

/* Place of a data set of n bytes; `end` moves behind it. n -1: any. */
static int place(ld_h5 *h, const char *path, const char *name, int64_t n, int64_t *at, int64_t *bytes, int64_t *end) {
    int64_t size;
    if (ld_h5_place(h, name, at, &size))
        return ld_error_code();
    if (n >= 0 && size != n)
        return ld_fail(LD_EFORMAT, "latents: '%s' of '%.800s' has %lld bytes, not %lld", name, path, (long long)size,
                       (long long)n);
    if (bytes)
        *bytes = size;
    *end = *at + size > *end ? *at + size : *end;
    return 0;
}

static int open_fd(const char *path, bool writable, int64_t least, int *fd) {
    struct stat st;
    *fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (*fd < 0 || fstat(*fd, &st))
        return ld_fail(LD_EIO, "latents: cannot open '%.900s': %s", path, strerror(errno));
    if (st.st_size < least)
        return ld_fail(LD_EFORMAT, "latents: '%.900s' has %lld bytes where %lld were written: a part of it is missing",
                       path, (long long)st.st_size, (long long)least);
    return 0;
}

/* The rows' places in the file that is open as h: part p. */
static int find_rows(const latent_files *f, ld_h5 *h, latent_part *p, int64_t *end) {
    for (int k = 0; k < LD_LATENT_SETS; k++)
        if (f->info.set[k] &&
            place(h, p->path, latent_set_names[k], p->rows * (int64_t)f->info.row_bytes, &p->at[k], NULL, end))
            return ld_error_code();
    return 0;
}

static int read_shape(latent_files *f, ld_h5 *h) {
    int64_t shape[LD_MAX_DIMS];
    ld_latent_info *i = &f->info;
    int ndim = ld_h5_shape(h, latent_set_names[0], shape, &i->dtype);
    if (ndim != 4 || shape[0] < 1 || shape[0] > UINT32_MAX || !latent_is_row(i->dtype, shape[1], shape[2], shape[3]))
        return ld_fail(LD_EFORMAT, "latents: '%.900s' has no usable /latents/mean", f->path);
    i->count = shape[0];
    i->channels = (int)shape[1], i->height = (int)shape[2], i->width = (int)shape[3];
    for (int k = 0; k < LD_LATENT_SETS; k++)
        i->set[k] = ld_h5_exists(h, latent_set_names[k]);
    i->row_bytes = (size_t)(shape[1] * shape[2] * shape[3]) * ld_dtype_size(i->dtype);
    int64_t batch = attribute(h, "batch"), shards = attribute(h, "shards");
    if (batch < 1 || batch > INT32_MAX || shards < 0 || shards > LATENT_SHARDS)
        return ld_fail(LD_EFORMAT, "latents: '%.900s' has batches of %lld rows in %lld shards", f->path,
                       (long long)batch, (long long)shards);
    i->batch = (int)batch, i->shards = (int)shards;
    return 0;
}

static int find_columns(latent_files *f, ld_h5 *h, int64_t *end) {
    int64_t n = f->info.count, c = 8 * (int64_t)f->info.channels, names = 0;
    if (place(h, f->path, "/label", 4 * n, &f->label, NULL, end) ||
        place(h, f->path, "/valid", n, &f->valid, NULL, end) ||
        place(h, f->path, "/crc32", 8 * n, &f->crc32, NULL, end) ||
        place(h, f->path, "/name", -1, &f->name, &names, end) ||
        place(h, f->path, "/statistics/mean", c, &f->mean, NULL, end) ||
        place(h, f->path, "/statistics/std", c, &f->std, NULL, end) ||
        place(h, f->path, "/done", (n + 7) / 8, &f->done, NULL, end) ||
        place(h, f->path, "/complete", 1, &f->complete, NULL, end))
        return ld_error_code();
    f->name_width = (size_t)(names / n);
    return 0;
}

/* A shard under its final name, or the one it has in the making, which goes first while the store is in the making. */
static int open_shard(latent_files *f, latent_part *p, const char *name, bool writable) {
    const char *slash = strrchr(f->path, '/');
    size_t n = strlen(f->path) + strlen(name) + 8;
    struct stat st;
    if (!(p->path = malloc(n)))
        return ld_fail(LD_EMEM, "latents: out of host memory");
    snprintf(p->path, n, "%.*s%s.part", slash ? (int)(slash - f->path + 1) : 0, f->path, name);
    if (!latent_is_part(f->path) || stat(p->path, &st))
        p->path[strlen(p->path) - 5] = 0;
    if (stat(p->path, &st))
        return ld_fail(LD_EIO, "latents: '%.500s' lacks its shard '%.400s': %s", f->path, p->path, strerror(errno));
    ld_h5 *h = ld_h5_open(p->path, false);
    if (!h)
        return ld_error_code();
    int64_t end = 0;
    int bad = check_format(h, p->path, LD_LATENT_FORMAT " shard");
    if (!bad && attribute(h, "first") != p->first)
        bad = ld_fail(LD_EFORMAT, "latents: '%.500s' is no shard of '%.400s'", p->path, f->path);
    bad = bad || find_rows(f, h, p, &end);
    ld_h5_close(h);
    return bad || open_fd(p->path, writable, end, &p->fd) ? ld_error_code() : 0;
}

static int open_shards(latent_files *f, ld_h5 *h, bool writable) {
    char **names = NULL;
    int64_t n = 0, rows = latent_shard_rows(f->info.count, f->info.shards, f->info.batch);
    if (ld_h5_read_strings(h, "/shard", &names, &n))
        return ld_error_code();
    int bad = 0;
    if (rows < 1 || n != (f->info.count + rows - 1) / rows || !(f->part = calloc((size_t)n, sizeof *f->part)))
        bad = ld_fail(LD_EFORMAT, "latents: '%.900s' has %lld shards for %lld rows", f->path, (long long)n,
                      (long long)f->info.count);
    for (int k = 0; !bad && k < n; k++) {
        int64_t left = f->info.count - k * rows;
        f->part[k] = (latent_part){.fd = -1, .first = k * rows, .rows = left < rows ? left : rows};
        f->parts = k + 1;
        bad = open_shard(f, &f->part[k], names[k], writable);
    }
    ld_h5_free_strings(names, n);
    return bad;
}

static int open_single(latent_files *f, ld_h5 *h, int64_t *end) {
    f->part = calloc(1, sizeof *f->part);
    if (!f->part || !(f->part->path = strdup(f->path)))
        return ld_fail(LD_EMEM, "latents: out of host memory");
    f->parts = 1;
    f->part->fd = -1;
    f->part->rows = f->info.count;
    return find_rows(f, h, f->part, end);
}

int latent_files_open(latent_files *f, const char *path, bool writable) {
    *f = (latent_files){.fd = -1};
    if (strlen(path) >= LD_PATH_MAX - 64)
        return ld_fail(LD_EVALUE, "latents: a path of %zu bytes is too long", strlen(path));
    strcpy(f->path, path);
    ld_h5 *h = ld_h5_open(path, false);
    if (!h)
        return ld_error_code();
    int64_t end = 0;
    int bad = check_format(h, path, LD_LATENT_FORMAT) || read_shape(f, h) || find_columns(f, h, &end) ||
              (f->info.shards > 0 ? open_shards(f, h, writable) : open_single(f, h, &end));
    ld_h5_close(h);
    bad = bad || open_fd(path, writable, end, &f->fd);
    if (!bad && f->info.shards <= 0)
        f->part->fd = f->fd;
    if (!bad)
        return 0;
    latent_files_close(f);
    return ld_error_code();
}

void latent_files_close(latent_files *f) {
    for (int k = 0; k < f->parts; k++) {
        if (f->part[k].fd >= 0 && f->part[k].fd != f->fd)
            close(f->part[k].fd);
        free(f->part[k].path);
    }
    if (f->fd >= 0)
        close(f->fd);
    free(f->part);
    *f = (latent_files){.fd = -1};
}
