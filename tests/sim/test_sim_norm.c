/* Batch and group normalisation against the CPU backend in f64. */
#include "against.h"

typedef struct norm_case {
    ld_norm_spec spec;
    ld_dtype t, small; /* of data; of film, w, b and their gradients */
    int64_t n, p, c;
    ld_view *x, *film, *w, *b, *g, *mean, *var; /* mean, var: given, or NULL */
} norm_case;

typedef struct norm_results {
    ld_view *y, *stats, *mean, *var, *dx, *dfilm, *dw, *db;
} norm_results;

static ld_dtype wide_of(ld_dtype t) {
    return t == LD_F64 ? LD_F64 : LD_F32;
}

/* bits: 1 affine, 2 film, 4 and 8 the activation, 16 given */
static norm_case make_case(ld_dtype t, int64_t n, int64_t p, int64_t c, int groups, int bits) {
    norm_case q = {.t = t, .small = bits & 32 ? t : wide_of(t), .n = n, .p = p, .c = c};
    q.spec = (ld_norm_spec){.groups = groups,
                            .given = bits >> 4 & 1,
                            .eps = 1e-3,
                            .act = (ld_norm_act)(bits >> 2 & 3),
                            .slope = 0.1,
                            .sub = 0.4};
    q.x = random_view(t, 1, t == LD_BF16 ? 1 : 3, SHAPE(n, p, c));
    q.g = random_view(t, 1, 0.1, SHAPE(n, p, c));
    if (bits & 1) {
        q.w = random_view(q.small, 1, 0, SHAPE(c));
        q.b = random_view(q.small, 1, 0, SHAPE(c));
    }
    if (bits & 2)
        q.film = random_view(q.small, 1, 0, SHAPE(n, 2 * c));
    if (q.spec.given) {
        q.mean = random_view(wide_of(t), 1, 3, SHAPE(c));
        q.var = random_view(wide_of(t), 0.5, 1, SHAPE(c));
    }
    return q;
}

/* y, stats, mean and var of the device. */
static norm_results forward(const norm_case *q) {
    norm_results r = {0};
    ld_dtype s = wide_of(q->t);
    r.y = room_like(q->x);
    r.stats = dense(s, SHAPE(q->n, LD_NORM_STATS(q->film), q->c));
    r.mean = q->spec.given ? q->mean : q->spec.groups ? NULL : dense(s, SHAPE(q->c));
    r.var = q->spec.given ? q->var : q->spec.groups ? NULL : dense(s, SHAPE(q->c));
    ok(ld_cuda_norm(r.y, r.stats, r.mean, r.var, q->x, q->film, q->w, q->b, &q->spec));
    return r;
}

static void backward(const norm_case *q, norm_results *r) {
    r->dx = room_like(q->x);
    r->dfilm = room_like(q->film);
    r->dw = room_like(q->w);
    r->db = room_like(q->b);
    ok(ld_cuda_norm_bwd(r->dx, r->dfilm, r->dw, r->db, q->g, q->x, r->stats, q->film, q->w, q->b, &q->spec));
}

/* The same by the CPU in f64. */
static norm_results expected(const norm_case *q) {
    norm_results r = {0};
    ld_view *x = in_f64(q->x), *film = in_f64(q->film), *w = in_f64(q->w), *b = in_f64(q->b), *g = in_f64(q->g);
    r.y = room_like(x);
    r.stats = dense(LD_F64, SHAPE(q->n, LD_NORM_STATS(film), q->c));
    r.mean = q->spec.given ? in_f64(q->mean) : q->spec.groups ? NULL : dense(LD_F64, SHAPE(q->c));
    r.var = q->spec.given ? in_f64(q->var) : q->spec.groups ? NULL : dense(LD_F64, SHAPE(q->c));
    ok(ld_cpu_norm(r.y, r.stats, r.mean, r.var, x, film, w, b, &q->spec));
    r.dx = room_like(x);
    r.dfilm = room_like(film);
    r.dw = room_like(w);
    r.db = room_like(b);
    ok(ld_cpu_norm_bwd(r.dx, r.dfilm, r.dw, r.db, g, x, r.stats, film, w, b, &q->spec));
    return r;
}

/* How much a rounding of x counts in xhat or, times w, in y; also the size of dx before it loses its part along 1 and xhat:
 * the usual r f (w). */
static double slope(const norm_case *q, const ld_view *stats, const ld_view *w) {
    double sum = 0;
    for (int64_t i = 0; i < q->n * q->c; i++) {
        int64_t n = i / q->c, j = i % q->c;
        double r = get(stats, (n * LD_NORM_STATS(q->film) + 2) * q->c + j);
        r *= q->film ? 1 + get(q->film, n * 2 * q->c + j) : 1;
        r *= w ? get(w, j) : 1;
        sum += r * r;
    }
    return q->n ? sqrt(sum / (double)(q->n * q->c)) : 1;
}

/* 16 roundings of the arithmetic and one of the result. x lies around 3 where its spread is 1/2, and sums of terms of
 * either sign cancel: they are measured against the size that their terms would give. */
static void compare(const norm_case *q, const norm_results *r, const norm_results *want) {
    double work = (q->t == LD_F64 ? 64 : 16) * rounding(wide_of(q->t)), /* in f64 what is expected rounds as well */
        data = work + rounding(q->t), small = work + rounding(q->small);
    double rows = (double)q->p, all = rows * (double)q->n;
    near("y", r->y, want->y, data, slope(q, want->stats, q->w));
    near("mean", r->mean, want->mean, work, 0);
    near("var", r->var, want->var, work, 0);
    near("dx", r->dx, want->dx, data, slope(q, want->stats, q->w));
    near("dfilm", r->dfilm, want->dfilm, small, 8 * sqrt(rows));
    near("dw", r->dw, want->dw, small, sqrt(all) * fmax(1, slope(q, want->stats, NULL)));
    near("db", r->db, want->db, small, sqrt(all));
}

/* Every order of threads gives the same bits; the kept statistics give y again, to the bit. */
static void check_case(const norm_case *q) {
    norm_results want = expected(q), first = {0};
    for (int i = 0; i < ORDERS; i++) {
        set_order(i);
        norm_results r = forward(q);
        backward(q, &r);
        if (!i) {
            first = r;
            compare(q, &r, &want);
        }
        same("y", r.y, first.y);
        same("stats", r.stats, first.stats);
        same("dx", r.dx, first.dx);
        same("dfilm", r.dfilm, first.dfilm);
        same("dw", r.dw, first.dw);
        same("db", r.db, first.db);
    }
    ld_norm_spec again = q->spec;
    again.again = true;
    ld_view *y = room_like(q->x);
    ok(ld_cuda_norm(y, first.stats, NULL, NULL, q->x, q->film, q->w, q->b, &again));
    same("y again", y, first.y);
}

static void test_batch_norm(void **state) {
    (void)state;
    static const int64_t sizes[][3] = {{1, 31, 1}, {33, 1, 4}, {1, 1000, 31}, {2, 1, 96},    {3, 70, 64}, {2, 600, 31},
                                       {0, 5, 4},  {3, 0, 4},  {2, 33, 64},   {1, 4097, 96}, {1, 1, 1},   {1, 70, 512}};
    for (int t = 0; t < 4; t++)
        for (int i = 0; i < 12; i++)
            for (int bits = 0; bits < 64; bits++) {
                bool large = sizes[i][1] > 200, wanted = t ? (bits + i) % 7 == t : !(bits & 32) && (bits ^ i) & 1;
                if (!wanted || (large && bits % 3 != i % 3))
                    continue;
                norm_case q = make_case(all_dtypes[t], sizes[i][0], sizes[i][1], sizes[i][2], 0, bits);
                check_case(&q);
                next_case();
            }
}

static void test_group_norm(void **state) {
    (void)state;
    static const int64_t sizes[][4] = {{1, 1, 4, 1}, {2, 33, 6, 3}, {3, 31, 64, 32},   {1, 1000, 96, 4},
                                       {2, 9, 5, 5}, {2, 3, 64, 1}, {31, 1, 33, 11},   {1, 33, 1, 1},
                                       {0, 3, 4, 2}, {2, 0, 4, 2},  {1, 2500, 96, 32}, {2, 40, 132, 3}};
    for (int t = 0; t < 4; t++)
        for (int i = 0; i < 12; i++)
            for (int bits = 0; bits < 64; bits++) {
                bool large = sizes[i][1] > 200, wanted = t ? (bits + i) % 7 == t : !(bits & 32) && (bits ^ i) & 1;
                if (bits & 16 || !wanted || (large && bits % 3 != i % 3))
                    continue;
                norm_case q = make_case(all_dtypes[t], sizes[i][0], sizes[i][1], sizes[i][2], (int)sizes[i][3], bits);
                check_case(&q);
                next_case();
            }
}

/* The view one element further on, over memory that was made larger: no longer at a multiple of 16 bytes. */
static ld_view *shifted(const ld_view *v) {
    ld_view *room = dense(v->dtype, SHAPE(ld_view_numel(v) + 1)), *w = dense(v->dtype, SHAPE(0));
    *w = *v;
    w->data = (char *)room->data + ld_dtype_size(v->dtype);
    for (int64_t i = 0; i < ld_view_numel(v); i++)
        put(w, i, get(v, i));
    return w;
}

/* Operands that cannot be read 16 bytes at a time give what the others do, to a few roundings. */
static void test_unaligned(void **state) {
    (void)state;
    for (int k = 0; k < 10; k++) {
        norm_case q = make_case(k & 1 ? LD_BF16 : LD_F32, 2, 40, 32, k & 2 ? 4 : 0, 3 | LD_NORM_SILU << 2);
        norm_results want = expected(&q);
        ld_view **operand[] = {&q.x, &q.film, &q.w, &q.b, &q.g};
        *operand[k / 2] = shifted(*operand[k / 2]);
        norm_results r = forward(&q);
        backward(&q, &r);
        compare(&q, &r, &want);
        next_case();
    }
}

/* Far from 0, where a careless variance keeps nothing: x around 1e4 and spread 1, the first value of a column apart. */
static void test_far(void **state) {
    (void)state;
    for (int kind = 0; kind < 16; kind++) {
        norm_case q = make_case(LD_F32, 2, 300, 8, kind & 4 ? 4 : 0, 1 | (kind & 1) << 1 | (kind & 2 ? 12 : 0));
        randomise(q.x, 1, 1e4);
        if (kind & 8)
            for (int j = 0; j < 8; j++)
                put(q.x, j, -1e4);
        for (int i = 0; q.film && i < 32; i++)
            put(q.film, i, 0.5);
        norm_results want = expected(&q), r = forward(&q);
        near("y", r.y, want.y, 16 * rounding(LD_F32), 0);
        near("var", r.var, want.var, 16 * rounding(LD_F32), 0);
        next_case();
    }
}

/* A tape written by one backend serves the other: gradients, and y again. */
static void test_portable(void **state) {
    (void)state;
    for (int kind = 0; kind < 8; kind++) {
        norm_case q =
            make_case(LD_F32, 3, 70, 32, kind & 1 ? 8 : 0, 1 | (kind & 2) | LD_NORM_SILU << 2 | (kind & 4) << 2);
        if (q.spec.given && q.spec.groups)
            continue;
        norm_results cuda = forward(&q), cpu = {0}, want = expected(&q);
        cpu.stats = room_like(cuda.stats);
        cpu.y = room_like(q.x);
        cpu.mean = q.spec.given ? q.mean : room_like(cuda.mean);
        cpu.var = q.spec.given ? q.var : room_like(cuda.var);
        ok(ld_cpu_norm(cpu.y, cpu.stats, cpu.mean, cpu.var, q.x, q.film, q.w, q.b, &q.spec));
        ld_view *stats = cuda.stats;
        cuda.stats = cpu.stats;
        backward(&q, &cuda);
        compare(&q, &cuda, &want);
        ld_norm_spec again = q.spec;
        again.again = true;
        ok(ld_cpu_norm(cpu.y, stats, NULL, NULL, q.x, q.film, q.w, q.b, &again));
        near("y of the cpu", cpu.y, want.y, 16 * rounding(LD_F32), 0);
        ok(ld_cuda_norm(cpu.y, cpu.stats, NULL, NULL, q.x, q.film, q.w, q.b, &again));
        near("y of cuda", cpu.y, want.y, 16 * rounding(LD_F32), 0);
        next_case();
    }
}

/* ---- over ranks ------------------------------------------------------------------------------------------------------ */

/* What the other rank measured, or NULL: then what this one has is noted. */
typedef struct half_join {
    ld_norm_join join;
    double other_rows, note[2 * 96];
    const double *other;
} half_join;

static int join_halves(ld_norm_join *join, double *first, double *second, int64_t c) {
    half_join *h = (half_join *)join;
    bool forward = h->other_rows >= 0;
    double a = join->rows, b = h->other_rows;
    if (!h->other) {
        memcpy(h->note, first, (size_t)c * sizeof *first);
        memcpy(h->note + c, second, (size_t)c * sizeof *second);
        return 0;
    }
    for (int64_t j = 0; j < c; j++) {
        double delta = h->other[j] - first[j];
        second[j] = forward ? (second[j] * a + h->other[c + j] * b + delta * delta * a * b / (a + b)) / (a + b)
                            : second[j] + h->other[c + j];
        first[j] += forward ? delta * b / (a + b) : h->other[j];
    }
    join->rows += forward ? b : 0;
    return 0;
}

/* Samples n0 .. n1 - 1 of a case. */
static norm_case part_of(const norm_case *q, int64_t n0, int64_t n1) {
    norm_case part = *q;
    ld_view **view[] = {&part.x, &part.g, &part.film};
    for (int i = 0; i < 3; i++) {
        if (!*view[i])
            continue;
        ld_view *v = dense((*view[i])->dtype, SHAPE(0));
        *v = **view[i];
        v->data = (char *)v->data + (size_t)(n0 * v->stride[0]) * ld_dtype_size(v->dtype);
        v->shape[0] = n1 - n0;
        *view[i] = v;
    }
    part.n = n1 - n0;
    return part;
}

typedef int norm_fn(const ld_view *y, const ld_view *stats, const ld_view *mean, const ld_view *var, const ld_view *x,
                    const ld_view *film, const ld_view *w, const ld_view *b, const ld_norm_spec *s);
typedef int norm_bwd_fn(const ld_view *dx, const ld_view *dfilm, const ld_view *dw, const ld_view *db, const ld_view *g,
                        const ld_view *x, const ld_view *stats, const ld_view *film, const ld_view *w, const ld_view *b,
                        const ld_norm_spec *s);

/* Two ranks, first to note what each has, then to compute; into r[2]. */
static void two_ranks(norm_fn *forward_slot, norm_bwd_fn *backward_slot, const norm_case part[2], norm_results r[2]) {
    double rows[2] = {(double)(part[0].n * part[0].p), (double)(part[1].n * part[1].p)};
    half_join noted[2];
    for (int pass = 0; pass < 4; pass++)
        for (int k = 0; k < 2; k++) {
            norm_case q = part[k];
            half_join h = {.join = {join_halves, rows[k]}, .other_rows = rows[1 - k]};
            h.other = pass & 1 ? noted[1 - k].note : NULL;
            q.spec.join = &h.join;
            if (pass < 2) {
                ok(forward_slot(r[k].y, r[k].stats, r[k].mean, r[k].var, q.x, q.film, q.w, q.b, &q.spec));
            } else {
                h.join.rows = rows[0] + rows[1];
                h.other_rows = -1;
                ok(backward_slot(r[k].dx, r[k].dfilm, r[k].dw, r[k].db, q.g, q.x, r[k].stats, q.film, q.w, q.b,
                                 &q.spec));
            }
            if (!(pass & 1)) {
                noted[k] = h;
            } else if (pass == 1) {
                assert_true(h.join.rows == rows[0] + rows[1]);
            }
        }
}

/* The ranks' gradients of weights are parts of a sum. */
static ld_view *sum_of(const ld_view *a, const ld_view *b) {
    ld_view *sum = room_like(a);
    for (int64_t i = 0; a && i < ld_view_numel(a); i++)
        put(sum, i, get(a, i) + get(b, i));
    return sum;
}

/* Two ranks' samples give what all samples give at once, on the device and on the CPU. */
static void test_ranks(void **state) {
    (void)state;
    for (int t = 0; t < 4; t++)
        for (int bits = 0; bits < 16; bits++) {
            norm_case q = make_case(all_dtypes[t], 5, bits & 1 ? 70 : 33, bits & 4 ? 96 : 31, 0, bits);
            norm_case part[2] = {part_of(&q, 0, 2), part_of(&q, 2, 5)};
            norm_results want = expected(&q);
            for (int cpu = 0; cpu < (q.t == wide_of(q.t) ? 2 : 1); cpu++) {
                norm_results all = forward(&q), r[2];
                backward(&q, &all);
                for (int k = 0; k < 2; k++) { /* rows of the whole's results, statistics and sums of their own */
                    norm_case rows = {.x = all.y, .g = all.dx, .film = all.dfilm};
                    rows = part_of(&rows, k ? 2 : 0, k ? 5 : 2);
                    r[k] = (norm_results){.y = rows.x, .dx = rows.g, .dfilm = rows.film};
                    r[k].stats = dense(wide_of(q.t), SHAPE(part[k].n, LD_NORM_STATS(q.film), q.c));
                    r[k].mean = dense(wide_of(q.t), SHAPE(q.c));
                    r[k].var = dense(wide_of(q.t), SHAPE(q.c));
                    r[k].dw = room_like(q.w);
                    r[k].db = room_like(q.b);
                }
                two_ranks(cpu ? ld_cpu_norm : ld_cuda_norm, cpu ? ld_cpu_norm_bwd : ld_cuda_norm_bwd, part, r);
                near("var of both", r[0].var, r[1].var, 4 * rounding(wide_of(q.t)), 0); /* their orders differ here */
                all.mean = r[0].mean;
                all.var = r[1].var;
                all.dw = sum_of(r[0].dw, r[1].dw);
                all.db = sum_of(r[0].db, r[1].db);
                compare(&q, &all, &want);
            }
            next_case();
        }
}

static double loss(void *of) {
    const norm_case *q = of;
    return weighed(forward(q).y, q->g);
}

static void test_differences(void **state) {
    (void)state;
    for (int kind = 0; kind < 6; kind++) {
        static const int acts[] = {LD_NORM_PLAIN, LD_NORM_SILU, LD_NORM_SILU};
        norm_case q = make_case(LD_F64, 2, 9, 4, kind & 1 ? 2 : 0, 3 | acts[kind / 2] << 2 | (kind == 4) << 4);
        q.spec.eps = 0.5;
        norm_results r = forward(&q);
        backward(&q, &r);
        ld_view *in[] = {q.x, q.film, q.w, q.b}, *out[] = {r.dx, r.dfilm, r.dw, r.db};
        as_differences(in, out, 4, loss, &q);
        next_case();
    }
}

/* What nobody wants is not computed into; NaN stays in its column; far out an activation neither overflows nor makes NaN. */
static void test_corners(void **state) {
    (void)state;
    for (int act = 0; act < 4; act++) {
        norm_case q = make_case(LD_F32, 2, 3, 2, 0, 3 | act << 2 | 16);
        put(q.w, 0, 1e4);
        put(q.w, 1, -1e4);
        put(q.x, 0, NAN);
        norm_results r = forward(&q);
        backward(&q, &r);
        assert_true(isnan(get(r.y, 0)));
        for (int64_t i = 1; i < 12; i++)
            assert_true(isfinite(get(r.y, i)) && isfinite(get(r.dx, i)));
        ok(ld_cuda_norm_bwd(NULL, NULL, NULL, NULL, q.g, q.x, r.stats, q.film, q.w, q.b, &q.spec));
        next_case();
    }
}

static void test_errors(void **state) {
    (void)state;
    norm_case q = make_case(LD_BF16, 2, 3, 4, 0, 3);
    norm_results r = forward(&q);
    ld_view wrong = *r.stats;
    wrong.dtype = LD_BF16;
    assert_int_equal(ld_cuda_norm(r.y, &wrong, NULL, NULL, q.x, NULL, NULL, NULL, &q.spec), LD_EDTYPE);
    assert_string_equal(ld_error(), "batch_norm: stats is bf16; f32 is needed");
    for (int k = 0; k < 3; k++) {
        ld_norm_spec s = q.spec;
        s.again = k == 2;
        ld_sim_fail_workspace(1);
        ld_error_clear();
        int err = k == 1 ? ld_cuda_norm_bwd(r.y, NULL, NULL, NULL, q.g, q.x, r.stats, q.film, q.w, q.b, &s)
                         : ld_cuda_norm(r.y, r.stats, NULL, NULL, q.x, q.film, q.w, q.b, &s);
        assert_int_equal(err, LD_EMEM);
    }
    ld_sim_fail_workspace(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_batch_norm, tidy),  cmocka_unit_test_teardown(test_group_norm, tidy),
        cmocka_unit_test_teardown(test_far, tidy),         cmocka_unit_test_teardown(test_portable, tidy),
        cmocka_unit_test_teardown(test_differences, tidy), cmocka_unit_test_teardown(test_corners, tidy),
        cmocka_unit_test_teardown(test_unaligned, tidy),   cmocka_unit_test_teardown(test_errors, tidy),
        cmocka_unit_test_teardown(test_ranks, tidy),
    };
    return RUN_KERNEL_TESTS("norm", tests);
}
