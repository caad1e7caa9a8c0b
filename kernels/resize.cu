/* Bilinear resizing and its gradient: separable.h with the weights of PyTorch's interpolate(mode="bilinear",
 * align_corners=False). Position i of `out` lies at (i + 1/2) in/out - 1/2 of the input; antialias: a triangle as wide as
 * the step between outputs, its weights divided by their sum within the image.
 *
 * A first kernel writes the taps of both axes, computed in f64, into workspace: a few numbers a row and column. Traffic of
 * the second: as in pool2d.cu. Proven by tests/sim/test_sim_image.c against the CPU's slots. */
#include "kernels/separable.h"

/* Tables in workspace; weights are (out, taps). */
struct axis_table {
    int out, in, taps, antialias;
    int *firsts, *ends, *lows, *highs;
    double *weights;
    LD_BOTH_MEMBER int first(int i) const {
        return firsts[i];
    }
    LD_BOTH_MEMBER int end(int i) const {
        return ends[i];
    }
    LD_BOTH_MEMBER int low(int k) const {
        return lows[k];
    }
    LD_BOTH_MEMBER int high(int k) const {
        return highs[k];
    }
    template <typename W> __device__ W weight(int i, int k) const {
        return (W)weights[(int64_t)i * taps + k - firsts[i]];
    }
};

LD_DEVICE double triangle(double x) {
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* The taps of position i are first .. end - 1; where they lie and how wide they reach. */
struct taps {
    int first, end;
    double centre, reach;
};

LD_DEVICE taps taps_of(const axis_table &a, int i) {
    double step = (double)a.in / (double)a.out;
    taps t;
    if (!a.antialias) {
        double at = ((double)i + 0.5) * (double)a.in / (double)a.out - 0.5;
        t.centre = at < 0 ? 0 : at;
        t.reach = 1;
        t.first = (int)t.centre < a.in - 1 ? (int)t.centre : a.in - 1;
        t.end = t.first < a.in - 1 && t.centre > (double)t.first ? t.first + 2 : t.first + 1;
        t.centre = t.first == a.in - 1 ? (double)t.first : t.centre;
        return t;
    }
    t.reach = step > 1 ? step : 1;
    t.centre = step * ((double)i + 0.5) - 0.5;
    double from = t.centre - t.reach + 1, to = t.centre + t.reach + 1;
    t.first = (int)(from > 0 ? from : 0);
    t.end = (int)(to < (double)a.in ? to : (double)a.in);
    while (t.first < t.end && triangle(((double)t.first - t.centre) / t.reach) == 0)
        t.first++;
    while (t.end > t.first && triangle(((double)t.end - 1 - t.centre) / t.reach) == 0)
        t.end--;
    return t;
}

/* The first position whose taps begin behind k, or end there: both grow with the position. */
LD_DEVICE int bound(const axis_table &a, int k, bool ends) {
    int low = 0, high = a.out;
    while (low < high) {
        int middle = (low + high) / 2;
        taps t = taps_of(a, middle);
        if ((ends ? t.end : t.first) > k)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

__global__ void __launch_bounds__(128) k_resize_axis(axis_table rows, axis_table columns) {
    const axis_table a = blockIdx.y ? columns : rows;
    for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x); i < a.out || i < a.in;
         i += (int)(gridDim.x * blockDim.x)) {
        if (i < a.in) {
            a.lows[i] = bound(a, i, true);
            a.highs[i] = bound(a, i, false);
        }
        if (i >= a.out)
            continue;
        taps t = taps_of(a, i);
        double sum = 0;
        for (int k = t.first; k < t.end; k++)
            sum += triangle(((double)k - t.centre) / t.reach);
        for (int k = t.first; k < t.end; k++)
            a.weights[(int64_t)i * a.taps + k - t.first] = triangle(((double)k - t.centre) / t.reach) / sum;
        a.firsts[i] = t.first;
        a.ends[i] = t.end;
    }
}

static size_t table_bytes(const axis_table &a) {
    return (size_t)a.out * (size_t)a.taps * sizeof(double) + (size_t)(a.out + a.in) * 2 * sizeof(int);
}

static axis_table axis_of(int64_t out, int64_t in, bool antialias) {
    axis_table a;
    memset(&a, 0, sizeof a);
    a.out = (int)out;
    a.in = (int)in;
    a.antialias = antialias;
    a.taps = antialias && in > out ? (int)(2 * ((in + out - 1) / out)) + 2 : 4;
    return a;
}

/* Weights first: they want the alignment. */
static char *lay_out(axis_table *a, char *at) {
    a->weights = (double *)at;
    a->firsts = (int *)(a->weights + (int64_t)a->out * a->taps);
    a->ends = a->firsts + a->out;
    a->lows = a->ends + a->out;
    a->highs = a->lows + a->in;
    return at + table_bytes(*a);
}

/* The axes are those of the forward map: back turns them round. */
static int resize(const char *who, const ld_view *y, const ld_view *x, bool antialias, bool back) {
    const ld_view *out = back ? x : y, *in = back ? y : x;
    if (ld_view_numel(y) == 0)
        return 0;
    axis_table rows = axis_of(out->shape[2], in->shape[2], antialias);
    axis_table columns = axis_of(out->shape[3], in->shape[3], antialias);
    void *workspace = ld_cuda_workspace(table_bytes(rows) + table_bytes(columns), who);
    if (!workspace)
        return ld_cuda_workspace_missing();
    lay_out(&columns, lay_out(&rows, (char *)workspace));
    int64_t longest = 1, sides[] = {rows.out, rows.in, columns.out, columns.in};
    for (int i = 0; i < 4; i++)
        longest = sides[i] > longest ? sides[i] : longest;
    int bad = LD_LAUNCH(k_resize_axis, dim3(ld_blocks(longest, 128), 2), 128, 0, rows, columns);
    if (!bad)
        bad = back ? ld_image_map_bwd(who, y, x, rows, columns) : ld_image_map(who, y, x, rows, columns);
    ld_cuda_workspace_done(workspace);
    return bad;
}

int ld_cuda_resize_bilinear(const ld_view *y, const ld_view *x, bool antialias) {
    return resize("resize_bilinear", y, x, antialias, false);
}

int ld_cuda_resize_bilinear_bwd(const ld_view *dx, const ld_view *g, bool antialias) {
    return resize("resize_bilinear backward", dx, g, antialias, true);
}
