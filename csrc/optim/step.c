/* One update of all parameters. Adam, the averages and the scaling of the gradients are one pass over memory. */
#include "base/error.h"
#include "optim/ema.h"
#include "optim/optim.h"
#include "optim/state.h"

#include <stdlib.h>

/* What is decided before anything changes. */
typedef struct job {
    ld_optim *o;
    ld_ema *e; /* or NULL */
    double scale;
    const ld_cell *cell; /* recorded: it has the numbers, and nothing is counted; or NULL */
    ld_tensor **g;       /* o->n gradients laid out as their parameters, owned; NULL where there is none */
    bool *averaged;      /* e->n: the update takes care of this one */
    ld_update *updates;
    int n_updates;
} job;

static int ready_state(ld_optim_param *p, int n, const char *who) {
    for (int k = 0; k < n; k++) {
        const ld_tensor *x = p->x;
        if (!p->state[k])
            p->state[k] = ld_tensor_full(x->storage->device, x->dtype, x->ndim, x->shape, 0, who);
        if (!p->state[k])
            return ld_error_code();
        int bad = ld_state_follow(&p->state[k], x, who);
        if (bad)
            return bad;
    }
    return 0;
}

/* The gradient, laid out as x; checked, since users may set x->grad. Of an f32 parameter it may have 16 bits: Adam reads it so
 * where the device can, else it is converted. */
static ld_tensor *gradient(const ld_optim *o, int i) {
    ld_tensor *x = o->param[i].x, *g = x->grad;
    const char *who = ld_optim_names[o->kind];
    bool half = x->dtype == LD_F32 && ld_dtype_is_half(g->dtype);
    if (!ld_tensor_same_shape(x, g) || (g->dtype != x->dtype && !half) || g->storage->device != x->storage->device)
        return ld_fail_null(LD_ESHAPE, "%s: parameter %d is %s, its gradient %s", who, i + 1, ld_tensor_text(x),
                            ld_tensor_text(g));
    if (half && (o->kind == LD_SGD || !x->storage->device->backend->halves))
        return ld_tensor_to(g, LD_F32, x->storage->device, who);
    return ld_tensor_canonical(g, who);
}

/* ---- sgd ----------------------------------------------------------------------------------------------------------- */

/* Without momentum nothing is kept: p -= lr (g + wd p) by two axpby. */
static int sgd_plain(const ld_optim_param *p, ld_tensor *g, double lr, double decay) {
    return p->x->storage->device->backend->axpby(LD_VIEW(p->x), LD_VIEW(g), -lr, 1 - lr * decay);
}

static int sgd(const ld_optim *o, ld_optim_param *p, ld_tensor *g, double scale) {
    double lr = o->opt.lr * p->lr_scale, decay = o->opt.weight_decay * p->decay_scale;
    const ld_backend *b = p->x->storage->device->backend;
    int bad = scale == 1 ? 0 : b->unary(LD_VIEW(g), LD_VIEW(g), LD_AFFINE, scale, 0);
    if (bad)
        return bad;
    if (o->opt.momentum == 0 && !p->state[0])
        return sgd_plain(p, g, lr, decay);
    bool first = !p->state[0];
    bad = ready_state(p, 1, "sgd");
    if (bad)
        return bad;
    return b->sgd(LD_VIEW(p->x), LD_VIEW(g), LD_VIEW(p->state[0]), lr, o->opt.momentum, decay, o->opt.nesterov, first);
}

/* ---- adam and the averages ------------------------------------------------------------------------------------------- */

static ld_update update_of(const job *j, int i) {
    const ld_optim *o = j->o;
    const ld_optim_param *p = &o->param[i];
    return (ld_update){.dtype = p->x->dtype,
                       .n = ld_tensor_numel(p->x),
                       .p = ld_tensor_data(p->x),
                       .m = ld_tensor_data(p->state[0]),
                       .v = ld_tensor_data(p->state[1]),
                       .g = ld_tensor_data(j->g[i]),
                       .g_dtype = j->g[i]->dtype,
                       .shadow = ld_tensor_shadow_data(p->x, LD_BF16),
                       .adam = {.lr = j->cell ? p->lr_scale : o->opt.lr * p->lr_scale,
                                .beta1 = o->opt.beta1,
                                .beta2 = o->opt.beta2,
                                .eps = o->opt.eps,
                                .weight_decay = o->opt.weight_decay * p->decay_scale,
                                .step = j->cell ? p->steps : p->steps + 1,
                                .decoupled = o->kind == LD_ADAMW}};
}

/* The position of x among the averaged tensors, most likely i; -1 when it is none of them. */
static int average_of(const ld_ema *e, const ld_tensor *x, int i) {
    if (!e)
        return -1;
    if (i < e->n && e->live[i] == x)
        return i;
    for (int k = 0; k < e->n; k++)
        if (e->live[k] == x)
            return k;
    return -1;
}

/* State for every parameter with a gradient, and the list of updates. */
static int prepare_adam(job *j) {
    ld_optim *o = j->o;
    for (int i = 0; i < o->n; i++) {
        if (!j->g[i])
            continue;
        int bad = ready_state(&o->param[i], 2, ld_optim_names[o->kind]);
        if (bad)
            return bad;
        ld_update u = update_of(j, i);
        int k = average_of(j->e, o->param[i].x, i);
        if (k >= 0) {
            u.s = ld_tensor_data(j->e->shadow[k]);
            j->averaged[k] = true;
        }
        j->updates[j->n_updates++] = u;
    }
    return 0;
}

static int compute(job *j) {
    ld_optim *o = j->o;
    double decay = j->e ? ld_ema_decay_now(j->e) : 0;
    int bad = 0;
    if (o->kind != LD_SGD && j->n_updates)
        bad = o->param[0].x->storage->device->backend->update(j->updates, j->n_updates, j->scale, decay, j->cell);
    for (int i = 0; i < o->n && !bad; i++) {
        ld_optim_param *p = &o->param[i];
        if (!j->g[i])
            continue;
        if (o->kind == LD_SGD)
            bad = sgd(o, p, j->g[i], j->scale);
        if (bad)
            continue;
        bool narrow = o->kind != LD_SGD && ld_tensor_shadow_data(p->x, LD_BF16); /* the update has written it */
        p->steps += !j->cell;
        ld_tensor_touch(p->x);
        if (narrow)
            ld_tensor_shadow_written(p->x);
    }
    return !bad && j->e ? ld_ema_update_others(j->e, j->averaged, j->cell) : bad;
}

static int gather(job *j) {
    ld_optim *o = j->o;
    size_t n = (size_t)o->n, averages = j->e ? (size_t)j->e->n : 0;
    j->g = calloc(n, sizeof *j->g);
    j->averaged = calloc(averages + 1, sizeof *j->averaged);
    j->updates = calloc(n, sizeof *j->updates);
    if (!j->g || !j->averaged || !j->updates)
        return ld_fail(LD_EMEM, "%s: out of host memory", ld_optim_names[o->kind]);
    for (int i = 0; i < o->n; i++)
        if (o->param[i].x->grad && !(j->g[i] = gradient(o, i)))
            return ld_error_code();
    return 0;
}

static int step(job *k, bool drop) {
    job j = *k;
    ld_optim *o = j.o;
    ld_ema *e = j.e;
    int bad = ld_optim_check(o);
    if (!bad && e)
        bad = ld_ema_ready(e);
    if (!bad)
        bad = ld_optim_plan(o);
    if (!bad)
        bad = gather(&j);
    if (!bad && o->kind != LD_SGD)
        bad = prepare_adam(&j);
    if (!bad)
        bad = compute(&j);
    for (int i = 0; i < o->n && j.g; i++)
        ld_tensor_drop(j.g[i]);
    free(j.g);
    free(j.averaged);
    free(j.updates);
    if (!bad && !j.cell)
        o->step++;
    return !bad && drop ? ld_optim_zero_grad(o, true) : bad;
}

int ld_optim_step_with(ld_optim *o, ld_ema *e, double scale, bool drop) {
    return step(&(job){.o = o, .e = e, .scale = scale}, drop);
}

int ld_optim_step_recorded(ld_optim *o, ld_ema *e, const ld_cell *cell) {
    if (o->kind == LD_SGD)
        return ld_fail(LD_ESTATE, "sgd: its learning rate is no part of what can be recorded; adam's and adamw's are");
    return step(&(job){.o = o, .e = e, .scale = 1, .cell = cell}, true);
}

int ld_optim_step(ld_optim *o) {
    return ld_optim_step_with(o, NULL, 1, false);
}
