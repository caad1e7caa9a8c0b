/* Views, copies and rows: values by position in every layout, sharing of memory, layouts of results. */
#include "ops.h"

/* ---- views ----------------------------------------------------------------------------------------------------------- */

static void reshape_keeps_row_major_order(void **state) {
    (void)state;
    static const struct {
        int ndim;
        int64_t shape[6];
    } to[] = {{1, {60}},         {2, {6, 10}},         {3, {2, 3, 10}},         {4, {2, 3, 2, 5}},
              {4, {3, 1, 4, 5}}, {5, {2, 3, 1, 2, 5}}, {6, {1, 2, 3, 2, 5, 1}}, {3, {2, -1, 5}},
              {1, {-1}}};
    EACH_WAY {
        ld_tensor *x = INPUT(2, 3, 2, 5);
        for (size_t k = 0; k < LENGTH(to); k++) {
            ld_tensor *y = keep(ld_reshape(x, to[k].ndim, to[k].shape));
            assert_int_equal(ld_tensor_numel(y), 60);
            for (int i = 0; i < 60; i++)
                near("reshape", get(y, i), get(x, i), 0);
            if (y->storage != x->storage)
                lies_canonical(y);
        }
    }
    ld_tensor *x = numbers(LD_F32, SHAPE(6, 4), 1);
    assert_ptr_equal(keep(ld_reshape(x, SHAPE(2, 3, 4)))->storage, x->storage); /* rows split: a view */
    assert_ptr_equal(keep(ld_reshape(keep(ld_slice(x, 0, 1, 4, 1)), SHAPE(16)))->storage, x->storage);
    assert_true(keep(ld_reshape(keep(ld_slice(x, 1, 0, 3, 1)), SHAPE(18)))->storage != x->storage);
    ld_tensor *image = numbers(LD_F32, SHAPE(2, 3, 4, 5), 1); /* NHWC: positions fold without a copy, channels do not */
    assert_ptr_equal(keep(ld_reshape(keep(ld_permute(image, (int[]){0, 2, 3, 1})), SHAPE(40, 3)))->storage,
                     image->storage);
    assert_ptr_equal(keep(ld_reshape(image, SHAPE(2, 3, 20)))->storage, image->storage);
    assert_true(keep(ld_reshape(image, SHAPE(2, 60)))->storage != image->storage);
    ld_tensor *empty = tensor(LD_F32, SHAPE(0, 3), NULL);
    has_shape(keep(ld_reshape(empty, SHAPE(5, 0))), SHAPE(5, 0));
    has_shape(keep(ld_reshape(empty, SHAPE(-1, 3))), SHAPE(0, 3));
}

static void views_share_memory(void **state) {
    (void)state;
    EACH_WAY {
        ld_tensor *x = INPUT(2, 3, 4);
        ld_tensor *p = keep(ld_permute(x, (int[]){2, 0, -2})), *s = keep(ld_slice(x, -1, 1, 2, 2));
        ld_tensor *c = keep(ld_select(x, 1, 2)),
                  *e = keep(ld_expand(keep(ld_slice(x, 1, 1, 1, 1)), SHAPE(5, 2, 6, -1)));
        ld_tensor *all[] = {p, s, c, e};
        for (int i = 0; i < 4; i++)
            assert_ptr_equal(all[i]->storage, x->storage);
        has_shape(p, SHAPE(4, 2, 3));
        has_shape(s, SHAPE(2, 3, 2));
        has_shape(c, SHAPE(2, 4));
        has_shape(e, SHAPE(5, 2, 6, 4));
        for (int i = 0; i < 24; i++) { /* at (a, b, c) of x */
            int at[3] = {i / 12, i / 4 % 3, i % 4};
            near("permute", get(p, (at[2] * 2 + at[0]) * 3 + at[1]), get(x, i), 0);
            if (at[2] % 2)
                near("slice", get(s, (at[0] * 3 + at[1]) * 2 + at[2] / 2), get(x, i), 0);
            if (at[1] == 2)
                near("select", get(c, at[0] * 4 + at[2]), get(x, i), 0);
            for (int k = 0; at[1] == 1 && k < 30; k++)
                near("expand", get(e, ((k / 6 * 2 + at[0]) * 6 + k % 6) * 4 + at[2]), get(x, i), 0);
        }
        ld_tensor *none = keep(ld_slice(x, 0, 2, 0, 3));
        has_shape(none, SHAPE(0, 3, 4));
    }
}

/* ---- joining, padding, flipping -------------------------------------------------------------------------------------- */

static void joining(void **state) {
    (void)state;
    EACH_WAY for (int dim = 0; dim < 4; dim++) {
        int64_t shape[2][4] = {{2, 3, 2, 3}, {2, 3, 2, 3}};
        shape[1][dim] = 4;
        ld_tensor *x[2];
        for (int k = 0; k < 2; k++)
            x[k] = laid_out(numbers(DTYPE, 4, shape[k], (uint64_t)k), way % LAYOUTS);
        ld_tensor *y = keep(ld_concat(x, 2, dim - 4));
        lies_canonical(y);
        int64_t first = shape[0][dim];
        assert_int_equal(y->shape[dim], first + 4);
        for (int64_t i = 0; i < ld_tensor_numel(y); i++) {
            int64_t at[4], rest = i, k, from = 0;
            for (int d = 3; d >= 0; rest /= y->shape[d--])
                at[d] = rest % y->shape[d];
            k = at[dim] >= first;
            at[dim] -= k ? first : 0;
            for (int d = 0; d < 4; d++)
                from = from * shape[k][d] + at[d];
            near("concat", get(y, i), get(x[k], from), 0);
        }
    }
    for (int dim = 0; dim < 3; dim++) {
        ld_tensor *x[3];
        for (int k = 0; k < 3; k++)
            x[k] = numbers(LD_BF16, SHAPE(2, 5), (uint64_t)k);
        ld_tensor *y = keep(ld_stack(x, 3, dim));
        assert_int_equal(y->shape[dim], 3);
        lies_canonical(y);
        for (int k = 0; k < 3; k++)
            assert_true(distance(keep(ld_select(y, dim, k)), x[k]) == 0);
    }
    ld_tensor *numberless[2] = {tensor(LD_I64, SHAPE(0, 2), NULL), tensor(LD_I64, SHAPE(1, 2), VALUES(4, 5))};
    has_values("concat with nothing", keep(ld_concat(numberless, 2, 0)), VALUES(4, 5), 0);
    ld_tensor *scalars[2] = {tensor(LD_F32, 0, NULL, VALUES(4)), tensor(LD_F32, 0, NULL, VALUES(5))};
    has_values("stack of scalars", keep(ld_stack(scalars, 2, 0)), VALUES(4, 5), 0);
}

static void pad_and_flip(void **state) {
    (void)state;
    EACH_WAY {
        ld_tensor *x = INPUT(2, 3, 2, 5);
        ld_tensor *y = keep(ld_pad(x, (int64_t[]){0, 0, 1, 2}, (int64_t[]){0, 0, 3, 0}, -9));
        has_shape(y, SHAPE(2, 3, 6, 7));
        lies_canonical(y);
        for (int i = 0; i < 252; i++) {
            int h = i / 7 % 6 - 1, w = i % 7 - 2;
            bool inside = h >= 0 && h < 2 && w >= 0 && w < 5;
            near("pad", get(y, i), inside ? get4(x, i / 126, i / 42 % 3, h, w) : -9, 0);
        }
        for (int dim = 0; dim < 4; dim++) {
            ld_tensor *z = keep(ld_flip(x, dim));
            lies_canonical(z);
            for (int64_t i = 0, size = x->shape[dim]; i < size; i++)
                assert_true(distance(keep(ld_select(z, dim, i)), keep(ld_select(x, dim, size - 1 - i))) == 0);
        }
    }
    ld_tensor *x = numbers(LD_F32, SHAPE(2, 3, 2, 2), 1), *turned = keep(ld_permute(x, (int[]){0, 2, 3, 1}));
    assert_ptr_equal(keep(ld_contiguous(x)), x);
    lies_canonical(keep(ld_contiguous(turned)));
    assert_true(distance(keep(ld_contiguous(turned)), turned) == 0);
}

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

static void rows_by_number(void **state) {
    (void)state;
    static const double wanted[6] = {3, 0, 0, 2, 3, 1};
    EACH_WAY for (int rank = 1; rank < 5; rank++) {
        int64_t shape[4] = {4, 3, 2, 2}, inner = rank == 1 ? 1 : rank == 2 ? 3 : rank == 3 ? 6 : 12;
        ld_tensor *x = laid_out(numbers(DTYPE, rank, shape, 3), way % LAYOUTS);
        ld_tensor *idx = laid_out(tensor(LD_I64, SHAPE(2, 3), wanted), way % LAYOUTS);
        ld_tensor *y = keep(ld_gather(x, idx)), *flat = keep(ld_gather(x, tensor(LD_I64, SHAPE(6), wanted)));
        ld_tensor *one = keep(ld_gather(x, tensor(LD_I64, 0, NULL, VALUES(2))));
        assert_int_equal(y->ndim, rank + 1);
        assert_int_equal(one->ndim, rank - 1);
        lies_canonical(y);
        lies_canonical(flat);
        lies_canonical(one);
        for (int m = 0; m < 6; m++)
            for (int k = 0; k < inner; k++) {
                near("gather", get(y, m * inner + k), get(x, (int64_t)wanted[m] * inner + k), 0);
                near("gather flat", get(flat, m * inner + k), get(x, (int64_t)wanted[m] * inner + k), 0);
                near("gather one", get(one, k), get(x, 2 * inner + k), 0);
            }
    }
    ld_tensor *x = numbers(LD_U8, SHAPE(2, 3), 1), *none = tensor(LD_I64, SHAPE(0), NULL);
    has_shape(keep(ld_gather(x, none)), SHAPE(0, 3));
    has_shape(keep(ld_gather(tensor(LD_F32, SHAPE(0, 3), NULL), none)), SHAPE(0, 3));
}

static void one_hot_values(void **state) {
    (void)state;
    static const ld_dtype types[] = {LD_F32, LD_U8, LD_I64, LD_BF16};
    for (size_t t = 0; t < LENGTH(types); t++)
        for (int layout = 0; layout < LAYOUTS; layout++) {
            ld_tensor *idx = laid_out(tensor(LD_I64, SHAPE(1, 2, 2), VALUES(0, 3, 1, 3)), layout);
            ld_tensor *y = keep(ld_one_hot(idx, 4, types[t]));
            assert_int_equal(y->dtype, types[t]);
            has_shape(y, SHAPE(1, 2, 2, 4));
            lies_canonical(y);
            for (int i = 0; i < 16; i++)
                near("one_hot", get(y, i), get(idx, i / 4) == i % 4, 0);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(reshape_keeps_row_major_order),
        TEST(views_share_memory),
        TEST(joining),
        TEST(pad_and_flip),
        TEST(rows_by_number),
        TEST(one_hot_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
