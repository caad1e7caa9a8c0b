/* Products, convolutions, norms, softmax and attention against formulas written out here, in f64 and f32 and every layout
 * of the inputs. */
#include "ops.h"

/* ---- products -------------------------------------------------------------------------------------------------------- */

static void matmul_values(void **state) {
    (void)state;
    EACH_WAY {
        ld_tensor *a = INPUT(2, 1, 3, 4), *b = INPUT(5, 4, 2), *y = keep(ld_matmul(a, b));
        has_shape(y, SHAPE(2, 5, 3, 2));
        for (int i = 0; i < 60; i++) {
            double sum = 0;
            for (int k = 0; k < 4; k++)
                sum += get(a, (i / 30 * 3 + i / 2 % 3) * 4 + k) * get(b, (i / 6 % 5 * 4 + k) * 2 + i % 2);
            near("matmul", get(y, i), sum, EPS);
        }
        ld_tensor *u = INPUT(4), *v = INPUT(4), *dot = keep(ld_matmul(u, v)), *row = keep(ld_matmul(u, b));
        ld_tensor *column = keep(ld_matmul(a, v));
        has_shape(dot, 0, NULL);
        has_shape(row, SHAPE(5, 2));
        has_shape(column, SHAPE(2, 1, 3));
        double sum = 0;
        for (int k = 0; k < 4; k++)
            sum += get(u, k) * get(v, k);
        near("dot", get(dot, 0), sum, EPS);
        for (int i = 0; i < 10; i++) {
            sum = 0;
            for (int k = 0; k < 4; k++)
                sum += get(u, k) * get(b, (i / 2 * 4 + k) * 2 + i % 2);
            near("vector matrix", get(row, i), sum, EPS);
        }
        for (int i = 0; i < 6; i++) {
            sum = 0;
            for (int k = 0; k < 4; k++)
                sum += get(a, i * 4 + k) * get(v, k);
            near("matrix vector", get(column, i), sum, EPS);
        }
        ld_tensor *nothing = keep(ld_matmul(INPUT(3, 0), INPUT(0, 2)));
        has_values("empty inner size", nothing, VALUES(0, 0, 0, 0, 0, 0), 0);
        has_shape(keep(ld_matmul(INPUT(0, 4), INPUT(4, 2))), SHAPE(0, 2));
    }
}

static void linear_values(void **state) {
    (void)state;
    EACH_WAY {
        ld_tensor *x = INPUT(2, 3, 2, 4), *w = INPUT(5, 4), *b = INPUT(5);
        ld_tensor *y = keep(ld_linear(x, w, b)), *z = keep(ld_linear(x, w, NULL));
        has_shape(y, SHAPE(2, 3, 2, 5));
        for (int i = 0; i < 60; i++) {
            double sum = 0;
            for (int k = 0; k < 4; k++)
                sum += get(x, i / 5 * 4 + k) * get(w, i % 5 * 4 + k);
            near("linear", get(y, i), sum + get(b, i % 5), EPS);
            near("linear without bias", get(z, i), sum, EPS);
        }
        has_shape(keep(ld_linear(INPUT(0, 4), w, b)), SHAPE(0, 5));
        assert_true(distance(keep(ld_linear(INPUT(2, 0), INPUT(5, 0), b)), keep(ld_expand(b, SHAPE(2, 5)))) == 0);
    }
}

/* ---- convolution ----------------------------------------------------------------------------------------------------- */

static double conv_at(const ld_tensor *x, const ld_tensor *w, const ld_conv_shape *s, const int64_t at[4]) {
    double sum = 0;
    for (int64_t c = 0; c < w->shape[1]; c++)
        for (int64_t r = 0; r < w->shape[2]; r++)
            for (int64_t q = 0; q < w->shape[3]; q++)
                sum += get4(w, at[1], c, r, q) *
                       get4(x, at[0], c, at[2] * s->stride_h + r - s->top, at[3] * s->stride_w + q - s->left);
    return sum;
}

static void position(const ld_tensor *y, int64_t i, int64_t at[4]) {
    for (int d = 3; d >= 0; i /= y->shape[d--])
        at[d] = i % y->shape[d];
}

static const ld_conv_shape conv_shapes[] = {
    {1, 1, 0, 0, 0, 0, false}, {1, 1, 1, 1, 1, 1, false}, {2, 2, 0, 1, 0, 1, false}, {3, 2, 2, 0, 1, 3, false}};

static void conv2d_values(void **state) {
    (void)state;
    EACH_WAY for (size_t k = 0; k < LENGTH(conv_shapes); k++) {
        const ld_conv_shape *s = &conv_shapes[k];
        ld_tensor *x = INPUT(2, 3, 6, 7), *w = INPUT(4, 3, 3, 2), *b = INPUT(4);
        ld_tensor *y = keep(ld_conv2d(x, w, b, s)), *plain = keep(ld_conv2d(x, w, NULL, s));
        has_shape(y, SHAPE(2, 4, (6 + s->top + s->bottom - 3) / s->stride_h + 1,
                           (7 + s->left + s->right - 2) / s->stride_w + 1));
        lies_canonical(y);
        for (int64_t i = 0, at[4]; i < ld_tensor_numel(y); i++) {
            position(y, i, at);
            double v = conv_at(x, w, s, at);
            near("conv2d", get(y, i), v + get(b, at[1]), EPS * 10);
            near("conv2d without bias", get(plain, i), v, EPS * 10);
        }
        has_shape(keep(ld_conv2d(INPUT(0, 3, 6, 7), w, b, s)), 4, (int64_t[]){0, 4, y->shape[2], y->shape[3]});
    }
}

/* Each element of x spreads w over the result: the definition. */
static void conv_transpose2d_values(void **state) {
    (void)state;
    EACH_WAY for (size_t k = 0; k < LENGTH(conv_shapes); k++) {
        ld_conv_shape s = conv_shapes[k];
        int extra = s.stride_h > 1 ? 1 : 0;
        ld_tensor *x = INPUT(2, 3, 4, 3), *w = INPUT(3, 2, 3, 4), *b = INPUT(2);
        ld_tensor *y = keep(ld_conv_transpose2d(x, w, b, &s, extra)),
                  *want = keep(ld_tensor_full(cpu(), LD_F64, y->ndim, y->shape, 0, "test"));
        has_shape(y, SHAPE(2, 2, 3 * s.stride_h - s.top - s.bottom + 3 + extra,
                           2 * s.stride_w - s.left - s.right + 4 + extra));
        lies_canonical(y);
        for (int64_t i = 0, at[4]; i < ld_tensor_numel(x); i++) {
            position(x, i, at);
            for (int64_t e = 0; e < 24; e++) {
                int64_t o = e / 12, r = e / 4 % 3, q = e % 4, h = at[2] * s.stride_h + r - s.top,
                        v = at[3] * s.stride_w + q - s.left;
                if (h < 0 || h >= y->shape[2] || v < 0 || v >= y->shape[3])
                    continue;
                int64_t to = ((at[0] * 2 + o) * y->shape[2] + h) * y->shape[3] + v;
                set(want, to, get(want, to) + get(x, i) * get4(w, at[1], o, r, q));
            }
        }
        int64_t plane = y->shape[2] * y->shape[3];
        for (int64_t i = 0; i < ld_tensor_numel(y); i++)
            near("conv_transpose2d", get(y, i), get(want, i) + get(b, i / plane % 2), EPS * 10);
    }
}

/* ---- norms ----------------------------------------------------------------------------------------------------------- */

/* Mean and biased variance of the elements i of x with group[i] == k. */
static void moments(const ld_tensor *x, const int *group, int k, double *mean, double *var) {
    double sum = 0, n = 0;
    for (int64_t i = 0; i < ld_tensor_numel(x); i++) {
        sum += group[i] == k ? get(x, i) : 0;
        n += group[i] == k;
    }
    *mean = sum / n;
    *var = 0;
    for (int64_t i = 0; i < ld_tensor_numel(x); i++)
        *var += group[i] == k ? (get(x, i) - *mean) * (get(x, i) - *mean) / n : 0;
}

enum { MOST = 256 };

/* y against (x - mean) / sqrt(var + eps) w + b with groups and channels of every element as given; b, w may be NULL. */
static void normed(const char *what, const ld_tensor *y, const ld_tensor *x, const int *group, const int *channel,
                   const ld_tensor *w, const ld_tensor *b, double eps, double tolerance) {
    assert_true(ld_tensor_numel(x) <= MOST);
    has_shape(y, x->ndim, x->shape);
    lies_canonical(y);
    for (int64_t i = 0; i < ld_tensor_numel(x); i++) {
        double mean, var;
        moments(x, group, group[i], &mean, &var);
        double v = (get(x, i) - mean) / sqrt(var + eps);
        near(what, get(y, i), v * (w ? get(w, channel[i]) : 1) + (b ? get(b, channel[i]) : 0), tolerance);
    }
}

static const struct {
    int ndim;
    int64_t shape[5];
} norm_shapes[] = {{2, {5, 6}}, {3, {2, 6, 5}}, {4, {2, 6, 3, 4}}, {5, {2, 6, 2, 1, 3}}};

/* Channel and sample of element i of x. */
static void locate(const ld_tensor *x, int64_t i, int *n, int *c) {
    int64_t inner = 1;
    for (int d = 2; d < x->ndim; d++)
        inner *= x->shape[d];
    *c = (int)(i / inner % x->shape[1]);
    *n = (int)(i / inner / x->shape[1]);
}

static void group_norm_values(void **state) {
    (void)state;
    EACH_WAY for (size_t k = 0; k < LENGTH(norm_shapes); k++) for (int groups = 1; groups <= 6; groups++) {
        if (6 % groups)
            continue;
        ld_tensor *x = laid_out(numbers(DTYPE, norm_shapes[k].ndim, norm_shapes[k].shape, k), way % LAYOUTS);
        ld_tensor *w = INPUT(6), *b = INPUT(6);
        int group[MOST], channel[MOST], n;
        for (int64_t i = 0; i < ld_tensor_numel(x); i++) {
            locate(x, i, &n, &channel[i]);
            group[i] = n * groups + channel[i] / (6 / groups);
        }
        normed("group_norm", keep(ld_group_norm(x, w, b, groups, 1e-3)), x, group, channel, w, b, 1e-3, EPS * 10);
        normed("group_norm plain", keep(ld_group_norm(x, NULL, NULL, groups, 1e-3)), x, group, channel, NULL, NULL,
               1e-3, EPS * 10);
        drop_kept();
    }
}

static void layer_norm_values(void **state) {
    (void)state;
    EACH_WAY for (size_t k = 0; k < LENGTH(norm_shapes); k++) {
        ld_tensor *x = laid_out(numbers(DTYPE, norm_shapes[k].ndim, norm_shapes[k].shape, k), way % LAYOUTS);
        int64_t c = x->shape[x->ndim - 1];
        ld_tensor *w = laid_out(numbers(DTYPE, 1, &c, 7), way % LAYOUTS),
                  *b = laid_out(numbers(DTYPE, 1, &c, 8), way % LAYOUTS);
        int group[MOST], channel[MOST];
        for (int i = 0; i < ld_tensor_numel(x); i++) {
            group[i] = i / (int)c;
            channel[i] = i % (int)c;
        }
        normed("layer_norm", keep(ld_layer_norm(x, w, b, 1e-3)), x, group, channel, w, b, 1e-3, EPS * 10);
        normed("layer_norm plain", keep(ld_layer_norm(x, NULL, b, 1e-3)), x, group, channel, NULL, b, 1e-3, EPS * 10);
    }
}

static void batch_norm_values(void **state) {
    (void)state;
    EACH_WAY for (size_t k = 0; k < 3; k++) {
        ld_tensor *x = laid_out(numbers(DTYPE, norm_shapes[k].ndim, norm_shapes[k].shape, k), way % LAYOUTS);
        ld_tensor *w = INPUT(6), *b = INPUT(6), *mean = INPUT(6), *var = INPUT(6);
        int group[MOST], n;
        double old[2][6], rows = (double)ld_tensor_numel(x) / 6;
        for (int64_t i = 0; i < ld_tensor_numel(x); i++)
            locate(x, i, &n, &group[i]);
        for (int c = 0; c < 6; c++) {
            old[0][c] = get(mean, c);
            old[1][c] = fabs(get(var, c));
            set(var, c, old[1][c]);
        }
        ld_tensor *eval = keep(ld_batch_norm(x, w, b, mean, var, false, 0.1, 1e-3));
        for (int64_t i = 0; i < ld_tensor_numel(x); i++) {
            int c = group[i];
            near("batch_norm eval", get(eval, i),
                 (get(x, i) - old[0][c]) / sqrt(old[1][c] + 1e-3) * get(w, c) + get(b, c), EPS * 10);
        }
        lies_canonical(eval);
        normed("batch_norm", keep(ld_batch_norm(x, w, b, mean, var, true, 0.1, 1e-3)), x, group, group, w, b, 1e-3,
               EPS * 10);
        normed("batch_norm plain", keep(ld_batch_norm(x, NULL, NULL, NULL, NULL, true, 0.1, 1e-3)), x, group, group,
               NULL, NULL, 1e-3, EPS * 10);
        for (int c = 0; c < 6; c++) {
            double m, v;
            moments(x, group, c, &m, &v);
            near("running mean", get(mean, c), 0.9 * old[0][c] + 0.1 * m, EPS);
            near("running variance", get(var, c), 0.9 * old[1][c] + 0.1 * v * rows / (rows - 1), EPS);
        }
        assert_int_equal(mean->storage->version, 1);
    }
}

/* ---- softmax, attention ---------------------------------------------------------------------------------------------- */

static void softmax_values(void **state) {
    (void)state;
    EACH_WAY for (int ndim = 1; ndim < 5; ndim++) for (int dim = 0; dim < ndim; dim++) {
        static const int64_t shape[4] = {3, 2, 4, 5};
        ld_tensor *x = laid_out(numbers(DTYPE, ndim, shape, 3), way % LAYOUTS), *y = keep(ld_softmax(x, dim - ndim));
        lies_canonical(y);
        int64_t step = 1;
        for (int d = dim + 1; d < ndim; d++)
            step *= shape[d];
        for (int64_t i = 0; i < ld_tensor_numel(x); i++) {
            double sum = 0;
            int64_t base = i / (step * shape[dim]) * step * shape[dim] + i % step;
            for (int64_t k = 0; k < shape[dim]; k++)
                sum += exp(get(x, base + k * step));
            near("softmax", get(y, i), exp(get(x, i)) / sum, EPS);
        }
    }
    ld_tensor *big = tensor(LD_F32, SHAPE(3), VALUES(1000, 1000, -1000));
    has_values("softmax of large numbers", keep(ld_softmax(big, 0)), VALUES(0.5, 0.5, 0), 0);
}

/* One result: head h of sample n, position t, column c, from rows q(t), k(s), v(s) found by `at`. */
typedef double (*entry)(ld_tensor *const *x, int which, int n, int t, int head, int c, int d);

static double attended(ld_tensor *const *x, entry at, int n, int t, int head, int c, int d, int positions) {
    double sum = 0, total = 0;
    for (int s = 0; s < positions; s++) {
        double dot = 0;
        for (int k = 0; k < d; k++)
            dot += at(x, 0, n, t, head, k, d) * at(x, 1, n, s, head, k, d);
        double weight = exp(dot / sqrt(d));
        total += weight;
        sum += weight * at(x, 2, n, s, head, c, d);
    }
    return sum / total;
}

static double apart(ld_tensor *const *x, int which, int n, int t, int head, int c, int d) {
    return get(x[which], (n * x[which]->shape[1] + t) * x[which]->shape[2] + head * d + c);
}

static double packed(ld_tensor *const *x, int which, int n, int t, int head, int c, int d) {
    return get(x[0], (n * x[0]->shape[1] + t) * x[0]->shape[2] + head * 3 * d + which * d + c);
}

static void attention_values(void **state) {
    (void)state;
    EACH_WAY for (int heads = 1; heads < 4; heads++) {
        int d = 6 / heads;
        ld_tensor *x[3] = {INPUT(2, 3, 6), INPUT(2, 5, 6), INPUT(2, 5, 6)}, *qkv = INPUT(2, 4, 18);
        ld_tensor *y = keep(ld_attention(x[0], x[1], x[2], heads)), *z = keep(ld_attention_packed(qkv, heads));
        has_shape(y, SHAPE(2, 3, 6));
        has_shape(z, SHAPE(2, 4, 6));
        lies_canonical(y);
        lies_canonical(z);
        for (int i = 0; i < 36; i++)
            near("attention", get(y, i), attended(x, apart, i / 18, i / 6 % 3, i % 6 / d, i % d, d, 5), EPS);
        for (int i = 0; i < 48; i++)
            near("attention_packed", get(z, i), attended(&qkv, packed, i / 24, i / 6 % 4, i % 6 / d, i % d, d, 4), EPS);
    }
    has_shape(keep(ld_attention_packed(tensor(LD_F32, SHAPE(2, 0, 6), NULL), 2)), SHAPE(2, 0, 2));
    has_shape(keep(ld_attention_packed(tensor(LD_F32, SHAPE(0, 3, 6), NULL), 1)), SHAPE(0, 3, 2));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(matmul_values),           TEST(linear_values),     TEST(conv2d_values),
        TEST(conv_transpose2d_values), TEST(group_norm_values), TEST(layer_norm_values),
        TEST(batch_norm_values),       TEST(softmax_values),    TEST(attention_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
