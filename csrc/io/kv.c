#include "io/kv.h"

#include "base/error.h"
#include "io/file.h"
#include "io/kv_check.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* An open file. liblmdb wants each opened once in a process, so all ld_kv of a file share one of these. */
typedef struct shared {
    struct shared *next;
    dev_t device;
    ino_t inode;
    int refs;
    MDB_env *env;
    MDB_dbi dbi;
} shared;

struct ld_kv {
    char *path;
    shared *file;
    MDB_txn *txn;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static shared *files; /* under lock, as are their refs */

static int fail_lmdb(const char *path, int rc) {
    int code = rc == ENOMEM ? LD_EMEM : rc > 0 ? LD_EIO : LD_EFORMAT;
    return ld_fail(code, "lmdb '%.500s': %s", path, mdb_strerror(rc));
}

/* The data file that `path` stands for. LD_EIO. */
static int find_file(const char *path, char file[LD_PATH_MAX], struct stat *st) {
    if (stat(path, st))
        return ld_fail(LD_EIO, "lmdb '%.500s': %s", path, strerror(errno));
    if (snprintf(file, LD_PATH_MAX, S_ISDIR(st->st_mode) ? "%s/data.mdb" : "%s", path) >= LD_PATH_MAX)
        return ld_fail(LD_EIO, "lmdb '%.500s': %s", path, strerror(ENAMETOOLONG));
    if (S_ISDIR(st->st_mode) && stat(file, st))
        return ld_fail(LD_EIO, "lmdb '%.500s': %s", file, strerror(errno));
    if (!S_ISREG(st->st_mode))
        return ld_fail(LD_EIO, "lmdb '%.500s': not a regular file", file);
    return 0;
}

bool ld_kv_is(const char *path) {
    char file[LD_PATH_MAX];
    struct stat st;
    uint8_t bytes[LD_KV_HEAD];
    if (stat(path, &st) ||
        snprintf(file, sizeof file, S_ISDIR(st.st_mode) ? "%s/data.mdb" : "%s", path) >= (int)sizeof file ||
        stat(file, &st) || !S_ISREG(st.st_mode))
        return false;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    bool is = fd >= 0 && pread(fd, bytes, sizeof bytes, 0) == sizeof bytes && kv_begins(bytes, sizeof bytes);
    if (fd >= 0)
        close(fd);
    return is;
}

static void close_file(shared *f) {
    if (f->env)
        mdb_env_close(f->env);
    free(f);
}

/* liblmdb's part of opening. Its map is as large as the file, whatever size the file gives: nothing is written. */
static int open_env(shared *f, const char *path, uint64_t size) {
    MDB_txn *txn = NULL;
    int rc = mdb_env_create(&f->env);
    if (!rc)
        rc = mdb_env_set_mapsize(f->env, size);
    if (!rc)
        rc = mdb_env_open(f->env, path, MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS | MDB_NOSUBDIR, 0);
    if (!rc)
        rc = mdb_txn_begin(f->env, NULL, MDB_RDONLY, &txn);
    if (!rc)
        rc = mdb_dbi_open(txn, NULL, 0, &f->dbi);
    if (txn)
        mdb_txn_abort(txn);
    return rc ? fail_lmdb(path, rc) : 0;
}

static shared *open_file(const char *path, const struct stat *st) {
    shared *f = calloc(1, sizeof *f);
    if (!f)
        return ld_fail_null(LD_EMEM, "lmdb '%.500s': out of host memory", path);
    *f = (shared){.device = st->st_dev, .inode = st->st_ino};
    ld_map map;
    int code = ld_map_open(&map, path);
    if (!code)
        code = kv_check(path, map.data, map.n);
    if (!code)
        code = open_env(f, path, map.n);
    ld_map_close(&map);
    if (code) {
        close_file(f);
        return NULL;
    }
    f->next = files;
    files = f;
    return f;
}

ld_kv *ld_kv_open(const char *path) {
    char file[LD_PATH_MAX];
    struct stat st;
    if (find_file(path, file, &st))
        return NULL;
    ld_kv *kv = calloc(1, sizeof *kv);
    if (!kv || !(kv->path = strdup(path))) {
        free(kv);
        return ld_fail_null(LD_EMEM, "lmdb '%.500s': out of host memory", path);
    }
    pthread_mutex_lock(&lock);
    shared *f = files;
    while (f && (f->device != st.st_dev || f->inode != st.st_ino))
        f = f->next;
    if (!f)
        f = open_file(file, &st);
    if (f) {
        f->refs++;
        kv->file = f;
        int rc = mdb_txn_begin(f->env, NULL, MDB_RDONLY, &kv->txn);
        if (rc)
            fail_lmdb(path, rc);
    }
    pthread_mutex_unlock(&lock);
    if (kv->txn)
        return kv;
    ld_kv_close(kv);
    return NULL;
}

void ld_kv_close(ld_kv *kv) {
    if (!kv)
        return;
    pthread_mutex_lock(&lock);
    if (kv->txn)
        mdb_txn_abort(kv->txn);
    shared *f = kv->file;
    if (f && --f->refs == 0) {
        shared **at = &files;
        while (*at != f)
            at = &(*at)->next;
        *at = f->next;
        close_file(f);
    }
    pthread_mutex_unlock(&lock);
    free(kv->path);
    free(kv);
}

int ld_kv_list(ld_kv *kv, int (*fn)(void *arg, const void *key, size_t key_n, const void *value, size_t value_n),
               void *arg) {
    MDB_cursor *cursor;
    MDB_val key, value;
    int rc = mdb_cursor_open(kv->txn, kv->file->dbi, &cursor);
    if (rc)
        return fail_lmdb(kv->path, rc);
    int code = 0;
    while (!code && !(rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)))
        code = fn(arg, key.mv_data, key.mv_size, value.mv_data, value.mv_size);
    mdb_cursor_close(cursor);
    return code ? code : rc == MDB_NOTFOUND ? 0 : fail_lmdb(kv->path, rc);
}

int ld_kv_get(ld_kv *kv, const void *key, size_t key_n, const void **value, size_t *value_n) {
    MDB_val k = {key_n, (void *)(uintptr_t)key}, v;
    int rc = mdb_get(kv->txn, kv->file->dbi, &k, &v);
    if (rc == MDB_NOTFOUND || rc == MDB_BAD_VALSIZE) /* or no key can be so long */
        return ld_fail(LD_EFORMAT, "lmdb '%.500s': no entry '%.*s'", kv->path, key_n < 200 ? (int)key_n : 200,
                       (const char *)key);
    if (rc)
        return fail_lmdb(kv->path, rc);
    *value = v.mv_data;
    *value_n = v.mv_size;
    return 0;
}
