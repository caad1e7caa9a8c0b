/* What the files of sources share: the list itself, and readers. Only csrc/data/source*.c include this. */
#ifndef LD_SOURCE_PART_H
#define LD_SOURCE_PART_H

#include "data/names.h"
#include "data/source.h"
#include "io/archive.h"
#include "io/kv.h"

#include <pthread.h>
#include <stdatomic.h>

/* An archive as it was when it was listed. */
typedef struct ld_stamp {
    uint64_t size;
    int64_t mtime; /* ns */
} ld_stamp;

/* Beside its name (8 bytes of place, and the text), a picture takes: label 4; in archives place 8, size 8 and container 4;
 * in LMDB size 8 and container 4. CIFAR has labels alone. */
struct ld_source {
    atomic_int refs;
    char *path;       /* as the user gave it */
    char *root;       /* the folder or file behind it, without a path inside */
    char *inside;     /* path inside the archives that is listed, with a slash at its end; "" for everything */
    const char *kind; /* not owned */
    bool in_order;
    int64_t count;
    ld_names name;       /* one a picture; none for CIFAR. LMDB: keys, see LD_HEX_KEY */
    int32_t *label;      /* NULL: no classes */
    uint64_t *place;     /* archives: of the first byte */
    uint64_t *size;      /* archives, LMDB */
    uint32_t *container; /* archives: number of the file, LD_PACKED_BIT; LMDB: LD_HEX_KEY */
    int64_t room;        /* of place, size, container */
    ld_names file;       /* archives, CIFAR: files below root ("" for root itself) */
    ld_stamp *stamp;     /* archives: of each file */
    bool damaged;        /* archives: something is missing */
    int record;          /* CIFAR: bytes of one */
    int64_t *until;      /* CIFAR: number of the first record behind each file */
    ld_names class_name;
    ld_names note;
    int (*read)(ld_source_reader *r, int64_t i, ld_bytes *b, size_t most);
    pthread_mutex_t lock;
    ld_source_reader *spare; /* readers to lend, which hold no reference */
};

#define LD_PACKED_BIT 0x80000000u /* the member is deflated */
#define LD_HEX_KEY    1u          /* the name is the key in hexadecimal */

enum { LD_READER_FILES = 8 }; /* archives that a reader keeps open */

struct ld_source_reader {
    ld_source *s;
    bool holds; /* a reference */
    ld_archive *archive[LD_READER_FILES];
    int64_t file[LD_READER_FILES]; /* which one, -1: none */
    int last;                      /* opened last */
    ld_kv *kv;
    int fd; /* -1: none; of file[0] */
    ld_source_reader *next;
};

/* Fills a source whose root is a folder; count may be 0 afterwards. *archives: files that look like archives. */
int ld_source_folder(ld_source *s, int64_t *archives);
/* Puts the archives below root into s->file. */
int ld_source_find_archives(ld_source *s);
/* Fills a source whose root and s->file name archives. */
int ld_source_archives(ld_source *s, const ld_source_options *o);
int ld_source_lmdb(ld_source *s);
/* Whether path is CIFAR's binary file, or the folder of them: LD_OK and *is. */
int ld_source_cifar(ld_source *s, bool folder, bool *is);
void ld_source_cifar_name(const ld_source *s, int64_t i, char *name, size_t n);
int ld_source_cifar_decode(const ld_source *s, const ld_bytes *b, const ld_decode *how, ld_image *im);
/* Classes from the file o->labels. */
int ld_source_label_file(ld_source *s, const ld_source_options *o);

bool ld_source_index_load(ld_source *s, const ld_source_options *o); /* false: there is none that fits */
void ld_source_index_save(ld_source *s, const ld_source_options *o);

int ld_source_make_room(ld_source *s, int64_t room); /* of place, size, container and label where there is one */
void ld_source_empty(ld_source *s);                  /* forgets pictures, classes and notes */

__attribute__((format(printf, 2, 3))) int ld_source_add_note(ld_source *s, const char *fmt, ...);
/* root/name into path[LD_PATH_MAX]; root alone where name is "". LD_EVALUE when it is too long. */
int ld_source_join(char *path, const char *root, const char *name);
int ld_bytes_reserve(ld_bytes *b, size_t n); /* at least n bytes of room. LD_EMEM */

/* A picture by its suffix: png, jpg, jpeg, webp in any case. */
bool ld_source_suffix(const char *name);
bool ld_source_suffix_of(const char *name, const char *const *known); /* a NULL-ended list, any case */
size_t ld_source_stem(const char *name);                              /* length without a picture's suffix */
size_t ld_source_archive_stem(const char *name); /* length without .tar, .tar.gz, .zip and the like */
bool ld_source_archive_suffix(const char *name); /* tar, zip, tgz and the like */
/* The name of the folder a picture lies in, *n bytes; "" for the root itself. */
const char *ld_source_folder_of(const char *name, size_t *n);

void ld_source_no_classes(ld_source *s);
/* Classes by the name of each picture's own folder, where there are at least two. flat, which may be NULL: for each
 * container, how many bytes its names begin with that are no folder; 0: none. LD_EMEM. */
int ld_source_folder_classes(ld_source *s, const uint32_t *flat);

#endif
