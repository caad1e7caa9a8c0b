/* libFuzzer's target for archives: the bytes are a file; it is listed and its members are read, as far as that is cheap. */
#define _GNU_SOURCE
#include "io/archive.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MEMBERS = 2000, MEMBER = 1 << 20 };

typedef struct walk {
    ld_archive *a;
    bool stream;
    uint64_t most;
    int left;
} walk;

static int visit(void *arg, const ld_member *m) {
    walk *w = arg;
    if (!w->stream && m->size > w->most) /* a caller would take that much memory */
        abort();
    if (m->size <= MEMBER) {
        void *bytes = malloc((size_t)m->size + 1);
        if (bytes)
            ld_archive_read(w->a, m, bytes);
        free(bytes);
    }
    return --w->left == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    char path[64];
    int fd = memfd_create("archive", MFD_CLOEXEC);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    walk w = {ld_archive_open(path), ld_archive_kind_of(path) == LD_ARCHIVE_STREAM, 1032 * (uint64_t)n + 1031, MEMBERS};
    if (w.a)
        ld_archive_list(path, visit, &w);
    ld_archive_close(w.a);
    close(fd);
    return 0;
}
