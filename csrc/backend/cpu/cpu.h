/* The CPU backend: one function per slot of backend.h, ld_cpu_<slot>, with the slot's parameters. */
#ifndef LD_CPU_H
#define LD_CPU_H

#include "backend/backend.h"

#define LD_CPU_DECLARE(slot, args) int ld_cpu_##slot args;
LD_SLOTS(LD_CPU_DECLARE)
#undef LD_CPU_DECLARE

#endif
