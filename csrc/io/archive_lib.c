#include "io/archive_lib.h"

#include "base/error.h"
#include "io/archive.h"
#include "io/symbol.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

archive_lib la;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int find(void *library, const char *symbol, void *to) {
    return ld_symbol(library, "archive", LD_LIBARCHIVE, symbol, to);
}

static int load(void) {
    void *library = dlopen(LD_LIBARCHIVE, RTLD_LAZY | RTLD_LOCAL);
    if (!library)
        return ld_fail(LD_EIO, "archive: cannot load the library: %s", dlerror());
#define F(name) find(library, "archive_" #name, &la.name) ||
    if (ARCHIVE_FUNCTIONS(F) 0) {
        dlclose(library);
        return ld_error_code();
    }
#undef F
    la.utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    return 0;
}

int archive_load(void) {
    static bool loaded;
    pthread_mutex_lock(&lock);
    int code = loaded ? 0 : load();
    loaded = !code;
    pthread_mutex_unlock(&lock);
    return code;
}

const char *ld_archive_library(void) {
    static char text[96];
    if (archive_load())
        return NULL;
    snprintf(text, sizeof text, "%.48s (%s)", la.version_string(), LD_LIBARCHIVE);
    return text;
}
