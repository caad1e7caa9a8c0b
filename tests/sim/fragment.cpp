/* Element i of a lane's part of a matrix lies where PTX's description of the instruction says, whose names these are. For the
 * simulator as it is; for a card on_device.cu includes it. */
#include "fragment.h"
#include "kernels/mma.h"

template <typename T> __global__ void k_product(float *c, const T *a, const T *b) {
    int group = (int)threadIdx.x / 4, in_group = (int)threadIdx.x % 4;
    uint32_t a_part[4] = {0, 0, 0, 0}, b_part[2] = {0, 0};
    float c_part[4];
    for (int i = 0; i < 8; i++) {
        int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
        int column = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
        a_part[i / 2] |= (uint32_t)a[row * 16 + column].bits << i % 2 * 16;
    }
    for (int i = 0; i < 4; i++) {
        int row = in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0);
        b_part[i / 2] |= (uint32_t)b[row * 8 + group].bits << i % 2 * 16;
    }
    for (int i = 0; i < 4; i++)
        c_part[i] = c[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)];
    mma_16x8x16<T>(c_part, a_part, b_part);
    for (int i = 0; i < 4; i++)
        c[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)] = c_part[i];
}

template <typename T> static int product(const ld_view *c, const ld_view *a, const ld_view *b) {
    return LD_LAUNCH(k_product<T>, 1, LD_WARP, 0, (float *)c->data, (const T *)a->data, (const T *)b->data);
}

int sim_product(const ld_view *c, const ld_view *a, const ld_view *b) {
    return a->dtype == LD_BF16 ? product<bf16>(c, a, b) : product<f16>(c, a, b);
}
