/* What elementwise operations are, written out in f64 for the tests of slots and of ops. */
#ifndef LD_TEST_FORMULAS_H
#define LD_TEST_FORMULAS_H

#include "backend/backend.h"

#include <math.h>

static inline double phi(double x) {
    return 0.5 * erfc(-x / sqrt(2));
}

static inline double unary_formula(ld_unary_op op, double x, double a, double b) {
    switch (op) {
    case LD_NEG:
        return -x;
    case LD_ABS:
        return fabs(x);
    case LD_EXP:
        return exp(x);
    case LD_LOG:
        return log(x);
    case LD_SQRT:
        return sqrt(x);
    case LD_RSQRT:
        return 1 / sqrt(x);
    case LD_SQUARE:
        return x * x;
    case LD_RECIPROCAL:
        return 1 / x;
    case LD_SIN:
        return sin(x);
    case LD_COS:
        return cos(x);
    case LD_TAN:
        return tan(x);
    case LD_TANH:
        return tanh(x);
    case LD_SIGMOID:
        return 1 / (1 + exp(-x));
    case LD_SILU:
        return x / (1 + exp(-x));
    case LD_GELU:
        return x * phi(x);
    case LD_RELU:
        return x > 0 ? x : 0;
    case LD_LEAKY:
        return (x > 0 ? x : a * x) - b;
    case LD_CLAMP:
        return fmin(fmax(x, a), b);
    case LD_POW:
        return pow(x, a);
    case LD_AFFINE:
        return a * x + b;
    case LD_FLOOR:
        return floor(x);
    case LD_ROUND:
        return nearbyint(x);
    case LD_SIGN:
        return (x > 0) - (x < 0);
    default:
        return NAN;
    }
}

#endif
