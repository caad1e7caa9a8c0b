#include "backend/cpu/dnnl.h"

#include "backend/cpu/packed.h"
#include "backend/device.h"
#include "backend/plan.h"
#include "base/error.h"

#include <dnnl.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { X, W, B, Y, OPERANDS };

/* ---- the two APIs: memory descriptors are structs and operations have descriptors in 2.x; neither in 3.x --------- */

#if DNNL_VERSION_MAJOR >= 3

typedef const_dnnl_memory_desc_t md_ref;
#define REF(m) (m)

static void md_drop(dnnl_memory_desc_t *m) {
    if (*m)
        dnnl_memory_desc_destroy(*m);
    *m = NULL;
}

static dnnl_status_t md_strided(dnnl_memory_desc_t *m, int ndim, const dnnl_dims_t dims, const dnnl_dims_t stride) {
    return dnnl_memory_desc_create_with_strides(m, ndim, dims, dnnl_f32, stride);
}

static dnnl_status_t md_tagged(dnnl_memory_desc_t *m, int ndim, const dnnl_dims_t dims, dnnl_format_tag_t tag) {
    return dnnl_memory_desc_create_with_tag(m, ndim, dims, dnnl_f32, tag);
}

static dnnl_status_t md_copy(dnnl_memory_desc_t *m, md_ref from) {
    return dnnl_memory_desc_clone(m, from);
}

static dnnl_status_t add_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}

static dnnl_status_t describe_primitive(dnnl_primitive_desc_t *pd, const ld_dnnl_key *k, int kind, md_ref x, md_ref w,
                                        md_ref b, md_ref y, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine,
                                        const_dnnl_primitive_desc_t forward) {
    const dnnl_alg_kind_t alg = dnnl_convolution_direct;
    dnnl_dims_t stride = {k->stride_h, k->stride_w}, before = {k->top, k->left}, after = {k->bottom, k->right};
    dnnl_dims_t dilation = {0, 0};
    switch (kind) {
    case LD_DNNL_CONV:
        return dnnl_convolution_forward_primitive_desc_create(pd, engine, dnnl_forward_training, alg, x, w, b, y,
                                                              stride, dilation, before, after, attr);
    case LD_DNNL_CONV_DX:
        return dnnl_convolution_backward_data_primitive_desc_create(pd, engine, alg, x, w, y, stride, dilation, before,
                                                                    after, forward, attr);
    case LD_DNNL_CONV_DW:
        return dnnl_convolution_backward_weights_primitive_desc_create(pd, engine, alg, x, w, b, y, stride, dilation,
                                                                       before, after, forward, attr);
    default:
        return dnnl_matmul_primitive_desc_create(pd, engine, x, w, b, y, attr);
    }
}

#else

typedef const dnnl_memory_desc_t *md_ref;
#define REF(m) (&(m))

static void md_drop(dnnl_memory_desc_t *m) {
    memset(m, 0, sizeof *m);
}

static dnnl_status_t md_strided(dnnl_memory_desc_t *m, int ndim, const dnnl_dims_t dims, const dnnl_dims_t stride) {
    return dnnl_memory_desc_init_by_strides(m, ndim, dims, dnnl_f32, stride);
}

static dnnl_status_t md_tagged(dnnl_memory_desc_t *m, int ndim, const dnnl_dims_t dims, dnnl_format_tag_t tag) {
    return dnnl_memory_desc_init_by_tag(m, ndim, dims, dnnl_f32, tag);
}

static dnnl_status_t md_copy(dnnl_memory_desc_t *m, md_ref from) {
    *m = *from;
    return dnnl_success;
}

static dnnl_status_t add_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0f);
}

static dnnl_status_t describe_primitive(dnnl_primitive_desc_t *pd, const ld_dnnl_key *k, int kind, md_ref x, md_ref w,
                                        md_ref b, md_ref y, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine,
                                        const_dnnl_primitive_desc_t forward) {
    const dnnl_alg_kind_t alg = dnnl_convolution_direct;
    dnnl_dims_t stride = {k->stride_h, k->stride_w}, before = {k->top, k->left}, after = {k->bottom, k->right};
    dnnl_convolution_desc_t conv;
    dnnl_matmul_desc_t product;
    const_dnnl_op_desc_t op = &conv;
    dnnl_status_t st;
    switch (kind) {
    case LD_DNNL_CONV:
        st = dnnl_convolution_forward_desc_init(&conv, dnnl_forward_training, alg, x, w, b, y, stride, before, after);
        break;
    case LD_DNNL_CONV_DX:
        st = dnnl_convolution_backward_data_desc_init(&conv, alg, x, w, y, stride, before, after);
        break;
    case LD_DNNL_CONV_DW:
        st = dnnl_convolution_backward_weights_desc_init(&conv, alg, x, w, b, y, stride, before, after);
        break;
    default:
        st = dnnl_matmul_desc_init(&product, x, w, b, y);
        op = &product;
    }
    return st ? st : dnnl_primitive_desc_create(pd, op, attr, engine, forward);
}

#endif

/* ---- one primitive with its operands ----------------------------------------------------------------------------- */

typedef struct operand {
    bool there, written;
    int arg;                        /* DNNL_ARG_... of the primitive */
    dnnl_memory_desc_t given, used; /* the caller's layout and the primitive's */
    dnnl_memory_t outer, inner;     /* inner is NULL where the layouts agree */
    dnnl_primitive_t reorder;       /* outer -> inner, or back when written */
    dnnl_memory_t reorder_scratch;
    size_t bytes; /* of inner */
} operand;

typedef struct entry {
    ld_dnnl_key key;
    dnnl_primitive_t primitive; /* NULL: oneDNN has none for this key */
    dnnl_memory_t scratch;
    size_t workspace, scratch_at; /* bytes; the scratchpads share what lies beyond the reordered operands */
    operand operands[OPERANDS];
} entry;

enum { SLOTS = 4096, MOST = SLOTS / 2 };

static struct {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_attr_t plain, summing;
    bool ready;
    int count;
    entry *slots[SLOTS];
} lib;

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        dnnl_status_t status_ = (call);                                                                                \
        if (status_)                                                                                                   \
            return status_;                                                                                            \
    } while (0)

static dnnl_status_t start(void) {
    if (lib.ready)
        return dnnl_success;
    dnnl_post_ops_t ops = NULL;
    TRY(dnnl_engine_create(&lib.engine, dnnl_cpu, 0));
    TRY(dnnl_stream_create(&lib.stream, lib.engine, dnnl_stream_default_flags));
    TRY(dnnl_primitive_attr_create(&lib.plain));
    TRY(dnnl_primitive_attr_set_scratchpad_mode(lib.plain, dnnl_scratchpad_mode_user));
    TRY(dnnl_primitive_attr_clone(&lib.summing, lib.plain));
    TRY(dnnl_post_ops_create(&ops));
    dnnl_status_t st = add_sum(ops);
    if (!st)
        st = dnnl_primitive_attr_set_post_ops(lib.summing, ops);
    dnnl_post_ops_destroy(ops);
    lib.ready = !st;
    return st;
}

static size_t rounded(size_t n) {
    return (n + 255) & ~(size_t)255;
}

static void entry_free(entry *e) {
    if (!e)
        return;
    for (int i = 0; i < OPERANDS; i++) {
        operand *o = &e->operands[i];
        if (o->reorder)
            dnnl_primitive_destroy(o->reorder);
        if (o->reorder_scratch)
            dnnl_memory_destroy(o->reorder_scratch);
        if (o->inner)
            dnnl_memory_destroy(o->inner);
        if (o->outer)
            dnnl_memory_destroy(o->outer);
        md_drop(&o->given);
        md_drop(&o->used);
    }
    if (e->scratch)
        dnnl_memory_destroy(e->scratch);
    if (e->primitive)
        dnnl_primitive_destroy(e->primitive);
    free(e);
}

/* The scratchpad of a primitive as a memory object without data; *bytes grows to its size. */
static dnnl_status_t scratch_of(dnnl_memory_t *m, const_dnnl_primitive_desc_t pd, size_t *bytes) {
    md_ref md = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    size_t n = md ? dnnl_memory_desc_get_size(md) : 0;
    if (!n)
        return dnnl_success;
    if (n > *bytes)
        *bytes = n;
    return dnnl_memory_create(m, md, lib.engine, DNNL_MEMORY_NONE);
}

/* Layouts before oneDNN has spoken: `given` as the caller has it, `asked` what the primitive may choose. */
static dnnl_status_t layouts(entry *e, dnnl_memory_desc_t *asked) {
    const ld_dnnl_key *k = &e->key;
    const ld_dnnl_operand *plain[OPERANDS] = {&k->x, &k->w, NULL, &k->y};
    bool free_weights = k->kind != LD_DNNL_MATMUL, free_all = k->layout != LD_DNNL_PLAIN;
    for (int i = 0; i < OPERANDS; i++) {
        operand *o = &e->operands[i];
        ld_dnnl_operand bias = {1, {k->w.dims[0]}, {1}, 0};
        if (k->kind == LD_DNNL_MATMUL) {
            int n = (int)k->y.ndim;
            bias = (ld_dnnl_operand){n, {1, 1, 1}, {0}, 0};
            bias.dims[n - 1] = k->y.dims[n - 1];
            for (int d = 0; d < n; d++)
                bias.stride[d] = d == n - 1 ? 1 : bias.dims[n - 1];
        }
        const ld_dnnl_operand *p = plain[i] ? plain[i] : &bias;
        o->there = i != B || k->bias;
        if (!o->there)
            continue;
        dnnl_dims_t dims = {0}, stride = {0};
        memcpy(dims, p->dims, sizeof p->dims);
        memcpy(stride, p->stride, sizeof p->stride);
        if (p->nhwc)
            TRY(md_tagged(&o->given, 4, dims, dnnl_nhwc));
        else
            TRY(md_strided(&o->given, (int)p->ndim, dims, stride));
        if (i != B && (free_all || (i == W && free_weights)))
            TRY(md_tagged(&asked[i], (int)p->ndim, dims, dnnl_format_tag_any));
        else
            TRY(md_copy(&asked[i], REF(o->given)));
    }
    return dnnl_success;
}

static dnnl_status_t make_descriptor(entry *e, dnnl_primitive_desc_t *pd) {
    const ld_dnnl_key *k = &e->key;
    dnnl_memory_desc_t asked[OPERANDS];
    memset(asked, 0, sizeof asked);
    dnnl_primitive_desc_t forward = NULL;
    const_dnnl_primitive_attr_t attr = k->accumulate ? lib.summing : lib.plain;
    dnnl_status_t st = layouts(e, asked);
    md_ref b = k->bias ? REF(asked[B]) : NULL;
    if (!st && (k->kind == LD_DNNL_CONV_DX || k->kind == LD_DNNL_CONV_DW))
        st = describe_primitive(&forward, k, LD_DNNL_CONV, REF(asked[X]), REF(asked[W]), b, REF(asked[Y]), attr,
                                lib.engine, NULL);
    if (!st)
        st = describe_primitive(pd, k, (int)k->kind, REF(asked[X]), REF(asked[W]), b, REF(asked[Y]), attr, lib.engine,
                                forward);
    if (forward)
        dnnl_primitive_desc_destroy(forward);
    for (int i = 0; i < OPERANDS; i++)
        md_drop(&asked[i]);
    return st;
}

static dnnl_status_t prepare_operand(operand *o, dnnl_primitive_desc_t pd, size_t *scratch) {
    md_ref used = dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, o->arg);
    TRY(used ? md_copy(&o->used, used) : dnnl_invalid_arguments);
    TRY(dnnl_memory_create(&o->outer, REF(o->given), lib.engine, DNNL_MEMORY_NONE));
    if (dnnl_memory_desc_equal(REF(o->given), REF(o->used)))
        return dnnl_success;
    o->bytes = dnnl_memory_desc_get_size(REF(o->used));
    TRY(dnnl_memory_create(&o->inner, REF(o->used), lib.engine, DNNL_MEMORY_NONE));
    md_ref from = o->written ? REF(o->used) : REF(o->given), to = o->written ? REF(o->given) : REF(o->used);
    dnnl_primitive_desc_t reorder = NULL;
    TRY(dnnl_reorder_primitive_desc_create(&reorder, from, lib.engine, to, lib.engine, lib.plain));
    dnnl_status_t st = scratch_of(&o->reorder_scratch, reorder, scratch);
    if (!st)
        st = dnnl_primitive_create(&o->reorder, reorder);
    dnnl_primitive_desc_destroy(reorder);
    return st;
}

static dnnl_status_t make_entry(entry *e) {
    static const int args[][OPERANDS] = {
        [LD_DNNL_CONV] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST},
        [LD_DNNL_CONV_DX] = {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, 0, DNNL_ARG_DIFF_DST},
        [LD_DNNL_CONV_DW] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_BIAS, DNNL_ARG_DIFF_DST},
        [LD_DNNL_MATMUL] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST},
    };
    dnnl_primitive_desc_t pd = NULL;
    TRY(make_descriptor(e, &pd));
    size_t scratch = 0;
    dnnl_status_t st = scratch_of(&e->scratch, pd, &scratch);
    for (int i = 0; i < OPERANDS && !st; i++) {
        operand *o = &e->operands[i];
        if (!o->there)
            continue;
        int kind = (int)e->key.kind;
        o->arg = args[kind][i];
        o->written = kind == LD_DNNL_CONV_DX ? i == X : kind == LD_DNNL_CONV_DW ? i == W || i == B : i == Y;
        st = prepare_operand(o, pd, &scratch);
        e->scratch_at += rounded(o->bytes);
    }
    e->workspace = e->scratch_at + scratch;
    if (!st)
        st = dnnl_primitive_create(&e->primitive, pd);
    dnnl_primitive_desc_destroy(pd);
    return st;
}

/* ---- the primitives kept ----------------------------------------------------------------------------------------- */

static uint64_t hash(const ld_dnnl_key *k) {
    int64_t words[sizeof *k / sizeof(int64_t)];
    memcpy(words, k, sizeof words);
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        h = (h ^ (uint64_t)words[i]) * 1099511628211u;
        h ^= h >> 29;
    }
    return h;
}

void ld_dnnl_clear(void) {
    for (int i = 0; i < SLOTS; i++) {
        entry_free(lib.slots[i]);
        lib.slots[i] = NULL;
    }
    lib.count = 0;
    ld_packed_clear(); /* packed forms are named after entries */
}

/* The entry of a key, made if need be. An entry without primitive records that oneDNN has none. */
static dnnl_status_t find(const ld_dnnl_key *key, entry **found) {
    TRY(start());
    uint64_t i = hash(key) % SLOTS;
    for (; lib.slots[i]; i = (i + 1) % SLOTS)
        if (!memcmp(&lib.slots[i]->key, key, sizeof *key)) {
            *found = lib.slots[i];
            return dnnl_success;
        }
    if (lib.count == MOST) {
        ld_dnnl_clear();
        i = hash(key) % SLOTS;
    }
    entry *e = calloc(1, sizeof *e);
    if (!e)
        return dnnl_out_of_memory;
    e->key = *key;
    dnnl_status_t st = make_entry(e);
    if (st && st != dnnl_unimplemented) {
        entry_free(e);
        return st;
    }
    lib.slots[i] = e;
    lib.count++;
    *found = e;
    return dnnl_success;
}

/* oneDNN takes the number of threads from OpenMP when a primitive is made as well as when it runs. */
static int set_threads(int n) {
    int before = omp_get_max_threads();
    if (before != n)
        omp_set_num_threads(n);
    return before;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static dnnl_status_t reorder(const operand *o, void *scratch) {
    dnnl_exec_arg_t args[3] = {{DNNL_ARG_FROM, o->written ? o->inner : o->outer},
                               {DNNL_ARG_TO, o->written ? o->outer : o->inner}};
    int n = 2;
    if (o->reorder_scratch) {
        TRY(dnnl_memory_set_data_handle(o->reorder_scratch, scratch));
        args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, o->reorder_scratch};
    }
    return dnnl_primitive_execute(o->reorder, lib.stream, n, args);
}

static dnnl_status_t execute(entry *e, void *const data[OPERANDS], char *workspace, const ld_view *keep) {
    dnnl_exec_arg_t args[OPERANDS + 1];
    char *scratch = workspace + e->scratch_at, *at = workspace;
    int n = 0;
    for (int i = 0; i < OPERANDS; i++) {
        operand *o = &e->operands[i];
        if (!o->there)
            continue;
        TRY(dnnl_memory_set_data_handle(o->outer, data[i]));
        if (o->inner) {
            void *inner = at;
            ld_packed_state kept = i == W && keep && !o->written
                                       ? ld_packed_find(keep, (uint64_t)(uintptr_t)e, rounded(o->bytes), &inner)
                                       : LD_PACKED_NONE;
            at += rounded(o->bytes);
            TRY(dnnl_memory_set_data_handle(o->inner, inner));
            if (!o->written && kept != LD_PACKED_READY)
                TRY(reorder(o, scratch));
        }
        args[n++] = (dnnl_exec_arg_t){o->arg, o->inner ? o->inner : o->outer};
    }
    if (e->scratch) {
        TRY(dnnl_memory_set_data_handle(e->scratch, scratch));
        args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, e->scratch};
    }
    TRY(dnnl_primitive_execute(e->primitive, lib.stream, n, args));
    for (int i = 0; i < OPERANDS; i++)
        if (e->operands[i].inner && e->operands[i].written)
            TRY(reorder(&e->operands[i], scratch));
    return dnnl_stream_wait(lib.stream);
}

static int report(dnnl_status_t st, const entry *e, const char *who) {
    if (!st && e->primitive)
        return 0;
    if (!st)
        return ld_fail(LD_EINTERNAL, "%s: oneDNN has no primitive for these shapes", who);
    if (st == dnnl_out_of_memory)
        return ld_fail(LD_EMEM, "%s: oneDNN ran out of memory", who);
    return ld_fail(LD_EINTERNAL, "%s: oneDNN failed with status %d", who, (int)st);
}

int ld_dnnl_workspace(const ld_dnnl_key *key, const char *who, size_t *bytes) {
    entry *e = NULL;
    int before = set_threads((int)key->threads);
    dnnl_status_t st = find(key, &e);
    set_threads(before);
    *bytes = st ? 0 : e->workspace;
    return report(st, e, who);
}

int ld_dnnl_run_in(const ld_dnnl_key *key, const char *who, void *x, void *w, void *bias, void *y, const ld_view *keep,
                   void *workspace) {
    void *const data[OPERANDS] = {x, w, bias, y};
    entry *e = NULL;
    int before = set_threads((int)key->threads);
    dnnl_status_t st = find(key, &e);
    if (!st && e->primitive)
        st = execute(e, data, workspace, keep);
    set_threads(before);
    return report(st, e, who);
}

int ld_dnnl_run(const ld_dnnl_key *key, const char *who, void *x, void *w, void *bias, void *y) {
    size_t bytes;
    int bad = ld_dnnl_workspace(key, who, &bytes);
    void *workspace = bad || !bytes ? NULL : ld_cpu_workspace(bytes, who);
    if (!bad && bytes && !workspace)
        bad = LD_EMEM;
    if (!bad && !ld_planning_on(ld_device_find("cpu")))
        bad = ld_dnnl_run_in(key, who, x, w, bias, y, NULL, workspace);
    ld_cpu_workspace_done(workspace);
    return bad;
}

bool ld_dnnl_has_avx512(void) {
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core;
}

const char *ld_cpu_libraries(void) {
    static char text[64];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "oneDNN %d.%d.%d isa %x", v->major, v->minor, v->patch,
             (unsigned)dnnl_get_effective_cpu_isa());
    return text;
}

void ld_dnnl_describe(ld_dnnl_operand *o, int ndim, const int64_t *dims, const int64_t *stride) {
    int64_t reach = 1; /* past the last element: a stride that overlaps nothing */
    for (int d = 0; d < ndim; d++)
        if (dims[d] > 1 && dims[d] * stride[d] > reach)
            reach = dims[d] * stride[d];
    o->ndim = ndim;
    for (int d = 0; d < ndim; d++) {
        o->dims[d] = dims[d];
        o->stride[d] = dims[d] > 1 ? stride[d] : reach;
    }
}

void ld_dnnl_describe_nhwc(ld_dnnl_operand *o, const int64_t *dims) {
    o->ndim = 4;
    o->nhwc = 1;
    memcpy(o->dims, dims, sizeof o->dims);
}
