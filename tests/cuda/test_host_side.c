/* The plug-in's errors, memory and graphs over a runtime and a driver that are written out here: which errors take the device
 * with them and what is said then, the arena's chunks, and what a recorded copy reads. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/library.h"
#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static ld_device device = {.name = "cuda:0"};
ld_cuda_state ld_cuda = {.ordinal = 0, .device = &device, .stream = (cudaStream_t)(uintptr_t)1};
static bool idle;

bool ld_cuda_idle(void) {
    return idle;
}
const ld_backend *ld_cuda_plan(void) {
    return &ld_cpu_backend;
}

/* ---- a runtime ------------------------------------------------------------------------------------------------------- */

static cudaError_t pending, sticky; /* the next call's error; every call's error */
static int copies, waits;

/* Copies that a capture has. */
static struct copy {
    void *to;
    const void *from;
    size_t n;
} captured[16];
static int n_captured;
static bool late; /* copies wait until somebody waits for them */
static void do_late(void) {
    for (int i = 0; late && i < n_captured; i++)
        memcpy(captured[i].to, captured[i].from, captured[i].n);
    n_captured = late ? 0 : n_captured;
}

static cudaError_t take(void) {
    cudaError_t e = sticky ? sticky : pending;
    pending = cudaSuccess;
    return e;
}
cudaError_t cudaGetLastError(void) {
    return take();
}
static bool capturing, spoilt; /* a stream that is captured was asked for something that waits */
cudaError_t cudaStreamQuery(cudaStream_t s) {
    (void)s;
    spoilt |= capturing;
    return capturing ? cudaErrorStreamCaptureUnsupported : sticky;
}
const char *cudaGetErrorString(cudaError_t e) {
    return e == cudaErrorIllegalAddress     ? "an illegal memory access"
           : e == cudaErrorMemoryAllocation ? "no memory"
                                            : "bad";
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind, cudaStream_t s) {
    (void)kind, (void)s;
    copies++;
    if (capturing || late)
        captured[n_captured++] = (struct copy){to, from, n};
    else
        memcpy(to, from, n);
    return take();
}
cudaError_t cudaMemsetAsync(void *to, int v, size_t n, cudaStream_t s) {
    (void)s;
    memset(to, v, n);
    return take();
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    (void)s;
    waits++;
    spoilt |= capturing;
    do_late();
    return take();
}
cudaError_t cudaMemGetInfo(size_t *unused, size_t *total) {
    *unused = (size_t)1 << 28;
    *total = (size_t)1 << 29;
    return cudaSuccess;
}
cudaError_t cudaMalloc(void **p, size_t n) {
    *p = NULL;
    return n > 1000000 ? (pending = cudaErrorMemoryAllocation) : (*p = malloc(n)) ? cudaSuccess : cudaErrorUnknown;
}
cudaError_t cudaFree(void *p) {
    free(p);
    return cudaSuccess;
}

static int pinned_blocks, graphs, launches;
cudaError_t cudaMallocHost(void **p, size_t n) {
    *p = malloc(n);
    pinned_blocks++;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p) {
    pinned_blocks -= p != NULL;
    free(p);
    return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode) {
    (void)s, (void)mode;
    capturing = true;
    spoilt = false;
    n_captured = 0;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g) {
    (void)s;
    capturing = false;
    *g = spoilt ? NULL : (cudaGraph_t)(uintptr_t)1;
    return spoilt ? (pending = cudaErrorStreamCaptureInvalidated) : cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long flags) {
    (void)g, (void)flags;
    *e = (cudaGraphExec_t)(uintptr_t)1;
    graphs++;
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g) {
    (void)g;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e) {
    (void)e;
    graphs--;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s) {
    (void)e, (void)s;
    launches++;
    for (int i = 0; i < n_captured; i++)
        memcpy(captured[i].to, captured[i].from, captured[i].n);
    return take();
}
static bool event_there;
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags) {
    (void)flags;
    *e = (cudaEvent_t)(uintptr_t)1;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    (void)e, (void)s;
    event_there = false;
    return take();
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
    (void)e;
    return event_there ? cudaSuccess : (pending = cudaErrorNotReady);
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    (void)e;
    event_there = true;
    do_late();
    return take();
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    (void)e;
    return cudaSuccess;
}

/* ---- a driver whose card has 6 chunks of 16 MiB -------------------------------------------------------------------------- */

enum { CHUNK = 16 << 20, CARD = 6 };
static char *space; /* of all reservations */
static size_t space_used, backed, mapped;
static bool has_space = true;

static CUresult reserve(CUdeviceptr *at, size_t n, size_t alignment, CUdeviceptr wanted, unsigned long long flags) {
    (void)alignment, (void)wanted, (void)flags;
    *at = (CUdeviceptr)(uintptr_t)(space + space_used);
    space_used += n;
    return CUDA_SUCCESS;
}
static CUresult unreserve(CUdeviceptr at, size_t n) {
    (void)at, (void)n;
    return CUDA_SUCCESS;
}
static CUresult create(CUmemGenericAllocationHandle *h, size_t n, const CUmemAllocationProp *p,
                       unsigned long long flags) {
    (void)flags;
    if (p->location.type != CU_MEM_LOCATION_TYPE_DEVICE || backed + n > (size_t)CARD * CHUNK)
        return CUDA_ERROR_OUT_OF_MEMORY;
    backed += n;
    *h = n;
    return CUDA_SUCCESS;
}
static CUresult release(CUmemGenericAllocationHandle h) {
    backed -= h;
    return CUDA_SUCCESS;
}
static CUresult map(CUdeviceptr at, size_t n, size_t offset, CUmemGenericAllocationHandle h, unsigned long long flags) {
    (void)at, (void)offset, (void)flags;
    assert_int_equal(n, h);
    mapped += n;
    return CUDA_SUCCESS;
}
static CUresult unmap(CUdeviceptr at, size_t n) {
    (void)at;
    mapped -= n;
    return CUDA_SUCCESS;
}
static CUresult allow(CUdeviceptr at, size_t n, const CUmemAccessDesc *d, size_t count) {
    (void)at, (void)n, (void)count;
    return d->flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
static CUresult get_device(CUdevice *d, int i) {
    *d = i;
    return CUDA_SUCCESS;
}
static CUresult attribute(int *v, CUdevice_attribute a, CUdevice d) {
    (void)a, (void)d;
    *v = has_space;
    return CUDA_SUCCESS;
}
const ld_driver *ld_cuda_driver(const char *who) {
    static const ld_driver table = {.cuDeviceGet = get_device,
                                    .cuDeviceGetAttribute = attribute,
                                    .cuMemAddressReserve = reserve,
                                    .cuMemAddressFree = unreserve,
                                    .cuMemCreate = create,
                                    .cuMemRelease = release,
                                    .cuMemMap = map,
                                    .cuMemUnmap = unmap,
                                    .cuMemSetAccess = allow};
    (void)who;
    return &table;
}

/* ---- tests ----------------------------------------------------------------------------------------------------------- */

static void chunks_come_and_go(void **state) {
    (void)state;
    const ld_device_ops *o = ld_cuda_memory(0);
    size_t n = 0;
    char *base = o->reserve(&n);
    assert_non_null(base);
    assert_int_equal(n, (size_t)1 << 30); /* twice the card's 512 MiB */
    assert_true(o->commit(base, 100));
    assert_int_equal(backed, CHUNK);
    assert_true(o->commit(base + 100, CHUNK)); /* reaches into the second */
    assert_int_equal(backed, 2 * CHUNK);
    assert_true(o->commit(base + CHUNK, CHUNK)); /* that is there already */
    assert_int_equal(backed, 2 * CHUNK);
    assert_true(o->commit(base + 2 * CHUNK, 4 * (size_t)CHUNK));
    assert_false(o->commit(base + 6 * (size_t)CHUNK, 1));
    assert_int_equal(mapped, CARD * (size_t)CHUNK);
    waits = 0;
    o->purge(base + 100, 3 * (size_t)CHUNK); /* two whole chunks lie within */
    assert_int_equal(backed, 4 * CHUNK);
    assert_int_equal(waits, 1);
    assert_true(o->commit(base + 6 * (size_t)CHUNK, 2 * (size_t)CHUNK));
    o->purge(base, n);
    assert_int_equal(backed, 0);
    assert_int_equal(mapped, 0);
}

/* The pool over it: what does not fit is told with the pool's figures, after what is cached has been given back. */
static void a_pool_over_it(void **state) {
    (void)state;
    const ld_device_ops *o = ld_cuda_memory(0);
    ld_pool *p = ld_pool_new("cuda:0", o->alloc, o->free, 0);
    size_t n = 0;
    void *base = o->reserve(&n);
    ld_pool_arena(p, base, n, o->purge);
    ld_pool_arena_commit(p, o->commit);
    void *a = ld_pool_take(p, 3 * (size_t)CHUNK, "a"), *b = ld_pool_take(p, 2 * (size_t)CHUNK, "b");
    assert_true(a && b);
    assert_null(ld_pool_take(p, 2 * (size_t)CHUNK, "c"));
    assert_int_equal(ld_error_code(), LD_EMEM);
    assert_non_null(strstr(ld_error(), "c: out of memory on cuda:0: 32.0 MiB needed; live 80.0 MiB in 2 blocks"));
    ld_pool_give(p, a);
    void *c = ld_pool_take(p, 4 * (size_t)CHUNK, "c"); /* a's chunks have to go first */
    assert_non_null(c);
    assert_int_equal(backed, 6 * CHUNK);
    void *small = ld_pool_take(p, 1000, "small");
    assert_non_null(small);
    ld_pool_give(p, small);
    ld_pool_give(p, b);
    ld_pool_give(p, c);
    ld_pool_trim(p);
    assert_int_equal(backed, 0);
    ld_pool_free(p);
}

static void plans_are_backed_when_they_are_kept(void **state) {
    (void)state;
    const ld_device_ops *o = ld_cuda_memory(0);
    char *p = o->planned.take(5000), *q = o->planned.take(3 << 20);
    assert_true(p && q && p != q);
    assert_int_equal(backed, 0);
    assert_true(o->planned.keep(q, 3 << 20));
    assert_int_equal(backed, 4 << 20);
    assert_int_equal(q[(3 << 20) - 1], 0);
    o->planned.give(p, 5000);
    o->planned.give(q, 3 << 20);
    assert_int_equal(backed, 0);
    assert_int_equal(mapped, 0);
}

static void without_address_space(void **state) {
    (void)state;
    has_space = false;
    const ld_device_ops *o = ld_cuda_memory(0);
    assert_null(o->reserve);
    has_space = true;
    assert_non_null(ld_cuda_memory(0)->reserve);
}

static void copies_and_planning(void **state) {
    (void)state;
    const ld_device_ops *o = ld_cuda_memory(0);
    char from[8] = "abcdefg", to[8] = "";
    copies = waits = 0;
    assert_int_equal(o->upload(to, from, 8), 0);
    assert_int_equal(waits, 0);
    assert_int_equal(o->download(to, from, 8), 0);
    assert_int_equal(waits, 1);
    idle = true;
    assert_int_equal(o->upload(to, from, 8) || o->download(to, from, 8), 0);
    idle = false;
    assert_int_equal(copies, 2);
    assert_null(o->alloc(2000000));
    assert_int_equal(cudaGetLastError(), cudaSuccess); /* the error was taken */
}

static void errors_that_pass(void **state) {
    (void)state;
    pending = cudaErrorMemoryAllocation;
    assert_int_equal(ld_cuda_check(cudaErrorMemoryAllocation, "norm"), LD_EMEM);
    pending = cudaErrorInvalidConfiguration;
    assert_int_equal(ld_cuda_launched("k_norm"), LD_EINTERNAL);
    assert_string_equal(ld_error(), "k_norm: CUDA: bad");
    assert_int_equal(ld_cuda_failed("matmul", "refused"), LD_EINTERNAL);
    assert_int_equal(ld_cuda_launched("k_norm"), 0);
    assert_int_equal(ld_cuda_lost("x"), 0);
}

/* Copies of some size go by way of pinned memory: the host's may change at once, and no piece is written to before its copy is
 * done. */
static void staged_copies(void **state) {
    (void)state;
    enum { N = 100000, COPIES = 11 };
    const ld_device_ops *o = ld_cuda_memory(0);
    static char from[N], to[COPIES][N];
    late = true;
    n_captured = waits = 0;
    for (int i = 0; i < COPIES; i++) {
        memset(from, 'a' + i, N);
        assert_int_equal(o->upload(to[i], from, N), 0);
    }
    assert_int_equal(waits, 0);
    assert_int_equal(o->wait(), 0);
    late = false;
    for (int i = 0; i < COPIES; i++)
        assert_true(to[i][0] == 'a' + i && to[i][N - 1] == 'a' + i);
    assert_int_equal(pinned_blocks, 1);
    pinned_blocks = 0; /* it stays */
}

/* A copy to the device is recorded with what it read, not with the address; a copy to the host is refused, and an error in
 * between leaves the device as it was. */
static void recordings(void **state) {
    (void)state;
    const ld_device_ops *o = ld_cuda_memory(0);
    const ld_graph_ops *g = o->graph;
    char a[8] = "abcdefg", b[8] = "hijklmn", x[8] = "", y[8] = "";
    void *graph = NULL, *mark = NULL;
    assert_int_equal(g->begin(), 0);
    assert_true(ld_cuda_recording());
    assert_int_equal(o->upload(x, a, 8) || o->upload(y, b, 8), 0);
    assert_int_equal(o->download(a, x, 8), LD_ESTATE);
    pending = cudaErrorInvalidConfiguration;
    assert_int_equal(ld_cuda_launched("k_norm"), LD_EINTERNAL);
    assert_false(spoilt); /* the stream was not asked */
    assert_int_equal(g->end(&graph), 0);
    assert_false(ld_cuda_recording());
    assert_int_equal(x[0], 0); /* nothing has been done */
    memset(a, 'z', 8);
    for (int i = 0; i < 2; i++) {
        memset(x, 0, 8);
        assert_int_equal(g->replay(graph), 0);
        assert_string_equal(x, "abcdefg");
        assert_string_equal(y, "hijklmn");
    }
    assert_int_equal(g->mark(&mark), 0);
    assert_int_equal(g->reached(mark, false), 0);
    assert_int_equal(cudaGetLastError(), cudaSuccess); /* that it is not there yet is no error */
    assert_int_equal(g->reached(mark, true), 1);
    g->mark_free(mark);
    g->release(graph);
    assert_int_equal(graphs, 0);
    assert_int_equal(pinned_blocks, 0);
    /* one that is forgotten, and one that something spoils */
    graph = NULL;
    assert_int_equal(g->begin() || g->end(NULL), 0);
    assert_int_equal(g->begin(), 0);
    cudaStreamQuery(ld_cuda.stream);
    assert_int_equal(g->end(&graph), LD_EINTERNAL);
    assert_null(graph);
    assert_int_equal(ld_cuda_lost("x"), 0);
    assert_int_equal(graphs, 0);
    assert_int_equal(pinned_blocks, 0);
}

/* The last test: nothing comes after it on this device. */
static void an_error_that_stays(void **state) {
    (void)state;
    const ld_device_ops *o = ld_cuda_memory(0);
    char byte = 0;
    sticky = cudaErrorIllegalAddress;
    assert_int_equal(ld_cuda_launched("k_gather"), LD_EDEVICE);
    assert_non_null(
        strstr(ld_error(), "k_gather: cuda:0 is lost: an illegal memory access, in this operation or one shortly"));
    static const char later[] = "is lost since k_gather (an illegal memory access); nothing can be computed or copied";
    assert_int_equal(o->download(&byte, &byte, 1), LD_EDEVICE);
    assert_non_null(strstr(ld_error(), later));
    sticky = cudaSuccess;
    assert_int_equal(o->upload(&byte, &byte, 1), LD_EDEVICE);
    assert_int_equal(o->wait(), LD_EDEVICE);
    assert_int_equal(ld_cuda_failed("conv2d", "no"), LD_EDEVICE);
    assert_int_equal(ld_cuda_check(cudaSuccess, "add"), LD_EDEVICE);
    assert_non_null(strstr(ld_error(), later));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(chunks_come_and_go),
                                       cmocka_unit_test(a_pool_over_it),
                                       cmocka_unit_test(plans_are_backed_when_they_are_kept),
                                       cmocka_unit_test(without_address_space),
                                       cmocka_unit_test(copies_and_planning),
                                       cmocka_unit_test(errors_that_pass),
                                       cmocka_unit_test(staged_copies),
                                       cmocka_unit_test(recordings),
                                       cmocka_unit_test(an_error_that_stays)};
    space = calloc(1, (size_t)8 << 30);
    return space ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
