#include "grad/node.h"

#include "backend/profile.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

typedef struct edge {
    ld_node *node;   /* owned, or NULL */
    ld_tensor *leaf; /* owned, or NULL; both NULL: no gradient wanted */
} edge;

typedef struct saved {
    ld_tensor *x;  /* owned */
    ld_node *from; /* owned: what makes x again when it is asked for; NULL: x itself is kept */
    uint32_t version;
} saved;

struct ld_node {
    int refs;
    bool used;    /* backward has run and freed what was saved */
    bool queued;  /* during one backward */
    uint64_t seq; /* order of creation */
    const char *op;
    ld_where where;
    ld_backward_fn backward;
    ld_again_fn again; /* NULL: the result cannot be made again */
    int n_in, n_saved;
    edge *in;
    saved *saved;
    void *attr;
    ld_tensor *grad; /* during one backward; owned */
    ld_node *next;   /* work list of node_release */
    ld_dtype dtype;  /* of the result */
    int ndim;
    int64_t shape[LD_MAX_DIMS];
};

static bool recording = true;
static uint64_t next_seq;

bool ld_set_recording(bool on) {
    bool was = recording;
    recording = on;
    return was;
}

bool ld_recording(void) {
    return recording;
}

bool ld_will_record(ld_tensor *const *in, int n_in) {
    if (recording)
        for (int i = 0; i < n_in; i++)
            if (in[i] && in[i]->requires_grad)
                return true;
    return false;
}

static void free_saved(ld_node *n) {
    for (int i = 0; i < n->n_saved; i++) {
        ld_tensor_drop(n->saved[i].x);
        n->saved[i].x = NULL;
    }
}

/* One reference less to `below`; the last one puts it on the work list. */
static void let_go(ld_node *below, ld_node **work) {
    if (below && --below->refs == 0) {
        below->next = *work;
        *work = below;
    }
}

/* Let nodes go without recursion: long chains would exhaust the stack. Saved tensors are leaves or aliases without
 * history, so dropping them never comes back here; leaves' gradients have none either. */
static void node_release(ld_node *n) {
    ld_node *work = NULL;
    if (--n->refs == 0) {
        n->next = NULL;
        work = n;
    }
    while (work) {
        ld_node *m = work;
        work = m->next;
        for (int i = 0; i < m->n_in; i++) {
            ld_tensor_drop(m->in[i].leaf);
            let_go(m->in[i].node, &work);
        }
        for (int i = 0; i < m->n_saved; i++)
            let_go(m->saved[i].from, &work);
        free_saved(m);
        ld_tensor_drop(m->grad);
        free(m);
    }
}

__attribute__((constructor)) static void install_release(void) {
    ld_node_release = node_release;
}

/* One block: the node, its edges, its saved tensors, its attributes. */
static ld_node *node_new(int n_in, int n_save, const void *attr, size_t attr_bytes) {
    size_t edges = sizeof(ld_node), saves = edges + (size_t)n_in * sizeof(edge);
    size_t attrs = (saves + (size_t)n_save * sizeof(saved) + 15) & ~(size_t)15;
    char *block = calloc(1, attrs + attr_bytes);
    if (!block)
        return ld_fail_null(LD_EMEM, "out of host memory for the tape");
    ld_node *n = (ld_node *)block;
    n->in = (edge *)(block + edges);
    n->saved = (saved *)(block + saves);
    n->attr = block + attrs;
    n->refs = 1;
    n->n_in = n_in;
    n->n_saved = n_save;
    if (attr_bytes)
        memcpy(n->attr, attr, attr_bytes);
    return n;
}

ld_tensor *ld_record(ld_tensor *y, const char *op, ld_backward_fn fn, ld_tensor *const *in, int n_in,
                     ld_tensor *const *save, int n_save, const void *attr, size_t attr_bytes) {
    if (!y || !ld_will_record(in, n_in))
        return y;
    ld_node *n = node_new(n_in, n_save, attr, attr_bytes);
    if (!n)
        return ld_tensor_drop(y), NULL;
    n->op = op;
    n->backward = fn;
    n->seq = ++next_seq;
    n->where = ld_where_now();
    n->dtype = y->dtype;
    n->ndim = y->ndim;
    memcpy(n->shape, y->shape, sizeof n->shape);
    for (int i = 0; i < n_save; i++) {
        if (!save[i])
            continue;
        if (save[i]->node && save[i]->node->again) {
            n->saved[i].from = save[i]->node;
            save[i]->node->refs++;
            continue;
        }
        n->saved[i].x = ld_tensor_alias(save[i]);
        if (!n->saved[i].x) {
            node_release(n);
            return ld_tensor_drop(y), NULL;
        }
        n->saved[i].version = save[i]->storage->version;
    }
    for (int i = 0; i < n_in; i++) {
        if (!in[i] || !in[i]->requires_grad)
            continue;
        if (in[i]->node) {
            n->in[i].node = in[i]->node;
            in[i]->node->refs++;
        } else {
            n->in[i].leaf = ld_tensor_ref(in[i]);
        }
    }
    y->node = n;
    y->requires_grad = true;
    return y;
}

void ld_record_again(ld_tensor *y, ld_again_fn fn) {
    if (y && y->node)
        y->node->again = fn;
}

bool ld_node_needs(const ld_node *n, int i) {
    return n->in[i].node || n->in[i].leaf;
}

bool ld_node_has_saved(const ld_node *n, int i) {
    return n->saved[i].x || n->saved[i].from;
}

static int used_up(const ld_node *n) {
    return ld_fail(LD_ESTATE, "backward: %s at %s:%d was already used by an earlier backward; pass retain to keep it",
                   n->op, n->where.file ? n->where.file : "?", n->where.line);
}

ld_tensor *ld_node_saved(ld_node *n, int i) {
    saved *s = &n->saved[i];
    if (!s->x && s->from) {
        if (s->from->used)
            return used_up(s->from), NULL;
        s->x = s->from->again(s->from);
        if (s->x)
            s->version = s->x->storage->version;
        return s->x;
    }
    if (s->x && s->x->storage->version != s->version) {
        ld_where at = s->x->storage->changed;
        return ld_fail_null(LD_ESTATE, "backward: tensor %s saved by %s at %s:%d was changed in place at %s:%d",
                            ld_tensor_text(s->x), n->op, n->where.file ? n->where.file : "?", n->where.line,
                            at.file ? at.file : "?", at.line);
    }
    return s->x;
}

const void *ld_node_attr(const ld_node *n) {
    return n->attr;
}

const char *ld_node_op(const ld_node *n) {
    return n->op;
}

/* *slot += dx, dx owned. The sum goes into a tensor nobody else sees, or a new one. */
static int accumulate(ld_tensor **slot, ld_tensor *dx) {
    if (!*slot) {
        *slot = dx;
        return 0;
    }
    ld_tensor *sum = *slot;
    const ld_backend *be = dx->storage->device->backend;
    if (sum->refs > 1 || sum->storage->refs > 1 || !ld_tensor_is_canonical(sum)) {
        sum = ld_tensor_clone(*slot, "backward");
        if (!sum)
            return ld_tensor_drop(dx), LD_EMEM;
        ld_tensor_drop(*slot);
        *slot = sum;
    }
    int bad = be->axpby(LD_VIEW(sum), LD_VIEW(dx), 1, 1);
    ld_tensor_drop(dx);
    return bad;
}

/* dx (taken over) in dtype t. */
static ld_tensor *converted(ld_tensor *dx, ld_dtype t) {
    if (dx->dtype == t)
        return dx;
    ld_tensor *y = ld_tensor_to(dx, t, dx->storage->device, "backward");
    ld_tensor_drop(dx);
    return y;
}

/* A leaf of f32 takes its first gradient as it comes, of 16 bits where the layer computed so; sums are of f32. dx is taken
 * over. */
static ld_tensor *leaf_gradient(ld_tensor *leaf, ld_tensor *dx) {
    if (leaf->dtype != LD_F32 || !ld_dtype_is_half(dx->dtype))
        return converted(dx, leaf->dtype);
    if (!leaf->grad)
        return dx;
    if (ld_dtype_is_half(leaf->grad->dtype)) {
        ld_tensor *wide = ld_tensor_to(leaf->grad, LD_F32, dx->storage->device, "backward");
        if (!wide)
            return ld_tensor_drop(dx), NULL;
        ld_tensor_drop(leaf->grad);
        leaf->grad = wide;
    }
    return converted(dx, LD_F32);
}

int ld_node_give(ld_node *n, int i, ld_tensor *dx) {
    if (!dx)
        return ld_error_code();
    edge *e = &n->in[i];
    if (e->node && !(dx = converted(dx, e->node->dtype)))
        return ld_error_code();
    if (e->node) {
        ld_node *b = e->node;
        if (b->ndim != dx->ndim || memcmp(b->shape, dx->shape, (size_t)b->ndim * sizeof *b->shape)) {
            ld_fail(LD_EINTERNAL, "backward: %s gave a gradient %s for a result of %s with shape %s", n->op,
                    ld_tensor_text(dx), b->op, ld_shape_text(b->ndim, b->shape));
            return ld_tensor_drop(dx), LD_EINTERNAL;
        }
        return accumulate(&b->grad, dx);
    }
    if (!e->leaf)
        return ld_tensor_drop(dx), 0;
    if (!ld_tensor_same_shape(e->leaf, dx)) {
        ld_fail(LD_EINTERNAL, "backward: %s gave a gradient %s for %s", n->op, ld_tensor_text(dx),
                ld_tensor_text(e->leaf));
        return ld_tensor_drop(dx), LD_EINTERNAL;
    }
    int bad = ld_tensor_plan_grad(e->leaf);
    if (bad)
        return ld_tensor_drop(dx), bad;
    if (!(dx = leaf_gradient(e->leaf, dx)))
        return ld_error_code();
    ld_tensor *own = dx;
    if (!e->leaf->grad && (dx->storage->refs > 1 || dx->refs > 1 || !ld_tensor_is_canonical(dx))) {
        own = ld_tensor_clone(dx, "backward");
        ld_tensor_drop(dx);
        if (!own)
            return LD_EMEM;
    }
    return accumulate(&e->leaf->grad, own);
}

/* ---- the walk ------------------------------------------------------------------------------------------------------ */

typedef struct node_list {
    ld_node **at;
    size_t n, room;
} node_list;

static int list_add(node_list *l, ld_node *n) {
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 256;
        ld_node **at = realloc(l->at, room * sizeof *at);
        if (!at)
            return ld_fail(LD_EMEM, "backward: out of host memory");
        l->at = at;
        l->room = room;
    }
    n->queued = true;
    n->refs++;
    l->at[l->n++] = n;
    return 0;
}

static int newest_first(const void *a, const void *b) {
    uint64_t x = (*(ld_node *const *)a)->seq, y = (*(ld_node *const *)b)->seq;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Every node y depends on, newest first. */
static int gather_nodes(node_list *l, ld_node *top) {
    int bad = list_add(l, top);
    for (size_t i = 0; i < l->n && !bad; i++)
        for (int k = 0; k < l->at[i]->n_in && !bad; k++) {
            ld_node *below = l->at[i]->in[k].node;
            if (below && !below->queued)
                bad = list_add(l, below);
        }
    qsort(l->at, l->n, sizeof *l->at, newest_first);
    return bad;
}

static int run_node(ld_node *n, bool retain) {
    if (!n->grad)
        return 0;
    if (n->used)
        return used_up(n);
    if (ld_interrupted())
        return LD_EINTERRUPT;
    int bad = n->backward(n, n->grad);
    ld_tensor_drop(n->grad);
    n->grad = NULL;
    for (int i = 0; i < n->n_saved; i++) /* what was made again goes at once, and can be made once more */
        if (n->saved[i].from) {
            ld_tensor_drop(n->saved[i].x);
            n->saved[i].x = NULL;
        }
    if (!retain && !bad) {
        free_saved(n);
        n->used = true;
    }
    return bad;
}

static ld_tensor *seed_gradient(ld_tensor *y, ld_tensor *g) {
    if (g) {
        if (!ld_tensor_same_shape(y, g) || g->dtype != y->dtype || g->storage->device != y->storage->device)
            return ld_fail_null(LD_ESHAPE, "backward: the gradient %s does not fit %s", ld_tensor_text(g),
                                ld_tensor_text(y));
        return ld_tensor_ref(g);
    }
    if (ld_tensor_numel(y) != 1)
        return ld_fail_null(LD_ESHAPE, "backward: %s has more than one element; reduce it or pass its gradient",
                            ld_tensor_text(y));
    return ld_tensor_full(y->storage->device, y->dtype, y->ndim, y->shape, 1, "backward");
}

static int (*leaf_done)(ld_tensor *leaf, void *arg);
static void *leaf_arg;

void ld_backward_on_leaf(int (*done)(ld_tensor *leaf, void *arg), void *arg) {
    leaf_done = done;
    leaf_arg = arg;
}

static void count_uses(const node_list *l) {
    for (size_t i = 0; i < l->n; i++)
        for (int k = 0; k < l->at[i]->n_in; k++)
            if (l->at[i]->in[k].leaf)
                l->at[i]->in[k].leaf->uses++;
}

/* Node n is through; in case of an error it is only counted. */
static int count_down(ld_node *n, int bad, int (*done)(ld_tensor *leaf, void *arg), void *arg) {
    for (int k = 0; k < n->n_in; k++) {
        ld_tensor *leaf = n->in[k].leaf;
        if (leaf && --leaf->uses == 0 && !bad)
            bad = done(leaf, arg);
    }
    return bad;
}

int ld_backward(ld_tensor *y, ld_tensor *g, bool retain) {
    if (!y->node)
        return ld_fail(
            LD_ESTATE,
            "backward: %s has no history: nothing it was made from requires a gradient (see :requires_grad_())",
            ld_tensor_text(y));
    ld_tensor *seed = seed_gradient(y, g);
    if (!seed)
        return ld_error_code();
    node_list l = {0};
    int bad = gather_nodes(&l, y->node);
    bool was = ld_set_recording(false), outside = ld_profile_backward(true);
    if (!bad) {
        y->node->grad = seed;
        seed = NULL;
    }
    int (*done)(ld_tensor *, void *) = leaf_done;
    leaf_done = NULL;
    if (done)
        count_uses(&l);
    for (size_t i = 0; i < l.n && (!bad || done); i++) {
        if (!bad)
            bad = run_node(l.at[i], retain);
        if (done)
            bad = count_down(l.at[i], bad, done, leaf_arg);
    }
    ld_profile_backward(outside);
    ld_set_recording(was);
    ld_tensor_drop(seed);
    for (size_t i = 0; i < l.n; i++) {
        l.at[i]->queued = false;
        ld_tensor_drop(l.at[i]->grad);
        l.at[i]->grad = NULL;
    }
    for (size_t i = 0; i < l.n; i++)
        node_release(l.at[i]);
    free(l.at);
    return bad;
}

int ld_check_in_place(const char *op, ld_tensor *x, ld_tensor *const *in, int n) {
    if (!recording)
        return 0;
    if (x->requires_grad || ld_will_record(in, n))
        return ld_fail(LD_ESTATE,
                       "%s: %s %s, so changing in place would break its gradient; use the form that returns a new "
                       "tensor, or no_grad",
                       op, ld_tensor_text(x), x->requires_grad ? "requires a gradient" : "meets one that requires one");
    return 0;
}
