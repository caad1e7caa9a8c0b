/* TensorBoard's event files in Lua. */
#include "lua/ldl.h"

#include "io/event.h"

#define CLASS "ld.event_file"

/* event_file(path, time, first_step): a new file; readers forget what earlier ones have from first_step on. */
static int l_create(lua_State *L) {
    ldl_push_object(L,
                    ld_event_create(ldl_string(L, 1, "event_file", "the path"),
                                    ldl_number(L, 2, "event_file", "the time"),
                                    ldl_int(L, 3, "event_file", "the first step")),
                    CLASS);
    return 1;
}

/* f:scalar(time, step, tag, value) */
static int l_scalar(lua_State *L) {
    static const char who[] = "scalar";
    ld_event_file *f = ldl_object(L, 1, CLASS, who);
    ldl_ok(L, ld_event_scalar(f, ldl_number(L, 2, who, "the time"), ldl_int(L, 3, who, "the step"),
                              ldl_string(L, 4, who, "the tag"), ldl_number(L, 5, who, "the value")));
    return 0;
}

/* f:image(time, step, tag, width, height, channels, png) */
static int l_image(lua_State *L) {
    static const char who[] = "image";
    size_t n;
    ld_event_file *f = ldl_object(L, 1, CLASS, who);
    const char *png = luaL_checklstring(L, 8, &n);
    ldl_ok(L, ld_event_image(f, ldl_number(L, 2, who, "the time"), ldl_int(L, 3, who, "the step"),
                             ldl_string(L, 4, who, "the tag"), (int)ldl_int(L, 5, who, "the width"),
                             (int)ldl_int(L, 6, who, "the height"), (int)ldl_int(L, 7, who, "the channels"), png, n));
    return 0;
}

/* f:flush(): what was added goes to the file */
static int l_flush(lua_State *L) {
    ldl_ok(L, ld_event_flush(ldl_object(L, 1, CLASS, "flush")));
    return 0;
}

static int l_close(lua_State *L) {
    void **p = luaL_checkudata(L, 1, CLASS);
    ld_event_close(*p);
    *p = NULL;
    return 0;
}

void ldl_open_event(lua_State *L) {
    static const luaL_Reg methods[] = {{"scalar", l_scalar}, {"image", l_image}, {"flush", l_flush},
                                       {"close", l_close},   {"__gc", l_close},  {NULL, NULL}};
    ldl_class(L, CLASS, methods);
    lua_pushcfunction(L, l_create);
    lua_setfield(L, -2, "event_file");
}
