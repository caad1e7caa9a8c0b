/* What every kernel file includes.
 *
 * nvcc compiles the files for the device. With LD_SIM defined they are C++17 for the CPU, run by the simulator of tests/sim:
 * the same text, so that arithmetic, indices, barriers and shuffles are proven without a card. What has no C++ spelling is a
 * macro here:
 *   LD_LAUNCH(kernel, grid, block, shared_bytes, arguments...)   a launch on the stream; its value is 0 or an error code
 *   LD_SHARED(type, name, [n][m])                                 a shared array
 *   LD_DYNAMIC_SHARED(type, name)                                 a pointer to the launch's shared bytes, aligned to 16
 *   LD_ALLOW_SHARED(kernel, bytes)                                before launches with more than 48 KiB; 0 or an error code
 * A kernel's name with a comma in it goes into parentheses. Blocks have a multiple of 32 threads; lanes that are not needed
 * take part in barriers and shuffles all the same. There are no atomics of floats: results are the same on every run. */
#ifndef LD_KERNEL_H
#define LD_KERNEL_H

#include "kernels/slots.h"

extern "C" {
#include "base/error.h"
}

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef LD_SIM
#include <sim.h>
#else
#include <cuda_runtime.h>
#define LD_SHARED(type, name, dims) __shared__ type name dims
#define LD_DYNAMIC_SHARED(type, name)                                                                                  \
    extern __shared__ __align__(16) unsigned char ld_dynamic_shared[];                                                 \
    type *const name = reinterpret_cast<type *>(ld_dynamic_shared)
/* clang-format off */
#define LD_LAUNCH(kernel, grid, block, shared_bytes, ...)                                                              \
    ((kernel)<<<(grid), (block), (shared_bytes), (cudaStream_t)ld_cuda_stream()>>>(__VA_ARGS__),                       \
     ld_cuda_launched(#kernel))
/* clang-format on */
#define LD_ALLOW_SHARED(kernel, bytes)                                                                                 \
    (cudaFuncSetAttribute((const void *)(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes)) ==        \
             cudaSuccess                                                                                               \
         ? 0                                                                                                           \
         : ld_fail(LD_EINTERNAL, "%s: the device refuses %zu bytes of shared memory", #kernel, (size_t)(bytes)))
#endif

#define LD_DEVICE      static __device__ __forceinline__
#define LD_BOTH        static __host__ __device__ __forceinline__
#define LD_BOTH_MEMBER __host__ __device__ __forceinline__

enum { LD_WARP = 32 };
#define LD_ALL_LANES 0xffffffffu

/* ---- element types --------------------------------------------------------------------------------------------------- */

struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

LD_BOTH float ld_float_from_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

LD_BOTH uint32_t ld_bits_from_float(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* What arithmetic on elements of T is done in: float for bf16 and f16, else T. */
template <typename T> struct ld_wide { typedef T type; };
template <> struct ld_wide<bf16> { typedef float type; };
template <> struct ld_wide<f16> { typedef float type; };

LD_DEVICE float widen(float v) {
    return v;
}
LD_DEVICE double widen(double v) {
    return v;
}
LD_DEVICE int64_t widen(int64_t v) {
    return v;
}
LD_DEVICE int32_t widen(int32_t v) {
    return v;
}
LD_DEVICE uint8_t widen(uint8_t v) {
    return v;
}
LD_DEVICE uint16_t widen(uint16_t v) {
    return v;
}
LD_DEVICE uint32_t widen(uint32_t v) {
    return v;
}
LD_DEVICE uint64_t widen(uint64_t v) {
    return v;
}
LD_DEVICE float widen(bf16 v) {
    return ld_float_from_bits((uint32_t)v.bits << 16);
}
LD_DEVICE float widen(f16 v) {
#ifdef LD_SIM
    return ld_f16_to_f32(v.bits);
#else
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(v.bits));
    return f;
#endif
}

/* narrow<T>(v): v rounded to nearest even. */
template <typename T> struct ld_narrow {
    static __device__ __forceinline__ T from(typename ld_wide<T>::type v) {
        return v;
    }
};
template <> struct ld_narrow<bf16> {
    static __device__ __forceinline__ bf16 from(float v) {
#ifdef LD_SIM
        return bf16{ld_f32_to_bf16(v)};
#else
        bf16 r;
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(v));
        return r;
#endif
    }
};
template <> struct ld_narrow<f16> {
    static __device__ __forceinline__ f16 from(float v) {
#ifdef LD_SIM
        return f16{ld_f32_to_f16(v)};
#else
        f16 r;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(v));
        return r;
#endif
    }
};
template <typename T> LD_DEVICE T narrow(typename ld_wide<T>::type v) {
    return ld_narrow<T>::from(v);
}

/* ---- V elements at once ---------------------------------------------------------------------------------------------- */

#ifdef LD_SIM
#define LD_MAY_ALIAS [[gnu::may_alias]]
#else
#define LD_MAY_ALIAS
#define ld_sim_aligned(p, bytes) (p)
#endif

/* One load or store of sizeof(T) V bytes, at most 16. */
template <typename T, int V> struct alignas(sizeof(T) * V) LD_MAY_ALIAS pack { T v[V]; };

template <typename T, int V> LD_DEVICE pack<T, V> load_pack(const T *p) {
    return *reinterpret_cast<const pack<T, V> *>(ld_sim_aligned(p, sizeof(T) * V));
}
template <typename T, int V> LD_DEVICE void store_pack(T *p, const pack<T, V> &x) {
    *reinterpret_cast<pack<T, V> *>(ld_sim_aligned(p, sizeof(T) * V)) = x;
}

/* ---- host side ------------------------------------------------------------------------------------------------------- */

/* Call f(T()) with the dtype's type, among the floats, or among all. f returns an error code. */
template <typename F> static inline int ld_each_float(ld_dtype t, const char *who, const F &f) {
    switch (t) {
    case LD_F32:
        return f(float());
    case LD_BF16:
        return f(bf16());
    case LD_F16:
        return f(f16());
    case LD_F64:
        return f(double());
    default:
        return ld_fail(LD_EDTYPE, "%s: takes floats, not %s", who, ld_dtype_names[t]);
    }
}

template <typename F> static inline int ld_each_type(ld_dtype t, const char *who, const F &f) {
    switch (t) {
    case LD_I64:
        return f(int64_t());
    case LD_I32:
        return f(int32_t());
    case LD_U8:
        return f(uint8_t());
    default:
        return ld_each_float(t, who, f);
    }
}

/* The same with an unsigned integer of the dtype's size, for kernels that only move elements. */
template <typename F> static inline int ld_each_size(ld_dtype t, const F &f) {
    switch (ld_dtype_size(t)) {
    case 1:
        return f(uint8_t());
    case 2:
        return f(uint16_t());
    case 4:
        return f(uint32_t());
    default:
        return f(uint64_t());
    }
}

/* Blocks for `work` threads' worth of work in blocks of `threads`: at most `rounds` a processor, several times what it holds, so
 * that the last ones leave little of the device idle; the rest in grid-stride loops. At least 1. */
static inline unsigned ld_blocks(int64_t work, int threads, int rounds = 32) {
    int64_t blocks = (work + threads - 1) / threads, most = (int64_t)ld_cuda_processors() * rounds;
    return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

#endif
