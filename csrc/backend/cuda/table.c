/* The table of the device, and the one that stands in for it while memory is planned.
 *
 * A slot whose kernel this build lacks says so; there is no way round over the CPU. While memory is planned slots run until
 * they have asked for workspace, which is counted and given back at once; launches and copies are left out. */
#include "backend/cuda/cuda.h"

#include "backend/slot_calls.h"
#include "base/error.h"

#define LACKS(slot, params, ...)                                                                                       \
    __attribute__((weak)) int ld_cuda_##slot params {                                                                  \
        return lacks(#slot, 0, __VA_ARGS__);                                                                           \
    }
static int lacks(const char *slot, int unused, ...) {
    (void)unused;
    return ld_fail(LD_EDEVICE, "%s: CUDA has no kernel for it in this build; take it on the CPU", slot);
}
LD_SLOT_CALLS(LACKS)

#define ENTRY(slot, params, ...) .slot = ld_cuda_##slot,
const ld_backend ld_cuda_backend = {.name = "cuda", .halves = true, LD_SLOT_CALLS(ENTRY)};

/* ---- planning -------------------------------------------------------------------------------------------------------- */

static bool idle, asked;

bool ld_cuda_idle(void) {
    return idle;
}

#define PLAN(slot, params, ...)                                                                                        \
    static int plan_##slot params {                                                                                    \
        begin();                                                                                                       \
        return end(ld_cuda_##slot(__VA_ARGS__));                                                                       \
    }
static void begin(void) {
    idle = true;
    asked = false;
}

/* A slot that has got as far as its workspace has told all there is to learn. */
static int end(int bad) {
    idle = false;
    return asked ? 0 : bad;
}
LD_SLOT_CALLS(PLAN)

static int planned_sumsq(double *sum, const ld_view *xs, int n) {
    int bad = plan_sumsq(sum, xs, n);
    *sum = 0;
    return bad;
}

#define PLAN_ENTRY(slot, params, ...) .slot = plan_##slot,
const ld_backend *ld_cuda_plan(void) {
    static ld_backend table;
    if (!table.name) {
        table = (ld_backend){.name = "cuda", .halves = true, LD_SLOT_CALLS(PLAN_ENTRY)};
        table.sumsq = planned_sumsq;
    }
    return &table;
}

/* ---- workspace ------------------------------------------------------------------------------------------------------- */

void *ld_cuda_workspace(size_t bytes, const char *who) {
    ld_device *d = ld_cuda.device;
    asked = false;
    if (ld_cuda_lost(who))
        return NULL;
    void *block = ld_cuda_host->pool_take(d->pool, bytes, who);
    if (!block || !ld_cuda_host->planning(d))
        return block;
    ld_cuda_host->plan_mark_workspace();
    ld_cuda_host->pool_give(d->pool, block);
    asked = true;
    return NULL;
}

void ld_cuda_workspace_done(void *block) {
    if (block)
        ld_cuda_host->pool_give(ld_cuda.device->pool, block);
}

int ld_cuda_workspace_missing(void) {
    return asked ? 0 : ld_error_code();
}
