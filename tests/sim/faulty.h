/* Kernels that are right, and kernels that are wrong, for the tests of the simulator itself. Each launches one block of
 * `threads` threads (a multiple of 32) and returns the launch's value. */
#ifndef LD_SIM_FAULTY_H
#define LD_SIM_FAULTY_H

#ifdef __cplusplus
extern "C" {
#endif

int sim_reverse(int *y, const int *x, int threads);             /* y = x backwards, through shared memory */
int sim_reverse_unguarded(int *y, const int *x, int threads);   /* the same without the barrier */
int sim_rotate(int *y, const int *x, int threads, int guarded); /* in place in shared memory: read, barrier, write */
int sim_branch_barrier(int threads);                            /* half of the threads pass a barrier */
int sim_two_barriers(int threads);                              /* each half has a barrier of its own */
int sim_warp_sum(int *y, const int *x, int threads);            /* y[warp] = sum of 32 */
int sim_outside_mask(int *y, unsigned mask, int from);          /* lanes of the mask read lane `from` */
int sim_not_in_mask(int *y);                                    /* all lanes call with a mask of half of them */
int sim_absent_lane(int *y);                                    /* half of the lanes has ended */
int sim_shared_past(int at);                                    /* shared[at] = 1 of 64 floats */
int sim_dynamic_past(int at);                                   /* the same in 64 floats of dynamic shared memory */
int sim_shared_unwritten(float *y);                             /* y = shared memory as the block finds it */
int sim_shared_bytes(int bytes, int allowed);                   /* a launch with so much dynamic shared memory */
int sim_shape(int blocks_y, int threads);                       /* a launch of that shape */
int sim_indices(int *y, int gx, int gy, int bx, int by);        /* y[linear index] = 1 + blockIdx.y 100 + threadIdx.y */
int sim_shuffles(int *y, int kind, int width);                  /* up, down, xor, index by 3 of lanes' numbers */
int sim_votes(unsigned *y);                                     /* ballot, any, all of lane < 5 */
int sim_unaligned(int *y, int at);                              /* four numbers at once from y + at on */
int sim_last_block(int *y, unsigned *count, int blocks); /* the block that comes last adds what all have written */

#ifdef __cplusplus
}
#endif

#endif
