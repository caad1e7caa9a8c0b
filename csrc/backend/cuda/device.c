/* Finding and opening a device. */
#include "backend/cuda/cuda.h"

#include "backend/cuda/library.h"
#include "backend/cuda/load.h"
#include "backend/cuda/nccl.h"
#include "base/error.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ld_cuda_state ld_cuda = {.ordinal = -1};

/* Convolutions and products take at most this much workspace: what the fastest ways of the method's layers want is less. */
#define WORKSPACE_MOST ((size_t)256 << 20)
/* What the kernels are built for: sm_80 and newer. */
enum { MAJOR_LEAST = 8 };

static __thread cudaStream_t own_stream; /* of the thread of messages between ranks */

void *ld_cuda_stream(void) {
    return own_stream ? own_stream : ld_cuda.stream;
}

void ld_cuda_use_stream(cudaStream_t s) {
    own_stream = s;
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

/* What a driver that does not start may suffer from, besides its own word for it. */
static const char *advice(CUresult r) {
    switch (r) {
    case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
        return "; the kernel's part and libcuda.so.1 are of different versions: after an update the machine has to "
               "start "
               "again";
    case CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE:
        return "; this libcuda.so.1 is one for compatibility, which not every card takes";
    case CUDA_ERROR_SYSTEM_NOT_READY:
        return "; a service that the cards need (nvidia-fabricmanager) does not run";
    case CUDA_ERROR_UNKNOWN:
        return "; its kernel part may not be loaded, or /dev/nvidia* not be allowed here: nvidia-smi tells";
    default:
        return "";
    }
}

/* The driver is started. 0, CUDA_ERROR_NO_DEVICE, or -1 after ld_fail. */
static int start_driver(void) {
    const ld_driver *cu = ld_cuda_driver("device");
    const char *text = NULL;
    CUresult r = cu ? cu->cuInit(0) : CUDA_SUCCESS;
    if (!cu)
        return -1;
    if (r == CUDA_SUCCESS || r == CUDA_ERROR_NO_DEVICE)
        return (int)r;
    if (cu->cuGetErrorString(r, &text) || !text)
        text = "no reason given";
    ld_fail(LD_EDEVICE, "device: the NVIDIA driver does not start: %s (error %d)%s", text, (int)r, advice(r));
    return -1;
}

static int no_card(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible)
        ld_fail(LD_EDEVICE, "device: the NVIDIA driver shows no card; CUDA_VISIBLE_DEVICES is '%s'", visible);
    else
        ld_fail(LD_EDEVICE, "device: the NVIDIA driver finds no card");
    return -1;
}

int ld_cuda_count(void) {
    int n = 0, started = driver_version() < 0 ? -1 : start_driver();
    if (started)
        return started < 0 ? -1 : no_card();
    cudaError_t status = cudaGetDeviceCount(&n);
    if (status != cudaSuccess) {
        cudaGetLastError();
        if (status != cudaErrorNoDevice)
            return ld_fail(LD_EDEVICE, "device: CUDA does not start: %s", cudaGetErrorString(status)), -1;
    }
    return status == cudaSuccess && n ? n : no_card();
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

/* The first calls that reach the card: some of their errors have causes that are known. */
static int check_open(cudaError_t status, const char *name) {
    if (status == cudaSuccess)
        return 0;
    cudaGetLastError();
    if (status == cudaErrorMemoryAllocation)
        return ld_fail(
            LD_EMEM,
            "device: %s has no memory left for this program to begin: other programs hold it (nvidia-smi lists "
            "them)",
            name);
    if (status == cudaErrorDevicesUnavailable)
        return ld_fail(LD_EDEVICE,
                       "device: %s is another program's alone (its compute mode is exclusive, or it is being "
                       "reset)",
                       name);
    return ld_fail(LD_EDEVICE, "device: %s does not open: %s", name, cudaGetErrorString(status));
}

int ld_cuda_open(int i, ld_device *d) {
    struct cudaDeviceProp p;
    int driver = driver_version();
    if (driver < 0)
        return LD_EDEVICE;
    int bad = check_open(cudaGetDeviceProperties(&p, i), d->name);
    if (!bad)
        bad = check_card(&p, d->name);
    const ld_cudnn *cudnn = bad ? NULL : ld_cuda_cudnn("device");
    if (!bad && !cudnn)
        bad = LD_EDEVICE;
    if (!bad && !ld_cuda_cublas("device"))
        bad = LD_EDEVICE;
    if (!bad)
        bad = check_open(cudaSetDevice(i), d->name);
    if (!bad)
        bad = check_open(cudaStreamCreateWithFlags(&ld_cuda.stream, cudaStreamNonBlocking), d->name);
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
    d->ranks = ld_cuda_ranks();
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

static void say_driver(ld_plugin_say *say, void *arg, int version, int n) {
    char text[768];
    if (version < 0) {
        say(arg, "driver", ld_error());
        return;
    }
    snprintf(text, sizeof text, "CUDA %s (%s)", ld_cuda_version_text(version), ld_cuda_driver_file());
    say(arg, "driver", text);
    FILE *f = fopen("/proc/driver/nvidia/version", "r");
    if (f && fgets(text, sizeof text, f)) {
        text[strcspn(text, "\n")] = 0;
        say(arg, "driver of the kernel", strncmp(text, "NVRM version: ", 14) ? text : text + 14);
    }
    if (f)
        fclose(f);
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible)
        say(arg, "CUDA_VISIBLE_DEVICES", visible);
    if (n < 0)
        say(arg, "devices", ld_error());
}

static void say_library(ld_plugin_say *say, void *arg, const char *name, bool found, size_t version, const char *file) {
    char text[768];
    snprintf(text, sizeof text, "%s (%s)", ld_cuda_library_version(version), file);
    say(arg, name, found ? text : ld_error());
}

void ld_cuda_doctor(ld_plugin_say *say, void *arg) {
    char text[64];
    snprintf(text, sizeof text, "CUDA %s", ld_cuda_version_text(CUDART_VERSION));
    say(arg, "toolkit it was built with", text);
    int version = driver_version(), n = version < 0 ? -1 : ld_cuda_count();
    say_driver(say, arg, version, n);
    for (int i = 0; i < n; i++)
        say_card(say, arg, i);
    const ld_cudnn *cudnn = ld_cuda_cudnn("doctor");
    say_library(say, arg, "cuDNN", cudnn != NULL, cudnn ? cudnn->cudnnGetVersion() : 0, ld_cuda_cudnn_file());
    const ld_cublas *blas = ld_cuda_cublas("doctor");
    say_library(say, arg, "cuBLASLt", blas != NULL, blas ? blas->cublasLtGetVersion() : 0, ld_cuda_cublas_file());
    int nccl = ld_nccl_version("doctor");
    say_library(say, arg, "NCCL, for several ranks", nccl > 0, (size_t)nccl, ld_nccl_file());
}
