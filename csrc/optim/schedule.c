#include "optim/schedule.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* From a at u = 0 to b at u = 1 along half a cosine. */
static double half_cosine(double a, double b, double u) {
    u = u < 0 ? 0 : u > 1 ? 1 : u;
    return b + (a - b) / 2 * (cos(pi * u) + 1);
}

/* start -> peak -> end. */
static double one_cycle(double start, double peak, double end, double pct_start, double step, double total) {
    double top = pct_start * total - 1, last = total - 1;
    if (top > 0 && step <= top)
        return half_cosine(start, peak, step / top);
    double from = top > 0 ? top : 0;
    return half_cosine(peak, end, last > from ? (step - from) / (last - from) : 1);
}

double ld_one_cycle_lr(double max, double pct_start, double div, double final_div, double step, double total) {
    return one_cycle(max / div, max, max / div / final_div, pct_start, step, total);
}

double ld_one_cycle_beta1(double high, double low, double pct_start, double step, double total) {
    return one_cycle(high, low, high, pct_start, step, total);
}

double ld_constant_lr(double max, double warmup, double step) {
    if (step < 0)
        step = 0;
    return step < warmup ? max * (step + 1) / (warmup + 1) : max;
}

double ld_cosine_lr(double max, double min, double warmup, double step, double total) {
    if (step < warmup)
        return ld_constant_lr(max, warmup, step);
    double last = total - 1;
    return half_cosine(max, min, last > warmup ? (step - warmup) / (last - warmup) : 1);
}
