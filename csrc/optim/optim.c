#include "optim/optim.h"

#include "backend/plan.h"
#include "base/error.h"

#include <math.h>
#include <stdlib.h>

const char *const ld_optim_names[LD_OPTIM_COUNT] = {"adamw", "adam", "sgd"};

ld_optim_options ld_optim_defaults(ld_optim_kind kind) {
    if (kind == LD_SGD)
        return (ld_optim_options){.lr = 1e-2};
    return (ld_optim_options){
        .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = kind == LD_ADAMW ? 0.01 : 0};
}

static int check_options(ld_optim_kind kind, const ld_optim_options *o) {
    const char *who = ld_optim_names[kind];
    if (!(o->lr >= 0) || isinf(o->lr))
        return ld_fail(LD_EVALUE, "%s: lr %g; it must be a finite number, 0 or more", who, o->lr);
    if (!(o->weight_decay >= 0))
        return ld_fail(LD_EVALUE, "%s: weight_decay %g; it must not be negative", who, o->weight_decay);
    if (kind == LD_SGD) {
        if (!(o->momentum >= 0 && o->momentum < 1))
            return ld_fail(LD_EVALUE, "%s: momentum %g; it must be at least 0 and below 1", who, o->momentum);
        if (o->nesterov && o->momentum == 0)
            return ld_fail(LD_EVALUE, "%s: nesterov needs a momentum above 0", who);
        return 0;
    }
    if (!(o->beta1 >= 0 && o->beta1 < 1) || !(o->beta2 >= 0 && o->beta2 < 1))
        return ld_fail(LD_EVALUE, "%s: betas %g and %g; both must be at least 0 and below 1", who, o->beta1, o->beta2);
    if (!(o->eps >= 0))
        return ld_fail(LD_EVALUE, "%s: eps %g; it must not be negative", who, o->eps);
    return 0;
}

static int check_params(const char *who, ld_tensor *const *params, int n) {
    if (n < 1)
        return ld_fail(LD_EVALUE, "%s: no parameters", who);
    for (int i = 0; i < n; i++) {
        const ld_tensor *x = params[i];
        if (x->node)
            return ld_fail(LD_ESTATE, "%s: parameter %d, %s, is the result of an operation; leaves are needed", who,
                           i + 1, ld_tensor_text(x));
        if (x->dtype != LD_F32 && x->dtype != LD_F64)
            return ld_fail(LD_EDTYPE, "%s: parameter %d is %s; f32 or f64 is needed", who, i + 1, ld_tensor_text(x));
        if (!ld_tensor_is_canonical(x))
            return ld_fail(LD_ESTATE, "%s: parameter %d, %s, is a strided view; a tensor of its own is needed", who,
                           i + 1, ld_tensor_text(x));
        for (int j = 0; j < i; j++)
            if (params[j] == x)
                return ld_fail(LD_EVALUE, "%s: parameters %d and %d are the same tensor", who, j + 1, i + 1);
    }
    return 0;
}

ld_optim *ld_optim_new(ld_optim_kind kind, const ld_optim_options *opt, ld_tensor *const *params, int n) {
    if (check_options(kind, opt) || check_params(ld_optim_names[kind], params, n))
        return NULL;
    ld_optim *o = calloc(1, sizeof *o);
    ld_optim_param *p = calloc((size_t)n, sizeof *p);
    if (!o || !p) {
        free(o);
        free(p);
        return ld_fail_null(LD_EMEM, "%s: out of host memory for %d parameters", ld_optim_names[kind], n);
    }
    *o = (ld_optim){.refs = 1, .kind = kind, .opt = *opt, .n = n, .param = p};
    for (int i = 0; i < n; i++)
        p[i] = (ld_optim_param){.x = ld_tensor_ref(params[i]), .lr_scale = 1, .decay_scale = 1};
    return o;
}

ld_optim *ld_optim_ref(ld_optim *o) {
    o->refs++;
    return o;
}

void ld_optim_drop(ld_optim *o) {
    if (!o || --o->refs > 0)
        return;
    for (int i = 0; i < o->n; i++) {
        ld_tensor_drop(o->param[i].x);
        ld_tensor_drop(o->param[i].state[0]);
        ld_tensor_drop(o->param[i].state[1]);
    }
    free(o->param);
    free(o);
}

int ld_optim_scale(ld_optim *o, int first, int count, double lr_scale, double decay_scale) {
    if (first < 0 || count < 0 || first > o->n - count)
        return ld_fail(LD_EINDEX, "%s: parameters %d to %d; there are %d", ld_optim_names[o->kind], first + 1,
                       first + count, o->n);
    if (!(lr_scale >= 0) || !(decay_scale >= 0))
        return ld_fail(LD_EVALUE, "%s: scales %g and %g; neither may be negative", ld_optim_names[o->kind], lr_scale,
                       decay_scale);
    for (int i = first; i < first + count; i++) {
        o->param[i].lr_scale = lr_scale;
        o->param[i].decay_scale = decay_scale;
    }
    return 0;
}

int ld_optim_check(const ld_optim *o) {
    return check_options(o->kind, &o->opt);
}

/* ---- while memory is planned ------------------------------------------------------------------------------------- */

typedef struct was {
    ld_optim *o;
    int64_t step;
    ld_optim_param param[]; /* with references to the state */
} was;

static void put_back(void *arg) {
    was *w = arg;
    ld_optim *o = w->o;
    o->step = w->step;
    for (int i = 0; i < o->n; i++) {
        for (int k = 0; k < 2; k++)
            ld_tensor_drop(o->param[i].state[k]);
        o->param[i] = w->param[i];
    }
    free(w);
    ld_optim_drop(o);
}

int ld_optim_plan(ld_optim *o) {
    if (!ld_planning() || ld_plan_remembers(o))
        return 0;
    was *w = malloc(sizeof *w + (size_t)o->n * sizeof *w->param);
    if (!w || ld_plan_undo(o, put_back, w)) {
        free(w);
        return ld_fail(LD_EMEM, "%s: out of host memory", ld_optim_names[o->kind]);
    }
    *w = (was){ld_optim_ref(o), o->step};
    for (int i = 0; i < o->n; i++) {
        w->param[i] = o->param[i];
        for (int k = 0; k < 2; k++)
            if (o->param[i].state[k])
                ld_tensor_ref(o->param[i].state[k]);
    }
    return 0;
}

int ld_optim_zero_grad(ld_optim *o, bool drop) {
    for (int i = 0; i < o->n; i++) {
        ld_tensor *x = o->param[i].x;
        if (drop) {
            int bad = ld_tensor_set_grad(x, NULL);
            if (bad)
                return bad;
        } else if (x->grad) {
            int bad = x->grad->storage->device->backend->fill(LD_VIEW(x->grad), 0);
            if (bad)
                return bad;
            ld_tensor_touch(x->grad);
        }
    }
    return 0;
}
