/* Ten thousand damaged pictures of all formats: each gives a picture or a clean error, and nothing else. Every one is a
 * function of its number, so that a failure can be repeated; run under the sanitizers (make asan ONLY=mutated) too. */
#include "base/rng.h"
#include "io/exif.h"
#include "pictures.h"

enum { TRIALS = 10000, ROOM = 1 << 16 };

static const char *const names[] = {
    "rgb.png",
    "interlaced.png",
    "alpha.png",
    "key.png",
    "deep.png",
    "palette.png",
    "palette4.png",
    "gray.png",
    "gray1.png",
    "gray2.png",
    "gray-alpha.png",
    "deep-gray.png",
    "exif-6.png",
    "photo-tall.png",
    "gray.jpg",
    "420.jpg",
    "422.jpg",
    "444.jpg",
    "progressive.jpg",
    "keep-rgb.jpg",
    "cmyk.jpg",
    "cmyk-adobe.jpg",
    "ycck.jpg",
    "exif-3.jpg",
    "exif-6.jpg",
    "photo.jpg",
    "lossy.webp",
    "lossless.webp",
    "lossless-alpha.webp",
    "animated.webp",
    "exif-6.webp",
};
enum { FILES = sizeof names / sizeof *names };

static struct file {
    uint8_t *bytes;
    size_t n;
} files[FILES];

static int read_files(void **state) {
    (void)state;
    for (int i = 0; i < FILES; i++)
        files[i].bytes = load(names[i], &files[i].n);
    return 0;
}

static int free_files(void **state) {
    (void)state;
    for (int i = 0; i < FILES; i++)
        free(files[i].bytes);
    return 0;
}

/* ---- the damage ---- */

/* The next number below n of a trial. */
struct dice {
    uint64_t trial;
    int64_t thrown;
};

static size_t below(struct dice *d, size_t n) {
    return ld_rng_below((uint32_t)n, 1, LD_RNG_USER, d->trial, d->thrown++);
}

/* A picture in the making: n of ROOM bytes. */
struct mutant {
    uint8_t bytes[ROOM];
    size_t n;
};

static void insert(struct mutant *m, size_t at, const uint8_t *from, size_t n) {
    if (n > ROOM - m->n)
        n = ROOM - m->n;
    memmove(m->bytes + at + n, m->bytes + at, m->n - at);
    memcpy(m->bytes + at, from, n);
    m->n += n;
}

static void change_bits(struct mutant *m, struct dice *d) {
    for (size_t k = 1 + below(d, 4); k > 0; k--)
        m->bytes[below(d, m->n)] ^= (uint8_t)(1 << below(d, 8));
}

static void change_bytes(struct mutant *m, struct dice *d) {
    static const uint8_t telling[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    for (size_t k = 1 + below(d, 6); k > 0; k--)
        m->bytes[below(d, m->n)] = below(d, 2) ? telling[below(d, 5)] : (uint8_t)below(d, 256);
}

/* The head of a file, where sizes and tables are. */
static void change_head(struct mutant *m, struct dice *d) {
    for (size_t k = 1 + below(d, 3); k > 0; k--)
        m->bytes[8 + below(d, (m->n < 100 ? m->n : 100) - 8)] = (uint8_t)below(d, 256);
}

static void cut(struct mutant *m, struct dice *d) {
    m->n = below(d, m->n);
}

/* The beginning of one file and the end of another, of the same format or not. */
static void splice(struct mutant *m, struct dice *d) {
    const struct file *other = &files[below(d, FILES)];
    size_t from = below(d, other->n);
    m->n = below(d, m->n);
    insert(m, m->n, other->bytes + from, other->n - from);
}

static void insert_bytes(struct mutant *m, struct dice *d) {
    uint8_t some[16];
    size_t n = 1 + below(d, sizeof some);
    for (size_t i = 0; i < n; i++)
        some[i] = (uint8_t)below(d, 256);
    insert(m, below(d, m->n), some, n);
}

static void drop_bytes(struct mutant *m, struct dice *d) {
    size_t at = below(d, m->n), n = 1 + below(d, 16);
    n = n < m->n - at ? n : m->n - at;
    memmove(m->bytes + at, m->bytes + at + n, m->n - at - n);
    m->n -= n;
}

static uint32_t big(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The start and length of a random chunk of a PNG, segment of a JPEG, or stretch of anything else. */
static size_t find_chunk(const struct mutant *m, struct dice *d, size_t *n) {
    size_t starts[32], lengths[32], count = 0, at = 2;
    bool png = !memcmp(m->bytes, "\x89PNG", 4), jpeg = !memcmp(m->bytes, "\xff\xd8", 2);
    for (at = png ? 8 : 2; count < 32 && (png || jpeg) && at + 12 <= m->n; at += lengths[count++]) {
        starts[count] = at;
        lengths[count] = png ? big(m->bytes + at) + (size_t)12 : (big(m->bytes + at) & 0xffff) + (size_t)2;
        if (lengths[count] > m->n - at || (jpeg && m->bytes[at] != 0xff))
            break;
    }
    size_t k = count ? below(d, count) : 0;
    at = count ? starts[k] : below(d, m->n);
    *n = count ? lengths[k] : 1 + below(d, m->n - at);
    return at;
}

static void repeat_chunk(struct mutant *m, struct dice *d) {
    static uint8_t chunk[ROOM];
    size_t n, at = find_chunk(m, d, &n);
    memcpy(chunk, m->bytes + at, n);
    for (size_t k = 1 + below(d, 3); k > 0; k--)
        insert(m, at, chunk, n);
}

static void drop_chunk(struct mutant *m, struct dice *d) {
    size_t n, at = find_chunk(m, d, &n);
    memmove(m->bytes + at, m->bytes + at + n, m->n - at - n);
    m->n -= n;
}

static void (*const kinds[])(struct mutant *m, struct dice *d) = {
    change_bits, change_bytes, change_head, cut, splice, insert_bytes, drop_bytes, repeat_chunk, drop_chunk,
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static uint32_t crc(const uint8_t *p, size_t n) {
    uint32_t c = ~0u;
    while (n--) {
        c ^= *p++;
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
    }
    return ~c;
}

/* Makes the checksums of a damaged PNG right again, so that the damage gets past them. */
static void heal(uint8_t *p, size_t n) {
    for (size_t at = 8; at + 12 <= n;) {
        size_t length = big(p + at);
        if (length > n - at - 12)
            return;
        uint32_t c = crc(p + at + 4, length + 4);
        for (int i = 0; i < 4; i++)
            p[at + 8 + length + (size_t)i] = (uint8_t)(c >> (24 - 8 * i));
        at += length + 12;
    }
}

static void mutate(struct mutant *m, uint64_t trial) {
    struct dice d = {trial, 0};
    const struct file *f = &files[trial % FILES];
    m->n = f->n;
    memcpy(m->bytes, f->bytes, f->n);
    kinds[trial / FILES % KINDS](m, &d);
    if (m->n > 100 && below(&d, 4) == 0)
        kinds[below(&d, KINDS)](m, &d);
    if (m->n > 8 && below(&d, 4) && !memcmp(m->bytes, "\x89PNG", 4))
        heal(m->bytes, m->n);
}

/* ---- the trials ---- */

static bool decodes(const struct mutant *m, uint64_t trial, const char *name) {
    uint8_t *exact = malloc(m->n ? m->n : 1); /* lets a sanitizer see reads past the end */
    assert_non_null(exact);
    memcpy(exact, m->bytes, m->n);
    ld_transform t = (ld_transform)(trial % LD_TRANSFORM_COUNT);
    ld_decode how = {.channels = trial % 3 ? 3 : 0, .exif = trial % 2, .scale_for = ld_transform_scale_for(t, 16)};
    int orientation = ld_exif_orientation(exact, m->n); /* of files that are refused too */
    assert_true(orientation >= 1 && orientation <= 8);
    ld_image im, out;
    int code = ld_image_decode(&im, exact, m->n, &how, name);
    if (code) {
        if (code != LD_EFORMAT && code != LD_EVALUE)
            fail_msg("trial %d, %s: code %d: %s", (int)trial, name, code, ld_error());
        assert_zeroed(name, &im);
    } else {
        if (ld_image_transform(&out, &im, 16, t))
            fail_msg("trial %d, %s: %s", (int)trial, name, ld_error());
        assert_int_equal(out.width, 16);
        assert_int_equal(out.height, 16);
        assert_int_equal(out.channels, im.channels);
        ld_image_free(&out);
    }
    ld_image_free(&im);
    free(exact);
    return !code;
}

static void test_mutated(void **state) {
    (void)state;
    static struct mutant m;
    static const char *const formats[] = {"png", "jpg", "webp"};
    int decoded[3] = {0}, refused[3] = {0};
    for (uint64_t trial = 0; trial < TRIALS; trial++) {
        const char *name = names[trial % FILES];
        mutate(&m, trial);
        int format = strstr(name, "png") ? 0 : strstr(name, "jpg") ? 1 : 2;
        (decodes(&m, trial, name) ? decoded : refused)[format]++;
    }
    /* Both must happen a lot in each, or the trials are not worth their time. */
    for (int i = 0; i < 3; i++) {
        print_message("%s: %d decoded, %d refused\n", formats[i], decoded[i], refused[i]);
        assert_true(decoded[i] > 150 && refused[i] > 150);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mutated)};
    return cmocka_run_group_tests_name("mutated", tests, read_files, free_files);
}
