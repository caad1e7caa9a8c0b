/* Memory of the device.
 *
 * The pool's arena is address space of twice the card's memory, backed in chunks as the pool hands ranges out and let go
 * chunk by chunk when it trims: so what is held stays near the peak of what is live, and nothing is moved. Where a driver has
 * no such address space (some virtual machines), blocks come from cudaMalloc by size classes. Memory of plans is address
 * space that is backed by nothing. */
#include "backend/cuda/cuda.h"

#include "backend/cuda/library.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK ((size_t)16 << 20) /* a multiple of every card's granularity, which is 2 MiB */

static struct {
    const ld_driver *cu;
    CUmemAllocationProp prop;
    CUmemAccessDesc access;
    char *base;
    size_t chunks;
    CUmemGenericAllocationHandle *handle; /* of each chunk; 0: not backed */
} arena;

/* ---- copies ---------------------------------------------------------------------------------------------------------- */

/* A copy from pageable memory may wait for all work before it. From SMALL bytes on, up to PIECE, the host's memory is copied to
 * pinned memory first, a ring of pieces, each free again when its copy is done. */
#define SMALL ((size_t)64 << 10)
#define PIECE ((size_t)4 << 20)
enum { PIECES = 8 };

static struct {
    char *memory; /* PIECES of them; NULL before the first, and where there is none */
    bool tried;
    cudaEvent_t done[PIECES];
    int at;
} staging;

static bool can_stage(size_t bytes) {
    if (bytes <= SMALL || bytes > PIECE)
        return false;
    if (!staging.tried && cudaMallocHost((void **)&staging.memory, PIECES * PIECE) != cudaSuccess) {
        cudaGetLastError();
        staging.memory = NULL;
    }
    staging.tried = true;
    return staging.memory;
}

static int upload_staged(void *device, const void *host, size_t bytes, const char *who) {
    int i = staging.at++ % PIECES;
    char *piece = staging.memory + (size_t)i * PIECE;
    int bad = ld_cuda_check(staging.done[i] ? cudaEventSynchronize(staging.done[i])
                                            : cudaEventCreateWithFlags(&staging.done[i], cudaEventDisableTiming),
                            who);
    if (bad)
        return bad;
    memcpy(piece, host, bytes);
    bad = ld_cuda_check(cudaMemcpyAsync(device, piece, bytes, cudaMemcpyHostToDevice, ld_cuda.stream), who);
    return bad ? bad : ld_cuda_check(cudaEventRecord(staging.done[i], ld_cuda.stream), who);
}

int ld_cuda_upload(void *device, const void *host, size_t bytes) {
    static const char who[] = "copy to the device";
    if (!bytes || ld_cuda_idle())
        return 0;
    int bad = ld_cuda_lost(who);
    if (!bad && ld_cuda_recording())
        return ld_cuda_record_upload(device, host, bytes);
    if (!bad && can_stage(bytes))
        return upload_staged(device, host, bytes, who);
    /* from pageable memory: returns when the host's memory has been read */
    return bad ? bad : ld_cuda_check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, ld_cuda.stream), who);
}

int ld_cuda_download(void *host, const void *device, size_t bytes) {
    static const char who[] = "copy from the device";
    if (!bytes || ld_cuda_idle())
        return 0;
    int bad = ld_cuda_lost(who);
    if (!bad && ld_cuda_recording())
        bad = ld_fail(LD_ESTATE, "%s: work that is recorded cannot wait for it", who);
    if (!bad)
        bad = ld_cuda_check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, ld_cuda.stream), who);
    return bad ? bad : ld_cuda_check(cudaStreamSynchronize(ld_cuda.stream), who);
}

static int wait_for_stream(void) {
    int bad = ld_cuda_lost("wait");
    return bad ? bad : ld_cuda_check(cudaStreamSynchronize(ld_cuda.stream), "wait");
}

static size_t room(void) {
    size_t unused = 0, total = 0;
    return cudaMemGetInfo(&unused, &total) == cudaSuccess ? unused : 0;
}

/* ---- single blocks --------------------------------------------------------------------------------------------------- */

static void *alloc_block(size_t n) {
    void *p = NULL;
    if (cudaMalloc(&p, n) == cudaSuccess)
        return p;
    cudaGetLastError(); /* the pool tells */
    return NULL;
}

/* cudaFree waits for work that may use the block. */
static void free_block(void *p, size_t n) {
    (void)n;
    cudaFree(p);
}

/* ---- the arena ------------------------------------------------------------------------------------------------------- */

static void *reserve(size_t *n) {
    size_t unused = 0, total = 0;
    CUdeviceptr at = 0;
    if (cudaMemGetInfo(&unused, &total) != cudaSuccess)
        return NULL;
    arena.chunks = 2 * total / CHUNK;
    arena.handle = calloc(arena.chunks, sizeof *arena.handle);
    if (!arena.handle || arena.cu->cuMemAddressReserve(&at, arena.chunks * CHUNK, CHUNK, 0, 0)) {
        free(arena.handle);
        arena.handle = NULL;
        return NULL;
    }
    *n = arena.chunks * CHUNK;
    memcpy(&arena.base, &at, sizeof arena.base);
    return arena.base;
}

static CUdeviceptr address(const void *p) {
    return (CUdeviceptr)(uintptr_t)p;
}

static bool back(void *p, size_t n, CUmemGenericAllocationHandle *handle) {
    const ld_driver *cu = arena.cu;
    if (cu->cuMemCreate(handle, n, &arena.prop, 0))
        return false;
    if (!cu->cuMemMap(address(p), n, 0, *handle, 0)) {
        if (!cu->cuMemSetAccess(address(p), n, &arena.access, 1))
            return true;
        cu->cuMemUnmap(address(p), n);
    }
    cu->cuMemRelease(*handle);
    return false;
}

static bool commit(void *p, size_t n) {
    size_t first = (size_t)((char *)p - arena.base) / CHUNK, last = (size_t)((char *)p + n - arena.base - 1) / CHUNK;
    for (size_t i = first; n && i <= last; i++)
        if (!arena.handle[i] && !back(arena.base + i * CHUNK, CHUNK, &arena.handle[i])) {
            arena.handle[i] = 0;
            return false;
        }
    return true;
}

/* Whole chunks within the range. */
static void purge(void *p, size_t n) {
    size_t at = (size_t)((char *)p - arena.base), first = (at + CHUNK - 1) / CHUNK, end = (at + n) / CHUNK;
    bool waited = false;
    for (size_t i = first; i < end && i < arena.chunks; i++) {
        if (!arena.handle[i])
            continue;
        if (!waited)
            cudaStreamSynchronize(ld_cuda.stream); /* its error, if any, is the next operation's */
        waited = true;
        arena.cu->cuMemUnmap(address(arena.base + i * CHUNK), CHUNK);
        arena.cu->cuMemRelease(arena.handle[i]);
        arena.handle[i] = 0;
    }
}

/* ---- plans ----------------------------------------------------------------------------------------------------------- */

#define PLAN_PAGE ((size_t)2 << 20)

/* Blocks that outlived their plan: few. */
typedef struct kept {
    void *memory;
    CUmemGenericAllocationHandle handle;
    struct kept *next;
} kept;
static kept *all_kept;

static size_t pages(size_t n) {
    return (n + PLAN_PAGE - 1) / PLAN_PAGE * PLAN_PAGE;
}

static void *plan_take(size_t n) {
    CUdeviceptr at = 0;
    return arena.cu->cuMemAddressReserve(&at, pages(n), 0, 0, 0) ? NULL : (void *)(uintptr_t)at;
}

static void plan_give(void *p, size_t n) {
    for (kept **at = &all_kept; *at; at = &(*at)->next)
        if ((*at)->memory == p) {
            kept *k = *at;
            *at = k->next;
            cudaStreamSynchronize(ld_cuda.stream);
            arena.cu->cuMemUnmap(address(p), pages(n));
            arena.cu->cuMemRelease(k->handle);
            free(k);
            break;
        }
    arena.cu->cuMemAddressFree(address(p), pages(n));
}

static bool plan_keep(void *p, size_t n) {
    kept *k = malloc(sizeof *k);
    if (!k || !back(p, pages(n), &k->handle)) {
        free(k);
        return false;
    }
    k->memory = p;
    k->next = all_kept;
    all_kept = k;
    return cudaMemsetAsync(p, 0, n, ld_cuda.stream) == cudaSuccess;
}

/* ---- the table ------------------------------------------------------------------------------------------------------- */

const ld_device_ops *ld_cuda_memory(int ordinal) {
    static ld_device_ops ops = {.alloc = alloc_block,
                                .free = free_block,
                                .upload = ld_cuda_upload,
                                .download = ld_cuda_download,
                                .wait = wait_for_stream,
                                .room = room,
                                .graph = &ld_cuda_graph_ops};
    int has = 0;
    CUdevice card;
    arena.cu = ld_cuda_driver("device");
    arena.prop = (CUmemAllocationProp){.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                       .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = ordinal}};
    arena.access = (CUmemAccessDesc){.location = arena.prop.location, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    ops.plan = ld_cuda_plan();
    ops.planned = (ld_pool_planned){plan_take, plan_give, plan_keep};
    bool space = !arena.cu->cuDeviceGet(&card, ordinal) &&
                 !arena.cu->cuDeviceGetAttribute(&has, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, card) &&
                 has;
    ops.reserve = space ? reserve : NULL;
    ops.commit = commit;
    ops.purge = purge;
    return &ops;
}
