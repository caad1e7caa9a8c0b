/* TensorBoard's event files, written: numbers and pictures over a clock.
 *
 * A file is records: length (u64), masked CRC-32C of those 8 bytes, the bytes, their masked CRC-32C; little endian; masked
 * is (crc >> 15 | crc << 17) + 0xa282ead8. The bytes are an Event in protobuf's encoding. The first says the version
 * ("brain.Event:2"), the second that a session starts at a step: readers forget what earlier files of the folder have from
 * that step on, so a run that is resumed from an older checkpoint shows every step once.
 * Source: TensorFlow's record_writer.h, event.proto, summary.proto. */
#ifndef LD_EVENT_H
#define LD_EVENT_H

#include <stddef.h>
#include <stdint.h>

typedef struct ld_event_file ld_event_file;

/* A new file at path, which must not be there; readers take a folder's files in order of their names, and only those with
 * "tfevents" in them. time: seconds since 1970. NULL: LD_EIO, LD_EMEM. */
ld_event_file *ld_event_create(const char *path, double time, int64_t first_step);

/* Added in memory, until the next flush. tag: UTF-8, "/" groups. LD_EMEM. */
int ld_event_scalar(ld_event_file *f, double time, int64_t step, const char *tag, double value);
/* png: n bytes, a picture of width x height with `channels` (1 or 3). */
int ld_event_image(ld_event_file *f, double time, int64_t step, const char *tag, int width, int height, int channels,
                   const void *png, size_t n);
/* Writes what was added. LD_EIO; what was to be written is dropped then, and part of it may be in the file. */
int ld_event_flush(ld_event_file *f);
void ld_event_close(ld_event_file *f); /* without flushing; NULL is fine */

#endif
