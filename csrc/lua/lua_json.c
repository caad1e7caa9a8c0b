/* JSON in Lua, through cJSON. Arrays are tables numbered from 1; null is nil. */
#include "lua/ldl.h"

#include <cjson/cJSON.h>

#include <math.h>
#include <stdlib.h>

static void push_value(lua_State *L, const cJSON *v) {
    luaL_checkstack(L, 4, "json");
    if (cJSON_IsString(v)) {
        lua_pushstring(L, v->valuestring);
    } else if (cJSON_IsNumber(v)) {
        lua_pushnumber(L, v->valuedouble);
    } else if (cJSON_IsBool(v)) {
        lua_pushboolean(L, cJSON_IsTrue(v));
    } else if (cJSON_IsArray(v) || cJSON_IsObject(v)) {
        lua_newtable(L);
        int i = 0;
        for (const cJSON *c = v->child; c; c = c->next) {
            push_value(L, c);
            if (cJSON_IsArray(v))
                lua_rawseti(L, -2, ++i);
            else
                lua_setfield(L, -2, c->string);
        }
    } else {
        lua_pushnil(L);
    }
}

/* json_decode(string): the value, or nil when it is no JSON */
static int l_decode(lua_State *L) {
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    cJSON *v = cJSON_ParseWithLength(s, n);
    if (!v)
        return 0;
    push_value(L, v);
    cJSON_Delete(v);
    return 1;
}

/* A finite number as JSON; others, which JSON lacks, as strings. */
static cJSON *from_number(double v) {
    return isfinite(v) ? cJSON_CreateNumber(v) : cJSON_CreateString(isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
}

static cJSON *from_value(lua_State *L, int i, int depth);

/* Keys in order, so that equal tables give equal text. */
static cJSON *from_object(lua_State *L, int i, int depth) {
    cJSON *o = cJSON_CreateObject();
    lua_getglobal(L, "table");
    lua_getfield(L, -1, "sort");
    lua_replace(L, -2);
    lua_newtable(L);
    int n = 0;
    for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_tostring(L, -1);
        lua_rawseti(L, -4, ++n);
    }
    lua_pushvalue(L, -1);
    lua_insert(L, -3);
    lua_call(L, 1, 0);
    for (int k = 1; k <= n; k++) {
        lua_rawgeti(L, -1, k);
        lua_pushvalue(L, -1);
        lua_gettable(L, i);
        cJSON_AddItemToObject(o, lua_tostring(L, -2), from_value(L, lua_gettop(L), depth + 1));
        lua_pop(L, 2);
    }
    lua_pop(L, 1);
    return o;
}

static cJSON *from_value(lua_State *L, int i, int depth) {
    luaL_checkstack(L, 8, "json");
    switch (lua_type(L, i)) {
    case LUA_TNUMBER:
        return from_number(lua_tonumber(L, i));
    case LUA_TBOOLEAN:
        return cJSON_CreateBool(lua_toboolean(L, i));
    case LUA_TSTRING:
        return cJSON_CreateString(lua_tostring(L, i));
    case LUA_TTABLE:
        break;
    default:
        return cJSON_CreateNull();
    }
    if (depth > 32)
        return cJSON_CreateNull();
    int n = (int)lua_objlen(L, i);
    if (n == 0)
        return from_object(L, i, depth);
    cJSON *a = cJSON_CreateArray();
    for (int k = 1; k <= n; k++) {
        lua_rawgeti(L, i, k);
        cJSON_AddItemToArray(a, from_value(L, lua_gettop(L), depth + 1));
        lua_pop(L, 1);
    }
    return a;
}

/* json_encode(value, pretty): text; tables with a first element are arrays, others objects with keys in order */
static int l_encode(lua_State *L) {
    lua_settop(L, 2);
    cJSON *v = from_value(L, 1, 0);
    char *s = lua_toboolean(L, 2) ? cJSON_Print(v) : cJSON_PrintUnformatted(v);
    cJSON_Delete(v);
    lua_pushstring(L, s ? s : "null");
    cJSON_free(s);
    return 1;
}

void ldl_open_json(lua_State *L) {
    static const luaL_Reg functions[] = {{"json_decode", l_decode}, {"json_encode", l_encode}, {NULL, NULL}};
    luaL_register(L, NULL, functions);
}
