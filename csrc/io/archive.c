/* Archives: which kind a file is, and the bytes of members. */
#include "io/archive.h"

#include "base/error.h"
#include "io/archive_part.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { PIECE = 64 << 10 };

struct ld_archive {
    char *path;
    int fd;
    uint64_t size;
    ld_archive_kind kind;
    /* deflated members: made when the first one comes */
    z_stream z;
    uint8_t *packed;
    /* streams: the unpacked bytes from `at` on that are at hand */
    archive_part part;
    struct archive *a;
    const uint8_t *block;
    size_t left;
    uint64_t at;
};

/* ---- kinds ---- */

static bool begins(const uint8_t *block, const char *magic, size_t n) {
    return !memcmp(block, magic, n);
}

/* Does a tar come out of the packed file? */
static ld_archive_kind kind_of_packed(const char *path, int fd, uint64_t size) {
    archive_part p = {.path = path, .fd = fd, .size = size};
    struct archive *a = archive_load() ? NULL : archive_part_open(&p, la.read_support_format_tar, true);
    if (!a)
        return LD_ARCHIVE_NONE;
    struct archive_entry *e;
    int r = la.read_next_header(a, &e);
    bool tar = r == ARCHIVE_OK || r == ARCHIVE_WARN || r == ARCHIVE_EOF;
    if (!tar && !p.failed)
        ld_fail(LD_EFORMAT, "archive '%.500s': no tar comes out of the packed file: %s", path, la.error_string(a));
    archive_part_close(&p, a);
    return tar ? LD_ARCHIVE_STREAM : LD_ARCHIVE_NONE;
}

ld_archive_kind archive_find_kind(const char *path, int fd, uint64_t size) {
    uint8_t block[1024] = {0};
    static const uint8_t zeros[sizeof block];
    size_t n = size < sizeof block ? (size_t)size : sizeof block;
    if (archive_pread(fd, path, block, n, 0, size))
        return LD_ARCHIVE_NONE;
    if (begins(block, "PK\3\4", 4) || begins(block, "PK\5\6", 4))
        return LD_ARCHIVE_ZIP;
    if (n >= 512 && archive_is_tar_block(block))
        return LD_ARCHIVE_TAR;
    if (n == sizeof block && !memcmp(block, zeros, sizeof block)) /* a tar's end and no member */
        return LD_ARCHIVE_TAR;
    if (begins(block, "\x1f\x8b", 2) || begins(block, "\xfd\x37zXZ\0", 6) || begins(block, "\x28\xb5\x2f\xfd", 4) ||
        begins(block, "BZh", 3))
        return kind_of_packed(path, fd, size);
    ld_fail(LD_EFORMAT, "archive '%.500s': no tar, zip, or tar packed by gzip, xz, zstd or bzip2", path);
    return LD_ARCHIVE_NONE;
}

/* Puts back the error that was there before: a file that is no archive is no failure. */
ld_archive_kind ld_archive_kind_of(const char *path) {
    char before[1024];
    int code = ld_error_code(), fd;
    uint64_t size;
    strcpy(before, ld_error());
    ld_archive_kind kind = LD_ARCHIVE_NONE;
    if (!archive_open_file(path, &fd, &size)) {
        kind = archive_find_kind(path, fd, size);
        close(fd);
    }
    if (code)
        ld_fail(code, "%s", before);
    else
        ld_error_clear();
    return kind;
}

/* ---- opening ---- */

ld_archive *ld_archive_open(const char *path) {
    ld_archive *a = calloc(1, sizeof *a);
    char *copy = strdup(path);
    if (!a || !copy) {
        free(a);
        free(copy);
        return ld_fail_null(LD_EMEM, "archive '%.500s': out of host memory", path);
    }
    a->path = copy;
    a->fd = -1;
    if (archive_open_file(path, &a->fd, &a->size)) {
        ld_archive_close(a);
        return NULL;
    }
    a->kind = archive_find_kind(path, a->fd, a->size);
    if (a->kind == LD_ARCHIVE_NONE) {
        ld_archive_close(a);
        return NULL;
    }
    return a;
}

static void end_stream(ld_archive *a) {
    if (a->a)
        archive_part_close(&a->part, a->a);
    a->a = NULL;
    a->left = 0;
    a->at = 0;
}

void ld_archive_close(ld_archive *a) {
    if (!a)
        return;
    end_stream(a);
    if (a->packed)
        inflateEnd(&a->z);
    free(a->packed);
    if (a->fd >= 0)
        close(a->fd);
    free(a->path);
    free(a);
}

/* ---- streams ---- */

static int begin_stream(ld_archive *a) {
    end_stream(a);
    a->part = (archive_part){.path = a->path, .fd = a->fd, .size = a->size};
    struct archive_entry *e;
    a->a = archive_load() ? NULL : archive_part_open(&a->part, la.read_support_format_raw, true);
    if (!a->a)
        return ld_error_code();
    if (la.read_next_header(a->a, &e) == ARCHIVE_OK)
        return 0;
    return a->part.failed ? a->part.failed
                          : ld_fail(LD_EFORMAT, "archive '%.500s': %s", a->path, la.error_string(a->a));
}

/* Goes n bytes on in the unpacked stream, copied to `to` unless that is NULL. */
static int go_on(ld_archive *a, uint8_t *to, uint64_t n) {
    while (n > 0) {
        const void *block;
        la_int64_t place;
        while (a->left == 0) {
            int r = la.read_data_block(a->a, &block, &a->left, &place);
            if (a->part.failed)
                return a->part.failed;
            if (r != ARCHIVE_OK)
                return ld_fail(LD_EFORMAT, "archive '%.500s': ends early, at byte %llu of what it unpacks to%s%s",
                               a->path, (unsigned long long)a->at, r == ARCHIVE_EOF ? "" : ": ",
                               r == ARCHIVE_EOF ? "" : la.error_string(a->a));
            a->block = block;
        }
        size_t step = n < a->left ? (size_t)n : a->left;
        if (to) {
            memcpy(to, a->block, step);
            to += step;
        }
        a->block += step;
        a->left -= step;
        a->at += step;
        n -= step;
    }
    return 0;
}

static int read_stream(ld_archive *a, const ld_member *m, void *to) {
    int code = a->a && m->offset >= a->at ? 0 : begin_stream(a);
    if (!code)
        code = go_on(a, NULL, m->offset - a->at);
    if (!code)
        code = go_on(a, to, m->size);
    if (code)
        end_stream(a);
    return code;
}

/* ---- members at their place ---- */

static int start_inflating(ld_archive *a) {
    if (a->packed)
        return inflateReset(&a->z) == Z_OK ? 0 : ld_fail(LD_EINTERNAL, "archive '%.500s': zlib fails", a->path);
    a->packed = malloc(PIECE);
    a->z = (z_stream){0};
    if (a->packed && inflateInit2(&a->z, -MAX_WBITS) == Z_OK)
        return 0;
    free(a->packed);
    a->packed = NULL;
    return ld_fail(LD_EMEM, "archive '%.500s': out of host memory", a->path);
}

/* Deflated bytes from byte `at` on have to end when they have become m->size bytes. */
static int inflate_member(ld_archive *a, const ld_member *m, uint8_t *to) {
    if (start_inflating(a))
        return ld_error_code();
    uint64_t at = m->offset, done = 0;
    uint8_t more = 0;
    int r = Z_OK;
    a->z.avail_in = 0;
    while (r != Z_STREAM_END) {
        if (a->z.avail_in == 0) {
            size_t n = a->size - at < PIECE ? (size_t)(a->size - at) : PIECE;
            if (n == 0)
                break;
            if (archive_pread(a->fd, a->path, a->packed, n, at, a->size))
                return ld_error_code();
            at += n;
            a->z.next_in = a->packed;
            a->z.avail_in = (uInt)n;
        }
        uint64_t left = m->size - done; /* behind the last byte, room for one that must not come */
        a->z.next_out = left ? to + done : &more;
        a->z.avail_out = left == 0 ? 1 : left < PIECE ? (uInt)left : PIECE;
        uInt room = a->z.avail_out;
        r = inflate(&a->z, Z_NO_FLUSH);
        done += room - a->z.avail_out;
        if ((r != Z_OK && r != Z_STREAM_END) || done > m->size)
            break;
    }
    if (r == Z_STREAM_END && done == m->size)
        return 0;
    return ld_fail(LD_EFORMAT, "archive '%.500s': the member at byte %llu does not unpack to its %llu bytes: %s",
                   a->path, (unsigned long long)m->offset, (unsigned long long)m->size,
                   r == Z_STREAM_END || done > m->size ? "it has more or fewer"
                   : a->z.msg                          ? a->z.msg
                                                       : "the file ends");
}

int ld_archive_read(ld_archive *a, const ld_member *m, void *to) {
    if (a->kind == LD_ARCHIVE_STREAM)
        return read_stream(a, m, to);
    bool stored = m->packing == LD_PACK_STORED;
    if (m->offset > a->size || (stored ? m->size : m->size / 1032) > a->size - m->offset)
        return ld_fail(LD_EFORMAT, "archive '%.500s': has %llu bytes; a member of %llu bytes was to begin at byte %llu",
                       a->path, (unsigned long long)a->size, (unsigned long long)m->size,
                       (unsigned long long)m->offset);
    return stored ? archive_pread(a->fd, a->path, to, (size_t)m->size, m->offset, a->size) : inflate_member(a, m, to);
}
