/* Pictures as text for a terminal. */
#ifndef LD_TERMINAL_H
#define LD_TERMINAL_H

#include "io/image.h"

typedef enum ld_terminal_mode {
    LD_TERMINAL_HALF, /* half blocks, two pixels a cell, in as many colours as the environment promises */
    LD_TERMINAL_SIXEL,
    LD_TERMINAL_KITTY,
    LD_TERMINAL_ITERM,
    LD_TERMINAL_MODES
} ld_terminal_mode;
extern const char *const ld_terminal_mode_names[LD_TERMINAL_MODES]; /* half sixel kitty iterm */

/* What the terminal can do, from the environment (TERM, COLORTERM, ...), as the program chafa tells it, and where that
 * knows of half blocks only, from what the terminal answers (terminal_ask.h): a mode, or -1 when libchafa cannot be loaded
 * (LD_EIO). */
int ld_terminal_detect(void);

/* The size of the terminal on standard output: columns, rows, pixels of a cell (10 x 20 when it does not say) and of the
 * largest sixel picture (0 when it does not say). Columns and rows are 0 when it is no terminal or does not say. */
typedef struct ld_terminal_size {
    int columns, rows, cell_width, cell_height, most_width, most_height;
} ld_terminal_size;
ld_terminal_size ld_terminal_measure(void);

/* The picture, stretched to size.columns x size.rows cells, as escape sequences that end in a newline: *text is malloc'd
 * and ends in a NUL that *n does not count; the caller frees. Sixels have 256 colours, the others all.
 * LD_EVALUE (a size below 1 or above 4096, an unknown mode), LD_EIO (no libchafa), LD_EMEM. */
int ld_terminal_picture(const ld_image *im, ld_terminal_mode mode, ld_terminal_size size, char **text, size_t *n);

#endif
