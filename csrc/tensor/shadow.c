/* Shadows: the 16-bit copies of f32 weights that layers compute with. */
#include "tensor/tensor.h"

#include "backend/plan.h"
#include "base/error.h"

#include <stdlib.h>

/* Of x's contents as they are. */
static bool current(const ld_tensor *x, ld_dtype t) {
    return x->shadow && x->shadow->dtype == t && x->shadow_serial == x->storage->serial &&
           x->shadow_version == x->storage->version && !x->storage->exposed;
}

static void mark(ld_tensor *x) {
    x->shadow_serial = x->storage->serial;
    x->shadow_version = x->storage->version;
}

/* ---- while memory is planned ----------------------------------------------------------------------------------------- */

typedef struct was {
    ld_tensor *x, *shadow; /* owned; shadow may be NULL */
    uint64_t serial;
    uint32_t version;
} was;

static void put_back(void *arg) {
    was *w = arg;
    ld_tensor_drop(w->x->shadow);
    w->x->shadow = w->shadow;
    w->x->shadow_serial = w->serial;
    w->x->shadow_version = w->version;
    ld_tensor_drop(w->x);
    free(w);
}

/* What happens to x's shadow from here on is put back at the end of a plan. */
static int plan(ld_tensor *x) {
    if (!ld_planning_on(x->storage->device) || ld_plan_remembers(&x->shadow))
        return 0;
    was *w = malloc(sizeof *w);
    if (!w || ld_plan_undo(&x->shadow, put_back, w)) {
        free(w);
        return ld_fail(LD_EMEM, "plan: out of host memory");
    }
    *w = (was){ld_tensor_ref(x), x->shadow, x->shadow_serial, x->shadow_version};
    if (x->shadow)
        ld_tensor_ref(x->shadow);
    return 0;
}

/* ---- made, and made again ---------------------------------------------------------------------------------------------- */

/* A shadow nobody else looks at, of dtype t, on x's device. One that is part of a plan's undo counts as seen by others, which
 * is all right: nothing is written while planning. */
static bool reusable(const ld_tensor *x, ld_dtype t) {
    const ld_tensor *s = x->shadow;
    bool alone = s && (ld_planning_on(x->storage->device) || (s->refs == 1 && s->storage->refs == 1));
    return alone && s->dtype == t && s->storage->device == x->storage->device;
}

ld_tensor *ld_tensor_narrow(ld_tensor *x, ld_dtype t, const char *who) {
    if (x->dtype == t)
        return ld_tensor_ref(x);
    bool kept = !x->node && x->dtype == LD_F32 && (t == LD_BF16 || t == LD_F16) && !x->storage->exposed;
    if (!kept)
        return ld_tensor_to(x, t, x->storage->device, who);
    if (current(x, t))
        return ld_tensor_ref(x->shadow);
    if (plan(x))
        return NULL;
    if (!reusable(x, t)) {
        ld_tensor *s = ld_tensor_new(x->storage->device, t, x->ndim, x->shape, who);
        if (!s)
            return NULL;
        ld_tensor_drop(x->shadow);
        x->shadow = s;
    }
    x->shadow_serial = 0; /* of nothing, should the copy fail */
    if (x->storage->device->backend->copy(LD_VIEW(x->shadow), LD_VIEW(x)))
        return NULL;
    ld_tensor_touch(x->shadow);
    mark(x);
    return ld_tensor_ref(x->shadow);
}

void *ld_tensor_shadow_data(ld_tensor *x, ld_dtype t) {
    return current(x, t) && ld_tensor_is_canonical(x) ? ld_tensor_data(x->shadow) : NULL;
}

void ld_tensor_shadow_written(ld_tensor *x) {
    if (ld_planning_on(x->storage->device))
        return;
    ld_tensor_touch(x->shadow);
    mark(x);
}

void ld_tensor_drop_shadow(ld_tensor *x) {
    ld_tensor_drop(x->shadow);
    x->shadow = NULL;
}
