/* What kernels ask of the host side (kernels/slots.h), and what tests do (control.h, on_device.h), on a card, over CUDA's
 * run-time library alone. Orders of threads are the card's own. */
#include "control.h"
#include "kernels/kernel.h"
#include "on_device.h"

#include "fragment.cpp" /* beside the simulator it is a file of its own */

enum { ALIGNED = 256 };
static const size_t arena_bytes = (size_t)512 << 20;
static struct {
    char *base;
    size_t used;
    int64_t live, workspaces, fail_at;
    int processors;
} device;

static int check(cudaError_t e, const char *what) {
    return e == cudaSuccess ? 0 : ld_fail(LD_EINTERNAL, "%s: %s", what, cudaGetErrorString(e));
}

/* ---- slots.h --------------------------------------------------------------------------------------------------------- */

void *ld_cuda_stream(void) {
    return NULL;
}

bool ld_cuda_idle(void) {
    return false;
}

void *ld_cuda_workspace(size_t bytes, const char *who) {
    void *p = NULL;
    if (device.fail_at && --device.fail_at == 0)
        return ld_fail(LD_EMEM, "out of memory: %s needs %zu bytes, and was made to fail", who, bytes), p;
    if (check(cudaMalloc(&p, bytes ? bytes : 1), who) || check(cudaMemset(p, 0xff, bytes), who))
        return NULL;
    device.workspaces++;
    return p;
}

void ld_cuda_workspace_done(void *block) {
    device.workspaces -= block != NULL;
    cudaFree(block); /* which waits for the device */
}

int ld_cuda_workspace_missing(void) {
    return ld_error_code();
}

int ld_cuda_upload(void *to, const void *from, size_t bytes) {
    return check(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "upload");
}

int ld_cuda_download(void *to, const void *from, size_t bytes) {
    return check(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "download");
}

int ld_cuda_launched(const char *kernel) {
    return check(cudaGetLastError(), kernel);
}

int ld_cuda_processors(void) {
    return device.processors;
}

/* ---- tests ----------------------------------------------------------------------------------------------------------- */

const char *ld_test_missing(void) {
    int count = 0, managed = 0;
    cudaError_t e = cudaGetDeviceCount(&count);
    if (e != cudaSuccess || count == 0)
        return e != cudaSuccess ? cudaGetErrorString(e) : "no CUDA device";
    cudaDeviceGetAttribute(&managed, cudaDevAttrManagedMemory, 0);
    cudaDeviceGetAttribute(&device.processors, cudaDevAttrMultiProcessorCount, 0);
    if (!managed)
        return "the device has no managed memory";
    e = cudaMallocManaged((void **)&device.base, arena_bytes);
    return e == cudaSuccess ? NULL : cudaGetErrorString(e);
}

void *ld_test_alloc(size_t bytes) {
    size_t at = device.used, whole = (bytes + ALIGNED - 1) / ALIGNED * ALIGNED;
    if (at + whole > arena_bytes)
        return NULL;
    device.used += whole;
    device.live++;
    return device.base + at;
}

void ld_test_free(void *p) {
    char *c = (char *)p;
    if (c < device.base || c >= device.base + arena_bytes)
        free(p);
    else if (--device.live == 0)
        device.used = 0;
}

int ld_test_wait(void) {
    return check(cudaDeviceSynchronize(), "the device");
}

void ld_sim_set_order(ld_sim_order, uint64_t) {
}

void ld_sim_set_processors(int) {
}

int64_t ld_sim_workspaces(void) {
    return device.workspaces;
}

int64_t ld_sim_launches(void) {
    return 0;
}

void ld_sim_fail_workspace(int64_t k) {
    device.fail_at = k;
}
