#include "optim/state.h"

#include "base/error.h"

int ld_state_follow(ld_tensor **state, const ld_tensor *x, const char *who) {
    ld_tensor *s = *state;
    ld_dtype t = ld_dtype_is_float(s->dtype) ? x->dtype : s->dtype;
    if (s->dtype == t && s->storage->device == x->storage->device)
        return 0;
    ld_tensor *y = ld_tensor_to(s, t, x->storage->device, who);
    if (!y)
        return ld_error_code();
    ld_tensor_drop(s);
    *state = y;
    return 0;
}
