/* Latents as data sets in Lua, and batches of them for training. Rows and positions count from 1 here, classes from 0. */
#include "lua/ldl.h"

#include "data/loader.h"

#include <string.h>

#define CLASS        "ld.latents"
#define CLASS_LOADER "ld.loader"

static ld_latents *self(lua_State *L, const char *who) {
    return ldl_object(L, 1, CLASS, who);
}

static void set_number(lua_State *L, const char *key, double v) {
    lua_pushnumber(L, (lua_Number)v);
    lua_setfield(L, -2, key);
}

static void set_bool(lua_State *L, const char *key, bool v) {
    lua_pushboolean(L, v);
    lua_setfield(L, -2, key);
}

static void set_list(lua_State *L, const char *key, const double *v, int n) {
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        lua_pushnumber(L, v[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, key);
}

/* store_open(path, unfinished = false): the valid rows of a store */
static int l_open(lua_State *L) {
    ldl_install_where(L);
    ld_latent_store *s = ld_latent_store_open(ldl_string(L, 1, "latents", "the path"), lua_toboolean(L, 2));
    ld_latents *d = s ? ld_latents_new(s) : NULL;
    ld_latent_store_drop(s);
    ldl_push_object(L, d, CLASS);
    return 1;
}

static int l_count(lua_State *L) {
    lua_pushnumber(L, (lua_Number)ld_latents_count(self(L, "count")));
    return 1;
}

/* d:row(position): its row in the store */
static int l_row(lua_State *L) {
    const ld_latents *d = self(L, "row");
    int64_t i = ldl_int(L, 2, "row", "the position");
    if (i < 1 || i > ld_latents_count(d))
        ldl_error(L, "latents: position %lld of a set of %lld", (long long)i, (long long)ld_latents_count(d));
    lua_pushnumber(L, (lua_Number)(ld_latents_row(d, i - 1) + 1));
    return 1;
}

/* d:part(first, count, seed): positions from `first` on, of a random order by `seed` when that is given */
static int l_part(lua_State *L) {
    const ld_latents *d = self(L, "part");
    int64_t first = ldl_int(L, 2, "part", "the first position"), count = ldl_int(L, 3, "part", "the count");
    bool shuffled = !lua_isnoneornil(L, 4);
    uint64_t seed = shuffled ? (uint64_t)ldl_int(L, 4, "part", "the seed") : 0;
    ldl_push_object(L, ld_latents_part(d, first - 1, count, shuffled, seed), CLASS);
    return 1;
}

/* d:before(row): how many valid rows of the store there are before it */
static int l_before(lua_State *L) {
    const ld_latents *d = self(L, "before");
    lua_pushnumber(L, (lua_Number)ld_latent_store_before(ld_latents_store(d), ldl_int(L, 2, "before", "the row") - 1));
    return 1;
}

/* d:get({positions}): x (n,C,h,w) f32, label (n) i64 */
static int l_get(lua_State *L) {
    const ld_latents *d = self(L, "get");
    luaL_checktype(L, 2, LUA_TTABLE);
    int n = (int)lua_objlen(L, 2);
    int64_t *at = lua_newuserdata(L, ((size_t)n + 1) * sizeof *at);
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, 2, i + 1);
        at[i] = ldl_int(L, lua_gettop(L), "latents", "a position") - 1;
        lua_pop(L, 1);
    }
    ld_tensor *x, *label;
    ldl_ok(L, ld_latents_get(d, at, n, &x, &label));
    ldl_push(L, x);
    ldl_push(L, label);
    return 2;
}

/* d:info(): of its store: {path, count, done, valid, shape = {C,h,w}, dtype, moments, mirrored, complete, batch, shards,
 * disk_bytes, bytes (in memory), resident} */
static int l_info(lua_State *L) {
    ld_latent_store *s = ld_latents_store(self(L, "info"));
    const ld_latent_info *info = ld_latent_store_info(s);
    lua_createtable(L, 0, 16);
    lua_pushstring(L, info->path);
    lua_setfield(L, -2, "path");
    lua_pushstring(L, ld_dtype_names[info->dtype]);
    lua_setfield(L, -2, "dtype");
    ldl_push_shape(L, 3, (int64_t[]){info->channels, info->height, info->width});
    lua_setfield(L, -2, "shape");
    set_number(L, "count", (double)info->count);
    set_number(L, "done", (double)info->done);
    set_number(L, "valid", (double)info->valid);
    set_number(L, "batch", info->batch);
    set_number(L, "shards", info->shards);
    set_number(L, "disk_bytes", (double)info->disk_bytes);
    set_number(L, "bytes", (double)ld_latent_store_bytes(s));
    set_bool(L, "moments", info->set[LD_LATENT_LOGVAR]);
    set_bool(L, "mirrored", info->set[LD_LATENT_MIRRORED_MEAN]);
    set_bool(L, "complete", info->complete);
    set_bool(L, "resident", ld_latent_store_loaded(s));
    return 1;
}

/* d:statistics(): {mean, std} by channel as the store has them */
static int l_statistics(lua_State *L) {
    ld_latent_store *s = ld_latents_store(self(L, "statistics"));
    double mean[64], std[64];
    ldl_ok(L, ld_latent_store_statistics(s, mean, std));
    lua_createtable(L, 0, 2);
    set_list(L, "mean", mean, ld_latent_store_info(s)->channels);
    set_list(L, "std", std, ld_latent_store_info(s)->channels);
    return 1;
}

/* d:measure(): {rows, mean, std, min, max, bad (the first row that is not finite, or nil)} over the store's valid rows */
static int l_measure(lua_State *L) {
    ld_latent_store *s = ld_latents_store(self(L, "measure"));
    int n = ld_latent_store_info(s)->channels;
    ld_latent_statistics m;
    ldl_ok(L, ld_latent_store_measure(s, &m));
    lua_createtable(L, 0, 6);
    set_number(L, "rows", (double)m.rows);
    set_list(L, "mean", m.mean, n);
    set_list(L, "std", m.std, n);
    set_list(L, "min", m.min, n);
    set_list(L, "max", m.max, n);
    if (m.bad >= 0)
        set_number(L, "bad", (double)m.bad + 1);
    return 1;
}

static int64_t row_arg(lua_State *L, const ld_latent_store *s, const char *who) {
    int64_t row = ldl_int(L, 2, who, "the row"), count = ld_latent_store_info(s)->count;
    if (row < 1 || row > count)
        ldl_error(L, "latents: row %lld of a store of %lld", (long long)row, (long long)count);
    return row - 1;
}

/* d:name(row) */
static int l_name(lua_State *L) {
    const ld_latent_store *s = ld_latents_store(self(L, "name"));
    char name[4096];
    ldl_ok(L, ld_latent_store_name(s, row_arg(L, s, "name"), name, sizeof name));
    lua_pushstring(L, name);
    return 1;
}

/* d:label(row) */
static int l_label(lua_State *L) {
    const ld_latent_store *s = ld_latents_store(self(L, "label"));
    lua_pushinteger(L, ld_latent_store_label(s, row_arg(L, s, "label")));
    return 1;
}

/* d:crc32(row) */
static int l_crc32(lua_State *L) {
    const ld_latent_store *s = ld_latents_store(self(L, "crc32"));
    int64_t crc;
    ldl_ok(L, ld_latent_store_crc32(s, row_arg(L, s, "crc32"), 1, &crc));
    lua_pushnumber(L, (lua_Number)crc);
    return 1;
}

/* d:bad(most = 10): the first rows that were written and are not valid */
static int l_bad(lua_State *L) {
    const ld_latent_store *s = ld_latents_store(self(L, "bad"));
    double most = ldl_number_or(L, 2, 10, "bad", "the number of rows");
    int n = 0;
    lua_newtable(L);
    for (int64_t i = 0; i < ld_latent_store_info(s)->count && n < most; i++)
        if (ld_latent_store_has(s, i, false) && !ld_latent_store_has(s, i, true)) {
            lua_pushnumber(L, (lua_Number)(i + 1));
            lua_rawseti(L, -2, ++n);
        }
    return 1;
}

/* d:class_counts(n): valid rows of the classes 0 .. n - 1, as a list, and of no or another class */
static int l_class_counts(lua_State *L) {
    const ld_latent_store *s = ld_latents_store(self(L, "class_counts"));
    int64_t n = ldl_int(L, 2, "class_counts", "the number of classes"), other = 0;
    if (n < 0 || n > 1 << 24)
        ldl_error(L, "class_counts: %lld classes", (long long)n);
    int64_t *count = lua_newuserdata(L, ((size_t)n + 1) * sizeof *count);
    for (int64_t c = 0; c < n; c++)
        count[c] = 0;
    for (int64_t i = 0; i < ld_latent_store_info(s)->count; i++) {
        int32_t label = ld_latent_store_label(s, i);
        if (ld_latent_store_has(s, i, true))
            ++*(label >= 0 && label < n ? &count[label] : &other);
    }
    lua_createtable(L, (int)n, 0);
    for (int64_t c = 0; c < n; c++) {
        lua_pushnumber(L, (lua_Number)count[c]);
        lua_rawseti(L, -2, (int)c + 1);
    }
    lua_pushnumber(L, (lua_Number)other);
    return 2;
}

/* d:duplicates(): valid rows whose CRC-32 an earlier valid row has, and the first such pair of rows */
static int l_duplicates(lua_State *L) {
    int64_t first[2], n = ld_latent_store_duplicates(ld_latents_store(self(L, "duplicates")), first);
    if (n < 0)
        return ldl_raise(L);
    lua_pushnumber(L, (lua_Number)n);
    if (n == 0)
        return 1;
    lua_pushnumber(L, (lua_Number)(first[0] + 1));
    lua_pushnumber(L, (lua_Number)(first[1] + 1));
    return 3;
}

static int l_close(lua_State *L) {
    void **p = luaL_checkudata(L, 1, CLASS);
    ld_latents_drop(*p);
    *p = NULL;
    return 0;
}

/* ---- the loader ----------------------------------------------------------------------------------------------------- */

/* Field `resident`: true, false or 'auto'. */
static int resident_field(lua_State *L, int i, const char *who) {
    lua_getfield(L, i, "resident");
    int v = -1;
    if (lua_isboolean(L, -1))
        v = lua_toboolean(L, -1);
    else if (!lua_isnil(L, -1) && !(lua_type(L, -1) == LUA_TSTRING && !strcmp(lua_tostring(L, -1), "auto")))
        ldl_error(L, "%s: resident must be true, false or 'auto'", who);
    lua_pop(L, 1);
    return v;
}

/* Numbers by channel in the list in field `key`, of the store's channels; NULL when absent. They stay on the stack. */
static const double *channel_list(lua_State *L, int i, const char *key, const ld_latents *d, const char *who) {
    lua_getfield(L, i, key);
    if (lua_isnil(L, -1))
        return NULL;
    int n = ld_latent_store_info(ld_latents_store(d))->channels;
    if (!lua_istable(L, -1) || (int)lua_objlen(L, -1) != n)
        ldl_error(L, "%s: %s must be a list of %d numbers", who, key, n);
    double *v = lua_newuserdata(L, (size_t)n * sizeof *v);
    for (int k = 0; k < n; k++) {
        lua_rawgeti(L, -2, k + 1);
        v[k] = lua_tonumber(L, -1);
        lua_pop(L, 1);
    }
    return v;
}

/* d:loader{batch, seed = 0, rank = 1, ranks = 1, micro = 0, mirror = true, resident = 'auto', ahead = 4, threads = 4, pad = 0,
 * erase = 0, max = 4, flip = 0, mean = nil, std = nil} */
static int l_loader(lua_State *L) {
    static const char who[] = "loader";
    const ld_latents *d = self(L, who);
    ldl_options(L, 2, who, "batch seed rank ranks micro mirror resident ahead threads pad erase max flip mean std");
    ld_loader_options o = {.batch = (int)ldl_field_int(L, 2, "batch", 0, who),
                           .seed = (uint64_t)ldl_field_int(L, 2, "seed", 0, who),
                           .rank = (int)ldl_field_int(L, 2, "rank", 1, who) - 1,
                           .ranks = (int)ldl_field_int(L, 2, "ranks", 1, who),
                           .micro = (int)ldl_field_int(L, 2, "micro", 0, who),
                           .mirror = ldl_field_bool(L, 2, "mirror", true, who),
                           .resident = resident_field(L, 2, who),
                           .ahead = (int)ldl_field_int(L, 2, "ahead", 0, who),
                           .threads = (int)ldl_field_int(L, 2, "threads", 0, who),
                           .augment = {.pad = (int)ldl_field_int(L, 2, "pad", 0, who),
                                       .erase = ldl_field_number(L, 2, "erase", 0, who),
                                       .erases = (int)ldl_field_int(L, 2, "max", 4, who),
                                       .flip = ldl_field_number(L, 2, "flip", 0, who)},
                           .mean = channel_list(L, 2, "mean", d, who),
                           .std = channel_list(L, 2, "std", d, who)};
    ldl_push_object(L, ld_loader_new(d, &o), CLASS_LOADER);
    return 1;
}

/* l:batch(images, count): x (n,C,h,w) f32, label (n) i64, of the rank's n rows */
static int l_batch(lua_State *L) {
    ld_loader *l = ldl_object(L, 1, CLASS_LOADER, "batch");
    int64_t images = ldl_int(L, 2, "batch", "the images seen"), count = ldl_int(L, 3, "batch", "the count");
    ld_tensor *x, *label;
    if (count < 1 || count > INT32_MAX)
        ldl_error(L, "loader: a batch of %lld", (long long)count);
    ldl_ok(L, ld_loader_batch(l, images, (int)count, &x, &label));
    ldl_push(L, x);
    ldl_push(L, label);
    return 2;
}

/* l:place(device = the default): the latents into its memory. nil and why where it has no room */
static int l_place(lua_State *L) {
    ld_loader *l = ldl_object(L, 1, CLASS_LOADER, "place");
    ld_device *d =
        lua_isnoneornil(L, 2) ? ldl_default_device() : ld_device_find(ldl_string(L, 2, "place", "the device"));
    if (!d)
        return ldl_raise(L);
    if (ld_loader_place(l, d) == 0) {
        lua_pushboolean(L, true);
        return 1;
    }
    if (ld_error_code() != LD_EMEM)
        return ldl_raise(L);
    lua_pushnil(L);
    lua_pushstring(L, ld_error());
    return 2;
}

/* l:next(images): where the next batch begins at or after that clock, and its size */
static int l_next(lua_State *L) {
    const ld_loader *l = ldl_object(L, 1, CLASS_LOADER, "next");
    int64_t images = ldl_int(L, 2, "next", "the images seen");
    int count = ld_loader_next(l, &images);
    lua_pushnumber(L, (lua_Number)images);
    lua_pushinteger(L, count);
    return 2;
}

/* l:stats(): {batches, wait (seconds waited for the disk), spent (seconds in batch), resident, device, memory (bytes)} */
static int l_stats(lua_State *L) {
    ld_loader_stats s;
    ld_loader_state(ldl_object(L, 1, CLASS_LOADER, "stats"), &s);
    lua_createtable(L, 0, 5);
    set_number(L, "batches", (double)s.batches);
    set_number(L, "wait", s.wait);
    set_number(L, "spent", s.spent);
    set_number(L, "memory", (double)s.memory);
    set_bool(L, "resident", s.resident);
    lua_pushstring(L, s.device);
    lua_setfield(L, -2, "device");
    return 1;
}

static int l_loader_close(lua_State *L) {
    void **p = luaL_checkudata(L, 1, CLASS_LOADER);
    ld_loader_drop(*p);
    *p = NULL;
    return 0;
}

void ldl_open_latents(lua_State *L) {
    static const luaL_Reg methods[] = {{"count", l_count},
                                       {"row", l_row},
                                       {"part", l_part},
                                       {"before", l_before},
                                       {"get", l_get},
                                       {"info", l_info},
                                       {"statistics", l_statistics},
                                       {"measure", l_measure},
                                       {"name", l_name},
                                       {"label", l_label},
                                       {"crc32", l_crc32},
                                       {"bad", l_bad},
                                       {"class_counts", l_class_counts},
                                       {"duplicates", l_duplicates},
                                       {"loader", l_loader},
                                       {"close", l_close},
                                       {"__gc", l_close},
                                       {NULL, NULL}};
    static const luaL_Reg loader[] = {{"batch", l_batch}, {"next", l_next},          {"place", l_place},
                                      {"stats", l_stats}, {"close", l_loader_close}, {"__gc", l_loader_close},
                                      {NULL, NULL}};
    static const luaL_Reg functions[] = {{"store_open", l_open}, {NULL, NULL}};
    ldl_class(L, CLASS, methods);
    ldl_class(L, CLASS_LOADER, loader);
    luaL_register(L, NULL, functions);
}
