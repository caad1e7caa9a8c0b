/* The user's cache folder: $XDG_CACHE_HOME/ldlua, else ~/.cache/ldlua. */
#ifndef LD_CACHE_H
#define LD_CACHE_H

#include <stdbool.h>

/* The path of `name` in it into path[LD_PATH_MAX] (io/file.h); nothing is made. false: there is no place for it, neither
 * variable is an absolute path. */
bool ld_cache_path(char *path, const char *name);

#endif
