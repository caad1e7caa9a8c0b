/* Where lua/ lies: beside the executable in the source tree, under share/ldlua when installed. */
#include "host/host.h"

#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* True, and the folder's real path in root, when it holds the library. */
static bool holds_library(const char *folder, char *root, size_t size) {
    char file[PATH_MAX + 32], real[PATH_MAX];
    if (!realpath(folder, real) || strlen(real) >= size)
        return false;
    snprintf(file, sizeof file, "%s/lua/ld/init.lua", real);
    if (access(file, R_OK))
        return false;
    memcpy(root, real, strlen(real) + 1);
    return true;
}

bool host_root_find(char *root, size_t size) {
    const char *given = getenv("LDLUA_ROOT");
    char exe[PATH_MAX], shared[PATH_MAX + 32], *slash;
    ssize_t n;
    if (given && *given) {
        if (holds_library(given, root, size))
            return true;
        fprintf(stderr, "ldlua: no lua/ld/init.lua in LDLUA_ROOT, which is %s\n", given);
        return false;
    }
    n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n < 0) {
        fprintf(stderr,
                "ldlua: cannot tell where it lies (/proc/self/exe: %s); set LDLUA_ROOT to the folder that holds "
                "lua/\n",
                strerror(errno));
        return false;
    }
    exe[n] = 0;
    slash = strrchr(exe, '/');
    if (slash)
        *slash = 0;
    snprintf(shared, sizeof shared, "%s/../share/ldlua", exe);
    if (holds_library(exe, root, size) || holds_library(shared, root, size))
        return true;
    fprintf(stderr,
            "ldlua: its Lua files are missing: no lua/ld/init.lua in %s or %s; set LDLUA_ROOT to the folder that holds "
            "lua/\n",
            exe, shared);
    return false;
}

void host_root_use(lua_State *L, const char *root) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    lua_pushfstring(L, "%s/lua/?.lua;%s/lua/?/init.lua;%s", root, root, lua_tostring(L, -1));
    lua_setfield(L, -3, "path");
    lua_pop(L, 2);
}
