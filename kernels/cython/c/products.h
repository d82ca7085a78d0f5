/* products.h: the two products of a dense layer, over whole batches of rows.
 *
 *   multiply    y (rows, 16 count) = init + x (rows, depth) panels      forward, and deltas
 *   gradient    c (height, 16 width) = init + x^T (height, rows) dy     one tile of the weights
 *
 * They are what a table of kernels may have from elsewhere. Rows of x that lie apart, in the
 * caller's own matrix, are for the tiles of this instance alone. */

enum { FIRST_LEVEL = 32 * 1024 }; /* bytes of the first-level cache */

typedef void Multiply(const T *x, int64_t x_stride, const T *panel, int64_t count, int64_t depth,
                      const T *init, int64_t init_panel, T *y, int64_t y_panel, int64_t rows);
typedef void Gradient(const T *left, const T *right, int64_t right_stride, int64_t rows,
                      int64_t height, int64_t width, const T *init, int64_t init_row, T *c);

/* y [row][16] = init + x panel, for one block of outputs. Of a panel too large to wait in
 * the first-level cache, every tile of 16 rows fetches a quarter of the next one. */
INLINE void multiply_panel(const T *x, int64_t x_stride, const T *panel, int64_t depth,
                           const T *init, T *y, int64_t rows)
{
    const int fetch = depth * BLOCK * (int64_t)sizeof(T) >= FIRST_LEVEL;
    const char *next = (const char *)(panel + depth * BLOCK);
    for (int64_t r = 0; r < rows; r += BLOCK) {
        Source from = {.a = x + r * BLOCK, .a_block = x_stride};
        if (fetch && rows - r > 8) {
            from.ahead = next + r / BLOCK % 4 * FETCH * LINE;
            from.ahead_step = BLOCK * BLOCK * sizeof(T);
            rows_fetching_tile_16(&from, panel, depth, init, 0, y + r * BLOCK);
        } else
            BY_HEIGHT(rows_tile, rows - r, &from, panel, depth, init, 0, y + r * BLOCK);
    }
}

/* The same where row r of x lies at x[r]; as many rows as the tiles are high are read, and
 * copied to blocks unless copy is NULL. */
INLINE void multiply_panel_apart(const T *const *x, T *copy, int64_t copy_stride, const T *panel,
                                 int64_t depth, const T *init, T *y, int64_t rows)
{
    for (int64_t r = 0; r < rows; r += BLOCK) {
        const Source from = {.rows = x + r, .copy = copy + r * BLOCK, .copy_block = copy_stride};
        if (copy)
            BY_HEIGHT(rows_copying_tile, rows - r, &from, panel, depth, init, 0, y + r * BLOCK);
        else
            BY_HEIGHT(rows_apart_tile, rows - r, &from, panel, depth, init, 0, y + r * BLOCK);
    }
}

/* The same for `count` panels, one after another in memory; init and y have theirs at a
 * distance. Where the rows of x are: in blocks, or unless it is NULL as x_rows says. */
INLINE void multiply_panels(const T *x, int64_t x_stride, const T *const *x_rows, const T *panel,
                            int64_t count, int64_t depth, const T *init, int64_t init_panel, T *y,
                            int64_t y_panel, int64_t rows)
{
    const int64_t size = depth * BLOCK;
    int64_t wide = 0, high = 0; /* panels and their rows that wide tiles take */
#if PANELS > 1
    enum { SHARES = PANELS * BLOCK / FETCH }; /* tiles that together fetch the next panels */
    const int fetch = PANELS * size * (int64_t)sizeof(T) >= FIRST_LEVEL;
    wide = count / PANELS * PANELS;
    high = rows / WIDE_ROWS * WIDE_ROWS;
    for (int64_t j = 0; j < wide; j += PANELS)
        for (int64_t r = 0; r < high; r += WIDE_ROWS) {
            const Source from = {
                .a = x + r * BLOCK,
                .a_block = x_stride,
                .rows = x_rows ? x_rows + r : NULL,
                .ahead = (const char *)(panel + (j + PANELS) * size) +
                         r / WIDE_ROWS % SHARES * FETCH * LINE,
                .ahead_step = PANELS * BLOCK * BLOCK * sizeof(T),
            };
            (x_rows  ? rows_apart_wide_tile
             : fetch ? rows_fetching_wide_tile
                     : rows_wide_tile)(&from, panel + j * size, size, depth, init + j * init_panel,
                                       0, init_panel, y + j * y_panel + r * BLOCK, y_panel);
        }
#endif
    for (int64_t j = 0; j < count; j++) {
        const int64_t r = j < wide ? high : 0;
        const T *const start = init + j * init_panel;
        T *const z = y + j * y_panel + r * BLOCK;
        if (x_rows)
            multiply_panel_apart(x_rows + r, NULL, 0, panel + j * size, depth, start, z, rows - r);
        else
            multiply_panel(x + r * BLOCK, x_stride, panel + j * size, depth, start, z, rows - r);
    }
}

OUTLINE void multiply(const T *x, int64_t x_stride, const T *panel, int64_t count, int64_t depth,
                      const T *init, int64_t init_panel, T *y, int64_t y_panel, int64_t rows)
{
    multiply_panels(x, x_stride, NULL, panel, count, depth, init, init_panel, y, y_panel, rows);
}

OUTLINE void multiply_apart(const T *const *x, const T *panel, int64_t count, int64_t depth,
                            const T *init, int64_t init_panel, T *y, int64_t y_panel, int64_t rows)
{
    multiply_panels(NULL, 0, x, panel, count, depth, init, init_panel, y, y_panel, rows);
}

/* c [width][16][16] = init + left^T right; left is [row][16], right's blocks lie at a distance. */
OUTLINE void gradient(const T *left, const T *right, int64_t right_stride, int64_t rows,
                      int64_t height, int64_t width, const T *init, int64_t init_row, T *c)
{
#if PANELS > 1
    if (width == PANELS) {
        for (int64_t part = 0; part < height; part += WIDE_ROWS) {
            const Source from = {.a = left + part, .a_block = BLOCK * BLOCK};
            features_wide_tile(&from, right, right_stride, rows, init + part * init_row, init_row,
                               init_row * BLOCK, c + part * BLOCK, BLOCK * BLOCK);
        }
        return;
    }
#endif
    const Source from = {.a = left, .a_block = BLOCK * BLOCK};
    for (; width > 0; width--) {
        BY_HEIGHT(features_tile, height, &from, right, rows, init, init_row, c);
        right += right_stride;
        init += init_row * BLOCK;
        c += BLOCK * BLOCK;
    }
}

/* The same where row r of left is x[r] from a column on. The end of a row that lies apart may
 * be the end of the caller's array, so that nothing beyond may be read: heights are taken to
 * pieces, 13 = 8 + 4 + 1. */
OUTLINE void gradient_apart(const T *const *x, int64_t column, const T *right,
                            int64_t right_stride, int64_t rows, int64_t height, int64_t width,
                            const T *init, int64_t init_row, T *c)
{
    for (; width > 0; width--) {
        for (int64_t size = BLOCK, part = 0; size > 0; size /= 2) {
            if (!(height & size))
                continue;
            const Source from = {.rows = x, .column = column + part};
            BY_HEIGHT(features_apart_tile, size, &from, right, rows, init + part * init_row,
                      init_row, c + part * BLOCK);
            part += size;
        }
        right += right_stride;
        init += init_row * BLOCK;
        c += BLOCK * BLOCK;
    }
}

/* c [16] = init + sum over rows of dy, in four interleaved sums */
OUTLINE void sum_rows(const T *dy, int64_t rows, const T *init, T *c)
{
    for (int v = 0; v < BLOCK; v += LANES) {
        V a = load(init + v), b = ZERO, d = ZERO, e = ZERO;
        int64_t r = 0;
        for (; r + 4 <= rows; r += 4) {
            a += load(dy + r * BLOCK + v);
            b += load(dy + (r + 1) * BLOCK + v);
            d += load(dy + (r + 2) * BLOCK + v);
            e += load(dy + (r + 3) * BLOCK + v);
        }
        for (; r < rows; r++)
            a += load(dy + r * BLOCK + v);
        store(c + v, (a + b) + (d + e));
    }
}
