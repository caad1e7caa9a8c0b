/* Recording on the fake device. A call that is recorded keeps copies of its arguments, with addresses and numbers as they
 * are; a replay does the calls again. A replay, and whatever comes after it, waits until somebody waits for it: so a
 * program that reads a result too early reads poison, and one that changes what is still to be read is found out. */
#include "fake.h"

extern "C" {
#include "backend/slot_calls.h"
#include "base/error.h"
}

#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <tuple>
#include <vector>

namespace {

typedef std::function<int()> work;

struct graph {
    std::vector<work> list;
};

struct mark_of {
    bool reached;
};

graph *open_graph; /* being recorded */
std::deque<work> queue;
bool draining;
int error; /* of work that was done late: it stays */

/* An argument as it was: what a pointer to a description points to is copied. */
template <typename T> struct kept {
    T v;
    explicit kept(T value) : v(value) {
    }
    T get() const {
        return v;
    }
};

template <typename T> struct kept_copy {
    bool there;
    T v;
    explicit kept_copy(const T *p) : there(p != nullptr), v() {
        if (p)
            v = *p;
    }
    const T *get() const {
        return there ? &v : nullptr;
    }
};
template <> struct kept<const ld_view *> : kept_copy<ld_view> { using kept_copy::kept_copy; };
template <> struct kept<const ld_augment *> : kept_copy<ld_augment> { using kept_copy::kept_copy; };
template <> struct kept<const ld_conv_shape *> : kept_copy<ld_conv_shape> { using kept_copy::kept_copy; };
template <> struct kept<const ld_loss_spec *> : kept_copy<ld_loss_spec> { using kept_copy::kept_copy; };
template <> struct kept<const ld_norm_spec *> : kept_copy<ld_norm_spec> { using kept_copy::kept_copy; };

int later(work w) {
    if (open_graph)
        open_graph->list.push_back(std::move(w));
    else
        queue.push_back(std::move(w));
    return 0;
}

template <typename... A> int hold(int (*const *slot)(A...), A... a) {
    auto all = std::make_tuple(kept<A>(a)...);
    return later([slot, all] { return std::apply([&](auto &...x) { return (*slot)(x.get()...); }, all); });
}

#define HOLD(slot, params, ...)                                                                                        \
    int hold_##slot params {                                                                                           \
        return hold(&fake_table->slot, __VA_ARGS__);                                                                   \
    }
LD_SLOT_CALLS(HOLD)

int hold_list_update(const ld_update *u, int n, double scale, double decay, const ld_cell *cell) {
    std::vector<ld_update> list(u, u + n);
    return later([=] { return fake_table->update(list.data(), n, scale, decay, cell); });
}

int hold_list_judge(ld_cell *cell, const ld_view *loss, const ld_view *xs, int n) {
    std::vector<ld_view> list(xs, xs + n);
    ld_view x = *loss;
    return later([=] { return fake_table->judge(cell, &x, list.data(), n); });
}

int hold_list_sumsq(double *sum, const ld_view *xs, int n) {
    if (open_graph)
        return ld_fail(LD_ESTATE, "sumsq: its sum comes back to the host, which a recording cannot wait for");
    int bad = fake_drain();
    return bad ? bad : fake_table->sumsq(sum, xs, n);
}

/* ---- the operations of graphs ------------------------------------------------------------------------------------------ */

int begin() {
    if (open_graph)
        return ld_fail(LD_ESTATE, "fake: it is recording already");
    int bad = fake_drain();
    if (!bad)
        open_graph = new graph;
    return bad;
}

int end(void **g) {
    graph *done = open_graph;
    open_graph = nullptr;
    if (g)
        *g = done;
    else
        delete done;
    return 0;
}

int replay(void *g) {
    for (const work &w : static_cast<graph *>(g)->list)
        queue.push_back(w);
    queue.push_back([] { return 0; });
    return 0;
}

void release(void *g) {
    delete static_cast<graph *>(g);
}

void *pinned(size_t n) {
    return calloc(1, n);
}

int send(void *to, const void *from, size_t n) {
    queue.push_back([=] { return memcpy(fake_behind(to), from, n), 0; });
    return 0;
}

int fetch(void *to, const void *from, size_t n) {
    memset(to, 0xEE, n);
    queue.push_back([=] { return memcpy(to, fake_behind(from), n), 0; });
    return 0;
}

int mark(void **m) {
    mark_of *k = *m ? static_cast<mark_of *>(*m) : new mark_of;
    k->reached = false;
    *m = k;
    queue.push_back([k] { return k->reached = true, 0; });
    return 0;
}

int reached(void *m, bool wait) {
    if (wait && fake_drain())
        return -1;
    return static_cast<mark_of *>(m)->reached;
}

void mark_free(void *m) {
    fake_drain();
    delete static_cast<mark_of *>(m);
}

void pinned_free(void *p) {
    fake_drain();
    free(p);
}

} /* namespace */

bool fake_recording(void) {
    return open_graph != nullptr;
}

bool fake_later(void) {
    return !draining && (open_graph || !queue.empty());
}

int fake_upload_later(void *to, const void *from, size_t n) {
    const char *p = static_cast<const char *>(from);
    std::vector<char> copy(p, p + n);
    return later([=] { return memcpy(fake_behind(to), copy.data(), n), 0; });
}

int fake_drain(void) {
    if (draining || open_graph)
        return error;
    draining = true;
    while (!queue.empty()) {
        work w = std::move(queue.front());
        queue.pop_front();
        int bad = w();
        if (bad && !error)
            error = bad;
    }
    draining = false;
    return error;
}

#define ENTRY(slot, params, ...) hold_##slot,
static ld_backend held_table() {
    ld_backend t = {"fake", true, nullptr, LD_SLOT_CALLS(ENTRY)};
    t.update = hold_list_update;
    t.judge = hold_list_judge;
    t.sumsq = hold_list_sumsq;
    return t;
}
const ld_backend fake_held = held_table();
const ld_graph_ops fake_graph_ops = {begin, end,   replay, release, pinned,   pinned_free,
                                     send,  fetch, mark,   reached, mark_free};
