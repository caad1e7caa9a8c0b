/* What the parts of the face renderer share: the attributes of one face, the point being shaded, small mathematics.
 *
 * Three frames, all with y downwards:
 *   picture   (x, y)   -1 .. 1 over the frame
 *   head      (u, v)   roll, shift and scale undone; eyes at v = 0, chin near 0.8, crown near -0.8, cheeks near
 *                      u = 0.55
 *   feature   (p, q)   the head frame with the turn to the side undone: eyes and mouth are symmetric about p = 0
 * Colours are linear light (about the square of the stored value), 0 .. 1. An edge is measured in its own frame. */
#ifndef LD_FACE_PART_H
#define LD_FACE_PART_H

#include <math.h>
#include <stdint.h>

/* The widest level of the head, and how square its top is. */
#define LD_FACE_LEVEL (-0.03f)
#define LD_FACE_DOME  3.3f

enum { LD_FACE_BUMPS = 40, LD_FACE_BLOBS = 14, LD_FACE_LATTICE = 64 };

typedef struct ld_rgb {
    float r, g, b;
} ld_rgb;

/* A smooth hill (h > 0) or hollow (h < 0) of the face's relief: h (1 - r^2)^3 inside the ellipse of radii rp, rq. */
typedef struct ld_face_bump {
    float p, q, rp, rq, h;
} ld_face_bump;

typedef enum ld_face_cut {
    LD_CUT_BALD,
    LD_CUT_BUZZ,
    LD_CUT_SHORT,
    LD_CUT_QUIFF,
    LD_CUT_RECEDING,
    LD_CUT_CURLY,
    LD_CUT_AFRO,
    LD_CUT_BOB,
    LD_CUT_LONG,
    LD_CUT_WAVY,
    LD_CUT_LONG_CURLY,
    LD_CUT_BUN,
    LD_CUT_TAIL
} ld_face_cut;

typedef enum ld_face_beard {
    LD_BEARD_NONE,
    LD_BEARD_STUBBLE,
    LD_BEARD_MOUSTACHE,
    LD_BEARD_GOATEE,
    LD_BEARD_FULL
} ld_face_beard;
typedef enum ld_face_hat { LD_HAT_NONE, LD_HAT_BEANIE, LD_HAT_CAP, LD_HAT_BRIM } ld_face_hat;
typedef enum ld_face_neckline {
    LD_NECK_CREW,
    LD_NECK_VEE,
    LD_NECK_SHIRT,
    LD_NECK_ROLL,
    LD_NECK_SUIT,
    LD_NECK_WIDE
} ld_face_neckline;
typedef enum ld_face_scene {
    LD_SCENE_GRADIENT,
    LD_SCENE_TWO_TONE,
    LD_SCENE_BOKEH,
    LD_SCENE_STRIPES,
    LD_SCENE_OUTDOORS
} ld_face_scene;

typedef struct ld_face {
    /* pose and head; chin and crown are half-heights below and above the widest level */
    float cx, cy, scale, cosr, sinr, sy, cosy, pitch;
    float wide, crown, chin, jaw, taper, age;
    int fem;
    /* skin */
    ld_rgb skin, blush;
    float flush, freckles, oil;
    ld_face_bump bump[LD_FACE_BUMPS];
    int bumps;
    /* light: directions are unit vectors, z towards the viewer; half lies midway between key and viewer */
    float key[3], half[3], rim[3];
    ld_rgb key_rgb, amb_rgb, rim_rgb;
    /* eyes: half-distance, half-width, heights of upper and lower lid in half-widths, lift of the outer corner */
    float eye_p, eye_a, lid_up, lid_low, eye_tilt, pupil, gaze_p, gaze_q, crease, lash, shadow, bags;
    ld_rgb iris, shadow_rgb, lash_rgb;
    float brow_q, brow_arch, brow_thick, brow_dense, brow_tilt;
    ld_rgb brow_rgb;
    /* nose and mouth */
    float nose_w, nose_q, nose_p;
    float lip_w, lip_q, lip_up, lip_low, smile, open, gloss, lip_edge;
    ld_rgb lip_rgb;
    /* hair: volumes above the skull, end of the falling hair, opening for the face */
    ld_face_cut cut;
    float top, side, fall, flare, part, sweep, recede, line, line_pow, open_w, open_dw, burn;
    float wave, wave_n, curl, dense, gleam, bun_u, bun_r;
    int behind, over_ears, bangs;
    ld_rgb hair, hair_light;
    ld_face_beard beard;
    float beard_dense, beard_len;
    ld_rgb beard_rgb;
    /* worn */
    int glasses, shades;
    float glass_w, glass_h, glass_round, glass_t;
    ld_rgb glass_rgb;
    ld_face_hat hat;
    float hat_q;
    ld_rgb hat_rgb, hat_band;
    float earring;
    ld_rgb earring_rgb;
    ld_face_neckline neckline;
    float neck_w, shoulder, pattern;
    ld_rgb cloth, cloth2, tie;
    /* scene */
    ld_face_scene scene;
    ld_rgb back[3];
    float back_a, back_b, back_cos, back_sin;
    struct {
        float x, y, r, k;
        ld_rgb c;
    } blob[LD_FACE_BLOBS];
    float lattice[LD_FACE_LATTICE * LD_FACE_LATTICE]; /* -1 .. 1, for the value noise */
} ld_face;

/* The point being shaded. pix is the width of a sample in the head frame; skull and locks are signed distances
 * (negative inside) to the head's outline and to the hair lying in front of it. */
typedef struct ld_face_spot {
    float x, y, u, v, p, q, pix, skull, locks;
} ld_face_spot;

/* Draw every attribute of face `index`. */
void ld_face_draw(ld_face *f, uint64_t seed, uint64_t index);
/* Hair attributes (cut, volumes, colour) from uniforms r[0 .. 21]; called by ld_face_draw. */
void ld_face_draw_hair(ld_face *f, const float *r, float tone);
/* The relief of the face, from its attributes. */
void ld_face_relief(ld_face *f);

/* Each layer paints over c, nearest last. */
ld_rgb ld_face_scene_at(const ld_face *f, float x, float y);
void ld_face_body(const ld_face *f, const ld_face_spot *s, ld_rgb *c);
void ld_face_ears(const ld_face *f, const ld_face_spot *s, ld_rgb *c);
void ld_face_skin(const ld_face *f, const ld_face_spot *s, ld_rgb *c);
void ld_face_eyes(const ld_face *f, const ld_face_spot *s, ld_rgb light, ld_rgb *c);
void ld_face_mouth(const ld_face *f, const ld_face_spot *s, ld_rgb light, ld_rgb *c);
void ld_face_beard_on(const ld_face *f, const ld_face_spot *s, ld_rgb light, ld_rgb *c);
void ld_face_glasses(const ld_face *f, const ld_face_spot *s, ld_rgb *c);
void ld_face_hair_back(const ld_face *f, const ld_face_spot *s, ld_rgb *c);
void ld_face_hair_front(const ld_face *f, const ld_face_spot *s, ld_rgb *c);
void ld_face_hat_on(const ld_face *f, const ld_face_spot *s, ld_rgb *c);

/* Signed distances, about true near the edge. */
float ld_face_skull(const ld_face *f, float u, float v);
float ld_face_locks(const ld_face *f, const ld_face_spot *s);

static inline float clamp01(float x) {
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

/* 0 below a, 1 above b, smooth between. */
static inline float ramp(float a, float b, float x) {
    float t = clamp01((x - a) / (b - a));
    return t * t * (3 - 2 * t);
}

/* Share of a sample that lies inside an edge at signed distance d, soft over at least `soft`. */
static inline float inside(float d, float pix, float soft) {
    float w = pix > soft ? pix : soft;
    return ramp(w * 0.7f, -w * 0.7f, d);
}

/* A smooth hill: 1 at 0, 0 from |x| = 1 on. */
static inline float hill(float x) {
    float t = 1 - x * x;
    return t > 0 ? t * t : 0;
}

static inline float sq(float x) {
    return x * x;
}

static inline float lerp(float a, float b, float t) {
    return a + (b - a) * t;
}

static inline ld_rgb mix(ld_rgb a, ld_rgb b, float t) {
    return (ld_rgb){lerp(a.r, b.r, t), lerp(a.g, b.g, t), lerp(a.b, b.b, t)};
}

static inline ld_rgb times(ld_rgb a, ld_rgb b) {
    return (ld_rgb){a.r * b.r, a.g * b.g, a.b * b.b};
}

static inline ld_rgb scaled(ld_rgb a, float k) {
    return (ld_rgb){a.r * k, a.g * k, a.b * k};
}

static inline ld_rgb plus(ld_rgb a, ld_rgb b) {
    return (ld_rgb){a.r + b.r, a.g + b.g, a.b + b.b};
}

/* Of a colour as it is stored, in 0 .. 255. */
static inline ld_rgb stored(float r, float g, float b) {
    return (ld_rgb){sq(r / 255), sq(g / 255), sq(b / 255)};
}

static inline int floor_int(float x) {
    int i = (int)x;
    return i - (x < (float)i);
}

/* Value noise, -1 .. 1, one cell a unit; independent streams start at distant offsets. */
static inline float noise1(const ld_face *f, float x) {
    int i = floor_int(x), n = LD_FACE_LATTICE * LD_FACE_LATTICE - 1;
    float t = x - (float)i;
    return lerp(f->lattice[i & n], f->lattice[(i + 1) & n], t * t * (3 - 2 * t));
}

static inline float noise2(const ld_face *f, float x, float y) {
    int i = floor_int(x), j = floor_int(y), n = LD_FACE_LATTICE - 1;
    float a = x - (float)i, b = y - (float)j;
    const float *r0 = f->lattice + (j & n) * LD_FACE_LATTICE, *r1 = f->lattice + ((j + 1) & n) * LD_FACE_LATTICE;
    a = a * a * (3 - 2 * a);
    b = b * b * (3 - 2 * b);
    return lerp(lerp(r0[i & n], r0[(i + 1) & n], a), lerp(r1[i & n], r1[(i + 1) & n], a), b);
}

/* Weight of a detail of which `cells` fall on one sample: fades before it would alias. */
static inline float resolved(float cells) {
    return clamp01(1.4f - 2 * cells);
}

/* Light that reaches a surface of normal (a, b, z), of any length; wrap > 0 lets it creep round the edge. */
static inline ld_rgb lit(const ld_face *f, float a, float b, float z, float wrap) {
    float n = 1 / sqrtf(a * a + b * b + z * z + 1e-9f);
    float d = (a * f->key[0] + b * f->key[1] + z * f->key[2]) * n;
    float e = (a * f->rim[0] + b * f->rim[1] + z * f->rim[2]) * n;
    float sky = 0.82f - 0.18f * b * n;
    d = d + wrap > 0 ? (d + wrap) / (1 + wrap) : 0;
    e = e > 0 ? e * e : 0;
    return (ld_rgb){f->key_rgb.r * d + f->amb_rgb.r * sky + f->rim_rgb.r * e,
                    f->key_rgb.g * d + f->amb_rgb.g * sky + f->rim_rgb.g * e,
                    f->key_rgb.b * d + f->amb_rgb.b * sky + f->rim_rgb.b * e};
}

#endif
