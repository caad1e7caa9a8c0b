/* bf16 and f16 on the fake device: what the CPU's slots lack is computed in f32 and rounded, as a card's kernels do.
 *
 * The dtypes of a call are held against what the CUDA backend takes, so that code above the backend shows here when it hands over
 * something else. One letter a view, in order: x the dtype of the first x; s that of the statistics (f32; f64 for f64); p either
 * of the two; i anything. Views before the bar are written. */
#ifndef FAKE_NARROW_H
#define FAKE_NARROW_H

enum { VIEWS = 12 };

static const struct rule {
    const char *slot, *views;
    bool widen; /* the CPU computes it in f32 alone */
} rules[] = {
    {"unary", "x|x", false},
    {"unary_bwd", "x|xx", false},
    {"binary", "i|xx", false},
    {"axpby", "x|x", false},
    {"where", "x|ixx", false},
    {"reduce", "i|x", false},
    {"matmul", "x|xxx", true},
    {"conv2d", "x|xxx", true},
    {"conv2d_dx", "x|xx", true},
    {"conv2d_dw", "px|xx", true},
    {"norm", "xsss|xppp", true},
    {"norm_bwd", "xppp|xxsppp", true},
    {"layer_norm", "xss|xpp", true},
    {"layer_norm_bwd", "xpp|xxssp", true},
    {"softmax", "x|x", true},
    {"softmax_bwd", "x|xx", true},
    {"cross_entropy", "p|xi", true},
    {"cross_entropy_bwd", "x|pxi", true},
    {"attention", "xs|xxx", true},
    {"attention_bwd", "xxx|xxxxxs", true},
    {"avg_pool2d", "x|x", true},
    {"avg_pool2d_bwd", "x|x", true},
    {"adaptive_avg_pool2d", "x|x", true},
    {"adaptive_avg_pool2d_bwd", "x|x", true},
    {"upsample_nearest", "x|x", true},
    {"upsample_nearest_bwd", "x|x", true},
    {"resize_bilinear", "x|x", true},
    {"resize_bilinear_bwd", "x|x", true},
    {"scatter_rows", "x|xi", true},
    {"sgd", "sss|", false},
};

/* What a call's views were before they were widened. */
typedef struct narrowed {
    int n, written;
    ld_view *view[VIEWS], was[VIEWS];
    void *block[VIEWS];
} narrowed;

static bool is_half(ld_dtype t) {
    return t == LD_BF16 || t == LD_F16;
}

static const struct rule *rule_of(const char *slot) {
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (!strcmp(rules[i].slot, slot))
            return &rules[i];
    return NULL;
}

/* The letter of view i. */
static char letter(const struct rule *r, int i) {
    const char *bar = strchr(r->views, '|');
    return r->views[i + (i >= bar - r->views)];
}

static int check_dtypes(const struct rule *r, ld_view *const *v, int n) {
    const ld_view *x = NULL;
    for (int i = 0; i < n && !x; i++)
        x = letter(r, i) == 'x' ? v[i] : NULL;
    ld_dtype t = x ? x->dtype : v[0]->dtype, s = is_half(t) ? LD_F32 : t;
    for (int i = 0; i < n; i++) {
        char c = letter(r, i);
        if (!v[i] || c == 'i' || (c != 's' && v[i]->dtype == t) || (c != 'x' && v[i]->dtype == s))
            continue;
        return ld_fail(LD_EDTYPE, "%s: fake:0 was handed view %d of dtype %d where %d was needed (rule %s)", r->slot, i,
                       (int)v[i]->dtype, (int)(c == 's' ? s : t), r->views);
    }
    return 0;
}

/* Room for every element of v under its own strides. */
static size_t extent(const ld_view *v) {
    size_t last = 0;
    for (int i = 0; i < v->ndim; i++) {
        if (v->shape[i] == 0)
            return 0;
        last += (size_t)(v->shape[i] - 1) * (size_t)v->stride[i];
    }
    return last + 1;
}

/* The views of a call (pointers to the translated ones, which change) of 16 bits become copies in f32, where the CPU needs
 * that. */
static int widen(narrowed *w, const char *slot, const ld_view *const *views, int n) {
    const struct rule *r = rule_of(slot);
    *w = (narrowed){0};
    if (!r)
        return 0;
    w->written = (int)(strchr(r->views, '|') - r->views);
    int letters = (int)strlen(r->views) - 1;
    w->n = n < letters ? n : letters;
    for (int i = 0; i < w->n; i++)
        w->view[i] = (ld_view *)(uintptr_t)views[i];
    int bad = check_dtypes(r, w->view, w->n);
    for (int i = 0; i < w->n && !bad && r->widen; i++) {
        ld_view *v = w->view[i];
        if (!v || !is_half(v->dtype))
            continue;
        w->was[i] = *v;
        v->dtype = LD_F32;
        v->data = w->block[i] = malloc((extent(v) + 1) * sizeof(float));
        v->serial = 0;
        bad = v->data ? host->cpu->copy(v, &w->was[i]) : ld_fail(LD_EMEM, "fake: out of host memory");
    }
    return bad;
}

/* Results go back, rounded. */
static int narrow(narrowed *w, int bad) {
    for (int i = 0; i < w->n; i++) {
        if (w->block[i] && i < w->written && !bad)
            bad = host->cpu->copy(&w->was[i], w->view[i]);
        free(w->block[i]);
    }
    return bad;
}

/* ---- update, sumsq and judge, which take lists ----------------------------------------------------------------------------- */

static ld_view flat(ld_dtype t, int64_t n, void *data) {
    return (ld_view){.dtype = t, .ndim = 1, .shape = {n}, .stride = {1}, .data = data};
}

/* A copy of n numbers in f32, to be freed, or NULL. */
static float *wide_copy(ld_dtype t, int64_t n, const void *data) {
    float *block = malloc((size_t)(n + 1) * sizeof *block);
    ld_view to = flat(LD_F32, n, block), from = flat(t, n, (void *)(uintptr_t)data);
    if (block && !host->cpu->copy(&to, &from))
        return block;
    free(block);
    return NULL;
}

/* The CPU's update of (translated) tensors, of which gradients may have 16 bits; then the shadows. */
static int update_mixed(ld_update *u, int n, double scale, double decay, const ld_cell *cell) {
    float **made = calloc((size_t)n + 1, sizeof *made);
    void **shadow = calloc((size_t)n + 1, sizeof *shadow);
    int bad = made && shadow ? 0 : ld_fail(LD_EMEM, "fake: out of host memory");
    for (int i = 0; i < n && !bad; i++) {
        bool half = u[i].g && is_half(u[i].g_dtype);
        if (u[i].dtype == LD_F64 && (half || u[i].shadow))
            bad =
                ld_fail(LD_EDTYPE, "update: f64 parameters with gradients or weights of 16 bits; f32 ones have those");
        if (half && !bad) {
            made[i] = wide_copy(u[i].g_dtype, u[i].n, u[i].g);
            bad = made[i] ? 0 : LD_EMEM;
            u[i].g = made[i];
        }
        u[i].g_dtype = u[i].dtype;
        shadow[i] = u[i].g ? u[i].shadow : NULL;
        u[i].shadow = NULL;
    }
    if (!bad)
        bad = host->cpu->update(u, n, scale, decay, cell);
    for (int i = 0; i < n && made && shadow; i++) {
        ld_view to = flat(LD_BF16, u[i].n, shadow[i]), from = flat(LD_F32, u[i].n, u[i].p);
        if (shadow[i] && !bad)
            bad = host->cpu->copy(&to, &from);
        free(made[i]);
    }
    free(made);
    free(shadow);
    return bad;
}

/* (Translated) views of 16 bits, which lie densely in whatever order, become copies in f32: made[i], to be freed. */
static int widen_list(ld_view *xs, int n, float **made) {
    int bad = made ? 0 : ld_fail(LD_EMEM, "fake: out of host memory");
    for (int i = 0; i < n && !bad; i++) {
        if (!is_half(xs[i].dtype))
            continue;
        made[i] = wide_copy(xs[i].dtype, elements(&xs[i]), xs[i].data);
        bad = made[i] ? 0 : LD_EMEM;
        xs[i].dtype = LD_F32;
        xs[i].data = made[i];
    }
    return bad;
}

static int free_list(float **made, int n, int bad) {
    for (int i = 0; i < n && made; i++)
        free(made[i]);
    free(made);
    return bad;
}

static int sumsq_mixed(double *sum, ld_view *xs, int n) {
    float **made = calloc((size_t)n + 1, sizeof *made);
    int bad = widen_list(xs, n, made);
    return free_list(made, n, bad ? bad : host->cpu->sumsq(sum, xs, n));
}

static int judge_mixed(ld_cell *cell, const ld_view *loss, ld_view *xs, int n) {
    float **made = calloc((size_t)n + 1, sizeof *made);
    int bad = widen_list(xs, n, made);
    return free_list(made, n, bad ? bad : host->cpu->judge(cell, loss, xs, n));
}

#endif
