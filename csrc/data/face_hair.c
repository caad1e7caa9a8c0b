/* Hair. Strands are the family of half-ellipses that fall from the crown: the strand through (u, v) has the label
 * k = (u - part) / fan(v), where fan widens from 0 at the crown to 1 at the level of the eyes, and stays there. */
#include "data/face_part.h"

/* What all cuts have, then what is particular to one: close to the head, or full and long. */
static void shape(ld_face *f, const float *r) {
    f->behind = f->over_ears = 0;
    f->top = 0.06f + 0.05f * r[2];
    f->side = 0.025f + 0.02f * r[3];
    f->fall = 0.10f;
    f->burn = 0.02f + 0.16f * r[4] * (f->fem ? 0.4f : 1);
    f->line = -0.53f + 0.07f * r[5];
    f->line_pow = 2.0f + 1.2f * r[6];
    f->open_w = 0.475f + 0.02f * r[7];
    f->open_dw = 0;
    f->sweep = r[8] < 0.5f ? 0 : (r[8] < 0.75f ? -1 : 1) * (0.06f + 0.12f * r[9]);
    f->part = (r[10] < 0.35f ? 0 : r[10] < 0.68f ? -0.18f : 0.18f) + 0.06f * (r[11] - 0.5f);
    f->wave = 0.004f + 0.010f * r[12];
    f->wave_n = 5 + 4 * r[13];
    f->curl = f->bun_r = f->recede = 0;
    f->dense = 1;
    f->bangs = f->fem && r[14] < 0.28f;
    if (f->cut >= LD_CUT_BOB && f->cut <= LD_CUT_LONG_CURLY) {
        f->behind = f->over_ears = 1;
        f->side = 0.05f + 0.06f * r[3];
        f->top = 0.07f + 0.06f * r[2];
        f->open_w = 0.425f + 0.05f * r[7];
        f->open_dw = -0.06f + 0.16f * r[15];
        f->line_pow = 1.35f + 1.2f * r[6];
        f->fall = f->cut == LD_CUT_BOB ? 0.52f + 0.3f * r[16] : 1.0f + 0.6f * r[16];
        f->flare = f->cut == LD_CUT_BOB ? 0.02f + 0.14f * r[17] : 0.02f + 0.10f * r[17];
    }
}

static void shape_cropped(ld_face *f, const float *r) {
    switch (f->cut) {
    case LD_CUT_BALD:
        f->dense = 0;
        break;
    case LD_CUT_BUZZ:
        f->top = 0.015f;
        f->side = 0.008f;
        f->dense = 0.80f;
        f->sweep = 0;
        break;
    case LD_CUT_SHORT:
        f->bangs = f->bangs || r[14] > 0.75f;
        break;
    case LD_CUT_QUIFF:
        f->top = 0.13f + 0.07f * r[2];
        f->side = 0.012f;
        f->sweep *= 0.4f;
        f->line_pow = 3;
        break;
    case LD_CUT_RECEDING:
        f->line = -0.60f - 0.10f * r[5];
        f->recede = 0.10f + 0.12f * r[9];
        f->top = 0.03f + 0.02f * r[2];
        f->sweep = 0;
        f->dense = 0.9f;
        break;
    case LD_CUT_CURLY:
        f->curl = 0.6f + 0.4f * r[12];
        f->top = 0.10f + 0.07f * r[2];
        f->side = 0.04f + 0.04f * r[3];
        break;
    default:
        break;
    }
}

static void shape_full(ld_face *f, const float *r) {
    switch (f->cut) {
    case LD_CUT_AFRO:
        f->curl = 1;
        f->top = 0.12f + 0.14f * r[2];
        f->side = 0.10f + 0.18f * r[3];
        f->fall = 0.15f + 0.3f * r[16];
        f->behind = 1;
        f->sweep = 0;
        break;
    case LD_CUT_WAVY:
        f->wave = 0.022f + 0.018f * r[12];
        f->wave_n = 9 + 5 * r[13];
        f->side += 0.03f;
        break;
    case LD_CUT_LONG_CURLY:
        f->curl = 0.7f + 0.3f * r[12];
        f->side += 0.05f;
        f->flare += 0.06f;
        break;
    case LD_CUT_BUN:
        f->bun_r = 0.17f + 0.07f * r[16];
        f->bun_u = 0.14f * (r[17] - 0.5f);
        f->top = 0.03f + 0.02f * r[2];
        f->side = 0.015f;
        break;
    case LD_CUT_TAIL:
        f->bun_u = r[17] < 0.5f ? -1 : 1;
        f->top = 0.05f + 0.03f * r[2];
        f->side = 0.018f;
        break;
    default:
        break;
    }
}

static void colour(ld_face *f, const float *r, float tone) {
    const ld_rgb list[] = {stored(26, 22, 22),  stored(40, 29, 25),   stored(62, 43, 32),    stored(92, 62, 42),
                           stored(128, 88, 56), stored(168, 124, 78), stored(206, 166, 110), stored(228, 200, 152)};
    float x = r[0] * (tone > 0.5f ? 2.2f : 7);
    int i = (int)x < 6 ? (int)x : 6;
    ld_rgb c = mix(list[i], list[i + 1], x - (float)i);
    if (tone < 0.45f && r[1] < 0.12f)
        c = mix(stored(112, 48, 26), stored(196, 100, 52), r[18]);
    if (f->fem && r[19] < 0.05f) {
        const ld_rgb dyed[] = {stored(196, 92, 140), stored(76, 112, 170), stored(112, 74, 150), stored(60, 130, 120)};
        c = dyed[(int)(r[18] * 3.99f)];
    }
    float grey = clamp01(f->age * 2.6f - 1.15f + 0.5f * (r[18] - 0.5f));
    f->brow_rgb = scaled(mix(c, stored(150, 146, 142), 0.6f * grey), 0.55f);
    c = mix(c, stored(196, 193, 190), grey * 0.9f);
    f->hair = c;
    f->hair_light = plus(scaled(c, 0.65f), (ld_rgb){0.055f, 0.045f, 0.036f});
    f->gleam = 0.9f + 1.0f * r[15];
    float bright = 0.3f * c.r + 0.6f * c.g + 0.1f * c.b;
    if (bright > 0.16f)
        f->brow_rgb = scaled(f->brow_rgb, 0.55f);
}

void ld_face_draw_hair(ld_face *f, const float *r, float tone) {
    static const float fem[13] = {0, 0.015f, 0.05f, 0, 0, 0.05f, 0.06f, 0.19f, 0.25f, 0.17f, 0.08f, 0.08f, 0.055f};
    static const float masc[13] = {0.07f, 0.13f, 0.33f, 0.17f, 0.06f, 0.12f, 0.04f, 0.02f, 0.03f, 0.02f, 0.01f, 0, 0};
    float at = r[20], sum = 0;
    f->cut = LD_CUT_SHORT;
    for (int i = 0; i < 13; i++) {
        float w = f->fem ? fem[i] : masc[i];
        if (at >= sum && at < sum + w)
            f->cut = (ld_face_cut)i;
        sum += w;
    }
    if (!f->fem && f->age > 0.5f && r[21] < 0.4f)
        f->cut = r[21] < 0.15f ? LD_CUT_BALD : LD_CUT_RECEDING;
    if (f->cut == LD_CUT_AFRO && tone < 0.45f)
        f->cut = f->fem ? LD_CUT_LONG_CURLY : LD_CUT_CURLY;
    shape(f, r);
    shape_cropped(f, r);
    shape_full(f, r);
    if (f->cut == LD_CUT_AFRO || f->cut == LD_CUT_BUZZ || f->cut >= LD_CUT_BUN || f->cut == LD_CUT_QUIFF)
        f->bangs = 0;
    if (f->bangs) {
        f->line = -0.285f + 0.05f * r[5];
        f->line_pow = 3.2f;
        f->sweep *= 0.25f;
    }
    if (f->hat) {
        f->top = fminf(f->top, 0.02f);
        f->side = fminf(f->side, 0.06f);
    }
    colour(f, r, tone);
}

static float fan(float v) {
    float t = (0.02f - v) / 1.06f;
    if (t < 0)
        return 1;
    t = 1 - t * t;
    return t > 0.02f ? sqrtf(t) : 0.1414f;
}

/* Signed distance to the outline of all hair, as if there were no face. */
static float outline(const ld_face *f, const ld_face_spot *s) {
    float w = f->wide + f->side, h = f->crown + f->top, u = s->u + 0.06f * f->sy, d;
    if (s->v < LD_FACE_LEVEL) {
        float t = (LD_FACE_LEVEL - s->v) / h, n = LD_FACE_DOME - 0.4f, m = powf(t, n - 1), du = 2 * u / (w * w),
              dv = n * m / h;
        d = (sq(u / w) + m * t - 1) / (sqrtf(du * du + dv * dv) + 0.2f);
    } else {
        float t = s->v - LD_FACE_LEVEL, side = fabsf(u) - w - f->flare * ramp(0, 0.8f, t) +
                                               0.15f * (f->cut == LD_CUT_BOB ? ramp(0.3f, 0.75f, t) : 0);
        float end = s->v - f->fall + 0.12f * u * u;
        d = side > end ? side : end;
        if (f->cut == LD_CUT_AFRO)
            d = (hypotf(u / w, t / (f->fall)) - 1) * f->fall;
    }
    if (f->curl > 0)
        d += f->curl * (0.020f * noise2(f, s->u * 9 + 17, s->v * 9) + 0.014f * noise2(f, s->u * 21, s->v * 21 + 30));
    return d;
}

float ld_face_locks(const ld_face *f, const ld_face_spot *s) {
    if (f->dense <= 0)
        return 1;
    float out = outline(f, s);
    if (out > 0.15f)
        return out;
    float k = (s->u - f->part) / fan(s->v), m = fabsf(s->p), open;
    float fray = 0.75f * noise1(f, k * 13 + 700) + 0.45f * noise1(f, k * 60 + 1300) * resolved(60 * s->pix);
    float swept = f->sweep * (s->p - f->part) * (f->sweep * (s->p - f->part) > 0 ? 9 : 1.5f);
    float line = f->line + swept - f->recede * hill((m - 0.26f) / 0.19f) + (f->bangs ? 0.030f * fray : 0.018f * fray);
    if (line > -0.20f)
        line = -0.20f;
    const float level = 0.06f;
    if (s->q < level) {
        float h = level - line, t = (level - s->q) / h, n = f->line_pow, w = f->open_w;
        float e = powf(t, n - 1), du = 2 * s->p / (w * w), dv = n * e / h;
        open = (sq(s->p / w) + e * t - 1) / (sqrtf(du * du + dv * dv) + 0.2f);
    } else {
        open = m - f->open_w - f->open_dw * (s->q - level);
    }
    if (!f->over_ears)
        open -= 0.06f * ramp(-0.16f, 0.16f, s->q);
    float d = -open - 0.004f * fray;
    d = d > out ? d : out;
    if (!f->over_ears && f->cut != LD_CUT_AFRO) {
        float end = s->v - f->burn - 0.02f * fray;
        d = d > end ? d : end;
        /* Cropped at the sides: nothing hangs free of the skull below the temples. */
        float crop = s->skull - f->side * ramp(0.10f, -0.2f, s->v) - 0.4f * ramp(-0.15f, -0.6f, s->v);
        d = crop > d ? crop : d;
    }
    return d;
}

/* Light on a strand: t is its direction, n the surface it lies on, shift moves the highlight from strand to strand. */
static ld_rgb strand_light(const ld_face *f, const float t[3], const float n[3], float shift, ld_rgb base) {
    float tl = t[0] * f->key[0] + t[1] * f->key[1] + t[2] * f->key[2] + shift;
    float th = t[0] * f->half[0] + t[1] * f->half[1] + t[2] * f->half[2] + shift;
    float gleam = 1 - th * th, across = 1 - tl * tl;
    gleam = gleam > 0 ? gleam * gleam * gleam : 0;
    gleam = gleam * gleam * gleam * gleam;
    ld_rgb light = lit(f, n[0], n[1], n[2], 0.15f);
    ld_rgb c = times(scaled(base, 0.62f + 0.38f * (across > 0 ? across : 0)), light);
    float front = clamp01(n[2] * 1.3f) * clamp01(0.5f + n[0] * f->key[0] + n[1] * f->key[1]);
    return plus(c, times(scaled(f->hair_light, f->gleam * gleam * front), f->key_rgb));
}

static float tufts(const ld_face *f, float u, float v, float pix) {
    float bend = noise2(f, u * 7 + 3, v * 7);
    return 0.55f * noise2(f, u * 13 + 0.8f * bend, v * 11 + 30) +
           0.42f * noise2(f, u * 27 + bend, v * 25) * resolved(20 * pix) +
           0.35f * noise2(f, u * 52, v * 46 + 9 + bend) * resolved(40 * pix);
}

static ld_rgb hair_colour(const ld_face *f, const ld_face_spot *s, float depth) {
    float g = fan(s->v), w = f->wide + f->side, a = s->u / (w * 1.04f),
          b = s->v < 0 ? s->v / (f->crown + f->top) : 0.25f * s->v;
    float bend = f->wave * sinf(s->v * f->wave_n + 2.5f * noise1(f, s->u * 3 + 50));
    float k = (s->u + bend * ramp(-0.6f, 0.1f, s->v) - f->part) / g, foot = s->pix / g;
    float along = s->v * 1.5f;
    float fine = 0.60f * noise2(f, k * 15 + 31, along * 1.1f) * resolved(15 * foot) +
                 0.45f * noise2(f, k * 38 + 7, along * 1.6f + 20) * resolved(38 * foot) +
                 0.40f * noise2(f, k * 90, along * 2 + 40) * resolved(90 * foot);
    float t[3] = {k * (s->v < 0.02f ? 0.9f * (0.02f - s->v) / (g + 0.1f) : 0.05f), 1, 0}, n[3];
    if (f->wave > 0.015f)
        t[0] += f->wave * f->wave_n * 0.55f * cosf(s->v * f->wave_n + 2.5f * noise1(f, s->u * 3 + 50));
    a = a < -0.98f ? -0.98f : a > 0.98f ? 0.98f : a;
    a *= 0.55f + 0.45f * a * a;
    b *= 0.7f + 0.25f * b * b;
    n[2] = 1 - a * a - b * b;
    n[2] = n[2] > 0.05f ? sqrtf(n[2]) : 0.22f;
    n[0] = a;
    n[1] = b;
    float body = 1;
    if (f->curl > 0) {
        /* Curls: a tufted surface, bright where it turns to the light. */
        float tuft = tufts(f, s->u, s->v, s->pix),
              lean = tuft - tufts(f, s->u + 0.022f * f->key[0], s->v + 0.03f * f->key[1], s->pix);
        body = 1 + f->curl * (0.42f * lean + 0.32f * tuft);
        n[1] -= f->curl * 0.15f * lean;
        fine *= 1 - 0.7f * f->curl;
    }
    t[2] = -(n[0] * t[0] + n[1] * t[1]) / n[2];
    float len = 1 / sqrtf(t[0] * t[0] + t[1] * t[1] + t[2] * t[2]);
    for (int i = 0; i < 3; i++)
        t[i] *= len;
    ld_rgb base = mix(f->hair, f->hair_light, 0.16f * clamp01(0.5f + fine));
    ld_rgb c = strand_light(f, t, n, 0.18f * fine - 0.16f, scaled(base, body * (1 + 0.42f * fine)));
    /* Dark at the roots along the parting, and where the hair passes under itself near its edge. */
    c = scaled(c, 1 - 0.22f * hill((s->u - f->part) / 0.03f) * ramp(-0.5f, -0.7f, s->v) * (f->curl <= 0 && !f->bangs));
    return scaled(c, lerp(0.62f, 1, ramp(0, 0.10f, depth)));
}

static void tied(const ld_face *f, const ld_face_spot *s, ld_rgb *c) {
    float dx, dy, d;
    if (f->bun_r > 0) {
        dx = s->u - f->bun_u;
        dy = s->v + f->crown - 0.09f + f->bun_r * 0.35f;
        d = hypotf(dx, dy * 1.15f) - f->bun_r;
    } else {
        /* A tail over one shoulder. */
        float mid = f->bun_u * (f->wide - 0.17f + 0.18f * ramp(-0.2f, 0.45f, s->v) - 0.06f * ramp(0.6f, 1.2f, s->v));
        dx = s->u - mid;
        dy = 0;
        d = fmaxf(fabsf(dx) - 0.11f * ramp(-0.25f, 0.1f, s->v) * (1 - 0.3f * s->v), fmaxf(-0.15f - s->v, s->v - 1.3f));
    }
    d += 0.010f * noise1(f, (dx + dy) * 30 + 210);
    float cover = inside(d, s->pix, 0.012f);
    if (cover <= 0)
        return;
    float lines = noise2(f, dx * 40 + 3 * dy, 4 * (dx * dx + dy * dy) + s->v * 2) * resolved(40 * s->pix);
    float r = f->bun_r > 0 ? f->bun_r : 0.13f;
    ld_rgb light = lit(f, dx / r, dy / r - 0.2f, 0.7f, 0.15f);
    ld_rgb h = scaled(times(mix(f->hair, f->hair_light, 0.12f + 0.12f * lines), light), 0.8f + 0.32f * lines);
    *c = mix(*c, scaled(h, lerp(0.5f, 1, ramp(0, 0.08f, -d))), cover);
}

void ld_face_hair_back(const ld_face *f, const ld_face_spot *s, ld_rgb *c) {
    if ((f->cut == LD_CUT_BUN && !f->hat) || f->cut == LD_CUT_TAIL)
        tied(f, s, c);
    if (!f->behind)
        return;
    float d = outline(f, s) + 0.012f;
    float k = (s->u - f->part) / fan(s->v);
    d += 0.010f * noise1(f, k * 30 + 90) + 0.03f * noise1(f, k * 17 + 5) * ramp(f->fall - 0.25f, f->fall, s->v);
    float cover = inside(d, s->pix, 0.012f);
    if (cover > 0) {
        float shade = lerp(0.22f, 0.6f, ramp(0, -0.16f, -s->skull - 0.02f));
        *c = mix(*c, scaled(hair_colour(f, s, 0.2f), shade), cover);
    }
}

void ld_face_hair_front(const ld_face *f, const ld_face_spot *s, ld_rgb *c) {
    if (f->dense <= 0 || s->locks > 0.05f)
        return;
    float k = (s->u - f->part) / fan(s->v), d = s->locks;
    /* Single strands break the edge. */
    d += 0.008f * noise1(f, k * 42 + 2000) + 0.006f * noise1(f, k * 95 + 2500) * resolved(95 * s->pix);
    if (s->v > 0.3f)
        d += 0.05f * noise1(f, k * 17 + 5) * ramp(f->fall - 0.3f, f->fall, s->v);
    float soft = f->cut == LD_CUT_BUZZ || f->cut == LD_CUT_RECEDING ? 0.05f : f->bangs ? 0.014f : 0.022f;
    float cover = inside(d, s->pix, soft) * f->dense;
    if (!f->over_ears && f->cut != LD_CUT_AFRO)
        cover *= lerp(1, 0.25f, ramp(f->burn - 0.22f, f->burn, s->v));
    if (f->cut == LD_CUT_BUZZ)
        cover *= 0.88f + 0.2f * noise2(f, s->u * 60, s->v * 60) * resolved(60 * s->pix);
    if (cover > 0)
        *c = mix(*c, hair_colour(f, s, -d), clamp01(cover));
}
