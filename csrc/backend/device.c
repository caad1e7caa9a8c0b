#define _GNU_SOURCE /* sched_getaffinity */

#include "backend/device.h"

#include "backend/graph.h"
#include "backend/plan.h"
#include "backend/plugin.h"
#include "base/error.h"
#include "comm/comm.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

/* From this size blocks are mapped on their own, at multiples of 2 MiB, so that huge pages can back them. */
#define MAPPED_FROM ((size_t)4 << 20)
#define HUGE_PAGE   ((size_t)2 << 20)
#define ALIGNMENT   256

static void *map_aligned(size_t n) {
    char *raw = mmap(NULL, n + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED)
        return NULL;
    size_t before = (HUGE_PAGE - ((uintptr_t)raw & (HUGE_PAGE - 1))) & (HUGE_PAGE - 1);
    if (before)
        munmap(raw, before);
    munmap(raw + before + n, HUGE_PAGE - before);
    madvise(raw + before, n, MADV_HUGEPAGE); /* advice: a kernel without huge pages refuses, and that is fine */
    return raw + before;
}

/* n is a size class of the pool: a multiple of 256, and of the page size from MAPPED_FROM on. */
static void *host_alloc(size_t n) {
    return n >= MAPPED_FROM ? map_aligned(n) : aligned_alloc(ALIGNMENT, n);
}

static void host_free(void *p, size_t n) {
    if (n >= MAPPED_FROM)
        munmap(p, n);
    else
        free(p);
}

static void host_purge(void *p, size_t n) {
    madvise(p, n, MADV_DONTNEED);
}

/* Address space for large blocks: four times the machine's memory, for fragments; nothing is backed before it is written.
 * Where the system does not give that much (a limit on address space, strict accounting), there is no arena. */
static void reserve(ld_pool *pool) {
    struct rlimit most;
    size_t size = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE) / HUGE_PAGE * HUGE_PAGE * 4;
    if (getrlimit(RLIMIT_AS, &most) || most.rlim_cur != RLIM_INFINITY)
        return;
    char *raw =
        mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED)
        return;
    raw += (HUGE_PAGE - ((uintptr_t)raw & (HUGE_PAGE - 1))) & (HUGE_PAGE - 1);
    madvise(raw, size, MADV_HUGEPAGE);
    ld_pool_arena(pool, raw, size, host_purge);
}

/* ---- devices --------------------------------------------------------------------------------------------------------- */

enum { DEVICES = 9 }; /* the CPU, and those of a plug-in */

static ld_device host_device = {.name = "cpu", .backend = &ld_cpu_backend};
static ld_device *in_use[DEVICES];
static int count_in_use;

static ld_device *find_host(void) {
    if (host_device.pool)
        return &host_device;
    if (!(host_device.pool = ld_pool_new(host_device.name, host_alloc, host_free, 0)))
        return NULL;
    reserve(host_device.pool);
    for (int i = count_in_use++; i > 0; i--)
        in_use[i] = in_use[i - 1];
    in_use[0] = &host_device;
    return &host_device;
}

/* The pool of an opened device. */
static int give_pool(ld_device *d) {
    const ld_device_ops *o = d->ops;
    size_t n = 0;
    if (!(d->pool = ld_pool_new(d->name, o->alloc, o->free, 0)))
        return LD_EMEM;
    ld_pool_set_planned(d->pool, &o->planned);
    void *base = o->reserve ? o->reserve(&n) : NULL;
    if (base) {
        ld_pool_arena(d->pool, base, n, o->purge);
        ld_pool_arena_commit(d->pool, o->commit);
    }
    return 0;
}

static ld_device *open_device(const ld_plugin *p, int i, const char *name) {
    static ld_device opened[DEVICES - 1];
    static int n;
    int there = p->count();
    if (there < 0)
        return NULL;
    if (i >= there)
        return ld_fail_null(LD_EDEVICE, "device: there is no %s; %s has %d device%s", name, p->name, there,
                            there == 1 ? "" : "s");
    if (n)
        return ld_fail_null(LD_EDEVICE, "device: this process computes on %s already; %s takes a process of its own",
                            opened[0].name, name);
    ld_device *d = &opened[n];
    *d = (ld_device){.ops = NULL};
    snprintf(d->name, sizeof d->name, "%s", name);
    if (p->open(i, d) || give_pool(d))
        return NULL;
    n++;
    in_use[count_in_use++] = d;
    return d;
}

/* "cuda", "cuda:0": its family and number, -1 for none. */
static bool parse(const char *name, char family[9], int *number) {
    int end = 0;
    *number = -1;
    if (sscanf(name, "%8[a-z]%n", family, &end) != 1)
        return false;
    if (!name[end])
        return true;
    char *after = NULL;
    long i = name[end] == ':' && name[end + 1] ? strtol(name + end + 1, &after, 10) : -1;
    *number = (int)i;
    return after && !*after && i >= 0 && i < 1000;
}

/* A family alone: what is in use of it; else the card for this rank, whose launcher may let it see one card only. */
static int own_number(const char *family, const ld_plugin *p) {
    size_t n = strlen(family);
    for (int k = 0; k < count_in_use; k++)
        if (!strncmp(in_use[k]->name, family, n) && in_use[k]->name[n] == ':')
            return atoi(in_use[k]->name + n + 1);
    int there = ld_comm_local_rank() ? p->count() : 1;
    return there > 0 ? ld_comm_local_rank() % there : 0;
}

ld_device *ld_device_find(const char *name) {
    char family[9], full[sizeof host_device.name];
    const ld_plugin *p = NULL;
    int i;
    if (!strcmp(name, host_device.name))
        return find_host();
    if (!parse(name, family, &i))
        return ld_fail_null(LD_EDEVICE, "device: there is no '%s'; known: cpu, cuda, cuda:0, ...", name);
    if (i < 0) {
        if (!(p = ld_plugin_load(family, name)))
            return NULL;
        i = own_number(family, p);
    }
    snprintf(full, sizeof full, "%s:%u", family, (unsigned)i % 1000);
    for (int k = 0; k < count_in_use; k++)
        if (!strcmp(full, in_use[k]->name))
            return in_use[k];
    if (!p && !(p = ld_plugin_load(family, name)))
        return NULL;
    return open_device(p, i, full);
}

ld_device *ld_device_at(int i) {
    return i < count_in_use ? in_use[i] : NULL;
}

bool ld_on_host(const ld_device *d) {
    return !d->ops;
}

int ld_device_upload(ld_device *d, void *to, const void *from, size_t n) {
    if (!n)
        return 0;
    if (ld_planning_on(d)) {
        ld_graph_note_upload(d, from, n);
        return 0;
    }
    if (d->ops)
        return d->ops->upload(to, from, n);
    memcpy(to, from, n);
    return 0;
}

int ld_device_download(ld_device *d, void *to, const void *from, size_t n) {
    int bad = ld_graph_check_host(d);
    if (bad)
        return bad;
    if (n && d->ops && !ld_planning_on(d))
        return d->ops->download(to, from, n);
    if (n && d->ops)
        memset(to, 0, n);
    else if (n)
        memcpy(to, from, n);
    return 0;
}

int ld_device_wait(ld_device *d) {
    int bad = ld_graph_check_host(d);
    return bad || !d->ops ? bad : d->ops->wait();
}

size_t ld_device_room(const ld_device *d) {
    return d->ops ? d->ops->room() : ld_memory_room();
}

/* ---- threads --------------------------------------------------------------------------------------------------------- */

static bool read_line(const char *path, char *line, int n) {
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    bool ok = fgets(line, n, f) != NULL;
    fclose(f);
    return ok;
}

static long long read_number(const char *path, long long otherwise) {
    char line[64];
    return read_line(path, line, sizeof line) ? strtoll(line, NULL, 10) : otherwise;
}

/* Different (package, core) pairs among the processors this process may run on. */
static int physical_cores(void) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed))
        return 1;
    long long seen[CPU_SETSIZE];
    int n = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        char path[96];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/physical_package_id", cpu);
        long long package = read_number(path, 0);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/core_id", cpu);
        long long id = (package << 32) + read_number(path, cpu);
        int i = 0;
        while (i < n && seen[i] != id)
            i++;
        if (i == n)
            seen[n++] = id;
    }
    return n > 0 ? n : 1;
}

static int quota_cpus(long long quota, long long period, int most) {
    if (quota <= 0 || period <= 0)
        return most;
    long long n = (quota + period - 1) / period;
    return n < most ? (int)n : most;
}

/* The path of this process's control group, version 2, below /sys/fs/cgroup. */
static void own_group(char *group, size_t n) {
    FILE *f = fopen("/proc/self/cgroup", "r");
    *group = 0;
    for (char entry[520]; f && fgets(entry, sizeof entry, f);)
        if (!strncmp(entry, "0::", 3))
            snprintf(group, n, "%.*s", (int)strcspn(entry + 3, "\n"), entry + 3);
    if (f)
        fclose(f);
}

/* The processors that the control groups of this process leave it, at most `most`: version 2 from the process's own group
 * up to the root, then version 1. */
static int quota_limit(int most) {
    char group[512], path[640], line[64];
    own_group(group, sizeof group);
    for (;;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
        long long quota, period;
        if (read_line(path, line, sizeof line) && sscanf(line, "%lld %lld", &quota, &period) == 2)
            most = quota_cpus(quota, period, most);
        char *end = strrchr(group, '/');
        if (!end)
            break;
        *end = 0;
    }
    return quota_cpus(read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", -1),
                      read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us", -1), most);
}

/* ---- memory that is left -------------------------------------------------------------------------------------------- */

/* The number after `key` in a file of "key number" lines, in bytes; `otherwise` where there is none. */
static long long find_number(const char *path, const char *key, long long otherwise) {
    FILE *f = fopen(path, "r");
    size_t n = strlen(key);
    long long found = otherwise;
    for (char line[160]; f && found == otherwise && fgets(line, sizeof line, f);)
        if (!strncmp(line, key, n) && strchr(": ", line[n]) && line[n])
            found = strtoll(line + n + 1, NULL, 10) * (strstr(line, " kB") ? 1024 : 1);
    if (f)
        fclose(f);
    return found;
}

static long long less(long long room, long long limit, long long used) {
    if (limit <= 0 || used < 0)
        return room;
    long long left = limit > used ? limit - used : 0;
    return room < 0 || left < room ? left : room;
}

/* A group's pages of files do not count: they make way. */
size_t ld_memory_room(void) {
    char group[512], path[640], stat[660];
    long long room = find_number("/proc/meminfo", "MemAvailable", -1);
    own_group(group, sizeof group);
    for (;;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", group);
        snprintf(stat, sizeof stat, "/sys/fs/cgroup%s/memory.stat", group);
        room = less(room, read_number(path, -1), find_number(stat, "anon", -1));
        char *end = strrchr(group, '/');
        if (!end)
            break;
        *end = 0;
    }
    room = less(room, read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes", -1),
                find_number("/sys/fs/cgroup/memory/memory.stat", "total_rss", -1));
    return room > 0 ? (size_t)room : 0;
}

/* ---- their number ---------------------------------------------------------------------------------------------------- */

static int default_threads(void) {
    const char *asked = getenv("OMP_NUM_THREADS");
    int n = asked ? atoi(asked) : 0;
    if (n >= 1)
        return n;
    /* Ranks of one machine that the launcher has not bound to cores of their own share all of them. */
    int mine = quota_limit(physical_cores()), share = (int)sysconf(_SC_NPROCESSORS_ONLN) / ld_comm_local_ranks();
    return mine < share ? mine : share > 1 ? share : 1;
}

static int threads;

void ld_set_threads(int n) {
    threads = n < 1 ? 1 : n;
}

int ld_threads(void) {
    if (!threads)
        threads = default_threads();
    return threads;
}
