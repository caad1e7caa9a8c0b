/* Glasses and hats. */
#include "data/face_part.h"

/* Rounded box of half sizes w, h about the origin: signed distance. */
static float box(float x, float y, float w, float h, float round) {
    float a = fabsf(x) - w + round, b = fabsf(y) - h + round;
    float out = hypotf(a > 0 ? a : 0, b > 0 ? b : 0), in = a > b ? a : b;
    return out + (in < 0 ? in : 0) - round;
}

void ld_face_glasses(const ld_face *f, const ld_face_spot *s, ld_rgb *c) {
    if (!f->glasses || fabsf(s->q - 0.02f) > 0.24f || fabsf(s->u) > f->wide + 0.03f)
        return;
    float m = fabsf(s->p), x = m - f->eye_p - 0.012f, y = s->q - 0.018f, t = f->glass_t;
    float lens = box(x, y - 0.06f * x * y, f->glass_w, f->glass_h, f->glass_h * f->glass_round);
    float cover = inside(lens, s->pix, 0.004f);
    float streak = ramp(-0.03f, 0.03f, x + 0.7f * y + 0.05f) * ramp(0.09f, 0.03f, x + 0.7f * y + 0.05f);
    if (f->shades) {
        ld_rgb dark = mix((ld_rgb){0.012f, 0.011f, 0.012f}, (ld_rgb){0.10f, 0.07f, 0.05f}, ramp(-0.1f, 0.2f, y));
        dark = plus(dark, scaled(f->back[0], 0.12f * ramp(0.05f, -0.12f, y)));
        *c = mix(*c, dark, 0.93f * cover);
    } else {
        *c = mix(*c, plus(scaled(*c, 0.95f), (ld_rgb){0.01f, 0.013f, 0.014f}), cover);
    }
    *c = plus(*c, scaled(f->key_rgb, (f->shades ? 0.10f : 0.06f) * streak * cover));
    float rim = fabsf(lens) - t;
    float gap = f->eye_p + 0.012f - f->glass_w;
    float arch = fabsf(y + 0.030f + 0.030f * (1 - sq(s->p / (gap > 0.02f ? gap : 0.02f)))) - t * 0.8f;
    float bridge = m < gap ? arch : 1;
    float arm = m > f->eye_p + f->glass_w ? fabsf(y + 0.045f) - t * 0.9f : 1;
    float frame = rim < bridge ? rim : bridge;
    frame = frame < arm ? frame : arm;
    if (s->skull > 0.02f)
        frame = 1;
    /* The frame's shadow falls a little below it. */
    *c = scaled(*c, 1 - 0.22f * hill((fabsf(lens - 0.012f) + (y < 0 ? 0.03f : 0)) / 0.03f) * (frame > 0));
    float gloss = 0.55f + 0.6f * ramp(0.3f, -1, y / f->glass_h);
    *c = mix(*c, scaled(times(f->glass_rgb, plus(f->amb_rgb, scaled(f->key_rgb, 0.7f))), gloss),
             inside(frame, s->pix, 0.004f));
}

/* Distance to the dome of a hat above its rim. */
static float dome(const ld_face *f, const ld_face_spot *s, float extra, float flat) {
    float w = f->wide + fmaxf(f->side * 0.4f, 0.02f) + extra, h = f->crown + 0.05f + extra, u = s->u + 0.05f * f->sy;
    float t = (LD_FACE_LEVEL - s->v) / h;
    if (t <= 0)
        return 1;
    float e = powf(t, flat - 1), du = 2 * u / (w * w), dv = flat * e / h;
    return (sq(u / w) + e * t - 1) / (sqrtf(du * du + dv * dv) + 0.2f);
}

static ld_rgb felt(const ld_face *f, const ld_face_spot *s, ld_rgb base, float lean) {
    float fold = noise2(f, s->u * 3 + 5, s->v * 3 + 50);
    return times(base, lit(f, s->u * 1.3f + 0.1f * fold, lean + 0.1f * fold, 0.75f, 0.12f));
}

void ld_face_hat_on(const ld_face *f, const ld_face_spot *s, ld_rgb *c) {
    if (!f->hat || s->v > 0.05f)
        return;
    float rim = f->hat_q + 0.16f * s->p * s->p, below = s->q - rim, d;
    ld_rgb cloth;
    if (f->hat == LD_HAT_BEANIE) {
        d = fmaxf(dome(f, s, 0.035f + 0.02f * ramp(-0.16f, -0.14f, below), 2.4f), below);
        float rib = sinf(s->u / sqrtf(fmaxf(0.1f, 1 - sq(s->v * 0.95f))) * 70), fold = ramp(-0.17f, -0.155f, below);
        cloth = felt(f, s, mix(f->hat_rgb, f->hat_band, 0.35f * fold), s->v * 0.8f);
        cloth = scaled(cloth, (1 + 0.13f * rib * resolved(14 * s->pix)) * (1 - 0.4f * hill((below + 0.165f) / 0.015f)));
    } else if (f->hat == LD_HAT_CAP) {
        d = fmaxf(dome(f, s, 0.03f, 2.4f), below + 0.02f);
        float seam = hill(s->p / 0.010f) + hill((fabsf(s->p) - 0.30f - 0.3f * s->q) / 0.010f);
        cloth = scaled(felt(f, s, f->hat_rgb, s->v * 0.9f), 1 - 0.3f * clamp01(seam) * resolved(30 * s->pix));
        float m = s->p - 0.25f * f->sy,
              peak = fmaxf(hypotf(m / 0.50f, (s->q - f->hat_q + 0.06f) / 0.17f) - 1, -2) * 0.15f;
        peak = fmaxf(peak, f->hat_q - 0.05f + 0.10f * m * m - s->q);
        float on = inside(peak, s->pix, 0.006f);
        *c = mix(*c, cloth, inside(d, s->pix, 0.006f));
        ld_rgb bill = felt(f, s, f->hat_band, -0.35f + 2.2f * (s->q - f->hat_q));
        *c = mix(*c, scaled(bill, 0.9f - 0.4f * hill((s->q - f->hat_q + 0.05f - 0.1f * m * m) / 0.03f)), on);
        return;
    } else {
        d = fmaxf(dome(f, s, 0.01f, 3.2f), below);
        cloth = felt(f, s, mix(f->hat_rgb, f->hat_band, ramp(-0.13f, -0.125f, below)), -0.25f);
        float brim =
            (hypotf((s->u + 0.05f * f->sy) / 0.92f, (s->v - f->hat_q - 0.04f - 0.14f * s->u * s->u + 0.06f) / 0.105f) -
             1) *
            0.1f;
        *c = mix(*c, cloth, inside(d, s->pix, 0.006f));
        ld_rgb flat = felt(f, s, f->hat_rgb, -0.7f + 5 * (s->v - f->hat_q));
        *c = mix(*c, scaled(flat, 0.8f), inside(brim, s->pix, 0.006f));
        return;
    }
    *c = mix(*c, cloth, inside(d, s->pix, 0.006f));
}
