/* Positions in the user's program, interned names, the global generator. */
#include "tensor/tensor.h"

#include <stdlib.h>
#include <string.h>

ld_generator ld_random = {.seed = 0, .draws = 0};

static ld_where (*where_fn)(void *);
static void *where_arg;

void ld_where_hook(ld_where (*fn)(void *), void *arg) {
    where_fn = fn;
    where_arg = arg;
}

ld_where ld_where_now(void) {
    return where_fn ? where_fn(where_arg) : (ld_where){NULL, 0};
}

/* Few names (files, options), asked for often: a list is enough, the last hit first. */
const char *ld_intern(const char *s) {
    static struct name {
        struct name *next;
        char text[];
    } * names;
    for (struct name **p = &names; *p; p = &(*p)->next)
        if (!strcmp((*p)->text, s)) {
            struct name *hit = *p;
            *p = hit->next;
            hit->next = names;
            names = hit;
            return hit->text;
        }
    size_t n = strlen(s) + 1;
    struct name *made = malloc(sizeof *made + n);
    if (!made)
        return "?";
    memcpy(made->text, s, n);
    made->next = names;
    names = made;
    return made->text;
}
