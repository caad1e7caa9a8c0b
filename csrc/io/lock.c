/* Locks of folders, so that two processes do not train into one. */
#include "io/file.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Folders this process has locked: the system would refuse it a second lock through another descriptor. */
static struct held {
    dev_t device;
    ino_t inode;
    int fd;
} * held;
static int held_count;

static int find(const struct stat *st) {
    int i = 0;
    while (i < held_count && (held[i].device != st->st_dev || held[i].inode != st->st_ino))
        i++;
    return i;
}

static int keep(const struct stat *st, int fd) {
    struct held *more = realloc(held, (size_t)(held_count + 1) * sizeof *held);
    if (!more)
        return ld_fail(LD_EMEM, "lock: out of host memory");
    held = more;
    held[held_count++] = (struct held){st->st_dev, st->st_ino, fd};
    return 0;
}

int ld_folder_lock(const char *path) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return 0; /* whoever writes there will hear why */
    bool known = !fstat(fd, &st) && find(&st) < held_count;
    if (!known && !flock(fd, LOCK_EX | LOCK_NB)) {
        int bad = keep(&st, fd);
        if (bad)
            close(fd);
        return bad;
    }
    bool busy = !known && errno == EWOULDBLOCK; /* other reasons: a file system without locks */
    close(fd);
    return busy ? ld_fail(LD_ESTATE, "'%.900s' is in use: another process is training there", path) : 0;
}

void ld_folder_unlock(const char *path) {
    struct stat st;
    int i = stat(path, &st) ? held_count : find(&st);
    if (i == held_count)
        return;
    close(held[i].fd);
    held[i] = held[--held_count];
}
