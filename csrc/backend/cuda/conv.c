/* Convolutions: the slots, over cuDNN's plans.
 *
 * A call is described by its sizes (conv_plan.h); the plans for a description are made at its first use and kept. Which of the
 * first few is taken is timed as ways of convolution are on the CPU (backend/tune.h), under a key that names card, driver and
 * cuDNN; without timing it is the one that the heuristics put first. Upsampling inside goes by folded weights (kernels/conv_fold.h).
 * Gradients of 16-bit weights are computed in 16 bits, sums in f32, and cast where f32 is asked for: no engine that comes
 * compiled writes them in f32. */
#include "backend/cuda/conv_plan.h"
#include "backend/cuda/cuda.h"
#include "base/error.h"
#include "kernels/conv_fold.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLANS = LD_TUNE_WAYS, BUCKETS = 1024 };

typedef struct entry {
    ld_conv_spec spec;
    ld_conv_plan plan[PLANS];
    int n;
    char key[LD_TUNE_KEY];
    struct entry *next;
} entry;

static entry *buckets[BUCKETS];
static const char who[] = "conv2d";

/* cuDNN and its handle, made at the first call; NULL after ld_fail. */
static const ld_conv_target *target(void) {
    static ld_conv_target t;
    if (t.handle)
        return &t;
    const ld_cudnn *c = ld_cuda_cudnn(who);
    if (!c)
        return NULL;
    cudnnHandle_t handle;
    cudnnStatus_t st = c->cudnnCreate(&handle);
    if (!st)
        st = c->cudnnSetStream(handle, ld_cuda.stream);
    if (st)
        return ld_cuda_failed(who, c->cudnnGetErrorString(st)), NULL;
    t = (ld_conv_target){.cudnn = c, .handle = handle};
    return &t;
}

static uint32_t hash_of(const void *bytes, size_t n) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)bytes)[i]) * 16777619u;
    return h;
}

/* The plans for s, at least one; NULL after ld_fail, and, where `optional`, without an error when there are none. */
static entry *find(const ld_conv_spec *s, bool optional) {
    entry **bucket = &buckets[hash_of(s, sizeof *s) % BUCKETS], *e = *bucket;
    while (e && memcmp(&e->spec, s, sizeof *s))
        e = e->next;
    if (!e) {
        const ld_conv_target *t = target();
        if (!t || !(e = calloc(1, sizeof *e)))
            return t ? ld_fail_null(LD_EMEM, "%s: out of host memory", who) : NULL;
        char text[LD_TUNE_KEY - 16];
        e->spec = *s;
        e->n = ld_conv_plans(t, s, (int64_t)ld_cuda.workspace_most, e->plan, PLANS);
        if (e->n < 0)
            return free(e), NULL;
        ld_conv_spec_text(s, text, sizeof text);
        snprintf(e->key, sizeof e->key, "%s,gpu%08x", text, hash_of(ld_cuda.id, strlen(ld_cuda.id)));
        e->next = *bucket;
        *bucket = e;
    }
    if (!e->n && !optional)
        return ld_fail_null(LD_EINTERNAL, "%s: cuDNN has no engine for %s", who, e->key);
    return e->n ? e : NULL;
}

/* ---- one call -------------------------------------------------------------------------------------------------------- */

/* The operands as the description has them. Parts of the workspace come before the plan's own: weights that are made for the
 * call (folded, or laid out as cuDNN takes them), or the gradient of weights before it is cast or unfolded. */
typedef struct call {
    const entry *e;
    const void *x, *y, *bias;
    const ld_view *w; /* as the slot has it */
    bool up, made;    /* weights folded; weights in the workspace */
    size_t made_bytes;
} call;

static size_t rounded(size_t n) {
    return (n + 255) & ~(size_t)255;
}

/* A dense NHWC view of what is made, of the size of the slot's w. */
static ld_view made_view(const call *c, void *data) {
    ld_view v = *c->w;
    v.dtype = (ld_dtype)c->e->spec.dtype;
    ld_canonical_strides(4, v.shape, v.stride);
    v.data = data;
    return v;
}

static int before_plan(const call *c, void *made) {
    if (!c->made || c->e->spec.kind == LD_CONV_WEIGHT)
        return 0;
    if (c->up)
        return ld_cuda_conv_fold(made, c->w);
    ld_view v = made_view(c, made);
    return ld_cuda_copy(&v, c->w);
}

static int after_plan(const call *c, void *made) {
    if (!c->made || c->e->spec.kind != LD_CONV_WEIGHT)
        return 0;
    if (c->up)
        return ld_cuda_conv_unfold(c->w, made, (ld_dtype)c->e->spec.dtype);
    ld_view v = made_view(c, made);
    return ld_cuda_copy(c->w, &v);
}

/* Which also tells an error that took the device with it. */
static int run_plan(const call *c, const ld_conv_plan *p, const void *w, void *workspace) {
    char text[256];
    int bad = ld_cuda_lost(who);
    if (bad || ld_cuda_idle())
        return bad;
    if (!ld_conv_plan_run(target(), p, c->x, w, c->bias, c->y, workspace))
        return 0;
    snprintf(text, sizeof text, "%s", ld_error());
    return ld_cuda_failed(who, text);
}

static int run_way(void *arg, int way) {
    const call *c = arg;
    const ld_conv_plan *p = &c->e->plan[way];
    size_t bytes = c->made_bytes + (size_t)p->workspace;
    char *made = bytes ? ld_cuda_workspace(bytes, who) : NULL;
    if (bytes && !made)
        return ld_cuda_workspace_missing();
    int bad = before_plan(c, made);
    if (!bad)
        bad = run_plan(c, p, c->made ? made : c->w->data, p->workspace ? made + c->made_bytes : NULL);
    if (!bad)
        bad = after_plan(c, made);
    ld_cuda_workspace_done(made);
    if (!bad && !ld_cuda_idle() && ld_tune_will_time(c->e->key))
        bad = ld_cuda_check(cudaStreamSynchronize(ld_cuda.stream), who);
    return bad;
}

static int compute(call *c) {
    static const char *const names[PLANS] = {"plan1", "plan2", "plan3", "plan4", "plan5", "plan6", "plan7", "plan8"};
    bool fits[PLANS];
    for (int i = 0; i < PLANS; i++)
        fits[i] = i < c->e->n;
    size_t size = ld_dtype_size((ld_dtype)c->e->spec.dtype);
    const int64_t *w = c->e->spec.w;
    c->made_bytes = c->made ? rounded((size_t)(w[0] * w[1] * w[2] * w[3]) * size) : 0;
    if (c->e->n == 1)
        return run_way(c, 0);
    ld_tune_case t = {.key = c->e->key, .n = c->e->n, .names = names, .fits = fits, .run = run_way, .arg = c};
    return ld_tune_run(&t);
}

/* ---- the slots ------------------------------------------------------------------------------------------------------- */

/* What every address is a multiple of, at most 16. */
static int alignment_of(const ld_view *const *views, int n) {
    uintptr_t all = 16;
    for (int i = 0; i < n; i++)
        all |= views[i] ? (uintptr_t)views[i]->data : 0;
    int a = 16;
    while (all & (uintptr_t)(a - 1))
        a /= 2;
    return a;
}

static bool is_float(ld_dtype t) {
    return t == LD_F32 || t == LD_BF16 || t == LD_F16 || t == LD_F64;
}

static int check_dtype(ld_dtype t) {
    return is_float(t) ? 0 : ld_fail(LD_EDTYPE, "%s: takes floats, not %s", who, ld_dtype_names[t]);
}

static bool empty(const ld_view *v) {
    return ld_view_numel(v) == 0;
}

/* y += bias (O), over the channels. */
static int add_bias(const ld_view *y, const ld_view *bias) {
    ld_view v = *y;
    v.dtype = bias->dtype;
    v.data = bias->data;
    v.stride[0] = v.stride[2] = v.stride[3] = 0;
    v.stride[1] = 1;
    return ld_cuda_binary(y, y, &v, LD_ADD);
}

static bool lies_nhwc(const ld_view *w) {
    return ld_is_canonical(4, w->shape, w->stride);
}

int ld_cuda_conv2d(const ld_view *y, const ld_view *x, const ld_view *w, const ld_view *bias, const ld_conv_shape *s) {
    int bad = check_dtype(y->dtype);
    if (bad || empty(y))
        return bad;
    ld_conv_spec spec;
    const ld_view *const views[] = {x, w, y, bias};
    bool inside = bias && bias->dtype == y->dtype && !s->up;
    ld_conv_describe(&spec, LD_CONV_FORWARD, y->dtype, x->shape, w->shape, y->shape, inside, alignment_of(views, 4), s);
    entry *e = find(&spec, inside);
    if (!e && inside && !ld_cuda_lost(who)) { /* no engine adds the bias */
        inside = false;
        spec.bias = 0;
        e = find(&spec, false);
    }
    if (!e)
        return ld_error_code();
    call c = {.e = e, .x = x->data, .y = y->data, .bias = inside ? bias->data : NULL, .w = w, .up = s->up};
    if (s->up)
        c.x = y->data, c.y = x->data; /* the large image is what is computed */
    c.made = s->up || !lies_nhwc(w);
    bad = compute(&c);
    return !bad && bias && !inside ? add_bias(y, bias) : bad;
}

int ld_cuda_conv2d_dx(const ld_view *dx, const ld_view *g, const ld_view *w, const ld_conv_shape *s) {
    int bad = check_dtype(dx->dtype);
    if (bad || empty(dx))
        return bad;
    if (empty(g))
        return ld_cuda_fill(dx, 0);
    ld_conv_spec spec;
    const ld_view *const views[] = {dx, g, w};
    ld_conv_describe(&spec, LD_CONV_DATA, dx->dtype, dx->shape, w->shape, g->shape, false, alignment_of(views, 3), s);
    call c = {.e = find(&spec, false), .x = dx->data, .y = g->data, .w = w, .up = s->up};
    if (!c.e)
        return ld_error_code();
    if (s->up)
        c.x = g->data, c.y = dx->data;
    c.made = s->up || !lies_nhwc(w);
    return compute(&c);
}

/* db (O) = sum of g over all else. */
static int bias_gradient(const ld_view *db, const ld_view *g) {
    ld_view v = {
        .dtype = db->dtype, .ndim = 4, .shape = {1, g->shape[1], 1, 1}, .stride = {0, 1, 0, 0}, .data = db->data};
    return ld_cuda_reduce(&v, g, LD_SUM);
}

int ld_cuda_conv2d_dw(const ld_view *dw, const ld_view *db, const ld_view *x, const ld_view *g,
                      const ld_conv_shape *s) {
    int bad = check_dtype(x->dtype);
    if (!bad && db)
        bad = bias_gradient(db, g);
    if (bad || empty(dw))
        return bad;
    if (empty(g) || empty(x))
        return ld_cuda_fill(dw, 0);
    ld_conv_spec spec;
    const ld_view *const views[] = {x, g, dw};
    ld_conv_describe(&spec, LD_CONV_WEIGHT, x->dtype, x->shape, dw->shape, g->shape, false, alignment_of(views, 3), s);
    call c = {.e = find(&spec, false), .x = x->data, .y = g->data, .w = dw, .up = s->up};
    if (!c.e)
        return ld_error_code();
    if (s->up)
        c.x = g->data, c.y = x->data;
    c.made = s->up || !lies_nhwc(dw) || dw->dtype != x->dtype;
    return compute(&c);
}
