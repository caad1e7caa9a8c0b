#include "optim/grad_sum.h"

#include "backend/plan.h"
#include "base/error.h"
#include "comm/comm.h"
#include "optim/grad_exchange.h"

#include <stdlib.h>
#include <string.h>

#define WHO "grad_sum"

/* Pieces first to first + 2^level - 1: one tensor an item, NULL for no gradient. */
typedef struct node {
    ld_sum_node at;
    ld_tensor **x;
} node;

struct ld_grad_sum {
    int n, n_params, n_all; /* items that are summed: parameters, then buffers; behind them, buffers of whole numbers */
    ld_tensor **item;
    ld_tensor **before; /* buffers as the batch found them */
    int pieces, next, last;
    node stack[2 * LD_SUM_DEPTH];
    int depth;
    ld_exchange *exchange; /* NULL for a single rank */
};

static void drop_node(ld_grad_sum *s, node *v) {
    for (int i = 0; v->x && i < s->n; i++)
        ld_tensor_drop(v->x[i]);
    free(v->x);
    v->x = NULL;
}

static void clear(ld_grad_sum *s) {
    while (s->depth)
        drop_node(s, &s->stack[--s->depth]);
    for (int i = s->n_params; i < s->n_all; i++) {
        ld_tensor_drop(s->before[i]);
        s->before[i] = NULL;
    }
}

static bool summed(const ld_tensor *x) {
    return x->dtype == LD_F32 || x->dtype == LD_F64;
}

ld_grad_sum *ld_grad_sum_new(ld_tensor *const *params, int n, ld_tensor *const *buffers, int n_buffers) {
    ld_grad_sum *s = calloc(1, sizeof *s);
    size_t most = (size_t)n + (size_t)n_buffers + 1;
    if (s) {
        s->item = calloc(most, sizeof *s->item);
        s->before = calloc(most, sizeof *s->before);
    }
    if (!s || !s->item || !s->before) {
        ld_grad_sum_drop(s);
        return ld_fail_null(LD_EMEM, WHO ": out of host memory");
    }
    for (int i = 0; i < n; i++)
        s->item[s->n++] = ld_tensor_ref(params[i]);
    s->n_params = n;
    for (int i = 0; i < n_buffers; i++)
        if (summed(buffers[i]))
            s->item[s->n++] = ld_tensor_ref(buffers[i]);
    s->n_all = s->n;
    for (int i = 0; i < n_buffers; i++)
        if (!summed(buffers[i]))
            s->item[s->n_all++] = ld_tensor_ref(buffers[i]);
    if (ld_comm_ranks() > 1 && !(s->exchange = ld_exchange_new(s->item, s->n))) {
        ld_grad_sum_drop(s);
        return NULL;
    }
    return s;
}

void ld_grad_sum_drop(ld_grad_sum *s) {
    if (!s)
        return;
    if (s->item && s->before)
        clear(s);
    ld_exchange_drop(s->exchange);
    for (int i = 0; i < s->n_all; i++)
        ld_tensor_drop(s->item[i]);
    free(s->item);
    free(s->before);
    free(s);
}

int ld_grad_sum_begin(ld_grad_sum *s, int pieces) {
    if (pieces < 1 || pieces > 1 << (LD_SUM_DEPTH - 1))
        return ld_fail(LD_EVALUE, WHO ": %d pieces; from 1 to %d can be", pieces, 1 << (LD_SUM_DEPTH - 1));
    clear(s);
    s->pieces = pieces;
    ld_sum_own(pieces, ld_comm_rank(), ld_comm_ranks(), &s->next, &s->last);
    for (int i = 0; i < s->n_params; i++)
        ld_tensor_set_grad(s->item[i], NULL);
    for (int i = s->n_params; i < s->n_all && (pieces > 1 || s->exchange); i++)
        if (!(s->before[i] = ld_tensor_clone(s->item[i], WHO)))
            return ld_error_code();
    return 0;
}

/* Item i of a piece: owned. The buffer goes back to what it was. */
static ld_tensor *take_buffer(ld_grad_sum *s, int i, double weight) {
    ld_tensor *x = s->item[i], *y = ld_tensor_clone(x, WHO);
    const ld_backend *b = x->storage->device->backend;
    if (y && (b->unary(LD_VIEW(y), LD_VIEW(y), LD_AFFINE, weight, 0) || ld_tensor_assign(x, s->before[i], WHO))) {
        ld_tensor_drop(y);
        return NULL;
    }
    ld_tensor_touch(x);
    return y;
}

static int take_piece(ld_grad_sum *s, node *v, double weight) {
    v->at = (ld_sum_node){.level = 0, .index = s->next};
    v->x = calloc((size_t)s->n + 1, sizeof *v->x);
    if (!v->x)
        return ld_fail(LD_EMEM, WHO ": out of host memory");
    for (int i = 0; i < s->n; i++) {
        ld_tensor *x = s->item[i];
        if (i >= s->n_params) {
            if (!(v->x[i] = take_buffer(s, i, weight)))
                return ld_error_code();
        } else if (x->grad) {
            if (!(v->x[i] = ld_tensor_canonical(x->grad, WHO)))
                return ld_error_code();
            ld_tensor_set_grad(x, NULL);
        }
    }
    for (int i = s->n; i < s->n_all && s->next < s->last - 1; i++) /* the last piece counts for all */
        if (ld_tensor_assign(s->item[i], s->before[i], WHO))
            return ld_error_code();
    return 0;
}

/* left += right, where both are there. */
static int merge(ld_grad_sum *s, node *left, node *right) {
    int bad = 0;
    for (int i = 0; i < s->n && !bad; i++) {
        ld_tensor *r = right->x[i];
        if (r && left->x[i]) {
            bad = r->storage->device->backend->axpby(LD_VIEW(left->x[i]), LD_VIEW(r), 1, 1);
        } else if (r) {
            left->x[i] = r;
            right->x[i] = NULL;
        }
    }
    drop_node(s, right);
    left->at = (ld_sum_node){.level = left->at.level + 1, .index = left->at.index / 2};
    return bad;
}

int ld_grad_sum_add(ld_grad_sum *s, double weight) {
    if (s->next >= s->last)
        return ld_fail(LD_ESTATE, WHO ": this rank's pieces are all there");
    if (s->pieces == 1 && !s->exchange) { /* everything is where it belongs */
        s->next++;
        return 0;
    }
    node v = {.x = NULL};
    int bad = take_piece(s, &v, weight);
    if (bad) {
        drop_node(s, &v);
        return bad;
    }
    s->stack[s->depth++] = v;
    s->next++;
    while (!bad && s->depth > 1 && ld_sum_siblings(s->stack[s->depth - 2].at, s->stack[s->depth - 1].at)) {
        bad = merge(s, &s->stack[s->depth - 2], &s->stack[s->depth - 1]);
        s->depth--;
    }
    return bad;
}

/* The whole tree is one node: it becomes the gradient. */
static int give(ld_grad_sum *s, node *v) {
    for (int i = 0; i < s->n; i++) {
        int bad = 0;
        if (i < s->n_params) {
            bad = ld_tensor_set_grad(s->item[i], v->x[i]);
            v->x[i] = NULL;
        } else if (!(bad = ld_tensor_assign(s->item[i], v->x[i], WHO))) {
            ld_tensor_touch(s->item[i]);
        }
        if (bad)
            return bad;
    }
    return 0;
}

int ld_grad_sum_finish(ld_grad_sum *s) {
    if (s->next != s->last)
        return ld_fail(LD_ESTATE, WHO ": %d pieces of this rank are missing", s->last - s->next);
    if (s->pieces == 1 && !s->exchange)
        return 0;
    int bad = 0;
    if (s->exchange && !ld_planning()) {
        ld_sum_node at[2 * LD_SUM_DEPTH];
        ld_tensor *const *x[2 * LD_SUM_DEPTH];
        for (int k = 0; k < s->depth; k++) {
            at[k] = s->stack[k].at;
            x[k] = s->stack[k].x;
        }
        bad = ld_exchange_run(s->exchange, s->pieces, s->depth, at, x, s->n_params);
        for (int i = s->n; i < s->n_all && !bad; i++)
            bad = ld_exchange_first(s->item[i]);
    } else {
        while (!bad && s->depth > 1) {
            bad = merge(s, &s->stack[s->depth - 2], &s->stack[s->depth - 1]);
            s->depth--;
        }
        bad = bad || !s->depth ? bad : give(s, &s->stack[0]);
    }
    clear(s);
    return bad;
}
