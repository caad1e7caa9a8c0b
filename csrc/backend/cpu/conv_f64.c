/* Convolution in f64, for gradient checks: plain loops, written to be read. */
#include "backend/cpu/conv.h"
#include "backend/device.h"

typedef struct sizes {
    int64_t n, c, h, w, o, p, q, r, s;
} sizes;

static sizes sizes_of(const ld_view *x, const ld_view *w, const ld_view *y) {
    return (sizes){x->shape[0], x->shape[1], x->shape[2], x->shape[3], y->shape[1],
                   y->shape[2], y->shape[3], w->shape[2], w->shape[3]};
}

static double *at(const ld_view *v, int64_t a, int64_t b, int64_t c, int64_t d) {
    return (double *)v->data + a * v->stride[0] + b * v->stride[1] + c * v->stride[2] + d * v->stride[3];
}

void ld_conv_f64(const ld_view *y, const ld_view *x, const ld_view *w, const double *bias, const ld_conv_shape *cs) {
    sizes z = sizes_of(x, w, y);
#pragma omp parallel for collapse(2) schedule(static) num_threads(ld_threads())
    for (int64_t n = 0; n < z.n; n++)
        for (int64_t o = 0; o < z.o; o++)
            for (int64_t p = 0; p < z.p; p++)
                for (int64_t q = 0; q < z.q; q++) {
                    double sum = bias ? bias[o] : 0;
                    for (int64_t r = 0; r < z.r; r++)
                        for (int64_t s = 0; s < z.s; s++) {
                            int64_t h = p * cs->stride_h + r - cs->top, i = q * cs->stride_w + s - cs->left;
                            if (h < 0 || h >= z.h << cs->up || i < 0 || i >= z.w << cs->up)
                                continue;
                            for (int64_t c = 0; c < z.c; c++)
                                sum += *at(x, n, c, h >> cs->up, i >> cs->up) * *at(w, o, c, r, s);
                        }
                    *at(y, n, o, p, q) = sum;
                }
}

/* Each g[n,o,p,q] w[o,c,r,s] goes to dx[n,c,h,i]; samples are independent. */
void ld_conv_dx_f64(const ld_view *dx, const ld_view *g, const ld_view *w, const ld_conv_shape *cs) {
    sizes z = sizes_of(dx, w, g);
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t n = 0; n < z.n; n++)
        for (int64_t o = 0; o < z.o; o++)
            for (int64_t p = 0; p < z.p; p++)
                for (int64_t q = 0; q < z.q; q++)
                    for (int64_t r = 0; r < z.r; r++)
                        for (int64_t s = 0; s < z.s; s++) {
                            int64_t h = p * cs->stride_h + r - cs->top, i = q * cs->stride_w + s - cs->left;
                            if (h < 0 || h >= z.h << cs->up || i < 0 || i >= z.w << cs->up)
                                continue;
                            for (int64_t c = 0; c < z.c; c++)
                                *at(dx, n, c, h >> cs->up, i >> cs->up) += *at(g, n, o, p, q) * *at(w, o, c, r, s);
                        }
}

/* Each x[n,c,h,i] g[n,o,p,q] goes to dw[o,c,r,s]; outputs o are independent. */
void ld_conv_dw_f64(const ld_view *dw, double *db, const ld_view *x, const ld_view *g, const ld_conv_shape *cs) {
    sizes z = sizes_of(x, dw, g);
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t o = 0; o < z.o; o++)
        for (int64_t n = 0; n < z.n; n++)
            for (int64_t p = 0; p < z.p; p++)
                for (int64_t q = 0; q < z.q; q++) {
                    if (db)
                        db[o] += *at(g, n, o, p, q);
                    for (int64_t r = 0; r < z.r; r++)
                        for (int64_t s = 0; s < z.s; s++) {
                            int64_t h = p * cs->stride_h + r - cs->top, i = q * cs->stride_w + s - cs->left;
                            if (h < 0 || h >= z.h << cs->up || i < 0 || i >= z.w << cs->up)
                                continue;
                            for (int64_t c = 0; c < z.c; c++)
                                *at(dw, o, c, r, s) += *at(x, n, c, h >> cs->up, i >> cs->up) * *at(g, n, o, p, q);
                        }
                }
}
