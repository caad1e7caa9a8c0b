/* Folded weights against the sums written out: over each pair of taps that meets the same small pixel. */
#include "orders.h"

#include "kernels/conv_fold.h"

/* Tap r of 3 is a part of folded tap k along an axis: k = [w2, w1 + w2, w0 + w1, w0]. */
static bool part_of(int k, int r) {
    return k == 0 ? r == 2 : k == 1 ? r >= 1 : k == 2 ? r <= 1 : r == 0;
}

static double folded(const ld_view *w, int64_t o, int64_t c, int k) {
    double sum = 0;
    for (int r = 0; r < 9; r++)
        if (part_of(k / 4, r / 3) && part_of(k % 4, r % 3))
            sum += get(w, ((o * w->shape[1] + c) * 3 + r / 3) * 3 + r % 3);
    return sum;
}

/* The transpose: what of dk (C,4,4,O) goes into tap r. */
static double unfolded(const ld_view *dk, int64_t no, int64_t o, int64_t c, int r) {
    double sum = 0;
    for (int k = 0; k < 16; k++)
        if (part_of(k / 4, r / 3) && part_of(k % 4, r % 3))
            sum += get(dk, (c * 16 + k) * no + o);
    return sum;
}

static void one_case(ld_dtype t, ld_dtype gradient, layout l, int64_t no, int64_t nc) {
    ld_view *w = make_view(t, l, 4, (int64_t[]){no, nc, 3, 3}), *dw = make_view(gradient, l, 4, w->shape);
    ld_view *k = make_view(t, ROW_MAJOR, 1, (int64_t[]){nc * 16 * no});
    randomise(w, 1, 0);
    EACH_ORDER(order) ok(ld_cuda_conv_fold(k->data, w));
    for (int64_t c = 0; c < nc; c++)
        for (int64_t o = 0; o < no; o++)
            for (int i = 0; i < 16; i++)
                check_value("fold", t, i, get(k, (c * 16 + i) * no + o), folded(w, o, c, i), 4);
    check_guards(k);
    randomise(k, 1, 0.1);
    EACH_ORDER(order) ok(ld_cuda_conv_unfold(dw, k->data, t));
    for (int64_t o = 0; o < no; o++)
        for (int64_t c = 0; c < nc; c++)
            for (int r = 0; r < 9; r++)
                check_value("unfold", gradient, r, get(dw, (o * nc + c) * 9 + r), unfolded(k, no, o, c, r), 4);
    check_guards(dw);
    next_case();
}

static void fold_and_unfold(void **state) {
    (void)state;
    static const int64_t widths[][2] = {{1, 1}, {0, 3}, {31, 4}, {4, 33}, {64, 16}, {3, 1000}};
    static const layout layouts[] = {CANONICAL, ROW_MAJOR, GAPPED};
    for (int t = 0; t < 4; t++)
        for (int n = 0; n < 6; n++)
            for (int l = 0; l < 3; l++) {
                one_case(all_dtypes[t], all_dtypes[t], layouts[l], widths[n][0], widths[n][1]);
                if (t == 1 || t == 2)
                    one_case(all_dtypes[t], LD_F32, layouts[l], widths[n][0], widths[n][1]);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(fold_and_unfold, tidy)};
    return RUN_KERNEL_TESTS("folded weights of convolutions", tests);
}
