/* Classes: from the names of folders. */
#include "base/error.h"
#include "data/source_part.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Numbers of classes after they were sorted. */
static int sort_classes(ld_source *s) {
    int32_t *new_of = malloc(((size_t)s->class_name.count + 1) * sizeof *new_of);
    if (!new_of)
        return ld_fail(LD_EMEM, "images: out of host memory for %lld classes", (long long)s->class_name.count);
    int bad = ld_names_sort(&s->class_name, new_of);
    for (int64_t i = 0; i < s->count && !bad; i++)
        if (s->label[i] >= 0)
            s->label[i] = new_of[s->label[i]];
    free(new_of);
    return bad;
}

void ld_source_no_classes(ld_source *s) {
    free(s->label);
    s->label = NULL;
    ld_names_free(&s->class_name);
}

int ld_source_folder_classes(ld_source *s, const uint32_t *flat) {
    ld_name_table table = {0};
    const char *last = NULL;
    size_t last_n = 0;
    int bad = 0;
    ld_source_no_classes(s);
    s->label = malloc(((size_t)s->count + 1) * sizeof *s->label);
    if (!s->label)
        return ld_fail(LD_EMEM, "images: out of host memory for %lld labels", (long long)s->count);
    for (int64_t i = 0; i < s->count && !bad; i++) {
        size_t n;
        const char *name = ld_names_get(&s->name, i), *folder = ld_source_folder_of(name, &n);
        uint32_t shard = flat ? flat[s->container[i] & ~LD_PACKED_BIT] : 0;
        if (shard && (size_t)(folder - name) + n == shard)
            n = 0;
        if (last && n == last_n && !memcmp(folder, last, n)) {
            s->label[i] = s->label[i - 1];
            continue;
        }
        last = folder;
        last_n = n;
        int64_t c = ld_names_number(&s->class_name, &table, folder, n);
        if (c > INT32_MAX)
            bad = ld_fail(LD_EVALUE, "images: more than %d classes", INT32_MAX);
        bad = bad || c < 0;
        s->label[i] = (int32_t)c;
    }
    ld_table_free(&table);
    if (bad)
        return ld_error_code();
    if (s->class_name.count < 2) {
        ld_source_no_classes(s);
        return 0;
    }
    return sort_classes(s);
}
