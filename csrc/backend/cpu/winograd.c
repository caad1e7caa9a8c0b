/* Winograd's F(4x4,3x3) (Lavin & Gray 2016, arXiv:1509.09308), tile by tile on NHWC images:
 *
 *   y = A^T [ (G w G^T) . (B^T d B) ] A      d: 6x6 of x, y: 4x4; the dot is a product over channels
 *   dw = G^T [ (A g A^T) . (B^T d B) ] G     summed over tiles
 *
 * by the Toom-Cook matrices for the points 0, +-5/8, +-3/2 and infinity, which round less than 0, +-1, +-2: errors are
 * around 1e-6 of the largest result. A 36-fold product over channels does nearly all the work (panel.h).
 *
 * Forward, threads take runs of tiles whose components stay in the cache (by_tiles); where the transformed weights are
 * larger than that, all threads work on one run and divide the 36 components instead, so that each reads its share of
 * the weights once (by_components). Traffic a run: x once (with a border), packed weights, y once. The weight gradient
 * transforms a run of tiles of both sides, then divides the components. Proved by tests/c/test_cpu_heavy.c. */
#include "backend/cpu/winograd.h"

#include "backend/cpu/vmath.h"
#include "backend/device.h"

#include <omp.h>

enum { LD_PANEL = 32, LD_PANEL_ROWS = 12, COMPONENTS = 36, DEPTH = 256, MULTIPLE = 16 };

/* Floats that a thread's run may take, those of a run of all threads, and of the weights from which by_components wins. */
#define RUN_FLOATS    (320 * 1024)
#define SHARED_FLOATS (4 * 1024 * 1024)
#define DW_FLOATS     (6 * 1024 * 1024)
#define MANY_WEIGHTS  (768 * 1024)

/* The points and their powers; NA, NB: 1 / product of the differences to the other points. */
#define PA 0.625f
#define PB 1.5f
#define A2 (PA * PA)
#define B2 (PB * PB)
#define NA (1 / (2 * A2 * (A2 - B2)))
#define NB (1 / (2 * B2 * (B2 - A2)))

typedef struct place {
    int64_t n, r, s; /* image, row and column of the tile */
} place;

static inline int64_t tiles_down(const ld_winograd *z) {
    return (z->p + 3) / 4;
}

static inline int64_t tiles_across(const ld_winograd *z) {
    return (z->q + 3) / 4;
}

static inline int64_t tiles_of(const ld_winograd *z) {
    return z->n * tiles_down(z) * tiles_across(z);
}

static inline place place_of(const ld_winograd *z, int64_t t) {
    int64_t across = tiles_across(z), down = tiles_down(z);
    return (place){t / across / down, t / across % down, t % across};
}

static inline int64_t panels_of(int64_t channels) {
    return (channels + LD_PANEL - 1) / LD_PANEL;
}

#define LANES    16
#define VEC      v16
#define INDEX    i16
#define FN(name) name##_16
typedef float v16 __attribute__((vector_size(64), may_alias, aligned(4)));
typedef int32_t i16 __attribute__((vector_size(64)));
#include "backend/cpu/panel.h"
#include "backend/cpu/winograd_tile.h"
#undef LANES
#undef VEC
#undef INDEX
#undef FN
#define LANES    8
#define VEC      v8
#define INDEX    i8
#define FN(name) name##_8
typedef float v8 __attribute__((vector_size(32), may_alias, aligned(4)));
typedef int32_t i8 __attribute__((vector_size(32)));
#include "backend/cpu/panel.h"
#include "backend/cpu/winograd_tile.h"
#undef LANES
#undef VEC
#undef INDEX
#undef FN
#define LANES    4
#define VEC      v4
#define INDEX    i4
#define FN(name) name##_4
typedef float v4 __attribute__((vector_size(16), may_alias, aligned(4)));
typedef int32_t i4 __attribute__((vector_size(16)));
#include "backend/cpu/panel.h"
#include "backend/cpu/winograd_tile.h"
#undef LANES
#undef VEC
#undef INDEX
#undef FN

/* A function of each width, and the one this processor takes. */
#define UNPAREN(...) __VA_ARGS__
#define BY_LANES(name, params, ...)                                                                                    \
    LD_BODY void name##_body(int lanes, UNPAREN params) {                                                              \
        if (lanes == 16)                                                                                               \
            name##_16(__VA_ARGS__);                                                                                    \
        else if (lanes == 8)                                                                                           \
            name##_8(__VA_ARGS__);                                                                                     \
        else                                                                                                           \
            name##_4(__VA_ARGS__);                                                                                     \
    }                                                                                                                  \
    LD_VERSIONS_BY_LANES(name, params, (__VA_ARGS__), (LD_LANES, __VA_ARGS__))

BY_LANES(input_run,
         (const ld_winograd *z, const float *x, int64_t first, int64_t from, int64_t to, float *v, int64_t row,
          int64_t run),
         z, x, first, from, to, v, row, run)
BY_LANES(product_run,
         (const ld_winograd *z, int64_t from, int64_t to, int64_t tiles, const float *v, int64_t row, const float *u,
          float *m, int64_t m_row, int64_t run),
         z, from, to, tiles, v, row, u, m, m_row, run)
BY_LANES(output_run,
         (const ld_winograd *z, float *y, const float *bias, int64_t first, int64_t from, int64_t to, const float *m,
          int64_t m_row, int64_t run),
         z, y, bias, first, from, to, m, m_row, run)
BY_LANES(gradient_run,
         (const ld_winograd *z, const float *x, const float *g, int64_t first, int64_t from, int64_t to, float *v,
          float *w, int64_t row, int64_t run),
         z, x, g, first, from, to, v, w, row, run)
BY_LANES(weight_run,
         (const ld_winograd *z, int64_t from, int64_t to, int64_t tiles, const float *v, const float *w, int64_t row,
          float *sum, int64_t run, int add),
         z, from, to, tiles, v, w, row, sum, run, add)
BY_LANES(weight_out, (const ld_winograd *z, int64_t from, int64_t to, const float *sum, const ld_winograd_weights *dw),
         z, from, to, sum, dw)
BY_LANES(pack_run, (const ld_winograd *z, int64_t from, int64_t to, const ld_winograd_weights *w, float *u), z, from,
         to, w, u)

/* ---- weights ----------------------------------------------------------------------------------------------------- */

bool ld_winograd_fits(const ld_winograd *z) {
    return z->n > 0 && z->c > 0 && z->o > 0 && z->p > 0 && z->q > 0 && z->c % MULTIPLE == 0 && z->o % MULTIPLE == 0;
}

size_t ld_winograd_packed_floats(const ld_winograd *z) {
    return (size_t)(COMPONENTS * panels_of(z->o) * z->c * LD_PANEL);
}

/* The i-th of n even shares of `count`. */
static int64_t share(int64_t count, int64_t i, int64_t n) {
    return count * i / n;
}

void ld_winograd_pack(const ld_winograd *z, const ld_winograd_weights *w, float *packed) {
    int64_t groups = z->c / MULTIPLE, n = ld_threads();
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t i = 0; i < n; i++)
        pack_run(z, MULTIPLE * share(groups, i, n), MULTIPLE * share(groups, i + 1, n), w, packed);
}

/* ---- forward ----------------------------------------------------------------------------------------------------- */

/* How tiles are cut into runs. Rows of channels are a cache line longer than they need be: power-of-two strides would
 * put all rows into the same few sets of the cache. */
typedef struct cut {
    bool shared; /* all threads on one run: by_components */
    int64_t tiles, run, row, m_row;
    size_t floats; /* of a run's components, both sides */
} cut;

static cut cut_of(const ld_winograd *z) {
    cut k = {.tiles = tiles_of(z), .row = z->c + MULTIPLE, .m_row = panels_of(z->o) * LD_PANEL + MULTIPLE};
    int64_t tile = COMPONENTS * (k.row + k.m_row), threads = ld_threads();
    k.shared = threads > 1 && ld_winograd_packed_floats(z) >= MANY_WEIGHTS;
    int64_t most = (k.shared ? SHARED_FLOATS : RUN_FLOATS) / tile / LD_PANEL_ROWS * LD_PANEL_ROWS;
    most = most < LD_PANEL_ROWS ? LD_PANEL_ROWS : most;
    int64_t parts = k.shared ? 1 : threads, runs = ((k.tiles + most - 1) / most + parts - 1) / parts * parts;
    k.run = (k.tiles + runs - 1) / runs;
    k.floats = (size_t)(k.run * tile);
    return k;
}

static void by_tiles(const ld_winograd *z, const cut *k, float *y, const float *x, const float *u, const float *bias,
                     float *work) {
    int64_t runs = (k->tiles + k->run - 1) / k->run, pairs = COMPONENTS * panels_of(z->o);
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t i = 0; i < runs; i++) {
        float *v = work + k->floats * (size_t)omp_get_thread_num(), *m = v + COMPONENTS * k->run * k->row;
        int64_t first = i * k->run, count = k->tiles - first < k->run ? k->tiles - first : k->run;
        input_run(z, x, first, 0, count, v, k->row, k->run);
        product_run(z, 0, pairs, count, v, k->row, u, m, k->m_row, k->run);
        output_run(z, y, bias, first, 0, count, m, k->m_row, k->run);
    }
}

static void by_components(const ld_winograd *z, const cut *k, float *y, const float *x, const float *u,
                          const float *bias, float *work) {
    int64_t pairs = COMPONENTS * panels_of(z->o), n = ld_threads();
    float *v = work, *m = v + COMPONENTS * k->run * k->row;
    for (int64_t first = 0; first < k->tiles; first += k->run) {
        int64_t count = k->tiles - first < k->run ? k->tiles - first : k->run;
#pragma omp parallel for schedule(static) num_threads(ld_threads())
        for (int64_t i = 0; i < n; i++)
            input_run(z, x, first, share(count, i, n), share(count, i + 1, n), v, k->row, k->run);
#pragma omp parallel for schedule(static) num_threads(ld_threads())
        for (int64_t i = 0; i < n; i++)
            product_run(z, share(pairs, i, n), share(pairs, i + 1, n), count, v, k->row, u, m, k->m_row, k->run);
#pragma omp parallel for schedule(static) num_threads(ld_threads())
        for (int64_t i = 0; i < n; i++)
            output_run(z, y, bias, first, share(count, i, n), share(count, i + 1, n), m, k->m_row, k->run);
    }
}

size_t ld_winograd_workspace(const ld_winograd *z) {
    cut k = cut_of(z);
    return k.floats * (k.shared ? 1 : (size_t)ld_threads()) * sizeof(float);
}

void ld_winograd_forward(const ld_winograd *z, float *y, const float *x, const float *packed, const float *bias,
                         float *workspace) {
    cut k = cut_of(z);
    if (k.shared)
        by_components(z, &k, y, x, packed, bias, workspace);
    else
        by_tiles(z, &k, y, x, packed, bias, workspace);
}

/* ---- the gradient of the weights --------------------------------------------------------------------------------- */

typedef struct dw_cut {
    int64_t tiles, run, row, v_floats, w_floats, sum_floats;
} dw_cut;

static dw_cut dw_cut_of(const ld_winograd *z) {
    int64_t wide = panels_of(z->c) * LD_PANEL;
    dw_cut k = {.tiles = tiles_of(z), .row = z->o + MULTIPLE};
    int64_t most = DW_FLOATS / (COMPONENTS * (wide + k.row)) / DEPTH * DEPTH;
    most = most < DEPTH ? DEPTH : most;
    int64_t runs = (k.tiles + most - 1) / most;
    k.run = (k.tiles + runs - 1) / runs;
    k.v_floats = COMPONENTS * k.run * wide;
    k.w_floats = COMPONENTS * k.run * k.row;
    k.sum_floats = COMPONENTS * z->o * wide;
    return k;
}

size_t ld_winograd_dw_workspace(const ld_winograd *z) {
    dw_cut k = dw_cut_of(z);
    return (size_t)(k.v_floats + k.w_floats + k.sum_floats) * sizeof(float);
}

void ld_winograd_dw(const ld_winograd *z, const ld_winograd_weights *dw, const float *x, const float *g,
                    float *workspace) {
    dw_cut k = dw_cut_of(z);
    float *v = workspace, *w = v + k.v_floats, *sum = w + k.w_floats;
    int64_t pairs = COMPONENTS * panels_of(z->c), n = ld_threads();
    for (int64_t first = 0; first < k.tiles; first += k.run) {
        int64_t count = k.tiles - first < k.run ? k.tiles - first : k.run;
#pragma omp parallel for schedule(static) num_threads(ld_threads())
        for (int64_t i = 0; i < n; i++)
            gradient_run(z, x, g, first, share(count, i, n), share(count, i + 1, n), v, w, k.row, k.run);
#pragma omp parallel for schedule(static) num_threads(ld_threads())
        for (int64_t i = 0; i < n; i++)
            weight_run(z, share(pairs, i, n), share(pairs, i + 1, n), count, v, w, k.row, sum, k.run, first > 0);
    }
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t i = 0; i < n; i++)
        weight_out(z, share(z->o, i, n), share(z->o, i + 1, n), sum, dw);
}
