/* Choosing the fastest of several ways to compute the same thing, by timing each at its first use.
 *
 * A choice belongs to a key, a line of text that names the computation and its sizes. Choices are kept for the life of the
 * process and, as text, in a file that the host looks after. With tuning off (the default of the core) a fixed rule
 * decides instead: the same way on every run, which exact resume needs. One thread uses this. */
#ifndef LD_TUNE_H
#define LD_TUNE_H

#include <stdbool.h>
#include <stddef.h>

enum { LD_TUNE_WAYS = 8, LD_TUNE_KEY = 160 };

typedef struct ld_tune_case {
    const char *key; /* without blanks, shorter than LD_TUNE_KEY */
    int n;           /* ways, at most LD_TUNE_WAYS */
    const char *const *names;
    const bool *fits;               /* which can compute this case; at least one */
    int rule;                       /* the one to take with tuning off; it fits */
    int (*run)(void *arg, int way); /* computes the whole result, again at each call; 0 or an error code */
    void *arg;
} ld_tune_case;

/* Compute by the way that is known, or that proves fastest, or by the rule. The result is always the chosen way's. */
int ld_tune_run(const ld_tune_case *c);

/* Tuning on or off; returns what held before. Choices made stay, and count again when it is on. */
bool ld_tune_set(bool on);
bool ld_tune_is_on(void);
/* Whether a call with this key is about to be timed: tuning is on, and there is no choice for it. For those whose work goes on
 * after they have returned: while they are timed they must wait for it. */
bool ld_tune_will_time(const char *key);

/* Forget every choice. */
void ld_tune_clear(void);
/* Choices so far, and how many changes there were since ld_tune_saved. */
int ld_tune_count(void);
int ld_tune_unsaved(void);
void ld_tune_saved(void);
bool ld_tune_cleared(void); /* whether ld_tune_clear was called since then: what was saved is to be forgotten too */

/* Everything known as lines `key way milliseconds of each way`, under a first line that names processor and libraries.
 * To be freed by the caller; NULL (LD_EMEM). */
char *ld_tune_text(void);
/* Take such a text over; lines that make no sense are passed by. false: its first line is not this machine's. */
bool ld_tune_read(const char *text);

/* Called once, before the first choice is looked for, so that the host can read its file. */
void ld_tune_on_first(void (*load)(void));

#endif
