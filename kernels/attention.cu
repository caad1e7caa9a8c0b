/* Attention, y = softmax(scale q k^T) v, without the matrix of scores (attention.h says how work is cut).
 *
 * A lane holds 4 queries. Keys and values pass by in tiles; after every 8 keys the sums are rescaled to the new largest
 * score (Milakov & Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135). Exponentials are powers of 2: the
 * scale times log2(e) is in q. Memory traffic: q and y once; k and v once for every run of up to 512 queries / lanes; lse.
 * Arithmetic: 2 multiplications and additions for every query, key and column, on float units: narrow heads of 16 bits go to
 * tensor cores instead (attention_mma.cu).
 * f64 is the plain formula, a thread a query. Test: tests/sim/test_sim_attention.c. */
#include "kernels/attention_mma.h"

enum { ROWS = 4, GROUP = 8 };

/* What a lane keeps of its queries. */
template <int DEPTH> struct att_state { float q[ROWS][DEPTH], sum[ROWS][DEPTH], most[ROWS], total[ROWS]; };

/* GROUP keys more, of which `valid` exist. */
template <int DEPTH, int LANES>
LD_DEVICE void att_group(att_state<DEPTH> &st, const float *k, const float *v, int valid, const att_place &at) {
    float p[GROUP * ROWS], row[DEPTH];
#pragma unroll
    for (int j = 0; j < GROUP; j++) {
        att_tile_row<DEPTH>(row, k, j, at);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            p[j * ROWS + r] = att_dot<DEPTH>(st.q[r], row);
    }
    att_sum_lanes<LANES, GROUP * ROWS>(p, at);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        float most = st.most[r];
#pragma unroll
        for (int j = 0; j < GROUP; j++) {
            p[j * ROWS + r] = j < valid ? p[j * ROWS + r] : -INFINITY;
            most = fmaxf(most, p[j * ROWS + r]);
        }
        float shrink = att_exp2(st.most[r] - most), total = 0;
#pragma unroll
        for (int j = 0; j < GROUP; j++) {
            p[j * ROWS + r] = att_exp2(p[j * ROWS + r] - most);
            total += p[j * ROWS + r];
        }
        st.most[r] = most;
        st.total[r] = st.total[r] * shrink + total;
#pragma unroll
        for (int c = 0; c < DEPTH; c++)
            st.sum[r][c] *= shrink;
    }
#pragma unroll
    for (int j = 0; j < GROUP; j++) {
        att_tile_row<DEPTH>(row, v, j, at);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            att_add<DEPTH>(st.sum[r], p[j * ROWS + r], row);
    }
}

template <typename T, int DEPTH, int LANES>
__global__ void __launch_bounds__(ATT_THREADS)
    k_attention(att_shape z, att_heads<T> y, float *lse, att_heads<T> q, att_heads<T> k, att_heads<T> v) {
    LD_DYNAMIC_SHARED(float, tiles);
    att_place at = att_place_of<LANES, ROWS>(z);
    int wide_row = DEPTH * at.lanes, all = z.packed * z.stride;
    att_state<DEPTH> st;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        att_load_row<T, DEPTH>(st.q[r], q, z, at, at.row + r * at.step, z.scale * ATT_LOG2E);
        st.most[r] = -INFINITY;
        st.total[r] = 0;
#pragma unroll
        for (int c = 0; c < DEPTH; c++)
            st.sum[r][c] = 0;
    }
    const float *mine = tiles + at.mine * z.stride;
    for (int first = 0; first < z.others; first += z.tile) {
        __syncthreads();
        att_load_tile<T, DEPTH>(tiles, tiles + all, k, v, z, at, first, 1);
        __syncthreads();
        int count = z.others - first < z.tile ? z.others - first : z.tile;
        for (int j = 0; j < count; j += GROUP)
            att_group<DEPTH, LANES>(st, mine + j * wide_row, mine + all + j * wide_row, count - j, at);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        int row = at.row + r * at.step;
        att_store_row<T, DEPTH>(y, st.sum[r], z, at, row, 1 / st.total[r]);
        if (!at.lane && at.there && row < z.rows)
            lse[at.unit * z.rows + row] = (st.most[r] + log2f(st.total[r])) * ATT_LN2;
    }
}

/* ---- f64, and nothing ------------------------------------------------------------------------------------------------------- */

LD_DEVICE double att_score(const double *q, const double *k, int d, double scale) {
    double sum = 0;
    for (int c = 0; c < d; c++)
        sum += q[c] * k[c];
    return sum * scale;
}

__global__ void __launch_bounds__(ATT_THREADS)
    k_attention_f64(att_shape z, att_heads<double> y, double *lse, att_heads<double> q, att_heads<double> k,
                    att_heads<double> v, double scale) {
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= z.units * z.rows)
        return;
    const double *at = att_row(q, z, i / z.rows, i % z.rows);
    double most = -INFINITY, total = 0, *out = att_row(y, z, i / z.rows, i % z.rows);
    for (int j = 0; j < z.others; j++)
        most = fmax(most, att_score(at, att_row(k, z, i / z.rows, j), z.d, scale));
    for (int j = 0; j < z.others; j++)
        total += exp(att_score(at, att_row(k, z, i / z.rows, j), z.d, scale) - most);
    for (int c = 0; c < z.d; c++)
        out[c] = 0;
    for (int j = 0; j < z.others; j++) {
        double p = exp(att_score(at, att_row(k, z, i / z.rows, j), z.d, scale) - most) / total;
        for (int c = 0; c < z.d; c++)
            out[c] += p * att_row(v, z, i / z.rows, j)[c];
    }
    lse[i] = most + log(total);
}

/* Nothing to look at: y = 0, and the sum of S exponentials of 0. A thread a row. */
template <typename T>
__global__ void __launch_bounds__(ATT_THREADS) k_attention_none(att_shape z, att_heads<T> y, wide<T> *lse) {
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= z.units * z.rows)
        return;
    for (int c = 0; c < z.d; c++)
        att_row(y, z, i / z.rows, i % z.rows)[c] = narrow<T>(0);
    lse[i] = log((wide<T>)z.others);
}

/* ---- the slot ---------------------------------------------------------------------------------------------------------------- */

int ld_cuda_attention(const ld_view *y, const ld_view *lse, const ld_view *q, const ld_view *k, const ld_view *v,
                      double scale) {
    int err = att_check(q, k, v, lse);
    err = err ? err : check_same("attention", "y", y, q->dtype);
    if (err)
        return err;
    att_shape z = att_shape_of(q, k, ROWS, 0, scale);
    z.packs = att_packs(q) && att_packs(k) && att_packs(v) && att_packs(y);
    void *block = ld_cuda_workspace(16, "attention"); /* needs none, but a plan ends a slot here */
    if (!block)
        return ld_cuda_workspace_missing();
    unsigned plain = (unsigned)((z.units * z.rows + ATT_THREADS - 1) / ATT_THREADS);
    if (plain && z.others && z.d && mma_suits(z, q->dtype))
        err = ld_attention_mma(z, y, lse, q, k, v);
    else if (plain)
        err = ld_each_float(q->dtype, "attention", [&](auto t) {
            typedef decltype(t) T;
            att_heads<T> hy = att_heads_of<T>(y), hq = att_heads_of<T>(q), hk = att_heads_of<T>(k),
                         hv = att_heads_of<T>(v);
            wide<T> *sums = (wide<T> *)lse->data;
            if (!z.others || !z.d)
                return LD_LAUNCH(k_attention_none<T>, plain, ATT_THREADS, 0, z, hy, sums);
            if constexpr (sizeof(T) == sizeof(double))
                return LD_LAUNCH(k_attention_f64, plain, ATT_THREADS, 0, z, hy, sums, hq, hk, hv, scale);
            else
                return att_each_width(z, [&](auto depth, auto lanes) {
                    return LD_LAUNCH((k_attention<T, decltype(depth)::value, decltype(lanes)::value>), att_blocks(z),
                                     att_threads(z), att_shared(z, 0), z, hy, sums, hq, hk, hv);
                });
        });
    ld_cuda_workspace_done(block);
    return err;
}
