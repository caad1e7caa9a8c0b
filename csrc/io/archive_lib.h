/* libarchive, loaded when the first archive is looked into: it draws in a dozen libraries, which take a third of the time
 * in which ldlua comes to its prompt. la.read_new is the library's archive_read_new, and so on. */
#ifndef LD_ARCHIVE_LIB_H
#define LD_ARCHIVE_LIB_H

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>

/* clang-format off */
#define ARCHIVE_FUNCTIONS(F) \
    F(entry_filetype) F(entry_hardlink) F(entry_is_encrypted) F(entry_pathname) F(entry_size) F(entry_sparse_count) \
    F(error_string) F(filter_bytes) F(filter_count) F(format) F(format_name) F(read_data_block) F(read_data_skip) \
    F(read_free) F(read_new) F(read_next_header) F(read_open1) F(read_set_callback_data) F(read_set_read_callback) \
    F(read_set_seek_callback) F(read_set_skip_callback) F(read_support_filter_bzip2) F(read_support_filter_gzip) \
    F(read_support_filter_xz) F(read_support_filter_zstd) F(read_support_format_raw) F(read_support_format_tar) \
    F(read_support_format_zip_seekable) F(read_support_format_zip_streamable) F(version_string)
/* clang-format on */

typedef struct archive_lib {
#define F(name) __typeof__(archive_##name) *name;
    ARCHIVE_FUNCTIONS(F)
#undef F
    locale_t utf8; /* in which names are read, whatever the user's is; 0 when the system has none of UTF-8 */
} archive_lib;

extern archive_lib la;

/* To be called before anything of la is used; from any thread. LD_EIO when the library cannot be loaded. */
int archive_load(void);

#endif
