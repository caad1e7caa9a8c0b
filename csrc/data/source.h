/* Where pictures come from: folders, archives, LMDB, CIFAR-10 batches; a numbered list of pictures, and their bytes.
 *
 * Numbers count from 0 here. The order is the same on every machine: bytewise by path in folders, as they lie in
 * archives (archives of a folder in bytewise order of their names), by key in LMDB, by record in CIFAR-10. An open source
 * does not change and may be used by any number of threads at once; each thread that reads has a reader of its own. */
#ifndef LD_SOURCE_H
#define LD_SOURCE_H

#include "io/image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ld_source ld_source;
typedef struct ld_source_reader ld_source_reader;

typedef struct ld_source_options {
    const char *labels;  /* a file that gives classes (ImageNet's validation lists); NULL: folders, .cls members */
    const char *synsets; /* a file of the wnids in order of ILSVRC2012_ID; needed for the devkit's ground truth */
    const char *cache;   /* folder in which lists of archives are kept; NULL: none is kept */
    bool partial;        /* take what a damaged or truncated archive has before the damage */
    void (*progress)(void *arg, int64_t members, const char *archive); /* now and then while listing; may be NULL */
    void *arg;
} ld_source_options;

/* path: a folder; an archive (io/archive.h); a folder of archives; either followed by a path inside
 * ("ilsvrc.zip/ILSVRC/Data/CLS-LOC/train"; "train/n01440764" for train/n01440764.tar); an LMDB folder or file; a CIFAR-10
 * or CIFAR-100 binary file (.bin), or the folder with data_batch_1.bin .. data_batch_5.bin or train.bin. LD_EIO, LD_EFORMAT,
 * LD_EVALUE (path, labels), LD_EMEM, LD_EINTERRUPT. */
ld_source *ld_source_open(const char *path, const ld_source_options *o);
ld_source *ld_source_ref(ld_source *s); /* counted atomically */
void ld_source_drop(ld_source *s);

int64_t ld_source_count(const ld_source *s);
const char *ld_source_path(const ld_source *s);
const char *ld_source_kind(const ld_source *s); /* "folder", "tar", "zip", "packed tar", "lmdb", "cifar-10", ... */
bool ld_source_in_order(const ld_source *s);    /* true: cheap only when read in ascending order, by one reader */
/* Name of picture i: path relative to the source, key, or record. Into name[n]; returns name. */
const char *ld_source_name(const ld_source *s, int64_t i, char *name, size_t n);
int64_t ld_source_bytes(const ld_source *s, int64_t i); /* size of its file; -1 when that is unknown */
int32_t ld_source_label(const ld_source *s, int64_t i); /* class from 0, -1 without classes */
int32_t ld_source_classes(const ld_source *s);
const char *ld_source_class(const ld_source *s, int32_t c);
/* What is odd about the source, each one sentence: duplicate names, class folders without pictures, members passed over. */
int ld_source_notes(const ld_source *s);
const char *ld_source_note(const ld_source *s, int k);
size_t ld_source_memory(const ld_source *s); /* bytes that the list takes */
/* SHA-256 over names, sizes and labels in order, 64 digits. LD_EIO. */
int ld_source_fingerprint(const ld_source *s, int64_t count, char hex[65]);

/* A growing block of bytes. */
typedef struct ld_bytes {
    uint8_t *data;
    size_t n, room;
} ld_bytes;
void ld_bytes_free(ld_bytes *b);

ld_source_reader *ld_source_reader_new(ld_source *s); /* holds a reference */
void ld_source_reader_drop(ld_source_reader *r);
/* A reader that the source keeps with its open files, for batches here and there; to be given back. NULL on LD_EMEM. */
ld_source_reader *ld_source_borrow(ld_source *s);
void ld_source_give_back(ld_source *s, ld_source_reader *r); /* r may be NULL */
/* The stored bytes of picture i. LD_EIO (vanished, shorter or longer than listed), LD_EFORMAT, LD_EVALUE above `most`. */
int ld_source_read(ld_source_reader *r, int64_t i, ld_bytes *b, size_t most);
/* Stored bytes of picture i to a picture: ld_image_decode, or the fixed form of CIFAR. Any thread. */
int ld_source_decode(const ld_source *s, int64_t i, const ld_bytes *b, const ld_decode *how, ld_image *im);

#endif
