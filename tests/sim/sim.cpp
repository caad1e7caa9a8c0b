/* The scheduler of sim.h: fibers, barriers, warp functions, shared memory, and what is wrong with them. */
#include "control.h"
#include <sim.h>

extern "C" {
#include "base/error.h"
int ld_cuda_launched(const char *kernel);
}

#include <errno.h>
#include <set>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__x86_64__) && !defined(LD_SIM_UCONTEXT)
#define LD_SIM_SWITCH /* a switch of ten instructions instead of the C library's */
#else
#include <ucontext.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace {

enum { MOST_THREADS = 1024, LANES = 32, ARRAYS = 64, GUARD = 64, STACK = 128 << 10 };
enum { MOST_SHARED = 48 << 10, MOST_ALLOWED = 99 << 10 }; /* without and with LD_ALLOW_SHARED; 99 KiB: sm_86, sm_89 */
enum state { READY, AT_BARRIER, IN_WARP, ENDED };

/* ---- fibers ---------------------------------------------------------------------------------------------------------- */

struct stack {
#ifdef LD_SIM_SWITCH
    void *at; /* the stack pointer while it does not run */
#else
    ucontext_t at;
#endif
    char *base;
    size_t size;
};

#ifdef LD_SIM_SWITCH
extern "C" void ld_sim_switch(void **save, void *load);
asm(".text\n.globl ld_sim_switch\n.type ld_sim_switch,@function\nld_sim_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
    ".size ld_sim_switch,.-ld_sim_switch\n");
#endif

struct thread {
    stack own;
    state now;
    int line; /* where it waits */
    ld_sim_warp_op op;
    unsigned mask;
    uint64_t value, result;
    int lane, width; /* the lane or the distance that it asks for */
    uint3 index;
};

/* An array in shared memory, with guards around it where the sanitizer does not watch. */
struct array {
    const void *tag;
    char *memory;
    size_t bytes;
};

struct simulator {
    ld_sim_order order;
    uint64_t random;
    thread threads[MOST_THREADS];
    int count, me;
    stack main;
    array arrays[ARRAYS];
    int array_count;
    size_t shared, dynamic, allowed;
    const char *kernel;
    void (*body)(const void *);
    const void *arg;
    char fault[256];
    int64_t launches;
} sim;

void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void fail(const char *fmt, ...) {
    if (sim.fault[0])
        return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(sim.fault, sizeof sim.fault, fmt, args);
    va_end(args);
}

#ifdef __SANITIZE_ADDRESS__
#define QUIET __attribute__((no_sanitize("address")))
#else
#define QUIET
#endif

QUIET void change(stack *from, stack *to) {
#ifdef __SANITIZE_ADDRESS__
    void *fake = NULL;
    __sanitizer_start_switch_fiber(&fake, to->base, to->size);
#endif
#ifdef LD_SIM_SWITCH
    ld_sim_switch(&from->at, to->at);
#else
    swapcontext(&from->at, &to->at);
#endif
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
}

/* Back to the scheduler, until it goes on with this thread. */
void wait_as(state now, int line) {
    thread *t = &sim.threads[sim.me];
    t->now = now;
    t->line = line;
    change(&t->own, &sim.main);
}

QUIET void entry(void) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(NULL, (const void **)&sim.main.base, &sim.main.size);
#endif
    sim.body(sim.arg);
    wait_as(ENDED, 0);
}

void prepare(thread *t) {
    if (!t->own.base) {
        /* tops at the same distance would share their sets of the caches */
        t->own.size = STACK - (size_t)(t - sim.threads) * 448 % 16384;
        t->own.base =
            (char *)mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(t->own.base, t->own.size);
#endif
    t->now = READY;
#ifdef LD_SIM_SWITCH
    void **top = (void **)(t->own.base + t->own.size);
    top[-1] = NULL; /* where entry would return to */
    top[-2] = (void *)entry;
    for (int i = 3; i <= 8; i++)
        top[-i] = NULL;
    t->own.at = top - 8;
#else
    getcontext(&t->own.at);
    t->own.at.uc_stack.ss_sp = t->own.base;
    t->own.at.uc_stack.ss_size = t->own.size;
    t->own.at.uc_link = NULL;
    makecontext(&t->own.at, entry, 0);
#endif
}

void run_thread(int i) {
    sim.me = i;
    threadIdx = sim.threads[i].index;
    change(&sim.main, &sim.threads[i].own);
}

/* ---- order ------------------------------------------------------------------------------------------------------------- */

unsigned draw(unsigned below) {
    sim.random = sim.random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((sim.random >> 33) % below);
}

void arrange(int *list, int n) {
    for (int i = 0; i < n; i++)
        list[i] = sim.order == LD_SIM_BACKWARD ? n - 1 - i : i;
    for (int i = n - 1; sim.order == LD_SIM_RANDOM && i > 0; i--) {
        int k = (int)draw((unsigned)i + 1), t = list[i];
        list[i] = list[k];
        list[k] = t;
    }
}

/* ---- warp functions ---------------------------------------------------------------------------------------------------- */

const char *op_name(ld_sim_warp_op op) {
    static const char *const names[] = {"__shfl_sync",     "__shfl_up_sync", "__shfl_down_sync",
                                        "__shfl_xor_sync", "a vote",         "__syncwarp"};
    return names[op];
}

/* The lane whose value `lane` gets; -1: it asks for one outside the mask. */
int source_of(const thread *t, int lane) {
    int first = lane / t->width * t->width, from = lane;
    if (t->op == LD_SIM_INDEX)
        from = first + (t->lane & (t->width - 1));
    else if (t->op == LD_SIM_UP && lane - t->lane >= first)
        from = lane - t->lane;
    else if (t->op == LD_SIM_DOWN && lane + t->lane < first + t->width)
        from = lane + t->lane;
    else if (t->op == LD_SIM_XOR && (lane ^ t->lane) < first + t->width)
        from = lane ^ t->lane;
    return t->mask >> from & 1 ? from : -1;
}

void complete(thread *warp, unsigned mask) {
    unsigned votes = 0;
    for (int i = 0; i < LANES; i++)
        if (mask >> i & 1 && warp[i].value)
            votes |= 1u << i;
    for (int i = 0; i < LANES; i++) {
        if (!(mask >> i & 1))
            continue;
        thread *t = &warp[i];
        int from = t->op < LD_SIM_BALLOT ? source_of(t, i) : i;
        if (from < 0)
            fail("line %d: lane %d reads a lane outside the mask %08x of %s", t->line, i, mask, op_name(t->op));
        else
            t->result = t->op == LD_SIM_BALLOT ? votes : warp[from].value;
        t->now = READY;
    }
}

/* Warp functions that all their lanes have come to. */
void complete_warp(thread *warp, int lanes) {
    for (int i = 0; i < lanes; i++) {
        const thread *t = &warp[i];
        bool ready = t->now == IN_WARP;
        for (int k = 0; k < LANES && ready; k++)
            ready = !(t->mask >> k & 1) || (k < lanes && warp[k].now == IN_WARP && warp[k].mask == t->mask &&
                                            warp[k].op == t->op && warp[k].line == t->line);
        if (ready)
            complete(warp, t->mask);
    }
}

/* Each lane that can, once. */
void run_warp(int w) {
    int first = w * LANES, lanes = sim.count - first < LANES ? sim.count - first : LANES, list[LANES];
    arrange(list, lanes);
    for (int i = 0; i < lanes && !sim.fault[0]; i++)
        if (sim.threads[first + list[i]].now == READY)
            run_thread(first + list[i]);
    complete_warp(sim.threads + first, lanes);
}

bool can_run(int w) {
    for (int i = w * LANES; i < sim.count && i < (w + 1) * LANES; i++)
        if (sim.threads[i].now == READY)
            return true;
    return false;
}

/* ---- blocks ------------------------------------------------------------------------------------------------------------ */

/* Until every thread waits at a barrier, or has ended. */
void run_to_barrier(void) {
    int warps = (sim.count + LANES - 1) / LANES, list[MOST_THREADS / LANES], left = warps;
    arrange(list, warps);
    while (left > 0 && !sim.fault[0]) {
        int k = sim.order == LD_SIM_RANDOM ? (int)draw((unsigned)left) : 0;
        if (can_run(list[k]))
            run_warp(list[k]);
        else {
            left--;
            for (; k < left; k++)
                list[k] = list[k + 1];
        }
    }
}

/* Lets the threads pass the barrier they all wait at. False when they have all ended, or something is wrong. */
bool pass_barrier(void) {
    const thread *first = &sim.threads[0];
    for (int i = 0; i < sim.count; i++) {
        const thread *t = &sim.threads[i];
        if (t->now == IN_WARP)
            fail("line %d: lane %d waits in %s for lanes of mask %08x that do not come", t->line, i % LANES,
                 op_name(t->op), t->mask);
        else if (t->now != first->now)
            fail("a barrier in a branch: at line %d only some threads of the block wait, others have ended",
                 t->now == AT_BARRIER ? t->line : first->line);
        else if (t->now == AT_BARRIER && t->line != first->line)
            fail("a barrier in a branch: threads of the block wait at lines %d and %d", first->line, t->line);
    }
    if (sim.fault[0] || first->now == ENDED)
        return false;
    for (int i = 0; i < sim.count; i++)
        sim.threads[i].now = READY;
    return true;
}

array *new_array(const void *tag, size_t bytes) {
    if (sim.array_count == ARRAYS || (sim.shared += bytes) > MOST_SHARED + (tag ? 0 : sim.allowed))
        fail("%zu bytes of shared memory are more than there is", sim.shared);
    array *a = &sim.arrays[sim.array_count < ARRAYS ? sim.array_count++ : ARRAYS - 1];
    *a = {tag, NULL, bytes};
#ifdef __SANITIZE_ADDRESS__
    a->memory = (char *)aligned_alloc(16, (bytes + 15) / 16 * 16);
    __asan_poison_memory_region(a->memory + bytes, (16 - bytes % 16) % 16);
    memset(a->memory, 0xff, bytes);
#else
    a->memory = (char *)aligned_alloc(GUARD, (bytes + 3 * GUARD - 1) / GUARD * GUARD);
    memset(a->memory, 0xcd, GUARD);
    memset(a->memory + GUARD, 0xff, bytes);
    memset(a->memory + GUARD + bytes, 0xcd, GUARD);
    a->memory += GUARD;
#endif
    return a;
}

void drop_arrays(void) {
    while (sim.array_count) {
        array *a = &sim.arrays[--sim.array_count];
#ifdef __SANITIZE_ADDRESS__
        __asan_unpoison_memory_region(a->memory, (a->bytes + 15) / 16 * 16);
        free(a->memory);
#else
        for (int i = 0; i < GUARD; i++)
            if ((unsigned char)a->memory[-1 - i] != 0xcd || (unsigned char)a->memory[a->bytes + (size_t)i] != 0xcd)
                fail("a shared array of %zu bytes was written %d bytes outside its bounds", a->bytes, i + 1);
        free(a->memory - GUARD);
#endif
    }
    sim.shared = 0;
}

void run_block(void) {
    for (int i = 0; i < sim.count; i++) {
        unsigned k = (unsigned)i;
        prepare(&sim.threads[i]);
        sim.threads[i].index = {k % blockDim.x, k / blockDim.x % blockDim.y, k / blockDim.x / blockDim.y};
    }
    if (sim.dynamic)
        new_array(NULL, sim.dynamic);
    do
        run_to_barrier();
    while (!sim.fault[0] && pass_barrier());
    drop_arrays();
}

/* ---- what was run, and what is left out -------------------------------------------------------------------------------- */

/* Lines of the log: `PROGRAM kernel NAME`, `PROGRAM barrier FILE:LINE`. */
struct record {
    const char *path = getenv("LD_SIM_LOG");
    std::set<std::string> lines;
    ~record() {
        FILE *f = path ? fopen(path, "a") : NULL;
        for (const std::string &line : lines)
            if (f)
                fprintf(f, "%s %s\n", program_invocation_short_name, line.c_str());
        if (f)
            fclose(f);
    }
} seen;

void saw_kernel(const char *kernel) {
    if (!seen.path)
        return;
    const char *from = kernel + strspn(kernel, "(");
    seen.lines.insert("kernel " + std::string(from, strcspn(from, "<) ")));
}

bool barrier_is_out(int line, const char *file) {
    file += strncmp(file, "./", 2) ? 0 : 2;
    static const char *const out = getenv("LD_SIM_WITHOUT"), *const colon = out ? strrchr(out, ':') : NULL;
    static const int out_line = colon ? atoi(colon + 1) : 0;
    if (seen.path)
        seen.lines.insert("barrier " + std::string(file) + ":" + std::to_string(line));
    return line == out_line && strlen(file) == (size_t)(colon - out) && !memcmp(file, out, (size_t)(colon - out));
}

bool check_shape(dim3 grid, dim3 block) {
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (threads < 1 || threads > MOST_THREADS || block.z > 64)
        fail("a block of %u x %u x %u threads", block.x, block.y, block.z);
    else if (grid.x < 1 || grid.x > 0x7fffffff || grid.y < 1 || grid.y > 65535 || grid.z < 1 || grid.z > 65535)
        fail("a grid of %u x %u x %u blocks", grid.x, grid.y, grid.z);
    return !sim.fault[0];
}

} // namespace

/* ---- what kernels see -------------------------------------------------------------------------------------------------- */

void *ld_sim_shared(const void *tag, size_t bytes) {
    for (int i = 0; i < sim.array_count; i++)
        if (sim.arrays[i].tag == tag)
            return sim.arrays[i].memory;
    return new_array(tag, bytes)->memory;
}

void *ld_sim_dynamic_shared(void) {
    return sim.dynamic ? ld_sim_shared(NULL, sim.dynamic) : NULL;
}

int ld_sim_allow_shared(const char *kernel, size_t bytes) {
    if (bytes > MOST_ALLOWED)
        return ld_fail(LD_EINTERNAL, "%s: the device refuses %zu bytes of shared memory", kernel, bytes);
    sim.allowed = bytes > MOST_SHARED ? bytes - MOST_SHARED : 0;
    return 0;
}

void ld_sim_misaligned(const void *p, size_t bytes) {
    fail("%zu bytes at once at address %p, which is not a multiple", bytes, p);
    wait_as(ENDED, 0);
}

void ld_sim_barrier(int line, const char *file) {
    if (!barrier_is_out(line, file))
        wait_as(AT_BARRIER, line);
}

uint64_t ld_sim_warp(ld_sim_warp_op op, unsigned mask, uint64_t value, int lane, int width, int line) {
    thread *t = &sim.threads[sim.me];
    int me = sim.me % LANES;
    if (!(mask >> me & 1)) {
        fail("line %d: lane %d calls %s with the mask %08x, which lacks it", line, me, op_name(op), mask);
        wait_as(ENDED, line);
    }
    t->op = op;
    t->mask = mask;
    t->value = value;
    t->lane = lane;
    t->width = width;
    wait_as(IN_WARP, line);
    return t->result;
}

void ld_sim_launch(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes, void (*body)(const void *),
                   const void *arg) {
    sim.kernel = kernel;
    sim.body = body;
    sim.arg = arg;
    sim.dynamic = shared_bytes;
    sim.fault[0] = 0;
    sim.launches++;
    saw_kernel(kernel);
    gridDim = grid;
    blockDim = block;
    sim.count = (int)(block.x * block.y * block.z);
    uint64_t blocks = check_shape(grid, block) ? (uint64_t)grid.x * grid.y * grid.z : 0;
    uint64_t turn = sim.order == LD_SIM_RANDOM && blocks ? draw((unsigned)blocks) : 0;
    for (uint64_t i = 0; i < blocks && !sim.fault[0]; i++) {
        uint64_t k = (sim.order == LD_SIM_BACKWARD ? blocks - 1 - i : i + turn) % blocks;
        blockIdx = {(unsigned)(k % grid.x), (unsigned)(k / grid.x % grid.y), (unsigned)(k / grid.x / grid.y)};
        run_block();
    }
    sim.allowed = 0;
}

int ld_cuda_launched(const char *kernel) {
    if (!sim.fault[0])
        return 0;
    int code = ld_fail(LD_EINTERNAL, "%s: block (%u,%u,%u): %s", kernel, blockIdx.x, blockIdx.y, blockIdx.z, sim.fault);
    sim.fault[0] = 0;
    return code;
}

void ld_sim_set_order(ld_sim_order order, uint64_t seed) {
    sim.order = order;
    sim.random = seed;
}

int64_t ld_sim_launches(void) {
    return sim.launches;
}
