/* Batch norm's statistics over ranks: what norm.c hands to the backend (ld_norm_join in backend/backend.h). */
#ifndef LD_NORM_RANKS_H
#define LD_NORM_RANKS_H

#include "op/op.h"

/* Whether norms in training are over all ranks now. */
bool ld_norm_ranks(void);
/* Mean and variance over join->rows rows each, merged in the order of ranks by Chan's formula: Chan et al. 1979, "Updating
 * formulae and a pairwise algorithm for computing sample variances". LD_EVALUE: fewer than two rows in all. */
int ld_norm_join_moments(ld_norm_join *join, double *mean, double *var, int64_t c);
/* Sums, in the order of ranks. */
int ld_norm_join_sums(ld_norm_join *join, double *first, double *second, int64_t c);

#endif
