/* The convolution slots of the plug-in over plans that are written out here as sums: what the slots do around a plan (folded
 * weights, other layouts of weights, bias and its gradient, gradients in another dtype, workspace) against the CPU's slots. */
#include "backend/cuda/conv_plan.h"
#include "host.h"

static int plans_made, plans_run, refuse_bias;

/* ---- a cuDNN that computes ------------------------------------------------------------------------------------------- */

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    (void)stream;
    return cudaSuccess;
}

static cudnnStatus_t create(cudnnHandle_t *h) {
    *h = (cudnnHandle_t)(uintptr_t)1;
    return CUDNN_STATUS_SUCCESS;
}
static cudnnStatus_t set_stream(cudnnHandle_t h, cudaStream_t s) {
    (void)h, (void)s;
    return CUDNN_STATUS_SUCCESS;
}
const ld_cudnn *ld_cuda_cudnn(const char *who) {
    static const ld_cudnn table = {.cudnnCreate = create, .cudnnSetStream = set_stream};
    (void)who;
    return &table;
}

/* Two plans; the first is the better one, and both want workspace. */
int ld_conv_plans(const ld_conv_target *t, const ld_conv_spec *s, int64_t workspace_most, ld_conv_plan *plans,
                  int most) {
    (void)t, (void)workspace_most;
    if (s->bias && refuse_bias)
        return 0;
    assert_true(most >= 2);
    for (int i = 0; i < 2; i++) {
        ld_conv_spec *copy = malloc(sizeof *copy);
        *copy = *s;
        memcpy(&plans[i].plan, &copy, sizeof copy);
        plans[i].workspace = 512;
        plans[i].engine = i;
    }
    plans_made++;
    return 2;
}

static double *number(int64_t n) {
    return calloc((size_t)n + 1, sizeof(double));
}
static int64_t count(const int64_t *z) {
    return z[0] * z[1] * z[2] * z[3];
}
/* Element (n,c,h,w) of an NHWC tensor of sizes z. */
static int64_t nhwc(const int64_t *z, int64_t n, int64_t c, int64_t h, int64_t w) {
    return ((n * z[2] + h) * z[3] + w) * z[1] + c;
}

int ld_conv_plan_run(const ld_conv_target *t, const ld_conv_plan *p, const void *x, const void *w, const void *bias,
                     const void *y, void *workspace) {
    const ld_conv_spec *s;
    memcpy(&s, &p->plan, sizeof s);
    (void)t;
    assert_non_null(workspace);
    assert_true((bias != NULL) == (s->bias != 0));
    memset(workspace, 0xee, (size_t)p->workspace);
    const void *in[3] = {x, w, y};
    const int64_t *z[3] = {s->x, s->w, s->y};
    int out = s->kind == LD_CONV_FORWARD ? 2 : s->kind == LD_CONV_DATA ? 0 : 1;
    double *v[3];
    ld_dtype type = (ld_dtype)s->dtype;
    size_t size = ld_dtype_size(type);
    for (int k = 0; k < 3; k++) {
        v[k] = number(count(z[k]));
        for (int64_t i = 0; k != out && i < count(z[k]); i++)
            v[k][i] = ld_dtype_get(type, (const char *)in[k] + (size_t)i * size);
    }
    for (int64_t n = 0; n < s->y[0]; n++)
        for (int64_t o = 0; o < s->y[1]; o++)
            for (int64_t i = 0; i < s->y[2] * s->y[3]; i++)
                for (int64_t c = 0; c < s->x[1]; c++)
                    for (int64_t r = 0; r < s->w[2] * s->w[3]; r++) {
                        int64_t h = i / s->y[3] * s->stride[0] - s->before[0] + r / s->w[3];
                        int64_t u = i % s->y[3] * s->stride[1] - s->before[1] + r % s->w[3];
                        if (h < 0 || h >= s->x[2] || u < 0 || u >= s->x[3])
                            continue;
                        double *a = &v[0][nhwc(s->x, n, c, h, u)],
                               *b = &v[1][nhwc(s->w, o, c, r / s->w[3], r % s->w[3])];
                        double *e = &v[2][nhwc(s->y, n, o, i / s->y[3], i % s->y[3])];
                        if (out == 2)
                            *e += *a * *b;
                        else if (out == 0)
                            *a += *e * *b;
                        else
                            *b += *e * *a;
                    }
    for (int64_t i = 0; i < count(z[out]); i++) {
        double more = bias ? ld_dtype_get(type, (const char *)bias + (size_t)(i % s->y[1]) * size) : 0;
        ld_dtype_set(type, (char *)(uintptr_t)in[out] + (size_t)i * size, v[out][i] + more);
    }
    for (int k = 0; k < 3; k++)
        free(v[k]);
    plans_run++;
    return 0;
}

/* ---- cases ----------------------------------------------------------------------------------------------------------- */

typedef struct conv_case {
    int64_t n, c, o, h, w, r;
    ld_conv_shape s;
} conv_case;

static const conv_case cases[] = {
    {2, 3, 5, 6, 7, 3, {1, 1, 1, 1, 1, 1, false}}, {1, 4, 4, 9, 5, 3, {2, 2, 0, 1, 0, 1, false}},
    {3, 8, 2, 4, 4, 1, {1, 1, 0, 0, 0, 0, false}}, {2, 5, 3, 4, 3, 3, {1, 1, 1, 1, 1, 1, true}},
    {1, 1, 1, 1, 1, 3, {1, 1, 1, 1, 1, 1, true}},  {1, 16, 33, 3, 3, 3, {1, 1, 1, 1, 1, 1, true}},
    {0, 3, 4, 5, 5, 3, {1, 1, 1, 1, 1, 1, false}},
};

static void shapes(const conv_case *k, int64_t x[4], int64_t w[4], int64_t y[4]) {
    int64_t up = k->s.up ? 2 : 1;
    memcpy(x, (int64_t[]){k->n, k->c, k->h, k->w}, 4 * sizeof *x);
    memcpy(w, (int64_t[]){k->o, k->c, k->r, k->r}, 4 * sizeof *w);
    memcpy(y,
           (int64_t[]){k->n, k->o, (up * k->h + k->s.top + k->s.bottom - k->r) / k->s.stride_h + 1,
                       (up * k->w + k->s.left + k->s.right - k->r) / k->s.stride_w + 1},
           4 * sizeof *y);
}

static double tolerance_of(ld_dtype t, bool folded) {
    return (folded ? 6 : 3) * unit_of(t);
}

static void one_case(const conv_case *k, ld_dtype t, ld_dtype gradient, layout lw, bool biased) {
    int64_t zx[4], zw[4], zy[4];
    shapes(k, zx, zw, zy);
    ld_view *x = make_view(t, CANONICAL, 4, zx), *w = make_view(t, lw, 4, zw), *y = make_view(t, CANONICAL, 4, zy);
    ld_view *bias = biased ? make_view(t, ROW_MAJOR, 1, &k->o) : NULL, *g = like(y);
    ld_view *dx = like(x), *dw = make_view(gradient, lw, 4, zw),
            *db = biased ? make_view(t, ROW_MAJOR, 1, &k->o) : NULL;
    randomise(x, 1, 0);
    randomise(w, 1, 0);
    randomise(g, 1, 0);
    if (biased)
        randomise(bias, 1, 0);
    ld_view *wx = for_cpu(x), *wy = like_for_cpu(y), *wdx = like_for_cpu(x), *wg = for_cpu(g);
    ld_view *ww = make_view(wx->dtype, CANONICAL, 4, zw), *wdw = make_view(wx->dtype, CANONICAL, 4, zw);
    ld_view *wb = biased ? for_cpu(bias) : NULL, *wdb = biased ? like_for_cpu(db) : NULL;
    ok(ld_cpu_copy(ww, w));
    double tolerance = tolerance_of(t, k->s.up), scale = 4 + (double)(k->c * k->r) / 2;
    ok(ld_cpu_conv2d(wy, wx, ww, wb, &k->s));
    ok(ld_cuda_conv2d(y, x, w, bias, &k->s));
    agree("conv2d", y, wy, tolerance, scale);
    ok(ld_cpu_conv2d_dx(wdx, wg, ww, &k->s));
    ok(ld_cuda_conv2d_dx(dx, g, w, &k->s));
    agree("conv2d_dx", dx, wdx, tolerance, scale);
    ok(ld_cpu_conv2d_dw(wdw, wdb, wx, wg, &k->s));
    ok(ld_cuda_conv2d_dw(dw, db, x, g, &k->s));
    agree("conv2d_dw", dw, wdw, tolerance, 4 + (double)(k->n * k->h * k->w));
    if (biased)
        agree("conv2d's db", db, wdb, tolerance, 4 + (double)(k->n * k->h * k->w));
    assert_int_equal(ld_sim_workspaces(), 0);
    free_views(NULL);
}

static void every_case(void **state) {
    (void)state;
    static const ld_dtype types[][2] = {
        {LD_F32, LD_F32}, {LD_BF16, LD_BF16}, {LD_BF16, LD_F32}, {LD_F16, LD_F32}, {LD_F64, LD_F64}};
    static const layout layouts[] = {CANONICAL, ROW_MAJOR};
    for (refuse_bias = 0; refuse_bias < 2; refuse_bias++)
        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
            for (int t = 0; t < 5; t++)
                for (int l = 0; l < 2; l++)
                    for (int biased = 0; biased < 2; biased++)
                        one_case(&cases[k], types[t][0], types[t][1], layouts[l], biased);
    assert_true(plans_run > 2 * plans_made); /* plans are kept */
}

static void integers_are_refused(void **state) {
    (void)state;
    ld_view *x = make_view(LD_I32, CANONICAL, 4, (int64_t[]){1, 2, 3, 3});
    assert_int_equal(ld_cuda_conv2d(x, x, x, NULL, &cases[0].s), LD_EDTYPE);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(every_case, tidy, tidy),
                                       cmocka_unit_test_setup_teardown(integers_are_refused, tidy, tidy)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
