/* Graphs in Lua: work that a device records and does again. lua/ld/run_graph.lua records training steps, lua/ld/diffusion.lua
 * the network of a sampler. */
#include "lua/ldl.h"

#include "backend/plan.h"
#include "backend/profile.h"
#include "optim/graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CLASS "ld.graph"

typedef struct holder {
    ld_graph *g;
    ld_step_graph *s;  /* a training step, which has g; or NULL */
    ld_generator from; /* the generator when it was recorded */
    uint64_t draws;    /* that it makes */
    int numbers;       /* of its report */
} holder;

static holder *graph_at(lua_State *L, const char *who) {
    return ldl_object(L, 1, CLASS, who);
}

static ld_tensor **list_at(lua_State *L, int i, int *n, const char *who) {
    *n = ldl_list(L, i, who);
    ld_tensor **xs = lua_newuserdata(L, (size_t)(*n + 1) * sizeof(ld_tensor *));
    for (int k = 0; k < *n; k++) {
        lua_rawgeti(L, i, k + 1);
        xs[k] = ldl_tensor(L, lua_gettop(L), who);
        lua_pop(L, 1);
    }
    return xs;
}

/* graph(): of the default device. graph(optimiser, averages or nil, buffers): of a training step. */
static int l_new(lua_State *L) {
    ld_device *d = ldl_default_device();
    holder *h = calloc(1, sizeof *h);
    ldl_install_where(L);
    if (!h)
        return ldl_error(L, "graph: out of host memory");
    ldl_push_object(L, h, CLASS);
    if (lua_gettop(L) > 1) {
        int n;
        ld_optim *o = ldl_object(L, 1, "ld.optim", "graph");
        ld_ema *e = lua_isnil(L, 2) ? NULL : ldl_object(L, 2, "ld.ema", "graph");
        ld_tensor **xs = list_at(L, 3, &n, "graph");
        h->s = ld_step_graph_new(d, o, e, xs, n);
        h->g = h->s ? h->s->graph : NULL;
        lua_pop(L, 1);
    } else {
        h->g = ld_graph_new(d);
    }
    if (!h->g)
        return ldl_raise(L);
    return 1;
}

/* graph_able(): whether the default device can record, and whether it can now: not while it is profiled. */
static int l_able(lua_State *L) {
    const ld_device *d = ldl_default_device();
    lua_pushboolean(L, ld_graph_able(d));
    lua_pushboolean(L, ld_graph_able(d) && !ld_profile_on(d));
    return 2;
}

/* One run of the function at stack index f: 0, or an error that is left on the stack. */
static int probe(lua_State *L, const holder *h, int f, int run, uint64_t draws, ld_plan_report *report) {
    ld_device *d = ld_graph_device(h->g);
    ld_generator generator = ld_random;
    bool recording = ld_recording();
    lua_gc(L, LUA_GCCOLLECT, 0);
    ldl_ok(L, ld_plan_begin(d));
    int bad = ld_graph_probe(h->g, run);
    ld_random.draws += draws;
    lua_getfield(L, LUA_REGISTRYINDEX, "ld.scope");
    lua_pushvalue(L, f);
    if (!bad)
        bad = lua_pcall(L, 1, 0, 0);
    ld_set_recording(recording);
    ld_graph_probed(h->g);
    lua_gc(L, LUA_GCCOLLECT, 0);
    ld_plan_end(report);
    ld_pool_clear_debt(d->pool);
    ld_random = generator;
    return bad;
}

/* g:probe(f, changed, clock): f is run without computing, then `changed`, which calls f with the clock `clock` further and
 * whatever else may change; an error says what makes f unfit for recording. Returns the bytes that f needs. */
static int l_probe(lua_State *L) {
    static const uint64_t DRAWS = 0x20000003;
    holder *h = graph_at(L, "probe");
    uint64_t clock = (uint64_t)ldl_int(L, 4, "probe", "the clock");
    ld_plan_report report[2];
    if (probe(L, h, 2, 0, 0, &report[0]) || probe(L, h, 3, 1, DRAWS, &report[1]))
        return lua_error(L);
    ldl_ok(L, ld_graph_compare(h->g, clock, DRAWS));
    if (report[0].outlived)
        return ldl_error(L, "graph: the function keeps what it made (the first of it by %s)", report[0].outlived_who);
    lua_pushnumber(L, (double)(report[0].first.peak - report[0].first.before));
    return 1;
}

/* What f gave and the rest of a training step. */
static int close_step(lua_State *L, holder *h, int parameters, int result) {
    int n, n_params;
    ld_tensor **params = list_at(L, parameters, &n_params, "record"), **xs = list_at(L, result, &n, "record");
    h->numbers = n;
    return ld_step_graph_close(h->s, params, n_params, xs, n);
}

static int protected_close(lua_State *L) {
    holder *h = lua_touserdata(L, 1);
    ldl_ok(L, close_step(L, h, 2, 3));
    return 0;
}

/* g:record(f, clock, bytes, parameters): what f does is recorded, and not done. Of a training step f returns a list of the
 * loss and its parts, after backward. Returns what f does. */
static int l_record(lua_State *L) {
    holder *h = graph_at(L, "record");
    uint64_t clock = (uint64_t)ldl_int(L, 3, "record", "the clock");
    double bytes = ldl_number(L, 4, "record", "the bytes");
    bool recording = ld_recording();
    lua_settop(L, 5);
    lua_gc(L, LUA_GCCOLLECT, 0);
    if (h->s)
        ldl_ok(L, ld_step_graph_warm(h->s));
    h->from = ld_random;
    ldl_ok(L, ld_graph_begin(h->g, clock, ld_random.draws, (size_t)bytes));
    int bad = h->s ? ld_step_graph_open(h->s) : 0;
    if (bad) {
        ld_graph_abort(h->g);
        return ldl_raise(L);
    }
    lua_pushvalue(L, 2);
    bad = lua_pcall(L, 0, 1, 0);
    ld_set_recording(recording);
    if (!bad && h->s) {
        lua_pushcfunction(L, protected_close);
        lua_pushlightuserdata(L, h);
        lua_pushvalue(L, 5);
        lua_pushvalue(L, 6);
        bad = lua_pcall(L, 3, 0, 0);
    }
    h->draws = ld_random.draws - h->from.draws;
    ld_random = h->from;
    if (bad) {
        ld_graph_abort(h->g);
        return lua_error(L);
    }
    ldl_ok(L, ld_graph_end(h->g));
    return 1;
}

/* g:replay(): do it. Of a training step: g:replay(clock, clip, settled): no result waits, of this or another graph. */
static int l_replay(lua_State *L) {
    holder *h = graph_at(L, "replay");
    if (!h->s) {
        ldl_ok(L, ld_graph_replay(h->g, NULL, false));
        return 0;
    }
    ld_cell cell;
    memset(&cell, 0, sizeof cell);
    cell.clock = (uint64_t)ldl_int(L, 2, "replay", "the clock");
    cell.clip = ldl_number(L, 3, "replay", "the largest norm");
    cell.draws = ld_random.draws;
    ldl_ok(L, ld_step_graph_replay(h->s, &cell, lua_toboolean(L, 4)));
    ld_random.draws += h->draws;
    return 0;
}

/* g:result(wait): the oldest that waits: whether the step counts, the norm of the gradient, the numbers reported; or nil
 * where it is not there yet. */
static int l_result(lua_State *L) {
    holder *h = graph_at(L, "result");
    ld_cell cell;
    int there = ld_step_graph_result(h->s, lua_toboolean(L, 2), &cell);
    if (there < 0)
        return ldl_raise(L);
    if (!there)
        return 0;
    lua_pushboolean(L, cell.ok);
    lua_pushnumber(L, sqrt(cell.sum));
    lua_createtable(L, h->numbers, 0);
    for (int i = 0; i < h->numbers; i++) {
        lua_pushnumber(L, cell.report[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 3;
}

/* g:fits(): false: it has to be recorded anew. */
static int l_fits(lua_State *L) {
    holder *h = graph_at(L, "fits");
    bool fits = false;
    ldl_ok(L, ld_step_graph_fits(h->s, &fits));
    lua_pushboolean(L, fits && (!h->draws || h->from.seed == ld_random.seed));
    return 1;
}

static int l_waiting(lua_State *L) {
    lua_pushinteger(L, ld_graph_waiting(graph_at(L, "waiting")->g));
    return 1;
}

static int l_memory(lua_State *L) {
    lua_pushnumber(L, (double)ld_graph_memory(graph_at(L, "memory")->g));
    return 1;
}

/* g:drop(), or the collector: its memory goes back to the pool. */
static int l_drop(lua_State *L) {
    holder **p = lua_touserdata(L, 1), *h = p ? *p : NULL;
    if (!h)
        return 0;
    if (h->s)
        ld_step_graph_drop(h->s);
    else
        ld_graph_drop(h->g);
    free(h);
    *p = NULL;
    return 0;
}

void ldl_open_graph(lua_State *L) {
    static const luaL_Reg methods[] = {
        {"probe", l_probe},     {"record", l_record}, {"replay", l_replay}, {"result", l_result}, {"fits", l_fits},
        {"waiting", l_waiting}, {"memory", l_memory}, {"drop", l_drop},     {"__gc", l_drop},     {NULL, NULL}};
    static const luaL_Reg functions[] = {{"graph", l_new}, {"graph_able", l_able}, {NULL, NULL}};
    ldl_class(L, CLASS, methods);
    luaL_register(L, NULL, functions);
}
