/* reduce. x is read once.
 *
 * Dimensions of x are ordered by stride and merged, which leaves: kept dimensions, reduced dimensions, and as the fastest
 * pair `rows` (reduced) by `columns` (kept; one where x's fastest dimension is itself reduced). A group is one index of the
 * kept dimensions and at most STRIP columns; its accumulators are a strip of f64 (i64 for integers) to which rows are
 * folded. Few large groups are cut into segments whose number depends on the shape alone: results are the same for any
 * number of threads. MAX and MIN give NaN when an element is NaN. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/iterate.h"
#include "base/error.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

enum {
    STRIP = 512,      /* columns of a group */
    LANES = 128,      /* narrow rows are folded side by side, about so many columns at once */
    GATHERED = 4096,  /* elements in a gather buffer */
    SEGMENT = 1 << 16 /* elements of x in a segment, about */
};

typedef union cell {
    double f;
    int64_t i;
} cell;

/* ---- folding --------------------------------------------------------------------------------------------------------- */

/* Fold `rows` rows of `width` elements, `step` apart, into one row of cells. */
typedef void (*rows_fn)(cell *acc, const void *x, int64_t step, int64_t rows, int64_t width);
/* Fold n cells of b into those of a. */
typedef void (*merge_fn)(cell *a, const cell *b, int64_t n);

#define PLUS(a, v)        ((a) + (v))
#define PLUS_SQUARE(a, v) ((a) + (v) * (v))
#define LARGER(a, v)      (((v) > (a)) | ((v) != (v)) ? (v) : (a))
#define SMALLER(a, v)     (((v) < (a)) | ((v) != (v)) ? (v) : (a))

#define ROWS(name, T, A, member, FOLD)                                                                                 \
    LD_CLONES static void name##_##T(cell *acc, const void *data, int64_t step, int64_t rows, int64_t width) {         \
        const T *x = data;                                                                                             \
        int64_t r = 0;                                                                                                 \
        for (; r + 4 <= rows; r += 4, x += 4 * step)                                                                   \
            _Pragma("omp simd") for (int64_t j = 0; j < width; j++) {                                                  \
                A a = (A)x[j], b = (A)x[j + step], c = (A)x[j + 2 * step], d = (A)x[j + 3 * step];                     \
                A s = FOLD(acc[j].member, a);                                                                          \
                s = FOLD(s, b);                                                                                        \
                s = FOLD(s, c);                                                                                        \
                acc[j].member = FOLD(s, d);                                                                            \
            }                                                                                                          \
        for (; r < rows; r++, x += step)                                                                               \
            _Pragma("omp simd") for (int64_t j = 0; j < width; j++) {                                                  \
                A a = (A)x[j];                                                                                         \
                acc[j].member = FOLD(acc[j].member, a);                                                                \
            }                                                                                                          \
    }
#define MERGE(name, A, member, FOLD)                                                                                   \
    static void merge_##name(cell *a, const cell *b, int64_t n) {                                                      \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            A u = a[i].member, v = b[i].member;                                                                        \
            a[i].member = FOLD(u, v);                                                                                  \
        }                                                                                                              \
    }
#define ALL_ROWS(T, A, member)                                                                                         \
    ROWS(sum, T, A, member, PLUS)                                                                                      \
    ROWS(square_sum, T, A, member, PLUS_SQUARE)                                                                        \
    ROWS(largest, T, A, member, LARGER)                                                                                \
    ROWS(smallest, T, A, member, SMALLER)
ALL_ROWS(float, double, f)
ALL_ROWS(double, double, f)
ALL_ROWS(int64_t, int64_t, i)
ALL_ROWS(int32_t, int64_t, i)
ALL_ROWS(uint8_t, int64_t, i)
MERGE(sums, double, f, PLUS)
MERGE(largest, double, f, LARGER)
MERGE(smallest, double, f, SMALLER)
MERGE(whole_sums, int64_t, i, PLUS)
MERGE(whole_largest, int64_t, i, LARGER)
MERGE(whole_smallest, int64_t, i, SMALLER)

static rows_fn rows_kernel(ld_dtype t, ld_reduce_op op) {
#define ROW(T)                                                                                                         \
    { sum_##T, sum_##T, largest_##T, smallest_##T, square_sum_##T }
    static const rows_fn table[LD_DTYPE_COUNT][LD_REDUCE_COUNT] = {
        [LD_F32] = ROW(float),   [LD_F64] = ROW(double), [LD_I64] = ROW(int64_t),
        [LD_I32] = ROW(int32_t), [LD_U8] = ROW(uint8_t),
    };
#undef ROW
    return table[t][op];
}

static merge_fn merge_kernel(bool floats, ld_reduce_op op) {
    static const merge_fn table[2][LD_REDUCE_COUNT] = {
        {merge_whole_sums, merge_whole_sums, merge_whole_largest, merge_whole_smallest, merge_whole_sums},
        {merge_sums, merge_sums, merge_largest, merge_smallest, merge_sums}};
    return table[floats][op];
}

static cell start_value(bool floats, ld_reduce_op op) {
    if (op == LD_MAX)
        return floats ? (cell){.f = -INFINITY} : (cell){.i = INT64_MIN};
    if (op == LD_MIN)
        return floats ? (cell){.f = INFINITY} : (cell){.i = INT64_MAX};
    return floats ? (cell){.f = 0} : (cell){.i = 0};
}

/* ---- the plan -------------------------------------------------------------------------------------------------------- */

typedef struct dimension {
    int64_t size, x, y; /* x, y: strides */
    bool kept;
} dimension;

typedef struct plan {
    const ld_view *in, *out;
    ld_reduce_op op;
    bool floats, gathers;
    rows_fn rows_of;
    merge_fn merge;
    cell start;
    dimension rows, columns;
    dimension kept[LD_MAX_DIMS], reduced[LD_MAX_DIMS]; /* the others, slowest first */
    int kept_count, reduced_count;
    int64_t strips, groups, segments;
    int64_t depth; /* rows in all: those of `rows` times the other reduced dimensions */
} plan;

/* Slowest first; dimensions of size 1 left out, those of one kind merged. */
static int order_dimensions(dimension *d, const ld_view *y, const ld_view *x) {
    int n = 0, merged = 0;
    for (int i = 0; i < x->ndim; i++) {
        if (x->shape[i] == 1)
            continue;
        dimension new = {x->shape[i], x->stride[i], y->stride[i], y->shape[i] == x->shape[i]};
        int k = n++;
        for (; k > 0 && d[k - 1].x != 0 && (new.x == 0 || new.x > d[k - 1].x); k--)
            d[k] = d[k - 1];
        d[k] = new;
    }
    for (int i = 0; i < n; i++) {
        dimension *last = &d[merged - 1];
        if (merged > 0 && last->kept == d[i].kept && last->x == d[i].x * d[i].size &&
            (!last->kept || last->y == d[i].y * d[i].size))
            *last = (dimension){last->size * d[i].size, d[i].x, d[i].y, d[i].kept};
        else
            d[merged++] = d[i];
    }
    return merged;
}

static void plan_shape(plan *p) {
    dimension d[LD_MAX_DIMS];
    int n = order_dimensions(d, p->out, p->in);
    p->columns = (dimension){1, 1, 1, true};
    p->rows = (dimension){1, 1, 0, false};
    int columns = n > 0 && d[n - 1].kept ? n - 1 : -1, rows = n - 1;
    while (rows >= 0 && d[rows].kept)
        rows--;
    int64_t kept = 1;
    p->depth = 1;
    for (int i = 0; i < n; i++) {
        if (!d[i].kept)
            p->depth *= d[i].size;
        if (i == columns)
            p->columns = d[i];
        else if (i == rows)
            p->rows = d[i];
        else if (d[i].kept)
            kept *= (p->kept[p->kept_count++] = d[i]).size;
        else
            p->reduced[p->reduced_count++] = d[i];
    }
    p->strips = (p->columns.size + STRIP - 1) / STRIP;
    p->groups = kept * p->strips;
    int64_t width = p->columns.size < STRIP ? p->columns.size : STRIP, cuts = p->depth * width / SEGMENT;
    p->segments = p->groups >= 64 || cuts < 1 ? 1 : cuts > 64 ? 64 : cuts;
    bool native = ld_compute_dtype(p->in->dtype) == p->in->dtype;
    p->gathers = !native || (p->columns.size > 1 ? p->columns.x != 1 : p->rows.x != 1);
}

/* ---- one segment of one group ---------------------------------------------------------------------------------------- */

/* Dense rows. Narrow ones are laid side by side first, or single elements would wait for one another's sums. */
static void fold_dense(const plan *p, cell *acc, const char *x, int64_t rows, int64_t width, int64_t size) {
    int64_t beside = LANES / width;
    while (beside > 1 && rows < 4 * beside)
        beside /= 2;
    if (beside < 2) {
        p->rows_of(acc, x, width, rows, width);
        return;
    }
    cell lanes[LANES];
    int64_t wide = beside * width, full = rows / beside;
    for (int64_t i = 0; i < wide; i++)
        lanes[i] = p->start;
    p->rows_of(lanes, x, wide, full, wide);
    p->rows_of(acc, x + full * wide * size, width, rows - full * beside, width);
    for (int64_t i = 0; i < beside; i++)
        p->merge(acc, lanes + i * width, width);
}

static void fold_gathered(const plan *p, cell *acc, const char *x, int64_t rows, int64_t width) {
    _Alignas(64) char buffer[GATHERED * sizeof(double)];
    ld_dtype t = p->in->dtype;
    int64_t size = (int64_t)ld_dtype_size(t), dense = (int64_t)ld_dtype_size(ld_compute_dtype(t));
    for (int64_t most = GATHERED / width; rows > 0; rows -= most) {
        int64_t n = rows < most ? rows : most;
        if (width == 1)
            ld_load_run(buffer, x, t, p->rows.x, n, false);
        for (int64_t r = 0; width > 1 && r < n; r++)
            ld_load_run(buffer + r * width * dense, x + r * p->rows.x * size, t, p->columns.x, width, false);
        fold_dense(p, acc, buffer, n, width, dense);
        x += n * p->rows.x * size;
    }
}

static void fold_rows(const plan *p, cell *acc, const char *x, int64_t rows, int64_t width) {
    if (p->gathers)
        fold_gathered(p, acc, x, rows, width);
    else if (width == 1 || p->rows.x == width)
        fold_dense(p, acc, x, rows, width, (int64_t)ld_dtype_size(p->in->dtype));
    else
        p->rows_of(acc, x, p->rows.x, rows, width);
}

static int64_t group_width(const plan *p, int64_t group) {
    int64_t left = p->columns.size - group % p->strips * STRIP;
    return left < STRIP ? left : STRIP;
}

static void fold_segment(const plan *p, cell *acc, int64_t group, int64_t segment) {
    int64_t width = group_width(p, group), size = (int64_t)ld_dtype_size(p->in->dtype);
    int64_t at = group % p->strips * STRIP * p->columns.x, index = group / p->strips;
    for (int d = p->kept_count - 1; d >= 0; index /= p->kept[d--].size)
        at += index % p->kept[d].size * p->kept[d].x;
    for (int64_t j = 0; j < width; j++)
        acc[j] = p->start;
    int64_t row = ld_part(p->depth, (int)segment, (int)p->segments);
    int64_t end = ld_part(p->depth, (int)segment + 1, (int)p->segments);
    while (row < end) {
        int64_t first = row % p->rows.size, n = p->rows.size - first, here = at + first * p->rows.x;
        n = n < end - row ? n : end - row;
        index = row / p->rows.size;
        for (int d = p->reduced_count - 1; d >= 0; index /= p->reduced[d--].size)
            here += index % p->reduced[d].size * p->reduced[d].x;
        fold_rows(p, acc, (const char *)p->in->data + here * size, n, width);
        row += n;
    }
}

static void store(const plan *p, const cell *acc, int64_t group) {
    int64_t width = group_width(p, group), size = (int64_t)ld_dtype_size(p->out->dtype);
    int64_t at = group % p->strips * STRIP * p->columns.y, index = group / p->strips;
    for (int d = p->kept_count - 1; d >= 0; index /= p->kept[d--].size)
        at += index % p->kept[d].size * p->kept[d].y;
    double count = p->op == LD_MEAN ? (double)p->depth : 1;
    for (int64_t j = 0; j < width; j++) {
        char *y = (char *)p->out->data + (at + j * p->columns.y) * size;
        if (p->floats)
            ld_dtype_set(p->out->dtype, y, acc[j].f / count);
        else if (p->out->dtype == LD_I64)
            *(int64_t *)y = acc[j].i;
        else if (p->out->dtype == LD_I32)
            *(int32_t *)y = (int32_t)acc[j].i;
        else
            *(uint8_t *)y = (uint8_t)acc[j].i;
    }
}

/* ---- all of them ----------------------------------------------------------------------------------------------------- */

/* Units are segments of groups. partial: room for all their strips, or NULL when groups are whole. */
static void run_units(const plan *p, int64_t first, int64_t last, cell *partial) {
    cell acc[STRIP];
    for (int64_t u = first; u < last; u++) {
        cell *strip = partial ? partial + u * STRIP : acc;
        fold_segment(p, strip, u / p->segments, u % p->segments);
        if (!partial)
            store(p, strip, u);
    }
}

static void run(const plan *p, cell *partial) {
    int64_t units = p->groups * p->segments;
    int team = ld_team(ld_view_numel(p->in));
    if (team == 1)
        run_units(p, 0, units, partial);
    else
#pragma omp parallel num_threads(team)
    {
        int me = omp_get_thread_num(), all = omp_get_num_threads();
        run_units(p, ld_part(units, me, all), ld_part(units, me + 1, all), partial);
    }
    for (int64_t g = 0; partial && g < p->groups; g++) {
        cell *strip = partial + g * p->segments * STRIP;
        for (int64_t s = 1; s < p->segments; s++)
            p->merge(strip, strip + s * STRIP, group_width(p, g));
        store(p, strip, g);
    }
}

int ld_cpu_reduce(const ld_view *y, const ld_view *x, ld_reduce_op op) {
    bool floats = ld_dtype_is_float(x->dtype);
    if (!floats && (op == LD_MEAN || op == LD_SUMSQ))
        return ld_fail(LD_EDTYPE, "%s: takes floats, x is %s", op == LD_MEAN ? "mean" : "sumsq",
                       ld_dtype_names[x->dtype]);
    if (ld_view_numel(y) == 0)
        return 0;
    plan p = {.in = x, .out = y, .op = op, .floats = floats};
    p.rows_of = rows_kernel(ld_compute_dtype(x->dtype), op);
    p.merge = merge_kernel(floats, op);
    p.start = start_value(floats, op);
    plan_shape(&p);
    cell *partial = NULL;
    if (p.segments > 1) {
        partial = malloc((size_t)(p.groups * p.segments) * STRIP * sizeof *partial);
        if (!partial)
            return ld_fail(LD_EMEM, "reduce: out of host memory for partial sums");
    }
    run(&p, partial);
    free(partial);
    return 0;
}
