/* fill and copy.
 *
 *   y = value;   y = x, converted
 *
 * Traffic: x is read once, y written once. A copy of one dtype between layouts whose fastest dimensions differ (NCHW and
 * NHWC) goes through tiles of 32 x 32 in shared memory, so that both sides are touched in whole lines; everything else goes
 * 16 bytes a thread where both sides are dense (space.h). Conversions: convert.h. Proven by tests/sim/test_sim_copy.c. */
#include "kernels/convert.h"
#include "kernels/space.h"

/* ---- fill ------------------------------------------------------------------------------------------------------------ */

template <typename T> struct constant {
    enum { N = 1 };
    T *y, value;
    template <int V> __device__ void run(const int64_t *at, const bool *) const {
        T v[V];
        for (int i = 0; i < V; i++)
            v[i] = value;
        store_narrow<V>(y + at[0], v);
    }
};

int ld_cuda_fill(const ld_view *y, double value) {
    uint64_t element = 0;
    ld_dtype_set(y->dtype, &element, value);
    return ld_each_size(y->dtype, [&](auto t) {
        typedef decltype(t) T;
        T v;
        memcpy(&v, &element, sizeof v);
        return ld_map<ld_lanes<T>::COUNT>(&y, constant<T>{(T *)y->data, v});
    });
}

/* ---- copies of one dtype --------------------------------------------------------------------------------------------- */

template <typename T> struct move {
    enum { N = 2 };
    T *y;
    const T *x;
    template <int V> __device__ void run(const int64_t *at, const bool *same) const {
        T v[V];
        load_wide<V>(v, x + at[1], same[1]);
        store_narrow<V>(y + at[0], v);
    }
};

enum { TILE = 32, TILE_ROWS = 8 };

/* y[b y_step + a] = x[a x_step + b] for a below na, b below nb and every index of two outer dimensions. */
struct transpose {
    int64_t na, nb, x_step, y_step;
    int64_t outer[2], x_outer[2], y_outer[2];
    int64_t a_tiles, b_tiles, tiles; /* in all */
};

template <typename T>
__global__ void __launch_bounds__(TILE *TILE_ROWS) k_transpose(T *y, const T *x, const transpose t) {
    LD_SHARED(T, tile, [TILE][TILE + 1]);
    int column = (int)threadIdx.x, row = (int)threadIdx.y;
    for (int64_t u = blockIdx.x; u < t.tiles; u += gridDim.x) {
        int64_t rest = u / t.b_tiles, b0 = u % t.b_tiles * TILE, a0 = rest % t.a_tiles * TILE;
        rest /= t.a_tiles;
        int64_t i = rest / t.outer[1], j = rest % t.outer[1];
        const T *from = x + i * t.x_outer[0] + j * t.x_outer[1];
        T *to = y + i * t.y_outer[0] + j * t.y_outer[1];
        for (int r = row; r < TILE; r += TILE_ROWS)
            if (a0 + r < t.na && b0 + column < t.nb)
                tile[r][column] = from[(a0 + r) * t.x_step + b0 + column];
        __syncthreads();
        for (int r = row; r < TILE; r += TILE_ROWS)
            if (b0 + r < t.nb && a0 + column < t.na)
                to[(b0 + r) * t.y_step + a0 + column] = tile[column][r];
        __syncthreads();
    }
}

/* Is it a transpose large enough for tiles? */
static bool plan_transpose(transpose *t, const ld_view *y, const ld_view *x) {
    const ld_view *views[] = {y, x};
    int64_t size[LD_MAX_DIMS];
    ld_space<2> s = ld_merge<2>(views, size);
    int a = s.ndim - 1, b = -1, outer = 0;
    for (int d = 0; d < a; d++)
        if (s.stride[1][d] == 1)
            b = d;
    if (b < 0 || s.stride[0][a] != 1 || s.ndim > 4 || size[a] < TILE / 2 || size[b] < TILE / 2)
        return false;
    memset(t, 0, sizeof *t);
    t->na = size[a];
    t->nb = size[b];
    t->x_step = s.stride[1][a];
    t->y_step = s.stride[0][b];
    t->a_tiles = (t->na + TILE - 1) / TILE;
    t->b_tiles = (t->nb + TILE - 1) / TILE;
    t->outer[0] = t->outer[1] = 1;
    for (int d = 0; d < a; d++)
        if (d != b) {
            t->outer[outer] = size[d];
            t->x_outer[outer] = s.stride[1][d];
            t->y_outer[outer++] = s.stride[0][d];
        }
    t->tiles = t->outer[0] * t->outer[1] * t->a_tiles * t->b_tiles;
    return true;
}

static int copy_same(const ld_view *y, const ld_view *x) {
    const ld_view *views[] = {y, x};
    transpose t;
    bool tiles = ld_view_numel(y) > 0 && plan_transpose(&t, y, x);
    return ld_each_size(y->dtype, [&](auto e) {
        typedef decltype(e) T;
        T *to = (T *)y->data;
        const T *from = (const T *)x->data;
        if (tiles)
            return LD_LAUNCH(k_transpose<T>, ld_blocks(t.tiles, 1), dim3(TILE, TILE_ROWS), 0, to, from, t);
        return ld_map<ld_lanes<T>::COUNT>(views, move<T>{to, from});
    });
}

/* ---- conversions ----------------------------------------------------------------------------------------------------- */

template <typename T> struct conversion {
    enum { N = 2 };
    T *y;
    const void *x;
    ld_dtype from;
    template <int V, typename S> __device__ void convert(const int64_t *at, const bool *same) const {
        typename ld_wide<S>::type v[V];
        pack<T, V> r;
        load_wide<V>(v, (const S *)x + at[1], same[1]);
        for (int i = 0; i < V; i++)
            r.v[i] = ld_to<T>::from(v[i]);
        store_pack<T, V>(y + at[0], r);
    }
    template <int V> __device__ void run(const int64_t *at, const bool *same) const {
        switch (from) {
        case LD_F32:
            return convert<V, float>(at, same);
        case LD_BF16:
            return convert<V, bf16>(at, same);
        case LD_F16:
            return convert<V, f16>(at, same);
        case LD_F64:
            return convert<V, double>(at, same);
        case LD_I64:
            return convert<V, int64_t>(at, same);
        case LD_I32:
            return convert<V, int32_t>(at, same);
        default:
            return convert<V, uint8_t>(at, same);
        }
    }
};

int ld_cuda_copy(const ld_view *y, const ld_view *x) {
    const ld_view *views[] = {y, x};
    if (y->dtype == x->dtype)
        return copy_same(y, x);
    size_t widest =
        ld_dtype_size(x->dtype) > ld_dtype_size(y->dtype) ? ld_dtype_size(x->dtype) : ld_dtype_size(y->dtype);
    return ld_each_type(y->dtype, "copy", [&](auto t) {
        typedef decltype(t) T;
        conversion<T> c = {(T *)y->data, x->data, x->dtype};
        return widest == 8 ? ld_map<2>(views, c) : ld_map<4>(views, c);
    });
}
