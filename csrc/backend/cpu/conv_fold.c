/* Nearest upsampling by 2 and the 3x3 convolution after it (stride and padding 1) as one transposed convolution 4x4 of
 * stride 2 and padding 1 on the small image, 16 multiplications a small pixel instead of 36:
 *
 *   along an axis  y[2i] = w0 x[i-1] + (w1 + w2) x[i],  y[2i+1] = (w0 + w1) x[i] + w2 x[i+1]
 *   so             k = [w2, w1 + w2, w0 + w1, w0],  and back  dw = [dk2 + dk3, dk1 + dk2, dk0 + dk1]
 *
 * borders included. The transposed convolution is oneDNN's data gradient with (C,O,4,4) weights; its own gradients are a
 * forward pass and a weight gradient with x and y exchanged. */
#include "backend/cpu/conv.h"
#include "backend/device.h"

#include <string.h>

static const char who[] = "conv2d";

static float *tap(const ld_view *w, int64_t o, int64_t c, int r, int s) {
    return (float *)w->data + o * w->stride[0] + c * w->stride[1] + r * w->stride[2] + s * w->stride[3];
}

/* o = the 4 folded taps of 3, along one axis. */
static void fold_axis(float *o, int os, const float *w, int ws) {
    o[0] = w[2 * ws];
    o[os] = w[ws] + w[2 * ws];
    o[2 * os] = w[0] + w[ws];
    o[3 * os] = w[0];
}

/* o = the 3 taps that 4 folded ones are sums of: the transpose. */
static void unfold_axis(float *o, int os, const float *k, int ks) {
    o[0] = k[2 * ks] + k[3 * ks];
    o[os] = k[ks] + k[2 * ks];
    o[2 * os] = k[0] + k[ks];
}

/* k (C,4,4,O) from w (O,C,3,3). */
static void fold(const ld_view *w, float *k) {
    int64_t no = w->shape[0], nc = w->shape[1];
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t c = 0; c < nc; c++)
        for (int64_t o = 0; o < no; o++) {
            float taps[9], half[12], all[16];
            for (int i = 0; i < 9; i++)
                taps[i] = *tap(w, o, c, i / 3, i % 3);
            for (int s = 0; s < 3; s++)
                fold_axis(half + s, 3, taps + s, 3);
            for (int r = 0; r < 4; r++)
                fold_axis(all + 4 * r, 1, half + 3 * r, 1);
            for (int i = 0; i < 16; i++)
                k[(c * 16 + i) * no + o] = all[i];
        }
}

/* dw (O,C,3,3) from dk (C,4,4,O). */
static void unfold(const ld_view *dw, const float *dk) {
    int64_t no = dw->shape[0], nc = dw->shape[1];
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t c = 0; c < nc; c++)
        for (int64_t o = 0; o < no; o++) {
            float all[16], half[12], taps[9];
            for (int i = 0; i < 16; i++)
                all[i] = dk[(c * 16 + i) * no + o];
            for (int s = 0; s < 4; s++)
                unfold_axis(half + s, 4, all + s, 4);
            for (int r = 0; r < 3; r++)
                unfold_axis(taps + 3 * r, 1, half + 4 * r, 1);
            for (int i = 0; i < 9; i++)
                *tap(dw, o, c, i / 3, i % 3) = taps[i];
        }
}

/* Every pixel of y += bias. */
static void add_bias(const ld_view *y, const float *bias) {
    int64_t o = y->shape[1], pixels = ld_view_numel(y) / o;
#pragma omp parallel for schedule(static) num_threads(ld_threads())
    for (int64_t i = 0; i < pixels; i++) {
        float *row = (float *)y->data + i * o;
#pragma omp simd
        for (int64_t j = 0; j < o; j++)
            row[j] += bias[j];
    }
}

/* What oneDNN computes with folded weights; its "x" is the large image. */
static ld_dnnl_key key_of(const ld_conv_call *c) {
    static const ld_dnnl_kind kinds[] = {
        [LD_DNNL_CONV] = LD_DNNL_CONV_DX, [LD_DNNL_CONV_DX] = LD_DNNL_CONV, [LD_DNNL_CONV_DW] = LD_DNNL_CONV_DW};
    ld_dnnl_key k;
    memset(&k, 0, sizeof k);
    k.kind = kinds[c->kind];
    k.layout = LD_DNNL_PLAIN;
    k.threads = ld_threads();
    k.stride_h = k.stride_w = 2;
    k.top = k.bottom = k.left = k.right = 1;
    int64_t no = c->w->shape[0], nc = c->w->shape[1];
    ld_dnnl_describe_nhwc(&k.x, c->y->shape);
    ld_dnnl_describe_nhwc(&k.y, c->x->shape);
    ld_dnnl_describe(&k.w, 4, (int64_t[]){nc, no, 4, 4}, (int64_t[]){16 * no, 1, 4 * no, no});
    return k;
}

static size_t folded_bytes(const ld_conv_call *c) {
    return ((size_t)(16 * c->w->shape[0] * c->w->shape[1]) * sizeof(float) + 255) & ~(size_t)255;
}

int ld_conv_folded_workspace(const ld_conv_call *c, size_t *bytes) {
    ld_dnnl_key key = key_of(c);
    int bad = ld_dnnl_workspace(&key, who, bytes);
    *bytes += folded_bytes(c);
    return bad;
}

int ld_conv_folded(const ld_conv_call *c, void *workspace) {
    ld_dnnl_key key = key_of(c);
    float *k = workspace;
    bool dw = c->kind == LD_DNNL_CONV_DW;
    if (!dw)
        fold(c->w, k);
    int bad = ld_dnnl_run_in(&key, who, c->y->data, k, NULL, c->x->data, NULL, (char *)workspace + folded_bytes(c));
    if (!bad && dw)
        unfold(c->w, k);
    if (!bad && dw && c->bias)
        bad = ld_conv_bias_gradient(c);
    if (!bad && c->kind == LD_DNNL_CONV && c->bias)
        add_bias(c->y, c->bias->data);
    return bad;
}
