/* Rows of a table by index, and their gradient. Indices are checked before anything is written. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/iterate.h"
#include "base/error.h"

#include <omp.h>
#include <string.h>

static int check(const ld_view *idx, int64_t rows, const char *who) {
    const int64_t *at = idx->data;
    int64_t n = ld_view_numel(idx);
    for (int64_t i = 0; i < n; i++)
        if (at[i] < 0 || at[i] >= rows)
            return ld_fail(LD_EINDEX, "%s: index %lld at position %lld; there are %lld rows, counted from 0", who,
                           (long long)at[i], (long long)i, (long long)rows);
    return 0;
}

int ld_cpu_gather_rows(const ld_view *y, const ld_view *x, const ld_view *idx) {
    if (check(idx, x->shape[0], "gather"))
        return ld_error_code();
    int64_t m = y->shape[0], bytes = x->shape[1] * (int64_t)ld_dtype_size(x->dtype);
    const int64_t *at = idx->data;
    const char *from = x->data;
    char *to = y->data;
    int team = ld_team(m * x->shape[1]);
#pragma omp parallel for num_threads(team) if (team > 1)
    for (int64_t i = 0; i < m; i++)
        memcpy(to + i * bytes, from + at[i] * bytes, (size_t)bytes);
    return 0;
}

/* Rows first .. last - 1 of dx: each is one thread's, which adds what belongs to it in order of m. */
#define SCATTER(T)                                                                                                     \
    LD_CLONES static void scatter_##T(const ld_view *dx, const ld_view *g, const int64_t *at, int64_t first,           \
                                      int64_t last) {                                                                  \
        int64_t m = g->shape[0], k = dx->shape[1];                                                                     \
        memset((T *)dx->data + first * k, 0, (size_t)((last - first) * k) * sizeof(T));                                \
        for (int64_t i = 0; i < m; i++) {                                                                              \
            if (at[i] < first || at[i] >= last)                                                                        \
                continue;                                                                                              \
            T *to = (T *)dx->data + at[i] * k;                                                                         \
            const T *from = (const T *)g->data + i * k;                                                                \
            _Pragma("omp simd") for (int64_t j = 0; j < k; j++) to[j] += from[j];                                      \
        }                                                                                                              \
    }
SCATTER(float)
SCATTER(double)

int ld_cpu_scatter_rows(const ld_view *dx, const ld_view *g, const ld_view *idx) {
    int64_t rows = dx->shape[0];
    if (check(idx, rows, "gather backward"))
        return ld_error_code();
    int team = ld_team(ld_view_numel(dx) + ld_view_numel(g));
#pragma omp parallel num_threads(team) if (team > 1)
    {
        int me = omp_get_thread_num(), all = omp_get_num_threads();
        int64_t first = ld_part(rows, me, all), last = ld_part(rows, me + 1, all);
        if (dx->dtype == LD_F64)
            scatter_double(dx, g, idx->data, first, last);
        else
            scatter_float(dx, g, idx->data, first, last);
    }
    return 0;
}
