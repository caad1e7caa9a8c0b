/* The head: its outline, the relief of the face, skin in the light, ears, wrinkles. */
#include "data/face_part.h"

float ld_face_skull(const ld_face *f, float u, float v) {
    float t, n, w, h;
    if (v < LD_FACE_LEVEL) {
        t = (LD_FACE_LEVEL - v) / f->crown;
        n = LD_FACE_DOME;
        w = f->wide;
        h = f->crown;
    } else {
        t = (v - LD_FACE_LEVEL) / f->chin;
        n = f->jaw;
        u -= 0.16f * f->sy * t;
        w = f->wide * (1 - f->taper * (t < 1.3f ? t * t : 1.69f));
        h = f->chin;
    }
    float m = powf(t, n - 1), du = 2 * u / (w * w), dv = n * m / h;
    return (sq(u / w) + m * t - 1) / (sqrtf(du * du + dv * dv) + 0.2f);
}

static void bump(ld_face *f, float p, float q, float rp, float rq, float h) {
    if (f->bumps < LD_FACE_BUMPS)
        f->bump[f->bumps++] = (ld_face_bump){p, q, rp, rq, h};
}

static void pair(ld_face *f, float p, float q, float rp, float rq, float h) {
    bump(f, p, q, rp, rq, h);
    bump(f, -p, q, rp, rq, h);
}

void ld_face_relief(ld_face *f) {
    float n = f->nose_p, w = f->nose_w, q = f->nose_q, smile = f->smile > 0 ? f->smile : 0;
    f->bumps = 0;
    pair(f, f->eye_p, -0.02f, 0.20f, 0.13f, -0.036f);
    pair(f, 0.115f, -0.02f, 0.085f, 0.11f, -0.026f);
    pair(f, f->eye_p - 0.01f, 0.01f, 0.135f, 0.095f, 0.020f);
    pair(f, 0.22f, f->brow_q, 0.26f, 0.09f, f->fem ? 0.008f : 0.018f);
    pair(f, 0.20f, -0.40f, 0.26f, 0.22f, 0.012f);
    pair(f, 0.36f, 0.16f, 0.22f, 0.20f, 0.030f);
    pair(f, 0.27f, 0.27f, 0.17f, 0.15f, 0.012f + 0.030f * smile);
    pair(f, 0.38f, 0.44f, 0.18f, 0.24f, -0.011f);
    pair(f, 0.50f, -0.16f, 0.15f, 0.22f, -0.020f);
    bump(f, n * 0.25f, 0.05f, 0.105f, 0.26f, 0.036f);
    bump(f, n * 0.6f, 0.16f, 0.105f, 0.19f, 0.030f);
    bump(f, n, q - 0.025f, w * 1.15f, 0.105f, 0.060f);
    bump(f, n - w * 0.80f, q + 0.010f, w * 0.60f, 0.065f, 0.030f);
    bump(f, n + w * 0.80f, q + 0.010f, w * 0.60f, 0.065f, 0.030f);
    bump(f, 0, f->lip_q - 0.02f, 0.27f, 0.22f, 0.026f);
    bump(f, 0, f->lip_q - 0.105f, 0.034f, 0.075f, -0.012f);
    pair(f, 0.038f, f->lip_q - 0.095f, 0.035f, 0.075f, 0.006f);
    bump(f, 0, f->lip_q + 0.115f, 0.17f, 0.060f, -0.018f);
    bump(f, 0, LD_FACE_LEVEL + f->chin * 0.86f, 0.19f, 0.13f, 0.030f);
    pair(f, f->lip_w + 0.035f, f->lip_q, 0.05f, 0.06f, -0.008f);
}

/* The normal: a flattened ellipsoid with the relief upon it. */
static void normal_at(const ld_face *f, const ld_face_spot *s, float n[3]) {
    float a = s->u / (f->wide * 1.03f),
          b = (s->v - LD_FACE_LEVEL) / (s->v < LD_FACE_LEVEL ? f->crown * 1.02f : f->chin * 1.12f);
    a *= 0.60f + 0.40f * a * a;
    b *= 0.50f + 0.40f * b * b;
    float z = 1 - a * a - b * b, gp = 0, gq = 0;
    z = z > 0.04f ? sqrtf(z) : 0.2f;
    for (int i = 0; i < f->bumps; i++) {
        const ld_face_bump *k = &f->bump[i];
        float dq = (s->q - k->q) / k->rq;
        if (dq * dq >= 1)
            continue;
        float dp = (s->p - k->p) / k->rp, t = 1 - dp * dp - dq * dq;
        if (t > 0) {
            float m = -6 * k->h * t * t;
            gp += m * dp / k->rp;
            gq += m * dq / k->rq;
        }
    }
    n[0] = a / z - gp;
    n[1] = b / z - gq;
    n[2] = 1;
}

/* One soft dot a cell, displaced and of random size. */
static float dots(const ld_face *f, float x, float y) {
    int i = floor_int(x), j = floor_int(y), n = LD_FACE_LATTICE - 1;
    const float *cell = f->lattice + (j & n) * LD_FACE_LATTICE;
    float dx = x - (float)i - 0.5f - 0.2f * cell[i & n], dy = y - (float)j - 0.5f - 0.2f * cell[(i + 17) & n];
    float r = 0.10f + 0.20f * clamp01(cell[(i + 40) & n]);
    return hill(hypotf(dx, dy) / r) * (0.5f + 0.5f * cell[(i + 29) & n]);
}

/* Reflectance: tone, blush, freckles, lids, the red of nose and cheeks. */
static ld_rgb albedo(const ld_face *f, const ld_face_spot *s) {
    float m = fabsf(s->p), cheek = hill(hypotf((m - 0.31f) / 0.24f, (s->q - 0.24f) / 0.20f));
    float nose = hill(hypotf((s->p - f->nose_p) / 0.13f, (s->q - f->nose_q + 0.02f) / 0.12f));
    float chin = hill(hypotf(s->p / 0.2f, (s->q - LD_FACE_LEVEL - f->chin * 0.86f) / 0.14f));
    float red = f->flush * (0.55f * cheek + 0.45f * nose + 0.2f * chin);
    red += 0.06f * noise2(f, s->p * 7 + 11, s->q * 7 + 5) +
           0.05f * noise2(f, s->p * 19, s->q * 19 + 8) * resolved(19 * s->pix);
    ld_rgb c = mix(f->skin, f->blush, clamp01(red + 0.06f));
    c = scaled(c, 1 + 0.025f * noise2(f, s->p * 4 + 40, s->q * 4 + 21));
    if (f->freckles > 0) {
        float spots = 0.8f * dots(f, s->p * 34 + 3, s->q * 34) * resolved(17 * s->pix) + 0.10f;
        spots *= hill(hypotf(s->p / 0.52f, (s->q - 0.17f) / 0.26f)) * f->freckles;
        c = mix(c, times(c, (ld_rgb){0.66f, 0.50f, 0.42f}), clamp01(spots));
    }
    return c;
}

/* Darkening by folds, sockets and what lies above: 1 in the open. */
static float hollow(const ld_face *f, const ld_face_spot *s) {
    float m = fabsf(s->p), dark = 0, off = s->p - f->nose_p;
    dark += 0.26f * hill(hypotf((m - 0.135f) / 0.09f, (s->q + 0.035f) / 0.11f));
    dark += 0.12f * hill(hypotf((m - f->eye_p) / 0.17f, (s->q + 0.02f) / 0.13f));
    dark += 0.30f * hill(hypotf((off + f->key[0] * 0.05f) / (f->nose_w * 1.35f), (s->q - f->nose_q - 0.062f) / 0.055f));
    dark += 0.20f * hill(hypotf((off + f->key[0] * 0.16f) / 0.10f, (s->q - f->nose_q + 0.06f) / 0.17f)) *
            fabsf(f->key[0]) * 1.6f;
    dark += 0.20f * hill(hypotf(s->p / 0.15f, (s->q - f->lip_q - f->lip_low - f->open - 0.040f) / 0.034f));
    /* Wings of the nose and the fold that runs from there past the mouth. */
    float wing = fabsf(off) - f->nose_w * 1.12f - 0.05f * (s->q - f->nose_q);
    dark += 0.22f * hill(wing / 0.022f) * hill((s->q - f->nose_q - 0.005f) / 0.062f);
    float t = (s->q - f->nose_q - 0.01f) / 0.22f;
    if (t > -0.1f && t < 1.25f) {
        float fold = m - (f->nose_w * 1.2f + 0.015f + (0.09f + 0.03f * f->smile) * powf(clamp01(t), 1.15f));
        float deep = 0.03f + 0.30f * f->age + 0.14f * clamp01(f->smile);
        dark +=
            deep * (fold < 0 ? hill(fold / 0.03f) : hill(fold / 0.055f)) * ramp(-0.1f, 0.2f, t) * ramp(1.25f, 0.6f, t);
    }
    return 1 - dark;
}

/* Lines of age on the brow, at the eyes' corners and under them. */
static float wrinkles(const ld_face *f, const ld_face_spot *s) {
    float m = fabsf(s->p), e = (m - f->eye_p) / f->eye_a, dark = 0, old = clamp01(f->age * 1.5f - 0.25f);
    if (old > 0 && s->q < -0.22f) {
        float row = (s->q + 0.02f * noise1(f, s->p * 5 + 60) - 0.06f * s->p * s->p) * 17;
        dark += 0.16f * old * (0.5f + 0.5f * noise2(f, s->p * 3, row * 0.32f)) *
                hill(2.2f * (row - floorf(row) - 0.5f)) * ramp(-0.50f, -0.40f, s->q) * ramp(0.36f, 0.2f, m) *
                resolved(25 * s->pix);
    }
    if (old > 0 && e > 0.9f && e < 2) {
        float a = (s->q - 0.01f) / (m - f->eye_p + 0.05f) * 7;
        dark += 0.16f * old * hill(2.4f * (a - floorf(a) - 0.5f)) * hill((e - 1.4f) / 0.55f) * hill(s->q / 0.09f);
    }
    float bag = s->q - (0.062f + 0.02f * f->lid_low) + 0.045f * e * e;
    dark += f->bags * 0.26f * (bag > 0 ? hill(bag / 0.028f) : hill(bag / 0.05f)) * hill((e + 0.15f) / 1.05f);
    return 1 - dark;
}

static void nostrils(const ld_face *f, const ld_face_spot *s, ld_rgb *c) {
    float off = s->p - f->nose_p, q = s->q - f->nose_q - 0.036f;
    if (fabsf(q) > 0.05f || fabsf(off) > 0.16f)
        return;
    float m = fabsf(off) - f->nose_w * 0.50f;
    float d = (hypotf(m / 0.034f, (q + 0.30f * m) / 0.0135f) - 1) * 0.014f;
    *c = mix(*c, times(*c, (ld_rgb){0.22f, 0.13f, 0.12f}), 0.85f * inside(d, s->pix, 0.013f));
}

void ld_face_skin(const ld_face *f, const ld_face_spot *s, ld_rgb *c) {
    float cover = inside(s->skull, s->pix, 0.008f);
    if (cover <= 0) {
        ld_face_beard_on(f, s, lit(f, s->u, 0.5f, 0.6f, 0.2f), c);
        return;
    }
    if (cover < 1)
        ld_face_beard_on(f, s, lit(f, s->u, 0.5f, 0.6f, 0.2f), c);
    float n[3];
    normal_at(f, s, n);
    ld_rgb light = lit(f, n[0], n[1], n[2], 0.28f), hard = lit(f, n[0], n[1], n[2], 0.06f);
    light = (ld_rgb){light.r, lerp(light.g, hard.g, 0.75f), lerp(light.b, hard.b, 0.9f)};
    float shadow =
        hollow(f, s) * wrinkles(f, s) * lerp(0.52f, 1, ramp(-0.02f, 0.10f, s->locks)) * ramp(-0.35f, 0.09f, -s->skull);
    if (f->hat)
        shadow *= lerp(0.6f, 1, ramp(0, 0.12f, s->q - f->hat_q));
    /* Light that has passed through skin is redder in the shade. */
    light = times(light, (ld_rgb){powf(shadow, 0.8f), shadow, powf(shadow, 1.08f)});
    ld_rgb skin = times(albedo(f, s), light);
    float len = 1 / sqrtf(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]);
    float gleam = (n[0] * f->half[0] + n[1] * f->half[1] + n[2] * f->half[2]) * len;
    gleam = gleam > 0 ? gleam * gleam * gleam * gleam : 0;
    gleam = gleam * gleam;
    skin = plus(skin, scaled(f->key_rgb, f->oil * shadow * (0.45f * gleam + 0.9f * gleam * gleam * gleam)));
    nostrils(f, s, &skin);
    ld_face_mouth(f, s, light, &skin);
    ld_face_beard_on(f, s, light, &skin);
    ld_face_eyes(f, s, light, &skin);
    *c = mix(*c, skin, cover);
}

void ld_face_ears(const ld_face *f, const ld_face_spot *s, ld_rgb *c) {
    float side = s->u < 0 ? -1 : 1, away = f->sy * side;
    float m = side * s->u - f->wide * 0.965f + 0.10f * (away > 0 ? away : 0.4f * away), q = s->v - 0.10f;
    m -= 0.10f * -q + 0.012f;
    if (fabsf(m) > 0.14f || fabsf(q) > 0.22f)
        return;
    float rx = 0.072f - 0.05f * q, r = hypotf(m / rx, q / 0.145f), d = (r - 1) * 0.08f;
    float cover = inside(d, s->pix, 0.008f);
    if (cover > 0) {
        ld_rgb light = lit(f, side * (0.5f + 4 * m), 2 * q, 0.8f, 0.3f);
        float inner = hill(hypotf((m + 0.004f) / 0.045f, (q + 0.015f) / 0.095f));
        float rim = hill((r - 0.72f) / 0.2f) * ramp(0.1f, -0.05f, q);
        float dark = (1 - 0.5f * inner) * (1 - 0.22f * rim) * lerp(0.5f, 1, ramp(-0.02f, 0.06f, s->locks));
        ld_rgb skin = times(mix(f->skin, f->blush, 0.45f), light);
        *c = mix(*c, scaled(skin, 0.92f * dark), cover);
    }
    if (f->earring > 0) {
        float dx = m + 0.004f, dy = q - 0.150f - f->earring * 0.6f;
        float e = hypotf(dx, dy) - f->earring;
        ld_rgb metal = scaled(f->earring_rgb,
                              0.45f + 0.8f * hill(hypotf(dx + 0.3f * f->earring, dy + 0.4f * f->earring) / f->earring));
        *c = mix(*c, metal, inside(e, s->pix, 0.004f));
    }
}
