#include "io/archive_part.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LEAST = 4 << 10, MOST = 256 << 10 };

int archive_open_file(const char *path, int *fd, uint64_t *size) {
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer would never open */
    if (*fd < 0)
        return ld_fail(LD_EIO, "archive '%.500s': %s", path, strerror(errno));
    int code = 0;
    if (fstat(*fd, &st))
        code = ld_fail(LD_EIO, "archive '%.500s': %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        code = ld_fail(LD_EIO, "archive '%.500s': not a regular file", path);
    if (code) {
        close(*fd);
        *fd = -1;
        return code;
    }
    *size = (uint64_t)st.st_size;
    return 0;
}

int archive_pread(int fd, const char *path, void *to, size_t n, uint64_t at, uint64_t size) {
    char *p = to;
    while (n > 0) {
        ssize_t done = pread(fd, p, n, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return ld_fail(LD_EIO, "archive '%.500s': %s", path, strerror(errno));
        if (done == 0)
            return ld_fail(LD_EFORMAT, "archive '%.500s': ends at byte %llu; it had %llu bytes when it was opened",
                           path, (unsigned long long)at, (unsigned long long)size);
        p += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return 0;
}

/* ---- libarchive's calls ---- */

static la_ssize_t give(struct archive *a, void *arg, const void **bytes) {
    archive_part *p = arg;
    (void)a;
    if (p->at >= p->size)
        return 0;
    if (p->at < p->from || p->at >= p->from + p->got) {
        uint64_t end = p->from + p->got;
        bool leap = p->at < end || p->at - end >= p->ask;
        p->ask = leap ? LEAST : p->ask < MOST ? 2 * p->ask : MOST;
        uint64_t n = p->size - p->at < p->ask ? p->size - p->at : p->ask;
        p->from = p->at;
        p->got = 0;
        p->failed = archive_pread(p->fd, p->path, p->buffer, (size_t)n, p->first + p->at, p->first + p->size);
        if (p->failed)
            return ARCHIVE_FATAL;
        p->got = n;
    }
    *bytes = p->buffer + (p->at - p->from);
    la_ssize_t n = (la_ssize_t)(p->from + p->got - p->at);
    p->at = p->from + p->got;
    return n;
}

static la_int64_t leap(struct archive *a, void *arg, la_int64_t n) {
    archive_part *p = arg;
    (void)a;
    uint64_t left = p->size - p->at;
    uint64_t done = n < 0 ? 0 : (uint64_t)n < left ? (uint64_t)n : left;
    p->at += done;
    return (la_int64_t)done;
}

static la_int64_t go_to(struct archive *a, void *arg, la_int64_t offset, int whence) {
    archive_part *p = arg;
    (void)a;
    uint64_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? p->at : p->size;
    if (offset < 0 ? 0 - (uint64_t)offset > base : (uint64_t)offset > p->size - base)
        return ARCHIVE_FATAL;
    p->at = base + (uint64_t)offset;
    return (la_int64_t)p->at;
}

struct archive *archive_part_open(archive_part *p, archive_format_fn *format, bool packed) {
    p->at = p->from = p->got = 0;
    p->ask = LEAST / 2;
    p->failed = 0;
    p->buffer = malloc(MOST);
    struct archive *a = p->buffer ? la.read_new() : NULL;
    if (!a) {
        archive_part_close(p, NULL);
        return ld_fail_null(LD_EMEM, "archive '%.500s': out of host memory", p->path);
    }
    format(a);
    if (packed) {
        la.read_support_filter_gzip(a);
        la.read_support_filter_xz(a);
        la.read_support_filter_zstd(a);
        la.read_support_filter_bzip2(a);
    }
    la.read_set_read_callback(a, give);
    la.read_set_skip_callback(a, leap);
    la.read_set_seek_callback(a, go_to);
    la.read_set_callback_data(a, p);
    int bad = la.read_open1(a) != ARCHIVE_OK;
    if (p->failed)
        bad = 1;
    else if (bad)
        ld_fail(LD_EFORMAT, "archive '%.500s': %s%s", p->path, packed ? "no tar comes out of the packed file: " : "",
                la.error_string(a) ? la.error_string(a) : "");
    else if (la.filter_count(a) > 2) /* that many times packed, a small file could keep a reader busy for ever */
        bad = ld_fail(LD_EFORMAT, "archive '%.500s': packed more than once", p->path);
    if (bad) {
        archive_part_close(p, a);
        return NULL;
    }
    return a;
}

void archive_part_close(archive_part *p, struct archive *a) {
    if (a)
        la.read_free(a);
    free(p->buffer);
    p->buffer = NULL;
}

bool archive_is_tar_block(const uint8_t *block) {
    enum { SUM = 148 }; /* eight bytes: the sum of all bytes, these taken for spaces, in octal digits */
    unsigned said = 0, sum = 8 * ' ';
    int signed_sum = 8 * ' ', i = SUM, digits = 0;
    while (i < SUM + 8 && block[i] == ' ')
        i++;
    for (; i < SUM + 8 && block[i] >= '0' && block[i] <= '7'; i++, digits++)
        said = 8 * said + block[i] - '0';
    if (digits == 0 || (i < SUM + 8 && block[i] != ' ' && block[i] != 0))
        return false;
    for (i = 0; i < 512; i++)
        if (i < SUM || i >= SUM + 8) {
            sum += block[i];
            signed_sum += (int8_t)block[i];
        }
    return said == sum || (int)said == signed_sum; /* old writers took bytes for signed */
}
