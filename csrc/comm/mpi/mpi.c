/* Messages through MPI, in a shared library of its own: the program itself links no MPI. */
#include "comm/plugin.h"

#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LOOKS = 2000 };

static char text[MPI_MAX_ERROR_STRING];

static const char *message(int error) {
    int n = 0;
    if (MPI_Error_string(error, text, &n) != MPI_SUCCESS)
        snprintf(text, sizeof text, "error %d", error);
    return text;
}

static int start(int *rank, int *ranks, char *version, size_t room) {
    int given, n, here;
    int bad = MPI_Initialized(&here);
    if (!bad && !here)
        bad = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &given);
    if (bad)
        return bad;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    char all[MPI_MAX_LIBRARY_VERSION_STRING];
    MPI_Get_library_version(all, &n);
    all[strcspn(all, ",\n")] = 0;
    snprintf(version, room, "%s", all);
    bad = MPI_Comm_rank(MPI_COMM_WORLD, rank);
    return bad ? bad : MPI_Comm_size(MPI_COMM_WORLD, ranks);
}

/* The library's own way of waiting keeps a core busy, which the computing threads want: after a moment this one sleeps
 * between two looks. */
static int wait_for(int bad, MPI_Request *request) {
    const struct timespec nap = {.tv_nsec = 50000};
    int done = 0;
    for (int looks = 0; !bad && !done; looks++) {
        bad = MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (!done && looks > LOOKS)
            nanosleep(&nap, NULL);
    }
    return bad;
}

static int gather(const void *mine, int bytes, void *all) {
    MPI_Request r;
    return wait_for(MPI_Iallgather(mine, bytes, MPI_BYTE, all, bytes, MPI_BYTE, MPI_COMM_WORLD, &r), &r);
}

static int exchange(const void *from, const int *sent, const int *at, void *to, const int *taken, const int *put) {
    MPI_Request r;
    return wait_for(MPI_Ialltoallv(from, sent, at, MPI_BYTE, to, taken, put, MPI_BYTE, MPI_COMM_WORLD, &r), &r);
}

static int spread(const void *mine, int bytes, void *all, const int *counts, const int *at) {
    MPI_Request r;
    return wait_for(MPI_Iallgatherv(mine, bytes, MPI_BYTE, all, counts, at, MPI_BYTE, MPI_COMM_WORLD, &r), &r);
}

static void end(void) {
    MPI_Finalize();
}

static void stop(int status) {
    MPI_Abort(MPI_COMM_WORLD, status);
}

const ld_comm_plugin *ld_comm_plugin_entry(void) {
    static const ld_comm_plugin plugin = {LD_COMM_INTERFACE, start, gather, exchange, spread, end, stop, message};
    return &plugin;
}
