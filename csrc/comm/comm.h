/* Ranks: processes that train one network together, started by mpirun or srun.
 *
 * Messages go through MPI, which a plug-in brings (build/ld_mpi.so, loaded when more than one rank was started). All ranks
 * make the same calls in the same order. A thread of its own does the talking, so that a caller can wait for it with an
 * eye on requests to stop, and messages can be on their way while gradients are still computed. */
#ifndef LD_COMM_H
#define LD_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the launcher says in the environment, before anything is started: 0 and 1 without a launcher. */
int ld_comm_rank(void);        /* from 0 */
int ld_comm_ranks(void);       /* how many */
int ld_comm_local_ranks(void); /* of those, on this machine; 1 where the launcher does not say */
int ld_comm_local_rank(void);  /* from 0, among those; 0 where the launcher does not say */

/* Begins the talking; nothing for a single rank, and the second time. LD_EDEVICE: no plug-in, or one that does not load;
 * LD_EINTERNAL: MPI failed, or counts other ranks than the launcher said. The process's text says where the plug-in lies. */
int ld_comm_start(void);
bool ld_comm_started(void);
/* What MPI is, for people ("Open MPI v4.1.4"); "" before it was started. */
const char *ld_comm_text(void);
/* Ends MPI in good order, when all ranks do; otherwise the process may simply exit. */
void ld_comm_end(void);
/* end() comes before that, on the thread of messages; NULL for none. */
void ld_comm_at_end(void (*end)(void));
/* The run is over on every rank: to be called when this one cannot go on. Does not return where MPI runs. */
void ld_comm_abort(int status);

/* stop() says that someone asked for the end (SIGTERM, which mpirun sends when a rank has died): waiting for the others
 * ends within half a second then, with LD_EINTERRUPT. May be NULL. */
void ld_comm_on_stop(bool (*stop)(void));

/* Every rank's `bytes` of `mine` into all[rank * bytes]. Blocks. LD_EINTERRUPT, LD_EINTERNAL. */
int ld_comm_gather(const void *mine, size_t bytes, void *all);

/* Work that is done on the thread, in the order in which it was posted; run returns 0 or an error code. What it works on
 * stays where it is until ld_comm_wait. Inside run the functions below may be called. */
typedef struct ld_comm_job {
    int (*run)(struct ld_comm_job *job);
    struct ld_comm_job *next; /* not the caller's business */
} ld_comm_job;

void ld_comm_post(ld_comm_job *job);
/* Until all that was posted is done: the first error, which all further jobs are skipped for. */
int ld_comm_wait(void);

/* Piece r of what is sent goes to rank r; counts and places are in bytes. */
int ld_comm_exchange(const void *from, const int *sent, const int *at, void *to, const int *taken, const int *put);
/* Rank r's `counts[r]` bytes from `mine` to all + at[r], on every rank. */
int ld_comm_spread(const void *mine, const int *counts, const int *at, void *all);

#endif
