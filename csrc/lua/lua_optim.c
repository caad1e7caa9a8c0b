/* Optimisers, averages, clipping and learning-rate schedules in Lua. */
#include "lua/ldl.h"

#include "optim/ema.h"
#include "optim/optim.h"
#include "optim/schedule.h"

#include <stdlib.h>
#include <string.h>

#define CLASS     "ld.optim"
#define CLASS_EMA "ld.ema"

/* The tensors of the list at stack index i, in a userdata left on the stack. */
static ld_tensor **tensor_list(lua_State *L, int i, int *n, const char *who) {
    if (!lua_istable(L, i))
        ldl_error(L, "%s: a list of tensors was expected, not %s", who, luaL_typename(L, i));
    *n = (int)lua_objlen(L, i);
    lua_getfield(L, i, "parameters");
    if (!*n && !lua_isnil(L, -1))
        ldl_error(L, "%s: a list of tensors was expected, such as net:parameters(), not the module itself", who);
    lua_pop(L, 1);
    ld_tensor **xs = lua_newuserdata(L, (size_t)(*n + 1) * sizeof *xs);
    for (int k = 0; k < *n; k++) {
        lua_rawgeti(L, i, k + 1);
        if (!ldl_is_tensor(L, -1))
            ldl_error(L, "%s: entry %d of the list is %s, not a tensor", who, k + 1, luaL_typename(L, -1));
        xs[k] = ldl_tensor(L, lua_gettop(L), who);
        lua_pop(L, 1);
    }
    return xs;
}

/* ---- optimisers ----------------------------------------------------------------------------------------------------- */

/* Named numbers of ld_optim_options. */
static double *option_named(ld_optim_options *o, const char *key) {
    static const struct {
        const char *name;
        size_t at;
    } fields[] = {
        {"lr", offsetof(ld_optim_options, lr)},       {"weight_decay", offsetof(ld_optim_options, weight_decay)},
        {"beta1", offsetof(ld_optim_options, beta1)}, {"beta2", offsetof(ld_optim_options, beta2)},
        {"eps", offsetof(ld_optim_options, eps)},     {"momentum", offsetof(ld_optim_options, momentum)}};
    for (size_t k = 0; k < sizeof fields / sizeof *fields; k++)
        if (!strcmp(fields[k].name, key))
            return (double *)(void *)((char *)o + fields[k].at);
    return NULL;
}

/* adamw(params, {lr, beta1, beta2, eps, weight_decay}); sgd: lr, momentum, nesterov, weight_decay */
static int l_new(lua_State *L) {
    static const char *const known[] = {"lr beta1 beta2 eps weight_decay", "lr beta1 beta2 eps weight_decay",
                                        "lr momentum nesterov weight_decay"};
    ld_optim_kind kind = (ld_optim_kind)lua_tointeger(L, lua_upvalueindex(1));
    const char *who = ld_optim_names[kind];
    ldl_install_where(L);
    ldl_options(L, 2, who, known[kind]);
    ld_optim_options o = ld_optim_defaults(kind);
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
        double *to = option_named(&o, lua_tostring(L, -2));
        if (to)
            *to = ldl_number(L, lua_gettop(L), who, lua_tostring(L, -2));
    }
    o.nesterov = ldl_field_bool(L, 2, "nesterov", false, who);
    int n;
    ld_tensor **xs = tensor_list(L, 1, &n, who);
    ldl_push_object(L, ld_optim_new(kind, &o, xs, n), CLASS);
    return 1;
}

/* step(); step{ema = averages, norm = n, clip = c, drop = true}: in one pass also the averages' update, the clipping of a
 * gradient of norm n to c, and letting go of the gradients */
static int l_step(lua_State *L) {
    ld_optim *o = ldl_object(L, 1, CLASS, "step");
    ld_ema *e = NULL;
    double scale = 1;
    bool drop = false;
    if (!lua_isnoneornil(L, 2)) {
        ldl_options(L, 2, "step", "ema norm clip drop");
        lua_getfield(L, 2, "ema");
        if (!lua_isnil(L, -1))
            e = ldl_object(L, lua_gettop(L), CLASS_EMA, "step");
        double max = ldl_field_number(L, 2, "clip", 0, "step");
        if (max > 0)
            scale = ld_clip_scale(ldl_field_number(L, 2, "norm", 0, "step"), max);
        drop = ldl_field_bool(L, 2, "drop", false, "step");
    }
    ldl_ok(L, ld_optim_step_with(o, e, scale, drop));
    return 0;
}

/* zero_grad(keep): gradients are dropped, or with keep filled with zeros. */
static int l_zero_grad(lua_State *L) {
    ldl_ok(L, ld_optim_zero_grad(ldl_object(L, 1, CLASS, "zero_grad"), !lua_toboolean(L, 2)));
    return 0;
}

/* scale(first, count, lr_scale, decay_scale): for parameters first .. (from 1) */
static int l_scale(lua_State *L) {
    ld_optim *o = ldl_object(L, 1, CLASS, "scale");
    int first = (int)ldl_int(L, 2, "scale", "the first parameter"), n = (int)ldl_int(L, 3, "scale", "the count");
    ldl_ok(L, ld_optim_scale(o, first - 1, n, ldl_number_or(L, 4, 1, "scale", "lr_scale"),
                             ldl_number_or(L, 5, 1, "scale", "decay_scale")));
    return 0;
}

/* state(): a table of tensors by name, copies of nothing: save them before the next step. */
static int l_state(lua_State *L) {
    ld_optim *o = ldl_object(L, 1, CLASS, "state");
    char name[LD_OPTIM_NAME];
    lua_newtable(L);
    for (int i = 0; i < ld_optim_state_count(o); i++) {
        ldl_push(L, ld_optim_state(o, i, name));
        lua_setfield(L, -2, name);
    }
    return 1;
}

static int l_load_state(lua_State *L) {
    ld_optim *o = ldl_object(L, 1, CLASS, "load_state");
    luaL_checktype(L, 2, LUA_TTABLE);
    int n = 0;
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1))
        n++;
    const char **names = lua_newuserdata(L, (size_t)(n + 1) * sizeof *names);
    ld_tensor **xs = lua_newuserdata(L, (size_t)(n + 1) * sizeof *xs);
    n = 0;
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            ldl_error(L, "load_state: a table of tensors by name was expected");
        names[n] = lua_tostring(L, -2);
        xs[n++] = ldl_tensor(L, lua_gettop(L), "load_state");
    }
    ldl_ok(L, ld_optim_load(o, names, xs, n));
    return 0;
}

/* o.lr, o.beta1, ..., o.steps, o.kind; methods otherwise */
static int l_index(lua_State *L) {
    ld_optim *o = ldl_object(L, 1, CLASS, "optimizer");
    const char *key = luaL_checkstring(L, 2);
    double *v = option_named(&o->opt, key);
    if (v)
        lua_pushnumber(L, *v);
    else if (!strcmp(key, "steps"))
        lua_pushnumber(L, (lua_Number)o->step);
    else if (!strcmp(key, "kind"))
        lua_pushstring(L, ld_optim_names[o->kind]);
    else if (!strcmp(key, "nesterov"))
        lua_pushboolean(L, o->opt.nesterov);
    else {
        lua_pushvalue(L, 2);
        lua_rawget(L, lua_upvalueindex(1));
        if (lua_isnil(L, -1))
            return ldl_error(L, "%s: no field or method '%s'", ld_optim_names[o->kind], key);
    }
    return 1;
}

static int l_newindex(lua_State *L) {
    ld_optim *o = ldl_object(L, 1, CLASS, "optimizer");
    const char *key = luaL_checkstring(L, 2);
    double *v = option_named(&o->opt, key);
    if (!v)
        return ldl_error(L, "%s: '%s' cannot be set; lr, weight_decay, beta1, beta2, eps, momentum can",
                         ld_optim_names[o->kind], key);
    *v = ldl_number(L, 3, ld_optim_names[o->kind], key);
    return 0;
}

static int l_tostring(lua_State *L) {
    ld_optim *o = ldl_object(L, 1, CLASS, "optimizer");
    lua_pushfstring(L, "%s: %d tensors, lr %f, step %d", ld_optim_names[o->kind], o->n, o->opt.lr, (int)o->step);
    return 1;
}

static int l_gc(lua_State *L) {
    ld_optim **p = lua_touserdata(L, 1);
    ld_optim_drop(*p);
    *p = NULL;
    return 0;
}

/* grad_norm(params); clip_grad_norm(params, max): the norm before */
static int l_grad_norm(lua_State *L) {
    int n;
    double norm;
    ld_tensor **xs = tensor_list(L, 1, &n, "grad_norm");
    ldl_ok(L, ld_grad_norm(xs, n, &norm));
    lua_pushnumber(L, norm);
    return 1;
}

static int l_clip_grad_norm(lua_State *L) {
    int n;
    double norm, max = ldl_number(L, 2, "clip_grad_norm", "the largest norm");
    ld_tensor **xs = tensor_list(L, 1, &n, "clip_grad_norm");
    ldl_ok(L, ld_clip_grad_norm(xs, n, max, &norm));
    lua_pushnumber(L, norm);
    return 1;
}

/* ---- averages ------------------------------------------------------------------------------------------------------- */

/* ema(tensors, {decay = 0.999, warmup = true}) */
static int l_ema_new(lua_State *L) {
    ldl_options(L, 2, "ema", "decay warmup");
    int n;
    ld_tensor **xs = tensor_list(L, 1, &n, "ema");
    ldl_push_object(
        L,
        ld_ema_new(xs, n, ldl_field_number(L, 2, "decay", 0.999, "ema"), ldl_field_bool(L, 2, "warmup", true, "ema")),
        CLASS_EMA);
    return 1;
}

static int l_ema_update(lua_State *L) {
    ldl_ok(L, ld_ema_update(ldl_object(L, 1, CLASS_EMA, "update")));
    return 0;
}

static int l_ema_swap(lua_State *L) {
    ldl_ok(L, ld_ema_swap(ldl_object(L, 1, CLASS_EMA, "swap")));
    return 0;
}

/* average(i) (from 1): a tensor that shares storage with the average, or nil */
static int l_ema_average(lua_State *L) {
    ld_ema *e = ldl_object(L, 1, CLASS_EMA, "average");
    ld_tensor *x = ld_ema_average(e, (int)ldl_int(L, 2, "average", "the position") - 1);
    return x ? ldl_push(L, ld_tensor_alias(x)) : 0;
}

/* load(i, tensor), updates(n) or updates() */
static int l_ema_load(lua_State *L) {
    ld_ema *e = ldl_object(L, 1, CLASS_EMA, "load");
    ldl_ok(L, ld_ema_load(e, (int)ldl_int(L, 2, "load", "the position") - 1, ldl_tensor(L, 3, "load")));
    return 0;
}

static int l_ema_updates(lua_State *L) {
    ld_ema *e = ldl_object(L, 1, CLASS_EMA, "updates");
    if (!lua_isnoneornil(L, 2))
        e->updates = ldl_int(L, 2, "updates", "the number of updates");
    lua_pushnumber(L, (lua_Number)e->updates);
    return 1;
}

/* decay(d): that of the updates from now on; its range is checked there */
static int l_ema_decay(lua_State *L) {
    ld_ema *e = ldl_object(L, 1, CLASS_EMA, "decay");
    e->decay = ldl_number(L, 2, "decay", "the decay");
    return 0;
}

static int l_ema_gc(lua_State *L) {
    ld_ema **p = lua_touserdata(L, 1);
    ld_ema_drop(*p);
    *p = NULL;
    return 0;
}

/* ---- schedules: pure functions of progress ---------------------------------------------------------------------------- */

/* one_cycle(step, total, {max, pct_start, div, final_div, beta1_high, beta1_low}): lr, beta1 */
static int l_one_cycle(lua_State *L) {
    static const char who[] = "one_cycle";
    double step = ldl_number(L, 1, who, "the step"), total = ldl_number(L, 2, who, "the total");
    ldl_options(L, 3, who, "max pct_start div final_div beta1_high beta1_low");
    double pct = ldl_field_number(L, 3, "pct_start", 0.3, who);
    lua_pushnumber(L, ld_one_cycle_lr(ldl_field_number(L, 3, "max", 1e-3, who), pct,
                                      ldl_field_number(L, 3, "div", 25, who),
                                      ldl_field_number(L, 3, "final_div", 1e4, who), step, total));
    lua_pushnumber(L, ld_one_cycle_beta1(ldl_field_number(L, 3, "beta1_high", 0.95, who),
                                         ldl_field_number(L, 3, "beta1_low", 0.85, who), pct, step, total));
    return 2;
}

/* cosine(step, total, {max, min, warmup}): lr */
static int l_cosine(lua_State *L) {
    static const char who[] = "cosine";
    double step = ldl_number(L, 1, who, "the step"), total = ldl_number(L, 2, who, "the total");
    ldl_options(L, 3, who, "max min warmup");
    lua_pushnumber(L, ld_cosine_lr(ldl_field_number(L, 3, "max", 1e-3, who), ldl_field_number(L, 3, "min", 0, who),
                                   ldl_field_number(L, 3, "warmup", 0, who), step, total));
    return 1;
}

/* constant(step, total, {max, warmup}): lr */
static int l_constant(lua_State *L) {
    static const char who[] = "constant";
    double step = ldl_number(L, 1, who, "the step");
    ldl_options(L, 3, who, "max warmup");
    lua_pushnumber(
        L, ld_constant_lr(ldl_field_number(L, 3, "max", 1e-3, who), ldl_field_number(L, 3, "warmup", 0, who), step));
    return 1;
}

void ldl_open_optim(lua_State *L) {
    static const luaL_Reg methods[] = {{"step", l_step},   {"zero_grad", l_zero_grad},   {"scale", l_scale},
                                       {"state", l_state}, {"load_state", l_load_state}, {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__newindex", l_newindex}, {"__tostring", l_tostring}, {"__gc", l_gc}, {NULL, NULL}};
    static const luaL_Reg averages[] = {
        {"update", l_ema_update},   {"swap", l_ema_swap},   {"average", l_ema_average}, {"load", l_ema_load},
        {"updates", l_ema_updates}, {"decay", l_ema_decay}, {"__gc", l_ema_gc},         {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"ema", l_ema_new}, {"grad_norm", l_grad_norm}, {"clip_grad_norm", l_clip_grad_norm}, {NULL, NULL}};
    static const luaL_Reg schedules[] = {
        {"one_cycle", l_one_cycle}, {"cosine", l_cosine}, {"constant", l_constant}, {NULL, NULL}};
    ldl_class(L, CLASS, meta);
    luaL_getmetatable(L, CLASS);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_pushcclosure(L, l_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    ldl_class(L, CLASS_EMA, averages);
    luaL_register(L, NULL, functions);
    lua_newtable(L);
    for (int k = 0; k < LD_OPTIM_COUNT; k++) {
        lua_pushinteger(L, k);
        lua_pushcclosure(L, l_new, 1);
        lua_setfield(L, -2, ld_optim_names[k]);
    }
    lua_setfield(L, -2, "optim");
    lua_newtable(L);
    luaL_register(L, NULL, schedules);
    lua_setfield(L, -2, "schedule");
}
