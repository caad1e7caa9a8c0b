/* Batch and group normalisation on a device: what its forward (norm.cu) and backward (norm_bwd.cu) share.
 *
 * Data are (n, p, c), channels innermost. A block takes one part of one sample's rows and one tile of columns; in it, tx
 * threads lie along the columns with V elements each (16 bytes, or one element where 16 bytes do not fit), ty along the
 * rows. How rows are cut depends on the shape and the dtype alone, so results are the same on every card and every run.
 * Statistics of sets follow from sums by sample and channel as in csrc/backend/cpu/norm_sets.h, whose layout of `stats`
 * this keeps: a tape can be read by either. */
#ifndef LD_KERNEL_NORM_H
#define LD_KERNEL_NORM_H

#include "kernels/operand.h"

#include <stdlib.h>

/* Threads; rows a thread has in flight; blocks wanted. Of blocks of sets: threads at most; columns, 32 bytes or more. */
enum { NORM_THREADS = 256, NORM_CHUNK = 8, NORM_BLOCKS = 512, SET_THREADS = 512, SET_COLUMNS = 8 };
/* What a pass over sets does: all of it, or, around ld_norm_join, the measuring and the rest. */
enum norm_step { NORM_WHOLE, NORM_MEASURE, NORM_REST };
enum { STAT_CENTRE, STAT_OFFSET, STAT_R, STAT_REST, STAT_SQUARE };

struct norm_grid {
    int64_t n, p, c;
    int tx, ty, tiles; /* powers of two; tiles of columns */
    int parts;         /* of a sample's rows */
    int64_t rows;      /* in a part */
};

/* What passes over sets and maps over rows need. */
struct norm_call {
    norm_grid z;
    int64_t groups, size; /* size: channels of a set */
    int kept;             /* rows of stats by sample */
    bool given, packs;
    double eps;
    int act;
    double slope, sub;
    operand x, film, w, b, dfilm, dw, db;
    void *stats, *mean, *var; /* of the arithmetic's type */
    void *partial, *coef;     /* workspace: two by column and part; three by sample and channel */
    double *sums;             /* workspace: two by sample and channel */
    double *joined;           /* workspace: 2 c, of all ranks */
    norm_step step;
    double rows; /* of all ranks, where these are joined */
};

static inline int norm_up(int64_t n, int most) {
    int p = 1;
    while (p < n && p < most)
        p *= 2;
    return p;
}

static inline norm_grid norm_grid_of(int64_t n, int64_t p, int64_t c, int v) {
    norm_grid z = {n, p, c, norm_up((c + v - 1) / v, 32), 0, 0, 1, 0};
    z.ty = NORM_THREADS / z.tx;
    z.tiles = (int)((c + z.tx * v - 1) / (z.tx * v));
    int64_t step = z.ty * NORM_CHUNK, parts = (p + step - 1) / step, across = n * z.tiles;
    int64_t most = across ? (NORM_BLOCKS + across - 1) / across : 1;
    parts = parts < 1 ? 1 : parts;
    int64_t each = ((parts + most - 1) / most) * step; /* rows */
    z.rows = each;
    z.parts = p ? (int)((p + each - 1) / each) : 1;
    return z;
}

/* Where a thread of a pass over rows stands. The passes that sum go from the last block to the first, so that what they read
 * last is what the map behind them, and often what the kernel before them, has in the L2 cache. */
struct norm_place {
    int64_t n, part, j, from, to; /* its first column; the part's rows */
    int x, y;
};

LD_DEVICE norm_place norm_place_of(const norm_grid &z, int v, unsigned block) {
    unsigned tiles = (unsigned)z.tiles, parts = (unsigned)z.parts, u = block / tiles;
    int64_t tile = block % tiles;
    norm_place at;
    at.part = u % parts;
    at.n = u / parts;
    at.x = (int)threadIdx.x % z.tx;
    at.y = (int)threadIdx.x / z.tx;
    at.j = (tile * z.tx + at.x) * v;
    at.from = at.part * z.rows;
    at.to = at.from + z.rows < z.p ? at.from + z.rows : z.p;
    return at;
}

LD_DEVICE norm_place norm_place_to_sum(const norm_grid &z, int v) {
    return norm_place_of(z, v, gridDim.x - 1 - blockIdx.x);
}

static inline unsigned norm_blocks(const norm_grid &z) {
    return (unsigned)(z.n * z.parts * z.tiles);
}

/* ---- sums of parts ------------------------------------------------------------ */

/* The threads along y added up into the first, pair by pair. */
template <typename A, int V> LD_DEVICE void norm_add_block(const norm_grid &z, int y, A *first, A *second) {
    LD_SHARED(A, room, [2 * V * NORM_THREADS]);
    int tid = (int)threadIdx.x;
    for (int k = 0; k < V; k++) {
        room[2 * k * NORM_THREADS + tid] = first[k];
        room[(2 * k + 1) * NORM_THREADS + tid] = second[k];
    }
    __syncthreads();
    for (int half = z.ty / 2; half; half /= 2) {
        if (y < half)
            for (int k = 0; k < 2 * V; k++)
                room[k * NORM_THREADS + tid] += room[k * NORM_THREADS + tid + half * z.tx];
        __syncthreads();
    }
    for (int k = 0; k < V; k++) {
        first[k] = room[2 * k * NORM_THREADS + tid];
        second[k] = room[(2 * k + 1) * NORM_THREADS + tid];
    }
}

/* ---- small operands ---------------------------------------------------------------------------------------------- */

LD_DEVICE double norm_factor(const norm_call &q, int64_t n, int64_t j) {
    return q.film.data ? 1 + operand_get(q.film, n * 2 * q.z.c + j) : 1;
}

LD_DEVICE double norm_shift(const norm_call &q, int64_t n, int64_t j) {
    return q.film.data ? operand_get(q.film, (n * 2 + 1) * q.z.c + j) : 0;
}

LD_DEVICE double norm_weight(const norm_call &q, int64_t j) {
    return q.w.data ? operand_get(q.w, j) : 1;
}

/* Row i of what is kept of sample n. */
template <typename A> LD_DEVICE A *norm_row(const norm_call &q, int64_t n, int i) {
    return (A *)q.stats + (n * q.kept + i) * q.z.c;
}

/* y = act((x - centre) a + b); forward, forward again and backward all get these numbers from what is kept. */
template <typename A> struct norm_map { A centre, a, b; };

/* Of V columns; rows of small operands are aligned as packs are (norm_begin). */
template <typename A, int V> LD_DEVICE void norm_map_of(norm_map<A> *m, const norm_call &q, int64_t n, int64_t j) {
    A w[V], b[V], scale[V], centre[V], offset[V], r[V];
    operand stats = {q.stats, sizeof(A) == sizeof(double) ? LD_F64 : LD_F32};
    int64_t c = q.z.c, row = n * q.kept;
    operand_pack<A, V>(w, q.w, j, 1);
    operand_pack<A, V>(b, q.b, j, 0);
    operand_pack<A, V>(scale, q.film, n * 2 * c + j, 0);
    operand_pack<A, V>(centre, stats, (row + STAT_CENTRE) * c + j, 0);
    operand_pack<A, V>(offset, stats, (row + STAT_OFFSET) * c + j, 0);
    operand_pack<A, V>(r, stats, (row + STAT_R) * c + j, 0);
#pragma unroll
    for (int k = 0; k < V; k++) {
        m[k].centre = centre[k];
        m[k].a = w[k] * r[k] * (1 + scale[k]);
        m[k].b = w[k] * r[k] * offset[k] + b[k];
    }
}

/* ---- the activation ---------------------------------------------------------------------------------------------- */

LD_DEVICE float norm_sigmoid(float v) {
    return reciprocal(1 + expf(-v));
}
LD_DEVICE double norm_sigmoid(double v) {
    return 1 / (1 + exp(-v));
}

/* Of V values; the branch is the same for all threads. */
template <typename A, int V> LD_DEVICE void norm_act(A *v, int act, A slope, A sub) {
    if (act == LD_NORM_SILU)
        for (int k = 0; k < V; k++)
            v[k] *= norm_sigmoid(v[k]);
    else if (act == LD_NORM_RELU)
        for (int k = 0; k < V; k++)
            v[k] = v[k] < 0 ? 0 : v[k];
    else if (act == LD_NORM_LEAKY)
        for (int k = 0; k < V; k++)
            v[k] = (v[k] > 0 ? v[k] : slope * v[k]) - sub;
}

/* g times the slope at v */
template <typename A, int V> LD_DEVICE void norm_act_bwd(A *g, const A *v, int act, A slope) {
    if (act == LD_NORM_SILU)
        for (int k = 0; k < V; k++) {
            A s = norm_sigmoid(v[k]);
            g[k] *= s * (1 + v[k] * (1 - s));
        }
    else if (act == LD_NORM_RELU)
        for (int k = 0; k < V; k++)
            g[k] = v[k] > 0 ? g[k] : 0;
    else if (act == LD_NORM_LEAKY)
        for (int k = 0; k < V; k++)
            g[k] = v[k] > 0 ? g[k] : slope * g[k];
}

/* ---- sums over sets ---------------------------------------------------------------------------------------------- */

/* A block's share of the passes over sets. Batch norm: SET_COLUMNS columns of all samples, each column a set. Group norm: one
 * group of one sample, the set. */
struct norm_set {
    int64_t n0, n1, j0, j1;
    int lx, ly, x, y; /* threads along the columns, along samples or parts */
    bool whole;       /* all of it is one set */
};

static inline unsigned norm_set_threads(const norm_call &q) {
    int64_t along = q.z.n > q.z.parts ? q.z.n : q.z.parts,
            threads = q.groups ? q.size * q.z.parts : SET_COLUMNS * along;
    return (unsigned)norm_up(threads < 32 ? 32 : threads, q.groups ? 256 : SET_THREADS);
}

static inline unsigned norm_set_blocks(const norm_call &q) {
    return (unsigned)(q.groups ? q.z.n * q.groups : (q.z.c + SET_COLUMNS - 1) / SET_COLUMNS);
}

LD_DEVICE norm_set norm_set_of(const norm_call &q) {
    norm_set s;
    int64_t u = blockIdx.x;
    s.whole = q.groups > 0;
    s.n0 = s.whole ? u / q.groups : 0;
    s.n1 = s.whole ? s.n0 + 1 : q.z.n;
    s.j0 = u * SET_COLUMNS;
    s.j1 = s.j0 + SET_COLUMNS < q.z.c ? s.j0 + SET_COLUMNS : q.z.c;
    s.lx = s.whole ? 1 : SET_COLUMNS;
    if (s.whole) {
        s.j0 = u % q.groups * q.size;
        s.j1 = s.j0 + q.size;
        while (s.lx < q.size && s.lx < LD_WARP)
            s.lx *= 2;
    }
    s.ly = (int)blockDim.x / s.lx;
    s.x = (int)threadIdx.x % s.lx;
    s.y = (int)threadIdx.x / s.lx;
    return s;
}

/* The sum over a set's threads (its threads along y, all of the block's where the block is one set), in a fixed order,
 * given to each of them. room: a double a thread. */
LD_DEVICE double norm_reduce(const norm_set &s, double v, double *room) {
    int tid = (int)threadIdx.x;
    room[tid] = v;
    __syncthreads();
    for (int half = (int)blockDim.x / 2; half >= (s.whole ? 1 : s.lx); half /= 2) {
        if (tid < half)
            room[tid] += room[tid + half];
        __syncthreads();
    }
    v = room[s.whole ? 0 : s.x];
    __syncthreads();
    return v;
}

/* The sum over the threads along y, for each column. */
LD_DEVICE double norm_reduce_column(const norm_set &s, double v, double *room) {
    norm_set column = s;
    column.whole = false;
    return norm_reduce(column, v, room);
}

/* The two numbers of each part, as plain sums over the part: fwd from (mean, deviations), bwd as they are. */
template <typename A, bool MEANS>
LD_DEVICE void norm_part_sums(const norm_call &q, int64_t n, int64_t j, int from, int step, double *sum) {
    const norm_grid &z = q.z;
#pragma unroll 4
    for (int64_t i = from; i < z.parts; i += step) {
        const A *at = (const A *)q.partial + (n * z.parts + i) * 2 * z.c + j;
        double first = (double)at[0], second = (double)at[z.c];
        if (MEANS) {
            double rows = (double)(z.p - i * z.rows < z.rows ? z.p - i * z.rows : z.rows);
            second += rows * first * first;
            first *= rows;
        }
        sum[0] += first;
        sum[1] += second;
    }
}

/* q.sums of the block's samples and columns: one sample's parts, or else whole samples, are spread over the threads
 * along y. */
template <typename A, bool MEANS> LD_DEVICE void norm_merge(const norm_call &q, const norm_set &s, double *room) {
    bool one = s.n1 - s.n0 == 1;
    for (int64_t j0 = s.j0; j0 < s.j1; j0 += s.lx) {
        int64_t j = j0 + s.x;
        for (int64_t n = s.n0 + (one ? 0 : s.y); n < s.n1; n += one ? 1 : s.ly) {
            double sum[2] = {0, 0};
            if (j < s.j1)
                norm_part_sums<A, MEANS>(q, n, j, one ? s.y : 0, one ? s.ly : 1, sum);
            if (one) {
                sum[0] = norm_reduce_column(s, sum[0], room);
                sum[1] = norm_reduce_column(s, sum[1], room);
            }
            if (j < s.j1 && (!one || !s.y)) {
                q.sums[n * 2 * q.z.c + j] = sum[0];
                q.sums[(n * 2 + 1) * q.z.c + j] = sum[1];
            }
        }
    }
    __syncthreads();
}

/* The next of a thread's samples and columns of its set, from (n0, j0) on: f(n, j) for each. A thread of a block that is
 * one set takes columns only, any thread any column; else it has one column and takes samples. */
template <typename F> LD_DEVICE void norm_each(const norm_set &s, F f) {
    if (s.whole)
        for (int64_t j = s.j0 + (int)threadIdx.x; j < s.j1; j += (int)blockDim.x)
            f(s.n0, j);
    else if (s.j0 + s.x < s.j1)
        for (int64_t n = s.n0 + s.y; n < s.n1; n += s.ly)
            f(n, s.j0 + s.x);
}

/* ---- what the slots begin with ------------------------------------------------------------------------------------------ */

static inline const char *norm_name(const ld_norm_spec *s) {
    return s->groups ? "group_norm" : "batch_norm";
}

static inline int norm_check(const char *who, const ld_view *x, const ld_view *stats, const ld_view *film,
                             const ld_view *w, const ld_view *b) {
    int err = check_float(who, x->dtype);
    err = err ? err : check_same(who, "stats", stats, statistics_dtype(x->dtype));
    err = err ? err : check_small(who, "film", film, x->dtype);
    err = err ? err : check_small(who, "weight", w, x->dtype);
    return err ? err : check_small(who, "bias", b, x->dtype);
}

static inline norm_call norm_call_of(const ld_view *x, const ld_view *stats, const ld_view *film, const ld_view *w,
                                     const ld_view *b, const ld_norm_spec *s) {
    norm_call q;
    memset(&q, 0, sizeof q);
    q.z.n = x->shape[0];
    q.z.p = x->shape[1];
    q.z.c = x->shape[2];
    q.groups = s->groups;
    q.size = s->groups ? q.z.c / s->groups : 1;
    q.kept = LD_NORM_STATS(film);
    q.given = s->given;
    q.eps = s->eps;
    q.act = s->act;
    q.slope = s->slope;
    q.sub = s->sub;
    q.x = operand_of(x);
    q.film = operand_of(film);
    q.w = operand_of(w);
    q.b = operand_of(b);
    q.stats = stats->data;
    return q;
}

enum norm_need { NORM_MAP, NORM_SUMS, NORM_COEFS }; /* of workspace: none, sums, sums and coefficients */

/* The grid, and workspace, which q->sums begins; NULL where it could not be had, or memory is planned, which ends a slot
 * here: therefore a little is asked for where none is needed. */
static inline int norm_begin(norm_call *q, bool packs, norm_need need, const char *who) {
    size_t size = ld_dtype_size(statistics_dtype(q->x.dtype));
    int64_t n = q->z.n, c = q->z.c;
    packs = packs && (uintptr_t)q->w.data % 16 == 0 && (uintptr_t)q->b.data % 16 == 0 &&
            (uintptr_t)q->film.data % 16 == 0 && (uintptr_t)q->stats % 16 == 0;
    q->packs = packs;
    q->z = norm_grid_of(n, q->z.p, c, packs ? (int)(16 / ld_dtype_size(q->x.dtype)) : 1);
    size_t sums = need == NORM_MAP ? 0 : (size_t)(2 * (n + 1) * c) * sizeof(double);
    size_t partial = need == NORM_MAP ? 0 : (size_t)(2 * n * q->z.parts * c) * size;
    size_t coef = need == NORM_COEFS ? (size_t)(3 * n * c) * size : 0;
    char *block = (char *)ld_cuda_workspace(sums + partial + coef + 16, who);
    if (!block)
        return ld_cuda_workspace_missing();
    q->sums = (double *)block;
    q->joined = q->sums + 2 * n * c;
    q->partial = block + sums;
    q->coef = block + sums + partial;
    return 0;
}

/* Between the two steps: what was measured, on the host, becomes what all ranks have. */
static inline int norm_join(const norm_call *q, ld_norm_join *join) {
    size_t bytes = (size_t)(2 * q->z.c) * sizeof(double);
    double *room = (double *)malloc(bytes);
    if (!room)
        return ld_fail(LD_EMEM, "batch_norm: out of host memory");
    int err = ld_cuda_download(room, q->joined, bytes);
    err = err ? err : join->run(join, room, room + q->z.c, q->z.c);
    err = err ? err : ld_cuda_upload(q->joined, room, bytes);
    free(room);
    return err;
}

#endif
