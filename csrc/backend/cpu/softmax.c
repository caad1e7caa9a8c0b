/* Softmax and cross entropy over the rows of (M, K): one pass for the maximum, one for the exponentials, one to scale.
 * Rows are independent; results do not depend on the number of threads. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/vmath.h"
#include "backend/device.h"
#include "base/error.h"

#include <math.h>

#define T             float
#define FN(name)      name##_f32
#define FN_BODY(name) name##_f32_body
#define EXP           ld_exp_f32
#include "backend/cpu/norm_softmax.h"
#undef T
#undef FN
#undef FN_BODY
#undef EXP
#define T             double
#define FN(name)      name##_f64
#define FN_BODY(name) name##_f64_body
#define EXP           exp
#include "backend/cpu/norm_softmax.h"
#undef T
#undef FN
#undef FN_BODY
#undef EXP

static int check_dtype(const char *who, ld_dtype t) {
    return t == LD_F32 || t == LD_F64
               ? 0
               : ld_fail(LD_EDTYPE, "%s: %s on the cpu; f32 and f64 are there", who, ld_dtype_names[t]);
}

int ld_cpu_softmax(const ld_view *y, const ld_view *x) {
    int err = check_dtype("softmax", x->dtype);
    if (err || !ld_view_numel(x))
        return err;
    if (x->dtype == LD_F32)
        softmax_fwd_f32(x->shape[0], x->shape[1], y->data, x->data);
    else
        softmax_fwd_f64(x->shape[0], x->shape[1], y->data, x->data);
    return 0;
}

int ld_cpu_softmax_bwd(const ld_view *dx, const ld_view *g, const ld_view *y) {
    int err = check_dtype("softmax", y->dtype);
    if (err || !ld_view_numel(y))
        return err;
    if (y->dtype == LD_F32)
        softmax_grad_f32(y->shape[0], y->shape[1], dx->data, g->data, y->data);
    else
        softmax_grad_f64(y->shape[0], y->shape[1], dx->data, g->data, y->data);
    return 0;
}

int ld_cpu_cross_entropy(const ld_view *loss, const ld_view *x, const ld_view *t, double smoothing) {
    int err = check_dtype("cross_entropy", x->dtype);
    if (err || !ld_view_numel(x))
        return err;
    if (x->dtype == LD_F32)
        entropy_fwd_f32(x->shape[0], x->shape[1], loss->data, x->data, t->data, smoothing);
    else
        entropy_fwd_f64(x->shape[0], x->shape[1], loss->data, x->data, t->data, smoothing);
    return 0;
}

int ld_cpu_cross_entropy_bwd(const ld_view *dx, const ld_view *g, const ld_view *x, const ld_view *t,
                             double smoothing) {
    int err = check_dtype("cross_entropy", x->dtype);
    if (err || !ld_view_numel(x))
        return err;
    if (x->dtype == LD_F32)
        entropy_grad_f32(x->shape[0], x->shape[1], dx->data, g->data, x->data, t->data, smoothing);
    else
        entropy_grad_f64(x->shape[0], x->shape[1], dx->data, g->data, x->data, t->data, smoothing);
    return 0;
}
