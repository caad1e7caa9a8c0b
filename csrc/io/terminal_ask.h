/* What a terminal answers about itself, beyond what the environment says. */
#ifndef LD_TERMINAL_ASK_H
#define LD_TERMINAL_ASK_H

#include <stdbool.h>

typedef struct ld_terminal_answer {
    bool sixel;                  /* its device attributes have 4 */
    int cell_width, cell_height; /* pixels of a cell, 0 when it does not say */
    int most_width, most_height; /* pixels of the largest sixel picture, 0 when it does not say */
} ld_terminal_answer;

/* Asks the terminal on standard input and output once a process; later calls give the same answer. Nothing is asked, and
 * all is 0, where one of them is no terminal, the process is in the background, or TERM is empty, dumb or linux. Where
 * something was typed ahead, nothing is asked this time. What a terminal says within half a second is read and nothing of
 * it is left for the prompt; one that says nothing costs that time once.
 * Queries: CSI 16 t (xterm), CSI ? 2 ; 1 ; 0 S (XTSMGRAPHICS), CSI c (DEC's primary device attributes, which all
 * terminals answer, so it stands last). */
ld_terminal_answer ld_terminal_ask(void);

/* Reads the answers out of a text; for tests. True when the attributes, which come last, are there. */
bool ld_terminal_read(const char *text, ld_terminal_answer *answer);

#endif
