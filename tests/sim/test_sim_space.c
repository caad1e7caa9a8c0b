/* How elementwise kernels walk memory: index arithmetic of 32 and of 64 bits, and when 16 bytes are taken at once. */
#include "orders.h"
#include "paths.h"

static void indices(void **state) {
    (void)state;
    assert_int_equal(sim_quotients(), 0);
    for (int p = 0; p < LAYOUT_PAIRS; p++)
        for (int s = 0; s < SHAPES; s++) {
            const shape_case *c = &shape_cases[s];
            ld_view *y = make_view(LD_F32, layout_pairs[p][0], c->ndim, c->shape);
            assert_int_equal(sim_locate(y, make_view(LD_F32, layout_pairs[p][1], c->ndim, c->shape)), 0);
        }
    assert_int_equal(sim_pixels(2, 5, 7, 3), 0);
    assert_int_equal(sim_pixels(1, 1, 33, 1), 0);
    assert_int_equal(sim_pixels(31, 2, 1, 8), 0);
}

static void takes(const ld_view *y, const ld_view *x, int vector, int ndim) {
    int v, n;
    sim_space(y, x, 4, &v, &n);
    assert_int_equal(v, vector);
    assert_int_equal(n, ndim);
}

/* Dense views are one dimension whatever their layout, and are taken four by four; so is a row that repeats. */
static void vectors(void **state) {
    (void)state;
    int64_t shape[] = {3, 8, 5, 7};
    ld_view *nhwc = make_view(LD_F32, CANONICAL, 4, shape), *row = make_view(LD_F32, ROW_MAJOR, 4, shape);
    takes(nhwc, nhwc, 4, 1);
    takes(row, row, 4, 1);
    takes(nhwc, row, 1, 3);
    ld_view bias = *row; /* by channel */
    for (int d = 0; d < 4; d++)
        bias.stride[d] = d == 1;
    takes(nhwc, &bias, 4, 2);
    for (int d = 0; d < 4; d++)
        bias.stride[d] = d == 0; /* by sample */
    takes(nhwc, &bias, 4, 2);
    for (int d = 0; d < 4; d++)
        bias.stride[d] = 0; /* one number */
    takes(nhwc, &bias, 4, 1);
    ld_view odd = *row;
    odd.data = (float *)row->data + 1;
    takes(&odd, row, 1, 1);
    takes(make_view(LD_F32, GAPPED, 4, shape), row, 1, 1);
    ld_view part = *nhwc; /* six of eight channels: rows that are no multiples of four */
    part.shape[1] = 6;
    takes(&part, &part, 1, 2);
    part.shape[1] = 4;
    takes(&part, &part, 4, 2);
    ld_view nine = *make_view(LD_F32, CANONICAL, 4, (int64_t[]){3, 9, 5, 7}); /* eight of nine: rows start anywhere */
    nine.shape[1] = 8;
    takes(&nine, &nine, 1, 2);
    ld_view *tail = make_view(LD_F32, ROW_MAJOR, 1, (int64_t[]){1003});
    takes(tail, tail, 4, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(indices, tidy),
        cmocka_unit_test_teardown(vectors, tidy),
    };
    return RUN_KERNEL_TESTS("spaces of kernels", tests);
}
