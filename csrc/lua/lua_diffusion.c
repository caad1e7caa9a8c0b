/* Diffusion in Lua: times, noising, time embedding, samplers. */
#include "lua/ldl.h"

#include "diffusion/diffusion.h"

#define CLASS "ld.sampler"

static int l_times(lua_State *L) {
    int64_t n = ldl_int(L, 1, "times", "the count");
    ldl_options(L, 2, "times", "seed first dtype device");
    return ldl_push(L, ld_diffusion_times(ldl_field_device(L, 2, "times"), ldl_field_dtype(L, 2, LD_F32, "times"), n,
                                          (uint64_t)ldl_field_int(L, 2, "seed", 0, "times"),
                                          (uint64_t)ldl_field_int(L, 2, "first", 0, "times")));
}

/* eps(shape, {seed, first}) */
static int l_eps(lua_State *L) {
    int64_t shape[LD_MAX_DIMS];
    int n = ldl_shape(L, 1, shape, NULL, "eps");
    ldl_options(L, 2, "eps", "seed first dtype device");
    return ldl_push(L, ld_diffusion_eps(ldl_field_device(L, 2, "eps"), ldl_field_dtype(L, 2, LD_F32, "eps"), n, shape,
                                        (uint64_t)ldl_field_int(L, 2, "seed", 0, "eps"),
                                        (uint64_t)ldl_field_int(L, 2, "first", 0, "eps")));
}

/* noised(x0, t, eps): x_t */
static int l_noised(lua_State *L) {
    ld_tensor *x0 = ldl_tensor(L, 1, "noised"), *t = ldl_tensor(L, 2, "noised");
    return ldl_push(L, ld_diffusion_noise(x0, t, ldl_tensor(L, 3, "noised")));
}

/* batch(z, {scale, shift, seed, first, x0}): x_t, t, eps and, where asked for, x0 of raw latents z */
static int l_batch(lua_State *L) {
    static const char who[] = "batch";
    ld_tensor *z = ldl_tensor(L, 1, who);
    ldl_options(L, 2, who, "scale shift seed first x0");
    ld_training_batch b;
    ldl_ok(L,
           ld_diffusion_batch(&b, z, ldl_field_tensor(L, 2, "shift", who), ldl_field_number(L, 2, "scale", 1, who),
                              (uint64_t)ldl_field_int(L, 2, "seed", 0, who),
                              (uint64_t)ldl_field_int(L, 2, "first", 0, who), ldl_field_bool(L, 2, "x0", false, who)));
    ldl_push(L, b.x_t);
    ldl_push(L, b.t);
    ldl_push(L, b.eps);
    return b.x0 ? 3 + ldl_push(L, b.x0) : 3;
}

/* predicted_x0(x_t, t, eps) */
static int l_x0(lua_State *L) {
    ld_tensor *x = ldl_tensor(L, 1, "predicted_x0"), *t = ldl_tensor(L, 2, "predicted_x0");
    return ldl_push(L, ld_diffusion_x0(x, t, ldl_tensor(L, 3, "predicted_x0")));
}

static int l_alpha(lua_State *L) {
    return ldl_push(L, ld_diffusion_alpha(ldl_tensor(L, 1, "alpha")));
}

static int l_sigma(lua_State *L) {
    return ldl_push(L, ld_diffusion_sigma(ldl_tensor(L, 1, "sigma")));
}

static int l_snr(lua_State *L) {
    return ldl_push(L, ld_diffusion_snr(ldl_tensor(L, 1, "snr")));
}

static int l_embedding(lua_State *L) {
    ld_tensor *t = ldl_tensor(L, 1, "time_embedding");
    return ldl_push(L, ld_time_embedding(t, (int)ldl_int(L, 2, "time_embedding", "the width")));
}

/* ---- samplers ------------------------------------------------------------------------------------------------------- */

static int push_sampler(lua_State *L, ld_sampler *s, const char *who) {
    ldl_push_object(L, s, CLASS);
    lua_getfield(L, 1, "clamp");
    if (lua_istable(L, -1)) {
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        int top = lua_gettop(L);
        ldl_ok(L, ld_sampler_clamp(s, ldl_number(L, top - 1, who, "clamp's lower bound"),
                                   ldl_number(L, top, who, "clamp's upper bound")));
        lua_pop(L, 2);
    } else if (lua_toboolean(L, -1)) {
        ldl_error(L, "%s: clamp is {low, high} or absent", who);
    }
    lua_pop(L, 1);
    return 1;
}

/* ddim{steps = 100, eta = 1, clamp = {lo, hi} or nil} */
static int l_ddim(lua_State *L) {
    ldl_install_where(L);
    ldl_options(L, 1, "ddim", "steps eta clamp");
    return push_sampler(
        L, ld_sampler_ddim((int)ldl_field_int(L, 1, "steps", 100, "ddim"), ldl_field_number(L, 1, "eta", 1, "ddim")),
        "ddim");
}

/* ddpm{steps = 1000, beta_first = 1e-4, beta_last = 0.02} */
static int l_ddpm(lua_State *L) {
    ldl_install_where(L);
    ldl_options(L, 1, "ddpm", "steps beta_first beta_last clamp");
    return push_sampler(L,
                        ld_sampler_ddpm((int)ldl_field_int(L, 1, "steps", 1000, "ddpm"),
                                        ldl_field_number(L, 1, "beta_first", 1e-4, "ddpm"),
                                        ldl_field_number(L, 1, "beta_last", 0.02, "ddpm")),
                        "ddpm");
}

/* ancestral{steps = 250} */
static int l_ancestral(lua_State *L) {
    ldl_install_where(L);
    ldl_options(L, 1, "ancestral", "steps clamp");
    return push_sampler(L, ld_sampler_ancestral((int)ldl_field_int(L, 1, "steps", 250, "ancestral")), "ancestral");
}

static int step_arg(lua_State *L, const ld_sampler *s, const char *who) {
    int64_t i = ldl_int(L, 2, who, "the step");
    if (i < 1 || i > ld_sampler_steps(s))
        ldl_error(L, "%s: step %lld; there are %d, counted from 1", who, (long long)i, ld_sampler_steps(s));
    return (int)i - 1;
}

static int l_steps(lua_State *L) {
    lua_pushinteger(L, ld_sampler_steps(ldl_object(L, 1, CLASS, "steps")));
    return 1;
}

/* s:t(i), s:abar(i) with i from 1 */
static int l_t(lua_State *L) {
    ld_sampler *s = ldl_object(L, 1, CLASS, "t");
    lua_pushnumber(L, ld_sampler_t(s, step_arg(L, s, "t")));
    return 1;
}

static int l_abar(lua_State *L) {
    ld_sampler *s = ldl_object(L, 1, CLASS, "abar");
    lua_pushnumber(L, s->row[step_arg(L, s, "abar")].abar);
    return 1;
}

static int l_needs_noise(lua_State *L) {
    ld_sampler *s = ldl_object(L, 1, CLASS, "needs_noise");
    lua_pushboolean(L, ld_sampler_needs_noise(s, step_arg(L, s, "needs_noise")));
    return 1;
}

static int l_needs_eps(lua_State *L) {
    ld_sampler *s = ldl_object(L, 1, CLASS, "needs_eps");
    lua_pushboolean(L, ld_sampler_needs_eps(s, step_arg(L, s, "needs_eps")));
    return 1;
}

/* s:step(i, x, eps, noise): next x, predicted x0 */
static int l_step(lua_State *L) {
    ld_sampler *s = ldl_object(L, 1, CLASS, "step");
    int i = step_arg(L, s, "step");
    ld_tensor *x0 = NULL;
    ld_tensor *x = ldl_tensor(L, 3, "step"), *eps = ldl_opt_tensor(L, 4, "step"), *n = ldl_opt_tensor(L, 5, "step");
    ldl_push(L, ld_sampler_step(s, i, x, eps, n, &x0));
    ldl_push(L, x0);
    return 2;
}

/* sampler_noise(shape, {seed, first, step}): step 0 is the start */
static int l_noise(lua_State *L) {
    static const char who[] = "sampler_noise";
    int64_t shape[LD_MAX_DIMS];
    int n = ldl_shape(L, 1, shape, NULL, who);
    ldl_options(L, 2, who, "seed first step dtype device");
    return ldl_push(L, ld_sampler_noise(ldl_field_device(L, 2, who), ldl_field_dtype(L, 2, LD_F32, who), n, shape,
                                        (uint64_t)ldl_field_int(L, 2, "seed", 0, who),
                                        (uint64_t)ldl_field_int(L, 2, "first", 0, who),
                                        (int)ldl_field_int(L, 2, "step", 0, who)));
}

static int l_tostring(lua_State *L) {
    ld_sampler *s = ldl_object(L, 1, CLASS, "sampler");
    lua_pushfstring(L, "%s sampler, %d steps", s->name, s->n);
    return 1;
}

static int l_gc(lua_State *L) {
    ld_sampler **p = lua_touserdata(L, 1);
    ld_sampler_drop(*p);
    *p = NULL;
    return 0;
}

void ldl_open_diffusion(lua_State *L) {
    static const luaL_Reg methods[] = {{"steps", l_steps},
                                       {"t", l_t},
                                       {"abar", l_abar},
                                       {"needs_noise", l_needs_noise},
                                       {"needs_eps", l_needs_eps},
                                       {"step", l_step},
                                       {"__tostring", l_tostring},
                                       {"__gc", l_gc},
                                       {NULL, NULL}};
    static const luaL_Reg diffusion[] = {{"times", l_times},
                                         {"eps", l_eps},
                                         {"noised", l_noised},
                                         {"batch", l_batch},
                                         {"predicted_x0", l_x0},
                                         {"alpha", l_alpha},
                                         {"sigma", l_sigma},
                                         {"snr", l_snr},
                                         {"time_embedding", l_embedding},
                                         {"sampler_noise", l_noise},
                                         {NULL, NULL}};
    static const luaL_Reg samplers[] = {{"ddim", l_ddim}, {"ddpm", l_ddpm}, {"ancestral", l_ancestral}, {NULL, NULL}};
    ldl_class(L, CLASS, methods);
    lua_newtable(L);
    luaL_register(L, NULL, diffusion);
    lua_setfield(L, -2, "diffusion");
    lua_newtable(L);
    luaL_register(L, NULL, samplers);
    lua_setfield(L, -2, "sampler");
}
