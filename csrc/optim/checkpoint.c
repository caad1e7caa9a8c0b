/* An optimiser's state as named tensors, and back. */
#include "base/error.h"
#include "optim/optim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int states_of(ld_optim_kind kind) {
    return kind == LD_SGD ? 1 : 2;
}

static const char *state_name(ld_optim_kind kind, int k) {
    return kind == LD_SGD ? "momentum" : k ? "v" : "m";
}

int ld_optim_state_count(const ld_optim *o) {
    int count = 2;
    for (int i = 0; i < o->n; i++)
        for (int k = 0; k < 2; k++)
            count += o->param[i].state[k] != NULL;
    return count;
}

static ld_tensor *counts(const ld_optim *o, bool each) {
    ld_device *cpu = ld_device_find("cpu");
    int64_t n = o->n;
    ld_tensor *x = cpu ? ld_tensor_new(cpu, LD_I64, each ? 1 : 0, &n, "optim.state") : NULL;
    if (!x)
        return NULL;
    int64_t *v = ld_tensor_data(x);
    if (each)
        for (int i = 0; i < o->n; i++)
            v[i] = o->param[i].steps;
    else
        *v = o->step;
    return x;
}

ld_tensor *ld_optim_state(const ld_optim *o, int i, char name[LD_OPTIM_NAME]) {
    if (i == 0 || i == 1) {
        snprintf(name, LD_OPTIM_NAME, "%s", i ? "steps" : "step");
        return counts(o, i == 1);
    }
    int at = 2;
    for (int p = 0; p < o->n; p++)
        for (int k = 0; k < 2; k++)
            if (o->param[p].state[k] && at++ == i) {
                snprintf(name, LD_OPTIM_NAME, "%s.%d", state_name(o->kind, k), p);
                return ld_tensor_alias(o->param[p].state[k]);
            }
    return ld_fail_null(LD_EINDEX, "%s: there is no state tensor %d; there are %d", ld_optim_names[o->kind], i + 1,
                        ld_optim_state_count(o));
}

/* ---- loading ----------------------------------------------------------------------------------------------------- */

typedef struct loaded {
    int64_t steps;
    ld_tensor *state[2];
} loaded;

static ld_tensor *find(const char *name, const char *const *names, ld_tensor *const *xs, int n) {
    for (int i = 0; i < n; i++)
        if (!strcmp(name, names[i]))
            return xs[i];
    return NULL;
}

/* Element i of an i64 tensor of rank `ndim` and n elements. */
static int read_count(const char *who, const char *name, const ld_tensor *x, int ndim, int64_t n, int64_t *out) {
    if (!x)
        return ld_fail(LD_EFORMAT, "%s: the state lacks \"%s\"", who, name);
    if (x->dtype != LD_I64 || x->ndim != ndim || ld_tensor_numel(x) != n)
        return ld_fail(LD_ESHAPE, "%s: \"%s\" is %s; i64 with %lld elements is needed", who, name, ld_tensor_text(x),
                       (long long)n);
    ld_tensor *host = ld_tensor_to((ld_tensor *)x, LD_I64, ld_device_find("cpu"), who);
    ld_tensor *c = host ? ld_tensor_canonical(host, who) : NULL;
    if (c)
        memcpy(out, ld_tensor_data(c), (size_t)n * sizeof *out);
    ld_tensor_drop(host);
    ld_tensor_drop(c);
    return c ? 0 : ld_error_code();
}

/* A copy of x, laid out, typed and placed as the parameter. */
static ld_tensor *take(const char *who, const char *name, ld_tensor *x, const ld_tensor *param) {
    if (!ld_tensor_same_shape(x, param))
        return ld_fail_null(LD_ESHAPE, "%s: \"%s\" is %s, its parameter %s", who, name, ld_tensor_text(x),
                            ld_tensor_text(param));
    ld_tensor *y = ld_tensor_to(x, param->dtype, param->storage->device, who);
    ld_tensor *own = y ? ld_tensor_clone(y, who) : NULL;
    ld_tensor_drop(y);
    return own;
}

static int read_all(const ld_optim *o, const char *const *names, ld_tensor *const *xs, int n, loaded *to,
                    int64_t *step) {
    const char *who = ld_optim_names[o->kind];
    int64_t *steps = calloc((size_t)o->n, sizeof *steps);
    if (!steps)
        return ld_fail(LD_EMEM, "%s: out of host memory", who);
    int bad = read_count(who, "step", find("step", names, xs, n), 0, 1, step), used = 2;
    if (!bad)
        bad = read_count(who, "steps", find("steps", names, xs, n), 1, o->n, steps);
    for (int p = 0; p < o->n && !bad; p++) {
        to[p].steps = steps[p];
        for (int k = 0; k < states_of(o->kind) && !bad; k++) {
            char name[LD_OPTIM_NAME];
            snprintf(name, sizeof name, "%s.%d", state_name(o->kind, k), p);
            ld_tensor *x = find(name, names, xs, n);
            bool optional = steps[p] == 0 || (o->kind == LD_SGD && o->opt.momentum == 0);
            if (!x && !optional)
                bad = ld_fail(LD_EFORMAT, "%s: the state lacks \"%s\"", who, name);
            if (!x)
                continue;
            used++;
            to[p].state[k] = take(who, name, x, o->param[p].x);
            if (!to[p].state[k])
                bad = ld_error_code();
        }
    }
    free(steps);
    if (!bad && used != n)
        bad = ld_fail(LD_EFORMAT, "%s: %d tensors of state for %d parameters, of which %d have a known name", who, n,
                      o->n, used);
    return bad;
}

int ld_optim_load(ld_optim *o, const char *const *names, ld_tensor *const *xs, int n) {
    loaded *to = calloc((size_t)o->n, sizeof *to);
    if (!to)
        return ld_fail(LD_EMEM, "%s: out of host memory", ld_optim_names[o->kind]);
    int64_t step = 0;
    int bad = ld_optim_plan(o);
    if (!bad)
        bad = read_all(o, names, xs, n, to, &step);
    for (int p = 0; p < o->n; p++) {
        ld_optim_param *q = &o->param[p];
        for (int k = 0; k < 2; k++) {
            ld_tensor_drop(bad ? to[p].state[k] : q->state[k]);
            if (!bad)
                q->state[k] = to[p].state[k];
        }
        if (!bad)
            q->steps = to[p].steps;
    }
    if (!bad)
        o->step = step;
    free(to);
    return bad;
}
