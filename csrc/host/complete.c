/* Tab: completes globals, fields of tables and methods of objects. Looks with raw access only, so that a Tab never runs
 * user code. Names that are loaded later, options and files come from lua/ld/prompt.lua. */
#include "host/host.h"

#include <ctype.h>
#include <glob.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

/* What a base value's metatables may be followed through. */
#define MAX_DEPTH 8

typedef struct search {
    const char *line; /* from its beginning */
    const char *text; /* the name so far, e.g. "ld.optim.ad" */
    size_t length;
    char **common, **list;
    int count;
} search;

static bool in_name(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

/* True for a key that can be written after a dot. */
static bool is_identifier(const char *s, size_t n) {
    if (!n || isdigit((unsigned char)s[0]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!in_name(s[i]))
            return false;
    return true;
}

/* Replaces the value on top by its metatable's __index table, nil when there is none. */
static void index_table(lua_State *L) {
    if (!lua_getmetatable(L, -1)) {
        lua_pushnil(L);
    } else {
        lua_pushliteral(L, "__index");
        lua_rawget(L, -2);
        lua_remove(L, -2);
    }
    lua_remove(L, -2);
}

/* Replaces the value on top by its field, nil when it has none; follows __index tables. */
static void field(lua_State *L, const char *name, size_t n) {
    for (int depth = 0; depth < MAX_DEPTH && !lua_isnil(L, -1); depth++) {
        if (lua_istable(L, -1)) {
            lua_pushlstring(L, name, n);
            lua_rawget(L, -2);
            if (!lua_isnil(L, -1)) {
                lua_remove(L, -2);
                return;
            }
            lua_pop(L, 1);
        }
        index_table(L);
    }
    lua_pop(L, 1);
    lua_pushnil(L);
}

/* Adds the names of the table on top that begin with the given stem to the set below it. */
static void gather(lua_State *L, const char *stem, size_t n) {
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        size_t length;
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            const char *key = lua_tolstring(L, -1, &length);
            if (length >= n && !memcmp(key, stem, n) && is_identifier(key, length) && (n || key[0] != '_')) {
                lua_pushvalue(L, -1);
                lua_pushboolean(L, 1);
                lua_rawset(L, -5);
            }
        }
    }
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *join(const char **names, int count) {
    size_t size = 1, k = 0;
    char *out;
    for (int i = 0; i < count; i++)
        size += strlen(names[i]) + 1;
    out = malloc(size);
    for (int i = 0; out && i < count; i++) {
        size_t n = strlen(names[i]);
        memcpy(out + k, names[i], n);
        k += n;
        out[k++] = i + 1 < count ? ' ' : 0;
    }
    return out;
}

/* The set on top of the stack, sorted, into the answer. */
static void answer(lua_State *L, search *s, size_t stem) {
    const char **names;
    size_t same;
    int n = 0;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        n++;
    if (!n)
        return;
    names = lua_newuserdata(L, (size_t)n * sizeof *names);
    lua_insert(L, -2);
    n = 0;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        names[n++] = lua_tostring(L, -2);
    qsort(names, (size_t)n, sizeof *names, by_name);
    same = strlen(names[0]);
    for (int i = 1; i < n; i++)
        for (size_t k = 0; k < same; k++)
            if (names[i][k] != names[0][k])
                same = k;
    *s->list = join(names, n);
    *s->common = strndup(names[0] + stem, same - stem);
    s->count = *s->list && *s->common ? n : 0;
}

/* Calls ld.prompt.candidates(text): leaves the set of names it gives, nil without any; *stem is the length of what they
 * complete, *only whether there are no others. */
static void ask_prompt(lua_State *L, const char *text, size_t length, size_t *stem, bool *only) {
    int top = lua_gettop(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "ld.prompt");
    if (!lua_pcall(L, 1, 1, 0) && lua_istable(L, -1)) {
        lua_getfield(L, -1, "candidates");
        lua_pushlstring(L, text, length);
        if (!lua_pcall(L, 1, 3, 0) && lua_isstring(L, -3) && lua_istable(L, -2)) {
            *stem = lua_objlen(L, -3);
            *only = lua_toboolean(L, -1);
            lua_pushvalue(L, -2);
            lua_replace(L, top + 1);
            lua_settop(L, top + 1);
            return;
        }
    }
    lua_settop(L, top);
    lua_pushnil(L);
}

/* Leaves of the set at `from` what begins with the stem in the set on top. */
static void add_matching(lua_State *L, int from, const char *stem, size_t n) {
    for (lua_pushnil(L); lua_next(L, from); lua_pop(L, 1)) {
        size_t length;
        const char *key = lua_tolstring(L, -2, &length);
        if (length < n || memcmp(key, stem, n))
            continue;
        lua_pushvalue(L, -2);
        lua_pushboolean(L, 1);
        lua_rawset(L, -5);
    }
}

static int l_complete(lua_State *L) {
    search *s = lua_touserdata(L, 1);
    const char *p = s->text, *end = s->text + s->length;
    size_t stem = 0;
    bool only = false;
    ask_prompt(L, s->line, (size_t)(end - s->line), &stem, &only);
    if (only) {
        lua_newtable(L);
        add_matching(L, 2, end - stem, stem);
        answer(L, s, stem);
        return 0;
    }
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    for (const char *q = p; q < end; q++) {
        if (*q != '.' && *q != ':')
            continue;
        field(L, p, (size_t)(q - p));
        p = q + 1;
    }
    lua_newtable(L);
    lua_insert(L, -2);
    for (int depth = 0; depth < MAX_DEPTH && !lua_isnil(L, -1); depth++) {
        if (lua_istable(L, -1))
            gather(L, p, (size_t)(end - p));
        index_table(L);
    }
    lua_pop(L, 1);
    if (lua_istable(L, 2))
        add_matching(L, 2, p, (size_t)(end - p));
    answer(L, s, (size_t)(end - p));
    return 0;
}

int complete(lua_State *L, const char *text, size_t length, char **common, char **list) {
    size_t start = length;
    search s = {.common = common, .list = list};
    *common = *list = NULL;
    while (start && (in_name(text[start - 1]) || text[start - 1] == '.' || text[start - 1] == ':'))
        start--;
    s.line = text;
    s.text = text + start;
    s.length = length - start;
    if (lua_cpcall(L, l_complete, &s))
        lua_pop(L, 1);
    if (!s.count) {
        free(*common);
        free(*list);
        *common = *list = NULL;
    }
    return s.count;
}

/* files(prefix): the paths that begin so, folders with a slash behind them. Names with a blank are left out: the list of
 * candidates is separated by them. */
static int l_files(lua_State *L) {
    glob_t g;
    luaL_Buffer b;
    int n = 0;
    luaL_buffinit(L, &b);
    for (const char *p = luaL_checkstring(L, 1); *p; p++) {
        if (strchr("*?[]\\", *p))
            luaL_addchar(&b, '\\');
        luaL_addchar(&b, *p);
    }
    luaL_addchar(&b, '*');
    luaL_pushresult(&b);
    lua_newtable(L);
    if (glob(lua_tostring(L, -2), GLOB_MARK, NULL, &g))
        return 1;
    for (size_t i = 0; i < g.gl_pathc; i++) {
        if (strchr(g.gl_pathv[i], ' '))
            continue;
        lua_pushstring(L, g.gl_pathv[i]);
        lua_rawseti(L, -2, ++n);
    }
    globfree(&g);
    return 1;
}

void complete_open(lua_State *L) {
    lua_pushcfunction(L, l_files);
    lua_setfield(L, -2, "files");
}
