/* Gradients of attention on tensor cores, for narrow heads of bf16 (attention_mma.h): with P = exp(scale q k^T - lse),
 * D = rowsum(g y) and dS = P (g v^T - D), dq = scale dS k, dk = scale dS^T q, dv = P^T g (Dao et al. 2022,
 * arXiv:2205.14135, appendix B.2).
 *
 * Two launches, as in attention_bwd.cu: a warp that holds 16 queries while keys pass by makes D and dq, one that holds 16
 * keys while queries pass by makes dk and dv; no two warps add to one number. Scores, P, dS and all sums are float; P and dS
 * are rounded to bf16 where they meet g, k and q. f16 is left to attention_bwd.cu: of 1000 keys and small gradients, dS would
 * fall below what f16 holds. Memory traffic: q, k, v, g, y and the results about once, the side that passes by again for each
 * run of 64 rows. Test: tests/sim/test_sim_attention.c. */
#include "kernels/attention_mma.h"

/* ---- queries stay ---------------------------------------------------------------------------------------------------------- */

/* What a lane keeps of its two queries, g and g + 8 of the warp's; lse in powers of 2. */
template <int D> struct mma_gradients {
    uint32_t q[D / 16][4], g[D / 16][4];
    float sum[D / 8][4], lse[2], delta[2];
};

/* rowsum(g y) of the two rows whose parts the lanes of a group of 4 hold. */
template <typename T, int D> LD_DEVICE void mma_delta(float *delta, const uint32_t (*g)[4], const uint32_t (*y)[4]) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < D / 16; i++)
#pragma unroll
            for (int k = r; k < 4; k += 2)
                sum += widen(mma_low<T>(g[i][k])) * widen(mma_low<T>(y[i][k])) +
                       widen(mma_high<T>(g[i][k])) * widen(mma_high<T>(y[i][k]));
        sum += __shfl_xor_sync(LD_ALL_LANES, sum, 1);
        sum += __shfl_xor_sync(LD_ALL_LANES, sum, 2);
        delta[r] = sum;
    }
}

/* The queries' operands, their lse, and D, which is also stored for the other launch. */
template <typename T, int D>
LD_DEVICE void mma_load_queries(mma_gradients<D> &st, const att_shape &z, const att_gradient<T> &a, int64_t unit,
                                int row) {
    uint32_t y[D / 16][4];
    mma_load_own<T, D>(st.q, mma_rows_of(a.q, z, unit, z.rows), row);
    mma_load_own<T, D>(st.g, mma_rows_of(a.g, z, unit, z.rows), row);
    mma_load_own<T, D>(y, mma_rows_of(a.y, z, unit, z.rows), row);
    mma_delta<T, D>(st.delta, st.g, y);
    int lane = (int)threadIdx.x % LD_WARP;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int at = row + lane / 4 + 8 * r;
        st.lse[r] = at < z.rows ? a.lse[unit * z.rows + at] * ATT_LOG2E : 0;
        if (at < z.rows && lane % 4 == 0)
            a.delta[unit * z.rows + at] = st.delta[r];
    }
#pragma unroll
    for (int i = 0; i < D / 8; i++)
        st.sum[i][0] = st.sum[i][1] = st.sum[i][2] = st.sum[i][3] = 0;
}

/* 16 keys more, from 16 j on in the tile, which has `count`. columns: the keys once more. */
template <typename T, int D>
LD_DEVICE void mma_group_dq(mma_gradients<D> &st, const uint32_t *keys, const uint32_t *values, const uint32_t *columns,
                            int j, int count, float scale) {
    float s[2][4], ds[2][4];
    int t = (int)threadIdx.x % 4;
    mma_scores<T, D>(s, st.q, keys, j);
    mma_scores<T, D>(ds, st.g, values, j);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int h = i / 4, e = i % 4, r = e / 2;
        bool there = 16 * j + 8 * h + 2 * t + e % 2 < count;
        float p = att_exp2(s[h][e] * scale - st.lse[r]);
        ds[h][e] = there ? p * (ds[h][e] - st.delta[r]) : 0;
    }
    mma_add<T, D>(st.sum, ds, columns, j);
}

template <typename T, int D>
__global__ void __launch_bounds__(MMA_WARPS *LD_WARP) k_attention_mma_dq(att_shape z, att_gradient<T> a) {
    LD_DYNAMIC_SHARED(uint32_t, keys);
    uint32_t *values = keys + mma_pitch<D>::tile, *columns = values + mma_pitch<D>::tile;
    int row = mma_first_row(z);
    int64_t unit = mma_unit(z);
    mma_rows<T> ks = mma_rows_of(a.k, z, unit, z.others), vs = mma_rows_of(a.v, z, unit, z.others);
    float scale = z.scale * ATT_LOG2E, f[2] = {z.scale, z.scale};
    mma_gradients<D> st;
    mma_load_queries<T, D>(st, z, a, unit, row);
    for (int first = 0; first < z.others; first += MMA_TILE) {
        int count = z.others - first < MMA_TILE ? z.others - first : MMA_TILE;
        __syncthreads();
        mma_load_rows<T, D>(keys, ks, first, count);
        mma_load_rows<T, D>(values, vs, first, count);
        mma_load_columns<T, D>(columns, ks, first, count);
        __syncthreads();
        for (int j = 0; 16 * j < count && row < z.rows; j++)
            mma_group_dq<T, D>(st, keys, values, columns, j, count, scale);
    }
    mma_store<T, D>(mma_rows_of(a.dq, z, unit, z.rows), st.sum, row, f);
}

/* ---- keys stay ------------------------------------------------------------------------------------------------------------- */

template <int D> struct mma_keys {
    uint32_t k[D / 16][4], v[D / 16][4];
    float dk[D / 8][4], dv[D / 8][4];
};

/* A tile of queries and their gradients: in rows, in columns, and their lse in powers of 2 and D. */
template <int D> struct mma_query_tile {
    uint32_t *q, *g, *q_columns, *g_columns;
    float *lse, *delta;
    enum { words = 2 * mma_pitch<D>::tile + 2 * D * MMA_COLUMN_WORDS + 2 * MMA_TILE };
};

/* Past the last query all is 0, so that nothing adds up. */
template <typename T, int D>
LD_DEVICE void mma_load_tile(const mma_query_tile<D> &to, const mma_rows<T> &q, const mma_rows<T> &g, const float *lse,
                             const float *delta, int first, int count) {
    mma_load_rows<T, D>(to.q, q, first, count);
    mma_load_rows<T, D>(to.g, g, first, count);
    mma_load_columns<T, D>(to.q_columns, q, first, count);
    mma_load_columns<T, D>(to.g_columns, g, first, count);
    for (int i = (int)threadIdx.x; i < MMA_TILE; i += (int)blockDim.x) {
        to.lse[i] = i < count ? lse[first + i] * ATT_LOG2E : 0;
        to.delta[i] = i < count ? delta[first + i] : 0;
    }
}

/* 16 queries more, from 16 j on in the tile. */
template <typename T, int D>
LD_DEVICE void mma_group_dkv(mma_keys<D> &st, const mma_query_tile<D> &tile, int j, float scale) {
    float p[2][4], ds[2][4];
    int t = (int)threadIdx.x % 4;
    mma_scores<T, D>(p, st.k, tile.q, j);
    mma_scores<T, D>(ds, st.v, tile.g, j);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int h = i / 4, e = i % 4, query = 16 * j + 8 * h + 2 * t + e % 2;
        p[h][e] = att_exp2(p[h][e] * scale - tile.lse[query]);
        ds[h][e] = p[h][e] * (ds[h][e] - tile.delta[query]);
    }
    mma_add<T, D>(st.dv, p, tile.g_columns, j);
    mma_add<T, D>(st.dk, ds, tile.q_columns, j);
}

/* Blocks a processor: as many as registers allow without spilling. */
template <typename T, int D>
__global__ void __launch_bounds__(MMA_WARPS *LD_WARP, D == 16 ? 5 : 2)
    k_attention_mma_dkv(att_shape z, att_gradient<T> a) {
    LD_DYNAMIC_SHARED(uint32_t, shared);
    enum { ROWS = mma_pitch<D>::tile, COLUMNS = D * MMA_COLUMN_WORDS };
    float *sums = (float *)(shared + 2 * ROWS + 2 * COLUMNS);
    mma_query_tile<D> tile = {shared, shared + ROWS,  shared + 2 * ROWS, shared + 2 * ROWS + COLUMNS,
                              sums,   sums + MMA_TILE};
    int row = mma_first_row(z);
    int64_t unit = mma_unit(z);
    mma_rows<T> qs = mma_rows_of(a.q, z, unit, z.others), gs = mma_rows_of(a.g, z, unit, z.others);
    float scale = z.scale * ATT_LOG2E, fk[2] = {z.scale, z.scale}, fv[2] = {1, 1};
    mma_keys<D> st;
    mma_load_own<T, D>(st.k, mma_rows_of(a.k, z, unit, z.rows), row);
    mma_load_own<T, D>(st.v, mma_rows_of(a.v, z, unit, z.rows), row);
#pragma unroll
    for (int i = 0; i < D / 8; i++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            st.dk[i][e] = st.dv[i][e] = 0;
    for (int first = 0; first < z.others; first += MMA_TILE) {
        int count = z.others - first < MMA_TILE ? z.others - first : MMA_TILE;
        __syncthreads();
        mma_load_tile<T, D>(tile, qs, gs, a.lse + unit * z.others, a.delta + unit * z.others, first, count);
        __syncthreads();
        for (int j = 0; 16 * j < count && row < z.rows; j++)
            mma_group_dkv<T, D>(st, tile, j, scale);
    }
    mma_store<T, D>(mma_rows_of(a.dk, z, unit, z.rows), st.dk, row, fk);
    mma_store<T, D>(mma_rows_of(a.dv, z, unit, z.rows), st.dv, row, fv);
}

/* ---- on the host ------------------------------------------------------------------------------------------------------------ */

int ld_attention_mma_bwd(const att_gradient<bf16> &a, const att_shape &queries, const att_shape &keys) {
    att_shape zq = mma_shape(queries), zk = mma_shape(keys);
    return mma_each_width(zq, [&](auto width) {
        enum { D = decltype(width)::value };
        size_t q_words = 2 * mma_pitch<D>::tile + D * MMA_COLUMN_WORDS, k_words = mma_query_tile<D>::words;
        int err = LD_LAUNCH((k_attention_mma_dq<bf16, D>), (unsigned)(zq.units * zq.runs), mma_threads(zq),
                            q_words * sizeof(uint32_t), zq, a);
        return err ? err
                   : LD_LAUNCH((k_attention_mma_dkv<bf16, D>), (unsigned)(zk.units * zk.runs), mma_threads(zk),
                               k_words * sizeof(uint32_t), zk, a);
    });
}
