/* Sources of pictures in Lua. */
#include "lua/ldl.h"

#include "data/pictures.h"
#include "data/source.h"
#include "io/cache.h"
#include "io/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Calls the function at the top of the stack, whose own errors come to nothing: listing goes on. */
static void tell(void *arg, int64_t members, const char *archive) {
    lua_State *L = arg;
    lua_pushvalue(L, -1);
    lua_pushnumber(L, (lua_Number)members);
    lua_pushstring(L, archive);
    if (lua_pcall(L, 2, 0, 0))
        lua_pop(L, 1);
}

/* source(path, {labels = file, synsets = file, cache = folder, partial = false, progress = function(members, archive)});
 * progress is called now and then while archives are listed */
static int l_open(lua_State *L) {
    static const char who[] = "images";
    ldl_install_where(L);
    const char *path = ldl_string(L, 1, who, "the path");
    lua_settop(L, 2);
    ldl_options(L, 2, who, "labels synsets cache partial progress");
    ld_source_options o = {
        .labels = ldl_field_string(L, 2, "labels", NULL, who),
        .synsets = ldl_field_string(L, 2, "synsets", NULL, who),
        .cache = ldl_field_string(L, 2, "cache", NULL, who),
        .partial = ldl_field_bool(L, 2, "partial", false, who),
    };
    lua_getfield(L, 2, "progress");
    if (!lua_isnil(L, -1)) {
        ldl_callable(L, lua_gettop(L), who);
        o.progress = tell;
        o.arg = L;
    }
    ldl_push_object(L, ld_source_open(path, &o), LDL_SOURCE);
    return 1;
}

static int l_count(lua_State *L) {
    lua_pushnumber(L, (lua_Number)ld_source_count(ldl_object(L, 1, LDL_SOURCE, "count")));
    return 1;
}

static int64_t picture(lua_State *L, int i, const ld_source *s, const char *who) {
    int64_t k = ldl_int(L, i, who, "the picture's number"), count = ld_source_count(s);
    if (k < 1 || k > count)
        ldl_error(L, "%s: picture %lld; there are %lld, counted from 1", who, (long long)k, (long long)count);
    return k - 1;
}

/* s:name(i): path relative to the source, key, or record */
static int l_name(lua_State *L) {
    char name[LD_PATH_MAX];
    ld_source *s = ldl_object(L, 1, LDL_SOURCE, "name");
    lua_pushstring(L, ld_source_name(s, picture(L, 2, s, "name"), name, sizeof name));
    return 1;
}

/* s:label(i): class from 0, -1 without classes */
static int l_label(lua_State *L) {
    ld_source *s = ldl_object(L, 1, LDL_SOURCE, "label");
    lua_pushinteger(L, ld_source_label(s, picture(L, 2, s, "label")));
    return 1;
}

/* s:bytes(i): size of its file, nil when that is unknown */
static int l_bytes(lua_State *L) {
    ld_source *s = ldl_object(L, 1, LDL_SOURCE, "bytes");
    int64_t n = ld_source_bytes(s, picture(L, 2, s, "bytes"));
    if (n < 0)
        lua_pushnil(L);
    else
        lua_pushnumber(L, (lua_Number)n);
    return 1;
}

static int l_classes(lua_State *L) {
    ld_source *s = ldl_object(L, 1, LDL_SOURCE, "classes");
    lua_createtable(L, ld_source_classes(s), 0);
    for (int i = 0; i < ld_source_classes(s); i++) {
        lua_pushstring(L, ld_source_class(s, i));
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* s:class_counts(): how many pictures each class has, and how many have none */
static int l_class_counts(lua_State *L) {
    ld_source *s = ldl_object(L, 1, LDL_SOURCE, "class_counts");
    int classes = ld_source_classes(s);
    int64_t *n = calloc((size_t)classes + 1, sizeof *n);
    if (!n)
        return ldl_error(L, "images: out of host memory for %d classes", classes);
    for (int64_t i = 0; i < ld_source_count(s); i++) {
        int32_t c = ld_source_label(s, i);
        n[c < 0 ? classes : c]++;
    }
    lua_createtable(L, classes, 0);
    for (int i = 0; i < classes; i++) {
        lua_pushnumber(L, (lua_Number)n[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushnumber(L, (lua_Number)n[classes]);
    free(n);
    return 2;
}

static int l_kind(lua_State *L) {
    lua_pushstring(L, ld_source_kind(ldl_object(L, 1, LDL_SOURCE, "kind")));
    return 1;
}

/* s:notes(): what is odd about it, a list of sentences */
static int l_notes(lua_State *L) {
    ld_source *s = ldl_object(L, 1, LDL_SOURCE, "notes");
    lua_newtable(L);
    for (int k = 0; k < ld_source_notes(s); k++) {
        lua_pushstring(L, ld_source_note(s, k));
        lua_rawseti(L, -2, k + 1);
    }
    return 1;
}

/* s:memory(): bytes that the list takes */
static int l_memory(lua_State *L) {
    lua_pushnumber(L, (lua_Number)ld_source_memory(ldl_object(L, 1, LDL_SOURCE, "memory")));
    return 1;
}

/* s:in_order(): whether it is cheap only when read in ascending order */
static int l_in_order(lua_State *L) {
    lua_pushboolean(L, ld_source_in_order(ldl_object(L, 1, LDL_SOURCE, "in_order")));
    return 1;
}

/* s:fingerprint(count = all): SHA-256 over names, sizes and labels of the first `count`, 64 digits */
static int l_fingerprint(lua_State *L) {
    ld_source *s = ldl_object(L, 1, LDL_SOURCE, "fingerprint");
    char hex[65];
    double count = ldl_number_or(L, 2, (double)ld_source_count(s), "fingerprint", "the count");
    ldl_ok(L, ld_source_fingerprint(s, (int64_t)count, hex));
    lua_pushstring(L, hex);
    return 1;
}

ld_transform ldl_field_transform(lua_State *L, int i, const char *who) {
    const char *name = ldl_field_string(L, i, "transform", ld_transform_names[LD_ADM], who);
    int t = ld_transform_find(name);
    if (t >= 0)
        return (ld_transform)t;
    char known[256] = "";
    for (int k = 0; k < LD_TRANSFORM_COUNT; k++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, " %s", ld_transform_names[k]);
    }
    return (ld_transform)ldl_error(L, "%s: unknown transform '%s'; known:%s", who, name, known);
}

/* s:read({numbers}, {size = 256, transform = 'adm', exif = false}): (n,3,size,size) u8, and a table
 * {[position in the list] = reason} of bad ones */
static int l_read(lua_State *L) {
    static const char who[] = "images";
    ld_source *s = ldl_object(L, 1, LDL_SOURCE, who);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 3);
    ldl_options(L, 3, who, "size transform exif");
    int n = (int)lua_objlen(L, 2), size = (int)ldl_field_int(L, 3, "size", 256, who);
    ld_transform transform = ldl_field_transform(L, 3, who);
    bool exif = ldl_field_bool(L, 3, "exif", false, who);
    int64_t *index = lua_newuserdata(L, (size_t)(n + 1) * sizeof *index);
    char **why = lua_newuserdata(L, (size_t)(n + 1) * sizeof *why);
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, 2, i + 1);
        index[i] = picture(L, lua_gettop(L), s, who);
        lua_pop(L, 1);
    }
    ldl_push(L, ld_pictures_read(s, index, n, size, transform, exif, why));
    lua_newtable(L);
    for (int i = 0; i < n; i++)
        if (why[i]) {
            lua_pushstring(L, why[i]);
            lua_rawseti(L, -2, i + 1);
            free(why[i]);
        }
    return 2;
}

/* s:inspect(i): {format, bytes, width, height, channels}, and the reason where it cannot be read or decoded; fields that
 * could not be found out are missing */
static int l_inspect(lua_State *L) {
    ld_source *s = ldl_object(L, 1, LDL_SOURCE, "inspect");
    ld_picture_info info;
    int bad = ld_picture_inspect(s, picture(L, 2, s, "inspect"), &info);
    if (bad == LD_EINTERRUPT)
        return ldl_raise(L);
    lua_newtable(L);
    if (info.form) {
        lua_pushstring(L, info.form);
        lua_setfield(L, -2, "format");
    }
    const struct {
        const char *name;
        int64_t value;
    } field[] = {{"bytes", info.bytes}, {"width", info.width}, {"height", info.height}, {"channels", info.channels}};
    for (int k = 0; k < 4; k++)
        if (k == 0 ? info.bytes >= 0 : !bad) {
            lua_pushnumber(L, (lua_Number)field[k].value);
            lua_setfield(L, -2, field[k].name);
        }
    if (!bad)
        return 1;
    lua_pushstring(L, ld_error());
    return 2;
}

/* cache_folder(name): the path of a folder in the user's cache, nil where there is no place for one */
static int l_cache_folder(lua_State *L) {
    char path[LD_PATH_MAX];
    if (ld_cache_path(path, ldl_string(L, 1, "cache_folder", "the name")))
        lua_pushstring(L, path);
    else
        lua_pushnil(L);
    return 1;
}

static int l_gc(lua_State *L) {
    ld_source **p = lua_touserdata(L, 1);
    ld_source_drop(*p);
    *p = NULL;
    return 0;
}

void ldl_open_source(lua_State *L) {
    static const luaL_Reg methods[] = {{"count", l_count},
                                       {"name", l_name},
                                       {"label", l_label},
                                       {"bytes", l_bytes},
                                       {"classes", l_classes},
                                       {"class_counts", l_class_counts},
                                       {"kind", l_kind},
                                       {"notes", l_notes},
                                       {"memory", l_memory},
                                       {"in_order", l_in_order},
                                       {"fingerprint", l_fingerprint},
                                       {"read", l_read},
                                       {"inspect", l_inspect},
                                       {"__gc", l_gc},
                                       {NULL, NULL}};
    static const luaL_Reg functions[] = {{"source", l_open}, {"cache_folder", l_cache_folder}, {NULL, NULL}};
    ldl_class(L, LDL_SOURCE, methods);
    luaL_register(L, NULL, functions);
}
