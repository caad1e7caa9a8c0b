#include "io/terminal_ask.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 500

/* CSI ? class ; feature ; ... c */
static bool read_attributes(const char *text, ld_terminal_answer *answer) {
    for (const char *p = text; (p = strstr(p, "\033[?")); p += 3) {
        const char *at = p + 3;
        bool sixel = false;
        for (int k = 0; *at >= '0' && *at <= '9'; k++) {
            char *end;
            long n = strtol(at, &end, 10);
            sixel |= k > 0 && n == 4;
            at = *end == ';' ? end + 1 : end;
        }
        if (*at == 'c') {
            answer->sixel = sixel;
            return true;
        }
    }
    return false;
}

bool ld_terminal_read(const char *text, ld_terminal_answer *answer) {
    const char *p;
    int a, b;
    *answer = (ld_terminal_answer){.sixel = false};
    if ((p = strstr(text, "\033[6;")) && sscanf(p, "\033[6;%d;%dt", &a, &b) == 2 && a > 0 && b > 0) {
        answer->cell_height = a;
        answer->cell_width = b;
    }
    if ((p = strstr(text, "\033[?2;0;")) && sscanf(p, "\033[?2;0;%d;%dS", &a, &b) == 2 && a > 0 && b > 0) {
        answer->most_width = a;
        answer->most_height = b;
    }
    return read_attributes(text, answer);
}

static int left_ms(const struct timespec *until) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long ms = (until->tv_sec - now.tv_sec) * 1000 + (until->tv_nsec - now.tv_nsec) / 1000000;
    return ms > 0 ? (int)ms : 0;
}

static bool readable(int ms) {
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&in, 1, ms) == 1 && (in.revents & POLLIN);
}

/* Writes the query and reads until the attributes have come, or the time is over. */
static bool exchange(const char *query, ld_terminal_answer *answer) {
    char text[512];
    size_t n = 0;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (until.tv_nsec += WAIT_MS * 1000000L) / 1000000000L;
    until.tv_nsec %= 1000000000L;
    if (write(STDOUT_FILENO, query, strlen(query)) != (ssize_t)strlen(query))
        return false;
    while (n + 1 < sizeof text && readable(left_ms(&until))) {
        ssize_t got = read(STDIN_FILENO, text + n, 1); /* what is typed behind the answer stays */
        if (got <= 0)
            return false;
        n += (size_t)got;
        text[n] = 0;
        if (text[n - 1] == 'c' && ld_terminal_read(text, answer))
            return true;
    }
    return false;
}

static bool may_ask(void) {
    const char *term = getenv("TERM");
    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp() && term && *term &&
           strcmp(term, "dumb") != 0 && strcmp(term, "linux") != 0;
}

ld_terminal_answer ld_terminal_ask(void) {
    static ld_terminal_answer kept;
    static bool asked;
    struct termios before, quiet;
    if (asked || !may_ask() || tcgetattr(STDIN_FILENO, &before))
        return kept;
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    quiet.c_cc[VMIN] = 1;
    quiet.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, &quiet))
        return kept;
    if (!readable(0)) {
        ld_terminal_answer first = {.sixel = false}, second;
        asked = true;
        if (exchange("\033[16t\033[c", &first)) {
            kept = first;
            /* for terminals that know sixels only: others might take the S for scrolling */
            if (first.sixel && !readable(0) && exchange("\033[?2;1;0S\033[c", &second)) {
                kept.most_width = second.most_width;
                kept.most_height = second.most_height;
            }
        }
    }
    tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
    return kept;
}
