/* Devices: where tensors live and which backend computes on them.
 *
 * Memory of a device whose `ops` is not NULL is not the host's: only that device's slots may follow an address into it.
 * Whoever wants numbers of it on the host copies them: ld_device_download here, ld_tensor_host one floor above. */
#ifndef LD_DEVICE_H
#define LD_DEVICE_H

#include "backend/backend.h"
#include "backend/pool.h"

/* What a device does that can record its work and do it again (backend/graph.h). Everything is in the order of the device's
 * work, and only `reached` waits for any. */
typedef struct ld_graph_ops {
    int (*begin)(void);       /* from here on work is recorded and not done; uploads keep a copy of what they read */
    int (*end)(void **graph); /* NULL: forget it */
    int (*replay)(void *graph);
    void (*release)(void *graph); /* work under way goes on */
    void *(*pinned)(size_t n);    /* host memory that send and fetch take; NULL after ld_fail */
    void (*pinned_free)(void *p);
    int (*send)(void *to, const void *pinned, size_t n); /* read when its turn comes */
    int (*fetch)(void *pinned, const void *from, size_t n);
    int (*mark)(void **mark);              /* *mark, made where it is NULL, is reached when all work so far is done */
    int (*reached)(void *mark, bool wait); /* 1; 0: not yet; -1 after ld_fail */
    void (*mark_free)(void *mark);
} ld_graph_ops;

/* What a device with memory of its own does besides computing. Sizes are in bytes. Functions returning int: 0, or an error
 * code after ld_fail. */
typedef struct ld_device_ops {
    /* blocks below LD_POOL_ARENA_FROM, and all where there is no arena: aligned to 256; NULL when there are none, without
     * a message */
    void *(*alloc)(size_t n);
    void (*free)(void *p, size_t n);
    /* address space for the pool's arena, *n of it; NULL where the device has none to give. commit backs a range with
     * memory where it is not backed yet (false: there is none left), purge lets it go where that is possible */
    void *(*reserve)(size_t *n);
    bool (*commit)(void *p, size_t n);
    void (*purge)(void *p, size_t n);
    /* memory of plans: address space backed by nothing; `keep` backs it with zeros when it outlives its plan */
    ld_pool_planned planned;
    int (*upload)(void *to, const void *from, size_t n);   /* from the host; `from` may change as soon as it returns */
    int (*download)(void *to, const void *from, size_t n); /* to the host, after all work before it */
    int (*wait)(void);                                     /* until all work is done; its errors come out here */
    size_t (*room)(void);                                  /* bytes free on the device, 0: unknown */
    const ld_backend *plan;                                /* the table while memory is planned */
    const ld_graph_ops *graph;                             /* NULL: it cannot record */
} ld_device_ops;

/* Messages between the devices of several ranks that do not pass through the host. Numbers are f32 in the device's memory;
 * counts are numbers. What is given to the device runs on a stream of its own, beside what computes, in the order in which
 * it was given. Functions returning int: 0, or an error code after ld_fail. Where it says T, the thread of messages
 * (comm/comm.h) calls; all ranks make those calls in the same order. */
enum { LD_RANKS_ID = 128 };
typedef struct ld_device_ranks {
    /* whether the library for it is there and will do; its name and version, for people */
    int (*find)(char *text, size_t room);
    /* which card of its machine the device is: ranks of one machine need cards of their own */
    int (*card)(char *text, size_t room);
    int (*id)(void *id);                              /* LD_RANKS_ID bytes, made by one rank for all */
    int (*join)(const void *id, int rank, int ranks); /* T: until all ranks are there */
    void *(*event)(void);                             /* a mark in what is given to the device; NULL: error */
    void (*event_drop)(void *event);                  /* NULL is fine */
    int (*mark)(void *event);                         /* behind all that computes so far */
    int (*follow)(void *event);                       /* T: messages from here on come after the mark */
    /* T: own `sent` numbers of `from` to each rank in turn; taken[r] numbers of rank r come into `to`, one after the other */
    int (*trade)(const float *from, int64_t sent, float *to, const int64_t *taken);
    int (*add)(float *y, const float *x, int64_t n);         /* T: y += x */
    int (*spread)(const float *mine, float *all, int64_t n); /* T: n numbers of every rank, one after the other */
    int (*sum)(float *x, int64_t n);                         /* T: x over all ranks, in the library's order */
    int (*wait)(void);                                       /* T: until all that was given is done, or has failed */
    void (*leave)(void);                                     /* T: the end, on all ranks */
    void (*give_up)(void); /* others are gone: what runs ends; nothing more can be asked */
} ld_device_ranks;

typedef struct ld_device {
    char name[16]; /* "cpu", "cuda:0" */
    const ld_backend *backend;
    ld_pool *pool;
    const ld_device_ops *ops;     /* NULL: memory is the host's */
    const ld_device_ranks *ranks; /* NULL: messages between ranks pass through the host */
    char text[160];               /* what it is, for people; "" for the CPU */
} ld_device;

/* The device called `name`: "cpu", or that of a plug-in (backend/plugin.h), "cuda:0". "cuda" is the one in use, or else
 * cuda:0; where a machine has several ranks, each gets the next card in turn. It lives as long as the process. LD_EDEVICE
 * says what is missing; LD_EMEM. */
ld_device *ld_device_find(const char *name);
/* Device i of those in use, from 0; NULL beyond them. The CPU comes first. */
ld_device *ld_device_at(int i);

bool ld_on_host(const ld_device *d);
/* n bytes between the host and d, which may be the CPU. While memory is planned on d nothing is written there, and zeros
 * come back. */
int ld_device_upload(ld_device *d, void *to, const void *from, size_t n);
int ld_device_download(ld_device *d, void *to, const void *from, size_t n);
int ld_device_wait(ld_device *d);
/* Bytes of memory that can still be had on d: ld_memory_room, or what is free on the device. 0: nobody knows. */
size_t ld_device_room(const ld_device *d);

/* Bytes of memory that this process can still have: what the machine has available, or less where its control groups allow
 * less. 0 when the system does not say. */
size_t ld_memory_room(void);

/* Number of CPU threads for computation: set (n >= 1) and get. The default is the number of physical cores. */
void ld_set_threads(int n);
int ld_threads(void);

/* The libraries that compute on the CPU, for messages and files: "oneDNN 2.6.3 isa 27". */
const char *ld_cpu_libraries(void);

#endif
