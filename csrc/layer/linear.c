/* Linear and embedding: a table of weights times, or looked up by, the input. */
#include "base/error.h"
#include "layer/part.h"

#include <math.h>
#include <stdio.h>

static ld_tensor *linear_forward(ld_layer *l, ld_tensor *x) {
    return ld_linear(x, l->param[0].x, l->opt.linear.bias ? l->param[1].x : NULL);
}

static int linear_describe(const ld_layer *l, char *s, size_t n) {
    const ld_linear_options *o = &l->opt.linear;
    return snprintf(s, n, "%lld, %lld%s", (long long)o->in, (long long)o->out, o->bias ? "" : ", no bias");
}

ld_layer *ld_layer_linear(ld_device *d, ld_dtype t, const ld_linear_options *o) {
    static const ld_layer_type type = {"linear", linear_forward, linear_describe, true};
    if (o->in < 1 || o->out < 1)
        return ld_fail_null(LD_EVALUE, "linear: %lld features in, %lld out; both must be at least 1", (long long)o->in,
                            (long long)o->out);
    if (ld_layer_check_dtype("linear", t))
        return NULL;
    ld_layer *l = ld_layer_new(&type);
    if (!l)
        return NULL;
    l->opt.linear = *o;
    double bound = 1 / sqrt((double)o->in);
    int bad = ld_layer_add_param(l, "weight", d, t, 2, (int64_t[]){o->out, o->in}, LD_FILL_UNIFORM, bound);
    if (!bad && o->bias)
        bad = ld_layer_add_param(l, "bias", d, t, 1, &o->out, LD_FILL_UNIFORM, bound);
    return ld_layer_made(l, bad);
}

static ld_tensor *embedding_forward(ld_layer *l, ld_tensor *x) {
    return ld_gather(l->param[0].x, x);
}

static int embedding_describe(const ld_layer *l, char *s, size_t n) {
    const ld_embedding_options *o = &l->opt.embedding;
    return snprintf(s, n, "%lld, %lld", (long long)o->num, (long long)o->dim);
}

ld_layer *ld_layer_embedding(ld_device *d, ld_dtype t, const ld_embedding_options *o) {
    static const ld_layer_type type = {"embedding", embedding_forward, embedding_describe, false};
    if (o->num < 1 || o->dim < 1)
        return ld_fail_null(LD_EVALUE, "embedding: %lld rows of %lld; both must be at least 1", (long long)o->num,
                            (long long)o->dim);
    if (ld_layer_check_dtype("embedding", t))
        return NULL;
    ld_layer *l = ld_layer_new(&type);
    if (!l)
        return NULL;
    l->opt.embedding = *o;
    int64_t shape[2] = {o->num, o->dim};
    return ld_layer_made(l, ld_layer_add_param(l, "weight", d, t, 2, shape, LD_FILL_NORMAL, 1));
}
