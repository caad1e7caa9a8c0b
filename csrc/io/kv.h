/* LMDB data bases, read only: the form in which LSUN comes. A data base is a folder with data.mdb, or that file. */
#ifndef LD_KV_H
#define LD_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ld_kv ld_kv;

bool ld_kv_is(const char *path); /* a folder with data.mdb, or a file that begins like one; sets no error */
/* Opened without a lock file: the folder may be read only. One thread at a time may use an ld_kv; open one for each.
 * LD_EIO, LD_EFORMAT (no LMDB file, damaged, another version or page size), LD_EMEM. */
ld_kv *ld_kv_open(const char *path);
void ld_kv_close(ld_kv *kv);
/* Calls fn for every entry in order of keys; stops when it returns non-zero and returns that. */
int ld_kv_list(ld_kv *kv, int (*fn)(void *arg, const void *key, size_t key_n, const void *value, size_t value_n),
               void *arg);
/* The value of a key: *value lies in the file's map and is valid until the next call or close. LD_EFORMAT when absent. */
int ld_kv_get(ld_kv *kv, const void *key, size_t key_n, const void **value, size_t *value_n);

#endif
