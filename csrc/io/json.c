#include "io/json.h"

#include "base/error.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ld_json {
    cJSON *top;
    char *text;
    const cJSON *at; /* reading: the next value, or NULL at the end of the innermost container */
    int depth;
    cJSON *open[LD_JSON_DEPTH]; /* containers begun and not ended, innermost last */
};

static ld_json *document(void) {
    ld_json *j = calloc(1, sizeof *j);
    return j ? j : ld_fail_null(LD_EMEM, "json: out of host memory");
}

void ld_json_close(ld_json *j) {
    if (!j)
        return;
    cJSON_Delete(j->top);
    cJSON_free(j->text);
    free(j);
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

ld_json *ld_json_parse(const char *text, size_t n) {
    ld_json *j = document();
    const char *end = text;
    if (!j)
        return NULL;
    j->top = cJSON_ParseWithLengthOpts(text, n, &end, 0);
    size_t used = (size_t)(end - text);
    while (j->top && used < n && strchr(" \t\r\n", text[used]) && text[used])
        used++;
    if (!j->top || used < n) {
        ld_json_close(j);
        return ld_fail_null(LD_EFORMAT, "json: the text is no JSON at byte %zu of %zu", used + 1, n);
    }
    j->at = j->top;
    return j;
}

bool ld_json_next(ld_json *j, ld_json_event *e) {
    const cJSON *v = j->at;
    if (!v && !j->depth)
        return false;
    if (!v) {
        *e = (ld_json_event){.kind = LD_JSON_END};
        j->at = j->open[--j->depth];
        j->at = j->depth ? j->at->next : NULL;
        return true;
    }
    bool container = cJSON_IsArray(v) || cJSON_IsObject(v);
    *e = (ld_json_event){.key = v->string};
    if (container) {
        e->kind = cJSON_IsArray(v) ? LD_JSON_ARRAY : LD_JSON_OBJECT;
    } else if (cJSON_IsNumber(v)) {
        e->kind = LD_JSON_NUMBER;
        e->number = v->valuedouble;
    } else if (cJSON_IsString(v)) {
        e->kind = LD_JSON_STRING;
        e->text = v->valuestring;
    } else {
        e->kind = cJSON_IsTrue(v) ? LD_JSON_TRUE : cJSON_IsFalse(v) ? LD_JSON_FALSE : LD_JSON_NULL;
    }
    if (container) /* the parser's own limit is LD_JSON_DEPTH */
        j->open[j->depth++] = (cJSON *)v;
    j->at = container ? v->child : j->depth ? v->next : NULL;
    return true;
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

ld_json *ld_json_new(void) {
    return document();
}

/* The shortest digits that are v again when read: cJSON's own may lose the last bit. */
static cJSON *number(double v) {
    char s[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, v);
        if (strtod(s, NULL) == v)
            break;
    }
    return cJSON_CreateRaw(s);
}

static cJSON *made(const ld_json_event *e) {
    switch (e->kind) {
    case LD_JSON_NUMBER:
        return number(e->number);
    case LD_JSON_STRING:
        return cJSON_CreateString(e->text);
    case LD_JSON_ARRAY:
        return cJSON_CreateArray();
    case LD_JSON_OBJECT:
        return cJSON_CreateObject();
    case LD_JSON_NULL:
        return cJSON_CreateNull();
    default:
        return cJSON_CreateBool(e->kind == LD_JSON_TRUE);
    }
}

int ld_json_add(ld_json *j, const ld_json_event *e) {
    if (e->kind == LD_JSON_END)
        return j->depth ? (j->depth--, 0) : ld_fail(LD_ESTATE, "json: nothing to end");
    bool container = e->kind == LD_JSON_ARRAY || e->kind == LD_JSON_OBJECT;
    cJSON *in = j->depth ? j->open[j->depth - 1] : NULL;
    if (!in && j->top)
        return ld_fail(LD_ESTATE, "json: a second value; one was expected");
    if (in && cJSON_IsObject(in) && !e->key)
        return ld_fail(LD_ESTATE, "json: a value without a name in an object");
    if (container && j->depth == LD_JSON_DEPTH)
        return ld_fail(LD_EVALUE, "json: values are nested deeper than %d", LD_JSON_DEPTH);
    if (e->kind == LD_JSON_NUMBER && !isfinite(e->number))
        return ld_fail(LD_EVALUE, "json: %g has no place in JSON", e->number);
    cJSON *v = made(e);
    bool added =
        v && (!in || (cJSON_IsObject(in) ? cJSON_AddItemToObject(in, e->key, v) : cJSON_AddItemToArray(in, v)));
    if (!added) {
        cJSON_Delete(v);
        return ld_fail(LD_EMEM, "json: out of host memory");
    }
    if (!in)
        j->top = v;
    if (container)
        j->open[j->depth++] = v;
    return 0;
}

const char *ld_json_text(ld_json *j, bool pretty) {
    if (!j->top || j->depth)
        return ld_fail_null(LD_ESTATE, "json: the value is not complete");
    cJSON_free(j->text);
    j->text = pretty ? cJSON_Print(j->top) : cJSON_PrintUnformatted(j->top);
    return j->text ? j->text : ld_fail_null(LD_EMEM, "json: out of host memory");
}
