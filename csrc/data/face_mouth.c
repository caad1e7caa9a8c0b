/* Mouth and beard. Across the mouth, t runs from -1 to 1 between its corners. */
#include "data/face_part.h"

static void teeth(float t, float depth, float pix, ld_rgb light, ld_rgb *c) {
    ld_rgb in = {0.045f, 0.012f, 0.012f};
    in = mix(in, (ld_rgb){0.22f, 0.06f, 0.06f}, ramp(0.6f, 1.1f, depth) * hill(t / 0.6f));
    float cell = t * 4.2f + 0.5f, gap = fabsf(cell - floorf(cell) - 0.5f);
    float enamel = (1 - 0.5f * t * t) * (1 - 0.13f * ramp(0.40f, 0.5f, gap) * resolved(18 * pix));
    ld_rgb tooth =
        times(scaled((ld_rgb){0.86f, 0.83f, 0.77f}, enamel), plus(scaled(light, 0.7f), (ld_rgb){0.28f, 0.28f, 0.28f}));
    float low = 0.92f - 0.30f * t * t - 0.05f * ramp(0.3f, 0.5f, gap);
    *c = mix(in, scaled(tooth, lerp(0.7f, 1, ramp(-0.05f, 0.3f, depth))), ramp(low + 0.10f, low - 0.04f, depth));
}

void ld_face_mouth(const ld_face *f, const ld_face_spot *s, ld_rgb light, ld_rgb *c) {
    float t = (s->p - 0.08f * f->sy) / f->lip_w, a = fabsf(t), bend = 1 - t * t;
    if (a > 1.35f || fabsf(s->q - f->lip_q) > 0.2f)
        return;
    float lift = f->smile * 0.040f,
          mid = f->lip_q + lift * (0.45f - t * t) + 0.006f * hill(t / 0.28f) - 0.004f * hill((a - 0.45f) / 0.3f);
    float y = s->q - mid, b = bend > 0 ? bend : 0;
    float gap_up = -0.20f * f->open * b, gap_low = f->open * b;
    float bow = 1 - 0.30f * hill(t / 0.20f);
    float top = gap_up - f->lip_up * (1 - powf(a < 1 ? a : 1, 1.5f)) * bow, low = gap_low + f->lip_low * powf(b, 0.85f);
    /* Beyond the corners the lips close to a point and the distance grows sideways. */
    float beyond = a > 0.96f ? (a - 0.96f) * f->lip_w : 0;
    float d = y - low > top - y ? y - low : top - y;
    d = beyond > 0 && beyond > d ? beyond : d;
    *c = scaled(*c, 1 - 0.30f * hill(hypotf((a - 1.03f) / 0.16f, y / 0.028f)));
    float cover = inside(d + 0.35f * f->lip_edge, s->pix, f->lip_edge);
    if (cover <= 0)
        return;
    float upper = y < 0.5f * (gap_up + gap_low), q;
    if (upper)
        q = (y - top) / (gap_up - top + 0.004f);
    else
        q = (y - gap_low) / (low - gap_low + 0.004f);
    q = clamp01(q);
    /* The upper lip looks down, the lower one up, with a highlight a third of the way. */
    float form = upper ? lerp(0.92f, 0.66f, q) : lerp(0.80f, 1.06f, hill((q - 0.35f) / 0.6f));
    float line = noise1(f, t * 22 + 340) * resolved(45 * s->pix * 2);
    ld_rgb lip = scaled(times(f->lip_rgb, light), form * (1 + 0.07f * line));
    if (!upper) {
        float shine = hill((q - 0.36f) / 0.30f) * hill((t - 0.25f * f->key[0]) / 0.55f) * (0.8f + 0.5f * line);
        lip = plus(lip, scaled(f->key_rgb, f->gloss * 0.8f * shine));
    }
    *c = mix(*c, lip, cover * 0.94f);
    float seam = fabsf(y - 0.5f * (gap_up + gap_low)) - 0.5f * (gap_low - gap_up);
    if (f->open > 0) {
        ld_rgb in;
        teeth(t, (y - gap_up) / (gap_low - gap_up + 0.003f), s->pix, light, &in);
        *c = mix(*c, in, inside(seam, s->pix, 0.006f) * (beyond > 0 ? 0 : 1) * ramp(0, 0.12f, b));
    }
    float dark = inside(fabsf(seam) - 0.0025f, s->pix, 0.009f) * ramp(1.04f, 0.9f, a);
    *c = mix(*c, times(*c, (ld_rgb){0.28f, 0.18f, 0.18f}), (f->open > 0 ? 0.5f : 0.85f) * dark);
}

/* How bearded the spot is, by the shape of each kind. */
static float growth(const ld_face *f, const ld_face_spot *s, float m, float edge) {
    float lip = f->lip_q, t = m / (f->lip_w * 1.18f);
    float lift = f->smile * 0.030f * (0.45f - t * t);
    /* A moustache lies between the nose and the mouth and hangs a little at its ends. */
    float droop = 0.035f * t * t, tash_q = lip + lift - f->lip_up - 0.020f + droop;
    float tash =
        ramp(1.12f, 0.88f, t + edge * 3) * ramp(0.042f, 0.026f, fabsf(s->q - tash_q + 0.004f) + edge + 0.012f * t * t);
    if (f->beard == LD_BEARD_MOUSTACHE)
        return tash;
    float below = s->q - lip - f->lip_low - f->open * hill(t);
    float soul = ramp(-0.01f, 0.02f, below + edge);
    if (f->beard == LD_BEARD_GOATEE) {
        float link = ramp(0.045f, 0.02f, fabsf(m - f->lip_w * 1.12f) + edge) *
                     ramp(tash_q - 0.02f, tash_q + 0.02f, s->q) * ramp(lip + 0.14f, lip + 0.1f, s->q);
        float chin =
            ramp(f->lip_w * 1.22f, f->lip_w * 1.0f, m + edge * 2) * soul * ramp(0.03f, 0.055f, below + m * 0.3f + edge);
        return fmaxf(fmaxf(tash, link), chin);
    }
    /* Cheek line: from the sideburn down to the end of the moustache. */
    float cheek = lerp(lip - 0.02f, 0.02f, ramp(0.20f, 0.52f, m)) + 0.04f * hill((m - 0.36f) / 0.14f);
    float jaw = ramp(-0.05f, 0.05f, s->q - cheek + edge * 3);
    float lips = t < 1.05f ? ramp(lip - f->lip_up, lip, s->q) * (1 - soul) * ramp(1.05f, 0.86f, t) : 0;
    jaw *= 1 - lips;
    jaw *= 1 - ramp(tash_q, tash_q - 0.05f, s->q) * ramp(f->lip_w * 1.5f, f->lip_w * 1.3f, m);
    return fmaxf(jaw, tash);
}

void ld_face_beard_on(const ld_face *f, const ld_face_spot *s, ld_rgb light, ld_rgb *c) {
    if (f->beard == LD_BEARD_NONE || s->q < 0 || s->q > 1.05f)
        return;
    float m = fabsf(s->p), reach = s->skull - f->beard_len * ramp(0.25f, 0.75f, s->q);
    if (reach > 0.03f)
        return;
    float k = s->p / (0.35f + s->q),
          strand = 0.6f * noise1(f, k * 46 + 12 + 0.9f * noise2(f, s->p * 9, s->q * 9)) * resolved(46 * s->pix);
    strand += 0.55f * noise2(f, k * 85, s->q * 17 + 6) * resolved(85 * s->pix);
    if (f->beard == LD_BEARD_STUBBLE) {
        float grain = noise2(f, s->p * 70 + 5, s->q * 60) * resolved(55 * s->pix);
        float a =
            growth(f, s, m, 0.01f * grain) * f->beard_dense * (0.62f + 0.45f * grain) * inside(s->skull, s->pix, 0.01f);
        *c = mix(*c, times(mix(f->beard_rgb, scaled(f->skin, 0.25f), 0.5f), light), clamp01(a) * 0.75f);
        return;
    }
    float a = growth(f, s, m, 0.012f * strand) * f->beard_dense * (1 + 0.22f * strand) *
              inside(reach + 0.016f * strand, s->pix, 0.02f);
    ld_rgb hair = scaled(times(f->beard_rgb, light), 0.85f + 0.55f * strand);
    hair = plus(hair, scaled(light, 0.018f * (1 + strand)));
    hair = scaled(hair, lerp(0.55f, 1, ramp(0.06f, -0.14f, s->skull)));
    *c = mix(*c, hair, clamp01(a));
}
