/* Threads of the library's own. */
#ifndef LD_THREAD_H
#define LD_THREAD_H

#include <pthread.h>

/* pthread_create for a thread that takes no signals: they are the business of the thread that runs the program. 0 or an
 * error number. */
int ld_thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg);

#endif
