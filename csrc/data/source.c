/* Sources: the object, readers, names, the fingerprint. */
#include "data/source.h"

#include "base/error.h"
#include "data/source_part.h"
#include "io/file.h"
#include "io/hash.h"

#include <dirent.h>
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

static const char *const picture_suffix[] = {".png", ".jpg", ".jpeg", ".webp", NULL};
static const char *const archive_suffix[] = {".tar", ".zip",  ".tgz", ".gz",  ".xz",   ".txz",
                                             ".zst", ".tzst", ".bz2", ".tbz", ".tbz2", NULL};

bool ld_source_suffix_of(const char *name, const char *const *known) {
    const char *dot = strrchr(name, '.'), *slash = strrchr(name, '/');
    if (!dot || (slash && dot < slash))
        return false;
    while (*known && strcasecmp(dot, *known))
        known++;
    return *known;
}

bool ld_source_suffix(const char *name) {
    return ld_source_suffix_of(name, picture_suffix);
}

bool ld_source_archive_suffix(const char *name) {
    return ld_source_suffix_of(name, archive_suffix);
}

size_t ld_source_stem(const char *name) {
    return ld_source_suffix(name) ? (size_t)(strrchr(name, '.') - name) : strlen(name);
}

size_t ld_source_archive_stem(const char *name) {
    size_t n = ld_source_archive_suffix(name) ? (size_t)(strrchr(name, '.') - name) : strlen(name);
    return n > 4 && n < strlen(name) && !strncasecmp(name + n - 4, ".tar", 4) ? n - 4 : n;
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
    for (int k = 0; k < LD_READER_FILES; k++)
        if (r->archive[k])
            ld_archive_close(r->archive[k]);
    if (r->kv)
        ld_kv_close(r->kv);
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
    free(s->stamp);
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

void ld_source_empty(ld_source *s) {
    ld_source_no_classes(s);
    ld_names_free(&s->name);
    ld_names_free(&s->note);
    free(s->place);
    free(s->size);
    free(s->container);
    s->place = s->size = NULL;
    s->container = NULL;
    s->count = s->room = 0;
}

/* ---- opening -------------------------------------------------------------------------------------------------------- */

static int set_text(char **to, const char *text, size_t n) {
    char *copy = malloc(n + 2);
    if (!copy)
        return ld_fail(LD_EMEM, "images: out of host memory");
    memcpy(copy, text, n);
    copy[n] = 0;
    free(*to);
    *to = copy;
    return 0;
}

/* CIFAR's batches as Python keeps them. */
static bool pickled(const char *path, bool folder) {
    char file[LD_PATH_MAX];
    uint8_t head[2] = {0};
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    if (!folder && strncmp(base, "data_batch_", 11) && strcmp(base, "test_batch") && strcmp(base, "train") &&
        strcmp(base, "test"))
        return false;
    if (snprintf(file, sizeof file, "%s%s", path, folder ? "/data_batch_1" : "") >= LD_PATH_MAX)
        return false;
    FILE *f = fopen(file, "rb");
    bool is = f && fread(head, 1, 2, f) == 2 && head[0] == 0x80 && head[1] <= 5;
    if (f)
        fclose(f);
    return is;
}

static int fail_pickled(const char *path) {
    return ld_fail(LD_EFORMAT,
                   "images: %s holds CIFAR's batches in Python's own form, which is not read; the binary "
                   "version (data_batch_1.bin ...) is",
                   path);
}

static int open_folder(ld_source *s, const ld_source_options *o) {
    int64_t archives;
    bool is = false;
    if (ld_kv_is(s->root))
        return ld_source_lmdb(s);
    if (!s->inside[0]) {
        int bad = ld_source_folder(s, &archives);
        if (!bad && !s->count)
            bad = ld_source_cifar(s, true, &is);
        if (bad || s->count)
            return bad;
    }
    if (ld_source_find_archives(s))
        return ld_error_code();
    if (s->file.count)
        return ld_source_archives(s, o);
    if (s->inside[0]) /* what looked like archives is none */
        return ld_fail(LD_EIO, "images: cannot read %s: %s", s->path, strerror(ENOENT));
    return pickled(s->root, true) ? fail_pickled(s->path)
                                  : ld_fail(LD_EFORMAT, "images: no PNG, JPEG or WebP pictures below %s", s->path);
}

static int open_file(ld_source *s, const ld_source_options *o) {
    bool is = false;
    if (ld_archive_kind_of(s->root) != LD_ARCHIVE_NONE)
        return ld_names_add(&s->file, "", 0) ? ld_error_code() : ld_source_archives(s, o);
    if (ld_kv_is(s->root))
        return ld_source_lmdb(s);
    int bad = ld_source_cifar(s, false, &is);
    if (bad || is)
        return bad;
    if (pickled(s->root, false))
        return fail_pickled(s->path);
    return ld_fail(LD_EFORMAT,
                   "images: %s is no tar, zip, LMDB or CIFAR file; pictures are in one of those or a folder", s->path);
}

/* Whether archives lie directly in a folder, by their suffixes. */
static bool has_archives(const char *path) {
    bool any = false;
    DIR *dir = opendir(path);
    const struct dirent *entry;
    while (dir && !any && (entry = readdir(dir)))
        any = entry->d_name[0] != '.' && ld_source_archive_suffix(entry->d_name);
    if (dir)
        closedir(dir);
    return any;
}

/* Parts a path that does not exist into what does, an archive or a folder of them, and a path inside. */
static int part_path(ld_source *s, struct stat *st) {
    char head[LD_PATH_MAX];
    size_t n = strlen(s->path), end = n;
    while (end > 0) {
        while (end > 0 && s->path[end - 1] != '/')
            end--;
        size_t cut = end;
        while (cut > 0 && s->path[cut - 1] == '/')
            cut--;
        if (cut == 0)
            break;
        memcpy(head, s->path, cut);
        head[cut] = 0;
        if (stat(head, st)) {
            end = cut;
            continue;
        }
        if (S_ISREG(st->st_mode) ? ld_archive_kind_of(head) == LD_ARCHIVE_NONE : !has_archives(head))
            break;
        while (n > end && s->path[n - 1] == '/')
            n--;
        if (n == end)
            return set_text(&s->root, head, cut);
        if (set_text(&s->root, head, cut) || set_text(&s->inside, s->path + end, n - end))
            return ld_error_code();
        strcpy(s->inside + (n - end), "/"); /* set_text leaves room for it */
        return 0;
    }
    return ld_fail(LD_EIO, "images: cannot read %s: %s", s->path, strerror(ENOENT));
}

static int open_path(ld_source *s, const ld_source_options *o) {
    struct stat st;
    size_t n = strlen(s->path);
    if (n == 0 || n >= LD_PATH_MAX)
        return ld_fail(LD_EVALUE, "images: a path of %zu bytes; 1 to %d are possible", n, LD_PATH_MAX - 1);
    while (n > 1 && s->path[n - 1] == '/')
        n--;
    if (set_text(&s->root, s->path, n))
        return ld_error_code();
    if (stat(s->root, &st)) {
        if (errno != ENOENT && errno != ENOTDIR)
            return ld_fail(LD_EIO, "images: cannot read %s: %s", s->path, strerror(errno));
        if (part_path(s, &st))
            return ld_error_code();
    }
    return S_ISDIR(st.st_mode) ? open_folder(s, o) : open_file(s, o);
}

ld_source *ld_source_open(const char *path, const ld_source_options *o) {
    static const ld_source_options plain;
    const ld_source_options *how = o ? o : &plain;
    ld_source *s = source_new(path);
    if (!s)
        return NULL;
    if (!open_path(s, how) && !(how->labels && ld_source_label_file(s, how)))
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
    if (s->record)
        ld_source_cifar_name(s, i, name, n);
    else
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
    char name[LD_PATH_MAX], line[64];
    ld_sha256_state sum;
    ld_sha256_start(&sum);
    for (int64_t i = 0; i < count && i < s->count; i++) {
        ld_source_name(s, i, name, sizeof name);
        ld_sha256_add(&sum, name, strlen(name) + 1);
        int n = snprintf(line, sizeof line, "%lld %d\n", (long long)ld_source_bytes(s, i), ld_source_label(s, i));
        ld_sha256_add(&sum, line, (size_t)n);
        if (ld_interrupted())
            return ld_error_code();
    }
    ld_sha256_end(&sum, hex);
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
    if (s->record)
        return ld_source_cifar_decode(s, b, how, im);
    snprintf(path, sizeof path, "%s/%s", s->root, ld_source_name(s, i, name, sizeof name));
    return ld_image_decode(im, b->data, b->n, how, path);
}
