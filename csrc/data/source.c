/* Sources: the object, readers, names, the fingerprint. */
#include "data/source.h"

#include "base/error.h"
#include "data/source_part.h"
#include "io/file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what the others share ------------------------------------------------------------------------------------------ */

int ld_source_add_note(ld_source *s, const char *fmt, ...) {
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return ld_names_add(&s->note, text, strlen(text));
}

int ld_source_join(char *path, const char *root, const char *name) {
    if (snprintf(path, LD_PATH_MAX, "%s%s%s", root, *name ? "/" : "", name) >= LD_PATH_MAX)
        return ld_fail(LD_EVALUE, "images: the path of %.200s is too long", name);
    return 0;
}

static bool suffix_of(const char *name, const char *const *known) {
    const char *dot = strrchr(name, '.'), *slash = strrchr(name, '/');
    if (!dot || (slash && dot < slash))
        return false;
    while (*known && strcasecmp(dot, *known))
        known++;
    return *known;
}

bool ld_source_suffix(const char *name) {
    static const char *const known[] = {".png", ".jpg", ".jpeg", ".webp", NULL};
    return suffix_of(name, known);
}

bool ld_source_archive_suffix(const char *name) {
    static const char *const known[] = {".tar", ".zip",  ".tgz", ".gz",  ".xz",   ".txz",
                                        ".zst", ".tzst", ".bz2", ".tbz", ".tbz2", NULL};
    return suffix_of(name, known);
}

const char *ld_source_folder_of(const char *name, size_t *n) {
    const char *end = strrchr(name, '/'), *start = end;
    *n = 0;
    if (!end)
        return name;
    while (start > name && start[-1] != '/')
        start--;
    *n = (size_t)(end - start);
    return start;
}

int ld_bytes_reserve(ld_bytes *b, size_t n) {
    if (n <= b->room)
        return 0;
    uint8_t *data = realloc(b->data, n + n / 4);
    if (!data)
        return ld_fail(LD_EMEM, "images: out of host memory for %zu bytes", n);
    b->data = data;
    b->room = n + n / 4;
    return 0;
}

void ld_bytes_free(ld_bytes *b) {
    free(b->data);
    *b = (ld_bytes){0};
}

/* ---- the object ----------------------------------------------------------------------------------------------------- */

static void reader_close(ld_source_reader *r) {
    if (r->fd >= 0)
        close(r->fd);
    free(r);
}

static void source_free(ld_source *s) {
    while (s->spare) {
        ld_source_reader *r = s->spare;
        s->spare = r->next;
        reader_close(r);
    }
    pthread_mutex_destroy(&s->lock);
    ld_names_free(&s->name);
    ld_names_free(&s->file);
    ld_names_free(&s->class_name);
    ld_names_free(&s->note);
    free(s->label);
    free(s->place);
    free(s->size);
    free(s->container);
    free(s->until);
    free(s->path);
    free(s->root);
    free(s->inside);
    free(s);
}

ld_source *ld_source_ref(ld_source *s) {
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void ld_source_drop(ld_source *s) {
    if (s && atomic_fetch_sub(&s->refs, 1) == 1)
        source_free(s);
}

static ld_source *source_new(const char *path) {
    ld_source *s = calloc(1, sizeof *s);
    if (!s)
        return ld_fail_null(LD_EMEM, "images: out of host memory");
    atomic_init(&s->refs, 1);
    pthread_mutex_init(&s->lock, NULL);
    s->path = strdup(path);
    s->root = strdup(path);
    s->inside = strdup("");
    if (s->path && s->root && s->inside)
        return s;
    source_free(s);
    return ld_fail_null(LD_EMEM, "images: out of host memory");
}

ld_source *ld_source_open(const char *path, const ld_source_options *o) {
    (void)o;
    ld_source *s = source_new(path);
    int64_t archives;
    if (!s)
        return NULL;
    int bad = ld_source_folder(s, &archives);
    if (!bad && !s->count)
        bad = ld_fail(LD_EFORMAT, "images: no PNG, JPEG or WebP pictures below %s", path);
    if (!bad)
        return s;
    source_free(s);
    return NULL;
}

int64_t ld_source_count(const ld_source *s) {
    return s->count;
}

const char *ld_source_path(const ld_source *s) {
    return s->path;
}

const char *ld_source_kind(const ld_source *s) {
    return s->kind;
}

bool ld_source_in_order(const ld_source *s) {
    return s->in_order;
}

const char *ld_source_name(const ld_source *s, int64_t i, char *name, size_t n) {
    snprintf(name, n, "%s", ld_names_get(&s->name, i));
    return name;
}

int64_t ld_source_bytes(const ld_source *s, int64_t i) {
    if (s->size)
        return (int64_t)s->size[i];
    if (s->record)
        return s->record;
    char path[LD_PATH_MAX];
    struct stat st;
    if (snprintf(path, sizeof path, "%s/%s", s->root, ld_names_get(&s->name, i)) >= LD_PATH_MAX || stat(path, &st))
        return -1;
    return (int64_t)st.st_size;
}

int32_t ld_source_label(const ld_source *s, int64_t i) {
    return s->label ? s->label[i] : -1;
}

int32_t ld_source_classes(const ld_source *s) {
    return (int32_t)s->class_name.count;
}

const char *ld_source_class(const ld_source *s, int32_t c) {
    return ld_names_get(&s->class_name, c);
}

int ld_source_notes(const ld_source *s) {
    return (int)s->note.count;
}

const char *ld_source_note(const ld_source *s, int k) {
    return ld_names_get(&s->note, k);
}

size_t ld_source_memory(const ld_source *s) {
    size_t places = (size_t)s->room * ((s->place ? 8 : 0) + (s->size ? 8 : 0) + (s->container ? 4 : 0));
    return sizeof *s + ld_names_memory(&s->name) + ld_names_memory(&s->file) + ld_names_memory(&s->class_name) +
           ld_names_memory(&s->note) + places + (s->label ? (size_t)s->count * sizeof *s->label : 0);
}

int ld_source_fingerprint(const ld_source *s, int64_t count, char hex[65]) {
    char name[LD_PATH_MAX], line[LD_PATH_MAX + 64];
    ld_bytes all = {0};
    for (int64_t i = 0; i < count && i < s->count; i++) {
        int n = snprintf(line, sizeof line, "%s %lld %d\n", ld_source_name(s, i, name, sizeof name),
                         (long long)ld_source_bytes(s, i), ld_source_label(s, i));
        if (ld_bytes_reserve(&all, all.n + (size_t)n)) {
            ld_bytes_free(&all);
            return ld_error_code();
        }
        memcpy(all.data + all.n, line, (size_t)n);
        all.n += (size_t)n;
    }
    ld_sha256(all.data, all.n, hex);
    ld_bytes_free(&all);
    return 0;
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

static ld_source_reader *reader_new(ld_source *s, bool holds) {
    ld_source_reader *r = calloc(1, sizeof *r);
    if (!r)
        return ld_fail_null(LD_EMEM, "images: out of host memory");
    for (int k = 0; k < LD_READER_FILES; k++)
        r->file[k] = -1;
    r->fd = -1;
    r->s = holds ? ld_source_ref(s) : s;
    r->holds = holds;
    return r;
}

ld_source_reader *ld_source_reader_new(ld_source *s) {
    return reader_new(s, true);
}

void ld_source_reader_drop(ld_source_reader *r) {
    if (!r)
        return;
    ld_source *s = r->holds ? r->s : NULL;
    reader_close(r);
    ld_source_drop(s);
}

ld_source_reader *ld_source_borrow(ld_source *s) {
    pthread_mutex_lock(&s->lock);
    ld_source_reader *r = s->spare;
    if (r)
        s->spare = r->next;
    pthread_mutex_unlock(&s->lock);
    return r ? r : reader_new(s, false);
}

void ld_source_give_back(ld_source *s, ld_source_reader *r) {
    if (!r)
        return;
    pthread_mutex_lock(&s->lock);
    r->next = s->spare;
    s->spare = r;
    pthread_mutex_unlock(&s->lock);
}

int ld_source_read(ld_source_reader *r, int64_t i, ld_bytes *b, size_t most) {
    if (i < 0 || i >= r->s->count)
        return ld_fail(LD_EINDEX, "images: picture %lld of %lld", (long long)i + 1, (long long)r->s->count);
    b->n = 0;
    return r->s->read(r, i, b, most);
}

int ld_source_decode(const ld_source *s, int64_t i, const ld_bytes *b, const ld_decode *how, ld_image *im) {
    char name[LD_PATH_MAX], path[2 * LD_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", s->root, ld_source_name(s, i, name, sizeof name));
    return ld_image_decode(im, b->data, b->n, how, path);
}
