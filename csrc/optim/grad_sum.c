#define _GNU_SOURCE /* qsort_r */

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
    bool watching;         /* the last own piece is on top of the stack, and its items come one by one */
    bool *settled;         /* those that have come */
    int *order;            /* parameters by their address */
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

static int by_address(const void *a, const void *b, void *arg) {
    ld_tensor *const *item = arg;
    const ld_tensor *x = item[*(const int *)a], *y = item[*(const int *)b];
    return x < y ? -1 : x > y;
}

ld_grad_sum *ld_grad_sum_new(ld_tensor *const *params, int n, ld_tensor *const *buffers, int n_buffers,
                             ld_sum_how how) {
    ld_grad_sum *s = calloc(1, sizeof *s);
    size_t most = (size_t)n + (size_t)n_buffers + 1;
    if (s) {
        s->item = calloc(most, sizeof *s->item);
        s->before = calloc(most, sizeof *s->before);
        s->settled = calloc(most, sizeof *s->settled);
        s->order = calloc(most, sizeof *s->order);
    }
    if (!s || !s->item || !s->before || !s->settled || !s->order) {
        ld_grad_sum_drop(s);
        return ld_fail_null(LD_EMEM, WHO ": out of host memory");
    }
    for (int i = 0; i < n; i++)
        s->item[s->n++] = ld_tensor_ref(params[i]);
    s->n_params = n;
    for (int i = 0; i < n; i++)
        s->order[i] = i;
    qsort_r(s->order, (size_t)n, sizeof *s->order, by_address, s->item);
    for (int i = 0; i < n_buffers; i++)
        if (summed(buffers[i]))
            s->item[s->n++] = ld_tensor_ref(buffers[i]);
    s->n_all = s->n;
    for (int i = 0; i < n_buffers; i++)
        if (!summed(buffers[i]))
            s->item[s->n_all++] = ld_tensor_ref(buffers[i]);
    if (ld_comm_ranks() > 1 && !(s->exchange = ld_exchange_new(s->item, s->n, s->n_params, how))) {
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
    free(s->settled);
    free(s->order);
    free(s);
}

const char *ld_grad_sum_text(const ld_grad_sum *s) {
    return s->exchange ? ld_exchange_text(s->exchange) : "";
}

int ld_grad_sum_begin(ld_grad_sum *s, int pieces) {
    if (pieces < 1 || pieces > 1 << (LD_SUM_DEPTH - 1))
        return ld_fail(LD_EVALUE, WHO ": %d pieces; from 1 to %d can be", pieces, 1 << (LD_SUM_DEPTH - 1));
    clear(s);
    s->pieces = pieces;
    s->watching = false;
    memset(s->settled, 0, (size_t)s->n * sizeof *s->settled);
    int bad = !s->exchange    ? 0
              : ld_planning() ? ld_exchange_plan(s->exchange, pieces)
                              : ld_exchange_begin(s->exchange, pieces);
    if (bad)
        return bad;
    ld_sum_own(pieces, ld_comm_rank(), ld_comm_ranks(), &s->next, &s->last);
    for (int i = 0; i < s->n_params; i++)
        ld_tensor_set_grad(s->item[i], NULL);
    for (int i = s->n_params; i < s->n_all && (pieces > 1 || s->exchange); i++)
        if (!(s->before[i] = ld_tensor_clone(s->item[i], WHO)))
            return ld_error_code();
    return 0;
}

/* ---- one piece ------------------------------------------------------------------------------------------------------- */

/* Item i of a piece, owned, canonical and of the item's dtype; NULL with *bad 0 for a parameter without a gradient. A buffer goes
 * back to what it was. */
static ld_tensor *take_item(ld_grad_sum *s, int i, double weight, int *bad) {
    ld_tensor *x = s->item[i], *y;
    *bad = 0;
    if (i < s->n_params) {
        if (!x->grad)
            return NULL;
        y = x->grad->dtype == x->dtype ? ld_tensor_canonical(x->grad, WHO)
                                       : ld_tensor_to(x->grad, x->dtype, x->storage->device, WHO);
        *bad = y ? ld_tensor_set_grad(x, NULL) : ld_error_code();
        return y;
    }
    y = ld_tensor_clone(x, WHO);
    *bad = y ? x->storage->device->backend->unary(LD_VIEW(y), LD_VIEW(y), LD_AFFINE, weight, 0) : ld_error_code();
    if (!*bad)
        *bad = ld_tensor_assign(x, s->before[i], WHO);
    ld_tensor_touch(x);
    return y;
}

static int push_piece(ld_grad_sum *s) {
    node v = {.at = {.level = 0, .index = s->next}, .x = calloc((size_t)s->n + 1, sizeof *v.x)};
    if (!v.x)
        return ld_fail(LD_EMEM, WHO ": out of host memory");
    s->stack[s->depth++] = v;
    return 0;
}

/* left += right, where both are there. */
static int merge_item(node *left, node *right, int i) {
    ld_tensor *r = right->x[i];
    if (!r)
        return 0;
    right->x[i] = NULL;
    if (!left->x[i]) {
        left->x[i] = r;
        return 0;
    }
    int bad = r->storage->device->backend->axpby(LD_VIEW(left->x[i]), LD_VIEW(r), 1, 1);
    ld_tensor_drop(r);
    return bad;
}

/* How many nodes of the stack remain when the last one is merged with its left neighbours as far as they belong together. */
static int merged_depth(const ld_grad_sum *s, ld_sum_node *top) {
    int d = s->depth;
    *top = s->stack[d - 1].at;
    while (d > 1 && ld_sum_siblings(s->stack[d - 2].at, *top)) {
        d--;
        *top = (ld_sum_node){top->level + 1, top->index / 2};
    }
    return d;
}

/* The same for one item's numbers, which are on their way then where there are other ranks and this is the last piece. */
static int settle_item(ld_grad_sum *s, int i) {
    ld_sum_node top;
    ld_tensor *x[2 * LD_SUM_DEPTH];
    int bad = 0, depth = merged_depth(s, &top);
    for (int d = s->depth - 1; d >= depth && !bad; d--)
        bad = merge_item(&s->stack[d - 1], &s->stack[d], i);
    for (int d = 0; d < depth; d++)
        x[d] = s->stack[d].x[i];
    bool last = s->exchange && s->next == s->last - 1 && !ld_planning();
    if (bad || !last)
        return bad;
    bad = ld_exchange_give(s->exchange, i, depth, x);
    for (int d = 0; d < depth; d++) { /* the exchange has them */
        ld_tensor_drop(x[d]);
        s->stack[d].x[i] = NULL;
    }
    return bad;
}

static int position(const ld_grad_sum *s, const ld_tensor *x) {
    int low = 0, high = s->n_params - 1;
    while (low <= high) {
        int mid = (low + high) / 2;
        if (s->item[s->order[mid]] == x)
            return s->order[mid];
        if (s->item[s->order[mid]] < x)
            low = mid + 1;
        else
            high = mid - 1;
    }
    return -1;
}

static int leaf_done(ld_tensor *leaf, void *arg) {
    ld_grad_sum *s = arg;
    int bad, i = position(s, leaf);
    if (i < 0 || s->settled[i])
        return 0;
    s->settled[i] = true;
    s->stack[s->depth - 1].x[i] = take_item(s, i, 1, &bad);
    return bad ? bad : settle_item(s, i);
}

void ld_grad_sum_watch(ld_grad_sum *s) {
    s->watching = s->exchange && s->next == s->last - 1 && !ld_planning() && !push_piece(s);
    if (s->watching)
        ld_backward_on_leaf(leaf_done, s);
}

int ld_grad_sum_add(ld_grad_sum *s, double weight) {
    ld_backward_on_leaf(NULL, NULL); /* a loss that was not finite has had no backward */
    if (s->next >= s->last)
        return ld_fail(LD_ESTATE, WHO ": this rank's pieces are all there");
    if (s->pieces == 1 && !s->exchange) { /* everything is where it belongs */
        s->next++;
        return 0;
    }
    int bad = s->watching ? 0 : push_piece(s);
    for (int i = s->n - 1; i >= 0 && !bad; i--) {
        if (s->watching && s->settled[i])
            continue;
        s->stack[s->depth - 1].x[i] = take_item(s, i, weight, &bad);
        bad = bad ? bad : settle_item(s, i);
    }
    if (bad)
        return bad;
    for (int i = s->n; i < s->n_all && s->next < s->last - 1; i++) /* the last piece counts for all */
        if (ld_tensor_assign(s->item[i], s->before[i], WHO))
            return ld_error_code();
    ld_sum_node top;
    int depth = merged_depth(s, &top);
    while (s->depth > depth)
        drop_node(s, &s->stack[--s->depth]);
    s->stack[depth - 1].at = top;
    s->next++;
    return 0;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------- */

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
        bad = ld_exchange_finish(s->exchange);
        for (int i = s->n; i < s->n_all && !bad; i++)
            bad = ld_exchange_first(s->item[i]);
    } else {
        for (; s->depth > 1 && !bad; s->depth--) {
            node *right = &s->stack[s->depth - 1];
            for (int i = 0; i < s->n && !bad; i++)
                bad = merge_item(&s->stack[s->depth - 2], right, i);
            drop_node(s, right);
        }
        bad = bad || !s->depth ? bad : give(s, &s->stack[0]);
    }
    if (s->exchange)
        ld_exchange_planned(s->exchange);
    clear(s);
    return bad;
}
