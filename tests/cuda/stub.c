/* Stand-ins for libcuda, libcudnn and libcublasLt, for tests of what is said when they are not as they should be. Each file
 * has all functions that the plug-in looks for; they fail, but for those that tell versions and start. The environment says:
 *
 *   STUB_DRIVER, STUB_CUDNN   version numbers: 13000, 91300
 *   STUB_INIT                 what cuInit returns
 *
 * Built with -DSTUB_CUDA, -DSTUB_CUDNN, -DSTUB_CUBLAS, or -DSTUB_OLD_CUDA: a driver of before the functions that are needed. */
#include "backend/cuda/functions.h"

#include <stdlib.h>

__attribute__((unused)) static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

#define FAILS(f)                                                                                                       \
    int f(void) {                                                                                                      \
        return 999;                                                                                                    \
    }

/* Those that are written out here get another name in the lists that follow. */
#if defined(STUB_CUDA)
int cuInit(unsigned flags) {
    (void)flags;
    return number("STUB_INIT", 100);
}
int cuDriverGetVersion(int *version) {
    *version = number("STUB_DRIVER", 13000);
    return 0;
}
int cuGetErrorString(int error, const char **text) {
    *text = error == 803 ? "system has unsupported display driver / cuda driver combination" : "unknown error";
    return 0;
}
#define cuInit             other_1
#define cuDriverGetVersion other_2
#define cuGetErrorString   other_3
LD_DRIVER_FUNCTIONS(FAILS)
#elif defined(STUB_OLD_CUDA)
int cuInit(unsigned flags) {
    (void)flags;
    return 0;
}
#elif defined(STUB_CUDNN)
size_t cudnnGetVersion(void) {
    return (size_t)number("STUB_CUDNN", 91300);
}
#define cudnnGetVersion other_1
LD_CUDNN_FUNCTIONS(FAILS)
#elif defined(STUB_CUBLAS)
size_t cublasLtGetVersion(void) {
    return 130002;
}
#define cublasLtGetVersion other_1
LD_CUBLAS_FUNCTIONS(FAILS)
#endif
