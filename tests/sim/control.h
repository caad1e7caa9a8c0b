/* The simulator as tests see it. For C and C++. */
#ifndef LD_SIM_CONTROL_H
#define LD_SIM_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The order in which blocks, warps and lanes run between the points where they wait for one another. A kernel whose
 * barriers are right computes the same in every one. */
typedef enum ld_sim_order { LD_SIM_FORWARD, LD_SIM_BACKWARD, LD_SIM_RANDOM } ld_sim_order;
void ld_sim_set_order(ld_sim_order order, uint64_t seed);

void ld_sim_set_processors(int n); /* what ld_cuda_processors says; 3 at first */
int64_t ld_sim_workspaces(void);   /* blocks of workspace that were not given back */
int64_t ld_sim_launches(void);     /* kernels run so far */
/* The k-th request for workspace from now on fails (k = 1: the next); 0: none. */
void ld_sim_fail_workspace(int64_t k);

#ifdef __cplusplus
}
#endif

#endif
