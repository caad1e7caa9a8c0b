/* The tests of kernels on a card: LD_ON_DEVICE makes orders.h take memory that both sides see, and wait before it looks. */
#ifndef LD_SIM_ON_DEVICE_H
#define LD_SIM_ON_DEVICE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

void *ld_test_alloc(size_t bytes); /* managed memory; all of it is free again when each piece has been freed */
void ld_test_free(void *p);        /* that, or the C library's */
int ld_test_wait(void);            /* for the device: 0, or LD_EINTERNAL */
const char *ld_test_missing(void); /* NULL, or why there is no device */

#ifdef __cplusplus
}
#endif

#endif
