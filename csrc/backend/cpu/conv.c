/* The slots of convolution: which way computes a call.
 *
 * LD_CONV=direct|blocked|winograd|folded forces a way wherever it fits, LD_CONV=rule the fixed rule. Otherwise the ways
 * that fit are timed at the first use of a shape, direction and number of threads (backend/tune.h) when tuning is on, and
 * the rule decides when it is off. The rule: Winograd for 3x3 of stride 1 from 32 channels on, where widths divide by 16,
 * there are 16 tiles or more and they are not mostly empty; else folded where x is upsampled; else direct, or, without
 * AVX-512, where oneDNN's channels-last kernels are weak, blocked from 16 channels on. */
#include "backend/cpu/conv.h"
#include "backend/cpu/cpu.h"
#include "backend/device.h"
#include "backend/plan.h"
#include "backend/tune.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const ld_conv_way_names[LD_CONV_WAYS] = {
    [LD_CONV_DIRECT] = "direct",
    [LD_CONV_BLOCKED] = "blocked",
    [LD_CONV_WINOGRAD] = "winograd",
    [LD_CONV_FOLDED] = "folded",
};

/* ---- the choice -------------------------------------------------------------------------------------------------- */

/* Winograd spends 36 multiplications on a tile of 4x4 results, direct 9 on each result. */
static bool winograd_pays(const ld_conv_call *c) {
    int64_t p = c->y->shape[2], q = c->y->shape[3], tiles = (p + 3) / 4 * ((q + 3) / 4);
    if (c->w->shape[0] < 32 || c->w->shape[1] < 32 || c->x->shape[0] * tiles < 16)
        return false;
    return 3 * 36 * tiles <= 2 * 9 * p * q;
}

ld_conv_way ld_conv_rule(const ld_conv_call *c) {
    if (winograd_pays(c) && ld_conv_fits(c, LD_CONV_WINOGRAD))
        return LD_CONV_WINOGRAD;
    if (ld_conv_fits(c, LD_CONV_FOLDED))
        return LD_CONV_FOLDED;
    bool wide = c->w->shape[0] >= 16 && c->w->shape[1] >= 16;
    return wide && !ld_dnnl_has_avx512() ? LD_CONV_BLOCKED : LD_CONV_DIRECT;
}

/* The way that the environment forces: LD_CONV_WAYS for none, -1 for the rule, -2 after ld_fail. */
static int forced(void) {
    const char *s = getenv("LD_CONV");
    if (!s || !*s || !strcmp(s, "auto"))
        return LD_CONV_WAYS;
    if (!strcmp(s, "rule"))
        return -1;
    for (int i = 0; i < LD_CONV_WAYS; i++)
        if (!strcmp(s, ld_conv_way_names[i]))
            return i;
    ld_fail(LD_EVALUE, "LD_CONV is '%s'; known: direct, blocked, winograd, folded, rule, auto", s);
    return -2;
}

static void key_of(char key[LD_TUNE_KEY], const ld_conv_call *c) {
    static const char *const kind[] = {
        [LD_DNNL_CONV] = "conv", [LD_DNNL_CONV_DX] = "conv_dx", [LD_DNNL_CONV_DW] = "conv_dw"};
    const int64_t *x = c->x->shape, *w = c->w->shape;
    const ld_conv_shape *s = c->s;
    snprintf(key, LD_TUNE_KEY, "%s%s,%lldx%lldx%lldx%lld,%lldx%lldx%lld,stride%dx%d,pad%d.%d.%d.%d,threads%d%s",
             s->up ? "up_" : "", kind[c->kind], (long long)x[0], (long long)x[1], (long long)x[2], (long long)x[3],
             (long long)w[0], (long long)w[2], (long long)w[3], s->stride_h, s->stride_w, s->top, s->bottom, s->left,
             s->right, ld_threads(), c->kind != LD_DNNL_CONV_DW && c->w->serial ? ",kept" : "");
}

static int run_way(void *arg, int way) {
    const ld_conv_call *c = arg;
    size_t bytes;
    int bad = ld_conv_workspace(c, (ld_conv_way)way, &bytes);
    void *workspace = bad || !bytes ? NULL : ld_cpu_workspace(bytes, "conv2d");
    if (!bad && bytes && !workspace)
        bad = LD_EMEM;
    if (!bad && !ld_planning_on(ld_device_find("cpu")))
        bad = ld_conv_run(c, (ld_conv_way)way, workspace);
    ld_cpu_workspace_done(workspace);
    return bad;
}

static int compute(ld_conv_call c) {
    int force = forced();
    if (force == -2)
        return LD_EVALUE;
    if (force >= 0 && force < LD_CONV_WAYS && ld_conv_fits(&c, (ld_conv_way)force))
        return run_way(&c, force);
    if (force != LD_CONV_WAYS || !ld_tune_is_on())
        return run_way(&c, (int)ld_conv_rule(&c));
    bool fits[LD_CONV_WAYS];
    for (int i = 0; i < LD_CONV_WAYS; i++)
        fits[i] = ld_conv_fits(&c, (ld_conv_way)i);
    char key[LD_TUNE_KEY];
    key_of(key, &c);
    return ld_tune_run(&(ld_tune_case){.key = key,
                                       .n = LD_CONV_WAYS,
                                       .names = ld_conv_way_names,
                                       .fits = fits,
                                       .rule = (int)ld_conv_rule(&c),
                                       .run = run_way,
                                       .arg = &c});
}

/* ---- nothing to sum ---------------------------------------------------------------------------------------------- */

/* Every element of a dense view, whatever its order, becomes 0. */
static void clear(const ld_view *v) {
    memset(v->data, 0, (size_t)ld_view_numel(v) * ld_dtype_size(v->dtype));
}

static int wrong_dtype(const char *who, ld_dtype t) {
    return ld_fail(LD_EDTYPE, "%s: %s on the cpu; f32 and f64 are there", who, ld_dtype_names[t]);
}

/* y = bias where x has no channel. */
static void fill_bias(const ld_view *y, const ld_view *bias) {
    size_t size = ld_dtype_size(y->dtype);
    int64_t o = y->shape[1], pixels = o ? ld_view_numel(y) / o : 0;
    clear(y);
    for (int64_t i = 0; bias && i < pixels; i++)
        memcpy((char *)y->data + (size_t)(i * o) * size, bias->data, (size_t)o * size);
}

/* ---- slots ------------------------------------------------------------------------------------------------------- */

int ld_cpu_conv2d(const ld_view *y, const ld_view *x, const ld_view *w, const ld_view *bias, const ld_conv_shape *s) {
    if (y->dtype != LD_F32 && y->dtype != LD_F64)
        return wrong_dtype("conv2d", y->dtype);
    if (!ld_view_numel(y))
        return 0;
    if (!ld_view_numel(x) || !ld_view_numel(w)) {
        fill_bias(y, bias);
        return 0;
    }
    if (y->dtype == LD_F32)
        return compute((ld_conv_call){LD_DNNL_CONV, x, w, bias, y, s});
    ld_conv_f64(y, x, w, bias ? bias->data : NULL, s);
    return 0;
}

int ld_cpu_conv2d_dx(const ld_view *dx, const ld_view *g, const ld_view *w, const ld_conv_shape *s) {
    if (dx->dtype != LD_F32 && dx->dtype != LD_F64)
        return wrong_dtype("conv2d", dx->dtype);
    bool nothing = !ld_view_numel(g) || !ld_view_numel(w);
    if (!ld_view_numel(dx))
        return 0;
    if (!nothing && dx->dtype == LD_F32)
        return compute((ld_conv_call){LD_DNNL_CONV_DX, dx, w, NULL, g, s});
    clear(dx);
    if (!nothing)
        ld_conv_dx_f64(dx, g, w, s);
    return 0;
}

int ld_cpu_conv2d_dw(const ld_view *dw, const ld_view *db, const ld_view *x, const ld_view *g, const ld_conv_shape *s) {
    if (dw->dtype != LD_F32 && dw->dtype != LD_F64)
        return wrong_dtype("conv2d", dw->dtype);
    bool nothing = !ld_view_numel(x) || !ld_view_numel(g) || !ld_view_numel(dw);
    if (!nothing && dw->dtype == LD_F32)
        return compute((ld_conv_call){LD_DNNL_CONV_DW, x, dw, db, g, s});
    clear(dw);
    if (db)
        clear(db);
    if (!nothing)
        ld_conv_dw_f64(dw, db ? db->data : NULL, x, g, s);
    return 0;
}
