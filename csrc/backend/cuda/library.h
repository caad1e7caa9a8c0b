/* Shared libraries that the plug-in loads when it needs them: the driver, cuDNN, cuBLASLt. */
#ifndef LD_CUDA_LIBRARY_H
#define LD_CUDA_LIBRARY_H

#include "backend/cuda/functions.h"

#include <cublasLt.h>
#include <cuda.h>
#include <cudnn.h>
#include <stdbool.h>

/* Members are called as the functions. */
#define LD_LIBRARY_MEMBER(f) __typeof__(&f) f;
typedef struct ld_driver {
    LD_DRIVER_FUNCTIONS(LD_LIBRARY_MEMBER)
} ld_driver;
typedef struct ld_cudnn {
    LD_CUDNN_FUNCTIONS(LD_LIBRARY_MEMBER)
} ld_cudnn;
typedef struct ld_cublas {
    LD_CUBLAS_FUNCTIONS(LD_LIBRARY_MEMBER)
} ld_cublas;
#undef LD_LIBRARY_MEMBER

/* The library, loaded at the first call, from the first place (search.h) where one is that will do; NULL after ld_fail
 * (LD_EDEVICE): found nowhere, or those that were found do not load, lack functions, or are too old. `who` begins the
 * message. */
const ld_driver *ld_cuda_driver(const char *who);
const ld_cudnn *ld_cuda_cudnn(const char *who);
const ld_cublas *ld_cuda_cublas(const char *who);

/* For people: the files of the three, "" while they are not loaded. */
const char *ld_cuda_driver_file(void);
const char *ld_cuda_cudnn_file(void);
const char *ld_cuda_cublas_file(void);

/* "13.0" of 13000 */
const char *ld_cuda_version_text(int version);

#endif
