#include "backend/cpu/iterate.h"

#include "backend/half.h"

#include <omp.h>
#include <string.h>

enum {
    BLOCK = 1024,   /* elements in a gather buffer */
    STRETCH = 8192, /* elements handed over at once when nothing needs a buffer */
    SHORT_ROW = 64  /* rows below this are joined to blocks */
};

typedef struct operand {
    char *data;
    ld_dtype dtype;
    int64_t size;                /* bytes of an element */
    int64_t stride[LD_MAX_DIMS]; /* in elements */
    bool linear;                 /* all elements contiguous in the order of the walk */
    bool direct;                 /* passed in place, no buffer */
} operand;

typedef struct walk {
    int count, ndim;
    bool raw, joined;           /* joined: blocks span rows */
    int64_t shape[LD_MAX_DIMS]; /* slowest first */
    int64_t numel, row, block;  /* row: size of the fastest dimension */
    operand op[LD_OPERANDS];
    ld_block_fn fn;
    const void *arg;
} walk;

/* A row of the walk: where it begins in each operand. */
typedef struct cursor {
    int64_t index[LD_MAX_DIMS];
    char *at[LD_OPERANDS];
} cursor;

typedef struct buffers {
    _Alignas(64) char of[LD_OPERANDS][BLOCK * sizeof(double)];
} buffers;

/* ---- runs ------------------------------------------------------------------------------------------------------------ */

ld_dtype ld_compute_dtype(ld_dtype t) {
    return t == LD_BF16 || t == LD_F16 ? LD_F32 : t;
}

LD_CLONES static void widen_bf16(float *restrict y, const uint16_t *restrict x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = ld_widen_bf16(x[i]);
}

LD_CLONES static void widen_f16(float *restrict y, const uint16_t *restrict x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = ld_widen_f16(x[i]);
}

LD_CLONES static void narrow_bf16(uint16_t *restrict y, const float *restrict x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = ld_narrow_bf16(x[i]);
}

LD_CLONES static void narrow_f16(uint16_t *restrict y, const float *restrict x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = ld_narrow_f16(x[i]);
}

#define MOVE(T)                                                                                                        \
    static void move_##T(T *y, int64_t y_step, const T *x, int64_t x_step, int64_t n) {                                \
        for (int64_t i = 0; i < n; i++)                                                                                \
            y[i * y_step] = x[i * x_step];                                                                             \
    }
MOVE(uint8_t)
MOVE(uint16_t)
MOVE(uint32_t)
MOVE(uint64_t)

static void move(void *y, int64_t y_step, const void *x, int64_t x_step, int64_t n, size_t size) {
    if (y_step == 1 && x_step == 1)
        memcpy(y, x, (size_t)n * size);
    else if (size == 4)
        move_uint32_t(y, y_step, x, x_step, n);
    else if (size == 8)
        move_uint64_t(y, y_step, x, x_step, n);
    else if (size == 2)
        move_uint16_t(y, y_step, x, x_step, n);
    else
        move_uint8_t(y, y_step, x, x_step, n);
}

void ld_load_run(void *dense, const void *from, ld_dtype t, int64_t step, int64_t n, bool raw) {
    if (raw || ld_compute_dtype(t) == t) {
        move(dense, 1, from, step, n, ld_dtype_size(t));
        return;
    }
    const uint16_t *x = from;
    float *y = dense;
    if (step == 1 && t == LD_BF16)
        widen_bf16(y, x, n);
    else if (step == 1)
        widen_f16(y, x, n);
    else
        for (int64_t i = 0; i < n; i++)
            y[i] = t == LD_BF16 ? ld_widen_bf16(x[i * step]) : ld_widen_f16(x[i * step]);
}

void ld_store_run(void *to, const void *dense, ld_dtype t, int64_t step, int64_t n, bool raw) {
    if (raw || ld_compute_dtype(t) == t) {
        move(to, step, dense, 1, n, ld_dtype_size(t));
        return;
    }
    const float *x = dense;
    uint16_t *y = to;
    if (step == 1 && t == LD_BF16)
        narrow_bf16(y, x, n);
    else if (step == 1)
        narrow_f16(y, x, n);
    else
        for (int64_t i = 0; i < n; i++)
            y[i * step] = t == LD_BF16 ? ld_narrow_bf16(x[i]) : ld_narrow_f16(x[i]);
}

/* ---- the walk -------------------------------------------------------------------------------------------------------- */

/* Is dimension a of the views slower than b: by the result's strides, then the inputs'. */
static bool slower(const ld_view *const *views, int count, int a, int b) {
    for (int i = 0; i < count; i++)
        if (views[i]->stride[a] != views[i]->stride[b])
            return views[i]->stride[a] > views[i]->stride[b];
    return false;
}

static bool merges(const walk *w, const ld_view *const *views, int dim) {
    int last = w->ndim - 1;
    for (int i = 0; i < w->count; i++)
        if (w->op[i].stride[last] != views[i]->stride[dim] * views[i]->shape[dim])
            return false;
    return true;
}

static void plan_dimensions(walk *w, const ld_view *const *views) {
    int order[LD_MAX_DIMS], n = 0;
    for (int d = 0; d < views[0]->ndim; d++) {
        if (views[0]->shape[d] == 1)
            continue;
        int k = n++;
        for (; k > 0 && slower(views, w->count, d, order[k - 1]); k--)
            order[k] = order[k - 1];
        order[k] = d;
    }
    for (int k = 0; k < n; k++) {
        int d = order[k];
        if (w->ndim > 0 && merges(w, views, d))
            w->shape[w->ndim - 1] *= views[0]->shape[d];
        else
            w->shape[w->ndim++] = views[0]->shape[d];
        for (int i = 0; i < w->count; i++)
            w->op[i].stride[w->ndim - 1] = views[i]->stride[d];
    }
    if (w->ndim == 0) {
        w->ndim = 1;
        w->shape[0] = 1;
        for (int i = 0; i < w->count; i++)
            w->op[i].stride[0] = 1;
    }
}

static void plan_blocks(walk *w) {
    int last = w->ndim - 1;
    bool all_direct = true;
    w->row = w->shape[last];
    w->joined = w->row < SHORT_ROW && w->ndim > 1;
    for (int i = 0; i < w->count; i++) {
        operand *o = &w->op[i];
        int64_t dense = 1;
        o->linear = true;
        for (int d = last; d >= 0; d--) {
            o->linear &= o->stride[d] == dense;
            dense *= w->shape[d];
        }
        bool native = w->raw || ld_compute_dtype(o->dtype) == o->dtype;
        o->direct = native && (w->joined ? o->linear : o->stride[last] == 1);
        all_direct &= o->direct;
    }
    w->block = all_direct ? STRETCH : BLOCK;
}

static void place(const walk *w, cursor *c, int64_t row) {
    for (int i = 0; i < w->count; i++)
        c->at[i] = w->op[i].data;
    c->index[w->ndim - 1] = 0;
    for (int d = w->ndim - 2; d >= 0; d--) {
        c->index[d] = row % w->shape[d];
        row /= w->shape[d];
        for (int i = 0; i < w->count; i++)
            c->at[i] += c->index[d] * w->op[i].stride[d] * w->op[i].size;
    }
}

static void next_row(const walk *w, cursor *c) {
    for (int d = w->ndim - 2; d >= 0; d--) {
        bool wraps = ++c->index[d] == w->shape[d];
        int64_t by = wraps ? 1 - w->shape[d] : 1;
        for (int i = 0; i < w->count; i++)
            c->at[i] += by * w->op[i].stride[d] * w->op[i].size;
        if (!wraps)
            return;
        c->index[d] = 0;
    }
}

/* Pieces of rows, each at most a block. */
static void run_rows(const walk *w, int64_t first, int64_t last, buffers *b) {
    int64_t pieces = (w->row + w->block - 1) / w->block, k = first % pieces;
    int fast = w->ndim - 1;
    cursor c;
    place(w, &c, first / pieces);
    for (int64_t u = first; u < last; u++) {
        int64_t start = k * w->block, n = w->row - start < w->block ? w->row - start : w->block;
        void *p[LD_OPERANDS];
        for (int i = 0; i < w->count; i++) {
            const operand *o = &w->op[i];
            char *at = c.at[i] + start * o->stride[fast] * o->size;
            p[i] = o->direct ? at : b->of[i];
            if (!o->direct && i > 0)
                ld_load_run(p[i], at, o->dtype, o->stride[fast], n, w->raw);
        }
        w->fn(n, p, w->arg);
        const operand *y = &w->op[0];
        if (!y->direct)
            ld_store_run(c.at[0] + start * y->stride[fast] * y->size, p[0], y->dtype, y->stride[fast], n, w->raw);
        if (++k == pieces) {
            k = 0;
            next_row(w, &c);
        }
    }
}

/* Move n elements, from `column` of the cursor's row on, between operand i and its buffer; leaves the cursor behind them. */
static void move_joined(const walk *w, int i, cursor *c, int64_t column, int64_t n, char *buffer, bool load) {
    const operand *o = &w->op[i];
    int fast = w->ndim - 1;
    int64_t width = w->raw ? o->size : (int64_t)ld_dtype_size(ld_compute_dtype(o->dtype));
    while (n > 0) {
        int64_t m = w->row - column < n ? w->row - column : n;
        char *at = c->at[i] + column * o->stride[fast] * o->size;
        if (load)
            ld_load_run(buffer, at, o->dtype, o->stride[fast], m, w->raw);
        else
            ld_store_run(at, buffer, o->dtype, o->stride[fast], m, w->raw);
        buffer += m * width;
        n -= m;
        column = 0;
        next_row(w, c);
    }
}

/* Blocks over many short rows. */
static void run_joined(const walk *w, int64_t first, int64_t last, buffers *b) {
    for (int64_t u = first; u < last; u++) {
        int64_t start = u * w->block, n = w->numel - start < w->block ? w->numel - start : w->block;
        void *p[LD_OPERANDS];
        cursor begin, c;
        place(w, &begin, start / w->row);
        for (int i = 0; i < w->count; i++) {
            const operand *o = &w->op[i];
            p[i] = o->direct ? o->data + start * o->size : b->of[i];
            c = begin;
            if (!o->direct && i > 0)
                move_joined(w, i, &c, start % w->row, n, p[i], true);
        }
        w->fn(n, p, w->arg);
        c = begin;
        if (!w->op[0].direct)
            move_joined(w, 0, &c, start % w->row, n, p[0], false);
    }
}

static void run(const walk *w, int64_t first, int64_t last) {
    buffers b;
    if (w->joined)
        run_joined(w, first, last, &b);
    else
        run_rows(w, first, last, &b);
}

void ld_iterate(int count, const ld_view *const *views, bool raw, ld_block_fn fn, const void *arg) {
    walk w = {.count = count, .raw = raw, .numel = ld_view_numel(views[0]), .fn = fn, .arg = arg};
    if (w.numel == 0)
        return;
    for (int i = 0; i < count; i++) {
        w.op[i].data = views[i]->data;
        w.op[i].dtype = views[i]->dtype;
        w.op[i].size = (int64_t)ld_dtype_size(views[i]->dtype);
    }
    plan_dimensions(&w, views);
    plan_blocks(&w);
    int64_t pieces = (w.row + w.block - 1) / w.block;
    int64_t units = w.joined ? (w.numel + w.block - 1) / w.block : w.numel / w.row * pieces;
    int team = ld_team(w.numel);
    if (team == 1) {
        run(&w, 0, units);
        return;
    }
#pragma omp parallel num_threads(team)
    {
        int me = omp_get_thread_num(), all = omp_get_num_threads();
        run(&w, ld_part(units, me, all), ld_part(units, me + 1, all));
    }
}
