#include "backend/cuda/library.h"

#include "backend/cuda/cuda.h"
#include "backend/cuda/load.h"
#include "base/error.h"

#include <stdio.h>
#include <string.h>

#define TEXT(x)   TEXT_1(x)
#define TEXT_1(x) #x

/* cuDNN 9 keeps its interface; what the plans use is in 9.0. cuBLASLt's name has the toolkit's major version. */
enum { CUDNN_LEAST = 90000 };
#define CUDNN_FILE  "libcudnn.so." TEXT(CUDNN_MAJOR)
#define CUBLAS_FILE "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR)

#define IN_D(f)     {#f, &d.f},
#define IN_CUDNN(f) {#f, &cudnn_functions.f},

const char *ld_cuda_version_text(int version) {
    static char text[4][16];
    static int at;
    char *t = text[at++ & 3];
    snprintf(t, sizeof text[0], "%d.%d", version / 1000, version % 1000 / 10);
    return t;
}

/* ---- the driver ------------------------------------------------------------------------------------------------------ */

static ld_library driver = {.name = "the NVIDIA driver", .file = "libcuda.so.1"};

const ld_driver *ld_cuda_driver(const char *who) {
    static ld_driver d;
    const ld_symbol symbols[] = {LD_DRIVER_FUNCTIONS(IN_D)};
    driver.symbols = symbols;
    driver.n = sizeof symbols / sizeof *symbols;
    if (ld_library_load(&driver))
        return &d;
    if (driver.exists)
        return ld_fail_null(LD_EDEVICE, "%s: the NVIDIA driver will not do: %s; CUDA %s needs a newer one", who,
                            driver.why, ld_cuda_version_text(CUDART_VERSION));
    return ld_fail_null(LD_EDEVICE, "%s: there is no NVIDIA driver here: %s", who, driver.why);
}

/* ---- cuDNN and cuBLASLt ---------------------------------------------------------------------------------------------- */

static ld_cudnn cudnn_functions;

static bool cudnn_fits(char *why, size_t size) {
    size_t v = cudnn_functions.cudnnGetVersion();
    if (v >= CUDNN_LEAST)
        return true;
    snprintf(why, size, "is too old: it is %s, and %s or newer is needed", ld_cuda_library_version(v),
             ld_cuda_library_version(CUDNN_LEAST));
    return false;
}

static ld_library cudnn = {.name = "cuDNN " TEXT(CUDNN_MAJOR), .file = CUDNN_FILE, .fits = cudnn_fits};
static ld_library cublas = {.name = "cuBLASLt " TEXT(CUBLAS_VER_MAJOR), .file = CUBLAS_FILE};

const ld_cublas *ld_cuda_cublas(const char *who) {
    static ld_cublas d;
    const ld_symbol symbols[] = {LD_CUBLAS_FUNCTIONS(IN_D)};
    cublas.symbols = symbols;
    cublas.n = sizeof symbols / sizeof *symbols;
    return ld_library_load(&cublas) ? &d : ld_library_missing(&cublas, who);
}

/* cuDNN loads cuBLASLt by its name when an engine wants it, and finds it wherever it is once it is loaded here. */
const ld_cudnn *ld_cuda_cudnn(const char *who) {
    if (!cudnn.ready)
        ld_cuda_cublas(who);
    const ld_symbol symbols[] = {LD_CUDNN_FUNCTIONS(IN_CUDNN)};
    cudnn.symbols = symbols;
    cudnn.n = sizeof symbols / sizeof *symbols;
    return ld_library_load(&cudnn) ? &cudnn_functions : ld_library_missing(&cudnn, who);
}

const char *ld_cuda_driver_file(void) {
    return driver.path;
}

const char *ld_cuda_cudnn_file(void) {
    return cudnn.path;
}

const char *ld_cuda_cublas_file(void) {
    return cublas.path;
}
