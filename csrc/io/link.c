/* A second name for a file. */
#include "io/file.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail_link(const char *path) {
    return ld_fail(LD_EIO, "write '%.900s': %s", path, strerror(errno));
}

static bool write_all(int fd, const char *p, ssize_t n) {
    while (n > 0) {
        ssize_t done = ld_file_fails() ? -1 : write(fd, p, (size_t)n);
        if (done < 0 && errno != EINTR)
            return false;
        p += done < 0 ? 0 : done;
        n -= done < 0 ? 0 : done;
    }
    return true;
}

/* The bytes of `from` into `tmp`, which is there and empty. */
static int copy(const char *from, const char *tmp, const char *path) {
    char buffer[1 << 16];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(tmp, O_WRONLY | O_CLOEXEC);
    ssize_t n = -1;
    bool good = in >= 0 && out >= 0;
    while (good && (n = read(in, buffer, sizeof buffer)) != 0)
        good = n > 0 ? write_all(out, buffer, n) : errno == EINTR;
    int code = good ? LD_OK : fail_link(path);
    if (in >= 0)
        close(in);
    if (out >= 0 && close(out) && !code)
        code = fail_link(path);
    return code;
}

int ld_file_link(const char *from, const char *to) {
    struct stat a, b;
    char tmp[LD_PATH_MAX];
    if (stat(from, &a))
        return fail_link(from);
    if (!stat(to, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return LD_OK; /* rename(2) would leave both names of one file where they are */
    int code = ld_file_temporary(to, tmp);
    if (code)
        return code;
    unlink(tmp);
    if (ld_file_fails() || link(from, tmp)) {
        int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        code = fd < 0 || close(fd) ? fail_link(to) : copy(from, tmp, to);
    }
    if (!code)
        return ld_file_commit(tmp, to);
    ld_file_discard(tmp);
    return code;
}
