/* Template: the tile transforms of Winograd's F(4x4,3x3) and the work on a run of tiles, for one width of registers.
 * Include with LANES, VEC and FN(name) set, after panel.h. See winograd.c. */

/* o = B^T d along one axis, 6 -> 6. */
LD_BODY void FN(input_axis)(VEC *o, int os, const VEC *d, int ds) {
    VEC d0 = d[0], d1 = d[ds], d2 = d[2 * ds], d3 = d[3 * ds], d4 = d[4 * ds], d5 = d[5 * ds];
    o[0] = (A2 * B2) * d0 - (A2 + B2) * d2 + d4;
    VEC even = d4 - B2 * d2, odd = PA * (d3 - B2 * d1);
    o[os] = even + odd;
    o[2 * os] = even - odd;
    even = d4 - A2 * d2, odd = PB * (d3 - A2 * d1);
    o[3 * os] = even + odd;
    o[4 * os] = even - odd;
    o[5 * os] = (A2 * B2) * d1 - (A2 + B2) * d3 + d5;
}

/* o = A^T m along one axis, 6 -> 4. */
LD_BODY void FN(output_axis)(VEC *o, int os, const VEC *m, int ms) {
    VEC sa = m[ms] + m[2 * ms], da = m[ms] - m[2 * ms], sb = m[3 * ms] + m[4 * ms], db = m[3 * ms] - m[4 * ms];
    o[0] = m[0] + sa + sb;
    o[os] = PA * da + PB * db;
    o[2 * os] = A2 * sa + B2 * sb;
    o[3 * os] = (A2 * PA) * da + (B2 * PB) * db + m[5 * ms];
}

/* o = A g along one axis, 4 -> 6: the transpose of output_axis. */
LD_BODY void FN(gradient_axis)(VEC *o, int os, const VEC *g, int gs) {
    VEC g0 = g[0], g1 = g[gs], g2 = g[2 * gs], g3 = g[3 * gs];
    o[0] = g0;
    VEC even = g0 + A2 * g2, odd = PA * g1 + (A2 * PA) * g3;
    o[os] = even + odd;
    o[2 * os] = even - odd;
    even = g0 + B2 * g2, odd = PB * g1 + (B2 * PB) * g3;
    o[3 * os] = even + odd;
    o[4 * os] = even - odd;
    o[5 * os] = g3;
}

/* o = G w along one axis, 3 -> 6. */
LD_BODY void FN(weight_axis)(VEC *o, int os, const VEC *w, int ws) {
    VEC w0 = w[0], w1 = w[ws], w2 = w[2 * ws];
    o[0] = (1 / (A2 * B2)) * w0;
    VEC even = NA * (w0 + A2 * w2), odd = (NA * PA) * w1;
    o[os] = even + odd;
    o[2 * os] = even - odd;
    even = NB * (w0 + B2 * w2), odd = (NB * PB) * w1;
    o[3 * os] = even + odd;
    o[4 * os] = even - odd;
    o[5 * os] = w2;
}

/* o = G^T m along one axis, 6 -> 3. */
LD_BODY void FN(weight_back)(VEC *o, int os, const VEC *m, int ms) {
    VEC sa = m[ms] + m[2 * ms], da = m[ms] - m[2 * ms], sb = m[3 * ms] + m[4 * ms], db = m[3 * ms] - m[4 * ms];
    o[0] = (1 / (A2 * B2)) * m[0] + NA * sa + NB * sb;
    o[os] = (NA * PA) * da + (NB * PB) * db;
    o[2 * os] = (NA * A2) * sa + (NB * B2) * sb + m[5 * ms];
}

/* Both axes of a tile in d (rows of `side`): 6x6 -> 6x6 in place. */
LD_BODY void FN(transform_input)(VEC *d) {
    VEC t[COMPONENTS];
#pragma GCC unroll 6
    for (int j = 0; j < 6; j++)
        FN(input_axis)(t + j, 6, d + j, 6);
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++)
        FN(input_axis)(d + 6 * i, 1, t + 6 * i, 1);
}

/* *d = one pixel's channels, or 0 outside the image. `up` 2: row and column count in the repeated image. */
LD_BODY void FN(pixel)(const ld_winograd *z, const float *image, int64_t row, int64_t col, VEC *d) {
    *d = (VEC){0};
    if (row < 0 || row >= z->h * z->up || col < 0 || col >= z->w * z->up)
        return;
    if (z->up == 2)
        row >>= 1, col >>= 1;
    *d = *(const VEC *)(image + (row * z->w + col) * z->c);
}

/* The 36 components of input tile `t` to out[k k_stride + position of channel c]: in rows of channels, or, `panels` set,
 * in panels of 32 channels of `run` rows each. */
LD_BODY void FN(input_tile)(const ld_winograd *z, const float *x, int64_t t, float *out, int64_t k_stride, int panels,
                            int64_t run) {
    place at = place_of(z, t);
    int64_t row = 4 * at.r - z->top, col = 4 * at.s - z->left;
    bool inside = z->up == 1 && row >= 0 && col >= 0 && row + 6 <= z->h && col + 6 <= z->w;
    for (int64_t c = 0; c < z->c; c += LANES) {
        VEC d[COMPONENTS];
        const float *image = x + at.n * z->h * z->w * z->c + c;
        if (inside) {
            const float *from = image + (row * z->w + col) * z->c;
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
#pragma GCC unroll 6
                for (int j = 0; j < 6; j++)
                    d[6 * i + j] = *(const VEC *)(from + (i * z->w + j) * z->c);
        } else {
            for (int i = 0; i < 6; i++)
                for (int j = 0; j < 6; j++)
                    FN(pixel)(z, image, row + i, col + j, &d[6 * i + j]);
        }
        FN(transform_input)(d);
        float *to = out + (panels ? c / LD_PANEL * run * LD_PANEL + c % LD_PANEL : c);
#pragma GCC unroll 36
        for (int k = 0; k < COMPONENTS; k++)
            *(VEC *)(to + k * k_stride) = d[k];
    }
}

/* Results of output tile t from m[k k_stride + channel], plus bias; `down` 2 writes sums of 2x2 blocks. */
LD_BODY void FN(output_tile)(const ld_winograd *z, float *y, const float *bias, int64_t t, const float *m,
                             int64_t k_stride) {
    place at = place_of(z, t);
    int64_t row = 4 * at.r, col = 4 * at.s, wide = z->q / z->down;
    int rows = z->p - row < 4 ? (int)(z->p - row) : 4, cols = z->q - col < 4 ? (int)(z->q - col) : 4;
    float *image = y + at.n * (z->p / z->down) * wide * z->o;
    for (int64_t c = 0; c < z->o; c += LANES) {
        VEC d[COMPONENTS], half[24], u[16], b = bias ? *(const VEC *)(bias + c) : (VEC){0};
#pragma GCC unroll 36
        for (int k = 0; k < COMPONENTS; k++)
            d[k] = *(const VEC *)(m + k * k_stride + c);
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++)
            FN(output_axis)(half + j, 6, d + j, 6);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            FN(output_axis)(u + 4 * i, 1, half + 6 * i, 1);
        if (z->down == 2) {
            for (int i = 0; i < rows; i += 2)
                for (int j = 0; j < cols; j += 2)
                    *(VEC *)(image + ((row + i) / 2 * wide + (col + j) / 2) * z->o + c) =
                        (u[4 * i + j] + u[4 * i + j + 1]) + (u[4 * i + 4 + j] + u[4 * i + 5 + j]);
            continue;
        }
        float *to = image + (row * wide + col) * z->o + c;
        if (rows == 4 && cols == 4) {
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++)
                    *(VEC *)(to + (i * wide + j) * z->o) = u[4 * i + j] + b;
        } else {
            for (int i = 0; i < rows; i++)
                for (int j = 0; j < cols; j++)
                    *(VEC *)(to + (i * wide + j) * z->o) = u[4 * i + j] + b;
        }
    }
}

/* The 36 components A g A^T of output tile t of g (p q pixels of o channels), 0 past the edge, to rows of channels. */
LD_BODY void FN(gradient_tile)(const ld_winograd *z, const float *g, int64_t t, float *out, int64_t k_stride) {
    place at = place_of(z, t);
    int64_t row = 4 * at.r, col = 4 * at.s;
    int rows = z->p - row < 4 ? (int)(z->p - row) : 4, cols = z->q - col < 4 ? (int)(z->q - col) : 4;
    for (int64_t c = 0; c < z->o; c += LANES) {
        VEC d[16], half[24], u[COMPONENTS];
        const float *from = g + ((at.n * z->p + row) * z->q + col) * z->o + c;
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++)
                d[4 * i + j] = i < rows && j < cols ? *(const VEC *)(from + (i * z->q + j) * z->o) : (VEC){0};
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            FN(gradient_axis)(half + j, 4, d + j, 4);
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
            FN(gradient_axis)(u + 6 * i, 1, half + 4 * i, 1);
#pragma GCC unroll 36
        for (int k = 0; k < COMPONENTS; k++)
            *(VEC *)(out + k * k_stride + c) = u[k];
    }
}

/* ---- what one thread does ---------------------------------------------------------------------------------------- */

/* Input tiles from .. to of a run that starts at tile `first`: v[k][tile of the run][row]. */
LD_BODY void FN(input_run)(const ld_winograd *z, const float *x, int64_t first, int64_t from, int64_t to, float *v,
                           int64_t row, int64_t run) {
    for (int64_t i = from; i < to; i++)
        FN(input_tile)(z, x, first + i, v + i * row, run * row, 0, 0);
}

/* m[k][tile][o] = v[k][tile][c] u[k][panel][c][32] for pairs (component, panel) from .. to and m tiles. */
LD_BODY void FN(product_run)(const ld_winograd *z, int64_t from, int64_t to, int64_t tiles, const float *v, int64_t row,
                             const float *u, float *m, int64_t m_row, int64_t run) {
    int64_t panels = panels_of(z->o);
    for (int64_t i = from; i < to; i++) {
        int64_t k = i / panels, p = i % panels;
        FN(panel)
        (tiles, z->c, v + k * run * row, row, 1, u + i * z->c * LD_PANEL, m + k * run * m_row + p * LD_PANEL, m_row, 0);
    }
}

LD_BODY void FN(output_run)(const ld_winograd *z, float *y, const float *bias, int64_t first, int64_t from, int64_t to,
                            const float *m, int64_t m_row, int64_t run) {
    for (int64_t i = from; i < to; i++)
        FN(output_tile)(z, y, bias, first + i, m + i * m_row, run * m_row);
}

/* Both sides of the weight gradient: x in panels v[k][panel][tile][32], g in rows w[k][tile][row]. */
LD_BODY void FN(gradient_run)(const ld_winograd *z, const float *x, const float *g, int64_t first, int64_t from,
                              int64_t to, float *v, float *w, int64_t row, int64_t run) {
    int64_t v_stride = panels_of(z->c) * run * LD_PANEL;
    for (int64_t i = from; i < to; i++) {
        FN(input_tile)(z, x, first + i, v + i * LD_PANEL, v_stride, 1, run);
        FN(gradient_tile)(z, g, first + i, w + i * row, run * row);
    }
}

/* sum[k][o][c] (+)= over tiles w[k][tile][o] v[k][panel][tile][32] for pairs (component, panel of c) from .. to. */
LD_BODY void FN(weight_run)(const ld_winograd *z, int64_t from, int64_t to, int64_t tiles, const float *v,
                            const float *w, int64_t row, float *sum, int64_t run, int add) {
    int64_t panels = panels_of(z->c), wide = panels * LD_PANEL;
    for (int64_t i = from; i < to; i++) {
        int64_t k = i / panels, p = i % panels;
        for (int64_t t = 0; t < tiles; t += DEPTH) {
            int64_t depth = tiles - t < DEPTH ? tiles - t : DEPTH;
            FN(panel)
            (z->o, depth, w + (k * run + t) * row, 1, row, v + (i * run + t) * LD_PANEL,
             sum + k * z->o * wide + p * LD_PANEL, wide, add || t);
        }
    }
}

/* dw of outputs from .. to: G^T sum G. */
LD_BODY void FN(weight_out)(const ld_winograd *z, int64_t from, int64_t to, const float *sum,
                            const ld_winograd_weights *dw) {
    int64_t wide = panels_of(z->c) * LD_PANEL;
    for (int64_t o = from; o < to; o++)
        for (int64_t c = 0; c < z->c; c += LANES) {
            VEC m[COMPONENTS], half[18], u[9];
#pragma GCC unroll 36
            for (int k = 0; k < COMPONENTS; k++)
                m[k] = *(const VEC *)(sum + (k * z->o + o) * wide + c);
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++)
                FN(weight_back)(half + j, 6, m + j, 6);
#pragma GCC unroll 3
            for (int i = 0; i < 3; i++)
                FN(weight_back)(u + 3 * i, 1, half + 6 * i, 1);
            for (int i = 0; i < 9; i++) {
                float *to_ = dw->data + o * dw->o + c * dw->c + i / 3 * dw->r + i % 3 * dw->s;
                if (dw->c == 1)
                    *(VEC *)to_ = u[i];
                else
                    for (int l = 0; l < LANES; l++)
                        to_[l * dw->c] = u[i][l];
            }
        }
}

/* m = m transposed, LANES x LANES: interleaving the halves log2(LANES) times. */
LD_BODY void FN(transpose)(VEC *m) {
    INDEX low = {0}, high = {0};
    for (int l = 0; l < LANES; l++) {
        low[l] = l / 2 + l % 2 * LANES;
        high[l] = low[l] + LANES / 2;
    }
#pragma GCC unroll 4
    for (int step = 1; step < LANES; step *= 2) {
        VEC t[LANES];
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; i++) {
            t[2 * i] = __builtin_shuffle(m[i], m[i + LANES / 2], low);
            t[2 * i + 1] = __builtin_shuffle(m[i], m[i + LANES / 2], high);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            m[i] = t[i];
    }
}

/* taps[tap][c] = the weights of LANES outputs from o on (0 past the last) for LANES inputs from c on. */
LD_BODY void FN(load_taps)(const ld_winograd *z, const ld_winograd_weights *w, int64_t o, int64_t c,
                           VEC taps[9][LANES]) {
    for (int i = 0; i < 9; i++) {
        const float *from = w->data + o * w->o + c * w->c + i / 3 * w->r + i % 3 * w->s;
        VEC m[LANES];
        if (w->o == 1 && o + LANES <= z->o) {
            for (int l = 0; l < LANES; l++)
                taps[i][l] = *(const VEC *)(from + l * w->c);
            continue;
        }
        for (int l = 0; l < LANES; l++) {
            m[l] = (VEC){0};
            if (o + l < z->o && w->c == 1)
                m[l] = *(const VEC *)(from + l * w->o);
            else if (o + l < z->o)
                for (int j = 0; j < LANES; j++)
                    m[l][j] = from[l * w->o + j * w->c];
        }
        FN(transpose)(m);
        for (int l = 0; l < LANES; l++)
            taps[i][l] = m[l];
    }
}

/* Weights of input channels from .. to (multiples of MULTIPLE), transformed: u[k][panel of o][c][32], 0 past the last
 * output. */
LD_BODY void FN(pack_run)(const ld_winograd *z, int64_t from, int64_t to, const ld_winograd_weights *w, float *u) {
    int64_t panels = panels_of(z->o), k_stride = panels * z->c * LD_PANEL;
    for (int64_t o = 0; o < panels * LD_PANEL; o += LANES)
        for (int64_t c = from; c < to; c += LANES) {
            VEC taps[9][LANES];
            FN(load_taps)(z, w, o, c, taps);
            for (int l = 0; l < LANES; l++) {
                VEC half[18], all[COMPONENTS];
#pragma GCC unroll 3
                for (int j = 0; j < 3; j++)
                    FN(weight_axis)(half + j, 3, &taps[j][l], 3 * LANES);
#pragma GCC unroll 6
                for (int i = 0; i < 6; i++)
                    FN(weight_axis)(all + 6 * i, 1, half + 3 * i, 1);
                float *to_ = u + (o / LD_PANEL * z->c + c + l) * LD_PANEL + o % LD_PANEL;
#pragma GCC unroll 36
                for (int k = 0; k < COMPONENTS; k++)
                    *(VEC *)(to_ + k * k_stride) = all[k];
            }
        }
}
