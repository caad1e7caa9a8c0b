/* One line from the terminal: libedit with history and Tab; or plainly, when this is no terminal. */
#include "host/host.h"

#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

/* NULL when lines are read plainly. It and the list live as long as the process: between lines the terminal is as it was,
 * and el_end would lose the memory of the added function's name. */
static EditLine *editor;
static History *history_list;
static lua_State *state;
static const char *prompt_now;
static char *line_now;
static size_t line_size;

static char *prompt_text(EditLine *e) {
    (void)e;
    return (char *)(size_t)prompt_now;
}

/* The next character. libedit's own reader would go on after a signal. */
static int read_character(EditLine *e, wchar_t *out) {
    mbstate_t shift = {0};
    (void)e;
    for (;;) {
        char byte;
        ssize_t n = host_edit_signal() ? -1 : read(STDIN_FILENO, &byte, 1);
        if (n == 0)
            return 0;
        if (n < 0) {
            if (errno == EINTR && !host_edit_signal())
                continue;
            return -1;
        }
        switch (mbrtowc(out, &byte, 1, &shift)) {
        case (size_t)-2: /* more bytes to come */
            continue;
        case (size_t)-1:
            *out = L'?';
            return 1;
        default:
            return 1;
        }
    }
}

static int terminal_width(void) {
    struct winsize w;
    return !ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) && w.ws_col > 20 ? w.ws_col : 80;
}

/* Names, blank-separated, below the line that is being typed, in columns. */
static void show_names(char *names) {
    int widest = 0, columns, k = 0;
    char *rest = names, *name;
    for (const char *p = names; *p; p += strcspn(p, " ") + (p[strcspn(p, " ")] != 0))
        if ((int)strcspn(p, " ") > widest)
            widest = (int)strcspn(p, " ");
    columns = terminal_width() / (widest + 2);
    if (columns < 1)
        columns = 1;
    putchar('\n');
    while ((name = strtok_r(rest, " ", &rest)))
        printf("%-*s%s", widest + 2, name, ++k % columns ? "" : "\n");
    if (k % columns)
        putchar('\n');
    fflush(stdout);
}

static unsigned char on_tab(EditLine *e, int key) {
    const LineInfo *line = el_line(e);
    size_t length = (size_t)(line->cursor - line->buffer);
    char *common, *list;
    unsigned char result = CC_REFRESH;
    (void)key;
    bool blank = !length || line->cursor[-1] == ' ' || line->cursor[-1] == '\n';
    if (blank && !memchr(line->buffer, '{', length)) /* a pasted indentation, where no options are asked for */
        return el_insertstr(e, "    ") ? CC_ERROR : CC_REFRESH;
    if (!complete(state, line->buffer, length, &common, &list))
        return CC_ERROR;
    if (*common) {
        if (el_insertstr(e, common))
            result = CC_ERROR;
    } else if (strchr(list, ' ')) {
        show_names(list);
        result = CC_REDISPLAY;
    }
    free(common);
    free(list);
    return result;
}

static void add_to_list(const char *text) {
    HistEvent event;
    history(history_list, &event, H_ENTER, text);
}

void edit_open(lua_State *L) {
    HistEvent event;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return;
    state = L;
    setlocale(LC_CTYPE, "");
    history_list = history_init();
    editor = history_list ? el_init("ldlua", stdin, stdout, stderr) : NULL;
    if (!editor)
        return;
    history(history_list, &event, H_SETSIZE, HISTORY_MAX);
    history(history_list, &event, H_SETUNIQUE, 1);
    history_load(add_to_list);
    el_set(editor, EL_PROMPT, prompt_text);
    el_set(editor, EL_EDITOR, "emacs");
    el_set(editor, EL_HIST, history, history_list);
    el_set(editor, EL_GETCFN, read_character);
    el_set(editor, EL_ADDFN, "ldlua-complete", "complete a name", on_tab);
    el_set(editor, EL_BIND, "^I", "ldlua-complete", NULL);
    el_set(editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(editor, NULL);
}

void edit_remember(const char *text) {
    HistEvent event;
    if (!editor || !text[strspn(text, " \t\n")])
        return;
    if (!history(history_list, &event, H_FIRST) && !strcmp(event.str, text))
        return;
    add_to_list(text);
    history_append(text);
}

static edit_result ended(bool error) {
    int sig = host_edit_signal();
    if (sig == SIGTERM)
        return EDIT_TERMINATE;
    if (sig == SIGINT && error)
        return isatty(STDIN_FILENO) ? EDIT_CANCEL : EDIT_TERMINATE;
    return EDIT_END;
}

static edit_result read_plain(const char *prompt, const char **line) {
    ssize_t n;
    if (isatty(STDIN_FILENO)) {
        fputs(prompt, stdout);
        fflush(stdout);
    }
    n = getline(&line_now, &line_size, stdin);
    if (n < 0) {
        edit_result r = ended(ferror(stdin) != 0);
        clearerr(stdin);
        return r;
    }
    if (n && line_now[n - 1] == '\n')
        line_now[n - 1] = 0;
    *line = line_now;
    return EDIT_LINE;
}

edit_result edit_read(const char *prompt, const char **line) {
    const char *typed;
    int n = 0;
    prompt_now = prompt;
    if (!editor)
        return read_plain(prompt, line);
    el_resize(editor);
    el_set(editor, EL_PREP_TERM, 1); /* before the prompt is seen: a Ctrl-D typed at once would be lost otherwise */
    typed = el_gets(editor, &n);
    if (!typed || n <= 0) {
        fputs(host_edit_signal() == SIGINT ? "^C\n" : "\n", stdout);
        fflush(stdout);
        return ended(true);
    }
    free(line_now);
    line_now = strndup(typed, (size_t)n - (typed[n - 1] == '\n'));
    if (!line_now)
        return EDIT_END;
    *line = line_now;
    return EDIT_LINE;
}
