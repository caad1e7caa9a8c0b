/* What grad_exchange.c and grad_device.c share: the buckets of an exchange. */
#ifndef LD_GRAD_BUCKET_H
#define LD_GRAD_BUCKET_H

#include "comm/comm.h"
#include "optim/grad_exchange.h"

/* Items first to last - 1: n numbers. Rank r owns numbers part(r) to part(r + 1) - 1 of `whole`, which is n, or n and some
 * that are nothing, so that on a device all parts are of one size. */
typedef struct ld_bucket {
    ld_comm_job job;
    ld_exchange *e;
    int first, last, missing; /* items: which, and how many of them have not been given yet */
    int64_t n, whole;
    float *out, *in;                   /* what this rank sends: its nodes' parts by owner; what it gets */
    ld_tensor *out_memory, *in_memory; /* on a device: what they point into */
    void *ready;                       /* on a device: the mark behind what was put into out */
} ld_bucket;

struct ld_exchange {
    int n, n_params, n_buckets, rank, ranks;
    ld_tensor **item; /* borrowed */
    ld_bucket *buckets;
    int pieces;
    int *nodes; /* of every rank */
    ld_sum_node *at;
    int *table;         /* counts and places of all ranks, twice */
    ld_sum_node *order; /* a copy of `at` */
    int posted;         /* buckets */
    int *home;          /* the bucket of an item */
    uint8_t *present;   /* items of which some rank has numbers */
    bool *given;
    bool busy;      /* messages are on their way, or never came back: their memory is left to the thread that waits */
    bool any_order; /* the device sums as its library does */
    ld_device *device; /* messages go between devices like this one; NULL: through the host */
    ld_tensor *planned;
    ld_comm_job wait;
    char text[320];
};

static inline int64_t ld_bucket_part(const ld_bucket *b, int r) {
    return b->whole * r / b->e->ranks;
}

/* As ld_sum_tree, by a way of adding: to += from, 0 or an error code. */
int ld_sum_tree_by(float *x, int64_t n, int nodes, ld_sum_node *at, int (*add)(float *, const float *, int64_t));

/* ---- grad_device.c ---------------------------------------------------------------------------------------------------- */

/* All ranks agree whether the items' devices talk to each other, and those begin to: e->device and e->text. LD_EDEVICE:
 * they cannot, though `way` asks for it, or ranks share a card; LD_EINTERRUPT, LD_EINTERNAL. */
int ld_exchange_choose(ld_exchange *e, ld_sum_way way);
/* Where e->device is set: how many numbers a bucket takes, its memory for `own` and `all` nodes, and letting it go. */
int64_t ld_bucket_room(const ld_bucket *b, int own, int all);
int ld_bucket_new(ld_bucket *b, int own, int all);
void ld_bucket_drop(ld_bucket *b);
/* Numbers [at, at + n) of the bucket become `from`, or nothing where that is NULL; added: from is added to them. */
int ld_bucket_put(const ld_bucket *b, float *to, const float *from, int64_t n, bool added);
/* The bucket is whole: it is marked and posted. */
int ld_bucket_post(ld_bucket *b);
/* All that was posted is over on the device. */
int ld_buckets_wait(ld_exchange *e);
/* x = the sums that lie at `at` in the bucket. */
int ld_bucket_take(const ld_bucket *b, ld_tensor *x, int64_t at);

#endif
