/* Finding and opening a device. */
#include "backend/cuda/cuda.h"

#include "backend/cuda/library.h"
#include "base/error.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

ld_cuda_state ld_cuda = {.ordinal = -1};

/* Convolutions and products take at most this much workspace: what the fastest ways of the method's layers want is less. */
#define WORKSPACE_MOST ((size_t)256 << 20)
/* What the kernels are built for: sm_80 and newer. */
enum { MAJOR_LEAST = 8 };

void *ld_cuda_stream(void) {
    return ld_cuda.stream;
}

int ld_cuda_processors(void) {
    return ld_cuda.processors;
}

/* The driver is there and new enough for the runtime that is linked in; its version, or -1 after ld_fail. */
static int driver_version(void) {
    const ld_driver *cu = ld_cuda_driver("device");
    int version = 0;
    if (!cu)
        return -1;
    int status = cu->cuDriverGetVersion(&version);
    if (status)
        return ld_fail(LD_EDEVICE, "device: the NVIDIA driver does not answer: cuDriverGetVersion gives error %d",
                       status),
               -1;
    if (version / 1000 < CUDART_VERSION / 1000)
        return ld_fail(LD_EDEVICE,
                       "device: the NVIDIA driver is too old: it knows CUDA %s, this ldlua was built with %s",
                       ld_cuda_version_text(version), ld_cuda_version_text(CUDART_VERSION)),
               -1;
    return version;
}

int ld_cuda_count(void) {
    int n = 0;
    if (driver_version() < 0)
        return -1;
    cudaError_t status = cudaGetDeviceCount(&n);
    if (status == cudaErrorNoDevice)
        return cudaGetLastError(), 0;
    if (status != cudaSuccess) {
        ld_fail(LD_EDEVICE, "device: the NVIDIA driver does not start: %s", cudaGetErrorString(status));
        cudaGetLastError();
        return -1;
    }
    return n;
}

/* Card, driver and cuDNN in one word. */
static void make_id(const struct cudaDeviceProp *p, int driver, size_t cudnn) {
    snprintf(ld_cuda.id, sizeof ld_cuda.id, "%.48s.driver%d.cudnn%zu", p->name, driver, cudnn);
    for (char *c = ld_cuda.id; *c; c++)
        if (isspace((unsigned char)*c))
            *c = '-';
}

static int check_card(const struct cudaDeviceProp *p, const char *name) {
    if (p->major >= MAJOR_LEAST)
        return 0;
    return ld_fail(LD_EDEVICE,
                   "device: %s is a %s of compute capability %d.%d; %d.0 (Ampere: A100, RTX 30) or newer is needed",
                   name, p->name, p->major, p->minor, MAJOR_LEAST);
}

int ld_cuda_open(int i, ld_device *d) {
    struct cudaDeviceProp p;
    int driver = driver_version();
    if (driver < 0)
        return LD_EDEVICE;
    int bad = ld_cuda_check(cudaGetDeviceProperties(&p, i), "device");
    if (!bad)
        bad = check_card(&p, d->name);
    const ld_cudnn *cudnn = bad ? NULL : ld_cuda_cudnn("device");
    if (!bad && !cudnn)
        bad = LD_EDEVICE;
    if (!bad)
        bad = ld_cuda_check(cudaSetDevice(i), "device");
    if (!bad)
        bad = ld_cuda_check(cudaStreamCreateWithFlags(&ld_cuda.stream, cudaStreamNonBlocking), "device");
    if (bad)
        return bad;
    ld_cuda.ordinal = i;
    ld_cuda.device = d;
    ld_cuda.processors = p.multiProcessorCount;
    ld_cuda.major = p.major;
    ld_cuda.minor = p.minor;
    ld_cuda.workspace_most = WORKSPACE_MOST;
    make_id(&p, driver, cudnn->cudnnGetVersion());
    d->backend = &ld_cuda_backend;
    d->ops = ld_cuda_memory(i);
    snprintf(d->text, sizeof d->text, "%.64s, compute capability %d.%d, %.1f GiB, CUDA %s, driver %s", p.name, p.major,
             p.minor, (double)p.totalGlobalMem / (1 << 30), ld_cuda_version_text(CUDART_VERSION),
             ld_cuda_version_text(driver));
    return 0;
}

/* ---- doctor ---------------------------------------------------------------------------------------------------------- */

static void say_card(ld_plugin_say *say, void *arg, int i) {
    struct cudaDeviceProp p;
    char what[32], text[256];
    size_t unused = 0, total = 0;
    snprintf(what, sizeof what, "device cuda:%d", i);
    if (cudaGetDeviceProperties(&p, i) != cudaSuccess) {
        say(arg, what, cudaGetErrorString(cudaGetLastError()));
        return;
    }
    bool known = cudaSetDevice(i) == cudaSuccess && cudaMemGetInfo(&unused, &total) == cudaSuccess;
    snprintf(text, sizeof text, "%.64s, compute capability %d.%d, %d processors, %.1f GiB, %.1f free%s", p.name,
             p.major, p.minor, p.multiProcessorCount, (double)p.totalGlobalMem / (1 << 30),
             known ? (double)unused / (1 << 30) : 0, p.major < MAJOR_LEAST ? "; too old, 8.0 is needed" : "");
    say(arg, what, text);
}

void ld_cuda_doctor(ld_plugin_say *say, void *arg) {
    char text[64];
    int version = driver_version(), n = version < 0 ? -1 : ld_cuda_count();
    snprintf(text, sizeof text, "CUDA %s", ld_cuda_version_text(CUDART_VERSION));
    say(arg, "toolkit it was built with", text);
    snprintf(text, sizeof text, "CUDA %s", ld_cuda_version_text(version));
    say(arg, "driver", version < 0 || n < 0 ? ld_error() : text);
    for (int i = 0; i < n; i++)
        say_card(say, arg, i);
    if (n == 0)
        say(arg, "devices", "none");
    const ld_cudnn *cudnn = ld_cuda_cudnn("doctor");
    size_t v = cudnn ? cudnn->cudnnGetVersion() : 0;
    snprintf(text, sizeof text, "%zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
    say(arg, "cuDNN", cudnn ? text : ld_error());
    const ld_cublas *blas = ld_cuda_cublas("doctor");
    v = blas ? blas->cublasLtGetVersion() : 0;
    snprintf(text, sizeof text, "%zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
    say(arg, "cuBLASLt", blas ? text : ld_error());
}
