/* Where the libraries of CUDA lie on a machine. */
#ifndef LD_CUDA_SEARCH_H
#define LD_CUDA_SEARCH_H

#include <stdbool.h>

/* Calls look(path, arg) with one place after the other where `file` may be until it returns true: names in LD_CUDA_PATH, a
 * list of folders; then the bare name, which the system looks up (LD_LIBRARY_PATH, its cache); then files that are there,
 *
 *   driver (file begins with "libcuda.")  where container systems, WSL and distributions put it
 *   others                                below CUDA_HOME, CUDA_PATH, CUDNN_HOME; in /usr/local/cuda, in /usr/local/cuda-*,
 *                                         the newest first, and in /opt/cuda; in CONDA_PREFIX; in the wheels that NVIDIA has
 *                                         for Python, site-packages/nvidia/<part>/lib, of VIRTUAL_ENV, CONDA_PREFIX, each
 *                                         python3 on the path, the user's own folder, and the system
 *
 * false: none would do. Names the same file at most once. */
typedef bool ld_cuda_look(const char *path, void *arg);
bool ld_cuda_search(const char *file, ld_cuda_look *look, void *arg);

#endif
