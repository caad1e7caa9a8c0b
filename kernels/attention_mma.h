/* Attention on tensor cores: what its forward (attention_mma.cu) and backward (attention_mma_bwd.cu) share.
 *
 * A warp owns 16 rows of a unit (queries, or in the gradients of k and v keys), up to 4 warps a block. Rows of the other side
 * pass by in tiles of 64 in shared memory, in groups of 16. Two kinds of products (mma.h):
 *   scores   own rows times rows that pass by, summed over the columns of a head; the tile lies in rows
 *   adding   scores, rounded to 16 bits, times rows that pass by, summed over those; the tile lies in columns
 * The order of a sum's terms is free as long as both sides agree on it, and so is the order of C's columns. Both are chosen
 * so that a lane finds the two words of b next to each other, and four neighbouring columns of a row in its registers:
 *   scores   a lane's terms 2t, 2t + 1, 2t + 8, 2t + 9 are columns 4t to 4t + 3
 *   adding   column n of product 2m + h is column 16m + 4 (n / 2) + 2h + n % 2 of the head
 * Heads of d columns are padded with zeros to D, a multiple of 16. Sums run over the other side in its order, 16 at a time,
 * whatever the block: results do not depend on how work is cut. */
#ifndef LD_KERNEL_ATTENTION_MMA_H
#define LD_KERNEL_ATTENTION_MMA_H

#include "kernels/attention.h"
#include "kernels/mma.h"

enum { MMA_ROWS = 16, MMA_TILE = 64, MMA_WARPS = 4, MMA_WIDEST = 64 };
enum { MMA_COLUMN_WORDS = MMA_TILE / 2 }; /* words of a column in a tile */

/* Words of a row in a tile: 8 or 24 modulo 32, so that 16 lanes that read 2 words each of 4 rows meet in no bank. */
template <int D> struct mma_pitch {
    enum { row = D % 32 ? D / 2 : D / 2 + 8, tile = row * MMA_TILE };
};

typedef pack<uint32_t, 2> mma_four; /* four neighbouring elements */

/* The rows of one unit: `count` of d elements, `step` apart. */
template <typename T> struct mma_rows {
    T *data;
    int64_t step;
    int count, d;
};

template <typename T>
LD_DEVICE mma_rows<T> mma_rows_of(const att_heads<T> &h, const att_shape &z, int64_t unit, int count) {
    return {att_row(h, z, unit, 0), h.row, count, z.d};
}

/* Elements c to c + 3 of a row; zeros past the last row and past d. */
template <typename T> LD_DEVICE mma_four mma_load(const mma_rows<T> &x, int row, int c) {
    mma_four none = {{0, 0}};
    return row < x.count && c < x.d ? load_pack<uint32_t, 2>((const uint32_t *)(x.data + row * x.step + c)) : none;
}

/* The warp's 16 rows from `row` on, as A of the scores. */
template <typename T, int D> LD_DEVICE void mma_load_own(uint32_t (*a)[4], const mma_rows<T> &x, int row) {
    int lane = (int)threadIdx.x % LD_WARP, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < D / 16; i++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            mma_four four = mma_load(x, row + g + 8 * r, 16 * i + 4 * t);
            a[i][r] = four.v[0];
            a[i][2 + r] = four.v[1];
        }
}

/* Rows first .. of the other side, as many groups of 16 as hold `count`, into a tile that lies in rows. */
template <typename T, int D> LD_DEVICE void mma_load_rows(uint32_t *tile, const mma_rows<T> &x, int first, int count) {
    int all = (count + 15) / 16 * 16 * (D / 4);
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < all; i += (int)blockDim.x) {
        int row = i / (D / 4), c = i % (D / 4);
        store_pack<uint32_t, 2>(tile + row * mma_pitch<D>::row + 2 * c, mma_load(x, first + row, 4 * c));
    }
}

/* Where a column's words lie: those of 16 rows stay together, and change places with others so that neither 4 columns that
 * are read together nor 4 that are written together meet in a bank. */
LD_DEVICE int mma_column(int c, int word) {
    return c * MMA_COLUMN_WORDS + (word ^ 8 * (((c ^ c >> 3) & 1) | (c >> 1 & 2)));
}

/* The same rows into a tile that lies in columns. Of 16 rows in a column a lane's four are neighbours: 2t, 2t + 1, 2t + 8 and
 * 2t + 9. A thread takes two rows of 4 columns. */
template <typename T, int D>
LD_DEVICE void mma_load_columns(uint32_t *tile, const mma_rows<T> &x, int first, int count) {
    int all = (count + 15) / 16 * (D / 16) * 32;
#pragma unroll 2
    for (int i = (int)threadIdx.x; i < all; i += (int)blockDim.x) {
        int pair = i / 4 % 8, c = i / 32 % (D / 16) * 16 + i % 4 * 4, group = i / 32 / (D / 16);
        int row = first + 16 * group + 2 * pair, word = 8 * group + 2 * (pair % 4) + pair / 4;
        mma_four a = mma_load(x, row, c), b = mma_load(x, row + 1, c);
#pragma unroll
        for (int k = 0; k < 2; k++) {
            tile[mma_column(c + 2 * k, word)] = (a.v[k] & 0xffffu) | b.v[k] << 16;
            tile[mma_column(c + 2 * k + 1, word)] = a.v[k] >> 16 | (b.v[k] & 0xffff0000u);
        }
    }
}

/* s[h] = the warp's rows times rows 16 group + 8h .. + 7 of a tile in rows. */
template <typename T, int D>
LD_DEVICE void mma_scores(float (*s)[4], const uint32_t (*a)[4], const uint32_t *tile, int group) {
    int lane = (int)threadIdx.x % LD_WARP, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const uint32_t *row = tile + (16 * group + 8 * h + g) * mma_pitch<D>::row + 2 * t;
        s[h][0] = s[h][1] = s[h][2] = s[h][3] = 0;
#pragma unroll
        for (int i = 0; i < D / 16; i++)
            mma_16x8x16<T>(s[h], a[i], load_pack<uint32_t, 2>(row + 8 * i).v);
    }
}

/* sum += p times rows 16 group .. + 15 of a tile in columns. p: what mma_scores made, rounded to 16 bits here. */
template <typename T, int D>
LD_DEVICE void mma_add(float (*sum)[4], const float (*p)[4], const uint32_t *tile, int group) {
    int lane = (int)threadIdx.x % LD_WARP, g = lane / 4, t = lane % 4;
    uint32_t a[4] = {mma_word<T>(p[0][0], p[0][1]), mma_word<T>(p[0][2], p[0][3]), mma_word<T>(p[1][0], p[1][1]),
                     mma_word<T>(p[1][2], p[1][3])};
#pragma unroll
    for (int i = 0; i < D / 8; i++) {
        int c = i / 2 * 16 + g / 2 * 4 + i % 2 * 2 + g % 2;
        mma_16x8x16<T>(sum[i], a, load_pack<uint32_t, 2>(tile + mma_column(c, 8 * group + 2 * t)).v);
    }
}

/* The warp's rows from `row` on, row g + 8r times f[r]. */
template <typename T, int D>
LD_DEVICE void mma_store(const mma_rows<T> &y, const float (*sum)[4], int row, const float *f) {
    int lane = (int)threadIdx.x % LD_WARP, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        if (row + g + 8 * r >= y.count)
            continue;
        T *to = y.data + (row + g + 8 * r) * y.step + 4 * t;
#pragma unroll
        for (int m = 0; m < D / 16; m++) {
            const float *left = sum[2 * m] + 2 * r, *right = sum[2 * m + 1] + 2 * r;
            mma_four four = {
                {mma_word<T>(f[r] * left[0], f[r] * left[1]), mma_word<T>(f[r] * right[0], f[r] * right[1])}};
            if (16 * m + 4 * t < y.d)
                store_pack<uint32_t, 2>((uint32_t *)(to + 16 * m), four);
        }
    }
}

/* The warp's unit and its first row. Warps with no row take part in loading and barriers. */
LD_DEVICE int64_t mma_unit(const att_shape &z) {
    return blockIdx.x / (unsigned)z.runs;
}
LD_DEVICE int mma_first_row(const att_shape &z) {
    int warp = (int)(threadIdx.x / LD_WARP), warps = (int)(blockDim.x / LD_WARP);
    return ((int)(blockIdx.x % (unsigned)z.runs) * warps + warp) * MMA_ROWS;
}

/* ---- on the host ------------------------------------------------------------------------------------------------------------ */

/* Whether heads of z, of dtype t, suit: 16 bits, narrow, four elements readable at once. */
static inline bool mma_suits(const att_shape &z, ld_dtype t) {
    return (t == LD_BF16 || t == LD_F16) && z.d <= MMA_WIDEST && z.packs;
}

static inline unsigned mma_threads(const att_shape &z) {
    int warps = (z.rows + MMA_ROWS - 1) / MMA_ROWS;
    return (unsigned)(warps < MMA_WARPS ? warps : MMA_WARPS) * LD_WARP;
}

/* z with its rows cut into blocks of warps. */
static inline att_shape mma_shape(att_shape z) {
    int rows = (int)mma_threads(z) / LD_WARP * MMA_ROWS;
    z.runs = (z.rows + rows - 1) / rows;
    return z;
}

/* f(D) with the padded width as a type. */
template <typename F> static inline int mma_each_width(const att_shape &z, const F &f) {
    if (z.d <= 16)
        return f(att_number<16>());
    if (z.d <= 32)
        return f(att_number<32>());
    return z.d <= 48 ? f(att_number<48>()) : f(att_number<64>());
}

/* y and lse for a shape that suits, with rows, others and d above 0. */
int ld_attention_mma(const att_shape &shape, const ld_view *y, const ld_view *lse, const ld_view *q, const ld_view *k,
                     const ld_view *v);

/* Gradients for shapes that suit: zq with queries as rows, zk with keys. a.delta is room for the lse's size. */
int ld_attention_mma_bwd(const att_gradient<bf16> &a, const att_shape &zq, const att_shape &zk);

#endif
