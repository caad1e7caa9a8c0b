/* What the plug-in says when driver, cuDNN, cuBLASLt or the card are not as they should be, and where it looks for them: its
 * own code over stand-ins of the libraries (stub.c) and a runtime that is written out here. Every case is a process of its
 * own, because libraries stay loaded. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/library.h"
#include "backend/cuda/search.h"
#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define TEXT(x)   TEXT_1(x)
#define TEXT_1(x) #x
#define CUDNN     "libcudnn.so." TEXT(CUDNN_MAJOR)
#define CUBLAS    "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR)

/* ---- what device.c asks of the other files, and a runtime ------------------------------------------------------------- */

const ld_backend ld_cuda_backend;
const ld_device_ops *ld_cuda_memory(int ordinal) {
    static const ld_device_ops ops;
    (void)ordinal;
    return &ops;
}

/* And error.c: nothing is recorded here. */
bool ld_cuda_recording(void) {
    return false;
}

const ld_device_ranks *ld_cuda_ranks(void) {
    return NULL;
}

static struct {
    cudaError_t count, properties, set, stream;
    int cards, major;
} runtime;

cudaError_t cudaGetDeviceCount(int *n) {
    *n = runtime.cards;
    return runtime.count;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int i) {
    (void)i;
    *p = (struct cudaDeviceProp){.name = "A Card", .major = runtime.major, .multiProcessorCount = 68};
    p->totalGlobalMem = (size_t)10 << 30;
    return runtime.properties;
}
cudaError_t cudaSetDevice(int i) {
    (void)i;
    return runtime.set;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) {
    (void)flags;
    *s = (cudaStream_t)(uintptr_t)1;
    return runtime.stream;
}
cudaError_t cudaMemGetInfo(size_t *unused, size_t *total) {
    *unused = (size_t)3 << 30;
    *total = (size_t)10 << 30;
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void) {
    return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t s) {
    (void)s;
    return cudaSuccess;
}
const char *cudaGetErrorString(cudaError_t e) {
    return e == cudaErrorECCUncorrectable ? "uncorrectable ECC error encountered" : "an error";
}

/* ---- running a case ----------------------------------------------------------------------------------------------------- */

static char tmp[200], said[4096];

/* A folder of the name below the test's own. */
static const char *folder(const char *name) {
    static char path[4][512];
    static int at;
    char command[640], *p = path[at++ & 3];
    snprintf(p, sizeof path[0], "%s/%s", tmp, name);
    snprintf(command, sizeof command, "mkdir -p '%s'", p);
    assert_int_equal(system(command), 0);
    return p;
}

/* The stand-in `stub` (a name in build/tests/stub) as `file` in a folder. */
static const char *put(const char *name, const char *stub, const char *file) {
    char command[1400];
    const char *f = folder(name), *from = getenv("LD_TEST_STUBS");
    snprintf(command, sizeof command, "cp '%s/%s' '%s/%s'", from ? from : "build/tests/stub", stub, f, file);
    assert_int_equal(system(command), 0);
    return f;
}

/* What `run` says, in a process that knows no toolkit, no conda and no Python of the machine's. */
static const char *saying(void (*run)(void)) {
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    if (!child) {
        dup2(ends[1], 1);
        close(ends[0]);
        run();
        fflush(NULL);
        _exit(0);
    }
    close(ends[1]);
    size_t n = 0;
    ssize_t got;
    while (n < sizeof said - 1 && (got = read(ends[0], said + n, sizeof said - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = 0;
    close(ends[0]);
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    return said;
}

static void forget(void) {
    static const char *const names[] = {"LD_CUDA_PATH", "CUDA_HOME",           "CUDA_PATH",   "CUDNN_HOME",
                                        "CONDA_PREFIX", "VIRTUAL_ENV",         "STUB_DRIVER", "STUB_CUDNN",
                                        "STUB_INIT",    "CUDA_VISIBLE_DEVICES"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    setenv("HOME", "/absent", 1);
    setenv("PATH", "/usr/bin:/bin", 1);
    memset(&runtime, 0, sizeof runtime);
    runtime.cards = 1;
    runtime.major = 9;
}

static int begin(void **state) {
    (void)state;
    const char *given = getenv("TEST_TMP");
    snprintf(tmp, sizeof tmp, "%s", given ? given : "/tmp/ld-test-missing");
    forget();
    return 0;
}

#define SAYS(run, text)                                                                                                \
    do {                                                                                                               \
        if (!strstr(saying(run), text))                                                                                \
            fail_msg("'%s' is not in: %s", text, said);                                                                \
    } while (0)

static void count(void) {
    int n = ld_cuda_count();
    if (n < 0)
        printf("%d %s\n", ld_error_code(), ld_error());
    else
        printf("%d cards\n", n);
}

static void open_it(void) {
    ld_device d = {.name = "cuda:0"};
    int code = ld_cuda_open(0, &d);
    printf("%d %s\n", code, code ? ld_error() : d.text);
    if (!code)
        printf("%s\n", ld_cuda_cudnn_file());
}

static void say(void *arg, const char *what, const char *text) {
    (void)arg;
    printf("%s: %s\n", what, text);
}

static void doctor(void) {
    ld_cuda_doctor(say, NULL);
}

/* ---- the driver --------------------------------------------------------------------------------------------------------- */

static void drivers(void **state) {
    (void)state;
    setenv("LD_CUDA_PATH", put("old", "old_cuda.so", "libcuda.so.1"), 1);
    SAYS(count, "device: the NVIDIA driver will not do: ");
    SAYS(count, "/old/libcuda.so.1 is too old: it lacks cuDriverGetVersion; CUDA ");
    setenv("LD_CUDA_PATH", put("driver", "cuda.so", "libcuda.so.1"), 1);
    setenv("STUB_DRIVER", "11080", 1);
    SAYS(count, "device: the NVIDIA driver is too old: it knows CUDA 11.8, this ldlua was built with ");
    setenv("STUB_DRIVER", "99000", 1);
    SAYS(count, "device: the NVIDIA driver finds no card");
    setenv("CUDA_VISIBLE_DEVICES", "7", 1);
    SAYS(count, "device: the NVIDIA driver shows no card; CUDA_VISIBLE_DEVICES is '7'");
    setenv("STUB_INIT", "803", 1);
    SAYS(count, "driver combination (error 803); the kernel's part and libcuda.so.1 are of different versions");
    setenv("STUB_INIT", "999", 1);
    SAYS(count,
         "device: the NVIDIA driver does not start: unknown error (error 999); its kernel part may not be loaded");
    setenv("STUB_INIT", "0", 1);
    SAYS(count, "1 cards");
    runtime.count = cudaErrorNoDevice;
    SAYS(count, "shows no card");
    runtime.count = cudaErrorSystemNotReady;
    SAYS(count, "device: CUDA does not start: an error");
}

/* ---- the card ------------------------------------------------------------------------------------------------------------- */

static void good_driver(void) {
    put("all", "cuda.so", "libcuda.so.1");
    put("all", "cublas.so", CUBLAS);
    setenv("LD_CUDA_PATH", put("all", "cudnn.so", CUDNN), 1);
    setenv("STUB_DRIVER", "99000", 1);
    setenv("STUB_INIT", "0", 1);
}

static void cards(void **state) {
    (void)state;
    good_driver();
    SAYS(open_it, "0 A Card, compute capability 9.0, 10.0 GiB");
    runtime.major = 7;
    SAYS(open_it,
         "device: cuda:0 is a A Card of compute capability 7.0; 8.0 (Ampere: A100, RTX 30) or newer is needed");
    runtime.major = 9;
    runtime.stream = cudaErrorMemoryAllocation;
    SAYS(open_it, "device: cuda:0 has no memory left for this program to begin: other programs hold it");
    runtime.stream = cudaSuccess;
    runtime.set = cudaErrorDevicesUnavailable;
    SAYS(open_it, "device: cuda:0 is another program's alone");
    runtime.set = cudaErrorECCUncorrectable;
    SAYS(open_it, "device: cuda:0 does not open: uncorrectable ECC error encountered");
}

/* ---- cuDNN ---------------------------------------------------------------------------------------------------------------- */

/* The machine may have a cuDNN of its own; what comes before it decides here. */
static void libraries(void **state) {
    (void)state;
    good_driver();
    setenv("STUB_CUDNN", "8907", 1);
    SAYS(doctor, "cuBLASLt: 13.0.2 (");
    if (!strstr(saying(open_it), "0 A Card"))
        SAYS(open_it, "/all/" CUDNN " is too old: it is 8.9.7, and 9.0.0 or newer is needed");
    else
        assert_null(strstr(said, "/all/")); /* the machine's own was taken */
    setenv("STUB_CUDNN", "90100", 1);
    SAYS(open_it, "/all/" CUDNN);
    SAYS(doctor, "cuDNN: 9.1.0 (");
    SAYS(doctor, "device cuda:0: A Card, compute capability 9.0, 68 processors, 10.0 GiB, 3.0 free");
    /* a file that is none */
    char list[1200], command[700];
    snprintf(command, sizeof command, "echo text > '%s/" CUDNN "'", folder("text"));
    assert_int_equal(system(command), 0);
    snprintf(list, sizeof list, "%s:%s", folder("text"), folder("all"));
    setenv("LD_CUDA_PATH", list, 1);
    SAYS(open_it, "/all/" CUDNN);
}

/* ---- where is looked ------------------------------------------------------------------------------------------------------ */

static bool list_place(const char *path, void *arg) {
    (void)arg;
    size_t n = strlen(tmp);
    if (!strchr(path, '/'))
        printf("(system)\n");
    else if (!strncmp(path, tmp, n))
        printf("%s\n", path + n);
    return false;
}

static void list_places(void) {
    ld_cuda_search("libstub.so.9", list_place, NULL);
}

static bool take_place(const char *path, void *arg) {
    ++*(int *)arg;
    return strstr(path, "/conda/") != NULL;
}

static void count_places(void) {
    int n = 0;
    bool found = ld_cuda_search("libstub.so.9", take_place, &n);
    printf("%d after %d\n", found, n);
}

static void set_below(const char *variable, const char *name) {
    setenv(variable, folder(name), 1);
}

/* Stand-ins in every place that can be had below a folder of our own. */
static void order(void **state) {
    (void)state;
    static const char cu12[] = "nvidia/cublas/lib", cu13[] = "nvidia/cu13/lib", dnn[] = "nvidia/cudnn/lib";
    char name[256];
    put("given/a", "cudnn.so", "libstub.so.9");
    put("given/b", "cudnn.so", "libstub.so.9");
    put("toolkit/lib64", "cudnn.so", "libstub.so.9");
    put("toolkit/targets/x86_64-linux/lib", "cudnn.so", "libstub.so.9");
    put("dnn/lib", "cudnn.so", "libstub.so.9");
    put("conda/lib", "cudnn.so", "libstub.so.9");
    snprintf(name, sizeof name, "venv/lib/python3.12/site-packages/%s", dnn);
    put(name, "cudnn.so", "libstub.so.9");
    snprintf(name, sizeof name, "conda/lib/python3.11/site-packages/%s", cu13);
    put(name, "cudnn.so", "libstub.so.9");
    snprintf(name, sizeof name, "python/lib/python3.10/site-packages/%s", cu12);
    put(name, "cudnn.so", "libstub.so.9");
    snprintf(name, sizeof name, "behind/lib/python3.9/dist-packages/%s", dnn);
    put(name, "cudnn.so", "libstub.so.9");
    snprintf(name, sizeof name, "home/.local/lib/python3.12/site-packages/%s", dnn);
    put(name, "cudnn.so", "libstub.so.9");
    put("python/bin", "cudnn.so", "python3");
    put("behind/bin", "cudnn.so", "python3");
    char text[2048];
    folder("linked/bin");
    snprintf(text, sizeof text, "chmod +x %s/*/bin/python3 && ln -sf ../../behind/bin/python3 %s/linked/bin/python3",
             tmp, tmp);
    assert_int_equal(system(text), 0);
    snprintf(text, sizeof text, "%s/given/a::%s/given/b", tmp, tmp);
    setenv("LD_CUDA_PATH", text, 1);
    set_below("CUDA_HOME", "toolkit");
    set_below("CUDA_PATH", "toolkit"); /* each file once */
    set_below("CUDNN_HOME", "dnn");
    set_below("CONDA_PREFIX", "conda");
    set_below("VIRTUAL_ENV", "venv");
    set_below("HOME", "home");
    snprintf(text, sizeof text, "%s/python/bin:/absent:%s/linked/bin", tmp, tmp);
    setenv("PATH", text, 1);
    assert_string_equal(saying(list_places),
                        "/given/a/libstub.so.9\n"
                        "/given/b/libstub.so.9\n"
                        "(system)\n"
                        "/toolkit/lib64/libstub.so.9\n"
                        "/toolkit/targets/x86_64-linux/lib/libstub.so.9\n"
                        "/dnn/lib/libstub.so.9\n"
                        "/conda/lib/libstub.so.9\n"
                        "/venv/lib/python3.12/site-packages/nvidia/cudnn/lib/libstub.so.9\n"
                        "/conda/lib/python3.11/site-packages/nvidia/cu13/lib/libstub.so.9\n"
                        "/python/bin/../lib/python3.10/site-packages/nvidia/cublas/lib/libstub.so.9\n"
                        "/behind/bin/../lib/python3.9/dist-packages/nvidia/cudnn/lib/libstub.so.9\n"
                        "/home/.local/lib/python3.12/site-packages/nvidia/cudnn/lib/libstub.so.9\n");
    SAYS(count_places, "1 after 7"); /* and goes no further */
    setenv("LD_CUDA_PATH", "", 1);
    unsetenv("CUDA_HOME");
    SAYS(count_places, "1 after 5");
}

/* A cuDNN that only a wheel has, with its wheel of cuBLASLt beside it, as `pip install` leaves them. */
static void open_stub(void) {
    const ld_cublas *blas = ld_cuda_cublas("test");
    printf("%s %s\n", blas ? ld_cuda_cublas_file() : ld_error(),
           ld_cuda_cudnn("test") ? ld_cuda_cudnn_file() : ld_error());
}

static void wheels(void **state) {
    (void)state;
    put("w/lib/python3.12/site-packages/nvidia/cu13/lib", "cublas.so", CUBLAS);
    put("w/lib/python3.12/site-packages/nvidia/cudnn/lib", "cudnn.so", CUDNN);
    set_below("VIRTUAL_ENV", "w");
    saying(open_stub);
    if (strncmp(said, tmp, strlen(tmp))) { /* the system's own, or the toolkit's, comes first */
        assert_null(strstr(said, "missing"));
        return;
    }
    assert_non_null(strstr(said, "/w/lib/python3.12/site-packages/nvidia/cu13/lib/" CUBLAS));
    assert_non_null(strstr(said, "/w/lib/python3.12/site-packages/nvidia/cudnn/lib/" CUDNN));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(drivers, begin), cmocka_unit_test_setup(cards, begin),
                                       cmocka_unit_test_setup(libraries, begin), cmocka_unit_test_setup(order, begin),
                                       cmocka_unit_test_setup(wheels, begin)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
