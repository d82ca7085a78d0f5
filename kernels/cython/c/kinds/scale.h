/* kinds/scale.h: z = x s, a learned factor for each feature.
 *
 *   dx = dy s        ds = sum over rows of dy x */

INLINE const T *scale_factors(const Network *network, const Layer *layer)
{
    return (const T *)network->parameters + layer->tensor[0].at;
}

/* y = x s for one block of `rows` rows */
INLINE void scale_block(const T *x, const T *factors, T *y, int64_t rows)
{
    for (int v = 0; v < BLOCK; v += LANES) {
        const V factor = load(factors + v);
        for (int64_t r = 0; r < rows; r++)
            store(y + r * BLOCK + v, load(x + r * BLOCK + v) * factor);
    }
}

INLINE void scale_forward(const Network *network, int64_t l, const Workspace *space,
                          int64_t first, int64_t rows)
{
    const Layer *layer = &network->layers[l];
    for (int64_t block = 0; block < layer->in_blocks; block++)
        scale_block(rows_of(space->activation, l, first) + block * space->stride,
                    scale_factors(network, layer) + block * BLOCK,
                    rows_of(space->activation, l + 1, first) + block * space->stride, rows);
}

INLINE void scale_backward(const Network *network, int64_t l, const Workspace *space, int training,
                           int64_t first, int64_t rows, T *scratch)
{
    const Layer *layer = &network->layers[l];
    for (int64_t block = 0; block < layer->in_blocks; block++) {
        scale_block(rows_of(space->delta, l + 1, first) + block * space->stride,
                    scale_factors(network, layer) + block * BLOCK, scratch, rows);
        descend(network, space, training, l, block, 1, scratch, 0, first, rows);
    }
}

#define scale_runs vector_runs
#define scale_run vector_run

INLINE void scale_gradient(const Network *network, const Workspace *space, const Tile *tile,
                           int64_t rows, int continued, T *c)
{
    (void)network;
    for (int32_t block = 0; block < tile->width; block++, c += BLOCK) {
        const int64_t at = (tile->out_block + block) * space->stride;
        const T *x = (const T *)space->activation[tile->layer] + at;
        const T *dy = (const T *)space->delta[tile->layer + 1] + at;
        for (int v = 0; v < BLOCK; v += LANES) {
            V sum = continued ? load(c + v) : ZERO;
            for (int64_t r = 0; r < rows; r++)
                sum += load(dy + r * BLOCK + v) * load(x + r * BLOCK + v);
            store(c + v, sum);
        }
    }
}
