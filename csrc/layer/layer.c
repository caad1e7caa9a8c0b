#include "backend/plan.h"
#include "base/error.h"
#include "layer/part.h"

#include <stdio.h>
#include <stdlib.h>

ld_layer *ld_layer_new(const ld_layer_type *type) {
    ld_layer *l = calloc(1, sizeof *l);
    if (!l)
        return ld_fail_null(LD_EMEM, "%s: out of host memory", type->name);
    l->refs = 1;
    l->type = type;
    l->training = true;
    return l;
}

ld_layer *ld_layer_ref(ld_layer *l) {
    l->refs++;
    return l;
}

void ld_layer_drop(ld_layer *l) {
    if (!l || --l->refs > 0)
        return;
    for (int i = 0; i < l->n_params; i++)
        ld_tensor_drop(l->param[i].x);
    for (int i = 0; i < l->n_buffers; i++)
        ld_tensor_drop(l->buffer[i].x);
    free(l);
}

ld_layer *ld_layer_made(ld_layer *l, int bad) {
    if (!bad)
        return l;
    ld_layer_drop(l);
    return NULL;
}

int ld_layer_check_dtype(const char *who, ld_dtype t) {
    if (t != LD_F32 && t != LD_F64)
        return ld_fail(LD_EDTYPE, "%s: dtype %s; layers take f32 and f64", who, ld_dtype_names[t]);
    return 0;
}

static ld_tensor *tensor(const char *who, ld_device *d, ld_dtype t, int ndim, const int64_t *shape) {
    if (!d)
        d = ld_device_find("cpu");
    return d ? ld_tensor_new(d, t, ndim, shape, who) : NULL;
}

int ld_layer_add_param(ld_layer *l, const char *name, ld_device *d, ld_dtype t, int ndim, const int64_t *shape,
                       ld_fill_kind how, double v) {
    ld_tensor *x = tensor(l->type->name, d, t, ndim, shape);
    if (!x)
        return ld_error_code();
    int bad = how == LD_FILL_UNIFORM  ? ld_init_uniform_(x, -v, v)
              : how == LD_FILL_NORMAL ? ld_init_normal_(x, 0, v)
                                      : ld_init_constant_(x, v);
    if (bad)
        return ld_tensor_drop(x), bad;
    x->requires_grad = true;
    l->param[l->n_params++] = (ld_named_tensor){name, x};
    return 0;
}

int ld_layer_add_buffer(ld_layer *l, const char *name, ld_device *d, ld_dtype t, int ndim, const int64_t *shape,
                        double v) {
    ld_tensor *x = tensor(l->type->name, d, t, ndim, shape);
    if (!x)
        return ld_error_code();
    int bad = ld_init_constant_(x, v);
    if (bad)
        return ld_tensor_drop(x), bad;
    l->buffer[l->n_buffers++] = (ld_named_tensor){name, x};
    return 0;
}

static ld_dtype precision = LD_F32;

ld_dtype ld_layer_precision(void) {
    return precision;
}

ld_dtype ld_layer_set_precision(ld_dtype t) {
    ld_dtype was = precision;
    precision = t;
    return was;
}

ld_tensor *ld_layer_forward(ld_layer *l, ld_tensor *x) {
    if (ld_interrupted())
        return NULL;
    bool narrow = l->type->narrows && x->dtype == LD_F32 && x->storage->device->backend->halves;
    ld_tensor *in = ld_cast(x, narrow ? precision : x->dtype), *y = in ? l->type->forward(l, in) : NULL;
    ld_tensor_drop(in);
    return y;
}

static ld_tensor *nth(const ld_named_tensor *t, int n, int i, const char **name) {
    if (i < 0 || i >= n)
        return NULL;
    if (name)
        *name = t[i].name;
    return t[i].x;
}

int ld_layer_param_count(const ld_layer *l) {
    return l->n_params;
}

ld_tensor *ld_layer_param(const ld_layer *l, int i, const char **name) {
    return nth(l->param, l->n_params, i, name);
}

int ld_layer_buffer_count(const ld_layer *l) {
    return l->n_buffers;
}

ld_tensor *ld_layer_buffer(const ld_layer *l, int i, const char **name) {
    return nth(l->buffer, l->n_buffers, i, name);
}

void ld_layer_train(ld_layer *l, bool training) {
    l->training = training;
}

void ld_layer_require_grad(ld_layer *l, bool on) {
    for (int i = 0; i < l->n_params; i++)
        l->param[i].x->requires_grad = on;
}

/* Give x the storage of y (dropped). The tape and other views keep the storage they saw. */
static void take_storage(ld_tensor *x, ld_tensor *y) {
    ld_tensor was = *x;
    x->dtype = y->dtype;
    x->offset = y->offset;
    x->storage = y->storage;
    for (int i = 0; i < x->ndim; i++)
        x->stride[i] = y->stride[i];
    y->storage = was.storage;
    ld_tensor_drop(y);
    ld_tensor_drop(x->grad);
    x->grad = NULL;
    ld_tensor_drop_shadow(x);
}

int ld_layer_to(ld_layer *l, ld_dtype t, ld_device *d) {
    int bad = ld_layer_check_dtype(l->type->name, t), n = 0;
    if (!bad && ld_planning()) /* the weights would be left behind */
        bad = ld_fail(LD_ESTATE, "%s: cannot move to another dtype while memory is planned", l->type->name);
    if (bad)
        return bad;
    ld_tensor *old[LD_LAYER_PARAMS + LD_LAYER_BUFFERS], *moved[LD_LAYER_PARAMS + LD_LAYER_BUFFERS];
    for (int i = 0; i < l->n_params; i++)
        old[n++] = l->param[i].x;
    for (int i = 0; i < l->n_buffers; i++)
        old[n++] = l->buffer[i].x;
    for (int i = 0; i < n && !bad; i++) {
        ld_tensor *x = old[i];
        ld_device *to = d ? d : x->storage->device;
        moved[i] = ld_tensor_to(x, ld_dtype_is_float(x->dtype) ? t : x->dtype, to, l->type->name);
        if (!moved[i]) {
            bad = ld_error_code();
            n = i;
        }
    }
    for (int i = 0; i < n; i++) {
        if (!bad && moved[i]->storage != old[i]->storage)
            take_storage(old[i], moved[i]);
        else
            ld_tensor_drop(moved[i]);
    }
    return bad;
}

const char *ld_layer_describe(const ld_layer *l, char *s, size_t n) {
    char inside[256] = "";
    if (l->type->describe)
        l->type->describe(l, inside, sizeof inside);
    snprintf(s, n, "%s(%s)", l->type->name, inside);
    return s;
}
