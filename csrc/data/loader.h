/* Latents as a data set, and batches of them for training.
 *
 * A data set is rows of a store in an order that is computed position by position: splits and shuffles cost no memory, and
 * any position is found at once. Positions count from 0. */
#ifndef LD_LOADER_H
#define LD_LOADER_H

#include "backend/backend.h"
#include "data/latent_store.h"

typedef struct ld_latents ld_latents;

ld_latents *ld_latents_new(ld_latent_store *s); /* the valid rows in order; holds a reference */
/* Positions first .. first + count - 1 of d, or of a random order of d (ld_shuffle_position, by `seed`, epoch 0). LD_EINDEX;
 * LD_EVALUE beyond 8 shuffles within one another. */
ld_latents *ld_latents_part(const ld_latents *d, int64_t first, int64_t count, bool shuffled, uint64_t seed);
void ld_latents_drop(ld_latents *d);
int64_t ld_latents_count(const ld_latents *d);
int64_t ld_latents_row(const ld_latents *d, int64_t i); /* of the store */
ld_latent_store *ld_latents_store(const ld_latents *d); /* borrowed */
/* x (n,C,h,w) f32 raw latents and label (n) i64 of n positions; both are owned by the caller. LD_EINDEX, LD_EIO, LD_EMEM. */
int ld_latents_get(const ld_latents *d, const int64_t *at, int n, ld_tensor **x, ld_tensor **label);

/* Batches by the clock of images seen: the batch at `images` is the positions images % n .. + count - 1 of the order of its
 * epoch, ld_shuffle_position(position, n, seed, images / n), where n is the size of the data set. A rank takes
 * the rows of its own micro-batches (ld_sum_pieces and ld_sum_own in optim/grad_exchange.h), which may be none. With
 * `mirror`, where the store has mirrored latents, a row's mirrored form is taken with probability 1/2, a function of (seed,
 * images + position in the batch).
 *
 * Latents are resident in memory as they are stored, or read ahead: the following batches are known, so a few threads
 * read them while the present one is trained on. Both give the same batches to the byte. Resident in the memory of a device
 * (ld_loader_place) a batch is gathered there, from a list of its rows: the same batches, but that noise which erasing puts in
 * differs by what the device's normal numbers do.
 *
 * With `augment` (ld_augment, whose seed and first are the loader's own: picture i of the batch at `images` is sample images
 * + i) and shift and scale, batches come standardised and augmented. */
typedef struct ld_loader ld_loader;

typedef struct ld_loader_options {
    int batch; /* of all ranks together: what is read ahead are batches of this size */
    uint64_t seed;
    int rank, ranks; /* ranks 0: 1 */
    int micro;       /* pictures of a micro-batch; 0: a piece a rank (ld_sum_pieces) */
    bool mirror;
    int resident; /* 1, 0, or -1: when it takes at most half of the memory that the process may still have */
    int ahead;    /* batches; 0: 4 */
    int threads;  /* that read ahead; 0: 4 */
    ld_augment augment;
    const double *mean, *std; /* by channel, copied, or both NULL: x becomes (x - mean) (1 / std), in f32 */
} ld_loader_options;

typedef struct ld_loader_stats {
    int64_t batches;
    double wait;  /* seconds that ld_loader_batch has waited for the disk; of batches read ahead only */
    double spent; /* seconds in ld_loader_batch in all */
    bool resident;
    const char *device; /* where, or "cpu" */
    size_t memory;      /* bytes that batches read ahead take, or that are resident */
} ld_loader_stats;

/* Holds references. LD_EVALUE, LD_EIO, LD_EMEM, LD_EINTERNAL (no thread), LD_EINTERRUPT (while loading). */
ld_loader *ld_loader_new(const ld_latents *d, const ld_loader_options *o);
/* From now on the latents are in the memory of device d, which may take seconds; nothing is read ahead any more. On error the
 * loader is as it was: what ld_latent_store_place says. */
int ld_loader_place(ld_loader *l, ld_device *d);
/* This rank's share, of n rows, of the batch of `count` at `images`: x (n,C,h,w) f32, label (n) i64, owned by the caller, on
 * the CPU or the device that the latents were placed on. Batches asked for in the order that ld_loader_next gives are ready or
 * on their way; any other starts anew there. LD_EVALUE (beyond the end of an epoch), LD_EIO, LD_EMEM. */
int ld_loader_batch(ld_loader *l, int64_t images, int count, ld_tensor **x, ld_tensor **label);
/* The size of the batch at *images, at most `batch` and not beyond the end of the epoch. A single picture is passed over at
 * the end of an epoch, unless all batches are of one: *images moves on. */
int ld_loader_next(const ld_loader *l, int64_t *images);
void ld_loader_state(const ld_loader *l, ld_loader_stats *s);
void ld_loader_drop(ld_loader *l);

#endif
