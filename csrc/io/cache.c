#include "io/cache.h"

#include "io/file.h"

#include <stdio.h>
#include <stdlib.h>

bool ld_cache_path(char *path, const char *name) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (cache && *cache == '/')
        n = snprintf(path, LD_PATH_MAX, "%s/ldlua/%s", cache, name);
    else if (home && *home == '/')
        n = snprintf(path, LD_PATH_MAX, "%s/.cache/ldlua/%s", home, name);
    return n > 0 && n < LD_PATH_MAX;
}
