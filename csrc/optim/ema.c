#include "optim/ema.h"

#include "backend/plan.h"
#include "base/error.h"
#include "optim/state.h"

#include <stdlib.h>

static int check_decay(double decay) {
    if (!(decay >= 0 && decay < 1))
        return ld_fail(LD_EVALUE, "ema: decay %g; it must be at least 0 and below 1", decay);
    return 0;
}

ld_ema *ld_ema_new(ld_tensor *const *xs, int n, double decay, bool warmup) {
    if (check_decay(decay))
        return NULL;
    if (n < 1)
        return ld_fail_null(LD_EVALUE, "ema: no tensors");
    for (int i = 0; i < n; i++)
        if (!ld_tensor_is_canonical(xs[i]))
            return ld_fail_null(LD_ESTATE, "ema: tensor %d, %s, is a strided view; a tensor of its own is needed",
                                i + 1, ld_tensor_text(xs[i]));
    ld_ema *e = calloc(1, sizeof *e);
    ld_tensor **both = calloc(2 * (size_t)n, sizeof(ld_tensor *));
    if (!e || !both) {
        free(e);
        free(both);
        return ld_fail_null(LD_EMEM, "ema: out of host memory for %d tensors", n);
    }
    *e = (ld_ema){.refs = 1, .decay = decay, .warmup = warmup, .live = both, .shadow = both + n};
    for (; e->n < n; e->n++) {
        ld_tensor *copy = ld_tensor_clone(xs[e->n], "ema");
        if (!copy) {
            ld_ema_drop(e);
            return NULL;
        }
        e->shadow[e->n] = copy;
        e->live[e->n] = ld_tensor_ref(xs[e->n]);
    }
    return e;
}

ld_ema *ld_ema_ref(ld_ema *e) {
    e->refs++;
    return e;
}

/* Exchange what two headers of one shape show. */
static void exchange(ld_tensor *a, ld_tensor *b) {
    ld_tensor was = *a;
    a->dtype = b->dtype;
    a->offset = b->offset;
    a->storage = b->storage;
    b->dtype = was.dtype;
    b->offset = was.offset;
    b->storage = was.storage;
    for (int i = 0; i < a->ndim; i++) {
        a->stride[i] = b->stride[i];
        b->stride[i] = was.stride[i];
    }
}

void ld_ema_drop(ld_ema *e) {
    if (!e || --e->refs > 0)
        return;
    for (int i = 0; i < e->n; i++) {
        if (e->swapped)
            exchange(e->live[i], e->shadow[i]);
        ld_tensor_drop(e->live[i]);
        ld_tensor_drop(e->shadow[i]);
    }
    free(e->live); /* one block with shadow */
    free(e);
}

double ld_ema_decay_now(const ld_ema *e) {
    double warm = (1 + (double)e->updates) / (10 + (double)e->updates);
    return e->warmup && warm < e->decay ? warm : e->decay;
}

static int check_not_swapped(const ld_ema *e, const char *who) {
    if (e->swapped)
        return ld_fail(LD_ESTATE, "%s: the averages are swapped in; swap back first", who);
    return 0;
}

/* Averages to the dtype and device of the live tensors, which may have moved. */
static int follow(ld_ema *e) {
    int bad = 0;
    for (int i = 0; i < e->n && !bad; i++)
        bad = ld_state_follow(&e->shadow[i], e->live[i], "ema");
    return bad;
}

/* ---- while memory is planned ------------------------------------------------------------------------------------- */

typedef struct was {
    ld_ema *e;
    bool swapped;
    int64_t updates;
    ld_tensor *shadow[]; /* owned */
} was;

static void put_back(void *arg) {
    was *w = arg;
    ld_ema *e = w->e;
    if (e->swapped != w->swapped)
        for (int i = 0; i < e->n; i++)
            exchange(e->live[i], e->shadow[i]);
    e->swapped = w->swapped;
    e->updates = w->updates;
    for (int i = 0; i < e->n; i++) {
        ld_tensor_drop(e->shadow[i]);
        e->shadow[i] = w->shadow[i];
    }
    free(w);
    ld_ema_drop(e);
}

/* What comes after this is put back at the end of a plan. */
static int plan(ld_ema *e) {
    if (!ld_planning() || ld_plan_remembers(e))
        return 0;
    was *w = malloc(sizeof *w + (size_t)e->n * sizeof *w->shadow);
    if (!w || ld_plan_undo(e, put_back, w)) {
        free(w);
        return ld_fail(LD_EMEM, "ema: out of host memory");
    }
    *w = (was){ld_ema_ref(e), e->swapped, e->updates};
    for (int i = 0; i < e->n; i++)
        w->shadow[i] = ld_tensor_ref(e->shadow[i]);
    return 0;
}

/* ---- updates ----------------------------------------------------------------------------------------------------- */

int ld_ema_ready(ld_ema *e) {
    int bad = check_not_swapped(e, "ema.update");
    if (!bad)
        bad = check_decay(e->decay);
    if (!bad)
        bad = plan(e);
    return bad ? bad : follow(e);
}

/* Numbers that the update slot does not take: narrow floats, and integers, which are copied. */
static int update_other(ld_tensor *s, ld_tensor *x, double decay) {
    const ld_backend *b = x->storage->device->backend;
    return ld_dtype_is_float(x->dtype) ? b->axpby(LD_VIEW(s), LD_VIEW(x), 1 - decay, decay)
                                       : b->copy(LD_VIEW(s), LD_VIEW(x));
}

int ld_ema_update_others(ld_ema *e, const bool *done, const ld_cell *cell) {
    double decay = ld_ema_decay_now(e);
    ld_update *list = calloc((size_t)e->n, sizeof *list);
    int n = 0, bad = list ? 0 : ld_fail(LD_EMEM, "ema: out of host memory");
    for (int i = 0; i < e->n && !bad; i++) {
        ld_tensor *s = e->shadow[i], *x = e->live[i];
        ld_tensor_touch(s);
        if (done && done[i])
            continue;
        if (x->dtype == LD_F32 || x->dtype == LD_F64) {
            list[n] =
                (ld_update){.dtype = x->dtype, .n = ld_tensor_numel(x), .p = ld_tensor_data(x), .s = ld_tensor_data(s)};
            n++;
        } else if (cell && ld_dtype_is_float(x->dtype)) {
            bad =
                ld_fail(LD_ESTATE, "ema: averages of %s are no part of what can be recorded", ld_dtype_names[x->dtype]);
        } else {
            bad = update_other(s, x, decay);
        }
    }
    if (!bad && n)
        bad = e->live[0]->storage->device->backend->update(list, n, 1, decay, cell);
    free(list);
    if (!bad && !cell)
        e->updates++;
    return bad;
}

int ld_ema_update(ld_ema *e) {
    int bad = ld_ema_ready(e);
    return bad ? bad : ld_ema_update_others(e, NULL, NULL);
}

int ld_ema_swap(ld_ema *e) {
    int bad = plan(e);
    if (!bad && !e->swapped)
        bad = follow(e);
    if (bad)
        return bad;
    for (int i = 0; i < e->n; i++)
        exchange(e->live[i], e->shadow[i]);
    e->swapped = !e->swapped;
    return 0;
}

int ld_ema_copy_to_live(ld_ema *e) {
    int bad = check_not_swapped(e, "ema.copy_to_live");
    if (!bad)
        bad = plan(e);
    if (!bad)
        bad = follow(e);
    for (int i = 0; i < e->n && !bad; i++) {
        ld_tensor *x = e->live[i];
        bad = x->storage->device->backend->copy(LD_VIEW(x), LD_VIEW(e->shadow[i]));
        if (!bad)
            ld_tensor_touch(x);
    }
    return bad;
}

ld_tensor *ld_ema_average(const ld_ema *e, int i) {
    if (i < 0 || i >= e->n)
        return NULL;
    return e->swapped ? e->live[i] : e->shadow[i];
}

int ld_ema_load(ld_ema *e, int i, ld_tensor *x) {
    int bad = check_not_swapped(e, "ema.load");
    if (bad)
        return bad;
    if (i < 0 || i >= e->n)
        return ld_fail(LD_EINDEX, "ema.load: there is no tensor %d; there are %d", i + 1, e->n);
    ld_tensor *s = e->shadow[i];
    if (!ld_tensor_same_shape(s, x))
        return ld_fail(LD_ESHAPE, "ema.load: tensor %d is %s, given %s", i + 1, ld_tensor_text(s), ld_tensor_text(x));
    ld_tensor *y = ld_tensor_to(x, s->dtype, s->storage->device, "ema.load");
    if (!y)
        return ld_error_code();
    bad = s->storage->device->backend->copy(LD_VIEW(s), LD_VIEW(y));
    ld_tensor_drop(y);
    if (!bad)
        ld_tensor_touch(s);
    return bad;
}
