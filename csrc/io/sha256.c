/* SHA-256, FIPS 180-4 section 6.2: in plain C, and by the processor's own instructions where it has them, which is several
 * times faster. */
#include "io/hash.h"

#include <stdbool.h>
#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#endif

/* First 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int n) {
    return x >> n | x << (32 - n);
}

static void plain(uint32_t state[8], const uint8_t *p) {
    uint32_t w[64], s[8];
    for (int t = 0; t < 16; t++, p += 4)
        w[t] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    for (int t = 16; t < 64; t++) {
        uint32_t s0 = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3;
        uint32_t s1 = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10;
        w[t] = s1 + w[t - 7] + s0 + w[t - 16];
    }
    memcpy(s, state, sizeof s);
    for (int t = 0; t < 64; t++) {
        uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]);
        uint32_t majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
        uint32_t t1 = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) + choice + K[t] + w[t];
        uint32_t t2 = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + majority;
        memmove(s + 1, s, 7 * sizeof s[0]);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

#ifdef __x86_64__
/* The instructions want the state as two vectors, of the words A B E F and C D G H, the first of each on top; w has the last
 * sixteen words of the message schedule, four to a vector. */
__attribute__((target("sha,sse4.1"))) static void by_instructions(uint32_t state[8], const uint8_t *p, size_t blocks) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i t = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)state), 0xb1);
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(state + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(t, low, 8), cdgh = _mm_blend_epi16(low, t, 0xf0);
    for (; blocks > 0; blocks--, p += 64) {
        __m128i was_abef = abef, was_cdgh = cdgh, w[4];
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)), big_endian);
#pragma GCC unroll 16
        for (int r = 0; r < 16; r++) { /* four rounds at a time */
            __m128i last = w[(r + 3) % 4];
            if (r >= 4)
                w[r % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(w[r % 4], w[(r + 1) % 4]),
                                                              _mm_alignr_epi8(last, w[(r + 2) % 4], 4)),
                                                last);
            __m128i k = _mm_add_epi32(w[r % 4], _mm_loadu_si128((const __m128i *)(const void *)(K + 4 * r)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, k);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(k, 0x0e));
        }
        abef = _mm_add_epi32(abef, was_abef);
        cdgh = _mm_add_epi32(cdgh, was_cdgh);
    }
    t = _mm_shuffle_epi32(abef, 0x1b);
    low = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(t, low, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(low, t, 8));
}

static bool has_instructions(void) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1 && __builtin_cpu_supports("sse4.1");
}
#endif

static int instructions = -1; /* not asked yet */

void ld_sha256_plain(bool on) {
    __atomic_store_n(&instructions, on ? 0 : -1, __ATOMIC_RELAXED);
}

static void add_blocks(uint32_t state[8], const uint8_t *p, size_t blocks) {
#ifdef __x86_64__
    int now = __atomic_load_n(&instructions, __ATOMIC_RELAXED);
    if (now < 0)
        __atomic_store_n(&instructions, now = has_instructions(), __ATOMIC_RELAXED);
    if (now) {
        by_instructions(state, p, blocks);
        return;
    }
#endif
    for (; blocks > 0; blocks--, p += 64)
        plain(state, p);
}

void ld_sha256_start(ld_sha256_state *s) {
    /* First 32 bits of the fractional parts of the square roots of the first 8 primes. */
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    s->bytes = 0;
    memcpy(s->state, start, sizeof start);
}

void ld_sha256_add(ld_sha256_state *s, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    size_t have = s->bytes % 64;
    s->bytes += n;
    if (have) { /* a block begun earlier */
        size_t step = n < 64 - have ? n : 64 - have;
        if (step)
            memcpy(s->rest + have, p, step);
        if (have + step < 64)
            return;
        add_blocks(s->state, s->rest, 1);
        p += step;
        n -= step;
    }
    if (n >= 64) {
        add_blocks(s->state, p, n / 64);
        p += n / 64 * 64;
        n %= 64;
    }
    if (n)
        memcpy(s->rest, p, n);
}

void ld_sha256_end(ld_sha256_state *s, char hex[65]) {
    uint8_t end[128] = {0}; /* what is left, a one bit, zeros, the length in bits */
    size_t left = s->bytes % 64, size = left < 56 ? 64 : 128;
    if (left)
        memcpy(end, s->rest, left);
    end[left] = 0x80;
    for (int i = 0; i < 8; i++)
        end[size - 1 - (size_t)i] = (uint8_t)(s->bytes * 8 >> 8 * i);
    add_blocks(s->state, end, size / 64);
    for (int i = 0; i < 64; i++)
        hex[i] = "0123456789abcdef"[s->state[i / 8] >> (28 - 4 * (i % 8)) & 15];
    hex[64] = 0;
}

void ld_sha256(const void *bytes, size_t n, char hex[65]) {
    ld_sha256_state s;
    ld_sha256_start(&s);
    ld_sha256_add(&s, bytes, n);
    ld_sha256_end(&s, hex);
}
