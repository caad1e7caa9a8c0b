/* What the plug-in's files call of the core, passed on to the program that loaded it. */
#include "backend/cuda/cuda.h"
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

const ld_plugin_host *ld_cuda_host;

int ld_fail(int code, const char *fmt, ...) {
    char text[1024];
    va_list more;
    va_start(more, fmt);
    vsnprintf(text, sizeof text, fmt, more);
    va_end(more);
    return ld_cuda_host->fail(code, text);
}

const char *ld_error(void) {
    return ld_cuda_host->error();
}

int ld_error_code(void) {
    return ld_cuda_host->error_code();
}

int ld_tune_run(const ld_tune_case *c) {
    return ld_cuda_host->tune_run(c);
}

bool ld_tune_will_time(const char *key) {
    return ld_cuda_host->tune_will_time(key);
}

const ld_plugin *ld_plugin_entry(const ld_plugin_host *host) {
    static const ld_plugin plugin = {.interface = LD_PLUGIN_INTERFACE,
                                     .name = "cuda",
                                     .count = ld_cuda_count,
                                     .open = ld_cuda_open,
                                     .doctor = ld_cuda_doctor};
    if (host->interface != LD_PLUGIN_INTERFACE)
        return NULL;
    ld_cuda_host = host;
    return &plugin;
}
