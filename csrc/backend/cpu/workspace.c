/* Workspace of kernels, out of the CPU's pool. While memory is planned it is taken, counted and given back at once, and the
 * kernel that asked for it goes home without having computed. */
#include "backend/cpu/dnnl.h"
#include "backend/device.h"
#include "backend/plan.h"

static bool planned;

void *ld_cpu_workspace(size_t bytes, const char *who) {
    ld_device *cpu = ld_device_find("cpu");
    void *block = cpu ? ld_pool_take(cpu->pool, bytes, who) : NULL;
    if (!block || !ld_planning_on(cpu))
        return block;
    ld_plan_mark_workspace();
    ld_pool_give(cpu->pool, block);
    planned = true;
    return NULL;
}

void ld_cpu_workspace_done(void *block) {
    if (block)
        ld_pool_give(ld_device_find("cpu")->pool, block);
}

bool ld_cpu_workspace_planned(void) {
    bool was = planned;
    planned = false;
    return was;
}
