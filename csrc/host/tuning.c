/* The file of timed choices (backend/tune.h): tune.txt in the cache folder (io/cache.h).
 *
 * It is read when the first choice is looked for and written again at the end of the process, and before a checkpoint, so
 * that a run that resumes computes as it did before. A file that cannot be read or written is done without. */
#include "host/host.h"

#include "backend/tune.h"
#include "base/error.h"
#include "io/cache.h"
#include "io/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4 << 20 };

static void load(void) {
    char path[LD_PATH_MAX];
    void *bytes;
    size_t n;
    if (!ld_cache_path(path, "tune.txt") || ld_file_read(path, &bytes, &n, MOST)) {
        ld_error_clear();
        return;
    }
    char *text = malloc(n + 1);
    if (text) {
        memcpy(text, bytes, n);
        text[n] = 0;
        ld_tune_read(text);
    }
    free(text);
    free(bytes);
}

void host_tuning_start(bool refused) {
    const char *wish = getenv("LD_TUNE");
    ld_tune_on_first(load);
    ld_tune_set(!refused && !(wish && !strcmp(wish, "0")));
}

void host_tuning_save(void) {
    char path[LD_PATH_MAX], folder[LD_PATH_MAX];
    if (!ld_tune_unsaved() || !ld_cache_path(path, "tune.txt"))
        return;
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    if (!ld_tune_cleared())
        load(); /* what other processes have added meanwhile stays */
    char *text = ld_tune_text();
    if (!text || ld_make_dirs(folder) || ld_file_write(path, text, strlen(text)))
        ld_error_clear();
    else
        ld_tune_saved();
    free(text);
}

/* ld.host.save_tuning() */
static int l_save_tuning(lua_State *L) {
    (void)L;
    host_tuning_save();
    return 0;
}

void host_tuning_open(lua_State *L) {
    lua_pushcfunction(L, l_save_tuning);
    lua_setfield(L, -2, "save_tuning");
}
