#include "faulty.h"
#include "kernels/kernel.h"

static void k_reverse(int *y, const int *x, bool guarded) {
    LD_SHARED(int, s, [1024]);
    int i = (int)threadIdx.x, n = (int)blockDim.x;
    s[i] = x[i];
    if (guarded)
        __syncthreads();
    y[i] = s[n - 1 - i];
}

static void k_rotate(int *y, const int *x, bool guarded) {
    LD_SHARED(int, s, [1024]);
    int i = (int)threadIdx.x, n = (int)blockDim.x;
    s[i] = x[i];
    __syncthreads();
    int v = s[(i + 1) % n];
    if (guarded)
        __syncthreads();
    s[i] = v;
    __syncthreads();
    y[i] = s[i];
}

static void k_branch_barrier() {
    if (threadIdx.x < blockDim.x / 2)
        __syncthreads();
}

static void k_two_barriers() {
    if (threadIdx.x % 2)
        __syncthreads();
    else
        __syncthreads();
}

static void k_warp_sum(int *y, const int *x) {
    int v = x[threadIdx.x];
    for (int d = 16; d; d /= 2)
        v += __shfl_down_sync(LD_ALL_LANES, v, (unsigned)d);
    if (threadIdx.x % 32 == 0)
        y[threadIdx.x / 32] = v;
}

static void k_outside_mask(int *y, unsigned mask, int from) {
    if (mask >> threadIdx.x & 1)
        y[threadIdx.x] = __shfl_sync(mask, (int)threadIdx.x, from);
}

static void k_not_in_mask(int *y) {
    y[threadIdx.x] = __shfl_xor_sync(0xffffu, 1, 1);
}

static void k_absent_lane(int *y) {
    if (threadIdx.x < 16)
        return;
    y[threadIdx.x] = __shfl_xor_sync(LD_ALL_LANES, 1, 1);
}

static void k_shared_past(int at) {
    LD_SHARED(float, s, [64]);
    s[at] = 1;
}

static void k_dynamic_past(int at) {
    LD_DYNAMIC_SHARED(float, s);
    s[at] = 1;
}

static void k_shared_unwritten(float *y) {
    LD_SHARED(float, s, [2][2]);
    *y = s[1][1];
}

static void k_nothing() {
}

static void k_indices(int *y) {
    unsigned column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;
    y[row * gridDim.x * blockDim.x + column] = (int)(1 + blockIdx.y * 100 + threadIdx.y);
}

static void k_shuffles(int *y, int kind, int width) {
    int lane = (int)threadIdx.x;
    y[lane] = kind == 0   ? __shfl_up_sync(LD_ALL_LANES, lane, 3, width)
              : kind == 1 ? __shfl_down_sync(LD_ALL_LANES, lane, 3, width)
              : kind == 2 ? __shfl_xor_sync(LD_ALL_LANES, lane, 3, width)
                          : __shfl_sync(LD_ALL_LANES, lane, 3, width);
}

static void k_votes(unsigned *y) {
    bool few = threadIdx.x < 5;
    unsigned lanes = __ballot_sync(LD_ALL_LANES, few);
    bool any = __any_sync(LD_ALL_LANES, few), all = __all_sync(LD_ALL_LANES, few);
    bool each = __all_sync(LD_ALL_LANES, 1);
    if (threadIdx.x == 7)
        *y = lanes | (unsigned)any << 8 | (unsigned)all << 9 | (unsigned)each << 10;
}

static void k_unaligned(int *y, int at) {
    if (threadIdx.x == 0)
        store_pack<int, 4>(y, load_pack<int, 4>(y + at));
}

static void k_last_block(int *y, unsigned *count) {
    LD_SHARED(unsigned, seen, [1]);
    if (threadIdx.x == 0) {
        y[blockIdx.x] = (int)blockIdx.x;
        __threadfence();
        seen[0] = atomicAdd(count, 1u);
    }
    __syncthreads();
    if (seen[0] != gridDim.x - 1 || threadIdx.x)
        return;
    int sum = 0;
    for (unsigned b = 0; b < gridDim.x; b++)
        sum += y[b];
    y[gridDim.x] = sum;
}

int sim_reverse(int *y, const int *x, int threads) {
    return LD_LAUNCH(k_reverse, 1, threads, 0, y, x, true);
}
int sim_reverse_unguarded(int *y, const int *x, int threads) {
    return LD_LAUNCH(k_reverse, 1, threads, 0, y, x, false);
}
int sim_rotate(int *y, const int *x, int threads, int guarded) {
    return LD_LAUNCH(k_rotate, 1, threads, 0, y, x, guarded != 0);
}
int sim_branch_barrier(int threads) {
    return LD_LAUNCH(k_branch_barrier, 1, threads, 0);
}
int sim_two_barriers(int threads) {
    return LD_LAUNCH(k_two_barriers, 1, threads, 0);
}
int sim_warp_sum(int *y, const int *x, int threads) {
    return LD_LAUNCH(k_warp_sum, 1, threads, 0, y, x);
}
int sim_outside_mask(int *y, unsigned mask, int from) {
    return LD_LAUNCH(k_outside_mask, 1, 32, 0, y, mask, from);
}
int sim_not_in_mask(int *y) {
    return LD_LAUNCH(k_not_in_mask, 1, 32, 0, y);
}
int sim_absent_lane(int *y) {
    return LD_LAUNCH(k_absent_lane, 1, 32, 0, y);
}
int sim_shared_past(int at) {
    return LD_LAUNCH(k_shared_past, 1, 32, 0, at);
}
int sim_dynamic_past(int at) {
    return LD_LAUNCH(k_dynamic_past, 1, 32, 64 * sizeof(float), at);
}
int sim_shared_unwritten(float *y) {
    return LD_LAUNCH(k_shared_unwritten, 1, 32, 0, y);
}
int sim_shared_bytes(int bytes, int allowed) {
    int bad = allowed ? LD_ALLOW_SHARED(k_nothing, (size_t)allowed) : 0;
    return bad ? bad : LD_LAUNCH(k_nothing, 1, 32, (size_t)bytes);
}
int sim_shape(int blocks_y, int threads) {
    return LD_LAUNCH(k_nothing, dim3(1, (unsigned)blocks_y), threads, 0);
}
int sim_indices(int *y, int gx, int gy, int bx, int by) {
    return LD_LAUNCH(k_indices, dim3((unsigned)gx, (unsigned)gy), dim3((unsigned)bx, (unsigned)by), 0, y);
}
int sim_shuffles(int *y, int kind, int width) {
    return LD_LAUNCH(k_shuffles, 1, 32, 0, y, kind, width);
}
int sim_votes(unsigned *y) {
    return LD_LAUNCH(k_votes, 1, 32, 0, y);
}
int sim_unaligned(int *y, int at) {
    return LD_LAUNCH(k_unaligned, 1, 32, 0, y, at);
}
int sim_last_block(int *y, unsigned *count, int blocks) {
    return LD_LAUNCH(k_last_block, (unsigned)blocks, 64, 0, y, count);
}
