/* HDF5 files that carry the sum of their own bytes, so that damage is found before anything believes them.
 *
 *   bytes 0..4095    "ldlua sum 1\nsha256 <64 digits>\nbytes <n>\n", then zeros: of the n bytes behind this block
 *   from 4096 on     the HDF5 file; to HDF5 the block is a user block, which all its readers pass by
 *
 * `tail -c +4097 FILE | sha256sum` gives the same digits. */
#include "base/error.h"
#include "io/h5_file.h"
#include "io/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };
static const char first_line[] = "ldlua sum 1\n";
static const unsigned char hdf5[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};

static int fail_sum(const char *doing, const char *path) {
    return ld_fail(LD_EIO, "hdf5: cannot %s %.900s: %s", doing, path, strerror(errno));
}

/* Up to n bytes at `at`: fewer at the end of the file; -1 with errno. */
static ssize_t read_at(int fd, char *to, size_t n, off_t at) {
    size_t have = 0;
    while (have < n) {
        ssize_t got = pread(fd, to + have, n - have, at + (off_t)have);
        if (got == 0)
            break;
        if (got < 0 && errno != EINTR)
            return -1;
        have += got < 0 ? 0 : (size_t)got;
    }
    return (ssize_t)have;
}

/* The block that the bytes behind it ask for. What the system remembers of the file is let go first, where it is on the disk
 * already, so that it is read from there. */
static int make_block(int fd, const char *path, char block[H5_SUM_BLOCK]) {
    ld_sha256_state s;
    char hex[65], *piece = malloc(PIECE);
    ssize_t n = 0;
    off_t at = H5_SUM_BLOCK;
    if (!piece)
        return ld_fail(LD_EMEM, "hdf5: out of host memory");
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    ld_sha256_start(&s);
    while ((n = read_at(fd, piece, PIECE, at)) > 0) {
        ld_sha256_add(&s, piece, (size_t)n);
        at += n;
    }
    free(piece);
    if (n < 0)
        return fail_sum("read", path);
    ld_sha256_end(&s, hex);
    memset(block, 0, H5_SUM_BLOCK);
    snprintf(block, H5_SUM_BLOCK, "%ssha256 %s\nbytes %lld\n", first_line, hex, (long long)(at - H5_SUM_BLOCK));
    return 0;
}

/* A file that is not as long as it was is told in lengths. */
static int compare(int fd, const char *path, const char *block, const char *wanted) {
    long long was = -1;
    struct stat st;
    const char *text = strstr(block, "\nbytes ");
    if (!memcmp(block, wanted, H5_SUM_BLOCK))
        return 0;
    if (text && sscanf(text + 7, "%lld", &was) == 1 && !fstat(fd, &st) && st.st_size != was + H5_SUM_BLOCK)
        return ld_fail(LD_EFORMAT, "hdf5: %s is damaged: it has %lld bytes, %lld were written", path,
                       (long long)st.st_size, was + H5_SUM_BLOCK);
    return ld_fail(LD_EFORMAT, "hdf5: %s is damaged: its bytes are not those that were written (sha256)", path);
}

static int check(int fd, const char *path, bool *summed) {
    char block[H5_SUM_BLOCK + 1] = {0}, wanted[H5_SUM_BLOCK];
    if (read_at(fd, block, H5_SUM_BLOCK, 0) < 0)
        return fail_sum("read", path);
    *summed = memcmp(block, hdf5, sizeof hdf5) != 0;
    if (!*summed)
        return 0;
    if (memcmp(block, first_line, sizeof first_line - 1))
        return ld_fail(LD_EFORMAT, "hdf5: %s is damaged or no HDF5 file: it begins with neither HDF5's mark nor a sum",
                       path);
    int bad = make_block(fd, path, wanted);
    return bad ? bad : compare(fd, path, block, wanted);
}

int ld_h5_check(const char *path, bool *summed) {
    *summed = false;
    ld_map probe;
    if (ld_map_open(&probe, path)) /* the system's own words for what is missing or no file */
        return ld_error_code();
    ld_map_close(&probe);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_sum("read", path);
    int bad = check(fd, path, summed);
    close(fd);
    return bad;
}

int h5_sum_write(const char *file, const char *path) {
    char block[H5_SUM_BLOCK];
    bool summed;
    int fd = ld_file_fails() ? -1 : open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return fail_sum("write", path);
    int bad = make_block(fd, path, block);
    if (!bad && (ld_file_fails() || pwrite(fd, block, sizeof block, 0) != (ssize_t)sizeof block))
        bad = fail_sum("write", path);
    if (!bad && (ld_file_fails() || fsync(fd)) && errno != EINVAL)
        bad = fail_sum("write", path);
    if (!bad)
        bad = check(fd, path, &summed);
    close(fd);
    return bad;
}
