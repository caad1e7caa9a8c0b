/* Classes from a file beside the pictures. Its form is told by what it holds; blank lines and those with # are left out.
 *
 *   name,label ...     Kaggle's LOC_val_solution.csv and others: the label is the first word behind the comma
 *   name label         Caffe's val.txt
 *   label              one a picture, in bytewise order of their file names: TensorFlow's
 *                      imagenet_2012_validation_synset_labels.txt, the devkit's ILSVRC2012_validation_ground_truth.txt
 *
 * A label is a class's name or a number. Names are numbered in bytewise order; when all are among ILSVRC2012's wnids, the
 * classes are its 1000, so that training and validation pictures agree. Numbers are classes from 0, but for ILSVRC2012's
 * own pictures: without a name they are ILSVRC2012_ID, from 1, with one they count the sorted wnids. */
#define _GNU_SOURCE
#include "base/error.h"
#include "data/source_part.h"
#include "io/file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct rows {
    const char *file;
    ld_names name;    /* without suffix; none in files of labels alone */
    ld_names class;   /* different labels, as written */
    ld_name_table of; /* into class */
    int32_t *label;   /* of row i: into class */
    int64_t count, room;
    bool named;
    int32_t *meaning; /* of class c: the source's class */
};

static void rows_free(struct rows *t) {
    ld_names_free(&t->name);
    ld_names_free(&t->class);
    ld_table_free(&t->of);
    free(t->label);
    free(t->meaning);
}

/* ---- parsing -------------------------------------------------------------------------------------------------------- */

static char *trim(char *text) {
    while (isspace((unsigned char)*text) || *text == '"')
        text++;
    size_t n = strlen(text);
    while (n && (isspace((unsigned char)text[n - 1]) || text[n - 1] == '"'))
        text[--n] = 0;
    return text;
}

static bool column_title(const char *name) {
    static const char *const known[] = {"imageid", "image_id", "id", "image", "filename", "file_name", "name", NULL};
    int k = 0;
    while (known[k] && strcasecmp(name, known[k]))
        k++;
    return known[k];
}

static int add_row(struct rows *t, int64_t line, const char *name, const char *label) {
    if (t->count && t->named != (name != NULL))
        return ld_fail(LD_EFORMAT, "images: line %lld of %s has %s, the lines before it have %s", (long long)line,
                       t->file, name ? "a name and a label" : "a label alone", t->named ? "both" : "a label alone");
    if (!*label)
        return ld_fail(LD_EFORMAT, "images: line %lld of %s has no label", (long long)line, t->file);
    if (t->count == t->room) {
        int64_t room = 2 * t->room + 1024;
        int32_t *more = realloc(t->label, (size_t)room * sizeof *more);
        if (!more)
            return ld_fail(LD_EMEM, "images: out of host memory for %lld labels", (long long)room);
        t->label = more;
        t->room = room;
    }
    t->named = name != NULL;
    int64_t c = ld_names_number(&t->class, &t->of, label, strlen(label));
    if (c < 0 || (name && ld_names_add(&t->name, name, ld_source_stem(name))))
        return ld_error_code();
    t->label[t->count++] = (int32_t)c;
    return 0;
}

static int parse_line(struct rows *t, int64_t number, char *line) {
    line = trim(line);
    if (!*line || *line == '#')
        return 0;
    char *comma = strchr(line, ','), *blank;
    if (comma) {
        *comma = 0;
        char *name = trim(line), *label = trim(comma + 1);
        label[strcspn(label, " \t,")] = 0;
        return number == 1 && column_title(name) ? 0 : add_row(t, number, name, trim(label));
    }
    for (blank = line + strlen(line); blank > line && !isspace((unsigned char)blank[-1]);)
        blank--;
    if (blank == line)
        return add_row(t, number, NULL, line);
    blank[-1] = 0;
    return add_row(t, number, trim(line), blank);
}

static int parse(struct rows *t) {
    void *bytes = NULL;
    size_t n;
    if (ld_file_read(t->file, &bytes, &n, (size_t)1 << 30))
        return ld_error_code();
    char *text = realloc(bytes, n + 1), *rest = text, *line;
    if (!text) {
        free(bytes);
        return ld_fail(LD_EMEM, "images: out of host memory for %s", t->file);
    }
    text[n] = 0;
    int bad = strlen(text) == n ? 0 : ld_fail(LD_EFORMAT, "images: %s is no text", t->file);
    for (int64_t number = 1; !bad && (line = strsep(&rest, "\n")); number++)
        bad = parse_line(t, number, line);
    free(text);
    if (!bad && !t->count)
        bad = ld_fail(LD_EFORMAT, "images: %s has no labels", t->file);
    return bad;
}

/* ---- what labels mean ----------------------------------------------------------------------------------------------- */

/* A whole number without sign, or -1. */
static long number_of(const char *text) {
    size_t n = strspn(text, "0123456789");
    return n && n < 8 && !text[n] ? strtol(text, NULL, 10) : -1;
}

static bool is_wnid(const char *text) {
    return text[0] == 'n' && strspn(text + 1, "0123456789") == 8;
}

/* ILSVRC2012_val_00000001.JPEG, n01440764/..., n01440764_1.JPEG: pictures to which ILSVRC2012's numbers apply. */
static bool imagenet_name(const char *name) {
    const char *base = strrchr(name, '/');
    return is_wnid(name) || !strncmp(base ? base + 1 : name, "ILSVRC2012_", 11);
}

/* ILSVRC2012's wnids in the order of ILSVRC2012_ID. */
static int read_synsets(const char *path, ld_names *wnid) {
    struct rows t = {.file = path};
    int bad = parse(&t);
    if (!bad && (t.named || t.count != t.class.count || t.count != 1000))
        bad = ld_fail(LD_EFORMAT, "images: %s has %lld wnids, %lld of them different; 1000 are needed, one a line",
                      path, (long long)t.count, (long long)t.class.count);
    if (!bad) {
        *wnid = t.class;
        t.class = (ld_names){0};
    }
    rows_free(&t);
    return bad;
}

static int64_t find_sorted(const ld_names *l, const char *name) {
    int64_t low = 0, high = l->count;
    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        int c = strcmp(ld_names_get(l, mid), name);
        if (c == 0)
            return mid;
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return -1;
}

/* Numbers are classes. */
static int plain_numbers(ld_source *s, struct rows *t) {
    enum { MOST = 1 << 20 };
    long largest = 0;
    char text[16];
    for (int64_t c = 0; c < t->class.count; c++) {
        long v = number_of(ld_names_get(&t->class, c));
        if (v >= MOST)
            return ld_fail(LD_EFORMAT, "images: %s has the class %ld; at most %d can be", t->file, v, MOST - 1);
        t->meaning[c] = (int32_t)v;
        largest = v > largest ? v : largest;
    }
    for (long v = 0; v <= largest; v++)
        if (ld_names_add(&s->class_name, text, (size_t)snprintf(text, sizeof text, "%ld", v)))
            return ld_error_code();
    return 0;
}

/* Numbers of ILSVRC2012: places among the sorted wnids from 0, or ILSVRC2012_ID from 1. */
static int imagenet_numbers(struct rows *t, const ld_names *id, const ld_names *sorted) {
    int first = t->named ? 0 : 1;
    for (int64_t c = 0; c < t->class.count; c++) {
        long v = number_of(ld_names_get(&t->class, c));
        if (v < first || v > first + 999)
            return ld_fail(LD_EFORMAT, "images: %s has the number %ld; ILSVRC2012's classes are %d to %d there",
                           t->file, v, first, first + 999);
        t->meaning[c] = (int32_t)(t->named ? v : find_sorted(sorted, ld_names_get(id, v - 1)));
    }
    return 0;
}

/* Names, in bytewise order: those of the file, or ILSVRC2012's when all are among them. */
static int by_name(ld_source *s, struct rows *t, const ld_names *sorted) {
    bool known = sorted->count > 0;
    for (int64_t c = 0; c < t->class.count && known; c++)
        known = find_sorted(sorted, ld_names_get(&t->class, c)) >= 0;
    const ld_names *from = known ? sorted : &t->class;
    for (int64_t c = 0; c < from->count; c++) {
        const char *name = ld_names_get(from, c);
        if (ld_names_add(&s->class_name, name, strlen(name)))
            return ld_error_code();
    }
    if (ld_names_sort(&s->class_name, NULL))
        return ld_error_code();
    for (int64_t c = 0; c < t->class.count; c++)
        t->meaning[c] = (int32_t)find_sorted(&s->class_name, ld_names_get(&t->class, c));
    return 0;
}

static int copy_names(ld_names *to, const ld_names *from) {
    int bad = 0;
    for (int64_t i = 0; i < from->count && !bad; i++)
        bad = ld_names_add(to, ld_names_get(from, i), strlen(ld_names_get(from, i)));
    return bad;
}

/* Fills class_name and meaning. */
static int interpret(ld_source *s, struct rows *t, const char *synsets) {
    ld_names id = {0}, sorted = {0};
    bool numbers = true;
    for (int64_t c = 0; c < t->class.count; c++)
        numbers = numbers && number_of(ld_names_get(&t->class, c)) >= 0;
    bool imagenet = imagenet_name(ld_names_get(t->named ? &t->name : &s->name, 0));
    t->meaning = malloc(((size_t)t->class.count + 1) * sizeof *t->meaning);
    int bad = t->meaning ? 0 : ld_fail(LD_EMEM, "images: out of host memory");
    if (!bad && synsets)
        bad = read_synsets(synsets, &id) || copy_names(&sorted, &id) || ld_names_sort(&sorted, NULL);
    if (!bad && !numbers)
        bad = by_name(s, t, &sorted);
    else if (!bad && imagenet && synsets)
        bad = imagenet_numbers(t, &id, &sorted) || copy_names(&s->class_name, &sorted);
    else if (!bad && imagenet && !t->named)
        bad = ld_fail(LD_EVALUE, "images: %s gives ILSVRC2012_ID; the list of wnids in that order (synsets) is needed",
                      t->file);
    else if (!bad)
        bad = plain_numbers(s, t);
    ld_names_free(&id);
    ld_names_free(&sorted);
    return bad ? ld_error_code() : 0;
}

/* ---- whose they are ------------------------------------------------------------------------------------------------- */

static const char *base_of(const char *name) {
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

static int by_base(const void *a, const void *b, void *names) {
    const char *x = ld_names_get(names, *(const int64_t *)a), *y = ld_names_get(names, *(const int64_t *)b);
    int c = strcmp(base_of(x), base_of(y));
    return c ? c : strcmp(x, y);
}

/* Row k belongs to the k-th picture by file name. */
static int apply_in_order(ld_source *s, const struct rows *t) {
    if (t->count != s->count)
        return ld_fail(LD_EFORMAT, "images: %s has %lld labels, %s has %lld pictures", t->file, (long long)t->count,
                       s->path, (long long)s->count);
    int64_t *order = malloc(((size_t)s->count + 1) * sizeof *order);
    if (!order)
        return ld_fail(LD_EMEM, "images: out of host memory for %lld pictures", (long long)s->count);
    for (int64_t i = 0; i < s->count; i++)
        order[i] = i;
    qsort_r(order, (size_t)s->count, sizeof *order, by_base, &s->name);
    for (int64_t k = 0; k < s->count; k++)
        s->label[order[k]] = t->meaning[t->label[k]];
    free(order);
    return 0;
}

/* The row for a picture: under its whole path, or with folders left off in front; -1 for none. */
static int64_t row_of(const ld_names *names, const ld_name_table *table, const char *name) {
    for (;;) {
        int64_t row = ld_table_find(table, names, name, ld_source_stem(name));
        const char *slash = strchr(name, '/');
        if (row >= 0 || !slash)
            return row;
        name = slash + 1;
    }
}

/* Labels by the rows' names; how many pictures have none. */
static int64_t apply_names(ld_source *s, const struct rows *t, const ld_names *names, const ld_name_table *table) {
    int64_t missing = 0;
    for (int64_t i = 0; i < s->count; i++) {
        int64_t row = row_of(names, table, ld_names_get(&s->name, i));
        s->label[i] = row < 0 ? -1 : t->meaning[t->label[row]];
        missing += row < 0;
    }
    return missing;
}

static int fail_missing(const ld_source *s, const struct rows *t, int64_t missing) {
    char list[512] = "";
    int n = 0;
    for (int64_t i = 0; i < s->count && n < 3; i++)
        if (s->label[i] < 0) {
            size_t at = strlen(list);
            snprintf(list + at, sizeof list - at, "%s%.120s", n++ ? ", " : "", ld_names_get(&s->name, i));
        }
    return ld_fail(LD_EFORMAT, "images: %lld of %lld pictures have no label in %s: %s%s", (long long)missing,
                   (long long)s->count, t->file, list, missing > n ? ", ..." : "");
}

static int put_all(ld_name_table *table, const ld_names *names) {
    int64_t was;
    int bad = 0;
    for (int64_t k = 0; k < names->count && !bad; k++)
        bad = ld_table_put(table, names, k, &was);
    return bad;
}

static int apply_by_name(ld_source *s, const struct rows *t) {
    ld_name_table table = {0};
    ld_names base = {0};
    int bad = put_all(&table, &t->name);
    int64_t missing = bad ? 0 : apply_names(s, t, &t->name, &table);
    if (!bad && missing == s->count) { /* perhaps the file has folders that the pictures are not in */
        ld_table_clear(&table);
        for (int64_t k = 0; k < t->count && !bad; k++)
            bad = ld_names_add(&base, base_of(ld_names_get(&t->name, k)), strlen(base_of(ld_names_get(&t->name, k))));
        bad = bad || put_all(&table, &base);
        missing = bad ? 0 : apply_names(s, t, &base, &table);
    }
    ld_table_free(&table);
    ld_names_free(&base);
    if (bad)
        return ld_error_code();
    if (missing)
        return fail_missing(s, t, missing);
    if (t->count > s->count)
        return ld_source_add_note(s, "%s has %lld labels, for more pictures than the %lld here", t->file,
                                  (long long)t->count, (long long)s->count);
    return 0;
}

int ld_source_label_file(ld_source *s, const ld_source_options *o) {
    struct rows t = {.file = o->labels};
    if (!s->name.count)
        return ld_fail(LD_EVALUE, "images: %s has classes of its own; a file of labels is of no use", s->path);
    ld_source_no_classes(s);
    int bad = parse(&t);
    if (!bad && !(s->label = malloc(((size_t)s->count + 1) * sizeof *s->label)))
        bad = ld_fail(LD_EMEM, "images: out of host memory for %lld labels", (long long)s->count);
    bad = bad || interpret(s, &t, o->synsets) || (t.named ? apply_by_name(s, &t) : apply_in_order(s, &t));
    rows_free(&t);
    return bad ? ld_error_code() : 0;
}
