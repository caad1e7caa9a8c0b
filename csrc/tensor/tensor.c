#include "tensor/tensor.h"

#include "backend/plan.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t live_headers;
static uint64_t serials;
void (*ld_node_release)(struct ld_node *n);

int64_t ld_tensor_count(void) {
    return live_headers;
}

/* Sizes checked and multiplied, or -1 after ld_fail. */
static int64_t count_elements(int ndim, const int64_t *shape, const char *who) {
    if (ndim < 0 || ndim > LD_MAX_DIMS)
        return ld_fail(LD_EVALUE, "%s: %d dimensions; at most %d are possible", who, ndim, LD_MAX_DIMS), -1;
    int64_t n = 1;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0)
            return ld_fail(LD_EVALUE, "%s: size %lld in shape %s is negative", who, (long long)shape[i],
                           ld_shape_text(ndim, shape)),
                   -1;
        if (shape[i] > 0 && n > ((int64_t)1 << 48) / shape[i])
            return ld_fail(LD_EVALUE, "%s: shape %s has more than 2^48 elements", who, ld_shape_text(ndim, shape)), -1;
        n *= shape[i];
    }
    return n;
}

static void storage_drop(ld_storage *s) {
    if (--s->refs > 0)
        return;
    if (s->device->backend->forget)
        s->device->backend->forget(s->serial);
    if (s->release)
        s->release(s->release_arg);
    else
        ld_pool_give(s->device->pool, s->data);
    free(s);
}

static ld_tensor *header(ld_storage *s, ld_dtype t, int ndim, const int64_t *shape, const char *who) {
    ld_tensor *x = calloc(1, sizeof *x);
    if (!x)
        return ld_fail_null(LD_EMEM, "%s: out of host memory for a tensor header", who);
    x->refs = 1;
    x->dtype = t;
    x->ndim = ndim;
    if (ndim) /* shape may be NULL for none */
        memcpy(x->shape, shape, (size_t)ndim * sizeof *shape);
    x->storage = s;
    live_headers++;
    return x;
}

ld_tensor *ld_tensor_new(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, const char *who) {
    int64_t n = count_elements(ndim, shape, who);
    if (n < 0)
        return NULL;
    ld_storage *s = calloc(1, sizeof *s);
    ld_tensor *x = s ? header(s, t, ndim, shape, who) : ld_fail_null(LD_EMEM, "%s: out of host memory", who);
    if (!x)
        return free(s), NULL;
    s->refs = 1;
    s->serial = ++serials;
    s->device = d;
    s->bytes = (size_t)n * ld_dtype_size(t);
    s->data = ld_pool_take(d->pool, s->bytes, who);
    if (!s->data) {
        free(s);
        free(x);
        live_headers--;
        return NULL;
    }
    ld_canonical_strides(ndim, shape, x->stride);
    return x;
}

ld_tensor *ld_tensor_like(const ld_tensor *x, const char *who) {
    return ld_tensor_new(x->storage->device, x->dtype, x->ndim, x->shape, who);
}

ld_tensor *ld_tensor_full(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, double value, const char *who) {
    ld_tensor *x = ld_tensor_new(d, t, ndim, shape, who);
    if (x && d->backend->fill(LD_VIEW(x), value)) {
        ld_tensor_drop(x);
        return NULL;
    }
    return x;
}

ld_tensor *ld_tensor_borrow(ld_dtype t, int ndim, const int64_t *shape, const int64_t *stride, void *data, size_t bytes,
                            void (*release)(void *), void *arg) {
    ld_device *cpu = ld_device_find("cpu");
    ld_storage *s = calloc(1, sizeof *s);
    ld_tensor *x = s ? header(s, t, ndim, shape, "tensor") : ld_fail_null(LD_EMEM, "tensor: out of host memory");
    if (!x)
        return free(s), NULL;
    *s = (ld_storage){.refs = 1,
                      .serial = ++serials,
                      .device = cpu,
                      .bytes = bytes,
                      .data = data,
                      .release = release,
                      .release_arg = arg};
    memcpy(x->stride, stride, (size_t)ndim * sizeof *stride);
    return x;
}

ld_tensor *ld_tensor_ref(ld_tensor *x) {
    x->refs++;
    return x;
}

void ld_tensor_drop(ld_tensor *x) {
    if (!x || --x->refs > 0)
        return;
    struct ld_node *node = x->node;
    ld_tensor_drop(x->grad);
    ld_tensor_drop(x->shadow);
    storage_drop(x->storage);
    free(x);
    live_headers--;
    if (node)
        ld_node_release(node);
}

ld_tensor *ld_tensor_view(const ld_tensor *x, int ndim, const int64_t *shape, const int64_t *stride, int64_t offset) {
    ld_tensor *y = header(x->storage, x->dtype, ndim, shape, "view");
    if (!y)
        return NULL;
    memcpy(y->stride, stride, (size_t)ndim * sizeof *stride);
    y->offset = offset;
    y->storage->refs++;
    return y;
}

ld_tensor *ld_tensor_alias(const ld_tensor *x) {
    return ld_tensor_view(x, x->ndim, x->shape, x->stride, x->offset);
}

bool ld_tensor_reshape_strides(const ld_tensor *x, int ndim, const int64_t *shape, int64_t *stride) {
    if (ld_tensor_numel(x) == 0) {
        ld_canonical_strides(ndim, shape, stride);
        return true;
    }
    /* Walk both shapes from the end; each run of x's dimensions that lies evenly in memory is cut into new ones. */
    int to = ndim - 1;
    for (int from = x->ndim - 1; from >= 0;) {
        int64_t run = x->shape[from], step = x->stride[from];
        int next = from - 1;
        while (next >= 0 && (x->shape[next] == 1 || run == 1 || x->stride[next] == run * step)) {
            if (run == 1)
                step = x->stride[next];
            run *= x->shape[next--];
        }
        int64_t rest = run;
        while (to >= 0 && (rest > 1 || shape[to] == 1)) {
            if (rest % shape[to])
                return false;
            stride[to] = step;
            step *= shape[to];
            rest /= shape[to--];
        }
        if (rest != 1)
            return false;
        from = next;
    }
    while (to >= 0)
        stride[to--] = 1; /* only sizes of 1 are left */
    return true;
}

bool ld_tensor_is_canonical(const ld_tensor *x) {
    return ld_is_canonical(x->ndim, x->shape, x->stride);
}

ld_tensor *ld_tensor_clone(const ld_tensor *x, const char *who) {
    ld_tensor *y = ld_tensor_like(x, who);
    if (y && y->storage->device->backend->copy(LD_VIEW(y), LD_VIEW(x))) {
        ld_tensor_drop(y);
        return NULL;
    }
    return y;
}

ld_tensor *ld_tensor_canonical(ld_tensor *x, const char *who) {
    return ld_tensor_is_canonical(x) ? ld_tensor_ref(x) : ld_tensor_clone(x, who);
}

ld_tensor *ld_tensor_to(ld_tensor *x, ld_dtype t, ld_device *d, const char *who) {
    if (t == x->dtype && d == x->storage->device)
        return ld_tensor_alias(x);
    ld_tensor *y = ld_tensor_new(d, t, x->ndim, x->shape, who);
    if (y && ld_tensor_assign(y, x, who)) {
        ld_tensor_drop(y);
        return NULL;
    }
    return y;
}

/* ---- between devices ----------------------------------------------------------------------------------------------- */

ld_tensor *ld_tensor_host(ld_tensor *x, const char *who) {
    if (ld_on_host(x->storage->device))
        return ld_tensor_ref(x);
    return ld_tensor_to(x, x->dtype, ld_device_find("cpu"), who);
}

/* The bytes of canonical x into canonical y: same shape and dtype, one of them on the host. */
static int move(ld_tensor *y, const ld_tensor *x) {
    size_t n = (size_t)ld_tensor_numel(x) * ld_dtype_size(x->dtype);
    if (ld_on_host(x->storage->device))
        return ld_device_upload(y->storage->device, ld_tensor_data(y), ld_tensor_data(x), n);
    return ld_device_download(x->storage->device, ld_tensor_data(y), ld_tensor_data(x), n);
}

/* A canonical copy of x on d, of the same dtype; by way of the host from one device to another. */
static ld_tensor *moved(ld_tensor *x, ld_device *d, const char *who) {
    ld_tensor *host = ld_on_host(d) ? ld_tensor_ref(x) : ld_tensor_host(x, who);
    ld_tensor *from = host ? ld_tensor_canonical(host, who) : NULL;
    ld_tensor *y = from ? ld_tensor_new(d, x->dtype, x->ndim, x->shape, who) : NULL;
    if (y && move(y, from)) {
        ld_tensor_drop(y);
        y = NULL;
    }
    ld_tensor_drop(host);
    ld_tensor_drop(from);
    return y;
}

int ld_tensor_assign(ld_tensor *y, ld_tensor *x, const char *who) {
    ld_device *from = x->storage->device, *to = y->storage->device;
    if (from == to)
        return to->backend->copy(LD_VIEW(y), LD_VIEW(x));
    if (x->dtype == y->dtype && ld_tensor_is_canonical(x) && ld_tensor_is_canonical(y) &&
        (ld_on_host(from) || ld_on_host(to)))
        return move(y, x);
    /* the smaller of the two dtypes travels */
    bool first = ld_dtype_size(y->dtype) < ld_dtype_size(x->dtype);
    ld_tensor *narrow = first ? ld_tensor_to(x, y->dtype, from, who) : ld_tensor_ref(x);
    ld_tensor *there = narrow ? moved(narrow, to, who) : NULL;
    int bad = there ? to->backend->copy(LD_VIEW(y), LD_VIEW(there)) : ld_error_code();
    ld_tensor_drop(narrow);
    ld_tensor_drop(there);
    return bad;
}

int ld_tensor_fill_from(ld_tensor *y, const ld_view *from, const char *who) {
    if (ld_on_host(y->storage->device))
        return y->storage->device->backend->copy(LD_VIEW(y), from);
    ld_device *cpu = ld_device_find("cpu");
    ld_tensor *host = cpu ? ld_tensor_new(cpu, y->dtype, y->ndim, y->shape, who) : NULL;
    int bad = host ? cpu->backend->copy(LD_VIEW(host), from) : ld_error_code();
    if (!bad)
        bad = ld_tensor_assign(y, host, who);
    ld_tensor_drop(host);
    return bad;
}

/* ---- asking ---------------------------------------------------------------------------------------------------------- */

int64_t ld_tensor_numel(const ld_tensor *x) {
    int64_t n = 1;
    for (int i = 0; i < x->ndim; i++)
        n *= x->shape[i];
    return n;
}

bool ld_tensor_same_shape(const ld_tensor *a, const ld_tensor *b) {
    return a->ndim == b->ndim && !memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape);
}

void *ld_tensor_data(const ld_tensor *x) {
    return (char *)x->storage->data + (size_t)x->offset * ld_dtype_size(x->dtype);
}

void *ld_tensor_expose(ld_tensor *x) {
    x->storage->exposed = true;
    return ld_tensor_data(x);
}

ld_view ld_tensor_as_view(const ld_tensor *x) {
    ld_view v = {.dtype = x->dtype, .ndim = x->ndim, .data = ld_tensor_data(x)};
    memcpy(v.shape, x->shape, sizeof v.shape);
    memcpy(v.stride, x->stride, sizeof v.stride);
    v.serial = x->storage->exposed ? 0 : x->storage->serial;
    v.version = x->storage->version;
    return v;
}

double ld_tensor_item(const ld_tensor *x) {
    return ld_dtype_get(x->dtype, ld_tensor_data(x));
}

/* ---- gradients ----------------------------------------------------------------------------------------------------- */

typedef struct old_grad {
    ld_tensor *x, *grad; /* both owned; grad may be NULL */
} old_grad;

static void put_grad_back(void *arg) {
    old_grad *o = arg;
    ld_tensor_drop(o->x->grad);
    o->x->grad = o->grad;
    ld_tensor_drop(o->x);
    free(o);
}

int ld_tensor_plan_grad(ld_tensor *x) {
    if (!ld_planning() || ld_plan_remembers(&x->grad))
        return 0;
    old_grad *o = malloc(sizeof *o);
    if (!o)
        return ld_fail(LD_EMEM, "plan: out of host memory");
    *o = (old_grad){x, x->grad};
    if (ld_plan_undo(&x->grad, put_grad_back, o))
        return free(o), LD_EMEM;
    ld_tensor_ref(x);
    ld_tensor *old = x->grad;
    if (old && old->refs == 1 && old->storage->refs == 1 && !old->storage->release) {
        /* what the program sees is one of the plan's, so that letting go of it counts */
        ld_pool_plan_hide(old->storage->device->pool, old->storage->data);
        x->grad = ld_tensor_like(old, "backward");
        return x->grad ? 0 : ld_error_code();
    }
    if (old)
        ld_tensor_ref(old);
    return 0;
}

int ld_tensor_set_grad(ld_tensor *x, ld_tensor *grad) {
    int bad = ld_tensor_plan_grad(x);
    if (bad) {
        ld_tensor_drop(grad);
        return bad;
    }
    ld_tensor_drop(x->grad);
    x->grad = grad;
    return 0;
}

/* ---- text ---------------------------------------------------------------------------------------------------------- */

static char *next_text(void) {
    static _Thread_local char ring[8][192];
    static _Thread_local int at;
    return ring[at++ & 7];
}

static int shape_into(char *s, size_t n, int ndim, const int64_t *shape) {
    int used = snprintf(s, n, "(");
    for (int i = 0; i < ndim && used < (int)n - 24; i++)
        used += snprintf(s + used, n - (size_t)used, i ? ",%lld" : "%lld", (long long)shape[i]);
    return used + snprintf(s + used, n - (size_t)used, ")");
}

const char *ld_shape_text(int ndim, const int64_t *shape) {
    char *s = next_text();
    shape_into(s, 192, ndim, shape);
    return s;
}

const char *ld_tensor_text(const ld_tensor *x) {
    char *s = next_text();
    int used = shape_into(s, 160, x->ndim, x->shape);
    snprintf(s + used, 192 - (size_t)used, " %s %s", ld_dtype_names[x->dtype], x->storage->device->name);
    return s;
}

/* ---- versions ------------------------------------------------------------------------------------------------------ */

void ld_tensor_touch(ld_tensor *x) {
    if (ld_planning_on(x->storage->device)) /* nothing has been written */
        return;
    x->storage->version++;
    x->storage->changed = ld_where_now();
}
