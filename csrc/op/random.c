/* Random tensors and dropout, from the global generator or keyed by sample. */
#include "base/error.h"
#include "base/rng.h"
#include "op/check.h"

/* The next sample number of the global generator. */
static uint64_t draw(void) {
    return ld_random.draws++;
}

static int check_float(const char *op, ld_dtype t) {
    if (!ld_dtype_is_float(t))
        return ld_fail(LD_EDTYPE, "%s: %s; a float dtype is needed", op, ld_dtype_names[t]);
    return 0;
}

ld_tensor *ld_rand(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, double lo, double hi) {
    ld_tensor *x = check_float("rand", t) ? NULL : ld_tensor_new(d, t, ndim, shape, "rand");
    return x ? ld_result(x, d->backend->uniform(LD_VIEW(x), lo, hi, ld_random.seed, LD_RNG_DEFAULT, draw(), false))
             : NULL;
}

ld_tensor *ld_randn(ld_device *d, ld_dtype t, int ndim, const int64_t *shape) {
    ld_tensor *x = check_float("randn", t) ? NULL : ld_tensor_new(d, t, ndim, shape, "randn");
    return x ? ld_result(x, d->backend->normal(LD_VIEW(x), 0, 1, ld_random.seed, LD_RNG_DEFAULT, draw(), false)) : NULL;
}

ld_tensor *ld_noise(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, uint64_t seed, uint32_t purpose,
                    uint64_t first) {
    if (check_float("noise", t))
        return NULL;
    if (ndim == 0)
        return ld_fail_null(LD_ESHAPE, "noise: rows of samples are needed; the shape has no dimensions");
    ld_tensor *x = ld_tensor_new(d, t, ndim, shape, "noise");
    return x ? ld_result(x, d->backend->normal(LD_VIEW(x), 0, 1, seed, purpose, first, true)) : NULL;
}

ld_tensor *ld_noise_uniform(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, uint64_t seed, uint32_t purpose,
                            uint64_t first) {
    if (check_float("noise", t))
        return NULL;
    if (ndim == 0)
        return ld_fail_null(LD_ESHAPE, "noise: rows of samples are needed; the shape has no dimensions");
    ld_tensor *x = ld_tensor_new(d, t, ndim, shape, "noise");
    return x ? ld_result(x, d->backend->uniform(LD_VIEW(x), 0, 1, seed, purpose, first, true)) : NULL;
}

static int fill_random(const char *op, ld_tensor *x, double a, double b, bool normal) {
    int bad = ld_check_devices(op, &x, 1);
    if (!bad)
        bad = check_float(op, x->dtype);
    if (!bad)
        bad = ld_check_change(op, x, NULL, 0);
    if (!bad)
        bad = (normal ? LD_BACKEND(x)->normal : LD_BACKEND(x)->uniform)(LD_VIEW(x), a, b, ld_random.seed,
                                                                        LD_RNG_DEFAULT, draw(), false);
    if (!bad)
        ld_tensor_touch(x);
    return bad;
}

int ld_uniform_(ld_tensor *x, double lo, double hi) {
    return fill_random("uniform_", x, lo, hi, false);
}

int ld_normal_(ld_tensor *x, double mean, double std) {
    return fill_random("normal_", x, mean, std, true);
}

/* ---- dropout -------------------------------------------------------------------------------------------------------- */

typedef struct dropout_attr {
    double p;
    uint64_t seed, sample;
} dropout_attr;

/* The same numbers again: the mask is never stored. */
static int dropout_backward(ld_node *n, ld_tensor *g) {
    const dropout_attr *t = ld_node_attr(n);
    ld_tensor *dx = ld_tensor_like(g, "dropout");
    if (dx)
        dx = ld_result(dx, LD_BACKEND(g)->dropout(LD_VIEW(dx), LD_VIEW(g), t->p, t->seed, t->sample));
    return ld_node_give(n, 0, dx);
}

ld_tensor *ld_dropout(ld_tensor *x, double p, bool training) {
    if (ld_check_devices("dropout", &x, 1) || check_float("dropout", x->dtype))
        return NULL;
    if (!(p >= 0 && p < 1))
        return ld_fail_null(LD_EVALUE, "dropout: the probability is %g; 0 <= p < 1 is needed", p);
    if (p == 0 || !training)
        return ld_tensor_ref(x);
    dropout_attr t = {p, ld_random.seed, draw()};
    ld_tensor *y = ld_tensor_like(x, "dropout");
    if (y)
        y = ld_result(y, LD_BACKEND(x)->dropout(LD_VIEW(y), LD_VIEW(x), p, t.seed, t.sample));
    return ld_record(y, "dropout", dropout_backward, &x, 1, NULL, 0, &t, sizeof t);
}
