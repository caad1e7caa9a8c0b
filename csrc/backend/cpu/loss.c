/* loss and loss_bwd: a number for the difference of two tensors, and its gradient. Forward reads both once and writes nothing
 * else. Elements are summed in f64 in the order in which `reduce` sums a dense tensor, so that the number is that of the
 * operations one by one; the order depends on the number of elements alone. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/iterate.h"

#include <math.h>
#include <omp.h>

enum {
    LANES = 128,       /* sums side by side */
    SEGMENT = 1 << 16, /* elements summed apart, about */
    SEGMENTS = 64      /* at most */
};

#define SQUARE(T) (d * d)
#define ABS(T)    (d < 0 ? -d : d)
#define HUBER(T)  (c * (d - (T)0.5 * c))

/* rows of `beside` elements each added to the sums, and the rest to *sum, then the sums to it. */
#define SUMS(kind, T)                                                                                                  \
    LD_CLONES static double kind##_##T(const T *a, const T *b, int64_t n, int64_t beside, double delta) {              \
        const T most = (T)delta, least = -most;                                                                        \
        double lane[LANES] = {0}, sum = 0;                                                                             \
        int64_t full = n / beside * beside;                                                                            \
        (void)most, (void)least;                                                                                       \
        for (int64_t i = 0; i < full; i += beside)                                                                     \
            _Pragma("omp simd") for (int64_t k = 0; k < beside; k++) {                                                 \
                T d = a[i + k] - b[i + k], c = d < least ? least : d > most ? most : d;                                \
                (void)c;                                                                                               \
                lane[k] += (double)kind(T);                                                                            \
            }                                                                                                          \
        for (int64_t i = full; i < n; i++) {                                                                           \
            T d = a[i] - b[i], c = d < least ? least : d > most ? most : d;                                            \
            (void)c;                                                                                                   \
            sum += (double)kind(T);                                                                                    \
        }                                                                                                              \
        for (int64_t k = 0; k < beside; k++)                                                                           \
            sum += lane[k];                                                                                            \
        return sum;                                                                                                    \
    }
#define ALL_SUMS(T) SUMS(SQUARE, T) SUMS(ABS, T) SUMS(HUBER, T)
ALL_SUMS(float)
ALL_SUMS(double)

static double segment_sum(const ld_view *a, const ld_view *b, const ld_loss_spec *s, int64_t first, int64_t n) {
    int64_t beside = LANES;
    while (beside > 1 && n < 4 * beside)
        beside /= 2;
#define SUM_OF(T, kind) kind##_##T((const T *)a->data + first, (const T *)b->data + first, n, beside, s->delta)
    if (a->dtype == LD_F64)
        return s->kind == LD_LOSS_SQUARE ? SUM_OF(double, SQUARE)
               : s->kind == LD_LOSS_ABS  ? SUM_OF(double, ABS)
                                         : SUM_OF(double, HUBER);
    return s->kind == LD_LOSS_SQUARE ? SUM_OF(float, SQUARE)
           : s->kind == LD_LOSS_ABS  ? SUM_OF(float, ABS)
                                     : SUM_OF(float, HUBER);
#undef SUM_OF
}

int ld_cpu_loss(const ld_view *y, const ld_view *a, const ld_view *b, const ld_loss_spec *s) {
    double sums[SEGMENTS] = {0};
    int64_t n = ld_view_numel(a), cuts = n / SEGMENT;
    int segments = cuts < 1 ? 1 : cuts > SEGMENTS ? SEGMENTS : (int)cuts, team = ld_team(n);
    team = segments == 1 ? 1 : team;
#pragma omp parallel for num_threads(team) if (team > 1)
    for (int k = 0; k < segments; k++) {
        int64_t first = ld_part(n, k, segments);
        sums[k] = segment_sum(a, b, s, first, ld_part(n, k + 1, segments) - first);
    }
    for (int k = 1; k < segments; k++)
        sums[0] += sums[k];
    ld_dtype_set(y->dtype, y->data, s->mean ? sums[0] / (double)n : sums[0]);
    return 0;
}

/* ---- the gradient ---------------------------------------------------------------------------------------------------- */

#define SLOPES(kind, T, slope)                                                                                         \
    LD_CLONES static void kind##_slopes_##T(T *da, T *db, const T *a, const T *b, T g, T most, int64_t n) {            \
        const T least = -most;                                                                                         \
        (void)least;                                                                                                   \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                          \
            T d = a[i] - b[i], v = g * (slope);                                                                        \
            da[i] = v;                                                                                                 \
            db[i] = -v;                                                                                                \
        }                                                                                                              \
    }
#define ALL_SLOPES(T)                                                                                                  \
    SLOPES(SQUARE, T, 2 * d)                                                                                           \
    SLOPES(ABS, T, d != d ? d : (T)((d > 0) - (d < 0)))                                                                \
    SLOPES(HUBER, T, d<least ? least : d> most ? most : d)                                                             \
    static void slopes_##T(const ld_view *da, const ld_view *db, const T *a, const T *b, T g, const ld_loss_spec *s,   \
                           int64_t first, int64_t n) {                                                                 \
        T room[ROOM] = {0};                                                                                            \
        for (int64_t i = first; i < first + n; i += ROOM) {                                                            \
            int64_t m = first + n - i < ROOM ? first + n - i : ROOM;                                                   \
            T *to_a = da ? (T *)da->data + i : room, *to_b = db ? (T *)db->data + i : room;                            \
            (s->kind == LD_LOSS_SQUARE ? SQUARE_slopes_##T                                                             \
             : s->kind == LD_LOSS_ABS  ? ABS_slopes_##T                                                                \
                                       : HUBER_slopes_##T)(to_a, to_b, a + i, b + i, g, (T)s->delta, m);                \
        }                                                                                                              \
    }
enum { ROOM = 1024 }; /* for the half that nobody wants */
ALL_SLOPES(float)
ALL_SLOPES(double)

int ld_cpu_loss_bwd(const ld_view *da, const ld_view *db, const ld_view *g, const ld_view *a, const ld_view *b,
                    const ld_loss_spec *s) {
    int64_t n = ld_view_numel(a);
    int team = ld_team(n);
    double share = s->mean && n ? 1 / (double)n : 1;
#pragma omp parallel num_threads(team) if (team > 1)
    {
        int me = omp_get_thread_num(), all = omp_get_num_threads();
        int64_t first = ld_part(n, me, all), count = ld_part(n, me + 1, all) - first;
        if (a->dtype == LD_F64)
            slopes_double(da, db, a->data, b->data, share * *(const double *)g->data, s, first, count);
        else
            slopes_float(da, db, a->data, b->data, (float)share * *(const float *)g->data, s, first, count);
    }
    return 0;
}
