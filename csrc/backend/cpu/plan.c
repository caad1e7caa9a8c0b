/* The table that stands in for the CPU's while memory is planned: slots compute nothing. Those with workspace run until
 * they have asked for it. tests/c/test_plan.c compares what they ask for with what they take when they compute. */
#include "backend/plan.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

#define NOTHING(slot, args)                                                                                            \
    static int no_##slot args {                                                                                        \
        return 0;                                                                                                      \
    }
LD_SLOTS(NOTHING)

/* A slot that has got as far as its workspace has told all there is to learn. */
static int until_workspace(int bad) {
    return ld_cpu_workspace_planned() ? 0 : bad;
}

#define UNTIL(slot, args, ...)                                                                                         \
    static int plan_##slot args {                                                                                      \
        return until_workspace(ld_cpu_##slot(__VA_ARGS__));                                                            \
    }
UNTIL(norm,
      (const ld_view *y, const ld_view *stats, const ld_view *mean, const ld_view *var, const ld_view *x,
       const ld_view *film, const ld_view *w, const ld_view *b, const ld_norm_spec *s),
      y, stats, mean, var, x, film, w, b, s)
UNTIL(norm_bwd,
      (const ld_view *dx, const ld_view *dfilm, const ld_view *dw, const ld_view *db, const ld_view *g,
       const ld_view *x, const ld_view *stats, const ld_view *film, const ld_view *w, const ld_view *b,
       const ld_norm_spec *s),
      dx, dfilm, dw, db, g, x, stats, film, w, b, s)
UNTIL(layer_norm,
      (const ld_view *y, const ld_view *mean, const ld_view *rstd, const ld_view *x, const ld_view *w, const ld_view *b,
       double eps),
      y, mean, rstd, x, w, b, eps)
UNTIL(layer_norm_bwd,
      (const ld_view *dx, const ld_view *dw, const ld_view *db, const ld_view *g, const ld_view *x, const ld_view *mean,
       const ld_view *rstd, const ld_view *w),
      dx, dw, db, g, x, mean, rstd, w)
UNTIL(attention,
      (const ld_view *y, const ld_view *lse, const ld_view *q, const ld_view *k, const ld_view *v, double scale), y,
      lse, q, k, v, scale)
UNTIL(attention_bwd,
      (const ld_view *dq, const ld_view *dk, const ld_view *dv, const ld_view *g, const ld_view *q, const ld_view *k,
       const ld_view *v, const ld_view *y, const ld_view *lse, double scale),
      dq, dk, dv, g, q, k, v, y, lse, scale)

/* f64 takes no workspace here and would compute. */
static int plan_conv2d(const ld_view *y, const ld_view *x, const ld_view *w, const ld_view *bias,
                       const ld_conv_shape *s) {
    return y->dtype == LD_F64 ? 0 : until_workspace(ld_cpu_conv2d(y, x, w, bias, s));
}

static int plan_conv2d_dx(const ld_view *dx, const ld_view *g, const ld_view *w, const ld_conv_shape *s) {
    return dx->dtype == LD_F64 ? 0 : until_workspace(ld_cpu_conv2d_dx(dx, g, w, s));
}

static int plan_conv2d_dw(const ld_view *dw, const ld_view *db, const ld_view *x, const ld_view *g,
                          const ld_conv_shape *s) {
    return dw->dtype == LD_F64 ? 0 : until_workspace(ld_cpu_conv2d_dw(dw, db, x, g, s));
}

static int plan_matmul(const ld_view *y, const ld_view *a, const ld_view *b, const ld_view *bias, double beta) {
    return y->dtype == LD_F64 ? 0 : until_workspace(ld_cpu_matmul(y, a, b, bias, beta));
}

static int plan_sumsq(double *sum, const ld_view *xs, int n) {
    *sum = 0;
    return 0;
}

const ld_backend *ld_cpu_plan_backend(void) {
    static ld_backend table;
    if (table.name)
        return &table;
    table = (ld_backend){.name = "cpu",
#define ENTRY(slot, args) .slot = no_##slot,
                         LD_SLOTS(ENTRY)
#undef ENTRY
    };
#define OWN(slot) table.slot = plan_##slot
    OWN(conv2d), OWN(conv2d_dx), OWN(conv2d_dw), OWN(matmul);
    OWN(norm), OWN(norm_bwd), OWN(layer_norm), OWN(layer_norm_bwd);
    OWN(attention), OWN(attention_bwd), OWN(sumsq);
#undef OWN
    return &table;
}
