#include "io/npy.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LONGEST = 1 << 20 }; /* bytes of a header; those that NumPy writes have about a hundred */

static const struct {
    const char *name;
    ld_dtype t;
} dtypes[] = {{"<f2", LD_F16}, {"<f4", LD_F32}, {"<f8", LD_F64}, {"|u1", LD_U8}, {"<i4", LD_I32}, {"<i8", LD_I64}};

static int fail_io(const char *path) {
    return ld_fail(LD_EIO, "npy '%.500s': %s", path, strerror(errno));
}

static int read_at(const ld_npy *npy, void *to, size_t n, uint64_t at) {
    char *p = to;
    while (n > 0) {
        ssize_t done = pread(npy->fd, p, n, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail_io(npy->path);
        if (done == 0)
            return ld_fail(LD_EFORMAT, "npy '%.500s': ends at byte %llu, in the middle of what it should hold",
                           npy->path, (unsigned long long)at);
        p += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return 0;
}

/* ---- the header: a dictionary in Python's notation; each of these returns what is wrong, or NULL ---- */

typedef struct text {
    const char *p, *end;
} text;

static void blanks(text *t) {
    while (t->p < t->end && (*t->p == ' ' || *t->p == '\n' || *t->p == '\t'))
        t->p++;
}

/* Passes over blanks, and over c if it stands there. */
static bool skip(text *t, char c) {
    blanks(t);
    if (t->p == t->end || *t->p != c)
        return false;
    t->p++;
    return true;
}

static bool word(text *t, const char *w) {
    size_t n = strlen(w);
    blanks(t);
    if ((size_t)(t->end - t->p) < n || memcmp(t->p, w, n) != 0)
        return false;
    t->p += n;
    return true;
}

/* A string in quotes of either kind, without escapes, of at most 31 bytes. */
static bool string(text *t, char to[32]) {
    char quote = skip(t, '\'') ? '\'' : skip(t, '"') ? '"' : 0;
    size_t n = 0;
    while (quote && t->p < t->end && *t->p != quote && *t->p != '\\' && n < 31)
        to[n++] = *t->p++;
    to[n] = 0;
    return quote && t->p < t->end && *t->p++ == quote;
}

static const char *read_descr(text *t, ld_npy *npy) {
    char name[32];
    if (!string(t, name))
        return "has a dtype with fields; plain ones are read";
    size_t n = sizeof dtypes / sizeof *dtypes, k = 0;
    while (k < n && strcmp(dtypes[k].name, name) != 0)
        k++;
    if (k == n)
        return "has a dtype that is not <f2 <f4 <f8 |u1 <i4 <i8";
    npy->dtype = dtypes[k].t;
    return NULL;
}

static const char *read_order(text *t) {
    return word(t, "False")  ? NULL
           : word(t, "True") ? "is in Fortran's order; save np.ascontiguousarray(x)"
                             : "has a fortran_order that is neither True nor False";
}

static const char *read_shape(text *t, ld_npy *npy) {
    const char *wrong = "has a shape that is no tuple of sizes";
    bool comma = true;
    if (!skip(t, '('))
        return wrong;
    for (npy->ndim = 0; !skip(t, ')'); comma = skip(t, ',')) {
        int64_t x = 0;
        if (!comma || t->p == t->end || *t->p < '0' || *t->p > '9')
            return wrong;
        for (; t->p < t->end && *t->p >= '0' && *t->p <= '9'; t->p++)
            if ((x = 10 * x + (*t->p - '0')) > (int64_t)1 << 48)
                return "has more than 2^48 elements";
        skip(t, 'L'); /* as Python 2 wrote them */
        if (npy->ndim == LD_MAX_DIMS)
            return "has more than 8 dimensions";
        npy->shape[npy->ndim++] = x;
    }
    return npy->ndim == 1 && !comma ? wrong : NULL; /* (3) is a number */
}

static const char *read_header(text *t, ld_npy *npy) {
    static const char *const names[] = {"descr", "fortran_order", "shape"};
    const char *wrong = NULL;
    int seen[3] = {0};
    bool comma = true;
    if (!skip(t, '{'))
        return "has a header that is no dictionary";
    while (!wrong && !skip(t, '}')) {
        char key[32];
        if (!comma || !string(t, key) || !skip(t, ':'))
            return "has a header that is no dictionary";
        int k = 0;
        while (k < 3 && strcmp(names[k], key) != 0)
            k++;
        if (k == 3 || seen[k]++)
            return "has a header with other entries than descr, fortran_order and shape";
        wrong = k == 0 ? read_descr(t, npy) : k == 1 ? read_order(t) : read_shape(t, npy);
        comma = skip(t, ',');
    }
    if (wrong)
        return wrong;
    blanks(t);
    if (t->p != t->end)
        return "has more than a dictionary in its header";
    return seen[0] && seen[1] && seen[2] ? NULL : "has a header without descr, fortran_order or shape";
}

/* ---- opening ---- */

/* The elements have to lie inside the file. */
static int check_size(ld_npy *npy, uint64_t size) {
    uint64_t row = ld_dtype_size(npy->dtype), limit = (uint64_t)1 << 48, n = 1;
    for (int i = npy->ndim - 1; i >= 0; i--) {
        uint64_t m = (uint64_t)npy->shape[i];
        if (m && n > limit / m)
            return ld_fail(LD_EFORMAT, "npy '%.500s': has more than 2^48 elements", npy->path);
        n *= m;
        if (i > 0)
            row *= m;
    }
    npy->row = (size_t)row;
    if (n * ld_dtype_size(npy->dtype) > size - npy->offset)
        return ld_fail(LD_EFORMAT, "npy '%.500s': %s %s takes %llu bytes; %s %llu (cut short?)", npy->path,
                       ld_shape_text(npy->ndim, npy->shape), ld_dtype_names[npy->dtype],
                       (unsigned long long)(n * ld_dtype_size(npy->dtype)),
                       npy->offset ? "behind the header are" : "the file has",
                       (unsigned long long)(size - npy->offset));
    return 0;
}

static int read_all(ld_npy *npy, uint64_t size) {
    uint8_t head[12];
    if (size < 10 || read_at(npy, head, 10, 0) || memcmp(head, "\x93NUMPY", 6) != 0)
        return ld_fail(LD_EFORMAT, "npy '%.500s': no .npy file", npy->path);
    bool first = head[6] == 1;
    if (head[6] < 1 || head[6] > 3 || head[7] != 0)
        return ld_fail(LD_EFORMAT, "npy '%.500s': version %d.%d; 1.0 to 3.0 are read", npy->path, head[6], head[7]);
    if (!first && (size < 12 || read_at(npy, head, 12, 0)))
        return ld_fail(LD_EFORMAT, "npy '%.500s': ends in its header", npy->path);
    uint64_t n = (uint64_t)head[8] | (uint64_t)head[9] << 8, start = first ? 10 : 12;
    if (!first)
        n |= (uint64_t)head[10] << 16 | (uint64_t)head[11] << 24;
    if (n > LONGEST || n > size - start)
        return ld_fail(LD_EFORMAT, "npy '%.500s': a header of %llu bytes; the file has %llu, and %d is the most",
                       npy->path, (unsigned long long)n, (unsigned long long)size, LONGEST);
    char *header = malloc((size_t)n + 1);
    if (!header)
        return ld_fail(LD_EMEM, "npy '%.500s': out of host memory", npy->path);
    int code = read_at(npy, header, (size_t)n, start);
    const char *wrong = code ? NULL : read_header(&(text){header, header + n}, npy);
    free(header);
    if (wrong)
        return ld_fail(LD_EFORMAT, "npy '%.500s': %s", npy->path, wrong);
    npy->offset = start + n;
    return code ? code : check_size(npy, size);
}

/* A reader of which only path and fd are set. */
static ld_npy *open_file(const char *path, uint64_t *size) {
    ld_npy *npy = calloc(1, sizeof *npy);
    if (!npy || !(npy->path = strdup(path))) {
        free(npy);
        return ld_fail_null(LD_EMEM, "npy '%.500s': out of host memory", path);
    }
    struct stat st;
    npy->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer would never open */
    int code = npy->fd < 0 || fstat(npy->fd, &st) ? fail_io(path) : 0;
    if (!code && !S_ISREG(st.st_mode))
        code = ld_fail(LD_EIO, "npy '%.500s': not a regular file", path);
    if (!code) {
        *size = (uint64_t)st.st_size;
        return npy;
    }
    ld_npy_close(npy);
    return NULL;
}

ld_npy *ld_npy_open(const char *path) {
    uint64_t size;
    ld_npy *npy = open_file(path, &size);
    if (!npy || !read_all(npy, size))
        return npy;
    ld_npy_close(npy);
    return NULL;
}

ld_npy *ld_npy_open_raw(const char *path, ld_dtype t, int ndim, const int64_t *shape) {
    double numel = 1;
    for (int k = 0; k < ndim; k++)
        numel *= shape[k] > 0 ? (double)shape[k] : 0;
    if (ndim < 1 || ndim > LD_MAX_DIMS || numel < 1 || numel > 0x1p48)
        return ld_fail_null(LD_EVALUE, "npy: a shape of %s", ld_shape_text(ndim, shape));
    uint64_t size;
    ld_npy *npy = open_file(path, &size);
    if (!npy)
        return NULL;
    npy->dtype = t;
    npy->ndim = ndim;
    memcpy(npy->shape, shape, (size_t)ndim * sizeof *shape);
    if (!check_size(npy, size))
        return npy;
    ld_npy_close(npy);
    return NULL;
}

void ld_npy_close(ld_npy *npy) {
    if (!npy)
        return;
    if (npy->fd >= 0)
        close(npy->fd);
    free(npy->path);
    free(npy);
}

/* ---- rows ---- */

static int check_rows(const ld_npy *npy, int64_t first, int64_t n) {
    int64_t rows = npy->ndim ? npy->shape[0] : 1;
    if (first < 0 || n < 0 || first > rows || n > rows - first)
        return ld_fail(LD_EINDEX, "npy '%.500s': has %lld rows; asked for %lld from row %lld on", npy->path,
                       (long long)rows, (long long)n, (long long)first);
    return 0;
}

int ld_npy_read_rows(const ld_npy *npy, int64_t first, int64_t n, void *to) {
    int code = check_rows(npy, first, n);
    return code ? code : read_at(npy, to, (size_t)n * npy->row, npy->offset + (uint64_t)first * npy->row);
}

ld_tensor *ld_npy_rows(const ld_npy *npy, int64_t first, int64_t n) {
    int64_t shape[LD_MAX_DIMS], stride[LD_MAX_DIMS], step = 1;
    if (check_rows(npy, first, n))
        return NULL;
    for (int i = npy->ndim - 1; i >= 0; i--) {
        shape[i] = i ? npy->shape[i] : n;
        stride[i] = step;
        step *= shape[i];
    }
    size_t bytes = (size_t)n * npy->row;
    void *data = malloc(bytes ? bytes : 1);
    if (!data)
        return ld_fail_null(LD_EMEM, "npy '%.500s': out of host memory: %zu bytes", npy->path, bytes);
    if (read_at(npy, data, bytes, npy->offset + (uint64_t)first * npy->row)) {
        free(data);
        return NULL;
    }
    ld_tensor *raw = ld_tensor_borrow(npy->dtype, npy->ndim, shape, stride, data, bytes, free, data);
    ld_tensor *x = raw ? ld_tensor_clone(raw, "npy") : NULL;
    if (raw)
        ld_tensor_drop(raw);
    else
        free(data);
    return x;
}
