/* Gradients of attention without the matrix of scores: with P = exp(scale q k^T - lse), D = rowsum(g y) and
 * dS = P (g v^T - D), dq = scale dS k, dk = scale dS^T q, dv = P^T g (Dao et al. 2022, arXiv:2205.14135, appendix B.2).
 *
 * Two launches, each computing the scores again: one with queries in registers and keys passing by makes D and dq; the other
 * with keys in registers and queries passing by makes dk and dv, so no two threads add to one number. Memory traffic: q, k,
 * v, g, y once or twice and dq, dk, dv once, the side that passes by again for each run of rows (attention.h). Arithmetic:
 * 7 products where 5 would do with sums shared between blocks. f64 is the plain formula, a thread a row. Narrow
 * heads of bf16 go to tensor cores instead (attention_mma_bwd.cu).
 * Test: tests/sim/test_sim_attention.c. */
#include "kernels/attention_mma.h"

#include <type_traits>

enum { GROUP = 2 }; /* rows that pass by, looked at together */

/* Rows a lane holds: three or four vectors of DEPTH numbers each. */
template <int DEPTH> struct att_rows {
    enum { value = DEPTH == 8 ? 4 : 2 };
};

/* ---- queries in registers ------------------------------------------------------------------------------------------------- */

template <int DEPTH, int ROWS> struct att_queries {
    float q[ROWS][DEPTH], g[ROWS][DEPTH], dq[ROWS][DEPTH], lse[ROWS], delta[ROWS];
};

template <int DEPTH, int LANES, int ROWS>
LD_DEVICE void att_group_dq(att_queries<DEPTH, ROWS> &st, const float *k, const float *v, int valid,
                            const att_place &at) {
    float p[2 * GROUP * ROWS], *dp = p + GROUP * ROWS, row[DEPTH];
#pragma unroll
    for (int j = 0; j < GROUP; j++) {
        att_tile_row<DEPTH>(row, k, j, at);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            p[j * ROWS + r] = att_dot<DEPTH>(st.q[r], row);
        att_tile_row<DEPTH>(row, v, j, at);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            dp[j * ROWS + r] = att_dot<DEPTH>(st.g[r], row);
    }
    att_sum_lanes<LANES, 2 * GROUP * ROWS>(p, at);
#pragma unroll
    for (int j = 0; j < GROUP; j++) {
        att_tile_row<DEPTH>(row, k, j, at);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            float e = j < valid ? att_exp2(p[j * ROWS + r] - st.lse[r]) : 0;
            att_add<DEPTH>(st.dq[r], e * (dp[j * ROWS + r] - st.delta[r]), row);
        }
    }
}

/* D of the lane's queries, for itself and for the other launch. */
template <typename T, int DEPTH, int LANES, int ROWS>
LD_DEVICE void att_delta(att_queries<DEPTH, ROWS> &st, const att_gradient<T> &a, const att_shape &z,
                         const att_place &at) {
    float y[DEPTH];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        att_load_row<T, DEPTH>(y, a.y, z, at, at.row + r * at.step, 1);
        st.delta[r] = att_dot<DEPTH>(st.g[r], y);
    }
    att_sum_lanes<LANES, ROWS>(st.delta, at);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        int row = at.row + r * at.step;
        bool there = at.there && row < z.rows;
        if (there && !at.lane)
            a.delta[at.unit * z.rows + row] = st.delta[r];
        st.lse[r] = there ? a.lse[at.unit * z.rows + row] * ATT_LOG2E : 0;
    }
}

template <typename T, int DEPTH, int LANES>
__global__ void __launch_bounds__(ATT_THREADS, 3) k_attention_dq(att_shape z, att_gradient<T> a) {
    enum { ROWS = att_rows<DEPTH>::value };
    LD_DYNAMIC_SHARED(float, tiles);
    att_place at = att_place_of<LANES, ROWS>(z);
    int wide_row = DEPTH * at.lanes, all = z.packed * z.stride;
    att_queries<DEPTH, ROWS> st;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        att_load_row<T, DEPTH>(st.q[r], a.q, z, at, at.row + r * at.step, z.scale * ATT_LOG2E);
        att_load_row<T, DEPTH>(st.g[r], a.g, z, at, at.row + r * at.step, 1);
#pragma unroll
        for (int c = 0; c < DEPTH; c++)
            st.dq[r][c] = 0;
    }
    att_delta<T, DEPTH, LANES, ROWS>(st, a, z, at);
    const float *mine = tiles + at.mine * z.stride;
    for (int first = 0; first < z.others; first += z.tile) {
        __syncthreads();
        att_load_tile<T, DEPTH>(tiles, tiles + all, a.k, a.v, z, at, first, 1);
        __syncthreads();
        int count = z.others - first < z.tile ? z.others - first : z.tile;
        for (int j = 0; j < count; j += GROUP)
            att_group_dq<DEPTH, LANES, ROWS>(st, mine + j * wide_row, mine + all + j * wide_row, count - j, at);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        att_store_row<T, DEPTH>(a.dq, st.dq[r], z, at, at.row + r * at.step, z.scale);
}

/* ---- keys in registers ---------------------------------------------------------------------------------------------------- */

template <int DEPTH, int ROWS> struct att_keys {
    float k[ROWS][DEPTH], v[ROWS][DEPTH], dk[ROWS][DEPTH], dv[ROWS][DEPTH];
};

/* One query more: its row, its gradient, its lse in powers of 2, its D. */
template <int DEPTH, int LANES, int ROWS>
LD_DEVICE void att_query_dkv(att_keys<DEPTH, ROWS> &st, const float *q, const float *g, float lse, float delta,
                             const att_place &at) {
    float p[2 * ROWS], qrow[DEPTH], grow[DEPTH];
    att_tile_row<DEPTH>(qrow, q, 0, at);
    att_tile_row<DEPTH>(grow, g, 0, at);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        p[r] = att_dot<DEPTH>(st.k[r], qrow);
        p[ROWS + r] = att_dot<DEPTH>(st.v[r], grow);
    }
    att_sum_lanes<LANES, 2 * ROWS>(p, at);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        float e = att_exp2(p[r] - lse);
        att_add<DEPTH>(st.dv[r], e, grow);
        att_add<DEPTH>(st.dk[r], e * (p[ROWS + r] - delta), qrow);
    }
}

/* lse and D of the queries of a tile; past the last, an lse that makes exponentials 0. */
template <typename T>
LD_DEVICE void att_load_sums(float *lse, float *delta, const att_gradient<T> &a, const att_shape &z, int first) {
    int64_t unit0 = (int64_t)(blockIdx.x / (unsigned)z.runs) * z.packed;
    for (int i = (int)threadIdx.x; i < z.packed * z.tile; i += (int)blockDim.x) {
        int64_t unit = unit0 + i / z.tile;
        int row = first + i % z.tile;
        bool there = row < z.others && unit < z.units;
        lse[i] = there ? a.lse[unit * z.others + row] * ATT_LOG2E : INFINITY;
        delta[i] = there ? a.delta[unit * z.others + row] : 0;
    }
}

/* q in the tile has the scale and log2(e), so dk is ln 2 times what adds up. */
template <typename T, int DEPTH, int LANES>
__global__ void __launch_bounds__(ATT_THREADS) k_attention_dkv(att_shape z, att_gradient<T> a) {
    enum { ROWS = att_rows<DEPTH>::value };
    LD_DYNAMIC_SHARED(float, tiles);
    att_place at = att_place_of<LANES, ROWS>(z);
    int wide_row = DEPTH * at.lanes, all = z.packed * z.stride;
    float *lse = tiles + 2 * all, *delta = lse + z.packed * z.tile;
    att_keys<DEPTH, ROWS> st;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        att_load_row<T, DEPTH>(st.k[r], a.k, z, at, at.row + r * at.step, 1);
        att_load_row<T, DEPTH>(st.v[r], a.v, z, at, at.row + r * at.step, 1);
#pragma unroll
        for (int c = 0; c < DEPTH; c++)
            st.dk[r][c] = st.dv[r][c] = 0;
    }
    const float *mine = tiles + at.mine * z.stride;
    for (int first = 0; first < z.others; first += z.tile) {
        __syncthreads();
        att_load_tile<T, DEPTH>(tiles, tiles + all, a.q, a.g, z, at, first, z.scale * ATT_LOG2E);
        att_load_sums(lse, delta, a, z, first);
        __syncthreads();
        int count = z.others - first < z.tile ? z.others - first : z.tile;
        for (int j = 0; j < count; j++)
            att_query_dkv<DEPTH, LANES, ROWS>(st, mine + j * wide_row, mine + all + j * wide_row,
                                              lse[at.mine * z.tile + j], delta[at.mine * z.tile + j], at);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        att_store_row<T, DEPTH>(a.dk, st.dk[r], z, at, at.row + r * at.step, ATT_LN2);
        att_store_row<T, DEPTH>(a.dv, st.dv[r], z, at, at.row + r * at.step, 1);
    }
}

/* ---- f64, and nothing ------------------------------------------------------------------------------------------------------ */

LD_DEVICE double att_dot_f64(const double *a, const double *b, int d) {
    double sum = 0;
    for (int c = 0; c < d; c++)
        sum += a[c] * b[c];
    return sum;
}

/* z as for dq. */
__global__ void __launch_bounds__(ATT_THREADS) k_attention_dq_f64(att_shape z, att_gradient<double> a, double scale) {
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, u = z.rows ? i / z.rows : 0, t = i - u * z.rows;
    if (u >= z.units)
        return;
    const double *q = att_row(a.q, z, u, t), *g = att_row(a.g, z, u, t);
    double *dq = att_row(a.dq, z, u, t), delta = att_dot_f64(g, att_row(a.y, z, u, t), z.d);
    a.delta[i] = delta;
    for (int c = 0; c < z.d; c++)
        dq[c] = 0;
    for (int j = 0; j < z.others; j++) {
        const double *k = att_row(a.k, z, u, j), *v = att_row(a.v, z, u, j);
        double ds = scale * exp(scale * att_dot_f64(q, k, z.d) - a.lse[i]) * (att_dot_f64(g, v, z.d) - delta);
        for (int c = 0; c < z.d; c++)
            dq[c] += ds * k[c];
    }
}

/* z as for dk and dv. */
__global__ void __launch_bounds__(ATT_THREADS) k_attention_dkv_f64(att_shape z, att_gradient<double> a, double scale) {
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, u = z.rows ? i / z.rows : 0, j = i - u * z.rows;
    if (u >= z.units)
        return;
    const double *k = att_row(a.k, z, u, j), *v = att_row(a.v, z, u, j);
    double *dk = att_row(a.dk, z, u, j), *dv = att_row(a.dv, z, u, j);
    for (int c = 0; c < z.d; c++)
        dk[c] = dv[c] = 0;
    for (int t = 0; t < z.others; t++) {
        const double *q = att_row(a.q, z, u, t), *g = att_row(a.g, z, u, t);
        double p = exp(scale * att_dot_f64(q, k, z.d) - a.lse[u * z.others + t]);
        double ds = scale * p * (att_dot_f64(g, v, z.d) - a.delta[u * z.others + t]);
        for (int c = 0; c < z.d; c++) {
            dk[c] += ds * q[c];
            dv[c] += p * g[c];
        }
    }
}

/* h = 0, a thread a row. */
template <typename T> __global__ void __launch_bounds__(ATT_THREADS) k_attention_clear(att_shape z, att_heads<T> h) {
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < z.units * z.rows)
        for (int c = 0; c < z.d; c++)
            att_row(h, z, i / z.rows, i % z.rows)[c] = narrow<T>(0);
}

/* ---- the slot ------------------------------------------------------------------------------------------------------------------ */

static inline unsigned att_plain_blocks(const att_shape &z) {
    return (unsigned)((z.units * z.rows + ATT_THREADS - 1) / ATT_THREADS);
}

/* zq: queries are the rows; zk: keys are. */
template <typename T>
static int att_run_bwd(const att_gradient<T> &a, const att_shape &zq, const att_shape &zk, double scale) {
    unsigned qs = att_plain_blocks(zq), ks = att_plain_blocks(zk);
    int err = 0;
    if (!qs || !ks || !zq.d) {
        if (qs)
            err = LD_LAUNCH(k_attention_clear<T>, qs, ATT_THREADS, 0, zq, a.dq);
        if (ks && !err)
            err = LD_LAUNCH(k_attention_clear<T>, ks, ATT_THREADS, 0, zk, a.dk);
        return ks && !err ? LD_LAUNCH(k_attention_clear<T>, ks, ATT_THREADS, 0, zk, a.dv) : err;
    }
    if constexpr (sizeof(T) == sizeof(double)) {
        err = LD_LAUNCH(k_attention_dq_f64, qs, ATT_THREADS, 0, zq, a, scale);
        return err ? err : LD_LAUNCH(k_attention_dkv_f64, ks, ATT_THREADS, 0, zk, a, scale);
    } else {
        if constexpr (std::is_same<T, bf16>::value)
            if (mma_suits(zq, LD_BF16))
                return ld_attention_mma_bwd(a, zq, zk);
        return att_each_width(zq, [&](auto depth, auto lanes) {
            enum { DEPTH = decltype(depth)::value, LANES = decltype(lanes)::value };
            int bad =
                LD_LAUNCH((k_attention_dq<T, DEPTH, LANES>), att_blocks(zq), att_threads(zq), att_shared(zq, 0), zq, a);
            return bad ? bad
                       : LD_LAUNCH((k_attention_dkv<T, DEPTH, LANES>), att_blocks(zk), att_threads(zk),
                                   att_shared(zk, 8), zk, a);
        });
    }
}

int ld_cuda_attention_bwd(const ld_view *dq, const ld_view *dk, const ld_view *dv, const ld_view *g, const ld_view *q,
                          const ld_view *k, const ld_view *v, const ld_view *y, const ld_view *lse, double scale) {
    static const char who[] = "attention";
    const ld_view *all[] = {dq, dk, dv, g, q, k, v, y};
    static const char *const names[] = {"dq", "dk", "dv", "the gradient", "q", "k", "v", "y"};
    int err = att_check(q, k, v, lse), rows = q->shape[3] <= 8 ? 4 : 2;
    bool packs = true;
    for (int i = 0; i < 8 && !err; i++) {
        err = check_same(who, names[i], all[i], q->dtype);
        packs = packs && att_packs(all[i]);
    }
    if (err)
        return err;
    att_shape zq = att_shape_of(q, k, rows, 0, scale), zk = att_shape_of(k, q, rows, 8, scale);
    zq.packs = zk.packs = packs;
    size_t size = ld_dtype_size(lse->dtype);
    void *block = ld_cuda_workspace((size_t)(zq.units * zq.rows) * size + 16, who);
    if (!block)
        return ld_cuda_workspace_missing();
    err = ld_each_float(q->dtype, who, [&](auto t) {
        typedef decltype(t) T;
        att_gradient<T> a = {att_heads_of<T>(dq),        att_heads_of<T>(dk), att_heads_of<T>(dv), att_heads_of<T>(g),
                             att_heads_of<T>(q),         att_heads_of<T>(k),  att_heads_of<T>(v),  att_heads_of<T>(y),
                             (const wide<T> *)lse->data, (wide<T> *)block};
        return att_run_bwd<T>(a, zq, zk, scale);
    });
    ld_cuda_workspace_done(block);
    return err;
}
