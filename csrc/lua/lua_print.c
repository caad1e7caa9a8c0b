/* Tensors as text. */
#include "lua/ldl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { EDGE = 4, FULL = 10 }; /* rows and columns shown at each end once a side is longer than FULL */

enum { WIDEST = 128 };

/* Columns: as many as the terminal has room for, where there is one; else as rows. */
typedef struct room {
    int64_t full, edge;
} room;
static room columns = {FULL, EDGE};

static bool shown_column(int64_t i, int64_t n) {
    return n <= columns.full || i < columns.edge || i >= n - columns.edge;
}

static void choose_columns(int width) {
    struct winsize size;
    int64_t fit;
    columns = (room){FULL, EDGE};
    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_col)
        return;
    fit = (size.ws_col - 2) / (width + 1);
    columns.full = fit < 2 ? 2 : fit;
    fit = (size.ws_col - 2 - 5) / (width + 1); /* beside the dots */
    columns.edge = fit < 2 ? 1 : fit / 2;
}

typedef struct format {
    bool integers, scientific;
    int width, digits;
} format;

static double element(const ld_tensor *x, const int64_t *at) {
    int64_t o = 0;
    for (int i = 0; i < x->ndim; i++)
        o += at[i] * x->stride[i];
    return ld_dtype_get(x->dtype, (char *)ld_tensor_data(x) + o * (int64_t)ld_dtype_size(x->dtype));
}

static bool shown(int64_t i, int64_t n) {
    return n <= FULL || i < EDGE || i >= n - EDGE;
}

/* Smallest and largest magnitude of what will be shown, and whether all are whole. */
static void survey(const ld_tensor *x, int dim, int64_t *at, double *low, double *high, bool *whole) {
    if (dim == x->ndim) {
        double v = element(x, at), m = fabs(v);
        if (!isfinite(v))
            return;
        if (m > 0 && m < *low)
            *low = m;
        if (m > *high)
            *high = m;
        *whole = *whole && v == floor(v);
        return;
    }
    bool wide = dim == x->ndim - 1 && isatty(STDOUT_FILENO); /* how many columns depends on what is found here */
    for (at[dim] = 0; at[dim] < x->shape[dim]; at[dim]++)
        if (shown(at[dim], x->shape[dim]) || (wide && (at[dim] < WIDEST || at[dim] >= x->shape[dim] - WIDEST)))
            survey(x, dim + 1, at, low, high, whole);
}

static format choose_format(const ld_tensor *x) {
    int64_t at[LD_MAX_DIMS] = {0};
    double low = INFINITY, high = 0;
    bool whole = true;
    survey(x, 0, at, &low, &high, &whole);
    format f = {.integers = !ld_dtype_is_float(x->dtype) || (whole && high < 1e7), .digits = 4};
    int before = high >= 1 ? (int)log10(high) + 1 : 1;
    f.scientific = !f.integers && (high >= 1e5 || (high > 0 && high < 1e-3));
    f.width = f.integers ? before + 1 : f.scientific ? 11 : before + 6;
    if (f.integers && ld_dtype_is_float(x->dtype))
        f.width += 1;
    return f;
}

static void add_number(luaL_Buffer *b, const format *f, double v, bool is_float) {
    char s[48];
    if (isnan(v))
        snprintf(s, sizeof s, "%*s", f->width, "nan"); /* C's own may carry a sign */
    else if (f->integers && isfinite(v))
        snprintf(s, sizeof s, is_float ? "%*.0f." : "%*.0f", f->width - (is_float ? 1 : 0), v);
    else if (f->scientific)
        snprintf(s, sizeof s, "%*.4e", f->width, v);
    else
        snprintf(s, sizeof s, "%*.*f", f->width, f->digits, v);
    luaL_addstring(b, s);
}

static void add_row(luaL_Buffer *b, const ld_tensor *x, int64_t *at, const format *f) {
    int d = x->ndim - 1;
    luaL_addstring(b, " ");
    for (at[d] = 0; at[d] < x->shape[d]; at[d]++) {
        if (shown_column(at[d], x->shape[d])) {
            luaL_addstring(b, " ");
            add_number(b, f, element(x, at), ld_dtype_is_float(x->dtype));
        } else if (at[d] == columns.edge) {
            luaL_addstring(b, "  ...");
        }
    }
    luaL_addstring(b, "\n");
}

/* Matrices one after another, each headed by its leading indices. */
static void add_block(luaL_Buffer *b, const ld_tensor *x, int dim, int64_t *at, const format *f) {
    if (dim == x->ndim - 1) {
        add_row(b, x, at, f);
        return;
    }
    bool matrix = dim == x->ndim - 2;
    if (matrix && x->ndim > 2) {
        char s[32];
        luaL_addstring(b, "[");
        for (int i = 0; i < dim; i++) {
            snprintf(s, sizeof s, i ? ",%lld" : "%lld", (long long)at[i] + 1);
            luaL_addstring(b, s);
        }
        luaL_addstring(b, "]\n");
    }
    for (at[dim] = 0; at[dim] < x->shape[dim]; at[dim]++) {
        if (shown(at[dim], x->shape[dim]))
            add_block(b, x, dim + 1, at, f);
        else if (at[dim] == EDGE)
            luaL_addstring(b, "  ...\n");
    }
}

static int l_tostring(lua_State *L) {
    ldl_handle *h = lua_touserdata(L, 1);
    if (!h->x) {
        lua_pushstring(L, "released tensor");
        return 1;
    }
    ld_tensor *x = h->x, *own = x;
    lua_settop(L, 1);
    lua_pushvalue(L, 1); /* own lives as long as this call */
    if (ld_tensor_numel(x) > 0)
        x = ldl_host(L, 1, "print");
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    int64_t at[LD_MAX_DIMS] = {0};
    if (ld_tensor_numel(x) > 0) {
        format f = choose_format(x);
        choose_columns(f.width);
        if (x->ndim == 0) {
            add_number(&b, &f, ld_tensor_item(x), ld_dtype_is_float(x->dtype));
            luaL_addstring(&b, "\n");
        } else {
            add_block(&b, x, 0, at, &f);
        }
    }
    luaL_addstring(&b, "[tensor ");
    luaL_addstring(&b, ld_tensor_text(own));
    if (own->node)
        luaL_addstring(&b, ", has history");
    else if (own->requires_grad)
        luaL_addstring(&b, ", requires_grad");
    luaL_addstring(&b, "]");
    luaL_pushresult(&b);
    ldl_host_done(L, 1, own);
    return 1;
}

void ldl_open_print(lua_State *L) {
    luaL_getmetatable(L, LDL_TENSOR);
    lua_pushcfunction(L, l_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushstring(L, LDL_TENSOR);
    lua_setfield(L, -2, "__name");
    lua_pop(L, 1);
}
