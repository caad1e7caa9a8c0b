/* The HDF5 library, loaded when the first file is opened: as built by distributions it draws in some thirty others, for
 * reading over networks, and to load them takes longer than all else that ldlua does before the prompt.
 *
 * h5.Fopen is the library's H5Fopen, and so on; h5.T_IEEE_F32LE the identifier behind H5T_IEEE_F32LE. */
#ifndef LD_H5_LIB_H
#define LD_H5_LIB_H

#include <hdf5.h>

/* Macros of the library's header that would link it: its versions are checked by the name it is loaded under. */
#undef H5CHECK
#undef H5OPEN
#define H5CHECK
#define H5OPEN

/* clang-format off */
#define H5_FUNCTIONS(F) \
    F(Aclose) F(Acreate2) F(Adelete) F(Aexists) F(Aget_space) F(Aget_type) F(Aiterate2) F(Aopen) F(Aread) F(Awrite) \
    F(Dclose) F(Dcreate2) F(Dget_offset) F(Dget_space) F(Dget_storage_size) F(Dget_type) F(Dopen2) F(Dread) F(Dwrite) \
    F(Eclear2) F(Eset_auto2) F(Ewalk2) F(Fclose) F(Fcreate) F(Fflush) F(Fget_vfd_handle) F(Fopen) F(Gclose) \
    F(Gcreate2) F(Lexists) F(Oclose) F(Oopen) F(Pclose) F(Pcreate) F(Pset_alignment) F(Pset_alloc_time) \
    F(Pset_fclose_degree) F(Pset_fill_time) F(Pset_libver_bounds) F(Pset_obj_track_times) F(Pset_userblock) F(Pset_virtual) F(Sclose) \
    F(Screate) F(Screate_simple) F(Sget_simple_extent_dims) F(Sget_simple_extent_ndims) F(Sget_simple_extent_npoints) \
    F(Sselect_hyperslab) F(Tclose) F(Tcopy) F(Tget_class) F(Tget_sign) F(Tget_size) F(Tis_variable_str) F(Tset_cset) \
    F(Tset_ebias) F(Tset_fields) F(Tset_size) F(Tset_strpad) F(dont_atexit) F(free_memory) F(get_libversion) F(open)

#define H5_VALUES(V) \
    V(P_DATASET_CREATE, H5P_CLS_DATASET_CREATE_ID_g) \
    V(P_FILE_ACCESS, H5P_CLS_FILE_ACCESS_ID_g) \
    V(P_FILE_CREATE, H5P_CLS_FILE_CREATE_ID_g) \
    V(P_GROUP_CREATE, H5P_CLS_GROUP_CREATE_ID_g) \
    V(T_C_S1, H5T_C_S1_g) \
    V(T_IEEE_F32LE, H5T_IEEE_F32LE_g) \
    V(T_IEEE_F64LE, H5T_IEEE_F64LE_g) \
    V(T_NATIVE_DOUBLE, H5T_NATIVE_DOUBLE_g) \
    V(T_STD_I32LE, H5T_STD_I32LE_g) \
    V(T_STD_I64LE, H5T_STD_I64LE_g) \
    V(T_STD_U16LE, H5T_STD_U16LE_g) \
    V(T_STD_U8LE, H5T_STD_U8LE_g)
/* clang-format on */

/* What listing tells of an object: version 1.12 has another form of it, and keeps the old one as H5Ovisit1. */
#if H5_VERSION_GE(1, 12, 0)
#define H5_VISIT "H5Ovisit1"
typedef H5O_info1_t h5_info;
#else
#define H5_VISIT "H5Ovisit"
typedef H5O_info_t h5_info;
#endif

typedef struct h5_lib {
#define F(name) __typeof__(H5##name) *name;
    H5_FUNCTIONS(F)
#undef F
    herr_t (*visit)(hid_t, H5_index_t, H5_iter_order_t, herr_t (*)(hid_t, const char *, const h5_info *, void *),
                    void *);
#define V(name, symbol) hid_t name;
    H5_VALUES(V)
#undef V
} h5_lib;

extern h5_lib h5;

/* To be called before anything of h5 is used. LD_EIO when the library cannot be loaded. */
int h5_load(void);

#endif
