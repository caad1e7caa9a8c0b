/* update, sgd, sumsq: the device's slots against the CPU's. */
#include "orders.h"

static const int64_t sizes[] = {0, 1, 31, 33, 1000, 40000, 3, 256, 70001};
enum { COUNT = sizeof sizes / sizeof *sizes };

static ld_view *vector(ld_dtype t, int64_t n, double scale, double shift) {
    ld_view *v = make_view(t, ROW_MAJOR, 1, &n);
    randomise(v, scale, shift);
    return v;
}

static ld_adam_step step_of(int k) {
    ld_adam_step s = {
        .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-5, .weight_decay = 0.1, .step = k + 1, .decoupled = k % 2};
    return s;
}

typedef struct state {
    ld_view *p, *m, *v, *s, *g;
} parts;

static parts parts_of(ld_dtype t, int64_t n) {
    return (parts){vector(t, n, 1, 0), vector(t, n, 0.1, 0), vector(t, n, 0.05, 0.06), vector(t, n, 1, 0),
                   vector(t, n, 1, 0)};
}

static parts twins(const parts *a) {
    return (parts){twin(a->p), twin(a->m), twin(a->v), twin(a->s), a->g};
}

static ld_update update_of(const parts *a, ld_dtype t, int64_t n, int k, bool g, bool s) {
    ld_update u = {.dtype = t, .n = n, .p = a->p->data, .m = a->m->data, .v = a->v->data, .adam = step_of(k)};
    u.g = g ? a->g->data : NULL;
    u.s = s ? a->s->data : NULL;
    return u;
}

static void same(const parts *a, const parts *b, double tolerance) {
    agree("update: p", a->p, b->p, tolerance, 0.1);
    agree("update: m", a->m, b->m, tolerance, 0.1);
    agree("update: v", a->v, b->v, tolerance, 0.01);
    agree("update: s", a->s, b->s, tolerance, 0.1);
}

/* Tensors of all sizes and both dtypes in one call, some without a gradient, some without an average. */
static void update(void **state) {
    (void)state;
    EACH_ORDER(o) {
        enum { ALL = 2 * COUNT };
        parts cpu[ALL], device[ALL];
        ld_update a[ALL], b[ALL];
        for (int i = 0; i < ALL; i++) {
            ld_dtype t = i < COUNT ? LD_F32 : LD_F64;
            int64_t n = sizes[i % COUNT];
            cpu[i] = parts_of(t, n);
            device[i] = twins(&cpu[i]);
            a[i] = update_of(&cpu[i], t, n, i, i % 5 != 2, i % 3 != 1);
            b[i] = update_of(&device[i], t, n, i, i % 5 != 2, i % 3 != 1);
        }
        ok(ld_cpu_update(a, ALL, 0.7, 0.9, NULL));
        ok(ld_cuda_update(b, ALL, 0.7, 0.9, NULL));
        for (int i = 0; i < ALL; i++)
            same(&device[i], &cpu[i], i < COUNT ? 1e-6 : 1e-14);
        next_case();
    }
    ok(ld_cuda_update(NULL, 0, 1, 0, NULL));
}

/* Gradients of 16 bits as the CPU has them in f32, and weights of 16 bits; addresses that are not aligned. */
static void mixed(void **state) {
    (void)state;
    for (int t = 1; t < 3; t++)
        for (int i = 0; i < COUNT; i++)
            for (int odd = 0; odd < 2 && odd < sizes[i]; odd++) {
                int64_t n = sizes[i];
                parts cpu = parts_of(LD_F32, n), device = twins(&cpu);
                ld_view *g = vector(all_dtypes[t], n, 1, 0), *shadow = vector(LD_BF16, n, 0, 0), *want = twin(shadow);
                ok(ld_cpu_copy(cpu.g, g));
                ld_update a = update_of(&cpu, LD_F32, n - odd, 2, true, true),
                          b = update_of(&device, LD_F32, n - odd, 2, true, true);
                b.g = (uint16_t *)g->data + odd;
                b.g_dtype = all_dtypes[t];
                b.shadow = (uint16_t *)shadow->data + odd;
                if (odd) {
                    a = (ld_update){.dtype = LD_F32,
                                    .n = n - 1,
                                    .p = (float *)a.p + 1,
                                    .m = (float *)a.m + 1,
                                    .v = (float *)a.v + 1,
                                    .s = (float *)a.s + 1,
                                    .g = (const float *)a.g + 1,
                                    .adam = a.adam};
                    b.p = (float *)b.p + 1;
                    b.m = (float *)b.m + 1;
                    b.v = (float *)b.v + 1;
                    b.s = (float *)b.s + 1;
                }
                set_order(i % ORDERS);
                ok(ld_cpu_update(&a, 1, 1, 0.5, NULL));
                ok(ld_cuda_update(&b, 1, 1, 0.5, NULL));
                same(&device, &cpu, 1e-6);
                ok(ld_cpu_copy(want, device.p));
                if (odd)
                    put(want, 0, 0);
                agree("update: shadow", shadow, want, 0, 0);
                next_case();
            }
    parts k = parts_of(LD_F64, 3);
    ld_update u = update_of(&k, LD_F64, 3, 0, true, false);
    u.shadow = k.s->data;
    assert_int_equal(ld_cuda_update(&u, 1, 1, 0, NULL), LD_EDTYPE);
    assert_int_equal(ld_cpu_update(&u, 1, 1, 0, NULL), LD_EDTYPE);
    u.shadow = NULL;
    ld_sim_fail_workspace(1);
    assert_int_equal(ld_cuda_update(&u, 1, 1, 0, NULL), LD_EMEM);
}

static void sgd(void **state) {
    (void)state;
    for (int t = 0; t < 4; t += 3)
        for (int i = 0; i < COUNT; i++)
            for (int k = 0; k < 4; k++) {
                int64_t n = sizes[i];
                ld_view *p = vector(all_dtypes[t], n, 1, 0), *g = vector(all_dtypes[t], n, 1, 0);
                ld_view *buf = vector(all_dtypes[t], n, 1, 0), *p2 = twin(p), *buf2 = twin(buf);
                ok(ld_cpu_sgd(p, g, buf, 0.1, 0.9, 0.01, k & 1, k & 2));
                set_order(k);
                ok(ld_cuda_sgd(p2, g, buf2, 0.1, 0.9, 0.01, k & 1, k & 2));
                agree("sgd: p", p2, p, unit_of(all_dtypes[t]), 0.1);
                agree("sgd: buf", buf2, buf, unit_of(all_dtypes[t]), 0.1);
                next_case();
            }
}

static void sumsq(void **state) {
    (void)state;
    enum { ALL = 4 * COUNT };
    ld_view xs[ALL], wide[ALL];
    double want = 0, first = 0;
    for (int i = 0; i < ALL; i++) {
        ld_view *x = vector(all_dtypes[i / COUNT], sizes[i % COUNT], 1, 0.1);
        xs[i] = *x;
        wide[i] = *for_cpu(x);
    }
    ok(ld_cpu_sumsq(&want, wide, ALL));
    EACH_ORDER(o) {
        double got = 0;
        ok(ld_cuda_sumsq(&got, xs, ALL));
        assert_true(fabs(got - want) <= 1e-7 * want);
        first = o ? first : got;
        assert_true(got == first);
    }
    double got = 1;
    ok(ld_cuda_sumsq(&got, xs, 1)); /* an empty one */
    assert_true(got == 0);
    ld_view *shifted = vector(LD_F32, 1001, 1, 0);
    ld_view rest = *shifted;
    rest.data = (float *)rest.data + 1;
    rest.shape[0]--;
    ok(ld_cpu_sumsq(&want, &rest, 1));
    ok(ld_cuda_sumsq(&got, &rest, 1));
    assert_true(fabs(got - want) <= 1e-7 * want);
    static const double odd[] = {1e30, 1e-30, NAN, INFINITY, -1e38, 0};
    for (int k = 0; k < 6; k++) {
        ld_view *x = vector(LD_F32, 100, 0, 0);
        put(x, 77, odd[k]);
        ok(ld_cpu_sumsq(&want, x, 1));
        ok(ld_cuda_sumsq(&got, x, 1));
        assert_true(got == want || (isnan(got) && isnan(want)));
    }
    ld_sim_fail_workspace(1);
    assert_int_equal(ld_cuda_sumsq(&got, xs + 1, 1), LD_EMEM);
    xs[1].dtype = LD_I32;
    assert_int_equal(ld_cuda_sumsq(&got, xs, 2), LD_EDTYPE);
}

/* ---- recorded steps -------------------------------------------------------------------------------------------------- */

static ld_cell *make_cell(const ld_cell *c) {
    ld_view *place = make_view(LD_I64, ROW_MAJOR, 1, (int64_t[]){sizeof *c / 8});
    return memcpy(place->data, c, sizeof *c);
}

static void same_cells(const ld_cell *a, const ld_cell *b) {
    assert_int_equal(a->ok, b->ok);
    assert_int_equal(a->taken, b->taken);
    assert_true((isnan(a->sum) && isnan(b->sum)) || a->sum == b->sum || fabs(a->sum - b->sum) <= 1e-7 * b->sum);
    assert_true(fabs(a->scale - b->scale) <= 1e-7 && fabs(a->decay - b->decay) <= 1e-12);
}

/* The verdict over losses and gradients that are finite or not, with and without clipping and warm-up. */
static void judge(void **state) {
    (void)state;
    static const double losses[] = {1.5, NAN, INFINITY, 2}, elements[] = {0.5, 1, 1, NAN};
    for (int k = 0; k < 16; k++) {
        ld_view *loss = vector(all_dtypes[k % 4], 1, 0, losses[k / 4]), *g = vector(LD_F32, 40001, 1, 0);
        ld_cell c = {.clip = k % 3 ? 0.7 : 0, .average = 0.9, .updates = k % 2 ? 3 : -1, .taken = 2};
        put(g, 40000, elements[k / 4]);
        ld_cell *want = make_cell(&c), *got = make_cell(&c);
        ok(ld_cpu_judge(want, loss, g, 1));
        set_order(k % ORDERS);
        ok(ld_cuda_judge(got, loss, g, 1));
        same_cells(got, want);
        assert_int_equal(got->ok, k / 4 == 0);
        assert_int_equal(got->taken, 2 + got->ok);
        ok(ld_cuda_judge(got, loss, g, 0)); /* no gradients */
        assert_int_equal(got->ok, k / 4 == 0 || k / 4 == 3);
        next_case();
    }
    ld_cell none = {0};
    assert_int_equal(ld_cuda_judge(make_cell(&none), vector(LD_I32, 1, 0, 0), NULL, 0), LD_EDTYPE);
}

/* update by a cell: as by value with the same numbers, and nothing at all without ok. */
static void by_cell(void **state) {
    (void)state;
    for (int k = 0; k < 8; k++) {
        ld_dtype t = k % 2 ? LD_F64 : LD_F32;
        ld_cell c = {.lr = 0.02, .beta1 = 0.8, .scale = 0.7, .decay = 0.95, .taken = 5, .ok = k < 6};
        parts by_value = parts_of(t, 40000), by_cpu = twins(&by_value), by_card = twins(&by_value);
        ld_update u = update_of(&by_value, t, 40000, k, true, true), a = update_of(&by_cpu, t, 40000, k, true, true);
        ld_update b = update_of(&by_card, t, 40000, k, true, true);
        a.adam.lr = b.adam.lr = 0.5; /* of the cell's */
        u.adam.lr = 0.01;
        u.adam.beta1 = 0.8;
        u.adam.step += 5;
        if (c.ok)
            ok(ld_cpu_update(&u, 1, 0.7, 0.95, NULL));
        ok(ld_cpu_update(&a, 1, 1, 0, make_cell(&c)));
        set_order(k % ORDERS);
        ok(ld_cuda_update(&b, 1, 1, 0, make_cell(&c)));
        same(&by_cpu, &by_value, 0);
        same(&by_card, &by_value, c.ok ? unit_of(t) * 4 : 0);
        next_case();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(update, tidy), cmocka_unit_test_teardown(mixed, tidy),
        cmocka_unit_test_teardown(sgd, tidy),    cmocka_unit_test_teardown(sumsq, tidy),
        cmocka_unit_test_teardown(judge, tidy),  cmocka_unit_test_teardown(by_cell, tidy),
    };
    return RUN_KERNEL_TESTS("optimizer kernels", tests);
}
