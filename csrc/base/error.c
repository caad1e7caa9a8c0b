#include "base/error.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

static _Thread_local char message[1024];
static _Thread_local int code_now;
static volatile sig_atomic_t interrupt_pending;

int ld_fail(int code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    code_now = code;
    return code;
}

const char *ld_error(void) {
    return message;
}

int ld_error_code(void) {
    return code_now;
}

void ld_error_clear(void) {
    message[0] = 0;
    code_now = LD_OK;
}

void ld_interrupt(void) {
    interrupt_pending = 1;
}

int ld_interrupted(void) {
    if (!interrupt_pending)
        return 0;
    interrupt_pending = 0;
    return ld_fail(LD_EINTERRUPT, "interrupted");
}
