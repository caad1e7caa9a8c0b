/* Batch and group normalisation. Both are sums over the columns of a matrix of rows of channels, then one affine map an
 * element: x is read twice forward, x and g twice backward. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl.h"
#include "backend/cpu/vmath.h"
#include "backend/device.h"
#include "base/error.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { BLOCK = 64, PART = 16384, MOST_PARTS = 64 }; /* rows; elements at least in a part; parts of a sample */

/* (n, p, c) and how the p rows of a sample are split. */
typedef struct grid {
    int64_t n, p, c, parts, rows;
} grid;

/* Workspace: sums by part, one sum over samples, T per thread, T per sample and channel (4 of them). */
typedef struct room {
    void *block;
    double *sums, *total;
    void *temporary, *coef;
} room;

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

static int take_room(room *r, const grid *z, ld_dtype t, const char *who) {
    size_t size = ld_dtype_size(t), c = (size_t)z->c, n = (size_t)z->n, parts = (size_t)z->parts;
    size_t sums = n * parts * 2 * c * sizeof(double), total = 2 * c * sizeof(double);
    size_t temporary = (size_t)ld_threads() * 3 * c * size;
    char *block = ld_cpu_workspace(sums + total + temporary + 4 * (n ? n : 1) * c * size, who);
    if (!block)
        return LD_EMEM;
    *r = (room){block, (double *)block, (double *)(block + sums), block + sums + total,
                block + sums + total + temporary};
    return 0;
}

/* The parts of sample n merged into its first: means and deviations. Returns where they are. */
static double *merge_parts(const grid *z, double *sums, int64_t n) {
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
    return into;
}

/* The same for plain sums. */
static double *add_parts(const grid *z, double *sums, int64_t n) {
    double *into = sums + n * z->parts * 2 * z->c;
    for (int64_t u = 1; u < z->parts; u++)
        for (int64_t j = 0; j < 2 * z->c; j++)
            into[j] += into[u * 2 * z->c + j];
    return into;
}

#define T             float
#define FN(name)      name##_f32
#define FN_BODY(name) name##_f32_body
#include "backend/cpu/norm_cols.h"
#undef T
#undef FN
#undef FN_BODY
#define T             double
#define FN(name)      name##_f64
#define FN_BODY(name) name##_f64_body
#include "backend/cpu/norm_cols.h"
#undef T
#undef FN
#undef FN_BODY

static int check_dtype(const char *who, ld_dtype t) {
    return t == LD_F32 || t == LD_F64
               ? 0
               : ld_fail(LD_EDTYPE, "%s: %s on the cpu; f32 and f64 are there", who, ld_dtype_names[t]);
}

static void *data(const ld_view *v) {
    return v ? v->data : NULL;
}

int ld_cpu_batch_norm(const ld_view *y, const ld_view *mean, const ld_view *var, const ld_view *x, const ld_view *w,
                      const ld_view *b, double eps, bool given) {
    grid z = grid_of(1, x->shape[0], x->shape[1]);
    room r;
    int err = check_dtype("batch_norm", x->dtype);
    if (!err)
        err = take_room(&r, &z, x->dtype, "batch_norm");
    if (err)
        return err;
    if (x->dtype == LD_F32)
        batch_fwd_f32(&z, &r, y->data, mean->data, var->data, x->data, data(w), data(b), eps, given);
    else
        batch_fwd_f64(&z, &r, y->data, mean->data, var->data, x->data, data(w), data(b), eps, given);
    ld_cpu_workspace_done(r.block);
    return 0;
}

int ld_cpu_batch_norm_bwd(const ld_view *dx, const ld_view *dw, const ld_view *db, const ld_view *g, const ld_view *x,
                          const ld_view *mean, const ld_view *var, const ld_view *w, double eps, bool given) {
    grid z = grid_of(1, x->shape[0], x->shape[1]);
    room r;
    int err = check_dtype("batch_norm", x->dtype);
    if (!err)
        err = take_room(&r, &z, x->dtype, "batch_norm");
    if (err)
        return err;
    if (x->dtype == LD_F32)
        batch_bwd_f32(&z, &r, data(dx), data(dw), data(db), g->data, x->data, mean->data, var->data, data(w), eps,
                      given);
    else
        batch_bwd_f64(&z, &r, data(dx), data(dw), data(db), g->data, x->data, mean->data, var->data, data(w), eps,
                      given);
    ld_cpu_workspace_done(r.block);
    return 0;
}

int ld_cpu_group_norm(const ld_view *y, const ld_view *mean, const ld_view *rstd, const ld_view *x, const ld_view *w,
                      const ld_view *b, int groups, double eps) {
    grid z = grid_of(x->shape[0], x->shape[1], x->shape[2]);
    room r;
    int err = check_dtype("group_norm", x->dtype);
    if (!err)
        err = take_room(&r, &z, x->dtype, "group_norm");
    if (err)
        return err;
    if (x->dtype == LD_F32)
        group_fwd_f32(&z, &r, y->data, mean->data, rstd->data, x->data, data(w), data(b), groups, eps);
    else
        group_fwd_f64(&z, &r, y->data, mean->data, rstd->data, x->data, data(w), data(b), groups, eps);
    ld_cpu_workspace_done(r.block);
    return 0;
}

int ld_cpu_group_norm_bwd(const ld_view *dx, const ld_view *dw, const ld_view *db, const ld_view *g, const ld_view *x,
                          const ld_view *mean, const ld_view *rstd, const ld_view *w, int groups) {
    grid z = grid_of(x->shape[0], x->shape[1], x->shape[2]);
    room r;
    int err = check_dtype("group_norm", x->dtype);
    if (!err)
        err = take_room(&r, &z, x->dtype, "group_norm");
    if (err)
        return err;
    if (x->dtype == LD_F32)
        group_bwd_f32(&z, &r, data(dx), data(dw), data(db), g->data, x->data, mean->data, rstd->data, data(w), groups);
    else
        group_bwd_f64(&z, &r, data(dx), data(dw), data(db), g->data, x->data, mean->data, rstd->data, data(w), groups);
    ld_cpu_workspace_done(r.block);
    return 0;
}
