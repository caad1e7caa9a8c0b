/* CRC-32, by zlib. */
#include "io/hash.h"

#include <zlib.h>

uint32_t ld_crc32(const void *bytes, size_t n) {
    return n ? (uint32_t)crc32_z(0, bytes, n) : 0;
}
