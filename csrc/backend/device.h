/* Devices: where tensors live and which backend computes on them. */
#ifndef LD_DEVICE_H
#define LD_DEVICE_H

#include "backend/backend.h"
#include "backend/pool.h"

typedef struct ld_device {
    char name[16]; /* "cpu" */
    const ld_backend *backend;
    ld_pool *pool;
} ld_device;

/* The device called `name` ("cpu"); it lives as long as the process. LD_EDEVICE says which devices there are. */
ld_device *ld_device_find(const char *name);

/* Bytes of memory that this process can still have: what the machine has available, or less where its control groups allow
 * less. 0 when the system does not say. */
size_t ld_memory_room(void);

/* Number of CPU threads for computation: set (n >= 1) and get. The default is the number of physical cores. */
void ld_set_threads(int n);
int ld_threads(void);

/* The libraries that compute on the CPU, for messages and files: "oneDNN 2.6.3 isa 27". */
const char *ld_cpu_libraries(void);

#endif
