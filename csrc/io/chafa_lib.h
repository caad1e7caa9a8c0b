/* libchafa, loaded when the first picture is shown in a terminal: it draws in GLib, and most processes never show one.
 * lc.canvas_new is the library's chafa_canvas_new, and so on; lc.string_free is GLib's g_string_free, of which chafa's
 * texts are. */
#ifndef LD_CHAFA_LIB_H
#define LD_CHAFA_LIB_H

#include <chafa.h>

/* clang-format off */
#define CHAFA_FUNCTIONS(F) \
    F(canvas_config_new) F(canvas_config_set_canvas_mode) F(canvas_config_set_cell_geometry) \
    F(canvas_config_set_geometry) F(canvas_config_set_pixel_mode) F(canvas_config_set_preprocessing_enabled) \
    F(canvas_config_set_symbol_map) F(canvas_config_unref) F(canvas_draw_all_pixels) F(canvas_new) F(canvas_print) \
    F(canvas_unref) F(symbol_map_add_by_tags) F(symbol_map_new) F(symbol_map_unref) F(term_db_detect) \
    F(term_db_get_default) F(term_db_get_fallback_info) F(term_info_have_seq) F(term_info_supplement) F(term_info_unref)
/* clang-format on */

typedef struct chafa_lib {
#define F(name) __typeof__(chafa_##name) *name;
    CHAFA_FUNCTIONS(F)
#undef F
    char *(*string_free)(GString *, gboolean);
} chafa_lib;

extern chafa_lib lc;

/* To be called before anything of lc is used. LD_EIO when the library cannot be loaded. */
int chafa_load(void);

#endif
