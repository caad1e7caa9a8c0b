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

/* ---- new tensors ---------------------------------------------------------------------------------------------------- */

/* How a tensor is filled: see the slots uniform and normal. */
typedef struct source {
    bool normal, by_row;
    double a, b;
    uint64_t seed, sample;
    uint32_t purpose;
} source;

static int fill(ld_tensor *x, const source *s) {
    const ld_backend *be = LD_BACKEND(x);
    return (s->normal ? be->normal : be->uniform)(LD_VIEW(x), s->a, s->b, s->seed, s->purpose, s->sample, s->by_row,
                                                  NULL);
}

static ld_tensor *new_random(const char *op, ld_device *d, ld_dtype t, int ndim, const int64_t *shape, source s) {
    if (ld_interrupted() || check_float(op, t))
        return NULL;
    if (s.by_row && ndim == 0)
        return ld_fail_null(LD_ESHAPE, "%s: the shape has no dimensions; the first counts the samples", op);
    ld_tensor *x = ld_tensor_new(d, t, ndim, shape, op);
    if (x && !s.by_row)
        s.sample = draw();
    return x ? ld_result(x, fill(x, &s)) : NULL;
}

ld_tensor *ld_rand(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, double lo, double hi) {
    source s = {.a = lo, .b = hi, .seed = ld_random.seed, .purpose = LD_RNG_DEFAULT};
    return new_random("rand", d, t, ndim, shape, s);
}

ld_tensor *ld_randn(ld_device *d, ld_dtype t, int ndim, const int64_t *shape) {
    source s = {.normal = true, .b = 1, .seed = ld_random.seed, .purpose = LD_RNG_DEFAULT};
    return new_random("randn", d, t, ndim, shape, s);
}

ld_tensor *ld_noise(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, uint64_t seed, uint32_t purpose,
                    uint64_t first) {
    source s = {.normal = true, .by_row = true, .b = 1, .seed = seed, .purpose = purpose, .sample = first};
    return new_random("noise", d, t, ndim, shape, s);
}

ld_tensor *ld_noise_uniform(ld_device *d, ld_dtype t, int ndim, const int64_t *shape, uint64_t seed, uint32_t purpose,
                            uint64_t first) {
    source s = {.by_row = true, .b = 1, .seed = seed, .purpose = purpose, .sample = first};
    return new_random("noise", d, t, ndim, shape, s);
}

/* ---- in place ------------------------------------------------------------------------------------------------------- */

static int fill_random(const char *op, ld_tensor *x, double a, double b, bool normal) {
    int bad = ld_check_devices(op, &x, 1);
    if (!bad)
        bad = check_float(op, x->dtype);
    if (!bad)
        bad = ld_check_change(op, x, NULL, 0);
    if (bad)
        return bad;
    source s = {.normal = normal, .a = a, .b = b, .seed = ld_random.seed, .sample = draw(), .purpose = LD_RNG_DEFAULT};
    bad = fill(x, &s);
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
        dx = ld_result(dx, LD_BACKEND(g)->dropout(LD_VIEW(dx), LD_VIEW(g), t->p, t->seed, t->sample, NULL));
    return ld_node_give(n, 0, dx);
}

ld_tensor *ld_dropout(ld_tensor *x, double p, bool training) {
    if (ld_check_devices("dropout", &x, 1) || check_float("dropout", x->dtype))
        return NULL;
    if (!(p >= 0 && p < 1))
        return ld_fail_null(LD_EVALUE, "dropout: the probability is %g; 0 <= p < 1 is needed", p);
    if (p == 0 || !training)
        return ld_tensor_ref(x);
    ld_tensor *y = ld_tensor_like(x, "dropout");
    if (!y)
        return NULL;
    dropout_attr t = {p, ld_random.seed, draw()};
    y = ld_result(y, LD_BACKEND(x)->dropout(LD_VIEW(y), LD_VIEW(x), p, t.seed, t.sample, NULL));
    return ld_record(y, "dropout", dropout_backward, &x, 1, NULL, 0, &t, sizeof t);
}
