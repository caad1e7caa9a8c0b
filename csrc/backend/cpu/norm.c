/* Batch and group normalisation of u = (1 + scale) x + shift, with an activation behind it.
 *
 * Forward: x is read for the sums of its columns, then read again and y written. Backward: g and x are read for the sums
 * of dz = g act'(...), and dz is written where dx will be; then dz and x are read and dx written over dz. Storing dz
 * beats computing it twice, because SiLU's exponential and division cost more than the memory does. In a plain norm dz
 * is g and nothing is stored. u, the normalised u and the activation's input never exist.
 * Tests: tests/c/test_cpu_norm.c. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl.h"
#include "backend/cpu/iterate.h"
#include "backend/cpu/vmath.h"
#include "backend/device.h"
#include "base/error.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { BLOCK = 64, PART = 16384, MOST_PARTS = 64 }; /* rows; elements at least in a part; parts of a sample */
enum { COEFS = 5 };
enum { STAT_CENTRE, STAT_OFFSET, STAT_R, STAT_REST, STAT_SQUARE }; /* norm_sets.h */

/* (n, p, c) and how the p rows of a sample are split. */
typedef struct grid {
    int64_t n, p, c, parts, rows;
} grid;

/* One call. Everything but film, w, b is written or workspace. */
typedef struct norm_call {
    grid z;
    const ld_norm_spec *spec;
    const void *film, *w, *b;         /* NULL where absent */
    void *stats, *mean, *var, *dfilm; /* NULL where not wanted */
    int rows, threads;                /* rows of stats by sample */
    double *sums;                     /* two by column and part, of a block of workspace */
    double *joined;                   /* 2 c: of all ranks, where spec->join is given */
    void *temporary, *coef[COEFS];    /* T: 3 c a thread; n c */
} norm_call;

/* Samples n0 .. n1 - 1 and channels j0 .. j1 - 1 that share statistics. */
typedef struct norm_set {
    int64_t n0, n1, j0, j1;
} norm_set;

/* A run of rows: of sample n, its first element, how many. */
typedef struct part {
    int64_t n, first, rows;
} part;

static grid grid_of(int64_t n, int64_t p, int64_t c) {
    grid z = {n, p, c, (p * c + PART - 1) / PART, 0};
    z.parts = z.parts > MOST_PARTS ? MOST_PARTS : z.parts;
    z.parts = z.parts > p ? p : z.parts;
    z.parts = z.parts < 1 ? 1 : z.parts;
    z.rows = (p + z.parts - 1) / z.parts;
    return z;
}

static int64_t part_rows(const grid *z, int64_t from) {
    int64_t m = z->p - from < z->rows ? z->p - from : z->rows;
    return m > 0 ? m : 0;
}

static part part_of(const grid *z, int64_t u) {
    int64_t n = u / z->parts, from = u % z->parts * z->rows;
    return (part){n, (n * z->p + from) * z->c, part_rows(z, from)};
}

/* The two sums by column of sample n, once its parts are merged. */
static double *sums_of(const norm_call *q, int64_t n) {
    return q->sums + n * q->z.parts * 2 * q->z.c;
}

/* The parts of sample n merged into its first: means and deviations. */
static void merge_parts(const grid *z, double *sums, int64_t n) {
    double *into = sums + n * z->parts * 2 * z->c;
    for (int64_t u = 1; u < z->parts; u++) {
        const double *from = into + u * 2 * z->c;
        double before = (double)(u * z->rows), m = (double)part_rows(z, u * z->rows);
        if (m <= 0)
            break;
        for (int64_t j = 0; j < z->c; j++) {
            double delta = from[j] - into[j];
            into[j] += delta * m / (before + m);
            into[z->c + j] += from[z->c + j] + delta * delta * before * m / (before + m);
        }
    }
}

/* The same for plain sums. */
static void add_parts(const grid *z, double *sums, int64_t n) {
    double *into = sums + n * z->parts * 2 * z->c;
    for (int64_t u = 1; u < z->parts; u++)
        for (int64_t j = 0; j < 2 * z->c; j++)
            into[j] += into[u * 2 * z->c + j];
}

static void for_sets(const norm_call *q, void (*f)(const norm_call *, const norm_set *)) {
    int64_t n = q->z.n, c = q->z.c, groups = q->spec->groups, size = groups ? c / groups : 1;
    for (int64_t i = 0; i < (groups ? n * groups : c); i++) {
        int64_t k = groups ? i / groups : 0, j = groups ? i % groups * size : i;
        f(q, &(norm_set){k, groups ? k + 1 : n, j, j + size});
    }
}

/* What f measures of every channel into q->joined, and what all ranks make of it. */
static int join_ranks(const norm_call *q, void (*f)(const norm_call *, const norm_set *)) {
    ld_norm_join *join = q->spec->join;
    if (!join)
        return 0;
    for_sets(q, f);
    return join->run(join, q->joined, q->joined + q->z.c, q->z.c);
}

/* ---- both dtypes ------------------------------------------------------------------------------------------------- */

LD_BODY float sigmoid_f32(float x) {
    float t = -x;
    return 1 / (1 + ld_exp_f32(t > 88 ? 88 : t));
}

LD_BODY double sigmoid_f64(double x) {
    return 1 / (1 + exp(-x));
}

#define T             float
#define FN(name)      name##_f32
#define FN_BODY(name) name##_f32_body
#include "backend/cpu/norm_cols.h"
#include "backend/cpu/norm_sets.h"
#undef T
#undef FN
#undef FN_BODY
#define T             double
#define FN(name)      name##_f64
#define FN_BODY(name) name##_f64_body
#include "backend/cpu/norm_cols.h"
#include "backend/cpu/norm_sets.h"
#undef T
#undef FN
#undef FN_BODY

static void *data(const ld_view *v) {
    return v ? v->data : NULL;
}

static const char *name(const norm_call *q) {
    return q->spec->groups ? "group_norm" : "batch_norm";
}

/* The dtype checked, the grid and workspace for x; *q has the rest. */
static int begin(norm_call *q, const ld_view *x) {
    if (x->dtype != LD_F32 && x->dtype != LD_F64)
        return ld_fail(LD_EDTYPE, "%s: %s on the cpu; f32 and f64 are there", name(q), ld_dtype_names[x->dtype]);
    grid z = grid_of(x->shape[0], x->shape[1], x->shape[2]);
    size_t size = ld_dtype_size(x->dtype), sums = (size_t)((z.n * z.parts + 1) * 2 * z.c) * sizeof(double);
    size_t coef = (size_t)(z.n * z.c) * size;
    q->z = z;
    q->rows = LD_NORM_STATS(q->film);
    q->threads = ld_team(z.n * z.p * z.c);
    size_t temporary = (size_t)(q->threads * 3 * z.c) * size;
    char *block = ld_cpu_workspace(sums + temporary + COEFS * coef, name(q));
    if (!block)
        return LD_EMEM;
    q->sums = (double *)block;
    q->joined = q->sums + z.n * z.parts * 2 * z.c;
    q->temporary = block + sums;
    for (int i = 0; i < COEFS; i++)
        q->coef[i] = block + sums + temporary + (size_t)i * coef;
    return 0;
}

int ld_cpu_norm(const ld_view *y, const ld_view *stats, const ld_view *mean, const ld_view *var, const ld_view *x,
                const ld_view *film, const ld_view *w, const ld_view *b, const ld_norm_spec *s) {
    norm_call q = {.spec = s, .film = data(film), .w = data(w), .b = data(b)};
    q.stats = stats->data;
    q.mean = data(mean);
    q.var = data(var);
    int err = begin(&q, x);
    if (err)
        return err;
    err = x->dtype == LD_F32 ? forward_f32(&q, y->data, x->data) : forward_f64(&q, y->data, x->data);
    ld_cpu_workspace_done(q.sums);
    return err;
}

int ld_cpu_norm_bwd(const ld_view *dx, const ld_view *dfilm, const ld_view *dw, const ld_view *db, const ld_view *g,
                    const ld_view *x, const ld_view *stats, const ld_view *film, const ld_view *w, const ld_view *b,
                    const ld_norm_spec *s) {
    norm_call q = {.spec = s, .film = data(film), .w = data(w), .b = data(b)};
    q.stats = stats->data;
    q.dfilm = data(dfilm);
    int err = begin(&q, x);
    if (err)
        return err;
    err = x->dtype == LD_F32 ? backward_f32(&q, data(dx), data(dw), data(db), g->data, x->data)
                             : backward_f64(&q, data(dx), data(dw), data(db), g->data, x->data);
    ld_cpu_workspace_done(q.sums);
    return err;
}
