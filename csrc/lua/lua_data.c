/* Pictures and augmentation in Lua. */
#include "lua/ldl.h"

#include "data/augment.h"
#include "data/pictures.h"
#include "io/terminal.h"

#include <stdlib.h>
#include <string.h>

/* load_image(path, channels = 3): (channels,height,width) u8 */
static int l_load_image(lua_State *L) {
    ldl_install_where(L);
    const char *path = luaL_checkstring(L, 1);
    return ldl_push(L, ld_image_load(path, (int)ldl_number_or(L, 2, 3, "load_image", "the number of channels")));
}

/* save_image(x, path, {key = string}): PNG; the strings are stored in it as text */
static int l_save_image(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "save_image");
    const char *path = luaL_checkstring(L, 2), *text[65];
    lua_settop(L, 3);
    ldl_strings(L, 3, text, 32, "save_image");
    ldl_ok(L, ld_image_save(x, path, text));
    return 0;
}

/* terminal_mode(): 'half', 'sixel', 'kitty' or 'iterm', from the environment and what the terminal answers; nil and the
 * reason without libchafa */
static int l_terminal_mode(lua_State *L) {
    int mode = ld_terminal_detect();
    if (mode >= 0) {
        lua_pushstring(L, ld_terminal_mode_names[mode]);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, ld_error());
    ld_error_clear();
    return 2;
}

/* terminal_size(): columns, rows (0 when it is no terminal), pixels of a cell: width, height, and those of the largest
 * sixel picture (0: it does not say) */
static int l_terminal_size(lua_State *L) {
    ld_terminal_size size = ld_terminal_measure();
    lua_pushinteger(L, size.columns);
    lua_pushinteger(L, size.rows);
    lua_pushinteger(L, size.cell_width);
    lua_pushinteger(L, size.cell_height);
    lua_pushinteger(L, size.most_width);
    lua_pushinteger(L, size.most_height);
    return 6;
}

/* terminal_picture(x, {mode, columns, rows, cell_width = 10, cell_height = 20}): x as save_image takes it, as text for a
 * terminal; rows and columns in cells */
static int l_terminal_picture(lua_State *L) {
    static const char who[] = "terminal_picture";
    ld_tensor *x = ldl_tensor(L, 1, who);
    ldl_options(L, 2, who, "mode columns rows cell_width cell_height");
    const char *name = ldl_field_string(L, 2, "mode", "half", who);
    int mode = 0;
    ld_terminal_size size = {.columns = (int)ldl_field_int(L, 2, "columns", 80, who),
                             .rows = (int)ldl_field_int(L, 2, "rows", 24, who),
                             .cell_width = (int)ldl_field_int(L, 2, "cell_width", 10, who),
                             .cell_height = (int)ldl_field_int(L, 2, "cell_height", 20, who)};
    while (mode < LD_TERMINAL_MODES && strcmp(ld_terminal_mode_names[mode], name) != 0)
        mode++;
    if (mode == LD_TERMINAL_MODES)
        return ldl_error(L, "%s: unknown mode '%s'; known: half sixel kitty iterm", who, name);
    ld_image im;
    char *text = NULL;
    size_t n = 0;
    ldl_ok(L, ld_image_from(&im, x));
    int bad = ld_terminal_picture(&im, (ld_terminal_mode)mode, size, &text, &n);
    ld_image_free(&im);
    ldl_ok(L, bad);
    lua_pushlstring(L, text, n);
    free(text);
    return 1;
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

/* The numbers (from 1, at most n) of the list at i as i64 on device d; they are counted from 0 there. The list's copy on the host
 * goes by way of a userdata, so that an error leaks nothing. */
static ld_tensor *row_list(lua_State *L, int i, int64_t n, ld_device *d, const char *who) {
    luaL_checktype(L, i, LUA_TTABLE);
    int64_t count = (int64_t)lua_objlen(L, i);
    int64_t *v = lua_newuserdata(L, ((size_t)count + 1) * sizeof *v);
    for (int64_t k = 0; k < count; k++) {
        lua_rawgeti(L, i, (int)k + 1);
        v[k] = ldl_int(L, lua_gettop(L), who, "a row") - 1;
        if (v[k] < 0 || v[k] >= n)
            ldl_error(L, "%s: row %lld; x has %lld", who, (long long)v[k] + 1, (long long)n);
        lua_pop(L, 1);
    }
    ld_tensor *t = ld_tensor_new(d, LD_I64, 1, &count, who);
    if (t && ld_device_upload(d, ld_tensor_data(t), v, (size_t)count * sizeof *v)) {
        ld_tensor_drop(t);
        t = NULL;
    }
    if (!t)
        ldl_raise(L);
    return t;
}

/* gather(x, rows or nil, {shift, scale, pad = 0, erase = 0, max = 4, flip = 0, seed = 0, first = 0}): a new tensor */
static int l_gather(lua_State *L) {
    static const char who[] = "augment.gather";
    ld_tensor *x = ldl_tensor(L, 1, who);
    ldl_options(L, 3, who, "shift scale pad erase max flip seed first");
    ld_tensor *shift = ldl_field_tensor(L, 3, "shift", who), *scale = ldl_field_tensor(L, 3, "scale", who);
    ld_augment a = {.pad = (int)ldl_field_int(L, 3, "pad", 0, who),
                    .erase = ldl_field_number(L, 3, "erase", 0, who),
                    .erases = (int)ldl_field_int(L, 3, "max", 4, who),
                    .flip = ldl_field_number(L, 3, "flip", 0, who),
                    .seed = (uint64_t)ldl_field_int(L, 3, "seed", 0, who),
                    .first = (uint64_t)ldl_field_int(L, 3, "first", 0, who)};
    bool listed = !lua_isnoneornil(L, 2) && x->ndim > 0;
    ld_tensor *rows = listed ? row_list(L, 2, x->shape[0], x->storage->device, who) : NULL;
    ld_tensor *y = ld_augment_gather(x, rows, NULL, shift, scale, &a);
    ld_tensor_drop(rows);
    return ldl_push(L, y);
}

void ldl_open_data(lua_State *L) {
    static const luaL_Reg functions[] = {{"load_image", l_load_image},
                                         {"save_image", l_save_image},
                                         {"faces", l_faces},
                                         {"terminal_mode", l_terminal_mode},
                                         {"terminal_size", l_terminal_size},
                                         {"terminal_picture", l_terminal_picture},
                                         {NULL, NULL}};
    static const luaL_Reg augment[] = {{"gather", l_gather},
                                       {"pad_crop", l_pad_crop},
                                       {"rand_erase", l_rand_erase},
                                       {"random_flip", l_flip},
                                       {NULL, NULL}};
    luaL_register(L, NULL, functions);
    lua_newtable(L);
    luaL_register(L, NULL, augment);
    lua_setfield(L, -2, "augment");
}
