/* Files in Lua: safetensors, HDF5, folders, hashes. */
#include "lua/ldl.h"

#include "backend/device.h"
#include "io/file.h"
#include "io/h5.h"
#include "io/hash.h"
#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CLASS_H5   "ld.h5"
#define CLASS_SAFE "ld.safetensors"

static const char *path_arg(lua_State *L, int i, const char *who) {
    if (lua_type(L, i) != LUA_TSTRING)
        ldl_error(L, "%s: argument %d must be a string, not %s", who, i, luaL_typename(L, i));
    return lua_tostring(L, i);
}

/* ---- safetensors ---------------------------------------------------------------------------------------------------- */

static int l_safe_open(lua_State *L) {
    ldl_install_where(L);
    ldl_push_object(L, ld_safetensors_open(path_arg(L, 1, "safetensors")), CLASS_SAFE);
    return 1;
}

static int l_safe_close(lua_State *L) {
    void **p = luaL_checkudata(L, 1, CLASS_SAFE);
    ld_safetensors_close(*p);
    *p = NULL;
    return 0;
}

/* f:names() */
static int l_safe_names(lua_State *L) {
    ld_safetensors *s = ldl_object(L, 1, CLASS_SAFE, "names");
    int n = ld_safetensors_count(s);
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        lua_pushstring(L, ld_safetensors_name(s, i));
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* f:shape(name): sizes and dtype, or nil */
static int l_safe_shape(lua_State *L) {
    ld_safetensors *s = ldl_object(L, 1, CLASS_SAFE, "shape");
    int64_t shape[LD_MAX_DIMS];
    ld_dtype t;
    int i = ld_safetensors_find(s, path_arg(L, 2, "shape"));
    if (i < 0)
        return 0;
    int n = ld_safetensors_shape(s, i, shape, &t);
    ldl_push_shape(L, n, shape);
    lua_pushstring(L, ld_dtype_names[t]);
    return 2;
}

/* f:read(name) */
static int l_safe_read(lua_State *L) {
    ld_safetensors *s = ldl_object(L, 1, CLASS_SAFE, "read");
    int i = ld_safetensors_find(s, path_arg(L, 2, "read"));
    if (i < 0)
        return ldl_error(L, "safetensors: no tensor '%s' in this file", lua_tostring(L, 2));
    return ldl_push(L, ld_safetensors_tensor(s, i));
}

/* f:metadata(): a table of strings */
static int l_safe_metadata(lua_State *L) {
    ld_safetensors *s = ldl_object(L, 1, CLASS_SAFE, "metadata");
    const char *key, *value;
    lua_newtable(L);
    for (int i = 0; (key = ld_safetensors_metadata(s, i, &value)); i++) {
        lua_pushstring(L, value);
        lua_setfield(L, -2, key);
    }
    return 1;
}

typedef struct named_tensor {
    const char *name;
    ld_tensor *x;
} named_tensor;

static int by_name(const void *a, const void *b) {
    return strcmp(((const named_tensor *)a)->name, ((const named_tensor *)b)->name);
}

/* safetensors_write(path, {name = tensor}, {key = string}), in the order of names */
static int l_safe_write(lua_State *L) {
    const char *path = path_arg(L, 1, "safetensors_write");
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 3);
    int n = 0;
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1))
        n++;
    const char **names = lua_newuserdata(L, (size_t)(n + 1) * sizeof *names);
    ld_tensor **xs = lua_newuserdata(L, (size_t)(n + 1) * sizeof *xs);
    named_tensor *list = lua_newuserdata(L, (size_t)(n + 1) * sizeof *list);
    n = 0;
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || !ldl_is_tensor(L, -1))
            ldl_error(L, "safetensors_write: a table of tensors by name was expected");
        list[n++] = (named_tensor){lua_tostring(L, -2), ldl_tensor(L, lua_gettop(L), "safetensors_write")};
    }
    qsort(list, (size_t)n, sizeof *list, by_name);
    for (int i = 0; i < n; i++) {
        names[i] = list[i].name;
        xs[i] = list[i].x;
    }
    const char *metadata[129];
    ldl_strings(L, 3, metadata, 64, "safetensors_write");
    ldl_ok(L, ld_safetensors_write(path, names, xs, n, metadata));
    return 0;
}

/* ---- HDF5 ----------------------------------------------------------------------------------------------------------- */

static int l_h5_create(lua_State *L) {
    ldl_install_where(L);
    ldl_push_object(L, ld_h5_create(path_arg(L, 1, "h5_create")), CLASS_H5);
    return 1;
}

/* h5_create_summed(path): the file will carry the sum of its bytes (io/h5.h). */
static int l_h5_create_summed(lua_State *L) {
    ldl_install_where(L);
    ldl_push_object(L, ld_h5_create_summed(path_arg(L, 1, "h5_create_summed")), CLASS_H5);
    return 1;
}

/* h5_check(path): an error where a file's bytes are not those that were summed; whether it carries a sum */
static int l_h5_check(lua_State *L) {
    bool summed;
    ldl_ok(L, ld_h5_check(path_arg(L, 1, "h5_check"), &summed));
    lua_pushboolean(L, summed);
    return 1;
}

/* h5_open(path, writable) */
static int l_h5_open(lua_State *L) {
    ldl_install_where(L);
    ldl_push_object(L, ld_h5_open(path_arg(L, 1, "h5_open"), lua_toboolean(L, 2)), CLASS_H5);
    return 1;
}

static int l_h5_close(lua_State *L) {
    void **p = luaL_checkudata(L, 1, CLASS_H5);
    ld_h5_close(*p);
    *p = NULL;
    return 0;
}

static int l_h5_commit(lua_State *L) {
    ld_h5 *f = ldl_object(L, 1, CLASS_H5, "commit");
    *(void **)lua_touserdata(L, 1) = NULL;
    ldl_ok(L, ld_h5_commit(f));
    return 0;
}

static int l_h5_flush(lua_State *L) {
    ldl_ok(L, ld_h5_flush(ldl_object(L, 1, CLASS_H5, "flush")));
    return 0;
}

static int l_h5_write(lua_State *L) {
    ld_h5 *f = ldl_object(L, 1, CLASS_H5, "write");
    ldl_ok(L, ld_h5_write(f, path_arg(L, 2, "write"), ldl_tensor(L, 3, "write")));
    return 0;
}

static int l_h5_read(lua_State *L) {
    ld_h5 *f = ldl_object(L, 1, CLASS_H5, "read");
    return ldl_push(L, ld_h5_read(f, path_arg(L, 2, "read")));
}

/* f:make(name, shape, dtype) */
static int l_h5_make(lua_State *L) {
    ld_h5 *f = ldl_object(L, 1, CLASS_H5, "make");
    int64_t shape[LD_MAX_DIMS];
    int n = ldl_shape(L, 3, shape, NULL, "make");
    ldl_ok(L, ld_h5_make(f, path_arg(L, 2, "make"), ldl_dtype(L, 4, "make"), n, shape));
    return 0;
}

/* f:write_rows(name, first (from 1), tensor) */
static int l_h5_write_rows(lua_State *L) {
    ld_h5 *f = ldl_object(L, 1, CLASS_H5, "write_rows");
    int64_t first = ldl_int(L, 3, "write_rows", "the first row");
    ldl_ok(L, ld_h5_write_rows(f, path_arg(L, 2, "write_rows"), first - 1, ldl_tensor(L, 4, "write_rows")));
    return 0;
}

/* f:read_rows(name, first (from 1), count) */
static int l_h5_read_rows(lua_State *L) {
    ld_h5 *f = ldl_object(L, 1, CLASS_H5, "read_rows");
    int64_t first = ldl_int(L, 3, "read_rows", "the first row"), n = ldl_int(L, 4, "read_rows", "the count");
    return ldl_push(L, ld_h5_read_rows(f, path_arg(L, 2, "read_rows"), first - 1, n));
}

/* f:shape(name): sizes and dtype, or nil when it is absent */
static int l_h5_shape(lua_State *L) {
    ld_h5 *f = ldl_object(L, 1, CLASS_H5, "shape");
    int64_t shape[LD_MAX_DIMS];
    ld_dtype t;
    int n = ld_h5_shape(f, path_arg(L, 2, "shape"), shape, &t);
    if (n < 0)
        return 0;
    ldl_push_shape(L, n, shape);
    lua_pushstring(L, ld_dtype_names[t]);
    return 2;
}

static int l_h5_exists(lua_State *L) {
    ld_h5 *f = ldl_object(L, 1, CLASS_H5, "exists");
    lua_pushboolean(L, ld_h5_exists(f, path_arg(L, 2, "exists")));
    return 1;
}

static int append_name(void *L, const char *name) {
    lua_pushstring(L, name);
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    return 0;
}

/* f:list(path = ""): names of all data sets below */
static int l_h5_list(lua_State *L) {
    ld_h5 *f = ldl_object(L, 1, CLASS_H5, "list");
    const char *path = luaL_optstring(L, 2, "");
    lua_newtable(L);
    ldl_ok(L, ld_h5_each(f, path, append_name, L));
    return 1;
}

/* f:attributes(path = "") */
static int l_h5_attributes(lua_State *L) {
    ld_h5 *f = ldl_object(L, 1, CLASS_H5, "attributes");
    const char *path = luaL_optstring(L, 2, "");
    lua_newtable(L);
    ldl_ok(L, ld_h5_each_attribute(f, path, append_name, L));
    return 1;
}

/* f:attribute(path, key): number, string or nil. f:attribute(path, key, value) sets it. */
static int l_h5_attribute(lua_State *L) {
    static const char who[] = "attribute";
    ld_h5 *f = ldl_object(L, 1, CLASS_H5, who);
    const char *path = path_arg(L, 2, who), *key = path_arg(L, 3, who);
    if (lua_type(L, 4) == LUA_TNUMBER) {
        ldl_ok(L, ld_h5_set_number(f, path, key, lua_tonumber(L, 4)));
        return 0;
    }
    if (lua_type(L, 4) == LUA_TSTRING) {
        ldl_ok(L, ld_h5_set_string(f, path, key, lua_tostring(L, 4)));
        return 0;
    }
    if (!lua_isnoneornil(L, 4))
        return ldl_error(L, "attribute: '%s' must be a number or a string, not %s", key, luaL_typename(L, 4));
    double number;
    char *text;
    int kind = ld_h5_attribute(f, path, key, &number, &text);
    if (kind < 0)
        return ldl_raise(L);
    if (kind == 0)
        return 0;
    if (kind == 1) {
        lua_pushnumber(L, number);
    } else {
        lua_pushstring(L, text);
        free(text);
    }
    return 1;
}

/* f:write_strings(name, {strings}) */
static int l_h5_write_strings(lua_State *L) {
    ld_h5 *f = ldl_object(L, 1, CLASS_H5, "write_strings");
    const char *name = path_arg(L, 2, "write_strings");
    luaL_checktype(L, 3, LUA_TTABLE);
    int n = (int)lua_objlen(L, 3);
    const char **s = lua_newuserdata(L, (size_t)(n + 1) * sizeof *s);
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, 3, i + 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            ldl_error(L, "write_strings: entry %d is %s", i + 1, luaL_typename(L, -1));
        s[i] = lua_tostring(L, -1); /* the table keeps it */
        lua_pop(L, 1);
    }
    ldl_ok(L, ld_h5_write_strings(f, name, s, n));
    return 0;
}

static int l_h5_read_strings(lua_State *L) {
    ld_h5 *f = ldl_object(L, 1, CLASS_H5, "read_strings");
    char **s;
    int64_t n;
    ldl_ok(L, ld_h5_read_strings(f, path_arg(L, 2, "read_strings"), &s, &n));
    lua_createtable(L, (int)n, 0);
    for (int64_t i = 0; i < n; i++) {
        lua_pushstring(L, s[i] ? s[i] : "");
        lua_rawseti(L, -2, (int)i + 1);
    }
    ld_h5_free_strings(s, n);
    return 1;
}

/* ---- the file system ------------------------------------------------------------------------------------------------ */

/* write_file(path, string): safely (io/file.h). */
static int l_write_file(lua_State *L) {
    size_t n;
    const char *path = path_arg(L, 1, "write_file"), *s = luaL_checklstring(L, 2, &n);
    ldl_ok(L, ld_file_write(path, s, n));
    return 0;
}

/* append_file(path, text): added to the end, and on the disk when it returns */
static int l_append_file(lua_State *L) {
    size_t n;
    const char *path = path_arg(L, 1, "append_file"), *s = luaL_checklstring(L, 2, &n);
    ldl_ok(L, ld_file_append(path, s, n));
    return 0;
}

/* rename_file(from, to): from is written to the disk first, so that `to` is the old file or the whole new one. */
static int l_rename_file(lua_State *L) {
    const char *from = path_arg(L, 1, "rename_file"), *to = path_arg(L, 2, "rename_file");
    ldl_ok(L, ld_file_rename(from, to));
    return 0;
}

/* link_file(from, to): `to` becomes another name of `from` (io/file.h). */
static int l_link_file(lua_State *L) {
    const char *from = path_arg(L, 1, "link_file"), *to = path_arg(L, 2, "link_file");
    ldl_ok(L, ld_file_link(from, to));
    return 0;
}

/* list_files(folder): all regular files below, relative to it, in order of name */
static int l_list_files(lua_State *L) {
    ld_file_list list;
    ldl_ok(L, ld_list_files(&list, path_arg(L, 1, "list_files")));
    lua_createtable(L, (int)list.count, 0);
    for (int64_t i = 0; i < list.count; i++) {
        lua_pushstring(L, list.text + list.offset[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    ld_file_list_free(&list);
    return 1;
}

/* file_fail_at(k): for tests (io/file.h). */
static int l_file_fail_at(lua_State *L) {
    ld_file_fail_at(ldl_int(L, 1, "file_fail_at", "the number of the call"));
    return 0;
}

static int l_make_dirs(lua_State *L) {
    ldl_ok(L, ld_make_dirs(path_arg(L, 1, "make_dirs")));
    return 0;
}

/* lock_folder(path), unlock_folder(path): for this process alone (io/file.h). */
static int l_lock_folder(lua_State *L) {
    ldl_ok(L, ld_folder_lock(path_arg(L, 1, "lock_folder")));
    return 0;
}

static int l_unlock_folder(lua_State *L) {
    ld_folder_unlock(path_arg(L, 1, "unlock_folder"));
    return 0;
}

/* sweep_folder(path): removes what killed processes left there of files they were writing (io/file.h). */
static int l_sweep_folder(lua_State *L) {
    ld_file_sweep(path_arg(L, 1, "sweep_folder"));
    return 0;
}

/* file_kind(path): 'file', 'folder', 'other' or nil; and its size in bytes */
static int l_file_kind(lua_State *L) {
    struct stat s;
    if (stat(path_arg(L, 1, "file_kind"), &s))
        return 0;
    lua_pushstring(L, S_ISREG(s.st_mode) ? "file" : S_ISDIR(s.st_mode) ? "folder" : "other");
    lua_pushnumber(L, (lua_Number)s.st_size);
    return 2;
}

/* disk_free(path): bytes, or nil when unknown */
static int l_disk_free(lua_State *L) {
    int64_t n = ld_disk_free(path_arg(L, 1, "disk_free"));
    if (n < 0)
        return 0;
    lua_pushnumber(L, (lua_Number)n);
    return 1;
}

/* clock(): seconds since 1970, with fractions */
static int l_clock(lua_State *L) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    lua_pushnumber(L, (lua_Number)t.tv_sec + (lua_Number)t.tv_nsec * 1e-9);
    return 1;
}

/* terminal(): is standard output a terminal?, and how many columns it has, nil when it does not say */
static int l_terminal(lua_State *L) {
    struct winsize size;
    lua_pushboolean(L, isatty(STDOUT_FILENO));
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_col)
        return 1;
    lua_pushinteger(L, size.ws_col);
    return 2;
}

/* sha256(string) */
static int l_sha256(lua_State *L) {
    size_t n;
    char hex[65];
    const char *s = luaL_checklstring(L, 1, &n);
    ld_sha256(s, n, hex);
    lua_pushstring(L, hex);
    return 1;
}

/* sha256_file(path) */
static int l_sha256_file(lua_State *L) {
    ld_map m;
    char hex[65];
    ldl_ok(L, ld_map_open(&m, path_arg(L, 1, "sha256_file")));
    ld_sha256(m.data, m.n, hex);
    ld_map_close(&m);
    lua_pushstring(L, hex);
    return 1;
}

/* libraries(): {name = version} of the libraries that compute and store */
static int l_libraries(lua_State *L) {
    const char *hdf5 = ld_h5_library();
    lua_createtable(L, 0, 2);
    lua_pushstring(L, ld_cpu_libraries());
    lua_setfield(L, -2, "onednn");
    lua_pushstring(L, hdf5 ? hdf5 : ld_error());
    lua_setfield(L, -2, "hdf5");
    return 1;
}

void ldl_open_io(lua_State *L) {
    static const luaL_Reg safe[] = {
        {"names", l_safe_names}, {"shape", l_safe_shape}, {"read", l_safe_read}, {"metadata", l_safe_metadata},
        {"close", l_safe_close}, {"__gc", l_safe_close},  {NULL, NULL}};
    static const luaL_Reg h5[] = {{"commit", l_h5_commit},
                                  {"close", l_h5_close},
                                  {"flush", l_h5_flush},
                                  {"write", l_h5_write},
                                  {"read", l_h5_read},
                                  {"make", l_h5_make},
                                  {"write_rows", l_h5_write_rows},
                                  {"read_rows", l_h5_read_rows},
                                  {"shape", l_h5_shape},
                                  {"exists", l_h5_exists},
                                  {"list", l_h5_list},
                                  {"attributes", l_h5_attributes},
                                  {"attribute", l_h5_attribute},
                                  {"write_strings", l_h5_write_strings},
                                  {"read_strings", l_h5_read_strings},
                                  {"__gc", l_h5_close},
                                  {NULL, NULL}};
    static const luaL_Reg functions[] = {{"safetensors_open", l_safe_open},  {"safetensors_write", l_safe_write},
                                         {"h5_create", l_h5_create},         {"h5_open", l_h5_open},
                                         {"write_file", l_write_file},       {"append_file", l_append_file},
                                         {"rename_file", l_rename_file},     {"make_dirs", l_make_dirs},
                                         {"sweep_folder", l_sweep_folder},   {"lock_folder", l_lock_folder},
                                         {"unlock_folder", l_unlock_folder}, {"file_kind", l_file_kind},
                                         {"disk_free", l_disk_free},         {"clock", l_clock},
                                         {"terminal", l_terminal},           {"sha256", l_sha256},
                                         {"sha256_file", l_sha256_file},     {"link_file", l_link_file},
                                         {"list_files", l_list_files},       {"file_fail_at", l_file_fail_at},
                                         {"h5_check", l_h5_check},           {"h5_create_summed", l_h5_create_summed},
                                         {"libraries", l_libraries},         {NULL, NULL}};
    ldl_class(L, CLASS_SAFE, safe);
    ldl_class(L, CLASS_H5, h5);
    luaL_register(L, NULL, functions);
}
