#define _GNU_SOURCE /* dlinfo */

#include "backend/cuda/load.h"

#include "backend/cuda/search.h"
#include "base/error.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

/* false: the library lacks `*lacks`. */
static bool resolve(void *handle, const ld_library *l, const char **lacks) {
    for (int i = 0; i < l->n; i++) {
        void *f = dlsym(handle, l->symbols[i].name);
        *lacks = l->symbols[i].name;
        if (!f)
            return false;
        memcpy(l->symbols[i].at, &f, sizeof f);
    }
    return true;
}

/* What went wrong at the first place that had the file is kept: the others come after it because they matter less. */
static void keep_reason(ld_library *l, bool exists, const char *path, const char *why) {
    if (l->exists || (*l->why && !exists))
        return;
    l->exists = exists;
    snprintf(l->why, sizeof l->why, "%.280s%s%.300s", path, *path ? " " : "", why);
}

static bool look(const char *path, void *arg) {
    ld_library *l = arg;
    struct link_map *map = NULL;
    const char *lacks = "";
    char why[300] = "";
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *text = dlerror();
        /* of a bare name that the system does not know it speaks first; else of a file with a fault, or what that lacks */
        snprintf(why, sizeof why, "%.290s", text ? text : "does not load");
        bool absent = !text || !strncmp(text, l->file, strlen(l->file));
        keep_reason(l, !absent || strchr(path, '/'), "", why);
        return false;
    }
    const char *real = !dlinfo(handle, RTLD_DI_LINKMAP, &map) && map && *map->l_name ? map->l_name : path;
    if (!resolve(handle, l, &lacks)) {
        snprintf(why, sizeof why, "is too old: it lacks %s", lacks);
    } else if (!l->fits || l->fits(why, sizeof why)) {
        snprintf(l->path, sizeof l->path, "%s", real);
        return l->ready = true;
    }
    keep_reason(l, true, real, why);
    dlclose(handle);
    return false;
}

bool ld_library_load(ld_library *l) {
    if (l->ready)
        return true;
    l->exists = false;
    *l->why = 0;
    return ld_cuda_search(l->file, look, l);
}

const void *ld_library_missing(const ld_library *l, const char *who) {
    if (l->exists)
        return ld_fail_null(LD_EDEVICE, "%s: no %s that will do: %s", who, l->name, l->why);
    return ld_fail_null(LD_EDEVICE,
                        "%s: %s is missing: no %s known to the system, below CUDA_HOME or /usr/local/cuda*, in "
                        "CONDA_PREFIX, or in the site-packages/nvidia of a python3 on the path; LD_CUDA_PATH names "
                        "other folders",
                        who, l->name, l->file);
}

const char *ld_cuda_library_version(size_t v) {
    static char text[4][32];
    static int at;
    char *t = text[at++ & 3];
    /* up to cuDNN 8 a number had one digit less: 8907 */
    bool old = v < 10000;
    snprintf(t, sizeof text[0], "%zu.%zu.%zu", v / (old ? 1000 : 10000), v / 100 % (old ? 10 : 100), v % 100);
    return t;
}
