/* JSON in Lua. Arrays are tables numbered from 1; null is nil. */
#include "lua/ldl.h"

#include "io/json.h"

#include <math.h>
#include <string.h>

#define CLASS "ld.json"

/* ---- reading -------------------------------------------------------------------------------------------------------- */

/* The value that e begins, pushed. */
static void push_value(lua_State *L, ld_json *j, ld_json_event e) {
    luaL_checkstack(L, 4, "json");
    if (e.kind == LD_JSON_STRING) {
        lua_pushstring(L, e.text);
    } else if (e.kind == LD_JSON_NUMBER) {
        lua_pushnumber(L, e.number);
    } else if (e.kind == LD_JSON_TRUE || e.kind == LD_JSON_FALSE) {
        lua_pushboolean(L, e.kind == LD_JSON_TRUE);
    } else if (e.kind == LD_JSON_NULL) {
        lua_pushnil(L);
    } else {
        bool array = e.kind == LD_JSON_ARRAY;
        lua_newtable(L);
        for (int i = 1; ld_json_next(j, &e) && e.kind != LD_JSON_END; i++) {
            if (array)
                lua_pushinteger(L, i);
            else
                lua_pushstring(L, e.key);
            push_value(L, j, e);
            lua_rawset(L, -3);
        }
    }
}

/* json_decode(string): the value; nil and what is wrong when it is no JSON */
static int l_decode(lua_State *L) {
    size_t n;
    if (lua_type(L, 1) != LUA_TSTRING)
        ldl_error(L, "json_decode: a string was expected, not %s", luaL_typename(L, 1));
    const char *s = lua_tolstring(L, 1, &n);
    ld_json *j = ld_json_parse(s, n);
    if (!j) {
        lua_pushnil(L);
        lua_pushstring(L, ld_error());
        return 2;
    }
    ldl_push_object(L, j, CLASS); /* closed by the collector, should an error cut this short */
    ld_json_event e;
    ld_json_next(j, &e);
    push_value(L, j, e);
    return 1;
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

static void add_event(lua_State *L, ld_json *j, ld_json_event e) {
    ldl_ok(L, ld_json_add(j, &e));
}

/* A finite number as such; others, which JSON lacks, as strings. */
static ld_json_event number_event(const char *key, double v) {
    if (isfinite(v))
        return (ld_json_event){.kind = LD_JSON_NUMBER, .key = key, .number = v};
    return (ld_json_event){.kind = LD_JSON_STRING, .key = key, .text = isnan(v) ? "nan" : v > 0 ? "inf" : "-inf"};
}

static const char *text_at(lua_State *L, int i) {
    size_t n;
    const char *s = lua_tolstring(L, i, &n);
    if (strlen(s) != n)
        ldl_error(L, "json_encode: a string with a zero byte at position %d", (int)strlen(s) + 1);
    return s;
}

static void add_value(lua_State *L, ld_json *j, int i, const char *key);

/* Members in order of their names, so that equal tables give equal text. Numbers as keys become names. */
static void add_object(lua_State *L, ld_json *j, int i, const char *key) {
    lua_newtable(L); /* the names */
    lua_newtable(L); /* name -> value */
    int n = 0, names = lua_gettop(L) - 1, values = names + 1;
    for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING && lua_type(L, -2) != LUA_TNUMBER)
            ldl_error(L, "json_encode: a key is a %s; strings and numbers are possible", luaL_typename(L, -2));
        lua_pushvalue(L, -2);
        lua_tostring(L, -1);
        lua_pushvalue(L, -1);
        lua_rawseti(L, names, ++n);
        lua_pushvalue(L, -2);
        lua_rawset(L, values);
    }
    lua_pushvalue(L, lua_upvalueindex(1)); /* table.sort */
    lua_pushvalue(L, names);
    lua_call(L, 1, 0);
    add_event(L, j, (ld_json_event){.kind = LD_JSON_OBJECT, .key = key});
    for (int k = 1; k <= n; k++) {
        lua_rawgeti(L, names, k);
        lua_pushvalue(L, -1);
        lua_rawget(L, values);
        add_value(L, j, lua_gettop(L), text_at(L, -2));
        lua_pop(L, 2);
    }
    add_event(L, j, (ld_json_event){.kind = LD_JSON_END});
    lua_pop(L, 2);
}

static void add_array(lua_State *L, ld_json *j, int i, const char *key) {
    int n = (int)lua_objlen(L, i), found = 0;
    for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1))
        found++;
    if (found != n)
        ldl_error(L,
                  "json_encode: a table has %d values from position 1 on and %d others; it must be a list or have "
                  "names throughout",
                  n, found - n);
    add_event(L, j, (ld_json_event){.kind = LD_JSON_ARRAY, .key = key});
    for (int k = 1; k <= n; k++) {
        lua_rawgeti(L, i, k);
        add_value(L, j, lua_gettop(L), NULL);
        lua_pop(L, 1);
    }
    add_event(L, j, (ld_json_event){.kind = LD_JSON_END});
}

static void add_value(lua_State *L, ld_json *j, int i, const char *key) {
    luaL_checkstack(L, 12, "json_encode");
    switch (lua_type(L, i)) {
    case LUA_TNUMBER:
        add_event(L, j, number_event(key, lua_tonumber(L, i)));
        return;
    case LUA_TBOOLEAN:
        add_event(L, j, (ld_json_event){.kind = lua_toboolean(L, i) ? LD_JSON_TRUE : LD_JSON_FALSE, .key = key});
        return;
    case LUA_TSTRING:
        add_event(L, j, (ld_json_event){.kind = LD_JSON_STRING, .key = key, .text = text_at(L, i)});
        return;
    case LUA_TNIL:
        add_event(L, j, (ld_json_event){.kind = LD_JSON_NULL, .key = key});
        return;
    case LUA_TTABLE:
        if (lua_objlen(L, i))
            add_array(L, j, i, key);
        else
            add_object(L, j, i, key);
        return;
    default:
        ldl_error(L, "json_encode: a %s%s%s has no place in JSON", luaL_typename(L, i), key ? " under " : "",
                  key ? key : "");
    }
}

/* json_encode(value, pretty): text; tables with a first element are arrays, others objects with keys in order; nan and
 * the infinities become strings. Tables that hold themselves are too deep. */
static int l_encode(lua_State *L) {
    lua_settop(L, 2);
    ldl_push_object(L, ld_json_new(), CLASS);
    ld_json *j = *(ld_json **)lua_touserdata(L, 3);
    add_value(L, j, 1, NULL);
    const char *s = ld_json_text(j, lua_toboolean(L, 2));
    if (!s)
        return ldl_raise(L);
    lua_pushstring(L, s);
    return 1;
}

static int l_gc(lua_State *L) {
    ld_json **p = lua_touserdata(L, 1);
    ld_json_close(*p);
    *p = NULL;
    return 0;
}

void ldl_open_json(lua_State *L) {
    static const luaL_Reg functions[] = {{"json_decode", l_decode}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"__gc", l_gc}, {NULL, NULL}};
    ldl_class(L, CLASS, methods);
    luaL_register(L, NULL, functions);
    lua_getglobal(L, "table");
    lua_getfield(L, -1, "sort");
    lua_replace(L, -2);
    lua_pushcclosure(L, l_encode, 1);
    lua_setfield(L, -2, "json_encode");
}
