/* Layer normalisation on a device: how rows lie in threads.
 *
 * A row of c elements is `lanes` threads of one warp, each with up to K packs of V neighbours in registers; K = 0: rows that
 * are longer, or whose elements are not to be had 16 bytes at a time, are read again for every pass over them. */
#ifndef LD_KERNEL_LAYER_NORM_H
#define LD_KERNEL_LAYER_NORM_H

#include "kernels/fold.h"
#include "kernels/operand.h"

enum { LAYER_THREADS = 256 };

struct layer_shape {
    int64_t rows, c;
    int lanes; /* a power of two, at most 32 */
};

struct layer_place {
    int64_t row;
    int lane;
    bool there;
};

LD_DEVICE layer_place layer_place_of(const layer_shape &z) {
    layer_place at;
    at.row = (int64_t)blockIdx.x * (LAYER_THREADS / z.lanes) + (int)threadIdx.x / z.lanes;
    at.lane = (int)threadIdx.x % z.lanes;
    at.there = at.row < z.rows;
    return at;
}

/* f(k, j): pack k of the lane begins at column j. */
template <int V, int K, typename F> LD_DEVICE void layer_each(const layer_shape &z, const layer_place &at, F f) {
    if (K) {
#pragma unroll
        for (int k = 0; k < K; k++) {
            int64_t j = (int64_t)(k * z.lanes + at.lane) * V;
            if (at.there && j < z.c)
                f(k, j);
        }
    } else if (at.there)
        for (int64_t j = (int64_t)at.lane * V; j < z.c; j += z.lanes * V)
            f(0, j);
}

/* The lane's part of a row: loaded once, or whenever it is wanted. */
template <typename T, int V, int K> struct layer_row {
    pack<T, V> kept[K ? K : 1];
    const T *row;
};

template <typename T, int V, int K>
LD_DEVICE void layer_load(layer_row<T, V, K> &r, const T *x, const layer_shape &z, const layer_place &at) {
    r.row = x + (at.there ? at.row : 0) * z.c;
#pragma unroll
    for (int k = 0; k < (K ? K : 1); k++)
        r.kept[k] = pack<T, V>();
    if (K)
        layer_each<V, K>(z, at, [&](int k, int64_t j) { r.kept[k] = load_pack<T, V>(r.row + j); });
}

template <typename T, int V, int K> LD_DEVICE pack<T, V> layer_get(const layer_row<T, V, K> &r, int k, int64_t j) {
    return K ? r.kept[k] : load_pack<T, V>(r.row + j);
}

/* f(V, K) with the constants as types, for rows of c elements of T. */
template <int N> struct layer_number {
    enum { value = N };
};
template <typename T, typename F> static inline int layer_each_width(layer_shape z, bool packs, const F &f) {
    enum { V = 16 / sizeof(T) };
    int64_t steps = (z.c + V - 1) / V;
    z.lanes = 1;
    while (z.lanes < LD_WARP && z.lanes < (packs ? steps : z.c))
        z.lanes *= 2;
    if (!packs)
        return f(z, layer_number<1>(), layer_number<0>());
    if (steps <= LD_WARP)
        return f(z, layer_number<V>(), layer_number<1>());
    if (steps <= 4 * LD_WARP)
        return f(z, layer_number<V>(), layer_number<4>());
    return f(z, layer_number<V>(), layer_number<0>());
}

static inline unsigned layer_blocks(const layer_shape &z) {
    int64_t each = LAYER_THREADS / z.lanes;
    return (unsigned)((z.rows + each - 1) / each);
}

#endif
