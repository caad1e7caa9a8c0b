/* The file of statements entered at the prompt: $XDG_STATE_HOME/ldlua/history, else ~/.local/state/ldlua/history.
 *
 * Lines are appended one by one, so that two prompts at once, or one that is killed, lose nothing. A file that has grown
 * beyond HISTORY_MAX lines is replaced by its last ones at the start. Nothing here may disturb the prompt: when the file
 * cannot be used, there is no history but this session's. */
#include "host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char file[PATH_MAX]; /* "" when there is none */

/* Makes the folders on the way to `path`, for the user alone. */
static void make_folders(char *path) {
    for (char *p = path + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        mkdir(path, 0700);
        *p = '/';
    }
}

static void find_file(void) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (state && state[0] == '/')
        n = snprintf(file, sizeof file, "%s/ldlua/history", state);
    else if (home && home[0] == '/')
        n = snprintf(file, sizeof file, "%s/.local/state/ldlua/history", home);
    if (n <= 0 || (size_t)n >= sizeof file)
        file[0] = 0;
    else
        make_folders(file);
}

/* A descriptor of the user's own regular file, -1 otherwise. */
static int open_own(const char *path, int flags) {
    struct stat s;
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd >= 0 && (fstat(fd, &s) || !S_ISREG(s.st_mode))) {
        close(fd);
        return -1;
    }
    return fd;
}

/* In place: \n and \\ become newline and backslash. */
static void decode(char *s) {
    char *out = s;
    for (; *s; s++) {
        if (*s == '\\' && s[1])
            *out++ = *++s == 'n' ? '\n' : *s;
        else
            *out++ = *s;
    }
    *out = 0;
}

static void replace_file(char **lines, int first, int count) {
    char path[PATH_MAX + 32];
    FILE *f;
    int fd;
    bool good = true;
    snprintf(path, sizeof path, "%s.%ld", file, (long)getpid());
    fd = open_own(path, O_WRONLY | O_CREAT | O_EXCL);
    if (fd < 0)
        return;
    f = fdopen(fd, "w");
    if (!f) {
        close(fd);
        unlink(path);
        return;
    }
    for (int i = first; i < first + count; i++)
        good = fprintf(f, "%s\n", lines[i % HISTORY_MAX]) > 0 && good;
    if (fclose(f) || !good || rename(path, file))
        unlink(path);
}

void history_load(void (*add)(const char *text)) {
    static char *lines[HISTORY_MAX]; /* a ring */
    char *line = NULL;
    size_t size = 0;
    ssize_t n;
    int total = 0, first;
    FILE *f;
    int fd;
    find_file();
    fd = *file ? open_own(file, O_RDONLY) : -1;
    f = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (!f) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((n = getline(&line, &size, f)) > 0) {
        if (line[n - 1] == '\n')
            line[n - 1] = 0;
        free(lines[total % HISTORY_MAX]);
        lines[total % HISTORY_MAX] = strdup(line);
        if (!lines[total % HISTORY_MAX])
            break;
        total++;
    }
    free(line);
    fclose(f);
    first = total > HISTORY_MAX ? total - HISTORY_MAX : 0;
    if (first)
        replace_file(lines, first, HISTORY_MAX);
    for (int i = first; i < total; i++) {
        decode(lines[i % HISTORY_MAX]);
        add(lines[i % HISTORY_MAX]);
        free(lines[i % HISTORY_MAX]);
        lines[i % HISTORY_MAX] = NULL;
    }
}

void history_append(const char *text) {
    size_t n = strlen(text), k = 0;
    char *line;
    int fd = *file ? open_own(file, O_WRONLY | O_CREAT | O_APPEND) : -1;
    if (fd < 0)
        return;
    line = malloc(2 * n + 1);
    if (line) {
        ssize_t ignored;
        for (size_t i = 0; i < n; i++) {
            if (text[i] == '\n' || text[i] == '\\')
                line[k++] = '\\';
            line[k++] = text[i] == '\n' ? 'n' : text[i];
        }
        line[k++] = '\n';
        ignored = write(fd, line, k);
        (void)ignored;
    }
    free(line);
    close(fd);
}
