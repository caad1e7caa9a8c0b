/* Attention on tensor cores, y = softmax(scale q k^T) v, for narrow heads of bf16 or f16 (attention_mma.h).
 *
 * A warp holds 16 queries. For each tile of 64 keys it makes their scores in registers, rescales its sums to the new largest
 * score, and adds the values weighed by exponentials (Dao et al. 2022, arXiv:2205.14135). Scores, exponentials and all sums
 * are float; the exponentials are rounded to the dtype where they meet the values, not in the lse. Memory traffic: q and y
 * once; k and v once for every run of 64 queries; lse. Test: tests/sim/test_sim_attention.c. */
#include "kernels/attention_mma.h"

enum { GROUPS = MMA_TILE / 16 };

/* What a lane keeps of its two queries, g and g + 8 of the warp's. */
template <int D> struct mma_queries {
    uint32_t q[D / 16][4];
    float sum[D / 8][4], most[2], total[2];
};

/* s = the scores of a tile's first `count` keys times the scale, -inf past them; most = the largest so far of each query.
 * WHOLE: the tile is full. */
template <typename T, int D, bool WHOLE>
LD_DEVICE void mma_tile_scores(float (*s)[2][4], float *most, const mma_queries<D> &st, const uint32_t *keys, int count,
                               float scale) {
    int t = (int)threadIdx.x % 4;
    most[0] = st.most[0];
    most[1] = st.most[1];
#pragma unroll
    for (int j = 0; j < GROUPS; j++) {
        if (!WHOLE && 16 * j >= count)
            break;
        mma_scores<T, D>(s[j], st.q, keys, j);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            int h = i / 4, e = i % 4;
            bool there = WHOLE || 16 * j + 8 * h + 2 * t + e % 2 < count;
            s[j][h][e] = there ? s[j][h][e] * scale : -INFINITY;
            most[e / 2] = fmaxf(most[e / 2], s[j][h][e]);
        }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        most[r] = fmaxf(most[r], __shfl_xor_sync(LD_ALL_LANES, most[r], 1));
        most[r] = fmaxf(most[r], __shfl_xor_sync(LD_ALL_LANES, most[r], 2));
    }
}

template <typename T, int D, bool WHOLE>
LD_DEVICE void mma_tile(mma_queries<D> &st, const uint32_t *keys, const uint32_t *values, int count, float scale) {
    float s[GROUPS][2][4], most[2];
    mma_tile_scores<T, D, WHOLE>(s, most, st, keys, count, scale);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float shrink = att_exp2(st.most[r] - most[r]);
        st.most[r] = most[r];
        st.total[r] *= shrink;
#pragma unroll
        for (int i = 0; i < D / 8; i++) {
            st.sum[i][2 * r] *= shrink;
            st.sum[i][2 * r + 1] *= shrink;
        }
    }
#pragma unroll
    for (int j = 0; j < GROUPS; j++) {
        if (!WHOLE && 16 * j >= count)
            break;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float &p = s[j][i / 4][i % 4];
            p = att_exp2(p - most[i % 4 / 2]);
            st.total[i % 4 / 2] += p;
        }
        mma_add<T, D>(st.sum, s[j], values, j);
    }
}

template <typename T, int D>
__global__ void __launch_bounds__(MMA_WARPS *LD_WARP)
    k_attention_mma(att_shape z, att_heads<T> y, float *lse, att_heads<T> q, att_heads<T> k, att_heads<T> v) {
    LD_DYNAMIC_SHARED(uint32_t, keys);
    uint32_t *values = keys + mma_pitch<D>::tile;
    int lane = (int)threadIdx.x % LD_WARP, row = mma_first_row(z);
    int64_t unit = mma_unit(z);
    mma_rows<T> ks = mma_rows_of(k, z, unit, z.others), vs = mma_rows_of(v, z, unit, z.others);
    float scale = z.scale * ATT_LOG2E, f[2];
    mma_queries<D> st;
    mma_load_own<T, D>(st.q, mma_rows_of(q, z, unit, z.rows), row);
    st.most[0] = st.most[1] = -INFINITY;
    st.total[0] = st.total[1] = 0;
#pragma unroll
    for (int i = 0; i < D / 8; i++)
        st.sum[i][0] = st.sum[i][1] = st.sum[i][2] = st.sum[i][3] = 0;
    for (int first = 0; first < z.others; first += MMA_TILE) {
        int count = z.others - first < MMA_TILE ? z.others - first : MMA_TILE;
        __syncthreads();
        mma_load_rows<T, D>(keys, ks, first, count);
        mma_load_columns<T, D>(values, vs, first, count);
        __syncthreads();
        if (row < z.rows && count == MMA_TILE)
            mma_tile<T, D, true>(st, keys, values, count, scale);
        else if (row < z.rows)
            mma_tile<T, D, false>(st, keys, values, count, scale);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float total = st.total[r] + __shfl_xor_sync(LD_ALL_LANES, st.total[r], 1);
        total += __shfl_xor_sync(LD_ALL_LANES, total, 2);
        f[r] = 1 / total;
        int at = row + lane / 4 + 8 * r;
        if (lane % 4 == 0 && at < z.rows)
            lse[unit * z.rows + at] = (st.most[r] + log2f(total)) * ATT_LN2;
    }
    mma_store<T, D>(mma_rows_of(y, z, unit, z.rows), st.sum, row, f);
}

template <typename T>
static int run_mma(const att_shape &z, const ld_view *y, const ld_view *lse, const ld_view *q, const ld_view *k,
                   const ld_view *v) {
    return mma_each_width(z, [&](auto width) {
        enum { D = decltype(width)::value };
        size_t bytes = (mma_pitch<D>::tile + D * MMA_COLUMN_WORDS) * sizeof(uint32_t);
        return LD_LAUNCH((k_attention_mma<T, D>), (unsigned)(z.units * z.runs), mma_threads(z), bytes, z,
                         att_heads_of<T>(y), (float *)lse->data, att_heads_of<T>(q), att_heads_of<T>(k),
                         att_heads_of<T>(v));
    });
}

int ld_attention_mma(const att_shape &shape, const ld_view *y, const ld_view *lse, const ld_view *q, const ld_view *k,
                     const ld_view *v) {
    att_shape z = mma_shape(shape);
    return q->dtype == LD_BF16 ? run_mma<bf16>(z, y, lse, q, k, v) : run_mma<f16>(z, y, lse, q, k, v);
}
