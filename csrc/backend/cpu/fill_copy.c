/* fill and copy. Copies between layouts whose fastest dimensions differ (NCHW and NHWC) go through small tiles, so that
 * both sides are touched in whole cache lines; what is left goes through the iterator. Conversions round once, to nearest
 * even; floats become integers towards zero, held at the ends of the type, NaN becoming 0; integers wrap. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/iterate.h"
#include "backend/half.h"

#include <omp.h>
#include <string.h>

/* ---- fill ------------------------------------------------------------------------------------------------------------ */

#define FILL(T)                                                                                                        \
    static void fill_##T(int64_t n, void *const *p, const void *arg) {                                                 \
        T *y = p[0], v = *(const T *)arg;                                                                              \
        for (int64_t i = 0; i < n; i++)                                                                                \
            y[i] = v;                                                                                                  \
    }
FILL(uint16_t)
FILL(uint32_t)
FILL(uint64_t)

static void fill_uint8_t(int64_t n, void *const *p, const void *arg) {
    memset(p[0], *(const uint8_t *)arg, (size_t)n);
}

int ld_cpu_fill(const ld_view *y, double value) {
    static const ld_block_fn by_size[9] = {
        [1] = fill_uint8_t, [2] = fill_uint16_t, [4] = fill_uint32_t, [8] = fill_uint64_t};
    uint64_t element = 0;
    ld_dtype_set(y->dtype, &element, value);
    ld_iterate(1, (const ld_view *const[]){y}, true, by_size[ld_dtype_size(y->dtype)], &element);
    return 0;
}

/* ---- conversions ----------------------------------------------------------------------------------------------------- */

#define CONVERT(from, F, to, T, expression)                                                                            \
    LD_CLONES static void from##_to_##to(int64_t n, void *const *p, const void *arg) {                                 \
        T *restrict y = p[0];                                                                                          \
        const F *restrict x = p[1];                                                                                    \
        (void)arg;                                                                                                     \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                          \
            F v = x[i];                                                                                                \
            y[i] = expression;                                                                                         \
        }                                                                                                              \
    }

/* least and most are exact doubles, most + 1 too; a NaN fails the first comparison. */
LD_INLINE int64_t held(double v, double least, double most) {
    double low = v >= least ? v : (v != v ? 0 : least);
    return (int64_t)(low <= most ? low : most);
}

LD_INLINE int64_t held_i64(double v) {
    double inside = v >= -0x1p63 && v < 0x1p63 ? v : 0;
    int64_t r = (int64_t)inside;
    r = v >= 0x1p63 ? INT64_MAX : r;
    return v < -0x1p63 ? INT64_MIN : r;
}

#define FROM_FLOAT(from, F)                                                                                            \
    CONVERT(from, F, i64, int64_t, held_i64((double)v))                                                                \
    CONVERT(from, F, i32, int32_t, (int32_t)held((double)v, INT32_MIN, INT32_MAX))                                     \
    CONVERT(from, F, u8, uint8_t, (uint8_t)held((double)v, 0, UINT8_MAX))
#define FROM_INTEGER(from, F)                                                                                          \
    CONVERT(from, F, f32, float, (float)v)                                                                             \
    CONVERT(from, F, f64, double, (double)v)                                                                           \
    CONVERT(from, F, half, float, ld_round_to_odd((double)v))                                                          \
    CONVERT(from, F, i64, int64_t, (int64_t)v)                                                                         \
    CONVERT(from, F, i32, int32_t, (int32_t)v)                                                                         \
    CONVERT(from, F, u8, uint8_t, (uint8_t)v)

FROM_FLOAT(f32, float)
FROM_FLOAT(f64, double)
FROM_INTEGER(i64, int64_t)
FROM_INTEGER(i32, int32_t)
FROM_INTEGER(u8, uint8_t)
CONVERT(f32, float, f32, float, v)
CONVERT(f32, float, f64, double, (double)v)
CONVERT(f64, double, f32, float, (float)v)
CONVERT(f64, double, f64, double, v)
CONVERT(f64, double, half, float, ld_round_to_odd(v)) /* the iterator rounds it to bf16 or f16 */

/* The conversion from one compute dtype to a dtype. */
static ld_block_fn converter(ld_dtype to, ld_dtype from) {
#define ROW(from, half)                                                                                                \
    { from##_to_f32, half, half, from##_to_f64, from##_to_i64, from##_to_i32, from##_to_u8 }
    static const ld_block_fn table[LD_DTYPE_COUNT][LD_DTYPE_COUNT] = {
        [LD_F32] = ROW(f32, f32_to_f32),  [LD_F64] = ROW(f64, f64_to_half), [LD_I64] = ROW(i64, i64_to_half),
        [LD_I32] = ROW(i32, i32_to_half), [LD_U8] = ROW(u8, u8_to_half),
    };
#undef ROW
    return table[from][to];
}

/* ---- transposes ------------------------------------------------------------------------------------------------------ */

enum { TILE = 16 };

/* y[b * y_step + a] = x[a * x_step + b], a below na, b in [0, nb), for every index of the outer dimensions. */
typedef struct transpose {
    int64_t na, nb, x_step, y_step;
    int ndim;
    int64_t shape[LD_MAX_DIMS], x_stride[LD_MAX_DIMS], y_stride[LD_MAX_DIMS];
    int64_t outer, size;
} transpose;

#define TILES(T)                                                                                                       \
    static void tiles_##T(T *y, const T *x, const transpose *t, int64_t b0) {                                          \
        T tile[TILE][TILE];                                                                                            \
        int64_t nb = t->nb - b0 < TILE ? t->nb - b0 : TILE;                                                            \
        for (int64_t a = 0; a < t->na && t->na < 8; a++) /* few channels: their lines of y stay in L1 */               \
            for (int64_t b = 0; b < nb; b++)                                                                           \
                y[(b0 + b) * t->y_step + a] = x[a * t->x_step + b0 + b];                                               \
        if (t->na < 8)                                                                                                 \
            return;                                                                                                    \
        for (int64_t a0 = 0; a0 < t->na; a0 += TILE) {                                                                 \
            int64_t na = t->na - a0 < TILE ? t->na - a0 : TILE;                                                        \
            for (int64_t a = 0; a < na; a++)                                                                           \
                for (int64_t b = 0; b < nb; b++)                                                                       \
                    tile[b][a] = x[(a0 + a) * t->x_step + b0 + b];                                                     \
            for (int64_t b = 0; b < nb; b++)                                                                           \
                memcpy(y + (b0 + b) * t->y_step + a0, tile[b], (size_t)na * sizeof(T));                                \
        }                                                                                                              \
    }
TILES(uint8_t)
TILES(uint16_t)
TILES(uint32_t)
TILES(uint64_t)

/* The dimension along which v's elements lie side by side, or -1. */
static int fastest(const ld_view *v) {
    for (int d = v->ndim - 1; d >= 0; d--)
        if (v->shape[d] > 1 && v->stride[d] == 1)
            return d;
    return -1;
}

static bool plan_transpose(transpose *t, const ld_view *y, const ld_view *x) {
    int a = fastest(y), b = fastest(x);
    if (a < 0 || b < 0 || a == b)
        return false;
    *t = (transpose){.na = y->shape[a], .nb = y->shape[b], .x_step = x->stride[a], .y_step = y->stride[b]};
    t->outer = 1;
    t->size = (int64_t)ld_dtype_size(y->dtype);
    for (int d = 0; d < y->ndim; d++) {
        if (d == a || d == b)
            continue;
        t->shape[t->ndim] = y->shape[d];
        t->x_stride[t->ndim] = x->stride[d];
        t->y_stride[t->ndim++] = y->stride[d];
        t->outer *= y->shape[d];
    }
    return true;
}

static void transpose_strips(const transpose *t, char *y, const char *x, int64_t first, int64_t last) {
    int64_t strips = (t->nb + TILE - 1) / TILE;
    for (int64_t u = first; u < last; u++) {
        int64_t at = u / strips, b0 = u % strips * TILE, xo = 0, yo = 0;
        for (int d = t->ndim - 1; d >= 0; d--) {
            xo += at % t->shape[d] * t->x_stride[d];
            yo += at % t->shape[d] * t->y_stride[d];
            at /= t->shape[d];
        }
        void *to = y + yo * t->size;
        const void *from = x + xo * t->size;
        if (t->size == 4)
            tiles_uint32_t(to, from, t, b0);
        else if (t->size == 8)
            tiles_uint64_t(to, from, t, b0);
        else if (t->size == 2)
            tiles_uint16_t(to, from, t, b0);
        else
            tiles_uint8_t(to, from, t, b0);
    }
}

static void run_transpose(const transpose *t, char *y, const char *x) {
    int64_t units = t->outer * ((t->nb + TILE - 1) / TILE);
    int team = ld_team(t->outer * t->na * t->nb);
    if (team == 1) {
        transpose_strips(t, y, x, 0, units);
        return;
    }
#pragma omp parallel num_threads(team)
    {
        int me = omp_get_thread_num(), all = omp_get_num_threads();
        transpose_strips(t, y, x, ld_part(units, me, all), ld_part(units, me + 1, all));
    }
}

/* ---- copy ------------------------------------------------------------------------------------------------------------ */

static void move_block(int64_t n, void *const *p, const void *arg) {
    memcpy(p[0], p[1], (size_t)n * *(const size_t *)arg);
}

int ld_cpu_copy(const ld_view *y, const ld_view *x) {
    const ld_view *views[] = {y, x};
    size_t size = ld_dtype_size(y->dtype);
    transpose t;
    if (ld_view_numel(y) == 0)
        return 0;
    if (y->dtype != x->dtype)
        ld_iterate(2, views, false, converter(y->dtype, ld_compute_dtype(x->dtype)), NULL);
    else if (plan_transpose(&t, y, x))
        run_transpose(&t, y->data, x->data);
    else
        ld_iterate(2, views, true, move_block, &size);
    return 0;
}
