/* CRC-32, by zlib; CRC-32C, a byte at a time. */
#include "io/hash.h"

#include <pthread.h>
#include <zlib.h>

uint32_t ld_crc32(const void *bytes, size_t n) {
    return n ? (uint32_t)crc32_z(0, bytes, n) : 0;
}

static uint32_t table[256];

static void make_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
        table[i] = c;
    }
}

uint32_t ld_crc32c(const void *bytes, size_t n) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_table);
    const uint8_t *b = bytes;
    uint32_t c = 0xffffffffu;
    for (size_t i = 0; i < n; i++)
        c = table[(c ^ b[i]) & 0xff] ^ c >> 8;
    return ~c;
}
