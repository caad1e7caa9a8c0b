#include "backend/cpu/packed.h"

#include "backend/device.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct entry {
    const void *data;
    uint64_t serial, form;
    uint32_t version;
    size_t bytes;
    void *block;   /* the pool's, or NULL: seen once */
    uint64_t used; /* the clock then */
} entry;

/* A block that was not asked for in IDLE calls, some tens of training steps, is given back. */
enum { SLOTS = 8192, MOST = SLOTS / 2, SWEEP = 1024, IDLE = 8192, HASHES = 4096 };

static entry table[SLOTS];
static int count;
static size_t kept;
static uint64_t clock;             /* calls of ld_packed_find */
static entry *latest;              /* found by the last call */
static uint16_t blocks_of[HASHES]; /* blocks by hash of the serial, so that most storages are forgotten at no cost */

static uint64_t slot_of(uint64_t serial, const void *data, uint64_t form) {
    uint64_t h = (serial * 0x9E3779B97F4A7C15u ^ (uint64_t)(uintptr_t)data) * 0xBF58476D1CE4E5B9u ^ form;
    h *= 0x94D049BB133111EBu;
    return (h ^ h >> 31) % SLOTS;
}

static void let_go(entry *e) {
    if (!e->block)
        return;
    ld_pool_give(ld_device_find("cpu")->pool, e->block);
    kept -= e->bytes;
    blocks_of[e->serial % HASHES]--;
    e->block = NULL;
}

/* Under pressure everything goes but what was found last: its finder is still using it. */
static void give_back(void) {
    for (int i = 0; i < SLOTS; i++)
        if (&table[i] != latest)
            let_go(&table[i]);
}

__attribute__((constructor)) static void offer_memory(void) {
    ld_pool_on_pressure(give_back);
}

void ld_packed_forget(uint64_t serial) {
    if (blocks_of[serial % HASHES])
        for (int i = 0; i < SLOTS; i++)
            if (table[i].serial == serial)
                let_go(&table[i]);
}

static void sweep(void) {
    for (int i = 0; i < SLOTS; i++)
        if (table[i].block && clock - table[i].used > IDLE)
            let_go(&table[i]);
}

void ld_packed_clear(void) {
    for (int i = 0; i < SLOTS; i++)
        let_go(&table[i]);
    memset(table, 0, sizeof table);
    latest = NULL;
    count = 0;
}

size_t ld_packed_bytes(void) {
    return kept;
}

/* A quarter of the machine's memory. */
static size_t most_bytes(void) {
    static size_t most;
    if (!most)
        most = (size_t)sysconf(_SC_PHYS_PAGES) / 4 * (size_t)sysconf(_SC_PAGESIZE);
    return most;
}

/* The slot of such weights, or a free one. */
static entry *look_up(const ld_view *w, uint64_t form) {
    uint64_t i = slot_of(w->serial, w->data, form);
    for (; table[i].serial; i = (i + 1) % SLOTS)
        if (table[i].serial == w->serial && table[i].data == w->data && table[i].form == form)
            break;
    return &table[i];
}

static bool is_of(const entry *e, const ld_view *w, size_t bytes) {
    return e->serial && e->version == w->version && e->bytes == bytes;
}

bool ld_packed_ready(const ld_view *w, uint64_t form, size_t bytes) {
    entry *e = w->serial ? look_up(w, form) : NULL;
    if (!e || !is_of(e, w, bytes) || !e->block)
        return false;
    latest = e; /* taking workspace may bring pressure, which must not take what was promised */
    return true;
}

ld_packed_state ld_packed_find(const ld_view *w, uint64_t form, size_t bytes, void **block) {
    ld_device *cpu = ld_device_find("cpu");
    if (!w->serial || !cpu)
        return LD_PACKED_NONE;
    entry *e = latest = look_up(w, form);
    bool same = is_of(e, w, bytes);
    clock++;
    if (same)
        e->used = clock; /* before the sweep: what ld_packed_ready promised stays */
    if (clock % SWEEP == 0)
        sweep();
    if (same && e->block) {
        *block = e->block;
        return LD_PACKED_READY;
    }
    if (!same) {
        if (!e->serial && count >= MOST) {
            ld_packed_clear();
            e = latest = look_up(w, form);
        }
        count += !e->serial;
        let_go(e);
        *e = (entry){w->data, w->serial, form, w->version, bytes, NULL, clock};
        return LD_PACKED_NONE;
    }
    if (kept + bytes > most_bytes())
        return LD_PACKED_NONE;
    void *memory = ld_pool_take_spare(cpu->pool, bytes);
    if (!memory)
        return LD_PACKED_NONE;
    e->block = memory;
    kept += bytes;
    blocks_of[e->serial % HASHES]++;
    *block = memory;
    return LD_PACKED_FILL;
}
