/* The time, for waiting and measuring: seconds on a clock that only moves forward (CLOCK_MONOTONIC). */
#ifndef LD_CLOCK_H
#define LD_CLOCK_H

#include <time.h>

static inline double ld_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A moment of that clock as pthread_cond_timedwait takes it. */
static inline struct timespec ld_clock_moment(double t) {
    time_t s = (time_t)t;
    return (struct timespec){.tv_sec = s, .tv_nsec = (long)((t - (double)s) * 1e9)};
}

#endif
