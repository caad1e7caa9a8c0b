/* Plug-ins: backends in shared libraries, loaded when a device of theirs is first asked for.
 *
 * A plug-in is a file that exports one symbol, `ld_plugin_entry`, and links nothing of the program: what it needs of the
 * core it gets as a table of functions. The CUDA backend is build/ld_cuda.so in the source tree and lib/ldlua/ld_cuda.so
 * beside bin/ when installed; LD_CUDA_PLUGIN names another file, whose devices may be called otherwise (tests/fake). A
 * process computes on one device of a plug-in. */
#ifndef LD_PLUGIN_H
#define LD_PLUGIN_H

#include "backend/device.h"
#include "backend/tune.h"

/* Counts changes of this file, of ld_device, ld_device_ops and ld_backend: both sides must have been built with the same. */
enum { LD_PLUGIN_INTERFACE = 3 };

typedef struct ld_plugin_host {
    int interface;
    int (*fail)(int code, const char *text); /* ld_fail with the finished text */
    const char *(*error)(void);
    int (*error_code)(void);
    bool (*planning)(const ld_device *d); /* whether memory is planned on d */
    void (*plan_mark_workspace)(void);
    void *(*pool_take)(ld_pool *p, size_t n, const char *who);
    void (*pool_give)(ld_pool *p, void *block);
    void (*pool_trim)(ld_pool *p);
    int (*tune_run)(const ld_tune_case *c);
    bool (*tune_will_time)(const char *key);
    const ld_backend *cpu;
} ld_plugin_host;

/* How the parts of a plug-in are told to people: `what` is "driver" or the like, `text` a version, a path, or what is
 * missing. */
typedef void ld_plugin_say(void *arg, const char *what, const char *text);

typedef struct ld_plugin {
    int interface;
    const char *name; /* "cuda": devices are cuda:0, cuda:1, ... */
    /* how many devices there are, or -1 after an error: no driver, a driver too old */
    int (*count)(void);
    /* backend, ops, text of device i; its pool and name are there already. 0 or an error code */
    int (*open)(int i, ld_device *d);
    void (*doctor)(ld_plugin_say *say, void *arg);
} ld_plugin;

typedef const ld_plugin *ld_plugin_entry_fn(const ld_plugin_host *host);
/* The one symbol of a plug-in. */
__attribute__((visibility("default"))) ld_plugin_entry_fn ld_plugin_entry;

/* The plug-in for devices called `family`, loaded when need be; `asked` is the device's full name, for messages; family NULL: the plug-in there is. LD_EDEVICE
 * says that there is no such device, or where the plug-in was looked for and what failed. */
const ld_plugin *ld_plugin_load(const char *family, const char *asked);
/* Where the plug-in was found, or would be loaded from; "" when there is none. */
const char *ld_plugin_path(void);

#endif
