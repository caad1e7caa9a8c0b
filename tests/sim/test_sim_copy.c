/* fill and copy: the device's slots against the CPU's. */
#include "orders.h"

static void fill(void **state) {
    (void)state;
    for (int t = 0; t < 7; t++)
        for (int l = 0; l < SPREAD; l++)
            for (int s = 0; s < SHAPES; s++) {
                ld_view *want = make_view(all_dtypes[t], (layout)l, shape_cases[s].ndim, shape_cases[s].shape);
                ld_view *got = twin(want);
                ok(ld_cpu_fill(want, -3.7));
                EACH_ORDER(o) {
                    ok(ld_cuda_fill(got, -3.7));
                    agree("fill", got, want, 0, 0);
                }
            }
}

static const double odd_values[] = {0,         -0.0,
                                    1.5,       -2.5,
                                    255.5,     300,
                                    1e10,      -1e10,
                                    1e30,      -1e30,
                                    0.1,       65519.99,
                                    65520,     1 / 3.0,
                                    NAN,       INFINITY,
                                    -INFINITY, 1 + 0x1p-8 + 0x1p-30,
                                    6e-8,      1 + 0x1p-11 + 0x1p-23,
                                    77,        0x1p63};
enum { ODD = sizeof odd_values / sizeof *odd_values };

/* Every pair of dtypes, two layouts and a shape. */
static void copy_case(ld_dtype to, ld_dtype from, layout ly, layout lx, const shape_case *s, int order) {
    ld_view *x = make_view(from, lx, s->ndim, s->shape), *want = make_view(to, ly, s->ndim, s->shape),
            *got = twin(want);
    for (int64_t i = 0; i < ld_view_numel(x); i++)
        put(x, i, i % 3 ? 100 * noise() : odd_values[i / 3 % ODD]);
    ok(ld_cpu_copy(want, x));
    set_order(order);
    ok(ld_cuda_copy(got, x));
    agree("copy", got, want, 0, 0);
}

static void copy(void **state) {
    (void)state;
    for (int from = 0; from < 7; from++)
        for (int to = 0; to < 7; to++) {
            for (int p = 0; p < LAYOUT_PAIRS; p++)
                for (int s = 0; s < SHAPES; s++)
                    copy_case(all_dtypes[to], all_dtypes[from], layout_pairs[p][0], layout_pairs[p][1], &shape_cases[s],
                              (p + s) % ORDERS);
            next_case();
        }
}

/* Between NCHW and NHWC, sides of one tile, of several and of part of one; elements of every size. */
static void transposes(void **state) {
    (void)state;
    static const shape_case shapes[] = {{4, {2, 16, 4, 4}},   {4, {3, 32, 8, 4}}, {4, {1, 33, 7, 9}},
                                        {4, {2, 100, 3, 11}}, {2, {65, 40}},      {3, {3, 20, 31}}};
    for (int t = 0; t < 7; t++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            EACH_ORDER(o) {
                copy_case(all_dtypes[t], all_dtypes[t], CANONICAL, ROW_MAJOR, &shapes[s], o);
                copy_case(all_dtypes[t], all_dtypes[t], ROW_MAJOR, CANONICAL, &shapes[s], o);
                copy_case(all_dtypes[t], all_dtypes[t], REVERSED, ROW_MAJOR, &shapes[s], o);
                next_case();
            }
}

/* More tiles than blocks: the ones that a block takes one after another share its memory. */
static void tiles_in_turn(void **state) {
    (void)state;
    static const shape_case shape = {4, {40, 32, 8, 8}};
    ld_sim_set_processors(1);
    for (int t = 0; t < 7; t++)
        EACH_ORDER(o) {
            copy_case(all_dtypes[t], all_dtypes[t], CANONICAL, ROW_MAJOR, &shape, o);
            next_case();
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(fill, tidy),
        cmocka_unit_test_teardown(copy, tidy),
        cmocka_unit_test_teardown(transposes, tidy),
        cmocka_unit_test_teardown(tiles_in_turn, tidy),
    };
    return RUN_KERNEL_TESTS("fill and copy kernels", tests);
}
