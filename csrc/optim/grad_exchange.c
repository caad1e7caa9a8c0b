#include "optim/grad_exchange.h"

#include "base/error.h"
#include "optim/grad_bucket.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define WHO "ranks"

/* Numbers in a bucket, about: small enough to begin early, large enough not to wait. LD_RANKS_BUCKET says otherwise. */
enum { BUCKET = 1 << 22 };

/* ---- the tree -------------------------------------------------------------------------------------------------------- */

int ld_sum_pieces(int count, int micro, int ranks) {
    if (!micro)
        return count >= 2 * ranks ? ranks : 1;
    int n = count / micro + (count % micro >= 2);
    return n > 0 ? n : 1;
}

int ld_sum_first(int count, int micro, int pieces, int i) {
    if (i >= pieces)
        return count;
    return micro ? i * micro : (int)((int64_t)count * i / pieces);
}

void ld_sum_own(int pieces, int rank, int ranks, int *first, int *last) {
    *first = (int)(((int64_t)pieces * rank + ranks - 1) / ranks);
    *last = (int)(((int64_t)pieces * (rank + 1) + ranks - 1) / ranks);
}

int ld_sum_nodes(int pieces, int rank, int ranks, ld_sum_node *at) {
    int first, last, n = 0;
    ld_sum_own(pieces, rank, ranks, &first, &last);
    for (int i = first; i < last; i++) {
        at[n++] = (ld_sum_node){0, i};
        while (n > 1 && ld_sum_siblings(at[n - 2], at[n - 1])) {
            n--;
            at[n - 1] = (ld_sum_node){at[n - 1].level + 1, at[n - 1].index / 2};
        }
    }
    return n;
}

static int add(float *restrict to, const float *restrict from, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
    return 0;
}

void ld_sum_tree(float *x, int64_t n, int nodes, ld_sum_node *at) {
    ld_sum_tree_by(x, n, nodes, at, add);
}

/* Numbers of a pair that is merged stand where the left ones stood; the list gets shorter, the numbers stay. */
int ld_sum_tree_by(float *x, int64_t n, int nodes, ld_sum_node *at, int (*by)(float *, const float *, int64_t)) {
    int place[2 * LD_SUM_DEPTH], depth = 0;
    ld_sum_node stack[2 * LD_SUM_DEPTH];
    for (int k = 0; k < nodes; k++) {
        place[depth] = k;
        stack[depth++] = at[k];
        bool rest = k == nodes - 1; /* what has no right neighbour is its parent */
        while (depth > 1 && (rest || ld_sum_siblings(stack[depth - 2], stack[depth - 1]))) {
            depth--;
            int bad = by(x + n * place[depth - 1], x + n * place[depth], n);
            if (bad)
                return bad;
            stack[depth - 1] = (ld_sum_node){stack[depth - 1].level + 1, stack[depth - 1].index / 2};
        }
    }
    return 0;
}

/* ---- one bucket ------------------------------------------------------------------------------------------------------ */

static int64_t part_size(const ld_bucket *b, int r) {
    return ld_bucket_part(b, r + 1) - ld_bucket_part(b, r);
}

/* Runs on the thread of messages, one after the other: they share e->table and e->order. */
static int run_bucket(ld_comm_job *job) {
    ld_bucket *b = (ld_bucket *)job;
    ld_exchange *e = b->e;
    int R = e->ranks, size = (int)sizeof(float), all = 0;
    int *sent = e->table, *from = sent + R, *taken = from + R, *put = taken + R;
    for (int r = 0; r < R; r++)
        all += e->nodes[r];
    memcpy(e->order, e->at, (size_t)all * sizeof *e->order);
    int mine = (int)part_size(b, e->rank), own = e->nodes[e->rank];
    for (int r = 0, put_at = 0; r < R; r++) {
        sent[r] = own * (int)part_size(b, r) * size;
        from[r] = own * (int)ld_bucket_part(b, r) * size;
        taken[r] = e->nodes[r] * mine * size;
        put[r] = put_at;
        put_at += taken[r];
    }
    int bad = ld_comm_exchange(b->out, sent, from, b->in, taken, put);
    if (!bad) {
        ld_sum_tree(b->in, mine, all, e->order);
        for (int r = 0; r < R; r++) {
            sent[r] = (int)part_size(b, r) * size;
            from[r] = (int)ld_bucket_part(b, r) * size;
        }
        bad = ld_comm_spread(b->in, sent, from, b->out);
    }
    return bad;
}

static int put(const ld_bucket *b, float *to, const float *from, int64_t n, bool added) {
    if (b->e->device)
        return ld_bucket_put(b, to, from, n, added);
    if (from)
        memcpy(to, from, (size_t)n * sizeof *to);
    else
        memset(to, 0, (size_t)n * sizeof *to);
    return 0;
}

/* Numbers [at, at + n) of node k, in the memory of the bucket, into its parts; where the order does not matter, all nodes are
 * one. */
static int place_item(ld_bucket *b, int k, int own, int64_t at, const float *from, int64_t n) {
    bool one = b->e->any_order;
    int bad = 0;
    if (one)
        return put(b, b->out + at, from, n, k > 0);
    for (int r = 0; r < b->e->ranks && n && !bad; r++) {
        int64_t first = ld_bucket_part(b, r), size = part_size(b, r);
        if (at >= first + size)
            continue;
        int64_t here = first + size - at < n ? first + size - at : n;
        bad = put(b, b->out + own * first + k * size + (at - first), from, here, false);
        from = from ? from + here : NULL;
        at += here;
        n -= here;
    }
    return bad;
}

/* x = the sums that lie at `at` in the bucket. */
static int take(const ld_bucket *b, ld_tensor *x, int64_t at) {
    if (b->e->device)
        return ld_bucket_take(b, x, at);
    ld_view there = ld_tensor_as_view(x);
    there.data = b->out + at;
    return ld_tensor_fill_from(x, &there, WHO);
}

/* The sums, which lie in b->out one after the other, into new tensors. */
static int unpack(ld_bucket *b) {
    const uint8_t *present = b->e->present;
    int n_params = b->e->n_params;
    int64_t at = 0;
    for (int i = b->first; i < b->last; i++) {
        ld_tensor *x = b->e->item[i];
        ld_tensor *sum = i >= n_params || present[i] ? ld_tensor_like(x, WHO) : NULL;
        if ((i >= n_params || present[i]) && !sum)
            return ld_error_code();
        if (sum) {
            int bad = take(b, sum, at);
            if (!bad && i >= n_params && !(bad = ld_tensor_assign(x, sum, WHO)))
                ld_tensor_touch(x);
            if (bad || i >= n_params) {
                ld_tensor_drop(sum);
                sum = NULL;
            }
            if (bad)
                return bad;
        }
        if (i < n_params)
            ld_tensor_set_grad(x, sum);
        at += ld_tensor_numel(x);
    }
    return 0;
}

/* ---- all of them ----------------------------------------------------------------------------------------------------- */

/* Items first to last - 1, from the last one to the first. */
static int add_buckets(ld_exchange *e, int first, int last) {
    const char *asked = getenv("LD_RANKS_BUCKET");
    int64_t least = asked && atoll(asked) > 0 ? atoll(asked) : BUCKET;
    for (int i = last; i > first;) {
        ld_bucket *b = &e->buckets[e->n_buckets++];
        *b = (ld_bucket){.job.run = run_bucket, .e = e, .last = i};
        do
            b->n += ld_tensor_numel(e->item[--i]);
        while (i > first && b->n < least);
        b->first = i;
        b->whole = b->n;
        for (int k = i; k < b->last; k++)
            e->home[k] = e->n_buckets - 1;
        if (b->n > INT_MAX / (int64_t)sizeof(float) / (2 * LD_SUM_DEPTH))
            return ld_fail(LD_EVALUE, WHO ": %lld numbers in one parameter are too many for a message",
                           (long long)b->n);
    }
    return 0;
}

/* Parameters in the order in which backward is through with them; then buffers, which are given after it. */
static int make_buckets(ld_exchange *e) {
    e->buckets = calloc((size_t)e->n + 1, sizeof *e->buckets);
    if (!e->buckets)
        return ld_fail(LD_EMEM, WHO ": out of host memory");
    int bad = add_buckets(e, 0, e->n_params);
    return bad ? bad : add_buckets(e, e->n_params, e->n);
}

ld_exchange *ld_exchange_new(ld_tensor *const *item, int n, int n_params, ld_sum_how how) {
    for (int i = 0; i < n; i++)
        if (item[i]->dtype != LD_F32)
            return ld_fail_null(LD_EDTYPE, WHO ": %s; f32 can be summed over ranks", ld_tensor_text(item[i]));
    if (ld_comm_start())
        return NULL;
    ld_exchange *e = calloc(1, sizeof *e);
    if (!e)
        return ld_fail_null(LD_EMEM, WHO ": out of host memory");
    e->n = n;
    e->n_params = n_params;
    e->rank = ld_comm_rank();
    e->ranks = ld_comm_ranks();
    size_t ranks = (size_t)e->ranks;
    e->item = malloc(((size_t)n + 1) * sizeof(ld_tensor *));
    e->nodes = calloc(ranks, sizeof *e->nodes);
    e->at = malloc(ranks * 2 * LD_SUM_DEPTH * sizeof *e->at);
    e->order = malloc(ranks * 2 * LD_SUM_DEPTH * sizeof *e->order);
    e->table = calloc(ranks * 4, sizeof *e->table);
    e->home = calloc((size_t)n + 1, sizeof *e->home);
    e->present = calloc((size_t)n + 1, 1);
    e->given = calloc((size_t)n + 1, sizeof *e->given);
    if (e->item)
        memcpy(e->item, item, (size_t)n * sizeof *item);
    if (!e->item || !e->home || !e->present || !e->given || !e->nodes || !e->at || !e->order || !e->table ||
        make_buckets(e)) {
        if (!ld_error_code())
            ld_fail(LD_EMEM, WHO ": out of host memory");
        ld_exchange_drop(e);
        return NULL;
    }
    e->any_order = how.any_order;
    if (ld_exchange_choose(e, how.way)) {
        ld_exchange_drop(e);
        return NULL;
    }
    e->any_order = e->any_order && e->device;
    return e;
}

const char *ld_exchange_text(const ld_exchange *e) {
    return e->text;
}

static void drop_bucket(ld_bucket *b) {
    if (b->e->device)
        ld_bucket_drop(b);
    else {
        free(b->out);
        free(b->in);
    }
}

void ld_exchange_drop(ld_exchange *e) {
    if (!e || e->busy)
        return;
    for (int i = 0; i < e->n_buckets; i++)
        drop_bucket(&e->buckets[i]);
    ld_tensor_drop(e->planned);
    free(e->buckets);
    free(e->item);
    free(e->nodes);
    free(e->at);
    free(e->order);
    free(e->table);
    free(e->home);
    free(e->present);
    free(e->given);
    free(e);
}

/* Which nodes there are of that many pieces; tells how many this rank has (1 at least, so that there is room for the sums), and
 * all. */
static void find_nodes(ld_exchange *e, int pieces, int *own, int *all) {
    *all = 0;
    for (int r = 0; r < e->ranks; r++) {
        e->nodes[r] = ld_sum_nodes(pieces, r, e->ranks, e->at + *all);
        *all += e->nodes[r];
    }
    *own = e->nodes[e->rank] > 1 ? e->nodes[e->rank] : 1;
}

static int prepare(ld_exchange *e, int pieces) {
    int own, all;
    if (e->pieces == pieces)
        return 0;
    e->pieces = 0;
    find_nodes(e, pieces, &own, &all);
    for (int i = 0; i < e->n_buckets; i++) {
        ld_bucket *b = &e->buckets[i];
        if (e->device) {
            if (ld_bucket_new(b, own, all))
                return ld_error_code();
            continue;
        }
        free(b->out);
        free(b->in);
        b->out = malloc((size_t)(own * b->n + 1) * sizeof *b->out);
        b->in = malloc((size_t)(all * (part_size(b, e->rank) + 1)) * sizeof *b->in);
        if (!b->out || !b->in)
            return ld_fail(LD_EMEM, WHO ": out of host memory");
    }
    e->pieces = pieces;
    return 0;
}

int ld_exchange_plan(ld_exchange *e, int pieces) {
    int64_t n = 0;
    int own, all;
    ld_exchange_planned(e);
    if (!e->device || e->pieces == pieces)
        return 0;
    find_nodes(e, pieces, &own, &all);
    e->pieces = 0; /* the nodes are those of this plan now */
    for (int i = 0; i < e->n_buckets; i++)
        n += ld_bucket_room(&e->buckets[i], own, all);
    e->planned = ld_tensor_new(e->device, LD_F32, 1, &n, WHO);
    return e->planned ? 0 : ld_error_code();
}

void ld_exchange_planned(ld_exchange *e) {
    ld_tensor_drop(e->planned);
    e->planned = NULL;
}

int ld_exchange_begin(ld_exchange *e, int pieces) {
    ld_exchange_planned(e);
    e->posted = 0;
    memset(e->present, 0, (size_t)e->n);
    memset(e->given, 0, (size_t)e->n);
    for (int i = 0; i < e->n_buckets; i++)
        e->buckets[i].missing = e->buckets[i].last - e->buckets[i].first;
    return prepare(e, pieces);
}

static int post(ld_exchange *e, ld_bucket *b) {
    e->busy = true;
    if (e->device)
        return ld_bucket_post(b);
    ld_comm_post(&b->job);
    return 0;
}

int ld_exchange_give(ld_exchange *e, int i, int nodes, ld_tensor *const *x) {
    ld_bucket *b = &e->buckets[e->home[i]];
    int64_t at = 0, n = ld_tensor_numel(e->item[i]);
    int bad = 0;
    for (int k = b->first; k < i; k++)
        at += ld_tensor_numel(e->item[k]);
    /* a rank without pieces adds nothing to the others' */
    for (int k = 0; (k < nodes || (k == 0 && e->any_order)) && !bad; k++) {
        ld_tensor *from = k < nodes ? x[k] : NULL, *here = NULL;
        if (from && !(here = e->device ? ld_tensor_canonical(from, WHO) : ld_tensor_host(from, WHO)))
            return ld_error_code();
        bad = place_item(b, k, nodes, at, here ? ld_tensor_data(here) : NULL, n);
        ld_tensor_drop(here);
        e->present[i] |= from != NULL;
    }
    e->given[i] = true;
    b->missing--;
    while (e->posted < e->n_buckets && !e->buckets[e->posted].missing && !bad)
        bad = post(e, &e->buckets[e->posted++]);
    return bad;
}

/* present[i]: some rank has item i. */
static int find_present(ld_exchange *e) {
    size_t n = (size_t)e->n;
    uint8_t *all = malloc(n * (size_t)e->ranks + 1);
    if (!all)
        return ld_fail(LD_EMEM, WHO ": out of host memory");
    int bad = ld_comm_gather(e->present, n, all);
    for (size_t i = 0; i < n * (size_t)e->ranks && !bad; i++)
        e->present[i % n] |= all[i];
    free(all);
    return bad;
}

int ld_exchange_finish(ld_exchange *e) {
    static ld_tensor *const nothing[2 * LD_SUM_DEPTH];
    int bad = 0;
    for (int i = 0; i < e->n && !bad; i++)
        if (!e->given[i])
            bad = ld_exchange_give(e, i, e->nodes[e->rank], nothing);
    int waited = e->device ? ld_buckets_wait(e) : ld_comm_wait();
    e->busy = waited != 0;
    bad = bad ? bad : waited;
    if (!bad)
        bad = find_present(e);
    for (int i = 0; i < e->n_buckets && !bad; i++)
        bad = unpack(&e->buckets[i]);
    return bad;
}

int ld_exchange_first(ld_tensor *x) {
    size_t bytes = (size_t)ld_tensor_numel(x) * ld_dtype_size(x->dtype);
    char *all = malloc(bytes * (size_t)ld_comm_ranks() + 1);
    ld_tensor *host = ld_tensor_host(x, WHO), *flat = host ? ld_tensor_canonical(host, WHO) : NULL;
    int bad = !flat ? ld_error_code() : all ? 0 : ld_fail(LD_EMEM, WHO ": out of host memory");
    if (!bad)
        bad = ld_comm_gather(ld_tensor_data(flat), bytes, all);
    if (!bad) {
        ld_view there = ld_tensor_as_view(flat);
        there.data = all;
        bad = ld_tensor_fill_from(x, &there, WHO);
    }
    ld_tensor_drop(host);
    ld_tensor_drop(flat);
    free(all);
    return bad;
}
