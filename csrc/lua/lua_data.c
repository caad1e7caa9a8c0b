/* Pictures and augmentation in Lua. */
#include "lua/ldl.h"

#include "data/augment.h"
#include "data/image_set.h"

#include <stdlib.h>
#include <string.h>

#define CLASS "ld.image_set"

static ld_transform transform_field(lua_State *L, int i, const char *who) {
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

/* image_set(folder) */
static int l_open(lua_State *L) {
    ldl_install_where(L);
    ldl_push_object(L, ld_image_set_open(luaL_checkstring(L, 1)), CLASS);
    return 1;
}

static int l_count(lua_State *L) {
    ld_image_set *s = ldl_object(L, 1, CLASS, "count");
    lua_pushnumber(L, (lua_Number)s->files.count);
    return 1;
}

static int64_t picture(lua_State *L, int i, const ld_image_set *s, const char *who) {
    int64_t k = ldl_int(L, i, who, "the picture's number");
    if (k < 1 || k > s->files.count)
        ldl_error(L, "%s: picture %lld; there are %lld, counted from 1", who, (long long)k, (long long)s->files.count);
    return k - 1;
}

/* s:name(i): path relative to the folder */
static int l_name(lua_State *L) {
    ld_image_set *s = ldl_object(L, 1, CLASS, "name");
    lua_pushstring(L, ld_image_set_name(s, picture(L, 2, s, "name")));
    return 1;
}

/* s:label(i): class from 0, -1 without classes */
static int l_label(lua_State *L) {
    ld_image_set *s = ldl_object(L, 1, CLASS, "label");
    lua_pushinteger(L, s->label[picture(L, 2, s, "label")]);
    return 1;
}

static int l_classes(lua_State *L) {
    ld_image_set *s = ldl_object(L, 1, CLASS, "classes");
    lua_createtable(L, s->n_classes, 0);
    for (int i = 0; i < s->n_classes; i++) {
        lua_pushstring(L, s->class_names[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* s:read({numbers}, {size, transform}): (n,3,size,size) u8, and a table {[position in the list] = reason} of bad ones */
static int l_read(lua_State *L) {
    static const char who[] = "images";
    ld_image_set *s = ldl_object(L, 1, CLASS, who);
    luaL_checktype(L, 2, LUA_TTABLE);
    ldl_options(L, 3, who, "size transform");
    int n = (int)lua_objlen(L, 2), size = (int)ldl_field_int(L, 3, "size", 256, who);
    ld_transform transform = transform_field(L, 3, who);
    int64_t *index = lua_newuserdata(L, (size_t)(n + 1) * sizeof *index);
    char **why = lua_newuserdata(L, (size_t)(n + 1) * sizeof *why);
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, 2, i + 1);
        index[i] = picture(L, lua_gettop(L), s, who);
        lua_pop(L, 1);
    }
    ldl_push(L, ld_image_set_read(s, index, n, size, transform, why));
    lua_newtable(L);
    for (int i = 0; i < n; i++)
        if (why[i]) {
            lua_pushstring(L, why[i]);
            lua_rawseti(L, -2, i + 1);
            free(why[i]);
        }
    return 2;
}

static int l_gc(lua_State *L) {
    ld_image_set **p = lua_touserdata(L, 1);
    ld_image_set_drop(*p);
    *p = NULL;
    return 0;
}

/* load_image(path, channels = 3): (channels,height,width) u8 */
static int l_load_image(lua_State *L) {
    ldl_install_where(L);
    const char *path = luaL_checkstring(L, 1);
    return ldl_push(L, ld_image_load(path, (int)ldl_number_or(L, 2, 3, "load_image", "the number of channels")));
}

/* save_image(x, path, {key = string}): PNG; the strings are stored in it as text */
static int l_save_image(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "save_image");
    const char *path = luaL_checkstring(L, 2), *text[65] = {NULL};
    int n = 0;
    lua_settop(L, 3);
    if (lua_istable(L, 3))
        for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) {
            if (n == 64 || lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
                ldl_error(L, "save_image: the text is a table of at most 32 strings by name");
            text[n++] = lua_tostring(L, -2);
            text[n++] = lua_tostring(L, -1);
        }
    ldl_ok(L, ld_image_save(x, path, text));
    return 0;
}

/* faces(n, {size = 256, seed = 0, first = 0}): (n,3,size,size) u8 */
static int l_faces(lua_State *L) {
    ldl_install_where(L);
    int64_t n = ldl_int(L, 1, "faces", "the count");
    ldl_options(L, 2, "faces", "size seed first");
    return ldl_push(L, ld_faces(n, (int)ldl_field_int(L, 2, "size", 256, "faces"),
                                (uint64_t)ldl_field_int(L, 2, "seed", 0, "faces"),
                                (uint64_t)ldl_field_int(L, 2, "first", 0, "faces")));
}

/* ---- augmentation, in place; row i is sample first + i --------------------------------------------------------------- */

static int l_pad_crop(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "pad_crop");
    ldl_options(L, 2, "pad_crop", "pad seed first");
    ldl_ok(L, ld_augment_pad_crop(x, (int)ldl_field_int(L, 2, "pad", 2, "pad_crop"),
                                  (uint64_t)ldl_field_int(L, 2, "seed", 0, "pad_crop"),
                                  (uint64_t)ldl_field_int(L, 2, "first", 0, "pad_crop")));
    lua_settop(L, 1);
    return 1;
}

static int l_rand_erase(lua_State *L) {
    static const char who[] = "rand_erase";
    ld_tensor *x = ldl_tensor(L, 1, who);
    ldl_options(L, 2, who, "pct max seed first");
    ldl_ok(L, ld_augment_rand_erase(x, ldl_field_number(L, 2, "pct", 0.2, who), (int)ldl_field_int(L, 2, "max", 4, who),
                                    (uint64_t)ldl_field_int(L, 2, "seed", 0, who),
                                    (uint64_t)ldl_field_int(L, 2, "first", 0, who)));
    lua_settop(L, 1);
    return 1;
}

static int l_flip(lua_State *L) {
    static const char who[] = "random_flip";
    ld_tensor *x = ldl_tensor(L, 1, who);
    ldl_options(L, 2, who, "p seed first");
    ldl_ok(L, ld_augment_flip(x, ldl_field_number(L, 2, "p", 0.5, who), (uint64_t)ldl_field_int(L, 2, "seed", 0, who),
                              (uint64_t)ldl_field_int(L, 2, "first", 0, who)));
    lua_settop(L, 1);
    return 1;
}

void ldl_open_data(lua_State *L) {
    static const luaL_Reg methods[] = {{"count", l_count}, {"name", l_name}, {"label", l_label}, {"classes", l_classes},
                                       {"read", l_read},   {"__gc", l_gc},   {NULL, NULL}};
    static const luaL_Reg functions[] = {{"image_set", l_open},
                                         {"load_image", l_load_image},
                                         {"save_image", l_save_image},
                                         {"faces", l_faces},
                                         {NULL, NULL}};
    static const luaL_Reg augment[] = {
        {"pad_crop", l_pad_crop}, {"rand_erase", l_rand_erase}, {"random_flip", l_flip}, {NULL, NULL}};
    ldl_class(L, CLASS, methods);
    luaL_register(L, NULL, functions);
    lua_newtable(L);
    luaL_register(L, NULL, augment);
    lua_setfield(L, -2, "augment");
}
