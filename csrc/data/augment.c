#include "data/augment.h"

#include "base/error.h"
#include "op/check.h"

int ld_augment_check(const char *who, const ld_augment *a) {
    if (a->pad < 0 || a->pad > 1 << 20)
        return ld_fail(LD_EVALUE, "%s: pad %d; it must be 0 .. 2^20", who, a->pad);
    if (!(a->erase >= 0 && a->erase < 1) || a->erases < 0 || a->erases > LD_AUGMENT_ERASES)
        return ld_fail(LD_EVALUE, "%s: rectangles of %g of a side, %d of them; 0 to below 1, and 0 to %d are possible",
                       who, a->erase, a->erases, LD_AUGMENT_ERASES);
    if (!(a->flip >= 0 && a->flip <= 1))
        return ld_fail(LD_EVALUE, "%s: probability %g; it must be 0 .. 1", who, a->flip);
    return 0;
}

/* ---- out of a data set ---------------------------------------------------------------------------------------------- */

static int check_numbers(const char *who, const char *what, const ld_tensor *t, int64_t n) {
    if (t && (t->dtype != LD_I64 || t->ndim != 1 || t->shape[0] != n || (n > 1 && t->stride[0] != 1)))
        return ld_fail(LD_ESHAPE, "%s: %s are %s; (%lld) i64 is needed", who, what, ld_tensor_text(t), (long long)n);
    return 0;
}

static int check_row(const char *who, const char *what, const ld_tensor *t, int64_t c) {
    if (t && (t->dtype != LD_F32 || t->ndim != 1 || t->shape[0] != c || (c > 1 && t->stride[0] != 1)))
        return ld_fail(LD_ESHAPE, "%s: %s is %s; (%lld) f32 is needed", who, what, ld_tensor_text(t), (long long)c);
    return 0;
}

static int check_gather(const char *who, ld_tensor *x, ld_tensor *rows, ld_tensor *samples, ld_tensor *shift,
                        ld_tensor *scale, const ld_augment *a) {
    ld_tensor *all[] = {x, rows, samples, shift, scale};
    if (ld_check_devices(who, all, 5) || ld_check_rank(who, "x", x, 4) || ld_augment_check(who, a))
        return ld_error_code();
    if (!ld_dtype_is_float(x->dtype) && x->dtype != LD_U8)
        return ld_fail(LD_EDTYPE, "%s: x is %s; floats or u8 are needed", who, ld_tensor_text(x));
    if (!shift != !scale)
        return ld_fail(LD_EVALUE, "%s: shift and scale come together", who);
    int64_t n = rows ? rows->shape[0] : x->shape[0];
    return check_numbers(who, "rows", rows, n) || check_numbers(who, "samples", samples, n) ||
                   check_row(who, "shift", shift, x->shape[1]) || check_row(who, "scale", scale, x->shape[1])
               ? ld_error_code()
               : 0;
}

static int run(ld_tensor *y, ld_tensor *x, ld_tensor *rows, ld_tensor *samples, ld_tensor *shift, ld_tensor *scale,
               const ld_augment *a) {
    return LD_BACKEND(x)->gather_augment(LD_VIEW(y), LD_VIEW(x), rows ? LD_VIEW(rows) : NULL,
                                         samples ? LD_VIEW(samples) : NULL, shift ? LD_VIEW(shift) : NULL,
                                         scale ? LD_VIEW(scale) : NULL, a);
}

ld_tensor *ld_augment_gather(ld_tensor *x, ld_tensor *rows, ld_tensor *samples, ld_tensor *shift, ld_tensor *scale,
                             const ld_augment *a) {
    static const char who[] = "augment.gather";
    if (check_gather(who, x, rows, samples, shift, scale, a))
        return NULL;
    int64_t shape[4] = {rows ? rows->shape[0] : x->shape[0], x->shape[1], x->shape[2], x->shape[3]};
    ld_tensor *y = ld_tensor_new(x->storage->device, LD_F32, 4, shape, who);
    return y ? ld_result(y, run(y, x, rows, samples, shift, scale, a)) : NULL;
}

/* ---- in place ------------------------------------------------------------------------------------------------------- */

static int change(const char *who, ld_tensor *x, const ld_augment *a) {
    if (ld_augment_check(who, a) || ld_check_devices(who, &x, 1))
        return ld_error_code();
    if (x->ndim != 4)
        return ld_fail(LD_ESHAPE, "%s: x must be (N,C,H,W); it is %s", who, ld_tensor_text(x));
    if (x->dtype != LD_F32)
        return ld_fail(LD_EDTYPE, "%s: x is %s; f32 is needed", who, ld_tensor_text(x));
    if (ld_check_change(who, x, NULL, 0))
        return ld_error_code();
    ld_tensor *y = ld_tensor_like(x, who);
    if (!y)
        return ld_error_code();
    int bad = run(y, x, NULL, NULL, NULL, NULL, a) || ld_tensor_assign(x, y, who) ? ld_error_code() : 0;
    ld_tensor_drop(y);
    if (!bad)
        ld_tensor_touch(x);
    return bad;
}

int ld_augment_pad_crop(ld_tensor *x, int pad, uint64_t seed, uint64_t first) {
    return change("augment.pad_crop", x, &(ld_augment){.pad = pad, .seed = seed, .first = first});
}

int ld_augment_rand_erase(ld_tensor *x, double pct, int max_num, uint64_t seed, uint64_t first) {
    static const char who[] = "augment.rand_erase";
    if (!(pct > 0))
        return ld_fail(LD_EVALUE, "%s: pct %g; 0 < pct < 1 is needed", who, pct);
    return change(who, x, &(ld_augment){.erase = pct, .erases = max_num, .seed = seed, .first = first});
}

int ld_augment_flip(ld_tensor *x, double p, uint64_t seed, uint64_t first) {
    return change("augment.flip", x, &(ld_augment){.flip = p, .seed = seed, .first = first});
}
