/* The socket of a run in its folder, through which `ldlua attach` asks: Unix, mode 0600, and only the run's own user is
 * heard. A request is a line of text; so is its answer.
 *
 * The run looks between two steps and never waits for anyone: what has not come as a whole line is left for later, and
 * whoever does not take an answer at once is dropped. */
#define _GNU_SOURCE /* accept4, struct ucred */
#include "host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define NAME   "attach.sock"
#define SERVER "ldlua.attach.server"
#define CLIENT "ldlua.attach.client"

enum { CLIENTS = 8, LINE = 8192 };

typedef struct line_reader {
    int fd; /* -1: none */
    size_t n;
    char text[LINE];
} line_reader;

typedef struct server {
    int fd, folder; /* -1 once closed; the folder is kept open for the removal of the socket */
    dev_t dev;      /* which socket is ours: another run may have put its own in the place */
    ino_t ino;
    unsigned next; /* whose turn it is */
    line_reader client[CLIENTS];
} server;

/* Names of sockets have room for some 100 characters only: the folder goes by its descriptor. */
static struct sockaddr_un address_in(int folder) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/" NAME, folder);
    return a;
}

static int open_folder(const char *path) {
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Whether the one at the other end runs as this user. */
static bool is_owner(int fd) {
    struct ucred who;
    socklen_t n = sizeof who;
    return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) && who.uid == geteuid();
}

/* nil and a reason with the system's. */
static int refuse(lua_State *L, const char *what, const char *path) {
    int e = errno;
    lua_pushnil(L);
    lua_pushfstring(L, "%s %s: %s", what, path, strerror(e));
    return 2;
}

/* ---- the run's side --------------------------------------------------------------------------------------------------- */

static void drop(line_reader *c) {
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->n = 0;
}

static void server_close(server *s) {
    struct stat st;
    if (s->fd < 0)
        return;
    for (int i = 0; i < CLIENTS; i++)
        drop(&s->client[i]);
    close(s->fd);
    if (!fstatat(s->folder, NAME, &st, AT_SYMLINK_NOFOLLOW) && st.st_dev == s->dev && st.st_ino == s->ino)
        unlinkat(s->folder, NAME, 0);
    close(s->folder);
    s->fd = s->folder = -1;
}

/* A socket that is there already is of a run that is gone: the folder is locked by this one. */
static bool make_way(int folder) {
    struct stat st;
    if (fstatat(folder, NAME, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT;
    if (S_ISSOCK(st.st_mode))
        return !unlinkat(folder, NAME, 0);
    errno = EEXIST;
    return false;
}

/* Nobody can connect before listen, so the mode is there in time. */
static bool server_listen(server *s) {
    struct sockaddr_un a = address_in(s->folder);
    struct stat st;
    if (!make_way(s->folder))
        return false;
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&a, sizeof a))
        return false;
    if (fstatat(s->folder, NAME, &st, AT_SYMLINK_NOFOLLOW))
        return false;
    s->dev = st.st_dev;
    s->ino = st.st_ino;
    return !fchmodat(s->folder, NAME, 0600, 0) && !listen(s->fd, CLIENTS);
}

/* attach_listen(folder): a server; or nil and why there is none */
static int l_listen(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    server *s = lua_newuserdata(L, sizeof *s);
    memset(s, 0, sizeof *s);
    s->fd = -1;
    for (int i = 0; i < CLIENTS; i++)
        s->client[i].fd = -1;
    s->folder = open_folder(path);
    luaL_getmetatable(L, SERVER);
    lua_setmetatable(L, -2);
    if (s->folder >= 0 && server_listen(s))
        return 1;
    int e = errno;
    if (s->fd >= 0)
        close(s->fd);
    if (s->folder >= 0)
        close(s->folder);
    s->fd = s->folder = -1;
    errno = e;
    return refuse(L, "cannot make a socket in", path);
}

static void accept_all(server *s) {
    // cppcheck-suppress nullPointer ; who it is, is_owner asks
    for (int fd; (fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;) {
        int i = 0;
        while (i < CLIENTS && s->client[i].fd >= 0)
            i++;
        if (i == CLIENTS || !is_owner(fd))
            close(fd);
        else
            s->client[i].fd = fd;
    }
}

/* Takes what has come; 1 and the line's length in *n (without its newline) when there is a whole one, 0 when not yet, -1
 * at the end or for a line that is too long. */
static int read_line(line_reader *c, size_t *n) {
    for (;;) {
        const char *end = memchr(c->text, '\n', c->n);
        if (end) {
            *n = (size_t)(end - c->text);
            return 1;
        }
        if (c->n == sizeof c->text)
            return -1;
        ssize_t got = recv(c->fd, c->text + c->n, sizeof c->text - c->n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? 0 : -1;
        c->n += (size_t)got;
    }
}

static void push_line(lua_State *L, line_reader *c, size_t n) {
    lua_pushlstring(L, c->text, n);
    c->n -= n + 1;
    memmove(c->text, c->text + n + 1, c->n);
}

/* s:poll(): the number of a client and its next line, or nothing; clients take turns */
static int l_poll(lua_State *L) {
    server *s = luaL_checkudata(L, 1, SERVER);
    size_t n;
    if (s->fd < 0)
        return 0;
    accept_all(s);
    for (int k = 0; k < CLIENTS; k++) {
        unsigned i = s->next++ % CLIENTS;
        line_reader *c = &s->client[i];
        int got = c->fd < 0 ? 0 : read_line(c, &n);
        if (got < 0)
            drop(c);
        if (got <= 0)
            continue;
        lua_pushinteger(L, (int)i + 1);
        push_line(L, c, n);
        return 2;
    }
    return 0;
}

/* s:wait(seconds): until something may have come, a signal has, or the time is over */
static int l_wait(lua_State *L) {
    server *s = luaL_checkudata(L, 1, SERVER);
    struct pollfd p[CLIENTS + 1] = {{.fd = s->fd, .events = POLLIN}};
    for (int i = 0; i < CLIENTS; i++)
        p[i + 1] = (struct pollfd){.fd = s->client[i].fd, .events = POLLIN}; /* -1 is passed over */
    poll(p, CLIENTS + 1, (int)(luaL_checknumber(L, 2) * 1000));
    return 0;
}

/* s:answer(client, line): what does not fit into the socket's buffer ends the connection */
static int l_answer(lua_State *L) {
    server *s = luaL_checkudata(L, 1, SERVER);
    lua_Integer i = luaL_checkinteger(L, 2);
    luaL_argcheck(L, i >= 1 && i <= CLIENTS, 2, "no such client");
    line_reader *c = &s->client[i - 1];
    lua_pushfstring(L, "%s\n", luaL_checkstring(L, 3));
    size_t n;
    const char *text = lua_tolstring(L, -1, &n);
    if (c->fd >= 0 && send(c->fd, text, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n)
        drop(c);
    return 0;
}

static int l_server_close(lua_State *L) {
    server_close(luaL_checkudata(L, 1, SERVER));
    return 0;
}

/* ---- the asking side -------------------------------------------------------------------------------------------------- */

static line_reader *client_of(lua_State *L) {
    return luaL_checkudata(L, 1, CLIENT);
}

static int l_client_close(lua_State *L) {
    drop(client_of(L));
    return 0;
}

/* attach_connect(folder): a connection, or nil and why there is none */
static int l_connect(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    int folder = open_folder(path);
    if (folder < 0)
        return refuse(L, "cannot open", path);
    struct sockaddr_un a = address_in(folder);
    line_reader *c = lua_newuserdata(L, sizeof *c);
    memset(c, 0, sizeof *c);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    luaL_getmetatable(L, CLIENT);
    lua_setmetatable(L, -2);
    if (c->fd >= 0 && !connect(c->fd, (struct sockaddr *)&a, sizeof a)) {
        close(folder);
        return 1;
    }
    int e = errno;
    drop(c);
    close(folder);
    errno = e;
    if (e != ENOENT && e != ECONNREFUSED)
        return refuse(L, "cannot connect to the run in", path);
    lua_pushnil(L);
    lua_pushfstring(L, "nobody is training in %s, or with attach = false", path);
    return 2;
}

static bool send_all(int fd, const char *text, size_t n) {
    while (n) {
        ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR && !host_signal_requested())
            continue;
        if (sent <= 0)
            return false;
        text += sent;
        n -= (size_t)sent;
    }
    return true;
}

/* c:send(line): whether the run is still there to take it */
static int l_send(lua_State *L) {
    line_reader *c = client_of(L);
    size_t n;
    const char *line = luaL_checklstring(L, 2, &n);
    lua_pushboolean(L, c->fd >= 0 && n < LINE && !memchr(line, '\n', n) && send_all(c->fd, line, n) &&
                           send_all(c->fd, "\n", 1));
    return 1;
}

/* c:receive(): the next line of an answer; nil when the connection has ended. It waits as long as that takes; Ctrl-C
 * ends the wait. */
static int l_receive(lua_State *L) {
    line_reader *c = client_of(L);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (;;) {
        const char *end = memchr(c->text, '\n', c->n);
        size_t n = end ? (size_t)(end - c->text) : c->n;
        luaL_addlstring(&b, c->text, n);
        c->n -= n + (end != NULL);
        memmove(c->text, c->text + n + (end != NULL), c->n);
        if (end) {
            luaL_pushresult(&b);
            return 1;
        }
        ssize_t got = c->fd < 0 ? 0 : recv(c->fd, c->text, sizeof c->text, 0);
        if (got <= 0) {
            drop(c);
            return 0;
        }
        c->n = (size_t)got;
    }
}

/* read_line(prompt): a line that is typed, with editing on a terminal; nil at the end of input, '' after Ctrl-C */
static int l_read_line(lua_State *L) {
    static bool opened;
    const char *line = "", *prompt = luaL_checkstring(L, 1);
    if (!opened)
        edit_open(L);
    opened = true;
    host_signals_phase(HOST_EDIT);
    edit_result r = edit_read(prompt, &line);
    host_signals_phase(HOST_PROMPT);
    if (r == EDIT_END || r == EDIT_TERMINATE)
        return 0;
    lua_pushstring(L, r == EDIT_CANCEL ? "" : line);
    return 1;
}

static void make_class(lua_State *L, const char *name, const luaL_Reg *methods) {
    luaL_newmetatable(L, name);
    luaL_register(L, NULL, methods);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

void host_attach_open(lua_State *L) {
    static const luaL_Reg of_server[] = {{"poll", l_poll},          {"wait", l_wait},         {"answer", l_answer},
                                         {"close", l_server_close}, {"__gc", l_server_close}, {NULL, NULL}};
    static const luaL_Reg of_client[] = {
        {"send", l_send}, {"receive", l_receive}, {"close", l_client_close}, {"__gc", l_client_close}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"attach_listen", l_listen}, {"attach_connect", l_connect}, {"read_line", l_read_line}, {NULL, NULL}};
    make_class(L, SERVER, of_server);
    make_class(L, CLIENT, of_client);
    luaL_register(L, NULL, functions);
}
