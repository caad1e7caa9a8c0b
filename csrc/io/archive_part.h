/* What the files of archive*.c share: a part of a file as libarchive's input. */
#ifndef LD_ARCHIVE_PART_H
#define LD_ARCHIVE_PART_H

#include "io/archive.h"
#include "io/archive_lib.h"

/* size bytes of a file from byte `first` on, to be read once from front to back, with leaps. */
typedef struct archive_part {
    const char *path; /* for messages */
    int fd;
    uint64_t first, size;
    uint64_t at;        /* the byte of the part that libarchive gets next */
    uint64_t from, got; /* what `buffer` holds: `got` bytes from byte `from` of the part */
    size_t ask;         /* bytes to read next: few after a leap, more and more without one */
    uint8_t *buffer;
    int failed; /* the code of an error of the system's, which ld_fail has been told */
} archive_part;

/* LD_EIO when it is no regular file. The descriptor is the caller's to close. */
int archive_open_file(const char *path, int *fd, uint64_t *size);

/* LD_ARCHIVE_NONE after ld_fail: LD_EFORMAT says what is wrong, LD_EIO. */
ld_archive_kind archive_find_kind(const char *path, int fd, uint64_t size);

/* n bytes from byte `at`. LD_EIO; LD_EFORMAT when the file, which had `size` bytes, has become shorter. */
int archive_pread(int fd, const char *path, void *to, size_t n, uint64_t at, uint64_t size);

/* A reader of the part in p, whose path, fd, first and size are set, for the given formats; filters only when `packed`.
 * NULL: LD_EMEM, LD_EFORMAT (packed more than once). End it with archive_part_close. */
typedef int archive_format_fn(struct archive *);
struct archive *archive_part_open(archive_part *p, archive_format_fn *format, bool packed);
void archive_part_close(archive_part *p, struct archive *a);

/* Is this the first block (512 bytes) of a tar? */
bool archive_is_tar_block(const uint8_t *block);

#endif
