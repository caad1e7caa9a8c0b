/* Softmax and attention. */
#include "base/error.h"
#include "op/inner.h"

#include <math.h>

/* ---- softmax -------------------------------------------------------------------------------------------------------- */

static ld_view rows_view(const ld_tensor *block, int64_t k) {
    return ld_dense(block, 2, (int64_t[]){k ? ld_tensor_numel(block) / k : 0, k});
}

static int softmax_backward(ld_node *n, ld_tensor *g) {
    int dim = *(const int *)ld_node_attr(n);
    ld_tensor *y = ld_node_saved(n, 0), *dx = NULL;
    ld_tensor *block_g = y ? ld_inner_block(g, dim, "softmax") : NULL;
    ld_tensor *block_y = block_g ? ld_inner_block(y, dim, "softmax") : NULL;
    if (block_y && (dx = ld_inner_room(g, dim, "softmax"))) {
        int64_t k = g->shape[dim];
        ld_view vd = rows_view(dx, k), vg = rows_view(block_g, k), vy = rows_view(block_y, k);
        dx = ld_result(dx, LD_BACKEND(g)->softmax_bwd(&vd, &vg, &vy));
        dx = ld_inner_back(dx, dim, g->ndim, g->shape, "softmax");
    }
    ld_tensor_drop(block_g);
    ld_tensor_drop(block_y);
    return ld_node_give(n, 0, dx);
}

ld_tensor *ld_softmax(ld_tensor *x, int dim) {
    if (ld_check_compute("softmax", &x, 1) || (dim = ld_check_dim("softmax", dim, x)) < 0)
        return NULL;
    ld_tensor *block = ld_inner_block(x, dim, "softmax"), *y = block ? ld_inner_room(x, dim, "softmax") : NULL;
    if (y) {
        ld_view vy = rows_view(y, x->shape[dim]), vx = rows_view(block, x->shape[dim]);
        y = ld_result(y, LD_BACKEND(x)->softmax(&vy, &vx));
        y = ld_inner_back(y, dim, x->ndim, x->shape, "softmax");
    }
    ld_tensor_drop(block);
    return ld_record(y, "softmax", softmax_backward, &x, 1, &y, 1, &dim, sizeof dim);
}

/* ---- attention ------------------------------------------------------------------------------------------------------ */

/* Head views (N,heads,T,d) of a row-major (N,T,width) tensor: head j starts `at` + j * step columns in. */
static ld_view heads_view(const ld_tensor *x, int heads, int64_t d, int64_t at, int64_t step) {
    ld_view v = {.dtype = x->dtype, .ndim = 4};
    v.data = (char *)ld_tensor_data(x) + (size_t)at * ld_dtype_size(x->dtype);
    v.shape[0] = x->shape[0];
    v.shape[1] = heads;
    v.shape[2] = x->shape[1];
    v.shape[3] = d;
    v.stride[0] = x->shape[1] * x->shape[2];
    v.stride[1] = step;
    v.stride[2] = x->shape[2];
    v.stride[3] = 1;
    return v;
}

typedef struct attention_attr {
    int heads;
} attention_attr;

static int check_heads(const char *op, const ld_tensor *x, int64_t channels, int heads) {
    if (heads < 1 || channels % heads || channels == 0)
        return ld_fail(LD_ESHAPE, "%s: %d heads do not divide the %lld channels of %s", op, heads, (long long)channels,
                       ld_tensor_text(x));
    return 0;
}

static int packed_backward(ld_node *n, ld_tensor *g) {
    static const char op[] = "attention_packed";
    const attention_attr *t = ld_node_attr(n);
    ld_tensor *qkv = ld_node_saved(n, 0), *y = qkv ? ld_node_saved(n, 1) : NULL, *lse = y ? ld_node_saved(n, 2) : NULL;
    ld_tensor *cg = lse ? ld_tensor_canonical(g, op) : NULL, *dx = cg ? ld_tensor_like(qkv, op) : NULL;
    if (dx) {
        int64_t d = y->shape[2] / t->heads;
        ld_view part[3], grad[3];
        for (int i = 0; i < 3; i++) {
            part[i] = heads_view(qkv, t->heads, d, i * d, 3 * d);
            grad[i] = heads_view(dx, t->heads, d, i * d, 3 * d);
        }
        ld_view vg = heads_view(cg, t->heads, d, 0, d), vy = heads_view(y, t->heads, d, 0, d);
        dx = ld_result(dx, LD_BACKEND(g)->attention_bwd(&grad[0], &grad[1], &grad[2], &vg, &part[0], &part[1], &part[2],
                                                        &vy, LD_VIEW(lse), 1 / sqrt((double)d)));
    }
    ld_tensor_drop(cg);
    return ld_node_give(n, 0, dx);
}

/* lse is kept in three dimensions, so that its layout is row-major. */
static ld_tensor *new_lse(ld_tensor *x, int heads, const char *op) {
    ld_dtype t = ld_dtype_is_half(x->dtype) ? LD_F32 : x->dtype;
    return ld_tensor_new(x->storage->device, t, 3, (int64_t[]){x->shape[0], heads, x->shape[1]}, op);
}

ld_tensor *ld_attention_packed(ld_tensor *qkv, int heads) {
    static const char op[] = "attention_packed";
    if (ld_check_compute(op, &qkv, 1) || ld_check_rank(op, "qkv", qkv, 3))
        return NULL;
    int64_t c = qkv->shape[2] / 3;
    if (qkv->shape[2] % 3)
        return ld_fail_null(LD_ESHAPE, "%s: %s; its last size must divide by 3", op, ld_tensor_text(qkv));
    if (check_heads(op, qkv, c, heads))
        return NULL;
    ld_tensor *x = ld_tensor_canonical(qkv, op), *lse = x ? new_lse(x, heads, op) : NULL;
    ld_tensor *y =
        lse ? ld_tensor_new(x->storage->device, x->dtype, 3, (int64_t[]){x->shape[0], x->shape[1], c}, op) : NULL;
    if (y) {
        int64_t d = c / heads;
        ld_view q = heads_view(x, heads, d, 0, 3 * d), k = heads_view(x, heads, d, d, 3 * d);
        ld_view v = heads_view(x, heads, d, 2 * d, 3 * d), vy = heads_view(y, heads, d, 0, d);
        y = ld_result(y, LD_BACKEND(x)->attention(&vy, LD_VIEW(lse), &q, &k, &v, 1 / sqrt((double)d)));
    }
    attention_attr t = {heads};
    y = ld_record(y, op, packed_backward, &qkv, 1, (ld_tensor *[]){x, y, lse}, 3, &t, sizeof t);
    ld_tensor_drop(x);
    ld_tensor_drop(lse);
    return y;
}

static int attention_backward(ld_node *n, ld_tensor *g) {
    static const char op[] = "attention";
    const attention_attr *t = ld_node_attr(n);
    ld_tensor *s[5], *d[3] = {NULL, NULL, NULL}; /* q, k, v, y, lse */
    for (int i = 0; i < 5; i++)
        if (!(s[i] = ld_node_saved(n, i)))
            return ld_error_code();
    ld_tensor *cg = ld_tensor_canonical(g, op);
    int bad = cg ? 0 : ld_error_code();
    for (int i = 0; i < 3 && !bad; i++)
        bad = (d[i] = ld_tensor_like(s[i], op)) ? 0 : ld_error_code();
    if (!bad) {
        int64_t w = g->shape[2] / t->heads;
        ld_view in[4], grad[3], vg = heads_view(cg, t->heads, w, 0, w);
        for (int i = 0; i < 4; i++)
            in[i] = heads_view(s[i], t->heads, w, 0, w);
        for (int i = 0; i < 3; i++)
            grad[i] = heads_view(d[i], t->heads, w, 0, w);
        bad = LD_BACKEND(g)->attention_bwd(&grad[0], &grad[1], &grad[2], &vg, &in[0], &in[1], &in[2], &in[3],
                                           LD_VIEW(s[4]), 1 / sqrt((double)w));
    }
    ld_tensor_drop(cg);
    for (int i = 0; i < 3; i++) {
        if (bad || !ld_node_needs(n, i))
            ld_tensor_drop(d[i]);
        else
            bad = ld_node_give(n, i, d[i]);
    }
    return bad;
}

ld_tensor *ld_attention(ld_tensor *q, ld_tensor *k, ld_tensor *v, int heads) {
    static const char op[] = "attention";
    ld_tensor *in[3] = {q, k, v}, *dense[3] = {NULL, NULL, NULL};
    if (ld_check_compute(op, in, 3))
        return NULL;
    for (int i = 0; i < 3; i++)
        if (ld_check_rank(op, i == 0 ? "q" : i == 1 ? "k" : "v", in[i], 3))
            return NULL;
    if (k->shape[0] != q->shape[0] || k->shape[2] != q->shape[2] || !ld_tensor_same_shape(k, v))
        return ld_fail_null(LD_ESHAPE, "%s: q %s, k %s, v %s do not fit: (N,T,C), (N,S,C), (N,S,C) is needed", op,
                            ld_tensor_text(q), ld_tensor_text(k), ld_tensor_text(v));
    if (k->shape[1] == 0)
        return ld_fail_null(LD_ESHAPE, "%s: k %s has no positions to attend to", op, ld_tensor_text(k));
    if (check_heads(op, q, q->shape[2], heads))
        return NULL;
    bool ok = true;
    for (int i = 0; i < 3 && ok; i++)
        ok = (dense[i] = ld_tensor_canonical(in[i], op)) != NULL;
    ld_tensor *lse = ok ? new_lse(dense[0], heads, op) : NULL, *y = lse ? ld_tensor_like(dense[0], op) : NULL;
    if (y) {
        int64_t d = q->shape[2] / heads;
        ld_view vq = heads_view(dense[0], heads, d, 0, d), vk = heads_view(dense[1], heads, d, 0, d);
        ld_view vv = heads_view(dense[2], heads, d, 0, d), vy = heads_view(y, heads, d, 0, d);
        y = ld_result(y, LD_BACKEND(q)->attention(&vy, LD_VIEW(lse), &vq, &vk, &vv, 1 / sqrt((double)d)));
    }
    attention_attr t = {heads};
    y = ld_record(y, op, attention_backward, in, 3, (ld_tensor *[]){dense[0], dense[1], dense[2], y, lse}, 5, &t,
                  sizeof t);
    for (int i = 0; i < 3; i++)
        ld_tensor_drop(dense[i]);
    ld_tensor_drop(lse);
    return y;
}
