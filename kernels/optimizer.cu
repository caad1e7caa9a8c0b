/* update, sgd, sumsq: what a training step does with its parameters.
 *
 *   d = scale g (+ wd p, Adam); p *= 1 - lr wd (AdamW); m = beta1 m + (1-beta1) d; v = beta2 v + (1-beta2) d^2;
 *   p -= lr/(1-beta1^t) m / (sqrt(v)/sqrt(1-beta2^t) + eps); s += (1-decay)(p - s); shadow = p as bf16
 *   sum = the sum of x^2 over all tensors
 * and judge, the verdict over a step that is recorded (ld_cell of backend.h): then the numbers of update come from the cell,
 * by a launch of a thread a tensor that completes the table.
 *
 * One launch for all tensors of a network: a table of them goes to the device, and blocks take chunks of CHUNK elements,
 * whose tensor they find by bisection. Traffic of update in f32: p, m, v, s and g read, p, m, v, s written, once each, 36
 * bytes an element (34 with g in bf16, 2 more for the shadow), 16 bytes an access where all are aligned. sumsq reads each x
 * once; squares are added in f32 by 8, those in f64, chunk by chunk and then in order: the same sum on every run. Proven by
 * tests/sim/test_sim_optimizer.c against the CPU's slots. */
#include "kernels/fold.h"
#include "kernels/space.h"

enum { THREADS = 256, CHUNK = 1 << 15 };

/* One tensor. */
struct entry {
    void *p, *m, *v, *s;
    const void *g;
    bf16 *shadow;
    int64_t n, first_chunk;
    ld_dtype dtype, g_dtype;
    bool aligned;
    double decay, coupled; /* p is first multiplied by `decay`; g grows by `coupled` p */
    double beta1, beta2, one_less_beta1, one_less_beta2, root_correction, eps, step;
    double lr, weight_decay; /* with a cell */
    int64_t steps;
    bool decoupled;
};

/* The entry that chunk c belongs to. */
template <typename E> LD_DEVICE const E &entry_of(const E *table, int n, int64_t c) {
    int low = 0, high = n - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (table[middle].first_chunk <= c)
            low = middle;
        else
            high = middle - 1;
    }
    return table[low];
}

/* ---- update ---------------------------------------------------------------------------------------------------------- */

template <typename T> struct adam { T scale, share, decay, coupled, beta1, beta2, a, b, correction, eps, step; };

template <typename T> LD_DEVICE adam<T> adam_of(const entry &e, double scale, double share) {
    return {(T)scale,
            (T)share,
            (T)e.decay,
            (T)e.coupled,
            (T)e.beta1,
            (T)e.beta2,
            (T)e.one_less_beta1,
            (T)e.one_less_beta2,
            (T)e.root_correction,
            (T)e.eps,
            (T)e.step};
}

/* V elements from i on. */
template <int V, typename T, typename G> LD_DEVICE void update_group(const entry &e, const adam<T> &k, int64_t i) {
    T p[V], m[V], v[V], g[V], s[V];
    load_wide<V>(p, (const T *)e.p + i, false);
    if (e.g) {
        typename ld_wide<G>::type wide[V];
        load_wide<V>(wide, (const G *)e.g + i, false);
        load_wide<V>(m, (const T *)e.m + i, false);
        load_wide<V>(v, (const T *)e.v + i, false);
#pragma unroll
        for (int j = 0; j < V; j++) {
            g[j] = (T)wide[j];
            T d = k.scale * g[j] + k.coupled * p[j], q = p[j] * k.decay;
            m[j] = k.beta1 * m[j] + k.a * d;
            v[j] = k.beta2 * v[j] + k.b * d * d;
            p[j] = q - k.step * m[j] / (sqrt(v[j]) / k.correction + k.eps);
        }
        store_narrow<V>((T *)e.p + i, p);
        store_narrow<V>((T *)e.m + i, m);
        store_narrow<V>((T *)e.v + i, v);
    }
    if (e.s) {
        load_wide<V>(s, (const T *)e.s + i, false);
        for (int j = 0; j < V; j++)
            s[j] += k.share * (p[j] - s[j]);
        store_narrow<V>((T *)e.s + i, s);
    }
    if (e.g && e.shadow) {
        float f[V];
        for (int j = 0; j < V; j++)
            f[j] = (float)p[j];
        store_narrow<V>(e.shadow + i, f);
    }
}

/* What depends on learning rate, beta1 and steps. */
LD_BOTH void complete(entry *e, double lr, double beta1, double steps) {
    e->decay = e->decoupled ? 1 - lr * e->weight_decay : 1;
    e->beta1 = beta1;
    e->one_less_beta1 = 1 - beta1;
    e->root_correction = sqrt(1 - pow(e->beta2, steps));
    e->step = lr / (1 - pow(beta1, steps));
}

__global__ void __launch_bounds__(THREADS) k_complete(entry *table, int n, const ld_cell *cell) {
    int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i < n)
        complete(&table[i], cell->lr * table[i].lr, cell->beta1, (double)(table[i].steps + cell->taken));
}

template <typename T, typename G>
LD_DEVICE void update_chunk(const entry &e, double scale, double share, int64_t chunk) {
    enum { V = 16 / sizeof(T) };
    adam<T> k = adam_of<T>(e, scale, share);
    int64_t first = chunk * CHUNK, end = first + CHUNK < e.n ? first + CHUNK : e.n;
    int64_t whole = e.aligned ? first + (end - first) / V * V : first;
    for (int64_t i = first + threadIdx.x * V; i < whole; i += THREADS * V)
        update_group<V, T, G>(e, k, i);
    for (int64_t i = whole + threadIdx.x; i < end; i += THREADS)
        update_group<1, T, G>(e, k, i);
}

__global__ void __launch_bounds__(THREADS)
    k_update(const entry *table, int n, int64_t chunks, double scale, double share, const ld_cell *cell) {
    if (cell && !cell->ok)
        return;
    if (cell) {
        scale = cell->scale;
        share = 1 - cell->decay;
    }
    for (int64_t c = blockIdx.x; c < chunks; c += gridDim.x) {
        const entry &e = entry_of(table, n, c);
        int64_t chunk = c - e.first_chunk;
        if (e.dtype == LD_F64)
            update_chunk<double, double>(e, scale, share, chunk);
        else if (e.g_dtype == LD_BF16)
            update_chunk<float, bf16>(e, scale, share, chunk);
        else if (e.g_dtype == LD_F16)
            update_chunk<float, f16>(e, scale, share, chunk);
        else
            update_chunk<float, float>(e, scale, share, chunk);
    }
}

static bool is_half(ld_dtype t) {
    return t == LD_BF16 || t == LD_F16;
}

static entry entry_from(const ld_update *u) {
    const ld_adam_step *s = &u->adam;
    entry e;
    memset(&e, 0, sizeof e);
    e.p = u->p;
    e.m = u->m;
    e.v = u->v;
    e.s = u->s;
    e.g = u->g;
    e.shadow = (bf16 *)u->shadow;
    e.n = u->g || u->s ? u->n : 0;
    e.dtype = u->dtype;
    e.g_dtype = is_half(u->g_dtype) ? u->g_dtype : u->dtype;
    e.aligned = ((uintptr_t)u->p | (uintptr_t)u->m | (uintptr_t)u->v | (uintptr_t)u->s | (uintptr_t)u->g |
                 (uintptr_t)u->shadow) %
                    16 ==
                0;
    e.decoupled = s->decoupled;
    e.coupled = s->decoupled ? 0 : s->weight_decay;
    e.beta2 = s->beta2;
    e.one_less_beta2 = 1 - s->beta2;
    e.eps = s->eps;
    e.lr = s->lr;
    e.weight_decay = s->weight_decay;
    e.steps = s->step;
    complete(&e, s->lr, s->beta1, (double)s->step);
    return e;
}

static int64_t chunks_of(int64_t n) {
    return (n + CHUNK - 1) / CHUNK;
}

/* The table on the device, in workspace of `more` bytes beyond it (256-byte aligned at *rest). NULL: see
 * ld_cuda_workspace_missing, or an error with the workspace given back. */
template <typename E>
static E *upload_table(const E *table, int n, size_t more, char **rest, const char *who, int *bad) {
    size_t bytes = ((size_t)n * sizeof *table + 255) / 256 * 256;
    char *device = (char *)ld_cuda_workspace(bytes + more, who);
    *bad = device ? ld_cuda_upload(device, table, (size_t)n * sizeof *table) : ld_cuda_workspace_missing();
    if (rest && device)
        *rest = device + bytes;
    if (device && *bad)
        ld_cuda_workspace_done(device);
    return device && !*bad ? (E *)(void *)device : NULL;
}

static int check_update(const ld_update *u) {
    if (u->dtype != LD_F32 && u->dtype != LD_F64)
        return ld_fail(LD_EDTYPE, "update: parameters of %s; f32 and f64 are there", ld_dtype_names[u->dtype]);
    if (u->dtype == LD_F64 && (u->shadow || is_half(u->g_dtype)))
        return ld_fail(LD_EDTYPE, "update: f64 parameters with gradients or weights of 16 bits; f32 ones have those");
    return 0;
}

int ld_cuda_update(const ld_update *u, int n, double scale, double decay, const ld_cell *cell) {
    int64_t chunks = 0;
    int used = 0, bad = 0;
    for (int i = 0; i < n; i++)
        if (check_update(&u[i]))
            return ld_error_code();
    entry *table = (entry *)malloc((size_t)(n + 1) * sizeof *table);
    if (!table)
        return ld_fail(LD_EMEM, "update: out of host memory for a table of %d tensors", n);
    for (int i = 0; i < n; i++) {
        table[used] = entry_from(&u[i]);
        table[used].first_chunk = chunks;
        chunks += chunks_of(table[used].n);
        used += table[used].n > 0;
    }
    entry *device = chunks ? upload_table(table, used, 0, NULL, "update", &bad) : NULL;
    if (device && cell)
        bad = LD_LAUNCH(k_complete, (used + THREADS - 1) / THREADS, THREADS, 0, device, used, cell);
    if (device && !bad)
        bad = LD_LAUNCH(k_update, ld_blocks(chunks, 1), THREADS, 0, device, used, chunks, scale, 1 - decay, cell);
    ld_cuda_workspace_done(device);
    free(table);
    return bad;
}

/* ---- sgd ------------------------------------------------------------------------------------------------------------- */

template <typename T> struct sgd_step {
    enum { N = 3 };
    T *p;
    const T *g;
    T *buf;
    T lr, momentum, coupled;
    bool nesterov, first;
    template <int V> __device__ void run(const int64_t *at, const bool *) const {
        T x[V], d[V], b[V];
        load_wide<V>(x, p + at[0], false);
        load_wide<V>(d, g + at[1], false);
        load_wide<V>(b, buf + at[2], false);
#pragma unroll
        for (int i = 0; i < V; i++) {
            d[i] += coupled * x[i];
            b[i] = first ? d[i] : momentum * b[i] + d[i];
            x[i] -= lr * (nesterov ? d[i] + momentum * b[i] : b[i]);
        }
        store_narrow<V>(p + at[0], x);
        store_narrow<V>(buf + at[2], b);
    }
};

int ld_cuda_sgd(const ld_view *p, const ld_view *g, const ld_view *buf, double lr, double momentum, double weight_decay,
                bool nesterov, bool first) {
    const ld_view *views[] = {p, g, buf};
    if (p->dtype == LD_F32)
        return ld_map<4>(views, sgd_step<float>{(float *)p->data, (const float *)g->data, (float *)buf->data, (float)lr,
                                                (float)momentum, (float)weight_decay, nesterov, first});
    if (p->dtype == LD_F64)
        return ld_map<2>(views, sgd_step<double>{(double *)p->data, (const double *)g->data, (double *)buf->data, lr,
                                                 momentum, weight_decay, nesterov, first});
    return ld_fail(LD_EDTYPE, "sgd: parameters of %s; f32 and f64 are there", ld_dtype_names[p->dtype]);
}

/* ---- the norm of a gradient ------------------------------------------------------------------------------------------ */

struct summand {
    const void *x;
    int64_t n, first_chunk;
    ld_dtype dtype;
    bool aligned;
};

/* Squares of 8 numbers: in f32 where that neither overflows nor loses small ones, else in f64. */
LD_DEVICE double squares(const float *v) {
    float s[8];
#pragma unroll
    for (int i = 0; i < 8; i++)
        s[i] = v[i] * v[i];
    float sum = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
    if (sum > 1e-20f && sum < 1e37f)
        return (double)sum;
    double exact = 0;
    for (int i = 0; i < 8; i++)
        exact += (double)v[i] * (double)v[i];
    return exact;
}

LD_DEVICE double squares(const double *v) {
    double exact = 0;
    for (int i = 0; i < 8; i++)
        exact += v[i] * v[i];
    return exact;
}

template <typename T> LD_DEVICE double chunk_squares(const summand &e, int64_t chunk) {
    typedef typename ld_wide<T>::type W;
    enum { V = sizeof(T) == 2 ? 8 : 16 / sizeof(T) };
    const T *x = (const T *)e.x;
    int64_t first = chunk * CHUNK, end = first + CHUNK < e.n ? first + CHUNK : e.n;
    double sum = 0;
    W v[8];
    for (int64_t i = first + threadIdx.x * V; i < end; i += THREADS * 8) {
        for (int part = 0; part < 8 / V; part++) {
            int64_t at = i + part * THREADS * V;
            if (e.aligned && at + V <= end)
                load_wide<V>(v + part * V, x + at, false);
            else
                for (int j = 0; j < V; j++)
                    v[part * V + j] = at + j < end ? widen(x[at + j]) : 0;
        }
        sum += squares(v);
    }
    return block_fold<fold_sum>(sum);
}

__global__ void __launch_bounds__(THREADS) k_sumsq(double *partial, const summand *table, int n, int64_t chunks) {
    for (int64_t c = blockIdx.x; c < chunks; c += gridDim.x) {
        const summand &e = entry_of(table, n, c);
        int64_t chunk = c - e.first_chunk;
        double sum = e.dtype == LD_F32    ? chunk_squares<float>(e, chunk)
                     : e.dtype == LD_BF16 ? chunk_squares<bf16>(e, chunk)
                     : e.dtype == LD_F16  ? chunk_squares<f16>(e, chunk)
                                          : chunk_squares<double>(e, chunk);
        if (threadIdx.x == 0)
            partial[c] = sum;
    }
}

/* One block: the chunks' sums, in order. */
__global__ void __launch_bounds__(THREADS) k_sumsq_chunks(double *sum, const double *partial, int64_t chunks) {
    double mine = 0;
    for (int64_t c = threadIdx.x; c < chunks; c += THREADS)
        mine += partial[c];
    mine = block_fold<fold_sum>(mine);
    if (threadIdx.x == 0)
        *sum = mine;
}

/* ---- the verdict over a step ----------------------------------------------------------------------------------------- */

LD_DEVICE bool is_finite(double v) {
    return v - v == 0;
}

__global__ void __launch_bounds__(LD_WARP) k_judge(ld_cell *cell, const void *loss, ld_dtype t, const double *sum) {
    if (threadIdx.x)
        return;
    double value = t == LD_F64    ? *(const double *)loss
                   : t == LD_BF16 ? (double)widen(*(const bf16 *)loss)
                   : t == LD_F16  ? (double)widen(*(const f16 *)loss)
                                  : (double)*(const float *)loss;
    double updates = (double)(cell->updates + cell->taken), warm = (1 + updates) / (10 + updates);
    cell->sum = sum ? *sum : 0;
    double scale = cell->clip / (sqrt(cell->sum) + 1e-6);
    cell->decay = cell->updates >= 0 && warm < cell->average ? warm : cell->average;
    cell->scale = cell->clip > 0 && scale < 1 ? scale : 1;
    cell->ok = is_finite(value) && is_finite(cell->sum);
    cell->taken += cell->ok;
}

static int launch_judge(ld_cell *cell, const ld_view *loss, const double *sum) {
    return LD_LAUNCH(k_judge, 1, LD_WARP, 0, cell, loss->data, loss->dtype, sum);
}

/* Into *sum on the host, or with a cell into that. */
static int sum_tables(double *sum, ld_cell *cell, const ld_view *loss, const summand *table, int used, int64_t chunks) {
    char *rest;
    int bad = 0;
    summand *device = upload_table(table, used, (size_t)(chunks + 1) * sizeof *sum, &rest, "sumsq", &bad);
    double *partial = (double *)(void *)rest;
    if (!device)
        return bad;
    bad = LD_LAUNCH(k_sumsq, ld_blocks(chunks, 1), THREADS, 0, partial, device, used, chunks);
    if (!bad)
        bad = LD_LAUNCH(k_sumsq_chunks, 1, THREADS, 0, partial + chunks, partial, chunks);
    if (!bad)
        bad = cell ? launch_judge(cell, loss, partial + chunks) : ld_cuda_download(sum, partial + chunks, sizeof *sum);
    ld_cuda_workspace_done(device);
    return bad;
}

static int sum_all(double *sum, ld_cell *cell, const ld_view *loss, const ld_view *xs, int n) {
    int64_t chunks = 0;
    int used = 0;
    for (int i = 0; i < n; i++)
        if (!ld_dtype_is_float(xs[i].dtype))
            return ld_fail(LD_EDTYPE, "sumsq: takes floats, not %s", ld_dtype_names[xs[i].dtype]);
    summand *table = (summand *)malloc((size_t)(n + 1) * sizeof *table);
    if (!table)
        return ld_fail(LD_EMEM, "sumsq: out of host memory for a table of %d tensors", n);
    for (int i = 0; i < n; i++) {
        int64_t count = ld_view_numel(&xs[i]);
        table[used] = {xs[i].data, count, chunks, xs[i].dtype, (uintptr_t)xs[i].data % 16 == 0};
        chunks += chunks_of(count);
        used += count > 0;
    }
    int bad = chunks ? sum_tables(sum, cell, loss, table, used, chunks) : cell ? launch_judge(cell, loss, NULL) : 0;
    free(table);
    return bad;
}

int ld_cuda_sumsq(double *sum, const ld_view *xs, int n) {
    *sum = 0;
    return sum_all(sum, NULL, NULL, xs, n);
}

int ld_cuda_judge(ld_cell *cell, const ld_view *loss, const ld_view *xs, int n) {
    if (!ld_dtype_is_float(loss->dtype))
        return ld_fail(LD_EDTYPE, "judge: the loss is %s; a float is needed", ld_dtype_names[loss->dtype]);
    return sum_all(NULL, cell, loss, xs, n);
}
