/* Damage to bytes, the same for the same number: bits turned over, runs overwritten, cut, spliced. */
#ifndef LD_TEST_MUTATE_H
#define LD_TEST_MUTATE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t mutate_next(uint64_t *x) { /* splitmix64 */
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* A place among n: mostly one that is not zero, since archives are padded with zeros. */
static inline size_t mutate_place(const uint8_t *p, size_t n, uint64_t *x) {
    size_t at = (size_t)(mutate_next(x) % n);
    for (size_t i = 0; i < n && mutate_next(x) % 4 && !p[at]; i++)
        at = (size_t)(mutate_next(x) % n);
    return at;
}

static inline void mutate_overwrite(uint8_t *p, size_t n, uint64_t *x) {
    static const uint64_t odd[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, ~0ull};
    size_t at = mutate_place(p, n, x), room = n - at < 8 ? n - at : 8;
    uint64_t value = mutate_next(x) % 3 ? odd[mutate_next(x) % 11] : mutate_next(x);
    memcpy(p + at, &value, (size_t)(mutate_next(x) % room) + 1);
}

/* Changes n bytes at p, which has room for 2 n, and returns how many they are now. */
static inline size_t mutate(uint8_t *p, size_t n, uint64_t seed) {
    uint64_t x = seed * 0x2545f4914f6cdd1du + 1;
    for (int times = 1 + (int)(mutate_next(&x) % 3); times > 0 && n > 8; times--) {
        size_t at = mutate_place(p, n, &x), from = mutate_place(p, n, &x);
        size_t run = (size_t)(mutate_next(&x) % (mutate_next(&x) % 2 ? 600 : 16)) + 1;
        switch (mutate_next(&x) % 8) {
        case 0:
        case 1:
        case 2:
            p[at] ^= (uint8_t)(1u << mutate_next(&x) % 8);
            break;
        case 3:
        case 4:
            mutate_overwrite(p, n, &x);
            break;
        case 5:
            n = 1 + at;
            break;
        case 6: /* a piece from elsewhere, over what is there */
            run = run < n - at ? run : n - at;
            run = run < n - from ? run : n - from;
            memmove(p + at, p + from, run);
            break;
        default: /* a piece taken out */
            run = run < n - at ? run : n - at;
            memmove(p + at, p + at + run, n - at - run);
            n -= run;
        }
    }
    return n;
}

#endif
