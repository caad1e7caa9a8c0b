/* The CPU backend's pooling and resizing against formulas for one pixel, and the gradients against the transposed map. */
#include "views.h"

typedef struct image_case {
    int64_t n, c, h, w, p, q; /* x (n,c,h,w), y (n,c,p,q) */
    int kh, kw, sh, sw;       /* pooling only */
} image_case;

typedef int (*slot)(const ld_view *y, const ld_view *x, const image_case *k);
typedef double (*pixel)(const ld_view *x, const image_case *k, int64_t nc, int64_t i, int64_t j);

static double at(const ld_view *x, int64_t nc, int64_t i, int64_t j) {
    return get(x, (nc * x->shape[2] + i) * x->shape[3] + j);
}

static double mean(const ld_view *x, int64_t nc, int64_t top, int64_t bottom, int64_t left, int64_t right) {
    double sum = 0;
    for (int64_t i = top; i < bottom; i++)
        for (int64_t j = left; j < right; j++)
            sum += at(x, nc, i, j);
    return sum / (double)((bottom - top) * (right - left));
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static double pooled(const ld_view *x, const image_case *k, int64_t nc, int64_t i, int64_t j) {
    return mean(x, nc, i * k->sh, least(i * k->sh + k->kh, k->h), j * k->sw, least(j * k->sw + k->kw, k->w));
}

static double adapted(const ld_view *x, const image_case *k, int64_t nc, int64_t i, int64_t j) {
    double dh = (double)k->h / (double)k->p, dw = (double)k->w / (double)k->q, tiny = 1e-9;
    return mean(x, nc, (int64_t)floor((double)i * dh + tiny), (int64_t)ceil((double)(i + 1) * dh - tiny),
                (int64_t)floor((double)j * dw + tiny), (int64_t)ceil((double)(j + 1) * dw - tiny));
}

static double nearest(const ld_view *x, const image_case *k, int64_t nc, int64_t i, int64_t j) {
    return at(x, nc, i * k->h / k->p, j * k->w / k->q);
}

/* Linear interpolation between pixel centres; outside them the border's pixel. */
static double bilinear(const ld_view *x, const image_case *k, int64_t nc, int64_t i, int64_t j) {
    double v = fmin(fmax(((double)i + 0.5) * (double)k->h / (double)k->p - 0.5, 0), (double)(k->h - 1));
    double u = fmin(fmax(((double)j + 0.5) * (double)k->w / (double)k->q - 0.5, 0), (double)(k->w - 1));
    int64_t top = (int64_t)v, left = (int64_t)u, bottom = least(top + 1, k->h - 1), right = least(left + 1, k->w - 1);
    v -= (double)top;
    u -= (double)left;
    return (1 - v) * ((1 - u) * at(x, nc, top, left) + u * at(x, nc, top, right)) +
           v * ((1 - u) * at(x, nc, bottom, left) + u * at(x, nc, bottom, right));
}

static double tent(double distance, double step) {
    return fmax(0, 1 - fabs(distance) / fmax(step, 1));
}

/* The mean of all pixels, weighted by tents around the position. */
static double smooth(const ld_view *x, const image_case *k, int64_t nc, int64_t i, int64_t j) {
    double dh = (double)k->h / (double)k->p, dw = (double)k->w / (double)k->q, sum = 0, total = 0;
    for (int64_t r = 0; r < k->h; r++)
        for (int64_t s = 0; s < k->w; s++) {
            double weight =
                tent((double)r + 0.5 - ((double)i + 0.5) * dh, dh) * tent((double)s + 0.5 - ((double)j + 0.5) * dw, dw);
            sum += weight * at(x, nc, r, s);
            total += weight;
        }
    return sum / total;
}

static int avg_pool(const ld_view *y, const ld_view *x, const image_case *k) {
    return ld_cpu_avg_pool2d(y, x, k->kh, k->kw, k->sh, k->sw);
}

static int avg_pool_bwd(const ld_view *dx, const ld_view *g, const image_case *k) {
    return ld_cpu_avg_pool2d_bwd(dx, g, k->kh, k->kw, k->sh, k->sw);
}

static int adaptive(const ld_view *y, const ld_view *x, const image_case *k) {
    (void)k;
    return ld_cpu_adaptive_avg_pool2d(y, x);
}

static int adaptive_bwd(const ld_view *dx, const ld_view *g, const image_case *k) {
    (void)k;
    return ld_cpu_adaptive_avg_pool2d_bwd(dx, g);
}

static int upsample(const ld_view *y, const ld_view *x, const image_case *k) {
    return ld_cpu_upsample_nearest(y, x, (int)(k->p / k->h));
}

static int upsample_bwd(const ld_view *dx, const ld_view *g, const image_case *k) {
    return ld_cpu_upsample_nearest_bwd(dx, g, (int)(k->p / k->h));
}

static int resize(const ld_view *y, const ld_view *x, const image_case *k) {
    (void)k;
    return ld_cpu_resize_bilinear(y, x, false);
}

static int resize_bwd(const ld_view *dx, const ld_view *g, const image_case *k) {
    (void)k;
    return ld_cpu_resize_bilinear_bwd(dx, g, false);
}

static int resize_smooth(const ld_view *y, const ld_view *x, const image_case *k) {
    (void)k;
    return ld_cpu_resize_bilinear(y, x, true);
}

static int resize_smooth_bwd(const ld_view *dx, const ld_view *g, const image_case *k) {
    (void)k;
    return ld_cpu_resize_bilinear_bwd(dx, g, true);
}

/* The map is linear: its gradient with respect to x[i] is <g, map of the i-th unit image>. */
static void check_gradient(const image_case *k, slot forward, slot backward) {
    int64_t in[4] = {k->n, k->c, k->h, k->w}, out[4] = {k->n, k->c, k->p, k->q};
    ld_view *unit = make_view(LD_F64, CANONICAL, 4, in), *y = make_view(LD_F64, CANONICAL, 4, out);
    ld_view *g = make_view(LD_F64, CANONICAL, 4, out), *dx = make_view(LD_F64, CANONICAL, 4, in);
    int64_t n = ld_view_numel(unit);
    randomise(g, 1, 0);
    ok(backward(dx, g, k));
    check_guards(dx);
    for (int64_t i = 0; i < n; i += n / 60 + 1) {
        double want = 0;
        ok(ld_cpu_fill(unit, 0));
        put(unit, i, 1);
        ok(forward(y, unit, k));
        for (int64_t j = 0; j < ld_view_numel(y); j++)
            want += get(g, j) * get(y, j);
        check_value("gradient", LD_F64, i, get(dx, i), want, 1);
    }
}

static void check(const image_case *cases, int count, slot forward, slot backward, pixel formula) {
    for (int c = 0; c < count; c++) {
        const image_case *k = &cases[c];
        int64_t in[4] = {k->n, k->c, k->h, k->w}, out[4] = {k->n, k->c, k->p, k->q}, plane = k->p * k->q;
        ld_set_threads(c % 3 + 1);
        for (int t = 0; t < 2; t++) {
            ld_dtype dtype = t ? LD_F64 : LD_F32;
            ld_view *x = make_view(dtype, CANONICAL, 4, in), *y = make_view(dtype, CANONICAL, 4, out);
            randomise(x, 1, 0);
            ok(forward(y, x, k));
            for (int64_t i = 0; i < ld_view_numel(y); i++)
                check_value("image", dtype, i, get(y, i), formula(x, k, i / plane, i % plane / k->q, i % k->q), 1);
            check_guards(y);
        }
        check_gradient(k, forward, backward);
        /* f32 gradients against f64 */
        ld_view *g = make_view(LD_F64, CANONICAL, 4, out), *dx = make_view(LD_F64, CANONICAL, 4, in);
        ld_view *g32 = make_view(LD_F32, CANONICAL, 4, out), *dx32 = make_view(LD_F32, CANONICAL, 4, in);
        randomise(g32, 1, 0);
        ok(ld_cpu_copy(g, g32));
        ok(backward(dx, g, k));
        ok(backward(dx32, g32, k));
        for (int64_t i = 0; i < ld_view_numel(dx); i++)
            check_value("gradient", LD_F32, i, get(dx32, i), get(dx, i), 4);
        free_views(NULL);
    }
}

#define CHECK(cases, ...) check(cases, sizeof cases / sizeof *cases, __VA_ARGS__)

static void avg_pool2d(void **state) {
    (void)state;
    static const image_case cases[] = {
        {1, 1, 1, 1, 1, 1, 1, 1, 1, 1},      {2, 3, 6, 8, 3, 4, 2, 2, 2, 2},  {2, 33, 7, 5, 4, 3, 2, 2, 2, 2},
        {1, 8, 9, 9, 3, 2, 3, 5, 3, 4},      {1, 31, 8, 9, 6, 7, 3, 3, 1, 1}, {2, 5, 7, 7, 2, 2, 1, 2, 4, 3},
        {3, 40, 40, 38, 20, 19, 2, 2, 2, 2}, {0, 4, 4, 4, 2, 2, 2, 2, 2, 2},
    };
    CHECK(cases, avg_pool, avg_pool_bwd, pooled);
}

static void adaptive_avg_pool2d(void **state) {
    (void)state;
    static const image_case cases[] = {
        {2, 33, 4, 4, 1, 1, 0, 0, 0, 0}, {1, 3, 7, 5, 3, 2, 0, 0, 0, 0},     {2, 8, 5, 7, 5, 7, 0, 0, 0, 0},
        {1, 9, 2, 3, 5, 7, 0, 0, 0, 0},  {2, 31, 31, 33, 7, 10, 0, 0, 0, 0},
    };
    CHECK(cases, adaptive, adaptive_bwd, adapted);
}

static void upsample_nearest(void **state) {
    (void)state;
    static const image_case cases[] = {
        {2, 3, 4, 5, 8, 10, 0, 0, 0, 0},
        {1, 33, 3, 2, 9, 6, 0, 0, 0, 0},
        {2, 8, 4, 4, 4, 4, 0, 0, 0, 0},
        {2, 40, 20, 20, 40, 40, 0, 0, 0, 0},
    };
    CHECK(cases, upsample, upsample_bwd, nearest);
}

static const image_case sizes[] = {
    {1, 1, 1, 1, 1, 1, 0, 0, 0, 0},      {1, 1, 1, 1, 3, 4, 0, 0, 0, 0},   {2, 3, 4, 5, 8, 10, 0, 0, 0, 0},
    {2, 3, 9, 8, 4, 5, 0, 0, 0, 0},      {1, 33, 7, 6, 13, 3, 0, 0, 0, 0}, {1, 8, 31, 33, 10, 7, 0, 0, 0, 0},
    {2, 16, 40, 30, 33, 31, 0, 0, 0, 0}, {1, 4, 5, 5, 5, 5, 0, 0, 0, 0},
};

static void resize_bilinear(void **state) {
    (void)state;
    CHECK(sizes, resize, resize_bwd, bilinear);
}

static void resize_bilinear_antialiased(void **state) {
    (void)state;
    CHECK(sizes, resize_smooth, resize_smooth_bwd, smooth);
}

/* PyTorch's results for rows of 2 and 4 pixels. */
static void resize_known_values(void **state) {
    (void)state;
    static const double up[] = {1, 1.25, 1.75, 2}, down[] = {12.0 / 7, 23.0 / 7};
    ld_view *two = make_view(LD_F64, CANONICAL, 4, (int64_t[]){1, 1, 1, 2});
    ld_view *four = make_view(LD_F64, CANONICAL, 4, (int64_t[]){1, 1, 1, 4});
    for (int i = 0; i < 2; i++)
        put(two, i, i + 1);
    for (int smoothed = 0; smoothed < 2; smoothed++) {
        ok(ld_cpu_resize_bilinear(four, two, smoothed));
        for (int i = 0; i < 4; i++)
            check_value("up", LD_F64, i, get(four, i), up[i], 0);
    }
    for (int i = 0; i < 4; i++)
        put(four, i, i + 1);
    ok(ld_cpu_resize_bilinear(two, four, true));
    for (int i = 0; i < 2; i++)
        check_value("down", LD_F64, i, get(two, i), down[i], 0);
}

int main(void) {
#define VIEWS_TEST(f) cmocka_unit_test_setup_teardown(f, free_views, free_views)
    const struct CMUnitTest tests[] = {
        VIEWS_TEST(avg_pool2d),      VIEWS_TEST(adaptive_avg_pool2d),         VIEWS_TEST(upsample_nearest),
        VIEWS_TEST(resize_bilinear), VIEWS_TEST(resize_bilinear_antialiased), VIEWS_TEST(resize_known_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
