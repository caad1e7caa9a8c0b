#include "io/kv_check.h"

#include "base/error.h"

#include <string.h>

/* On disk, little endian: a page has its number (8 bytes), 2 unused, its kind (2), where the list of nodes ends and where
 * the nodes begin (2 + 2, from the page's start), the list (2 each). A node has 6 bytes (leaf: value's size 4, flags 2;
 * branch: number of the page below), the key's size (2), the key, and in a leaf the value, or the number of the first
 * of the pages that hold it. A meta page has behind the page's header: magic 4, version 4, address 8, size of the map 8,
 * two trees of 48 (free pages, main), the last page's number 8, the transaction's number 8. A tree: 4 (of the first
 * tree: size of a page), flags 2, depth 2, three counts of 8, entries 8, root 8. */
enum { HEADER = 16, NODE = 8, META = HEADER, FREE_TREE = META + 24, MAIN_TREE = FREE_TREE + 48 };
enum { LAST_PAGE = MAIN_TREE + 48, TRANSACTION = LAST_PAGE + 8 };
enum { IS_BRANCH = 1, IS_LEAF = 2, IS_META = 8 };
enum { VALUE_ELSEWHERE = 1 };
enum { DEEPEST = 31 };
#define MOST_BYTES ((uint64_t)1 << 46)

typedef struct tree {
    const char *path;
    const uint8_t *map;
    uint64_t size, page, last; /* bytes of the file and of a page, number of the last page in use */
    uint64_t seen, entries;
    unsigned depth;
} tree;

static uint64_t number(const uint8_t *p, int bytes) {
    uint64_t x = 0;
    while (bytes-- > 0)
        x = x << 8 | p[bytes];
    return x;
}

static int damaged(const tree *t, uint64_t page, const char *why) {
    return ld_fail(LD_EFORMAT, "lmdb '%.500s': damaged or cut short: page %llu %s", t->path, (unsigned long long)page,
                   why);
}

bool kv_begins(const uint8_t *bytes, size_t n) {
    return n >= LD_KV_HEAD && (number(bytes + 10, 2) & IS_META) && number(bytes + META, 4) == 0xbeefc0de;
}

/* A node of a leaf: at `at` of the page p, its key inside the page already. */
static const char *check_value(const tree *t, const uint8_t *p, uint64_t at) {
    uint64_t size = number(p + at, 4), flags = number(p + at + 4, 2), key = number(p + at + 6, 2);
    uint64_t value = at + NODE + key;
    if (key == 0)
        return "has an empty key";
    if (flags == 0)
        return value + size > t->page ? "has a value beyond its end" : NULL;
    if (flags != VALUE_ELSEWHERE)
        return "holds other data bases or several values to a key; plain data bases are read";
    if (value + 8 > t->page)
        return "has a node beyond its end";
    uint64_t first = number(p + value, 8), pages = (HEADER - 1 + size) / t->page + 1;
    if (first < 2 || first > t->last || pages > t->last + 1 - first)
        return "has a value on pages that are not in use";
    return first * t->page + HEADER + size > t->size ? "has a value beyond the end of the file" : NULL;
}

static const char *check_node(const tree *t, const uint8_t *p, uint64_t at, uint64_t least, bool leaf) {
    if (at < least || at % 2 || at + NODE > t->page || at + NODE + number(p + at + 6, 2) > t->page)
        return "has a node beyond its end";
    return leaf ? check_value(t, p, at) : NULL;
}

static const char *check_header(const tree *t, const uint8_t *p, uint64_t page, bool leaf) {
    uint64_t list = number(p + 12, 2), nodes = number(p + 14, 2);
    if (number(p, 8) != page)
        return "has another page's number";
    if (number(p + 10, 2) != (leaf ? IS_LEAF : IS_BRANCH))
        return leaf ? "is no leaf" : "is no branch";
    if (list < HEADER || list % 2 || list > nodes || nodes > t->page)
        return "has a list of nodes beyond its end";
    return (list - HEADER) / 2 < (leaf ? 1 : 2) ? "has too few nodes" : NULL;
}

static int check_page(tree *t, uint64_t page, unsigned level) {
    bool leaf = level == t->depth;
    if (page < 2 || page > t->last)
        return damaged(t, page, "is not in use, yet the tree leads to it");
    if (page >= t->size / t->page)
        return damaged(t, page, "lies beyond the end of the file");
    if (++t->seen > t->last)
        return damaged(t, page, "is reached on several ways");
    const uint8_t *p = t->map + page * t->page;
    const char *why = check_header(t, p, page, leaf);
    uint64_t least = number(p + 14, 2), n = why ? 0 : (number(p + 12, 2) - HEADER) / 2;
    for (uint64_t i = 0; i < n && !why; i++)
        why = check_node(t, p, number(p + HEADER + 2 * i, 2), least, leaf);
    if (why)
        return damaged(t, page, why);
    t->entries += leaf ? n : 0;
    int code = 0;
    for (uint64_t i = 0; i < n && !leaf && !code; i++)
        code = check_page(t, number(p + number(p + HEADER + 2 * i, 2), 6), level + 1);
    return code;
}

/* One of the two meta pages; liblmdb takes the one with the greater transaction. */
static int check_meta(const tree *t, uint64_t page) {
    const uint8_t *m = t->map + page * t->page;
    if ((page + 1) * t->page > t->size)
        return damaged(t, page, "lies beyond the end of the file");
    if (!kv_begins(m, t->page))
        return damaged(t, page, "is no meta page");
    if (number(m + META + 4, 4) != 1)
        return ld_fail(LD_EFORMAT, "lmdb '%.500s': version %llu of the format; 1 is read", t->path,
                       (unsigned long long)number(m + META + 4, 4));
    if (number(m + FREE_TREE, 4) != t->page)
        return damaged(t, page, "gives another size of pages");
    return 0;
}

int kv_check(const char *path, const uint8_t *map, size_t n) {
    tree t = {.path = path, .map = map, .size = n};
    if (!kv_begins(map, n))
        return ld_fail(LD_EFORMAT, "lmdb '%.500s': no LMDB file", path);
    t.page = number(map + FREE_TREE, 4);
    if (t.page < 512 || t.page > 32768 || (t.page & (t.page - 1)))
        return ld_fail(LD_EFORMAT, "lmdb '%.500s': pages of %llu bytes; 512 to 32768 are read", path,
                       (unsigned long long)t.page);
    if (check_meta(&t, 0) || check_meta(&t, 1))
        return ld_error_code();
    const uint8_t *m = map + (number(map + TRANSACTION, 8) < number(map + t.page + TRANSACTION, 8) ? t.page : 0);
    uint64_t flags = number(m + MAIN_TREE + 4, 2), root = number(m + MAIN_TREE + 40, 8);
    t.depth = (unsigned)number(m + MAIN_TREE + 6, 2);
    t.last = number(m + LAST_PAGE, 8);
    if (flags)
        return ld_fail(LD_EFORMAT, "lmdb '%.500s': keys are not in order of their bytes, or have several values", path);
    if (t.last >= MOST_BYTES / t.page || t.depth > DEEPEST) /* liblmdb maps that much, however long the file is */
        return damaged(&t, m == map ? 0 : 1, "gives impossible sizes");
    int code = root == UINT64_MAX ? 0 : check_page(&t, root, 1);
    if (!code && t.entries != number(m + MAIN_TREE + 32, 8))
        code = damaged(&t, m == map ? 0 : 1, "gives another number of entries than the tree has");
    return code;
}
