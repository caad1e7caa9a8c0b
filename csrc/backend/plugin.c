#define _GNU_SOURCE /* readlink, dlopen's flags */

#include "backend/plugin.h"

#include "backend/plan.h"
#include "base/error.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const ld_plugin *loaded;
static char path[PATH_MAX + 64]; /* "": not found */
static char looked[4 * PATH_MAX];

static int fail_with(int code, const char *text) {
    return ld_fail(code, "%s", text);
}

static const ld_plugin_host host = {.interface = LD_PLUGIN_INTERFACE,
                                    .fail = fail_with,
                                    .error = ld_error,
                                    .error_code = ld_error_code,
                                    .planning = ld_planning_on,
                                    .plan_mark_workspace = ld_plan_mark_workspace,
                                    .pool_take = ld_pool_take,
                                    .pool_give = ld_pool_give,
                                    .pool_trim = ld_pool_trim,
                                    .tune_run = ld_tune_run,
                                    .tune_will_time = ld_tune_will_time,
                                    .cpu = &ld_cpu_backend};

/* Beside the executable: in build/ of the source tree, lib/ of the bundle, or lib/ldlua beside bin/. */
static void find_file(void) {
    static const char *const below[] = {"build/ld_cuda.so", "lib/ld_cuda.so", "../lib/ldlua/ld_cuda.so"};
    const char *given = getenv("LD_CUDA_PLUGIN");
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    path[0] = looked[0] = 0;
    if (given && *given) {
        snprintf(path, sizeof path, "%s", given);
        snprintf(looked, sizeof looked, "%s", path);
        if (access(path, R_OK))
            path[0] = 0;
        return;
    }
    exe[n < 0 ? 0 : n] = 0;
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = 0;
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        snprintf(path, sizeof path, "%s/%s", exe, below[i]);
        if (!access(path, R_OK))
            return;
        size_t used = strlen(looked);
        snprintf(looked + used, sizeof looked - used, "%s%s", i ? " or " : "", path);
        path[0] = 0;
    }
}

const char *ld_plugin_path(void) {
    if (!loaded)
        find_file();
    return path;
}

static const ld_plugin *load(const char *family) {
    const char *file = ld_plugin_path();
    if (!*file && getenv("LD_CUDA_PLUGIN"))
        return ld_fail_null(LD_EDEVICE, "device: no plug-in for %s: LD_CUDA_PLUGIN names %s, which cannot be read",
                            family, looked);
    if (!*file)
        return ld_fail_null(LD_EDEVICE,
                            "device: no plug-in for %s: there is no %s; ldlua was built without CUDA (make says why)",
                            family, looked);
    static void *library; /* stays loaded */
    library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        return ld_fail_null(LD_EDEVICE, "device: the plug-in for %s does not load: %s", family, why ? why : file);
    }
    void *symbol = dlsym(library, "ld_plugin_entry");
    ld_plugin_entry_fn *entry;
    memcpy(&entry, &symbol, sizeof entry);
    const ld_plugin *p = entry ? entry(&host) : NULL;
    if (p && p->interface == LD_PLUGIN_INTERFACE)
        return p;
    dlclose(library);
    return ld_fail_null(LD_EDEVICE, "device: %s is no plug-in of this ldlua: it was built for another version", file);
}

const ld_plugin *ld_plugin_load(const char *family, const char *asked) {
    const char *name = loaded ? loaded->name : getenv("LD_CUDA_PLUGIN") && family ? family : "cuda";
    if (!family || !strcmp(name, family)) {
        if (!loaded && !(loaded = load(name)))
            return NULL;
        name = loaded->name;
    }
    if (family && strcmp(name, family))
        return ld_fail_null(LD_EDEVICE, "device: there is no '%s'; known: cpu, %s, %s:0, ...", asked, name, name);
    return loaded;
}
