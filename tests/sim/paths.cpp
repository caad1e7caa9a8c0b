#include "paths.h"
#include "kernels/separable.h"

int sim_quotients(void) {
    static const uint32_t ends[] = {1,    2,     3,     5,     7,          31,         32,        33,
                                    1000, 65535, 65536, 65537, 0x3fffffff, 0x40000001, 0x7fffffff};
    int wrong = 0;
    for (uint32_t by : ends) {
        ld_divisor d = ld_divisor_of(by);
        for (uint32_t at : ends)
            for (uint32_t n = at < 3 ? 0 : at - 3; n < at + 3 && n < 0x80000000u; n++)
                wrong += d.quotient(n) != n / by;
        for (uint32_t n = by / 2; n < 0x80000000u - by; n += by / 3 + 977 * 1024)
            wrong += d.quotient(n) != n / by;
    }
    return wrong;
}

void sim_space(const ld_view *y, const ld_view *x, int most, int *vector, int *ndim) {
    const ld_view *views[] = {y, x};
    ld_space<2> s = ld_space_of<2>(views, most);
    *vector = s.vector;
    *ndim = s.ndim;
}

int sim_locate(const ld_view *y, const ld_view *x) {
    const ld_view *views[] = {y, x};
    ld_space<2> s = ld_space_of<2>(views, 1), wide = s;
    int wrong = 0;
    wide.small = false;
    for (int64_t u = 0; u < s.units; u++) {
        int64_t a[2], b[2];
        s.locate(u, a);
        wide.locate(u, b);
        wrong += a[0] != b[0] || a[1] != b[1];
    }
    return wrong + !s.small;
}

struct no_axis {};

int sim_pixels(int images, int rows, int columns, int groups) {
    image_map<float, no_axis> m;
    memset((void *)&m, 0, sizeof m);
    m.groups = groups;
    m.y_rows = rows;
    m.y_columns = columns;
    m.by_group = ld_divisor_of((uint32_t)groups);
    m.by_column = ld_divisor_of((uint32_t)columns);
    m.by_row = ld_divisor_of((uint32_t)rows);
    int wrong = 0;
    for (int64_t u = 0; u < (int64_t)images * rows * columns * groups; u++) {
        int64_t n[2], g[2];
        int r[2], c[2];
        for (int k = 0; k < 2; k++) {
            m.small = k == 0;
            find_pixel(m, u, &n[k], &r[k], &c[k], &g[k]);
            wrong += ((n[k] * rows + r[k]) * columns + c[k]) * groups + g[k] != u || r[k] >= rows || c[k] >= columns;
        }
        wrong += n[0] != n[1] || g[0] != g[1] || r[0] != r[1] || c[0] != c[1];
    }
    return wrong;
}
