/* inference.h: what needs no trainer: packing of parameters, prediction, input gradients.
 *
 * Buffers are allocated for each call, so any number of threads may call at once. */

/* Calls visit(arena offset, flat offset, count) for every run of consecutive parameters. */
#define EACH_RUN(network, visit) \
    do { \
        int64_t flat_at = 0; \
        for (int64_t l = 0; l < (network)->depth; l++) { \
            const Layer *layer = &(network)->layers[l]; \
            const int64_t width = layer->narrow ? 1 : BLOCK; \
            for (int64_t i = 0; i < layer->in; i++) \
                for (int64_t o = 0; o < layer->out; o += width) { \
                    const int64_t at = \
                        layer->weight_at + \
                        (layer->narrow \
                             ? (i / BLOCK * layer->out + o) * BLOCK + i % BLOCK \
                             : (o / BLOCK * layer->in + i) * BLOCK); \
                    const int64_t count = smaller(width, layer->out - o); \
                    visit(at, flat_at, count); \
                    flat_at += count; \
                } \
            if (layer->uses_bias) { \
                visit(layer->bias_at, flat_at, layer->out); \
                flat_at += layer->out; \
            } \
        } \
    } while (0)

static void pack(const Network *network, const void *flat, void *arena)
{
#define VISIT(at, flat_at, count) \
    memcpy((T *)arena + (at), (const T *)flat + (flat_at), (size_t)(count) * sizeof(T))
    /* padding too: a network that diverged may have left NaN there */
    memset(arena, 0, (size_t)network->arena_size * sizeof(T));
    EACH_RUN(network, VISIT);
#undef VISIT
}

static void unpack(const Network *network, const void *arena, void *flat)
{
#define VISIT(at, flat_at, count) \
    memcpy((T *)flat + (flat_at), (const T *)arena + (at), (size_t)(count) * sizeof(T))
    EACH_RUN(network, VISIT);
#undef VISIT
}

static void transpose_layer(const Layer *layer, int32_t l, const T *parameters)
{
    for (int32_t o = 0; o < layer->out_blocks; o++)
        for (int32_t i = 0; i < layer->in_blocks; i++) {
            const Tile tile = {l, o, i, 1, 0};
            transpose_weight(layer, &tile, parameters + tile_at(layer, &tile));
        }
}

static void transpose_all(Network *network)
{
    for (int64_t l = 0; l < network->depth; l++)
        if (network->layers[l].transposed)
            transpose_layer(&network->layers[l], (int32_t)l, network->parameters);
}

static T *allocate(int64_t elements)
{
    void *memory = NULL;
    return posix_memalign(&memory, 64, (size_t)elements * sizeof(T)) ? NULL : memory;
}

static int64_t widest(const Network *network)
{
    int64_t blocks = network->layers[0].in_blocks;
    for (int64_t l = 0; l < network->depth; l++)
        if (network->layers[l].out_blocks > blocks)
            blocks = network->layers[l].out_blocks;
    return blocks;
}

OUTLINE int predict(const Network *network, const void *X, void *out, int64_t first, int64_t last,
                    int (*poll)(void))
{
    enum { ON_STACK = 4096 };
    _Alignas(64) T small[ON_STACK];
    const int64_t depth = network->depth, in = network->layers[0].in;
    const int64_t outputs = network->layers[depth - 1].out;
    const int64_t tile = smaller(last - first, ROW_TILE);
    const int64_t stride = tile == 1 ? BLOCK : block_stride(tile);
    const int64_t size = widest(network) * stride;
    const int apart = !network->layers[0].narrow;
    /* twice as many as in training: rows in order share what is fetched with them */
    const int copying = network->layers[0].out_blocks > 2 * FEW_BLOCKS;
    T *buffer = 2 * size <= ON_STACK ? small : allocate(2 * size);
    if (!buffer)
        return -1;
    const unsigned environment = flush_subnormals();
    int64_t next_poll = 0;
    int status = 0;
    if (last - first > ROW_TILE)
        next_poll = clock_now() + POLL_INTERVAL;
    for (int64_t r0 = first; r0 < last; r0 += tile) {
        const int64_t rows = smaller(tile, last - r0);
        if (r0 > first && should_stop(poll, &next_poll)) {
            status = 1;
            break;
        }
        T *x = buffer, *y = buffer + size;
        const T *places[ROW_TILE + BLOCK];
        for (int64_t r = 0; apart && r < (rows + BLOCK - 1) / BLOCK * BLOCK; r++)
            places[r] = (const T *)X + (r0 + smaller(r, rows - 1)) * in;
        for (int64_t r = 0; !apart && r < rows; r++)
            gather_row((const T *)X + (r0 + r) * in, in, x + r * BLOCK, stride);
        for (int64_t l = 0; l < depth; l++) {
            const Layer *layer = &network->layers[l];
            forward_linear(layer, network->parameters, x, stride,
                           apart && l == 0 ? places : NULL, copying ? x : NULL, y, stride, rows);
            if (layer->activation == ACTIVATION_softmax)
                softmax_rows(y, stride, layer->out, rows);
            else if (layer->activation != ACTIVATION_identity)
                for (int64_t block = 0; block < layer->out_blocks; block++)
                    activate(layer, layer->activation, block, y + block * stride, NULL, rows);
            if (l + 1 < depth)
                clear_padding(layer + 1, y, stride, rows);
            T *swap = x;
            x = y;
            y = swap;
        }
        for (int64_t r = 0; r < rows; r++)
            scatter_row(x + r * BLOCK, stride, (T *)out + (r0 + r) * outputs, outputs);
    }
    restore_subnormals(environment);
    if (buffer != small)
        free(buffer);
    return status;
}

/* out (rows, count, in): for each listed output o, d output o / d input, by one backward pass
 * that starts from the o-th unit vector. */
OUTLINE int input_gradient(const Network *network, const void *X, const int64_t *outputs,
                           int64_t count, void *out, int64_t rows, int (*poll)(void))
{
    const int64_t depth = network->depth, stride = block_stride(BLOCK), size = widest(network) * stride;
    const Layer *first = &network->layers[0];
    /* per layer boundary: activations, slopes; then two deltas, scratch, W0 transposed */
    T *memory = allocate((2 * (depth + 1) + 2) * size + BLOCK * BLOCK +
                         first->in_blocks * first->out * BLOCK);
    void **buffers = malloc((size_t)(2 * (depth + 1)) * sizeof(void *));
    if (!memory || !buffers) {
        free(memory);
        free(buffers);
        return -1;
    }
    const unsigned environment = flush_subnormals();
    for (int64_t i = 0; i < 2 * (depth + 1); i++)
        buffers[i] = memory + i * size;
    T *delta = memory + 2 * (depth + 1) * size, *next = delta + size, *scratch = next + size;
    Layer transposed_first = *first;
    if (!first->narrow) {
        transposed_first.transposed = scratch + BLOCK * BLOCK;
        transpose_layer(&transposed_first, 0, network->parameters);
    }
    const Workspace space = {buffers, buffers + depth + 1, stride, NULL, 0};
    const Masks no_masks = {0};
    int64_t next_poll = clock_now() + POLL_INTERVAL;
    int status = 0;

    for (int64_t r0 = 0; r0 < rows && !status; r0 += BLOCK) {
        const int64_t height = smaller(BLOCK, rows - r0);
        for (int64_t r = 0; r < height; r++)
            gather_row((const T *)X + (r0 + r) * first->in, first->in,
                       (T *)buffers[0] + r * BLOCK, stride);
        forward_pass(network, &space, 0, 1, &no_masks, 0, height);
        for (int64_t c = 0; c < count; c++) {
            const int64_t o = outputs[c];
            memset(delta, 0, (size_t)size * sizeof(T));
            for (int64_t r = 0; r < height; r++)
                delta[o / BLOCK * stride + r * BLOCK + o % BLOCK] = 1;
            for (int64_t l = depth - 1; l >= 0; l--) {
                const Layer *layer = l ? &network->layers[l] : &transposed_first;
                const T *y = buffers[l + 1], *slope = buffers[depth + 1 + l + 1];
                if (layer->activation == ACTIVATION_softmax)
                    softmax_rows_backward(delta, stride, y, delta, stride, layer->out, height);
                else
                    for (int64_t block = 0; block < layer->out_blocks; block++) {
                        const int64_t at = block * stride;
                        through_activation(layer->activation, keeps_slope(network, l, 0, 0),
                                           delta + at, y + at, slope + at, delta + at,
                                           height * BLOCK);
                    }
                const T *panels = transposed_weight(layer, network->parameters);
                for (int64_t block = 0; block < layer->in_blocks; block++)
                    multiply_panel(delta, stride, panels + block * layer->out * BLOCK, layer->out,
                                   zeros, next + block * stride, height);
                T *swap = delta;
                delta = next;
                next = swap;
            }
            for (int64_t r = 0; r < height; r++)
                scatter_row(delta + r * BLOCK, stride,
                            (T *)out + ((r0 + r) * count + c) * first->in, first->in);
            if (should_stop(poll, &next_poll)) {
                status = 1;
                break;
            }
        }
    }
    restore_subnormals(environment);
    free(buffers);
    free(memory);
    return status;
}
