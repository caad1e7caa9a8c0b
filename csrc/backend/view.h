/* Element types and plain views: what a backend sees of a tensor. */
#ifndef LD_VIEW_H
#define LD_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum ld_dtype { LD_F32, LD_BF16, LD_F16, LD_F64, LD_I64, LD_I32, LD_U8, LD_DTYPE_COUNT } ld_dtype;

extern const char *const ld_dtype_names[LD_DTYPE_COUNT]; /* "f32", "bf16", ... */
size_t ld_dtype_size(ld_dtype t);                        /* bytes of one element */
bool ld_dtype_is_float(ld_dtype t);
bool ld_dtype_is_half(ld_dtype t);   /* bf16 and f16 */
int ld_dtype_find(const char *name); /* the dtype of that name, or -1 */

/* One element as a double, and back (rounded to nearest even for the floats, truncated for the integers). */
double ld_dtype_get(ld_dtype t, const void *p);
void ld_dtype_set(ld_dtype t, void *p, double v);
float ld_bf16_to_f32(uint16_t v);
uint16_t ld_f32_to_bf16(float v);
float ld_f16_to_f32(uint16_t v);
uint16_t ld_f32_to_f16(float v);

#define LD_MAX_DIMS 8

/* shape and stride count elements; stride may be 0 (broadcast) or negative in no case. Equal serial and version (and
 * data, shape, stride) mean equal contents, so that a backend may keep what it made of them; serial 0 promises nothing, and that keeping is not worth it. */
typedef struct ld_view {
    ld_dtype dtype;
    int ndim;
    int64_t shape[LD_MAX_DIMS];
    int64_t stride[LD_MAX_DIMS];
    void *data;
    uint64_t serial;
    uint32_t version;
} ld_view;

int64_t ld_view_numel(const ld_view *v);

/* Canonical layout: dense, and in memory order NHWC for rank 4 (logical N,C,H,W), row-major for every other rank.
 * Dimensions of size 1 may have any stride. */
void ld_canonical_strides(int ndim, const int64_t *shape, int64_t *stride);
bool ld_is_canonical(int ndim, const int64_t *shape, const int64_t *stride);

#endif
