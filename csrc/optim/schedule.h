/* Learning rates as pure functions of progress. `step` counts from 0 to total - 1 and is a double, in any unit
 * (steps, images) shared with `total` and `warmup`; outside the range the nearest end's value holds. */
#ifndef LD_SCHEDULE_H
#define LD_SCHEDULE_H

/* Cosine up from max/div to max until step pct_start total - 1, cosine down to max/div/final_div at total - 1:
 * PyTorch's OneCycleLR, whose defaults are pct_start 0.3, div 25, final_div 1e4. In units of images, pass
 * images/batch and total/batch: the "- 1" is one step. Source: Smith & Topin 2017, arXiv:1708.07120. */
double ld_one_cycle_lr(double max, double pct_start, double div, double final_div, double step, double total);
/* The momentum (SGD) or beta1 (Adam) that goes with it: high (0.95), down to low (0.85) at the peak, back to high. */
double ld_one_cycle_beta1(double high, double low, double pct_start, double step, double total);

/* Linear warm-up, max (step + 1)/(warmup + 1), then half a cosine from max at `warmup` to min at total - 1. */
double ld_cosine_lr(double max, double min, double warmup, double step, double total);
/* Linear warm-up as above, then max. */
double ld_constant_lr(double max, double warmup, double step);

#endif
