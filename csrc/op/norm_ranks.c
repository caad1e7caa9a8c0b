#include "op/norm_ranks.h"

#include "base/error.h"
#include "comm/comm.h"

#include <stdlib.h>
#include <string.h>

#define WHO "batch_norm"

static bool over_ranks;

bool ld_set_norm_ranks(bool on) {
    bool was = over_ranks;
    over_ranks = on;
    return was;
}

bool ld_norm_ranks(void) {
    return over_ranks && ld_comm_ranks() > 1;
}

/* What the ranks say, one after the other: rows, channels, then two lists. */
enum { ROWS, CHANNELS, LISTS };

static size_t width(int64_t c) {
    return LISTS + 2 * (size_t)c;
}

/* Every rank's numbers, on the heap; NULL after an error. A rank that has another number of channels is at another norm. */
static double *all_ranks(double rows, const double *first, const double *second, int64_t c) {
    size_t n = width(c), ranks = (size_t)ld_comm_ranks();
    double *all = malloc(n * (ranks + 1) * sizeof *all), *mine = all ? all + n * ranks : NULL;
    if (!all)
        return ld_fail_null(LD_EMEM, WHO ": out of host memory");
    mine[ROWS] = rows;
    mine[CHANNELS] = (double)c;
    memcpy(mine + LISTS, first, (size_t)c * sizeof *mine);
    memcpy(mine + LISTS + c, second, (size_t)c * sizeof *mine);
    int bad = ld_comm_gather(mine, n * sizeof *mine, all);
    for (size_t r = 0; r < ranks && !bad; r++)
        if (all[r * n + CHANNELS] != (double)c)
            bad =
                ld_fail(LD_EVALUE,
                        "ranks: " WHO " has %lld channels here and %g on rank %zu: with statistics over ranks all must "
                        "compute the same layers",
                        (long long)c, all[r * n + CHANNELS], r);
    if (!bad)
        return all;
    free(all);
    return NULL;
}

int ld_norm_join_moments(ld_norm_join *join, double *mean, double *var, int64_t c) {
    double *all = all_ranks(join->rows, mean, var, c), rows = 0;
    if (!all)
        return ld_error_code();
    memset(mean, 0, (size_t)c * sizeof *mean);
    memset(var, 0, (size_t)c * sizeof *var); /* deviations, until the end */
    for (int r = 0; r < ld_comm_ranks(); r++) {
        const double *from = all + (size_t)r * width(c), m = from[ROWS], share = m > 0 ? m / (rows + m) : 0;
        for (int64_t j = 0; j < c && m > 0; j++) {
            double delta = from[LISTS + j] - mean[j];
            mean[j] += delta * share;
            var[j] += from[LISTS + c + j] * m + delta * delta * rows * share;
        }
        rows += m;
    }
    free(all);
    if (rows < 2)
        return ld_fail(LD_EVALUE, WHO ": %g values a channel on all ranks; training needs two or more", rows);
    for (int64_t j = 0; j < c; j++)
        var[j] /= rows;
    join->rows = rows;
    return 0;
}

int ld_norm_join_sums(ld_norm_join *join, double *first, double *second, int64_t c) {
    double *all = all_ranks(join->rows, first, second, c);
    if (!all)
        return ld_error_code();
    memset(first, 0, (size_t)c * sizeof *first);
    memset(second, 0, (size_t)c * sizeof *second);
    for (int r = 0; r < ld_comm_ranks(); r++)
        for (int64_t j = 0; j < c; j++) {
            first[j] += all[(size_t)r * width(c) + LISTS + (size_t)j];
            second[j] += all[(size_t)r * width(c) + LISTS + (size_t)(c + j)];
        }
    free(all);
    return 0;
}
