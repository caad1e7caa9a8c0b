/* What the files of this folder share: making a layer and its tensors. */
#ifndef LD_LAYER_PART_H
#define LD_LAYER_PART_H

#include "layer/layer.h"

/* A layer without tensors; NULL after LD_EMEM. */
ld_layer *ld_layer_new(const ld_layer_type *type);

/* How a new tensor is filled: U(-v, v), N(0, v), or v everywhere. */
typedef enum ld_fill_kind { LD_FILL_UNIFORM, LD_FILL_NORMAL, LD_FILL_VALUE } ld_fill_kind;

/* The next parameter or buffer of l. 0 or an error code. */
int ld_layer_add_param(ld_layer *l, const char *name, ld_device *d, ld_dtype t, int ndim, const int64_t *shape,
                       ld_fill_kind how, double v);
int ld_layer_add_buffer(ld_layer *l, const char *name, ld_device *d, ld_dtype t, int ndim, const int64_t *shape,
                        double v);

/* l when bad is 0; else drops it: NULL. */
ld_layer *ld_layer_made(ld_layer *l, int bad);

/* Checks that t is f32 or f64. */
int ld_layer_check_dtype(const char *who, ld_dtype t);

#endif
