/* kinds/dense.h: z = x W + b.
 *
 *   forward     y (rows, out) = x (rows, in) W + b        weight panels  [out/16][in][16]
 *   backward    dx (rows, in) = dy (rows, out) W^T        transposed     [in/16][out][16]
 *   gradient    dW (in, out)  = x^T (in, rows) dy         one tile at a time, all rows
 *               db (out)      = sum over rows of dy
 *
 * A narrow layer (out <= 4) would waste most of a panel's 16 lanes: it keeps its weights
 * in the transposed layout only, multiplies forward by dot products, and its gradient tile
 * has the roles of x and dy exchanged. Its way back needs no special case. */

enum { DENSE_WEIGHT, DENSE_BIAS };

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

/* The rows of a first layer's x may lie apart: see Workspace. */
INLINE void dense_forward(const Network *network, int64_t l, const Workspace *space,
                          int64_t first, int64_t rows)
{
    const Layer *layer = &network->layers[l];
    const T *weight = (const T *)network->parameters + layer->tensor[DENSE_WEIGHT].at;
    const T *bias = (const T *)network->parameters + layer->tensor[DENSE_BIAS].at;
    const int64_t stride = space->stride;
    T *x = rows_of(space->activation, l, first), *y = rows_of(space->activation, l + 1, first);
    const T *const *x_rows = l == 0 && space->rows ? (const T *const *)space->rows + first : NULL;
    T *copy = space->in_place ? NULL : x;
    if (layer->narrow)
        forward_narrow(layer, weight, bias, x, stride, y, rows);
    else if (rows == 1) {
        if (x_rows && copy)
            gather_row(x_rows[0], layer->in, copy, stride);
        forward_row(layer, weight, bias, x_rows ? x_rows[0] : x, x_rows ? BLOCK : stride, y,
                    stride);
    } else if (x_rows && !copy)
        multiply_apart(x_rows, weight, layer->out_blocks, layer->in, bias, BLOCK, y, stride, rows);
    else {
        const int64_t copied = x_rows != NULL; /* blocks whose tiles copy the rows */
        if (copied)
            multiply_panel_apart(x_rows, copy, stride, weight, layer->in, bias, y, rows);
        ((Multiply *)network->kernels->multiply)(
            x, stride, weight + copied * layer->in * BLOCK, layer->out_blocks - copied, layer->in,
            bias + copied * BLOCK, BLOCK, y + copied * stride, stride, rows);
    }
}

/* [in/16][out][16]: what the delta multiplies by */
INLINE const T *transposed_weight(const Layer *layer, const T *parameters)
{
    return layer->narrow ? parameters + layer->tensor[DENSE_WEIGHT].at : layer->transposed;
}

INLINE void dense_backward(const Network *network, int64_t l, const Workspace *space, int training,
                           int64_t first, int64_t rows, T *scratch)
{
    const Layer *layer = &network->layers[l];
    const T *transposed = transposed_weight(layer, network->parameters);
    const T *dy = rows_of(space->delta, l + 1, first);
    for (int64_t block = 0; block < layer->in_blocks; block += PANELS) {
        const int64_t count = smaller(PANELS, layer->in_blocks - block);
        ((Multiply *)network->kernels->multiply)(
            dy, space->stride, transposed + block * layer->out * BLOCK, count, layer->out, zeros,
            0, scratch, ROW_TILE * BLOCK, rows);
        descend(network, space, training, l, block, count, scratch, ROW_TILE * BLOCK, first, rows);
    }
}

/* Where the weights of a tile's block lie in an arena, and how many rows of 16 they are. */
INLINE int64_t dense_tile_at(const Layer *layer, const Tile *tile, int32_t block)
{
    return layer->tensor[DENSE_WEIGHT].at +
           (layer->narrow
                ? tile->in_block * layer->out * BLOCK
                : ((tile->out_block + block) * layer->in + tile->in_block * BLOCK) * BLOCK);
}

INLINE int64_t dense_tile_height(const Layer *layer, const Tile *tile)
{
    return layer->narrow ? layer->out : smaller(BLOCK, layer->in - tile->in_block * BLOCK);
}

/* Of each block its weights, and its biases if it is the first of its column. */
INLINE int dense_has_biases(const Layer *layer, const Tile *tile)
{
    return tile->in_block == 0 && layer->tensor[DENSE_BIAS].present;
}

INLINE int dense_runs(const Layer *layer, const Tile *tile)
{
    return tile->width << dense_has_biases(layer, tile);
}

INLINE Run dense_run(const Layer *layer, const Tile *tile, int i)
{
    const int biases = dense_has_biases(layer, tile);
    const int32_t block = i >> biases;
    const Tensor *tensor = &layer->tensor[biases ? i % 2 : DENSE_WEIGHT];
    if (tensor == &layer->tensor[DENSE_BIAS])
        return (Run){tensor, tensor->at + (tile->out_block + block) * BLOCK, BLOCK,
                     (tile->width * BLOCK + block) * BLOCK};
    return (Run){tensor, dense_tile_at(layer, tile, block), dense_tile_height(layer, tile) * BLOCK,
                 block * BLOCK * BLOCK};
}

INLINE void dense_gradient(const Network *network, const Workspace *space, const Tile *tile,
                           int64_t rows, int continued, T *c)
{
    const Layer *layer = &network->layers[tile->layer];
    const int64_t stride = space->stride, height = dense_tile_height(layer, tile);
    const T *x = (const T *)space->activation[tile->layer] + tile->in_block * stride;
    const T *dy = (const T *)space->delta[tile->layer + 1] + tile->out_block * stride;
    const T *init = continued ? c : zeros;
    const int64_t init_row = continued ? BLOCK : 0;
    if (tile->layer == 0 && space->in_place)
        gradient_apart((const T *const *)space->rows, tile->in_block * BLOCK, dy, stride, rows,
                       height, tile->width, init, init_row, c);
    else
        ((Gradient *)network->kernels->gradient)(layer->narrow ? dy : x, layer->narrow ? x : dy,
                                                 stride, rows, height, tile->width, init, init_row,
                                                 c);
    if (dense_has_biases(layer, tile))
        for (int32_t block = 0; block < tile->width; block++) {
            T *sum = c + tile->width * BLOCK * BLOCK + block * BLOCK;
            sum_rows(dy + block * stride, rows, continued ? sum : zeros, sum);
        }
}

/* Renew the part of the transposed copy that a tile's weights belong to. */
OUTLINE void dense_transpose(const Layer *layer, const Tile *tile, const T *parameters)
{
    for (int32_t block = 0; block < tile->width; block++) {
        const int32_t out_block = tile->out_block + block;
        transpose_tile(parameters + dense_tile_at(layer, tile, block),
                       (int)dense_tile_height(layer, tile),
                       (T *)layer->transposed +
                           (tile->in_block * layer->out + out_block * BLOCK) * BLOCK,
                       (int)smaller(BLOCK, layer->out - out_block * BLOCK));
    }
}
