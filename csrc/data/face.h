/* Synthetic faces: a renderer of our own, the data set that needs no download. */
#ifndef LD_FACE_H
#define LD_FACE_H

#include <stdint.h>

/* Render face `index` of the stream `seed` into rgb: size x size x 3 bytes, interleaved, rows top to bottom.
 * Every attribute (pose, head shape, skin, hair colour and cut, eyes, brows, nose, mouth, beard, glasses, light,
 * background, colours) is drawn from Philox numbers keyed by (seed, LD_RNG_FACE, index), so that the same face comes out
 * at any size and on any machine. size is 16 .. 1024; edges are antialiased. Pure: may run on many threads. */
void ld_face_render(uint8_t *rgb, int size, uint64_t seed, uint64_t index);

#endif
