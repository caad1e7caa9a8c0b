/* Pictures in archives: one archive, or a folder of them. */
#include "base/error.h"
#include "data/source_part.h"
#include "io/file.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* ---- reading -------------------------------------------------------------------------------------------------------- */

static int archive_path(const ld_source *s, int64_t file, char *path) {
    return ld_source_join(path, s->root, ld_names_get(&s->file, file));
}

static int stamp_of(const char *path, ld_stamp *stamp) {
    struct stat st;
    if (stat(path, &st))
        return ld_fail(LD_EIO, "images: cannot read %s: %s", path, strerror(errno));
    *stamp = (ld_stamp){(uint64_t)st.st_size, (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec};
    return 0;
}

/* The archive `file`, opened where it is not; the one opened longest ago makes room. */
static ld_archive *archive_of(ld_source_reader *r, int64_t file) {
    char path[LD_PATH_MAX];
    ld_stamp now = {0};
    for (int k = 0; k < LD_READER_FILES; k++)
        if (r->file[k] == file)
            return r->archive[k];
    if (archive_path(r->s, file, path) || stamp_of(path, &now))
        return NULL;
    const ld_stamp *was = &r->s->stamp[file];
    if (now.size != was->size || now.mtime != was->mtime)
        return ld_fail_null(LD_EIO, "images: %s was changed after it was listed: it has %llu bytes, it had %llu", path,
                            (unsigned long long)now.size, (unsigned long long)was->size);
    ld_archive *a = ld_archive_open(path);
    if (!a)
        return NULL;
    r->last = (r->last + 1) % LD_READER_FILES;
    if (r->archive[r->last])
        ld_archive_close(r->archive[r->last]);
    r->archive[r->last] = a;
    r->file[r->last] = file;
    return a;
}

static int read_member(ld_source_reader *r, int64_t i, ld_bytes *b, size_t most) {
    const ld_source *s = r->s;
    const ld_member m = {.offset = s->place[i],
                         .size = s->size[i],
                         .packing = s->container[i] & LD_PACKED_BIT ? LD_PACK_DEFLATE : LD_PACK_STORED};
    if (m.size > most)
        return ld_fail(LD_EVALUE, "images: %s has %llu bytes, more than %zu", ld_names_get(&s->name, i),
                       (unsigned long long)m.size, most);
    ld_archive *a = archive_of(r, s->container[i] & ~LD_PACKED_BIT);
    if (!a || ld_bytes_reserve(b, (size_t)m.size + 1) || ld_archive_read(a, &m, b->data))
        return ld_error_code();
    b->n = (size_t)m.size;
    return 0;
}

/* ---- listing -------------------------------------------------------------------------------------------------------- */

#define DEAD UINT32_MAX /* container of a member that a later one of its name replaces */

struct listing {
    ld_source *s;
    const ld_source_options *o;
    uint32_t file;
    char path[LD_PATH_MAX];   /* of the archive */
    char prefix[LD_PATH_MAX]; /* of names: "" for one archive, else its own without the suffix, and a slash */
    int64_t first;            /* picture of this archive */
    ld_name_table table;      /* names of this archive's pictures */
    ld_archive *bytes;        /* to look into members; opened when it is needed */
    int64_t members, twice, unlabelled;
    bool stopped;           /* by us, not by damage */
    bool has_kv, has_cifar; /* what cannot be read in an archive */
    /* WebDataset: members with one key follow one another */
    char key[LD_PATH_MAX];
    int64_t key_first; /* picture with this key, or the number of the next one */
    int32_t key_label;
    int32_t largest; /* label; -1: there are no .cls members */
};

static bool hidden(const char *name) {
    return name[0] == '.' || strstr(name, "/.") || !strncmp(name, "__MACOSX/", 9);
}

/* Bytes of a member, at most n of them, for a look inside. Their number, 0 where that fails. */
static size_t peek(struct listing *t, const ld_member *m, void *to, size_t n) {
    ld_member part = *m;
    if (!t->bytes)
        t->bytes = ld_archive_open(t->path);
    if (m->size < n)
        n = (size_t)m->size;
    else if (m->packing == LD_PACK_STORED)
        part.size = n;
    else
        return 0;
    if (!t->bytes || ld_archive_read(t->bytes, &part, to)) {
        ld_error_clear();
        return 0;
    }
    return n;
}

static bool is_picture(struct listing *t, const ld_member *m) {
    static const char *const other[] = {".cls", ".txt", ".json", ".csv", ".xml", ".npy", ".mat", ".html", ".md",
                                        ".py",  ".tar", ".gz",   ".zip", ".mdb", ".bin", ".pkl", NULL};
    unsigned char head[16];
    if (ld_source_suffix(m->name))
        return true;
    if (ld_source_suffix_of(m->name, other))
        return false;
    size_t n = m->size < sizeof head ? 0 : peek(t, m, head, sizeof head);
    return n && ld_image_type(head, n);
}

/* Makes m's key the current one: its path up to the first dot of the last part. */
static void take_key(struct listing *t, const char *name) {
    const char *base = strrchr(name, '/'), *dot = strchr(base ? base : name, '.');
    size_t n = dot ? (size_t)(dot - name) : strlen(name);
    if (n >= sizeof t->key)
        n = sizeof t->key - 1;
    if (strlen(t->key) == n && !memcmp(t->key, name, n))
        return;
    memcpy(t->key, name, n);
    t->key[n] = 0;
    t->key_first = t->s->count;
    t->key_label = -1;
}

/* The number in a .cls member is the class of the pictures with its key. */
static int take_cls(struct listing *t, const ld_member *m) {
    enum { MOST = 1 << 20 };
    char text[32] = "", *end;
    ld_source *s = t->s;
    size_t n = m->size < sizeof text ? peek(t, m, text, sizeof text - 1) : 0;
    long v = strtol(text, &end, 10);
    while (isspace((unsigned char)*end))
        end++;
    if (n == 0 || end == text || *end || v < 0 || v >= MOST)
        return ld_fail(LD_EFORMAT, "images: member %s of %s holds '%s'; a class from 0 to %d is needed", m->name,
                       t->path, text, MOST - 1);
    if (!s->label) {
        s->label = malloc((size_t)s->room * sizeof *s->label + 1);
        if (!s->label)
            return ld_fail(LD_EMEM, "images: out of host memory for %lld labels", (long long)s->room);
        for (int64_t i = 0; i < s->count; i++)
            s->label[i] = -1;
    }
    t->key_label = (int32_t)v;
    t->largest = (int32_t)v > t->largest ? (int32_t)v : t->largest;
    for (int64_t i = t->key_first; i < s->count; i++)
        s->label[i] = t->key_label;
    return 0;
}

int ld_source_make_room(ld_source *s, int64_t room) {
    uint64_t *place = realloc(s->place, (size_t)room * sizeof *place + 1);
    if (place)
        s->place = place;
    uint64_t *size = realloc(s->size, (size_t)room * sizeof *size + 1);
    if (size)
        s->size = size;
    uint32_t *container = realloc(s->container, (size_t)room * sizeof *container + 1);
    if (container)
        s->container = container;
    int32_t *label = s->label ? realloc(s->label, (size_t)room * sizeof *label + 1) : NULL;
    if (label)
        s->label = label;
    if (!place || !size || !container || (s->label && !label))
        return ld_fail(LD_EMEM, "images: out of host memory for %lld pictures", (long long)room);
    s->room = room;
    return 0;
}

static int add(struct listing *t, const ld_member *m, const char *name) {
    ld_source *s = t->s;
    int64_t was;
    if (s->count == s->room && ld_source_make_room(s, s->room + s->room / 2 + 64))
        return ld_error_code();
    if (ld_names_add(&s->name, name, strlen(name)) || ld_table_put(&t->table, &s->name, s->count, &was))
        return ld_error_code();
    if (was >= 0) {
        s->container[was] = DEAD;
        t->twice++;
    }
    s->place[s->count] = m->offset;
    s->size[s->count] = m->size;
    s->container[s->count] = t->file | (m->packing == LD_PACK_DEFLATE ? LD_PACKED_BIT : 0);
    if (s->label)
        s->label[s->count] = t->key_label;
    s->count++;
    return 0;
}

static int take_member(struct listing *t, const ld_member *m) {
    char whole[2 * LD_PATH_MAX];
    size_t inside = strlen(t->s->inside);
    const char *base = strrchr(m->name, '/');
    base = base ? base + 1 : m->name;
    if (t->o->progress && t->members % 4096 == 0)
        t->o->progress(t->o->arg, t->members, t->path);
    t->members++;
    if (ld_interrupted())
        return ld_error_code();
    t->has_kv |= !strcmp(base, "data.mdb");
    t->has_cifar |= !strncmp(base, "data_batch_1", 12);
    if (snprintf(whole, sizeof whole, "%s%s", t->prefix, m->name) >= LD_PATH_MAX)
        return ld_fail(LD_EFORMAT, "images: %s has a member with a name of %zu bytes", t->path, strlen(m->name));
    if (hidden(m->name) || strncmp(whole, t->s->inside, inside))
        return 0;
    take_key(t, m->name);
    size_t n = strlen(m->name);
    if (n > 4 && !strcasecmp(m->name + n - 4, ".cls"))
        return take_cls(t, m);
    return is_picture(t, m) ? add(t, m, whole + inside) : 0;
}

static int on_member(void *arg, const ld_member *m) {
    struct listing *t = arg;
    int bad = take_member(t, m);
    t->stopped = t->stopped || bad;
    return bad;
}

/* Closes the gaps of members that were replaced. */
static void drop_dead(struct listing *t) {
    ld_source *s = t->s;
    int64_t to = t->first;
    for (int64_t i = t->first; i < s->count && t->twice; i++) {
        if (s->container[i] == DEAD)
            continue;
        s->place[to] = s->place[i];
        s->size[to] = s->size[i];
        s->container[to] = s->container[i];
        s->name.at[to] = s->name.at[i];
        if (s->label)
            s->label[to] = s->label[i];
        to++;
    }
    if (t->twice)
        s->count = s->name.count = to;
}

static int list_one(struct listing *t, uint32_t file) {
    ld_source *s = t->s;
    t->file = file;
    t->first = t->key_first = s->count;
    t->key[0] = 0;
    t->key_label = -1;
    t->twice = 0;
    if (archive_path(s, file, t->path))
        return ld_error_code();
    const char *name = ld_names_get(&s->file, file);
    snprintf(t->prefix, sizeof t->prefix, "%.*s%s", (int)ld_source_archive_stem(name), name, *name ? "/" : "");
    int bad = ld_archive_list(t->path, on_member, t);
    if (t->bytes)
        ld_archive_close(t->bytes);
    t->bytes = NULL;
    ld_table_clear(&t->table);
    if (bad && !t->stopped && ld_error_code() == LD_EFORMAT && t->o->partial) {
        bad = ld_source_add_note(s, "%s; what lies before the damage is taken", ld_error());
        s->damaged = true;
    }
    drop_dead(t);
    if (!bad && t->twice)
        bad = ld_source_add_note(s, "%s holds a name more than once; the last one counts, %lld before it are left out",
                                 t->path, (long long)t->twice);
    return bad;
}

/* ---- classes -------------------------------------------------------------------------------------------------------- */

/* All digits, or ending in them after - or _. */
static bool shard_name(const char *name, size_t n) {
    size_t digits = 0;
    while (digits < n && isdigit((unsigned char)name[n - 1 - digits]))
        digits++;
    return digits &&
           (digits == n || name[n - 1 - digits] == '/' || name[n - 1 - digits] == '-' || name[n - 1 - digits] == '_');
}

static int number_classes(struct listing *t) {
    ld_source *s = t->s;
    int64_t without = 0;
    char text[16];
    for (int32_t c = 0; c <= t->largest; c++)
        if (ld_names_add(&s->class_name, text, (size_t)snprintf(text, sizeof text, "%d", c)))
            return ld_error_code();
    for (int64_t i = 0; i < s->count; i++)
        without += s->label[i] < 0;
    return without ? ld_source_add_note(s, "%lld pictures have no .cls member and no class", (long long)without) : 0;
}

/* By folders, in which the name of an archive is one, unless it is a shard's. */
static int folder_classes(ld_source *s) {
    uint32_t *flat = calloc((size_t)s->file.count + 1, sizeof *flat);
    size_t inside = strlen(s->inside);
    int64_t shards = 0;
    if (!flat)
        return ld_fail(LD_EMEM, "images: out of host memory for %lld archives", (long long)s->file.count);
    for (int64_t k = 0; k < s->file.count; k++) {
        const char *name = ld_names_get(&s->file, k);
        size_t n = ld_source_archive_stem(name);
        if (n > inside && shard_name(name, n)) {
            flat[k] = (uint32_t)(n - inside);
            shards++;
        }
    }
    int bad = ld_source_folder_classes(s, flat);
    free(flat);
    if (!bad && shards && !s->class_name.count)
        return ld_source_add_note(s, "%lld archives are named like shards, so their names are not taken for classes",
                                  (long long)shards);
    return bad;
}

static int fail_empty(const struct listing *t) {
    const ld_source *s = t->s;
    if (t->has_kv)
        return ld_fail(LD_EFORMAT, "images: %s holds an LMDB, which cannot be read inside an archive; unpack it first",
                       s->path);
    if (t->has_cifar)
        return ld_fail(LD_EFORMAT,
                       "images: %s holds CIFAR's batches, which cannot be read inside an archive; unpack it first",
                       s->path);
    if (s->inside[0])
        return ld_fail(LD_EFORMAT, "images: no PNG, JPEG or WebP pictures below '%s' in %s (%lld members)", s->inside,
                       s->root, (long long)t->members);
    return ld_fail(LD_EFORMAT, "images: no PNG, JPEG or WebP pictures in %s (%lld members)", s->path,
                   (long long)t->members);
}

static int list_all(ld_source *s, const ld_source_options *o) {
    struct listing *t = calloc(1, sizeof *t);
    if (!t)
        return ld_fail(LD_EMEM, "images: out of host memory");
    *t = (struct listing){.s = s, .o = o, .largest = -1};
    int bad = 0;
    for (int64_t k = 0; k < s->file.count && !bad; k++)
        bad = list_one(t, (uint32_t)k);
    ld_table_free(&t->table);
    if (!bad && !s->count)
        bad = fail_empty(t);
    if (!bad) {
        ld_names_fit(&s->name);
        bad = ld_source_make_room(s, s->count);
    }
    if (!bad)
        bad = t->largest >= 0 ? number_classes(t) : folder_classes(s);
    free(t);
    return bad;
}

/* ---- opening -------------------------------------------------------------------------------------------------------- */

static const char *kind_name(ld_archive_kind kind, bool one) {
    static const char *const names[][2] = {
        {"folder of tars", "tar"}, {"folder of zips", "zip"}, {"folder of packed tars", "packed tar"}};
    switch (kind) {
    case LD_ARCHIVE_TAR:
        return names[0][one];
    case LD_ARCHIVE_ZIP:
        return names[1][one];
    case LD_ARCHIVE_STREAM:
        return names[2][one];
    default:
        return "folder of archives";
    }
}

/* Kind and state of every archive. */
static int look_at_files(ld_source *s) {
    char path[LD_PATH_MAX];
    ld_archive_kind common = LD_ARCHIVE_NONE;
    s->stamp = calloc((size_t)s->file.count + 1, sizeof *s->stamp);
    if (!s->stamp)
        return ld_fail(LD_EMEM, "images: out of host memory for %lld archives", (long long)s->file.count);
    for (int64_t k = 0; k < s->file.count; k++) {
        if (archive_path(s, k, path) || stamp_of(path, &s->stamp[k]))
            return ld_error_code();
        ld_archive_kind kind = ld_archive_kind_of(path);
        common = k == 0 || kind == common ? kind : LD_ARCHIVE_NONE;
        s->in_order |= kind == LD_ARCHIVE_STREAM;
    }
    s->kind = kind_name(common, s->file.count == 1 && !*ld_names_get(&s->file, 0));
    return 0;
}

int ld_source_find_archives(ld_source *s) {
    ld_file_list files;
    char path[LD_PATH_MAX];
    int bad = ld_list_files(&files, s->root);
    for (int64_t i = 0; i < files.count && !bad; i++) {
        const char *name = files.text + files.offset[i];
        size_t n = ld_source_archive_stem(name);
        if (s->inside[0] && (strncmp(s->inside, name, n) || s->inside[n] != '/'))
            continue; /* what is wanted is in another one */
        bad = ld_source_join(path, s->root, name);
        if (!bad && ld_archive_kind_of(path) != LD_ARCHIVE_NONE)
            bad = ld_names_add(&s->file, name, strlen(name));
    }
    ld_file_list_free(&files);
    return bad;
}

int ld_source_archives(ld_source *s, const ld_source_options *o) {
    s->read = read_member;
    if (look_at_files(s))
        return ld_error_code();
    if (ld_source_index_load(s, o))
        return 0;
    if (list_all(s, o))
        return ld_error_code();
    if (!s->damaged)
        ld_source_index_save(s, o);
    return 0;
}
