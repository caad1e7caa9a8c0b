/* JSON as a series of events, for reading and for writing; what lies below is this folder's business.
 *
 * A value is NULL, TRUE, FALSE, NUMBER or STRING; or ARRAY or OBJECT, the values inside, and END. */
#ifndef LD_JSON_H
#define LD_JSON_H

#include <stdbool.h>
#include <stddef.h>

typedef enum ld_json_kind {
    LD_JSON_NULL,
    LD_JSON_FALSE,
    LD_JSON_TRUE,
    LD_JSON_NUMBER,
    LD_JSON_STRING,
    LD_JSON_ARRAY,
    LD_JSON_OBJECT,
    LD_JSON_END
} ld_json_kind;

typedef struct ld_json_event {
    ld_json_kind kind;
    const char *key;  /* inside an OBJECT, else NULL */
    const char *text; /* STRING; UTF-8 without zero bytes */
    double number;    /* NUMBER; finite */
} ld_json_event;

enum { LD_JSON_DEPTH = 1000 }; /* of nested arrays and objects */

typedef struct ld_json ld_json;

/* Text of n bytes that is one JSON value and blanks around it. NULL: LD_EFORMAT, LD_EMEM. */
ld_json *ld_json_parse(const char *text, size_t n);
/* The next event, its texts valid until the document is closed; false behind the last. */
bool ld_json_next(ld_json *j, ld_json_event *e);

/* An empty document to add events to. LD_ESTATE: END without a beginning, a second value at the top. LD_EVALUE: a
 * number that is not finite, a depth of more than LD_JSON_DEPTH. */
ld_json *ld_json_new(void);
int ld_json_add(ld_json *j, const ld_json_event *e);
/* The text, on one line or indented; valid until the document is closed. NULL: LD_ESTATE when something is still open or
 * nothing was added, LD_EMEM. */
const char *ld_json_text(ld_json *j, bool pretty);

void ld_json_close(ld_json *j); /* NULL is fine */

#endif
