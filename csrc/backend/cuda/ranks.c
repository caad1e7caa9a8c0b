/* What messages between cards take of CUDA: a stream of their own, marks in the one that computes, and sums in a fixed
 * order. */
#include "backend/cuda/cuda.h"

#include "backend/cuda/nccl.h"
#include "base/error.h"

#define WHO "ranks"

static cudaStream_t messages;

static int enter(void **stream) {
    int bad = ld_cuda_lost(WHO);
    if (!bad)
        bad = ld_cuda_check(cudaSetDevice(ld_cuda.ordinal), WHO);
    if (!bad && !messages)
        bad = ld_cuda_check(cudaStreamCreateWithFlags(&messages, cudaStreamNonBlocking), WHO);
    if (!bad)
        ld_cuda_use_stream(messages);
    *stream = messages;
    return bad;
}

static int done(void) {
    cudaError_t status = cudaStreamQuery(messages);
    if (status == cudaErrorNotReady)
        return 0;
    return ld_cuda_check(status, WHO) ? -1 : 1;
}

static int card(char *text, size_t room) {
    return ld_cuda_check(cudaDeviceGetPCIBusId(text, (int)room, ld_cuda.ordinal), WHO);
}

static void *event(void) {
    cudaEvent_t e = NULL;
    return ld_cuda_check(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), WHO) ? NULL : e;
}

static void event_drop(void *e) {
    if (e)
        cudaEventDestroy(e);
}

static int mark(void *e) {
    return ld_cuda_check(cudaEventRecord(e, ld_cuda.stream), WHO);
}

static int follow(void *e) {
    void *stream;
    int bad = enter(&stream);
    return bad ? bad : ld_cuda_check(cudaStreamWaitEvent(stream, e, 0), WHO);
}

/* By the slot's kernel: the same bytes as where one rank adds. */
static int add(float *y, const float *x, int64_t n) {
    ld_view to = {.dtype = LD_F32, .ndim = 1, .shape = {n}, .stride = {1}, .data = y}, from = to;
    from.data = (void *)(uintptr_t)x;
    return ld_cuda_axpby(&to, &from, 1, 1);
}

const ld_device_ranks *ld_cuda_ranks(void) {
    static const ld_nccl_device device = {enter, done};
    static ld_device_ranks ranks = {
        .card = card, .event = event, .event_drop = event_drop, .mark = mark, .follow = follow, .add = add};
    ld_nccl_ranks(&ranks, &device);
    return &ranks;
}
