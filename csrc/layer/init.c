#include "base/error.h"
#include "base/rng.h"
#include "layer/layer.h"

#include <math.h>

static int check(const char *op, const ld_tensor *x) {
    if (x->node)
        return ld_fail(LD_ESTATE, "%s: %s is the result of an operation; only leaves are initialised", op,
                       ld_tensor_text(x));
    if (!ld_dtype_is_float(x->dtype))
        return ld_fail(LD_EDTYPE, "%s: %s; random values need a float dtype", op, ld_tensor_text(x));
    return 0;
}

static int touched(ld_tensor *x, int bad) {
    if (!bad)
        ld_tensor_touch(x);
    return bad;
}

int ld_init_constant_(ld_tensor *x, double value) {
    if (x->node)
        return check("init.constant", x);
    return touched(x, x->storage->device->backend->fill(LD_VIEW(x), value));
}

int ld_init_zeros_(ld_tensor *x) {
    return ld_init_constant_(x, 0);
}

int ld_init_uniform_(ld_tensor *x, double lo, double hi) {
    int bad = check("init.uniform", x);
    if (!bad && !(lo <= hi))
        bad = ld_fail(LD_EVALUE, "init.uniform: from %g to %g; the first must not be above the second", lo, hi);
    if (bad)
        return bad;
    const ld_backend *b = x->storage->device->backend;
    return touched(x, b->uniform(LD_VIEW(x), lo, hi, ld_random.seed, LD_RNG_INIT, ld_random.draws++, false, NULL));
}

static int normal(const char *op, ld_tensor *x, double mean, double std) {
    int bad = check(op, x);
    if (!bad && !(std >= 0))
        bad = ld_fail(LD_EVALUE, "%s: standard deviation %g; it must not be negative", op, std);
    if (bad)
        return bad;
    const ld_backend *b = x->storage->device->backend;
    return touched(x, b->normal(LD_VIEW(x), mean, std, ld_random.seed, LD_RNG_INIT, ld_random.draws++, false, NULL));
}

int ld_init_normal_(ld_tensor *x, double mean, double std) {
    return normal("init.normal", x, mean, std);
}

int ld_init_kaiming_normal_(ld_tensor *x, double a, int64_t fan_in) {
    if (fan_in == 0) {
        if (x->ndim < 2)
            return ld_fail(LD_ESHAPE, "init.kaiming_normal: %s; without a fan_in it needs 2 dimensions or more",
                           ld_tensor_text(x));
        fan_in = 1;
        for (int i = 1; i < x->ndim; i++)
            fan_in *= x->shape[i];
    }
    if (fan_in < 1)
        return ld_fail(LD_EVALUE, "init.kaiming_normal: fan_in %lld; it must be at least 1", (long long)fan_in);
    return normal("init.kaiming_normal", x, 0, sqrt(2 / ((1 + a * a) * (double)fan_in)));
}
