/* Pooling, upsampling, resizing and their gradients: the device's slots against the CPU's (bf16 and f16 against its f32). */
#include "orders.h"

static ld_dtype type;
static int order;

static ld_view *image(int64_t n, int64_t c, int64_t h, int64_t w) {
    return make_view(type, CANONICAL, 4, (int64_t[]){n, c, h, w});
}

static double tolerance(void) {
    return type == LD_F32 ? 1e-6 : unit_of(type);
}

/* Runs `forward` and `backward` for the CPU and the device; x is (n,c,h,w), y (n,c,p,q). */
#define COMPARE(n, c, h, w, p, q, forward, backward, ...)                                                              \
    do {                                                                                                               \
        ld_view *x = image(n, c, h, w), *y = image(n, c, p, q), *g = image(n, c, p, q), *dx = image(n, c, h, w);       \
        ld_view *want = like_for_cpu(y), *want_dx = like_for_cpu(x);                                                   \
        randomise(x, 2, 0.5);                                                                                          \
        randomise(g, 2, 0.5);                                                                                          \
        set_order(order++ % ORDERS);                                                                                   \
        ok(ld_cpu_##forward(want, for_cpu(x), ##__VA_ARGS__));                                                         \
        ok(ld_cuda_##forward(y, x, ##__VA_ARGS__));                                                                    \
        agree(#forward, y, want, tolerance(), 2);                                                                      \
        ok(ld_cpu_##backward(want_dx, for_cpu(g), ##__VA_ARGS__));                                                     \
        ok(ld_cuda_##backward(dx, g, ##__VA_ARGS__));                                                                  \
        agree(#backward, dx, want_dx, tolerance(), 2);                                                                 \
        next_case();                                                                                                   \
    } while (0)

static const int64_t channels_of[] = {1, 3, 8, 24, 33, 1000};
enum { CHANNELS = sizeof channels_of / sizeof *channels_of };

#define EACH_CASE(t, c)                                                                                                \
    for (int t = 0; t < 4; t++)                                                                                        \
        for (int c = 0; c < CHANNELS; c++)

static void avg_pool2d(void **state) {
    (void)state;
    EACH_CASE(t, c) {
        int64_t ch = channels_of[c], n = ch > 100 ? 1 : 2;
        type = all_dtypes[t];
        COMPARE(n, ch, 6, 4, 3, 2, avg_pool2d, avg_pool2d_bwd, 2, 2, 2, 2);
        COMPARE(n, ch, 7, 5, 4, 3, avg_pool2d, avg_pool2d_bwd, 2, 2, 2, 2); /* the last windows are clipped */
        COMPARE(n, ch, 9, 8, 5, 3, avg_pool2d, avg_pool2d_bwd, 3, 4, 2, 3); /* they overlap */
        COMPARE(n, ch, 9, 8, 3, 2, avg_pool2d, avg_pool2d_bwd, 2, 2, 4, 5); /* gaps between them */
        COMPARE(n, ch, 5, 7, 2, 3, avg_pool2d, avg_pool2d_bwd, 2, 2, 2, 2); /* what is left over is in none */
        COMPARE(0, ch, 6, 4, 3, 2, avg_pool2d, avg_pool2d_bwd, 2, 2, 2, 2);
    }
}

static void adaptive_avg_pool2d(void **state) {
    (void)state;
    EACH_CASE(t, c) {
        int64_t ch = channels_of[c], n = ch > 100 ? 1 : 2;
        type = all_dtypes[t];
        COMPARE(n, ch, 6, 5, 1, 1, adaptive_avg_pool2d, adaptive_avg_pool2d_bwd);
        COMPARE(n, ch, 7, 5, 3, 2, adaptive_avg_pool2d, adaptive_avg_pool2d_bwd);
        COMPARE(n, ch, 3, 2, 5, 7, adaptive_avg_pool2d, adaptive_avg_pool2d_bwd);
        COMPARE(n, 0, 3, 2, 5, 7, adaptive_avg_pool2d, adaptive_avg_pool2d_bwd);
    }
}

static void upsample_nearest(void **state) {
    (void)state;
    EACH_CASE(t, c) {
        int64_t ch = channels_of[c], n = ch > 100 ? 1 : 2;
        type = all_dtypes[t];
        COMPARE(n, ch, 3, 5, 6, 10, upsample_nearest, upsample_nearest_bwd, 2);
        COMPARE(n, ch, 2, 3, 6, 9, upsample_nearest, upsample_nearest_bwd, 3);
        COMPARE(n, ch, 4, 3, 4, 3, upsample_nearest, upsample_nearest_bwd, 1);
    }
}

static void resize_bilinear(void **state) {
    (void)state;
    EACH_CASE(t, c) for (int antialias = 0; antialias < 2; antialias++) {
        int64_t ch = channels_of[c], n = ch > 100 ? 1 : 2;
        type = all_dtypes[t];
        COMPARE(n, ch, 5, 7, 10, 14, resize_bilinear, resize_bilinear_bwd, antialias);
        COMPARE(n, ch, 12, 9, 5, 4, resize_bilinear, resize_bilinear_bwd, antialias);
        COMPARE(n, ch, 6, 6, 2, 3, resize_bilinear, resize_bilinear_bwd, antialias);
        COMPARE(n, ch, 1, 4, 3, 1, resize_bilinear, resize_bilinear_bwd, antialias);
        COMPARE(n, ch, 4, 3, 4, 3, resize_bilinear, resize_bilinear_bwd, antialias);
        COMPARE(0, ch, 4, 3, 2, 3, resize_bilinear, resize_bilinear_bwd, antialias);
    }
}

/* Long lines: many positions, and grids that loop. */
static void large(void **state) {
    (void)state;
    type = LD_F32;
    ld_sim_set_processors(1);
    for (int antialias = 0; antialias < 2; antialias++) {
        COMPARE(1, 3, 1000, 3, 333, 7, resize_bilinear, resize_bilinear_bwd, antialias);
        COMPARE(1, 1, 31, 33, 1000, 5, resize_bilinear, resize_bilinear_bwd, antialias);
    }
    COMPARE(2, 4, 100, 33, 50, 17, avg_pool2d, avg_pool2d_bwd, 2, 2, 2, 2);
    ld_view *x = image(1, 1, 4, 4), *y = image(1, 1, 2, 2);
    ld_sim_fail_workspace(1);
    assert_int_equal(ld_cuda_resize_bilinear(y, x, true), LD_EMEM);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(avg_pool2d, tidy),
        cmocka_unit_test_teardown(adaptive_avg_pool2d, tidy),
        cmocka_unit_test_teardown(upsample_nearest, tidy),
        cmocka_unit_test_teardown(resize_bilinear, tidy),
        cmocka_unit_test_teardown(large, tidy),
    };
    return RUN_KERNEL_TESTS("image kernels", tests);
}
