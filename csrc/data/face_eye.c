/* Eyes and brows. Within one eye, e runs from -1 at the inner corner to 1 at the outer, y downwards in half-widths. */
#include "data/face_part.h"

static ld_rgb ball(const ld_face *f, float gp, float e, float y, float lid, float pix) {
    float dx = gp - f->gaze_p, dy = y - f->gaze_q + 0.06f, r = sqrtf(dx * dx + dy * dy);
    const float radius = 0.50f;
    ld_rgb white = mix((ld_rgb){0.80f, 0.78f, 0.76f}, (ld_rgb){0.55f, 0.36f, 0.33f}, 0.25f * e * e);
    ld_rgb c = scaled(white, 1 - 0.28f * e * e);
    float pink = hill((e + 1) / 0.20f);
    c = mix(c, (ld_rgb){0.52f, 0.22f, 0.19f}, 0.7f * pink);
    if (r < radius * 1.2f) {
        float t = r / radius, turn = dx * 9 / (r + 0.1f) + dy * 5 / (r + 0.1f);
        ld_rgb iris = scaled(f->iris, 0.85f + 0.75f * clamp01((dx * -f->key[0] + dy * -f->key[1]) / radius));
        iris = scaled(iris, 1 + 0.3f * noise1(f, turn * 3 + 500) * resolved(8 * pix / 0.12f));
        iris = scaled(iris, 1 - 0.72f * ramp(0.70f, 1.0f, t));
        iris = mix((ld_rgb){0.004f, 0.003f, 0.003f}, iris, ramp(f->pupil - 0.09f, f->pupil + 0.09f, t));
        c = mix(c, iris, inside((r - radius) * f->eye_a, pix, 0.009f));
    }
    c = scaled(c, lerp(0.42f, 1, ramp(-0.02f, 0.30f, lid)));
    float gl = hypotf(dx - 0.19f * (f->key[0] > 0 ? 1 : -1), dy + 0.17f) - 0.105f;
    c = mix(c, (ld_rgb){0.97f, 0.97f, 0.97f}, 0.95f * inside(gl * f->eye_a, pix, 0.006f));
    return c;
}

static void eye(const ld_face *f, const ld_face_spot *s, float side, ld_rgb light, ld_rgb *c) {
    float gp = (s->p - side * f->eye_p) / f->eye_a, e = gp * side;
    float y = s->q / f->eye_a + f->eye_tilt * e, bend = 1 - e * e;
    float squint = f->smile > 0 ? f->smile : 0;
    float up = -f->lid_up * (1 - 0.10f * squint) * (bend > 0 ? powf(bend, 0.8f) : bend) * (1 - 0.12f * e);
    float low = (f->lid_low - 0.07f * squint) * bend * (1 + 0.18f * e);
    float du = (up - y) * f->eye_a, dl = (y - low) * f->eye_a, d = du > dl ? du : dl;
    d *= 0.85f;
    /* Lid above: its shadow colour, then the crease that bounds it. */
    float lid = up - y;
    if (f->shadow > 0 && lid > -0.1f)
        *c = mix(*c, times(f->shadow_rgb, light),
                 f->shadow * ramp(0.75f, 0.15f, lid) * ramp(1.45f, 0.7f, fabsf(e)) * ramp(-0.1f, 0.02f, lid));
    float crease = y - (-f->lid_up * (1 - 0.32f * e * e) - 0.17f);
    *c = scaled(*c,
                1 - 0.36f * f->crease * (crease > 0 ? hill(crease / 0.11f) : hill(crease / 0.22f)) * hill(e / 1.25f));
    float under = y - low;
    *c = scaled(*c, 1 - 0.16f * hill((under - 0.08f) / 0.16f) * hill(e / 1.15f));
    float cover = inside(d, s->pix, 0.008f);
    if (cover > 0) {
        ld_rgb shade = plus(scaled(light, 0.75f), (ld_rgb){0.20f, 0.20f, 0.20f});
        *c = mix(*c, times(ball(f, gp, e, y, y - up, s->pix), shade), cover);
    }
    /* Lashes: a band along the upper lid, thicker outwards, with a short wing; a fine one below. */
    float reach = f->fem ? 1.22f : 1.08f, wing = e > 0.75f ? (e - 0.75f) * 0.42f * f->lash : 0;
    float edge = (bend > 0 ? up : -0.1f * bend) - wing,
          thick = (0.050f + 0.055f * f->lash * ramp(-1, 0.9f, e)) * ramp(reach, 0.85f, e) * ramp(-1.08f, -0.75f, e);
    float band = (fabsf(y - edge) - thick) * f->eye_a;
    *c = mix(*c, f->lash_rgb, clamp01(0.62f + 0.33f * f->lash) * inside(band, s->pix, 0.008f) * (thick > 0.012f));
    float rim = (fabsf(y - low - 0.02f) - 0.016f) * f->eye_a;
    *c = mix(*c, scaled(*c, 0.30f),
             (0.30f + 0.30f * f->lash) * inside(rim, s->pix, 0.012f) * ramp(-0.9f, 0.2f, e) * ramp(1.04f, 0.9f, e));
}

static void brow(const ld_face *f, const ld_face_spot *s, ld_rgb light, ld_rgb *c) {
    float m = fabsf(s->p), x0 = f->eye_p - f->eye_a * 1.18f, x1 = f->eye_p + f->eye_a * 1.45f, t = (m - x0) / (x1 - x0);
    if (t < -0.1f || t > 1.08f)
        return;
    float peak = t < 0.62f ? (t - 0.62f) / 0.62f : (t - 0.62f) / 0.46f;
    float side = s->p < 0 ? -1 : 1;
    float y =
        s->q - (f->brow_q + f->brow_tilt * side * 0.3f - f->brow_arch * (1 - peak * peak) + f->brow_tilt * (0.5f - t));
    float thick = f->brow_thick * ramp(-0.10f, 0.16f, t) * (1 - 0.75f * ramp(0.45f, 1.05f, t));
    float strand = noise1(f, (m * 0.8f - y * (1.1f - 1.3f * t)) * 190 + 900 * (side > 0) + 77);
    float d = fabsf(y) - thick + 0.003f * strand * resolved(95 * s->pix);
    float cover = inside(d, s->pix, 0.013f) * f->brow_dense * (1 + 0.25f * strand * resolved(95 * s->pix)) *
                  ramp(1.08f, 0.95f, t);
    *c = mix(*c, times(f->brow_rgb, plus(scaled(light, 0.8f), (ld_rgb){0.1f, 0.1f, 0.1f})), clamp01(cover));
}

void ld_face_eyes(const ld_face *f, const ld_face_spot *s, ld_rgb light, ld_rgb *c) {
    if (s->q < -0.32f || s->q > 0.14f)
        return;
    if (s->q > -0.17f && fabsf(fabsf(s->p) - f->eye_p) < f->eye_a * 1.55f)
        eye(f, s, s->p < 0 ? -1 : 1, light, c);
    if (s->q < -0.06f)
        brow(f, s, light, c);
}
