/* For tests of the plug-in's host side without a card: what its files ask of each other, over the simulator of tests/sim,
 * whose device memory is the host's. */
#ifndef LD_TEST_CUDA_HOST_H
#define LD_TEST_CUDA_HOST_H

#include "../sim/orders.h"
#include "backend/cuda/cuda.h"

ld_cuda_state ld_cuda = {.ordinal = 0, .id = "a-card", .workspace_most = (size_t)256 << 20};

int ld_cuda_lost(const char *who) {
    (void)who;
    return 0;
}

int ld_cuda_failed(const char *who, const char *what) {
    char text[512];
    snprintf(text, sizeof text, "%s", what);
    return ld_fail(LD_EINTERNAL, "%s: %s", who, text);
}

int ld_cuda_check(cudaError_t status, const char *who) {
    return status == cudaSuccess ? 0 : ld_cuda_failed(who, "CUDA");
}

bool ld_cuda_idle(void) {
    return false;
}

#endif
