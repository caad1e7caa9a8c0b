/* Who holds what of a pool. */
#include "backend/pool_part.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

void ld_pool_sign(block *b, const char *who) {
    size_t n = strcspn(who, ":");
    n = n < sizeof b->who - 1 ? n : sizeof b->who - 1;
    memcpy(b->who, who, n);
    b->who[n] = 0;
}

enum { TAKERS = 64 };

/* Adds up what is live by who took it; takers beyond the table count as "others". A recording's memory counts as a whole.
 * How many there are. */
static int by_taker(const ld_pool *p, ld_pool_user t[TAKERS]) {
    int n = 0;
    for (size_t i = 0; i < p->buckets; i++)
        for (const block *b = p->live[i]; b; b = b->next) {
            int k = 0;
            while (k < n && strcmp(t[k].who, b->who))
                k++;
            if (b->spare || b->slab)
                continue;
            if (k == TAKERS)
                strcpy(t[--k].who, "others");
            else if (k == n)
                memset(&t[n], 0, sizeof *t), memcpy(t[n++].who, b->who, sizeof b->who);
            t[k].bytes += b->bytes;
            t[k].blocks++;
        }
    return n;
}

int ld_pool_users(const ld_pool *p, ld_pool_user *users, int n) {
    ld_pool_user t[TAKERS];
    int all = by_taker(p, t), found = 0;
    for (; found < n && found < all; found++) {
        int most = 0;
        for (int k = 1; k < all; k++)
            if (t[k].bytes > t[most].bytes)
                most = k;
        users[found] = t[most];
        t[most].bytes = 0;
    }
    return found;
}

typedef struct amount {
    char text[24];
} amount;

static amount amount_of(size_t n) {
    static const char *const unit[] = {"KiB", "MiB", "GiB", "TiB"};
    amount a;
    if (n < 1024) {
        snprintf(a.text, sizeof a.text, "%d bytes", (int)n);
        return a;
    }
    int k = 0;
    double v = (double)n / 1024;
    while (v >= 1000 && k < 3) {
        v /= 1024;
        k++;
    }
    snprintf(a.text, sizeof a.text, "%.1f %s", v, unit[k]);
    return a;
}

/* "; most by conv2d 3.1 GiB, norm 1.2 GiB, attention 0.9 GiB", or "" when nothing is live. */
static const char *most_by(const ld_pool *p, char *text, size_t size) {
    enum { MOST = 3 };
    ld_pool_user u[MOST];
    int n = ld_pool_users(p, u, MOST);
    *text = 0;
    for (int k = 0; k < n; k++) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s %s %s", k ? "," : "; most by", u[k].who, amount_of(u[k].bytes).text);
    }
    return text;
}

void *ld_pool_fail_short(const ld_pool *p, size_t n, const char *who) {
    const ld_pool_stats *s = &p->stats;
    char most[200];
    return ld_fail_null(LD_EMEM, "%s: out of memory on %s: %s needed; live %s in %lld blocks, cached %s, limit %s%s",
                        who, p->name, amount_of(n).text, amount_of(s->live).text, (long long)s->blocks,
                        amount_of(s->cached).text, p->limit ? amount_of(p->limit).text : "none",
                        most_by(p, most, sizeof most));
}
