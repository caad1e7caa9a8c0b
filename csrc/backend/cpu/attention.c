/* Attention, y = softmax(scale q k^T) v, without the matrix of scores.
 *
 * Work is split into units of one head of one sample (several runs of queries where there are few heads). A unit
 * packs k and v once into panels of 16 columns, then takes TILE queries at a time: their rows of scores stay in the
 * cache, and the whole row is there before the exponentials, so no running rescaling is needed. Backward recomputes
 * the scores from lse: P = exp(S - lse), dP = g v^T, dS = P (dP - rowsum(g y)); dq = dS k, dk = dS^T q, dv = P^T g,
 * the scale being folded into the packed k and q (Dao et al. 2022, arXiv:2205.14135, appendix B.2). Memory: at most
 * (2 TILE + 5 d) S floats a thread. Results depend on the number of threads only through the split of the sums dk and
 * dv. Proved by tests/c/test_cpu_heavy.c against the naive formula. f64 is the naive formula row by row. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl.h"
#include "backend/cpu/vmath.h"
#include "backend/device.h"
#include "base/error.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { LANES = 16, TILE = 24, DEPTH = 256, MOST_RUNS = 16 };

typedef float v16 __attribute__((vector_size(64), may_alias));
typedef float v8 __attribute__((vector_size(32), may_alias));
typedef float v4 __attribute__((vector_size(16), may_alias));

typedef struct sizes {
    int64_t n, heads, t, s, d;
    int64_t sp, dp;        /* s and d rounded up to LANES */
    int64_t runs, per_run; /* runs of queries a head is split into, queries in each */
} sizes;

/* One head of one sample: rows of d elements, `row` apart. */
typedef struct rows {
    float *data;
    int64_t row;
} rows;

static rows head_of(const ld_view *v, int64_t n, int64_t h) {
    return (rows){(float *)v->data + n * v->stride[0] + h * v->stride[1], v->stride[2]};
}

/* ---- a small matrix product -------------------------------------------------------------------------------------- */

#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5)
enum { ROWS = 6 };

/* c[i][0..15] (+)= sum_k a[i ai + k ak] b[16 k + 0..15] for i < m <= ROWS, one register of columns after the other;
 * rows past m repeat the last one, unused. gcc keeps a vector type in registers only where it fits one: hence three
 * widths. */
#define DECLARE(i)                                                                                                     \
    const float *a##i = a + (i < m ? i : m - 1) * ai;                                                                  \
    float *c##i = c + (i < m ? i : m - 1) * ci + j;
#define START(i) s##i = add ? *(const vec *)c##i : zero;
#define STEP(i)  s##i += a##i[k * ak] * r;
#define STORE(i)                                                                                                       \
    if (i < m)                                                                                                         \
        *(vec *)c##i = s##i;
#define SIX_ROWS(name, vec_type, lanes)                                                                                \
    LD_BODY void name(int64_t m, int64_t depth, const float *a, int64_t ai, int64_t ak, const float *b, float *c,      \
                      int64_t ci, int add) {                                                                           \
        typedef vec_type vec;                                                                                          \
        for (int64_t j = 0; j < LANES; j += (lanes)) {                                                                 \
            EACH(DECLARE)                                                                                              \
            vec s0, s1, s2, s3, s4, s5, zero = {0};                                                                    \
            EACH(START)                                                                                                \
            for (int64_t k = 0; k < depth; k++) {                                                                      \
                vec r = *(const vec *)(b + LANES * k + j);                                                             \
                EACH(STEP)                                                                                             \
            }                                                                                                          \
            EACH(STORE)                                                                                                \
        }                                                                                                              \
    }
SIX_ROWS(six_rows_16, v16, 16)
SIX_ROWS(six_rows_8, v8, 8)
SIX_ROWS(six_rows_4, v4, 4)
#undef DECLARE
#undef START
#undef STEP
#undef STORE

/* C (m x 16 panels, row stride ci, 64-byte aligned) (+)= A B: A has strides ai and ak; B is `panels` panels of
 * depth x 16. Sums over k are added up in blocks of DEPTH. */
LD_BODY void product_body(int lanes, int64_t m, int64_t panels, int64_t depth, const float *a, int64_t ai, int64_t ak,
                          const float *b, float *c, int64_t ci, int add) {
    for (int64_t k = 0; k < depth; k += DEPTH) {
        int64_t part = depth - k < DEPTH ? depth - k : DEPTH;
        for (int64_t p = 0; p < panels; p++)
            for (int64_t i = 0; i < m; i += ROWS) {
                int64_t count = m - i < ROWS ? m - i : ROWS;
                const float *ap = a + i * ai + k * ak, *bp = b + (p * depth + k) * LANES;
                float *cp = c + i * ci + p * LANES;
                if (lanes == 16)
                    six_rows_16(count, part, ap, ai, ak, bp, cp, ci, add || k);
                else if (lanes == 8)
                    six_rows_8(count, part, ap, ai, ak, bp, cp, ci, add || k);
                else
                    six_rows_4(count, part, ap, ai, ak, bp, cp, ci, add || k);
            }
    }
}
LD_VERSIONS_BY_LANES(product,
                     (int64_t m, int64_t panels, int64_t depth, const float *a, int64_t ai, int64_t ak, const float *b,
                      float *c, int64_t ci, int add),
                     (m, panels, depth, a, ai, ak, b, c, ci, add),
                     (LD_LANES, m, panels, depth, a, ai, ak, b, c, ci, add))

/* Panels of x^T: out[p][c][j] = f x[16 p + j][c], 0 past the last row. */
static void pack_transposed(float *out, rows x, int64_t count, int64_t d, float f) {
    for (int64_t p = 0; p < count; p += LANES)
        for (int64_t j = 0; j < LANES; j++)
            for (int64_t c = 0; c < d; c++)
                out[p * d + c * LANES + j] = p + j < count ? f * x.data[(p + j) * x.row + c] : 0;
}

/* Panels of x: out[p][i][j] = f x[i][16 p + j], 0 past the last column. */
static void pack(float *out, rows x, int64_t count, int64_t d, float f) {
    for (int64_t p = 0; p < d; p += LANES)
        for (int64_t i = 0; i < count; i++) {
            const float *row = x.data + i * x.row + p;
            float *to = out + p * count + i * LANES;
            if (d - p >= LANES)
                for (int64_t j = 0; j < LANES; j++)
                    to[j] = f * row[j];
            else
                for (int64_t j = 0; j < LANES; j++)
                    to[j] = p + j < d ? f * row[j] : 0;
        }
}

/* ---- the rows of scores ------------------------------------------------------------------------------------------ */

/* p = exp(p - max), 0 from s to sp; the maximum and the sum. */
LD_BODY void exp_row_body(float *p, int64_t s, int64_t sp, float *max, float *sum) {
    float m = p[0], z = 0;
#pragma omp simd reduction(max : m)
    for (int64_t j = 0; j < s; j++)
        m = p[j] > m ? p[j] : m;
    for (int64_t j = s; j < sp; j++)
        p[j] = -INFINITY;
#pragma omp simd reduction(+ : z)
    for (int64_t j = 0; j < sp; j++) {
        float e = ld_exp_f32(p[j] - m);
        p[j] = e;
        z += e;
    }
    *max = m;
    *sum = z;
}
LD_VERSIONS(exp_row, (float *p, int64_t s, int64_t sp, float *max, float *sum), (p, s, sp, max, sum))

/* p = exp(p - lse), ds = p (ds - delta); both 0 from s to sp. */
LD_BODY void grad_row_body(float *p, float *ds, int64_t s, int64_t sp, float lse, float delta) {
    for (int64_t j = s; j < sp; j++)
        p[j] = -INFINITY;
#pragma omp simd
    for (int64_t j = 0; j < sp; j++) {
        float e = ld_exp_f32(p[j] - lse);
        p[j] = e;
        ds[j] = e * (ds[j] - delta);
    }
}
LD_VERSIONS(grad_row, (float *p, float *ds, int64_t s, int64_t sp, float lse, float delta), (p, ds, s, sp, lse, delta))

/* ---- f32 forward ------------------------------------------------------------------------------------------------- */

static int64_t up(int64_t n) {
    return (n + LANES - 1) / LANES * LANES;
}

static sizes sizes_of(const ld_view *q, const ld_view *k) {
    sizes z = {.n = q->shape[0], .heads = q->shape[1], .t = q->shape[2], .s = k->shape[2], .d = q->shape[3]};
    z.sp = up(z.s);
    z.dp = up(z.d);
    int64_t units = z.n * z.heads, wanted = 2 * ld_threads(), tiles = (z.t + TILE - 1) / TILE;
    z.runs = units >= wanted || !units ? 1 : (wanted + units - 1) / units;
    z.runs = z.runs > MOST_RUNS ? MOST_RUNS : z.runs;
    z.runs = z.runs > tiles ? tiles : z.runs;
    z.runs = z.runs < 1 ? 1 : z.runs;
    z.per_run = ((tiles + z.runs - 1) / z.runs) * TILE;
    return z;
}

/* One unit: queries from..to of head h of sample n. `buffer` holds forward_floats(z). */
static int64_t forward_floats(const sizes *z) {
    return z->sp * z->d + z->dp * z->s + TILE * (z->sp + z->dp);
}

static void forward_unit(const sizes *z, float *buffer, rows y, float *lse, rows q, rows k, rows v, int64_t from,
                         int64_t to, float scale) {
    float *kt = buffer, *vp = kt + z->sp * z->d, *p = vp + z->dp * z->s, *out = p + TILE * z->sp;
    pack_transposed(kt, k, z->s, z->d, scale);
    pack(vp, v, z->s, z->d, 1);
    for (int64_t t = from; t < to; t += TILE) {
        int64_t m = to - t < TILE ? to - t : TILE;
        float sum[TILE];
        product(m, z->sp / LANES, z->d, q.data + t * q.row, q.row, 1, kt, p, z->sp, 0);
        for (int64_t i = 0; i < m; i++) {
            float max;
            exp_row(p + i * z->sp, z->s, z->sp, &max, &sum[i]);
            lse[t + i] = max + logf(sum[i]);
        }
        product(m, z->dp / LANES, z->s, p, z->sp, 1, vp, out, z->dp, 0);
        for (int64_t i = 0; i < m; i++) {
            float f = 1 / sum[i];
            for (int64_t c = 0; c < z->d; c++)
                y.data[(t + i) * y.row + c] = out[i * z->dp + c] * f;
        }
    }
}

/* Threads' buffers lie one after the other, each starting on a cache line. */
static float *buffers(int64_t floats, int64_t extra, const char *who) {
    return ld_cpu_workspace(((size_t)up(floats) * (size_t)ld_threads() + (size_t)extra) * sizeof(float), who);
}

static int forward_f32(const ld_view *y, const ld_view *lse, const ld_view *q, const ld_view *k, const ld_view *v,
                       double scale) {
    sizes z = sizes_of(q, k);
    int64_t each = up(forward_floats(&z)), units = z.n * z.heads * z.runs;
    float *work = buffers(each, 0, "attention");
    if (!work)
        return LD_EMEM;
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t u = 0; u < units; u++) {
        int64_t head = u / z.runs, n = head / z.heads, h = head % z.heads, from = u % z.runs * z.per_run;
        int64_t to = from + z.per_run < z.t ? from + z.per_run : z.t;
        if (from < to)
            forward_unit(&z, work + each * omp_get_thread_num(), head_of(y, n, h), (float *)lse->data + head * z.t,
                         head_of(q, n, h), head_of(k, n, h), head_of(v, n, h), from, to, (float)scale);
    }
    ld_cpu_workspace_done(work);
    return 0;
}

/* ---- f32 backward ------------------------------------------------------------------------------------------------ */

typedef struct head {
    rows dq, dk, dv, g, q, k, v, y;
    const float *lse;
} head;

static int64_t backward_floats(const sizes *z) {
    return 2 * z->sp * z->d + z->dp * z->s + 2 * TILE * z->sp + 3 * TILE * z->dp;
}

/* dk and dv of one unit's queries are left in sums: two matrices (s, dp). */
static void backward_unit(const sizes *z, float *buffer, float *sums, const head *x, int64_t from, int64_t to,
                          float scale) {
    float *kt = buffer, *vt = kt + z->sp * z->d, *kp = vt + z->sp * z->d, *p = kp + z->dp * z->s;
    float *ds = p + TILE * z->sp, *tile = ds + TILE * z->sp, *gp = tile + TILE * z->dp, *qp = gp + TILE * z->dp;
    float *dk = sums, *dv = sums + z->s * z->dp;
    int64_t wide = z->sp / LANES, deep = z->dp / LANES;
    pack_transposed(kt, x->k, z->s, z->d, scale);
    pack_transposed(vt, x->v, z->s, z->d, 1);
    pack(kp, x->k, z->s, z->d, scale);
    memset(sums, 0, (size_t)(2 * z->s * z->dp) * sizeof *sums);
    for (int64_t t = from; t < to; t += TILE) {
        int64_t m = to - t < TILE ? to - t : TILE;
        rows q = {x->q.data + t * x->q.row, x->q.row}, g = {x->g.data + t * x->g.row, x->g.row};
        product(m, wide, z->d, q.data, q.row, 1, kt, p, z->sp, 0);
        product(m, wide, z->d, g.data, g.row, 1, vt, ds, z->sp, 0);
        for (int64_t i = 0; i < m; i++) {
            const float *y = x->y.data + (t + i) * x->y.row;
            float delta = 0;
            for (int64_t c = 0; c < z->d; c++)
                delta += g.data[i * g.row + c] * y[c];
            grad_row(p + i * z->sp, ds + i * z->sp, z->s, z->sp, x->lse[t + i], delta);
        }
        product(m, deep, z->s, ds, z->sp, 1, kp, tile, z->dp, 0);
        for (int64_t i = 0; i < m; i++)
            memcpy(x->dq.data + (t + i) * x->dq.row, tile + i * z->dp, (size_t)z->d * sizeof(float));
        pack(gp, g, m, z->d, 1);
        pack(qp, q, m, z->d, scale);
        product(z->s, deep, m, p, 1, z->sp, gp, dv, z->dp, 1);
        product(z->s, deep, m, ds, 1, z->sp, qp, dk, z->dp, 1);
    }
}

/* out = sum over the runs of a head, in order. */
static void sum_runs(rows out, const float *sums, int64_t s, int64_t dp, int64_t d, int64_t runs) {
    for (int64_t j = 0; j < s; j++)
        for (int64_t c = 0; c < d; c++) {
            float sum = 0;
            for (int64_t r = 0; r < runs; r++)
                sum += sums[(2 * r * s + j) * dp + c];
            out.data[j * out.row + c] = sum;
        }
}

static int backward_f32(const ld_view *dq, const ld_view *dk, const ld_view *dv, const ld_view *g, const ld_view *q,
                        const ld_view *k, const ld_view *v, const ld_view *y, const ld_view *lse, double scale) {
    sizes z = sizes_of(q, k);
    int64_t each = up(backward_floats(&z)), heads = z.n * z.heads, units = heads * z.runs;
    int64_t pair = 2 * z.s * z.dp, slots = z.runs == 1 ? ld_threads() : units;
    float *work = buffers(each, slots * pair, "attention");
    if (!work)
        return LD_EMEM;
    float *sums = work + each * ld_threads();
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t u = 0; u < units; u++) {
        int64_t i = u / z.runs, n = i / z.heads, h = i % z.heads, from = u % z.runs * z.per_run;
        int64_t to = from + z.per_run < z.t ? from + z.per_run : z.t, me = omp_get_thread_num();
        head x = {head_of(dq, n, h), head_of(dk, n, h), head_of(dv, n, h),
                  head_of(g, n, h),  head_of(q, n, h),  head_of(k, n, h),
                  head_of(v, n, h),  head_of(y, n, h),  (const float *)lse->data + i * z.t};
        float *mine = sums + (z.runs == 1 ? me : u) * pair;
        backward_unit(&z, work + each * me, mine, &x, from, to, (float)scale);
        if (z.runs == 1) {
            sum_runs(x.dk, mine, z.s, z.dp, z.d, 1);
            sum_runs(x.dv, mine + z.s * z.dp, z.s, z.dp, z.d, 1);
        }
    }
    if (z.runs > 1) {
#pragma omp parallel for schedule(static) num_threads(ld_threads())
        for (int64_t i = 0; i < 2 * heads; i++) {
            int64_t n = i / 2 / z.heads, h = i / 2 % z.heads;
            rows out = head_of(i % 2 ? dv : dk, n, h);
            sum_runs(out, sums + i / 2 * z.runs * pair + i % 2 * z.s * z.dp, z.s, z.dp, z.d, z.runs);
        }
    }
    ld_cpu_workspace_done(work);
    return 0;
}

/* ---- f64 --------------------------------------------------------------------------------------------------------- */

static double *row_of(const ld_view *v, int64_t n, int64_t h, int64_t t) {
    return (double *)v->data + n * v->stride[0] + h * v->stride[1] + t * v->stride[2];
}

static double dot(const double *a, const double *b, int64_t d) {
    double sum = 0;
    for (int64_t c = 0; c < d; c++)
        sum += a[c] * b[c];
    return sum;
}

static void add_scaled(double *y, double f, const double *x, int64_t d) {
    for (int64_t c = 0; c < d; c++)
        y[c] += f * x[c];
}

static int forward_f64(const ld_view *y, const ld_view *lse, const ld_view *q, const ld_view *k, const ld_view *v,
                       double scale) {
    sizes z = sizes_of(q, k);
    double *work = ld_cpu_workspace((size_t)(z.s * ld_threads()) * sizeof *work, "attention");
    if (!work)
        return LD_EMEM;
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t i = 0; i < z.n * z.heads * z.t; i++) {
        int64_t t = i % z.t, h = i / z.t % z.heads, n = i / z.t / z.heads;
        double *p = work + z.s * omp_get_thread_num(), max = -INFINITY, sum = 0, *out = row_of(y, n, h, t);
        for (int64_t j = 0; j < z.s; j++) {
            p[j] = scale * dot(row_of(q, n, h, t), row_of(k, n, h, j), z.d);
            max = fmax(max, p[j]);
        }
        for (int64_t j = 0; j < z.s; j++)
            sum += p[j] = exp(p[j] - max);
        memset(out, 0, (size_t)z.d * sizeof *out);
        for (int64_t j = 0; j < z.s; j++)
            add_scaled(out, p[j] / sum, row_of(v, n, h, j), z.d);
        ((double *)lse->data)[i] = max + log(sum);
    }
    ld_cpu_workspace_done(work);
    return 0;
}

static void clear_head(const ld_view *v, int64_t n, int64_t h) {
    for (int64_t t = 0; t < v->shape[2]; t++)
        memset((char *)v->data +
                   (size_t)(n * v->stride[0] + h * v->stride[1] + t * v->stride[2]) * ld_dtype_size(v->dtype),
               0, (size_t)v->shape[3] * ld_dtype_size(v->dtype));
}

static void clear_heads(const ld_view *v) {
    for (int64_t n = 0; n < v->shape[0]; n++)
        for (int64_t h = 0; h < v->shape[1]; h++)
            clear_head(v, n, h);
}

static void backward_f64(const ld_view *dq, const ld_view *dk, const ld_view *dv, const ld_view *g, const ld_view *q,
                         const ld_view *k, const ld_view *v, const ld_view *y, const ld_view *lse, double scale) {
    sizes z = sizes_of(q, k);
#pragma omp parallel for collapse(2) schedule(static) num_threads(ld_threads())
    for (int64_t n = 0; n < z.n; n++)
        for (int64_t h = 0; h < z.heads; h++) {
            clear_head(dq, n, h);
            clear_head(dk, n, h);
            clear_head(dv, n, h);
            for (int64_t t = 0; t < z.t; t++) {
                const double *gt = row_of(g, n, h, t), *qt = row_of(q, n, h, t);
                double total = ((const double *)lse->data)[(n * z.heads + h) * z.t + t];
                double delta = dot(gt, row_of(y, n, h, t), z.d);
                for (int64_t j = 0; j < z.s; j++) {
                    double p = exp(scale * dot(qt, row_of(k, n, h, j), z.d) - total);
                    double ds = scale * p * (dot(gt, row_of(v, n, h, j), z.d) - delta);
                    add_scaled(row_of(dv, n, h, j), p, gt, z.d);
                    add_scaled(row_of(dk, n, h, j), ds, qt, z.d);
                    add_scaled(row_of(dq, n, h, t), ds, row_of(k, n, h, j), z.d);
                }
            }
        }
}

/* ---- slots ------------------------------------------------------------------------------------------------------- */

static int check_dtype(ld_dtype t) {
    if (t == LD_F32 || t == LD_F64)
        return 0;
    return ld_fail(LD_EDTYPE, "attention: %s on the cpu; f32 and f64 are there", ld_dtype_names[t]);
}

int ld_cpu_attention(const ld_view *y, const ld_view *lse, const ld_view *q, const ld_view *k, const ld_view *v,
                     double scale) {
    int err = check_dtype(y->dtype);
    if (err)
        return err;
    if (!k->shape[2] || !q->shape[3]) { /* nothing to look at: 0, and the sum of S exponentials of 0 */
        clear_heads(y);
        for (int64_t i = 0; i < ld_view_numel(lse); i++)
            ld_dtype_set(lse->dtype, (char *)lse->data + (size_t)i * ld_dtype_size(lse->dtype),
                         log((double)k->shape[2]));
        return 0;
    }
    return y->dtype == LD_F32 ? forward_f32(y, lse, q, k, v, scale) : forward_f64(y, lse, q, k, v, scale);
}

int ld_cpu_attention_bwd(const ld_view *dq, const ld_view *dk, const ld_view *dv, const ld_view *g, const ld_view *q,
                         const ld_view *k, const ld_view *v, const ld_view *y, const ld_view *lse, double scale) {
    int err = check_dtype(dq->dtype);
    if (err)
        return err;
    if (!k->shape[2] || !q->shape[2] || !q->shape[3]) {
        clear_heads(dq);
        clear_heads(dk);
        clear_heads(dv);
        return 0;
    }
    if (dq->dtype == LD_F32)
        return backward_f32(dq, dk, dv, g, q, k, v, y, lse, scale);
    backward_f64(dq, dk, dv, g, q, k, v, y, lse, scale);
    return 0;
}
