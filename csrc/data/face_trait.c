/* Who it is: every attribute of a face from the Philox stream of its index. Attributes read numbered uniforms, each its
 * own, so that no choice moves another. */
#include "base/rng.h"
#include "data/face_part.h"

#include <string.h>

enum { TRAITS = 256 };

/* Roughly normal: mean 0, deviation 1, within -2.45 .. 2.45; from two uniforms. */
static float bell(const float *r) {
    return (r[0] + r[1] - 1) * 2.45f;
}

static float between(float r, float a, float b) {
    return a + (b - a) * r;
}

static ld_rgb palette(const ld_rgb *list, int n, float t) {
    float x = clamp01(t) * (float)(n - 1);
    int i = (int)x < n - 1 ? (int)x : n - 2;
    return mix(list[i], list[i + 1], x - (float)i);
}

/* A colour by hue (0 .. 1), saturation and value, as stored, made linear. */
static ld_rgb hsv(float h, float s, float v) {
    float c[3];
    for (int i = 0; i < 3; i++) {
        float t = h + (float)(3 - i) / 3;
        t = fabsf((t - floorf(t)) * 6 - 3) - 1;
        c[i] = v * (1 - s + s * clamp01(t));
    }
    return (ld_rgb){sq(c[0]), sq(c[1]), sq(c[2])};
}

static void draw_pose(ld_face *f, const float *r) {
    float roll = 0.09f * bell(r), yaw = 0.125f * bell(r + 2);
    f->cosr = cosf(roll);
    f->sinr = sinf(roll);
    f->sy = sinf(yaw);
    f->cosy = cosf(yaw);
    f->pitch = 0.018f * bell(r + 4);
    f->scale = between(r[6], 0.88f, 0.99f);
    f->cx = 0.035f * bell(r + 7) - 0.16f * f->sy;
    f->cy = 0.07f + 0.03f * bell(r + 9);
}

static void draw_head(ld_face *f, const float *r) {
    f->fem = r[0] < 0.5f;
    f->age = r[1] * r[1] * 0.85f + 0.12f * r[2];
    float full = 0.5f * bell(r + 3);
    f->wide = 0.556f + 0.022f * full + 0.01f * bell(r + 5) - (f->fem ? 0.012f : 0);
    f->crown = between(r[7], 0.74f, 0.80f);
    f->chin = 0.835f + 0.02f * bell(r + 8) - (f->fem ? 0.02f : 0);
    f->jaw = (f->fem ? 2.05f : 2.3f) + 0.2f * bell(r + 10) + 0.25f * full;
    f->taper = (f->fem ? 0.25f : 0.19f) + 0.035f * bell(r + 12) - 0.04f * full;
    f->neck_w = (f->fem ? 0.265f : 0.335f) + 0.015f * bell(r + 14) + 0.01f * full;
    f->shoulder = between(r[16], 0, 1);
}

static float draw_skin(ld_face *f, const float *r) {
    const ld_rgb list[] = {stored(246, 212, 188), stored(240, 199, 170), stored(231, 183, 150), stored(219, 168, 133),
                           stored(198, 143, 106), stored(170, 115, 80),  stored(135, 88, 60),   stored(100, 65, 46)};
    float tone = r[0] < 0.6f ? 0.55f * r[1] : between(r[1], 0.35f, 1);
    ld_rgb c = palette(list, 8, tone);
    float warm = 0.035f * bell(r + 2), red = 0.03f * bell(r + 4);
    f->skin = (ld_rgb){c.r * (1 + red), c.g * (1 - 0.5f * red), c.b * (1 - warm - red)};
    f->blush = times(f->skin, (ld_rgb){1.08f, 0.66f, 0.66f});
    f->flush = between(r[6], 0.15f, 0.7f) * (f->fem ? 1 : 0.8f);
    f->freckles = tone < 0.4f && r[7] < 0.14f ? between(r[8], 0.3f, 1) : 0;
    f->oil = between(r[9], 0.03f, 0.14f) * (0.8f + 0.8f * tone);
    return tone;
}

static void unit3(float v[3]) {
    float n = 1 / sqrtf(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
    for (int i = 0; i < 3; i++)
        v[i] *= n;
}

static void draw_light(ld_face *f, const float *r, float tone) {
    float side = r[0] < 0.5f ? -1 : 1, key = between(r[3], 0.62f, 0.86f), warm = 0.06f * bell(r + 4);
    f->key[0] = side * between(r[1], 0.08f, 0.85f);
    f->key[1] = -between(r[2], 0.25f, 0.65f);
    f->key[2] = 0.85f;
    unit3(f->key);
    f->half[0] = f->key[0];
    f->half[1] = f->key[1];
    f->half[2] = f->key[2] + 1;
    unit3(f->half);
    key *= 1 + 0.25f * tone;
    f->key_rgb = (ld_rgb){key * (1.02f + warm), key, key * (0.98f - warm)};
    float amb = between(r[6], 0.22f, 0.36f), tint = 0.03f * bell(r + 7);
    f->amb_rgb = (ld_rgb){amb * (1 - tint), amb, amb * (1.03f + tint)};
    f->rim[0] = -side;
    f->rim[1] = -0.35f;
    f->rim[2] = -0.05f;
    unit3(f->rim);
    float rim = r[9] < 0.5f ? between(r[10], 0.1f, 0.5f) : 0;
    f->rim_rgb = (ld_rgb){rim, rim * 0.96f, rim * between(r[11], 0.75f, 1.15f)};
}

static void draw_eyes(ld_face *f, const float *r, float tone) {
    const ld_rgb iris[] = {stored(62, 38, 22),   stored(92, 58, 32),    stored(128, 88, 44),  stored(112, 122, 74),
                           stored(96, 136, 108), stored(104, 138, 158), stored(88, 134, 180), stored(138, 152, 160)};
    float pick = tone > 0.5f ? 0.28f * r[0] : r[0] < 0.45f ? 0.6f * r[0] : r[0];
    f->iris = palette(iris, 8, pick);
    f->eye_p = 0.238f + 0.006f * bell(r + 1);
    f->eye_a = 0.127f + 0.005f * bell(r + 3) + (f->fem ? 0.005f : 0);
    f->lid_up = (f->fem ? 0.53f : 0.45f) + 0.045f * bell(r + 5);
    f->lid_low = 0.27f + 0.03f * bell(r + 7);
    f->eye_tilt = 0.06f + 0.05f * bell(r + 9);
    f->pupil = between(r[11], 0.34f, 0.48f);
    f->gaze_p = 0.09f * bell(r + 12) - 0.35f * f->sy;
    f->gaze_q = 0.04f * bell(r + 14);
    f->crease = r[16] < 0.2f ? 0.15f : between(r[17], 0.5f, 1);
    f->lash = f->fem ? between(r[18], 0.75f, 1.5f) : between(r[18], 0.35f, 0.6f);
    f->shadow = f->fem && r[19] < 0.55f ? between(r[20], 0.15f, 0.6f) : 0;
    f->shadow_rgb = r[21] < 0.6f ? times(f->skin, (ld_rgb){0.45f, 0.33f, 0.36f})
                                 : times(hsv(r[22], 0.4f, 0.75f), (ld_rgb){0.6f, 0.6f, 0.6f});
    f->bags = f->age * between(r[23], 0.3f, 1) + 0.08f;
    f->lash_rgb = stored(30, 22, 20);
    f->brow_q = -0.172f + 0.012f * bell(r + 24) + (f->fem ? -0.008f : 0.012f);
    f->brow_arch = (f->fem ? 0.042f : 0.024f) + 0.011f * bell(r + 26);
    f->brow_thick = (f->fem ? 0.021f : 0.031f) + 0.0045f * bell(r + 28);
    f->brow_dense = between(r[30], 0.6f, 0.95f);
    f->brow_tilt = 0.012f * bell(r + 31);
}

static void draw_mouth(ld_face *f, const float *r, float tone) {
    float mood = r[0];
    f->nose_w = 0.100f + 0.011f * bell(r + 1) + 0.018f * tone - (f->fem ? 0.009f : 0);
    f->nose_q = 0.278f + 0.016f * bell(r + 3);
    f->nose_p = 0.22f * f->sy;
    f->smile = mood < 0.25f ? between(mood * 4, -0.06f, 0.2f) : between((mood - 0.25f) / 0.75f, 0.2f, 1);
    f->open = 0;
    if (f->smile > 0.45f && r[5] < 0.72f)
        f->open = between(r[6], 0.35f, 1) * (0.25f + 0.75f * f->smile) * 0.07f;
    else if (r[5] > 0.93f)
        f->open = between(r[6], 0.015f, 0.05f);
    f->lip_w = 0.170f + 0.008f * bell(r + 7) + 0.045f * f->smile;
    f->lip_q = 0.488f + 0.012f * bell(r + 9) - 0.012f * f->smile;
    float plump = 1 + 0.2f * bell(r + 11) + 0.3f * tone - 0.18f * f->smile + (f->fem ? 0.12f : -0.1f) - 0.3f * f->age;
    f->lip_up = 0.047f * plump;
    f->lip_low = 0.060f * plump;
    ld_rgb bare = times(f->skin, tone > 0.6f ? (ld_rgb){0.86f, 0.56f, 0.58f} : (ld_rgb){0.74f, 0.36f, 0.37f});
    ld_rgb stick = hsv(between(r[14], 0.93f, 1.03f), between(r[15], 0.45f, 0.85f), between(r[16], 0.45f, 0.82f));
    float made = f->fem && r[13] < 0.6f ? between(r[17], 0.25f, 0.85f) : 0;
    f->lip_rgb = mix(bare, stick, made);
    f->gloss = between(r[18], 0.04f, 0.14f) + 0.14f * made;
    f->lip_edge = lerp(0.014f, 0.005f, made);
}

static ld_rgb cloth_colour(float a, float b, float c) {
    if (a < 0.3f)
        return scaled(hsv(b, 0.06f, 1), sq(between(c, 0.12f, 0.95f)));
    return hsv(b, between(a, 0.25f, 0.8f), between(c, 0.2f, 0.85f));
}

static void draw_worn(ld_face *f, const float *r) {
    f->glasses = r[0] < 0.14f + 0.2f * f->age;
    f->shades = f->glasses && r[1] < 0.12f;
    f->glass_w = between(r[2], 0.165f, 0.188f);
    f->glass_h = between(r[3], 0.105f, 0.150f);
    f->glass_round = between(r[4], 0.35f, 1);
    f->glass_t = between(r[5], 0.007f, 0.019f);
    f->glass_rgb = r[6] < 0.55f   ? stored(28, 26, 28)
                   : r[6] < 0.75f ? stored(96, 60, 34)
                   : r[6] < 0.9f  ? stored(170, 150, 110)
                                  : hsv(r[7], 0.6f, 0.5f);
    f->hat = r[8] < 0.90f ? LD_HAT_NONE : r[8] < 0.94f ? LD_HAT_BEANIE : r[8] < 0.975f ? LD_HAT_CAP : LD_HAT_BRIM;
    f->hat_q = between(r[9], -0.40f, -0.34f);
    f->hat_rgb = cloth_colour(r[10], r[11], r[12] * 0.9f);
    f->hat_band = r[13] < 0.5f ? scaled(f->hat_rgb, 0.45f) : cloth_colour(r[14], r[15], r[16]);
    f->earring = f->fem && r[17] < 0.4f ? between(r[18], 0.016f, 0.036f) : 0;
    f->earring_rgb = r[19] < 0.5f ? stored(226, 186, 96) : stored(214, 216, 222);
    int formal = r[20] < 0.5f;
    f->neckline = formal          ? (f->fem         ? (r[21] < 0.5f ? LD_NECK_VEE : LD_NECK_SHIRT)
                                     : r[21] < 0.5f ? LD_NECK_SUIT
                                                    : LD_NECK_SHIRT)
                  : r[21] < 0.55f ? LD_NECK_CREW
                  : r[21] < 0.75f ? LD_NECK_ROLL
                  : f->fem        ? LD_NECK_WIDE
                                  : LD_NECK_VEE;
    f->cloth = cloth_colour(r[22], r[23], r[24]);
    f->cloth2 = cloth_colour(r[25], r[26], r[27]);
    f->pattern = r[28] < 0.25f ? between(r[28] * 4, 9, 24) : 0;
    if (f->neckline == LD_NECK_SUIT) {
        f->cloth = scaled(hsv(between(r[23], 0.55f, 0.72f), 0.3f, 1), sq(between(r[24], 0.1f, 0.4f)));
        f->cloth2 = hsv(r[26], 0.08f * r[25], between(r[27], 0.8f, 0.97f));
    }
    f->tie = hsv(r[29], 0.7f, between(r[30], 0.25f, 0.65f));
}

static void draw_scene(ld_face *f, const float *r) {
    float pick = r[0], base = r[1], angle = between(r[2], -0.9f, 0.9f), dim = between(r[3], 0.3f, 1);
    f->scene = pick < 0.3f    ? LD_SCENE_GRADIENT
               : pick < 0.45f ? LD_SCENE_TWO_TONE
               : pick < 0.7f  ? LD_SCENE_BOKEH
               : pick < 0.82f ? LD_SCENE_STRIPES
                              : LD_SCENE_OUTDOORS;
    f->back_cos = cosf(angle);
    f->back_sin = sinf(angle);
    f->back_a = between(r[4], -0.8f, 0.8f);
    f->back_b = between(r[5], 4, 11);
    for (int i = 0; i < 3; i++)
        f->back[i] = hsv(base + 0.12f * (r[6 + i] - 0.5f), between(r[9 + i], 0.04f, 0.42f),
                         dim * between(r[12 + i], 0.6f, 0.95f));
    if (f->scene == LD_SCENE_TWO_TONE)
        f->back[1] = hsv(base + between(r[7], 0.2f, 0.6f), 0.25f, dim * between(r[13], 0.4f, 0.9f));
    if (f->scene == LD_SCENE_OUTDOORS) {
        f->back_a = between(r[4], -0.35f, 0.3f);
        f->back[0] = hsv(between(r[6], 0.53f, 0.62f), between(r[9], 0.15f, 0.6f), between(r[12], 0.65f, 0.95f));
        f->back[1] = hsv(between(r[7], 0.05f, 0.6f), between(r[10], 0.03f, 0.22f), between(r[13], 0.75f, 0.98f));
        f->back[2] = hsv(between(r[8], 0.08f, 0.38f), between(r[11], 0.2f, 0.55f), between(r[14], 0.25f, 0.65f));
    }
    if (f->scene == LD_SCENE_BOKEH)
        for (int i = 0; i < 3; i++)
            f->back[i] = scaled(f->back[i], 0.45f);
    for (int i = 0; i < LD_FACE_BLOBS; i++) {
        const float *q = r + 16 + 5 * i;
        f->blob[i].x = between(q[0], -1.1f, 1.1f);
        f->blob[i].y = between(q[1], -1.1f, 0.9f);
        f->blob[i].r = between(q[2], 0.09f, 0.34f);
        f->blob[i].k = between(q[3], 0.06f, 0.3f);
        f->blob[i].c = hsv(base + 0.35f * (q[4] - 0.5f), 0.45f, 1);
    }
}

static void draw_beard(ld_face *f, const float *r) {
    f->beard = LD_BEARD_NONE;
    if (!f->fem)
        f->beard = r[0] < 0.42f   ? LD_BEARD_NONE
                   : r[0] < 0.65f ? LD_BEARD_STUBBLE
                   : r[0] < 0.73f ? LD_BEARD_MOUSTACHE
                   : r[0] < 0.83f ? LD_BEARD_GOATEE
                                  : LD_BEARD_FULL;
    f->beard_dense = f->beard == LD_BEARD_STUBBLE ? between(r[1], 0.25f, 0.55f) : between(r[1], 0.75f, 0.97f);
    f->beard_len = f->beard == LD_BEARD_FULL ? between(r[2], 0.015f, 0.10f) : 0.004f;
    f->beard_rgb = mix(scaled(f->hair, 0.75f), stored(186, 182, 178), clamp01(f->age * 1.6f - 0.75f) * r[3]);
}

void ld_face_draw(ld_face *f, uint64_t seed, uint64_t index) {
    float r[TRAITS];
    memset(f, 0, sizeof *f);
    ld_rng_uniform(r, TRAITS, seed, LD_RNG_FACE, index, 0);
    ld_rng_uniform(f->lattice, LD_FACE_LATTICE * LD_FACE_LATTICE, seed, LD_RNG_FACE, index, TRAITS);
    for (int i = 0; i < LD_FACE_LATTICE * LD_FACE_LATTICE; i++)
        f->lattice[i] = f->lattice[i] * 2 - 1;
    draw_pose(f, r);
    draw_head(f, r + 12);
    float tone = draw_skin(f, r + 30);
    draw_light(f, r + 40, tone);
    draw_eyes(f, r + 52, tone);
    draw_mouth(f, r + 86, tone);
    draw_worn(f, r + 105);
    ld_face_draw_hair(f, r + 137, tone);
    draw_beard(f, r + 161);
    draw_scene(f, r + 166);
    ld_face_relief(f);
}
