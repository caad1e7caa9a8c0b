#define _GNU_SOURCE /* dlinfo */

#include "backend/cuda/library.h"

#include "backend/cuda/cuda.h"
#include "backend/cuda/search.h"
#include "base/error.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
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
#define IN_D(f)     {#f, &d.f},
#define IN_CUDNN(f) {#f, &cudnn_functions.f},

/* A library while it is looked for, and then. */
typedef struct library {
    const char *name, *file; /* "cuDNN 9", "libcudnn.so.9" */
    const symbol *symbols;
    int n;
    bool (*fits)(char *why, size_t size); /* the functions are there: does the version do? NULL: any */
    bool ready, exists;                   /* exists: a file was found, and why says what is wrong with it */
    char path[512], why[600];
} library;

/* false: the library lacks `*lacks`. */
static bool resolve(void *handle, const library *l, const char **lacks) {
    for (int i = 0; i < l->n; i++) {
        void *f = dlsym(handle, l->symbols[i].name);
        *lacks = l->symbols[i].name;
        if (!f)
            return false;
        memcpy(l->symbols[i].at, &f, sizeof f);
    }
    return true;
}

/* What went wrong at the first place that had the file is kept: the others come after it because they matter less. */
static void keep_reason(library *l, bool exists, const char *path, const char *why) {
    if (l->exists || (*l->why && !exists))
        return;
    l->exists = exists;
    snprintf(l->why, sizeof l->why, "%.280s%s%.300s", path, *path ? " " : "", why);
}

static bool look(const char *path, void *arg) {
    library *l = arg;
    struct link_map *map = NULL;
    const char *lacks = "";
    char why[300] = "";
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *text = dlerror();
        /* of a bare name that the system does not know it speaks first; else of a file with a fault, or what that lacks */
        snprintf(why, sizeof why, "%.290s", text ? text : "does not load");
        bool absent = !text || !strncmp(text, l->file, strlen(l->file));
        keep_reason(l, !absent || strchr(path, '/'), "", why);
        return false;
    }
    const char *real = !dlinfo(handle, RTLD_DI_LINKMAP, &map) && map && *map->l_name ? map->l_name : path;
    if (!resolve(handle, l, &lacks)) {
        snprintf(why, sizeof why, "is too old: it lacks %s", lacks);
    } else if (!l->fits || l->fits(why, sizeof why)) {
        snprintf(l->path, sizeof l->path, "%s", real);
        return l->ready = true;
    }
    keep_reason(l, true, real, why);
    dlclose(handle);
    return false;
}

static bool load(library *l) {
    if (l->ready)
        return true;
    l->exists = false;
    *l->why = 0;
    return ld_cuda_search(l->file, look, l);
}

const char *ld_cuda_version_text(int version) {
    static char text[4][16];
    static int at;
    char *t = text[at++ & 3];
    snprintf(t, sizeof text[0], "%d.%d", version / 1000, version % 1000 / 10);
    return t;
}

const char *ld_cuda_library_version(size_t v) {
    static char text[4][32];
    static int at;
    char *t = text[at++ & 3];
    /* up to cuDNN 8 a number had one digit less: 8907 */
    bool old = v < 10000;
    snprintf(t, sizeof text[0], "%zu.%zu.%zu", v / (old ? 1000 : 10000), v / 100 % (old ? 10 : 100), v % 100);
    return t;
}

/* ---- the driver ------------------------------------------------------------------------------------------------------ */

static library driver = {.name = "the NVIDIA driver", .file = "libcuda.so.1"};

const ld_driver *ld_cuda_driver(const char *who) {
    static ld_driver d;
    const symbol symbols[] = {LD_DRIVER_FUNCTIONS(IN_D)};
    driver.symbols = symbols;
    driver.n = sizeof symbols / sizeof *symbols;
    if (load(&driver))
        return &d;
    if (driver.exists)
        return ld_fail_null(LD_EDEVICE, "%s: the NVIDIA driver will not do: %s; CUDA %s needs a newer one", who,
                            driver.why, ld_cuda_version_text(CUDART_VERSION));
    return ld_fail_null(LD_EDEVICE, "%s: there is no NVIDIA driver here: %s", who, driver.why);
}

/* ---- cuDNN and cuBLASLt ---------------------------------------------------------------------------------------------- */

static const void *missing(const library *l, const char *who) {
    if (l->exists)
        return ld_fail_null(LD_EDEVICE, "%s: no %s that will do: %s", who, l->name, l->why);
    return ld_fail_null(LD_EDEVICE,
                        "%s: %s is missing: no %s known to the system, below CUDA_HOME or /usr/local/cuda*, in "
                        "CONDA_PREFIX, or in the site-packages/nvidia of a python3 on the path; LD_CUDA_PATH names "
                        "other folders",
                        who, l->name, l->file);
}

static ld_cudnn cudnn_functions;

static bool cudnn_fits(char *why, size_t size) {
    size_t v = cudnn_functions.cudnnGetVersion();
    if (v >= CUDNN_LEAST)
        return true;
    snprintf(why, size, "is too old: it is %s, and %s or newer is needed", ld_cuda_library_version(v),
             ld_cuda_library_version(CUDNN_LEAST));
    return false;
}

static library cudnn = {.name = "cuDNN " TEXT(CUDNN_MAJOR), .file = CUDNN_FILE, .fits = cudnn_fits};
static library cublas = {.name = "cuBLASLt " TEXT(CUBLAS_VER_MAJOR), .file = CUBLAS_FILE};

const ld_cublas *ld_cuda_cublas(const char *who) {
    static ld_cublas d;
    const symbol symbols[] = {LD_CUBLAS_FUNCTIONS(IN_D)};
    cublas.symbols = symbols;
    cublas.n = sizeof symbols / sizeof *symbols;
    return load(&cublas) ? &d : missing(&cublas, who);
}

/* cuDNN loads cuBLASLt by its name when an engine wants it, and finds it wherever it is once it is loaded here. */
const ld_cudnn *ld_cuda_cudnn(const char *who) {
    if (!cudnn.ready)
        ld_cuda_cublas(who);
    const symbol symbols[] = {LD_CUDNN_FUNCTIONS(IN_CUDNN)};
    cudnn.symbols = symbols;
    cudnn.n = sizeof symbols / sizeof *symbols;
    return load(&cudnn) ? &cudnn_functions : missing(&cudnn, who);
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
