/* Shared by the tests of archives: the fixtures' paths, a list of what was found, a tar's header, a file to write to. */
#ifndef LD_TEST_ARCHIVES_H
#define LD_TEST_ARCHIVES_H

#include "io/archive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct found {
    char *name;
    uint64_t offset, size;
    ld_packing packing;
} found;

typedef struct listed {
    int n;
    found *at;
} listed;

static inline const char *archive_fixture(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "tests/fixtures/archives/%s", name);
    return path;
}

/* For ld_archive_list: keeps the member in the `listed` that arg is. */
static inline int keep_member(void *arg, const ld_member *m) {
    listed *l = arg;
    found *more = realloc(l->at, (size_t)(l->n + 1) * sizeof *more);
    if (!more)
        return -1;
    l->at = more;
    l->at[l->n++] = (found){strdup(m->name), m->offset, m->size, m->packing};
    return 0;
}

static inline void listed_free(listed *l) {
    for (int i = 0; i < l->n; i++)
        free(l->at[i].name);
    free(l->at);
    *l = (listed){0};
}

/* A ustar header of a regular file. */
static inline void tar_header(uint8_t head[512], const char *name, unsigned long long size) {
    memset(head, 0, 512);
    strncpy((char *)head, name, 100);
    snprintf((char *)head + 100, 8, "0000644");
    snprintf((char *)head + 108, 8, "0000000");
    snprintf((char *)head + 116, 8, "0000000");
    snprintf((char *)head + 124, 12, "%011llo", size);
    snprintf((char *)head + 136, 12, "00000000000");
    memset(head + 148, ' ', 8);
    head[156] = '0';
    memcpy(head + 257, "ustar\00000", 8);
    unsigned sum = 0;
    for (int i = 0; i < 512; i++)
        sum += head[i];
    snprintf((char *)head + 148, 8, "%06o", sum);
}

/* A file of the test's own: setup and teardown. */
static char scratch[64];

static inline int make_scratch(void **state) {
    (void)state;
    strcpy(scratch, "/tmp/ld_archive_XXXXXX");
    int fd = mkstemp(scratch);
    return fd < 0 ? -1 : close(fd);
}

static inline int remove_scratch(void **state) {
    (void)state;
    return unlink(scratch);
}

#endif
