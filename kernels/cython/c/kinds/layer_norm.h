/* kinds/layer_norm.h: z = (x - mean) / sqrt(variance + epsilon) * scale + shift, each row by the
 * mean and the (biased) variance of its own features (Ba, Kiros & Hinton 2016).
 *
 * With n = (x - mean) / s, s = sqrt(variance + epsilon), and g = dy scale:
 *
 *   dx      = (g - mean(g) - n mean(g n)) / s
 *   dscale  = sum over rows of dy n        dshift = sum over rows of dy
 *
 * A row keeps its mean and 1 / s for the way back. Lanes beyond the features are no part of any
 * mean, and their delta is zero. */

enum { NORM_SCALE, NORM_SHIFT };

static const T ones[BLOCK] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

/* A block of the scale; a layer without one has ones. */
INLINE const T *norm_scale(const Network *network, const Layer *layer, int64_t block)
{
    const Tensor *scale = &layer->tensor[NORM_SCALE];
    return scale->present ? (const T *)network->parameters + scale->at + block * BLOCK : ones;
}

/* Every vector of row r, of the lanes that are features; `mask` tells which. */
#define EACH_FEATURE(layer) \
    for (int64_t block = 0; block < (layer)->in_blocks; block++) \
        for (int v = 0; v < BLOCK; v += LANES)

INLINE void layer_norm_forward(const Network *network, int64_t l, const Workspace *space,
                               int64_t first, int64_t rows)
{
    const Layer *layer = &network->layers[l];
    const T *shift = (const T *)network->parameters + layer->tensor[NORM_SHIFT].at;
    const int64_t stride = space->stride;
    const T inverse = (T)1 / (T)layer->in;
    T *kept = space->kept ? (T *)space->kept[l] + first * layer->kept : NULL;
    for (int64_t r = 0; r < rows; r++) {
        const T *x = rows_of(space->activation, l, first + r);
        T *y = rows_of(space->activation, l + 1, first + r);
        V sum = ZERO, squares = ZERO;
        EACH_FEATURE(layer)
        sum += keep(valid_lanes(layer->in, block, v), load(x + block * stride + v));
        const T mean = sum_of(sum) * inverse;
        EACH_FEATURE(layer)
        {
            const V e = keep(valid_lanes(layer->in, block, v), load(x + block * stride + v) - mean);
            squares += e * e;
        }
        const T variance = sum_of(squares) * inverse + (T)layer->number;
        const T factor = 1 / square_root(splat(variance))[0];
        EACH_FEATURE(layer)
        store(y + block * stride + v, (load(x + block * stride + v) - mean) * factor *
                                              load(norm_scale(network, layer, block) + v) +
                                          load(shift + block * BLOCK + v));
        if (kept) {
            kept[2 * r] = mean;
            kept[2 * r + 1] = factor;
        }
    }
    if (!layer->tensor[NORM_SCALE].present) /* where the scale's padding would have cleared it */
        for (int64_t r = 0; r < rows && layer->in % BLOCK; r++)
            memset(rows_of(space->activation, l + 1, first + r) +
                       (layer->in_blocks - 1) * stride + layer->in % BLOCK,
                   0, (size_t)(BLOCK - layer->in % BLOCK) * sizeof(T));
}

INLINE void layer_norm_backward(const Network *network, int64_t l, const Workspace *space,
                                int training, int64_t first, int64_t rows, T *scratch)
{
    const Layer *layer = &network->layers[l];
    const int64_t stride = space->stride;
    const T *kept = (const T *)space->kept[l] + first * layer->kept;
    const T *x = rows_of(space->activation, l, first), *dy = rows_of(space->delta, l + 1, first);
    const T inverse = (T)1 / (T)layer->in;
    T means[2 * ROW_TILE]; /* of g and g n */
    for (int64_t r = 0; r < rows; r++) {
        V sum = ZERO, dot = ZERO;
        EACH_FEATURE(layer)
        {
            const int64_t at = block * stride + r * BLOCK + v;
            const V n = keep(valid_lanes(layer->in, block, v), load(x + at) - kept[2 * r]);
            const V g = load(dy + at) * load(norm_scale(network, layer, block) + v);
            sum += g;
            dot += g * n;
        }
        means[2 * r] = sum_of(sum) * inverse;
        means[2 * r + 1] = sum_of(dot) * inverse * kept[2 * r + 1] * kept[2 * r + 1];
    }
    for (int64_t block = 0; block < layer->in_blocks; block++) {
        for (int v = 0; v < BLOCK; v += LANES) {
            const VI valid = valid_lanes(layer->in, block, v);
            const V scale = load(norm_scale(network, layer, block) + v);
            for (int64_t r = 0; r < rows; r++) {
                const int64_t at = block * stride + r * BLOCK + v;
                const V g = load(dy + at) * scale;
                const V e = load(x + at) - kept[2 * r];
                store(scratch + r * BLOCK + v,
                      keep(valid, (g - means[2 * r] - e * means[2 * r + 1]) * kept[2 * r + 1]));
            }
        }
        descend(network, space, training, l, block, 1, scratch, 0, first, rows);
    }
}

#define layer_norm_runs vector_runs
#define layer_norm_run vector_run

INLINE void layer_norm_gradient(const Network *network, const Workspace *space, const Tile *tile,
                                int64_t rows, int continued, T *c)
{
    const Layer *layer = &network->layers[tile->layer];
    const T *kept = space->kept[tile->layer];
    for (int32_t block = 0; block < tile->width; block++) {
        const int64_t at = (tile->out_block + block) * space->stride;
        const T *x = (const T *)space->activation[tile->layer] + at;
        const T *dy = (const T *)space->delta[tile->layer + 1] + at;
        if (layer->tensor[NORM_SCALE].present) {
            for (int v = 0; v < BLOCK; v += LANES) {
                V sum = continued ? load(c + v) : ZERO;
                for (int64_t r = 0; r < rows; r++)
                    sum += load(dy + r * BLOCK + v) *
                           ((load(x + r * BLOCK + v) - kept[2 * r]) * kept[2 * r + 1]);
                store(c + v, sum);
            }
            c += BLOCK;
        }
        if (layer->tensor[NORM_SHIFT].present) {
            sum_rows(dy, rows, continued ? c : zeros, c);
            c += BLOCK;
        }
    }
}

#undef EACH_FEATURE
