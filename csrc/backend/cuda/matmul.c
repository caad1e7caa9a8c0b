/* Products: y[i] = a[i] b[i] + bias + beta y[i], by cuBLASLt.
 *
 * cuBLASLt takes matrices by columns. A result that lies by rows is computed as its transpose, y' = b' a', so that nothing is
 * moved: every operand is what it is or its transpose, with a leading dimension. The bias is added on the way where it runs along
 * the columns cuBLASLt sees, else afterwards. f32 in f32 (no TF32), 16-bit in f32, f64 in f64. What is described once (layouts,
 * algorithm by the heuristics) is kept by sizes; reductions are not split over atomics, so results are the same on every run. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/library.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

static const char who[] = "matmul";

enum { BUCKETS = 512 };

/* One matrix of the batch as cuBLASLt sees it: `rows` x `columns` by columns, `lead` elements from one column to the next. */
typedef struct matrix {
    int64_t rows, columns, lead, step; /* step: elements from one matrix of the batch to the next */
} matrix;

/* Compared byte for byte: cleared before it is filled. */
typedef struct key {
    matrix a, b, y; /* y = op(a) op(b) */
    int64_t batch;
    int dtype, turn_a, turn_b, bias, beta, alignment;
} key;

typedef struct entry {
    key k;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t a, b, y;
    cublasLtMatmulHeuristicResult_t found;
    struct entry *next;
} entry;

static entry *buckets[BUCKETS];

static int report(cublasStatus_t st) {
    return ld_cuda_failed(who, ld_cuda_cublas(who)->cublasLtGetStatusString(st));
}

static cublasLtHandle_t handle(void) {
    static cublasLtHandle_t h;
    const ld_cublas *c = ld_cuda_cublas(who);
    if (!c || h)
        return h;
    cublasStatus_t st = c->cublasLtCreate(&h);
    if (st)
        h = NULL, report(st);
    return h;
}

/* ---- describing ------------------------------------------------------------------------------------------------------ */

static cudaDataType_t type_of(int t) {
    return t == LD_F64 ? CUDA_R_64F : t == LD_BF16 ? CUDA_R_16BF : t == LD_F16 ? CUDA_R_16F : CUDA_R_32F;
}

static cublasStatus_t make_layout(const ld_cublas *c, cublasLtMatrixLayout_t *l, const key *k, const matrix *m) {
    int32_t batch = (int32_t)k->batch;
    cublasStatus_t st =
        c->cublasLtMatrixLayoutCreate(l, type_of(k->dtype), (uint64_t)m->rows, (uint64_t)m->columns, m->lead);
    if (!st)
        st = c->cublasLtMatrixLayoutSetAttribute(*l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch);
    if (!st)
        st = c->cublasLtMatrixLayoutSetAttribute(*l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &m->step,
                                                 sizeof m->step);
    return st;
}

static cublasStatus_t make_operation(const ld_cublas *c, entry *e) {
    const key *k = &e->k;
    bool wide = k->dtype == LD_F64;
    cublasOperation_t a = k->turn_a ? CUBLAS_OP_T : CUBLAS_OP_N, b = k->turn_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t end = CUBLASLT_EPILOGUE_BIAS;
    cudaDataType_t type = type_of(k->dtype);
    cublasStatus_t st = c->cublasLtMatmulDescCreate(&e->op, wide ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                                    wide ? CUDA_R_64F : CUDA_R_32F);
    if (!st)
        st = c->cublasLtMatmulDescSetAttribute(e->op, CUBLASLT_MATMUL_DESC_TRANSA, &a, sizeof a);
    if (!st)
        st = c->cublasLtMatmulDescSetAttribute(e->op, CUBLASLT_MATMUL_DESC_TRANSB, &b, sizeof b);
    if (!st && k->bias)
        st = c->cublasLtMatmulDescSetAttribute(e->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &end, sizeof end);
    if (!st && k->bias)
        st = c->cublasLtMatmulDescSetAttribute(e->op, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type);
    return st;
}

static cublasStatus_t choose(const ld_cublas *c, entry *e) {
    cublasLtMatmulPreference_t p = NULL;
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    uint32_t align = (uint32_t)e->k.alignment;
    uint64_t most = ld_cuda.workspace_most;
    int n = 0;
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasStatus_t st = c->cublasLtMatmulPreferenceCreate(&p);
    if (!st)
        st = c->cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most);
    if (!st)
        st = c->cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                                                     sizeof schemes);
    for (int i = 0; i < 4 && !st; i++)
        st = c->cublasLtMatmulPreferenceSetAttribute(p, alignments[i], &align, sizeof align);
    if (!st)
        st = c->cublasLtMatmulAlgoGetHeuristic(handle(), e->op, e->a, e->b, e->y, e->y, p, 1, &e->found, &n);
    if (!st && !n)
        st = CUBLAS_STATUS_NOT_SUPPORTED;
    if (p)
        c->cublasLtMatmulPreferenceDestroy(p);
    return st;
}

static void drop(const ld_cublas *c, entry *e) {
    cublasLtMatrixLayout_t layouts[] = {e->a, e->b, e->y};
    for (int i = 0; i < 3; i++)
        if (layouts[i])
            c->cublasLtMatrixLayoutDestroy(layouts[i]);
    if (e->op)
        c->cublasLtMatmulDescDestroy(e->op);
    free(e);
}

static uint32_t hash_of(const void *bytes, size_t n) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)bytes)[i]) * 16777619u;
    return h;
}

static entry *find(const key *k) {
    entry **bucket = &buckets[hash_of(k, sizeof *k) % BUCKETS], *e = *bucket;
    while (e && memcmp(&e->k, k, sizeof *k))
        e = e->next;
    const ld_cublas *c = e ? NULL : ld_cuda_cublas(who);
    if (e || !c || !handle())
        return e;
    if (!(e = calloc(1, sizeof *e)))
        return ld_fail_null(LD_EMEM, "%s: out of host memory", who);
    e->k = *k;
    cublasStatus_t st = make_operation(c, e);
    if (!st)
        st = make_layout(c, &e->a, k, &k->a);
    if (!st)
        st = make_layout(c, &e->b, k, &k->b);
    if (!st)
        st = make_layout(c, &e->y, k, &k->y);
    if (!st)
        st = choose(c, e);
    if (st) {
        drop(c, e);
        return report(st), NULL;
    }
    e->next = *bucket;
    return *bucket = e;
}

/* ---- the slot -------------------------------------------------------------------------------------------------------- */

/* v[i] (R,C) by rows; false where it lies by columns. Dimensions of size 1 may have any stride. */
static bool by_rows(const ld_view *v) {
    return v->stride[2] == 1 || v->shape[2] == 1 ? v->stride[1] >= v->shape[2] || v->shape[1] == 1 : false;
}

/* v by rows or by columns: repeated rows (stride 0) are neither. */
static bool plain(const ld_view *v) {
    return by_rows(v) || ((v->stride[1] == 1 || v->shape[1] == 1) && (v->stride[2] >= v->shape[1] || v->shape[2] == 1));
}

/* v as cuBLASLt sees it: (R,C) by rows is (C,R) by columns. */
static matrix seen(const ld_view *v) {
    bool rows = by_rows(v);
    int64_t inner = rows ? v->shape[2] : v->shape[1], outer = rows ? v->shape[1] : v->shape[2];
    int64_t lead = rows ? v->stride[1] : v->stride[2];
    return (matrix){inner, outer, lead < inner || outer == 1 ? inner : lead, v->shape[0] == 1 ? 0 : v->stride[0]};
}

static int alignment_of(const ld_view *const *views, const matrix *const *m, int n, size_t size) {
    uintptr_t all = 16;
    for (int i = 0; i < n; i++)
        all |= (uintptr_t)views[i]->data | (uintptr_t)m[i]->lead * size | (uintptr_t)m[i]->step * size;
    int a = 16;
    while (all & (uintptr_t)(a - 1))
        a /= 2;
    return a;
}

static int run(const entry *e, const void *a, const void *b, void *y, const void *bias, double beta) {
    const ld_cublas *c = ld_cuda_cublas(who);
    size_t bytes = e->found.workspaceSize;
    void *workspace = bytes ? ld_cuda_workspace(bytes, who) : NULL;
    if (bytes && !workspace)
        return ld_cuda_workspace_missing();
    int bad = ld_cuda_lost(who);
    if (bad || ld_cuda_idle()) {
        ld_cuda_workspace_done(workspace);
        return bad;
    }
    float one = 1, other = (float)beta;
    double wide_one = 1;
    bool wide = e->k.dtype == LD_F64;
    cublasStatus_t st = CUBLAS_STATUS_SUCCESS;
    if (e->k.bias)
        st = c->cublasLtMatmulDescSetAttribute(e->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    if (!st)
        st = c->cublasLtMatmul(handle(), e->op, wide ? (const void *)&wide_one : &one, a, e->a, b, e->b,
                               wide ? (const void *)&beta : &other, y, e->y, y, e->y, &e->found.algo, workspace, bytes,
                               ld_cuda.stream);
    ld_cuda_workspace_done(workspace);
    return st ? report(st) : 0;
}

/* bias (N) to every row of y (B,M,N). */
static int add_bias(const ld_view *y, const ld_view *bias) {
    ld_view v = *y;
    v.dtype = bias->dtype;
    v.data = bias->data;
    v.stride[0] = v.stride[1] = 0;
    v.stride[2] = bias->shape[0] == 1 ? 0 : bias->stride[0];
    return ld_cuda_binary(y, y, &v, LD_ADD);
}

/* A sum of nothing. */
static int nothing(const ld_view *y, const ld_view *bias, double beta) {
    int bad = beta == 0 ? ld_cuda_fill(y, 0) : 0;
    return !bad && bias ? add_bias(y, bias) : bad;
}

/* The same with v in place of what is not plain: a dense copy. */
static int with_copy(const ld_view *y, const ld_view *a, const ld_view *b, const ld_view *bias, double beta) {
    const ld_view *v = plain(a) ? b : a;
    ld_view dense = *v;
    dense.stride[0] = v->shape[0] == 1 ? 0 : v->shape[1] * v->shape[2];
    dense.stride[1] = v->shape[2];
    dense.stride[2] = 1;
    dense.data = ld_cuda_workspace((size_t)ld_view_numel(v) * ld_dtype_size(v->dtype), who);
    if (!dense.data)
        return ld_cuda_workspace_missing();
    int bad = ld_cuda_copy(&dense, v);
    if (!bad)
        bad = ld_cuda_matmul(y, v == a ? &dense : a, v == b ? &dense : b, bias, beta);
    ld_cuda_workspace_done(dense.data);
    return bad;
}

int ld_cuda_matmul(const ld_view *y, const ld_view *a, const ld_view *b, const ld_view *bias, double beta) {
    key k;
    memset(&k, 0, sizeof k);
    if (!ld_view_numel(y))
        return 0;
    if (!ld_view_numel(a))
        return nothing(y, bias, beta);
    if (!plain(a) || !plain(b))
        return with_copy(y, a, b, bias, beta);
    bool rows = by_rows(y); /* then y' = b' a' */
    const ld_view *first = rows ? b : a, *second = rows ? a : b;
    k.a = seen(first), k.b = seen(second), k.y = seen(y);
    k.turn_a = by_rows(first) != rows;
    k.turn_b = by_rows(second) != rows;
    k.batch = y->shape[0];
    k.dtype = y->dtype;
    k.beta = beta != 0;
    bool inside =
        bias && rows && bias->dtype == y->dtype && y->dtype != LD_F64 && (bias->stride[0] == 1 || bias->shape[0] == 1);
    k.bias = inside;
    const ld_view *const views[] = {a, b, y};
    k.alignment = alignment_of(views, (const matrix *const[]){rows ? &k.b : &k.a, rows ? &k.a : &k.b, &k.y}, 3,
                               ld_dtype_size(y->dtype));
    entry *e = find(&k);
    if (!e)
        return ld_error_code();
    int bad = run(e, first->data, second->data, y->data, inside ? bias->data : NULL, beta);
    return !bad && bias && !inside ? add_bias(y, bias) : bad;
}
