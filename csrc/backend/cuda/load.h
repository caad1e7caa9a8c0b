/* A shared library that the plug-in loads when it needs it. No header of CUDA is needed to know how. */
#ifndef LD_CUDA_LOAD_H
#define LD_CUDA_LOAD_H

#include <stdbool.h>
#include <stddef.h>

typedef struct ld_symbol {
    const char *name;
    void *at; /* a function pointer to set */
} ld_symbol;

/* A library while it is looked for, and then. */
typedef struct ld_library {
    const char *name, *file; /* "cuDNN 9", "libcudnn.so.9" */
    const ld_symbol *symbols;
    int n;
    bool (*fits)(char *why, size_t size); /* the functions are there: does the version do? NULL: any */
    bool ready, exists;                   /* exists: a file was found, and why says what is wrong with it */
    char path[512], why[600];
} ld_library;

/* Loaded at the first call, from the first place (search.h) where one is that will do; false: l->why says why not. */
bool ld_library_load(ld_library *l);
/* NULL after ld_fail (LD_EDEVICE): what is wrong with a library that is none of the driver's. */
const void *ld_library_missing(const ld_library *l, const char *who);

/* "9.13.0" of cuDNN's 91300, "13.0.2" of cuBLASLt's 130002, "2.28.9" of NCCL's 22809 */
const char *ld_cuda_library_version(size_t version);

#endif
