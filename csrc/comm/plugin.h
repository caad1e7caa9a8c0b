/* What the plug-in for messages between ranks gives: one function that fills this. */
#ifndef LD_COMM_PLUGIN_H
#define LD_COMM_PLUGIN_H

#include <stddef.h>

enum { LD_COMM_INTERFACE = 1 };

/* Functions return 0, or an error whose text message() gives. One thread calls them. */
typedef struct ld_comm_plugin {
    int interface;
    int (*start)(int *rank, int *ranks, char *text, size_t room);
    int (*gather)(const void *mine, int bytes, void *all);
    int (*exchange)(const void *from, const int *sent, const int *at, void *to, const int *taken, const int *put);
    int (*spread)(const void *mine, int bytes, void *all, const int *counts, const int *at);
    void (*end)(void);
    void (*abort)(int status);
    const char *(*message)(int error);
} ld_comm_plugin;

typedef const ld_comm_plugin *ld_comm_plugin_fn(void);
__attribute__((visibility("default"))) ld_comm_plugin_fn ld_comm_plugin_entry;

#endif
