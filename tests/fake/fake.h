/* What the fake device's two files share. */
#ifndef LD_FAKE_H
#define LD_FAKE_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "backend/plugin.h"

/* ---- fake.c ---------------------------------------------------------------------------------------------------------- */

extern const ld_backend *const fake_table; /* the device's own slots: they compute, or pass the call to fake_held */
void *fake_behind(const void *p);          /* the memory behind an address that was given out */

/* ---- capture.cpp ------------------------------------------------------------------------------------------------------- */

/* Slots that are not done now: they are recorded, or wait behind a replay, as on a card the host does not wait for. */
extern const ld_backend fake_held;
bool fake_later(void); /* calls go to fake_held */
bool fake_recording(void);
int fake_upload_later(void *to, const void *from, size_t n);
int fake_drain(void); /* does what waits; 0 or its first error */
extern const ld_graph_ops fake_graph_ops;

#ifdef __cplusplus
}
#endif

#endif
