#include "backend/cpu/cpu.h"
#include "backend/cpu/packed.h"

const ld_backend ld_cpu_backend = {.name = "cpu",
                                   .forget = ld_packed_forget,
#define ENTRY(slot, args) .slot = ld_cpu_##slot,
                                   LD_SLOTS(ENTRY)
#undef ENTRY
};

const char *const ld_slot_names[] = {
#define NAME(slot, args) #slot,
    LD_SLOTS(NAME)
#undef NAME
};

enum { SLOTS = sizeof ld_slot_names / sizeof *ld_slot_names };
_Static_assert(sizeof(ld_backend) == offsetof(ld_backend, forget) + (1 + SLOTS) * sizeof(int (*)(void)),
               "a backend is its name, `forget`, and one function per named slot");

int ld_slot_count(void) {
    return SLOTS;
}

bool ld_unary_keeps_result(ld_unary_op op) {
    switch (op) {
    case LD_EXP:
    case LD_SQRT:
    case LD_RSQRT:
    case LD_RECIPROCAL:
    case LD_TAN:
    case LD_TANH:
    case LD_SIGMOID:
        return true;
    default:
        return false;
    }
}
