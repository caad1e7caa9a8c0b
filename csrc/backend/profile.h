/* Profiling: how long the slots of a device take, each apart, forward and backward.
 *
 * Between ld_profile_begin and ld_profile_end the device's table is exchanged for one that times every call. On a device
 * that computes behind the host's back each call is waited for, so that its time is its own; the whole is slower then.
 * One thread computes, one device at a time. A plan may run in between. */
#ifndef LD_PROFILE_H
#define LD_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

struct ld_device;

typedef struct ld_profile_entry {
    const char *slot; /* its name; lives as long as the program */
    bool backward;    /* called while gradients were computed */
    int64_t calls;
    double seconds;
} ld_profile_entry;

/* LD_ESTATE: a profile or a plan is under way. Counts begin at 0. */
int ld_profile_begin(struct ld_device *d);
void ld_profile_end(void);
bool ld_profile_on(const struct ld_device *d);
/* Entry i of what was called, in the order of the table, forward first; false beyond them. */
bool ld_profile_at(int i, ld_profile_entry *e);
/* Whether gradients are being computed; for the tape. Returns what held before. */
bool ld_profile_backward(bool on);

#endif
