/* Conversions between element types: rounded once, to nearest even; floats become integers towards zero, held at the ends of
 * the type, NaN becoming 0; integers wrap. As ld_dtype_set and the CPU's copy. */
#ifndef LD_CONVERT_H
#define LD_CONVERT_H

#include "kernels/kernel.h"

/* least and most are exact, most + 1 too; a NaN fails the first comparison. */
LD_DEVICE int64_t ld_held(double v, double least, double most) {
    double low = v >= least ? v : (v != v ? 0 : least);
    return (int64_t)(low <= most ? low : most);
}

LD_DEVICE int64_t ld_held_i64(double v) {
    double inside = v >= -0x1p63 && v < 0x1p63 ? v : 0;
    int64_t r = (int64_t)inside;
    r = v >= 0x1p63 ? INT64_MAX : r;
    return v < -0x1p63 ? INT64_MIN : r;
}

/* v as a float rounded to odd: truncated, and its last bit set when something was lost. Rounding that to bf16 or f16 gives
 * what rounding v at once would have. */
LD_DEVICE float ld_rounded_to_odd(double v) {
    float f = (float)v;
    uint32_t u = ld_bits_from_float(f);
    uint32_t truncated = (f < 0 ? (double)f < v : (double)f > v) ? u - 1 : u;
    return ld_float_from_bits((double)f == v || v != v ? u : truncated | 1);
}

/* ld_to<T>::from(v), v of a type arithmetic is done in. */
template <typename T> struct ld_to;
template <> struct ld_to<float> {
    template <typename S> static __device__ __forceinline__ float from(S v) {
        return (float)v;
    }
};
template <> struct ld_to<double> {
    template <typename S> static __device__ __forceinline__ double from(S v) {
        return (double)v;
    }
};
template <typename T> struct ld_to_half {
    static __device__ __forceinline__ T from(float v) {
        return narrow<T>(v);
    }
    template <typename S> static __device__ __forceinline__ T from(S v) {
        return narrow<T>(ld_rounded_to_odd((double)v));
    }
};
template <> struct ld_to<bf16> : ld_to_half<bf16> {};
template <> struct ld_to<f16> : ld_to_half<f16> {};
template <> struct ld_to<int64_t> {
    static __device__ __forceinline__ int64_t from(float v) {
        return ld_held_i64((double)v);
    }
    static __device__ __forceinline__ int64_t from(double v) {
        return ld_held_i64(v);
    }
    template <typename S> static __device__ __forceinline__ int64_t from(S v) {
        return (int64_t)v;
    }
};
template <> struct ld_to<int32_t> {
    static __device__ __forceinline__ int32_t from(float v) {
        return (int32_t)ld_held((double)v, INT32_MIN, INT32_MAX);
    }
    static __device__ __forceinline__ int32_t from(double v) {
        return (int32_t)ld_held(v, INT32_MIN, INT32_MAX);
    }
    template <typename S> static __device__ __forceinline__ int32_t from(S v) {
        return (int32_t)v;
    }
};
template <> struct ld_to<uint8_t> {
    static __device__ __forceinline__ uint8_t from(float v) {
        return (uint8_t)ld_held((double)v, 0, UINT8_MAX);
    }
    static __device__ __forceinline__ uint8_t from(double v) {
        return (uint8_t)ld_held(v, 0, UINT8_MAX);
    }
    template <typename S> static __device__ __forceinline__ uint8_t from(S v) {
        return (uint8_t)v;
    }
};

#endif
