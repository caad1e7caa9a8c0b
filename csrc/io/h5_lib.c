#include "io/h5_lib.h"

#include "base/error.h"
#include "io/h5.h"
#include "io/symbol.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>

h5_lib h5;

static int find(void *library, const char *symbol, void *to) {
    return ld_symbol(library, "hdf5", LD_HDF5, symbol, to);
}

/* The library fills in its identifiers when it is opened. */
static int find_value(void *library, const char *symbol, hid_t *to) {
    const hid_t *at = NULL;
    if (find(library, symbol, &at))
        return ld_error_code();
    *to = *at;
    return 0;
}

static int find_all(void *library) {
#define F(name) find(library, "H5" #name, &h5.name) ||
    if (H5_FUNCTIONS(F) find(library, H5_VISIT, &h5.visit))
        return ld_error_code();
#undef F
    /* Everything is closed by its owner. At exit the library would close once more what a full disk kept it from closing,
     * and crash. */
    h5.dont_atexit();
    if (h5.open() < 0)
        return ld_fail(LD_EIO, "hdf5: %s does not start", LD_HDF5);
#define V(name, symbol) find_value(library, #symbol, &h5.name) ||
    return H5_VALUES(V) 0 ? ld_error_code() : 0;
#undef V
}

const char *ld_h5_library(void) {
    static char text[96];
    unsigned major = 0, minor = 0, release = 0;
    if (h5_load())
        return NULL;
    h5.get_libversion(&major, &minor, &release);
    snprintf(text, sizeof text, "%u.%u.%u (%s)", major, minor, release, LD_HDF5);
    return text;
}

int h5_load(void) {
    static bool loaded;
    if (loaded)
        return 0;
    void *library = dlopen(LD_HDF5, RTLD_LAZY | RTLD_LOCAL);
    if (!library)
        return ld_fail(LD_EIO, "hdf5: cannot load the library: %s", dlerror());
    loaded = find_all(library) == 0;
    if (!loaded)
        dlclose(library);
    return loaded ? 0 : ld_error_code();
}
