/* Files written safely: to a temporary name beside the target, flushed, fsynced, renamed, the folder fsynced. Whoever reads
 * `path` sees the old content or the new, never a part. */
#ifndef LD_FILE_H
#define LD_FILE_H

#include <stddef.h>
#include <stdint.h>

#define LD_PATH_MAX 4096

/* Write n bytes safely. LD_EIO with the path and the system's reason (full disk, no permission, folder missing). */
int ld_file_write(const char *path, const void *bytes, size_t n);

/* Adds n bytes to the end of a file, which is made when it is not there, and brings them to the disk. A failure, a kill
 * and a loss of power may leave a part of them. LD_EIO. */
int ld_file_append(const char *path, const void *bytes, size_t n);

/* For writers that need a path (HDF5): put a temporary name for `path` into tmp[LD_PATH_MAX]; afterwards commit (fsync +
 * rename + fsync of the folder) or discard (remove). Commit removes the temporary file when it fails. */
int ld_file_temporary(const char *path, char *tmp);
int ld_file_commit(const char *tmp, const char *path);
/* A file made elsewhere gets another name, after it was brought to the disk: `to` is the old file or the whole new one. The
 * file stays where it is when that fails. LD_EIO. */
int ld_file_rename(const char *from, const char *to);
/* `to` becomes another name of the file `from` (io/link.c): the old file or the whole new one, at every moment. Where the file
 * system knows no second names, `to` is a copy. LD_EIO. */
int ld_file_link(const char *from, const char *to);
void ld_file_discard(const char *tmp);
/* Removes temporary files in `folder` that were left by processes of this machine that are gone (killed in mid-write). What
 * cannot be removed stays. */
void ld_file_sweep(const char *folder);

/* A whole file in memory: *bytes is malloc'd, the caller frees. LD_EIO; LD_EVALUE above `limit` bytes (0: 4 GiB). */
int ld_file_read(const char *path, void **bytes, size_t *n, size_t limit);

/* A read-only map of a file. An empty file maps to NULL with n = 0. */
typedef struct ld_map {
    const void *data;
    size_t n;
} ld_map;
int ld_map_open(ld_map *m, const char *path);
void ld_map_close(ld_map *m);

/* Make a folder and its parents (existing ones are fine). LD_EIO. */
int ld_make_dirs(const char *path);

/* Locks a folder for this process, until ld_folder_unlock or its end; locking it again does nothing. LD_ESTATE while another
 * process of this machine has it. Where the file system knows no locks, everybody gets one. */
int ld_folder_lock(const char *path);
void ld_folder_unlock(const char *path);

/* All regular files under `root` (recursive, symbolic links followed once), paths relative to it, sorted bytewise, hidden
 * ones skipped: one block of NUL-ended strings and `count` offsets into it, both malloc'd. */
typedef struct ld_file_list {
    int64_t count;
    char *text;
    uint64_t *offset;
} ld_file_list;
int ld_list_files(ld_file_list *list, const char *root);
void ld_file_list_free(ld_file_list *list);

/* For tests: of the calls from now on that make, write, sync or rename a file, the k-th fails with EIO (k = 1: the next); 0
 * switches off. HDF5's own writes are not among them. */
void ld_file_fail_at(int64_t k);
/* Is it that one's turn? errno is set then. Asked before each such call: `ld_file_fails() || fsync(fd)`. */
int ld_file_fails(void);

/* Free bytes on the file system that holds `path` (or its nearest existing parent); -1 when unknown. */
int64_t ld_disk_free(const char *path);

#endif
