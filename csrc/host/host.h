/* The executable ldlua: runs recipes and the prompt in one LuaJIT state.
 *
 *   main.c      command line, state, scripts, exit status
 *   option.c    the command line
 *   root.c      where lua/ lies; package.path
 *   signal.c    Ctrl-C and SIGTERM; ld.host.stop_requested, ld.host.on_stop
 *   trace.c     what an uncaught error prints
 *   strict.c    undeclared globals are errors
 *   prompt.c    read, run, print
 *   edit.c      one line from the terminal, with editing (libedit)
 *   complete.c  Tab
 *   history.c   the file of entered lines
 *   tuning.c    the file of timed choices
 *   attach.c    the socket of a run, and the side that asks through it
 *   doctor.c    what is here of what can be used
 *
 * Only this folder prints and ends the process. The functions below that take a lua_State raise Lua errors only where
 * their comment says so. */
#ifndef HOST_H
#define HOST_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* ---- the command line: option.c --------------------------------------------------------------------------------------- */

typedef struct host_options {
    const char *device; /* NULL when not given */
    const char *comm;   /* the same */
    int threads;        /* 0 when not given */
    bool version, help, doctor, prompt, verbose, no_tune;
    int attach;     /* position of the folder after `attach`, 0 for none; a request may follow */
    int script;     /* position of the script in argv, 0 for none; its arguments follow */
    int code_count; /* -e */
    const char **code;
} host_options;

/* 0, or an exit status after a message on stderr. o->code points into argv; the array itself is the caller's to free. */
int host_options_read(host_options *o, int argc, char **argv);
void host_print_help(void);
int host_doctor(void); /* prints; the exit status */

/* ---- where lua/ lies: root.c ------------------------------------------------------------------------------------------ */

/* The folder that holds lua/ld/init.lua: LDLUA_ROOT if set, else the executable's own folder, else ../share/ldlua beside
 * it. An absolute path without links in `root`; false after a message on stderr. */
bool host_root_find(char *root, size_t size);
void host_root_use(lua_State *L, const char *root); /* package.path; may raise (memory) */

/* ---- signals: signal.c ------------------------------------------------------------------------------------------------ */

/* What Ctrl-C does: HOST_SCRIPT ends the script with the error "interrupted", a second one ends the process.
 * HOST_PROMPT ends the statement; the third one during the same statement ends the process. HOST_EDIT (a line is being
 * typed) is left to host_edit_signal. SIGTERM is a Ctrl-C in a script, and ends the process at the prompt. */
typedef enum host_phase { HOST_SCRIPT, HOST_PROMPT, HOST_EDIT } host_phase;

void host_signals_start(lua_State *L);
void host_signals_phase(host_phase phase);
int host_edit_signal(void);      /* the signal that came since the phase HOST_EDIT began, 0 for none */
int host_signal_requested(void); /* SIGINT or SIGTERM that asked the running code to stop, 0 for none */
void host_die(int sig);          /* end as if by the signal's own action: $? is 128 + sig */
/* Adds stop_requested and on_stop to the table on top of the stack. */
void host_signals_open(lua_State *L);

/* ---- a run that is asked from outside: attach.c ----------------------------------------------------------------------- */

/* Adds attach_listen, attach_connect and read_line to the table on top of the stack. */
void host_attach_open(lua_State *L);

/* ---- timed choices: tuning.c ------------------------------------------------------------------------------------------ */

void host_tuning_start(bool refused); /* on, unless refused or LD_TUNE is 0 */
void host_tuning_save(void);
/* Adds save_tuning to the table on top of the stack. */
void host_tuning_open(lua_State *L);

/* ---- errors: trace.c -------------------------------------------------------------------------------------------------- */

/* Code under <root>/lua/ld/ is the library's own, whose frames are folded unless verbose. */
void host_trace_setup(const char *root, bool verbose);
/* Call the function below its n arguments; on error its message and traceback are left as one string. Returns the
 * status of lua_pcall. */
int host_call(lua_State *L, int n, int results);

/* ---- globals: strict.c ------------------------------------------------------------------------------------------------ */

void host_strict(lua_State *L); /* may raise (memory) */

/* ---- the prompt: prompt.c, edit.c, complete.c, history.c -------------------------------------------------------------- */

void host_prompt(lua_State *L);
/* Globals ld and nn. Leaves the error text and returns non-zero when ld cannot be loaded. */
int host_preload(lua_State *L);

typedef enum edit_result { EDIT_LINE, EDIT_END, EDIT_CANCEL, EDIT_TERMINATE } edit_result;

/* Opens the editor when stdin and stdout are terminals; otherwise lines are read plainly, without a prompt when stdin is
 * no terminal. */
void edit_open(lua_State *L);
/* The next line in *line, without its newline; valid until the next call. EDIT_CANCEL: Ctrl-C. EDIT_TERMINATE: SIGTERM. */
edit_result edit_read(const char *prompt, const char **line);
void edit_remember(const char *text); /* one statement, of several lines perhaps, into the history */

/* Adds files(prefix), the paths that begin so, to the table on top of the stack. */
void complete_open(lua_State *L);
/* Candidates for the name that ends at text[length]: globals, fields, methods; names of options inside {...} of a call,
 * files inside a string. Returns how many, and in *common the text
 * that all of them add after the name, and in *list all of them, blank-separated. Both are malloc'd, NULL when there are
 * none. Of Lua code only the library's own is called (ld.prompt). */
int complete(lua_State *L, const char *text, size_t length, char **common, char **list);

#define HISTORY_MAX 1000
/* One line a statement; newline and backslash are written \n and \\. A file that cannot be read or written is passed over. */
void history_load(void (*add)(const char *text));
void history_append(const char *text);

#endif
