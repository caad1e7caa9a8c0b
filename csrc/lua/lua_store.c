/* Latent stores in Lua: making them, reading them, batches of them for training. Rows and positions count from 1 here. */
#include "lua/ldl.h"

#include "data/latent_store.h"
#include "data/source.h"
#include "io/file.h"

#include <stdlib.h>
#include <string.h>

#define CLASS_WRITER "ld.store_writer"

/* ---- creating ------------------------------------------------------------------------------------------------------- */

/* Where names come from: a source, or else a function or a list at this stack index. */
typedef struct names {
    lua_State *L;
    int at;
    ld_source *source;
    char text[LD_PATH_MAX];
} names;

static const char *name_of(void *arg, int64_t i) {
    const names *n = arg;
    lua_State *L = n->L;
    lua_settop(L, n->at);
    if (lua_isfunction(L, n->at)) {
        lua_pushvalue(L, n->at);
        lua_pushnumber(L, (lua_Number)(i + 1));
        if (lua_pcall(L, 1, 1, 0)) {
            ld_fail(LD_EVALUE, "latents: the name of picture %lld: %s", (long long)i + 1,
                    lua_isstring(L, -1) ? lua_tostring(L, -1) : "an error");
            return NULL;
        }
    } else {
        lua_rawgeti(L, n->at, (int)(i + 1));
    }
    if (lua_type(L, -1) == LUA_TSTRING)
        return lua_tostring(L, -1); /* which stays on the stack until the next call */
    ld_fail(LD_EVALUE, "latents: the name of picture %lld is %s, not a string", (long long)i + 1, luaL_typename(L, -1));
    return NULL;
}

static const char *name_of_picture(void *arg, int64_t i) {
    names *n = arg;
    return ld_source_name(n->source, i, n->text, sizeof n->text);
}

/* The list of strings in field `key` of the table at i, whose elements the table keeps alive. */
static const char *const *string_list(lua_State *L, int i, const char *key, int *n, const char *who) {
    lua_getfield(L, i, key);
    *n = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0;
    const char **list = lua_newuserdata(L, ((size_t)*n + 1) * sizeof *list);
    for (int k = 0; k < *n; k++) {
        lua_rawgeti(L, -2, k + 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            ldl_error(L, "%s: entry %d of %s is %s, not a string", who, k + 1, key, luaL_typename(L, -1));
        list[k] = lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    return list; /* the list and the table stay on the stack */
}

/* {{key, string or number}, ...} in field `attributes` */
static void attributes(lua_State *L, int i, ld_latent_spec *spec, const char *who) {
    lua_getfield(L, i, "attributes");
    int n = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0;
    ld_latent_attribute *list = lua_newuserdata(L, ((size_t)n + 1) * sizeof *list);
    for (int k = 0; k < n; k++) {
        lua_rawgeti(L, -2, k + 1);
        if (!lua_istable(L, -1))
            ldl_error(L, "%s: attribute %d is %s, not {key, value}", who, k + 1, luaL_typename(L, -1));
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        bool text = lua_type(L, -1) == LUA_TSTRING;
        if (lua_type(L, -2) != LUA_TSTRING || !(text || lua_type(L, -1) == LUA_TNUMBER))
            ldl_error(L, "%s: attribute %d is no name with a string or a number", who, k + 1);
        list[k] = (ld_latent_attribute){.key = lua_tostring(L, -2),
                                        .text = text ? lua_tostring(L, -1) : NULL,
                                        .number = text ? 0 : lua_tonumber(L, -1)};
        lua_pop(L, 3);
    }
    spec->attribute = list;
    spec->n_attributes = n;
}

/* store_create(part, {count, channels, height, width, dtype = 'f16', moments, mirrored, shards = 0, batch = 1,
 * classes = {strings}, name = source, function(i) or {strings}, attributes = {{key, value}, ...}}) */
static int l_create(lua_State *L) {
    static const char who[] = "store_create";
    lua_settop(L, 2);
    const char *part = ldl_string(L, 1, who, "the path");
    ldl_options(L, 2, who, "count channels height width dtype moments mirrored shards batch classes name attributes");
    ld_latent_spec s = {.count = ldl_field_int(L, 2, "count", 0, who),
                        .channels = (int)ldl_field_int(L, 2, "channels", 4, who),
                        .height = (int)ldl_field_int(L, 2, "height", 0, who),
                        .width = (int)ldl_field_int(L, 2, "width", 0, who),
                        .dtype = ldl_field_dtype(L, 2, LD_F16, who),
                        .moments = ldl_field_bool(L, 2, "moments", false, who),
                        .mirrored = ldl_field_bool(L, 2, "mirrored", false, who),
                        .shards = (int)ldl_field_int(L, 2, "shards", 0, who),
                        .batch = (int)ldl_field_int(L, 2, "batch", 1, who)};
    s.classes = string_list(L, 2, "classes", &s.n_classes, who);
    attributes(L, 2, &s, who);
    lua_getfield(L, 2, "name");
    names n = {.L = L, .at = lua_gettop(L)};
    if (lua_isuserdata(L, -1))
        n.source = ldl_object(L, -1, LDL_SOURCE, who);
    else if (!lua_isfunction(L, -1) && !lua_istable(L, -1))
        ldl_error(L, "%s: name must be a source, a function or a list, not %s", who, luaL_typename(L, -1));
    s.name = n.source ? name_of_picture : name_of;
    s.name_arg = &n;
    if (!lua_checkstack(L, 8))
        ldl_error(L, "%s: the stack is full", who);
    ldl_ok(L, ld_latent_create(part, &s));
    return 0;
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

static int l_writer(lua_State *L) {
    ldl_install_where(L);
    ldl_push_object(L, ld_latent_writer_open(ldl_string(L, 1, "store_writer", "the path")), CLASS_WRITER);
    return 1;
}

/* Field `key` of the table at i, a list or a tensor of n whole numbers, into a new block on the stack; NULL when absent. */
static double *numbers(lua_State *L, int i, const char *key, int n, const char *who) {
    lua_getfield(L, i, key);
    if (lua_isnil(L, -1))
        return NULL;
    if (ldl_is_tensor(L, -1)) {
        lua_getfield(L, -1, "tolist");
        lua_pushvalue(L, -2);
        lua_call(L, 1, 1);
    }
    if (!lua_istable(L, -1) || (int)lua_objlen(L, -1) != n)
        ldl_error(L, "%s: %s must be a list or a tensor of %d numbers", who, key, n);
    double *out = lua_newuserdata(L, ((size_t)n + 1) * sizeof *out);
    for (int k = 0; k < n; k++) {
        lua_rawgeti(L, -2, k + 1);
        if (lua_type(L, -1) != LUA_TNUMBER)
            ldl_error(L, "%s: entry %d of %s is %s, not a number", who, k + 1, key, luaL_typename(L, -1));
        out[k] = lua_tonumber(L, -1);
        lua_pop(L, 1);
    }
    return out;
}

/* w:put(first, {mean, logvar, mirrored_mean, mirrored_logvar (tensors), label, valid, crc32 (lists or tensors)}) */
static int l_put(lua_State *L) {
    static const char who[] = "put", *const set[] = {"mean", "logvar", "mirrored_mean", "mirrored_logvar"};
    ld_latent_writer *w = ldl_object(L, 1, CLASS_WRITER, who);
    ld_latent_rows r = {.first = ldl_int(L, 2, who, "the first row") - 1};
    ldl_options(L, 3, who, "mean logvar mirrored_mean mirrored_logvar label valid crc32");
    for (int k = 0; k < LD_LATENT_SETS; k++)
        r.set[k] = ldl_field_tensor(L, 3, set[k], who);
    r.count = r.set[0] && r.set[0]->ndim > 0 ? (int)r.set[0]->shape[0] : 0;
    double *label = numbers(L, 3, "label", r.count, who), *valid = numbers(L, 3, "valid", r.count, who);
    double *crc = numbers(L, 3, "crc32", r.count, who);
    size_t n = (size_t)r.count + 1;
    int32_t *labels = lua_newuserdata(L, n * sizeof *labels);
    uint8_t *valids = lua_newuserdata(L, n);
    uint32_t *crcs = lua_newuserdata(L, n * sizeof *crcs);
    for (int i = 0; i < r.count; i++) {
        if (label && !(label[i] >= -1 && label[i] <= INT32_MAX && label[i] == (int32_t)label[i]))
            ldl_error(L, "%s: label %d is %g; a class from 0, or -1 for none, is needed", who, i + 1, label[i]);
        if (crc && !(crc[i] >= 0 && crc[i] <= UINT32_MAX))
            ldl_error(L, "%s: crc32 %d is %g", who, i + 1, crc[i]);
        labels[i] = label ? (int32_t)label[i] : -1;
        valids[i] = valid ? valid[i] != 0 : 1;
        crcs[i] = crc ? (uint32_t)crc[i] : 0;
    }
    r.label = labels, r.valid = valids, r.crc32 = crcs;
    ldl_ok(L, ld_latent_writer_put(w, &r));
    return 0;
}

static int l_flush(lua_State *L) {
    ldl_ok(L, ld_latent_writer_flush(ldl_object(L, 1, CLASS_WRITER, "flush")));
    return 0;
}

static int l_done_count(lua_State *L) {
    lua_pushnumber(L, (lua_Number)ld_latent_writer_done_count(ldl_object(L, 1, CLASS_WRITER, "done_count")));
    return 1;
}

/* w:done(): the bits of finished rows, for core.pipeline; they are the writer's */
static int l_done(lua_State *L) {
    ld_latent_writer *w = ldl_object(L, 1, CLASS_WRITER, "done");
    lua_pushlightuserdata(L, (void *)(uintptr_t)ld_latent_writer_done(w));
    return 1;
}

/* w:is_done(row) */
static int l_is_done(lua_State *L) {
    ld_latent_writer *w = ldl_object(L, 1, CLASS_WRITER, "is_done");
    int64_t row = ldl_int(L, 2, "is_done", "the row") - 1;
    if (row < 0 || row >= ld_latent_writer_count(w))
        ldl_error(L, "is_done: row %lld of a store of %lld", (long long)row + 1, (long long)ld_latent_writer_count(w));
    lua_pushboolean(L, ld_latent_writer_done(w)[row / 8] >> row % 8 & 1);
    return 1;
}

/* w:stats(): {waiting (puts), bytes (of them), room (bytes at most), wait (seconds that put and flush waited)} */
static int l_stats(lua_State *L) {
    ld_latent_writer_stats s;
    ld_latent_writer_state(ldl_object(L, 1, CLASS_WRITER, "stats"), &s);
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, s.waiting);
    lua_setfield(L, -2, "waiting");
    lua_pushnumber(L, (lua_Number)s.bytes);
    lua_setfield(L, -2, "bytes");
    lua_pushnumber(L, (lua_Number)s.room);
    lua_setfield(L, -2, "room");
    lua_pushnumber(L, s.wait);
    lua_setfield(L, -2, "wait");
    return 1;
}

static int l_finish(lua_State *L) {
    ldl_ok(L, ld_latent_writer_finish(ldl_object(L, 1, CLASS_WRITER, "finish")));
    return 0;
}

/* w:close(): flushes; a writer closed by the collector keeps its errors to itself */
static int l_close(lua_State *L) {
    void **p = luaL_checkudata(L, 1, CLASS_WRITER);
    ld_latent_writer *w = *p;
    *p = NULL;
    ldl_install_where(L);
    ldl_ok(L, ld_latent_writer_close(w));
    return 0;
}

static int l_writer_gc(lua_State *L) {
    void **p = lua_touserdata(L, 1);
    ld_latent_writer_close(*p);
    *p = NULL;
    return 0;
}

void ldl_open_store(lua_State *L) {
    static const luaL_Reg writer[] = {{"put", l_put},       {"flush", l_flush},     {"done_count", l_done_count},
                                      {"done", l_done},     {"is_done", l_is_done}, {"stats", l_stats},
                                      {"finish", l_finish}, {"close", l_close},     {"__gc", l_writer_gc},
                                      {NULL, NULL}};
    static const luaL_Reg functions[] = {{"store_create", l_create}, {"store_writer", l_writer}, {NULL, NULL}};
    ldl_class(L, CLASS_WRITER, writer);
    luaL_register(L, NULL, functions);
}
