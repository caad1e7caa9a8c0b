#include "optim/graph.h"

#include "base/error.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

ld_step_graph *ld_step_graph_new(ld_device *d, ld_optim *o, ld_ema *e, ld_tensor *const *buffers, int n) {
    ld_step_graph *s = calloc(1, sizeof *s);
    ld_tensor **both = calloc(2 * (size_t)n + 1, sizeof *both);
    bool *counted = calloc((size_t)o->n + 1, sizeof *counted);
    ld_graph *g = s && both && counted ? ld_graph_new(d) : ld_fail_null(LD_EMEM, "graph: out of host memory");
    if (!g) {
        free(s);
        free(both);
        free(counted);
        return NULL;
    }
    *s = (ld_step_graph){.graph = g, .o = ld_optim_ref(o), .x = both, .was = both + n, .n = n, .counted = counted};
    s->e = e ? ld_ema_ref(e) : NULL;
    for (int i = 0; i < n; i++)
        s->x[i] = ld_tensor_ref(buffers[i]);
    return s;
}

static void drop_copies(ld_step_graph *s) {
    for (int i = 0; i < s->n; i++) {
        ld_tensor_drop(s->was[i]);
        s->was[i] = NULL;
    }
}

void ld_step_graph_drop(ld_step_graph *s) {
    if (!s)
        return;
    drop_copies(s);
    for (int i = 0; i < s->n; i++)
        ld_tensor_drop(s->x[i]);
    ld_graph_drop(s->graph);
    ld_optim_drop(s->o);
    ld_ema_drop(s->e);
    free(s->x); /* one block with was */
    free(s->counted);
    free(s);
}

/* ---- what a recording depends on ------------------------------------------------------------------------------------- */

static void mix(uint64_t *h, const void *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        *h = (*h ^ ((const unsigned char *)p)[i]) * 0x100000001B3u;
}

static void mix_int(uint64_t *h, int64_t v) {
    mix(h, &v, sizeof v);
}

static void mix_tensor(uint64_t *h, const ld_tensor *x) {
    void *at = x ? ld_tensor_data(x) : NULL;
    mix(h, &at, sizeof at);
    if (!x)
        return;
    mix_int(h, x->dtype);
    mix_int(h, x->requires_grad);
    mix(h, x->stride, (size_t)x->ndim * sizeof *x->stride);
    mix_tensor(h, x->shadow);
}

/* Counts are taken against the optimiser's: they grow together. */
static uint64_t print_of(const ld_step_graph *s) {
    const ld_optim *o = s->o;
    const double options[] = {o->opt.weight_decay, o->opt.beta2, o->opt.eps};
    uint64_t h = 0xCBF29CE484222325u;
    mix(&h, options, sizeof options);
    for (int i = 0; i < o->n; i++) {
        const ld_optim_param *p = &o->param[i];
        const double scales[] = {p->lr_scale, p->decay_scale};
        mix_tensor(&h, p->x);
        mix_tensor(&h, p->state[0]);
        mix_tensor(&h, p->state[1]);
        mix(&h, scales, sizeof scales);
        mix_int(&h, s->counted[i] ? o->step - p->steps : -1);
    }
    for (int i = 0; i < s->n; i++)
        mix_tensor(&h, s->x[i]);
    for (int i = 0; s->e && i < s->e->n; i++)
        mix_tensor(&h, s->e->shadow[i]);
    if (s->e)
        mix_int(&h, s->e->swapped), mix_int(&h, s->e->updates - o->step);
    return h;
}

/* Weights that were changed otherwise have shadows that are none of theirs any more; a recording reads and writes shadows. */
static int renew_shadows(const ld_step_graph *s) {
    for (int i = 0; i < s->o->n; i++) {
        ld_tensor *x = s->o->param[i].x, *narrow = x->shadow ? ld_tensor_narrow(x, x->shadow->dtype, "graph") : x;
        if (!narrow)
            return ld_error_code();
        if (narrow != x)
            ld_tensor_drop(narrow);
    }
    return 0;
}

int ld_step_graph_fits(ld_step_graph *s, bool *fits) {
    int bad = renew_shadows(s);
    *fits = !bad && print_of(s) == s->print;
    return bad;
}

/* ---- recording ------------------------------------------------------------------------------------------------------- */

int ld_step_graph_open(ld_step_graph *s) {
    for (int i = 0; i < s->n; i++)
        if (!(s->was[i] = ld_tensor_clone(s->x[i], "graph")))
            return ld_error_code();
    return 0;
}

/* x = ok ? x : was */
static int restore(const ld_step_graph *s) {
    const ld_cell *cell = ld_graph_cell(s->graph);
    const ld_backend *b = ld_graph_device(s->graph)->backend;
    int bad = 0;
    for (int i = 0; i < s->n && !bad; i++) {
        ld_view x = ld_tensor_as_view(s->x[i]), was = ld_tensor_as_view(s->was[i]), ok = x;
        ok.dtype = LD_U8;
        memset(ok.stride, 0, sizeof ok.stride);
        ok.data = (char *)(uintptr_t)cell + offsetof(ld_cell, ok);
        bad = b->where(&x, &ok, &x, &was);
        ld_tensor_touch(s->x[i]);
    }
    return bad;
}

static int report(const ld_step_graph *s, ld_tensor *const *xs, int n) {
    int bad = n > LD_CELL_REPORT ? ld_fail(LD_EVALUE, "graph: the loss has %d parts; at most %d can be recorded", n - 1,
                                           LD_CELL_REPORT - 1)
                                 : 0;
    for (int i = 0; i < n && !bad; i++) {
        ld_view from = ld_tensor_as_view(xs[i]), to = from;
        if (ld_view_numel(&from) != 1)
            return ld_fail(LD_ESHAPE, "graph: a part of the loss is %s; one element is needed", ld_tensor_text(xs[i]));
        if (xs[i]->storage->device != ld_graph_device(s->graph))
            return ld_fail(LD_ESTATE, "graph: a part of the loss is %s, on another device", ld_tensor_text(xs[i]));
        to.dtype = LD_F64;
        to.serial = 0;
        to.data = ld_graph_cell(s->graph)->report + i;
        bad = ld_graph_device(s->graph)->backend->copy(&to, &from);
    }
    return bad;
}

/* The verdict over loss and gradients. */
static int judge(const ld_step_graph *s, const ld_tensor *loss, ld_tensor *const *params, int n_params) {
    ld_tensor **g = calloc((size_t)n_params + 1, sizeof *g);
    ld_view *views = calloc((size_t)n_params + 1, sizeof *views);
    int n = 0, bad = g && views ? 0 : ld_fail(LD_EMEM, "graph: out of host memory");
    for (int i = 0; i < n_params && !bad; i++) {
        if (!params[i]->grad)
            continue;
        g[n] = ld_tensor_canonical(params[i]->grad, "graph");
        if (!g[n])
            bad = ld_error_code();
        else
            views[n] = ld_tensor_as_view(g[n]), n++;
    }
    if (!bad)
        bad = ld_graph_device(s->graph)->backend->judge(ld_graph_cell(s->graph), LD_VIEW(loss), views, n);
    while (n > 0)
        ld_tensor_drop(g[--n]);
    free(g);
    free(views);
    return bad;
}

int ld_step_graph_warm(ld_step_graph *s) {
    ld_device *d = ld_graph_device(s->graph);
    ld_cell *cell = ld_graph_cell(s->graph), zero;
    const ld_backend *b = d->backend;
    ld_view number = {.dtype = LD_F64, .data = cell->report};
    memset(&zero, 0, sizeof zero);
    int bad = b->judge(cell, &number, NULL, 0);
    if (!bad)
        bad = ld_device_upload(d, cell, &zero, sizeof zero); /* from here on nothing is ok */
    const ld_optim_param *p = &s->o->param[0];
    if (!bad && ld_tensor_numel(p->x)) {
        ld_view first = {.dtype = p->x->dtype, .data = ld_tensor_data(p->x)};
        bad = b->copy(&number, &first);
    }
    for (int i = 0; i < s->o->n && !bad; i++) {
        p = &s->o->param[i];
        if (!p->state[0])
            continue;
        void *m = ld_tensor_data(p->state[0]);
        ld_update u = {.dtype = p->x->dtype, .n = ld_tensor_numel(p->x), .p = ld_tensor_data(p->x), .m = m, .g = m};
        u.v = ld_tensor_data(p->state[1]);
        bad = b->update(&u, 1, 1, 0, cell);
        break;
    }
    if (!bad)
        bad = ld_step_graph_open(s);
    if (!bad)
        bad = restore(s);
    drop_copies(s);
    return bad;
}

/* State that an optimiser makes at its first step would be part of the recording. */
static int check_state(const ld_step_graph *s) {
    for (int i = 0; i < s->o->n; i++) {
        s->counted[i] = s->o->param[i].x->grad != NULL;
        if (s->counted[i] && !s->o->param[i].state[0])
            return ld_fail(LD_ESTATE, "graph: parameter %d has its first gradient", i + 1);
    }
    return 0;
}

int ld_step_graph_close(ld_step_graph *s, ld_tensor *const *params, int n_params, ld_tensor *const *xs, int n) {
    int bad = check_state(s);
    if (!bad)
        bad = report(s, xs, n);
    if (!bad)
        bad = judge(s, xs[0], params, n_params);
    if (!bad)
        bad = restore(s);
    if (!bad)
        bad = ld_optim_step_recorded(s->o, s->e, ld_graph_cell(s->graph));
    for (int i = 0; i < n_params && !bad; i++)
        bad = ld_tensor_set_grad(params[i], NULL);
    drop_copies(s);
    s->step = s->o->step;
    s->updates = s->e ? s->e->updates : 0;
    s->print = print_of(s);
    return bad;
}

/* ---- replaying ------------------------------------------------------------------------------------------------------- */

static void touch(const ld_step_graph *s) {
    for (int i = 0; i < s->o->n; i++) {
        ld_tensor *x = s->o->param[i].x;
        bool narrow = s->counted[i] && ld_tensor_shadow_data(x, LD_BF16); /* the update writes it */
        if (s->counted[i])
            ld_tensor_touch(x);
        if (narrow)
            ld_tensor_shadow_written(x);
    }
    for (int i = 0; i < s->n; i++)
        ld_tensor_touch(s->x[i]);
    for (int i = 0; s->e && i < s->e->n; i++)
        ld_tensor_touch(s->e->shadow[i]);
}

int ld_step_graph_replay(ld_step_graph *s, ld_cell *cell, bool settled) {
    int bad = ld_optim_check(s->o);
    if (bad)
        return bad;
    cell->lr = s->o->opt.lr;
    cell->beta1 = s->o->opt.beta1;
    cell->average = s->e ? s->e->decay : 0;
    cell->updates = s->e && s->e->warmup ? s->updates : -1;
    cell->taken = s->o->step - s->step;
    touch(s);
    return ld_graph_replay(s->graph, cell, settled);
}

int ld_step_graph_result(ld_step_graph *s, bool wait, ld_cell *cell) {
    int there = ld_graph_result(s->graph, wait, cell);
    if (there != 1 || !cell->ok)
        return there;
    s->o->step++;
    for (int i = 0; i < s->o->n; i++)
        s->o->param[i].steps += s->counted[i];
    if (s->e)
        s->e->updates++;
    return there;
}
