#define _GNU_SOURCE /* dlopen, readlink */

#include "comm/comm.h"

#include "base/error.h"
#include "base/thread.h"
#include "comm/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { GRACE = 5, TICK_MS = 100 }; /* ticks that waiting goes on after a request to stop */

static const ld_comm_plugin *plugin;
static char text[128];
static bool (*stop_asked)(void);
static void (*at_end)(void);

static pthread_t thread;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t posted = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
static ld_comm_job *first, **last = &first; /* waiting or running */
static int failed;                          /* the code of the first job that failed */
static char failure[1024];

/* ---- who is there ---------------------------------------------------------------------------------------------------- */

/* Open MPI, MPICH and those with PMI, Slurm. The number of ranks counts: SLURM_NTASKS alone is there in an allocation
 * without srun as well. */
static const char *const names[][2] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                       {"PMI_RANK", "PMI_SIZE"},
                                       {"MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"},
                                       {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}};

static int from_environment(int which, int otherwise) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *rank = getenv(names[i][0]), *size = getenv(names[i][1]);
        if (rank && size && atoi(size) > 0 && atoi(rank) >= 0 && atoi(rank) < atoi(size))
            return atoi(which ? size : rank);
    }
    return otherwise;
}

int ld_comm_rank(void) {
    return from_environment(0, 0);
}

int ld_comm_ranks(void) {
    return from_environment(1, 1);
}

int ld_comm_local_ranks(void) {
    static const char *const sizes[] = {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_LOCAL_SIZE",
                                        "SLURM_NTASKS_PER_NODE"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const char *size = getenv(sizes[i]);
        if (size && atoi(size) > 0)
            return atoi(size);
    }
    return 1;
}

int ld_comm_local_rank(void) {
    static const char *const numbers[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK",
                                          "SLURM_LOCALID"};
    for (size_t i = 0; ld_comm_ranks() > 1 && i < sizeof numbers / sizeof *numbers; i++) {
        const char *number = getenv(numbers[i]);
        if (number && atoi(number) >= 0)
            return atoi(number);
    }
    return 0;
}

bool ld_comm_started(void) {
    return plugin != NULL;
}

const char *ld_comm_text(void) {
    return text;
}

void ld_comm_on_stop(bool (*stop)(void)) {
    stop_asked = stop;
}

/* ---- the thread ------------------------------------------------------------------------------------------------------ */

static void *talk(void *arg) {
    (void)arg;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!first)
            pthread_cond_wait(&posted, &lock);
        ld_comm_job *job = first;
        if (!failed) {
            pthread_mutex_unlock(&lock);
            int bad = job->run(job);
            pthread_mutex_lock(&lock);
            if (bad) {
                failed = bad;
                snprintf(failure, sizeof failure, "%s", ld_error());
            }
        }
        first = job->next;
        if (!first) {
            last = &first;
            pthread_cond_broadcast(&done);
        }
    }
    return NULL;
}

void ld_comm_post(ld_comm_job *job) {
    job->next = NULL;
    pthread_mutex_lock(&lock);
    *last = job;
    last = &job->next;
    pthread_cond_signal(&posted);
    pthread_mutex_unlock(&lock);
}

static struct timespec in_a_tick(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += TICK_MS * 1000000L;
    t.tv_sec += t.tv_nsec / 1000000000L;
    t.tv_nsec %= 1000000000L;
    return t;
}

/* Where the others do not answer, the thread stays where it is, in MPI: what it was given must never be freed, and nothing
 * more can be asked of it. */
static int given_up(void) {
    failed = LD_EINTERRUPT;
    snprintf(failure, sizeof failure, "ranks: the others do not answer, and the end was asked for");
    return ld_fail(failed, "%s", failure);
}

int ld_comm_wait(void) {
    int ticks = 0, bad = 0;
    pthread_mutex_lock(&lock);
    while (first && ticks < GRACE) {
        struct timespec t = in_a_tick();
        pthread_cond_timedwait(&done, &lock, &t);
        ticks = first && stop_asked && stop_asked() ? ticks + 1 : 0;
    }
    if (first)
        bad = given_up();
    else if (failed)
        bad = ld_fail(failed, "%s", failure);
    pthread_mutex_unlock(&lock);
    return bad;
}

/* ---- begin and end --------------------------------------------------------------------------------------------------- */

/* Beside the executable: in build/ of the source tree, or lib/ldlua beside bin/. */
static const ld_comm_plugin *load(void) {
    static const char *const below[] = {"build/ld_mpi.so", "../lib/ldlua/ld_mpi.so"};
    const char *given = getenv("LD_MPI_PLUGIN");
    char path[PATH_MAX + 64], exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n < 0 ? 0 : n] = 0;
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = 0;
    snprintf(path, sizeof path, "%s", given ? given : "");
    for (size_t i = 0; !given && i < sizeof below / sizeof *below; i++) {
        snprintf(path, sizeof path, "%s/%s", exe, below[i]);
        if (!access(path, R_OK))
            break;
    }
    if (access(path, R_OK))
        return ld_fail_null(
            LD_EDEVICE,
            "ranks: %d were started, but there is no %s: ldlua was built without MPI (install an MPI, such "
            "as libopenmpi-dev, and run make)",
            ld_comm_ranks(), path);
    /* Open MPI's own plug-ins look for its symbols among the global ones */
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
        const char *why = dlerror();
        return ld_fail_null(LD_EDEVICE, "ranks: the plug-in for MPI does not load: %s", why ? why : path);
    }
    void *symbol = dlsym(library, "ld_comm_plugin_entry");
    ld_comm_plugin_fn *entry;
    memcpy(&entry, &symbol, sizeof entry);
    const ld_comm_plugin *p = entry ? entry() : NULL;
    if (p && p->interface == LD_COMM_INTERFACE)
        return p;
    return ld_fail_null(LD_EDEVICE, "ranks: %s is no plug-in of this ldlua: it was built for another version", path);
}

typedef struct start_job {
    ld_comm_job job;
    const ld_comm_plugin *p;
    int rank, ranks;
} start_job;

static int mpi_failed(const ld_comm_plugin *p, int error) {
    return ld_fail(LD_EINTERNAL, "ranks: MPI failed: %s", p->message(error));
}

static int run_start(ld_comm_job *job) {
    start_job *s = (start_job *)job;
    int bad = s->p->start(&s->rank, &s->ranks, text, sizeof text);
    return bad ? mpi_failed(s->p, bad) : 0;
}

int ld_comm_start(void) {
    if (plugin || ld_comm_ranks() == 1)
        return 0;
    static start_job s; /* the thread may keep it */
    s = (start_job){.job.run = run_start, .p = load()};
    if (!s.p)
        return ld_error_code();
    if (ld_thread_start(&thread, talk, NULL))
        return ld_fail(LD_EINTERNAL, "ranks: no thread for their messages");
    ld_comm_post(&s.job);
    int bad = ld_comm_wait();
    if (bad)
        return bad;
    if (s.rank != ld_comm_rank() || s.ranks != ld_comm_ranks())
        return ld_fail(
            LD_EINTERNAL,
            "ranks: the launcher says rank %d of %d, MPI rank %d of %d: they do not belong together; ldlua's "
            "plug-in was built with %s",
            ld_comm_rank(), ld_comm_ranks(), s.rank, s.ranks, text);
    plugin = s.p;
    return 0;
}

static int run_end(ld_comm_job *job) {
    (void)job;
    if (at_end)
        at_end();
    plugin->end();
    return 0;
}

void ld_comm_end(void) {
    static ld_comm_job job = {.run = run_end};
    if (!plugin || failed)
        return;
    ld_comm_post(&job);
    ld_comm_wait();
}

void ld_comm_at_end(void (*end)(void)) {
    at_end = end;
}

void ld_comm_abort(int status) {
    if (plugin)
        plugin->abort(status);
}

/* ---- messages -------------------------------------------------------------------------------------------------------- */

typedef struct block_job {
    ld_comm_job job;
    const void *mine;
    void *all;
    size_t bytes;
} block_job;

static int run_gather(ld_comm_job *job) {
    block_job *b = (block_job *)job;
    int bad = plugin->gather(b->mine, (int)b->bytes, b->all);
    return bad ? mpi_failed(plugin, bad) : 0;
}

/* The job and its buffers are on the heap: after an interruption the thread may still hold them, and they are left to it. */
static int block(block_job given) {
    block_job *b = malloc(sizeof *b);
    if (!b)
        return ld_fail(LD_EMEM, "ranks: out of host memory");
    *b = given;
    ld_comm_post(&b->job);
    int bad = ld_comm_wait();
    if (bad != LD_EINTERRUPT)
        free(b);
    return bad;
}

int ld_comm_gather(const void *mine, size_t bytes, void *all) {
    if (!plugin) {
        memcpy(all, mine, bytes);
        return 0;
    }
    size_t n = (size_t)ld_comm_ranks();
    if (bytes > INT_MAX / n)
        return ld_fail(LD_EVALUE, "ranks: %zu bytes of each are too many for one message", bytes);
    char *own = malloc(bytes * (n + 1) + 1);
    if (!own)
        return ld_fail(LD_EMEM, "ranks: out of host memory");
    memcpy(own, mine, bytes);
    int bad = block((block_job){.job.run = run_gather, .mine = own, .all = own + bytes, .bytes = bytes});
    if (!bad)
        memcpy(all, own + bytes, bytes * n);
    if (bad != LD_EINTERRUPT)
        free(own);
    return bad;
}

int ld_comm_exchange(const void *from, const int *sent, const int *at, void *to, const int *taken, const int *put) {
    int bad = plugin->exchange(from, sent, at, to, taken, put);
    return bad ? mpi_failed(plugin, bad) : 0;
}

int ld_comm_spread(const void *mine, const int *counts, const int *at, void *all) {
    int bad = plugin->spread(mine, counts[ld_comm_rank()], all, counts, at);
    return bad ? mpi_failed(plugin, bad) : 0;
}
