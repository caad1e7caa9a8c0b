/* Recording work of the stream as a CUDA graph, and doing it again.
 *
 * The capture is relaxed: it does not forbid this thread's other calls, so that a library may load a kernel and the arena may
 * back a chunk. What the stream itself must not do meanwhile is refused here or in memory.c: copies to the host, waiting,
 * asking the stream for errors. A copy to the device is recorded with the address of its source, which is read at every
 * replay: so it gets a copy in pinned memory that lives as long as the graph. Libraries take their workspace from the pool,
 * which gives them the recording's memory.
 *
 * A graph that is destroyed while it runs is freed by the driver when it ends; its pinned memory is freed after waiting. */
#include "backend/cuda/cuda.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

static const char who[] = "graph";

/* Pinned memory of a graph's copies. */
typedef struct chunk {
    struct chunk *next;
    char *memory;
    size_t bytes, used;
} chunk;

typedef struct graph {
    cudaGraphExec_t exec;
    chunk *chunks;
} graph;

#define CHUNK ((size_t)1 << 20)

static bool recording;
static chunk *chunks; /* of the recording */

bool ld_cuda_recording(void) {
    return recording;
}

static void free_chunks(chunk *c) {
    for (chunk *next; c; c = next) {
        next = c->next;
        cudaFreeHost(c->memory);
        free(c);
    }
}

static int add_chunk(size_t bytes) {
    chunk *c = calloc(1, sizeof *c);
    if (!c)
        return ld_fail(LD_EMEM, "%s: out of host memory", who);
    c->bytes = bytes > CHUNK ? bytes : CHUNK;
    int bad = ld_cuda_check(cudaMallocHost((void **)&c->memory, c->bytes), who);
    if (bad) {
        free(c);
        return bad;
    }
    c->next = chunks;
    chunks = c;
    return 0;
}

int ld_cuda_record_upload(void *device, const void *host, size_t bytes) {
    if (!chunks || chunks->bytes - chunks->used < bytes) {
        int bad = add_chunk(bytes);
        if (bad)
            return bad;
    }
    char *copy = chunks->memory + chunks->used;
    chunks->used += (bytes + 255) / 256 * 256;
    if (chunks->used > chunks->bytes)
        chunks->used = chunks->bytes;
    memcpy(copy, host, bytes);
    return ld_cuda_check(cudaMemcpyAsync(device, copy, bytes, cudaMemcpyHostToDevice, ld_cuda.stream), who);
}

/* ---- recording ------------------------------------------------------------------------------------------------------- */

static int begin(void) {
    int bad = ld_cuda_lost(who);
    if (!bad)
        bad = add_chunk(0);
    if (!bad)
        bad = ld_cuda_check(cudaStreamBeginCapture(ld_cuda.stream, cudaStreamCaptureModeRelaxed), who);
    recording = !bad;
    if (bad)
        free_chunks(chunks), chunks = NULL;
    return bad;
}

/* Ends the capture, also one that an error has spoilt: then there is no graph. */
static int end(void **kept) {
    cudaGraph_t captured = NULL;
    graph *g = kept ? calloc(1, sizeof *g) : NULL;
    cudaError_t status = cudaStreamEndCapture(ld_cuda.stream, &captured);
    recording = false;
    int bad = 0;
    if (!kept)
        cudaGetLastError();
    else
        bad = g ? ld_cuda_check(status, who) : ld_fail(LD_EMEM, "%s: out of host memory", who);
    if (kept && !bad)
        bad = ld_cuda_check(cudaGraphInstantiateWithFlags(&g->exec, captured, 0), who);
    if (captured)
        cudaGraphDestroy(captured);
    if (!kept || bad) {
        free_chunks(chunks);
        free(g);
    } else {
        g->chunks = chunks;
        *kept = g;
    }
    chunks = NULL;
    return bad;
}

static int replay(void *g) {
    int bad = ld_cuda_lost(who);
    return bad ? bad : ld_cuda_check(cudaGraphLaunch(((graph *)g)->exec, ld_cuda.stream), who);
}

static void release(void *p) {
    graph *g = p;
    cudaGraphExecDestroy(g->exec);
    cudaStreamSynchronize(ld_cuda.stream); /* its error, if any, is the next operation's */
    free_chunks(g->chunks);
    free(g);
}

/* ---- numbers to and fro, without waiting ------------------------------------------------------------------------------- */

static void *pinned(size_t n) {
    void *p = NULL;
    return ld_cuda_check(cudaMallocHost(&p, n), who) ? NULL : p;
}

static void pinned_free(void *p) {
    cudaStreamSynchronize(ld_cuda.stream);
    cudaFreeHost(p);
}

static int copy(void *to, const void *from, size_t n, enum cudaMemcpyKind kind) {
    int bad = ld_cuda_lost(who);
    return bad ? bad : ld_cuda_check(cudaMemcpyAsync(to, from, n, kind, ld_cuda.stream), who);
}

static int send(void *to, const void *from, size_t n) {
    return copy(to, from, n, cudaMemcpyHostToDevice);
}

static int fetch(void *to, const void *from, size_t n) {
    return copy(to, from, n, cudaMemcpyDeviceToHost);
}

static int mark(void **m) {
    cudaEvent_t event = *m;
    int bad = ld_cuda_lost(who);
    if (!bad && !event)
        bad = ld_cuda_check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), who);
    *m = event;
    return bad ? bad : ld_cuda_check(cudaEventRecord(event, ld_cuda.stream), who);
}

static int reached(void *m, bool wait) {
    if (ld_cuda_lost(who))
        return -1;
    cudaError_t status = wait ? cudaEventSynchronize(m) : cudaEventQuery(m);
    if (status == cudaErrorNotReady)
        return cudaGetLastError(), 0;
    return ld_cuda_check(status, who) ? -1 : 1;
}

static void mark_free(void *m) {
    cudaEventDestroy(m);
}

const ld_graph_ops ld_cuda_graph_ops = {.begin = begin,
                                        .end = end,
                                        .replay = replay,
                                        .release = release,
                                        .pinned = pinned,
                                        .pinned_free = pinned_free,
                                        .send = send,
                                        .fetch = fetch,
                                        .mark = mark,
                                        .reached = reached,
                                        .mark_free = mark_free};
