/* Matrix products: f32 in oneDNN, f64 in plain loops.
 *
 * oneDNN wants row-major results, so a product with a column-major y is computed as y^T = b^T a^T. Batches that are one
 * matrix in memory (shared b) are folded into the rows: one large product beats many small ones. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl.h"
#include "backend/device.h"
#include "base/error.h"

#include <string.h>

/* (count, rows, cols) with strides in elements; batch 0: shared. */
typedef struct mat {
    void *data;
    int64_t count, rows, cols, batch, row, col;
} mat;

/* A stride of a dimension of size 1 means nothing: give it the value that makes the matrix plain. */
static void settle(mat *m) {
    if (m->cols == 1 && m->rows == 1)
        m->row = m->col = 1;
    else if (m->cols == 1)
        m->col = m->row == 1 ? m->rows : 1;
    else if (m->rows == 1)
        m->row = m->col == 1 ? m->cols : 1;
}

static mat mat_of(const ld_view *v) {
    mat m = {v->data, v->shape[0], v->shape[1], v->shape[2], v->stride[0], v->stride[1], v->stride[2]};
    if (m.count == 1)
        m.batch = 0;
    settle(&m);
    return m;
}

static mat transposed(mat m) {
    return (mat){m.data, m.count, m.cols, m.rows, m.batch, m.col, m.row};
}

/* Whether the batch continues the rows, so that (count, rows) is one dimension. */
static bool rows_go_on(const mat *m) {
    return m->count == 1 || (m->batch && m->batch == m->rows * m->row);
}

static void fold_rows(mat *m) {
    m->rows *= m->count;
    m->count = 1;
    m->batch = 0;
    settle(m);
}

static void describe(ld_dnnl_operand *o, const mat *m, int64_t batches) {
    bool shared = !m->batch;
    int64_t dims[3] = {shared ? 1 : m->count, m->rows, m->cols}, stride[3] = {m->batch, m->row, m->col};
    if (batches == 1) {
        o->ndim = 2;
        memcpy(o->dims, dims + 1, 2 * sizeof *dims);
        memcpy(o->stride, stride + 1, 2 * sizeof *stride);
        return;
    }
    ld_dnnl_describe(o, 3, dims, stride);
    memcpy(o->stride + 1, stride + 1, 2 * sizeof *stride);
}

static int product_f32(mat y, mat a, mat b, const float *bias, bool accumulate) {
    ld_dnnl_key k;
    memset(&k, 0, sizeof k);
    k.kind = LD_DNNL_MATMUL;
    k.threads = ld_threads();
    k.bias = bias != NULL;
    k.accumulate = accumulate;
    if (!b.batch && rows_go_on(&a) && rows_go_on(&y)) {
        fold_rows(&a);
        fold_rows(&y);
    }
    if (!a.batch && !b.batch &&
        y.count > 1) { /* the same matrix again and again; oneDNN wants a batch on either side */
        for (int64_t i = 0; i < y.count; i++) {
            mat one = {(float *)y.data + i * y.batch, 1, y.rows, y.cols, 0, y.row, y.col};
            int err = product_f32(one, (mat){a.data, 1, a.rows, a.cols, 0, a.row, a.col},
                                  (mat){b.data, 1, b.rows, b.cols, 0, b.row, b.col}, bias, accumulate);
            if (err)
                return err;
        }
        return 0;
    }
    describe(&k.x, &a, y.count);
    describe(&k.w, &b, y.count);
    describe(&k.y, &y, y.count);
    return ld_dnnl_run(&k, "matmul", a.data, b.data, (void *)(uintptr_t)bias, y.data);
}

/* y = bias + beta y: the product of an empty inner dimension, and the start of the f64 loops. */
static void start_f32(const mat *y, const float *bias, bool keep) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(ld_threads())
    for (int64_t i = 0; i < y->count; i++)
        for (int64_t m = 0; m < y->rows; m++) {
            float *row = (float *)y->data + i * y->batch + m * y->row;
            for (int64_t n = 0; n < y->cols; n++)
                row[n * y->col] = (keep ? row[n * y->col] : 0) + (bias ? bias[n] : 0);
        }
}

static void start_f64(const mat *y, const double *bias, bool keep) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(ld_threads())
    for (int64_t i = 0; i < y->count; i++)
        for (int64_t m = 0; m < y->rows; m++) {
            double *row = (double *)y->data + i * y->batch + m * y->row;
            for (int64_t n = 0; n < y->cols; n++)
                row[n * y->col] = (keep ? row[n * y->col] : 0) + (bias ? bias[n] : 0);
        }
}

enum { DEPTH = 64 }; /* rows of b kept in cache while they are used */

static void product_f64(const mat *y, const mat *a, const mat *b) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(ld_threads())
    for (int64_t i = 0; i < y->count; i++)
        for (int64_t m = 0; m < y->rows; m++) {
            double *out = (double *)y->data + i * y->batch + m * y->row;
            const double *left = (const double *)a->data + i * a->batch + m * a->row;
            for (int64_t from = 0; from < a->cols; from += DEPTH)
                for (int64_t k = from; k < a->cols && k < from + DEPTH; k++) {
                    const double *right = (const double *)b->data + i * b->batch + k * b->row, f = left[k * a->col];
                    for (int64_t n = 0; n < y->cols; n++)
                        out[n * y->col] += f * right[n * b->col];
                }
        }
}

int ld_cpu_matmul(const ld_view *y, const ld_view *a, const ld_view *b, const ld_view *bias, double beta) {
    if (y->dtype != LD_F32 && y->dtype != LD_F64)
        return ld_fail(LD_EDTYPE, "matmul: %s on the cpu; f32 and f64 are there", ld_dtype_names[y->dtype]);
    mat my = mat_of(y), ma = mat_of(a), mb = mat_of(b);
    bool keep = beta != 0;
    if (!my.count || !my.rows || !my.cols)
        return 0;
    if (y->dtype == LD_F64) {
        start_f64(&my, bias ? bias->data : NULL, keep);
        product_f64(&my, &ma, &mb);
        return 0;
    }
    const float *add = bias ? bias->data : NULL;
    if (!ma.cols) {
        start_f32(&my, add, keep);
        return 0;
    }
    if (my.col == 1)
        return product_f32(my, ma, mb, add, keep);
    if (add) { /* a bias along the rows of y^T is none of oneDNN's */
        start_f32(&my, add, keep);
        keep = true;
    }
    return product_f32(transposed(my), transposed(mb), transposed(ma), NULL, keep);
}
