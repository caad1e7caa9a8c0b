/* For tests of kernels: the CPU's slots beside those of the simulator, in every order of threads; or, with LD_ON_DEVICE, beside
 * those of a card. */
#ifndef LD_SIM_ORDERS_H
#define LD_SIM_ORDERS_H

#ifdef LD_ON_DEVICE
#include "on_device.h"
#include <stdio.h>
#include <stdlib.h>
#define malloc(bytes) ld_test_alloc(bytes)
#define free(p)       ld_test_free(p)
#endif
#include "../c/views.h"
#include "control.h"
#include "kernels/slots.h"
#ifdef LD_ON_DEVICE
#define ok(call) (ok)((call) || ld_test_wait())
#endif

/* for (each order of threads) */
enum { ORDERS = 4 };
#define EACH_ORDER(o) for (int o = 0; o < ORDERS && (set_order(o), 1); o++)

static inline void set_order(int o) {
    ld_sim_set_order(o < 2 ? (ld_sim_order)o : LD_SIM_RANDOM, (uint64_t)o * 7919);
}

/* A view like v with memory of its own, the elements copied (guards between them left as they are). */
static inline ld_view *twin(const ld_view *v) {
    int k = 0;
    while (k < made_count && &made[k].view != v)
        k++;
    assert_true(k < made_count && made_count < MOST_VIEWS);
    int n = made_count++;
    made[n] = made[k];
    made[n].memory = malloc(made[k].bytes);
    memcpy(made[n].memory, made[k].memory, made[k].bytes);
    made[n].view.data = made[n].memory + ((char *)v->data - (char *)made[k].memory);
    return &made[n].view;
}

/* Every element of got against want, errors measured against |want| + scale; and nothing around got was written. */
static inline void agree(const char *what, const ld_view *got, const ld_view *want, double tolerance, double scale) {
    for (int64_t i = 0; i < ld_view_numel(want); i++) {
        double g = get(got, i), w = get(want, i);
        if (g == w || (isnan(g) && isnan(w)))
            continue;
        double tiny = got->dtype == LD_F16 ? 0x1p-24 : got->dtype == LD_F64 ? 1e-300 : 1e-37;
        if (!(fabs(g - w) <= tolerance * (fabs(w) + scale) + tiny))
            fail_msg("%s, %s: element %d is %.9g on the device, %.9g on the cpu", what, ld_dtype_names[got->dtype],
                     (int)i, g, w);
    }
    check_guards(got);
}

/* The relative difference that two roundings to the dtype and a few steps of its arithmetic leave. */
static inline double unit_of(ld_dtype t) {
    static const double unit[LD_DTYPE_COUNT] = {2e-6, 0x1p-7, 0x1p-10, 1e-14, 0, 0, 0};
    return unit[t];
}

/* v in a dtype the CPU's slot takes: v itself in f32 and f64, a copy in f32 of bf16 and f16. */
static inline ld_view *for_cpu(ld_view *v) {
    if (v->dtype != LD_BF16 && v->dtype != LD_F16)
        return v;
    ld_view *wide = make_view(LD_F32, CANONICAL, v->ndim, v->shape);
    ok(ld_cpu_copy(wide, v));
    return wide;
}

/* An empty view of v's shape, dense, in v's dtype, and one for the CPU's result. */
static inline ld_view *like(const ld_view *v) {
    return make_view(v->dtype, CANONICAL, v->ndim, v->shape);
}
static inline ld_view *like_for_cpu(const ld_view *v) {
    return make_view(v->dtype == LD_F64 ? LD_F64 : LD_F32, CANONICAL, v->ndim, v->shape);
}

static const ld_dtype all_dtypes[] = {LD_F32, LD_BF16, LD_F16, LD_F64, LD_I64, LD_I32, LD_U8};
static const layout layout_pairs[][2] = {{CANONICAL, CANONICAL}, {ROW_MAJOR, CANONICAL}, {CANONICAL, ROW_MAJOR},
                                         {GAPPED, REVERSED},     {REVERSED, GAPPED},     {CANONICAL, SPREAD}};
enum { LAYOUT_PAIRS = sizeof layout_pairs / sizeof *layout_pairs };

/* Numbers that suit any dtype: small whole ones for integers. */
static inline void randomise_any(const ld_view *v, double scale, double shift) {
    bool whole = !ld_dtype_is_float(v->dtype);
    for (int64_t i = 0; i < ld_view_numel(v); i++) {
        double x = scale * noise() + shift;
        put(v, i, whole ? floor(v->dtype == LD_U8 ? fabs(x) : x) : x);
    }
}

/* Between cases: the views go. The CPU's side has one thread: cases are small, and the simulator has one. */
static inline void next_case(void) {
    free_views(NULL);
    ld_set_threads(1);
}

/* Before the first test and after each: nothing is left, workspaces have been given back. */
static inline int tidy(void **state) {
    (void)state;
    next_case();
    assert_int_equal(ld_sim_workspaces(), 0);
    ld_sim_set_processors(3);
    ld_sim_fail_workspace(0);
    set_order(0);
    return 0;
}

#ifdef LD_ON_DEVICE
static const char *no_device;
static inline void skip_without_device(void **state) {
    (void)state;
    printf("SKIP skip_without_device: %s\n", no_device);
    skip();
}
#endif

/* The tests of an array, or one that says why there are none. */
static inline int run_kernel_tests(const char *name, const struct CMUnitTest *tests, size_t count) {
#ifdef LD_ON_DEVICE
    no_device = ld_test_missing();
    const struct CMUnitTest without[] = {cmocka_unit_test(skip_without_device)};
    if (no_device)
        return _cmocka_run_group_tests(name, without, 1, NULL, NULL);
#endif
    return _cmocka_run_group_tests(name, tests, count, tidy, NULL);
}
#define RUN_KERNEL_TESTS(name, tests) run_kernel_tests(name, tests, sizeof(tests) / sizeof *(tests))

#endif
