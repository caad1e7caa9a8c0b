/* Each row of y: the rows of x it needs are combined into one line (left in L2: W*C elements), then the line's columns.
 * Rows of y are shared out to threads; every element is summed by one thread in one order. */
#include "backend/cpu/separable.h"

#include "backend/cpu/iterate.h"
#include "base/error.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* ---- axes ------------------------------------------------------------------------------------------------------------ */

ld_axis ld_axis_new(int64_t out, int64_t in) {
    ld_axis a = {.out = out, .in = in, .start = calloc((size_t)out + 1, sizeof *a.start)};
    a.room = a.start ? 0 : -1;
    return a;
}

static void grow(ld_axis *a, int64_t room) {
    int64_t *index = realloc(a->index, (size_t)room * sizeof *index);
    a->index = index ? index : a->index;
    double *weight = realloc(a->weight, (size_t)room * sizeof *weight);
    a->weight = weight ? weight : a->weight;
    a->room = index && weight ? room : -1;
}

void ld_axis_add(ld_axis *a, int64_t i, int64_t index, double weight) {
    if (a->room >= 0 && a->start[i + 1] < a->start[i])
        a->start[i + 1] = a->start[i];
    if (a->room >= 0 && a->start[i + 1] == a->room)
        grow(a, a->room ? 2 * a->room : 2 * a->out + 8);
    if (a->room < 0)
        return;
    a->index[a->start[i + 1]] = index;
    a->weight[a->start[i + 1]++] = weight;
}

void ld_axis_close(ld_axis *a, int64_t i) {
    if (a->room >= 0 && a->start[i + 1] < a->start[i])
        a->start[i + 1] = a->start[i];
}

static void axis_free(ld_axis *a) {
    free(a->start);
    free(a->index);
    free(a->weight);
}

/* Taps sorted by input position; within one, by output position. */
static ld_axis transpose(const ld_axis *a) {
    ld_axis t = ld_axis_new(a->in, a->out);
    int64_t taps = a->room < 0 ? 0 : a->start[a->out];
    if (a->room < 0)
        t.room = -1;
    else if (t.room >= 0 && taps > 0)
        grow(&t, taps);
    if (t.room < 0)
        return t;
    for (int64_t k = 0; k < taps; k++)
        t.start[a->index[k] + 1]++;
    for (int64_t i = 0; i < a->in; i++)
        t.start[i + 1] += t.start[i];
    for (int64_t i = 0; i < a->out; i++)
        for (int64_t k = a->start[i]; k < a->start[i + 1]; k++) {
            int64_t to = t.start[a->index[k]]++; /* start[j] runs on to where j + 1 begins */
            t.index[to] = i;
            t.weight[to] = a->weight[k];
        }
    memmove(t.start + 1, t.start, (size_t)a->in * sizeof *t.start);
    t.start[0] = 0;
    return t;
}

/* ---- the map --------------------------------------------------------------------------------------------------------- */

typedef struct map {
    ld_axis rows, columns;
    int64_t channels;
    const void *x;
    void *y;
} map;

static bool copies(const ld_axis *a, int64_t i) {
    return a->start[i + 1] == a->start[i] + 1 && a->weight[a->start[i]] == 1;
}

#define MAP(T)                                                                                                         \
    /* y = the weighted sum of the taps of position i, each n elements at index * n of x */                            \
    LD_CLONES static void combine_##T(T *restrict y, const T *restrict x, const ld_axis *a, int64_t i, int64_t n) {    \
        int64_t k = a->start[i], end = a->start[i + 1];                                                                \
        if (k == end) {                                                                                                \
            memset(y, 0, (size_t)n * sizeof(T));                                                                       \
            return;                                                                                                    \
        }                                                                                                              \
        if (end - k == 1) {                                                                                            \
            const T *u = x + a->index[k] * n, w = (T)a->weight[k++];                                                   \
            _Pragma("omp simd") for (int64_t j = 0; j < n; j++) y[j] = w * u[j];                                       \
        } else {                                                                                                       \
            const T *u = x + a->index[k] * n, wu = (T)a->weight[k];                                                    \
            const T *v = x + a->index[k + 1] * n, wv = (T)a->weight[k + 1];                                            \
            _Pragma("omp simd") for (int64_t j = 0; j < n; j++) y[j] = wu * u[j] + wv * v[j];                          \
            k += 2;                                                                                                    \
        }                                                                                                              \
        for (; k < end; k++) {                                                                                         \
            const T *u = x + a->index[k] * n, w = (T)a->weight[k];                                                     \
            _Pragma("omp simd") for (int64_t j = 0; j < n; j++) y[j] += w * u[j];                                      \
        }                                                                                                              \
    }                                                                                                                  \
    /* the same for all positions where n is small: sums stay in registers */                                          \
    static void combine_narrow_##T(T *restrict y, const T *restrict x, const ld_axis *a, int64_t n) {                  \
        for (int64_t i = 0; i < a->out; i++)                                                                           \
            for (int64_t j = 0; j < n; j++) {                                                                          \
                T s = 0;                                                                                               \
                for (int64_t k = a->start[i]; k < a->start[i + 1]; k++)                                                \
                    s += (T)a->weight[k] * x[a->index[k] * n + j];                                                     \
                y[i * n + j] = s;                                                                                      \
            }                                                                                                          \
    }                                                                                                                  \
    static void map_rows_##T(const map *m, int64_t first, int64_t last, void *workspace) {                             \
        int64_t c = m->channels, width = m->columns.in * c;                                                            \
        for (int64_t u = first; u < last; u++) {                                                                       \
            int64_t p = u % m->rows.out;                                                                               \
            const T *image = (const T *)m->x + u / m->rows.out * m->rows.in * width, *line = workspace;                \
            T *y = (T *)m->y + u * m->columns.out * c;                                                                 \
            if (copies(&m->rows, p))                                                                                   \
                line = image + m->rows.index[m->rows.start[p]] * width;                                                \
            else                                                                                                       \
                combine_##T(workspace, image, &m->rows, p, width);                                                     \
            if (c < 8)                                                                                                 \
                combine_narrow_##T(y, line, &m->columns, c);                                                           \
            for (int64_t q = 0; c >= 8 && q < m->columns.out; q++)                                                     \
                combine_##T(y + q * c, line, &m->columns, q, c);                                                       \
        }                                                                                                              \
    }
MAP(float)
MAP(double)

static int run(const char *who, const map *m, int64_t images, bool f64) {
    size_t line = ((size_t)(m->columns.in * m->channels) * (f64 ? sizeof(double) : sizeof(float)) + 63) / 64 * 64;
    int64_t units = images * m->rows.out;
    int team = ld_team((m->rows.in + m->rows.out) * m->columns.in * m->channels * images);
    char *workspace = aligned_alloc(64, (size_t)team * line + 64);
    if (!workspace)
        return ld_fail(LD_EMEM, "%s: out of host memory for lines of %zu bytes", who, line);
    void (*rows)(const map *, int64_t, int64_t, void *) = f64 ? map_rows_double : map_rows_float;
    if (team == 1)
        rows(m, 0, units, workspace);
    else
#pragma omp parallel num_threads(team)
    {
        int me = omp_get_thread_num(), all = omp_get_num_threads();
        rows(m, ld_part(units, me, all), ld_part(units, me + 1, all), workspace + (size_t)me * line);
    }
    free(workspace);
    return 0;
}

int ld_separable(const char *who, const ld_view *y, const ld_view *x, ld_axis rows, ld_axis columns, bool transposed) {
    map m = {rows, columns, y->shape[1], x->data, y->data};
    if (transposed) {
        m.rows = transpose(&rows);
        m.columns = transpose(&columns);
        axis_free(&rows);
        axis_free(&columns);
    }
    int failed = 0;
    if (m.rows.room < 0 || m.columns.room < 0)
        failed = ld_fail(LD_EMEM, "%s: out of host memory for its weights", who);
    else if (ld_view_numel(y) > 0)
        failed = run(who, &m, y->shape[0], y->dtype == LD_F64);
    axis_free(&m.rows);
    axis_free(&m.columns);
    return failed;
}
