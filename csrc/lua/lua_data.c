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

void ldl_open_data(lua_State *L) {
    static const luaL_Reg functions[] = {{"load_image", l_load_image},
                                         {"save_image", l_save_image},
                                         {"faces", l_faces},
                                         {"terminal_mode", l_terminal_mode},
                                         {"terminal_size", l_terminal_size},
                                         {"terminal_picture", l_terminal_picture},
                                         {NULL, NULL}};
    static const luaL_Reg augment[] = {
        {"pad_crop", l_pad_crop}, {"rand_erase", l_rand_erase}, {"random_flip", l_flip}, {NULL, NULL}};
    luaL_register(L, NULL, functions);
    lua_newtable(L);
    luaL_register(L, NULL, augment);
    lua_setfield(L, -2, "augment");
}
