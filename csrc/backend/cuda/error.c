/* Errors of the device. Some are an operation's own (out of memory, a launch that cannot be); others spoil the context: every
 * later call returns them again, and only a new process helps. Work is asynchronous, so the operation that finds such an error
 * need not be the one that caused it: CUDA_LAUNCH_BLOCKING=1 makes each launch wait, and then it is. */
#include "base/error.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/library.h"

#include <stdio.h>

static char lost[256]; /* what took the device, "" while it is there */

int ld_cuda_lost(const char *who) {
    if (!*lost)
        return 0;
    return ld_fail(LD_EDEVICE,
                   "%s: %s is lost since %s; nothing can be computed or copied from it any more; end the program", who,
                   ld_cuda.device ? ld_cuda.device->name : "the device", lost);
}

/* Errors that leave the context as it was go away when they are asked for. A stream that is recorded must not be asked: what
 * took the device shows at the next operation. */
static bool stays(void) {
    cudaGetLastError();
    if (ld_cuda_recording())
        return false;
    cudaError_t now = ld_cuda.stream ? cudaStreamQuery(ld_cuda.stream) : cudaGetLastError();
    return now != cudaSuccess && now != cudaErrorNotReady;
}

static int found(const char *who, const char *what) {
    snprintf(lost, sizeof lost, "%s (%s)", who, what);
    return ld_fail(
        LD_EDEVICE,
        "%s: %s is lost: %s, in this operation or one shortly before it (CUDA_LAUNCH_BLOCKING=1 tells which); "
        "end the program; what is in the host's memory can still be saved",
        who, ld_cuda.device ? ld_cuda.device->name : "the device", what);
}

int ld_cuda_check(cudaError_t status, const char *who) {
    if (*lost)
        return ld_cuda_lost(who);
    if (status == cudaSuccess)
        return 0;
    if (stays())
        return found(who, cudaGetErrorString(status));
    if (status == cudaErrorMemoryAllocation)
        return ld_fail(LD_EMEM, "%s: out of memory on the device", who);
    return ld_fail(LD_EINTERNAL, "%s: CUDA: %s", who, cudaGetErrorString(status));
}

int ld_cuda_failed(const char *who, const char *what) {
    if (*lost)
        return ld_cuda_lost(who);
    return stays() ? found(who, what) : ld_fail(LD_EINTERNAL, "%s: %s", who, what);
}

int ld_cuda_launched(const char *kernel) {
    return ld_cuda_check(cudaGetLastError(), kernel);
}
