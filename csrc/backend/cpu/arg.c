/* Positions of extreme elements: y = the first largest or smallest along one dimension; a NaN counts as extreme. Each
 * result is one pass along the dimension; results are shared out to threads in runs. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/iterate.h"
#include "backend/half.h"

#include <omp.h>

typedef int64_t (*find_fn)(const void *x, int64_t step, int64_t n);

#define FIND(name, T, W, load, BETTER)                                                                                 \
    static int64_t name(const void *data, int64_t step, int64_t n) {                                                   \
        const T *x = data;                                                                                             \
        int64_t at = 0;                                                                                                \
        W best = load(x[0]);                                                                                           \
        for (int64_t i = 1; i < n && best == best; i++) {                                                              \
            W v = load(x[i * step]);                                                                                   \
            if (v BETTER best || v != v) {                                                                             \
                best = v;                                                                                              \
                at = i;                                                                                                \
            }                                                                                                          \
        }                                                                                                              \
        return at;                                                                                                     \
    }
#define FIND_BOTH(name, T, W, load)                                                                                    \
    FIND(largest_##name, T, W, load, >)                                                                                \
    FIND(smallest_##name, T, W, load, <)
FIND_BOTH(f32, float, float, )
FIND_BOTH(bf16, uint16_t, float, ld_widen_bf16)
FIND_BOTH(f16, uint16_t, float, ld_widen_f16)
FIND_BOTH(f64, double, double, )
FIND_BOTH(i64, int64_t, int64_t, )
FIND_BOTH(i32, int32_t, int32_t, )
FIND_BOTH(u8, uint8_t, uint8_t, )

static void find_rows(const ld_view *y, const ld_view *x, int dim, find_fn find, int64_t first, int64_t last) {
    int64_t size = (int64_t)ld_dtype_size(x->dtype);
    for (int64_t u = first; u < last; u++) {
        int64_t index = u, from = 0, to = 0;
        for (int d = x->ndim - 1; d >= 0; d--) {
            if (d == dim)
                continue;
            from += index % x->shape[d] * x->stride[d];
            to += index % x->shape[d] * y->stride[d];
            index /= x->shape[d];
        }
        ((int64_t *)y->data)[to] = find((const char *)x->data + from * size, x->stride[dim], x->shape[dim]);
    }
}

int ld_cpu_arg(const ld_view *y, const ld_view *x, int dim, bool smallest) {
    static const find_fn table[LD_DTYPE_COUNT][2] = {
        {largest_f32, smallest_f32}, {largest_bf16, smallest_bf16}, {largest_f16, smallest_f16},
        {largest_f64, smallest_f64}, {largest_i64, smallest_i64},   {largest_i32, smallest_i32},
        {largest_u8, smallest_u8},
    };
    find_fn find = table[x->dtype][smallest];
    int64_t units = ld_view_numel(y);
    int team = ld_team(ld_view_numel(x));
    if (ld_view_numel(x) == 0)
        return 0;
    if (team == 1) {
        find_rows(y, x, dim, find, 0, units);
        return 0;
    }
#pragma omp parallel num_threads(team)
    {
        int me = omp_get_thread_num(), all = omp_get_num_threads();
        find_rows(y, x, dim, find, ld_part(units, me, all), ld_part(units, me + 1, all));
    }
    return 0;
}
