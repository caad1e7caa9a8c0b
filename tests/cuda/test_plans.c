/* Every convolution of the recipes (tests/cuda/recipes.sh runs them for that, on the fake device) and of the networks of the method
 * at other batches (tests/cuda/convolutions.lua) has a plan of cuDNN's, on an RTX 3080 and an H200 that need not be there, in f32, bf16 and f16. Needs cuDNN's library, and the fake device. */
#include "backend/cuda/conv_plan.h"
#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* What cuDNN knows of a card: an H200, and an RTX 3080 by its data sheet. */
#define CARD(version, processors, optin, threads, cache, name, total)                                                  \
    "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,"                \
    "\"multiProcessorCount\":" processors ",\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"                        \
    "\"maxSharedMemoryPerBlockOptin\":" optin ",\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,"    \
    "\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":" threads ",\"pciDeviceId\":9013,"            \
    "\"isTccDriver\":0,\"supportCoopLaunch\":1,\"smClockRateKHz\":1710000,\"memClockRateKHz\":3201000,"                \
    "\"l2CacheSize\":" cache ",\"deviceName\":\"" name "\",\"deviceVer\":" version ",\"driverVer\":13000,"             \
    "\"cudaDeviceId\":0,\"totalGlobalMem\":" total "}"

static const struct {
    const char *name, *json;
} cards[] = {{"sm_86", CARD("860", "68", "101376", "1536", "5242880", "NVIDIA GeForce RTX 3080", "10737418240")},
             {"sm_90", CARD("900", "132", "232448", "2048", "62914560", "NVIDIA H200", "150754820096")}};

enum { MOST = 4096, WORKSPACE = 256 << 20 };

typedef struct layer {
    ld_conv_kind kind;
    int64_t x[4], w[4], y[4];
    ld_conv_shape s;
    bool bias;
} layer;

static layer layers[MOST];
static int n_layers;
static const ld_cudnn *cudnn;

static bool read_line(const char *line, layer *l) {
    static const char *const kinds[] = {"forward", "data", "weight"};
    char kind[16];
    long long v[12];
    int bias, up;
    ld_conv_shape *s = &l->s;
    if (sscanf(line, "%15s %lld %lld %lld %lld %lld %lld %lld %lld %lld %lld %lld %lld %d %d %d %d %d %d %d %d", kind,
               &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8], &v[9], &v[10], &v[11], &s->stride_h,
               &s->stride_w, &s->top, &s->bottom, &s->left, &s->right, &bias, &up) != 21)
        return false;
    for (int k = 0; k < 3; k++)
        if (!strcmp(kind, kinds[k]))
            l->kind = (ld_conv_kind)k;
    for (int i = 0; i < 4; i++)
        l->x[i] = v[i], l->w[i] = v[4 + i], l->y[i] = v[8 + i];
    l->bias = bias && l->kind == LD_CONV_FORWARD;
    s->up = up;
    return true;
}

static int list_layers(void **state) {
    (void)state;
    const char *tmp = getenv("TEST_TMP"), *fake = getenv("LD_TEST_FAKE");
    char path[512], line[512];
    cudnn = ld_cuda_cudnn("test");
    if (!cudnn || !fake || !*fake || !getenv("LDLUA"))
        return 0;
    snprintf(path, sizeof path, "%s/convolutions", tmp ? tmp : "/tmp");
    remove(path);
    setenv("LD_CUDA_PLUGIN", fake, 1);
    setenv("LD_FAKE_LOG", path, 1);
    if (system("exec \"$LDLUA\" --device fake:0 tests/cuda/convolutions.lua") != 0 ||
        system("exec tests/cuda/recipes.sh \"${TEST_TMP:-/tmp}/recipes\"") != 0)
        return -1;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f) && n_layers < MOST) {
        layer *l = &layers[n_layers];
        memset(l, 0, sizeof *l);
        if (!read_line(line, l))
            return -1;
        bool known = false;
        for (int i = 0; i < n_layers && !known; i++)
            known = !memcmp(&layers[i], l, sizeof *l);
        n_layers += !known;
    }
    if (f)
        fclose(f);
    remove(path);
    return n_layers > 400 ? 0 : -1; /* there are some hundred */
}

/* Plans of a layer: with the bias inside, or else without. */
static int plans_of(const ld_conv_target *t, const layer *l, ld_dtype type, bool *without, char *text, size_t n) {
    ld_conv_spec spec;
    ld_conv_plan plan;
    ld_conv_describe(&spec, l->kind, type, l->x, l->w, l->y, l->bias, 16, &l->s);
    ld_conv_spec_text(&spec, text, n);
    int found = ld_conv_plans(t, &spec, WORKSPACE, &plan, 1);
    *without = !found && spec.bias;
    if (*without) {
        spec.bias = false;
        found = ld_conv_plans(t, &spec, WORKSPACE, &plan, 1);
    }
    if (found == 1)
        ld_conv_plan_drop(t, &plan);
    return found;
}

static void all_layers(void **state) {
    int which = *(int *)*state, without = 0, missing = 0;
    const char *card = cards[which / 3].name;
    ld_dtype type = (ld_dtype[]){LD_F32, LD_BF16, LD_F16}[which % 3];
    if (!cudnn || !n_layers) {
        printf("SKIP plans for %s in %s: %s\n", card, ld_dtype_names[type], cudnn ? "no fake device" : ld_error());
        skip();
    }
    ld_conv_target t = {.cudnn = cudnn, .card = ld_conv_card(cudnn, cards[which / 3].json)};
    assert_non_null(t.card);
    for (int i = 0; i < n_layers; i++) {
        bool apart;
        char text[160];
        int found = plans_of(&t, &layers[i], type, &apart, text, sizeof text);
        if (found < 1)
            print_error("%s: no plan for %s\n", card, text);
        missing += found < 1;
        without += apart && found == 1;
    }
    printf("%s %s: %d convolutions, %d with the bias added apart\n", card, ld_dtype_names[type], n_layers, without);
    cudnn->cudnnBackendDestroyDescriptor(t.card);
    assert_int_equal(missing, 0);
}

/* A plan for what cannot be is not found: a test that accepts everything would prove nothing. */
static void what_no_engine_takes(void **state) {
    (void)state;
    if (!cudnn) {
        printf("SKIP what_no_engine_takes: %s\n", ld_error());
        skip();
    }
    ld_conv_target t = {.cudnn = cudnn, .card = ld_conv_card(cudnn, cards[0].json)};
    const int64_t x[4] = {2, 16, 8, 8}, w[4] = {16, 16, 3, 3}, y[4] = {2, 16, 9, 9};
    ld_conv_spec spec;
    ld_conv_plan plan;
    ld_conv_describe(&spec, LD_CONV_FORWARD, LD_BF16, x, w, y, false, 16, &(ld_conv_shape){1, 1, 1, 1, 1, 1, false});
    assert_true(ld_conv_plans(&t, &spec, WORKSPACE, &plan, 1) < 1); /* y should be 8 x 8 */
    spec.y[2] = spec.y[3] = 8;
    assert_int_equal(ld_conv_plans(&t, &spec, WORKSPACE, &plan, 1), 1);
    ld_conv_plan_drop(&t, &plan);
    assert_null(ld_conv_card(cudnn, "{}"));
    cudnn->cudnnBackendDestroyDescriptor(t.card);
}

int main(void) {
    static int which[] = {0, 1, 2, 3, 4, 5};
    static const char *const names[] = {"sm_86 f32", "sm_86 bf16", "sm_86 f16", "sm_90 f32", "sm_90 bf16", "sm_90 f16"};
    struct CMUnitTest tests[7] = {cmocka_unit_test(what_no_engine_takes)};
    for (int i = 0; i < 6; i++)
        tests[i + 1] = (struct CMUnitTest){names[i], all_layers, NULL, NULL, &which[i]};
    return cmocka_run_group_tests_name("plans", tests, list_layers, NULL);
}
