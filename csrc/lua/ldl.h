/* What the binding's files share: handles, errors, options.
 *
 * A Lua handle (userdata) holds exactly one reference to a tensor; the end of its scope, :release() or the collector gives
 * it back. Errors are raised with the position of the first frame that is not the library's own. */
#ifndef LDL_H
#define LDL_H

#include "base/error.h"
#include "io/image.h"
#include "op/op.h"

#include <lauxlib.h>
#include <lua.h>

#define LDL_TENSOR "ld.tensor"
#define LDL_SOURCE "ld.source" /* an ld_source (data/source.h) */

typedef struct ldl_handle {
    ld_tensor *x; /* NULL after release */
    int slot;     /* place in the scope stack, -1 for none */
} ldl_handle;

/* ---- errors: error.c ------------------------------------------------------------------------------------------------ */

/* Raise the core's last error, or a message, at the user's line. They do not return. */
int ldl_raise(lua_State *L);
int ldl_error(lua_State *L, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Raise unless code is 0. */
void ldl_ok(lua_State *L, int code);
/* The user's position now: first frame outside the library. */
ld_where ldl_where(lua_State *L);
/* Source names that start with this are the library's own ("@/usr/share/ldlua/lua/ld/"). */
void ldl_set_library(const char *prefix);
void ldl_install_where(lua_State *L);

/* ---- arguments: args.c ---------------------------------------------------------------------------------------------- */

ld_tensor *ldl_tensor(lua_State *L, int i, const char *who); /* borrowed; raises if it is no live tensor */
/* The same for whoever reads its numbers: where they lie on another device, a copy in the host's memory takes its place. */
ld_tensor *ldl_host(lua_State *L, int i, const char *who);
void ldl_host_done(lua_State *L, int i, const ld_tensor *was); /* lets go of the copy; `was` is what ldl_tensor gives */
ld_tensor *ldl_opt_tensor(lua_State *L, int i, const char *who); /* NULL for nil or none */
bool ldl_is_tensor(lua_State *L, int i);
int64_t ldl_int(lua_State *L, int i, const char *who, const char *what);
double ldl_number(lua_State *L, int i, const char *who, const char *what);
double ldl_number_or(lua_State *L, int i, double otherwise, const char *who, const char *what);
/* A dimension as users count (1 first, -1 last) to the core's (0 first); -1 stays. */
int ldl_dim(lua_State *L, int i, int ndim, const char *who);
/* Integers from a table at i, or from arguments i .. top: into out, at most LD_MAX_DIMS; returns how many; *next is the
 * first argument not used. */
int ldl_shape(lua_State *L, int i, int64_t *out, int *next, const char *who);
ld_dtype ldl_dtype(lua_State *L, int i, const char *who);
ld_device *ldl_device_or_dtype(lua_State *L, const char *name, const char *who); /* a device; the message knows both */
const char *ldl_string(lua_State *L, int i, const char *who, const char *what);
void ldl_callable(lua_State *L, int i, const char *who); /* a function, or something to be called like one */
/* How many entries the list at i has; names in it are refused. */
int ldl_list(lua_State *L, int i, const char *who);

/* Option tables. ldl_options refuses keys that are not in `known` (blank-separated) and accepts nil as an empty table; it
 * normalises index i. The others read one field with its default. */
void ldl_options(lua_State *L, int i, const char *who, const char *known);
double ldl_field_number(lua_State *L, int i, const char *key, double otherwise, const char *who);
int64_t ldl_field_int(lua_State *L, int i, const char *key, int64_t otherwise, const char *who);
bool ldl_field_bool(lua_State *L, int i, const char *key, bool otherwise, const char *who);
ld_tensor *ldl_field_tensor(lua_State *L, int i, const char *key, const char *who); /* borrowed, NULL if absent */
const char *ldl_field_string(lua_State *L, int i, const char *key, const char *otherwise, const char *who);
/* The strings by name of the table at i, nothing if it is none: name, string, name, string, ..., NULL in the order of names,
 * so that a file made of them has the same bytes every time. Raises an error for other tables and for more than `most`.
 * What `out` (2 most + 1) points to lives as long as the table. */
void ldl_strings(lua_State *L, int i, const char **out, int most, const char *who);
/* One number or a table of n numbers (n_max at most); returns how many were given, 0 if absent. */
int ldl_field_ints(lua_State *L, int i, const char *key, int64_t *out, int n_max, const char *who);
ld_dtype ldl_field_dtype(lua_State *L, int i, ld_dtype otherwise, const char *who);
ld_transform ldl_field_transform(lua_State *L, int i, const char *who); /* lua_source.c; 'adm' if absent */
ld_device *ldl_field_device(lua_State *L, int i, const char *who);
/* stride and padding (n, {h, w} or {top, bottom, left, right}) of convolutions. */
ld_conv_shape ldl_field_conv(lua_State *L, int i, const char *who);

/* ---- handles: handle.c ---------------------------------------------------------------------------------------------- */

/* Push a handle that takes over x's reference; x NULL raises the core's error. Returns 1. */
int ldl_push(lua_State *L, ld_tensor *x);
void ldl_push_shape(lua_State *L, int ndim, const int64_t *shape);
void ldl_register_methods(lua_State *L, const luaL_Reg *methods); /* into the tensor metatable's __index table */
ld_device *ldl_default_device(void);
void ldl_set_default_device(ld_device *d);
/* Before backward: lets go of results whose handles are dead, so that their memory is free as soon as the tape has used
 * them. Does nothing where there is little to gain. */
void ldl_let_tape_free(lua_State *L);

/* A class of C objects: a metatable called `name` with methods, __gc and __tostring given in `methods`. */
void ldl_class(lua_State *L, const char *name, const luaL_Reg *methods);
/* Object i as that class: the pointer in its userdata, raising when it is something else or was closed. */
void *ldl_object(lua_State *L, int i, const char *name, const char *who);
void ldl_push_object(lua_State *L, void *p, const char *name); /* p NULL raises */

/* Each part adds its functions to the table on top of the stack (ld.core). */
void ldl_open_tensor(lua_State *L);
void ldl_open_index(lua_State *L);
void ldl_open_print(lua_State *L);
void ldl_open_op(lua_State *L);
void ldl_open_shape(lua_State *L);
void ldl_open_scope(lua_State *L);
void ldl_open_memory(lua_State *L);
void ldl_open_tune(lua_State *L);
void ldl_open_profile(lua_State *L);
void ldl_open_layer(lua_State *L);
void ldl_open_optim(lua_State *L);
void ldl_open_graph(lua_State *L);
void ldl_open_diffusion(lua_State *L);
void ldl_open_io(lua_State *L);
void ldl_open_data(lua_State *L);
void ldl_open_source(lua_State *L);
void ldl_open_pipeline(lua_State *L);
void ldl_open_store(lua_State *L);
void ldl_open_latents(lua_State *L);
void ldl_open_npy(lua_State *L);
void ldl_open_json(lua_State *L);
void ldl_open_ranks(lua_State *L);
void ldl_open_event(lua_State *L);

#endif
