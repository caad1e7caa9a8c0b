/* The pipeline from a source to batches of pixels, in Lua. */
#include "lua/ldl.h"

#include "data/pipeline.h"

#include <string.h>

#define CLASS "ld.pipeline"

/* A whole number from least up that fits an int. */
static int count_field(lua_State *L, int i, const char *key, int otherwise, int least, const char *who) {
    int64_t n = ldl_field_int(L, i, key, otherwise, who);
    if (n < least || n > 1 << 24)
        ldl_error(L, "%s: %s is %lld; %d to %d are possible", who, key, (long long)n, least, 1 << 24);
    return (int)n;
}

/* The bitmap `done` of the options: a light userdata, or a string that is long enough; NULL for nil. */
static const uint8_t *done_field(lua_State *L, int i, int64_t count, const char *who) {
    lua_getfield(L, i, "done"); /* stays on the stack: a string must live until it has been copied */
    if (lua_type(L, -1) != LUA_TSTRING) {
        if (!lua_isnil(L, -1) && !lua_islightuserdata(L, -1))
            ldl_error(L, "%s: done is a %s; a pointer to a bitmap or a string was needed", who, luaL_typename(L, -1));
        return lua_touserdata(L, -1);
    }
    size_t n;
    const char *bits = lua_tolstring(L, -1, &n);
    if ((int64_t)n < (count + 7) / 8)
        ldl_error(L, "%s: done has %zu bytes; %lld pictures need %lld", who, n, (long long)count,
                  (long long)(count + 7) / 8);
    return (const uint8_t *)bits;
}

/* pipeline(source, {size = 256, transform = 'adm', exif = false, batch = 16, count, readers, decoders, ahead, raw_bytes,
 * done}), as in data/pipeline.h: done, a light userdata or a string, is a bitmap of the rows that are not wanted */
static int l_pipeline(lua_State *L) {
    static const char who[] = "pipeline";
    ldl_install_where(L);
    ld_source *s = ldl_object(L, 1, LDL_SOURCE, who);
    ldl_options(L, 2, who, "size transform exif batch count readers decoders ahead raw_bytes done");
    ld_pipeline_options o = {.size = count_field(L, 2, "size", 256, 1, who),
                             .transform = ldl_field_transform(L, 2, who),
                             .exif = ldl_field_bool(L, 2, "exif", false, who),
                             .batch = count_field(L, 2, "batch", 16, 1, who),
                             .count = ldl_field_int(L, 2, "count", 0, who),
                             .readers = count_field(L, 2, "readers", 0, 0, who),
                             .decoders = count_field(L, 2, "decoders", 0, 0, who),
                             .ahead = count_field(L, 2, "ahead", 0, 0, who),
                             .raw_bytes = (size_t)ldl_field_int(L, 2, "raw_bytes", 0, who)};
    o.done = done_field(L, 2, o.count > 0 ? o.count : ld_source_count(s), who);
    ldl_push_object(L, ld_pipeline_new(s, &o), CLASS);
    return 1;
}

/* A new tensor of `count` numbers in field `key` of the table on top: where its numbers lie. */
static void *number_field(lua_State *L, const char *key, ld_dtype type, int count) {
    int64_t shape[1] = {count};
    ld_tensor *x = ld_tensor_new(ld_device_find("cpu"), type, 1, shape, "pipeline");
    ldl_push(L, x);
    lua_setfield(L, -2, key);
    return ld_tensor_data(x);
}

/* The ld_batch at index 1 as a table; its own memory is freed by the caller. */
static int push_batch(lua_State *L) {
    ld_batch *b = lua_touserdata(L, 1);
    size_t n = (size_t)b->count;
    lua_createtable(L, 0, 7);
    lua_pushnumber(L, (lua_Number)b->first + 1);
    lua_setfield(L, -2, "first");
    lua_pushinteger(L, b->count);
    lua_setfield(L, -2, "count");
    ldl_push(L, ld_tensor_ref(b->x));
    lua_setfield(L, -2, "x");
    memcpy(number_field(L, "label", LD_I32, b->count), b->label, n * sizeof *b->label);
    memcpy(number_field(L, "valid", LD_U8, b->count), b->valid, n);
    int64_t *crc32 = number_field(L, "crc32", LD_I64, b->count);
    bool bad = false;
    for (int i = 0; i < b->count; i++) {
        crc32[i] = b->crc32[i];
        bad = bad || b->why[i];
    }
    if (!bad)
        return 1;
    lua_newtable(L);
    for (int i = 0; i < b->count; i++)
        if (b->why[i]) {
            lua_pushstring(L, b->why[i]);
            lua_rawseti(L, -2, i + 1);
        }
    lua_setfield(L, -2, "bad");
    return 1;
}

/* p:next(seconds): nil at the end; false when no batch is ready within `seconds` (default: wait for it); else {first (from
 * 1), count, x (count,3,size,size) u8, label i32, valid u8, crc32 i64, bad = {[position] = reason} or nil} */
static int l_next(lua_State *L) {
    ld_pipeline *p = ldl_object(L, 1, CLASS, "next");
    if (!lua_isnoneornil(L, 2)) {
        int ready = ld_pipeline_wait(p, ldl_number(L, 2, "next", "the time to wait"));
        if (ready < 0)
            return ldl_raise(L);
        if (!ready) {
            lua_pushboolean(L, 0);
            return 1;
        }
    }
    ld_batch b;
    int got = ld_pipeline_next(p, &b);
    if (got < 0)
        return ldl_raise(L);
    if (!got)
        return 0;
    lua_pushcfunction(L, push_batch); /* under pcall: b must be freed whatever happens */
    lua_pushlightuserdata(L, &b);
    int wrong = lua_pcall(L, 1, 1, 0);
    ld_batch_free(&b);
    return wrong ? lua_error(L) : 1;
}

/* p:stats(): numbers by name, as in data/pipeline.h */
static int l_stats(lua_State *L) {
    ld_pipeline_stats s;
    ld_pipeline_state(ldl_object(L, 1, CLASS, "stats"), &s);
    const struct {
        const char *name;
        double value;
    } field[] = {{"raw", s.raw},
                 {"raw_room", s.raw_room},
                 {"ready", s.ready},
                 {"ready_room", s.ready_room},
                 {"readers", s.readers},
                 {"decoders", s.decoders},
                 {"left", (double)s.left},
                 {"read", (double)s.read},
                 {"decoded", (double)s.decoded},
                 {"bad", (double)s.bad},
                 {"read_wait", s.read_wait},
                 {"decode_wait", s.decode_wait},
                 {"take_wait", s.take_wait},
                 {"held", (double)s.held},
                 {"memory", (double)s.memory}};
    lua_createtable(L, 0, (int)(sizeof field / sizeof *field));
    for (size_t i = 0; i < sizeof field / sizeof *field; i++) {
        lua_pushnumber(L, field[i].value);
        lua_setfield(L, -2, field[i].name);
    }
    return 1;
}

/* p:close(): stops the threads; may be called again. */
static int l_close(lua_State *L) {
    ld_pipeline **p = luaL_checkudata(L, 1, CLASS);
    ld_pipeline_drop(*p);
    *p = NULL;
    return 0;
}

void ldl_open_pipeline(lua_State *L) {
    static const luaL_Reg methods[] = {
        {"next", l_next}, {"stats", l_stats}, {"close", l_close}, {"__gc", l_close}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"pipeline", l_pipeline}, {NULL, NULL}};
    ldl_class(L, CLASS, methods);
    luaL_register(L, NULL, functions);
}
