/* Attention on a device: what its forward (attention.cu) and backward (attention_bwd.cu) share.
 *
 * A unit is one head of one sample. `lanes` threads of a warp share a row (a query, or in the gradients of k and v a key):
 * each holds DEPTH of its numbers in registers, in chunks of 4 that alternate between the lanes, for ROWS rows at once. The
 * rows of the other side pass by in tiles in shared memory, as float; what a lane reads there serves all its rows, and the
 * lanes of a row read neighbouring chunks, so no two lanes want the same bank. Scores are summed over the lanes by shuffles.
 * Small units share a block, so that 16 queries of width 16 leave no thread idle.
 * A row's sum runs over the other side's rows in their order, GROUP at a time, whatever the block: results do not depend
 * on the card or on how work is cut. */
#ifndef LD_KERNEL_ATTENTION_H
#define LD_KERNEL_ATTENTION_H

#include "kernels/operand.h"

enum { ATT_THREADS = 128, ATT_ROOM = 24 << 10, ATT_WIDEST = 512 }; /* most threads; bytes of tiles; largest d */

/* A view (N,heads,rows,d); strides count elements, the last is 1. */
template <typename T> struct att_heads {
    T *data;
    int64_t sample, head, row;
};

/* How a call is cut. The side with rows of its own has `rows`, the one that passes by `others`. */
struct att_shape {
    int64_t units;
    int heads, rows, others, d;
    int lanes, slots,
        packed;     /* threads of a row; groups of lanes of a unit in a block; units in a block. Powers of two */
    int runs, tile; /* blocks along the rows of a unit; rows in a tile, a multiple of 8 */
    int stride;     /* floats from one unit's tile to the next's: units of a warp then meet in no bank */
    bool packs;     /* 4 elements may be read at once */
    float scale;
};

template <typename T> static inline att_heads<T> att_heads_of(const ld_view *v) {
    att_heads<T> h = {v ? (T *)v->data : NULL, v ? v->stride[0] : 0, v ? v->stride[1] : 0, v ? v->stride[2] : 0};
    return h;
}

template <typename T> LD_DEVICE T *att_row(const att_heads<T> &h, const att_shape &z, int64_t unit, int64_t row) {
    unsigned u = (unsigned)unit, heads = (unsigned)z.heads;
    return h.data + (int64_t)(u / heads) * h.sample + (int64_t)(u % heads) * h.head + row * h.row;
}

/* Operands and results of backward. */
template <typename T> struct att_gradient {
    att_heads<T> dq, dk, dv, g, q, k, v, y;
    const wide<T> *lse;
    wide<T> *delta; /* D, laid out as lse */
};

/* e^x as 2^x, to 2 units in the last place; 0 below 2^-126. */
LD_DEVICE float att_exp2(float x) {
#ifdef LD_SIM
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

#define ATT_LOG2E 1.4426950408889634f
#define ATT_LN2   0.6931471805599453f

/* ---- rows in registers --------------------------------------------------------------------------------------------------- */

/* Elements c to c + 3 of a row of d, zeros past its end. */
template <typename T> LD_DEVICE void att_load4(float *to, const T *row, int c, const att_shape &z) {
    if (z.packs && c < z.d) {
        pack<T, 4> in = load_pack<T, 4>(row + c);
#pragma unroll
        for (int k = 0; k < 4; k++)
            to[k] = widen(in.v[k]);
    } else {
#pragma unroll
        for (int k = 0; k < 4; k++)
            to[k] = !z.packs && c + k < z.d ? widen(row[c + k]) : 0;
    }
}

template <typename T> LD_DEVICE void att_store4(T *row, const float *from, int c, const att_shape &z) {
    if (z.packs) {
        if (c < z.d)
            store_narrow<4>(row + c, from);
    } else {
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (c + k < z.d)
                row[c + k] = narrow<T>(from[k]);
    }
}

/* Where a thread stands. LANES is z.lanes, or 0 where it shows at run time only. */
struct att_place {
    int lane, lanes, mine; /* its place in the row's lanes; which of the block's units */
    int64_t unit;
    int row, step; /* its first row, and the distance to its next */
    bool there;    /* the unit is one */
};

template <int LANES, int ROWS> LD_DEVICE att_place att_place_of(const att_shape &z) {
    att_place at;
    int tid = (int)threadIdx.x, run = (int)(blockIdx.x % (unsigned)z.runs);
    at.lanes = LANES ? LANES : z.lanes;
    at.lane = tid % at.lanes;
    at.step = z.slots;
    at.mine = tid / (at.lanes * z.slots);
    at.row = run * z.slots * ROWS + tid / at.lanes % z.slots;
    at.unit = (int64_t)(blockIdx.x / (unsigned)z.runs) * z.packed + at.mine;
    at.there = at.mine < z.packed && at.unit < z.units;
    at.unit = at.there ? at.unit : 0;
    at.mine = at.mine < z.packed ? at.mine : 0;
    return at;
}

/* The lane's part of row `row`, times f; zeros where there is no such row. */
template <typename T, int DEPTH>
LD_DEVICE void att_load_row(float *to, const att_heads<T> &h, const att_shape &z, const att_place &at, int row,
                            float f) {
    bool there = at.there && row < z.rows;
    const T *from = att_row(h, z, at.unit, there ? row : 0);
#pragma unroll
    for (int i = 0; i < DEPTH / 4; i++) {
        float v[4] = {0, 0, 0, 0};
        if (there)
            att_load4(v, from, (i * at.lanes + at.lane) * 4, z);
#pragma unroll
        for (int k = 0; k < 4; k++)
            to[4 * i + k] = f * v[k];
    }
}

template <typename T, int DEPTH>
LD_DEVICE void att_store_row(const att_heads<T> &h, const float *from, const att_shape &z, const att_place &at, int row,
                             float f) {
    if (!at.there || row >= z.rows)
        return;
    T *to = att_row(h, z, at.unit, row);
#pragma unroll
    for (int i = 0; i < DEPTH / 4; i++) {
        float v[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            v[k] = f * from[4 * i + k];
        att_store4(to, v, (i * at.lanes + at.lane) * 4, z);
    }
}

/* ---- rows that pass by ----------------------------------------------------------------------------------------------------- */

/* Rows first .. first + z.tile - 1 of both operands of all the block's units into shared memory, a times fa and b as it is;
 * zeros past the last row. a and b: [packed][tile][DEPTH lanes], units z.stride apart. */
template <typename T, int DEPTH>
LD_DEVICE void att_load_tile(float *a, float *b, const att_heads<T> &ha, const att_heads<T> &hb, const att_shape &z,
                             const att_place &at, int first, float fa) {
    int chunks = DEPTH / 4 * at.lanes, all = z.packed * z.tile * chunks;
    int64_t unit0 = (int64_t)(blockIdx.x / (unsigned)z.runs) * z.packed;
#pragma unroll 2
    for (int i = (int)threadIdx.x; i < all; i += (int)blockDim.x) {
        int c = i % chunks * 4, r = i / chunks, mine = r / z.tile, in = r % z.tile, row = first + in;
        int to = mine * z.stride + in * chunks * 4 + c;
        float va[4] = {0, 0, 0, 0}, vb[4] = {0, 0, 0, 0};
        if (row < z.others && unit0 + mine < z.units) {
            att_load4(va, att_row(ha, z, unit0 + mine, row), c, z);
            att_load4(vb, att_row(hb, z, unit0 + mine, row), c, z);
        }
        *(float4 *)(a + to) = make_float4(fa * va[0], fa * va[1], fa * va[2], fa * va[3]);
        *(float4 *)(b + to) = make_float4(vb[0], vb[1], vb[2], vb[3]);
    }
}

/* The lane's part of a row in a tile. */
template <int DEPTH> LD_DEVICE void att_tile_row(float *to, const float *tile, int row, const att_place &at) {
    const float *from = tile + (row * (DEPTH / 4) * at.lanes + at.lane) * 4;
#pragma unroll
    for (int i = 0; i < DEPTH / 4; i++) {
        float4 v = *(const float4 *)(from + 4 * i * at.lanes);
        to[4 * i] = v.x;
        to[4 * i + 1] = v.y;
        to[4 * i + 2] = v.z;
        to[4 * i + 3] = v.w;
    }
}

/* Each of N numbers summed over the lanes of a row. */
template <int LANES, int N> LD_DEVICE void att_sum_lanes(float *v, const att_place &at) {
    if constexpr (LANES != 1) {
#pragma unroll
        for (int far = (LANES ? LANES : at.lanes) / 2; far > 0; far /= 2)
#pragma unroll
            for (int i = 0; i < N; i++)
                v[i] += __shfl_xor_sync(LD_ALL_LANES, v[i], far);
    }
}

template <int DEPTH> LD_DEVICE float att_dot(const float *a, const float *b) {
    float sum = 0;
#pragma unroll
    for (int c = 0; c < DEPTH; c++)
        sum += a[c] * b[c];
    return sum;
}

template <int DEPTH> LD_DEVICE void att_add(float *y, float f, const float *x) {
#pragma unroll
    for (int c = 0; c < DEPTH; c++)
        y[c] += f * x[c];
}

/* ---- on the host ------------------------------------------------------------------------------------------------------------ */

static inline int att_up(int64_t n, int most) {
    int p = 1;
    while (p < n && p < most)
        p *= 2;
    return p;
}

/* rows: a lane's; extra: bytes of shared memory by row of a tile beside its numbers. */
static inline att_shape att_shape_of(const ld_view *own, const ld_view *other, int rows, int extra, double scale) {
    att_shape z;
    memset(&z, 0, sizeof z);
    z.units = own->shape[0] * own->shape[1];
    z.heads = (int)own->shape[1];
    z.rows = (int)own->shape[2];
    z.others = (int)other->shape[2];
    z.d = (int)own->shape[3];
    z.scale = (float)scale;
    z.lanes = att_up((z.d + 15) / 16, 32);
    z.slots = att_up((z.rows + rows - 1) / rows, ATT_THREADS / z.lanes);
    z.runs = (z.rows + z.slots * rows - 1) / (z.slots * rows);
    z.packed = ATT_THREADS / (z.lanes * z.slots);
    int64_t enough = 2 * (int64_t)ld_cuda_processors();
    while (z.packed > 1 && z.units / z.packed * z.runs < enough)
        z.packed /= 2;
    int wide_row = z.lanes * (z.d <= 8 ? 8 : 16), each = 2 * wide_row * (int)sizeof(float) + extra,
        whole = (z.others + 7) / 8 * 8;
    int least = whole < 32 ? whole : 32;
    while (z.packed > 1 && z.packed * least * each > ATT_ROOM)
        z.packed /= 2;
    z.tile = ATT_ROOM / (z.packed * each) / 8 * 8;
    z.tile = z.tile < 8 ? 8 : z.tile;
    int tiles = (whole + z.tile - 1) / z.tile; /* of one size */
    z.tile = tiles ? ((whole + tiles - 1) / tiles + 7) / 8 * 8 : 8;
    z.stride = z.tile * wide_row + 4 * z.lanes;
    return z;
}

static inline unsigned att_blocks(const att_shape &z) {
    return (unsigned)((z.units + z.packed - 1) / z.packed * z.runs);
}

static inline unsigned att_threads(const att_shape &z) {
    int threads = z.lanes * z.slots * z.packed;
    return (unsigned)(threads < LD_WARP ? LD_WARP : threads);
}

/* Of two tiles, and extra bytes by row. */
static inline size_t att_shared(const att_shape &z, int extra) {
    return (size_t)z.packed * ((size_t)z.stride * 2 * sizeof(float) + (size_t)(z.tile * extra));
}

/* Whether 4 elements can be read at once. */
static inline bool att_packs(const ld_view *v) {
    size_t size = ld_dtype_size(v->dtype);
    return (uintptr_t)v->data % (4 * size) == 0 && v->shape[3] % 4 == 0 && v->stride[0] % 4 == 0 &&
           v->stride[1] % 4 == 0 && v->stride[2] % 4 == 0;
}

static inline int att_check(const ld_view *q, const ld_view *k, const ld_view *v, const ld_view *lse) {
    static const char who[] = "attention";
    int err = check_float(who, q->dtype);
    err = err ? err : check_same(who, "k", k, q->dtype);
    err = err ? err : check_same(who, "v", v, q->dtype);
    err = err ? err : check_same(who, "lse", lse, statistics_dtype(q->dtype));
    if (!err && q->dtype != LD_F64 && q->shape[3] > ATT_WIDEST)
        err = ld_fail(LD_ESHAPE, "%s: heads are %lld wide; %d is the most on cuda", who, (long long)q->shape[3],
                      ATT_WIDEST);
    return err;
}

/* f(DEPTH, LANES) with the constants for z as types; LANES 0: z.lanes, at run time. */
template <int N> struct att_number {
    enum { value = N };
};
template <typename F> static inline int att_each_width(const att_shape &z, const F &f) {
    if (z.d <= 8)
        return f(att_number<8>(), att_number<1>());
    if (z.lanes == 1)
        return f(att_number<16>(), att_number<1>());
    if (z.lanes == 2)
        return f(att_number<16>(), att_number<2>());
    return z.lanes == 4 ? f(att_number<16>(), att_number<4>()) : f(att_number<16>(), att_number<0>());
}

#endif
