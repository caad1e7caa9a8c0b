/* Reference-counted tensors: a header (shape, strides, offset) over shared storage.
 *
 *   new / like / op results   you own one reference; ld_tensor_drop when done (NULL is fine)
 *   arguments                 borrowed for the call; ld_tensor_ref to keep
 *
 * Not thread-safe: one thread computes. New tensors have canonical layout (backend/view.h): rank 4 lies NHWC in memory. */
#ifndef LD_TENSOR_H
#define LD_TENSOR_H

#include "backend/device.h"

/* Where in the user's program something happened; file is interned (lives forever) or NULL. */
typedef struct ld_where {
    const char *file;
    int line;
} ld_where;

typedef struct ld_storage {
    int refs;
    bool exposed;     /* its address was given away: contents may change unseen */
    uint32_t version; /* counts changes in place */
    uint64_t serial;  /* one for every storage there ever was, from 1 */
    ld_where changed; /* the last of them */
    ld_device *device;
    size_t bytes;
    void *data;
    void (*release)(void *arg); /* for memory that is not the pool's (a mapped file) */
    void *release_arg;
} ld_storage;

struct ld_node;

typedef struct ld_tensor {
    int refs;
    ld_dtype dtype;
    int ndim;
    int64_t shape[LD_MAX_DIMS];
    int64_t stride[LD_MAX_DIMS]; /* in elements */
    int64_t offset;              /* in elements */
    ld_storage *storage;
    bool requires_grad;       /* a leaf whose gradient is wanted, or a result that depends on one */
    struct ld_node *node;     /* what made it (owned), NULL for a leaf */
    struct ld_tensor *grad;   /* leaf only, owned; NULL before the first backward. Of an f32 leaf it may have 16 bits */
    struct ld_tensor *shadow; /* leaf only, owned, or NULL: see ld_tensor_narrow */
    uint64_t shadow_serial;   /* the storage the shadow was made from, */
    uint32_t shadow_version;  /* and its version */
    int uses;                 /* leaf only: gradients a backward still has to add, where someone waits for that */
} ld_tensor;

/* Contents undefined. LD_EVALUE (rank above 8, a negative size, more than 2^48 elements), LD_EMEM (names `who`). */
ld_tensor *ld_tensor_new(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, const char *who);
ld_tensor *ld_tensor_like(const ld_tensor *x, const char *who); /* same shape, dtype, device; canonical */
ld_tensor *ld_tensor_full(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, double value, const char *who);

/* A tensor over host memory that is not copied (a mapped file): release(arg) is called when the last header goes. */
ld_tensor *ld_tensor_borrow(ld_dtype t, int ndim, const int64_t *shape, const int64_t *stride, void *data, size_t bytes,
                            void (*release)(void *), void *arg);

ld_tensor *ld_tensor_ref(ld_tensor *x); /* returns x */
void ld_tensor_drop(ld_tensor *x);

/* A second header over x's storage: the same view without history (alias), or another view of it, unchecked. */
ld_tensor *ld_tensor_alias(const ld_tensor *x);
ld_tensor *ld_tensor_view(const ld_tensor *x, int ndim, const int64_t *shape, const int64_t *stride, int64_t offset);

/* The strides under which x's elements, in logical row-major order, form `shape`, without a copy; false if none exist. */
bool ld_tensor_reshape_strides(const ld_tensor *x, int ndim, const int64_t *shape, int64_t *stride);

/* x itself (one more reference) if its layout is canonical, else a canonical copy. No history. */
ld_tensor *ld_tensor_canonical(ld_tensor *x, const char *who);
bool ld_tensor_is_canonical(const ld_tensor *x);

/* A copy with its own canonical storage; to another dtype or device (x's own storage shared when nothing changes). No history. */
ld_tensor *ld_tensor_clone(const ld_tensor *x, const char *who);
ld_tensor *ld_tensor_to(ld_tensor *x, ld_dtype t, ld_device *d, const char *who);
/* For whoever reads numbers on the host: x itself (one more reference) where its memory is the host's, else a canonical copy
 * there. No history. */
ld_tensor *ld_tensor_host(ld_tensor *x, const char *who);
/* y = x, equal shapes, whatever their dtypes and devices. 0 or an error code. Counts no version. */
int ld_tensor_assign(ld_tensor *y, ld_tensor *x, const char *who);
/* The same from numbers on the host: `from` is a view of host memory, of y's shape and any dtype and strides. */
int ld_tensor_fill_from(ld_tensor *y, const ld_view *from, const char *who);

int64_t ld_tensor_numel(const ld_tensor *x);
bool ld_tensor_same_shape(const ld_tensor *a, const ld_tensor *b);
void *ld_tensor_data(const ld_tensor *x); /* address of the first element, in its device's memory (backend/device.h) */
void *ld_tensor_expose(ld_tensor *x);     /* the same for those who write through it when they like; host memory only */
ld_view ld_tensor_as_view(const ld_tensor *x);
double ld_tensor_item(const ld_tensor *x); /* the value of the first element; host memory only */
#define LD_VIEW(x) (&(ld_view[1]){ld_tensor_as_view(x)}[0])

/* Mixed precision: shadow.c. x in dtype t, without history; x itself (one more reference) when it has it. An f32 leaf keeps its
 * bf16 or f16 copy, the shadow, which is made again only where x's contents have changed since: the storage's serial and
 * version tell. Whoever holds an older copy keeps what it saw. Anything else is cast anew. NULL on error. */
ld_tensor *ld_tensor_narrow(ld_tensor *x, ld_dtype t, const char *who);
/* For an update of x that writes the shadow as well: its memory, canonical as x is, when there is one of dtype t to be written,
 * or NULL. After the update, and ld_tensor_touch(x), ld_tensor_shadow_written says that it was. */
void *ld_tensor_shadow_data(ld_tensor *x, ld_dtype t);
void ld_tensor_shadow_written(ld_tensor *x);
void ld_tensor_drop_shadow(ld_tensor *x);

/* "(32,3,64,64) f32 cpu" in one of eight rotating thread-local buffers, for messages. */
const char *ld_tensor_text(const ld_tensor *x);
const char *ld_shape_text(int ndim, const int64_t *shape);

/* Everything that gives a leaf another gradient, or changes the one it has in place, goes through these: while memory is
 * planned (backend/plan.h) the old one is remembered and put back. set: grad (owned from here, or NULL) replaces it.
 * Return 0, or LD_EMEM while planning. */
int ld_tensor_set_grad(ld_tensor *x, ld_tensor *grad);
int ld_tensor_plan_grad(ld_tensor *x);

/* After changing x in place: counts a version (none while memory is planned on its device: nothing is written then). */
void ld_tensor_touch(ld_tensor *x);

/* The user's current position, for messages: a hook the host sets (it must not run user code). */
void ld_where_hook(ld_where (*fn)(void *), void *arg);
ld_where ld_where_now(void);
const char *ld_intern(const char *s); /* a copy of s that lives forever, one per content */

/* How a result's node is let go: set by the tape (a floor above). */
extern void (*ld_node_release)(struct ld_node *n);

/* Live tensors' headers, for leak tests. */
int64_t ld_tensor_count(void);

/* The global generator behind random tensors and initialisation: a seed and a counter of draws. */
typedef struct ld_generator {
    uint64_t seed, draws;
} ld_generator;
extern ld_generator ld_random;

#endif
