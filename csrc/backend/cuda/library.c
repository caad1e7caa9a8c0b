#include "backend/cuda/library.h"

#include "backend/cuda/cuda.h"
#include "base/error.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT(x)   TEXT_1(x)
#define TEXT_1(x) #x

/* cuDNN 9 keeps its interface; what the plans use is in 9.0. cuBLASLt's name has the toolkit's major version. */
enum { CUDNN_LEAST = 90000 };
#define CUDNN_FILE  "libcudnn.so." TEXT(CUDNN_MAJOR)
#define CUBLAS_FILE "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR)

typedef struct symbol {
    const char *name;
    void *at; /* a function pointer to set */
} symbol;

/* false: the library lacks `*lacks`. */
static bool resolve(void *library, const symbol *s, int n, const char **lacks) {
    for (int i = 0; i < n; i++) {
        void *f = dlsym(library, s[i].name);
        *lacks = s[i].name;
        if (!f)
            return false;
        memcpy(s[i].at, &f, sizeof f);
    }
    return true;
}

/* The library by its name, as the system finds it, then beside the toolkit. NULL: *why says what dlopen did. */
static void *open_library(const char *file, const char **why) {
    const char *home = getenv("CUDA_HOME");
    const char *const folders[] = {home ? home : "/usr/local/cuda", "/usr/local/cuda"};
    static char first[256];
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (library)
        return library;
    const char *text = dlerror();
    snprintf(first, sizeof first, "%s", text ? text : "no reason given");
    *why = first;
    for (int i = 0; i < 4 && !library; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s/%s", folders[i / 2], i % 2 ? "lib" : "lib64", file);
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    return library;
}

const char *ld_cuda_version_text(int version) {
    static char text[4][16];
    static int at;
    char *t = text[at++ & 3];
    snprintf(t, sizeof text[0], "%d.%d", version / 1000, version % 1000 / 10);
    return t;
}

const ld_driver *ld_cuda_driver(const char *who) {
    static ld_driver d;
    static bool ready;
    const char *why = "", *lacks;
    if (ready)
        return &d;
    void *library = open_library("libcuda.so.1", &why);
    if (!library)
        return ld_fail_null(LD_EDEVICE, "%s: there is no NVIDIA driver here: %s", who, why);
#define ENTRY(f) {#f, &d.f},
    const symbol symbols[] = {LD_DRIVER_FUNCTIONS(ENTRY)};
    if (!resolve(library, symbols, sizeof symbols / sizeof *symbols, &lacks))
        return ld_fail_null(LD_EDEVICE,
                            "%s: the NVIDIA driver is too old: libcuda.so.1 lacks %s; CUDA %s needs a newer one", who,
                            lacks, ld_cuda_version_text(CUDART_VERSION));
    ready = true;
    return &d;
}

const ld_cudnn *ld_cuda_cudnn(const char *who) {
    static ld_cudnn d;
    static bool ready;
    const char *why = "", *lacks = "";
    if (ready)
        return &d;
    void *library = open_library(CUDNN_FILE, &why);
    if (!library)
        return ld_fail_null(LD_EDEVICE, "%s: cuDNN " TEXT(CUDNN_MAJOR) " is missing: %s", who, why);
    const symbol symbols[] = {LD_CUDNN_FUNCTIONS(ENTRY)};
    bool whole = resolve(library, symbols, sizeof symbols / sizeof *symbols, &lacks);
    if (!whole || d.cudnnGetVersion() < CUDNN_LEAST) {
        dlclose(library);
        return ld_fail_null(LD_EDEVICE, "%s: cuDNN is too old: %s; 9.0 or newer is needed", who,
                            whole ? "its version is below 9" : lacks);
    }
    ready = true;
    return &d;
}

const ld_cublas *ld_cuda_cublas(const char *who) {
    static ld_cublas d;
    static bool ready;
    const char *why = "", *lacks;
    if (ready)
        return &d;
    void *library = open_library(CUBLAS_FILE, &why);
    if (!library)
        return ld_fail_null(LD_EDEVICE, "%s: cuBLASLt " TEXT(CUBLAS_VER_MAJOR) " is missing: %s", who, why);
    const symbol symbols[] = {LD_CUBLAS_FUNCTIONS(ENTRY)};
    if (!resolve(library, symbols, sizeof symbols / sizeof *symbols, &lacks)) {
        dlclose(library);
        return ld_fail_null(LD_EDEVICE, "%s: cuBLASLt is too old: it lacks %s", who, lacks);
    }
    ready = true;
    return &d;
}
