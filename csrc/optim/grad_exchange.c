#include "optim/grad_exchange.h"

#include "base/error.h"
#include "comm/comm.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define WHO "ranks"

enum { BUCKET = 1 << 22 }; /* numbers in a bucket, about: small enough to begin early, large enough not to wait */

/* Items first to last - 1: n numbers. */
typedef struct bucket {
    ld_comm_job job;
    ld_exchange *e;
    int first, last, missing; /* items: which, and how many of them have not been given yet */
    int64_t n;
    float *out, *in; /* what this rank sends: its nodes' parts by owner; what it gets, and in the end the sums */
} bucket;

struct ld_exchange {
    int n, n_buckets, rank, ranks;
    ld_tensor **item; /* borrowed */
    bucket *buckets;
    int pieces;
    int *nodes; /* of every rank */
    ld_sum_node *at;
    int *table;         /* counts and places of all ranks, twice */
    ld_sum_node *order; /* a copy of `at` */
    int posted;         /* buckets */
    int *home;          /* the bucket of an item */
    uint8_t *present;   /* items of which some rank has numbers */
    bool *given;
    bool stuck; /* a message never came back: its memory is left to the thread that waits for it */
};

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

static void add(float *restrict to, const float *restrict from, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

/* Numbers of a pair that is merged stand where the left ones stood; the list gets shorter, the numbers stay. */
void ld_sum_tree(float *x, int64_t n, int nodes, ld_sum_node *at) {
    int place[2 * LD_SUM_DEPTH], depth = 0;
    ld_sum_node stack[2 * LD_SUM_DEPTH];
    for (int k = 0; k < nodes; k++) {
        place[depth] = k;
        stack[depth++] = at[k];
        bool rest = k == nodes - 1; /* what has no right neighbour is its parent */
        while (depth > 1 && (rest || ld_sum_siblings(stack[depth - 2], stack[depth - 1]))) {
            depth--;
            add(x + n * place[depth - 1], x + n * place[depth], n);
            stack[depth - 1] = (ld_sum_node){stack[depth - 1].level + 1, stack[depth - 1].index / 2};
        }
    }
}

/* ---- one bucket ------------------------------------------------------------------------------------------------------ */

/* The part of a bucket that rank r owns. */
static int64_t part(const bucket *b, int r) {
    return b->n * r / b->e->ranks;
}

static int64_t part_size(const bucket *b, int r) {
    return part(b, r + 1) - part(b, r);
}

/* Runs on the thread of messages, one after the other: they share e->table and e->order. */
static int run_bucket(ld_comm_job *job) {
    bucket *b = (bucket *)job;
    ld_exchange *e = b->e;
    int R = e->ranks, size = (int)sizeof(float), all = 0;
    int *sent = e->table, *from = sent + R, *taken = from + R, *put = taken + R;
    for (int r = 0; r < R; r++)
        all += e->nodes[r];
    memcpy(e->order, e->at, (size_t)all * sizeof *e->order);
    int mine = (int)part_size(b, e->rank), own = e->nodes[e->rank];
    for (int r = 0, put_at = 0; r < R; r++) {
        sent[r] = own * (int)part_size(b, r) * size;
        from[r] = own * (int)part(b, r) * size;
        taken[r] = e->nodes[r] * mine * size;
        put[r] = put_at;
        put_at += taken[r];
    }
    int bad = ld_comm_exchange(b->out, sent, from, b->in, taken, put);
    if (!bad) {
        ld_sum_tree(b->in, mine, all, e->order);
        for (int r = 0; r < R; r++) {
            sent[r] = (int)part_size(b, r) * size;
            from[r] = (int)part(b, r) * size;
        }
        bad = ld_comm_spread(b->in, sent, from, b->out);
    }
    return bad;
}

/* Item i of node k, canonical and on the host, into the parts of the bucket: numbers [at, at + n) of it. */
static void place_item(bucket *b, int k, int own, int64_t at, const float *from, int64_t n) {
    for (int r = 0; r < b->e->ranks && n; r++) {
        int64_t first = part(b, r), size = part_size(b, r);
        if (at >= first + size)
            continue;
        int64_t here = first + size - at < n ? first + size - at : n;
        float *to = b->out + own * first + k * size + (at - first);
        if (from)
            memcpy(to, from, (size_t)here * sizeof *to);
        else
            memset(to, 0, (size_t)here * sizeof *to);
        from = from ? from + here : NULL;
        at += here;
        n -= here;
    }
}

/* The sums, which lie in b->out one after the other, into new tensors. */
static int unpack(bucket *b, const uint8_t *present, int n_params) {
    float *from = b->out;
    for (int i = b->first; i < b->last; i++) {
        ld_tensor *x = b->e->item[i];
        int64_t n = ld_tensor_numel(x);
        ld_tensor *sum = i >= n_params || present[i] ? ld_tensor_like(x, WHO) : NULL;
        if ((i >= n_params || present[i]) && !sum)
            return ld_error_code();
        if (sum) {
            ld_view there = ld_tensor_as_view(sum);
            there.data = from;
            int bad = ld_tensor_fill_from(sum, &there, WHO);
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
        from += n;
    }
    return 0;
}

/* ---- all of them ----------------------------------------------------------------------------------------------------- */

/* From the last parameter to the first, as backward goes; buffers, which stand behind the parameters, go first. */
static int make_buckets(ld_exchange *e) {
    e->buckets = calloc((size_t)e->n + 1, sizeof *e->buckets);
    if (!e->buckets)
        return ld_fail(LD_EMEM, WHO ": out of host memory");
    for (int i = e->n; i > 0;) {
        bucket *b = &e->buckets[e->n_buckets++];
        *b = (bucket){.job.run = run_bucket, .e = e, .last = i};
        do
            b->n += ld_tensor_numel(e->item[--i]);
        while (i > 0 && b->n < BUCKET);
        b->first = i;
        for (int k = i; k < b->last; k++)
            e->home[k] = e->n_buckets - 1;
        if (b->n > INT_MAX / (int64_t)sizeof(float) / (2 * LD_SUM_DEPTH))
            return ld_fail(LD_EVALUE, WHO ": %lld numbers in one parameter are too many for a message",
                           (long long)b->n);
    }
    return 0;
}

ld_exchange *ld_exchange_new(ld_tensor *const *item, int n) {
    for (int i = 0; i < n; i++)
        if (item[i]->dtype != LD_F32)
            return ld_fail_null(LD_EDTYPE, WHO ": %s; f32 can be summed over ranks", ld_tensor_text(item[i]));
    if (ld_comm_start())
        return NULL;
    ld_exchange *e = calloc(1, sizeof *e);
    if (!e)
        return ld_fail_null(LD_EMEM, WHO ": out of host memory");
    e->n = n;
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
    return e;
}

void ld_exchange_drop(ld_exchange *e) {
    if (!e || e->stuck)
        return;
    for (int i = 0; i < e->n_buckets; i++) {
        free(e->buckets[i].out);
        free(e->buckets[i].in);
    }
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

/* Room for the most nodes there can be now, and which nodes those are. */
static int prepare(ld_exchange *e, int pieces) {
    if (e->pieces == pieces)
        return 0;
    int all = 0;
    for (int r = 0; r < e->ranks; r++) {
        e->nodes[r] = ld_sum_nodes(pieces, r, e->ranks, e->at + all);
        all += e->nodes[r];
    }
    int64_t own = e->nodes[e->rank] > 1 ? e->nodes[e->rank] : 1;
    for (int i = 0; i < e->n_buckets; i++) {
        bucket *b = &e->buckets[i];
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

int ld_exchange_begin(ld_exchange *e, int pieces) {
    e->posted = 0;
    memset(e->present, 0, (size_t)e->n);
    memset(e->given, 0, (size_t)e->n);
    for (int i = 0; i < e->n_buckets; i++)
        e->buckets[i].missing = e->buckets[i].last - e->buckets[i].first;
    return prepare(e, pieces);
}

int ld_exchange_give(ld_exchange *e, int i, int nodes, ld_tensor *const *x) {
    bucket *b = &e->buckets[e->home[i]];
    int64_t at = 0, n = ld_tensor_numel(e->item[i]);
    for (int k = b->first; k < i; k++)
        at += ld_tensor_numel(e->item[k]);
    for (int k = 0; k < nodes; k++) {
        ld_tensor *host = x[k] ? ld_tensor_host(x[k], WHO) : NULL;
        if (x[k] && !host)
            return ld_error_code();
        place_item(b, k, nodes, at, host ? ld_tensor_data(host) : NULL, n);
        ld_tensor_drop(host);
        e->present[i] |= x[k] != NULL;
    }
    e->given[i] = true;
    b->missing--;
    while (e->posted < e->n_buckets && !e->buckets[e->posted].missing)
        ld_comm_post(&e->buckets[e->posted++].job);
    return 0;
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

int ld_exchange_finish(ld_exchange *e, int n_params) {
    static ld_tensor *const nothing[2 * LD_SUM_DEPTH];
    int bad = 0;
    for (int i = 0; i < e->n && !bad; i++)
        if (!e->given[i])
            bad = ld_exchange_give(e, i, e->nodes[e->rank], nothing);
    int waited = ld_comm_wait();
    e->stuck = waited == LD_EINTERRUPT;
    bad = bad ? bad : waited;
    if (!bad)
        bad = find_present(e);
    for (int i = 0; i < e->n_buckets && !bad; i++)
        bad = unpack(&e->buckets[i], e->present, n_params);
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
