/* layer.h: one dense layer on rows in the blocked layout: forward, delta, gradient, update.
 *
 *   forward     y (rows, out) = x (rows, in) W + b        weight panels  [out/16][in][16]
 *   delta       dx (rows, in) = dy (rows, out) W^T        transposed     [in/16][out][16]
 *   gradient    dW (in, out)  = x^T (in, rows) dy         one tile at a time, all rows
 *
 * A narrow layer (out <= 4) would waste most of a panel's 16 lanes: it keeps its weights
 * in the transposed layout only, multiplies forward by dot products, and its gradient tile
 * has the roles of x and dy exchanged. Its delta needs no special case. */

static const T zeros[BLOCK] = {0};

enum { FIRST_LEVEL = 32 * 1024 }; /* bytes of the first-level cache */

static int64_t block_stride(int64_t rows)
{
    /* one line more than a multiple of 1 KB, so that blocks do not share cache sets */
    return (rows + BLOCK - 1) / BLOCK * BLOCK * BLOCK + BLOCK;
}

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- rows in and out of the blocked layout ---- */

INLINE void gather_row(const T *row, int64_t features, T *block, int64_t stride)
{
    for (; features >= BLOCK; features -= BLOCK, row += BLOCK, block += stride)
        copy_lanes(block, row, BLOCK);
    if (features > 0)
        copy_part(block, row, features);
}

INLINE void scatter_row(const T *block, int64_t stride, T *row, int64_t features)
{
    for (; features > 0; features -= BLOCK, row += BLOCK, block += stride)
        copy_lanes(row, block, smaller(features, BLOCK));
}

/* ---- forward ---- */

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
static void multiply_panels(const T *x, int64_t x_stride, const T *const *x_rows, const T *panel,
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

/* The same for one row and `count` <= 4 panels at once: four chains hide the latency. */
INLINE void multiply_row(const T *x, int64_t x_stride, const T *panel, int64_t panel_stride,
                         int64_t depth, const T *bias, T *y, int64_t y_stride, const int count)
{
    for (int v = 0; v < BLOCK; v += LANES) {
        V sum[4];
        for (int j = 0; j < count; j++)
            sum[j] = load(bias + j * BLOCK + v);
        for (int64_t k = 0; k < depth; x += x_stride) {
            const int64_t stop = smaller(depth, k + BLOCK);
            for (const T *at = x; k < stop; k++, at++)
                for (int j = 0; j < count; j++)
                    sum[j] += load(panel + j * panel_stride + k * BLOCK + v) * splat(*at);
        }
        x -= (depth + BLOCK - 1) / BLOCK * x_stride;
        for (int j = 0; j < count; j++)
            store(y + j * y_stride + v, sum[j]);
    }
}

static void forward_row(const Layer *layer, const T *weight, const T *bias, const T *x,
                        int64_t x_stride, T *y, int64_t y_stride)
{
    const int64_t panel = layer->in * BLOCK;
    int64_t block = 0;
    for (; block + 4 <= layer->out_blocks; block += 4)
        multiply_row(x, x_stride, weight + block * panel, panel, layer->in, bias + block * BLOCK,
                     y + block * y_stride, y_stride, 4);
    for (; block < layer->out_blocks; block++)
        multiply_row(x, x_stride, weight + block * panel, panel, layer->in, bias + block * BLOCK,
                     y + block * y_stride, y_stride, 1);
}

/* z[r][o] = b[o] + sum over lanes of x[.][r] * w[.][o] */
static void forward_narrow(const Layer *layer, const T *weight, const T *bias, const T *x,
                           int64_t x_stride, T *y, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int v = 0; v < BLOCK; v += LANES)
            store(y + r * BLOCK + v, ZERO);
        for (int64_t o = 0; o < layer->out; o++) {
            V sum = ZERO;
            for (int64_t block = 0; block < layer->in_blocks; block++)
                for (int v = 0; v < BLOCK; v += LANES)
                    sum += load(x + block * x_stride + r * BLOCK + v) *
                           load(weight + (block * layer->out + o) * BLOCK + v);
            y[r * BLOCK + o] = bias[o] + sum_of(sum);
        }
    }
}

/* Lanes beyond the features hold f(0) after an activation; before a narrow layer, whose
 * dot products and gradient run over lanes, they must hold zero. */
static void clear_padding(const Layer *next, T *x, int64_t stride, int64_t rows)
{
    const int64_t used = next->in % BLOCK;
    T *block = x + next->in / BLOCK * stride;
    if (next->narrow && used)
        for (int64_t r = 0; r < rows; r++)
            memset(block + r * BLOCK + used, 0, (size_t)(BLOCK - used) * sizeof(T));
}

/* z = x W + b, `parameters` being the arena. The rows of x are in blocks, or where x_rows
 * says; from there they are copied to blocks unless copy is NULL. */
static void forward_linear(const Layer *layer, const T *parameters, const T *x, int64_t x_stride,
                           const T *const *x_rows, T *copy, T *y, int64_t y_stride, int64_t rows)
{
    const T *weight = parameters + layer->weight_at, *bias = parameters + layer->bias_at;
    if (layer->narrow)
        forward_narrow(layer, weight, bias, x, x_stride, y, rows);
    else if (rows == 1) {
        if (x_rows && copy)
            gather_row(x_rows[0], layer->in, copy, x_stride);
        forward_row(layer, weight, bias, x_rows ? x_rows[0] : x, x_rows ? BLOCK : x_stride, y,
                    y_stride);
    } else {
        const int64_t copied = x_rows && copy; /* blocks whose tiles copy the rows */
        if (copied)
            multiply_panel_apart(x_rows, copy, x_stride, weight, layer->in, bias, y, rows);
        multiply_panels(x, x_stride, copied ? NULL : x_rows, weight + copied * layer->in * BLOCK,
                        layer->out_blocks - copied, layer->in, bias + copied * BLOCK, BLOCK,
                        y + copied * y_stride, y_stride, rows);
    }
}

/* [in/16][out][16]: what the delta multiplies by */
INLINE const T *transposed_weight(const Layer *layer, const T *parameters)
{
    return layer->narrow ? parameters + layer->weight_at : layer->transposed;
}

/* Where the parameters of a tile's first block lie in an arena, and how many rows of 16 a block
 * is; the next block of a tile lies a panel further. */
INLINE int64_t tile_at(const Layer *layer, const Tile *tile)
{
    return layer->weight_at + (layer->narrow
                                   ? tile->in_block * layer->out * BLOCK
                                   : (tile->out_block * layer->in + tile->in_block * BLOCK) * BLOCK);
}

INLINE int64_t tile_height(const Layer *layer, const Tile *tile)
{
    return layer->narrow ? layer->out : smaller(BLOCK, layer->in - tile->in_block * BLOCK);
}

/* One of a tile's blocks as a tile of its own. */
INLINE Tile block_of(const Tile *tile, int32_t block)
{
    return (Tile){tile->layer, tile->out_block + block, tile->in_block, 1, tile->number};
}

/* c [width][16][16] = init + x^T dy over `rows` rows, blocks as the layout of the weights has
 * them; x as above. The end of a row that lies apart may be the end of the caller's array, so
 * that nothing beyond may be read: heights are taken to pieces there, 13 = 8 + 4 + 1. */
INLINE void gradient_tile(const Layer *layer, const Tile *tile, const T *x,
                          const T *const *x_rows, const T *dy, int64_t stride, int64_t rows,
                          const T *init, int64_t init_row, T *c)
{
    const T *left = x + tile->in_block * stride, *right = dy + tile->out_block * stride;
    const int64_t height = tile_height(layer, tile);
#if PANELS > 1
    if (tile->width == PANELS && !x_rows) {
        for (int64_t part = 0; part < height; part += WIDE_ROWS) {
            const Source from = {.a = left + part, .a_block = BLOCK * BLOCK};
            features_wide_tile(&from, right, stride, rows, init + part * init_row, init_row,
                               init_row * BLOCK, c + part * BLOCK, BLOCK * BLOCK);
        }
        return;
    }
#endif
    for (int32_t block = 0; block < tile->width; block++) {
        if (x_rows)
            for (int64_t size = BLOCK, part = 0; size > 0; size /= 2) {
                if (!(height & size))
                    continue;
                const Source from = {.rows = x_rows, .column = tile->in_block * BLOCK + part};
                BY_HEIGHT(features_apart_tile, size, &from, right, rows, init + part * init_row,
                          init_row, c + part * BLOCK);
                part += size;
            }
        else {
            const Source from = {.a = layer->narrow ? right : left, .a_block = BLOCK * BLOCK};
            BY_HEIGHT(features_tile, height, &from, layer->narrow ? left : right, rows, init,
                      init_row, c);
        }
        right += stride;
        init += init_row * BLOCK;
        c += BLOCK * BLOCK;
    }
}

/* c [16] = init + sum over rows of dy, in four interleaved sums */
OUTLINE void bias_gradient(const T *dy, int64_t rows, const T *init, T *c)
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

/* Renew the part of the transposed copy that a tile's weights belong to. */
OUTLINE void transpose_weight(const Layer *layer, const Tile *tile, const T *weight)
{
    if (layer->transposed)
        transpose_tile(weight, (int)tile_height(layer, tile),
                       (T *)layer->transposed +
                           (tile->in_block * layer->out + tile->out_block * BLOCK) * BLOCK,
                       (int)smaller(BLOCK, layer->out - tile->out_block * BLOCK));
}
