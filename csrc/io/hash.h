/* Sums of bytes: SHA-256 (FIPS 180-4), at once or piece by piece, CRC-32 and CRC-32C. */
#ifndef LD_HASH_H
#define LD_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ld_sha256_state {
    uint32_t state[8];
    uint64_t bytes;   /* added so far */
    uint8_t rest[64]; /* the last bytes % 64 of them */
} ld_sha256_state;

void ld_sha256_start(ld_sha256_state *s);
void ld_sha256_add(ld_sha256_state *s, const void *bytes, size_t n);
void ld_sha256_end(ld_sha256_state *s, char hex[65]); /* 64 hexadecimal digits and a NUL; start anew for another sum */

/* The same of one block. */
void ld_sha256(const void *bytes, size_t n, char hex[65]);

/* For tests: without the processor's instructions for it. */
void ld_sha256_plain(bool on);

/* CRC-32 as in zip, gzip and PNG (polynomial 0x04c11db7, reflected), of any number of bytes. */
uint32_t ld_crc32(const void *bytes, size_t n);

/* CRC-32C (Castagnoli: polynomial 0x1edc6f41, reflected), of any number of bytes. Source: RFC 3720, appendix B.4. */
uint32_t ld_crc32c(const void *bytes, size_t n);

#endif
