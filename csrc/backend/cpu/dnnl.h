/* oneDNN behind one door: convolution and matrix product in f32, described by a key of plain numbers.
 *
 * Primitives are made at the first use of a key and kept. Where a primitive wants a layout of its own, the operands are
 * reordered into workspace around it. Workspace comes from the CPU's pool for the time of the call. Not thread-safe:
 * one thread computes. */
#ifndef LD_CPU_DNNL_H
#define LD_CPU_DNNL_H

#include "backend/view.h"

typedef enum ld_dnnl_kind { LD_DNNL_CONV, LD_DNNL_CONV_DX, LD_DNNL_CONV_DW, LD_DNNL_MATMUL } ld_dnnl_kind;

typedef enum ld_dnnl_layout {
    LD_DNNL_PLAIN,  /* x and y as given; oneDNN chooses the layout of convolution weights */
    LD_DNNL_BLOCKED /* oneDNN chooses every layout (convolution) */
} ld_dnnl_layout;

typedef struct ld_dnnl_operand {
    int64_t ndim, dims[4], stride[4]; /* elements; entries beyond ndim are 0 */
    int64_t nhwc;                     /* 1: dense channels-last, strides are not read */
} ld_dnnl_operand;

/* Compared byte for byte: clear it (memset) before filling. */
typedef struct ld_dnnl_key {
    int64_t kind, layout, threads;
    int64_t bias;       /* 1: there is a bias (CONV, MATMUL), or its gradient is wanted (CONV_DW) */
    int64_t accumulate; /* 1: y += (MATMUL) */
    int64_t stride_h, stride_w, top, bottom, left, right;
    ld_dnnl_operand x, w, y; /* convolution: (N,C,H,W), (O,C,R,S), (N,O,P,Q); product y = x w: (B,M,K), (B,K,N), (B,M,N)
                              * or without B; a B of 1 is broadcast */
} ld_dnnl_key;

/* Set o to a dense channels-last image. By name, because strides alone do not tell layouts apart where a dimension has
 * size 1, and oneDNN then falls back to slow code. */
void ld_dnnl_describe_nhwc(ld_dnnl_operand *o, const int64_t *dims);

/* Set o to a shape with strides; dimensions of size 1 get a stride that oneDNN accepts. */
void ld_dnnl_describe(ld_dnnl_operand *o, int ndim, const int64_t *dims, const int64_t *stride);

/* Compute. Which of x, w, bias and y are written follows from the kind; bias may be NULL where key->bias is 0. `who` names
 * the operation in errors: LD_EMEM, LD_EINTERNAL. While memory is planned only the workspace is taken. */
int ld_dnnl_run(const ld_dnnl_key *key, const char *who, void *x, void *w, void *bias, void *y);

/* The same in workspace of the caller's, of so many bytes (0: NULL will do). `keep`: w as a view whose reordered form may be
 * kept (packed.h), or NULL. */
int ld_dnnl_workspace(const ld_dnnl_key *key, const char *who, size_t *bytes);
int ld_dnnl_run_in(const ld_dnnl_key *key, const char *who, void *x, void *w, void *bias, void *y, const ld_view *keep,
                   void *workspace);

/* Whether oneDNN may use AVX-512 here (DNNL_MAX_CPU_ISA can forbid it). */
bool ld_dnnl_has_avx512(void);

/* Drop every primitive kept. */
void ld_dnnl_clear(void);

/* Workspace of the CPU's pool, 256-byte aligned, for the time of one call. NULL: return LD_EMEM; the message has been set.
 * A slot asks once, for all it needs, before it writes anything: while memory is planned (backend/plan.h) the answer is
 * always NULL, and the slot ends there. (workspace.c) */
void *ld_cpu_workspace(size_t bytes, const char *who);
void ld_cpu_workspace_done(void *block);
/* Whether workspace has been asked for, and counted, by the plan since the last call of this. */
bool ld_cpu_workspace_planned(void);

#endif
