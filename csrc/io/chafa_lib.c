#include "io/chafa_lib.h"

#include "base/error.h"
#include "io/symbol.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>

chafa_lib lc;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int find(void *library, const char *symbol, void *to) {
    return ld_symbol(library, "show", LD_LIBCHAFA, symbol, to);
}

static int load(void) {
    void *library = dlopen(LD_LIBCHAFA, RTLD_LAZY | RTLD_LOCAL);
    if (!library)
        return ld_fail(LD_EIO, "show: cannot load the library: %s", dlerror());
#define F(name) find(library, "chafa_" #name, &lc.name) ||
    if (CHAFA_FUNCTIONS(F) find(library, "g_string_free", &lc.string_free)) {
        dlclose(library);
        return ld_error_code();
    }
#undef F
    return 0;
}

int chafa_load(void) {
    static bool loaded;
    pthread_mutex_lock(&lock);
    int code = loaded ? 0 : load();
    loaded = !code;
    pthread_mutex_unlock(&lock);
    return code;
}
