/* Layer normalisation over the rows of (M, C).
 *
 * x is read once forward; x and g once for dx and once for dw and db, a part of the rows at a time. The parts depend
 * on the sizes only and are added in order, in double. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl.h"
#include "backend/cpu/vmath.h"
#include "backend/device.h"
#include "base/error.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { BLOCK = 64, PART = 16384, MOST_PARTS = 64 }; /* rows; elements at least in a part; parts */

static int64_t layer_parts(int64_t rows, int64_t c) {
    int64_t parts = (rows * c + PART - 1) / PART;
    parts = parts > MOST_PARTS ? MOST_PARTS : parts;
    parts = parts > rows ? rows : parts;
    return parts < 1 ? 1 : parts;
}

#define T             float
#define FN(name)      name##_f32
#define FN_BODY(name) name##_f32_body
#include "backend/cpu/norm_rows.h"
#undef T
#undef FN
#undef FN_BODY
#define T             double
#define FN(name)      name##_f64
#define FN_BODY(name) name##_f64_body
#include "backend/cpu/norm_rows.h"
#undef T
#undef FN
#undef FN_BODY

static int check_dtype(ld_dtype t) {
    return t == LD_F32 || t == LD_F64
               ? 0
               : ld_fail(LD_EDTYPE, "layer_norm: %s on the cpu; f32 and f64 are there", ld_dtype_names[t]);
}

static void *data(const ld_view *v) {
    return v ? v->data : NULL;
}

int ld_cpu_layer_norm(const ld_view *y, const ld_view *mean, const ld_view *rstd, const ld_view *x, const ld_view *w,
                      const ld_view *b, double eps) {
    int err = check_dtype(x->dtype);
    if (err)
        return err;
    int64_t m = x->shape[0], c = x->shape[1];
    void *plain = ld_cpu_workspace((size_t)(2 * c) * ld_dtype_size(x->dtype), "layer_norm");
    if (!plain)
        return LD_EMEM;
    if (x->dtype == LD_F32)
        layer_fwd_f32(m, c, plain, y->data, mean->data, rstd->data, x->data, data(w), data(b), eps);
    else
        layer_fwd_f64(m, c, plain, y->data, mean->data, rstd->data, x->data, data(w), data(b), eps);
    ld_cpu_workspace_done(plain);
    return 0;
}

int ld_cpu_layer_norm_bwd(const ld_view *dx, const ld_view *dw, const ld_view *db, const ld_view *g, const ld_view *x,
                          const ld_view *mean, const ld_view *rstd, const ld_view *w) {
    int err = check_dtype(x->dtype);
    if (err)
        return err;
    int64_t m = x->shape[0], c = x->shape[1];
    size_t pair = (size_t)(2 * c), sums = (size_t)layer_parts(m, c) * pair * sizeof(double);
    size_t temporary = (size_t)ld_threads() * pair * ld_dtype_size(x->dtype);
    char *room = ld_cpu_workspace(sums + temporary + pair * ld_dtype_size(x->dtype), "layer_norm");
    if (!room)
        return LD_EMEM;
    void *t = room + sums, *plain = room + sums + temporary;
    if (x->dtype == LD_F32)
        layer_bwd_f32(m, c, plain, (double *)room, t, data(dx), data(dw), data(db), g->data, x->data, mean->data,
                      rstd->data, data(w));
    else
        layer_bwd_f64(m, c, plain, (double *)room, t, data(dx), data(dw), data(db), g->data, x->data, mean->data,
                      rstd->data, data(w));
    ld_cpu_workspace_done(room);
    return 0;
}
