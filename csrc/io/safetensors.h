/* The safetensors format: 8 bytes of header length, a JSON header, raw little-endian tensors in row-major order. */
#ifndef LD_SAFETENSORS_H
#define LD_SAFETENSORS_H

#include "tensor/tensor.h"

typedef struct ld_safetensors ld_safetensors;

/* Map a file and check its header wholly: length within the file, valid JSON, known dtypes, shapes that match the byte
 * ranges, ranges inside the file and not overlapping. Bytes behind the last tensor are tolerated. LD_EIO, LD_EFORMAT (names
 * the file and the first fault), LD_EMEM. The object is reference counted: tensors keep the map alive. */
ld_safetensors *ld_safetensors_open(const char *path);
void ld_safetensors_close(ld_safetensors *s); /* NULL is fine */

int ld_safetensors_count(const ld_safetensors *s);
const char *ld_safetensors_name(const ld_safetensors *s, int i);
int ld_safetensors_find(const ld_safetensors *s, const char *name); /* index or -1 */
/* Shape and dtype without touching the data; returns the rank. */
int ld_safetensors_shape(const ld_safetensors *s, int i, int64_t shape[LD_MAX_DIMS], ld_dtype *t);
/* Tensor i: a copy in canonical layout, owned by the caller. */
ld_tensor *ld_safetensors_tensor(const ld_safetensors *s, int i);

/* Metadata entries: key and value of entry i; NULL past the end. */
const char *ld_safetensors_metadata(const ld_safetensors *s, int i, const char **value);

/* Write n tensors safely (io/file.h); `metadata` is NULL or a NULL-ended list key, value, ... LD_EIO, LD_EVALUE (a name
 * twice). Source: the format's specification, huggingface/safetensors README. */
int ld_safetensors_write(const char *path, const char *const *names, ld_tensor *const *xs, int n,
                         const char *const *metadata);

#endif
