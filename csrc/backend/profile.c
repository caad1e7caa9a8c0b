/* Timing the slots: a table that wraps another one. */
#include "backend/profile.h"

#include "backend/device.h"
#include "backend/plan.h"
#include "backend/slot_calls.h"
#include "base/error.h"

#include <string.h>
#include <time.h>

#define POSITION(slot, args, ...) AT_##slot,
enum { LD_SLOT_CALLS(POSITION) AT_COUNT };
#undef POSITION

static struct {
    ld_device *device; /* NULL while none is under way */
    const ld_backend *real;
    ld_backend table;
    bool backward;
    int64_t calls[2][AT_COUNT];
    double seconds[2][AT_COUNT];
} profile;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int note(int slot, double start, int bad) {
    if (!bad)
        bad = ld_device_wait(profile.device);
    profile.calls[profile.backward][slot]++;
    profile.seconds[profile.backward][slot] += now() - start;
    return bad;
}

#define TIMED(slot, args, ...)                                                                                         \
    static int timed_##slot args {                                                                                     \
        double start = now();                                                                                          \
        return note(AT_##slot, start, profile.real->slot(__VA_ARGS__));                                                \
    }
LD_SLOT_CALLS(TIMED)
#undef TIMED

int ld_profile_begin(ld_device *d) {
    if (profile.device || ld_planning())
        return ld_fail(LD_ESTATE, "profile: another profile, or a plan, is under way");
    memset(profile.calls, 0, sizeof profile.calls);
    memset(profile.seconds, 0, sizeof profile.seconds);
    profile.device = d;
    profile.real = d->backend;
    profile.table = *d->backend;
#define WRAP(slot, args, ...) profile.table.slot = timed_##slot;
    LD_SLOT_CALLS(WRAP)
#undef WRAP
    d->backend = &profile.table;
    return 0;
}

void ld_profile_end(void) {
    if (!profile.device)
        return;
    profile.device->backend = profile.real;
    profile.device = NULL;
}

bool ld_profile_on(const ld_device *d) {
    return profile.device == d;
}

bool ld_profile_at(int i, ld_profile_entry *e) {
    static const char *const names[] = {
#define NAME(slot, args, ...) #slot,
        LD_SLOT_CALLS(NAME)
#undef NAME
    };
    for (int k = 0; k < 2 * AT_COUNT; k++) {
        int pass = k / AT_COUNT, slot = k % AT_COUNT;
        if (!profile.calls[pass][slot] || i--)
            continue;
        *e = (ld_profile_entry){names[slot], pass, profile.calls[pass][slot], profile.seconds[pass][slot]};
        return true;
    }
    return false;
}

bool ld_profile_backward(bool on) {
    bool was = profile.backward;
    profile.backward = on;
    return was;
}
