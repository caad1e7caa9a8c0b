/* A function compiled for several instruction sets, the best chosen at load time. Threads call it from a parallel region;
 * the region itself is not cloned. Without trapping-math and math-errno its loops over floats become vector code. */
#ifndef LD_CLONES_H
#define LD_CLONES_H

#if defined(__x86_64__) && !defined(__clang__)
#if __GNUC__ >= 12
#define LD_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else /* gcc 11 takes no architecture levels here */
#define LD_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#else
#define LD_CLONES
#endif

#endif
