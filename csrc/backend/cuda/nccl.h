/* Messages between cards by NCCL, which is loaded when several ranks train on them: the part that knows no CUDA, so that
 * tests have it on a device of theirs (tests/fake). NCCL's header is not needed: what is used of it has been the same
 * since version 2.14. */
#ifndef LD_CUDA_NCCL_H
#define LD_CUDA_NCCL_H

#include "backend/device.h"

/* What it takes of the device. */
typedef struct ld_nccl_device {
    /* the calling thread works with the device from here on: its stream for messages. 0, or an error code after ld_fail */
    int (*enter)(void **stream);
    int (*done)(void); /* 1: all that was given to that stream is done, 0: not yet, -1 after ld_fail */
} ld_nccl_device;

/* Sets find, id, join, trade, spread, sum, wait, leave, give_up. The device lives as long as the process. */
void ld_nccl_ranks(ld_device_ranks *t, const ld_nccl_device *d);

/* For people: the file, "" while it is not loaded; and its version, loading it: 0 after ld_fail. */
const char *ld_nccl_file(void);
int ld_nccl_version(const char *who);

#endif
