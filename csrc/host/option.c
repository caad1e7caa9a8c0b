/* The command line. */
#include "host/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "usage: ldlua [options] [script [arguments]]\n"
    "\n"
    "  -e CODE        run CODE, with ld and nn loaded; may be repeated\n"
    "  -i             enter the prompt afterwards\n"
    "  -v             print the version, and full tracebacks on errors\n"
    "  --device DEV   default device: cpu, cuda, cuda:0, ...\n"
    "  --comm WAY     how gradients go between ranks on CUDA devices: nccl, host, or auto (nccl where it can be)\n"
    "  --doctor       say what is here of what ldlua can use (libraries, driver, cards) and what is missing; so does\n"
    "                 `ldlua doctor`\n"
    "  --no-tune      choose ways to compute by a fixed rule, not by timing them once\n"
    "  --threads N    threads of the CPU backend (otherwise OMP_NUM_THREADS, or all cores)\n"
    "  --version      print the version and stop\n"
    "  -h, --help     print this and stop\n"
    "  --             end of options\n"
    "  -              run standard input as the script\n"
    "\n"
    "`ldlua attach FOLDER` asks the run that trains in FOLDER (help lists what); `ldlua attach FOLDER loss` asks\n"
    "once.\n"
    "\n"
    "Without a script or -e: the prompt on a terminal, otherwise standard input is run. Options after the script are\n"
    "the script's own.\n"
    "\n"
    "At the prompt, an expression is printed and kept in _, an unfinished statement goes on in the next line, Tab\n"
    "completes, Ctrl-C stops what runs, Ctrl-D ends. `local` variables last for one statement only; globals remain.\n"
    "\n"
    "Environment: LDLUA_ROOT (the folder that holds lua/), LDLUA_TRACE=1 (full tracebacks), LUA_PATH, LUA_CPATH,\n"
    "OMP_NUM_THREADS, XDG_STATE_HOME (history in $XDG_STATE_HOME/ldlua, or ~/.local/state/ldlua), XDG_CACHE_HOME "
    "(times of\n"
    "convolutions in $XDG_CACHE_HOME/ldlua/tune.txt, or ~/.cache/ldlua), LD_TUNE=0 (as --no-tune), LD_CONV (one way "
    "for all\n"
    "convolutions: direct, blocked, winograd, folded), LD_CUDA_PLUGIN (the file of the CUDA backend), CUDA_HOME.\n";

void host_print_help(void) {
    fputs(help, stdout);
}

static int refuse(const char *what, const char *option) {
    fprintf(stderr, "ldlua: %s %s (ldlua --help lists the options)\n", what, option);
    return 2;
}

/* The value of option `name` at argv[*i], given as "name value" or "name=value"; NULL if argv[*i] is another option. An
 * absent value is "". */
static const char *value_of(const char *name, int argc, char **argv, int *i) {
    size_t n = strlen(name);
    if (strncmp(argv[*i], name, n))
        return NULL;
    if (argv[*i][n] == '=')
        return argv[*i] + n + 1;
    if (argv[*i][n])
        return NULL;
    return *i + 1 < argc ? argv[++*i] : "";
}

static int read_threads(host_options *o, const char *text) {
    char *end;
    long n = strtol(text, &end, 10);
    if (*end || end == text || n < 1 || n > 4096) {
        fprintf(stderr, "ldlua: --threads takes a number from 1 to 4096, not '%s'\n", text);
        return 2;
    }
    o->threads = (int)n;
    return 0;
}

static int read_comm(host_options *o, const char *text) {
    o->comm = text;
    if (!strcmp(text, "auto") || !strcmp(text, "nccl") || !strcmp(text, "host"))
        return 0;
    fprintf(stderr, "ldlua: --comm takes auto, nccl or host, not '%s'\n", text);
    return 2;
}

static int read_long(host_options *o, int argc, char **argv, int *i) {
    const char *value;
    if (!strcmp(argv[*i], "--version")) {
        o->version = true;
        return 0;
    }
    if (!strcmp(argv[*i], "--help")) {
        o->help = true;
        return 0;
    }
    if (!strcmp(argv[*i], "--doctor")) {
        o->doctor = true;
        return 0;
    }
    if (!strcmp(argv[*i], "--no-tune")) {
        o->no_tune = true;
        return 0;
    }
    if ((value = value_of("--threads", argc, argv, i)))
        return read_threads(o, value);
    if ((value = value_of("--device", argc, argv, i))) {
        o->device = value;
        return *value ? 0 : refuse("a device is missing after", "--device");
    }
    if ((value = value_of("--comm", argc, argv, i)))
        return read_comm(o, value);
    return refuse("unknown option", argv[*i]);
}

static int read_short(host_options *o, int argc, char **argv, int *i) {
    const char *a = argv[*i];
    if (a[1] == 'e') {
        const char *code = a[2] ? a + 2 : *i + 1 < argc ? argv[++*i] : NULL;
        if (!code)
            return refuse("code is missing after", "-e");
        o->code[o->code_count++] = code;
        return 0;
    }
    if (a[2])
        return refuse("unknown option", a);
    switch (a[1]) {
    case 'i':
        o->prompt = true;
        return 0;
    case 'v':
        o->verbose = true;
        return 0;
    case 'h':
        o->help = true;
        return 0;
    default:
        return refuse("unknown option", a);
    }
}

int host_options_read(host_options *o, int argc, char **argv) {
    *o = (host_options){.code = calloc((size_t)argc + 1, sizeof *o->code)};
    if (!o->code)
        return refuse("out of memory reading", "the command line");
    for (int i = 1; i < argc; i++) {
        int status;
        if (argv[i][0] != '-' || !argv[i][1]) {
            if (i + 1 == argc && !strcmp(argv[i], "doctor") && access(argv[i], F_OK)) { /* unless it is a script */
                o->doctor = true;
                return 0;
            }
            if (i + 1 < argc && !strcmp(argv[i], "attach") && access(argv[i], F_OK)) {
                o->attach = i + 1;
                return 0;
            }
            o->script = i;
            return 0;
        }
        if (!strcmp(argv[i], "--")) {
            o->script = i + 1 < argc ? i + 1 : 0;
            return 0;
        }
        status = argv[i][1] == '-' ? read_long(o, argc, argv, &i) : read_short(o, argc, argv, &i);
        if (status)
            return status;
    }
    return 0;
}
