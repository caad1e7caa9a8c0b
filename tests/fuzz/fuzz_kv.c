/* libFuzzer's target for LMDB files: the bytes are a data base; all of it is read, and every key looked up again. */
#define _GNU_SOURCE
#include "io/kv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ENTRIES = 2000 };

typedef struct walk {
    ld_kv *other; /* a second reader of the same file */
    unsigned sum;
    int left;
} walk;

static int visit(void *arg, const void *key, size_t key_n, const void *value, size_t value_n) {
    walk *w = arg;
    const unsigned char *p = value;
    const void *again;
    size_t n;
    for (size_t i = 0; i < value_n; i++)
        w->sum += p[i];
    if (!ld_kv_get(w->other, key, key_n, &again, &n))
        for (size_t i = 0; i < n; i++)
            w->sum += ((const unsigned char *)again)[i];
    return --w->left == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    char path[64];
    int fd = memfd_create("kv", MFD_CLOEXEC);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ld_kv *kv = ld_kv_open(path);
    walk w = {kv ? ld_kv_open(path) : NULL, 0, ENTRIES};
    if (w.other)
        ld_kv_list(kv, visit, &w);
    ld_kv_close(w.other);
    ld_kv_close(kv);
    close(fd);
    return 0;
}
