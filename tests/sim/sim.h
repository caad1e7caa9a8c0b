/* CUDA's device language for g++: kernels run on the CPU, one block after another, its threads as fibers.
 *
 * A thread runs until it waits: at __syncthreads, or at a shuffle, vote or __syncwarp. Between those points threads run in
 * the order that control.h sets, so that a barrier that is missing shows as a result that depends on the order. Reported as
 * errors of the launch are
 *   barriers that threads of a block reach at different lines, or that some never reach
 *   warp functions whose mask lacks the caller, names a lane that does something else, or reads a lane outside it
 *   shared arrays written outside their bounds (reads too, under the address sanitizer), and more of them than there is
 *   addresses that are not aligned to what is loaded or stored there at once (load_pack, store_pack of kernel.h)
 *   launches of an impossible shape.
 * LD_SIM_WITHOUT=kernels/reduce.cu:138 leaves out the barrier of that line, as if it were not written: some test has to fail
 * then. LD_SIM_LOG=file appends, when the program ends, the kernels it has launched and the barriers it has met.
 * Shared memory holds NaNs (bytes 0xff) when a block starts. Blocks never run at the same time: a block that waits for
 * another one does so forever. */
#ifndef LD_SIM_H
#define LD_SIM_H

#include <math.h> /* as in CUDA: exp(float) is a float */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__        inline
#define __launch_bounds__(...) /* nothing */

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {
    }
};
struct uint3 {
    unsigned x, y, z;
};

#define LD_SIM_VECTORS(T, name)                                                                                        \
    struct alignas(2 * sizeof(T)) name##2 {                                                                            \
        T x, y;                                                                                                        \
    };                                                                                                                 \
    struct alignas(sizeof(T) == 8 ? 16 : 4 * sizeof(T)) name##4 {                                                      \
        T x, y, z, w;                                                                                                  \
    };                                                                                                                 \
    static inline name##2 make_##name##2(T x, T y) {                                                                   \
        return {x, y};                                                                                                 \
    }                                                                                                                  \
    static inline name##4 make_##name##4(T x, T y, T z, T w) {                                                         \
        return {x, y, z, w};                                                                                           \
    }
LD_SIM_VECTORS(float, float)
LD_SIM_VECTORS(double, double)
LD_SIM_VECTORS(int, int)
LD_SIM_VECTORS(unsigned, uint)
#undef LD_SIM_VECTORS

extern uint3 threadIdx, blockIdx; /* of the thread that runs */
extern dim3 blockDim, gridDim;
static const int warpSize = 32;

/* ---- launches and shared memory ---------------------------------------------------------------------------------------- */

void ld_sim_launch(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes, void (*body)(const void *),
                   const void *arg);
int ld_sim_allow_shared(const char *kernel, size_t bytes);
void *ld_sim_shared(const void *tag, size_t bytes); /* the block's array of that tag */
void *ld_sim_dynamic_shared(void);

template <typename F> void ld_sim_run(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes, const F &f) {
    ld_sim_launch(
        kernel, grid, block, shared_bytes, [](const void *arg) { (*(const F *)arg)(); }, &f);
}

#define LD_LAUNCH(kernel, grid, block, shared_bytes, ...)                                                              \
    (ld_sim_run(#kernel, (grid), (block), (shared_bytes), [&] { (kernel)(__VA_ARGS__); }), ld_cuda_launched(#kernel))
#define LD_ALLOW_SHARED(kernel, bytes) ld_sim_allow_shared(#kernel, bytes)
#define LD_SHARED(type, name, dims)                                                                                    \
    typedef type name##_array dims;                                                                                    \
    static const char name##_tag = 0;                                                                                  \
    name##_array &name = *(name##_array *)ld_sim_shared(&name##_tag, sizeof(name##_array))
#define LD_DYNAMIC_SHARED(type, name) type *const name = (type *)ld_sim_dynamic_shared()

void ld_sim_misaligned(const void *p, size_t bytes);
template <typename T> T *ld_sim_aligned(T *p, size_t bytes) {
    if ((uintptr_t)p % bytes)
        ld_sim_misaligned((const void *)p, bytes);
    return p;
}

/* ---- barriers and warps ------------------------------------------------------------------------------------------------ */

enum ld_sim_warp_op { LD_SIM_INDEX, LD_SIM_UP, LD_SIM_DOWN, LD_SIM_XOR, LD_SIM_BALLOT, LD_SIM_SYNC };
void ld_sim_barrier(int line, const char *file);
uint64_t ld_sim_warp(ld_sim_warp_op op, unsigned mask, uint64_t value, int lane, int width, int line);

static inline void __syncthreads(int line = __builtin_LINE(), const char *file = __builtin_FILE()) {
    ld_sim_barrier(line, file);
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
    ld_sim_warp(LD_SIM_SYNC, mask, 0, 0, 32, line);
}

template <typename T> T ld_sim_shuffle(ld_sim_warp_op op, unsigned mask, T v, int lane, int width, int line) {
    static_assert(sizeof(T) <= 8 && std::is_arithmetic<T>::value, "shuffles move numbers of at most 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    bits = ld_sim_warp(op, mask, bits, lane, width, line);
    memcpy(&v, &bits, sizeof v);
    return v;
}

template <typename T> T __shfl_sync(unsigned mask, T v, int lane, int width = 32, int line = __builtin_LINE()) {
    return ld_sim_shuffle(LD_SIM_INDEX, mask, v, lane, width, line);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    return ld_sim_shuffle(LD_SIM_UP, mask, v, (int)delta, width, line);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, int line = __builtin_LINE()) {
    return ld_sim_shuffle(LD_SIM_DOWN, mask, v, (int)delta, width, line);
}
template <typename T> T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32, int line = __builtin_LINE()) {
    return ld_sim_shuffle(LD_SIM_XOR, mask, v, lanes, width, line);
}
static inline unsigned __ballot_sync(unsigned mask, int p, int line = __builtin_LINE()) {
    return (unsigned)ld_sim_warp(LD_SIM_BALLOT, mask, p != 0, 0, 32, line);
}
static inline int __any_sync(unsigned mask, int p, int line = __builtin_LINE()) {
    return ld_sim_warp(LD_SIM_BALLOT, mask, p != 0, 0, 32, line) != 0;
}
static inline int __all_sync(unsigned mask, int p, int line = __builtin_LINE()) {
    return ld_sim_warp(LD_SIM_BALLOT, mask, p != 0, 0, 32, line) == mask;
}

static inline void __threadfence(void) {
}
static inline void __threadfence_block(void) {
}

/* ---- atomics, of integers only ----------------------------------------------------------------------------------------- */

#define LD_SIM_ATOMIC(name, T, expression)                                                                             \
    static inline T name(T *p, T v) {                                                                                  \
        T old = *p;                                                                                                    \
        *p = expression;                                                                                               \
        return old;                                                                                                    \
    }
#define LD_SIM_ATOMICS(T)                                                                                              \
    LD_SIM_ATOMIC(atomicAdd, T, old + v)                                                                               \
    LD_SIM_ATOMIC(atomicMax, T, old > v ? old : v)                                                                     \
    LD_SIM_ATOMIC(atomicMin, T, old < v ? old : v)                                                                     \
    LD_SIM_ATOMIC(atomicExch, T, v)                                                                                    \
    LD_SIM_ATOMIC(atomicOr, T, old | v)
LD_SIM_ATOMICS(int)
LD_SIM_ATOMICS(unsigned)
LD_SIM_ATOMICS(unsigned long long)
#undef LD_SIM_ATOMICS
#undef LD_SIM_ATOMIC

/* ---- arithmetic -------------------------------------------------------------------------------------------------------- */

static inline float __uint_as_float(unsigned u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline unsigned __float_as_uint(float f) {
    unsigned u;
    memcpy(&u, &f, sizeof u);
    return u;
}
static inline float __int_as_float(int i) {
    return __uint_as_float((unsigned)i);
}
static inline int __float_as_int(float f) {
    return (int)__float_as_uint(f);
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((uint64_t)a * b >> 32);
}
static inline int __popc(unsigned u) {
    return __builtin_popcount(u);
}
static inline int __clz(int i) {
    return i ? __builtin_clz((unsigned)i) : 32;
}
static inline int __ffs(int i) {
    return __builtin_ffs(i);
}
static inline double normcdf(double x) {
    return 0.5 * erfc(-x * 0.70710678118654752440);
}
static inline float normcdf(float x) {
    return (float)normcdf((double)x);
}
static inline float rsqrtf(float x) {
    return 1 / sqrtf(x);
}
static inline double rsqrt(double x) {
    return 1 / sqrt(x);
}
#define __expf expf
static inline float __fdividef(float a, float b) {
    return a / b;
}
template <typename T> static inline T __ldg(const T *p) {
    return *p;
}
template <typename T> static inline T min(T a, T b) {
    return b < a ? b : a;
}
template <typename T> static inline T max(T a, T b) {
    return a < b ? b : a;
}

#endif
