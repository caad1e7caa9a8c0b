/* The inner product of the CPU kernels: rows of A times a panel of 32 columns of B, in registers.
 *
 * Include with LANES (floats in a register: 16, 8 or 4), VEC (a vector type of that width, unaligned) and FN(name) set;
 * winograd.c does so once a level of the instruction set. The loops over registers have constant bounds, so that gcc
 * keeps the sums in registers: 12 x 2 of them with AVX-512 (116 of 116 GFLOP/s a core of Zen 4), 6 x 2 below. */

/* c[i][0..31] (+)= sum over k of a[i ai + k ak] b[32 k + 0..31] for `rows` rows, a constant. */
LD_BODY void FN(rows)(const int rows, int64_t depth, const float *a, int64_t ai, int64_t ak, const float *b, float *c,
                      int64_t ci, int add) {
    for (int j = 0; j < LD_PANEL; j += 2 * LANES) {
        VEC s[LD_PANEL_ROWS][2];
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            s[i][0] = add ? *(const VEC *)(c + i * ci + j) : (VEC){0};
            s[i][1] = add ? *(const VEC *)(c + i * ci + j + LANES) : (VEC){0};
        }
        for (int64_t k = 0; k < depth; k++) {
            VEC b0 = *(const VEC *)(b + LD_PANEL * k + j), b1 = *(const VEC *)(b + LD_PANEL * k + j + LANES);
#pragma GCC unroll 12
            for (int i = 0; i < rows; i++) {
                float x = a[i * ai + k * ak];
                s[i][0] += x * b0;
                s[i][1] += x * b1;
            }
        }
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            *(VEC *)(c + i * ci + j) = s[i][0];
            *(VEC *)(c + i * ci + j + LANES) = s[i][1];
        }
    }
}

/* The same for any number m of rows. */
LD_BODY void FN(panel)(int64_t m, int64_t depth, const float *a, int64_t ai, int64_t ak, const float *b, float *c,
                       int64_t ci, int add) {
    enum { MOST = LANES == 16 ? LD_PANEL_ROWS : 6 };
    for (; m >= MOST; m -= MOST, a += MOST * ai, c += MOST * ci)
        FN(rows)(MOST, depth, a, ai, ak, b, c, ci, add);
    if (LANES == 16 && m >= 8) {
        FN(rows)(8, depth, a, ai, ak, b, c, ci, add);
        m -= 8, a += 8 * ai, c += 8 * ci;
    }
    if (m >= 4) {
        FN(rows)(4, depth, a, ai, ak, b, c, ci, add);
        m -= 4, a += 4 * ai, c += 4 * ci;
    }
    for (; m > 0; m--, a += ai, c += ci)
        FN(rows)(1, depth, a, ai, ak, b, c, ci, add);
}
