/* Ranks in Lua: who is there, numbers and gradients from all of them. */
#include "lua/ldl.h"

#include "comm/comm.h"
#include "io/hash.h"
#include "op/op.h"
#include "optim/grad_exchange.h"
#include "optim/grad_sum.h"

#include <stdlib.h>
#include <string.h>

#define CLASS "ld.grad_sum"

/* ranks.rank() from 0, ranks.count(): as the launcher says */
static int l_rank(lua_State *L) {
    lua_pushinteger(L, ld_comm_rank());
    return 1;
}

static int l_count(lua_State *L) {
    lua_pushinteger(L, ld_comm_ranks());
    return 1;
}

/* start(): the text of the library that carries the messages, nil for a single rank */
static int l_start(lua_State *L) {
    ldl_ok(L, ld_comm_start());
    if (!ld_comm_started())
        return 0;
    lua_pushstring(L, ld_comm_text());
    return 1;
}

/* gather({numbers}): a list by rank of such lists; every rank gives equally many */
static int l_gather(lua_State *L) {
    int n = ldl_list(L, 1, "gather"), ranks = ld_comm_ranks();
    double *mine = lua_newuserdata(L, (size_t)(n + 1) * sizeof *mine);
    double *all = lua_newuserdata(L, (size_t)(n * ranks + 1) * sizeof *all);
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, 1, i + 1);
        mine[i] = ldl_number(L, -1, "gather", "a number of the list");
        lua_pop(L, 1);
    }
    ldl_ok(L, ld_comm_gather(mine, (size_t)n * sizeof *mine, all));
    lua_createtable(L, ranks, 0);
    for (int r = 0; r < ranks; r++) {
        lua_createtable(L, n, 0);
        for (int i = 0; i < n; i++) {
            lua_pushnumber(L, all[r * n + i]);
            lua_rawseti(L, -2, i + 1);
        }
        lua_rawseti(L, -2, r + 1);
    }
    return 1;
}

/* gather_tensor(x): every rank's tensor of that shape, one after the other along a new first dimension, on the host */
static int l_gather_tensor(lua_State *L) {
    ld_tensor *was = ldl_tensor(L, 1, "gather_tensor"), *x = ldl_host(L, 1, "gather_tensor");
    int64_t shape[LD_MAX_DIMS];
    if (x->ndim == LD_MAX_DIMS)
        return ldl_error(L, "gather_tensor: %s has too many dimensions", ld_tensor_text(x));
    shape[0] = ld_comm_ranks();
    memcpy(shape + 1, x->shape, (size_t)x->ndim * sizeof *shape);
    ld_tensor *flat = ld_tensor_canonical(x, "gather_tensor");
    ld_tensor *all = flat ? ld_tensor_new(x->storage->device, x->dtype, x->ndim + 1, shape, "gather_tensor") : NULL;
    size_t bytes = (size_t)ld_tensor_numel(x) * ld_dtype_size(x->dtype);
    char *parts = all ? malloc(bytes * (size_t)shape[0] + 1) : NULL;
    int bad =
        parts ? ld_comm_gather(ld_tensor_data(flat), bytes, parts) : ld_fail(LD_EMEM, "gather_tensor: out of memory");
    for (int r = 0; r < (int)shape[0] && !bad; r++) { /* each part lies as x does, `all` perhaps otherwise */
        ld_view from = ld_tensor_as_view(flat);
        from.data = parts + bytes * (size_t)r;
        ld_tensor *row = ld_tensor_view(all, x->ndim, x->shape, all->stride + 1, r * all->stride[0]);
        bad = row ? ld_tensor_fill_from(row, &from, "gather_tensor") : LD_EMEM;
        ld_tensor_drop(row);
    }
    free(parts);
    ld_tensor_drop(flat);
    ldl_host_done(L, 1, was);
    if (bad) {
        ld_tensor_drop(all);
        ldl_raise(L);
    }
    return ldl_push(L, all);
}

/* sum(list): SHA-256 of tensors' bytes in their logical order, as 8 numbers of 32 bits: what all ranks have in common */
static int l_sum(lua_State *L) {
    int n = ldl_list(L, 1, "sum");
    char hex[65], word[9] = "";
    ld_sha256_state s;
    ld_sha256_start(&s);
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, 1, i + 1);
        ld_tensor *x = ldl_tensor(L, lua_gettop(L), "sum"), *host = ld_tensor_host(x, "sum");
        ld_tensor *flat = host ? ld_tensor_canonical(host, "sum") : NULL;
        if (flat)
            ld_sha256_add(&s, ld_tensor_data(flat), (size_t)ld_tensor_numel(flat) * ld_dtype_size(flat->dtype));
        ld_tensor_drop(host);
        ld_tensor_drop(flat);
        if (!flat)
            ldl_raise(L);
        lua_pop(L, 1);
    }
    ld_sha256_end(&s, hex);
    lua_createtable(L, 8, 0);
    for (int i = 0; i < 8; i++) {
        memcpy(word, hex + 8 * i, 8);
        lua_pushnumber(L, (lua_Number)strtoul(word, NULL, 16));
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* pieces(count, micro): how many micro-batches of `micro` pictures (0: a rank's share) a batch of `count` has, and a list of
 * how many pictures lie before each of them, and before the end */
static int l_pieces(lua_State *L) {
    int64_t count = ldl_int(L, 1, "pieces", "the batch"), micro = ldl_int(L, 2, "pieces", "the micro-batch");
    if (count < 1 || micro < 0)
        return ldl_error(L, "pieces: micro-batches of %d of a batch of %d", (int)micro, (int)count);
    int n = ld_sum_pieces((int)count, (int)micro, ld_comm_ranks());
    lua_pushinteger(L, n);
    lua_createtable(L, n + 1, 0);
    for (int i = 0; i <= n; i++) {
        lua_pushinteger(L, ld_sum_first((int)count, (int)micro, n, i));
        lua_rawseti(L, -2, i + 1);
    }
    return 2;
}

/* sync_norms(on): batch norm in training takes its statistics over all ranks from here on, or no longer; returns which
 * it was */
static int l_sync_norms(lua_State *L) {
    luaL_checktype(L, 1, LUA_TBOOLEAN);
    lua_pushboolean(L, ld_set_norm_ranks(lua_toboolean(L, 1)));
    return 1;
}

/* own(pieces[, rank]): the pieces of a rank, of this one by default: first and last, from 1; last below first for none */
static int l_own(lua_State *L) {
    int first, last, pieces = (int)ldl_int(L, 1, "own", "the number of pieces");
    int rank = lua_isnoneornil(L, 2) ? ld_comm_rank() : (int)ldl_int(L, 2, "own", "the rank");
    ld_sum_own(pieces, rank, ld_comm_ranks(), &first, &last);
    lua_pushinteger(L, first + 1);
    lua_pushinteger(L, last);
    return 2;
}

/* ---- sums of gradients ----------------------------------------------------------------------------------------------- */

static ld_tensor **list(lua_State *L, int i, int *n) {
    *n = ldl_list(L, i, "grad_sum");
    ld_tensor **xs = lua_newuserdata(L, (size_t)(*n + 1) * sizeof(ld_tensor *));
    for (int k = 0; k < *n; k++) {
        lua_rawgeti(L, i, k + 1);
        xs[k] = ldl_tensor(L, lua_gettop(L), "grad_sum");
        lua_pop(L, 1);
    }
    return xs;
}

/* grad_sum(parameters, buffers[, any_order[, way]]): whether a device may add in its library's order, and how numbers go
 * between ranks: "auto", "nccl" (from device to device) or "host" */
static int l_new(lua_State *L) {
    int n, m;
    ld_tensor **params = list(L, 1, &n), **buffers = list(L, 2, &m);
    const char *way = luaL_optstring(L, 4, "auto");
    ld_sum_how how = {.any_order = lua_toboolean(L, 3)};
    how.way = !strcmp(way, "host") ? LD_SUM_HOST : !strcmp(way, "nccl") ? LD_SUM_DEVICE : LD_SUM_AUTO;
    ldl_push_object(L, ld_grad_sum_new(params, n, buffers, m, how), CLASS);
    return 1;
}

/* text(): how gradients go between ranks, "" on the CPU and for one rank */
static int l_text(lua_State *L) {
    lua_pushstring(L, ld_grad_sum_text(ldl_object(L, 1, CLASS, "text")));
    return 1;
}

static int l_begin(lua_State *L) {
    ld_grad_sum *s = ldl_object(L, 1, CLASS, "begin");
    ldl_ok(L, ld_grad_sum_begin(s, (int)ldl_int(L, 2, "begin", "the number of pieces")));
    return 0;
}

static int l_watch(lua_State *L) {
    ld_grad_sum_watch(ldl_object(L, 1, CLASS, "watch"));
    return 0;
}

static int l_add(lua_State *L) {
    ld_grad_sum *s = ldl_object(L, 1, CLASS, "add");
    ldl_ok(L, ld_grad_sum_add(s, ldl_number(L, 2, "add", "the weight")));
    return 0;
}

static int l_finish(lua_State *L) {
    ldl_ok(L, ld_grad_sum_finish(ldl_object(L, 1, CLASS, "finish")));
    return 0;
}

static int l_gc(lua_State *L) {
    ld_grad_sum **p = lua_touserdata(L, 1);
    ld_grad_sum_drop(*p);
    *p = NULL;
    return 0;
}

/* ---- opening --------------------------------------------------------------------------------------------------------- */

static lua_State *state;

/* What the host says of a request to stop. Lua is waiting in the call that asks, so it may be called. */
static bool stop_asked(void) {
    bool asked = false;
    int top = lua_gettop(state);
    lua_getfield(state, LUA_REGISTRYINDEX, "ld.ranks.stop");
    if (lua_isfunction(state, -1) && !lua_pcall(state, 0, 1, 0))
        asked = lua_toboolean(state, -1);
    lua_settop(state, top);
    return asked;
}

/* on_stop(f): f() says whether someone asked for the end; looked at while other ranks are waited for */
static int l_on_stop(lua_State *L) {
    ldl_callable(L, 1, "on_stop");
    lua_pushvalue(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "ld.ranks.stop");
    state = L;
    ld_comm_on_stop(stop_asked);
    return 0;
}

/* Closed with the state: MPI ends in good order where every rank comes here. */
static int l_end(lua_State *L) {
    (void)L;
    ld_comm_end();
    return 0;
}

void ldl_open_ranks(lua_State *L) {
    static const luaL_Reg functions[] = {{"rank", l_rank},
                                         {"count", l_count},
                                         {"start", l_start},
                                         {"gather", l_gather},
                                         {"gather_tensor", l_gather_tensor},
                                         {"sum", l_sum},
                                         {"own", l_own},
                                         {"grad_sum", l_new},
                                         {"pieces", l_pieces},
                                         {"sync_norms", l_sync_norms},
                                         {"on_stop", l_on_stop},
                                         {"finish", l_end},
                                         {NULL, NULL}};
    static const luaL_Reg methods[] = {{"begin", l_begin}, {"watch", l_watch}, {"add", l_add}, {"finish", l_finish},
                                       {"text", l_text},   {"__gc", l_gc},     {NULL, NULL}};
    ldl_class(L, CLASS, methods);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_setfield(L, -2, "ranks");
}
