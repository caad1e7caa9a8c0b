/* `ldlua --doctor`: what this machine has of what ldlua can use, and what is missing. */
#define _GNU_SOURCE /* dl_iterate_phdr */

#include "host/host.h"

#include "backend/plugin.h"
#include "base/error.h"
#include "base/version.h"
#include "io/archive.h"
#include "io/h5.h"
#include "io/terminal.h"

#include <limits.h>
#include <link.h>
#include <luajit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

static void say(void *arg, const char *what, const char *text) {
    (void)arg;
    text += strncmp(text, "device: ", 8) ? 0 : 8;
    text += strncmp(text, "doctor: ", 8) ? 0 : 8;
    printf("  %-26s %s\n", what, text);
}

/* ---- the machine ----------------------------------------------------------------------------------------------------- */

static void say_processor(void) {
    char line[256], text[512] = "unknown";
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
            snprintf(text, sizeof text, "%.*s", (int)strcspn(strchr(line, ':') + 2, "\n"), strchr(line, ':') + 2);
            break;
        }
    if (f)
        fclose(f);
    say(NULL, "processor", text);
#if defined(__x86_64__)
    snprintf(text, sizeof text, "%s%s%s%s%s", __builtin_cpu_supports("sse4.2") ? "SSE4.2" : "no SSE4.2: too old",
             __builtin_cpu_supports("avx2") ? " AVX2" : "", __builtin_cpu_supports("fma") ? " FMA" : "",
             __builtin_cpu_supports("avx512f") ? " AVX-512F" : "", __builtin_cpu_supports("avx512bw") ? " BW" : "");
    say(NULL, "instruction set", text);
#endif
    const char *asked = getenv("OMP_NUM_THREADS");
    snprintf(text, sizeof text, "%d on %ld processors%s%.32s", ld_threads(), sysconf(_SC_NPROCESSORS_ONLN),
             asked ? "; OMP_NUM_THREADS=" : "", asked ? asked : "");
    say(NULL, "threads", text);
    snprintf(text, sizeof text, "%.1f GiB to be had", (double)ld_memory_room() / (1 << 30));
    say(NULL, "memory", text);
}

static void say_disk(const char *what, const char *folder) {
    char text[PATH_MAX + 128];
    struct statvfs fs;
    if (statvfs(folder, &fs))
        snprintf(text, sizeof text, "%s is not there yet", folder);
    else
        snprintf(text, sizeof text, "%.1f GiB free in %s%s",
                 (double)fs.f_bavail * (double)fs.f_frsize / (double)(1 << 30), folder,
                 access(folder, W_OK) ? ", which cannot be written to" : "");
    say(NULL, what, text);
}

static void say_folders(void) {
    char path[PATH_MAX];
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (host_root_find(path, sizeof path))
        say(NULL, "Lua files", path);
    if (getcwd(path, sizeof path))
        say_disk("disk, this folder", path);
    if (cache && *cache)
        snprintf(path, sizeof path, "%s", cache);
    else
        snprintf(path, sizeof path, "%.4000s/.cache", home ? home : "");
    say_disk("disk, cache", path);
}

static void say_terminal(void) {
    struct winsize w;
    char text[256];
    const char *term = getenv("TERM");
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) || !w.ws_col)
        snprintf(text, sizeof text, "standard output is none");
    else
        snprintf(text, sizeof text, "%.32s, %d columns, %d rows%s", term && *term ? term : "TERM is not set", w.ws_col,
                 w.ws_row, isatty(STDIN_FILENO) ? "" : "; standard input is none");
    say(NULL, "terminal", text);
    int mode = ld_terminal_detect();
    say(NULL, "pictures in it", mode < 0 ? ld_error() : ld_terminal_mode_names[mode]);
}

/* ---- libraries ------------------------------------------------------------------------------------------------------- */

/* Those that do ldlua's work; what they draw in themselves is left out. */
static const char *const libraries[] = {"libluajit", "libdnnl", "libgomp", "libhdf5",  "libarchive", "liblmdb",
                                        "libpng",    "libjpeg", "libwebp", "libcjson", "libz.",      "libedit"};
enum { LIBRARIES = sizeof libraries / sizeof *libraries };

/* The first file of each, in the order of loading. */
static int note_library(struct dl_phdr_info *info, size_t size, void *arg) {
    char(*path)[PATH_MAX] = arg;
    const char *slash = strrchr(info->dlpi_name, '/');
    (void)size;
    for (int i = 0; slash && i < LIBRARIES; i++)
        if (!*path[i] && !strncmp(slash + 1, libraries[i], strlen(libraries[i])) && !realpath(info->dlpi_name, path[i]))
            snprintf(path[i], PATH_MAX, "%s", info->dlpi_name);
    return 0;
}

static void say_libraries(void) {
    static char path[LIBRARIES][PATH_MAX];
    say(NULL, "oneDNN", ld_cpu_libraries());
    const char *hdf5 = ld_h5_library(), *why = hdf5 ? hdf5 : ld_error();
    say(NULL, "HDF5", why);
    const char *archive = ld_archive_library();
    say(NULL, "archives", archive ? archive : ld_error());
    dl_iterate_phdr(note_library, path);
    for (int i = 0; i < LIBRARIES; i++) {
        char name[32];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(libraries[i], "."), libraries[i]);
        say(NULL, name, *path[i] ? path[i] : "not a shared library of this process");
    }
}

/* ---- CUDA ------------------------------------------------------------------------------------------------------------ */

static void say_plugin(void) {
    const char *file = ld_plugin_path();
    if (!*file) {
        ld_device_find("cuda"); /* for its message */
        say(NULL, "plug-in", ld_error());
        return;
    }
    say(NULL, "plug-in", file);
    const ld_plugin *p = ld_plugin_load(NULL, "cuda");
    if (p)
        p->doctor(say, NULL);
    else
        say(NULL, "plug-in", ld_error());
}

int host_doctor(void) {
    puts("ldlua " LD_VERSION " (" LUAJIT_VERSION ")");
    puts("machine");
    say_processor();
    say_folders();
    say_terminal();
    puts("libraries");
    say_libraries();
    puts("cuda");
    say_plugin();
    return 0;
}
