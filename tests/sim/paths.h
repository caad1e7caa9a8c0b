/* What of kernels/space.h and separable.h no launch of a test's size shows. */
#ifndef LD_SIM_PATHS_H
#define LD_SIM_PATHS_H

#include "kernels/slots.h"

#ifdef __cplusplus
extern "C" {
#endif

int sim_quotients(void); /* quotients by multiplication that differ from division: none */
/* Elements a thread takes at once, and dimensions, of a space of two views, `most` being wanted. */
void sim_space(const ld_view *y, const ld_view *x, int most, int *vector, int *ndim);
int sim_locate(const ld_view *y, const ld_view *x); /* units that 32 and 64 bits find at different places: none */
int sim_pixels(int images, int rows, int columns, int groups); /* the same of an image map */

#ifdef __cplusplus
}
#endif

#endif
