#include "io/safetensors.h"

#include "base/error.h"
#include "io/file.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    const char *name; /* inside the JSON tree */
    ld_dtype dtype;
    int ndim;
    int64_t shape[LD_MAX_DIMS];
    uint64_t first, last; /* bytes behind the header */
} entry;

struct ld_safetensors {
    ld_map map;
    cJSON *json;
    const cJSON *metadata;
    const char *data;
    uint64_t data_bytes;
    int n;
    entry *at; /* sorted by name */
};

enum { HEADER_LIMIT = 100 << 20 }; /* the format's own limit */

static const struct {
    const char *name;
    ld_dtype t;
} dtypes[] = {{"F32", LD_F32}, {"BF16", LD_BF16}, {"F16", LD_F16}, {"F64", LD_F64},
              {"I64", LD_I64}, {"I32", LD_I32},   {"U8", LD_U8},   {"BOOL", LD_U8}};

void ld_safetensors_close(ld_safetensors *s) {
    if (!s)
        return;
    free(s->at);
    cJSON_Delete(s->json);
    ld_map_close(&s->map);
    free(s);
}

static bool whole(const cJSON *v, uint64_t *out) {
    if (!cJSON_IsNumber(v) || v->valuedouble < 0 || v->valuedouble > 9007199254740992.0 ||
        v->valuedouble != (double)(uint64_t)v->valuedouble)
        return false;
    *out = (uint64_t)v->valuedouble;
    return true;
}

/* One header entry; returns what is wrong with it, or NULL. */
static const char *read_entry(const ld_safetensors *s, const cJSON *json, entry *e) {
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(json, "dtype");
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(json, "shape");
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(json, "data_offsets");
    if (!cJSON_IsString(dtype) || !cJSON_IsArray(shape) || !cJSON_IsArray(offsets))
        return "lacks dtype, shape or data_offsets";
    size_t known = sizeof dtypes / sizeof *dtypes, d = 0;
    while (d < known && strcmp(dtypes[d].name, dtype->valuestring))
        d++;
    if (d == known)
        return "has a dtype that is not F32 BF16 F16 F64 I64 I32 U8 BOOL";
    *e = (entry){.name = json->string, .dtype = dtypes[d].t};
    uint64_t n = 1, limit = (uint64_t)1 << 48;
    for (const cJSON *v = shape->child; v; v = v->next) {
        uint64_t size;
        if (e->ndim == LD_MAX_DIMS || !whole(v, &size) || (size && n > limit / size))
            return "has a shape that is not a list of at most 8 reasonable sizes";
        e->shape[e->ndim++] = (int64_t)size;
        n *= size;
    }
    if (cJSON_GetArraySize(offsets) != 2 || !whole(offsets->child, &e->first) || !whole(offsets->child->next, &e->last))
        return "has data_offsets that are not two byte positions";
    if (e->last < e->first || e->last > s->data_bytes)
        return "lies outside the file (is it truncated?)";
    if (e->last - e->first != n * ld_dtype_size(e->dtype))
        return "has as many bytes as its shape and dtype do not need";
    return NULL;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static int by_place(const void *a, const void *b) {
    const entry *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first ? 1 : x->last < y->last ? -1 : x->last > y->last;
}

static int read_entries(ld_safetensors *s, const char *path) {
    int n = cJSON_GetArraySize(s->json);
    s->at = calloc((size_t)n + 1, sizeof *s->at);
    if (!s->at)
        return ld_fail(LD_EMEM, "safetensors: out of host memory for %d entries", n);
    for (const cJSON *v = s->json->child; v; v = v->next) {
        if (!strcmp(v->string, "__metadata__")) {
            s->metadata = v;
            continue;
        }
        const char *wrong = read_entry(s, v, &s->at[s->n]);
        if (wrong)
            return ld_fail(LD_EFORMAT, "safetensors: %s: tensor '%.100s' %s", path, v->string, wrong);
        s->n++;
    }
    qsort(s->at, (size_t)s->n, sizeof *s->at, by_place);
    for (int i = 1; i < s->n; i++)
        if (s->at[i].first < s->at[i - 1].last)
            return ld_fail(LD_EFORMAT, "safetensors: %s: tensors '%.100s' and '%.100s' overlap", path,
                           s->at[i - 1].name, s->at[i].name);
    qsort(s->at, (size_t)s->n, sizeof *s->at, by_name);
    for (int i = 1; i < s->n; i++)
        if (!strcmp(s->at[i].name, s->at[i - 1].name))
            return ld_fail(LD_EFORMAT, "safetensors: %s: tensor '%.100s' stands twice", path, s->at[i].name);
    return 0;
}

static int parse(ld_safetensors *s, const char *path) {
    uint64_t length;
    if (s->map.n < 8)
        return ld_fail(LD_EFORMAT, "safetensors: %s has %zu bytes, too few for a header", path, s->map.n);
    memcpy(&length, s->map.data, 8);
    if (length > HEADER_LIMIT || length > s->map.n - 8)
        return ld_fail(LD_EFORMAT,
                       "safetensors: %s says its header has %" PRIu64 " bytes; the file has %zu (truncated, or no "
                       "safetensors file)",
                       path, length, s->map.n);
    const char *text = (const char *)s->map.data + 8;
    s->data = text + length;
    s->data_bytes = s->map.n - 8 - length;
    s->json = cJSON_ParseWithLength(text, length);
    if (!cJSON_IsObject(s->json))
        return ld_fail(LD_EFORMAT, "safetensors: %s: the header is no JSON object", path);
    return read_entries(s, path);
}

ld_safetensors *ld_safetensors_open(const char *path) {
    ld_safetensors *s = calloc(1, sizeof *s);
    if (!s)
        return ld_fail_null(LD_EMEM, "safetensors: out of host memory");
    if (ld_map_open(&s->map, path) || parse(s, path)) {
        ld_safetensors_close(s);
        return NULL;
    }
    return s;
}

int ld_safetensors_count(const ld_safetensors *s) {
    return s->n;
}

const char *ld_safetensors_name(const ld_safetensors *s, int i) {
    return s->at[i].name;
}

int ld_safetensors_find(const ld_safetensors *s, const char *name) {
    entry key = {.name = name};
    entry *e = bsearch(&key, s->at, (size_t)s->n, sizeof *s->at, by_name);
    return e ? (int)(e - s->at) : -1;
}

int ld_safetensors_shape(const ld_safetensors *s, int i, int64_t shape[LD_MAX_DIMS], ld_dtype *t) {
    memcpy(shape, s->at[i].shape, sizeof s->at[i].shape);
    *t = s->at[i].dtype;
    return s->at[i].ndim;
}

/* A row-major view of raw bytes. */
static ld_view raw_view(ld_dtype t, int ndim, const int64_t *shape, void *data) {
    ld_view v = {.dtype = t, .ndim = ndim, .data = data};
    int64_t step = 1;
    for (int k = ndim - 1; k >= 0; k--) {
        v.shape[k] = shape[k];
        v.stride[k] = step;
        step *= shape[k];
    }
    return v;
}

ld_tensor *ld_safetensors_tensor(const ld_safetensors *s, int i) {
    const entry *e = &s->at[i];
    size_t bytes = e->last - e->first;
    ld_tensor *x = ld_tensor_new(ld_device_find("cpu"), e->dtype, e->ndim, e->shape, "safetensors");
    if (!x)
        return NULL;
    void *aligned = malloc(bytes ? bytes : 1); /* the file promises no alignment */
    if (!aligned) {
        ld_tensor_drop(x);
        return ld_fail_null(LD_EMEM, "safetensors: out of host memory for '%s'", e->name);
    }
    memcpy(aligned, s->data + e->first, bytes);
    ld_view from = raw_view(e->dtype, e->ndim, e->shape, aligned);
    int bad = x->storage->device->backend->copy(LD_VIEW(x), &from);
    free(aligned);
    if (bad) {
        ld_tensor_drop(x);
        return NULL;
    }
    return x;
}

const char *ld_safetensors_metadata(const ld_safetensors *s, int i, const char **value) {
    const cJSON *v = s->metadata ? s->metadata->child : NULL;
    while (v && i--)
        v = v->next;
    if (!v)
        return NULL;
    *value = cJSON_IsString(v) ? v->valuestring : "";
    return v->string;
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

static const char *dtype_text(ld_dtype t) {
    size_t d = 0;
    while (dtypes[d].t != t)
        d++;
    return dtypes[d].name;
}

static char *header_text(const char *const *names, ld_tensor *const *xs, int n, const char *const *metadata) {
    cJSON *top = cJSON_CreateObject();
    if (metadata && *metadata) {
        cJSON *m = cJSON_AddObjectToObject(top, "__metadata__");
        for (; metadata[0] && metadata[1]; metadata += 2)
            cJSON_AddStringToObject(m, metadata[0], metadata[1]);
    }
    uint64_t at = 0;
    for (int i = 0; i < n; i++) {
        cJSON *e = cJSON_AddObjectToObject(top, names[i]);
        cJSON_AddStringToObject(e, "dtype", dtype_text(xs[i]->dtype));
        cJSON *shape = cJSON_AddArrayToObject(e, "shape");
        for (int k = 0; k < xs[i]->ndim; k++)
            cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)xs[i]->shape[k]));
        uint64_t end = at + (uint64_t)ld_tensor_numel(xs[i]) * ld_dtype_size(xs[i]->dtype);
        double offsets[2] = {(double)at, (double)end};
        cJSON_AddItemToObject(e, "data_offsets", cJSON_CreateDoubleArray(offsets, 2));
        at = end;
    }
    char *text = cJSON_PrintUnformatted(top);
    cJSON_Delete(top);
    return text;
}

int ld_safetensors_write(const char *path, const char *const *names, ld_tensor *const *xs, int n,
                         const char *const *metadata) {
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++)
            if (!strcmp(names[i], names[k]))
                return ld_fail(LD_EVALUE, "safetensors: '%s' is given twice", names[i]);
    char *text = header_text(names, xs, n, metadata);
    if (!text)
        return ld_fail(LD_EMEM, "safetensors: out of host memory for the header");
    uint64_t length = (strlen(text) + 7) & ~(uint64_t)7, total = 8 + length;
    for (int i = 0; i < n; i++)
        total += (uint64_t)ld_tensor_numel(xs[i]) * ld_dtype_size(xs[i]->dtype);
    char *all = malloc(total);
    if (!all) {
        cJSON_free(text);
        return ld_fail(LD_EMEM, "safetensors: out of host memory for %" PRIu64 " bytes", total);
    }
    memcpy(all, &length, 8);
    memset(all + 8, ' ', length);
    memcpy(all + 8, text, strlen(text));
    cJSON_free(text);
    char *at = all + 8 + length;
    int bad = 0;
    for (int i = 0; i < n && !bad; i++) {
        size_t bytes = (size_t)ld_tensor_numel(xs[i]) * ld_dtype_size(xs[i]->dtype);
        void *row_major = malloc(bytes ? bytes : 1);
        ld_view to = raw_view(xs[i]->dtype, xs[i]->ndim, xs[i]->shape, row_major);
        ld_tensor *host = ld_tensor_host(xs[i], "safetensors");
        bad = !host       ? ld_error_code()
              : row_major ? host->storage->device->backend->copy(&to, LD_VIEW(host))
                          : ld_fail(LD_EMEM, "safetensors: out of host memory");
        if (!bad)
            memcpy(at, row_major, bytes);
        free(row_major);
        ld_tensor_drop(host);
        at += bytes;
    }
    if (!bad)
        bad = ld_file_write(path, all, total);
    free(all);
    return bad;
}
