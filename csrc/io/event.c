/* TensorBoard's event files. */
#include "io/event.h"

#include "base/error.h"
#include "io/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes that grow. After `failed` nothing more is added. */
typedef struct bytes {
    uint8_t *data;
    size_t n, room;
    bool failed;
} bytes;

struct ld_event_file {
    int fd;
    bytes ready; /* whole records */
    char path[];
};

static void put(bytes *b, const void *from, size_t n) {
    if (b->n + n > b->room && !b->failed) {
        size_t room = 2 * (b->n + n) + 256;
        uint8_t *more = realloc(b->data, room);
        if (more) {
            b->data = more;
            b->room = room;
        } else {
            b->failed = true;
        }
    }
    if (b->failed || !n)
        return;
    memcpy(b->data + b->n, from, n);
    b->n += n;
}

static void put_little(bytes *b, uint64_t v, int width) {
    uint8_t out[8];
    for (int i = 0; i < width; i++)
        out[i] = (uint8_t)(v >> 8 * i);
    put(b, out, (size_t)width);
}

/* ---- protobuf: a field is its number and kind, then the value -------------------------------------------------------- */

enum { VARINT = 0, DOUBLE = 1, LENGTH = 2, FLOAT = 5 };

static void put_varint(bytes *b, uint64_t v) {
    uint8_t out[10];
    size_t n = 0;
    for (; v > 127; v >>= 7)
        out[n++] = (uint8_t)(v | 128);
    out[n++] = (uint8_t)v;
    put(b, out, n);
}

static void put_integer(bytes *b, int field, int64_t v) {
    put_varint(b, (uint64_t)field << 3 | VARINT);
    put_varint(b, (uint64_t)v);
}

static void put_double(bytes *b, int field, double v) {
    uint64_t bits;
    memcpy(&bits, &v, 8);
    put_varint(b, (uint64_t)field << 3 | DOUBLE);
    put_little(b, bits, 8);
}

static void put_float(bytes *b, int field, float v) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    put_varint(b, (uint64_t)field << 3 | FLOAT);
    put_little(b, bits, 4);
}

static void put_block(bytes *b, int field, const void *from, size_t n) {
    put_varint(b, (uint64_t)field << 3 | LENGTH);
    put_varint(b, n);
    put(b, from, n);
}

/* A message inside another; the inner one is let go. */
static void put_message(bytes *b, int field, bytes *inner) {
    put_block(b, field, inner->data, inner->n);
    b->failed |= inner->failed;
    free(inner->data);
}

/* ---- events and records ---------------------------------------------------------------------------------------------- */

static uint32_t masked(const void *from, size_t n) {
    uint32_t c = ld_crc32c(from, n);
    return (c >> 15 | c << 17) + 0xa282ead8u;
}

/* The event of that time and step with one more field becomes a record of f. A record is added whole or not at all. */
static int add_event(ld_event_file *f, double time, int64_t step, int field, bytes *inner) {
    bytes e = {0};
    put_double(&e, 1, time);
    put_integer(&e, 2, step);
    put_message(&e, field, inner);
    size_t before = f->ready.n;
    put_little(&f->ready, e.n, 8);
    if (!f->ready.failed)
        put_little(&f->ready, masked(f->ready.data + before, 8), 4);
    put(&f->ready, e.data, e.n);
    put_little(&f->ready, e.n ? masked(e.data, e.n) : 0, 4);
    bool failed = e.failed || f->ready.failed;
    free(e.data);
    if (!failed)
        return 0;
    f->ready.n = before;
    f->ready.failed = false;
    return ld_fail(LD_EMEM, "event file: out of host memory");
}

static int add_value(ld_event_file *f, double time, int64_t step, bytes *value) {
    bytes summary = {0};
    put_message(&summary, 1, value);
    return add_event(f, time, step, 5, &summary);
}

int ld_event_scalar(ld_event_file *f, double time, int64_t step, const char *tag, double value) {
    bytes v = {0};
    put_block(&v, 1, tag, strlen(tag));
    put_float(&v, 2, (float)value);
    return add_value(f, time, step, &v);
}

int ld_event_image(ld_event_file *f, double time, int64_t step, const char *tag, int width, int height, int channels,
                   const void *png, size_t n) {
    bytes image = {0}, v = {0};
    put_integer(&image, 1, height);
    put_integer(&image, 2, width);
    put_integer(&image, 3, channels);
    put_block(&image, 4, png, n);
    put_block(&v, 1, tag, strlen(tag));
    put_message(&v, 4, &image);
    return add_value(f, time, step, &v);
}

int ld_event_flush(ld_event_file *f) {
    size_t at = 0, n = f->ready.n;
    f->ready.n = 0;
    while (at < n) {
        ssize_t wrote = write(f->fd, f->ready.data + at, n - at);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return ld_fail(LD_EIO, "cannot write '%.800s': %s", f->path, strerror(errno));
        at += (size_t)wrote;
    }
    return 0;
}

/* The two records that a file begins with. */
static int begin(ld_event_file *f, double time, int64_t first_step) {
    static const char version[] = "brain.Event:2";
    bytes text = {0}, session = {0};
    put(&text, version, sizeof version - 1);
    int bad = add_event(f, time, 0, 3, &text);
    put_integer(&session, 1, 1); /* START */
    int worse = add_event(f, time, first_step, 7, &session);
    return bad ? bad : worse ? worse : ld_event_flush(f);
}

ld_event_file *ld_event_create(const char *path, double time, int64_t first_step) {
    size_t n = strlen(path) + 1;
    ld_event_file *f = calloc(1, sizeof *f + n);
    if (!f)
        return ld_fail_null(LD_EMEM, "event file: out of host memory");
    memcpy(f->path, path, n);
    f->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (f->fd < 0)
        ld_fail(LD_EIO, "cannot make '%.800s': %s", path, strerror(errno));
    if (f->fd < 0 || begin(f, time, first_step)) {
        ld_event_close(f);
        return NULL;
    }
    return f;
}

void ld_event_close(ld_event_file *f) {
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    free(f->ready.data);
    free(f);
}
