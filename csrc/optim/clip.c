#include "base/error.h"
#include "optim/optim.h"

#include <math.h>

int ld_grad_norm(ld_tensor *const *params, int n, double *norm) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
        if (!params[i]->grad)
            continue;
        ld_tensor *g = ld_tensor_canonical(params[i]->grad, "grad_norm");
        if (!g)
            return ld_error_code();
        double s = 0;
        int bad = g->storage->device->backend->sumsq(&s, LD_VIEW(g));
        ld_tensor_drop(g);
        if (bad)
            return bad;
        sum += s;
    }
    *norm = sqrt(sum);
    return 0;
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
    double scale = max / (found + 1e-6);
    if (!isfinite(found) || scale >= 1)
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
