#include "io/terminal.h"

#include "base/error.h"
#include "io/chafa_lib.h"
#include "io/terminal_ask.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

extern char **environ;

const char *const ld_terminal_mode_names[LD_TERMINAL_MODES] = {"half", "sixel", "kitty", "iterm"};

static const struct {
    ChafaPixelMode pixel;
    ChafaTermSeq begins;
} modes[LD_TERMINAL_MODES] = {
    [LD_TERMINAL_HALF] = {CHAFA_PIXEL_MODE_SYMBOLS, CHAFA_TERM_SEQ_MAX},
    [LD_TERMINAL_SIXEL] = {CHAFA_PIXEL_MODE_SIXELS, CHAFA_TERM_SEQ_BEGIN_SIXELS},
    [LD_TERMINAL_KITTY] = {CHAFA_PIXEL_MODE_KITTY, CHAFA_TERM_SEQ_BEGIN_KITTY_IMMEDIATE_IMAGE_V1},
    [LD_TERMINAL_ITERM] = {CHAFA_PIXEL_MODE_ITERM2, CHAFA_TERM_SEQ_BEGIN_ITERM2_IMAGE},
};

int ld_terminal_detect(void) {
    static const ld_terminal_mode order[] = {LD_TERMINAL_KITTY, LD_TERMINAL_SIXEL, LD_TERMINAL_ITERM};
    int mode = LD_TERMINAL_HALF;
    if (chafa_load())
        return -1;
    ChafaTermInfo *info = lc.term_db_detect(lc.term_db_get_default(), environ);
    for (int i = 2; i >= 0; i--)
        if (lc.term_info_have_seq(info, modes[order[i]].begins))
            mode = (int)order[i];
    lc.term_info_unref(info);
    return mode == LD_TERMINAL_HALF && ld_terminal_ask().sixel ? LD_TERMINAL_SIXEL : mode;
}

ld_terminal_size ld_terminal_measure(void) {
    ld_terminal_size size = {.cell_width = 10, .cell_height = 20};
    struct winsize w;
    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) || !w.ws_col || !w.ws_row)
        return size;
    size.columns = w.ws_col;
    size.rows = w.ws_row;
    if (w.ws_xpixel >= 2 * w.ws_col && w.ws_ypixel >= 2 * w.ws_row) {
        size.cell_width = w.ws_xpixel / w.ws_col;
        size.cell_height = w.ws_ypixel / w.ws_row;
    } else if (ld_terminal_ask().cell_width) {
        size.cell_width = ld_terminal_ask().cell_width;
        size.cell_height = ld_terminal_ask().cell_height;
    }
    size.most_width = ld_terminal_ask().most_width;
    size.most_height = ld_terminal_ask().most_height;
    return size;
}

/* As many colours as the terminal has; the picture protocols have their own. */
static ChafaCanvasMode colours(ld_terminal_mode mode, const ChafaTermInfo *info) {
    if (mode != LD_TERMINAL_HALF || lc.term_info_have_seq(info, CHAFA_TERM_SEQ_SET_COLOR_FGBG_DIRECT))
        return CHAFA_CANVAS_MODE_TRUECOLOR;
    return lc.term_info_have_seq(info, CHAFA_TERM_SEQ_SET_COLOR_FGBG_256) ? CHAFA_CANVAS_MODE_INDEXED_240
                                                                          : CHAFA_CANVAS_MODE_INDEXED_16;
}

static ChafaCanvas *new_canvas(ld_terminal_mode mode, ld_terminal_size size, const ChafaTermInfo *info) {
    ChafaCanvasConfig *config = lc.canvas_config_new();
    ChafaSymbolMap *symbols = lc.symbol_map_new();
    lc.symbol_map_add_by_tags(symbols, CHAFA_SYMBOL_TAG_VHALF);
    lc.canvas_config_set_symbol_map(config, symbols);
    lc.canvas_config_set_pixel_mode(config, modes[mode].pixel);
    lc.canvas_config_set_canvas_mode(config, colours(mode, info));
    lc.canvas_config_set_geometry(config, size.columns, size.rows);
    lc.canvas_config_set_cell_geometry(config, size.cell_width, size.cell_height);
    lc.canvas_config_set_preprocessing_enabled(config, FALSE); /* it changes contrast and saturation */
    ChafaCanvas *canvas = lc.canvas_new(config);
    lc.symbol_map_unref(symbols);
    lc.canvas_config_unref(config);
    return canvas;
}

/* Bytes from row to row: chafa 1.12 skews pictures whose rows do not begin at multiples of 4. */
static size_t row_bytes(const ld_image *im, int across) {
    return (3 * (size_t)(im->width * across) + 3) & ~(size_t)3;
}

/* RGB out of 1 or 3 channels, each pixel across x down times; the caller frees. */
static uint8_t *rgb(const ld_image *im, int across, int down) {
    size_t w = (size_t)(im->width * across), h = (size_t)(im->height * down), c = (size_t)im->channels;
    uint8_t *out = malloc(row_bytes(im, across) * h);
    if (!out)
        ld_fail(LD_EMEM, "show: out of host memory");
    for (size_t y = 0; out && y < h; y++) {
        const uint8_t *row = im->data + y / (size_t)down * (size_t)im->width * c;
        uint8_t *to = out + y * row_bytes(im, across);
        for (size_t x = 0; x < w; x++)
            for (int k = 0; k < 3; k++)
                *to++ = row[x / (size_t)across * c + (c == 3 ? (size_t)k : 0)];
    }
    return out;
}

/* How often to repeat a side's pixels: chafa draws `cell` pixels a cell, and would blur a picture that has fewer. */
static int repeats(int cells, int cell, int side) {
    int n = cells * cell / side;
    return n > 1 ? n : 1;
}

static int good_size(ld_terminal_size s) {
    const int sides[] = {s.columns, s.rows, s.cell_width, s.cell_height};
    for (int i = 0; i < 4; i++)
        if (sides[i] < 1 || sides[i] > 4096)
            return ld_fail(LD_EVALUE, "show: %d x %d cells of %d x %d pixels; sides from 1 to 4096 are needed",
                           s.columns, s.rows, s.cell_width, s.cell_height);
    return 0;
}

int ld_terminal_picture(const ld_image *im, ld_terminal_mode mode, ld_terminal_size size, char **text, size_t *n) {
    if ((unsigned)mode >= LD_TERMINAL_MODES)
        return ld_fail(LD_EVALUE, "show: mode %d is unknown", (int)mode);
    bool half = mode == LD_TERMINAL_HALF;
    if (good_size(size) || chafa_load())
        return ld_error_code();
    int across = repeats(size.columns, half ? 8 : size.cell_width, im->width);
    int down = repeats(size.rows, half ? 8 : size.cell_height, im->height);
    uint8_t *pixels = rgb(im, across, down);
    if (!pixels)
        return ld_error_code();
    ChafaTermDb *db = lc.term_db_get_default();
    ChafaTermInfo *info = lc.term_db_detect(db, environ), *all = lc.term_db_get_fallback_info(db);
    ChafaCanvas *canvas = new_canvas(mode, size, info);
    lc.term_info_supplement(info, all); /* a mode that was asked for is used whatever the environment says */
    lc.canvas_draw_all_pixels(canvas, CHAFA_PIXEL_RGB8, pixels, im->width * across, im->height * down,
                              (int)row_bytes(im, across));
    GString *s = lc.canvas_print(canvas, info);
    free(pixels);
    lc.canvas_unref(canvas);
    lc.term_info_unref(all);
    lc.term_info_unref(info);
    *text = malloc(s->len + 2);
    if (*text) {
        memcpy(*text, s->str, s->len);
        memcpy(*text + s->len, "\n", 2);
        *n = s->len + 1;
    }
    lc.string_free(s, TRUE);
    return *text ? 0 : ld_fail(LD_EMEM, "show: out of host memory");
}
