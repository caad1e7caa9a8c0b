#include "io/symbol.h"

#include "base/error.h"

#include <dlfcn.h>
#include <string.h>

/* C has no conversion from an object's address to a function's: its bytes are copied. */
int ld_symbol(void *library, const char *who, const char *file, const char *symbol, void *to) {
    void *address = dlsym(library, symbol);
    if (!address)
        return ld_fail(LD_EIO, "%s: %s has no %s", who, file, symbol);
    memcpy(to, &address, sizeof address);
    return 0;
}
