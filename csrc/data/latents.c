/* Latents as a data set: which rows of a store, in which order. */
#include "base/error.h"
#include "base/rng.h"
#include "data/loader.h"

#include <stdlib.h>

enum { LEVELS = 8 };

/* Positions from `first` on of what lies below: of a random order of its `of` positions when shuffled. */
typedef struct level {
    int64_t first, of;
    uint64_t seed;
    bool shuffled;
} level;

struct ld_latents {
    ld_latent_store *store;
    int64_t count;
    int levels; /* at least one */
    level level[LEVELS];
};

ld_latents *ld_latents_new(ld_latent_store *s) {
    ld_latents *d = calloc(1, sizeof *d);
    if (!d)
        return ld_fail_null(LD_EMEM, "latents: out of host memory");
    d->store = ld_latent_store_ref(s);
    d->count = ld_latent_store_info(s)->valid;
    d->levels = 1;
    return d;
}

ld_latents *ld_latents_part(const ld_latents *d, int64_t first, int64_t count, bool shuffled, uint64_t seed) {
    if (first < 0 || count < 0 || first + count > d->count)
        return ld_fail_null(LD_EINDEX, "latents: positions %lld to %lld of %lld", (long long)first + 1,
                            (long long)(first + count), (long long)d->count);
    if (shuffled && d->levels == LEVELS)
        return ld_fail_null(LD_EVALUE, "latents: more than %d shuffles of one another", LEVELS - 1);
    ld_latents *part = malloc(sizeof *part);
    if (!part)
        return ld_fail_null(LD_EMEM, "latents: out of host memory");
    *part = *d;
    ld_latent_store_ref(part->store);
    part->count = count;
    if (shuffled)
        part->level[part->levels++] = (level){first, d->count, seed, true};
    else
        part->level[part->levels - 1].first += first;
    return part;
}

void ld_latents_drop(ld_latents *d) {
    if (!d)
        return;
    ld_latent_store_drop(d->store);
    free(d);
}

int64_t ld_latents_count(const ld_latents *d) {
    return d->count;
}

ld_latent_store *ld_latents_store(const ld_latents *d) {
    return d->store;
}

int64_t ld_latents_row(const ld_latents *d, int64_t i) {
    for (int k = d->levels - 1; k >= 0; k--) {
        const level *l = &d->level[k];
        i += l->first;
        if (l->shuffled)
            i = ld_shuffle_position(i, l->of, l->seed, 0);
    }
    return ld_latent_store_row(d->store, i);
}

static int fill(const ld_latents *d, const int64_t *at, int n, float *x, int64_t *label) {
    const ld_latent_info *info = ld_latent_store_info(d->store);
    size_t numel = (size_t)info->channels * (size_t)info->height * (size_t)info->width;
    char *row = malloc(info->row_bytes);
    int bad = row ? 0 : ld_fail(LD_EMEM, "latents: out of host memory");
    for (int i = 0; !bad && i < n; i++) {
        if (at[i] < 0 || at[i] >= d->count) {
            bad = ld_fail(LD_EINDEX, "latents: position %lld of a set of %lld", (long long)at[i] + 1,
                          (long long)d->count);
            break;
        }
        int64_t r = ld_latents_row(d, at[i]);
        bad = ld_latent_store_read(d->store, LD_LATENT_MEAN, r, 1, row);
        if (!bad)
            ld_latent_widen(info, row, x + (size_t)i * numel);
        label[i] = ld_latent_store_label(d->store, r);
    }
    free(row);
    return bad;
}

int ld_latents_get(const ld_latents *d, const int64_t *at, int n, ld_tensor **x, ld_tensor **label) {
    const ld_latent_info *info = ld_latent_store_info(d->store);
    ld_device *cpu = ld_device_find("cpu");
    int64_t shape[4] = {n, info->channels, info->height, info->width};
    *x = ld_tensor_new(cpu, LD_F32, 4, shape, "latents");
    *label = *x ? ld_tensor_new(cpu, LD_I64, 1, shape, "latents") : NULL;
    int bad = *label ? fill(d, at, n, ld_tensor_data(*x), ld_tensor_data(*label)) : ld_error_code();
    if (!bad)
        return 0;
    ld_tensor_drop(*x);
    ld_tensor_drop(*label);
    *x = *label = NULL;
    return bad;
}
