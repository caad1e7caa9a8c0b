/* Neck, shoulders and what they wear, in the head's scale but not its roll. */
#include "data/face_part.h"

static ld_rgb neck(const ld_face *f, float bu, float bv, float skull) {
    float a = bu / (f->neck_w * 1.25f + 0.3f * ramp(0.75f, 1.15f, bv));
    a = a < -1 ? -1 : a > 1 ? 1 : a;
    /* Cords of the throat, and the collar bones. */
    float cord = fabsf(bu) - 0.16f + 0.22f * (bv - 0.7f);
    float bone = bv - 1.02f + 0.10f * fabsf(bu);
    ld_rgb light = lit(f, a * 1.1f, 0.25f - 0.4f * ramp(0.8f, 1.1f, bv), sqrtf(1 - 0.8f * a * a), 0.22f);
    float shadow = lerp(0.33f, 1, ramp(-0.02f, 0.24f, skull + 0.10f * (bu * f->key[0] * -1)));
    shadow *= 1 - 0.10f * hill(cord / 0.06f) * ramp(1.1f, 0.9f, bv) -
              0.14f * hill(bone / 0.035f) * ramp(0.04f, 0.12f, fabsf(bu));
    return times(times(f->skin, light), (ld_rgb){powf(shadow, 0.85f), shadow, shadow});
}

/* Signed distance to the opening of the garment, negative where the neck shows. */
static float opening(const ld_face *f, float m, float bv) {
    float w = f->neck_w;
    switch (f->neckline) {
    case LD_NECK_VEE:
        return (m - (1.18f - bv) * (w + 0.05f) / 0.34f) * 0.75f;
    case LD_NECK_SHIRT:
    case LD_NECK_SUIT:
        return (m - (1.04f - bv) * (w + 0.02f) / 0.26f) * 0.75f;
    case LD_NECK_ROLL:
        return bv - 0.86f + 0.5f * m * m;
    case LD_NECK_WIDE:
        return (hypotf(m / (w + 0.24f), (bv - 0.80f) / 0.32f) - 1) * 0.3f;
    case LD_NECK_CREW:
        break;
    }
    return (hypotf(m / (w + 0.06f), (bv - 0.80f) / 0.20f) - 1) * 0.22f;
}

static ld_rgb cloth(const ld_face *f, float bu, float bv, float open, float pix) {
    float m = fabsf(bu), side = bu < 0 ? -1 : 1;
    ld_rgb c = f->cloth;
    float fold = noise2(f, bu * 2.2f + 14, bv * 1.3f) + 0.5f * noise2(f, bu * 6 + bv * 2, bv * 2.4f + 33);
    float a = bu * 0.55f + 0.16f * fold, b = -0.45f + 0.5f * ramp(0.9f, 1.4f, bv) + 0.14f * fold;
    if (f->pattern > 0 && f->neckline != LD_NECK_SUIT)
        c = mix(c, f->cloth2, 0.8f * ramp(-0.2f, 0.2f, sinf((bv + 0.12f * m * m) * f->pattern * 2.2f)));
    float dark = 1;
    if (f->neckline == LD_NECK_SHIRT || f->neckline == LD_NECK_SUIT) {
        float flap = open - 0.115f + 0.10f * (1.04f - bv), on = inside(flap, pix, 0.006f);
        ld_rgb shirt = f->neckline == LD_NECK_SUIT ? f->cloth2 : c;
        if (f->neckline == LD_NECK_SUIT) {
            float lapel = m - (1.26f - bv) * 0.75f, wide = lapel - 0.20f + 0.3f * fabsf(bv - 1.0f);
            c = mix(scaled(c, 0.95f - 0.25f * hill(wide / 0.03f)), scaled(c, 1.2f), inside(wide, pix, 0.006f));
            c = mix(c, shirt, inside(lapel, pix, 0.008f));
            dark *= 1 - 0.35f * hill(lapel / 0.03f);
            float knot = m - 0.055f - 0.05f * fabsf(bv - 1.06f);
            c = mix(c, scaled(f->tie, 1 - 3 * m), inside(knot, pix, 0.006f) * ramp(0.98f, 1.0f, bv));
        }
        c = mix(c, scaled(shirt, 1.05f), on);
        dark *= 1 - 0.4f * hill((flap - 0.012f) / 0.03f) * (flap > 0);
        if (f->neckline == LD_NECK_SHIRT)
            dark *= 1 - 0.4f * hill((bu - 0.03f) / 0.012f) * ramp(1.02f, 1.06f, bv) * resolved(30 * pix);
        a += 0.3f * side * on;
    } else if (f->neckline == LD_NECK_ROLL) {
        float tube = ramp(0.97f, 0.88f, bv) * ramp(f->neck_w + 0.14f, f->neck_w + 0.06f, m);
        a = lerp(a, bu / (f->neck_w * 1.1f), tube);
        dark *= (1 - 0.18f * tube * ramp(-0.4f, 0.6f, sinf(bu * 95)) * resolved(22 * pix)) *
                (1 - 0.2f * hill((bv - 0.98f) / 0.05f) * ramp(f->neck_w + 0.15f, f->neck_w, m));
    } else {
        dark *= 1 - 0.30f * hill((open - 0.040f) / 0.012f) * resolved(40 * pix);
    }
    dark *= lerp(0.72f, 1, ramp(0, 0.25f, m + 0.4f * (bv - 0.85f)));
    return scaled(times(c, lit(f, a, b, 0.8f, 0.1f)), dark);
}

void ld_face_body(const ld_face *f, const ld_face_spot *s, ld_rgb *c) {
    float bu = (s->x - f->cx * 0.75f + 0.10f * f->sy * f->scale) / f->scale, bv = (s->y - f->cy) / f->scale,
          m = fabsf(bu);
    if (bv < 0.3f)
        return;
    float flare = ramp(0.68f, 1.08f, bv);
    float nd = (m - f->neck_w - 0.20f * flare * flare) * 0.9f;
    float slope = 0.80f + 0.04f * f->shoulder + (f->fem ? 0.02f : 0);
    float rise = m - f->neck_w + 0.02f;
    rise = rise > 0 ? rise : 0;
    float sd = slope + 0.34f * rise * (1 + 0.5f * rise * rise) - bv;
    if (f->neckline == LD_NECK_ROLL) {
        float tube = fmaxf(m - f->neck_w - 0.045f - 0.1f * ramp(0.85f, 1, bv), 0.86f - 0.5f * m * m - bv);
        sd = sd < tube ? sd : tube;
    }
    float trunk = sd * 0.85f + 0.008f < nd ? sd * 0.85f + 0.008f : nd;
    float skin = inside(trunk, s->pix, 0.008f);
    if (skin <= 0 && sd > 0.02f)
        return;
    *c = mix(*c, neck(f, bu, bv, s->skull), skin);
    float open = opening(f, m, bv), dressed = fmaxf(sd * 0.85f, -open);
    float cover = inside(dressed, s->pix, 0.006f);
    *c = scaled(*c, 1 - 0.35f * hill(open / 0.05f) * (open < 0) * skin * (1 - cover));
    if (cover > 0) {
        ld_rgb t = cloth(f, bu, bv, open, s->pix);
        *c = mix(*c, scaled(t, lerp(0.6f, 1, ramp(0, 0.22f, s->skull))), cover);
    }
}
