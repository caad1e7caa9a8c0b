/* From a source to batches of pixels: read -> decode and transform -> batch, on threads of its own, through bounded queues.
 *
 * Batches come in order; batch k holds pictures k * batch .. k * batch + count - 1, whatever was done before, so that what
 * is computed from a batch does not depend on where a run was stopped. Threads run no Lua and touch no tensors: they fill
 * plain memory, of which at most `ahead` batches and `raw_bytes` of undecoded files exist at a time. A file larger than
 * raw_bytes is held alone. Where a source cannot tell a file's size before it is read, the files that the readers are
 * reading come on top; so does the picture that a decoder is working on, at its own size. */
#ifndef LD_PIPELINE_H
#define LD_PIPELINE_H

#include "data/source.h"
#include "tensor/tensor.h"

typedef struct ld_pipeline ld_pipeline;

typedef struct ld_pipeline_options {
    int size;               /* of the square pictures that come out */
    ld_transform transform; /* io/image.h */
    bool exif;              /* apply EXIF orientation */
    int batch;
    int64_t count;    /* the source's first `count` pictures; 0: all */
    int readers;      /* threads; 0: 1 for a source that is read in order (more are refused there), else 2 */
    int decoders;     /* threads; 0: ld_threads() */
    int ahead;        /* batches; 0: 4 */
    size_t raw_bytes; /* read and not yet decoded; 0: 64 MiB */
    size_t most;      /* bytes of one file; larger ones are bad; 0: 256 MiB */
    /* Bit i % 8 of byte i / 8: row i is finished. Batches wholly finished are passed over. May be NULL; copied. */
    const uint8_t *done;
} ld_pipeline_options;

/* One batch; all of it is owned by the caller. */
typedef struct ld_batch {
    int64_t first;
    int count;
    ld_tensor *x;    /* (count,3,size,size) u8, canonical; zeros where a picture is bad */
    int32_t *label;  /* count each */
    uint8_t *valid;  /* 0: bad */
    uint32_t *crc32; /* of the stored bytes; 0 where they could not be read */
    char **why;      /* the reason, NULL where valid */
} ld_batch;
void ld_batch_free(ld_batch *b);

typedef struct ld_pipeline_stats {
    int raw, raw_room;     /* files waiting to be decoded */
    int ready, ready_room; /* batches waiting to be taken */
    int readers, decoders; /* threads */
    int64_t left;          /* pictures not yet taken, those passed over left out */
    int64_t read, decoded, bad;
    double read_wait, decode_wait, take_wait; /* seconds, all threads: for room; for files; the taker for batches */
    size_t held;                              /* bytes of undecoded files now */
    size_t memory;                            /* bytes that the queues may hold at most, see above */
} ld_pipeline_stats;

/* Holds a reference to s and starts the threads. LD_EVALUE (sizes, counts), LD_EMEM, LD_EINTERNAL (no thread). */
ld_pipeline *ld_pipeline_new(ld_source *s, const ld_pipeline_options *o);
/* Wait until a batch is ready, or all have been taken, but at most `seconds`: 1; 0 when the time is over; -1 after ld_fail
 * (LD_EINTERRUPT, LD_EMEM), which a thread may have met. Sleeps, does not spin. */
int ld_pipeline_wait(ld_pipeline *p, double seconds);
/* 1 and the next batch; 0 at the end; -1 after ld_fail (LD_EINTERRUPT, LD_EMEM). Waits for it. */
int ld_pipeline_next(ld_pipeline *p, ld_batch *b);
void ld_pipeline_state(ld_pipeline *p, ld_pipeline_stats *s);
/* Stops and joins the threads, also in mid-work. One that does not come back from the operating system within five seconds
 * (a dead network drive) is left to end by itself, and the last such thread frees the rest. */
void ld_pipeline_drop(ld_pipeline *p);

#endif
