/* Shared by the tests of sources: a folder for each test, and what is put into it. */
#ifndef SOURCES_H
#define SOURCES_H

#include "base/error.h"
#include "data/source.h"
#include "io/file.h"
#include "io/image.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static inline int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/ld_source_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline void remove_tree(const char *path) {
    DIR *dir = opendir(path);
    struct dirent *e;
    while (dir && (e = readdir(dir))) {
        char below[LD_PATH_MAX];
        if (snprintf(below, sizeof below, "%s/%s", path, e->d_name) >= LD_PATH_MAX)
            continue;
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && unlink(below))
            remove_tree(below);
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}

static inline int remove_folder(void **state) {
    (void)state;
    remove_tree(folder);
    return 0;
}

static inline const char *in(const char *name) {
    static char path[8][LD_PATH_MAX];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], sizeof path[turn], "%s%s%s", folder, *name ? "/" : "", name);
    return path[turn];
}

/* A file below the folder, with the folders above it. */
static inline void put_bytes(const char *name, const void *bytes, size_t n) {
    char path[LD_PATH_MAX];
    snprintf(path, sizeof path, "%s", in(name));
    *strrchr(path, '/') = 0;
    assert_int_equal(ld_make_dirs(path), 0);
    FILE *f = fopen(in(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline void put_text(const char *name, const char *text) {
    put_bytes(name, text, strlen(text));
}

/* A PNG, 2 x 2 pixels of the value v; *n bytes, to be freed. */
static inline void *png(int v, size_t *n) {
    void *bytes;
    ld_image im;
    assert_int_equal(ld_image_new(&im, 2, 2, 3), 0);
    memset(im.data, v, 12);
    assert_int_equal(ld_image_write_png(&im, in("made.png"), NULL), 0);
    ld_image_free(&im);
    assert_int_equal(ld_file_read(in("made.png"), &bytes, n, 0), 0);
    unlink(in("made.png"));
    return bytes;
}

static inline void put_png(const char *name, int v) {
    size_t n;
    void *bytes = png(v, &n);
    put_bytes(name, bytes, n);
    free(bytes);
}

/* ---- tars in memory ---- */

typedef struct tar {
    uint8_t *data;
    size_t n;
} tar;

static inline void tar_add(tar *t, const char *name, const void *bytes, size_t n) {
    size_t whole = 512 + (n + 511) / 512 * 512;
    t->data = realloc(t->data, t->n + whole + 1024);
    assert_non_null(t->data);
    char *h = (char *)t->data + t->n;
    memset(h, 0, whole + 1024); /* two empty blocks end it */
    assert_true(strlen(name) < 100);
    strcpy(h, name);
    strcpy(h + 100, "0000644");
    snprintf(h + 124, 12, "%011zo", n);
    strcpy(h + 136, "00000000000");
    memset(h + 148, ' ', 8);
    h[156] = '0';
    memcpy(h + 257, "ustar\00000", 8);
    unsigned sum = 0;
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)h[i];
    snprintf(h + 148, 8, "%06o", sum);
    memcpy(h + 512, bytes, n);
    t->n += whole;
}

static inline void tar_text(tar *t, const char *name, const char *text) {
    tar_add(t, name, text, strlen(text));
}

static inline void tar_png(tar *t, const char *name, int v) {
    size_t n;
    void *bytes = png(v, &n);
    tar_add(t, name, bytes, n);
    free(bytes);
}

/* Writes it out and forgets it. */
static inline void tar_put(tar *t, const char *name) {
    put_bytes(name, t->data, t->n + 1024);
    free(t->data);
    *t = (tar){0};
}

/* A tar as a member of another. */
static inline void tar_tar(tar *t, const char *name, tar *inner) {
    tar_add(t, name, inner->data, inner->n + 1024);
    free(inner->data);
    *inner = (tar){0};
}

/* ---- what is expected ---- */

static inline ld_source *open_with(const char *name, const ld_source_options *o) {
    ld_source *s = ld_source_open(in(name), o);
    if (!s)
        fail_msg("%s: %s", name, ld_error());
    return s;
}

static inline void assert_says(int code, const char *part) {
    assert_int_equal(ld_error_code(), code);
    if (!strstr(ld_error(), part))
        fail_msg("the message '%s' does not say '%s'", ld_error(), part);
}

static inline void assert_refused(const char *name, const ld_source_options *o, int code, const char *part) {
    ld_error_clear();
    assert_null(ld_source_open(in(name), o));
    assert_says(code, part);
}

/* Names with labels, as "a/x.png 0, b/y.png 1". */
static inline void assert_list(const ld_source *s, const char *list) {
    char text[4096] = "", name[LD_PATH_MAX];
    for (int64_t i = 0; i < ld_source_count(s); i++) {
        size_t at = strlen(text);
        snprintf(text + at, sizeof text - at, "%s%s %d", i ? ", " : "", ld_source_name(s, i, name, sizeof name),
                 (int)ld_source_label(s, i));
    }
    assert_string_equal(text, list);
}

static inline void assert_classes(const ld_source *s, const char *list) {
    char text[4096] = "";
    for (int32_t c = 0; c < ld_source_classes(s) && strlen(text) < 4000; c++) {
        size_t at = strlen(text);
        snprintf(text + at, sizeof text - at, "%s%s", c ? " " : "", ld_source_class(s, c));
    }
    assert_string_equal(text, list);
}

/* One of the notes says it. */
static inline void assert_note(const ld_source *s, const char *part) {
    for (int k = 0; k < ld_source_notes(s); k++)
        if (strstr(ld_source_note(s, k), part))
            return;
    fail_msg("%d notes, none says '%s'; the first is '%s'", ld_source_notes(s), part,
             ld_source_notes(s) ? ld_source_note(s, 0) : "");
}

/* Picture i decodes to 2 x 2 pixels of the value v. */
static inline void assert_pixels(ld_source *s, ld_source_reader *r, int64_t i, int v) {
    ld_bytes b = {0};
    ld_image im = {0};
    if (ld_source_read(r, i, &b, 1 << 20) || ld_source_decode(s, i, &b, &(ld_decode){.channels = 3}, &im))
        fail_msg("%s", ld_error());
    assert_int_equal(b.n, ld_source_bytes(s, i));
    assert_int_equal(im.width, 2);
    assert_int_equal(im.height, 2);
    for (int k = 0; k < 12; k++)
        assert_int_equal(im.data[k], v);
    ld_image_free(&im);
    ld_bytes_free(&b);
}

/* Picture i has the value v + i; and the source goes. */
static inline void assert_all_pixels(ld_source *s, int v) {
    ld_source_reader *r = ld_source_reader_new(s);
    assert_non_null(r);
    for (int64_t i = 0; i < ld_source_count(s); i++)
        assert_pixels(s, r, i, v + (int)i);
    ld_source_reader_drop(r);
}

#endif
