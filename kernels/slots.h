/* The slots of backend/backend.h as CUDA implements them: ld_cuda_<slot>, with the slot's parameters. Data pointers of
 * views are device memory. Where the contract says floats these take f32, bf16, f16 and f64 (arithmetic and sums of 16-bit
 * types in f32; losses and their gradients may then be f32); parameters and states of optimisers are f32 or f64. Work goes
 * to the one stream; nothing waits for it, except where a number comes back to the host (sumsq). For C and C++. */
#ifndef LD_CUDA_SLOTS_H
#define LD_CUDA_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "backend/backend.h"

#define LD_CUDA_DECLARE(slot, args) int ld_cuda_##slot args;
LD_SLOTS(LD_CUDA_DECLARE)
#undef LD_CUDA_DECLARE

/* What kernels ask of the host side: csrc/backend/cuda implements it over the driver and the pool, tests/sim over malloc. */

void *ld_cuda_stream(void); /* a cudaStream_t */
/* Device memory, aligned to 256 bytes, for use by the stream until it is given back; given back, it may be used by work
 * that comes later in the stream. NULL after ld_fail, or while memory is planned: a slot asks once, for all it needs, before
 * it launches anything, and returns what ld_cuda_workspace_missing says on NULL. */
void *ld_cuda_workspace(size_t bytes, const char *who);
void ld_cuda_workspace_done(void *block);
int ld_cuda_workspace_missing(void); /* 0 while planning, else the error's code */
/* Copies in the order of the stream. The host's memory may change once upload returns; download waits for the stream. */
int ld_cuda_upload(void *device, const void *host, size_t bytes);
int ld_cuda_download(void *host, const void *device, size_t bytes);
/* After a launch: 0, or LD_EINTERNAL after ld_fail with the kernel's name. */
int ld_cuda_launched(const char *kernel);
int ld_cuda_processors(void); /* of the device: streaming multiprocessors */

#ifdef __cplusplus
}
#endif

#endif
