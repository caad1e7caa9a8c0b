/* The slot `matmul` of the plug-in over a cuBLASLt that is written out here from its documentation: by columns, layouts with
 * leading dimension and batch step, transposition, bias along the rows of the result, alpha and beta. Results are compared with sums written out. */
#include "backend/cuda/library.h"
#include "host.h"

typedef struct layout_of {
    cudaDataType_t type;
    int64_t rows, columns, lead, step;
    int32_t batch;
} layout_of;

typedef struct operation {
    cublasOperation_t a, b;
    bool bias;
    const void *bias_data;
} operation;

static int products; /* calls that got through */

static size_t no_version(void) {
    return 1;
}
static const char *status_text(cublasStatus_t st) {
    return st == CUBLAS_STATUS_INVALID_VALUE ? "invalid value" : "refused";
}
static cublasStatus_t create(cublasLtHandle_t *h) {
    *h = (cublasLtHandle_t)(uintptr_t)1;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t desc_create(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType_t scale) {
    bool wide = scale == CUDA_R_64F;
    if (compute != (wide ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F)) /* no TF32 */
        return CUBLAS_STATUS_INVALID_VALUE;
    operation *o = calloc(1, sizeof *o);
    memcpy(d, &o, sizeof o);
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t desc_destroy(cublasLtMatmulDesc_t d) {
    free((void *)d);
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t desc_set(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name, const void *value,
                               size_t n) {
    operation *o = (operation *)d;
    if (name == CUBLASLT_MATMUL_DESC_TRANSA)
        memcpy(&o->a, value, n);
    else if (name == CUBLASLT_MATMUL_DESC_TRANSB)
        memcpy(&o->b, value, n);
    else if (name == CUBLASLT_MATMUL_DESC_BIAS_POINTER)
        memcpy(&o->bias_data, value, n);
    else if (name == CUBLASLT_MATMUL_DESC_EPILOGUE)
        o->bias = *(const cublasLtEpilogue_t *)value == CUBLASLT_EPILOGUE_BIAS;
    else if (name != CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE)
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t layout_create(cublasLtMatrixLayout_t *l, cudaDataType_t t, uint64_t rows, uint64_t columns,
                                    int64_t lead) {
    if (lead < (int64_t)rows || !rows || !columns)
        return CUBLAS_STATUS_INVALID_VALUE;
    layout_of *m = malloc(sizeof *m);
    *m = (layout_of){t, (int64_t)rows, (int64_t)columns, lead, 0, 1};
    memcpy(l, &m, sizeof m);
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t layout_destroy(cublasLtMatrixLayout_t l) {
    free((void *)l);
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t layout_set(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t name, const void *value,
                                 size_t n) {
    layout_of *m = (layout_of *)l;
    if (name == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT)
        memcpy(&m->batch, value, n);
    else if (name == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET)
        memcpy(&m->step, value, n);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t preference_create(cublasLtMatmulPreference_t *p) {
    *p = (cublasLtMatmulPreference_t)(uintptr_t)1;
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t preference_destroy(cublasLtMatmulPreference_t p) {
    (void)p;
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t preference_set(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t name,
                                     const void *value, size_t n) {
    (void)p, (void)name, (void)value, (void)n;
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t heuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a,
                                cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                cublasLtMatmulPreference_t p, int most, cublasLtMatmulHeuristicResult_t *found,
                                int *n) {
    (void)h, (void)op, (void)a, (void)b, (void)c, (void)d, (void)p, (void)most;
    memset(found, 0, sizeof *found);
    found->workspaceSize = 1000;
    *n = 1;
    return CUBLAS_STATUS_SUCCESS;
}

static ld_dtype dtype_of(cudaDataType_t t) {
    return t == CUDA_R_64F ? LD_F64 : t == CUDA_R_16BF ? LD_BF16 : t == CUDA_R_16F ? LD_F16 : LD_F32;
}
static char *at(const layout_of *m, const void *data, int64_t batch, int64_t i, int64_t j) {
    return (char *)(uintptr_t)data + (batch * m->step + j * m->lead + i) * (int64_t)ld_dtype_size(dtype_of(m->type));
}

static cublasStatus_t multiply(cublasLtHandle_t h, cublasLtMatmulDesc_t op, const void *alpha, const void *a,
                               cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
                               const void *c, cublasLtMatrixLayout_t lc, void *d, cublasLtMatrixLayout_t ld,
                               const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes, cudaStream_t stream) {
    const operation *o = (const operation *)op;
    const layout_of *x = (const layout_of *)la, *w = (const layout_of *)lb, *y = (const layout_of *)ld;
    (void)h, (void)algo, (void)stream;
    ld_dtype t = dtype_of(y->type);
    bool turn_a = o->a == CUBLAS_OP_T, turn_b = o->b == CUBLAS_OP_T;
    int64_t inner = turn_a ? x->rows : x->columns;
    if (lc != ld || c != d || x->batch != y->batch || w->batch != y->batch ||
        (turn_b ? w->columns : w->rows) != inner || (turn_a ? x->columns : x->rows) != y->rows ||
        (turn_b ? w->rows : w->columns) != y->columns || !workspace || bytes != 1000)
        return CUBLAS_STATUS_INVALID_VALUE;
    double one = t == LD_F64 ? *(const double *)alpha : *(const float *)alpha;
    double keep = t == LD_F64 ? *(const double *)beta : *(const float *)beta;
    for (int64_t n = 0; n < y->batch; n++)
        for (int64_t i = 0; i < y->rows; i++)
            for (int64_t j = 0; j < y->columns; j++) {
                double sum = 0;
                for (int64_t k = 0; k < inner; k++)
                    sum += ld_dtype_get(t, turn_a ? at(x, a, n, k, i) : at(x, a, n, i, k)) *
                           ld_dtype_get(t, turn_b ? at(w, b, n, j, k) : at(w, b, n, k, j));
                sum *= one;
                if (keep != 0)
                    sum += keep * ld_dtype_get(t, at(y, d, n, i, j));
                if (o->bias)
                    sum += ld_dtype_get(t, (const char *)o->bias_data + i * (int64_t)ld_dtype_size(t));
                ld_dtype_set(t, at(y, d, n, i, j), sum);
            }
    products++;
    return CUBLAS_STATUS_SUCCESS;
}

const ld_cublas *ld_cuda_cublas(const char *who) {
    static const ld_cublas table = {no_version,        status_text,        create,         multiply,       desc_create,
                                    desc_destroy,      desc_set,           layout_create,  layout_destroy, layout_set,
                                    preference_create, preference_destroy, preference_set, heuristic};
    (void)who;
    return &table;
}

/* ---- cases ----------------------------------------------------------------------------------------------------------- */

typedef enum form { ROWS, COLUMNS, WIDE_ROWS, REPEATED, FORMS } form;

/* (B,R,C): by rows, by columns, by rows with gaps, with one row for all (stride 0); `shared`: one matrix for the batch. */
static ld_view *make_matrix(ld_dtype t, form f, int64_t n, int64_t r, int64_t c, bool shared) {
    int64_t inner = f == COLUMNS ? r : c, lead = inner + (f == WIDE_ROWS ? 3 : 0);
    int64_t outer = f == COLUMNS ? c : f == REPEATED ? 1 : r;
    ld_view *v = make_view(t, ROW_MAJOR, 1, (int64_t[]){(shared ? 1 : n) * outer * lead});
    randomise(v, 2, 0);
    v->ndim = 3;
    memcpy(v->shape, (int64_t[]){n, r, c}, 3 * sizeof *v->shape);
    v->stride[0] = shared || n == 1 ? 0 : outer * lead;
    v->stride[1] = f == COLUMNS ? 1 : f == REPEATED ? 0 : lead;
    v->stride[2] = f == COLUMNS ? lead : 1;
    return v;
}

static double element_of(const ld_view *v, int64_t n, int64_t i, int64_t j) {
    return ld_dtype_get(v->dtype, (char *)v->data + (n * v->stride[0] + i * v->stride[1] + j * v->stride[2]) *
                                                        (int64_t)ld_dtype_size(v->dtype));
}

static void one_case(ld_dtype t, form fy, form fa, form fb, const int64_t *z, bool bias, double beta) {
    int64_t n = z[0], m = z[1], k = z[2], c = z[3];
    ld_view *y = make_matrix(t, fy, n, m, c, false), *a = make_matrix(t, fa, n, m, k, false);
    ld_view *b = make_matrix(t, fb, n, k, c, n > 1), *v = bias ? make_view(t, ROW_MAJOR, 1, &c) : NULL;
    if (bias)
        randomise(v, 2, 0);
    double *want = malloc((size_t)(n * m * c + 1) * sizeof *want);
    for (int64_t i = 0, o = 0; i < n; i++)
        for (int64_t r = 0; r < m; r++)
            for (int64_t s = 0; s < c; s++, o++) {
                want[o] = (beta != 0 ? element_of(y, i, r, s) : 0) + (bias ? get(v, s) : 0);
                for (int64_t q = 0; q < k; q++)
                    want[o] += element_of(a, i, r, q) * element_of(b, i, q, s);
            }
    ok(ld_cuda_matmul(y, a, b, v, beta));
    for (int64_t i = 0, o = 0; i < n; i++)
        for (int64_t r = 0; r < m; r++)
            for (int64_t s = 0; s < c; s++, o++) {
                double got = element_of(y, i, r, s);
                if (!(fabs(got - want[o]) <= 2 * precision(t) * (fabs(want[o]) + 8))) /* two roundings: bias apart */
                    fail_msg("%s: y[%d,%d,%d] is %g, not %g; forms %d %d %d", ld_dtype_names[t], (int)i, (int)r, (int)s,
                             got, want[o], fy, fa, fb);
            }
    free(want);
    free_views(NULL);
}

static void every_form(void **state) {
    (void)state;
    static const int64_t sizes[][4] = {{1, 1, 1, 1},   {1, 5, 3, 4}, {2, 3, 7, 1}, {3, 1, 4, 6}, {2, 4, 1, 3},
                                       {1, 33, 31, 9}, {2, 5, 0, 3}, {0, 2, 3, 4}, {2, 0, 3, 4}};
    static const ld_dtype types[] = {LD_F32, LD_BF16, LD_F16, LD_F64};
    for (int t = 0; t < 4; t++)
        for (int z = 0; z < 9; z++)
            for (int f = 0; f < 3 * FORMS * FORMS; f++)
                for (int e = 0; e < 4; e++)
                    one_case(types[t], (form)(f % 3), (form)(f / 3 % FORMS), (form)(f / 3 / FORMS), sizes[z], e & 1,
                             e >> 1);
    assert_true(products > 1000);
}

/* The workspace cannot be had: an error, and nothing is kept. */
static void out_of_memory(void **state) {
    (void)state;
    ld_view *y = make_matrix(LD_F32, ROWS, 1, 8, 8, false), *a = make_matrix(LD_F32, ROWS, 1, 8, 8, false);
    ld_sim_fail_workspace(1);
    assert_int_equal(ld_cuda_matmul(y, a, a, NULL, 0), LD_EMEM);
    ok(ld_cuda_matmul(y, a, a, NULL, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(every_form, tidy, tidy),
                                       cmocka_unit_test_setup_teardown(out_of_memory, tidy, tidy)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
