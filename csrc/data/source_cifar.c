/* CIFAR's binary files: records of one label byte (CIFAR-100: coarse, fine) and 3 planes of 32 x 32 bytes, red, green, blue.
 * Source: https://www.cs.toronto.edu/~kriz/cifar.html */
#include "base/error.h"
#include "data/source_part.h"
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIDE = 32, PLANE = SIDE * SIDE, PIXELS = 3 * PLANE };

/* ---- reading -------------------------------------------------------------------------------------------------------- */

static int64_t file_of(const ld_source *s, int64_t i) {
    int64_t k = 0;
    while (i >= s->until[k])
        k++;
    return k;
}

void ld_source_cifar_name(const ld_source *s, int64_t i, char *name, size_t n) {
    int64_t k = file_of(s, i);
    const char *file = ld_names_get(&s->file, k);
    snprintf(name, n, "%s%s%05lld", file, *file ? "/" : "", (long long)(i - (k ? s->until[k - 1] : 0)));
}

static int read_record(ld_source_reader *r, int64_t i, ld_bytes *b, size_t most) {
    const ld_source *s = r->s;
    char path[LD_PATH_MAX];
    int64_t k = file_of(s, i), at = i - (k ? s->until[k - 1] : 0);
    size_t n = (size_t)s->record, got = 0;
    if (n > most)
        return ld_fail(LD_EVALUE, "images: a record has %zu bytes, more than %zu", n, most);
    if (ld_source_join(path, s->root, ld_names_get(&s->file, k)) || ld_bytes_reserve(b, n))
        return ld_error_code();
    if (r->fd < 0 || r->file[0] != k) {
        if (r->fd >= 0)
            close(r->fd);
        r->fd = open(path, O_RDONLY | O_CLOEXEC);
        r->file[0] = k;
    }
    while (got < n) {
        ssize_t m = r->fd < 0 ? -1 : pread(r->fd, b->data + got, n - got, (off_t)(at * s->record) + (off_t)got);
        if (m < 0 && errno == EINTR && r->fd >= 0)
            continue;
        if (m < 0)
            return ld_fail(LD_EIO, "images: cannot read %s: %s", path, strerror(errno));
        if (m == 0)
            return ld_fail(LD_EIO, "images: %s became shorter after it was listed: record %lld is not there", path,
                           (long long)at);
        got += (size_t)m;
    }
    b->n = n;
    return 0;
}

int ld_source_cifar_decode(const ld_source *s, const ld_bytes *b, const ld_decode *how, ld_image *im) {
    if (b->n != (size_t)s->record)
        return ld_fail(LD_EFORMAT, "images: a record of %zu bytes; %d are needed", b->n, s->record);
    const uint8_t *from = b->data + s->record - PIXELS;
    int channels = how && how->channels == 1 ? 1 : 3;
    if (ld_image_new(im, SIDE, SIDE, channels))
        return ld_error_code();
    for (int i = 0; i < PLANE; i++) {
        int red = from[i], green = from[PLANE + i], blue = from[2 * PLANE + i];
        if (channels == 1) { /* ITU-R BT.601, as JPEG's luma */
            im->data[i] = (uint8_t)((299 * red + 587 * green + 114 * blue + 500) / 1000);
            continue;
        }
        im->data[3 * i] = (uint8_t)red;
        im->data[3 * i + 1] = (uint8_t)green;
        im->data[3 * i + 2] = (uint8_t)blue;
    }
    return 0;
}

/* ---- listing -------------------------------------------------------------------------------------------------------- */

/* Labels of the records in file `path`, each of `record` bytes: *n of them, malloc'd; NULL where it is no such file. */
static int32_t *labels_of(const char *path, int record, int64_t *n) {
    int most = record == PIXELS + 1 ? 9 : 99;
    ld_map m;
    *n = 0;
    if (ld_map_open(&m, path)) {
        ld_error_clear();
        return NULL;
    }
    int64_t count = (int64_t)(m.n / (size_t)record);
    int32_t *label = m.n && m.n % (size_t)record == 0 ? malloc((size_t)count * sizeof *label) : NULL;
    const uint8_t *p = m.data;
    if (!label)
        count = 0;
    for (int64_t i = 0; i < count; i++, p += record) {
        int fine = record == PIXELS + 1 ? p[0] : p[1];
        if (fine > most || (record == PIXELS + 2 && p[0] > 19)) {
            free(label);
            label = NULL;
            break;
        }
        label[i] = fine;
    }
    ld_map_close(&m);
    *n = label ? count : 0;
    return label;
}

/* Adds a file of records of that size; false where it is none. */
static bool add_file(ld_source *s, const char *name, int record, int *bad) {
    char path[LD_PATH_MAX];
    int64_t n, files = s->file.count;
    if ((*bad = ld_source_join(path, s->root, name)))
        return false;
    int32_t *label = labels_of(path, record, &n);
    if (!label)
        return false;
    int32_t *all = realloc(s->label, (size_t)(s->count + n) * sizeof *all);
    if (all)
        s->label = all;
    int64_t *until = realloc(s->until, ((size_t)files + 1) * sizeof *until);
    if (until)
        s->until = until;
    if (!all || !until)
        *bad = ld_fail(LD_EMEM, "images: out of host memory for %lld labels", (long long)(s->count + n));
    else if (!(*bad = ld_names_add(&s->file, name, strlen(name)))) {
        memcpy(s->label + s->count, label, (size_t)n * sizeof *label);
        s->count += n;
        s->until[files] = s->count;
        s->record = record;
    }
    free(label);
    return !*bad;
}

/* The names of classes, one a line, in a file beside the records; numbers where there is none that fits. */
static int name_classes(ld_source *s, bool folder) {
    int classes = s->record == PIXELS + 1 ? 10 : 100;
    const char *file = classes == 10 ? "batches.meta.txt" : "fine_label_names.txt", *slash = strrchr(s->root, '/');
    char path[LD_PATH_MAX + 32], number[16], *text = NULL;
    size_t n = 0, where = folder ? strlen(s->root) : slash ? (size_t)(slash - s->root) : 0;
    void *bytes = NULL;
    snprintf(path, sizeof path, "%.*s%s%s", (int)where, s->root, where || slash ? "/" : "", file);
    if (ld_file_read(path, &bytes, &n, 1 << 16) || !(text = malloc(n + 1)))
        ld_error_clear();
    else {
        memcpy(text, bytes, n);
        text[n] = 0;
        char *rest = text, *line;
        while ((line = strsep(&rest, "\r\n")))
            if (*line && ld_names_add(&s->class_name, line, strlen(line)))
                break;
    }
    free(text);
    free(bytes);
    if (s->class_name.count == classes)
        return 0;
    ld_names_free(&s->class_name);
    for (int c = 0; c < classes; c++)
        if (ld_names_add(&s->class_name, number, (size_t)snprintf(number, sizeof number, "%d", c)))
            return ld_error_code();
    return 0;
}

static int find_batches(ld_source *s) {
    char name[32];
    int bad = 0, found = 0;
    for (int k = 1; k <= 5 && !bad; k++) {
        snprintf(name, sizeof name, "data_batch_%d.bin", k);
        found += add_file(s, name, PIXELS + 1, &bad);
    }
    if (!bad && found && found < 5)
        bad = ld_source_add_note(s, "only %d of CIFAR-10's 5 training batches are here and whole", found);
    if (!bad && !found)
        add_file(s, "train.bin", PIXELS + 2, &bad);
    return bad;
}

int ld_source_cifar(ld_source *s, bool folder, bool *is) {
    static const char *const suffix[] = {".bin", NULL};
    int bad = 0;
    if (folder)
        bad = find_batches(s);
    else if (ld_source_suffix_of(s->root, suffix) && !add_file(s, "", PIXELS + 1, &bad) && !bad)
        add_file(s, "", PIXELS + 2, &bad);
    *is = s->count > 0;
    if (bad || !*is)
        return bad;
    s->kind = s->record == PIXELS + 1 ? "cifar-10" : "cifar-100";
    s->read = read_record;
    return name_classes(s, folder);
}
