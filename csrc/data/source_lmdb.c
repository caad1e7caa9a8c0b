/* Pictures in an LMDB, as LSUN has them: every value a picture, without classes. */
#include "base/error.h"
#include "data/source_part.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MOST = 511, LEAST = 16 /* bytes of a value that can be a picture */ };

struct listing {
    ld_source *s;
    int64_t small;
};

static bool printable(const uint8_t *key, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (key[i] < 0x20 || key[i] == 0x7f)
            return false;
    return n > 0;
}

static int on_entry(void *arg, const void *key, size_t key_n, const void *value, size_t value_n) {
    struct listing *t = arg;
    ld_source *s = t->s;
    char hex[2 * KEY_MOST + 1];
    const uint8_t *k = key;
    (void)value; /* looking at it would read every page of the data base */
    if (ld_interrupted())
        return ld_error_code();
    if (value_n < LEAST || key_n > KEY_MOST) {
        t->small++;
        return 0;
    }
    if (s->count == s->room && ld_source_make_room(s, s->room + s->room / 2 + 64))
        return ld_error_code();
    bool plain = printable(k, key_n);
    for (size_t i = 0; i < key_n && !plain; i++)
        snprintf(hex + 2 * i, 3, "%02x", k[i]);
    if (ld_names_add(&s->name, plain ? key : hex, plain ? key_n : 2 * key_n))
        return ld_error_code();
    s->size[s->count] = value_n;
    s->container[s->count] = plain ? 0 : LD_HEX_KEY;
    s->count++;
    return 0;
}

static size_t key_of(const ld_source *s, int64_t i, uint8_t *key) {
    const char *name = ld_names_get(&s->name, i);
    size_t n = strlen(name);
    if (!(s->container[i] & LD_HEX_KEY)) {
        memcpy(key, name, n);
        return n;
    }
    for (size_t k = 0; k < n / 2; k++) {
        unsigned byte;
        sscanf(name + 2 * k, "%2x", &byte);
        key[k] = (uint8_t)byte;
    }
    return n / 2;
}

static int read_value(ld_source_reader *r, int64_t i, ld_bytes *b, size_t most) {
    const ld_source *s = r->s;
    uint8_t key[KEY_MOST];
    const void *value;
    size_t n;
    if (!r->kv && !(r->kv = ld_kv_open(s->root)))
        return ld_error_code();
    if (ld_kv_get(r->kv, key, key_of(s, i, key), &value, &n))
        return ld_error_code();
    if (n != s->size[i])
        return ld_fail(LD_EIO, "images: %s of %s had %llu bytes and has %zu", ld_names_get(&s->name, i), s->root,
                       (unsigned long long)s->size[i], n);
    if (n > most)
        return ld_fail(LD_EVALUE, "images: %s of %s has %zu bytes, more than %zu", ld_names_get(&s->name, i), s->root,
                       n, most);
    if (ld_bytes_reserve(b, n))
        return ld_error_code();
    memcpy(b->data, value, n);
    b->n = n;
    return 0;
}

int ld_source_lmdb(ld_source *s) {
    struct listing t = {.s = s};
    s->kind = "lmdb";
    s->read = read_value;
    ld_kv *kv = ld_kv_open(s->root);
    if (!kv)
        return ld_error_code();
    int bad = ld_kv_list(kv, on_entry, &t);
    ld_kv_close(kv);
    if (!bad && !s->count)
        bad = ld_fail(LD_EFORMAT, "images: %s has no entries that could be pictures (%lld of fewer than %d bytes)",
                      s->path, (long long)t.small, LEAST);
    if (!bad && t.small)
        bad = ld_source_add_note(s, "entries of fewer than %d bytes are passed over: %lld", LEAST, (long long)t.small);
    free(s->place);
    s->place = NULL;
    if (!bad)
        ld_names_fit(&s->name);
    return bad;
}
