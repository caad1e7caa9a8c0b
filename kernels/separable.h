/* Separable linear maps of NHWC images: pooling by means, repetition, resizing, and their gradients.
 *
 * An axis says how each of `out` positions is a weighted sum of neighbouring `in` positions:
 *   first(i), end(i)   the positions of `in` that position i takes
 *   weight(i, k)       what position k is multiplied by for position i
 *   low(k), high(k)    the positions of `out` that take position k
 * An image is mapped by one axis for its rows and one for its columns. The gradient is the map with both axes turned round:
 * each element gathers what it gave, so nothing is added into memory and every sum has one order.
 *
 * A thread makes 16 bytes of channels of one pixel, or one element where channels do not divide. */
#ifndef LD_SEPARABLE_CUDA_H
#define LD_SEPARABLE_CUDA_H

#include "kernels/space.h"

/* An axis the other way round. */
template <typename Axis> struct turned {
    Axis a;
    LD_BOTH_MEMBER int first(int i) const {
        return a.low(i);
    }
    LD_BOTH_MEMBER int end(int i) const {
        return a.high(i);
    }
    template <typename W> __device__ W weight(int i, int k) const {
        return a.template weight<W>(k, i);
    }
};

template <typename T, typename Axis> struct image_map {
    T *y;
    const T *x;
    Axis rows, columns;
    int64_t units, groups; /* groups of channels a pixel */
    int y_rows, y_columns, x_rows, x_columns;
    int64_t channels;
    bool small;
    ld_divisor by_group, by_column, by_row;
};

template <typename M>
LD_DEVICE void find_pixel(const M &m, int64_t u, int64_t *image, int *row, int *column, int64_t *group) {
    if (m.small) {
        uint32_t pixel = m.by_group.quotient((uint32_t)u), line = m.by_column.quotient(pixel);
        uint32_t n = m.by_row.quotient(line);
        *group = (uint32_t)u - pixel * m.by_group.by;
        *column = (int)(pixel - line * m.by_column.by);
        *row = (int)(line - n * m.by_row.by);
        *image = n;
    } else {
        int64_t pixel = u / m.groups, line = pixel / m.y_columns;
        *group = u % m.groups;
        *column = (int)(pixel % m.y_columns);
        *row = (int)(line % m.y_rows);
        *image = line / m.y_rows;
    }
}

template <int V, typename T, typename Axis>
__global__ void __launch_bounds__(256) k_image_map(const image_map<T, Axis> m) {
    typedef typename ld_wide<T>::type W;
    for (int64_t u = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; u < m.units;
         u += (int64_t)gridDim.x * blockDim.x) {
        int64_t n, group;
        int row, column;
        find_pixel(m, u, &n, &row, &column, &group);
        const T *image = m.x + n * m.x_rows * m.x_columns * m.channels + group * V;
        int top = m.rows.first(row), bottom = m.rows.end(row);
        int left = m.columns.first(column), right = m.columns.end(column);
        W sum[V];
        for (int i = 0; i < V; i++)
            sum[i] = 0;
        for (int q = left; q < right; q++) {
            W line[V], v[V], share = m.columns.template weight<W>(column, q);
            for (int i = 0; i < V; i++)
                line[i] = 0;
            for (int p = top; p < bottom; p++) {
                W by = m.rows.template weight<W>(row, p);
                load_wide<V>(v, image + ((int64_t)p * m.x_columns + q) * m.channels, false);
#pragma unroll
                for (int i = 0; i < V; i++)
                    line[i] += by * v[i];
            }
#pragma unroll
            for (int i = 0; i < V; i++)
                sum[i] += share * line[i];
        }
        store_narrow<V>(m.y + u * V, sum);
    }
}

template <int V, typename T, typename Axis> static inline int run_image_map(image_map<T, Axis> &m, int64_t pixels) {
    m.groups = m.channels / V;
    m.units = pixels * m.groups;
    m.small = m.units < ((int64_t)1 << 31);
    if (m.small) {
        m.by_group = ld_divisor_of((uint32_t)m.groups);
        m.by_column = ld_divisor_of((uint32_t)m.y_columns);
        m.by_row = ld_divisor_of((uint32_t)m.y_rows);
    }
    return LD_LAUNCH((k_image_map<V, T, Axis>), ld_blocks(m.units, 256), 256, 0, m);
}

/* y (N,C,P,Q) = rows and columns applied to x (N,C,H,W), both NHWC. */
template <typename Axis>
static inline int ld_image_map(const char *who, const ld_view *y, const ld_view *x, const Axis &rows,
                               const Axis &columns) {
    int64_t pixels = y->shape[0] * y->shape[2] * y->shape[3];
    if (ld_view_numel(y) == 0)
        return 0;
    return ld_each_float(y->dtype, who, [&](auto t) {
        typedef decltype(t) T;
        enum { V = ld_lanes<T>::COUNT };
        image_map<T, Axis> m;
        memset((void *)&m, 0, sizeof m);
        m.y = (T *)y->data;
        m.x = (const T *)x->data;
        m.rows = rows;
        m.columns = columns;
        m.y_rows = (int)y->shape[2];
        m.y_columns = (int)y->shape[3];
        m.x_rows = (int)x->shape[2];
        m.x_columns = (int)x->shape[3];
        m.channels = y->shape[1];
        bool aligned = ((uintptr_t)y->data | (uintptr_t)x->data) % 16 == 0;
        return aligned && m.channels % V == 0 ? run_image_map<V>(m, pixels) : run_image_map<1>(m, pixels);
    });
}

template <typename Axis>
static inline int ld_image_map_bwd(const char *who, const ld_view *dx, const ld_view *g, const Axis &rows,
                                   const Axis &columns) {
    return ld_image_map(who, dx, g, turned<Axis>{rows}, turned<Axis>{columns});
}

#endif
