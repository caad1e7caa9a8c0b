/* Functions of libraries that are loaded when they are first used (HDF5, libarchive, libchafa). */
#ifndef LD_SYMBOL_H
#define LD_SYMBOL_H

/* The address of `symbol` in a library of dlopen's, into *to, a pointer to a function or to data. LD_EIO, which names `who`
 * and the library's file. */
int ld_symbol(void *library, const char *who, const char *file, const char *symbol, void *to);

#endif
