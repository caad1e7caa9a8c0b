/* Archives read where they lie: a list of members with the places of their bytes, and reading by place.
 *
 * Told by content, never by suffix: tar (ustar, GNU, pax), zip (also zip64), and tar packed as a whole by gzip, xz, zstd
 * or bzip2. Members of a plain tar or zip are read in any order from any number of threads, each with an ld_archive of
 * its own. A packed tar is a stream: its places count bytes of the unpacked stream, reading forwards is cheap, going
 * back begins again at the start. */
#ifndef LD_ARCHIVE_H
#define LD_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum ld_archive_kind { LD_ARCHIVE_NONE, LD_ARCHIVE_TAR, LD_ARCHIVE_ZIP, LD_ARCHIVE_STREAM } ld_archive_kind;

typedef enum ld_packing { LD_PACK_STORED, LD_PACK_DEFLATE } ld_packing;

/* One regular file in an archive. */
typedef struct ld_member {
    /* Path inside the archive, as stored but without "./" and leading "/"; valid during the call. Where the archive says
     * that it is UTF-8 (pax, zip), accents are joined to their letters (NFC). */
    const char *name;
    uint64_t offset; /* of its first byte: in the file, or in the unpacked stream */
    uint64_t size;   /* in bytes, unpacked */
    ld_packing packing;
} ld_member;

/* LD_ARCHIVE_NONE for everything else, unreadable files too; sets no error. */
ld_archive_kind ld_archive_kind_of(const char *path);

/* Calls fn for every regular file, in the order in which they lie; stops when it returns non-zero and returns that. A
 * tar inside a plain tar (or stored in a zip) is listed in its place, its members under its own path without the suffix:
 * member n01440764_1.JPEG of n01440764.tar is n01440764/n01440764_1.JPEG; four deep, the fifth is a member like others.
 * Directories, links and the like are left out.
 * LD_EIO; LD_EFORMAT for an archive that is damaged or ends early, after fn had all members before the damage: the message
 * names the byte and the number of members. A tar without the zero block at its end, and a zip without the list of members
 * at its end, end early. LD_EFORMAT also when, all others listed, there were files that ld_archive_read could not read:
 * encrypted, sparse, packed in a zip otherwise than by deflate; the message names the first.
 * A member's size is no more than the file can hold, or unpack to at the formats' utmost; of a stream all of it has been
 * unpacked when it is listed. Memory: a constant for tar, the central directory for zip. Any thread. */
int ld_archive_list(const char *path, int (*fn)(void *arg, const ld_member *m), void *arg);

typedef struct ld_archive ld_archive;

/* LD_EIO, LD_EFORMAT, LD_EMEM. */
ld_archive *ld_archive_open(const char *path);
void ld_archive_close(ld_archive *a);
/* m->size bytes of member m (of which only offset, size and packing are looked at) to `to`. LD_EIO; LD_EFORMAT when the
 * file ends before, or does not unpack to that size. */
int ld_archive_read(ld_archive *a, const ld_member *m, void *to);

/* Name and version of libarchive, which is loaded for it; NULL: LD_EIO */
const char *ld_archive_library(void);

#endif
