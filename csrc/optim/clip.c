#include "base/error.h"
#include "optim/optim.h"

#include <math.h>
#include <stdlib.h>

int ld_grad_norm(ld_tensor *const *params, int n, double *norm) {
    ld_tensor **g = calloc((size_t)n + 1, sizeof *g);
    ld_view *views = calloc((size_t)n + 1, sizeof *views);
    int count = 0, bad = g && views ? 0 : ld_fail(LD_EMEM, "grad_norm: out of host memory");
    double sum = 0;
    for (int i = 0; i < n && !bad; i++) {
        if (!params[i]->grad)
            continue;
        g[count] = ld_tensor_canonical(params[i]->grad, "grad_norm");
        if (!g[count])
            bad = ld_error_code();
        else
            views[count] = ld_tensor_as_view(g[count]), count++;
    }
    if (!bad && count)
        bad = g[0]->storage->device->backend->sumsq(&sum, views, count);
    while (count)
        ld_tensor_drop(g[--count]);
    free(g);
    free(views);
    if (!bad)
        *norm = sqrt(sum);
    return bad;
}

double ld_clip_scale(double norm, double max) {
    double scale = max / (norm + 1e-6);
    return isfinite(norm) && scale < 1 ? scale : 1;
}

int ld_clip_grad_norm(ld_tensor *const *params, int n, double max, double *norm) {
    if (!(max > 0))
        return ld_fail(LD_EVALUE, "clip_grad_norm: max %g; it must be above 0", max);
    double found = 0;
    int bad = ld_grad_norm(params, n, &found);
    if (bad)
        return bad;
    if (norm)
        *norm = found;
    double scale = ld_clip_scale(found, max);
    if (scale == 1)
        return 0;
    for (int i = 0; i < n && !bad; i++) {
        ld_tensor *g = params[i]->grad;
        if (!g)
            continue;
        bad = g->storage->device->backend->unary(LD_VIEW(g), LD_VIEW(g), LD_AFFINE, scale, 0);
        if (!bad)
            ld_tensor_touch(g);
    }
    return bad;
}
