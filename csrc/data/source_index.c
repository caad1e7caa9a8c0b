/* Lists of archives, kept in the cache folder so that an archive is read through once.
 *
 *   header (struct head)
 *   stamps of the archives      files x 16 bytes
 *   place, size, container      count x 8, 8, 4
 *   label                       count x 4, where has_label
 *   names of archives, pictures, classes, notes: NUL-ended, one behind the other
 *   hash of everything before   8
 *
 * Numbers lie as in memory: a file of another byte order does not begin with MAGIC. A list is used when every archive has
 * the size and time of change it had; one that does not fit or is damaged is made anew. */
#include "base/error.h"
#include "data/source_part.h"
#include "io/file.h"
#include "io/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAGIC 0x31786469646c0a1au /* the form's version is in it */

struct head {
    uint64_t magic;
    int64_t count, files, classes, notes;
    uint64_t text[4]; /* bytes of the four blocks of names */
    uint64_t has_label;
};

static ld_names *block(ld_source *s, int k) {
    ld_names *const all[] = {&s->file, &s->name, &s->class_name, &s->note};
    return all[k];
}

static size_t text_bytes(const ld_names *l) {
    size_t n = 0;
    for (int64_t i = 0; i < l->count; i++)
        n += strlen(ld_names_get(l, i)) + 1;
    return n;
}

/* Where the list of this source is kept; false where nothing is. */
static bool index_path(const ld_source *s, const ld_source_options *o, char *path) {
    char hex[65], *whole = o->cache ? realpath(s->root, NULL) : NULL;
    ld_sha256_state sum;
    if (!whole)
        return false;
    ld_sha256_start(&sum);
    ld_sha256_add(&sum, whole, strlen(whole) + 1);
    ld_sha256_add(&sum, s->inside, strlen(s->inside) + 1);
    ld_sha256_end(&sum, hex);
    free(whole);
    return snprintf(path, LD_PATH_MAX, "%s/%s.index", o->cache, hex) < LD_PATH_MAX;
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

struct out {
    FILE *f;
    uint64_t sum;
    bool bad;
};

static void put(struct out *w, const void *bytes, size_t n) {
    w->sum = ld_hash(w->sum, bytes, n);
    w->bad = w->bad || fwrite(bytes, 1, n, w->f) != n;
}

static void write_all(struct out *w, ld_source *s) {
    size_t n = (size_t)s->count;
    struct head h = {MAGIC, s->count, s->file.count, s->class_name.count, s->note.count, {0}, s->label != NULL};
    for (int k = 0; k < 4; k++)
        h.text[k] = text_bytes(block(s, k));
    put(w, &h, sizeof h);
    put(w, s->stamp, (size_t)s->file.count * sizeof *s->stamp);
    put(w, s->place, n * sizeof *s->place);
    put(w, s->size, n * sizeof *s->size);
    put(w, s->container, n * sizeof *s->container);
    if (s->label)
        put(w, s->label, n * sizeof *s->label);
    for (int k = 0; k < 4; k++)
        for (int64_t i = 0; i < block(s, k)->count; i++) {
            const char *name = ld_names_get(block(s, k), i);
            put(w, name, strlen(name) + 1);
        }
    uint64_t sum = w->sum;
    put(w, &sum, sizeof sum);
}

void ld_source_index_save(ld_source *s, const ld_source_options *o) {
    char path[LD_PATH_MAX], tmp[LD_PATH_MAX];
    if (!index_path(s, o, path))
        return;
    ld_file_sweep(o->cache);
    if (!ld_make_dirs(o->cache) && !ld_file_temporary(path, tmp)) {
        struct out w = {.f = fopen(tmp, "wb")};
        if (w.f) {
            write_all(&w, s);
            w.bad = fclose(w.f) || w.bad;
        }
        if (!w.f || w.bad)
            ld_file_discard(tmp);
        else
            ld_file_commit(tmp, path);
    }
    ld_error_clear(); /* a list that cannot be kept is made again next time */
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

struct in {
    FILE *f;
    uint64_t sum;
};

static bool get(struct in *r, void *to, size_t n) {
    if (fread(to, 1, n, r->f) != n)
        return false;
    r->sum = ld_hash(r->sum, to, n);
    return true;
}

/* Text of n bytes that holds `count` strings. */
static bool get_names(struct in *r, ld_names *l, int64_t count, size_t n) {
    ld_names_free(l);
    l->text = malloc(n + 1);
    l->at = malloc(((size_t)count + 1) * sizeof *l->at);
    if (!l->text || !l->at)
        return false;
    l->text_room = n + 1;
    l->room = count + 1;
    if (fread(l->text, 1, n, r->f) != n || (n && l->text[n - 1]))
        return false;
    l->used = n;
    for (size_t at = 0; at < n; at += strlen(l->text + at) + 1) {
        if (l->count == count)
            return false;
        l->at[l->count++] = at;
        r->sum = ld_hash(r->sum, l->text + at, strlen(l->text + at) + 1);
    }
    return l->count == count;
}

/* The bytes that a file with this header has; 0 where its numbers make no sense. */
static uint64_t whole_size(const struct head *h, uint64_t size) {
    uint64_t n = sizeof *h + sizeof(uint64_t);
    if (h->magic != MAGIC || h->count < 1 || h->files < 1 || h->classes < 0 || h->notes < 0 || h->has_label > 1)
        return 0;
    const uint64_t parts[][2] = {{(uint64_t)h->files, 16}, {(uint64_t)h->count, 20 + 4 * h->has_label},
                                 {h->text[0], 1},          {h->text[1], 1},
                                 {h->text[2], 1},          {h->text[3], 1}};
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        if (parts[k][0] > size / parts[k][1]) /* more than the file has: the product might not fit */
            return 0;
        n += parts[k][0] * parts[k][1];
    }
    return (uint64_t)h->classes <= h->text[2] && (uint64_t)h->notes <= h->text[3] ? n : 0;
}

static bool read_all(struct in *r, ld_source *s, uint64_t size) {
    struct head h;
    if (!get(r, &h, sizeof h) || whole_size(&h, size) != size || h.files != s->file.count)
        return false;
    size_t n = (size_t)h.count;
    ld_stamp *stamp = malloc((size_t)h.files * sizeof *stamp);
    bool good = stamp && get(r, stamp, (size_t)h.files * sizeof *stamp) &&
                !memcmp(stamp, s->stamp, (size_t)h.files * sizeof *stamp);
    free(stamp);
    if (!good || ld_source_make_room(s, h.count) || !get(r, s->place, n * sizeof *s->place) ||
        !get(r, s->size, n * sizeof *s->size) || !get(r, s->container, n * sizeof *s->container))
        return false;
    if (h.has_label && (!(s->label = malloc(n * sizeof *s->label)) || !get(r, s->label, n * sizeof *s->label)))
        return false;
    ld_names files = {0};
    good = get_names(r, &files, h.files, h.text[0]);
    for (int64_t k = 0; k < h.files && good; k++)
        good = !strcmp(ld_names_get(&files, k), ld_names_get(&s->file, k));
    ld_names_free(&files);
    uint64_t sum, is;
    good = good && get_names(r, &s->name, h.count, h.text[1]) && get_names(r, &s->class_name, h.classes, h.text[2]) &&
           get_names(r, &s->note, h.notes, h.text[3]);
    sum = r->sum;
    s->count = h.count;
    return good && get(r, &is, sizeof is) && is == sum;
}

/* Numbers that would lead outside the list. */
static bool in_range(const ld_source *s) {
    for (int64_t i = 0; i < s->count; i++)
        if ((s->container[i] & ~LD_PACKED_BIT) >= s->file.count ||
            (s->label && (s->label[i] < -1 || s->label[i] >= s->class_name.count)))
            return false;
    return true;
}

bool ld_source_index_load(ld_source *s, const ld_source_options *o) {
    char path[LD_PATH_MAX];
    struct stat st;
    struct in r = {.f = index_path(s, o, path) ? fopen(path, "rb") : NULL};
    if (!r.f)
        return false;
    bool good = !fstat(fileno(r.f), &st) && read_all(&r, s, (uint64_t)st.st_size) && in_range(s);
    fclose(r.f);
    if (!good) {
        ld_source_empty(s);
        ld_error_clear();
    }
    return good;
}
