/* Latent stores: the latents of a set of pictures in an HDF5 file, with what made them.
 *
 * The file's structure is written once, when it is created, and never changes: every data set lies in one piece with a fixed
 * place. From then on rows are written and read at those places with pwrite and pread, without the library and its lock, so
 * that a kill at any moment leaves a file that opens. The same rows give the same bytes, however often the making stopped.
 *
 *   /latents/mean, /latents/logvar, /mirrored/mean, /mirrored/logvar   (N,C,h,w) f16, bf16 or f32, not scaled
 *   /label (N) i32, -1: none   /valid (N) u8, 0: the picture could not be used   /crc32 (N) i64, of its stored bytes
 *   /name (N), /class_name, /shard   strings       /statistics/mean, /statistics/std (C) f64, over valid rows
 *   /done (ceil(N/8)) u8, bit i % 8 of byte i / 8: row i is whole     /complete (1) u8
 *
 * With shards the rows lie in files beside, named after the store (a.h5: a-000.h5, a-001.h5, ...), found by the names in
 * /shard relative to the store's folder, and the store has virtual data sets over them for other readers of HDF5. In the
 * making all files are called as later, with ".part" behind. Rows count from 0. */
#ifndef LD_LATENT_STORE_H
#define LD_LATENT_STORE_H

#include "io/h5.h"

#define LD_LATENT_FORMAT "ldlua latents 2"

typedef enum ld_latent_set {
    LD_LATENT_MEAN,
    LD_LATENT_LOGVAR,
    LD_LATENT_MIRRORED_MEAN, /* of the mirrored picture, which is not the mirrored latent */
    LD_LATENT_MIRRORED_LOGVAR,
    LD_LATENT_SETS
} ld_latent_set;

/* ---- making --------------------------------------------------------------------------------------------------------- */

typedef struct ld_latent_attribute {
    const char *key;
    const char *text; /* NULL: a number */
    double number;
} ld_latent_attribute;

typedef struct ld_latent_spec {
    int64_t count; /* below 2^32 */
    int channels, height, width;
    ld_dtype dtype; /* f16, bf16 or f32 */
    bool moments, mirrored;
    int shards; /* files for the rows, each with a whole number of batches; 0: they lie in the store itself */
    int batch;  /* rows that were encoded together */
    const char *const *classes;
    int n_classes;
    ld_h5_string name; /* of picture i, up to 4095 bytes; called several times for each */
    void *name_arg;
    /* Attributes of the file, written in this order behind format, count, dtype, moments, mirrored, batch and shards. */
    const ld_latent_attribute *attribute;
    int n_attributes;
} ld_latent_spec;

/* A new store in the making. `part` ends with ".part". Only names, classes and attributes take room on the disk at first,
 * but what the rest will need must be free. LD_EVALUE, LD_EIO (with both numbers where there is no room), LD_EMEM. */
int ld_latent_create(const char *part, const ld_latent_spec *spec);

/* Writes rows in a thread of its own. Every ten seconds or so, and at a flush, what was written is brought to the disk
 * (fdatasync), then the rows' bits of /done. An error of the thread comes out of the next call and of every one after it;
 * rows that are not safe by then have no bits, and a writer opened later goes on with them. */
typedef struct ld_latent_writer ld_latent_writer;

typedef struct ld_latent_rows {
    int64_t first;
    int count;
    ld_tensor *set[LD_LATENT_SETS]; /* (count,C,h,w), any device and dtype, converted; those the store has, not more */
    const int32_t *label;           /* NULL: -1 */
    const uint8_t *valid;           /* NULL: 1 */
    const uint32_t *crc32;          /* NULL: 0 */
} ld_latent_rows;

typedef struct ld_latent_writer_stats {
    int waiting;        /* puts not yet written */
    size_t bytes, room; /* of them, and the most they may have */
    double wait;        /* seconds that put and flush have waited */
} ld_latent_writer_stats;

/* One writer at a time has a store: LD_ESTATE while another process writes to it. */
ld_latent_writer *ld_latent_writer_open(const char *part);
/* Copies; waits for room. LD_ESHAPE, LD_EINDEX, LD_EVALUE (other sets than the store's), LD_EMEM. */
int ld_latent_writer_put(ld_latent_writer *w, const ld_latent_rows *r);
int ld_latent_writer_flush(ld_latent_writer *w);           /* everything put is on the disk, with its bits */
int64_t ld_latent_writer_count(const ld_latent_writer *w); /* rows of the store */
int64_t ld_latent_writer_done_count(ld_latent_writer *w);  /* rows with a bit */
/* The bits; they change while rows are written, so copy them before the first put or after a flush. */
const uint8_t *ld_latent_writer_done(ld_latent_writer *w);
void ld_latent_writer_state(ld_latent_writer *w, ld_latent_writer_stats *s);
/* When every row is done: writes the statistics, marks the store complete, gives the files their final names, the store
 * itself last. The writer is of no use for anything but closing afterwards. LD_ESTATE while rows are missing; LD_EVALUE when
 * a valid row is not finite, or none is valid. */
int ld_latent_writer_finish(ld_latent_writer *w);
int ld_latent_writer_close(ld_latent_writer *w); /* flushes; w is freed in any case, and NULL is fine */

/* ---- reading -------------------------------------------------------------------------------------------------------- */

typedef struct ld_latent_store ld_latent_store;

typedef struct ld_latent_info {
    const char *path;
    int64_t count, done, valid; /* rows; of them whole; of those valid */
    int channels, height, width;
    ld_dtype dtype;
    bool set[LD_LATENT_SETS]; /* which there are */
    bool complete;
    int batch, shards;
    size_t row_bytes;   /* of one row of one set */
    int64_t disk_bytes; /* that the files take on the disk now */
} ld_latent_info;

/* An unfinished store is refused unless `unfinished`. Two openings of the same complete file share one store. LD_EIO (also
 * a missing shard), LD_EFORMAT (no store, an older one, a file too short), LD_ESTATE (unfinished), LD_EMEM. */
ld_latent_store *ld_latent_store_open(const char *path, bool unfinished);
ld_latent_store *ld_latent_store_ref(ld_latent_store *s);
void ld_latent_store_drop(ld_latent_store *s);

const ld_latent_info *ld_latent_store_info(const ld_latent_store *s);
int64_t ld_latent_store_row(const ld_latent_store *s, int64_t i);      /* the i-th valid row, 0 <= i < valid */
int64_t ld_latent_store_before(const ld_latent_store *s, int64_t row); /* valid rows before `row` */
int32_t ld_latent_store_label(const ld_latent_store *s, int64_t row);
/* done: whole; valid: whole and valid. */
bool ld_latent_store_has(const ld_latent_store *s, int64_t row, bool valid);
/* Rows first .. first + count - 1 of a set as they are stored, row-major: from memory once they are loaded, else from the
 * disk. Any thread. LD_EIO, LD_EFORMAT (the file ends). */
int ld_latent_store_read(const ld_latent_store *s, ld_latent_set set, int64_t first, int64_t count, void *out);
/* One stored row to f32 in the canonical layout of a tensor of rank 4: (h,w,C) in memory. */
void ld_latent_widen(const ld_latent_info *info, const void *row, float *out);
/* Means, the mirrored ones too, into memory, to stay as long as the store. LD_EIO, LD_EMEM. */
int ld_latent_store_load(ld_latent_store *s);
bool ld_latent_store_loaded(const ld_latent_store *s);
size_t ld_latent_store_bytes(const ld_latent_store *s); /* that loading takes */
/* The same in the memory of device d: (R,C,h,w) as they are stored, R the rows, or twice that with the mirrored ones behind;
 * one for all who ask, as long as somebody has it. Whoever got it says ld_latent_store_displace when it is done with it. NULL:
 * LD_EIO, LD_EMEM, LD_ESTATE (it lies on another device), LD_EINTERRUPT. */
ld_tensor *ld_latent_store_place(ld_latent_store *s, ld_device *d);
void ld_latent_store_displace(ld_latent_store *s);
int ld_latent_store_name(const ld_latent_store *s, int64_t row, char *name, size_t n);
int ld_latent_store_crc32(const ld_latent_store *s, int64_t first, int64_t count, int64_t *out);

/* Valid rows whose CRC-32 is that of an earlier valid row; first[2]: the first pair in order of the later one, when there is
 * any. Rows without a checksum (0) do not count. -1 after ld_fail. */
int64_t ld_latent_store_duplicates(const ld_latent_store *s, int64_t first[2]);

typedef struct ld_latent_statistics {
    int64_t rows;
    double mean[64], std[64], min[64], max[64]; /* by channel */
    int64_t bad;                                /* the first row with a value that is not finite, -1: none */
} ld_latent_statistics;
/* Those in the file (mean and std alone), or computed over the valid rows, in f64 and always in the same order. */
int ld_latent_store_statistics(const ld_latent_store *s, double *mean, double *std);
int ld_latent_store_measure(const ld_latent_store *s, ld_latent_statistics *m);

#endif
