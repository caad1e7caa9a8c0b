/* The pages of an LMDB file, gone through before liblmdb gets it: the library trusts what its pages say. */
#ifndef LD_KV_CHECK_H
#define LD_KV_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LD_KV_HEAD = 16 + 136 }; /* bytes that kv_begins looks at */

/* Does a file that begins with these bytes begin like an LMDB file? */
bool kv_begins(const uint8_t *bytes, size_t n);

/* Both meta pages and every page that the newer one's main tree leads to: kind, number, depth, that nodes lie inside
 * their page and values inside the file, that no page is reached twice as often as there are pages, that there are as
 * many entries as it says. LD_EFORMAT, naming the page. Reads the tree's pages, not the pages of large values. */
int kv_check(const char *path, const uint8_t *map, size_t n);

#endif
