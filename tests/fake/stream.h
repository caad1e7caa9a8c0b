/* A stream of the fake device's: what ld_fake.so hands to the stand-in of NCCL (nccl.c) in place of a cudaStream_t. */
#ifndef FAKE_STREAM_H
#define FAKE_STREAM_H

typedef struct fake_stream {
    void *(*behind)(const void *p);                  /* where an address of the device's really is; NULL: nowhere */
    void (*push)(void (*run)(void *arg), void *arg); /* run(arg) comes later, on the stream's thread, in order */
} fake_stream;

#endif
