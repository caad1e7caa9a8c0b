#include "backend/tune.h"

#include "backend/device.h"
#include "backend/plan.h"
#include "base/error.h"
#include "base/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct choice {
    char key[LD_TUNE_KEY];
    char way[16];
    char times[LD_TUNE_WAYS * 28]; /* "direct 1.25 winograd 0.61", for readers */
} choice;

static struct {
    bool on, asked, cleared;
    choice *at;
    int n, room, unsaved;
    void (*load)(void);
} known;

bool ld_tune_set(bool on) {
    bool was = known.on;
    known.on = on;
    return was;
}

bool ld_tune_is_on(void) {
    return known.on;
}

void ld_tune_clear(void) {
    free(known.at);
    known.at = NULL;
    known.n = known.room = 0;
    known.unsaved = 1;
    known.cleared = true;
    known.asked = true; /* what the host's file says is forgotten too */
}

int ld_tune_count(void) {
    return known.n;
}

int ld_tune_unsaved(void) {
    return known.unsaved;
}

bool ld_tune_cleared(void) {
    return known.cleared;
}

void ld_tune_saved(void) {
    known.unsaved = 0;
    known.cleared = false;
}

void ld_tune_on_first(void (*load)(void)) {
    known.load = load;
}

/* A step has some hundred keys: a list in order of time, searched from where the last one was found, is quick. */
static choice *find(const char *key) {
    static int last;
    for (int i = 0; i < known.n; i++) {
        int at = (last + i) % known.n;
        if (!strcmp(known.at[at].key, key)) {
            last = at + 1;
            return &known.at[at];
        }
    }
    return NULL;
}

/* Room for one more, or NULL: a choice that cannot be kept is made again. */
static choice *add(const char *key) {
    if (known.n == known.room) {
        int room = known.room ? 2 * known.room : 64;
        choice *at = realloc(known.at, (size_t)room * sizeof *at);
        if (!at)
            return NULL;
        known.at = at;
        known.room = room;
    }
    choice *c = &known.at[known.n++];
    memset(c, 0, sizeof *c);
    snprintf(c->key, sizeof c->key, "%s", key);
    return c;
}

/* ---- timing ------------------------------------------------------------------------------------------------------ */

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

#define LONG_MS 60

typedef struct trial {
    double ms[LD_TUNE_WAYS]; /* the best so far; 0: not run */
    int last;                /* whose result is there now */
} trial;

static int try_way(const ld_tune_case *c, trial *t, int way) {
    double from = now_ms();
    int bad = c->run(c->arg, way);
    double ms = now_ms() - from;
    if (bad)
        return bad;
    if (t->ms[way] == 0 || ms < t->ms[way])
        t->ms[way] = ms;
    t->last = way;
    return 0;
}

static int fastest(const trial *t, int n) {
    int best = -1;
    for (int i = 0; i < n; i++)
        if (t->ms[i] > 0 && (best < 0 || t->ms[i] < t->ms[best]))
            best = i;
    return best;
}

/* The first calls of a way pay for making primitives, for touching memory and for packing weights that are kept, and the
 * machine may be busy with other things for a moment: every way is run four times in turn, the rule's first, and what then
 * lies near the best up to three times more. Where even the fastest takes long, three and two times. */
static int time_ways(const ld_tune_case *c, trial *t) {
    int bad = 0, least = 4, most = 7;
    for (int round = 0; round < most && !bad; round++) {
        for (int i = 0; i < c->n && !bad; i++) {
            int way = (c->rule + i) % c->n;
            if (c->fits[way] && (round < least || t->ms[way] <= 1.5 * t->ms[fastest(t, c->n)]))
                bad = try_way(c, t, way);
        }
        if (!bad && round == 1 && t->ms[fastest(t, c->n)] > LONG_MS)
            least = 3, most = 5;
    }
    return bad;
}

/* `old`: what was known of the key, a way that there is not or that does not fit, or NULL. */
static void remember(const ld_tune_case *c, choice *old, const trial *t, int way) {
    choice *k = old ? old : add(c->key);
    if (!k)
        return;
    snprintf(k->way, sizeof k->way, "%s", c->names[way]);
    for (int i = 0, at = 0; i < c->n; i++)
        if (t->ms[i] > 0)
            at += snprintf(k->times + at, sizeof k->times - (size_t)at, "%s%s %.3f", at ? " " : "", c->names[i],
                           t->ms[i]);
    known.unsaved++;
}

static int fitting(const ld_tune_case *c) {
    int n = 0;
    for (int i = 0; i < c->n; i++)
        n += c->fits[i];
    return n;
}

bool ld_tune_will_time(const char *key) {
    if (!known.on)
        return false;
    if (!known.asked && known.load)
        known.load();
    known.asked = true;
    return !find(key);
}

int ld_tune_run(const ld_tune_case *c) {
    if (!known.on || fitting(c) < 2)
        return c->run(c->arg, c->rule);
    if (!known.asked && known.load)
        known.load();
    known.asked = true;
    choice *k = find(c->key);
    for (int i = 0; k && i < c->n; i++)
        if (c->fits[i] && !strcmp(k->way, c->names[i]))
            return c->run(c->arg, i);
    if (ld_planning()) /* nothing to time: by what the rule takes */
        return c->run(c->arg, c->rule);
    trial t = {.last = -1};
    int bad = time_ways(c, &t);
    if (bad)
        return bad;
    int best = fastest(&t, c->n);
    remember(c, k, &t, best);
    return t.last == best ? 0 : c->run(c->arg, best);
}

/* ---- as text ----------------------------------------------------------------------------------------------------- */

/* What the times depend on besides the key. */
static void first_line(char *line, size_t n) {
    char cpu[128] = "unknown processor", entry[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(entry, sizeof entry, f))
        if (!strncmp(entry, "model name", 10) && strchr(entry, ':')) {
            snprintf(cpu, sizeof cpu, "%.*s", (int)strcspn(strchr(entry, ':') + 2, "\n"), strchr(entry, ':') + 2);
            break;
        }
    if (f)
        fclose(f);
    snprintf(line, n, "ldlua %s tune 1; %s; %s", LD_VERSION, cpu, ld_cpu_libraries());
}

char *ld_tune_text(void) {
    char line[512];
    first_line(line, sizeof line);
    size_t each = sizeof(choice) + 4, room = strlen(line) + 2 + (size_t)known.n * each;
    char *text = malloc(room);
    if (!text)
        return ld_fail_null(LD_EMEM, "tune: out of host memory");
    size_t at = (size_t)snprintf(text, room, "%s\n", line);
    for (int i = 0; i < known.n; i++) {
        const choice *k = &known.at[i];
        at += (size_t)snprintf(text + at, room - at, "%s %s %s\n", k->key, k->way, k->times);
    }
    return text;
}

/* One line `key way times` of a text; what makes no sense, or is known, is passed by. false: out of host memory. */
static bool read_line(const char *at, size_t n) {
    char line[sizeof(choice) + 4], *way, *times;
    if (n >= sizeof line)
        return true;
    memcpy(line, at, n);
    line[n] = 0;
    if (!(way = strchr(line, ' ')) || !(times = strchr(way + 1, ' ')))
        return true;
    *way++ = *times++ = 0;
    choice *k;
    if (!*line || !*way || strlen(line) >= LD_TUNE_KEY || strlen(way) >= sizeof k->way || find(line))
        return true;
    if (!(k = add(line)))
        return false;
    snprintf(k->way, sizeof k->way, "%s", way);
    snprintf(k->times, sizeof k->times, "%s", times);
    return true;
}

bool ld_tune_read(const char *text) {
    char line[512];
    first_line(line, sizeof line);
    size_t n = strlen(line);
    if (strncmp(text, line, n) || text[n] != '\n')
        return false;
    for (const char *at = text + n + 1; *at; at += n + (at[n] == '\n')) {
        n = strcspn(at, "\n");
        if (!read_line(at, n))
            break;
    }
    return true;
}
