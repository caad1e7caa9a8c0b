/* Errors: the last one of this thread, as a code and one sentence.
 *
 * A function that can fail returns NULL or a non-zero code after exactly one call of ld_fail, made at the place that
 * knows most. Callers pass the failure on untouched. Nothing in the core prints, exits or aborts. */
#ifndef LD_ERROR_H
#define LD_ERROR_H

typedef enum ld_code {
    LD_OK = 0,
    LD_ESHAPE,     /* shapes do not fit each other or the operation */
    LD_EVALUE,     /* an argument's value is out of range */
    LD_EDTYPE,     /* dtype not taken here */
    LD_EDEVICE,    /* device absent, or arguments on different devices */
    LD_EMEM,       /* out of memory */
    LD_EINDEX,     /* position outside a dimension */
    LD_ESTATE,     /* an object is not in the state the call needs (released, changed in place, closed) */
    LD_EIO,        /* the operating system refused (open, read, write, rename) */
    LD_EFORMAT,    /* a file's content is not what it should be */
    LD_EINTERRUPT, /* the user asked to stop */
    LD_EINTERNAL   /* a library below failed in a way that its arguments do not explain */
} ld_code;

/* Set this thread's error and return its code, so that `return ld_fail(LD_ESHAPE, "conv2d: ...", ...)` works.
 * The message starts with the operation's name as the user writes it, says what is and what was needed, and has no
 * trailing full stop or newline. At most 1023 bytes are kept. */
int ld_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same with NULL as the value, for functions that return pointers. */
#define ld_fail_null(...) (ld_fail(__VA_ARGS__), NULL)

/* The last error of this thread: its sentence ("" when there is none) and its code. */
const char *ld_error(void);
int ld_error_code(void);
void ld_error_clear(void);

/* Interruption. ld_interrupt may be called from a signal handler; operations call ld_interrupted on entry, which fails
 * with LD_EINTERRUPT (and clears the request) when one is pending, 0 otherwise. */
void ld_interrupt(void);
int ld_interrupted(void);

#endif
