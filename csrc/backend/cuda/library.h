/* Shared libraries that the plug-in loads when it needs them: the driver, cuDNN, cuBLASLt. */
#ifndef LD_CUDA_LIBRARY_H
#define LD_CUDA_LIBRARY_H

#include <cublasLt.h>
#include <cuda.h>
#include <cudnn.h>
#include <stdbool.h>

/* Functions of the driver. The runtime has no others for address space and memory apart from each other. */
#define LD_DRIVER_FUNCTIONS(X)                                                                                         \
    X(cuInit)                                                                                                          \
    X(cuDriverGetVersion)                                                                                              \
    X(cuDeviceGet)                                                                                                     \
    X(cuDeviceGetAttribute)                                                                                            \
    X(cuGetErrorString)                                                                                                \
    X(cuMemAddressReserve)                                                                                             \
    X(cuMemAddressFree)                                                                                                \
    X(cuMemCreate)                                                                                                     \
    X(cuMemRelease)                                                                                                    \
    X(cuMemMap)                                                                                                        \
    X(cuMemUnmap)                                                                                                      \
    X(cuMemSetAccess)

#define LD_CUDNN_FUNCTIONS(X)                                                                                          \
    X(cudnnGetVersion)                                                                                                 \
    X(cudnnGetErrorString)                                                                                             \
    X(cudnnGetLastErrorString)                                                                                         \
    X(cudnnCreate)                                                                                                     \
    X(cudnnSetStream)                                                                                                  \
    X(cudnnBackendCreateDescriptor)                                                                                    \
    X(cudnnBackendDestroyDescriptor)                                                                                   \
    X(cudnnBackendSetAttribute)                                                                                        \
    X(cudnnBackendGetAttribute)                                                                                        \
    X(cudnnBackendFinalize)                                                                                            \
    X(cudnnBackendExecute)

#define LD_CUBLAS_FUNCTIONS(X)                                                                                         \
    X(cublasLtGetVersion)                                                                                              \
    X(cublasLtGetStatusString)                                                                                         \
    X(cublasLtCreate)                                                                                                  \
    X(cublasLtMatmul)                                                                                                  \
    X(cublasLtMatmulDescCreate)                                                                                        \
    X(cublasLtMatmulDescDestroy)                                                                                       \
    X(cublasLtMatmulDescSetAttribute)                                                                                  \
    X(cublasLtMatrixLayoutCreate)                                                                                      \
    X(cublasLtMatrixLayoutDestroy)                                                                                     \
    X(cublasLtMatrixLayoutSetAttribute)                                                                                \
    X(cublasLtMatmulPreferenceCreate)                                                                                  \
    X(cublasLtMatmulPreferenceDestroy)                                                                                 \
    X(cublasLtMatmulPreferenceSetAttribute)                                                                            \
    X(cublasLtMatmulAlgoGetHeuristic)

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

/* The library, loaded at the first call; NULL after ld_fail (LD_EDEVICE): not found, or too old. `who` begins the message. */
const ld_driver *ld_cuda_driver(const char *who);
const ld_cudnn *ld_cuda_cudnn(const char *who);
const ld_cublas *ld_cuda_cublas(const char *who);

/* "13.0" of 13000 */
const char *ld_cuda_version_text(int version);

#endif
