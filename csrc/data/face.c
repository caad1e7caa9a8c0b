#include "data/face.h"

#include "data/face_part.h"

/* The order of the layers is the order of depth. */
static ld_rgb shade(const ld_face *f, float x, float y, float pix) {
    ld_face_spot s = {.x = x, .y = y, .pix = pix / f->scale};
    float dx = (x - f->cx) / f->scale, dy = (y - f->cy) / f->scale;
    s.u = f->cosr * dx + f->sinr * dy;
    s.v = f->cosr * dy - f->sinr * dx;
    /* Features lie on a cylinder of this radius, turned about the vertical: p = R sin(asin(u / R) - turn). */
    const float radius = 0.80f;
    float rest = radius * radius - s.u * s.u;
    s.p = s.u * f->cosy - (rest > 0 ? sqrtf(rest) : 0) * f->sy;
    s.q = s.v - f->pitch;
    s.skull = ld_face_skull(f, s.u, s.v);
    s.locks = ld_face_locks(f, &s);
    ld_rgb c = ld_face_scene_at(f, x, y);
    ld_face_hair_back(f, &s, &c);
    ld_face_body(f, &s, &c);
    ld_face_ears(f, &s, &c);
    ld_face_skin(f, &s, &c);
    ld_face_glasses(f, &s, &c);
    ld_face_hair_front(f, &s, &c);
    ld_face_hat_on(f, &s, &c);
    return c;
}

/* Linear light to a stored byte's scale: a soft shoulder above 0.8, then the square root. */
static float develop(float c) {
    if (c > 0.8f)
        c = 0.8f + 0.2f * (1 - 1 / (1 + (c - 0.8f) * 5));
    return c > 0 ? 255 * sqrtf(c) : 0;
}

void ld_face_render(uint8_t *rgb, int size, uint64_t seed, uint64_t index) {
    ld_face f;
    ld_face_draw(&f, seed, index);
    /* Small pictures are the box average of at least 128 samples a side; larger ones rely on the soft edges alone. */
    int ss = size < 128 ? (128 + size - 1) / size : 1;
    float step = 2.0f / (float)(size * ss), share = 1.0f / (float)(ss * ss);
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            float r = 0, g = 0, b = 0;
            for (int j = 0; j < ss; j++)
                for (int i = 0; i < ss; i++) {
                    ld_rgb c = shade(&f, ((float)(x * ss + i) + 0.5f) * step - 1,
                                     ((float)(y * ss + j) + 0.5f) * step - 1, step);
                    r += develop(c.r);
                    g += develop(c.g);
                    b += develop(c.b);
                }
            uint8_t *out = rgb + ((int64_t)y * size + x) * 3;
            out[0] = (uint8_t)(r * share + 0.5f);
            out[1] = (uint8_t)(g * share + 0.5f);
            out[2] = (uint8_t)(b * share + 0.5f);
        }
}
