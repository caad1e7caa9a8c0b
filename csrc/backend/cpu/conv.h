/* Convolution on the CPU: the ways to compute it, and the choice among them. Shapes are the slots' (backend.h), nothing is
 * empty, f32 unless a name says f64. */
#ifndef LD_CPU_CONV_H
#define LD_CPU_CONV_H

#include "backend/backend.h"
#include "backend/cpu/dnnl.h"

/* Where s->up is set, "the repeated image" is x after nearest upsampling. */
typedef enum ld_conv_way {
    LD_CONV_DIRECT,   /* oneDNN on the tensors as they lie; with `up` on the repeated image, in workspace */
    LD_CONV_BLOCKED,  /* the same with x and y reordered to oneDNN's blocks of channels and back */
    LD_CONV_WINOGRAD, /* winograd.h; with `up` it reads x itself */
    LD_CONV_FOLDED,   /* `up` only: the transposed 4x4 convolution of stride 2 that it equals, by oneDNN */
    LD_CONV_WAYS
} ld_conv_way;
extern const char *const ld_conv_way_names[LD_CONV_WAYS]; /* "direct", ... */

/* One call: the operands of ld_dnnl_kind. DX: x is written; DW: w and bias (or NULL) are written; y is then the gradient. */
typedef struct ld_conv_call {
    ld_dnnl_kind kind;
    const ld_view *x, *w, *bias, *y;
    const ld_conv_shape *s;
} ld_conv_call;

/* Whether a way can compute the call; the one that the fixed rule takes: it depends on shapes and processor alone. */
bool ld_conv_fits(const ld_conv_call *c, ld_conv_way way);
ld_conv_way ld_conv_rule(const ld_conv_call *c);

/* Compute by one way that fits, in workspace of so many bytes. 0, LD_EMEM, LD_EINTERNAL. */
int ld_conv_workspace(const ld_conv_call *c, ld_conv_way way, size_t *bytes);
int ld_conv_run(const ld_conv_call *c, ld_conv_way way, void *workspace);
int ld_conv_folded_workspace(const ld_conv_call *c, size_t *bytes);
int ld_conv_folded(const ld_conv_call *c, void *workspace);
int ld_conv_bias_gradient(const ld_conv_call *c); /* c->bias (O) = sums over the pixels of c->y */

void ld_conv_f64(const ld_view *y, const ld_view *x, const ld_view *w, const double *bias, const ld_conv_shape *s);
void ld_conv_dx_f64(const ld_view *dx, const ld_view *g, const ld_view *w, const ld_conv_shape *s); /* adds to dx */
void ld_conv_dw_f64(const ld_view *dw, double *db, const ld_view *x, const ld_view *g,
                    const ld_conv_shape *s); /* adds */

#endif
