/* What writing and reading of latent stores share: the files, and the places of the data sets in them. */
#ifndef LD_LATENT_FILE_H
#define LD_LATENT_FILE_H

#include "data/latent_store.h"
#include "io/file.h"

/* Where rows first .. first + rows - 1 lie. */
typedef struct latent_part {
    char *path;
    int fd;
    int64_t first, rows;
    int64_t at[LD_LATENT_SETS];
} latent_part;

typedef struct latent_files {
    char path[LD_PATH_MAX];
    int fd;
    ld_latent_info info; /* path, done, valid and disk_bytes are not set */
    int parts;           /* the shards, or the store's own file once more */
    latent_part *part;
    int64_t label, valid, crc32, name, mean, std, done, complete; /* places in the store's own file */
    size_t name_width;
} latent_files;

enum { LATENT_SHARDS = 1000 }; /* at most */

extern const char *const latent_set_names[LD_LATENT_SETS];

int latent_files_open(latent_files *f, const char *path, bool writable);
void latent_files_close(latent_files *f); /* once more does nothing */

/* Exactly n bytes. LD_EIO; reading also LD_EFORMAT when the file ends before. */
int latent_pread(int fd, const char *path, void *out, size_t n, int64_t at);
int latent_pwrite(int fd, const char *path, const void *data, size_t n, int64_t at);
/* Rows of one set, in whichever parts they lie. */
int latent_read_rows(const latent_files *f, ld_latent_set set, int64_t first, int64_t count, void *out);
int latent_write_rows(const latent_files *f, ld_latent_set set, int64_t first, int64_t count, const void *data);
int latent_sync(int fd, const char *path);

bool latent_is_part(const char *path);
bool latent_is_row(ld_dtype t, int64_t channels, int64_t height, int64_t width); /* what rows can be */
int64_t latent_shard_rows(int64_t count, int shards, int batch);                 /* of every shard but the last */

/* Mean, spread and range by channel over the valid rows; `valid` has a byte a row, NULL: all. */
int latent_measure(const latent_files *f, const uint8_t *valid, ld_latent_statistics *m);

#endif
