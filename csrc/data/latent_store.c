/* Latent stores: reading. */
#include "data/latent_store.h"

#include "base/error.h"
#include "data/latent_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct ld_latent_store {
    int refs;
    latent_files files;
    ld_latent_info info;
    int32_t *label;
    uint8_t *state; /* a byte a row: bit 0 whole, bit 1 also valid; NULL: all are valid */
    uint32_t *row;  /* of the i-th valid row; NULL: all are valid */
    char *memory[LD_LATENT_SETS];
    ld_tensor *placed; /* in a device's memory, for `users` */
    int users;
    struct stat st; /* when it was opened, to find it again */
    ld_latent_store *next;
};

static ld_latent_store *open_stores; /* complete ones */

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Which rows are whole and valid. `state` has the column /valid at first. */
static void combine(ld_latent_store *s, const uint8_t *done) {
    for (int64_t i = 0; i < s->info.count; i++) {
        bool whole = done[i / 8] >> i % 8 & 1, good = whole && s->state[i];
        s->state[i] = (uint8_t)(whole | good << 1);
        s->info.done += whole;
        s->info.valid += good;
    }
}

static int read_columns(ld_latent_store *s) {
    const latent_files *f = &s->files;
    size_t n = (size_t)s->info.count;
    uint8_t *done = malloc((n + 7) / 8), complete = 0;
    s->label = malloc(n * sizeof *s->label);
    s->state = malloc(n);
    int bad = done && s->label && s->state ? 0 : ld_fail(LD_EMEM, "latents: out of host memory for %zu rows", n);
    bad = bad || latent_pread(f->fd, f->path, s->label, n * sizeof *s->label, f->label) ||
          latent_pread(f->fd, f->path, s->state, n, f->valid) ||
          latent_pread(f->fd, f->path, done, (n + 7) / 8, f->done) ||
          latent_pread(f->fd, f->path, &complete, 1, f->complete);
    if (!bad)
        combine(s, done);
    s->info.complete = complete && s->info.done == s->info.count;
    free(done);
    return bad ? ld_error_code() : 0;
}

/* The table of valid rows, where it is needed. */
static int list_valid(ld_latent_store *s) {
    if (s->info.valid == s->info.count) {
        free(s->state);
        s->state = NULL;
        return 0;
    }
    s->row = malloc(((size_t)s->info.valid + 1) * sizeof *s->row);
    if (!s->row)
        return ld_fail(LD_EMEM, "latents: out of host memory for %lld rows", (long long)s->info.valid);
    int64_t n = 0;
    for (int64_t i = 0; i < s->info.count; i++)
        if (s->state[i] & 2)
            s->row[n++] = (uint32_t)i;
    return 0;
}

static int64_t disk_bytes(const latent_files *f) {
    struct stat st;
    int64_t sum = fstat(f->fd, &st) ? 0 : 512 * (int64_t)st.st_blocks;
    for (int k = 0; k < f->parts; k++)
        if (f->part[k].fd != f->fd && !fstat(f->part[k].fd, &st))
            sum += 512 * (int64_t)st.st_blocks;
    return sum;
}

static void destroy(ld_latent_store *s) {
    latent_files_close(&s->files);
    for (int k = 0; k < LD_LATENT_SETS; k++)
        free(s->memory[k]);
    free(s->label);
    free(s->state);
    free(s->row);
    free(s);
}

static int fill(ld_latent_store *s, const char *path, bool unfinished) {
    if (latent_files_open(&s->files, path, false))
        return ld_error_code();
    s->info = s->files.info;
    s->info.path = s->files.path;
    s->info.disk_bytes = disk_bytes(&s->files);
    if (read_columns(s))
        return ld_error_code();
    if (!s->info.complete && !unfinished)
        return ld_fail(LD_ESTATE,
                       "latents: '%.900s' is unfinished: %lld of %lld rows; the command that made it goes on", path,
                       (long long)s->info.done, (long long)s->info.count);
    return list_valid(s);
}

ld_latent_store *ld_latent_store_open(const char *path, bool unfinished) {
    struct stat st = {0};
    bool known = !stat(path, &st);
    for (ld_latent_store *s = known ? open_stores : NULL; s; s = s->next)
        if (same_file(&s->st, &st))
            return ld_latent_store_ref(s);
    ld_latent_store *s = calloc(1, sizeof *s);
    if (!s)
        return ld_fail_null(LD_EMEM, "latents: out of host memory");
    s->refs = 1;
    s->files.fd = -1;
    s->st = st;
    if (fill(s, path, unfinished)) {
        destroy(s);
        return NULL;
    }
    if (s->info.complete && known) {
        s->next = open_stores;
        open_stores = s;
    }
    return s;
}

ld_latent_store *ld_latent_store_ref(ld_latent_store *s) {
    s->refs++;
    return s;
}

void ld_latent_store_drop(ld_latent_store *s) {
    if (!s || --s->refs)
        return;
    for (ld_latent_store **at = &open_stores; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    destroy(s);
}

const ld_latent_info *ld_latent_store_info(const ld_latent_store *s) {
    return &s->info;
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

int64_t ld_latent_store_row(const ld_latent_store *s, int64_t i) {
    return s->row ? s->row[i] : i;
}

int64_t ld_latent_store_before(const ld_latent_store *s, int64_t row) {
    if (!s->row)
        return row;
    int64_t low = 0, high = s->info.valid;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (s->row[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int32_t ld_latent_store_label(const ld_latent_store *s, int64_t row) {
    return s->label[row];
}

bool ld_latent_store_has(const ld_latent_store *s, int64_t row, bool valid) {
    return !s->state || (s->state[row] & (valid ? 2 : 1));
}

int ld_latent_store_read(const ld_latent_store *s, ld_latent_set set, int64_t first, int64_t count, void *out) {
    if (!s->info.set[set])
        return ld_fail(LD_EVALUE, "latents: '%.900s' has no %s", s->info.path, latent_set_names[set] + 1);
    if (first < 0 || count < 0 || first + count > s->info.count)
        return ld_fail(LD_EINDEX, "latents: rows %lld to %lld of a store of %lld", (long long)first + 1,
                       (long long)(first + count), (long long)s->info.count);
    if (!s->memory[set])
        return latent_read_rows(&s->files, set, first, count, out);
    memcpy(out, s->memory[set] + (size_t)first * s->info.row_bytes, (size_t)count * s->info.row_bytes);
    return 0;
}

/* ---- memory --------------------------------------------------------------------------------------------------------- */

static bool is_loaded(int set) {
    return set == LD_LATENT_MEAN || set == LD_LATENT_MIRRORED_MEAN;
}

size_t ld_latent_store_bytes(const ld_latent_store *s) {
    size_t sum = 0;
    for (int k = 0; k < LD_LATENT_SETS; k++)
        sum += is_loaded(k) && s->info.set[k] ? (size_t)s->info.count * s->info.row_bytes : 0;
    return sum;
}

bool ld_latent_store_loaded(const ld_latent_store *s) {
    return s->memory[LD_LATENT_MEAN] != NULL;
}

static int load_set(const ld_latent_store *s, ld_latent_set set, char **memory) {
    enum { BLOCK = 1024 };
    int64_t count = s->info.count;
    char *all = malloc((size_t)count * s->info.row_bytes);
    int bad = all ? 0
                  : ld_fail(LD_EMEM, "latents: no memory for the %.2f GB of '%.800s'",
                            (double)count * (double)s->info.row_bytes * 1e-9, s->info.path);
    for (int64_t first = 0; !bad && first < count; first += BLOCK) {
        int64_t n = count - first < BLOCK ? count - first : BLOCK;
        bad = latent_read_rows(&s->files, set, first, n, all + (size_t)first * s->info.row_bytes);
        bad = bad ? bad : ld_interrupted();
    }
    if (bad)
        free(all);
    else
        *memory = all;
    return bad;
}

int ld_latent_store_load(ld_latent_store *s) {
    char *memory[LD_LATENT_SETS] = {NULL};
    int bad = 0;
    if (ld_latent_store_loaded(s))
        return 0;
    for (int k = 0; !bad && k < LD_LATENT_SETS; k++)
        if (is_loaded(k) && s->info.set[k])
            bad = load_set(s, (ld_latent_set)k, &memory[k]);
    for (int k = 0; k < LD_LATENT_SETS; k++)
        if (bad)
            free(memory[k]);
        else
            s->memory[k] = memory[k];
    return bad;
}

/* Rows of a set to `at` of the device's memory, by way of `block`. */
static int send_set(const ld_latent_store *s, ld_latent_set set, ld_device *d, char *at, char *block, int64_t most) {
    int bad = 0;
    for (int64_t first = 0; !bad && first < s->info.count; first += most) {
        int64_t n = s->info.count - first < most ? s->info.count - first : most;
        bad = ld_latent_store_read(s, set, first, n, block) ||
              ld_device_upload(d, at + (size_t)first * s->info.row_bytes, block, (size_t)n * s->info.row_bytes) ||
              ld_interrupted();
    }
    return bad ? ld_error_code() : 0;
}

static int send(const ld_latent_store *s, ld_device *d, char *at) {
    size_t row = s->info.row_bytes;
    int64_t most = (int64_t)(((size_t)1 << 22) / row) + 1;
    char *block = malloc((size_t)most * row);
    int bad = block ? 0 : ld_fail(LD_EMEM, "latents: out of host memory");
    for (int k = 0; !bad && k < LD_LATENT_SETS; k++)
        if (is_loaded(k) && s->info.set[k]) {
            bad = send_set(s, (ld_latent_set)k, d, at, block, most);
            at += (size_t)s->info.count * row;
        }
    free(block);
    return bad;
}

static ld_tensor *place(const ld_latent_store *s, ld_device *d) {
    const ld_latent_info *i = &s->info;
    int64_t rows = i->set[LD_LATENT_MIRRORED_MEAN] ? 2 * i->count : i->count, places = (int64_t)i->height * i->width;
    int64_t flat[2] = {rows, i->channels * places}, shape[4] = {rows, i->channels, i->height, i->width};
    int64_t stride[4] = {flat[1], places, i->width, 1}; /* as in the file */
    ld_tensor *all = ld_tensor_new(d, i->dtype, 2, flat, "latents"), *x = NULL;
    if (all && !send(s, d, ld_tensor_data(all)))
        x = ld_tensor_view(all, 4, shape, stride, 0);
    ld_tensor_drop(all);
    return x;
}

ld_tensor *ld_latent_store_place(ld_latent_store *s, ld_device *d) {
    if (s->placed && s->placed->storage->device != d)
        return ld_fail_null(LD_ESTATE, "latents: '%.900s' lies in the memory of %s", s->info.path,
                            s->placed->storage->device->name);
    if (!s->placed)
        s->placed = place(s, d);
    s->users += s->placed != NULL;
    return s->placed;
}

void ld_latent_store_displace(ld_latent_store *s) {
    if (--s->users)
        return;
    ld_tensor_drop(s->placed);
    s->placed = NULL;
}

/* ---- the rest ------------------------------------------------------------------------------------------------------- */

int ld_latent_store_name(const ld_latent_store *s, int64_t row, char *name, size_t n) {
    const latent_files *f = &s->files;
    size_t width = f->name_width < n - 1 ? f->name_width : n - 1;
    if (row < 0 || row >= s->info.count)
        return ld_fail(LD_EINDEX, "latents: row %lld of a store of %lld", (long long)row + 1, (long long)s->info.count);
    if (latent_pread(f->fd, f->path, name, width, f->name + row * (int64_t)f->name_width))
        return ld_error_code();
    name[width] = 0;
    return 0;
}

int ld_latent_store_crc32(const ld_latent_store *s, int64_t first, int64_t count, int64_t *out) {
    const latent_files *f = &s->files;
    if (first < 0 || count < 0 || first + count > s->info.count)
        return ld_fail(LD_EINDEX, "latents: rows %lld to %lld of a store of %lld", (long long)first + 1,
                       (long long)(first + count), (long long)s->info.count);
    return latent_pread(f->fd, f->path, out, (size_t)count * sizeof *out, f->crc32 + first * (int64_t)sizeof *out);
}

/* In order of the checksum, then of the row. */
static int by_checksum(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int64_t ld_latent_store_duplicates(const ld_latent_store *s, int64_t first[2]) {
    int64_t *crc = malloc((size_t)s->info.count * sizeof *crc), found = 0;
    if (!crc) {
        ld_fail(LD_EMEM, "latents: out of host memory for %lld rows", (long long)s->info.count);
        return -1;
    }
    if (ld_latent_store_crc32(s, 0, s->info.count, crc)) {
        free(crc);
        return -1;
    }
    uint64_t *key = (uint64_t *)crc; /* checksum above, row below: 32 bits each */
    size_t n = 0;
    for (int64_t i = 0; i < s->info.count; i++)
        if (crc[i] && ld_latent_store_has(s, i, true))
            key[n++] = (uint64_t)crc[i] << 32 | (uint64_t)i;
    qsort(key, n, sizeof *key, by_checksum);
    for (size_t i = 1, start = 0; i < n; i++) {
        if (key[i] >> 32 != key[start] >> 32) {
            start = i;
            continue;
        }
        if (!found++ || (int64_t)(uint32_t)key[i] < first[1]) {
            first[0] = (uint32_t)key[start];
            first[1] = (uint32_t)key[i];
        }
    }
    free(crc);
    return found;
}

int ld_latent_store_statistics(const ld_latent_store *s, double *mean, double *std) {
    const latent_files *f = &s->files;
    size_t n = (size_t)s->info.channels * sizeof *mean;
    return latent_pread(f->fd, f->path, mean, n, f->mean) || latent_pread(f->fd, f->path, std, n, f->std)
               ? ld_error_code()
               : 0;
}

int ld_latent_store_measure(const ld_latent_store *s, ld_latent_statistics *m) {
    uint8_t *valid = NULL;
    if (s->state) {
        valid = malloc((size_t)s->info.count);
        if (!valid)
            return ld_fail(LD_EMEM, "latents: out of host memory for %lld rows", (long long)s->info.count);
        for (int64_t i = 0; i < s->info.count; i++)
            valid[i] = s->state[i] >> 1;
    }
    int bad = latent_measure(&s->files, valid, m);
    free(valid);
    return bad;
}
