/* Folders of picture files. */
#define _GNU_SOURCE
#include "base/error.h"
#include "data/source_part.h"
#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- reading -------------------------------------------------------------------------------------------------------- */

static int fail_file(const char *path) {
    return ld_fail(LD_EIO, "images: cannot read %s: %s", path, strerror(errno));
}

/* n bytes of the file that is open; their number may have changed since they were counted. */
static int read_all(int fd, uint8_t *to, size_t n, const char *path) {
    size_t got = 0;
    while (got < n) {
        ssize_t k = read(fd, to + got, n - got);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return fail_file(path);
        if (k == 0)
            return ld_fail(LD_EIO, "images: %s became shorter while it was read: %zu bytes of %zu", path, got, n);
        got += (size_t)k;
    }
    uint8_t more;
    if (read(fd, &more, 1) == 1)
        return ld_fail(LD_EIO, "images: %s grew while it was read, it had %zu bytes", path, n);
    return 0;
}

static int read_open(int fd, ld_bytes *b, size_t most, const char *path) {
    struct stat st;
    if (fstat(fd, &st))
        return fail_file(path);
    if (!S_ISREG(st.st_mode))
        return ld_fail(LD_EIO, "images: %s is no file any more", path);
    size_t n = (size_t)st.st_size;
    if (n > most)
        return ld_fail(LD_EVALUE, "images: %s has %zu bytes, more than %zu", path, n, most);
    if (ld_bytes_reserve(b, n))
        return ld_error_code();
    int bad = read_all(fd, b->data, n, path);
    b->n = bad ? 0 : n;
    return bad;
}

static int read_file(ld_source_reader *r, int64_t i, ld_bytes *b, size_t most) {
    char path[LD_PATH_MAX];
    if (ld_source_join(path, r->s->root, ld_names_get(&r->s->name, i)))
        return ld_error_code();
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe in a file's place must not stop us */
    if (fd < 0)
        return fail_file(path);
    int bad = read_open(fd, b, most, path);
    close(fd);
    return bad;
}

/* ---- listing -------------------------------------------------------------------------------------------------------- */

static bool sniff(const char *root, const char *name) {
    char path[LD_PATH_MAX];
    unsigned char head[16];
    if (ld_source_join(path, root, name)) {
        ld_error_clear();
        return false;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof head);
    if (fd >= 0)
        close(fd);
    return n > 0 && ld_image_type(head, (size_t)n) != NULL;
}

/* Keeps the names of pictures, in the list's own memory; counts archives among the rest. */
static void take_names(ld_source *s, ld_file_list *files, int64_t *archives) {
    int64_t kept = 0;
    size_t used = 0;
    for (int64_t i = 0; i < files->count; i++) {
        const char *name = files->text + files->offset[i];
        if (ld_source_suffix(name) || sniff(s->root, name)) {
            size_t end = files->offset[i] + strlen(name) + 1;
            used = end > used ? end : used;
            files->offset[kept++] = files->offset[i];
        } else
            *archives += ld_source_archive_suffix(name);
    }
    s->name = (ld_names){files->text, files->offset, used, used, kept, kept};
    *files = (ld_file_list){0};
    ld_names_fit(&s->name);
    s->count = kept;
}

/* ---- what is odd ---------------------------------------------------------------------------------------------------- */

/* Whether a picture lies below the folder `prefix`, which ends with a slash: names are sorted. */
static bool any_below(const ld_source *s, const char *prefix) {
    int64_t low = 0, high = s->count;
    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        if (strcmp(ld_names_get(&s->name, mid), prefix) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < s->count && !strncmp(ld_names_get(&s->name, low), prefix, strlen(prefix));
}

struct empty {
    int64_t count;
    char first[LD_PATH_MAX];
};

/* Folders directly below `parent` ("" or ending with a slash) without a picture. */
static void look_below(const ld_source *s, const char *parent, struct empty *e) {
    char path[LD_PATH_MAX], below[LD_PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", s->root, parent) >= LD_PATH_MAX)
        return;
    DIR *dir = opendir(path);
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        struct stat st;
        if (entry->d_name[0] == '.' || (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN) ||
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISDIR(st.st_mode))
            continue;
        if (snprintf(below, sizeof below, "%s%s/", parent, entry->d_name) >= LD_PATH_MAX || any_below(s, below))
            continue;
        below[strlen(below) - 1] = 0;
        if (!e->count++ || strcmp(below, e->first) < 0)
            strcpy(e->first, below);
    }
    if (dir)
        closedir(dir);
}

/* Class folders without pictures: looked for beside those that have some. */
static int note_empty(ld_source *s) {
    char parent[LD_PATH_MAX];
    ld_names parents = {0};
    ld_name_table table = {0};
    struct empty e = {0};
    const char *last = NULL;
    size_t last_n = 0, n;
    int bad = 0;
    for (int64_t i = 0; i < s->count && !bad; i++) {
        const char *name = ld_names_get(&s->name, i), *folder = ld_source_folder_of(name, &n);
        size_t above = (size_t)(folder - name);
        if (n == 0 || (last && above == last_n && !memcmp(last, name, above)))
            continue;
        last = name;
        last_n = above;
        if (ld_table_find(&table, &parents, name, above) >= 0)
            continue;
        bad = ld_names_number(&parents, &table, name, above) < 0;
        snprintf(parent, sizeof parent, "%.*s", (int)above, name);
        look_below(s, parent, &e);
    }
    ld_names_free(&parents);
    ld_table_free(&table);
    if (!bad && e.count == 1)
        return ld_source_add_note(s, "the folder %s has no pictures", e.first);
    if (!bad && e.count > 1)
        return ld_source_add_note(s, "%lld folders have no pictures, the first is %s", (long long)e.count, e.first);
    return bad ? ld_error_code() : 0;
}

/* Parts of a data set side by side: names must be sorted. */
static int note_splits(ld_source *s) {
    static const char *const split[] = {"train", "training", "val", "valid", "validation", "test"};
    char found[128] = "", prefix[32];
    int n = 0;
    for (size_t k = 0; k < sizeof split / sizeof *split; k++) {
        snprintf(prefix, sizeof prefix, "%s/", split[k]);
        if (!any_below(s, prefix))
            continue;
        size_t at = strlen(found);
        snprintf(found + at, sizeof found - at, "%s%s", n++ ? ", " : "", split[k]);
    }
    return n < 2 ? 0
                 : ld_source_add_note(s,
                                      "%s lie side by side and are taken together; give the path of one of them if "
                                      "they are parts of a data set that belong apart",
                                      found);
}

int ld_source_folder(ld_source *s, int64_t *archives) {
    ld_file_list files;
    *archives = 0;
    s->kind = "folder";
    s->read = read_file;
    if (ld_list_files(&files, s->root))
        return ld_error_code();
    take_names(s, &files, archives);
    if (!s->count)
        return 0;
    if (*archives &&
        ld_source_add_note(s, "%lld archives that lie beside the pictures are passed over", (long long)*archives))
        return ld_error_code();
    if (ld_source_folder_classes(s, NULL) || note_splits(s))
        return ld_error_code();
    return s->class_name.count ? note_empty(s) : 0;
}
