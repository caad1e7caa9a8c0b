/* Weights kept in a kernel's form: kept from the second meeting on, forgotten in time, and never wrong. */
#include "backend/cpu/packed.h"
#include "ops.h"

#include <stdlib.h>

enum { FORM = 77 };

static ld_view weights(uint64_t serial, uint32_t version) {
    static float data[64];
    return (ld_view){
        .dtype = LD_F32, .ndim = 1, .shape = {64}, .stride = {1}, .data = data, .serial = serial, .version = version};
}

static ld_packed_state find(const ld_view *w, size_t bytes, void **block) {
    *block = NULL;
    return ld_packed_find(w, FORM, bytes, block);
}

/* Met twice: kept now. The block. */
static void *meet_twice(const ld_view *w, size_t bytes) {
    void *block;
    assert_int_equal(find(w, bytes, &block), LD_PACKED_NONE);
    assert_int_equal(find(w, bytes, &block), LD_PACKED_FILL);
    return block;
}

static int begin(void **state) {
    ld_packed_clear();
    return watch(state);
}

static int end(void **state) {
    ld_packed_clear();
    unsetenv("LD_CONV");
    ld_pool_set_limit(cpu()->pool, 0);
    return look_back(state);
}

/* ---- the keeper -------------------------------------------------------------------------------------------------- */

static void test_second_meeting(void **state) {
    (void)state;
    ld_view w = weights((uint64_t)1 << 40, 3);
    void *block, *again;
    size_t live = memory().live;
    assert_false(ld_packed_ready(&w, FORM, 4096));
    assert_int_equal(find(&w, 4096, &block), LD_PACKED_NONE);
    assert_int_equal(ld_packed_bytes(), 0);
    assert_false(ld_packed_ready(&w, FORM, 4096));
    assert_int_equal(find(&w, 4096, &block), LD_PACKED_FILL);
    assert_int_equal(ld_packed_bytes(), 4096);
    assert_int_equal(memory().spare, 4096);
    assert_int_equal(memory().live, live);
    assert_true(ld_packed_ready(&w, FORM, 4096));
    assert_int_equal(find(&w, 4096, &again), LD_PACKED_READY);
    assert_ptr_equal(again, block);
    assert_false(ld_packed_ready(&w, FORM + 1, 4096)); /* another form, another size */
    assert_false(ld_packed_ready(&w, FORM, 8192));
    w.version++;
    assert_false(ld_packed_ready(&w, FORM, 4096));
    assert_int_equal(find(&w, 4096, &block), LD_PACKED_NONE);
    assert_int_equal(ld_packed_bytes(), 0);
    assert_int_equal(find(&w, 4096, &block), LD_PACKED_FILL);
}

static void test_serial_0(void **state) {
    (void)state;
    ld_view w = weights(0, 0);
    void *block;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(find(&w, 4096, &block), LD_PACKED_NONE);
        assert_false(ld_packed_ready(&w, FORM, 4096));
    }
    assert_int_equal(ld_packed_bytes(), 0);
}

static void test_forget(void **state) {
    (void)state;
    ld_view a = weights((uint64_t)1 << 40, 0), b = weights(((uint64_t)1 << 40) + 4096, 0); /* one hash */
    meet_twice(&a, 4096);
    meet_twice(&b, 1024);
    ld_packed_forget(a.serial);
    assert_int_equal(ld_packed_bytes(), 1024);
    assert_int_equal(memory().spare, 1024);
    assert_true(ld_packed_ready(&b, FORM, 1024));
    ld_packed_forget(12345);
    ld_packed_forget(b.serial);
    assert_int_equal(ld_packed_bytes(), 0);
    assert_int_equal(memory().spare, 0);
}

/* Memory that runs short takes everything but what was found last; what `ready` promised as well. */
static void test_pressure(void **state) {
    (void)state;
    ld_view a = weights((uint64_t)1 << 40, 0), b = weights(((uint64_t)1 << 40) + 1, 0);
    void *block;
    size_t size = 1 << 20;
    ld_pool_trim(cpu()->pool);
    meet_twice(&a, size);
    meet_twice(&b, size);
    ld_pool_set_limit(cpu()->pool, memory().live + 2 * size); /* full */
    assert_true(ld_packed_ready(&a, FORM, size));
    void *taken = ld_pool_take(cpu()->pool, size, "test");
    assert_non_null(taken);
    assert_int_equal(ld_packed_bytes(), size);
    assert_int_equal(find(&a, size, &block), LD_PACKED_READY);
    assert_int_equal(find(&b, size, &block), LD_PACKED_NONE); /* met before, but there is no room */
    assert_int_equal(find(&b, size, &block), LD_PACKED_NONE);
    ld_pool_give(cpu()->pool, taken);
    ld_pool_trim(cpu()->pool);
    assert_int_equal(find(&b, size, &block), LD_PACKED_FILL);
}

/* The table is cleared when it is full, and swept now and then: never between `ready` and `find`. */
static void test_full_table(void **state) {
    (void)state;
    ld_view a = weights((uint64_t)1 << 40, 0);
    void *block;
    meet_twice(&a, 4096);
    int cleared = 0;
    for (uint64_t i = 1; i < 10000; i++) {
        ld_view other = weights(a.serial + i, 0);
        bool ready = i % 1000 && ld_packed_ready(&a, FORM, 4096);
        ld_packed_state s = i % 1000 ? find(&a, 4096, &block) : LD_PACKED_NONE;
        if (ready)
            assert_int_equal(s, LD_PACKED_READY);
        cleared += i % 1000 && s == LD_PACKED_NONE;
        find(&other, 4096, &block);
    }
    assert_true(cleared >= 2);
}

/* A block that nobody asked for in thousands of calls is given back; asked for by `ready` at last, it is there. */
static void test_sweep(void **state) {
    (void)state;
    for (int late = 0; late < 1200; late += 100) {
        ld_view a = weights((uint64_t)1 << 40, (uint32_t)late), b = weights(((uint64_t)1 << 40) + 1, 0);
        void *block;
        ld_packed_clear();
        meet_twice(&a, 4096);
        for (int i = 0; i < 8192 + late; i++)
            find(&b, 1024, &block);
        if (ld_packed_ready(&a, FORM, 4096))
            assert_int_equal(find(&a, 4096, &block), LD_PACKED_READY);
        for (int i = 0; i < 8192 + 1100; i++)
            find(&b, 1024, &block);
        assert_int_equal(ld_packed_bytes(), 1024);
    }
}

/* ---- convolution ------------------------------------------------------------------------------------------------- */

static ld_tensor *noise(int64_t n, int64_t c, int64_t h, int64_t w) {
    ld_tensor *x = keep(ld_tensor_new(cpu(), LD_F32, 4, (int64_t[]){n, c, h, w}, "test"));
    float *data = ld_tensor_data(x);
    static uint32_t s = 1;
    for (int64_t i = 0; i < n * c * h * w; i++) {
        s = s * 1664525 + 1013904223;
        data[i] = (float)(s >> 8) / (1 << 24) - 0.5f;
    }
    return x;
}

static void same_bits(const ld_tensor *a, const ld_tensor *b) {
    assert_memory_equal(ld_tensor_data(a), ld_tensor_data(b), (size_t)ld_tensor_numel(a) * sizeof(float));
}

static const ld_conv_shape same_size = {1, 1, 1, 1, 1, 1, false};

static ld_tensor *conv(ld_tensor *x, ld_tensor *w) {
    return keep(ld_conv2d(x, w, NULL, &same_size));
}

/* The same with weights that nobody has met. */
static ld_tensor *fresh_conv(ld_tensor *x, ld_tensor *w) {
    ld_tensor *copy = ld_tensor_clone(w, "test"), *y;
    assert_non_null(copy);
    y = conv(x, copy);
    ld_tensor_drop(copy);
    return y;
}

static void test_conv(void **state) {
    static const char *const ways[] = {"winograd", "blocked", "direct"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        setenv("LD_CONV", ways[i], 1);
        ld_tensor *x = noise(2, 32, 9, 8), *w = noise(48, 32, 3, 3), *other = noise(48, 32, 3, 3);
        ld_tensor *want = fresh_conv(x, w), *more = fresh_conv(x, other);
        for (int k = 0; k < 3; k++)
            same_bits(conv(x, w), want);
        assert_true(ld_packed_bytes() > 0 || i == 2);
        assert_int_equal(ld_copy_(w, other), 0); /* another version */
        for (int k = 0; k < 3; k++)
            same_bits(conv(x, w), more);
        drop_kept();
        assert_int_equal(ld_packed_bytes(), 0);
        assert_int_equal(memory().spare, 0);
    }
}

/* Weights in training are not kept, in neither direction; frozen ones are, in both, and give the same gradient. */
static void test_training(void **state) {
    (void)state;
    setenv("LD_CONV", "winograd", 1);
    ld_tensor *x = noise(2, 32, 8, 8), *w = noise(32, 32, 3, 3), *g = noise(2, 32, 8, 8);
    ld_tensor *want = NULL;
    size_t after[2];
    for (int frozen = 0; frozen < 2; frozen++) {
        w->requires_grad = !frozen;
        x->requires_grad = true;
        for (int k = 0; k < 3; k++) {
            ld_tensor *y = conv(x, w);
            assert_int_equal(ld_backward(y, g, false), 0);
            if (!want)
                want = keep(ld_tensor_clone(x->grad, "test"));
            same_bits(x->grad, want);
            ld_tensor_set_grad(x, NULL);
            ld_tensor_set_grad(w, NULL);
        }
        after[frozen] = ld_packed_bytes();
    }
    assert_int_equal(after[0], 0);
    assert_true(after[1] > 0);
}

/* Whatever room a limit leaves, for both weights packed, for one, or for none, a convolution fails or is the same. */
static void test_short_of_memory(void **state) {
    (void)state;
    setenv("LD_CONV", "winograd", 1);
    ld_tensor *x = noise(1, 64, 8, 8), *w[2] = {noise(256, 64, 3, 3), noise(256, 64, 3, 3)};
    ld_tensor *want[2] = {fresh_conv(x, w[0]), fresh_conv(x, w[1])};
    int done = 0, failed = 0, none = 0, one = 0, both = 0;
    for (size_t room = 10 << 20; room >= 1 << 20; room -= 128 << 10) {
        size_t most = 0;
        ld_packed_clear();
        ld_pool_trim(cpu()->pool);
        ld_pool_set_limit(cpu()->pool, memory().live + room);
        for (int k = 0; k < 8; k++) {
            ld_tensor *y = ld_conv2d(x, w[k / 2 % 2], NULL, &same_size);
            most = ld_packed_bytes() > most ? ld_packed_bytes() : most;
            if (y)
                same_bits(y, want[k / 2 % 2]);
            done += y != NULL;
            failed += y == NULL;
            ld_tensor_drop(y);
            ld_pool_trim(cpu()->pool); /* so that every take asks for the limit */
        }
        none += most == 0;
        one += most > 2 << 20 && most < 4 << 20;
        both += most > 4 << 20;
    }
    assert_true(none && one && both && done && failed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define PACKED(f) cmocka_unit_test_setup_teardown(f, begin, end)
        PACKED(test_second_meeting), PACKED(test_serial_0),   PACKED(test_forget),
        PACKED(test_pressure),       PACKED(test_full_table), PACKED(test_sweep),
        PACKED(test_conv),           PACKED(test_training),   PACKED(test_short_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
