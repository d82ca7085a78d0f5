/* passes.h: one way forward and one way back through the layers, for training, evaluation,
 * prediction and derivatives by the input alike: rows first ... first + rows of a workspace. */

typedef struct {
    int training; /* apply dropout */
    uint64_t seed, epoch;
    int64_t position; /* of the workspace's row 0 within the epoch */
} Masks;

/* y, slope *= mask / (1 - rate); the mask as kernels/random.py has it */
OUTLINE void apply_dropout(const Masks *masks, int64_t layer, double rate, T *y, T *slope,
                           int64_t stride, int64_t blocks, int64_t first, int64_t rows)
{
    const uint64_t key =
        stream_key(masks->seed, STREAM_DROPOUT, (masks->epoch << 16) + (uint64_t)layer);
    const uint32_t threshold = (uint32_t)(rate * 4294967296.0);
    const T scale = (T)(1 / (1 - rate));
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t r = 0; r < rows; r++) {
            const uint64_t start =
                (uint64_t)((masks->position + first + r) * blocks + block) * (BLOCK / 2);
            const int64_t at = block * stride + r * BLOCK;
            for (int k = 0; k < BLOCK / 2; k++) {
                const uint64_t word = stream_word(key, start + (uint64_t)k);
                const int keep[2] = {(uint32_t)word >= threshold,
                                     (uint32_t)(word >> 32) >= threshold};
                for (int i = 0; i < 2; i++) {
                    y[at + 2 * k + i] = keep[i] ? y[at + 2 * k + i] * scale : 0;
                    if (slope)
                        slope[at + 2 * k + i] = keep[i] ? slope[at + 2 * k + i] * scale : 0;
                }
            }
        }
}

/* y = f(y) for one block of a layer's outputs; slope, if not NULL, receives f'. What a
 * user's function makes of the zeros in padded lanes may be NaN: they are cleared. */
INLINE void activate(const Network *network, const Layer *layer, int activation, int64_t block,
                     T *y, T *slope, int64_t rows)
{
    if (activation != ACTIVATION_custom) {
        forward_of(network, activation)(y, slope, rows * BLOCK);
        return;
    }
    ((ActivationForward *)layer->custom)(y, slope, rows * BLOCK);
    const int64_t used = smaller(layer->out - block * BLOCK, BLOCK);
    if (used < BLOCK)
        for (int64_t r = 0; r < rows; r++) {
            memset(y + r * BLOCK + used, 0, (size_t)(BLOCK - used) * sizeof(T));
            if (slope)
                memset(slope + r * BLOCK + used, 0, (size_t)(BLOCK - used) * sizeof(T));
        }
}

INLINE void forward_pass(const Network *network, const Workspace *space, int fused,
                         int with_slopes, const Masks *masks, int64_t first, int64_t rows)
{
    const int64_t stride = space->stride;
    if (masks->training && network->layers[0].dropout > 0)
        apply_dropout(masks, 0, network->layers[0].dropout, rows_of(space->activation, 0, first),
                      NULL, stride, network->layers[0].in_blocks, first, rows);
    for (int64_t l = 0; l < network->depth; l++) {
        const Layer *layer = &network->layers[l];
        const int activation = activation_of(network, l, fused);
        const int last = l == network->depth - 1;
        T *y = rows_of(space->activation, l + 1, first);
        T *slope = with_slopes && keeps_slope(network, l, fused, masks->training)
                       ? rows_of(space->slope, l + 1, first)
                       : NULL;
        layer_forward(network, l, space, first, rows);
        if (activation == ACTIVATION_softmax)
            softmax_rows(y, stride, layer->out, rows);
        else if (activation != ACTIVATION_identity || slope)
            for (int64_t block = 0; block < layer->out_blocks; block++)
                activate(network, layer, activation, block, y + block * stride,
                         slope ? slope + block * stride : NULL, rows);
        if (last)
            continue;
        clear_padding(layer + 1, y, stride, rows);
        if (masks->training && layer[1].dropout > 0)
            apply_dropout(masks, l + 1, layer[1].dropout, y, slope, stride, layer->out_blocks,
                          first, rows);
    }
}

/* delta[depth] from d loss / d output, which may lie there already */
INLINE void backward_through_output(const Network *network, const Workspace *space,
                                    const T *upstream, int64_t upstream_stride, int64_t first,
                                    int64_t rows)
{
    const int64_t l = network->depth - 1, stride = space->stride;
    const Layer *last = &network->layers[l];
    const T *y = rows_of(space->activation, l + 1, first);
    const T *slope = rows_of(space->slope, l + 1, first);
    T *delta = rows_of(space->delta, l + 1, first);
    if (last->activation == ACTIVATION_softmax)
        softmax_rows_backward(upstream, upstream_stride, y, delta, stride, last->out, rows);
    else
        for (int64_t block = 0; block < last->out_blocks; block++)
            through_activation(network, l, 0, upstream + block * upstream_stride,
                               y + block * stride, slope + block * stride, delta + block * stride,
                               rows * BLOCK);
}

/* delta[l] for l = depth - 1 ... lowest, from delta[depth] */
OUTLINE void backward_pass(const Network *network, const Workspace *space, int training,
                           int64_t lowest, int64_t first, int64_t rows, T *scratch)
{
    for (int64_t l = network->depth - 1; l >= lowest; l--)
        layer_backward(network, l, space, training, first, rows, scratch);
}
