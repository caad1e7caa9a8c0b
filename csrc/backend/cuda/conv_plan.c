#include "backend/cuda/conv_plan.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Attributes by number where the header calls them deprecated: cuDNN before 9.8 asks for them. */
#define GRAPH_HANDLE ((cudnnBackendAttributeName_t)800)
#define PLAN_HANDLE  ((cudnnBackendAttributeName_t)400)

enum { UID_X = 'x', UID_W = 'w', UID_Y = 'y', UID_BIAS = 'b', UID_SUM = 's' };
enum { PROPOSALS = 64, NOTES = 16 };

/* Descriptors of one graph, let go together; after the first failure nothing more is done. */
typedef struct builder {
    const ld_cudnn *c;
    cudnnBackendDescriptor_t made[24];
    int n;
    cudnnStatus_t status;
} builder;

static void set(builder *b, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t count, const void *values) {
    if (!b->status)
        b->status = b->c->cudnnBackendSetAttribute(d, name, type, count, values);
}

static cudnnBackendDescriptor_t make(builder *b, cudnnBackendDescriptorType_t type) {
    cudnnBackendDescriptor_t d = NULL;
    if (!b->status)
        b->status = b->c->cudnnBackendCreateDescriptor(type, &d);
    if (!b->status)
        b->made[b->n++] = d;
    return d;
}

static void finalize(builder *b, cudnnBackendDescriptor_t d) {
    if (!b->status)
        b->status = b->c->cudnnBackendFinalize(d);
}

static void let_go(builder *b) {
    while (b->n)
        b->c->cudnnBackendDestroyDescriptor(b->made[--b->n]);
}

static cudnnDataType_t type_of(int t) {
    return t == LD_F64    ? CUDNN_DATA_DOUBLE
           : t == LD_BF16 ? CUDNN_DATA_BFLOAT16
           : t == LD_F16  ? CUDNN_DATA_HALF
                          : CUDNN_DATA_FLOAT;
}

/* (N,C,H,W) lying NHWC; `hidden`: it exists between operations only. */
static cudnnBackendDescriptor_t tensor(builder *b, int64_t uid, cudnnDataType_t type, const int64_t *size,
                                       int64_t alignment, bool hidden) {
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    int64_t stride[4] = {size[1] * size[2] * size[3], 1, size[3] * size[1], size[1]};
    set(b, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, size);
    set(b, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
    set(b, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(b, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (hidden)
        set(b, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &hidden);
    finalize(b, d);
    return d;
}

static cudnnBackendDescriptor_t convolution(builder *b, const ld_conv_spec *s, cudnnDataType_t sums) {
    cudnnBackendDescriptor_t d = make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    int64_t two = 2, dilation[2] = {1, 1};
    set(b, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two);
    set(b, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    set(b, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(b, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, s->before);
    set(b, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, s->after);
    set(b, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    set(b, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, s->stride);
    finalize(b, d);
    return d;
}

/* The attributes of the three operations, in the order of ld_conv_kind. */
static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t alpha, beta, conv, x, w, y;
} operations[] = {{CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y},
                  {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY},
                  {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY}};

static void add_bias(builder *b, const ld_conv_spec *s, cudnnDataType_t sums, cudnnBackendDescriptor_t sum,
                     cudnnBackendDescriptor_t y, cudnnBackendDescriptor_t *operation) {
    cudnnBackendDescriptor_t how = make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    set(b, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(b, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    finalize(b, how);
    cudnnBackendDescriptor_t bias =
        tensor(b, UID_BIAS, type_of(s->dtype), (int64_t[]){1, s->y[1], 1, 1}, s->alignment, false);
    cudnnBackendDescriptor_t op = *operation = make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set(b, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &how);
    set(b, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &sum);
    set(b, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &bias);
    set(b, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y);
    finalize(b, op);
}

static cudnnBackendDescriptor_t graph(builder *b, const ld_conv_target *t, const ld_conv_spec *s) {
    cudnnDataType_t type = type_of(s->dtype), sums = s->dtype == LD_F64 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t x = tensor(b, UID_X, type, s->x, s->alignment, false);
    cudnnBackendDescriptor_t w = tensor(b, UID_W, type, s->w, s->alignment, false);
    cudnnBackendDescriptor_t y = tensor(b, UID_Y, type, s->y, s->alignment, false);
    cudnnBackendDescriptor_t out = s->bias ? tensor(b, UID_SUM, sums, s->y, s->alignment, true) : y;
    cudnnBackendDescriptor_t conv = convolution(b, s, sums), ops[2];
    double one = 1, zero = 0;
    int64_t n = 1;
    ops[0] = make(b, operations[s->kind].type);
    set(b, ops[0], operations[s->kind].conv, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &conv);
    set(b, ops[0], operations[s->kind].x, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x);
    set(b, ops[0], operations[s->kind].w, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &w);
    set(b, ops[0], operations[s->kind].y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &out);
    set(b, ops[0], operations[s->kind].alpha, CUDNN_TYPE_DOUBLE, 1, &one);
    set(b, ops[0], operations[s->kind].beta, CUDNN_TYPE_DOUBLE, 1, &zero);
    finalize(b, ops[0]);
    if (s->bias)
        add_bias(b, s, sums, out, y, &ops[n++]);
    cudnnBackendDescriptor_t g = make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(b, g, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, ops);
    if (t->handle)
        set(b, g, GRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &t->handle);
    finalize(b, g);
    return g;
}

/* ---- choosing engines ------------------------------------------------------------------------------------------------ */

/* Whether what the engine says of itself is acceptable; its number in *engine. */
static bool acceptable(const ld_conv_target *t, const ld_conv_spec *s, cudnnBackendDescriptor_t config,
                       int64_t *engine) {
    builder b = {.c = t->cudnn};
    cudnnBackendDescriptor_t e = make(&b, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendNumericalNote_t numerical[NOTES];
    cudnnBackendBehaviorNote_t behaviour[NOTES];
    int64_t n = 0, m = 0, got = 0;
    bool good = !b.status;
    good = good && !t->cudnn->cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &got, &e);
    good = good &&
           !t->cudnn->cudnnBackendGetAttribute(e, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &got, engine);
    good = good && !t->cudnn->cudnnBackendGetAttribute(e, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                                       NOTES, &n, numerical);
    good = good && !t->cudnn->cudnnBackendGetAttribute(e, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                                       NOTES, &m, behaviour);
    bool strict = s->dtype == LD_F32 || s->dtype == LD_F64;
    for (int64_t i = 0; good && i < n && i < NOTES; i++)
        switch (numerical[i]) {
        case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
        case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
        case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
            good = false;
            break;
        case CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP:
        case CUDNN_NUMERICAL_NOTE_TYPE_COUNT:
            break;
        case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
            good = s->dtype != LD_F32; /* of f32 it would take the first 10 bits */
            break;
        default:
            good = !strict; /* Winograd, FFT */
        }
    for (int64_t i = 0; good && i < m && i < NOTES; i++)
        good = behaviour[i] != CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    let_go(&b);
    return good;
}

/* The configuration as a plan; false where the engine does not support it after all. */
static bool plan_of(const ld_conv_target *t, cudnnBackendDescriptor_t config, int64_t workspace_most, ld_conv_plan *p) {
    builder b = {.c = t->cudnn};
    int64_t got = 0;
    p->plan = make(&b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set(&b, p->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config);
    if (t->handle)
        set(&b, p->plan, PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &t->handle);
    else
        set(&b, p->plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &t->card);
    finalize(&b, p->plan);
    if (!b.status)
        b.status = t->cudnn->cudnnBackendGetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                                      CUDNN_TYPE_INT64, 1, &got, &p->workspace);
    if (!b.status && p->workspace <= workspace_most)
        return true;
    let_go(&b);
    return false;
}

/* What the heuristics of one mode propose, tried in turn; the count of plans afterwards. */
static int propose(const ld_conv_target *t, const ld_conv_spec *s, cudnnBackendDescriptor_t g,
                   cudnnBackendHeurMode_t mode, int64_t workspace_most, ld_conv_plan *plans, int n, int most) {
    builder b = {.c = t->cudnn};
    cudnnBackendDescriptor_t h = make(&b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR), config[PROPOSALS];
    int64_t made = 0, got = 0;
    set(&b, h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &g);
    set(&b, h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (!t->handle)
        set(&b, h, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &t->card);
    finalize(&b, h);
    while (!b.status && made < PROPOSALS &&
           !t->cudnn->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config[made]))
        made++;
    if (!b.status)
        b.status = t->cudnn->cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                                      made, &got, config);
    for (int64_t i = 0; !b.status && i < got && i < made && n < most; i++)
        n += acceptable(t, s, config[i], &plans[n].engine) && plan_of(t, config[i], workspace_most, &plans[n]);
    while (made)
        t->cudnn->cudnnBackendDestroyDescriptor(config[--made]);
    let_go(&b);
    return n;
}

int ld_conv_plans(const ld_conv_target *t, const ld_conv_spec *s, int64_t workspace_most, ld_conv_plan *plans,
                  int most) {
    builder b = {.c = t->cudnn};
    char text[160], why[256] = "";
    cudnnBackendDescriptor_t g = graph(&b, t, s);
    if (b.status && b.status / 1000 != CUDNN_STATUS_NOT_SUPPORTED / 1000) {
        ld_conv_spec_text(s, text, sizeof text);
        t->cudnn->cudnnGetLastErrorString(why, sizeof why);
        ld_fail(LD_EINTERNAL, "conv2d: cuDNN does not take %s: %s %s", text, t->cudnn->cudnnGetErrorString(b.status),
                why);
        let_go(&b);
        return -1;
    }
    int n = b.status ? 0 : propose(t, s, g, CUDNN_HEUR_MODE_A, workspace_most, plans, 0, most);
    if (!n && !b.status)
        n = propose(t, s, g, CUDNN_HEUR_MODE_FALLBACK, workspace_most, plans, 0, most);
    let_go(&b);
    return n;
}

void ld_conv_plan_drop(const ld_conv_target *t, ld_conv_plan *p) {
    if (p->plan)
        t->cudnn->cudnnBackendDestroyDescriptor(p->plan);
    p->plan = NULL;
}

/* ---- running --------------------------------------------------------------------------------------------------------- */

int ld_conv_plan_run(const ld_conv_target *t, const ld_conv_plan *p, const void *x, const void *w, const void *bias,
                     const void *y, void *workspace) {
    builder b = {.c = t->cudnn};
    const int64_t uids[] = {UID_X, UID_W, UID_Y, UID_BIAS};
    const void *const data[] = {x, w, y, bias};
    cudnnBackendDescriptor_t pack = make(&b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, bias ? 4 : 3, uids);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, bias ? 4 : 3, data);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    finalize(&b, pack);
    if (!b.status)
        b.status = t->cudnn->cudnnBackendExecute(t->handle, p->plan, pack);
    let_go(&b);
    if (!b.status)
        return 0;
    return ld_fail(LD_EINTERNAL, "conv2d: cuDNN: %s", t->cudnn->cudnnGetErrorString(b.status));
}

/* ---- cards ----------------------------------------------------------------------------------------------------- */

cudnnBackendDescriptor_t ld_conv_card(const ld_cudnn *cudnn, const char *json) {
    cudnnBackendDescriptor_t d = NULL;
    cudnnStatus_t st = cudnn->cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d);
    if (!st)
        st = cudnn->cudnnBackendSetAttribute(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                             (int64_t)strlen(json), json);
    if (!st)
        st = cudnn->cudnnBackendFinalize(d);
    if (!st)
        return d;
    if (d)
        cudnn->cudnnBackendDestroyDescriptor(d);
    return ld_fail_null(LD_EINTERNAL, "cuDNN: no card from its properties: %s", cudnn->cudnnGetErrorString(st));
}
