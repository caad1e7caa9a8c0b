#define _GNU_SOURCE /* qsort_r */

#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/error.h"

static int fail_io(const char *doing, const char *path) {
    return ld_fail(LD_EIO, "%s '%.900s': %s", doing, path, strerror(errno)); /* room for the reason */
}

/* ---- failures for tests ---- */

static atomic_llong fail_at;

void ld_file_fail_at(int64_t k) {
    atomic_store(&fail_at, k);
}

int ld_file_fails(void) {
    if (!atomic_load(&fail_at) || atomic_fetch_sub(&fail_at, 1) != 1)
        return 0;
    errno = EIO;
    return 1;
}

/* ---- safe writing ---- */

/* Length of the folder part of a path with its slash: 0 when there is none. */
static size_t folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

static atomic_uint counter; /* of the temporary names that this process has taken */

/* Creates an empty file beside `path`, hidden so that listings skip one that a kill left behind, and opens it. */
static int create_temporary(const char *path, char *tmp, int *fd) {
    size_t folder = folder_length(path);
    if (!path[folder])
        return ld_fail(LD_EIO, "write '%s': is a folder's name", path);
    do {
        unsigned mine = atomic_fetch_add(&counter, 1);
        int n = snprintf(tmp, LD_PATH_MAX, "%.*s.%.200s.%ld-%u.tmp", (int)folder, path, path + folder, (long)getpid(),
                         mine);
        if (n >= LD_PATH_MAX) {
            errno = ENAMETOOLONG;
            return fail_io("write", path);
        }
        *fd = ld_file_fails() ? -1 : open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (*fd < 0 && errno == EEXIST);
    return *fd < 0 ? fail_io("write", path) : LD_OK;
}

/* Makes a rename in the folder of `path` last. Some file systems cannot, and say EINVAL: nothing more can be done. */
static int sync_folder(const char *path) {
    char folder[LD_PATH_MAX];
    size_t n = folder_length(path);
    snprintf(folder, sizeof folder, "%.*s", (int)n, n ? path : "");
    int fd = open(n ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) /* may be written but not read */
        return LD_OK;
    int failed = (ld_file_fails() || fsync(fd)) && errno == EIO;
    if (failed)
        fail_io("write (sync of the folder)", path);
    close(fd);
    return failed ? LD_EIO : LD_OK;
}

/* Syncs and closes fd, and gives `tmp` its final name; without success `tmp` is gone. */
static int install(int fd, const char *tmp, const char *path) {
    int code = LD_OK;
    if ((ld_file_fails() || fsync(fd)) && errno != EINVAL)
        code = fail_io("write", path);
    if (close(fd) && !code)
        code = fail_io("write", path);
    if (!code && (ld_file_fails() || rename(tmp, path)))
        code = fail_io("write", path);
    if (code)
        unlink(tmp);
    return code ? code : sync_folder(path);
}

int ld_file_temporary(const char *path, char *tmp) {
    int fd;
    int code = create_temporary(path, tmp, &fd);
    if (!code)
        close(fd);
    return code;
}

int ld_file_commit(const char *tmp, const char *path) {
    int fd = open(tmp, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        int code = fail_io("write: cannot open the temporary file", tmp);
        unlink(tmp);
        return code;
    }
    return install(fd, tmp, path);
}

int ld_file_rename(const char *from, const char *to) {
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_io("rename", from);
    int code = (ld_file_fails() || fsync(fd)) && errno != EINVAL ? fail_io("rename", from) : LD_OK;
    close(fd);
    if (!code && (ld_file_fails() || rename(from, to)))
        code = fail_io("rename", from);
    return code ? code : sync_folder(to);
}

void ld_file_discard(const char *tmp) {
    unlink(tmp);
}

int ld_file_write(const char *path, const void *bytes, size_t n) {
    char tmp[LD_PATH_MAX];
    int fd;
    int code = create_temporary(path, tmp, &fd);
    if (code)
        return code;
    const char *p = bytes;
    while (n > 0) {
        ssize_t done = ld_file_fails() ? -1 : write(fd, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0) {
            code = fail_io("write", path);
            close(fd);
            unlink(tmp);
            return code;
        }
        p += done;
        n -= (size_t)done;
    }
    return install(fd, tmp, path);
}

int ld_file_append(const char *path, const void *bytes, size_t n) {
    int fd = ld_file_fails() ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0)
        return fail_io("open", path);
    int code = 0;
    for (const char *p = bytes, *end = p + n; p < end && !code;) {
        ssize_t done = ld_file_fails() ? -1 : write(fd, p, (size_t)(end - p));
        if (done >= 0)
            p += done;
        else if (errno != EINTR)
            code = fail_io("write", path);
    }
    if (!code && (ld_file_fails() || fdatasync(fd)))
        code = fail_io("flush", path);
    if (close(fd) && !code)
        code = fail_io("close", path);
    return code;
}

/* Is `name` a temporary file as create_temporary names them, whose process is gone? One with this process's number that it
 * has not made itself is a former process's. */
static bool is_left_over(const char *name) {
    long pid;
    unsigned mine;
    int end = 0;
    size_t n = strlen(name), at = n;
    if (name[0] != '.' || n < 8 || strcmp(name + n - 4, ".tmp"))
        return false;
    for (at = n - 4; at > 0 && name[at - 1] != '.'; at--)
        ;
    if (at < 2 || sscanf(name + at, "%ld-%u.tmp%n", &pid, &mine, &end) != 2 || name[at] < '0' || name[at] > '9' ||
        at + (size_t)end != n || pid < 1)
        return false;
    return pid == (long)getpid() ? mine >= atomic_load(&counter) : kill((pid_t)pid, 0) && errno == ESRCH;
}

void ld_file_sweep(const char *folder) {
    char path[LD_PATH_MAX];
    DIR *dir = opendir(folder);
    if (!dir)
        return;
    for (const struct dirent *e; (e = readdir(dir));)
        if (is_left_over(e->d_name) && snprintf(path, sizeof path, "%s/%s", folder, e->d_name) < (int)sizeof path)
            unlink(path);
    closedir(dir);
}

/* ---- reading ---- */

/* Reads to the end, whatever the size said at first: files grow, and some (/proc) say 0. */
static int read_all(int fd, const char *path, size_t limit, char **bytes, size_t *n, size_t room) {
    for (;;) {
        if (*n == room || !*bytes) {
            room = *bytes ? 2 * room : room;
            char *more = realloc(*bytes, room);
            if (!more)
                return ld_fail(LD_EMEM, "read '%s': no memory for %zu bytes", path, room);
            *bytes = more;
        }
        ssize_t done = read(fd, *bytes + *n, room - *n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail_io("read", path);
        if (done == 0)
            return LD_OK;
        *n += (size_t)done;
        if (*n > limit)
            return ld_fail(LD_EVALUE, "read '%s': more than %zu bytes", path, limit);
    }
}

int ld_file_read(const char *path, void **bytes, size_t *n, size_t limit) {
    *bytes = NULL;
    *n = 0;
    if (limit == 0)
        limit = (size_t)4 << 30;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_io("read", path);
    struct stat st;
    char *all = NULL;
    size_t got = 0;
    int code;
    if (fstat(fd, &st))
        code = fail_io("read", path);
    else if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > limit)
        code = ld_fail(LD_EVALUE, "read '%s': %lld bytes; at most %zu", path, (long long)st.st_size, limit);
    else /* one byte more, so that the end is seen without growing */
        code = read_all(fd, path, limit, &all, &got, S_ISREG(st.st_mode) ? (size_t)st.st_size + 1 : 4096);
    close(fd);
    if (code) {
        free(all);
        return code;
    }
    *bytes = all;
    *n = got;
    return LD_OK;
}

int ld_map_open(ld_map *m, const char *path) {
    *m = (ld_map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer would never open */
    if (fd < 0)
        return fail_io("read", path);
    struct stat st;
    int code = LD_OK;
    if (fstat(fd, &st)) {
        code = fail_io("read", path);
    } else if (!S_ISREG(st.st_mode)) {
        code = ld_fail(LD_EIO, "read '%s': not a regular file", path);
    } else if (st.st_size > 0) {
        void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            code = fail_io("read", path);
        else
            *m = (ld_map){data, (size_t)st.st_size};
    }
    close(fd);
    return code;
}

void ld_map_close(ld_map *m) {
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->n);
    *m = (ld_map){0};
}

/* ---- folders ---- */

int ld_make_dirs(const char *path) {
    char part[LD_PATH_MAX];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part) {
        errno = n ? ENAMETOOLONG : ENOENT;
        return fail_io("make folder", path);
    }
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != 0)
            continue;
        part[i] = 0;
        if (mkdir(part, 0777)) {
            int reason = errno; /* a parent may exist and still answer EROFS or EACCES */
            struct stat st;
            if (stat(part, &st) || !S_ISDIR(st.st_mode)) {
                errno = reason;
                return fail_io("make folder", part);
            }
        }
        if (i < n)
            part[i] = '/';
    }
    return LD_OK;
}

int64_t ld_disk_free(const char *path) {
    char part[LD_PATH_MAX];
    if (strlen(path) >= sizeof part)
        return -1;
    strcpy(part, path);
    struct statvfs fs;
    while (statvfs(part[0] ? part : ".", &fs)) {
        if ((errno != ENOENT && errno != ENOTDIR) || !part[0])
            return -1;
        size_t n = strlen(part);
        while (n > 0 && part[n - 1] == '/')
            n--;
        while (n > 0 && part[n - 1] != '/')
            n--;
        part[n] = 0;
    }
    return (int64_t)((uint64_t)fs.f_bavail * fs.f_frsize);
}

/* ---- listing ---- */

/* A growing list of strings: `used` bytes of text, `count` offsets into it. */
struct names {
    char *text;
    size_t used, text_room;
    uint64_t *offset;
    size_t count, room;
};

/* A set of folders by device and inode: open addressing, a power of two at most half full. */
struct folders {
    struct id {
        uint64_t device, inode;
        int used;
    } * id;
    size_t count, room;
};

/* One listing. Folders in reach without symbolic links go first, so that they keep their own name when a link leads to
 * them too; then the links, by name, then the links found behind those. A folder is read once, which ends loops. */
struct walk {
    const char *root;
    struct names files, pending, links;
    struct folders seen;
};

static const char *name_at(const struct names *l, size_t i) {
    return l->text + l->offset[i];
}

static int names_add(struct names *l, const char *name) {
    size_t n = strlen(name) + 1;
    if (l->used + n > l->text_room) {
        size_t room = 2 * l->text_room + n + 4096;
        char *text = realloc(l->text, room);
        if (!text)
            return ld_fail(LD_EMEM, "list files: no memory for %zu names", l->count);
        l->text = text;
        l->text_room = room;
    }
    if (l->count == l->room) {
        size_t room = 2 * l->room + 64;
        uint64_t *offset = realloc(l->offset, room * sizeof *offset);
        if (!offset)
            return ld_fail(LD_EMEM, "list files: no memory for %zu names", l->count);
        l->offset = offset;
        l->room = room;
    }
    memcpy(l->text + l->used, name, n);
    l->offset[l->count++] = l->used;
    l->used += n;
    return LD_OK;
}

static void names_free(struct names *l) {
    free(l->text);
    free(l->offset);
}

static int by_name(const void *a, const void *b, void *text) {
    return strcmp((char *)text + *(const uint64_t *)a, (char *)text + *(const uint64_t *)b);
}

static void names_sort(struct names *l) {
    if (l->count > 1)
        qsort_r(l->offset, l->count, sizeof *l->offset, by_name, l->text);
}

/* The slot of an identity, or the free one where it belongs. */
static struct id *folders_find(const struct folders *f, uint64_t device, uint64_t inode) {
    size_t i = (size_t)((inode * 0x9e3779b97f4a7c15u ^ device) >> 32) & (f->room - 1);
    while (f->id[i].used && (f->id[i].device != device || f->id[i].inode != inode))
        i = (i + 1) & (f->room - 1);
    return &f->id[i];
}

/* *was tells whether the folder was there already. */
static int folders_add(struct folders *f, uint64_t device, uint64_t inode, int *was) {
    if (2 * (f->count + 1) > f->room) {
        struct folders more = {.room = f->room ? 2 * f->room : 64, .count = f->count};
        more.id = calloc(more.room, sizeof *more.id);
        if (!more.id)
            return ld_fail(LD_EMEM, "list files: no memory for %zu folders", f->count);
        for (size_t i = 0; i < f->room; i++)
            if (f->id[i].used)
                *folders_find(&more, f->id[i].device, f->id[i].inode) = f->id[i];
        free(f->id);
        *f = more;
    }
    struct id *slot = folders_find(f, device, inode);
    *was = slot->used;
    f->count += !slot->used;
    *slot = (struct id){device, inode, 1};
    return LD_OK;
}

/* Puts one entry, known by its path relative to the root, on the list where it belongs. */
static int sort_in(struct walk *w, int folder, const struct dirent *entry, const char *relative) {
    struct stat st;
    int type = entry->d_type, link = type == DT_LNK;
    if (type == DT_UNKNOWN) {
        if (fstatat(folder, entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
            return fail_io("list files", relative);
        link = S_ISLNK(st.st_mode);
        type = S_ISREG(st.st_mode) ? DT_REG : S_ISDIR(st.st_mode) ? DT_DIR : DT_UNKNOWN;
    }
    if (link) {
        if (fstatat(folder, entry->d_name, &st, 0)) /* leads nowhere */
            return LD_OK;
        type = S_ISREG(st.st_mode) ? DT_REG : S_ISDIR(st.st_mode) ? DT_DIR : DT_UNKNOWN;
    }
    if (type == DT_REG)
        return names_add(&w->files, relative);
    if (type == DT_DIR)
        return names_add(link ? &w->links : &w->pending, relative);
    return LD_OK;
}

/* Reads an open folder; `relative` is its path below the root, "" for the root itself. */
static int read_entries(struct walk *w, DIR *dir, const char *relative) {
    char path[LD_PATH_MAX];
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry)
            return errno ? fail_io("list files", relative) : LD_OK;
        if (entry->d_name[0] == '.')
            continue;
        int n = snprintf(path, sizeof path, "%s%s%s", relative, relative[0] ? "/" : "", entry->d_name);
        if (n >= (int)sizeof path) {
            errno = ENAMETOOLONG;
            return fail_io("list files", relative);
        }
        int code = sort_in(w, dirfd(dir), entry, path);
        if (code)
            return code;
    }
}

static int visit(struct walk *w, const char *relative) {
    char path[LD_PATH_MAX];
    int n = snprintf(path, sizeof path, "%s%s%s", w->root, relative[0] ? "/" : "", relative);
    errno = ENAMETOOLONG;
    DIR *dir = n < (int)sizeof path ? opendir(path) : NULL;
    if (!dir)
        return fail_io("list files", path);
    struct stat st;
    int was = 0;
    int code = fstat(dirfd(dir), &st) ? fail_io("list files", path)
                                      : folders_add(&w->seen, (uint64_t)st.st_dev, (uint64_t)st.st_ino, &was);
    if (!code && !was)
        code = read_entries(w, dir, relative);
    closedir(dir);
    return code;
}

/* Visits a folder and all below it but for links to folders, which it leaves on w->links. */
static int visit_below(struct walk *w, const char *relative) {
    int code = visit(w, relative);
    while (!code && w->pending.count > 0) {
        char path[LD_PATH_MAX];
        uint64_t last = w->pending.offset[--w->pending.count];
        strcpy(path, w->pending.text + last);
        w->pending.used = last; /* nothing was added behind the last one */
        code = visit(w, path);
    }
    return code;
}

static int visit_links(struct walk *w) {
    int code = LD_OK;
    while (!code && w->links.count > 0) {
        struct names now = w->links;
        w->links = (struct names){0};
        names_sort(&now);
        for (size_t i = 0; !code && i < now.count; i++)
            code = visit_below(w, name_at(&now, i));
        names_free(&now);
    }
    return code;
}

int ld_list_files(ld_file_list *list, const char *root) {
    *list = (ld_file_list){0};
    struct walk w = {.root = root};
    int code = visit_below(&w, "");
    if (!code)
        code = visit_links(&w);
    names_free(&w.pending);
    names_free(&w.links);
    free(w.seen.id);
    if (code) {
        names_free(&w.files);
        return code;
    }
    names_sort(&w.files);
    *list = (ld_file_list){(int64_t)w.files.count, w.files.text, w.files.offset};
    return LD_OK;
}

void ld_file_list_free(ld_file_list *list) {
    free(list->text);
    free(list->offset);
    *list = (ld_file_list){0};
}
