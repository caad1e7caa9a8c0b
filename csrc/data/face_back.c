/* What lies behind the head: the scene, all of it out of focus. */
#include "data/face_part.h"

static ld_rgb bokeh(const ld_face *f, float x, float y, ld_rgb c) {
    for (int i = 0; i < LD_FACE_BLOBS; i++) {
        float d = sqrtf(sq(x - f->blob[i].x) + sq(y - f->blob[i].y)) / f->blob[i].r;
        if (d < 1.1f) {
            float edge = 1 + 0.25f * ramp(0.6f, 0.95f, d);
            c = plus(c, scaled(f->blob[i].c, f->blob[i].k * edge * ramp(1.1f, 0.85f, d)));
        }
    }
    return c;
}

static ld_rgb outdoors(const ld_face *f, float x, float y) {
    float ridge = f->back_a + 0.22f * noise1(f, x * 1.6f + 31) + 0.08f * noise1(f, x * 4.3f + 77);
    ld_rgb sky = mix(f->back[0], f->back[1], ramp(-1.1f, f->back_a, y));
    ld_rgb land =
        scaled(f->back[2], 0.8f + 0.35f * noise2(f, x * 2.1f + 9, y * 2.6f + 4) + 0.12f * noise2(f, x * 5, y * 5));
    return mix(sky, land, ramp(ridge - 0.16f, ridge + 0.16f, y));
}

ld_rgb ld_face_scene_at(const ld_face *f, float x, float y) {
    float a = x * f->back_cos + y * f->back_sin, b = y * f->back_cos - x * f->back_sin;
    float fall = 1 - 0.14f * (x * x + y * y);
    ld_rgb c = f->back[0];
    switch (f->scene) {
    case LD_SCENE_GRADIENT: {
        float glow = sqrtf(sq(x - 0.5f * f->back_a) + sq(y + 0.2f));
        c = mix(mix(f->back[0], f->back[1], ramp(-1.3f, 1.3f, a)), f->back[2], 0.6f * ramp(1.5f, 0.1f, glow));
        break;
    }
    case LD_SCENE_TWO_TONE:
        c = mix(f->back[0], f->back[1], ramp(-0.09f, 0.09f, a - f->back_a * 0.7f));
        c = scaled(c, 1 + 0.12f * b);
        break;
    case LD_SCENE_BOKEH:
        c = bokeh(f, x, y, mix(f->back[0], f->back[1], ramp(-1, 1, y + 0.4f * noise2(f, x * 1.3f, y * 1.3f))));
        break;
    case LD_SCENE_STRIPES:
        c = mix(f->back[0], f->back[1], ramp(-0.45f, 0.45f, sinf(a * f->back_b)));
        c = mix(c, f->back[2], 0.3f + 0.3f * noise2(f, x * 1.2f + 3, y * 1.2f));
        break;
    case LD_SCENE_OUTDOORS:
        c = outdoors(f, x, y);
        break;
    }
    return scaled(c, fall);
}
