#include "io/chafa_lib.h"

#include "base/error.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

chafa_lib lc;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* A symbol as what it is: C has no conversion from an object's address to a function's. */
static int find(void *library, const char *symbol, void *to) {
    void *address = dlsym(library, symbol);
    if (!address)
        return ld_fail(LD_EIO, "show: %s has no %s", LD_LIBCHAFA, symbol);
    memcpy(to, &address, sizeof address);
    return 0;
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
