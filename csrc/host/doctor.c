/* `ldlua --doctor`: what this machine has of what ldlua can use, and what is missing. */
#include "host/host.h"

#include "backend/plugin.h"
#include "base/error.h"
#include "base/version.h"
#include "io/h5.h"

#include <luajit.h>
#include <stdio.h>
#include <string.h>

static void say(void *arg, const char *what, const char *text) {
    (void)arg;
    text += strncmp(text, "device: ", 8) ? 0 : 8;
    text += strncmp(text, "doctor: ", 8) ? 0 : 8;
    printf("  %-26s %s\n", what, text);
}

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
    snprintf(text, sizeof text, "%d", ld_threads());
    say(NULL, "threads", text);
    snprintf(text, sizeof text, "%.1f GiB to be had", (double)ld_memory_room() / (1 << 30));
    say(NULL, "memory", text);
}

int host_doctor(void) {
    const char *file = ld_plugin_path();
    puts("ldlua " LD_VERSION " (" LUAJIT_VERSION ")");
    puts("cpu");
    say_processor();
    say(NULL, "oneDNN", ld_cpu_libraries());
    const char *hdf5 = ld_h5_library();
    say(NULL, "HDF5", hdf5 ? hdf5 : ld_error());
    puts("cuda");
    if (!*file) {
        ld_device_find("cuda"); /* for its message */
        say(NULL, "plug-in", ld_error());
        return 0;
    }
    say(NULL, "plug-in", file);
    const ld_plugin *p = ld_plugin_load(NULL, "cuda");
    if (p)
        p->doctor(say, NULL);
    else
        say(NULL, "plug-in", ld_error());
    return 0;
}
