/* What a terminal answers: texts of answers, and a pseudo-terminal at whose other end the test answers. */
#define _GNU_SOURCE /* pseudo-terminals */
#include "io/terminal_ask.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

static void reads_attributes(void **state) {
    ld_terminal_answer a;
    (void)state;
    assert_true(ld_terminal_read("\033[?63;1;2;4;6;9;15;22c", &a)); /* xterm -ti vt340 */
    assert_true(a.sixel);
    assert_int_equal(a.cell_width, 0);
    assert_true(ld_terminal_read("\033[6;20;9t\033[?62;22c", &a));
    assert_false(a.sixel);
    assert_int_equal(a.cell_width, 9);
    assert_int_equal(a.cell_height, 20);
    assert_true(ld_terminal_read("\033[?4c", &a)); /* the class is no feature */
    assert_false(a.sixel);
    assert_true(ld_terminal_read("\033[?65;14;44c", &a));
    assert_false(a.sixel);
    assert_true(ld_terminal_read("\033[?2;0;1000;800S\033[?62;4c", &a));
    assert_true(a.sixel);
    assert_int_equal(a.most_width, 1000);
    assert_int_equal(a.most_height, 800);
    assert_false(ld_terminal_read("\033[?62;4", &a));
    assert_false(ld_terminal_read("c", &a));
    assert_false(ld_terminal_read("", &a));
}

/* What the child found, the line it read afterwards, and whether the terminal was as before. */
typedef struct found {
    ld_terminal_answer answer, again;
    bool same_mode;
    char line[64];
} found;

static void child(const char *term, int slave, int report) {
    struct termios before, after;
    found f = {.same_mode = false};
    setsid();
    ioctl(slave, TIOCSCTTY, 0);
    dup2(slave, STDIN_FILENO);
    dup2(slave, STDOUT_FILENO);
    setenv("TERM", term, 1);
    tcgetattr(STDIN_FILENO, &before);
    if (!strcmp(term, "typed"))
        poll(&(struct pollfd){.fd = STDIN_FILENO, .events = POLLIN}, 1, 5000);
    f.answer = ld_terminal_ask();
    f.again = ld_terminal_ask();
    tcgetattr(STDIN_FILENO, &after);
    f.same_mode = before.c_lflag == after.c_lflag && before.c_cc[VMIN] == after.c_cc[VMIN];
    dprintf(STDOUT_FILENO, "ready\n");
    size_t n = 0;
    for (ssize_t got = 1; got > 0 && n + 1 < sizeof f.line && (!n || f.line[n - 1] != '\n'); n += (size_t)got)
        got = read(STDIN_FILENO, f.line + n, sizeof f.line - 1 - n);
    f.line[n] = 0;
    _exit(write(report, &f, sizeof f) != sizeof f);
}

/* Runs ld_terminal_ask in a terminal that answers: the k-th question is met by answers[k], NULL being none; `early` is
 * typed before. Returns how many questions there were; what was shown goes into shown. */
static int converse(const char *term, const char *early, const char *const answers[2], found *f, char *shown,
                    size_t room) {
    int report[2], master = posix_openpt(O_RDWR | O_NOCTTY), asked = 0, status;
    size_t n = 0, seen = 0;
    assert_true(master >= 0 && !grantpt(master) && !unlockpt(master) && !pipe(report));
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(slave >= 0);
    assert_true(write(master, early, strlen(early)) == (ssize_t)strlen(early));
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid)
        child(term, slave, report[1]);
    close(slave);
    close(report[1]);
    for (shown[0] = 0; !strstr(shown, "ready") && n + 1 < room;) {
        struct pollfd p = {.fd = master, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 10000), 1);
        ssize_t got = read(master, shown + n, room - 1 - n);
        assert_true(got > 0);
        n += (size_t)got;
        shown[n] = 0;
        char *query = strstr(shown + seen, "\033[c");
        if (query && asked < 2 && answers[asked])
            assert_true(write(master, answers[asked], strlen(answers[asked])) > 0);
        if (query) {
            seen = (size_t)(query - shown) + 3;
            asked++;
        }
    }
    if (!*early)
        assert_int_equal(write(master, "later\n", 6), 6);
    assert_int_equal(read(report[0], f, sizeof *f), sizeof *f);
    close(report[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(master);
    return asked;
}

static void xterm_says_sixel(void **state) {
    const char *const answers[2] = {"\033[6;14;7t\033[?63;1;2;4c", "\033[?2;0;1000;800S\033[?63;1;2;4c"};
    char shown[512];
    found f;
    (void)state;
    assert_int_equal(converse("xterm", "", answers, &f, shown, sizeof shown), 2);
    assert_true(f.answer.sixel && f.again.sixel);
    assert_int_equal(f.answer.cell_width, 7);
    assert_int_equal(f.answer.most_height, 800);
    assert_true(f.same_mode);
    assert_string_equal(f.line, "later\n"); /* nothing of the answers is left */
    assert_null(strstr(shown, "4c"));       /* nor shown */
}

static void others_do_not(void **state) {
    const char *const plain[2] = {"\033[?1;2c", NULL}, *const silent[2] = {NULL, NULL};
    char shown[512];
    found f;
    (void)state;
    assert_int_equal(converse("screen", "", plain, &f, shown, sizeof shown), 1);
    assert_false(f.answer.sixel);
    assert_string_equal(f.line, "later\n");
    assert_int_equal(converse("xterm", "", silent, &f, shown, sizeof shown), 1); /* and waits no second time */
    assert_false(f.answer.sixel);
    assert_true(f.same_mode);
    assert_int_equal(converse("dumb", "", silent, &f, shown, sizeof shown), 0);
    assert_int_equal(converse("", "", silent, &f, shown, sizeof shown), 0);
}

static void keeps_what_was_typed(void **state) {
    const char *const answers[2] = {"\033[?63;4c", "\033[?63;4c"}, *const first[2] = {"\033[?63;4cxy", NULL};
    const char *const second[2] = {"\033[?63;4c", "\033[?63;4cyz"};
    char shown[512];
    found f;
    (void)state;
    assert_int_equal(converse("typed", "ahead\n", answers, &f, shown, sizeof shown), 0);
    assert_false(f.answer.sixel);
    assert_string_equal(f.line, "ahead\n");
    assert_int_equal(converse("xterm", "", first, &f, shown, sizeof shown), 1); /* typed behind an answer */
    assert_true(f.answer.sixel);
    assert_string_equal(f.line, "xylater\n");
    assert_int_equal(converse("xterm", "", second, &f, shown, sizeof shown), 2);
    assert_string_equal(f.line, "yzlater\n");
}

static void pipes_are_not_asked(void **state) {
    int keys = dup(STDIN_FILENO), null = open("/dev/null", O_RDONLY);
    (void)state;
    assert_true(keys >= 0 && null >= 0);
    dup2(null, STDIN_FILENO);
    assert_false(ld_terminal_ask().sixel);
    dup2(keys, STDIN_FILENO);
    close(keys);
    close(null);
}

static int no_terminals(void) {
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    bool none = master < 0 || grantpt(master) || unlockpt(master);
    if (master >= 0)
        close(master);
    return none;
}

int main(void) {
    const struct CMUnitTest texts[] = {cmocka_unit_test(reads_attributes), cmocka_unit_test(pipes_are_not_asked)};
    const struct CMUnitTest terminals[] = {cmocka_unit_test(xterm_says_sixel), cmocka_unit_test(others_do_not),
                                           cmocka_unit_test(keeps_what_was_typed)};
    int failed = cmocka_run_group_tests(texts, NULL, NULL);
    if (no_terminals()) {
        printf("[  SKIPPED ] asking a terminal: this machine gives no pseudo-terminals\n");
        return failed;
    }
    return failed + cmocka_run_group_tests(terminals, NULL, NULL);
}
