/* The orientation that a camera notes in a picture's file: EXIF tag 0x0112. */
#ifndef LD_EXIF_H
#define LD_EXIF_H

#include "io/image.h"

/* 1 .. 8, of the bytes of a JPEG (APP1), PNG (eXIf) or WebP (EXIF) file: where the first row and the first column of the
 * stored pixels belong. 1, as they lie, where there is none and where what is there cannot be understood.
 *   1 top left   2 top right   3 bottom right   4 bottom left   5 left top   6 right top   7 right bottom   8 left bottom
 * Source: CIPA DC-008 (Exif 2.32), section 4.6.4 A, orientation. */
int ld_exif_orientation(const void *bytes, size_t n);

/* Turns and mirrors so that orientation `how` becomes 1. LD_EVALUE unless it is 1 .. 8, LD_EMEM. */
int ld_image_orient(ld_image *im, int how);

#endif
