#define _GNU_SOURCE /* GLOB_BRACE */

#include "backend/cuda/search.h"

#include <glob.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Wheels of CUDA 12 have a folder a library (nvidia/cublas/lib), those of CUDA 13 one for most (nvidia/cu13/lib). */
#define LIBRARIES "{lib64,lib,targets/x86_64-linux/lib}"
#define WHEELS    "lib/python3*/{site,dist}-packages/nvidia/*/lib"

enum { SEEN = 128 };

typedef struct search {
    const char *file;
    ld_cuda_look *look;
    void *arg;
    char *seen[SEEN]; /* real paths */
    int n_seen;
} search;

/* Whether the file had not come up before. */
static bool is_new(search *s, const char *path) {
    char *real = realpath(path, NULL);
    for (int i = 0; real && i < s->n_seen; i++)
        if (!strcmp(real, s->seen[i])) {
            free(real);
            return false;
        }
    if (real && s->n_seen < SEEN)
        s->seen[s->n_seen++] = real;
    else
        free(real);
    return true;
}

/* The file in every folder that the pattern, printed, fits; folders of versions from the last to the first. */
__attribute__((format(printf, 2, 3))) static bool try(search *s, const char *pattern, ...) {
    char folder[PATH_MAX], path[PATH_MAX + 128];
    glob_t found;
    bool done = false;
    va_list more;
    va_start(more, pattern);
    int n = vsnprintf(folder, sizeof folder, pattern, more);
    va_end(more);
    if (n < 0 || n >= (int)sizeof folder)
        return false;
    snprintf(path, sizeof path, "%s/%s", folder, s->file);
    if (!glob(path, GLOB_BRACE, NULL, &found))
        for (size_t i = 0; i < found.gl_pathc && !done; i++) {
            bool versions = strchr(pattern, '*') != NULL;
            const char *at = found.gl_pathv[versions ? found.gl_pathc - 1 - i : i];
            done = is_new(s, at) && s->look(at, s->arg);
        }
    globfree(&found);
    return done;
}

/* visit(s, folder) for each folder of a list with colons. */
static bool each(search *s, const char *list, bool (*visit)(search *s, const char *folder)) {
    char folder[PATH_MAX];
    while (list && *list) {
        size_t n = strcspn(list, ":");
        if (n && n < sizeof folder) {
            memcpy(folder, list, n);
            folder[n] = 0;
            if (visit(s, folder))
                return true;
        }
        list += n + (list[n] == ':');
    }
    return false;
}

static bool in_folder(search *s, const char *folder) {
    return try(s, "%s", folder);
}

static bool in_toolkit(search *s, const char *variable) {
    const char *home = getenv(variable);
    return home && *home && try(s, "%s/" LIBRARIES, home);
}

static bool in_wheels(search *s, const char *prefix) {
    return try(s, "%s/" WHEELS, prefix);
}

/* A folder of the path that has a python3: its prefix, and that of what it is a link to. */
static bool beside_python(search *s, const char *folder) {
    char python[PATH_MAX + 16], real[PATH_MAX];
    snprintf(python, sizeof python, "%s/python3", folder);
    if (access(python, X_OK))
        return false;
    if (try(s, "%s/../" WHEELS, folder))
        return true;
    char *slash = realpath(python, real) ? strrchr(real, '/') : NULL;
    if (!slash)
        return false;
    *slash = 0;
    return try(s, "%s/../" WHEELS, real);
}

static bool search_driver(search *s) {
    static const char folders[] =
        "/usr/local/nvidia/lib64:/usr/local/nvidia/lib:/usr/lib/wsl/lib:/usr/lib64-nvidia:/run/opengl-driver/lib:"
        "/usr/lib/x86_64-linux-gnu/nvidia/current:/usr/lib/nvidia";
    return each(s, folders, in_folder);
}

static bool search_toolkits(search *s) {
    const char *conda = getenv("CONDA_PREFIX");
    return in_toolkit(s, "CUDA_HOME") || in_toolkit(s, "CUDA_PATH") || in_toolkit(s, "CUDNN_HOME") ||
           try(s, "/usr/local/cuda/" LIBRARIES) || try(s, "/usr/local/cuda-*/" LIBRARIES) ||
           try(s, "/opt/cuda/" LIBRARIES) || (conda && *conda && try(s, "%s/" LIBRARIES, conda));
}

static bool search_wheels(search *s) {
    const char *venv = getenv("VIRTUAL_ENV"), *conda = getenv("CONDA_PREFIX"), *home = getenv("HOME");
    return (venv && *venv && in_wheels(s, venv)) || (conda && *conda && in_wheels(s, conda)) ||
           each(s, getenv("PATH"), beside_python) || (home && *home && try(s, "%s/.local/" WHEELS, home)) ||
           in_wheels(s, "/usr/local") || in_wheels(s, "/usr") || try(s, "/usr/lib/python3/dist-packages/nvidia/*/lib");
}

bool ld_cuda_search(const char *file, ld_cuda_look *look, void *arg) {
    search s = {.file = file, .look = look, .arg = arg};
    bool found = each(&s, getenv("LD_CUDA_PATH"), in_folder) || look(file, arg) ||
                 (strncmp(file, "libcuda.", 8) ? search_toolkits(&s) || search_wheels(&s) : search_driver(&s));
    while (s.n_seen)
        free(s.seen[--s.n_seen]);
    return found;
}
