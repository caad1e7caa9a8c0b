/* Optimisers against their formulas in plain C, checkpoints, clipping, averages, schedules. */
#include "base/error.h"
#include "optim/ema.h"
#include "optim/optim.h"
#include "optim/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "leak.h" /* wants cmocka.h before it */

#define near(a, b, eps)                                                                                                \
    do {                                                                                                               \
        double a_ = (a), b_ = (b);                                                                                     \
        if (!(fabs(a_ - b_) <= (eps)))                                                                                 \
            fail_msg("%s is %.17g, not %.17g", #a, a_, b_);                                                            \
    } while (0)

enum { N = 5 };

static ld_tensor *vector(ld_dtype t, double scale) {
    ld_tensor *x = ld_tensor_new(ld_device_find("cpu"), t, 1, (int64_t[]){N}, "test");
    assert_non_null(x);
    for (int i = 0; i < N; i++)
        ld_dtype_set(t, (char *)ld_tensor_data(x) + (size_t)i * ld_dtype_size(t), scale * sin(1 + 2.0 * i));
    return x;
}

static ld_tensor *leaf(ld_dtype t, double scale) {
    ld_tensor *x = vector(t, scale);
    x->requires_grad = true;
    return x;
}

static double at(const ld_tensor *x, int i) {
    return ld_dtype_get(x->dtype, (char *)ld_tensor_data(x) + (size_t)i * ld_dtype_size(x->dtype));
}

/* The gradient of step k, and x->grad set to it. */
static double grad(int k, int i) {
    return cos(0.7 * k + i) + 0.3;
}

static void set_grad(ld_tensor *x, int k) {
    if (!x->grad)
        x->grad = ld_tensor_like(x, "test");
    for (int i = 0; i < N; i++)
        ld_dtype_set(x->dtype, (char *)ld_tensor_data(x->grad) + (size_t)i * ld_dtype_size(x->dtype), grad(k, i));
}

/* 50 steps in f64 with options that change at every step, against the formulas; f64 rounding grows to about 1e-14. */
static void follows_adam(bool decoupled) {
    ld_optim_kind kind = decoupled ? LD_ADAMW : LD_ADAM;
    ld_optim_options opt = ld_optim_defaults(kind);
    ld_tensor *x = leaf(LD_F64, 1);
    ld_optim *o = ld_optim_new(kind, &opt, &x, 1);
    double w[N], m[N] = {0}, v[N] = {0};
    for (int i = 0; i < N; i++)
        w[i] = at(x, i);
    for (int k = 1; k <= 50; k++) {
        double lr = 1e-2 / k, b1 = 0.95 - 0.002 * k, b2 = 0.999, wd = 0.1, eps = 1e-5;
        o->opt = (ld_optim_options){.lr = lr, .beta1 = b1, .beta2 = b2, .eps = eps, .weight_decay = wd};
        uint32_t version = x->storage->version;
        set_grad(x, k);
        assert_int_equal(ld_optim_step(o), 0);
        assert_true(x->storage->version > version);
        for (int i = 0; i < N; i++) {
            double g = grad(k, i) + (decoupled ? 0 : wd * w[i]);
            w[i] -= decoupled ? lr * wd * w[i] : 0;
            m[i] = b1 * m[i] + (1 - b1) * g;
            v[i] = b2 * v[i] + (1 - b2) * g * g;
            w[i] -= lr * m[i] / (1 - pow(b1, k)) / (sqrt(v[i] / (1 - pow(b2, k))) + eps);
            near(at(x, i), w[i], 1e-12);
        }
    }
    assert_int_equal(o->step, 50);
    ld_optim_drop(o);
    ld_tensor_drop(x);
}

static void adamw_and_adam(void **s) {
    (void)s;
    follows_adam(true);
    follows_adam(false);
}

static void follows_sgd(double momentum, bool nesterov) {
    ld_optim_options opt = {.lr = 0.1, .weight_decay = 0.05, .momentum = momentum, .nesterov = nesterov};
    ld_tensor *x = leaf(LD_F64, 1);
    ld_optim *o = ld_optim_new(LD_SGD, &opt, &x, 1);
    double w[N], buf[N] = {0};
    for (int i = 0; i < N; i++)
        w[i] = at(x, i);
    for (int k = 1; k <= 20; k++) {
        set_grad(x, k);
        assert_int_equal(ld_optim_step(o), 0);
        for (int i = 0; i < N; i++) {
            double d = grad(k, i) + 0.05 * w[i];
            buf[i] = k == 1 ? d : momentum * buf[i] + d;
            w[i] -= 0.1 * (nesterov ? d + momentum * buf[i] : buf[i]);
            near(at(x, i), w[i], 1e-12);
        }
    }
    ld_optim_drop(o);
    ld_tensor_drop(x);
}

static void sgd(void **s) {
    (void)s;
    follows_sgd(0.9, false);
    follows_sgd(0.9, true);
    follows_sgd(0, false);
}

/* A parameter without a gradient stays; when its first gradient comes, its bias correction starts at 1. */
static void skips_and_scales(void **s) {
    (void)s;
    ld_optim_options opt = ld_optim_defaults(LD_ADAMW);
    opt.weight_decay = 0;
    ld_tensor *x[3] = {leaf(LD_F64, 1), leaf(LD_F64, 1), leaf(LD_F64, 1)};
    ld_optim *o = ld_optim_new(LD_ADAMW, &opt, x, 3);
    assert_int_equal(ld_optim_scale(o, 2, 1, 0.5, 0), 0);
    assert_int_equal(ld_optim_scale(o, 2, 2, 0.5, 0), LD_EINDEX);
    for (int k = 0; k < 10; k++) {
        set_grad(x[0], 1);
        set_grad(x[2], 1);
        assert_int_equal(ld_optim_step(o), 0);
    }
    double start = sin(1);
    assert_true(at(x[1], 0) == start);
    near((start - at(x[2], 0)) / (start - at(x[0], 0)), 0.5, 1e-9);
    set_grad(x[1], 1);
    assert_int_equal(ld_optim_step(o), 0);
    near(start - at(x[1], 0), 1e-3, 1e-9); /* the first step of Adam is lr sign(g) */
    assert_int_equal(ld_optim_zero_grad(o, false), 0);
    assert_true(at(x[0]->grad, 1) == 0);
    assert_int_equal(ld_optim_zero_grad(o, true), 0);
    assert_null(x[0]->grad);
    ld_optim_drop(o);
    for (int i = 0; i < 3; i++)
        ld_tensor_drop(x[i]);
}

/* ---- checkpoints ------------------------------------------------------------------------------------------------- */

typedef struct saved {
    int n;
    char name[16][LD_OPTIM_NAME];
    const char *names[16];
    ld_tensor *x[16];
} saved;

static void save(const ld_optim *o, saved *s) {
    s->n = ld_optim_state_count(o);
    assert_true(s->n <= 16);
    for (int i = 0; i < s->n; i++) {
        ld_tensor *view = ld_optim_state(o, i, s->name[i]);
        s->names[i] = s->name[i];
        s->x[i] = ld_tensor_clone(view, "test");
        ld_tensor_drop(view);
    }
}

static void unsave(saved *s) {
    for (int i = 0; i < s->n; i++)
        ld_tensor_drop(s->x[i]);
}

static void run(ld_optim *o, int from, int to) {
    for (int k = from; k < to; k++) {
        set_grad(o->param[0].x, k);
        if (k > 1) /* the second starts later */
            set_grad(o->param[1].x, k + 7);
        assert_int_equal(ld_optim_step(o), 0);
    }
}

/* 3 steps, save, load elsewhere, 3 steps = 6 steps, bit for bit. */
static void resumes(ld_optim_kind kind) {
    ld_optim_options opt = ld_optim_defaults(kind);
    opt.momentum = 0.9;
    ld_tensor *a[2] = {leaf(LD_F32, 1), leaf(LD_F32, 2)}, *b[2];
    ld_optim *one = ld_optim_new(kind, &opt, a, 2);
    run(one, 0, 3);
    for (int i = 0; i < 2; i++)
        b[i] = ld_tensor_clone(a[i], "test");
    ld_optim *two = ld_optim_new(kind, &opt, b, 2);
    saved s;
    save(one, &s);
    assert_int_equal(s.n, kind == LD_SGD ? 4 : 6);
    assert_int_equal(ld_optim_load(two, s.names, s.x, s.n), 0);
    run(one, 3, 6);
    run(two, 3, 6);
    for (int i = 0; i < 2; i++)
        assert_memory_equal(ld_tensor_data(a[i]), ld_tensor_data(b[i]), N * sizeof(float));
    assert_int_equal(two->step, 6);
    assert_int_equal(two->param[1].steps, 4);

    assert_int_equal(ld_optim_load(two, s.names + 1, s.x + 1, s.n - 1), LD_EFORMAT);
    assert_int_equal(ld_optim_load(two, s.names, s.x, s.n - 1), LD_EFORMAT);
    s.names[s.n] = "w.0";
    s.x[s.n] = s.x[2];
    assert_int_equal(ld_optim_load(two, s.names, s.x, s.n + 1), LD_EFORMAT);
    s.x[2]->ndim = 0;
    assert_int_equal(ld_optim_load(two, s.names, s.x, s.n), LD_ESHAPE);
    s.x[2]->ndim = 1;
    assert_int_equal(two->step, 6); /* a failed load changes nothing */
    unsave(&s);
    ld_optim_drop(one);
    ld_optim_drop(two);
    for (int i = 0; i < 2; i++) {
        ld_tensor_drop(a[i]);
        ld_tensor_drop(b[i]);
    }
}

static void checkpoints(void **s) {
    (void)s;
    resumes(LD_ADAMW);
    resumes(LD_SGD);
}

static void optim_errors(void **s) {
    (void)s;
    ld_tensor *x = leaf(LD_F32, 1), *twice[2] = {x, x};
    ld_optim_options opt = ld_optim_defaults(LD_SGD);
    assert_null(ld_optim_new(LD_SGD, &opt, twice, 2));
    assert_string_equal(ld_error(), "sgd: parameters 1 and 2 are the same tensor");
    assert_null(ld_optim_new(LD_SGD, &opt, &x, 0));
    opt.nesterov = true;
    assert_null(ld_optim_new(LD_SGD, &opt, &x, 1));
    opt = ld_optim_defaults(LD_ADAM);
    ld_optim *o = ld_optim_new(LD_ADAM, &opt, &x, 1);
    set_grad(x, 0);
    o->opt.lr = NAN;
    assert_int_equal(ld_optim_step(o), LD_EVALUE);
    assert_true(at(x, 0) == (float)sin(1));
    o->opt.lr = 1e-3;
    x->grad->ndim = 0;
    assert_int_equal(ld_optim_step(o), LD_ESHAPE);
    x->grad->ndim = 1;
    ld_optim_drop(o);
    ld_tensor_drop(x);
}

static void clipping(void **s) {
    (void)s;
    ld_tensor *x[3] = {leaf(LD_F32, 1), leaf(LD_F32, 1), leaf(LD_F32, 1)};
    set_grad(x[0], 1);
    set_grad(x[2], 2);
    double sum = 0, norm = 0;
    for (int i = 0; i < N; i++)
        sum += grad(1, i) * grad(1, i) + grad(2, i) * grad(2, i);
    assert_int_equal(ld_clip_grad_norm(x, 3, 100, &norm), 0);
    near(norm, sqrt(sum), 1e-6); /* f32 gradients */
    near(at(x[0]->grad, 1), grad(1, 1), 1e-7);
    assert_int_equal(ld_clip_grad_norm(x, 3, 0.5, NULL), 0);
    near(at(x[2]->grad, 3), grad(2, 3) * 0.5 / sqrt(sum), 1e-6);
    assert_int_equal(ld_grad_norm(x, 3, &norm), 0);
    near(norm, 0.5, 1e-5);
    ((float *)ld_tensor_data(x[0]->grad))[2] = INFINITY;
    float kept = (float)at(x[2]->grad, 0);
    assert_int_equal(ld_clip_grad_norm(x, 3, 0.1, &norm), 0);
    assert_false(isfinite(norm));
    assert_true(at(x[2]->grad, 0) == kept);
    assert_int_equal(ld_clip_grad_norm(x, 3, 0, NULL), LD_EVALUE);
    for (int i = 0; i < 3; i++)
        ld_tensor_drop(x[i]);
}

/* ---- one pass ---------------------------------------------------------------------------------------------------- */

enum { MANY = 70001 }; /* shared out to threads, cut inside a tensor */

static ld_tensor *large(ld_dtype t, int64_t n, int k) {
    ld_tensor *x = ld_tensor_new(ld_device_find("cpu"), t, 1, &n, "test");
    for (int64_t i = 0; i < n; i++)
        ld_dtype_set(t, (char *)ld_tensor_data(x) + (size_t)i * ld_dtype_size(t), sin(k + 0.37 * (double)i));
    return x;
}

static void same_bits(const ld_tensor *a, const ld_tensor *b, const char *what) {
    if (memcmp(ld_tensor_data(a), ld_tensor_data(b), (size_t)ld_tensor_numel(a) * ld_dtype_size(a->dtype)))
        fail_msg("%s differ", what);
}

/* Three tensors of different sizes, of which the last has no gradient, and one that is averaged alone. */
static void one_pass_of(ld_optim_kind kind, ld_dtype t, double clip) {
    static const int64_t sizes[4] = {MANY, 5, 40000, 33};
    ld_tensor *x[2][4];
    ld_optim *o[2];
    ld_ema *e[2];
    ld_optim_options opt = ld_optim_defaults(kind);
    opt.weight_decay = kind == LD_ADAM ? 0 : 0.1;
    opt.momentum = kind == LD_SGD ? 0.9 : 0;
    for (int w = 0; w < 2; w++) {
        for (int i = 0; i < 4; i++)
            x[w][i] = large(t, sizes[i], i);
        ld_tensor *averaged[4] = {x[w][1], x[w][0], x[w][2], x[w][3]}; /* in another order than the parameters */
        o[w] = ld_optim_new(kind, &opt, x[w], 3);
        e[w] = ld_ema_new(averaged, 4, 0.9, false);
        for (int step = 0; step < 3; step++) {
            double norm;
            for (int i = 0; i < 2; i++)
                assert_int_equal(ld_tensor_set_grad(x[w][i], large(t, sizes[i], 9 + step + i)), 0);
            if (w) {
                assert_int_equal(ld_grad_norm(x[w], 3, &norm), 0);
                double scale = clip > 0 ? ld_clip_scale(norm, clip) : 1;
                assert_true(clip > 0 ? scale < 1 : scale == 1);
                assert_int_equal(ld_optim_step_with(o[w], e[w], scale, true), 0);
                assert_true(!x[w][0]->grad && !x[w][1]->grad);
            } else {
                if (clip > 0)
                    assert_int_equal(ld_clip_grad_norm(x[w], 3, clip, &norm), 0);
                assert_int_equal(ld_optim_step(o[w]), 0);
                assert_int_equal(ld_ema_update(e[w]), 0);
            }
        }
    }
    for (int i = 0; i < 4; i++) {
        same_bits(x[0][i], x[1][i], "parameters");
        same_bits(ld_ema_average(e[0], i), ld_ema_average(e[1], i), "averages");
        for (int k = 0; i < 2 && k < (kind == LD_SGD ? 1 : 2); k++)
            same_bits(o[0]->param[i].state[k], o[1]->param[i].state[k], "states");
    }
    assert_int_equal(o[0]->step, o[1]->step);
    assert_int_equal(e[0]->updates, e[1]->updates);
    assert_null(o[1]->param[2].state[0]);
    assert_int_equal(ld_ema_swap(e[1]), 0);
    assert_int_equal(ld_optim_step_with(o[1], e[1], 1, true), LD_ESTATE);
    assert_int_equal(o[1]->step, 3);
    for (int w = 0; w < 2; w++) {
        ld_ema_drop(e[w]);
        ld_optim_drop(o[w]);
        for (int i = 0; i < 4; i++)
            ld_tensor_drop(x[w][i]);
    }
}

/* Averages, clipping and the update in one pass give the bits of three. (Adam's own weight decay is left out: there the
 * scaled gradient is rounded once less.) */
static void one_pass(void **s) {
    (void)s;
    for (int kind = 0; kind < LD_OPTIM_COUNT; kind++)
        for (int t = 0; t < 2; t++)
            for (int clip = 0; clip < 2; clip++)
                one_pass_of((ld_optim_kind)kind, t ? LD_F64 : LD_F32, clip);
}

/* ---- averages ---------------------------------------------------------------------------------------------------- */

static void averages(void **s) {
    (void)s;
    ld_tensor *count = ld_tensor_full(ld_device_find("cpu"), LD_I64, 0, (int64_t[]){1}, 3, "test");
    ld_tensor *x[2] = {leaf(LD_F64, 1), count};
    ld_ema *e = ld_ema_new(x, 2, 0.3, true);
    double want = sin(1), decays[3] = {0.1, 2 / 11.0, 3 / 12.0};
    for (int k = 0; k < 3; k++) {
        *(double *)ld_tensor_data(x[0]) = k;
        near(ld_ema_decay_now(e), decays[k], 1e-15);
        assert_int_equal(ld_ema_update(e), 0);
        want = decays[k] * want + (1 - decays[k]) * k;
        near(at(ld_ema_average(e, 0), 0), want, 1e-14);
    }
    e->updates = 1000;
    assert_true(ld_ema_decay_now(e) == 0.3);
    *(int64_t *)ld_tensor_data(count) = 9;
    assert_int_equal(ld_ema_update(e), 0);
    assert_int_equal(ld_tensor_item(ld_ema_average(e, 1)), 9);
    want = 0.3 * want + 0.7 * 2;

    assert_int_equal(ld_ema_swap(e), 0);
    near(at(x[0], 0), want, 1e-14);
    assert_true(x[0]->requires_grad);
    near(at(ld_ema_average(e, 0), 0), want, 1e-14);
    assert_int_equal(ld_ema_update(e), LD_ESTATE);
    assert_int_equal(ld_ema_swap(e), 0);
    assert_true(at(x[0], 0) == 2);

    ld_tensor *other = vector(LD_F32, 5);
    assert_int_equal(ld_ema_load(e, 0, other), 0);
    near(at(ld_ema_average(e, 0), 0), 5 * sin(1), 1e-6);
    assert_int_equal(ld_ema_load(e, 1, other), LD_ESHAPE);
    assert_int_equal(ld_ema_load(e, 2, other), LD_EINDEX);
    assert_int_equal(ld_ema_swap(e), 0);
    ld_ema_drop(ld_ema_ref(e));
    ld_ema_drop(e); /* swapped: the live values come back */
    assert_true(at(x[0], 0) == 2);

    e = ld_ema_new(x, 1, 0.5, false);
    *(double *)ld_tensor_data(x[0]) = 7;
    assert_int_equal(ld_ema_copy_to_live(e), 0);
    assert_true(at(x[0], 0) == 2);
    ld_ema_drop(e);
    assert_null(ld_ema_new(x, 1, 1, false));
    ld_tensor_drop(other);
    ld_tensor_drop(x[0]);
    ld_tensor_drop(count);
}

/* ---- schedules --------------------------------------------------------------------------------------------------- */

/* Figures of PyTorch's OneCycleLR(max_lr=1e-2, total_steps=100), method 3.5's formula between them. */
static void one_cycle(void **s) {
    (void)s;
    const double pi = 3.14159265358979323846, top = 29;
    for (int k = 0; k < 100; k++) {
        double lr = ld_one_cycle_lr(1e-2, 0.3, 25, 1e4, k, 100), beta = ld_one_cycle_beta1(0.95, 0.85, 0.3, k, 100);
        double up = (1 - cos(pi * k / top)) / 2, down = (1 + cos(pi * (k - top) / 70)) / 2;
        near(lr, k <= 29 ? 4e-4 + 9.6e-3 * up : 4e-8 + (1e-2 - 4e-8) * down, 1e-15);
        near(beta, 0.95 - 0.1 * (k <= 29 ? up : down), 1e-15);
    }
    near(ld_one_cycle_lr(1e-2, 0.3, 25, 1e4, 500, 100), 4e-8, 1e-18);
    assert_true(ld_one_cycle_lr(1e-2, 0.3, 25, 1e4, 0, 3) == 1e-2); /* no room to warm up */
    assert_true(isfinite(ld_one_cycle_lr(1e-2, 0.3, 25, 1e4, 0, 1)));
}

static void warm_cosine_and_constant(void **s) {
    (void)s;
    near(ld_constant_lr(1, 4, 0), 0.2, 1e-15);
    near(ld_constant_lr(1, 4, 3), 0.8, 1e-15);
    assert_true(ld_constant_lr(1, 4, 4) == 1 && ld_constant_lr(1, 0, 0) == 1);
    near(ld_cosine_lr(1, 0.1, 4, 3, 105), 0.8, 1e-15);
    near(ld_cosine_lr(1, 0.1, 4, 4, 105), 1, 1e-15);
    near(ld_cosine_lr(1, 0.1, 4, 54, 105), 0.55, 1e-15);
    near(ld_cosine_lr(1, 0.1, 4, 104, 105), 0.1, 1e-15);
    near(ld_cosine_lr(1, 0.1, 4, 999, 105), 0.1, 1e-15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        LEAK_TEST(adamw_and_adam),   LEAK_TEST(sgd),
        LEAK_TEST(skips_and_scales), LEAK_TEST(checkpoints),
        LEAK_TEST(optim_errors),     LEAK_TEST(clipping),
        LEAK_TEST(one_pass),         LEAK_TEST(averages),
        cmocka_unit_test(one_cycle), cmocka_unit_test(warm_cosine_and_constant),
    };
    return cmocka_run_group_tests_name("optim", tests, NULL, NULL);
}
