/* Layer normalisation against the CPU backend in f64. */
#include "against.h"

typedef struct layer_case {
    ld_dtype t;
    ld_view *x, *w, *b, *g;
    ld_view *y, *mean, *rstd, *dx, *dw, *db;
} layer_case;

/* plain: without weight and bias; half: those in the data's dtype. */
static layer_case make_case(ld_dtype t, int64_t m, int64_t c, bool plain, bool half, double shift) {
    ld_dtype s = t == LD_F64 ? LD_F64 : LD_F32, small = half ? t : s;
    layer_case q = {.t = t};
    q.x = random_view(t, 1, shift, SHAPE(m, c));
    q.g = random_view(t, 1, 0.1, SHAPE(m, c));
    q.w = plain ? NULL : random_view(small, 1, 0, SHAPE(c));
    q.b = plain ? NULL : random_view(small, 1, 0, SHAPE(c));
    q.y = room_like(q.x);
    q.mean = dense(s, SHAPE(m));
    q.rstd = dense(s, SHAPE(m));
    q.dx = room_like(q.x);
    q.dw = dense(small, SHAPE(c));
    q.db = dense(small, SHAPE(c));
    return q;
}

static const double eps = 1e-2;

static void run(layer_case *q) {
    q->y = room_like(q->y);
    q->mean = room_like(q->mean);
    q->rstd = room_like(q->rstd);
    q->dx = room_like(q->dx);
    q->dw = room_like(q->dw);
    q->db = room_like(q->db);
    ok(ld_cuda_layer_norm(q->y, q->mean, q->rstd, q->x, q->w, q->b, eps));
    ok(ld_cuda_layer_norm_bwd(q->dx, q->dw, q->db, q->g, q->x, q->mean, q->rstd, q->w));
}

static layer_case expected(const layer_case *q) {
    layer_case e = {LD_F64,          in_f64(q->x),    in_f64(q->w),  in_f64(q->b),  in_f64(q->g), in_f64(q->y),
                    in_f64(q->mean), in_f64(q->rstd), in_f64(q->dx), in_f64(q->dw), in_f64(q->db)};
    ok(ld_cpu_layer_norm(e.y, e.mean, e.rstd, e.x, e.w, e.b, eps));
    ok(ld_cpu_layer_norm_bwd(e.dx, e.dw, e.db, e.g, e.x, e.mean, e.rstd, e.w));
    return e;
}

/* 16 roundings of the arithmetic, in f64 more, since what is expected rounds as well, and one of the result. Gradients see
 * the mean as it was rounded, 2 where x spreads by 1/2; sums of terms of either sign are measured against their terms. */
static void check_case(ld_dtype t, int64_t m, int64_t c, int bits, double shift) {
    layer_case q = make_case(t, m, c, bits & 1, bits & 2, shift), e = expected(&q), first = q;
    double work = (t == LD_F64 ? 64 : 16) * rounding(q.mean->dtype), data = work + rounding(t),
           small = work + rounding(q.dw->dtype);
    for (int i = 0; i < ORDERS; i++) {
        set_order(i);
        run(&q);
        if (!i) {
            first = q;
            near("y", q.y, e.y, data, c < 4); /* of one value nothing is left */
            near("mean", q.mean, e.mean, work, 0);
            near("rstd", q.rstd, e.rstd, work, 0);
            if (shift < 100) { /* farther out the rounded mean is felt */
                near("dx", q.dx, e.dx, data, 1);
                near("dw", q.dw, e.dw, small, sqrt((double)m));
            }
            near("db", q.db, e.db, small, sqrt((double)m));
        }
        same("y", q.y, first.y);
        same("dx", q.dx, first.dx);
        same("dw", q.dw, first.dw);
        same("db", q.db, first.db);
    }
}

static void test_sizes(void **state) {
    (void)state;
    static const int64_t sizes[][2] = {{31, 4}, {1, 33},    {33, 64},  {300, 96}, {3, 1000}, {0, 4},
                                       {5, 1},  {1000, 31}, {7, 2048}, {9, 512},  {2, 7},    {1, 256}};
    for (int t = 0; t < 4; t++)
        for (int i = 0; i < 12; i++)
            for (int bits = 0; bits < 3; bits++) {
                check_case(all_dtypes[t], sizes[i][0], sizes[i][1], bits, 2);
                next_case();
            }
}

/* Far from 0: y keeps all its digits. */
static void test_far(void **state) {
    check_case(LD_F32, 20, 256, 0, 1e4);
    check_case(LD_F32, 3, 1000, 0, 1e5);
    (void)state;
}

/* What nobody wants is not computed into. */
static void test_unwanted(void **state) {
    (void)state;
    layer_case q = make_case(LD_BF16, 9, 64, false, false, 0), e = expected(&q);
    ok(ld_cuda_layer_norm(q.y, q.mean, q.rstd, q.x, q.w, q.b, eps));
    ok(ld_cuda_layer_norm_bwd(NULL, NULL, NULL, q.g, q.x, q.mean, q.rstd, q.w));
    ok(ld_cuda_layer_norm_bwd(NULL, q.dw, NULL, q.g, q.x, q.mean, q.rstd, q.w));
    near("dw", q.dw, e.dw, 16 * rounding(LD_F32), 3);
    ok(ld_cuda_layer_norm_bwd(NULL, NULL, q.db, q.g, q.x, q.mean, q.rstd, q.w));
    near("db", q.db, e.db, 16 * rounding(LD_F32), 3);
}

static double loss(void *of) {
    const layer_case *q = of;
    ok(ld_cuda_layer_norm(q->y, q->mean, q->rstd, q->x, q->w, q->b, eps));
    return weighed(q->y, q->g);
}

static void test_differences(void **state) {
    (void)state;
    layer_case q = make_case(LD_F64, 3, 5, false, false, 1);
    run(&q);
    ld_view *in[] = {q.x, q.w, q.b}, *out[] = {q.dx, q.dw, q.db};
    as_differences(in, out, 3, loss, &q);
}

static void test_errors(void **state) {
    (void)state;
    layer_case q = make_case(LD_BF16, 2, 8, false, false, 0);
    ld_view wrong = *q.w;
    wrong.dtype = LD_F16;
    assert_int_equal(ld_cuda_layer_norm(q.y, q.mean, q.rstd, q.x, &wrong, q.b, eps), LD_EDTYPE);
    assert_string_equal(ld_error(), "layer_norm: weight is f16; f32 is needed");
    ld_sim_fail_workspace(1);
    assert_int_equal(ld_cuda_layer_norm(q.y, q.mean, q.rstd, q.x, q.w, q.b, eps), LD_EMEM);
    ld_sim_fail_workspace(1);
    assert_int_equal(ld_cuda_layer_norm_bwd(q.dx, q.dw, q.db, q.g, q.x, q.mean, q.rstd, q.w), LD_EMEM);
    ld_sim_fail_workspace(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_sizes, tidy),    cmocka_unit_test_teardown(test_far, tidy),
        cmocka_unit_test_teardown(test_unwanted, tidy), cmocka_unit_test_teardown(test_differences, tidy),
        cmocka_unit_test_teardown(test_errors, tidy),
    };
    return RUN_KERNEL_TESTS("layer_norm", tests);
}
