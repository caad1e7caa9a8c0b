/* gather_rows and scatter_rows: rows of a table by index, and their gradient.
 *
 *   y[m] = x[idx[m]];   dx[r] = the sum of g[m] over idx[m] = r, in order of m
 *
 * Traffic of gather: y written once, the rows of x and idx read; 16 bytes a thread where rows are aligned. Scatter: a block
 * owns ROWS rows and THREADS columns of dx, whose sums (f32, or f64) stay in shared memory; it reads all of idx, notes the
 * positions that are its own, in order, and adds their rows. dx is written once, g read once, idx R K / (ROWS THREADS)
 * times: meant for tables of some thousand rows. Indices are checked by the caller; a row outside the table reads as zeros
 * and is not added. Proven by tests/sim/test_sim_rows.c against the CPU's slots. */
#include "kernels/kernel.h"

enum { THREADS = 256, ROWS = 16 };

template <int V, typename T>
__global__ void __launch_bounds__(THREADS)
    k_gather_rows(T *y, const T *x, const int64_t *idx, int64_t m, int64_t groups, int64_t rows) {
    for (int64_t u = blockIdx.x * (int64_t)THREADS + threadIdx.x; u < m * groups; u += (int64_t)gridDim.x * THREADS) {
        int64_t i = u / groups, from = idx[i];
        pack<T, V> v;
        memset((void *)&v, 0, sizeof v);
        if (from >= 0 && from < rows)
            v = load_pack<T, V>(x + (from * groups + u % groups) * V);
        store_pack<T, V>(y + u * V, v);
    }
}

int ld_cuda_gather_rows(const ld_view *y, const ld_view *x, const ld_view *idx) {
    int64_t m = y->shape[0], k = y->shape[1], rows = x->shape[0];
    const int64_t *at = (const int64_t *)idx->data;
    if (m * k == 0)
        return 0;
    return ld_each_size(y->dtype, [&](auto t) {
        typedef decltype(t) T;
        enum { V = 16 / sizeof(T) };
        T *to = (T *)y->data;
        const T *from = (const T *)x->data;
        bool aligned = ((uintptr_t)to | (uintptr_t)from) % 16 == 0 && k % V == 0;
        unsigned grid = ld_blocks(aligned ? m * k / V : m * k, THREADS);
        if (aligned)
            return LD_LAUNCH((k_gather_rows<V, T>), grid, THREADS, 0, to, from, at, m, k / V, rows);
        return LD_LAUNCH((k_gather_rows<1, T>), grid, THREADS, 0, to, from, at, m, k, rows);
    });
}

/* Which of the THREADS positions from `base` on lie in the block's rows: their numbers go to mine[0] ... in order. Returns how
 * many there are. */
LD_DEVICE int note(int *mine, int *counts, const int64_t *idx, int64_t m, int64_t base, int64_t first, int64_t rows) {
    int64_t i = base + threadIdx.x, row = i < m ? idx[i] - first : -1;
    bool hit = row >= 0 && row < ROWS && first + row < rows;
    unsigned lanes = __ballot_sync(LD_ALL_LANES, hit);
    int lane = (int)threadIdx.x % LD_WARP, warp = (int)threadIdx.x / LD_WARP, before = 0, all = 0;
    if (lane == 0)
        counts[warp] = __popc(lanes);
    __syncthreads();
    for (int w = 0; w < THREADS / LD_WARP; w++) {
        before += w < warp ? counts[w] : 0;
        all += counts[w];
    }
    if (hit)
        mine[before + __popc(lanes & ((1u << lane) - 1))] = (int)threadIdx.x * ROWS + (int)row;
    __syncthreads();
    return all;
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    k_scatter_rows(T *dx, const T *g, const int64_t *idx, int64_t m, int64_t k, int64_t rows) {
    typedef typename ld_wide<T>::type W;
    LD_SHARED(W, sums, [ROWS][THREADS]);
    LD_SHARED(int, mine, [THREADS]);
    LD_SHARED(int, counts, [THREADS / LD_WARP]);
    int64_t strips = (k + THREADS - 1) / THREADS, bands = (rows + ROWS - 1) / ROWS;
    for (int64_t u = blockIdx.x; u < strips * bands; u += gridDim.x) {
        int64_t first = u / strips * ROWS, column = u % strips * THREADS + threadIdx.x;
        for (int r = 0; r < ROWS; r++)
            sums[r][threadIdx.x] = 0;
        for (int64_t base = 0; base < m; base += THREADS) {
            int hits = note(mine, counts, idx, m, base, first, rows);
            for (int h = 0; h < hits && column < k; h++)
                sums[mine[h] % ROWS][threadIdx.x] += widen(g[(base + mine[h] / ROWS) * k + column]);
        }
        for (int r = 0; r < ROWS && first + r < rows && column < k; r++)
            dx[(first + r) * k + column] = narrow<T>(sums[r][threadIdx.x]);
    }
}

int ld_cuda_scatter_rows(const ld_view *dx, const ld_view *g, const ld_view *idx) {
    int64_t rows = dx->shape[0], k = dx->shape[1], m = g->shape[0];
    int64_t blocks = (k + THREADS - 1) / THREADS * ((rows + ROWS - 1) / ROWS);
    if (rows * k == 0)
        return 0;
    return ld_each_float(dx->dtype, "gather backward", [&](auto t) {
        typedef decltype(t) T;
        return LD_LAUNCH(k_scatter_rows<T>, ld_blocks(blocks, 1), THREADS, 0, (T *)dx->data, (const T *)g->data,
                         (const int64_t *)idx->data, m, k, rows);
    });
}
