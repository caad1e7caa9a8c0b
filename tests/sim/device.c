/* The host side that kernels ask for (kernels/slots.h), over malloc: "device" memory is the host's, and work is done when
 * the launch returns. */
#include "base/error.h"
#include "control.h"
#include "kernels/slots.h"

#include <stdlib.h>
#include <string.h>

static int processors = 3;
static int64_t blocks, fail_at;

void *ld_cuda_stream(void) {
    return NULL;
}

int ld_cuda_processors(void) {
    return processors;
}

void *ld_cuda_workspace(size_t bytes, const char *who) {
    if (fail_at && --fail_at == 0)
        return ld_fail_null(LD_EMEM, "out of memory: %s needs %zu bytes, and was made to fail", who, bytes);
    void *p = NULL;
    if (posix_memalign(&p, 256, bytes ? bytes : 1))
        return ld_fail_null(LD_EMEM, "out of memory: %s needs %zu bytes", who, bytes);
    memset(p, 0xff, bytes);
    blocks++;
    return p;
}

void ld_cuda_workspace_done(void *block) {
    blocks -= block != NULL;
    free(block);
}

int ld_cuda_workspace_missing(void) {
    return ld_error_code();
}

int ld_cuda_upload(void *device, const void *host, size_t bytes) {
    memcpy(device, host, bytes);
    return 0;
}

int ld_cuda_download(void *host, const void *device, size_t bytes) {
    memcpy(host, device, bytes);
    return 0;
}

void ld_sim_set_processors(int n) {
    processors = n;
}

int64_t ld_sim_workspaces(void) {
    return blocks;
}

void ld_sim_fail_workspace(int64_t k) {
    fail_at = k;
}
