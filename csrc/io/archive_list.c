/* Listing: one walk through an archive, and through the tars in it. */
#include "io/archive_part.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { DEEPEST = 4 }; /* tars in tars */

typedef struct listing {
    const char *path;
    int fd;
    uint64_t size; /* of the file */
    int (*fn)(void *arg, const ld_member *m);
    void *arg;
    int64_t members;
    char *name; /* the path before the member's own, then the whole name */
    size_t room;
    int64_t left_out; /* members that cannot be read at their place */
    char why[512];    /* the first of them */
} listing;

/* One archive in the walk: the file, or a tar in it. */
typedef struct level {
    archive_part part;
    struct archive *a;
    size_t prefix; /* bytes of l->name that stand before its members' names */
    int64_t next;  /* in a plain tar, where the next entry begins in it; else -1 */
    int depth;
} level;

static const char no_end[] = "the block of zeros that ends a tar is missing";

static int list_tar(listing *l, uint64_t first, uint64_t size, size_t prefix, int depth);

/* A fault of the archive's, as libarchive words it. A tar ends early when less than a header was left, others where
 * the words, or their absence, say so. */
static int fail_at(const listing *l, const level *v, const char *why) {
    if (v->part.failed)
        return v->part.failed;
    uint64_t size = v->part.size, at = (uint64_t)la.filter_bytes(v->a, -1); /* of the file, packed or not */
    bool end =
        v->part.at >= size && ((v->next >= 0 && at + 512 > size) || !why || strstr(why, "runcated") || why == no_end);
    at = end ? size : v->next >= 0 ? (uint64_t)v->next : at;
    return ld_fail(LD_EFORMAT, "archive '%.500s': %s at byte %llu, after %lld members: %s", l->path,
                   end ? "ends early" : "damaged", (unsigned long long)(v->part.first + at), (long long)l->members,
                   why ? why : "an entry is not whole");
}

/* The member's name, without "./" and "/" before it, behind the prefix in l->name. LD_EMEM. */
static int set_name(listing *l, size_t prefix, const char *name) {
    while (name[0] == '/' || (name[0] == '.' && name[1] == '/'))
        name += name[0] == '/' ? 1 : 2;
    size_t n = strlen(name) + 1;
    if (prefix + n + 1 > l->room) { /* one more: a '/' in place of the NUL */
        size_t room = 2 * (prefix + n) + 256;
        char *more = realloc(l->name, room);
        if (!more)
            return ld_fail(LD_EMEM, "archive '%.500s': out of host memory", l->path);
        l->name = more;
        l->room = room;
    }
    memcpy(l->name + prefix, name, n);
    return 0;
}

static int leave_out(listing *l, const char *why) {
    if (l->left_out++ == 0)
        snprintf(l->why, sizeof l->why, "'%.300s' %.150s", l->name, why);
    return 0;
}

static int hand_over(listing *l, uint64_t offset, uint64_t size, ld_packing packing) {
    int code = l->fn(l->arg, &(ld_member){l->name, offset, size, packing});
    l->members += !code;
    return code;
}

/* Does a tar begin at this byte of the file? What libarchive has just read is looked at where it lies. */
static int tar_begins(const listing *l, const level *v, uint64_t offset, uint64_t size, bool *tar) {
    uint8_t block[512];
    const archive_part *p = &v->part;
    *tar = false;
    if (size < sizeof block || offset > l->size || l->size - offset < sizeof block)
        return 0;
    uint64_t at = offset - p->first;
    if (at >= p->from && p->got >= sizeof block && at - p->from <= p->got - sizeof block) {
        *tar = archive_is_tar_block(p->buffer + (at - p->from));
        return 0;
    }
    int code = archive_pread(l->fd, l->path, block, sizeof block, offset, l->size);
    *tar = !code && archive_is_tar_block(block);
    return code;
}

/* The members of the tar that lies there, under its own name without the suffix. */
static int descend(listing *l, const level *v, uint64_t offset, uint64_t size) {
    size_t n = strlen(l->name);
    if (n - v->prefix > 4 && !strcasecmp(l->name + n - 4, ".tar"))
        n -= 4;
    l->name[n++] = '/';
    return list_tar(l, offset, size < l->size - offset ? size : l->size - offset, n, v->depth + 1);
}

/* How a zip's entry is packed; false when it is neither stored nor deflated. libarchive tells by a name of the format:
 * "ZIP 2.0 (deflation)". */
static bool find_packing(const level *v, ld_packing *packing) {
    const char *name = la.format_name(v->a);
    *packing = LD_PACK_STORED;
    if ((la.format(v->a) & ARCHIVE_FORMAT_BASE_MASK) != ARCHIVE_FORMAT_ZIP || (name && strstr(name, "(uncompressed)")))
        return true;
    *packing = LD_PACK_DEFLATE;
    return name && strstr(name, "(deflation)");
}

/* Is the entry a file that can be read at its place? Sets its name, and counts files that cannot. */
static int look_at(listing *l, const level *v, struct archive_entry *e, ld_packing *packing, bool *good) {
    const char *name = la.entry_pathname(e);
    *good = false;
    if (la.entry_filetype(e) != AE_IFREG || la.entry_hardlink(e))
        return 0;
    if (set_name(l, v->prefix, name ? name : ""))
        return ld_error_code();
    if (l->name[v->prefix] == 0)
        return leave_out(l, "has no name");
    if (la.entry_is_encrypted(e))
        return leave_out(l, "is encrypted");
    if (la.entry_sparse_count(e) > 0)
        return leave_out(l, "is a sparse file");
    if (!find_packing(v, packing))
        return leave_out(l, "is neither stored nor deflated");
    *good = true;
    return 0;
}

/* One entry of an archive that can be read in any order. */
static int take(listing *l, level *v, struct archive_entry *e) {
    ld_packing packing;
    bool good;
    int code = look_at(l, v, e, &packing, &good);
    if (code || !good)
        return code;
    uint64_t offset = v->part.first + (uint64_t)la.filter_bytes(v->a, 0);
    uint64_t end = v->part.first + v->part.size, size = (uint64_t)la.entry_size(e);
    bool tar = false;
    if (packing == LD_PACK_STORED && v->depth < DEEPEST && tar_begins(l, v, offset, size, &tar))
        return ld_error_code();
    code = tar ? descend(l, v, offset, size) : 0;
    if (code)
        return code;
    /* deflate makes at most 1032 bytes of one */
    if (offset > end || (packing == LD_PACK_STORED ? size : size / 1032) > end - offset)
        return ld_fail(
            LD_EFORMAT,
            "archive '%.400s': ends early at byte %llu, after %lld members: '%.200s' has %llu bytes from byte "
            "%llu on",
            l->path, (unsigned long long)end, (long long)l->members, la.entry_pathname(e), (unsigned long long)size,
            (unsigned long long)offset);
    return tar ? 0 : hand_over(l, offset, size, packing);
}

/* A member of a packed tar counts when all of it has come out: that its size is true is known then. */
static int take_packed(listing *l, level *v, struct archive_entry *e, uint64_t offset) {
    ld_packing packing;
    bool good;
    int code = look_at(l, v, e, &packing, &good);
    return code || !good ? code : hand_over(l, offset, (uint64_t)la.entry_size(e), packing);
}

/* Every entry of a tar, up to the zero block that ends it. */
static int walk_tar(listing *l, level *v, bool packed) {
    la_int64_t end = 0;
    for (;;) {
        struct archive_entry *e;
        int r = la.read_next_header(v->a, &e), code = 0;
        if (r == ARCHIVE_EOF)
            break;
        if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
            return fail_at(l, v, la.error_string(v->a));
        uint64_t offset = (uint64_t)la.filter_bytes(v->a, 0);
        if (!packed)
            code = take(l, v, e);
        if (!code && la.read_data_skip(v->a) != ARCHIVE_OK)
            code = fail_at(l, v, la.error_string(v->a));
        if (!code && packed)
            code = take_packed(l, v, e, offset);
        if (code)
            return code;
        end = la.filter_bytes(v->a, 0);
        v->next = packed ? -1 : end;
    }
    /* libarchive takes the end of a file between two members for the end of the tar: then some may be missing */
    return la.filter_bytes(v->a, 0) > end ? 0 : fail_at(l, v, no_end);
}

static int list_tar(listing *l, uint64_t first, uint64_t size, size_t prefix, int depth) {
    level v = {.part = {.path = l->path, .fd = l->fd, .first = first, .size = size}, .prefix = prefix, .depth = depth};
    v.a = archive_part_open(&v.part, la.read_support_format_tar, false);
    if (!v.a)
        return ld_error_code();
    int code = walk_tar(l, &v, false);
    archive_part_close(&v.part, v.a);
    return code;
}

static int list_packed(listing *l) {
    level v = {.part = {.path = l->path, .fd = l->fd, .size = l->size}, .next = -1};
    v.a = archive_part_open(&v.part, la.read_support_format_tar, true);
    if (!v.a)
        return ld_error_code();
    int code = walk_tar(l, &v, true);
    archive_part_close(&v.part, v.a);
    return code;
}

/* ---- zip ---- */

/* Reads an entry to its end; false when there is none. A writer that could not go back puts the size behind the bytes. */
static bool measure(const level *v, uint64_t *size) {
    const void *bytes;
    size_t n;
    la_int64_t at;
    int r;
    for (*size = 0; (r = la.read_data_block(v->a, &bytes, &n, &at)) == ARCHIVE_OK;)
        *size = (uint64_t)at + n;
    return r == ARCHIVE_EOF;
}

/* A zip whose list of members, at its end, is missing or damaged: members are found one behind the other. `why` is
 * libarchive's word on the list. */
static int list_headless(listing *l, const char *why) {
    level v = {.part = {.path = l->path, .fd = l->fd, .size = l->size}, .next = -1};
    v.a = archive_part_open(&v.part, la.read_support_format_zip_streamable, false);
    if (!v.a)
        return ld_error_code();
    int code = 0, r;
    struct archive_entry *e;
    while (!code && ((r = la.read_next_header(v.a, &e)) == ARCHIVE_OK || r == ARCHIVE_WARN)) {
        ld_packing packing;
        bool good;
        uint64_t offset = (uint64_t)la.filter_bytes(v.a, 0), size;
        code = look_at(l, &v, e, &packing, &good);
        if (!code && good) {
            if (!measure(&v, &size))
                break;
            code = hand_over(l, offset, size, packing);
        }
    }
    if (!code)
        code = v.part.failed ? v.part.failed
                             : ld_fail(LD_EFORMAT,
                                       "archive '%.500s': the list of members is missing or damaged, so it ends early "
                                       "at byte %llu, after %lld members: %s",
                                       l->path, (unsigned long long)l->size, (long long)l->members,
                                       why ? why : "no reason is known");
    archive_part_close(&v.part, v.a);
    return code;
}

static int list_zip(listing *l) {
    level v = {.part = {.path = l->path, .fd = l->fd, .size = l->size}, .next = -1};
    v.a = archive_part_open(&v.part, la.read_support_format_zip_seekable, false);
    if (!v.a)
        return ld_error_code() == LD_EFORMAT && !v.part.failed ? list_headless(l, "no record of its end")
                                                               : ld_error_code();
    int code = 0, r = ARCHIVE_OK;
    struct archive_entry *e;
    for (bool first = true; !code && (r = la.read_next_header(v.a, &e)) != ARCHIVE_EOF; first = false) {
        if (r == ARCHIVE_OK || r == ARCHIVE_WARN)
            code = take(l, &v, e);
        else if (first && !v.part.failed)
            break;
        else
            code = fail_at(l, &v, la.error_string(v.a));
    }
    if (!code && r != ARCHIVE_EOF)
        code = list_headless(l, la.error_string(v.a));
    archive_part_close(&v.part, v.a);
    return code;
}

int ld_archive_list(const char *path, int (*fn)(void *arg, const ld_member *m), void *arg) {
    listing l = {.path = path, .fn = fn, .arg = arg};
    if (archive_load() || archive_open_file(path, &l.fd, &l.size))
        return ld_error_code();
    ld_archive_kind kind = archive_find_kind(path, l.fd, l.size);
    locale_t before = la.utf8 ? uselocale(la.utf8) : (locale_t)0;
    int code;
    if (kind == LD_ARCHIVE_TAR)
        code = list_tar(&l, 0, l.size, 0, 0);
    else if (kind == LD_ARCHIVE_ZIP)
        code = list_zip(&l);
    else if (kind == LD_ARCHIVE_STREAM)
        code = list_packed(&l);
    else
        code = ld_error_code();
    if (before)
        uselocale(before);
    if (!code && l.left_out)
        code = ld_fail(LD_EFORMAT, "archive '%.300s': %lld of its files cannot be read, the first: %s", path,
                       (long long)l.left_out, l.why);
    close(l.fd);
    free(l.name);
    return code;
}
