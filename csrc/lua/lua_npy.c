/* NumPy's arrays in Lua: one file, a file of bare numbers, a folder of files. Rows count from 1. */
#include "lua/ldl.h"

#include "io/npy_folder.h"

#define CLASS        "ld.npy"
#define CLASS_FOLDER "ld.npy_folder"

/* npy_open(path): an .npy file. npy_open(path, shape, dtype): numbers without a header. */
static int l_open(lua_State *L) {
    static const char who[] = "npy_open";
    ldl_install_where(L);
    const char *path = ldl_string(L, 1, who, "the path");
    if (lua_isnoneornil(L, 2)) {
        ldl_push_object(L, ld_npy_open(path), CLASS);
        return 1;
    }
    int64_t shape[LD_MAX_DIMS];
    luaL_checktype(L, 2, LUA_TTABLE);
    int n = ldl_shape(L, 2, shape, NULL, who);
    ldl_push_object(L, ld_npy_open_raw(path, ldl_dtype(L, 3, who), n, shape), CLASS);
    return 1;
}

/* f:shape(): sizes and dtype */
static int l_shape(lua_State *L) {
    const ld_npy *f = ldl_object(L, 1, CLASS, "shape");
    ldl_push_shape(L, f->ndim, f->shape);
    lua_pushstring(L, ld_dtype_names[f->dtype]);
    return 2;
}

/* f:rows(first, n) */
static int l_rows(lua_State *L) {
    const ld_npy *f = ldl_object(L, 1, CLASS, "rows");
    int64_t first = ldl_int(L, 2, "rows", "the first row"), n = ldl_int(L, 3, "rows", "the count");
    return ldl_push(L, ld_npy_rows(f, first - 1, n));
}

static int l_close(lua_State *L) {
    void **p = luaL_checkudata(L, 1, CLASS);
    ld_npy_close(*p);
    *p = NULL;
    return 0;
}

/* npy_folder(path) */
static int l_folder(lua_State *L) {
    ldl_install_where(L);
    ldl_push_object(L, ld_npy_folder_open(ldl_string(L, 1, "npy_folder", "the path")), CLASS_FOLDER);
    return 1;
}

/* f:shape(): sizes of all files together, their number first, and dtype */
static int l_folder_shape(lua_State *L) {
    const ld_npy_folder *f = ldl_object(L, 1, CLASS_FOLDER, "shape");
    int64_t shape[LD_MAX_DIMS + 1];
    ld_dtype t;
    int n = ld_npy_folder_shape(f, shape + 1, &t);
    shape[0] = ld_npy_folder_count(f);
    ldl_push_shape(L, n + 1, shape);
    lua_pushstring(L, ld_dtype_names[t]);
    return 2;
}

static int64_t file_arg(lua_State *L, const ld_npy_folder *f, const char *who) {
    int64_t i = ldl_int(L, 2, who, "the file's number"), count = ld_npy_folder_count(f);
    if (i < 1 || i > count)
        ldl_error(L, "npy: file %lld of %lld", (long long)i, (long long)count);
    return i - 1;
}

static int l_folder_name(lua_State *L) {
    const ld_npy_folder *f = ldl_object(L, 1, CLASS_FOLDER, "name");
    lua_pushstring(L, ld_npy_folder_name(f, file_arg(L, f, "name")));
    return 1;
}

static int l_folder_label(lua_State *L) {
    const ld_npy_folder *f = ldl_object(L, 1, CLASS_FOLDER, "label");
    lua_pushinteger(L, ld_npy_folder_label(f, file_arg(L, f, "label")));
    return 1;
}

static int l_folder_classes(lua_State *L) {
    const ld_npy_folder *f = ldl_object(L, 1, CLASS_FOLDER, "classes");
    int32_t n = ld_npy_folder_classes(f);
    lua_createtable(L, n, 0);
    for (int32_t c = 0; c < n; c++) {
        lua_pushstring(L, ld_npy_folder_class(f, c));
        lua_rawseti(L, -2, c + 1);
    }
    return 1;
}

static int l_folder_rows(lua_State *L) {
    const ld_npy_folder *f = ldl_object(L, 1, CLASS_FOLDER, "rows");
    int64_t first = ldl_int(L, 2, "rows", "the first file"), n = ldl_int(L, 3, "rows", "the count");
    return ldl_push(L, ld_npy_folder_rows(f, first - 1, n));
}

static int l_folder_close(lua_State *L) {
    void **p = luaL_checkudata(L, 1, CLASS_FOLDER);
    ld_npy_folder_close(*p);
    *p = NULL;
    return 0;
}

void ldl_open_npy(lua_State *L) {
    static const luaL_Reg one[] = {
        {"shape", l_shape}, {"rows", l_rows}, {"close", l_close}, {"__gc", l_close}, {NULL, NULL}};
    static const luaL_Reg folder[] = {
        {"shape", l_folder_shape}, {"name", l_folder_name},   {"label", l_folder_label}, {"classes", l_folder_classes},
        {"rows", l_folder_rows},   {"close", l_folder_close}, {"__gc", l_folder_close},  {NULL, NULL}};
    static const luaL_Reg functions[] = {{"npy_open", l_open}, {"npy_folder", l_folder}, {NULL, NULL}};
    ldl_class(L, CLASS, one);
    ldl_class(L, CLASS_FOLDER, folder);
    luaL_register(L, NULL, functions);
}
