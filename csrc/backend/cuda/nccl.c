#define _GNU_SOURCE /* pthread_mutex_timedlock */

#include "backend/cuda/nccl.h"

#include "backend/cuda/load.h"
#include "base/error.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define WHO "ranks"

enum { LEAST = 21400, SUCCESS = 0, IN_PROGRESS = 7, F32 = 7, SUM = 0 };
/* Looks at the device before the thread sleeps between two of them, and how long what others hold may take to come free. */
enum { LOOKS = 2000, NAP_NS = 50000, LOCK_MS = 500, ABORT_MS = 2000 };

typedef struct unique_id {
    char bytes[LD_RANKS_ID];
} unique_id;

/* As nccl.h declares them; a communicator and a stream are pointers, results and kinds are numbers. */
static struct {
    int (*get_version)(int *version);
    int (*get_unique_id)(unique_id *id);
    int (*comm_init_rank)(void **comm, int ranks, unique_id id, int rank);
    int (*comm_destroy)(void *comm);
    int (*comm_abort)(void *comm);
    int (*comm_get_async_error)(void *comm, int *error);
    const char *(*get_error_string)(int error);
    const char *(*get_last_error)(void *comm);
    int (*group_start)(void);
    int (*group_end)(void);
    int (*send)(const void *from, size_t n, int kind, int to, void *comm, void *stream);
    int (*recv)(void *to, size_t n, int kind, int from, void *comm, void *stream);
    int (*all_gather)(const void *mine, void *all, size_t n, int kind, void *comm, void *stream);
    int (*all_reduce)(const void *from, void *to, size_t n, int kind, int op, void *comm, void *stream);
} nccl;

static const ld_symbol symbols[] = {{"ncclGetVersion", &nccl.get_version},
                                    {"ncclGetUniqueId", &nccl.get_unique_id},
                                    {"ncclCommInitRank", &nccl.comm_init_rank},
                                    {"ncclCommDestroy", &nccl.comm_destroy},
                                    {"ncclCommAbort", &nccl.comm_abort},
                                    {"ncclCommGetAsyncError", &nccl.comm_get_async_error},
                                    {"ncclGetErrorString", &nccl.get_error_string},
                                    {"ncclGetLastError", &nccl.get_last_error},
                                    {"ncclGroupStart", &nccl.group_start},
                                    {"ncclGroupEnd", &nccl.group_end},
                                    {"ncclSend", &nccl.send},
                                    {"ncclRecv", &nccl.recv},
                                    {"ncclAllGather", &nccl.all_gather},
                                    {"ncclAllReduce", &nccl.all_reduce}};

static const ld_nccl_device *device;
static void *comm; /* of all ranks, one for the process */
static int n_ranks;
/* Held while NCCL is called with the communicator. Such a call may wait for ever when another rank is gone. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool given_up, aborted;

/* ---- the library ----------------------------------------------------------------------------------------------------- */

static int version(void) {
    int v = 0;
    return nccl.get_version(&v) == SUCCESS ? v : 0;
}

static bool fits(char *why, size_t size) {
    if (version() >= LEAST)
        return true;
    snprintf(why, size, "is too old: it is %s, and %s or newer is needed", ld_cuda_library_version((size_t)version()),
             ld_cuda_library_version(LEAST));
    return false;
}

static ld_library library = {
    .name = "NCCL 2", .file = "libnccl.so.2", .symbols = symbols, .n = sizeof symbols / sizeof *symbols, .fits = fits};

int ld_nccl_version(const char *who) {
    if (ld_library_load(&library))
        return version();
    ld_library_missing(&library, who);
    return 0;
}

const char *ld_nccl_file(void) {
    return library.path;
}

static int find(char *text, size_t room) {
    int v = ld_nccl_version(WHO);
    if (!v)
        return ld_error_code();
    snprintf(text, room, "NCCL %s", ld_cuda_library_version((size_t)v));
    return 0;
}

/* ---- errors ---------------------------------------------------------------------------------------------------------- */

static int failed(int error, const char *what) {
    const char *last = nccl.get_last_error(comm);
    bool more = last && *last;
    return ld_fail(LD_EINTERNAL, WHO ": NCCL: %s: %s%s%.*s", what, nccl.get_error_string(error), more ? ": " : "",
                   more ? (int)strcspn(last, "\n") : 0, more ? last : "");
}

static int check(int error, const char *what) {
    return error == SUCCESS || error == IN_PROGRESS ? 0 : failed(error, what);
}

static int gone(void) {
    return ld_fail(LD_EINTERNAL, WHO ": the messages between cards were given up");
}

/* ---- begin and end --------------------------------------------------------------------------------------------------- */

static int make_id(void *id) {
    unique_id u;
    int bad = check(nccl.get_unique_id(&u), "no beginning (ncclGetUniqueId)");
    memcpy(id, &u, sizeof u);
    return bad;
}

static int join(const void *id, int rank, int ranks) {
    void *stream;
    unique_id u;
    int bad = device->enter(&stream);
    memcpy(&u, id, sizeof u);
    if (!bad)
        bad = check(nccl.comm_init_rank(&comm, ranks, u, rank), "the ranks do not come together (ncclCommInitRank)");
    n_ranks = ranks;
    return bad;
}

static void leave(void) {
    pthread_mutex_lock(&lock);
    if (comm && !given_up)
        nccl.comm_destroy(comm);
    comm = NULL;
    pthread_mutex_unlock(&lock);
}

static struct timespec from_now(int ms) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += ms % 1000 * 1000000L;
    t.tv_sec += ms / 1000 + t.tv_nsec / 1000000000L;
    t.tv_nsec %= 1000000000L;
    return t;
}

/* A thread that is inside NCCL and waits for a rank that is gone keeps the lock: that is what ncclCommAbort is for. */
static void *abort_messages(void *arg) {
    struct timespec until = from_now(LOCK_MS);
    bool mine = !pthread_mutex_timedlock(&lock, &until);
    void *c = comm;
    (void)arg;
    comm = NULL;
    if (c)
        nccl.comm_abort(c);
    if (mine)
        pthread_mutex_unlock(&lock);
    aborted = true;
    return NULL;
}

/* Until the device is free of NCCL's kernels, which would wait for the others for ever; not longer than ABORT_MS, since the
 * program has a checkpoint to write. */
static void give_up(void) {
    const struct timespec nap = {.tv_nsec = 10000000};
    pthread_t thread;
    if (!library.ready || atomic_exchange(&given_up, true) || pthread_create(&thread, NULL, abort_messages, NULL))
        return;
    pthread_detach(thread);
    for (int ms = 0; !aborted && ms < ABORT_MS; ms += 10)
        nanosleep(&nap, NULL);
}

/* ---- messages -------------------------------------------------------------------------------------------------------- */

/* Takes the lock and tells the stream, or fails. */
static int begin(void **stream) {
    int bad = device->enter(stream);
    if (bad)
        return bad;
    pthread_mutex_lock(&lock);
    if (!given_up && comm)
        return 0;
    pthread_mutex_unlock(&lock);
    return gone();
}

static int end(int error, const char *what) {
    int bad = given_up ? gone() : check(error, what);
    pthread_mutex_unlock(&lock);
    return bad;
}

static int trade(const float *from, int64_t sent, float *to, const int64_t *taken) {
    void *stream;
    int bad = begin(&stream);
    if (bad)
        return bad;
    int error = nccl.group_start();
    for (int r = 0; r < n_ranks && !error; r++) {
        if (sent)
            error = nccl.send(from + sent * r, (size_t)sent, F32, r, comm, stream);
        if (taken[r] && !error)
            error = nccl.recv(to, (size_t)taken[r], F32, r, comm, stream);
        to += taken[r];
    }
    int last = nccl.group_end();
    return end(error ? error : last, "ncclSend and ncclRecv");
}

static int spread(const float *mine, float *all, int64_t n) {
    void *stream;
    int bad = begin(&stream);
    return bad ? bad : end(nccl.all_gather(mine, all, (size_t)n, F32, comm, stream), "ncclAllGather");
}

static int sum(float *x, int64_t n) {
    void *stream;
    int bad = begin(&stream);
    return bad ? bad : end(nccl.all_reduce(x, x, (size_t)n, F32, SUM, comm, stream), "ncclAllReduce");
}

/* Errors that happen later (a rank that is gone, a network that fails) show in the communicator. */
static int wait_for_all(void) {
    const struct timespec nap = {.tv_nsec = NAP_NS};
    for (int looks = 0;; looks++) {
        void *stream;
        int error = SUCCESS, bad = begin(&stream);
        if (bad)
            return bad;
        int asked = nccl.comm_get_async_error(comm, &error);
        bad = end(asked ? asked : error, "while numbers were on their way");
        int done = bad ? 0 : device->done();
        if (bad || done)
            return bad ? bad : done > 0 ? 0 : ld_error_code();
        if (looks > LOOKS)
            nanosleep(&nap, NULL);
    }
}

void ld_nccl_ranks(ld_device_ranks *t, const ld_nccl_device *d) {
    device = d;
    t->find = find;
    t->id = make_id;
    t->join = join;
    t->trade = trade;
    t->spread = spread;
    t->sum = sum;
    t->wait = wait_for_all;
    t->leave = leave;
    t->give_up = give_up;
}
