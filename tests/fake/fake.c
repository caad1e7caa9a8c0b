/* A device for tests, whose memory the host cannot read: "fake:0" (and "fake:1", which does not open).
 *
 * Every address it gives out lies in a region that is never accessible; what is "on the device" lies DISTANCE further, and
 * only the slots here, which are the CPU's behind a translation of every address (narrow.h has what it lacks in bf16 and f16), and
 * the copies know that. So a part of the
 * program that follows an address into a tensor without asking the device crashes at once, and a slot that is handed host
 * memory says so. Fresh memory is poisoned. LD_FAKE_FAULT=n: the n-th slot call from the start fails as a card that got lost
 * does, and so does everything after it. LD_FAKE_MEMORY=bytes: the device has no more. LD_FAKE_NO_GRAPHS: it cannot record
 * (capture.cpp). Messages between ranks: ranks.h. LD_FAKE_IDLE=1: the slots compute nothing and fresh memory reads as zeros, so
 * that a program goes its way at full size in no time; with LD_FAKE_LOG, which lists the convolutions that are planned, those
 * that run are listed as well. */
#define _GNU_SOURCE

#include "fake.h"

#include "backend/slot_calls.h"
#include "base/error.h"

#include <execinfo.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, SLOTS = 64 };
#define REGION ((size_t)1 << 40) /* small blocks, the arena, and plans: a third each */
#define THIRD  (REGION / 3 / PAGE * PAGE)

static const ld_plugin_host *host;
static char *region;       /* addresses that are given out */
static ptrdiff_t distance; /* from there to the memory behind */
static size_t small_used, plan_used, committed_top, room_left = (size_t)1 << 36;
static long fault_at, calls;
static bool lost, idle; /* idle: LD_FAKE_IDLE */

/* What this plug-in's files, those of the CUDA plug-in among them, ask of the core. */
int ld_fail(int code, const char *fmt, ...) {
    char text[512];
    va_list more;
    va_start(more, fmt);
    vsnprintf(text, sizeof text, fmt, more);
    va_end(more);
    return host->fail(code, text);
}

const char *ld_error(void) {
    return host->error();
}

int ld_error_code(void) {
    return host->error_code();
}

static int check_lost(const char *who) {
    return lost ? ld_fail(LD_EDEVICE, "%s: fake:0 is lost since an earlier operation; end the program", who) : 0;
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

static bool inside(const void *p) {
    return (const char *)p >= region && (const char *)p < region + REGION;
}

void *fake_behind(const void *p) {
    return p ? (char *)(uintptr_t)p + distance : NULL;
}

static void poison(void *p, size_t n) {
    if (!idle)
        memset(fake_behind(p), 0xFF, n); /* NaN in every float, -1 in every integer */
}

static void *take_small(size_t n) {
    if (n > room_left || small_used + n > THIRD)
        return NULL;
    room_left -= n;
    char *p = region + small_used;
    small_used += (n + 255) / 256 * 256;
    poison(p, n);
    return p;
}

/* Addresses are never given out twice, so that use after this shows. */
static void give_small(void *p, size_t n) {
    fake_drain();
    room_left += n;
    poison(p, n);
}

static void *reserve(size_t *n) {
    *n = THIRD;
    return region + THIRD;
}

/* Memory is there up to committed_top, and ranges below it that were purged are poisoned. */
static bool commit(void *p, size_t n) {
    size_t end = (size_t)((char *)p + n - (region + THIRD));
    if (end <= committed_top)
        return true;
    size_t more = end - committed_top;
    if (more > room_left)
        return false;
    room_left -= more;
    poison(region + THIRD + committed_top, more);
    committed_top = end;
    return true;
}

static void purge(void *p, size_t n) {
    size_t at = (size_t)((char *)p - (region + THIRD));
    fake_drain();
    madvise(fake_behind(p), n, MADV_DONTNEED);
    if (at + n >= committed_top && at < committed_top) {
        room_left += committed_top - at;
        committed_top = at;
    }
}

static void *plan_take(size_t n) {
    char *p = region + 2 * THIRD + plan_used;
    if (plan_used + n > THIRD)
        return NULL;
    plan_used += (n + 255) / 256 * 256;
    return p;
}

static void plan_give(void *p, size_t n) {
    (void)p, (void)n;
}

static bool plan_keep(void *p, size_t n) {
    fake_drain();
    memset(fake_behind(p), 0, n);
    return true;
}

/* LD_FAKE_COPIES=file: a line a copy, `to` or `from` the device and its bytes. */
static void log_copy(const char *way, size_t n) {
    static FILE *log;
    const char *path = getenv("LD_FAKE_COPIES");
    if (log || (path && (log = fopen(path, "a"))))
        fprintf(log, "%s %zu\n", way, n);
}

static int upload(void *to, const void *from, size_t n) {
    if (check_lost("copy to the device"))
        return LD_EDEVICE;
    if (!inside(to) || inside(from))
        return ld_fail(LD_EINTERNAL, "fake: a copy to the device from %p to %p", from, to);
    log_copy("to", n);
    if (fake_later())
        return fake_upload_later(to, from, n);
    memcpy(fake_behind(to), from, n);
    return 0;
}

static int download(void *to, const void *from, size_t n) {
    if (fake_recording())
        return ld_fail(LD_ESTATE, "fake: a copy from the device cannot be recorded");
    if (fake_drain() || check_lost("copy from the device"))
        return LD_EDEVICE;
    if (inside(to) || !inside(from))
        return ld_fail(LD_EINTERNAL, "fake: a copy from the device from %p to %p", from, to);
    memcpy(to, fake_behind(from), n);
    log_copy("from", n);
    return 0;
}

static int wait_for_it(void) {
    return fake_drain() ? LD_EDEVICE : check_lost("wait");
}

static size_t room(void) {
    return room_left;
}

/* ---- slots ----------------------------------------------------------------------------------------------------------- */

static int64_t elements(const ld_view *v) {
    int64_t n = 1;
    for (int i = 0; i < v->ndim; i++)
        n *= v->shape[i];
    return n;
}

/* The views of one call, translated. */
static ld_view translated[SLOTS];
static int n_translated, bad_argument;

static const ld_view *view_behind(const ld_view *v) {
    if (!v)
        return NULL;
    if (!inside(v->data) && elements(v))
        bad_argument++;
    ld_view *t = &translated[n_translated++ % SLOTS];
    *t = *v;
    t->data = fake_behind(v->data);
    return t;
}

/* Bases of sample numbers. */
static const uint64_t *base_behind(const uint64_t *base) {
    bad_argument += base && !inside(base);
    return fake_behind(base);
}

static int begin(const char *who) {
    n_translated = bad_argument = 0;
    calls++;
    if (fault_at && calls >= fault_at)
        lost = true;
    return check_lost(who);
}

static int host_memory(const char *who) {
    return ld_fail(LD_EINTERNAL, "%s: fake:0 was handed %d views of host memory", who, bad_argument);
}

#include "narrow.h"

/* An argument as it is passed on: views are translated, all else stays. */
#define VIEW_OR_NULL(a) _Generic((a), const ld_view * : (a), default : NULL)
#define BASE_OR_NULL(a) _Generic((a), const uint64_t * : (a), default : NULL)
#define IN(a)                                                                                                          \
    _Generic((a), const ld_view *                                                                                      \
             : view_behind(VIEW_OR_NULL(a)), const uint64_t *                                                          \
             : base_behind(BASE_OR_NULL(a)), default                                                                   \
             : (a))

#define EACH_1(a)                                        IN(a)
#define EACH_2(a, ...)                                   IN(a), EACH_1(__VA_ARGS__)
#define EACH_3(a, ...)                                   IN(a), EACH_2(__VA_ARGS__)
#define EACH_4(a, ...)                                   IN(a), EACH_3(__VA_ARGS__)
#define EACH_5(a, ...)                                   IN(a), EACH_4(__VA_ARGS__)
#define EACH_6(a, ...)                                   IN(a), EACH_5(__VA_ARGS__)
#define EACH_7(a, ...)                                   IN(a), EACH_6(__VA_ARGS__)
#define EACH_8(a, ...)                                   IN(a), EACH_7(__VA_ARGS__)
#define EACH_9(a, ...)                                   IN(a), EACH_8(__VA_ARGS__)
#define EACH_10(a, ...)                                  IN(a), EACH_9(__VA_ARGS__)
#define EACH_11(a, ...)                                  IN(a), EACH_10(__VA_ARGS__)
#define PICK(a, b, c, d, e, f, g, h, i, j, k, name, ...) name
#define EACH(...)                                                                                                      \
    PICK(__VA_ARGS__, EACH_11, EACH_10, EACH_9, EACH_8, EACH_7, EACH_6, EACH_5, EACH_4, EACH_3, EACH_2, EACH_1, none)  \
    (__VA_ARGS__)

#define VIEWS_1(a)       VIEW_OR_NULL(a)
#define VIEWS_2(a, ...)  VIEW_OR_NULL(a), VIEWS_1(__VA_ARGS__)
#define VIEWS_3(a, ...)  VIEW_OR_NULL(a), VIEWS_2(__VA_ARGS__)
#define VIEWS_4(a, ...)  VIEW_OR_NULL(a), VIEWS_3(__VA_ARGS__)
#define VIEWS_5(a, ...)  VIEW_OR_NULL(a), VIEWS_4(__VA_ARGS__)
#define VIEWS_6(a, ...)  VIEW_OR_NULL(a), VIEWS_5(__VA_ARGS__)
#define VIEWS_7(a, ...)  VIEW_OR_NULL(a), VIEWS_6(__VA_ARGS__)
#define VIEWS_8(a, ...)  VIEW_OR_NULL(a), VIEWS_7(__VA_ARGS__)
#define VIEWS_9(a, ...)  VIEW_OR_NULL(a), VIEWS_8(__VA_ARGS__)
#define VIEWS_10(a, ...) VIEW_OR_NULL(a), VIEWS_9(__VA_ARGS__)
#define VIEWS_11(a, ...) VIEW_OR_NULL(a), VIEWS_10(__VA_ARGS__)
#define VIEWS_OF(...)                                                                                                  \
    PICK(__VA_ARGS__, VIEWS_11, VIEWS_10, VIEWS_9, VIEWS_8, VIEWS_7, VIEWS_6, VIEWS_5, VIEWS_4, VIEWS_3, VIEWS_2,      \
         VIEWS_1, none)                                                                                                \
    (__VA_ARGS__)

/* The arguments, translated, are made before the body runs: so host memory shows before it is computed on. */
#define WRAP(slot, params, ...)                                                                                        \
    static int wrapped_##slot params {                                                                                 \
        const ld_view *const views_[] = {VIEWS_OF(__VA_ARGS__)};                                                       \
        narrowed call_;                                                                                                \
        if (bad_argument)                                                                                              \
            return host_memory(#slot);                                                                                 \
        int bad_ = widen(&call_, #slot, views_, sizeof views_ / sizeof *views_);                                       \
        return narrow(&call_, bad_ ? bad_ : host->cpu->slot(__VA_ARGS__));                                             \
    }                                                                                                                  \
    __attribute__((unused)) static int fake_##slot params {                                                            \
        if (fake_later())                                                                                              \
            return fake_held.slot(__VA_ARGS__);                                                                        \
        return begin(#slot) ? LD_EDEVICE : wrapped_##slot(EACH(__VA_ARGS__));                                          \
    }
LD_SLOT_CALLS(WRAP)

/* Cells are of the device too. */
static const ld_cell *cell_behind(const ld_cell *cell) {
    bad_argument += cell && !inside(cell);
    return fake_behind(cell);
}

static int list_update(const ld_update *u, int n, double scale, double decay, const ld_cell *cell) {
    if (fake_later())
        return fake_held.update(u, n, scale, decay, cell);
    ld_update *list = malloc((size_t)(n + 1) * sizeof *list);
    int bad = begin("update");
    for (int i = 0; i < n && !bad; i++) {
        const void *at[6] = {u[i].p, u[i].m, u[i].v, u[i].s, u[i].g, u[i].shadow};
        for (int k = 0; k < 6; k++)
            bad_argument += at[k] && !inside(at[k]) && u[i].n;
        list[i] = u[i];
        list[i].p = fake_behind(u[i].p), list[i].m = fake_behind(u[i].m), list[i].v = fake_behind(u[i].v);
        list[i].s = fake_behind(u[i].s), list[i].g = fake_behind(u[i].g), list[i].shadow = fake_behind(u[i].shadow);
    }
    if (!bad) {
        cell = cell_behind(cell);
        bad = bad_argument ? host_memory("update") : update_mixed(list, n, scale, decay, cell);
    }
    free(list);
    return bad;
}

static int list_judge(ld_cell *cell, const ld_view *loss, const ld_view *xs, int n) {
    if (fake_later())
        return fake_held.judge(cell, loss, xs, n);
    ld_view *list = malloc((size_t)(n + 1) * sizeof *list);
    int bad = begin("judge");
    for (int i = 0; i < n && !bad; i++)
        list[i] = *view_behind(&xs[i]);
    if (!bad) {
        ld_cell *there = (ld_cell *)(uintptr_t)cell_behind(cell);
        loss = view_behind(loss);
        bad = bad_argument ? host_memory("judge") : judge_mixed(there, loss, list, n);
    }
    free(list);
    return bad;
}

static int list_sumsq(double *sum, const ld_view *xs, int n) {
    if (fake_later())
        return fake_held.sumsq(sum, xs, n);
    ld_view *list = malloc((size_t)(n + 1) * sizeof *list);
    int bad = begin("sumsq");
    for (int i = 0; i < n && !bad; i++)
        list[i] = *view_behind(&xs[i]);
    if (!bad)
        bad = bad_argument ? host_memory("sumsq") : sumsq_mixed(sum, list, n);
    free(list);
    return bad;
}

/* While memory is planned nothing is computed; no slot of this device takes workspace of its pool. */
#define NOTHING(slot, params, ...)                                                                                     \
    static int no_##slot params {                                                                                      \
        return nothing(0, __VA_ARGS__);                                                                                \
    }
static int nothing(int code, ...) {
    return code;
}
LD_SLOT_CALLS(NOTHING)

static int plan_sumsq(double *sum, const ld_view *xs, int n) {
    *sum = 0;
    return nothing(0, xs, n);
}

/* LD_FAKE_LOG=file: the convolutions that are planned, a line each: kind, sizes of x, of w, of y, stride, padding (top, bottom,
 * left, right), whether with bias, whether upsampled. */
static int log_conv(const char *kind, const ld_view *y, const ld_view *x, const ld_view *w, bool bias,
                    const ld_conv_shape *s) {
    static FILE *log;
    const char *path = getenv("LD_FAKE_LOG");
    if (!log && (!path || !(log = fopen(path, "a"))))
        return 0;
    fputs(kind, log);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 4; i++)
            fprintf(log, " %lld", (long long)(k == 0 ? x : k == 1 ? w : y)->shape[i]);
    fprintf(log, " %d %d %d %d %d %d %d %d\n", s->stride_h, s->stride_w, s->top, s->bottom, s->left, s->right, bias,
            s->up);
    return fflush(log);
}

/* LD_FAKE_IDLE: classes and places are computed all the same, so that nobody stumbles over what lay there before. */
static int idle_fill(const ld_view *y, double value) {
    return y->dtype < LD_I64 ? 0 : fake_fill(y, value);
}

static int idle_copy(const ld_view *y, const ld_view *x) {
    return y->dtype < LD_I64 ? 0 : x->dtype < LD_I64 ? fake_fill(y, 0) : fake_copy(y, x);
}

static int idle_arg(const ld_view *y, const ld_view *x, int dim, bool smallest) {
    return fake_fill(y, nothing(0, x, dim, smallest));
}

static int log_conv2d(const ld_view *y, const ld_view *x, const ld_view *w, const ld_view *bias,
                      const ld_conv_shape *s) {
    return log_conv("forward", y, x, w, bias != NULL, s);
}

static int log_conv2d_dx(const ld_view *dx, const ld_view *g, const ld_view *w, const ld_conv_shape *s) {
    return log_conv("data", g, dx, w, false, s);
}

static int log_conv2d_dw(const ld_view *dw, const ld_view *db, const ld_view *x, const ld_view *g,
                         const ld_conv_shape *s) {
    return log_conv("weight", g, x, dw, db != NULL, s);
}

#include "ranks.h"

/* ---- the plug-in ----------------------------------------------------------------------------------------------------- */

#define ENTRY(slot, params, ...) .slot = fake_##slot,
#define EMPTY(slot, params, ...) .slot = no_##slot,
static ld_backend table = {.name = "fake", .halves = true, LD_SLOT_CALLS(ENTRY)},
                  plan_table = {.name = "fake", .halves = true, LD_SLOT_CALLS(EMPTY)};

const ld_backend *const fake_table = &table;

static ld_device_ops ops = {.alloc = take_small,
                            .free = give_small,
                            .reserve = reserve,
                            .commit = commit,
                            .purge = purge,
                            .planned = {plan_take, plan_give, plan_keep},
                            .upload = upload,
                            .download = download,
                            .wait = wait_for_it,
                            .room = room,
                            .plan = &plan_table,
                            .graph = &fake_graph_ops};

static struct sigaction before;

/* Says what happened, then lets the default have its way. */
static void on_fault(int sig, siginfo_t *info, void *context) {
    (void)context;
    if (inside(info->si_addr)) {
        static const char text[] = "fake: the host followed an address into the device's memory, from here:\n";
        void *frames[32];
        ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
        if (written > 0)
            backtrace_symbols_fd(frames, backtrace(frames, 32), STDERR_FILENO);
    }
    sigaction(sig, &before, NULL);
}

static int count(void) {
    const char *cards = getenv("LD_FAKE_CARDS");
    return getenv("LD_FAKE_NONE") ? ld_fail(LD_EDEVICE, "fake: there is no driver"), -1 : cards ? atoi(cards) : 2;
}

static int open_device(int i, ld_device *d) {
    if (i > 0 && !getenv("LD_FAKE_CARDS"))
        return ld_fail(LD_EDEVICE, "device: %s does not open", d->name);
    device_number = i;
    const char *fault = getenv("LD_FAKE_FAULT"), *bytes = getenv("LD_FAKE_MEMORY");
    fault_at = fault ? atol(fault) : 0;
    if (bytes)
        room_left = (size_t)atoll(bytes);
    region = mmap(NULL, REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *memory = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED || memory == MAP_FAILED)
        return ld_fail(LD_EMEM, "fake: no address space");
    distance = memory - region;
    struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &act, &before);
    if (idle || getenv("LD_FAKE_NO_GRAPHS"))
        ops.graph = NULL;
    d->ops = &ops;
    d->backend = idle ? &plan_table : &table;
    d->ranks = fake_ranks();
    snprintf(d->text, sizeof d->text, "the CPU, behind memory that the host cannot read");
    return 0;
}

static void doctor(ld_plugin_say *say, void *arg) {
    say(arg, "driver", "none is needed");
    say(arg, "device fake:0", "the CPU, behind memory that the host cannot read");
    say(arg, "NCCL, for several ranks", ld_nccl_version("doctor") ? ld_nccl_file() : ld_error());
}

const ld_plugin *ld_plugin_entry(const ld_plugin_host *h) {
    static const ld_plugin plugin = {LD_PLUGIN_INTERFACE, "fake", count, open_device, doctor};
    host = h;
    table.update = list_update;
    table.judge = list_judge;
    table.sumsq = list_sumsq;
    table.forget = h->cpu->forget;
    plan_table.sumsq = plan_sumsq;
    if ((idle = getenv("LD_FAKE_IDLE"))) {
        plan_table.fill = idle_fill;
        plan_table.copy = idle_copy;
        plan_table.arg = idle_arg;
    }
    plan_table.conv2d = log_conv2d;
    plan_table.conv2d_dx = log_conv2d_dx;
    plan_table.conv2d_dw = log_conv2d_dw;
    return &plugin;
}
