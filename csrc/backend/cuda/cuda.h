/* The host side of the CUDA plug-in: one device, one stream, errors, memory, workspace.
 *
 * The plug-in links the CUDA runtime alone (statically). The driver, cuDNN and cuBLASLt are loaded by name when they are
 * first needed (library.h), so that what is missing is a message. It is built without a symbol of the program: host.c passes
 * what it needs of the core (ld_fail, the pool, tuning) on to the table that the program handed over. */
#ifndef LD_CUDA_H
#define LD_CUDA_H

#include "backend/plugin.h"
#include "kernels/slots.h"

#include <cuda_runtime_api.h>

extern const ld_plugin_host *ld_cuda_host;
extern const ld_backend ld_cuda_backend;
const ld_backend *ld_cuda_plan(void);

/* The device in use. */
typedef struct ld_cuda_state {
    int ordinal; /* -1: none is open */
    ld_device *device;
    cudaStream_t stream;
    int processors;        /* streaming multiprocessors */
    int major, minor;      /* compute capability */
    char id[96];           /* card, driver and cuDNN, without blanks: what timed choices belong to */
    size_t workspace_most; /* bytes that a convolution or a product may take */
} ld_cuda_state;
extern ld_cuda_state ld_cuda;

/* ---- errors: error.c ------------------------------------------------------------------------------------------------- */

/* 0, or an error code after ld_fail: LD_EMEM; LD_EDEVICE where the device is lost, now or since an earlier operation, which
 * the message names; LD_EINTERNAL. */
int ld_cuda_check(cudaError_t status, const char *who);
/* The same for an error of the driver or a library that has no cudaError_t: whether it took the device with it. */
int ld_cuda_failed(const char *who, const char *what);
int ld_cuda_lost(const char *who); /* 0, or LD_EDEVICE after ld_fail */

/* ---- the plug-in's parts ---------------------------------------------------------------------------------------------- */

int ld_cuda_count(void);
int ld_cuda_open(int i, ld_device *d);
void ld_cuda_doctor(ld_plugin_say *say, void *arg);
/* graph.c: work of the stream is recorded and not done; what a copy to the device reads is kept with the recording. */
bool ld_cuda_recording(void);
int ld_cuda_record_upload(void *device, const void *host, size_t bytes);
extern const ld_graph_ops ld_cuda_graph_ops;
/* memory.c: what of the device's memory functions this driver and card can do. */
const ld_device_ops *ld_cuda_memory(int ordinal);
/* ranks.c: messages between cards. */
const ld_device_ranks *ld_cuda_ranks(void);
/* Kernels that the calling thread launches go to s; those of other threads to the stream that computes. */
void ld_cuda_use_stream(cudaStream_t s);

#endif
