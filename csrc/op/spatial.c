/* Pooling, upsampling, resizing. */
#include "base/error.h"
#include "op/check.h"

typedef struct spatial_attr {
    int64_t shape[4]; /* of x */
    int kh, kw, sh, sw;
    bool antialias;
} spatial_attr;

enum { MOST = 1 << 24 };

static int check_image(const char *op, ld_tensor *x) {
    int bad = ld_check_compute(op, &x, 1);
    return bad ? bad : ld_check_rank(op, "x", x, 4);
}

static int check_sizes(const char *op, const ld_tensor *x, int64_t h, int64_t w) {
    if (h < 1 || w < 1 || h > MOST || w > MOST)
        return ld_fail(LD_EVALUE, "%s: a result of %lld x %lld; sizes are 1 to 2^24", op, (long long)h, (long long)w);
    if (x->shape[2] < 1 || x->shape[3] < 1)
        return ld_fail(LD_ESHAPE, "%s: %s has no pixels", op, ld_tensor_text(x));
    return 0;
}

static spatial_attr attr_of(const ld_tensor *x) {
    return (spatial_attr){.shape = {x->shape[0], x->shape[1], x->shape[2], x->shape[3]}};
}

/* y = slot(canonical `from`, ...); y becomes NULL where that fails, and stays NULL. */
#define RUN(y, from, op, slot, ...)                                                                                    \
    do {                                                                                                               \
        ld_tensor *dense_ = (y) ? ld_tensor_canonical(from, op) : NULL;                                                \
        int bad_ = dense_ ? LD_BACKEND(from)->slot(LD_VIEW(y), LD_VIEW(dense_), ##__VA_ARGS__) : 1;                    \
        ld_tensor_drop(dense_);                                                                                        \
        y = ld_result(y, bad_);                                                                                        \
    } while (0)

static ld_tensor *image(const ld_tensor *like, const int64_t *shape, const char *op) {
    return ld_tensor_new(like->storage->device, like->dtype, 4, shape, op);
}

/* ---- average pooling ------------------------------------------------------------------------------------------------ */

static int avg_pool_backward(ld_node *n, ld_tensor *g) {
    const spatial_attr *t = ld_node_attr(n);
    ld_tensor *dx = image(g, t->shape, "avg_pool2d");
    RUN(dx, g, "avg_pool2d", avg_pool2d_bwd, t->kh, t->kw, t->sh, t->sw);
    return ld_node_give(n, 0, dx);
}

static int64_t pooled(int64_t size, int k, int s, bool ceil) {
    int64_t n = (size - k + (ceil ? s - 1 : 0)) / s + 1;
    return ceil && (n - 1) * s >= size ? n - 1 : n; /* the last window starts inside */
}

ld_tensor *ld_avg_pool2d(ld_tensor *x, int kh, int kw, int sh, int sw, bool ceil) {
    static const char op[] = "avg_pool2d";
    if (check_image(op, x))
        return NULL;
    if (kh < 1 || kw < 1 || sh < 1 || sw < 1)
        return ld_fail_null(LD_EVALUE, "%s: kernel %d x %d, stride %d x %d; all must be at least 1", op, kh, kw, sh,
                            sw);
    if ((x->shape[2] < kh || x->shape[3] < kw) && !(ceil && x->shape[2] > 0 && x->shape[3] > 0))
        return ld_fail_null(LD_ESHAPE, "%s: a window of %d x %d does not fit into %s", op, kh, kw, ld_tensor_text(x));
    int64_t shape[4] = {x->shape[0], x->shape[1], x->shape[2] < kh ? 1 : pooled(x->shape[2], kh, sh, ceil),
                        x->shape[3] < kw ? 1 : pooled(x->shape[3], kw, sw, ceil)};
    ld_tensor *y = image(x, shape, op);
    RUN(y, x, op, avg_pool2d, kh, kw, sh, sw);
    spatial_attr t = attr_of(x);
    t.kh = kh, t.kw = kw, t.sh = sh, t.sw = sw;
    return ld_record(y, op, avg_pool_backward, &x, 1, NULL, 0, &t, sizeof t);
}

static int adaptive_backward(ld_node *n, ld_tensor *g) {
    const spatial_attr *t = ld_node_attr(n);
    ld_tensor *dx = image(g, t->shape, "adaptive_avg_pool2d");
    RUN(dx, g, "adaptive_avg_pool2d", adaptive_avg_pool2d_bwd);
    return ld_node_give(n, 0, dx);
}

ld_tensor *ld_adaptive_avg_pool2d(ld_tensor *x, int64_t h, int64_t w) {
    static const char op[] = "adaptive_avg_pool2d";
    if (check_image(op, x))
        return NULL;
    if (check_sizes(op, x, h, w))
        return NULL;
    ld_tensor *y = image(x, (int64_t[]){x->shape[0], x->shape[1], h, w}, op);
    RUN(y, x, op, adaptive_avg_pool2d);
    spatial_attr t = attr_of(x);
    return ld_record(y, op, adaptive_backward, &x, 1, NULL, 0, &t, sizeof t);
}

/* ---- upsampling and resizing ---------------------------------------------------------------------------------------- */

static int upsample_backward(ld_node *n, ld_tensor *g) {
    const spatial_attr *t = ld_node_attr(n);
    ld_tensor *dx = image(g, t->shape, "upsample_nearest");
    RUN(dx, g, "upsample_nearest", upsample_nearest_bwd, t->kh);
    return ld_node_give(n, 0, dx);
}

ld_tensor *ld_upsample_nearest(ld_tensor *x, int scale) {
    static const char op[] = "upsample_nearest";
    if (check_image(op, x))
        return NULL;
    if (scale < 1 || scale > MOST)
        return ld_fail_null(LD_EVALUE, "%s: a scale of %d; 1 to 2^24 is needed", op, scale);
    ld_tensor *y = image(x, (int64_t[]){x->shape[0], x->shape[1], x->shape[2] * scale, x->shape[3] * scale}, op);
    RUN(y, x, op, upsample_nearest, scale);
    spatial_attr t = attr_of(x);
    t.kh = scale;
    return ld_record(y, op, upsample_backward, &x, 1, NULL, 0, &t, sizeof t);
}

static int resize_backward(ld_node *n, ld_tensor *g) {
    const spatial_attr *t = ld_node_attr(n);
    ld_tensor *dx = image(g, t->shape, "resize_bilinear");
    RUN(dx, g, "resize_bilinear", resize_bilinear_bwd, t->antialias);
    return ld_node_give(n, 0, dx);
}

ld_tensor *ld_resize_bilinear(ld_tensor *x, int64_t h, int64_t w, bool antialias) {
    static const char op[] = "resize_bilinear";
    if (check_image(op, x))
        return NULL;
    if (check_sizes(op, x, h, w))
        return NULL;
    ld_tensor *y = image(x, (int64_t[]){x->shape[0], x->shape[1], h, w}, op);
    RUN(y, x, op, resize_bilinear, antialias);
    spatial_attr t = attr_of(x);
    t.antialias = antialias;
    return ld_record(y, op, resize_backward, &x, 1, NULL, 0, &t, sizeof t);
}
